"""A cell's label: its row's name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from grao_bench.reporting.gather.cells import Cell, first_objective
from grao_bench.reporting.gather.roles import BASE, CONTROL
from grao_bench.reporting.gather.settings import ANSWERING, differing


def labelled(cells: Sequence[Cell]) -> list[Cell]:
    """Each cell with its label: the objective's name, and where it has several configurations, the
    settings that differ."""
    families: dict[tuple[str, str, str, str], list[Cell]] = defaultdict(list)
    named = [replace(cell, label=_control_label(cell)) for cell in cells if cell.control]
    for cell in cells:
        if cell.control:
            continue
        apart = (
            _base_and_sources(cell)
            if cell.objective == BASE
            else first_objective(cell.first_stage)
            if cell.first_stage
            else ""
        )
        families[cell.model, cell.data, cell.objective, apart].append(cell)
    for family in families.values():
        labels = _labels(family)
        named += [replace(cell, label=label) for cell, label in zip(family, labels, strict=True)]
    return named


def _control_label(cell: Cell) -> str:
    """What a control says of itself; of one that was trained, how long."""
    told = cell.config.get(CONTROL)
    if isinstance(told, Mapping) and "label" in told:
        return str(told["label"])
    budget = cell.config.get("budget")
    steps = budget.get("steps") if isinstance(budget, Mapping) else None
    return f"{cell.objective}, {steps} steps" if cell.trained and steps else cell.objective


def _base_and_sources(cell: Cell) -> str:
    """What the evaluations of one base share that stand in one table: its weights, and who judged
    them."""
    return " ".join(
        [
            cell.base_fingerprint,
            *sorted({source for run in cell.runs for _, source in run.evaluations}),
        ]
    )


def _labels(family: Sequence[Cell]) -> list[str]:
    objective, start = family[0].objective, family[0].first_stage
    name = f"{first_objective(start)}, then {objective}" if start else objective
    if len(family) == 1:
        return [name]
    known = [cell for cell in family if cell.runs or cell.config]
    settings = differing(known, ANSWERING if objective == BASE else ())
    texts = {
        cell.config_hash: f"{name} ({_settings_text(settings, index)})"
        for index, cell in enumerate(known)
        if settings
    }
    if objective == BASE:
        return [texts.get(cell.config_hash, BASE) for cell in family]
    if len(set(texts.values())) < len(
        known
    ):  # what differs lies outside the recorded configuration
        texts = {}
    return [texts.get(cell.config_hash, f"{name} [{cell.config_hash[:8]}]") for cell in family]


def _settings_text(settings: Mapping[str, Sequence[str]], index: int, most: int = 3) -> str:
    texts = [
        f"{key.removeprefix('objective.')}={values[index]}" for key, values in settings.items()
    ]  # whose it is stands before it
    more = [f"and {len(texts) - most} more settings"] if len(texts) > most else []
    return ", ".join(texts[:most] + more)
