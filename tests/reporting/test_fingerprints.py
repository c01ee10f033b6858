"""The report refuses to put runs on other data, or from another base, into one table: it says which and why, and writes nothing."""

from __future__ import annotations

import pytest

from grao_bench.report import main

from .records import HELPFUL, evaluation, write_run

KEY = (HELPFUL, "gold")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("data", "data 'world_helpful'"),
        ("base", "the base of model 'tiny'"),
        (f"data/{HELPFUL}", "the test set of 'world_helpful'"),
        (f"reward/{HELPFUL}/gold", "the judge 'gold' of 'world_helpful'"),
    ],
)
def test_another_fingerprint_is_refused_before_anything_is_written(kind, what, tmp_path, capsys):
    """Also between two seeds of one configuration: the base was made anew, or the files changed, while its seeds ran."""
    one = write_run(tmp_path / "runs", "sft", {KEY: evaluation([1, -1])}, seed=0, fingerprints={kind: "1" * 64})
    two = write_run(tmp_path / "runs", "sft", {KEY: evaluation([1, -1])}, seed=1, fingerprints={kind: "2" * 64})
    assert main([str(tmp_path / "runs"), "--output", str(tmp_path / "report")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for text in (str(one), str(two), f"{what} differs", "11111111", "22222222", "cannot stand in one table; report on their folders apart"):
        assert text in line
    assert not [path for path in (tmp_path / "report").rglob("*") if path.is_file()]


def test_equal_fingerprints_stand_together(tmp_path, capsys):
    for seed in (0, 1):
        write_run(tmp_path / "runs", "sft", {KEY: evaluation([1, -1])}, seed=seed, fingerprints={"data": "1" * 64, "base": "2" * 64})
    assert main([str(tmp_path / "runs"), "--output", str(tmp_path / "report")]) == 0
    assert "| sft" in capsys.readouterr().out
