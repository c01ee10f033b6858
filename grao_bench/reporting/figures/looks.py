"""How a configuration is drawn: its colour, dash and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from grao_bench.reporting.gather.cells import Cell, first_objective
from grao_bench.reporting.gather.roles import Role, installed, method_rank

PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's colours, which stay apart for colour-blind readers: of the installed baselines,
ours and its variants, in order, so that figures can be compared."""

OTHERS = ("#8c6d31", "#7f7f7f", "#b2a800", "#6a51a3", "#17a2a2", "#a3515a")

DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", ":", "-.")

CROWD = len(DASHES)
"""An objective with more configurations than this is drawn as thin lines of one colour, named once:
its settings have their own figures."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a configuration is drawn; an empty `name` is not in the legend."""

    color: str
    dash: Any
    name: str
    crowd: bool = False


Key = tuple[str, str]
"""A configuration within one model and data set: its objective and hash."""


def looks_of(cells: Sequence[Cell]) -> dict[Key, Look]:
    """A colour per objective, a dash per configuration of it; of more than CROWD configurations
    only the first is named."""
    families: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        families.setdefault(
            (cell.objective, first_objective(cell.first_stage) if cell.first_stage else ""), []
        ).append(cell)
    colors = colors_of({cell.objective: cell.role for cell in cells})
    looks: dict[Key, Look] = {}
    for (objective, start), family in families.items():
        crowd = len(family) > CROWD
        shift = 1 if start else 0
        for i, cell in enumerate(family):
            crowded = f"{objective}: {len(family)} configurations" if i == 0 else ""
            name = crowded if crowd else shortened(cell.label, 44)
            looks[key_of(cell)] = Look(
                colors[objective], "-" if crowd else DASHES[(i + shift) % len(DASHES)], name, crowd
            )
    return looks


def colors_of(objectives: Mapping[str, Role]) -> dict[str, str]:
    """A colour for each of these objectives, and for those that have one of their own."""
    known = {name: role for name, role in installed().items() if method_rank(name, role)[0] < 4}
    settled = dict(zip(_in_order(known), PALETTE, strict=False))
    unknown = _in_order({name: role for name, role in objectives.items() if name not in settled})
    return settled | dict(zip(unknown, cycle(OTHERS), strict=False))


def _in_order(objectives: Mapping[str, Role]) -> list[str]:
    return sorted(objectives, key=lambda name: method_rank(name, objectives[name]))


def key_of(cell: Cell) -> Key:
    """What a cell is known by within one model and set."""
    return (cell.objective, cell.config_hash)


def shortened(text: str, most: int) -> str:
    """A row's label for a figure, cut."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
