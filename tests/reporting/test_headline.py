"""The first words of a report: a lead is claimed where the paired test shows one, and nowhere else."""

from __future__ import annotations

from grao_bench.records import find_runs, find_unfinished
from grao_bench.reporting.cells import gather
from grao_bench.reporting.headline import findings
from grao_bench.reporting.tables import main_tables, score

from .records import HELPFUL, share, write_run, write_unfinished

KEY = (HELPFUL, "gold")


def finding(root, **by_seed):
    write_run(root, "base", {KEY: share(20)}, config_hash="00000000")
    for objective, values in by_seed.items():
        for seed, value in enumerate(values):
            write_run(root, objective, {KEY: share(value)}, seed=seed)
    cells = gather(find_runs(root), find_unfinished(root))
    (found,) = findings(main_tables(score(cells, "loss"), "loss"))
    return found


def test_a_lead_is_said_with_its_size_and_interval(tmp_path):
    found = finding(tmp_path, grao=(80, 82, 84), sft=(50, 51, 55))  # differences 30, 31, 29: 30 +- 4.303 * 1 / sqrt(3)
    assert found.verdict == "grao leads"
    assert "82.0% over 3 seeds" in found.text
    assert "sft: 30.0 points [27.5, 32.5], p < 0.001" in found.text
    assert "The base has 20.0%." in found.text


def test_a_higher_mean_alone_is_no_lead(tmp_path):
    found = finding(tmp_path, grpo=(60, 70, 80), grao=(64, 62, 75), sft=(30, 40, 51))
    assert found.verdict == "No method is shown to lead"
    assert "not shown to differ from grao: 3.0 points" in found.text
    assert "It is ahead of sft." in found.text
    assert "GRAO has 67.0%" in found.text


def test_one_seed_claims_nothing(tmp_path):
    found = finding(tmp_path, grao=(90,), sft=(10,))
    assert found.verdict == "No difference can be tested"
    assert "with one seed" in found.text
    assert "sft: 80.0 points" in found.text


def test_one_method_and_a_failed_one(tmp_path):
    write_unfinished(tmp_path, "ppo", "MemoryError")
    found = finding(tmp_path, sft=(30, 40))
    assert found.verdict == "One method, nothing to compare it with"
    assert "sft has 35.0%" in found.text
    assert "No result for ppo" in found.text
