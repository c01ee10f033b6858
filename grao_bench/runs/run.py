"""A cell from start to finish: train, evaluate, record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import yaml
from filelock import FileLock

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import (
    Dataset,
)
from grao_bench.core.process import peak_memory, process_settings, reset_peak_memory
from grao_bench.core.provenance import data_fingerprint, environment, weights_fingerprint
from grao_bench.core.records import (
    ProbeRecord,
    RunInfo,
    StepRecord,
    write_info,
)
from grao_bench.core.values import HASH_VERSION, describe
from grao_bench.experiment import Experiment
from grao_bench.models.adapters import untouched_experts
from grao_bench.models.of_run import write_masters
from grao_bench.runs.bases import evaluate_bases
from grao_bench.runs.cell import Cell, build, read_data
from grao_bench.runs.check import check
from grao_bench.runs.evaluate import (
    OnTask,
    Tested,
    criteria_of_sets,
    evaluate_policy,
    evaluating,
    fingerprints_of,
    judge_mark,
    score_tasks,
    told_by,
)
from grao_bench.runs.folders import begin, complete, finished_before, require_model, require_same, save_model, write_begun
from grao_bench.runs.identity import computed_by, unread
from grao_bench.runs.progress import say
from grao_bench.runs.rehearsal import rehearse
from grao_bench.runs.resume import best_step, resume
from grao_bench.runs.summary import alarm_lines, summary
from grao_bench.training.checkpoint import (
    named_masters,
)

OnStep = Callable[[StepRecord], None]
OnPretrain = Callable[[int, int, float], None]


def run(
    experiment: Experiment,
    on_step: OnStep | None = None,
    on_pretrain: OnPretrain | None = None,
    extra_files: Mapping[str, str] | None = None,
    on_task: OnTask | None = None,
    rerun: bool = False,
    rehearsed: bool = False,
) -> Path:
    """Train, evaluate and record one cell; returns its folder.

    A finished cell is returned as it is, and said to be; an interrupted one goes on from its
    checkpoint and ends as if it had not been interrupted. UserError where either was made by other
    code, or on other data, than there is now. rerun: make it anew; a finished one stays until the
    new one is complete. What can fail is tried first (`rehearsal`), unless it was: rehearsed.
    `extra_files` (name -> text) are put into the folder. What went wrong is
    left in `<folder>.partial/error.txt`.
    """
    check(experiment)
    folder, code = experiment.folder, computed_by(experiment)

    def data() -> str:
        return training_fingerprint(experiment.data.build())

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir() and not rerun:
            require_same(folder, code, data())
            require_model(folder, experiment)
            say(finished_before(experiment))
            return folder
        partial = begin(folder, code, data, rerun)
        for line in unread(code):
            say(line)
        try:
            for name, text in {"config.yaml": yaml.safe_dump(describe(experiment), sort_keys=False), **(extra_files or {})}.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_text(text, encoding="utf-8")
            with process_settings(experiment.threads):
                if not rehearsed:
                    rehearse(experiment, read_data)
                _run(experiment, partial, code, on_step, on_pretrain, on_task)
        except BaseException as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            (partial / "error.txt").write_text(" ".join(reason.split()) + "\n", encoding="utf-8")
            raise
        complete(partial, folder)
    return folder


def _run(
    experiment: Experiment,
    partial: Path,
    code: Mapping[str, str],
    on_step: OnStep | None,
    on_pretrain: OnPretrain | None,
    on_task: OnTask | None,
) -> None:
    reset_peak_memory()
    cell = build(experiment, on_pretrain)
    if left := untouched_experts(cell.trainer.policy.model):
        say(left)
    name = f"{experiment.objective.name}-{experiment.data.name}-seed{experiment.seed}"
    around = environment(cell.base.model.device, cell.base.model.dtype, experiment.threads)
    label = judge_mark(experiment, [cell.collector.reward.name], cell.sets)
    info = _info(cell, label, around)  # what can't be written down is known before anything trains
    info = replace(info, code=dict(code))
    write_begun(partial, code, info.fingerprints["data"])
    tracker = experiment.tracking.build(partial, experiment.sweep, experiment.objective.name, name, describe(experiment))
    finished = False
    try:
        for record in resume(cell, partial):
            probed = isinstance(record, ProbeRecord)
            tracker.log(record.step, {f"probe/{key}" if probed else key: value for key, value in record.metrics.items()})
            if on_step is not None and isinstance(record, StepRecord):
                on_step(record)
        bases = _record(cell, partial, info, label, on_task)
        tracker.summary(summary(partial, bases))
        alarmed = "".join(f"{line}\n" for line in alarm_lines(partial, bases))
        (partial / "alarms.txt").write_text(alarmed, encoding="utf-8")
        for leftover in ("checkpoint", "best"):
            shutil.rmtree(partial / leftover, ignore_errors=True)
        finished = True
    finally:
        tracker.finish(failed=not finished)


def _record(
    cell: Cell,
    partial: Path,
    info: RunInfo,
    label: str,
    on_task: OnTask | None,
) -> list[Path]:
    """After training: evaluate the policy and its base, save the model, and write down what the run was; returns the base's folders."""
    experiment = cell.experiment
    peak = peak_memory(cell.base.model.device)
    kept = best_step(partial) if experiment.budget.keep == "best_dev" else None
    step = cell.trainer.step if kept is None else kept
    tested = Tested(cell.trainer.policy, step, cell.codec, cell.engine)
    base = replace(tested, policy=cell.base, step=0)
    bases = evaluate_bases(experiment, cell.sets, base, partial.parents[2], label, on_task)
    evaluate_policy(experiment, cell.sets, tested, partial / "evaluations", label)
    score_tasks(experiment, tested, partial, on_task)
    save_model(cell.trainer.policy, cell.codec, partial / "model", experiment.save_model)
    masters = named_masters(cell.trainer)
    if masters and experiment.save_model != "none":
        write_masters(partial, masters)
    told = told_by({"training": cell.collector.reward, **evaluating(cell.sets, label)}, partial)
    write_info(partial, replace(info, judges=told, peak_memory=peak, kept_step=kept))
    return bases


def _info(cell: Cell, label: str, around: dict[str, str]) -> RunInfo:
    """What a run was, as far as its cell and the environment around it say."""
    experiment = cell.experiment
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
            "base": weights_fingerprint(cell.base.model),
            **fingerprints_of(cell.sets, label),
        },
        environment=around,
        drops={reason: count for reason, count in cell.dataset.dropped.items() if count},
        lengths={"training": cell.lengths} | {one.name: one.lengths for one in cell.sets},
        sweep=experiment.sweep,
        hash_version=HASH_VERSION,
        end_token=cell.codec.decoded([cell.codec.end_token]),
        criteria=criteria_of_sets(cell.sets, label),
        role=experiment.role or "",
    )


def training_fingerprint(dataset: Dataset) -> str:
    """sha256 of what a run trains on and probes."""
    return data_fingerprint((*dataset.train, *dataset.dev))
