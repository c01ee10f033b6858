"""Runs grouped into cells: one cell is one configuration, its runs are its seeds. Different hashes are never merged."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grao_bench.errors import UserError
from grao_bench.records import PARTIAL, EvalRecord, Run
from grao_bench.reporting.paper import SUBSETS, subset_of

BASE = "base"
METHOD_ORDER = (BASE, "sft", "dpo", "ppo", "grpo", "grao", "grao_clip0")

NOT_IDENTITY = ("seed", "threads", "output", "sweep", "tracking")
"""Top-level configuration keys that a configuration's hash leaves out."""

ANSWERING = ("evaluation", "reward", "rollout", "budget.max_prompt_tokens", "budget.max_answer_tokens", "budget.long_references")
"""Configuration keys that shape a base's evaluation. The rest of a base's configuration is that of the cell that happened to ask first."""

EvalKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Missing:
    """A cell's seed that started and did not finish, and why."""

    folder: Path
    seed: str
    reason: str


@dataclass(frozen=True)
class Cell:
    """One configuration: its finished runs by seed (may be none) and its unfinished ones. `label` is its row's name."""

    model: str
    data: str
    objective: str
    config_hash: str
    label: str
    runs: tuple[Run, ...]
    missing: tuple[Missing, ...] = ()

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration of its first run; empty when none finished."""
        return self.runs[0].info.config if self.runs else {}

    @property
    def base_fingerprint(self) -> str:
        """The fingerprint of the base model's weights; empty when none finished."""
        return self.runs[0].info.fingerprints.get("base", "") if self.runs else ""


def gather(runs: Iterable[Run], unfinished: Mapping[Path, str]) -> list[Cell]:
    """Cells in table order. UserError when two runs of one configuration and seed disagree."""
    grouped: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        info = run.info
        grouped[info.model, info.data, info.objective, info.config_hash].append(run)
    cells = [Cell(*key, label=key[2], runs=_by_seed(members)) for key, members in grouped.items()]
    for folder, reason in unfinished.items():
        _add_missing(cells, folder, reason)
    cells = _labelled(cells)
    return sorted(cells, key=cell_order)


def cell_order(cell: Cell) -> tuple[object, ...]:
    """The order of rows: model, its base, then by the set trained on (the paper's first) and the method."""
    trained_on = (-1, "") if cell.objective == BASE else set_order(cell.data)
    return (cell.model, trained_on, method_rank(cell.objective), cell.label, cell.config_hash)


def set_order(name: str) -> tuple[int, str]:
    """The paper's order of sets, then the others by name."""
    subset = subset_of(name)
    return (SUBSETS.index(subset) if subset else len(SUBSETS), name)


def method_rank(objective: str) -> tuple[int, str]:
    """The paper's order of methods, then the others by name."""
    return (METHOD_ORDER.index(objective) if objective in METHOD_ORDER else len(METHOD_ORDER), objective)


def base_records(cells: Sequence[Cell], run: Run, key: EvalKey) -> list[EvalRecord] | None:
    """The base model's records for this (set, reward), found by the fingerprint of the base's weights; None when there are none.

    Of several base runs, those that answered under the run's own settings are taken. UserError when they still disagree.
    """
    found = [base for cell in cells if cell.objective == BASE for base in cell.runs if _is_base_of(base, run, key)]
    if len({_verdicts(base, key) for base in found}) > 1:
        settings = _chosen(run.info.config, ANSWERING)
        found = [base for base in found if _chosen(base.info.config, ANSWERING) == settings] or found
    if len({_verdicts(base, key) for base in found}) > 1:
        raise UserError(f"{found[0].folder} and {found[1].folder}: two different evaluations of one base on {key[0]}; report on them apart")
    return found[0].evaluations[key] if found else None


def check_comparable(cells: Sequence[Cell], evaluated_on: str) -> None:
    """UserError unless the cells of one table share each base model and data set that they name, and the test prompts, by fingerprint."""
    seen: dict[tuple[str, str], tuple[str, Run]] = {}
    for run in (run for cell in cells for run in cell.runs):
        named = {
            "data": f"data {run.info.data!r}",
            "base": f"the base of model {run.info.model!r}",
            f"data/{evaluated_on}": f"the test set of {evaluated_on!r}",
        }
        for kind, what in named.items():
            fingerprint = run.info.fingerprints.get(kind, "")
            first, other = seen.setdefault((kind, what), (fingerprint, run))
            if first != fingerprint:
                raise UserError(
                    f"{other.folder} and {run.folder}: {what} differs between them (fingerprints {first[:8]} and {fingerprint[:8]}), "
                    "so they cannot stand in one table; report on their folders apart"
                )


def differing(cells: Sequence[Cell], only: Sequence[str] = ()) -> dict[str, list[str]]:
    """Settings that differ between these cells' configurations: dotted key -> each cell's value as text ("-" where absent).

    `only` restricts them to keys that start with one of these.
    """
    flat = [_chosen(cell.config, only) for cell in cells]
    keys = sorted({key for one in flat for key in one if key.split(".")[0] not in NOT_IDENTITY})
    values = {key: [one.get(key, "-") for one in flat] for key in keys}
    return {key: texts for key, texts in values.items() if len(set(texts)) > 1}


def _is_base_of(base: Run, run: Run, key: EvalKey) -> bool:
    ours, theirs = run.info.fingerprints, base.info.fingerprints
    same_base = ours.get("base") == theirs.get("base")
    same_set = all(_evaluated(ours, kind, key) == _evaluated(theirs, kind, key) for kind in ("data", "reward"))
    return same_base and same_set and bool(base.evaluations.get(key))


def _evaluated(fingerprints: Mapping[str, str], kind: str, key: EvalKey) -> str | None:
    """The fingerprint of an evaluation's prompts ("data") or judge ("reward"): by its own name, or else by its set's."""
    return fingerprints.get(f"{kind}/{key[0]}/{key[1]}", fingerprints.get(f"{kind}/{key[0]}"))


def _by_seed(runs: Sequence[Run]) -> tuple[Run, ...]:
    kept: dict[int, Run] = {}
    for run in runs:
        first = kept.setdefault(run.info.seed, run)
        shared = first.evaluations.keys() & run.evaluations.keys()
        if first is not run and any(_verdicts(first, key) != _verdicts(run, key) for key in shared):
            raise UserError(
                f"{first.folder} and {run.folder}: the same configuration and seed with different verdicts; report on their folders apart"
            )
        if len(run.evaluations) > len(first.evaluations):
            kept[run.info.seed] = run
    return tuple(kept[seed] for seed in sorted(kept))


def _verdicts(run: Run, key: EvalKey) -> tuple[tuple[str, float], ...]:
    return tuple((record.example_id, record.verdict) for record in run.evaluations[key])


def _add_missing(cells: list[Cell], folder: Path, reason: str) -> None:
    """Files a `<model>/<data>/<objective>-<hash8>/seed<k>.partial` folder under its cell, or opens one without runs for it."""
    if len(folder.parts) < 4:
        return
    model, data, name, last = folder.parts[-4:]
    objective, _, short = name.rpartition("-")
    seed = last.removesuffix(PARTIAL).removeprefix("seed")
    for index, cell in enumerate(cells):
        if (cell.model, cell.data, cell.objective) == (model, data, objective) and short and cell.config_hash.startswith(short):
            if not any(str(run.info.seed) == seed for run in cell.runs):
                cells[index] = replace(cell, missing=(*cell.missing, Missing(folder, seed, reason)))
            return
    cells.append(Cell(model, data, objective or name, short, objective or name, (), (Missing(folder, seed, reason),)))


def _labelled(cells: Sequence[Cell]) -> list[Cell]:
    """Each cell with its label: the objective's name, and where it has several configurations, the settings that differ."""
    families: dict[tuple[str, str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        families[cell.model, cell.data, cell.objective, _base_and_sources(cell) if cell.objective == BASE else ""].append(cell)
    return [replace(cell, label=label) for family in families.values() for cell, label in zip(family, _labels(family), strict=True)]


def _base_and_sources(cell: Cell) -> str:
    """What the evaluations of one base share that stand in one table: its weights, and who judged them."""
    return " ".join([cell.base_fingerprint, *sorted({source for run in cell.runs for _, source in run.evaluations})])


def _labels(family: Sequence[Cell]) -> list[str]:
    objective = family[0].objective
    if len(family) == 1:
        return [objective]
    finished = [cell for cell in family if cell.runs]
    settings = differing(finished, ANSWERING if objective == BASE else ())
    texts = {cell.config_hash: f"{objective} ({_settings_text(settings, index)})" for index, cell in enumerate(finished) if settings}
    if objective == BASE:
        return [texts.get(cell.config_hash, BASE) for cell in family]
    if len(set(texts.values())) < len(finished):  # what differs lies outside the recorded configuration
        texts = {}
    return [texts.get(cell.config_hash, f"{objective} [{cell.config_hash[:8]}]") for cell in family]


def _settings_text(settings: Mapping[str, Sequence[str]], index: int, most: int = 3) -> str:
    texts = [f"{key}={values[index]}" for key, values in settings.items()]
    more = [f"and {len(texts) - most} more settings"] if len(texts) > most else []
    return ", ".join(texts[:most] + more)


def _chosen(config: Mapping[str, Any], prefixes: Sequence[str]) -> dict[str, str]:
    """The flat configuration, restricted to keys that are, or lie below, one of the prefixes; all of it when there are none."""
    flat = _flatten(config)
    return {key: text for key, text in flat.items() if not prefixes or any(f"{key}.".startswith(f"{one}.") for one in prefixes)}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def slug(text: str) -> str:
    """A name that is safe as a file name and as an HTML id."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_")
