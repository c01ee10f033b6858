"""The full comparison's protocol: its arithmetic, and that what it names is there."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from grao_bench.reporting.gather.comparisons import MARGIN

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol_full_comparison.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d+) \| (\d+) \| ([\d.]+) \| (\d+)% \| ([\d.]+) \| (\d+)% \|$", re.MULTILINE)


def power(difference, sd, seeds, tests):
    """Of a two-sided t test paired over seeds, at 5% over the number of tests."""
    bar, shift = stats.t.ppf(1 - 0.025 / tests, seeds - 1), difference * math.sqrt(seeds) / sd
    beyond = stats.nct.sf(bar, seeds - 1, shift), stats.nct.cdf(-bar, seeds - 1, shift)
    return float(np.nan_to_num(beyond).sum())  # scipy has no number for a tail of 1e-16


def test_what_can_be_seen():
    rows = ROW.findall(TEXT)
    assert len(rows) == 9
    for row in rows:
        sd, seeds = int(row[0]), int(row[1])
        for tests, found, margin in ((1, row[2], row[3]), (12, row[4], row[5])):
            least, most = (power(float(found) + by, sd, seeds, tests) for by in (-0.06, 0.06))
            assert least < 0.8 < most
            assert 100 * power(3, sd, seeds, tests) == pytest.approx(int(margin), abs=0.51)


def test_family_1_has_as_many_tests_as_rivals():
    (line,) = re.findall(r"^\| 1, confirmatory.*$", TEXT, re.MULTILINE)
    _, _, methods, asked, tests, _ = (cell.strip() for cell in line.split("|"))
    own, *others = methods.split("; ")
    names = re.sub(r"\([^)]*\)", "", ", ".join(others)).split(",")
    assert (own, asked, len(names)) == ("grao", "`--against grao`", int(tests))


def test_the_margin_is_the_one_that_reports_use():
    assert MARGIN == 3
    assert f"± {MARGIN:g} points of RAS" in " ".join(TEXT.split())


def test_the_design_of_the_first_world():
    for seeds, found in ((20, 4.7), (10, 7.8)):
        assert power(found - 0.06, 5.1, seeds, 12) < 0.8 < power(found + 0.06, 5.1, seeds, 12)
        assert f"{found} " in TEXT


def test_what_it_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
    assert (ROOT / "tests" / "reporting" / "test_committed_results.py").exists()
