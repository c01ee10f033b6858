"""Scores from evaluation records. Every score is the mean of one per-prompt column, so an interval needs nothing but the column.

All in percent but `reward` (the source's own unit) and `length` (tokens). R is the verdict against the reference: +1, 0, -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from grao_bench.errors import UserError
from grao_bench.records import EvalRecord

Ties = Literal["loss", "win", "half"]

TIE_CREDIT: dict[Ties, float] = {"loss": 0.0, "win": 1.0, "half": 0.5}
"""What a tie counts for in RAS. "loss" is the paper's formula, 1[R > 0]; its appendix speaks of "combined win and tie rates"."""


def per_prompt(records: Sequence[EvalRecord], base: Sequence[EvalRecord] | None = None, ties: Ties = "loss") -> pd.DataFrame:
    """One row per prompt (index: example id), one column per score; a score is its column's mean.

    ras                win + credit * tie, credit by `ties` (paper, section "metrics": RAS = mean 1[R > 0])
    win, tie, loss     shares of R > 0, R = 0, R < 0
    reward, length     the source's own number; tokens of the answer
    truncated          share of answers without an end token
    nag_mean           R_post - R_pre: what the paper's NAG column holds, range +-200; without ties it is 2 (RAS - RAS_base)
    nag_net            sign(R_post - R_pre), range +-100
    nag_win            1[R_post > R_pre], the formula as the paper prints it, range 0..100

    The three NAG columns are there only when `base` (the base model's records of the same prompts) is given. Raises UserError
    when an id comes twice, or when the two sets of ids differ.
    """
    verdict = _verdicts(records, "these records")
    frame = pd.DataFrame({"win": 100.0 * (verdict > 0), "tie": 100.0 * (verdict == 0), "loss": 100.0 * (verdict < 0)})
    frame.insert(0, "ras", frame["win"] + TIE_CREDIT[ties] * frame["tie"])
    frame["reward"] = [float(record.reward) for record in records]
    frame["length"] = [float(record.num_tokens) for record in records]
    frame["truncated"] = [0.0 if record.finished else 100.0 for record in records]
    if base is not None:
        gain = verdict - _base_verdicts(verdict, base)
        frame["nag_mean"] = 100.0 * gain
        frame["nag_net"] = 100.0 * np.sign(gain)
        frame["nag_win"] = 100.0 * (gain > 0)
    return frame


def scores(records: Sequence[EvalRecord], base: Sequence[EvalRecord] | None = None, ties: Ties = "loss") -> dict[str, float]:
    """The scores of one run on one set: the means of `per_prompt`'s columns."""
    return {str(name): float(value) for name, value in per_prompt(records, base, ties).mean().items()}


def _verdicts(records: Sequence[EvalRecord], what: str) -> pd.Series:
    verdict = pd.Series([float(record.verdict) for record in records], index=[record.example_id for record in records])
    if not verdict.index.is_unique:
        twice = verdict.index[verdict.index.duplicated()][0]
        raise UserError(f"example {twice!r} is in {what} twice; evaluate again, one answer per prompt")
    return verdict


def _base_verdicts(verdict: pd.Series, base: Sequence[EvalRecord]) -> pd.Series:
    pre = _verdicts(base, "the base's records")
    strangers = verdict.index.symmetric_difference(pre.index)
    if len(strangers):
        raise UserError(
            f"{len(strangers)} prompts (such as {strangers[0]!r}) were answered by only one of the run and its base; "
            "evaluate both on the same set"
        )
    return pre.reindex(verdict.index)
