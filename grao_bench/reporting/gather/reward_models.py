"""What the reward models behind a table are worth on held-out pairs: a score says no more than the
model that gives it, and one that is no better than a rule of length says how long answers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from grao_bench.core.pair_accuracy import PairAccuracy, Share
from grao_bench.core.records import Run
from grao_bench.reporting.text import NONE

TRAINING = "training"

FOLLOWS = 0.3
"""A correlation of margins and length differences beyond this, with its whole interval: a scorer of
length first of all. Those of the first reward models on HH-RLHF were +0.52, +0.53, -0.58, -0.46."""


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


def _warning(what: str, one: PairAccuracy) -> str:
    longer = "longer" if one.prefers_longer else "shorter"
    rivals = (
        (f"a length rule, the {longer} answer", one.length_rule, one.over_length_rule),
        ("a bag of words", one.bag_of_words, one.over_bag_of_words),
    )
    level = [
        f"{'is not shown to be' if over.value > 0 else 'is no'} better than {name}"
        f" ({_right(share)}, difference {interval_text(over)} points)"
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


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _right(share: Share) -> str:
    return f"right in {_percent(share.value)}"


def interval_text(share: Share | None) -> str:
    if share is None:
        return NONE
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
