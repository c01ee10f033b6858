"""python -m grao_bench.train_reward: a Bradley-Terry reward model from the pairs of one set (Hydra). See --help."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from grao_bench.command_line import hydra_main, quiet_transformers, quit_with, to_value
from grao_bench.errors import UserError
from grao_bench.interfaces import DataSpec, ModelSpec
from grao_bench.training.bradley_terry import RewardTraining
from grao_bench.values import describe


@dataclass(frozen=True, kw_only=True)
class RewardExperiment:
    """model: the base that the classifier starts from. data: whose pairs. output: the checkpoint's folder."""

    model: ModelSpec
    data: DataSpec
    training: RewardTraining
    max_tokens: int
    seed: int
    threads: int
    output: str


def train_reward_model(experiment: RewardExperiment, bars: Any) -> dict[str, float]:
    """Train, measure on the held-out pairs, save; returns the metrics. UserError where there are no pairs, or a model is there already."""
    import numpy as np
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from grao_bench.data.corpus import load_corpus_files
    from grao_bench.models.policy import resolve_device
    from grao_bench.ops import stream_seed
    from grao_bench.rewards.reward_model import PairEncoder
    from grao_bench.training.bradley_terry import fit_reward_model, pair_margins

    folder = Path(experiment.output)
    if folder.exists():
        raise UserError(f"output={folder}: is there already; remove it to train anew, or give another output=")
    torch.set_num_threads(experiment.threads)
    spec, dataset = experiment.model, experiment.data.build()
    splits = {name: [e for e in getattr(dataset, name) if e.rejected is not None] for name in ("train", "dev", "test")}
    if not splits["train"]:
        raise UserError(f"data={dataset.name}: has no pairs to learn from (no rejected answers); use a set with pairs")
    path = spec.checkpoint(lambda: experiment.data.corpus() + load_corpus_files(spec.corpus_files), bars.on_pretrain)
    torch.manual_seed(stream_seed(experiment.seed, "reward head"))
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, dtype=torch.float32)
    model.to(resolve_device(spec.device)).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    encoder = PairEncoder(tokenizer, spec.prompt_format, experiment.max_tokens)

    def on_step(step: int, steps: int, loss: float) -> None:
        bars.show(f"reward model on {dataset.name}", step, steps, f"loss {loss:.3f}")

    fit_reward_model(model, encoder, splits["train"], experiment.training, experiment.seed, on_step)
    metrics: dict[str, float] = {"pairs": len(splits["train"])}
    for name in ("dev", "test"):
        if splits[name]:
            margins = pair_margins(model, encoder, splits[name], experiment.training.batch_size)
            longer = np.array([len(e.chosen) > len(e.rejected or "") for e in splits[name]])
            metrics |= {
                f"{name}/pairs": len(margins),
                f"{name}/accuracy": float((margins > 0).mean()),
                f"{name}/accuracy_of_longer_is_better": float(longer.mean()),
                f"{name}/margin_mean": float(margins.mean()),
            }
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    (aside / "config.yaml").write_text(yaml.safe_dump(describe(experiment), sort_keys=False), encoding="utf-8")
    (aside / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    aside.rename(folder)
    return metrics


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
    print(f"{experiment.output}: {', '.join(f'{name} {value:.4g}' for name, value in metrics.items())}")


def main() -> None:
    """The command line."""
    hydra_main("train_reward", task)


if __name__ == "__main__":
    main()
