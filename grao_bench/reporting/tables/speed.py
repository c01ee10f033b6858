"""How fast: steps to the best dev reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.dynamics import SHARE, references, steps_frame
from grao_bench.reporting.gather.intervals import Interval
from grao_bench.reporting.tables.columns import Column, Line, folders, made_of, spread
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, with_interval

NOTES = (
    f"a run is at a level at the first probe with {100 * SHARE:.0f}% of the gain over the base that"
    " the level has; as fine as the probes are apart, and the best of a noisy curve lies a little"
    " high",
    "fewer steps: 100 (1 - steps / the other's steps), paired by seed, mean ± sd [95% t interval];"
    " negative: more. The paper claims 50 for GRAO. Steps are those of one learning rate each: a"
    " slower rate is not a slower objective",
)


def steps_to_best(cells: Sequence[Cell]) -> Sheet | None:
    """How many steps each run takes to its best dev reward, and how many fewer than the baselines
    that draw rollouts (PPO and GRPO); None where nothing was probed."""
    found = steps_frame(cells)
    if found.empty:
        return None
    lines = found.to_dict("records")
    runs = (next((folders(cell) for cell in cells if _same(cell, one)), ()) for one in lines)
    grid, numbers = made_of(_columns(references(cells)), lines)
    title = "How fast: steps to the best dev reward"
    return Sheet("steps_to_best", title, grid, numbers, NOTES, tuple(runs))


def _columns(against: Sequence[str]) -> list[Column[Mapping[Any, Any]]]:
    def fewer(title: str, key: str) -> Column[Mapping[Any, Any]]:
        def text(one: Mapping[Any, Any]) -> str:
            return str(one[f"{key}_why"] or (with_interval(one[key], 0) if one[key] else NONE))

        return Column(title, text)

    columns: list[Column[Mapping[Any, Any]]] = [
        Column("", numbers=_flat_intervals),
        Column("method", lambda one: str(one["method"])),
        Column("model", lambda one: str(one["model"])),
        Column("trained on", lambda one: str(one["data"])),
        Column("seeds", lambda one: str(one["seeds"])),
        Column("best gain in dev reward", lambda one: with_interval(one["best_gain_interval"], 3)),
        Column("steps to its best", _steps),
    ]
    for name in against:
        own, reference = f"fewer_than_{name}_to_own", f"fewer_than_{name}_to_reference"
        columns.append(fewer(f"fewer steps than {name}, each to its best, %", own))
        columns.append(fewer(f"fewer steps to {name}'s best, %", reference))
    return columns


def _steps(one: Mapping[Any, Any]) -> str:
    if one["steps_to_best_interval"]:
        return with_interval(one["steps_to_best_interval"], 0)
    return (
        f"never above the base in {one['never']} of {one['seeds']} seeds" if one["never"] else NONE
    )


def _same(cell: Cell, line: Mapping[Any, object]) -> bool:
    names = ("model", "data", "objective", "config_hash")
    return tuple(line[name] for name in names) == tuple(getattr(cell, name) for name in names)


def _flat_intervals(line: Mapping[Any, object]) -> Line:
    flat: Line = {}
    for key, value in ((str(name), entry) for name, entry in line.items()):
        if (
            isinstance(value, Interval)
            or key.endswith("_interval")
            or (key.startswith("fewer_than_") and not key.endswith("_why"))
        ):
            flat |= spread(
                key.removesuffix("_interval"), value if isinstance(value, Interval) else None
            )
        else:
            flat[key] = value
    return flat
