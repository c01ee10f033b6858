"""What is wrong with one row, and the texts in it."""

from __future__ import annotations

from typing import Any


class RowError(ValueError):
    """What is wrong with one row, and what to do. Whoever reads the file puts the row's place in front and raises a UserError."""


def text_field(row: dict[str, Any], key: str) -> str:
    """row[key], a text that can be written as UTF-8; RowError otherwise."""
    if key not in row:
        raise RowError(f'no "{key}" (the row has {", ".join(map(repr, row)) or "no keys"}); add it')
    return check_text(row[key], f'"{key}"')


def check_text(value: object, what: str) -> str:
    """The value, a text that can be written as UTF-8; RowError otherwise."""
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise RowError(f"{what} is {kind}; it must be a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON may spell half a surrogate pair, which no tokenizer accepts
        raise RowError(f"{what} holds half a surrogate pair at character {error.start}; mend the text") from None
    return value
