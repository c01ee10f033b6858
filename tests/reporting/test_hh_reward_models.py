"""The table of length-balanced reward models in results/hh_tiny: every cell from what their
training recorded, which lies beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HH = Path(__file__).parents[2] / "results" / "hh_tiny"
NAMES = sorted(path.stem for path in (HH / "reward_models").glob("*.json"))


def share(metrics: dict[str, float], name: str) -> str:
    value, low, high = (100 * metrics[f"test/{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def line(name: str) -> str:
    metrics = json.loads((HH / "reward_models" / f"{name}.json").read_text(encoding="utf-8"))
    cells = [
        name.replace("-", ", ", 1).replace("-balanced", ", **balanced**"),
        f"{metrics['pairs']}",
        share(metrics, "accuracy"),
        share(metrics, "over_length_rule"),
        share(metrics, "over_bag_of_words"),
        share(metrics, "length_balanced"),
        f"{metrics['test/length_correlation']:+.2f}",
        f"{metrics['test/length_slope']:+.3f}",
    ]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_what_was_recorded(name):
    assert line(name) in (HH / "README.md").read_text(encoding="utf-8")


def test_the_balanced_ones_were_balanced():
    """Of the others no pair was left out; and each has one that was not, from the same pairs."""
    assert len(NAMES) >= 4
    for name in NAMES:
        assert name.removesuffix("-balanced") in NAMES
        metrics = json.loads((HH / "reward_models" / f"{name}.json").read_text(encoding="utf-8"))
        assert (metrics["pairs_balanced_away"] > 0) == name.endswith("balanced")
        assert metrics["test/prefers_longer"] == float(name.startswith("helpful"))
