"""Which learning rate an objective has on a set: a table of conf/lr_by, read by name.

    default: 0.0005           # what no line below names
    grpo: 0.0005              # on any set
    parents: {dapo: grpo}     # a variant that has no line has its parent's
    world_helpful:            # on this set; `python -m grao_bench.tune` writes these
      grpo: 0.001

The set's own line comes first, then its parent's on the set, then the lines for any set, then
`default`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PARENTS = "parents"


@dataclass(frozen=True)
class Rate:
    """A learning rate, whose line it is (an objective, or "default"), and the set that the line is
    for; "" where it is for any."""

    value: float
    line: str
    data: str

    def tuned_for(self, objective: str) -> bool:
        """Whether the table names the objective itself."""
        return self.line == objective


def rate_of(table: Mapping[str, Any], data: str, objective: str) -> Rate:
    """The rate of an objective on a set. KeyError where the table has not even a default."""
    names = list(_line_of_descent(table.get(PARENTS) or {}, objective))
    for lines, where in ((table.get(data) or {}, data), (table, "")):
        for name in names:
            if isinstance(lines, Mapping) and isinstance(lines.get(name), int | float):
                return Rate(lines[name], name, where)
    return Rate(table["default"], "default", "")


def _line_of_descent(parents: Mapping[str, str], name: str) -> Iterator[str]:
    seen = set()
    while name not in seen:
        yield name
        seen.add(name)
        name = parents.get(name, name)


def untuned(table: Mapping[str, Any], data: str, objective: str) -> str:
    """A line for an objective that the table does not name; "" for one that it does."""
    rate = rate_of(table, data, objective)
    if rate.tuned_for(objective):
        return ""
    whose = "the table's default" if rate.line == "default" else f"{rate.line}'s rate"
    return f"optimizer.lr={rate.value:g}: untuned for objective={objective} on data={data}; {whose}"
