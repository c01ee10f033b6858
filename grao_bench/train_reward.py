"""python -m grao_bench.train_reward: a Bradley-Terry reward model from the pairs of one set (Hydra). See --help."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from omegaconf import DictConfig

from grao_bench.command_line import hydra_main, quiet_transformers, quit_with, to_value
from grao_bench.data.pairs import position
from grao_bench.dialogue import render
from grao_bench.errors import UserError
from grao_bench.interfaces import Dataset, DataSpec, ModelSpec
from grao_bench.training.bradley_terry import RewardTraining
from grao_bench.types import Example
from grao_bench.values import describe

Half = Literal["all", "training", "evaluation"]
HALVES_SEED = 0
"""Of the split into halves: the same for every reward model, so that two halves are each other's."""

BASELINE_KEYS = ("accuracy", "ece", "length_correlation", "agreement_with_gold")
"""What is reported of the baseline, as bag_of_words_<key>."""


@dataclass(frozen=True, kw_only=True)
class RewardExperiment:
    """model: the base that the classifier starts from. data: whose pairs.

    half: which of its training pairs. `training` and `evaluation` are disjoint halves, cut by the hash of the prompt (so equal prompts,
    and with them equal pairs, are on one side): a policy that is trained by a model of one can be evaluated by a model of the other.
    baseline: a bag-of-words logistic regression is fitted on the same pairs, and measured beside the model.
    output: the checkpoint's folder; "{half}" in it stands for "-training", "-evaluation", or nothing for all.
    """

    model: ModelSpec
    data: DataSpec
    training: RewardTraining
    half: Half
    baseline: bool
    max_tokens: int
    seed: int
    threads: int
    output: str

    def __post_init__(self) -> None:
        if self.half not in get_args(Half):
            raise UserError(f"half={self.half}: unknown; choose one of {', '.join(get_args(Half))}")

    def check(self) -> None:
        """UserError for a value that can't be, or a model that is there already."""
        self.training.check()
        for key in ("max_tokens", "threads"):
            if getattr(self, key) < 1:
                raise UserError(f"{key}={getattr(self, key)}: must be at least 1")
        if self.folder.exists():
            raise UserError(f"output={self.folder}: is there already; remove it to train anew, or give another output=")

    @property
    def folder(self) -> Path:
        """Where the checkpoint goes."""
        return Path(self.output.replace("{half}", "" if self.half == "all" else f"-{self.half}"))


def half_of(example: Example) -> Half:
    """The half that a pair belongs to, by the hash of its prompt."""
    return "training" if position(render(example.prompt), HALVES_SEED, "reward half") < 0.5 else "evaluation"


def train_reward_model(experiment: RewardExperiment, bars: Any) -> dict[str, float]:
    """Train, measure on the held-out pairs, save; returns the metrics. UserError where there are no pairs, or a model is there already.

    metrics.json: `pairs`, and for dev and test what `rewards.pair_metrics.measures` and the baseline say of them. Lengths are in
    characters. pairs.json: digests of the training pairs, by which two reward models are seen to be disjoint.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from grao_bench.data.corpus import load_corpus_files
    from grao_bench.devices import resolve_device
    from grao_bench.ops import stream_seed
    from grao_bench.rewards.bag_of_words import fit_bag_of_words
    from grao_bench.rewards.reward_model import PairEncoder, write_pairs
    from grao_bench.training.bradley_terry import fit_reward_model, pair_margins

    experiment.check()
    folder = experiment.folder
    torch.set_num_threads(experiment.threads)
    spec, dataset = experiment.model, experiment.data.build()
    splits = pairs_of(dataset, experiment.half)
    baseline = fit_bag_of_words(splits["train"], splits["dev"]) if experiment.baseline else None
    path = spec.checkpoint(lambda: experiment.data.corpus() + load_corpus_files(spec.corpus_files), bars.on_pretrain)
    torch.manual_seed(stream_seed(experiment.seed, "reward head"))
    model = AutoModelForSequenceClassification.from_pretrained(
        path,
        num_labels=1,
        dtype=torch.float32,
        trust_remote_code=False,
    )
    model.to(resolve_device(spec.device)).eval()
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    encoder = PairEncoder(tokenizer, spec.prompt_format, experiment.max_tokens)

    def on_step(step: int, steps: int, loss: float) -> None:
        bars.show(f"reward model on {dataset.name}", step, steps, f"loss {loss:.3f}")

    fit_reward_model(model, encoder, splits["train"], experiment.training, experiment.seed, on_step)
    metrics: dict[str, float] = {"pairs": len(splits["train"])}
    for name in ("dev", "test"):
        if splits[name]:
            margins = pair_margins(model, encoder, splits[name], experiment.training.batch_size)
            metrics |= measured(name, splits[name], margins, experiment.data)
            if baseline is not None:
                found = measured(name, splits[name], baseline.margins(splits[name]), experiment.data)
                metrics |= {
                    f"{name}/bag_of_words_{key}": value for key in BASELINE_KEYS if (value := found.get(f"{name}/{key}")) is not None
                }
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    write_pairs(aside, splits["train"], experiment.half)
    (aside / "config.yaml").write_text(yaml.safe_dump(describe(experiment), sort_keys=False), encoding="utf-8")
    (aside / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    aside.rename(folder)
    return metrics


def pairs_of(dataset: Dataset, half: Half) -> dict[str, list[Example]]:
    """The examples with a rejected answer, by split, of train only the half; UserError where none are left to learn from."""
    splits = {name: [e for e in getattr(dataset, name) if None not in (e.chosen, e.rejected)] for name in ("train", "dev", "test")}
    if not splits["train"]:
        raise UserError(f"data={dataset.name}: has no pairs to learn from (no rejected answers); use a set with pairs")
    if half != "all":
        splits["train"] = [example for example in splits["train"] if half_of(example) == half]
        if not splits["train"]:
            raise UserError(f"half={half}: none of the pairs of data={dataset.name} is in it; use a larger set")
    return splits


def measured(split: str, pairs: Sequence[Example], margins: Any, data: DataSpec) -> dict[str, float]:
    """What the margins are worth on a split's pairs; with the gold judge where the set has one. A figure that can't be had is left out."""
    import numpy as np

    from grao_bench.rewards.gold import JudgedData
    from grao_bench.rewards.pair_metrics import measures

    longer_by = np.array([len(example.reference) - len(example.rejected or "") for example in pairs], dtype=float)
    gold = None
    if isinstance(data, JudgedData):
        judge = data.judge()
        gold = [judge.score(e, e.reference, True)[0] - judge.score(e, e.rejected or "", True)[0] for e in pairs]
    found: Mapping[str, float] = measures(np.asarray(margins, dtype=float), longer_by, gold)
    return {f"{split}/{name}": value for name, value in found.items() if not math.isnan(value)}


def task(cfg: DictConfig) -> None:
    """Run one composed reward training and print its metrics."""
    quiet_transformers()
    try:
        from grao_bench.progress import Bars

        experiment: RewardExperiment = to_value(cfg)
        with Bars() as bars:
            metrics = train_reward_model(experiment, bars)
    except UserError as error:
        quit_with(error)
        return
    print(f"{experiment.folder}: {', '.join(f'{name} {value:.4g}' for name, value in metrics.items())}")


def main() -> None:
    """The command line."""
    hydra_main("train_reward", task)


if __name__ == "__main__":
    main()
