"""What a reward model is worth on pairs that it was not trained on, beside what it has to beat: a
rule of length alone, and a bag of words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grao_bench.core.pair_accuracy import PairAccuracy
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Example
from grao_bench.models.scorer import Scorer
from grao_bench.rewards.bag_of_words import fit_bag_of_words
from grao_bench.rewards.gold import JudgedData
from grao_bench.rewards.pair_metrics import measures, pair_accuracy, prefers_longer
from grao_bench.text.tokens import TextCodec
from grao_bench.training.bradley_terry import Pair, RewardTraining, pair_margins, read_pairs
from grao_bench.training.length_balance import longer_by

BASELINE_KEYS = ("accuracy", "ece", "length_correlation", "agreement_with_gold")
"""What is reported of the baseline, as bag_of_words_<key>."""


@dataclass(frozen=True)
class Rivals:
    """What a reward model has to beat: the rule of length (longer: prefer the longer answer, else
    the shorter), and the bag of words; None where it was not asked for."""

    longer: bool
    baseline: Any


def find_rivals(
    splits: Mapping[str, Sequence[Example]],
    train: Sequence[Example],
    baseline: bool,
) -> Rivals:
    """The rule of length from all training pairs; the baseline from those that are trained on,
    `train`, which may be balanced."""
    words = fit_bag_of_words(train, splits["dev"]) if baseline else None
    return Rivals(prefers_longer(longer_by(splits["train"])), words)


def held_out(
    split: str,
    told: tuple[Sequence[Example], Sequence[Pair]],
    scorer: Scorer,
    training: RewardTraining,
    rivals: Rivals,
    data: DataSpec,
) -> tuple[dict[str, float], PairAccuracy] | None:
    """The metrics of a split's pairs (`told_apart`), and how the model does there beside its
    rivals; None without pairs."""
    examples, pairs = told
    if not examples:
        return None
    margins = pair_margins(scorer, pairs, training.tokens_per_forward)
    found = measured(split, examples, margins, data)
    words = None
    if rivals.baseline is not None:
        words = rivals.baseline.margins(examples)
        found |= _of_baseline(measured(split, examples, words, data))
    beside = pair_accuracy(split, margins, longer_by(examples), rivals.longer, words)
    return found | _flat(beside), beside


def _flat(beside: PairAccuracy) -> dict[str, float]:
    """What metrics.json says of it: the shares with their intervals, by name."""
    shares = {name: one for name, one in asdict(beside).items() if isinstance(one, dict)}
    found = {
        f"{beside.split}/{name}{'' if end == 'value' else f'_{end}'}": value
        for name, share in shares.items()
        for end, value in share.items()
        if name != "length_correlation" or end != "value"  # which is there already
    }
    return found | {f"{beside.split}/prefers_longer": float(beside.prefers_longer)}


def told_apart(
    codec: TextCodec,
    examples: Sequence[Example],
    max_tokens: int,
) -> tuple[list[Example], list[Pair]]:
    """The examples whose answers the model can tell apart, and how it reads them."""
    pairs = read_pairs(codec, examples, max_tokens)
    both = [(one, pair) for one, pair in zip(examples, pairs, strict=True) if not pair.equal]
    return [one for one, _ in both], [pair for _, pair in both]


def _of_baseline(found: Mapping[str, float]) -> dict[str, float]:
    """Of a split's measures those that are reported of the baseline, under its name."""
    reported = {key: value for key, value in found.items() if key.split("/")[1] in BASELINE_KEYS}
    return {key.replace("/", "/bag_of_words_"): value for key, value in reported.items()}


def measured(
    split: str,
    pairs: Sequence[Example],
    margins: Any,
    data: DataSpec,
) -> dict[str, float]:
    """What the margins are worth on a split's pairs; with the gold judge where the set has one. A
    figure that can't be had is left out."""
    gold = None
    if isinstance(data, JudgedData):
        judge = data.judge()

        def worth(pair: Example, text: str) -> float:
            return judge.score(pair, text, True)[0]

        gold = [worth(e, e.reference) - worth(e, e.rejected or "") for e in pairs]
    found = measures(np.asarray(margins, dtype=float), longer_by(pairs), gold)
    return {f"{split}/{name}": value for name, value in found.items() if not math.isnan(value)}
