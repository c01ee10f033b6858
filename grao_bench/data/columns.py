"""The columns of a set with names of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from grao_bench.core.errors import UserError
from grao_bench.data.lines import RowError


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a set with names of its own: each field names the column that has its meaning,
    nested ones by dots ("data.question"); null for the layout's own name."""

    revision: ClassVar[int] = 1

    prompt: str | None
    chosen: str | None
    rejected: str | None
    completion: str | None
    label: str | None
    messages: str | None
    system: str | None
    demonstrations: str | None

    @property
    def given(self) -> dict[str, str]:
        """Meaning -> column, of those that are given. UserError where one has two meanings."""
        names = {item.name: getattr(self, item.name) for item in fields(self)}
        given = {meaning: column for meaning, column in names.items() if column is not None}
        for meaning, column in given.items():
            twin = next((m for m, c in given.items() if c == column and m != meaning), None)
            if twin:
                both = f"data.columns.{meaning} and data.columns.{twin}"
                raise UserError(f"{both} are both {column!r}; a column has one meaning")
        return given

    def renamed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row under the layouts' names; RowError where a given column is not there."""
        given = self.given
        if not given:
            return dict(row)
        taken = set(given.values())
        kept = {name: value for name, value in row.items() if name not in taken | given.keys()}
        return kept | {meaning: _at(row, column, meaning) for meaning, column in given.items()}

    def riding(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The answers' and labels' columns under the set's own names, which reward functions know
        them by."""
        apart = ("prompt", "messages", "system")
        columns = [column for meaning, column in self.given.items() if meaning not in apart]
        return {column: row[column] for column in columns if column in row}


def _at(row: Mapping[str, Any], column: str, meaning: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            has = ", ".join(map(repr, row)) or "no columns"
            raise RowError(f"data.columns.{meaning}={column}: no such column (the row has {has})")
    return value
