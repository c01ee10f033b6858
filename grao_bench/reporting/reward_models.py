"""What the reward models behind a table are worth on held-out pairs: a score says no more than the
model that gives it, and one that is no better than a rule of length says how long answers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

import pandas as pd

from grao_bench.pair_accuracy import PairAccuracy, Share
from grao_bench.records import Run
from grao_bench.reporting.sheets import NONE, Grid, Sheet

TRAINING = "training"
FOLLOWS = 0.3
"""A correlation of margins and length differences beyond this, with its whole interval: a scorer of
length first of all. Those of the first reward models on HH-RLHF were +0.52, +0.53, -0.58, -0.46."""

COLUMNS = (
    "for",
    "reward model",
    "pairs",
    "right %",
    "length rule %",
    "more than it",
    "correlation with length",
    "right %, length balanced",
    "bag of words %",
    "more than these",
)
NOTES = (
    "right: the share of held-out pairs whose chosen answer scores higher [95% Wilson interval]; pairs are taken as independent",
    "length rule: prefer the longer answer, or the shorter one, whichever is right more often on"
    " the training pairs; more than it: the paired difference in points [95%, Newcombe]",
    "correlation with length: of margins with how much longer the chosen answer is [95%, Fisher]",
    "length balanced: pairs whose chosen answer is the longer one and those where it is the shorter"
    " one weigh alike, so that a rule of length has 50%",
)


def accuracies(runs: Iterable[Run], judge: str) -> dict[str, PairAccuracy]:
    """Of the reward models that these runs were trained by, and that judged the evaluation `judge`
    ("<set>/<reward>"): by what they were asked for and their name. A folder that does not say, as
    of other judges, is left out."""
    found: dict[tuple[str, PairAccuracy], dict[str, None]] = {}
    for run in runs:
        for purpose, verb in ((TRAINING, "trained"), (judge, "judged")):
            for name, counts in run.info.judges.get(purpose, {}).items():
                if counts.pair_accuracy is not None:
                    found.setdefault((name, counts.pair_accuracy), {})[verb] = None
    said = {key: " and ".join(verbs).capitalize() for key, verbs in found.items()}
    return {f"{verb} by {name}": one for (name, one), verb in said.items()}


def shortfall(found: Iterable[PairAccuracy], rule: str) -> float:
    """By how many points a reward model may be under a rule ("length_rule", "bag_of_words"), the
    worst of them: above 0 where it is not shown to be better. NaN where none was measured."""
    over: list[Share | None] = [getattr(one, f"over_{rule}") for one in found]
    return max((-100 * one.low for one in over if one is not None), default=float("nan"))


def warnings(found: Mapping[str, PairAccuracy]) -> list[str]:
    """A sentence, without its full stop, for each reward model that is not shown to be better than
    a rule of length, or than a bag of words."""
    return [text for what, one in found.items() if (text := _warning(what, one))]


def reward_models(runs: Sequence[Run]) -> Sheet | None:
    """A line for each reward model behind these runs; None where no folder says how its model does
    on held-out pairs."""
    texts: dict[tuple[str, ...], None] = {}
    lines = []
    folders = []
    for run in runs:
        for purpose, counts in run.info.judges.items():
            for name, one in counts.items():
                if one.pair_accuracy is None:
                    continue
                of = f"{purpose} on {run.info.data}" if purpose == TRAINING else purpose
                row = (of, name, *_cells(one.pair_accuracy))
                if row not in texts:
                    texts[row] = None
                    lines.append({"for": of, "reward_model": name} | _numbers(one.pair_accuracy))
                    folders.append((run.folder,))
    if not texts:
        return None
    return Sheet(
        "reward_models",
        "The reward models, on pairs that they were not trained on",
        Grid(COLUMNS, tuple(texts)),
        pd.DataFrame(lines),
        NOTES,
        tuple(folders),
    )


def _warning(what: str, one: PairAccuracy) -> str:
    longer = "longer" if one.prefers_longer else "shorter"
    rivals = (
        (f"a length rule, the {longer} answer", one.length_rule, one.over_length_rule),
        ("a bag of words", one.bag_of_words, one.over_bag_of_words),
    )
    level = [
        f"{'is not shown to be' if over.value > 0 else 'is no'} better than {name} ({_right(share)}, difference {_interval(over)} points)"
        for name, share, over in rivals
        if share is not None and over is not None and over.low <= 0
    ]
    if not level:
        return ""
    text = f"{what}: this reward model ({_right(one.accuracy)} of {one.pairs} held-out pairs)"
    text = f"{text} {' and '.join(level)}"
    if one.over_length_rule.low <= 0 and _follows_length(one):
        assert one.length_correlation is not None, "it follows it"
        how = f"its margins correlate {one.length_correlation.value:+.2f}"
        return f"{text}; {how} with the length difference: scores under it say how long answers are"
    return text


def _follows_length(one: PairAccuracy) -> bool:
    """Whether its margins go with the length, in the direction of the rule, beyond doubt."""
    if one.length_correlation is None:
        return False
    r = one.length_correlation
    return r.low > FOLLOWS if one.prefers_longer else r.high < -FOLLOWS


def _cells(one: PairAccuracy) -> tuple[str, ...]:
    longer = "longer" if one.prefers_longer else "shorter"
    return (
        f"{one.pairs} ({one.split})",
        _interval(one.accuracy),
        f"{longer}: {_interval(one.length_rule)}",
        _interval(one.over_length_rule),
        _correlation(one.length_correlation),
        _interval(one.length_balanced),
        _interval(one.bag_of_words),
        _interval(one.over_bag_of_words),
    )


def _numbers(one: PairAccuracy) -> dict[str, object]:
    found: dict[str, object] = {"split": one.split, "pairs": one.pairs}
    for item in fields(one):
        share = getattr(one, item.name)
        if isinstance(share, Share):
            found |= {item.name: share.value, f"{item.name}_low": share.low}
            found[f"{item.name}_high"] = share.high
        elif item.name == "prefers_longer":
            found[item.name] = share
    return found


def _interval(share: Share | None) -> str:
    if share is None:
        return NONE
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _correlation(r: Share | None) -> str:
    return NONE if r is None else f"{r.value:+.2f} [{r.low:+.2f}, {r.high:+.2f}]"


def _right(share: Share) -> str:
    return f"right in {_percent(share.value)}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"
