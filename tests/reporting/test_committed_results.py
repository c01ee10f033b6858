"""Whoever changes records or reports: committed records give the committed tables, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from grao_bench.report import main

RESULTS = Path(__file__).parents[2] / "results"
WITH_RECORDS = sorted({path.relative_to(RESULTS).parts[0] for path in RESULTS.rglob("run.json")})


@pytest.mark.parametrize("name", WITH_RECORDS)
def test_the_committed_records_give_the_committed_tables(name, tmp_path):
    assert main([str(RESULTS / name), "--output", str(tmp_path)]) == 0
    committed = [path for path in (RESULTS / name / "tables").iterdir() if path.is_file()]
    assert len(committed) >= 2
    for path in (RESULTS / name / "tables.md", RESULTS / name / "tables.csv", *committed):
        made = tmp_path / path.relative_to(RESULTS / name)
        assert made.read_bytes() == path.read_bytes(), path


def test_laptop_has_its_records():
    assert "laptop" in WITH_RECORDS
