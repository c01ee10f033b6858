"""Whoever changes records or reports: committed records give the committed tables, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from grao_bench.report import main

RESULTS = Path(__file__).parents[2] / "results"
WITH_RECORDS = sorted({path.relative_to(RESULTS).parts[0] for path in RESULTS.rglob("run.json")})

TOLD = {"laptop": ("--tuned", "optimizer.lr")}
"""What each page was told, as the README beside it says."""


@pytest.mark.slow  # a minute of CPU; test_recomputed holds the numbers in make test
@pytest.mark.parametrize("name", WITH_RECORDS)
def test_the_committed_records_give_the_committed_tables(name, tmp_path):
    assert main([str(RESULTS / name), *TOLD.get(name, ()), "--output", str(tmp_path)]) == 0
    committed = [path for path in (RESULTS / name / "tables").iterdir() if path.is_file()]
    assert len(committed) >= 2
    for path in (RESULTS / name / "tables.md", RESULTS / name / "tables.csv", *committed):
        made = tmp_path / path.relative_to(RESULTS / name)
        assert made.read_bytes() == path.read_bytes(), path


def test_laptop_has_its_records():
    assert "laptop" in WITH_RECORDS
