"""What a gain over the base consists of: the reward's criteria, of a model's answers minus those of
its base, prompt by prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from grao_bench.core.records import Criteria, EvalRecord
from grao_bench.reporting.gather.scores import answer_index, judged_in_both

TOTAL, REST = "total", "rest"
FORMAL = ("form", "manners")
"""Kinds of criteria by which an answer can gain without saying anything that was asked for."""

PROMPTS = ["cluster", "example_id"]


def gains(
    records: Sequence[EvalRecord], base: Sequence[EvalRecord], criteria: Criteria
) -> pd.DataFrame:
    """One row per prompt (index: cluster, example_id): `total`, the mean over a model's answers
    minus that over its base's; each criterion likewise, weighted, in the order of `criteria.kinds`;
    and `rest`, what they leave of the total: clipping, and parts that have no kind.

    Criteria that neither said anything of are left out, and so are prompts of one of them alone.
    """
    ours, theirs = judged_in_both(records, base)
    return _difference(_means(ours, criteria, _parts), _means(theirs or (), criteria, _parts))


def room(base: Sequence[EvalRecord], criteria: Criteria) -> pd.DataFrame | None:
    """The same of the references: what they have over the base. None where their parts are not
    recorded. A total that is the reward itself is the sum of its criteria here."""
    told = [one for one in base if one.reference_parts is not None and not one.excluded]
    if not told:
        return None
    references = _means(told, criteria, lambda one: one.reference_parts or {})
    if criteria.total == "reward":
        references[TOTAL] = references.drop(columns=TOTAL).sum(axis=1)
    return _difference(references, _means(told, criteria, _parts))


def by_kind(frame: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """A frame of `gains` with the criteria of one kind summed: content, form and manners first."""
    named = [name for name in frame.columns if name not in (TOTAL, REST)]
    order = dict.fromkeys(("content", *FORMAL, *(kinds[name] for name in named)))
    found = {TOTAL: frame[TOTAL]}
    for kind in order:
        mine = [name for name in named if kinds[name] == kind]
        if mine:
            found[kind] = frame[mine].sum(axis=1)
    return pd.DataFrame(found | {REST: frame[REST]})


def formal_share(frame: pd.DataFrame, kinds: Mapping[str, str]) -> float:
    """Of what a model gained by the criteria that it gained by, how much it gained by form or
    manners, percent: the sum of positive mean gains of those kinds over that of all.

    nan where the total gain is not shown: it is less than two standard errors over clusters of
    prompts, or nothing.
    """
    total = frame[TOTAL]
    within = (total - total.mean()).groupby(level="cluster").sum()
    if len(within) < 2:
        return math.nan
    error = math.sqrt(len(within) / (len(within) - 1) * (within**2).sum()) / len(total)
    gained = frame.drop(columns=[TOTAL, REST]).mean().clip(lower=0.0)
    if total.mean() <= max(2.0 * error, 0.0) or not gained.sum() > 0.0:
        return math.nan
    formal = sum(value for name, value in gained.items() if kinds[str(name)] in FORMAL)
    return float(100.0 * formal / gained.sum())


def _parts(record: EvalRecord) -> Mapping[str, float]:
    return record.parts


def _means(
    records: Sequence[EvalRecord],
    criteria: Criteria,
    parts_of: Callable[[EvalRecord], Mapping[str, float]],
) -> pd.DataFrame:
    """The total and each criterion, weighted: means over a prompt's answers."""
    said = [parts_of(record) for record in records]
    columns = {
        TOTAL: [
            record.reward if criteria.total == "reward" else parts.get(criteria.total, math.nan)
            for record, parts in zip(records, said, strict=True)
        ]
    }
    for name in criteria.kinds:
        weight = criteria.weights.get(name, 1.0)
        columns[name] = [weight * parts.get(name, 0.0) for parts in said]
    frame = pd.DataFrame(columns, index=answer_index(records))
    return frame.groupby(level=PROMPTS, sort=False).mean()


def _difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    theirs = theirs.droplevel("cluster")
    both = ours[ours.index.get_level_values("example_id").isin(theirs.index)]
    other = theirs.reindex(both.index.get_level_values("example_id")).set_axis(both.index)
    silent = [
        name for name in both if name != TOTAL and not both[name].any() and not other[name].any()
    ]
    frame = (both - other).drop(columns=silent)
    frame[REST] = frame[TOTAL] - frame.drop(columns=TOTAL).sum(axis=1)
    return frame
