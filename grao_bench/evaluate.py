"""python -m grao_bench.evaluate: a finished run again (run=<folder>), with another reward,
temperature or sets; or any checkpoint (model=...), as a run is evaluated (Hydra)."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import DictConfig

from grao_bench.cli.command_line import hydra_main, quiet_transformers, quit_with, to_value
from grao_bench.core.errors import UserError
from grao_bench.core.spec_interfaces import RewardSpec
from grao_bench.core.specs import rebuild
from grao_bench.core.values import check_types
from grao_bench.evaluation.lm_eval import LMEval


@dataclass(frozen=True, kw_only=True)
class Reevaluation:
    """run: a finished run's folder. What is null stays as in the run; see conf/evaluation/standard.yaml for the others.

    lm_eval: tasks to score the model on, and its base; those of the run itself are there already.
    trust: a module, an address, or a list of them, that the run's own configuration may lead to:
    a run's folder is data, and what it names outside grao_bench is neither imported nor asked.
    """

    run: str
    trust: str | Sequence[str]
    sets: Literal["all", "own"] | None
    max_examples: int | None
    answers_per_prompt: int | None
    temperature: float | None
    reward: RewardSpec | None
    seed: int | None
    store_text: bool | None
    lm_eval: LMEval
    threads: int


def load_experiment(folder: Path, trust: Collection[str] = ()) -> Any:
    """The Experiment of a run's config.yaml, which only specs are made of (`specs.rebuild`).

    UserError where there is none, it is not one, or it leads to something that `trust` lacks.
    """
    from grao_bench.experiment import Experiment

    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"run={folder}: holds no config.yaml; give the folder of a finished run (.../<objective>-<hash>/seed<k>)")
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: can't be read ({' '.join(str(error).split())})") from None
    try:
        experiment = rebuild(written, str(path), trust)
    except RecursionError:  # an anchor within itself
        raise UserError(f"{path}: can't be read (it holds itself)") from None
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path}: is not the configuration of a run")
    check_types(experiment)
    return experiment


def reevaluate(cfg: DictConfig) -> None:
    """Evaluate again and print the files written."""
    quiet_transformers()
    try:
        asked: Reevaluation = to_value(cfg)
        from grao_bench.experiment import Evaluation
        from grao_bench.runs.again import evaluate_again
        from grao_bench.runs.check import check
        from grao_bench.runs.progress import Bars

        folder = Path(asked.run)
        own = load_experiment(folder, [asked.trust] if isinstance(asked.trust, str) else asked.trust)
        names = (item.name for item in fields(Evaluation) if item.name in vars(asked))
        changed = {name: value for name in names if (value := getattr(asked, name)) is not None}
        experiment = replace(own, evaluation=replace(own.evaluation, **changed), threads=asked.threads)
        check(experiment)
        with Bars() as bars:
            written, kept = evaluate_again(own, experiment, folder, lambda what, done, total: bars.show(what, done, total, ""))
    except UserError as error:
        quit_with(error)
        return
    for path in written:
        print(path)
    for path in kept:
        print(f"{path} (there already; remove it to evaluate anew)")


def score_checkpoint(cfg: DictConfig) -> None:
    """Evaluate a checkpoint, and print its scores and where its record lies."""
    quiet_transformers()
    try:
        asked = to_value(cfg)
        from grao_bench.runs.agreement import emulations
        from grao_bench.runs.checkpoints import evaluate_checkpoint, score_lines
        from grao_bench.runs.progress import Bars

        for line in filter(None, emulations(model=asked.model, reward=asked.reward)):
            print(f"grao_bench: {line}", file=sys.stderr)
        with Bars() as bars:
            tasks = partial(_shown, bars)
            folder = evaluate_checkpoint(asked, tasks)
        lines = score_lines(folder)
    except UserError as error:
        quit_with(error)
        return
    print("\n".join([*lines, str(folder)]))


def _shown(bars: Any, what: str, done: int, total: int) -> None:
    bars.show(what, done, total, "")


def config_name(words: Sequence[str]) -> str:
    """Which of conf/ a command line is of: evaluate, of a run, or evaluate_checkpoint, of a model.

    UserError for one that names both.
    """
    keys = {word.partition("=")[0].lstrip("+") for word in words}
    model = any(re.split("[./]", key)[0] == "model" for key in keys)
    if model and "run" in keys:
        raise UserError("run= and model=: give a run's folder or a model, not both")
    return "evaluate_checkpoint" if model else "evaluate"


def main() -> None:
    """The command line."""
    try:
        name = config_name(sys.argv[1:])
    except UserError as error:
        quit_with(error)
    hydra_main(name, reevaluate if name == "evaluate" else score_checkpoint)


if __name__ == "__main__":
    main()
