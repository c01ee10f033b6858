"""Evaluations of what no run here trained, made once for all cells that share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from grao_bench.core.provenance import environment, weights_fingerprint
from grao_bench.core.record_files import PARTIAL, write_info
from grao_bench.core.records import RunInfo
from grao_bench.core.values import HASH_VERSION, describe, value_hash
from grao_bench.evaluation.lm_eval import NO_TASKS
from grao_bench.experiment import Experiment
from grao_bench.runs.cell import EvaluationSet
from grao_bench.runs.evaluate import OnTask, Tested, criteria_of_sets, evaluate_policy, fingerprints_of, score_tasks
from grao_bench.runs.identity import computed_by


def evaluate_bases(
    experiment: Experiment,
    sets: Sequence[EvaluationSet],
    base: Tested,
    runs: Path,
    label: str = "",
    on_task: OnTask | None = None,
) -> list[Path]:
    """The base's evaluation by the sets' reward and, in a folder of its own for other cells to share, by their training reward."""
    judged = [replace(one, training_reward=None) for one in sets]
    folders = [evaluate_untrained(experiment, judged, base, runs, label, on_task)]
    trained_on = [replace(one, reward=one.training_reward, training_reward=None) for one in sets if one.training_reward is not None]
    if trained_on:
        folders.append(evaluate_untrained(experiment.by_training_reward, trained_on, base, runs))
    return folders


def evaluate_untrained(
    experiment: Experiment,
    sets: Sequence[EvaluationSet],
    tested: Tested,
    runs: Path,
    label: str = "",
    on_task: OnTask | None = None,
    name: str = "base",
    data: str = "base",
) -> Path:
    """The evaluation of a model that no run here trained, made once for what is asked of its
    weights; returns its folder runs/<data>/<name>-<hash>/seed0.

    Scores of lm-eval tasks that it lacks are added to it.
    """
    weights, fingerprints = weights_fingerprint(tested.policy.model), fingerprints_of(sets, label)
    identity = asked_of(experiment, tested, weights, fingerprints)
    folder = runs / data / f"{name}-{identity}" / "seed0"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            partial = folder.with_name(folder.name + PARTIAL)
            evaluate_policy(experiment, sets, tested, partial / "evaluations", label)
            model = tested.policy.model
            write_info(
                partial,
                RunInfo(
                    objective=name,
                    model=experiment.model.name,
                    data=data,
                    reward=sets[0].reward.name,
                    seed=0,
                    config_hash=identity,
                    config=describe(experiment) | {"objective": None, "optimizer": None},
                    fingerprints={"base" if name == "base" else "model": weights, **fingerprints},
                    environment=environment(model.device, model.dtype, experiment.threads),
                    sweep=experiment.sweep,
                    hash_version=HASH_VERSION,
                    end_token=tested.codec.decoded([tested.codec.end_token]),
                    criteria=criteria_of_sets(sets, label),
                ),
            )
            partial.rename(folder)
        score_tasks(experiment, tested, folder, on_task)
    return folder


def asked_of(
    experiment: Experiment,
    tested: Tested,
    weights: str,
    fingerprints: Mapping[str, str],
) -> str:
    """The hash of what an evaluation of these weights depends on: how they read and are sampled
    here, and not what an objective's rollouts are drawn at."""
    asked = replace(
        experiment.budget,
        steps=0,
        keep="last",
        probe_every=0,
        checkpoint_every=0,
        prompts_per_step=None,
        answers_per_step=1,
    )
    evaluation = replace(experiment.evaluation, lm_eval=NO_TASKS)
    code = computed_by(experiment).items()
    engine = {key: digest for key, digest in code if key.startswith("rollout")}
    judged = (weights, fingerprints, experiment.judge)
    sampling = experiment.evaluation_sampling
    rollout: Any = experiment.rollout
    rollout = replace(rollout, temperature=sampling.temperature)
    reads = (tested.codec.reads, sampling)
    return value_hash(*judged, rollout, *reads, engine, asked, evaluation)
