"""python -m grao_bench.train_reward: a Bradley-Terry reward model from the pairs of one set (Hydra). See --help."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from filelock import FileLock
from omegaconf import DictConfig

from grao_bench.cli.command_line import hydra_main, quiet_transformers, quit_with, to_value
from grao_bench.core.batching import context
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.ops import stream_seed
from grao_bench.core.process import process_settings
from grao_bench.core.provenance import weights_fingerprint
from grao_bench.core.record_files import PARTIAL
from grao_bench.core.spec_interfaces import DataSpec, ModelSpec
from grao_bench.core.types import Example
from grao_bench.core.values import describe
from grao_bench.data.corpus import load_corpus_files
from grao_bench.data.pairs import position
from grao_bench.data.sets import tell
from grao_bench.data.splits import anchors
from grao_bench.models.adapters import has_adapter, save_adapter
from grao_bench.models.scorer import Scorer, load_classifier
from grao_bench.rewards.reward_folder import (
    CONFIG_FILE,
    PAIRS_FILE,
    RECORD_FILE,
    TrainedAs,
    template_digest,
    write_accuracy,
    write_pairs,
)
from grao_bench.runs.agreement import emulations
from grao_bench.text.dialogue import render
from grao_bench.text.tokens import TextCodec
from grao_bench.training.bradley_terry import (
    Pair,
    RewardTrainer,
    RewardTraining,
    fit_reward_model,
)
from grao_bench.training.checkpoint import load_checkpoint, save_checkpoint
from grao_bench.training.held_out import find_rivals, held_out, told_apart
from grao_bench.training.length_balance import length_balanced

Half = Literal["all", "training", "evaluation"]
HALVES_SEED = 0
"""Of the split into halves: the same for every reward model, so that two halves are each other's."""


@dataclass(frozen=True, kw_only=True)
class RewardExperiment:
    """model: the base that the classifier starts from. data: whose pairs.

    half: which of its training pairs. `training` and `evaluation` are disjoint halves, cut by
    dialogue (so equal prompts, and with them equal pairs, are on one side): a policy that is
    trained by a model of one can be evaluated by a model of the other.
    length_balance: of its training pairs as many are left out as it takes for the longer answer to
    be the chosen one in half of them (`training.length_balance`).
    baseline: a bag-of-words logistic regression is fitted on the same pairs, and measured beside the model.
    output: the checkpoint's folder; "{half}" in it stands for "-training", "-evaluation", or nothing for all.
    """

    model: ModelSpec
    data: DataSpec
    training: RewardTraining
    half: Half
    length_balance: bool
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
        if self.model.adapter is not None:
            self.model.adapter.check()
        for key, least in (("max_tokens", 2), ("threads", 1)):
            if getattr(self, key) < least:
                raise UserError(f"{key}={getattr(self, key)}: must be at least {least}")
        if self.folder.exists():
            raise UserError(f"output={self.folder}: is there already; remove it to train anew, or give another output=")

    @property
    def folder(self) -> Path:
        """Where the checkpoint goes."""
        return Path(self.output.replace("{half}", "" if self.half == "all" else f"-{self.half}"))


def halves(examples: Sequence[Example]) -> list[Half]:
    """The half that each pair belongs to, by the hash of its dialogue's prompt: no dialogue is in
    both."""
    found = anchors(examples, lambda example: render(example.prompt))
    places = (position(anchor, HALVES_SEED, "reward half") for anchor in found)
    return ["training" if place < 0.5 else "evaluation" for place in places]


def train_reward_model(experiment: RewardExperiment, bars: Any) -> dict[str, int | float]:
    """Train, measure on the held-out pairs, save; returns the metrics. UserError where there are no
    pairs, or a model is there already. One that was interrupted goes on from its checkpoint and
    ends as if it had not been.

    metrics.json: `pairs`, `pairs_cut` (those whose prompt had to be cut), `pairs_equal` (left out,
    as their answers are equal within max_tokens), `pairs_balanced_away` (by length_balance), and for
    dev and test what `rewards.pair_metrics` and the baseline say of them. Lengths are in characters.
    pair_accuracy.json: how it does on held-out pairs beside a rule of length alone and the baseline.
    pairs.json: digests of the training pairs, by which two reward models are seen to be disjoint.
    reward_model.json: how it was trained to read (`rewards.reward_folder.TrainedAs`).
    """
    experiment.check()
    folder, dataset = experiment.folder, experiment.data.build()
    splits = pairs_of(dataset, experiment.half)
    tell(dataset)
    train = splits["train"]
    if experiment.length_balance:
        train = length_balanced(train, stream_seed(experiment.seed, "length balance"))
    rivals = find_rivals(splits, train, experiment.baseline)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    with process_settings(experiment.threads), lock:
        experiment.check()  # another process may have been quicker
        partial = folder.with_name(folder.name + PARTIAL)
        scorer, codec = _start(experiment, train, partial, bars)
        length = experiment.max_tokens
        told, pairs = told_apart(codec, train, length)
        if not pairs:
            what = f"the answers of all pairs of data={dataset.name} are equal within it"
            raise UserError(f"max_tokens={length}: {what}; raise it")
        metrics: dict[str, int | float] = {"pairs": len(pairs)}
        metrics["pairs_cut"] = codec.truncation.truncated_prompts
        metrics["pairs_equal"] = len(train) - len(told)
        metrics["pairs_balanced_away"] = len(splits["train"]) - len(train)
        _fit(experiment, scorer, pairs, partial, f"reward model on {dataset.name}", bars)
        for name in ("dev", "test"):
            unseen = told_apart(codec, splits[name], length)
            found = held_out(name, unseen, scorer, experiment.training, rivals, experiment.data)
            if found:
                metrics |= found[0]
                write_accuracy(partial, found[1])
        _save(scorer, codec, metrics, partial)
        partial.rename(folder)
    return metrics


def _start(
    experiment: RewardExperiment,
    train: Sequence[Example],
    partial: Path,
    bars: Any,
) -> tuple[Scorer, TextCodec]:
    """The base with a new head, and what reads for it. Leaves in the folder what is trained, and on
    what; a checkpoint there of anything else is thrown away."""
    spec = experiment.model
    corpus = experiment.data.corpus
    files = spec.corpus_files
    path = spec.checkpoint(lambda: corpus() + load_corpus_files(files), bars.on_pretrain)
    torch.manual_seed(stream_seed(experiment.seed, "reward head"))
    model, tokenizer = load_classifier(path, spec.dtype, spec.device, "model", new_head=True)
    room = context(model.config)
    if room is not None and experiment.max_tokens > room:
        what = f"model={spec.name} reads at most {room} tokens (its max_position_embeddings)"
        raise UserError(f"max_tokens={experiment.max_tokens}: {what}; lower it")
    length, end = experiment.max_tokens, spec.end_token
    codec = TextCodec(tokenizer, spec.prompt_format, length, end_token=end)
    record = TrainedAs(
        prompt_format=spec.prompt_format,
        max_tokens=experiment.max_tokens,
        dtype=str(model.dtype).removeprefix("torch."),
        end_token=codec.end_token,
        end_text=codec.decoded([codec.end_token]),
        chat_template=template_digest(tokenizer, spec.prompt_format),
        started_from=weights_fingerprint(model),
    )
    if spec.adapter is not None:
        seed = stream_seed(experiment.seed, "adapter")
        spec.adapter.attach(model, seed, heads=("score",))
    training = experiment.training
    scorer = Scorer(model, training.tokens_per_forward, training.gradient_checkpointing)
    before = {name: _text(partial / name) for name in (CONFIG_FILE, PAIRS_FILE, RECORD_FILE)}
    partial.mkdir(exist_ok=True)
    config = yaml.safe_dump(describe(experiment), sort_keys=False)
    (partial / CONFIG_FILE).write_text(config, encoding="utf-8")
    write_pairs(partial, train, experiment.half)
    record.write(partial)
    if any(_text(partial / name) != text for name, text in before.items()):
        shutil.rmtree(partial / "checkpoint", ignore_errors=True)
    return scorer, codec


def _fit(
    experiment: RewardExperiment,
    scorer: Scorer,
    pairs: Sequence[Pair],
    partial: Path,
    title: str,
    bars: Any,
) -> None:
    """Train the scorer in place, from the last checkpoint."""
    every = experiment.training.checkpoint_every
    trainer = RewardTrainer(scorer, experiment.training, len(pairs))
    load_checkpoint(partial / "checkpoint", trainer)
    for metrics in fit_reward_model(trainer, pairs, experiment.seed):
        note = f"loss {metrics['loss']:.3f}  right {metrics['accuracy']:.0%}"
        bars.show(title, trainer.step, trainer.steps, note)
        if every and trainer.step % every == 0:
            save_checkpoint(partial / "checkpoint", trainer)


def _save(
    scorer: Scorer,
    codec: TextCodec,
    metrics: Mapping[str, int | float],
    partial: Path,
) -> None:
    """The checkpoint that transformers loads, and the metrics beside it."""
    scorer.model.config.pad_token_id = codec.tokenizer.pad_token_id
    if has_adapter(scorer.model):
        save_adapter(scorer.model, partial)
    else:
        scorer.model.save_pretrained(partial)
    codec.tokenizer.save_pretrained(partial)
    text = json.dumps(metrics, indent=1) + "\n"
    (partial / "metrics.json").write_text(text, encoding="utf-8")
    shutil.rmtree(partial / "checkpoint", ignore_errors=True)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def pairs_of(dataset: Dataset, half: Half) -> dict[str, list[Example]]:
    """The examples with a rejected answer, by split, of train only the half; UserError where none are left to learn from."""
    splits = {name: [e for e in getattr(dataset, name) if None not in (e.chosen, e.rejected)] for name in ("train", "dev", "test")}
    if not splits["train"]:
        raise UserError(f"data={dataset.name}: has no pairs to learn from (no rejected answers); use a set with pairs")
    if half != "all":
        found = halves(splits["train"])
        splits["train"] = [e for e, own in zip(splits["train"], found, strict=True) if own == half]
        if not splits["train"]:
            raise UserError(f"half={half}: none of the pairs of data={dataset.name} is in it; use a larger set")
    return splits


def task(cfg: DictConfig) -> None:
    """Run one composed reward training and print its metrics."""
    quiet_transformers()
    try:
        from grao_bench.runs.progress import Bars

        experiment: RewardExperiment = to_value(cfg)
        for line in filter(None, emulations(model=experiment.model)):
            print(f"grao_bench: {line}", file=sys.stderr)
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
