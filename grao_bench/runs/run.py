"""A cell from start to finish: train, evaluate, record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import yaml
from filelock import FileLock

from grao_bench.core.process import peak_memory, process_settings, reset_peak_memory
from grao_bench.core.record_files import write_info
from grao_bench.core.records import ProbeRecord, RunInfo, StepRecord
from grao_bench.core.values import describe
from grao_bench.experiment import Experiment
from grao_bench.runs.bases import evaluate_bases
from grao_bench.runs.cell import Cell, build, read_data
from grao_bench.runs.check import check
from grao_bench.runs.evaluate import (
    OnTask,
    Tested,
    evaluate_policy,
    evaluating,
    judge_mark,
    score_tasks,
    told_by,
)
from grao_bench.runs.folders import (
    begin,
    complete,
    fault_left_in,
    finished_before,
    leave,
    require_model,
    require_same,
    save_model,
    write_begun,
)
from grao_bench.runs.identity import computed_by, unread
from grao_bench.runs.progress import say
from grao_bench.runs.record import info_of, training_fingerprint
from grao_bench.runs.rehearsal import rehearse
from grao_bench.runs.resume import best_step, resume
from grao_bench.runs.summary import alarm_lines, summary

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
        with fault_left_in(partial), process_settings(experiment.threads):
            leave(partial, {"config.yaml": yaml.safe_dump(describe(experiment), sort_keys=False)})
            leave(partial, extra_files or {})
            if not rehearsed:
                rehearse(experiment, read_data)
            _run(experiment, partial, code, on_step, on_pretrain, on_task)
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
    if cell.untouched:
        say(cell.untouched)
    name = f"{experiment.objective.name}-{experiment.data.name}-seed{experiment.seed}"
    label = judge_mark(experiment, [cell.collector.reward.name], cell.sets)
    info = info_of(cell, label, code)  # what can't be written down is known before anything trains
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
        leave(partial, {"alarms.txt": alarmed})
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
    """After training: evaluate the policy and its base, save the model, and write down what the run
    was; returns the base's folders."""
    experiment = cell.experiment
    peak = peak_memory(cell.base.model.device)
    kept = best_step(partial) if experiment.budget.keep == "best_dev" else None
    step = cell.trainer.step if kept is None else kept
    tested = Tested(cell.trainer.policy, step, cell.codec, cell.engine)
    base = replace(tested, policy=cell.base, step=0)
    bases = evaluate_bases(experiment, cell.sets, base, partial.parents[2], label, on_task)
    evaluate_policy(experiment, cell.sets, tested, partial / "evaluations", label)
    score_tasks(experiment, tested, partial, on_task)
    save_model(cell.trainer, cell.codec, partial, experiment.save_model)
    told = told_by({"training": cell.collector.reward, **evaluating(cell.sets, label)}, partial)
    write_info(partial, replace(info, judges=told, peak_memory=peak, kept_step=kept))
    return bases
