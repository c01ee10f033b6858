"""Reward models in training, small: pairs as ids, and a trainer of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grao_bench.core.types import Example
from grao_bench.models.scorer import Scorer
from grao_bench.text.tokens import TextCodec
from grao_bench.training.bradley_terry import Pair, RewardTrainer, RewardTraining, read_pairs

from ..small import word_tokenizer


def reward_training(**changed: Any) -> RewardTraining:
    fields = {
        "epochs": 1,
        "batch_size": 16,
        "tokens_per_forward": 100,
        "gradient_checkpointing": False,
        "checkpoint_every": 0,
        "lr": 0.005,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.01,
        "schedule": "linear",
        "warmup_steps": 0,
        "clip_norm": 1.0,
    }
    return RewardTraining(**(fields | changed))


def ids_of(examples: Sequence[Example], max_tokens: int = 40) -> list[Pair]:
    return read_pairs(TextCodec(word_tokenizer(), "hh", max_tokens), examples, max_tokens)


def reward_trainer(model: Any, pairs: int, **changed: Any) -> RewardTrainer:
    training = reward_training(**changed)
    scorer = Scorer(model, training.tokens_per_forward, training.gradient_checkpointing)
    return RewardTrainer(scorer, training, pairs)
