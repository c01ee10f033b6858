"""A finished run evaluated once more, in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grao_bench.core.process import process_settings
from grao_bench.core.record_files import read_info, write_info
from grao_bench.core.records import RunInfo
from grao_bench.experiment import Experiment
from grao_bench.models.build import base_spec, load_policy
from grao_bench.models.of_run import model_of
from grao_bench.runs.bases import evaluate_untrained
from grao_bench.runs.cell import EvaluationSet, evaluation_sets, models_wanted
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
from grao_bench.runs.folders import require_unchanged


def evaluate_again(own: Experiment, experiment: Experiment, folder: Path, on_task: OnTask | None = None) -> tuple[list[Path], list[Path]]:
    """Evaluate a finished run's model, and its base, by `experiment.evaluation`, its lm-eval tasks among it.

    `own` is the experiment that the run was; `experiment` differs from it in how it evaluates.
    What differs from the run's own evaluation is added to the files' names: `gold_T0` is greedy, `gold_1a2b` another judge of that name.
    Returns (the run's new record files, those that were there already and stay).
    """
    with process_settings(experiment.threads):
        return _evaluate_again(own, experiment, folder, on_task)


def _evaluate_again(own: Experiment, experiment: Experiment, folder: Path, on_task: OnTask | None) -> tuple[list[Path], list[Path]]:
    info = read_info(folder)
    require_unchanged(folder, experiment, info)
    spec, wanted = experiment.model, models_wanted(experiment)
    policy, codec = load_policy(spec, str(model_of(folder, "run")), wanted)
    step = experiment.budget.steps if info.kept_step is None else info.kept_step
    tested = Tested(policy, step, codec, experiment.rollout.build(codec))
    sets = evaluation_sets(experiment, policy, codec)
    label = _label(info, own, experiment, sets)
    written = evaluate_policy(experiment, sets, tested, folder / "evaluations", label)
    written += score_tasks(experiment, tested, folder, on_task)
    if written:
        path = base_spec(spec).checkpoint(wanted.corpus)
        base = replace(tested, policy=load_policy(spec, path, wanted)[0], step=0)
        evaluate_untrained(experiment, sets, base, folder.parents[2], label, on_task)
        # what stands there already was said when the run was made
        told = told_by(evaluating(sets, label), folder)
        fingerprints = fingerprints_of(sets, label) | info.fingerprints
        criteria = criteria_of_sets(sets, label) | info.criteria
        judges = info.judges | told
        info = replace(info, fingerprints=fingerprints, judges=judges, criteria=criteria)
        write_info(folder, info)
    kept = [folder / "evaluations" / f"{one.name}-{one.reward.name}{label}.jsonl" for one in sets]
    return written, [path for path in kept if path not in written]


def _label(info: RunInfo, own: Experiment, asked: Experiment, sets: Sequence[EvaluationSet]) -> str:
    """What tells an evaluation from the run's own, in the name of its files; empty for another reward source alone."""
    marks = {
        "temperature": "_T{:g}",
        "seed": "_seed{}",
        "max_examples": "_first{}",
        "answers_per_prompt": "_draws{}",
    }
    before, now = own.evaluation, asked.evaluation
    changed = [mark.format(getattr(now, name)) for name, mark in marks.items() if getattr(now, name) != getattr(before, name)]
    taken = [info.reward, *([] if own.judge in (own.reward, asked.judge) else [own.judge.build(own.data).name])]
    return "".join([judge_mark(asked, taken, sets), *changed])
