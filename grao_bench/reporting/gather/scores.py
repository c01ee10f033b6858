"""Scores from evaluation records. Every score is the mean of one per-prompt column, so an interval
needs nothing but the column.

All in percent but `reward` (the source's own unit) and lengths (tokens). R is the verdict against
the reference: +1, 0, -1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special

from grao_bench.core.errors import UserError
from grao_bench.core.records import EvalRecord, judged, repetition_of

Ties = Literal["loss", "win", "half"]

TIE_CREDIT: dict[Ties, float] = {"loss": 0.0, "win": 1.0, "half": 0.5}
"""What a tie counts for in RAS. "loss" is the paper's formula, 1[R > 0]; its appendix speaks of
"combined win and tie rates"."""

Floats = NDArray[np.float64]


def per_prompt(
    records: Sequence[EvalRecord],
    base: Sequence[EvalRecord] | None = None,
    ties: Ties = "loss",
) -> pd.DataFrame:
    """One row per prompt (index: cluster, example_id), one column per score, each the mean over the
    prompt's answers; a score is its column's mean. The columns, and what is raised: `per_answer`.

    nag_mean is so the difference of two means over draws, the run's and the base's. Prompts of one
    cluster don't vary independently, nor do the answers to one prompt, nor two seeds' scores on it:
    the rows of one cluster are resampled together, of all seeds at once (`intervals`).
    """
    return (
        per_answer(records, base, ties).groupby(level=["cluster", "example_id"], sort=False).mean()
    )


def per_answer(
    records: Sequence[EvalRecord],
    base: Sequence[EvalRecord] | None = None,
    ties: Ties = "loss",
) -> pd.DataFrame:
    """One row per answer (index: cluster, example_id, draw), one column per score.

    ras                win + credit * tie, credit by `ties` (paper, section "metrics": RAS =
                       mean 1[R > 0])
    win, tie, loss     shares of R > 0, R = 0, R < 0
    reward, length     the source's own number; tokens of the answer
    truncated          share of answers without an end token
    nag_mean           R_post - R_pre: what the paper's NAG column holds, range +-200; without ties
                       it is 2 (RAS - RAS_base). R_pre is the mean over the base's answers to the
                       prompt
    nag_net            sign(R_post - R_pre), range +-100; R_pre is the base's answer of the same
                       draw, which shares its random numbers (nan where it has none)
    nag_win            1[R_post > R_pre], the formula as the paper prints it, range 0..100; likewise
    reference_length   tokens of the reference
    correct            share of answers that are right by the source's own rule
    ras_lc             RAS with the effect of length taken out: see `length_controlled`
    distinct_1, distinct_2, repetition    how far an answer repeats itself, percent: see
                       `records.repetition_of`

    A prompt's cluster is its own id where its set names none. Of a set without references only
    reward, length, truncated, correct and the repetition are there; where some prompts have one,
    every column is over those (`compared`). The three NAG columns are there only when `base` (the
    base model's records of the same prompts) is given; the last six only where all records have
    what they need. Raises UserError when an answer comes twice, or when the two sets of ids differ.
    """
    records, base = judged_in_both(compared(records), base and compared(base))
    verdict = _verdicts(records, "these records")
    if verdict.isna().any():
        return _absolute(records, verdict.index).assign(**_repetition(records))
    frame = pd.DataFrame(
        {"win": 100.0 * (verdict > 0), "tie": 100.0 * (verdict == 0), "loss": 100.0 * (verdict < 0)}
    )
    frame.insert(0, "ras", frame["win"] + TIE_CREDIT[ties] * frame["tie"])
    frame = frame.join(_absolute(records, verdict.index))
    if base is not None:
        frame = frame.assign(**_gains(verdict, base))
    tokens = [record.reference_tokens for record in records]
    if None not in tokens:
        frame["reference_length"] = np.array(tokens, dtype=float)
    difference = length_difference(records)
    if difference is not None:
        frame["ras_lc"] = _controlled(verdict, frame["ras"], difference)
    return frame.assign(**_repetition(records))


def _controlled(verdict: pd.Series, ras: pd.Series, difference: np.ndarray) -> np.ndarray:
    """RAS with length controlled; a prompt's answers together weigh as one."""
    draws = verdict.groupby(level="example_id").transform("size").to_numpy(dtype=float)
    return 100.0 * length_controlled(ras.to_numpy() / 100.0, difference, 1.0 / draws)


def answer_error(frame: pd.DataFrame) -> pd.Series:
    """Of each column of a `per_answer` frame, the standard error of its mean over prompts that
    comes from drawing a few answers to each, the prompts given: sqrt(sum_p s_p^2 / n_p) / P, with
    the sample variance s_p^2 over a prompt's n_p answers. nan where a prompt has one answer."""
    by_prompt = frame.groupby(level=["cluster", "example_id"], sort=False)
    squared: pd.DataFrame = by_prompt.var(ddof=1).div(by_prompt.size(), axis=0)
    return squared.sum(skipna=False).pow(0.5) / len(squared)


def compared(records: Sequence[EvalRecord]) -> Sequence[EvalRecord]:
    """The records of prompts that have a reference; all of them where none has."""
    return [record for record in records if record.verdict is not None] or records


def without_reference(records: Sequence[EvalRecord]) -> int:
    """How many prompts have no reference."""
    return len({record.example_id for record in records if record.verdict is None})


def _absolute(records: Sequence[EvalRecord], index: pd.Index) -> pd.DataFrame:
    """The columns that need no reference, but the repetition."""
    columns = {
        "reward": [float(record.reward) for record in records],
        "length": [float(record.num_tokens) for record in records],
        "truncated": [0.0 if record.finished else 100.0 for record in records],
    }
    right = [record.correct for record in records]
    if None not in right:
        columns["correct"] = [100.0 * bool(one) for one in right]
    return pd.DataFrame(columns, index=index)


def _gains(verdict: pd.Series, base: Sequence[EvalRecord]) -> dict[str, pd.Series]:
    """The NAG columns."""
    pre = _verdicts(base, "the base's records")
    ids, theirs = (one.index.get_level_values("example_id") for one in (verdict, pre))
    strangers = ids.unique().symmetric_difference(theirs.unique())
    if len(strangers):
        raise UserError(
            f"{len(strangers)} prompts (such as {strangers[0]!r}) were answered by only one of the"
            " run and its base; "
            "evaluate both on the same set"
        )
    mean = pre.groupby(level="example_id").mean().reindex(ids).to_numpy()
    draws, of_base = (one.index.get_level_values("draw") for one in (verdict, pre))
    said = dict(zip(zip(theirs, of_base, strict=True), pre, strict=True))
    same = [said.get(key, math.nan) for key in zip(ids, draws, strict=True)]
    gain = verdict - same
    return {
        "nag_mean": 100.0 * (verdict - mean),
        "nag_net": 100.0 * np.sign(gain),
        "nag_win": (100.0 * (gain > 0)).where(gain.notna()),
    }


def scores(
    records: Sequence[EvalRecord], base: Sequence[EvalRecord] | None = None, ties: Ties = "loss"
) -> dict[str, float]:
    """The scores of one run on one set: the means of `per_prompt`'s columns."""
    return {
        str(name): float(value) for name, value in per_prompt(records, base, ties).mean().items()
    }


def reward_statistics(records: Sequence[EvalRecord]) -> dict[str, float]:
    """The reward's distribution over the prompts, each the mean over its answers, in the source's
    own unit: mean, variance (sample), minimum, quartiles, maximum."""
    by_prompt: dict[str, list[float]] = {}
    for record in judged(records):
        by_prompt.setdefault(record.example_id, []).append(record.reward)
    values = np.array([np.mean(rewards) for rewards in by_prompt.values()], dtype=float)
    low, q1, median, q3, high = np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])
    variance = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    named = {
        "mean": values.mean(),
        "variance": variance,
        "min": low,
        "q1": q1,
        "median": median,
        "q3": q3,
        "max": high,
    }
    return {name: float(value) for name, value in named.items()}


def length_difference(records: Sequence[EvalRecord]) -> Floats | None:
    """Answer's length minus reference's, per record: in tokens where all records know both, else in
    words of the texts, else None."""
    tokens = [
        record.num_tokens - record.reference_tokens
        for record in records
        if record.reference_tokens is not None
    ]
    if len(tokens) == len(records):
        return np.array(tokens, dtype=float)
    if all(record.reference for record in records):
        return np.array(
            [len(record.answer.split()) - len(record.reference.split()) for record in records],
            dtype=float,
        )
    return None


def length_controlled(win: Floats, difference: Floats, weights: Floats | None = None) -> Floats:
    """A column [answers] whose mean is the length-controlled win rate: the share won if every
    answer were as long as its reference.

    win: credit per answer, 0..1. difference: length of the answer minus that of the reference, in
    any unit. weights: of each answer; where a prompt has several, one over their number, and the
    column's mean is one over means per prompt. As AlpacaEval 2 LC (Dubois et al. 2024, arXiv
    2404.04475, Eq. 2): a logistic regression of the win on x = tanh(difference / its standard
    deviation), logit p = theta + phi x, read at x = 0. Two departures: theirs has a term for each
    instruction's difficulty, which needs many models fitted together; and phi alone has a ridge,
    phi^2 / 2 beside the summed log-loss, so that x that separates wins from losses leaves it
    finite.

    The column is the win rate linearised in each answer's weight (infinitesimal jackknife), so its
    bootstrap or standard error is that of the whole fit. Where length has no effect it is `win`
    itself; also where all won, all lost or no length differs.
    """
    w = np.ones_like(win) if weights is None else weights
    spread = float(difference.std())
    if spread == 0.0 or win.min() == win.max():
        return win
    X = np.stack([np.ones_like(win), np.tanh(difference / spread)], axis=1)  # [prompts, 2]
    ridge = np.diag([0.0, 1.0])

    def loss(beta: Floats) -> float:
        z = X @ beta
        return float((w * (np.logaddexp(0.0, z) - win * z)).sum() + beta @ ridge @ beta / 2)

    def gradient(beta: Floats) -> Floats:
        return X.T @ (w * (special.expit(X @ beta) - win)) + ridge @ beta

    def hessian(beta: Floats) -> Floats:
        p = special.expit(X @ beta)
        return X.T @ (X * (w * p * (1.0 - p))[:, None]) + ridge

    # the solver reports a loss of precision where it can go no further; the gradient there is
    # checked in the tests
    beta = optimize.minimize(
        loss, np.zeros(2), method="trust-exact", jac=gradient, hess=hessian, options={"gtol": 1e-9}
    ).x
    rate = float(special.expit(beta[0]))
    pull = np.linalg.solve(hessian(beta), (X * (win - special.expit(X @ beta))[:, None]).T)[
        0
    ]  # d theta / d weight, [prompts]
    influence = w.sum() * rate * (1.0 - rate) * pull
    return rate + influence - (w * influence).sum() / w.sum()


def _repetition(records: Sequence[EvalRecord]) -> dict[str, Floats]:
    measured = [
        {
            "distinct_1": record.distinct_1,
            "distinct_2": record.distinct_2,
            "repetition": record.repetition,
        }
        if record.distinct_1 is not None
        else repetition_of(record.answer)
        for record in records
        if record.distinct_1 is not None or record.answer or record.reference
    ]
    if len(measured) < len(records):
        return {}
    return {
        name: 100.0 * np.array([one[name] for one in measured], dtype=float)
        for name in ("distinct_1", "distinct_2", "repetition")
    }


def judged_in_both(
    records: Sequence[EvalRecord], base: Sequence[EvalRecord] | None
) -> tuple[Sequence[EvalRecord], Sequence[EvalRecord] | None]:
    """Both without the answers that a judge could say nothing of in either, nor the prompts that
    then have none left in one of them. UserError where none is left."""
    lost = {(one.example_id, one.draw) for one in [*records, *(base or ())] if one.excluded}
    if not lost:
        return records, base
    both = [records] if base is None else [records, base]
    kept = [[one for one in side if (one.example_id, one.draw) not in lost] for side in both]
    touched = {example_id for example_id, _ in lost}
    left = set.intersection(*({one.example_id for one in side} for side in kept))
    kept = [
        [one for one in side if one.example_id in left or one.example_id not in touched]
        for side in kept
    ]
    if records and not kept[0]:
        what = "none of these answers has a verdict: the judge's replies can't be read"
        raise UserError(f"{what}, or the reward gave None for each; mend it, and evaluate again")
    return kept[0], None if base is None else kept[1]


def answer_index(records: Sequence[EvalRecord]) -> pd.MultiIndex:
    """(cluster, example_id, draw) of each record; a prompt without a cluster is one of its own."""
    return pd.MultiIndex.from_arrays(
        [
            [record.example_id if record.cluster is None else record.cluster for record in records],
            [record.example_id for record in records],
            [record.draw for record in records],
        ],
        names=["cluster", "example_id", "draw"],
    )


def _verdicts(records: Sequence[EvalRecord], what: str) -> pd.Series:
    index = answer_index(records)
    if not index.is_unique:
        _, example_id, draw = index[index.duplicated()][0]
        raise UserError(
            f"answer {draw} to example {example_id!r} is in {what} twice; evaluate again"
        )
    # None, of a prompt without a reference, becomes NaN
    return pd.Series([record.verdict for record in records], dtype=float, index=index)
