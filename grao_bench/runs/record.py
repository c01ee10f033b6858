"""What a run's record says of it."""

from __future__ import annotations

from collections.abc import Mapping

from grao_bench.core.interfaces import Dataset
from grao_bench.core.provenance import data_fingerprint, environment, weights_fingerprint
from grao_bench.core.records import RunInfo
from grao_bench.core.values import HASH_VERSION, describe
from grao_bench.runs.cell import Cell
from grao_bench.runs.evaluate import criteria_of_sets, fingerprints_of


def info_of(cell: Cell, label: str, code: Mapping[str, str]) -> RunInfo:
    """What a run was, as far as its cell, its code and the environment around it say."""
    experiment, model = cell.experiment, cell.base.model
    return RunInfo(
        objective=experiment.objective.name,
        model=experiment.model.name,
        data=experiment.data.name,
        reward=cell.collector.reward.name,
        seed=experiment.seed,
        config_hash=experiment.config_hash,
        config=describe(experiment),
        fingerprints={
            "data": training_fingerprint(cell.dataset),
            "base": weights_fingerprint(model),
            **fingerprints_of(cell.sets, label),
        },
        environment=environment(model.device, model.dtype, experiment.threads),
        drops={reason: count for reason, count in cell.dataset.dropped.items() if count},
        lengths={"training": cell.lengths} | {one.name: one.lengths for one in cell.sets},
        sweep=experiment.sweep,
        hash_version=HASH_VERSION,
        end_token=cell.codec.decoded([cell.codec.end_token]),
        criteria=criteria_of_sets(cell.sets, label),
        code=dict(code),
        role=experiment.role or "",
    )


def training_fingerprint(dataset: Dataset) -> str:
    """sha256 of what a run trains on and probes."""
    return data_fingerprint((*dataset.train, *dataset.dev))
