"""Runs grouped into cells: one cell is one configuration, its runs are its seeds."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import PARTIAL
from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell, EvalKey, Missing, start_of
from grao_bench.reporting.gather.labels import labelled
from grao_bench.reporting.gather.order import cell_order
from grao_bench.reporting.gather.settings import flatten, tells_apart


def gather(runs: Iterable[Run], unfinished: Mapping[Path, str]) -> list[Cell]:
    """Cells in table order. UserError when two runs of one configuration and seed disagree.

    A cell is one configuration hash; runs that start from other runs are one cell when nothing but
    the seed differs (`identity_of`).
    """
    grouped: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        info = run.info
        grouped[info.model, info.data, info.objective, identity_of(run)].append(run)
    cells = [Cell(*key, label=key[2], runs=_by_seed(members)) for key, members in grouped.items()]
    for folder, reason in unfinished.items():
        _add_missing(cells, folder, reason)
    cells = labelled(cells)
    return sorted(cells, key=cell_order)


def identity_of(run: Run) -> str:
    """What runs of one cell share: the configuration's hash, or for a run that starts from another
    run, one that leaves out its seed.

    model.start_from names a folder with a seed in it, and so makes a hash of its own for every
    seed.
    """
    return _identity(run.info.config, run.info.config_hash, str(run.info.seed))


def _identity(config: Mapping[str, Any], config_hash: str, seed: str) -> str:
    start = start_of(config)
    if not start:
        return config_hash
    kept = ((key, text) for key, text in flatten(config).items() if tells_apart(key))
    flat = {key: text for key, text in kept if key != "data.path"}
    path = Path(start)
    flat["model.start_from"] = str(path.parent if path.name == f"seed{seed}" else path)
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:8]


def _by_seed(runs: Sequence[Run]) -> tuple[Run, ...]:
    kept: dict[int, Run] = {}
    for run in runs:
        first = kept.setdefault(run.info.seed, run)
        shared = first.evaluations.keys() & run.evaluations.keys()
        if first is not run and any(
            verdicts_of(first, key) != verdicts_of(run, key) for key in shared
        ):
            raise UserError(
                f"{first.folder} and {run.folder}: the same configuration and seed with different"
                " verdicts; report on their folders apart"
            )
        if len(run.evaluations) > len(first.evaluations):
            kept[run.info.seed] = run
    return tuple(kept[seed] for seed in sorted(kept))


def verdicts_of(run: Run, key: EvalKey) -> tuple[tuple[str, float], ...]:
    """What was said of each prompt: the verdict, or the reward where there is no reference."""
    return tuple(
        (record.example_id, record.reward if record.verdict is None else record.verdict)
        for record in run.evaluations[key]
    )


def _add_missing(cells: list[Cell], folder: Path, reason: str) -> None:
    """Files a `<model>/<data>/<objective>-<hash8>/seed<k>.partial` folder under its cell, or opens
    one without runs for it."""
    if len(folder.parts) < 4:
        return
    model, data, name, last = folder.parts[-4:]
    objective, _, short = name.rpartition("-")
    seed = last.removesuffix(PARTIAL).removeprefix("seed")
    lost = Missing(folder, seed, reason, _config(folder))
    identity = _identity(lost.config, short, seed)
    for index, cell in enumerate(cells):
        if (
            (cell.model, cell.data, cell.objective) == (model, data, objective)
            and identity
            and cell.config_hash.startswith(identity)
        ):
            if not any(str(run.info.seed) == seed for run in cell.runs):
                cells[index] = replace(cell, missing=(*cell.missing, lost))
            return
    cells.append(Cell(model, data, objective or name, identity, objective or name, (), (lost,)))


def _config(partial: Path) -> Mapping[str, Any]:
    """The configuration that a run writes before anything else; empty where it is absent, or torn
    by the interruption."""
    try:
        config = yaml.safe_load((partial / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}
