"""How fast: steps to the best dev reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.dynamics import SHARE, references, steps_frame
from grao_bench.reporting.gather.intervals import Interval
from grao_bench.reporting.tables.columns import Line, folders, spread, tidy
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, with_interval


def steps_to_best(cells: Sequence[Cell]) -> Sheet | None:
    """How many steps each run takes to its best dev reward, and how many fewer than PPO and GRPO;
    None where nothing was probed."""
    found = steps_frame(cells)
    if found.empty:
        return None
    texts, against = [], references(cells)
    for one in found.to_dict("records"):
        never = (
            f"never above the base in {one['never']} of {one['seeds']} seeds"
            if one["never"]
            else ""
        )
        steps = (
            with_interval(one["steps_to_best_interval"], 0)
            if one["steps_to_best_interval"]
            else never or NONE
        )
        texts.append(
            [
                one["method"],
                one["model"],
                one["data"],
                str(one["seeds"]),
                with_interval(one["best_gain_interval"], 3),
                steps,
            ]
        )
        for name in against:
            for to in ("own", "reference"):
                texts[-1].append(
                    with_interval(one[f"fewer_than_{name}_to_{to}"], 0)
                    if one[f"fewer_than_{name}_to_{to}"]
                    else NONE
                )
                texts[-1][-1] = one[f"fewer_than_{name}_to_{to}_why"] or texts[-1][-1]
    columns = [
        "method",
        "model",
        "trained on",
        "seeds",
        "best gain in dev reward",
        "steps to its best",
    ]
    columns += [
        text
        for name in against
        for text in (
            f"fewer steps than {name}, each to its best, %",
            f"fewer steps to {name}'s best, %",
        )
    ]
    flat = pd.DataFrame([_flat_intervals(one) for one in found.to_dict("records")])
    return Sheet(
        "steps_to_best",
        "How fast: steps to the best dev reward",
        tidy(columns, texts),
        flat,
        (
            f"a run is at a level at the first probe with {100 * SHARE:.0f}% of the gain over the"
            " base that the level has; as fine as the"
            " probes are apart, and the best of a noisy curve lies a little high",
            "fewer steps: 100 (1 - steps / the other's steps), paired by seed, mean ± sd [95% t"
            " interval]; negative: more. The paper claims"
            " 50 for GRAO. Steps are those of one learning rate each: a slower rate is not a"
            " slower objective",
        ),
        tuple(
            next((folders(cell) for cell in cells if _same(cell, one)), ())
            for one in found.to_dict("records")
        ),
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
