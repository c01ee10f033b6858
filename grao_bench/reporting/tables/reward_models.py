"""What the reward models behind the tables are worth, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from grao_bench.core.pair_accuracy import PairAccuracy, Share
from grao_bench.core.records import Run
from grao_bench.reporting.gather.reward_models import TRAINING, interval_text
from grao_bench.reporting.tables.sheets import Grid, Sheet
from grao_bench.reporting.text import NONE

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
    "right: the share of held-out pairs whose chosen answer scores higher [95% Wilson interval];"
    " pairs are taken as independent",
    "length rule: prefer the longer answer, or the shorter one, whichever is right more often on"
    " the training pairs; more than it: the paired difference in points [95%, Newcombe]",
    "correlation with length: of margins with how much longer the chosen answer is [95%, Fisher]",
    "length balanced: pairs whose chosen answer is the longer one and those where it is the shorter"
    " one weigh alike, so that a rule of length has 50%",
)


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


def _cells(one: PairAccuracy) -> tuple[str, ...]:
    longer = "longer" if one.prefers_longer else "shorter"
    return (
        f"{one.pairs} ({one.split})",
        interval_text(one.accuracy),
        f"{longer}: {interval_text(one.length_rule)}",
        interval_text(one.over_length_rule),
        _correlation(one.length_correlation),
        interval_text(one.length_balanced),
        interval_text(one.bag_of_words),
        interval_text(one.over_bag_of_words),
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


def _correlation(r: Share | None) -> str:
    return NONE if r is None else f"{r.value:+.2f} [{r.low:+.2f}, {r.high:+.2f}]"
