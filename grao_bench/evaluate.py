"""python -m grao_bench.evaluate run=<folder>: evaluate a finished run again, with another reward, temperature or sets (Hydra)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import DictConfig

from grao_bench.command_line import hydra_main, quiet_transformers, quit_with, to_value
from grao_bench.errors import UserError
from grao_bench.evaluation.lm_eval import LMEval
from grao_bench.interfaces import RewardSpec
from grao_bench.values import rebuild


@dataclass(frozen=True, kw_only=True)
class Reevaluation:
    """run: a finished run's folder. What is null stays as in the run; see conf/evaluation/standard.yaml for the others.

    lm_eval: tasks to score the model on, and its base; those of the run itself are there already.
    """

    run: str
    sets: Literal["all", "own"] | None
    max_examples: int | None
    temperature: float | None
    reward: RewardSpec | None
    seed: int | None
    store_text: bool | None
    lm_eval: LMEval
    threads: int


def load_experiment(folder: Path) -> Any:
    """The Experiment of a run's config.yaml; UserError where there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"run={folder}: holds no config.yaml; give the folder of a finished run (.../<objective>-<hash>/seed<k>)")
    return rebuild(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def reevaluate(cfg: DictConfig) -> None:
    """Evaluate again and print the files written."""
    quiet_transformers()
    try:
        asked: Reevaluation = to_value(cfg)
        from grao_bench.experiment import check
        from grao_bench.progress import Bars
        from grao_bench.run import evaluate_again

        folder = Path(asked.run)
        experiment = load_experiment(folder)
        names = ("sets", "max_examples", "temperature", "reward", "seed", "store_text", "lm_eval")
        changed = {name: value for name in names if (value := getattr(asked, name)) is not None}
        experiment = replace(experiment, evaluation=replace(experiment.evaluation, **changed), threads=asked.threads)
        check(experiment)
        with Bars() as bars:
            written, kept = evaluate_again(experiment, folder, lambda what, done, total: bars.show(what, done, total, ""))
    except UserError as error:
        quit_with(error)
        return
    for path in written:
        print(path)
    for path in kept:
        print(f"{path} (there already; remove it to evaluate anew)")


def main() -> None:
    """The command line."""
    hydra_main("evaluate", reevaluate)


if __name__ == "__main__":
    main()
