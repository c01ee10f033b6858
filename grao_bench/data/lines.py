"""Rows of JSON-lines files, and where a row stands in its file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from grao_bench.errors import UserError
from grao_bench.records import read_lines


class RowError(ValueError):
    """What is wrong with one row, and what to do. Whoever reads the file puts the row's place in front and raises a UserError."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file, blank lines skipped. UserError when the file is absent, malformed or empty."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a .jsonl or .jsonl.gz file")
    rows = list(read_lines(path))
    if not rows:
        raise UserError(f"{path}: the file is empty; it needs one JSON object a line")
    return rows


def locate(path: Path, row: int) -> str:
    """ "file:line" of a row (from 0, blank lines not counted). Reads the file again, so it is for messages only."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        numbers = (number for number, line in enumerate(file, 1) if line.strip())
        return f"{path}:{next(number for index, number in enumerate(numbers) if index == row)}"


def text_field(row: dict[str, Any], key: str) -> str:
    """row[key], a text that can be written as UTF-8; RowError otherwise."""
    if key not in row:
        raise RowError(f'no "{key}" (the row has {", ".join(map(repr, row)) or "no keys"}); add it')
    return check_text(row[key], f'"{key}"')


def check_text(value: object, what: str) -> str:
    """The value, a text that can be written as UTF-8; RowError otherwise."""
    if not isinstance(value, str):
        raise RowError(f"{what} is {type(value).__name__}; it must be a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON may spell half a surrogate pair, which no tokenizer accepts
        raise RowError(f"{what} holds half a surrogate pair at character {error.start}; mend the text") from None
    return value
