"""The first words of a report: a lead is claimed where the paired test shows one, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import find_runs, find_unfinished
from grao_bench.core.records import StepRecord
from grao_bench.report import build_report
from grao_bench.reporting.gather.families import Questions
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.page.headline import findings
from grao_bench.reporting.tables.choice import main_tables

from .records import HELPFUL, evaluation, share, write_run, write_unfinished

KEY = (HELPFUL, "gold")
SIZE = "sft: 30.0 points [21.2, 38.8], p < 0.001"
"""Of 100 prompts the mean difference is 1 on 25 and 0.2 to 0.8 on nine: of 0.3, of squares 0.2832;
1.99 * sqrt((0.2832 - 0.09) / 99) = 8.8 points, which is wider than 2.78 / sqrt(5), over seeds."""


def finding(root, **by_seed):
    write_run(root, "base", {KEY: share(20)}, config_hash="00000000")
    for objective, values in by_seed.items():
        for seed, value in enumerate(values):
            write_run(root, objective, {KEY: share(value)}, seed=seed)
    cells = gather(find_runs(root), find_unfinished(root))
    (found,) = findings(main_tables(score(cells, "loss"), "loss"))
    return found


def test_a_lead_is_said_with_its_size_and_interval(tmp_path):
    found = finding(tmp_path, grao=(80, 82, 84, 81, 83), sft=(50, 51, 55, 52, 52))  # differences 30 31 29 29 31
    assert found.verdict == "grao leads"
    assert "82.0% over 5 seeds, [73" in found.text  # 100 prompts: 1.96 * sqrt(0.82 * 0.18 / 100) = 7.5
    assert SIZE in found.text
    assert "Adjusted for 1 test, a true difference of 1" in found.text  # about (1.98 + 0.84) 4.6 = 13
    assert "The base has 20.0%." in found.text


def test_a_higher_mean_alone_is_no_lead(tmp_path):
    found = finding(tmp_path, grpo=(60, 70, 80, 65, 75), grao=(64, 62, 75, 68, 66), sft=(30, 40, 51, 35, 40))
    assert found.verdict == "No method is shown to lead"
    assert "not shown to differ from grao: 3.0 points" in found.text
    assert "It is ahead of sft: 30.8 points [" in found.text
    assert "GRAO has 67.0%" in found.text


def test_one_seed_claims_nothing(tmp_path):
    found = finding(tmp_path, grao=(90,), sft=(10,))
    assert found.verdict == "Too few seeds to compare any two methods"
    assert found.text.startswith("A sentence takes 5 seeds of two methods; seeds: sft (1), grao (1).")
    assert "90" not in found.text


def test_a_method_with_few_seeds_is_in_no_sentence_but_one(tmp_path):
    found = finding(tmp_path, grao=(80, 82, 84, 81, 83), sft=(50, 51, 55, 52, 52), dpo=(99, 98, 99))
    assert found.verdict == "grao leads among those with 5 seeds"
    assert "In no sentence, with fewer than 5 seeds: dpo (3)." in found.text
    assert found.text.count("dpo") == 1


def test_level_is_said_where_it_is_shown_and_nowhere_else(tmp_path):
    found = finding(tmp_path / "level", grao=(50, 51, 50, 51, 50), grpo=(51, 50, 50, 50, 51))  # -1 1 0 1 -1
    assert found.verdict == "The methods are level"
    # 60 prompts that differ by chance alone: the difference is as small, and can't be shown to be
    for seed in range(5):
        random = np.random.default_rng(seed)
        for name in ("grao", "grpo"):
            drawn = evaluation((2.0 * (random.random(60) < 0.5) - 1).tolist())
            write_run(tmp_path / "open", name, {KEY: drawn}, seed=seed)
    found = found_in(tmp_path / "open")
    assert found.verdict == "No method is shown to lead"
    assert "level" not in found.text
    assert "not shown to differ" in found.text


def test_what_was_not_asked_is_said_and_what_follows_is_known(tmp_path):
    """ppo is ahead of grpo and grpo of sft: so ppo of sft, which nobody asked."""
    five = {"sft": (20, 21, 22, 20, 21), "grpo": (50, 51, 52, 50, 51), "ppo": (90, 91, 92, 90, 91), "dpo": (89, 91, 92, 90, 90)}
    found = finding(tmp_path, **five)
    assert "It is ahead of grpo: 40.0 points [" in found.text
    assert "and sft." in found.text
    assert "No test was asked for against dpo." in found.text
    assert found.verdict == "No method is shown to lead"


def test_seeds_in_two_groups_are_said(tmp_path):
    found = finding(tmp_path, ppo=(7, 83, 67, 89, 6), sft=(30, 31, 32, 30, 31))
    assert "The seeds of ppo fall into two groups." in found.text


def test_one_method_and_a_failed_one(tmp_path):
    write_unfinished(tmp_path, "ppo", "MemoryError")
    found = finding(tmp_path, sft=(30, 40))
    assert found.verdict == "One method, nothing to compare it with"
    assert "sft has 35.0%" in found.text
    assert "No result for ppo" in found.text


def lead(root, **runs):
    """GRAO 30 points ahead of SFT over 5 seeds, shown by the test; `runs`: each run's own."""
    write_run(root, "base", {KEY: share(20)}, config_hash="00000000")
    for objective, values in (("grao", (80, 82, 84, 81, 83)), ("sft", (50, 51, 55, 52, 52))):
        for seed, value in enumerate(values):
            own = {key: values[objective] for key, values in runs.items()}
            write_run(root, objective, {KEY: share(value)}, seed=seed, **own)
    return root


def found_in(root):
    (found,) = findings(tables_of(root))
    return found


def tables_of(root):
    return main_tables(score(gather(find_runs(root), {}), "loss"), "loss")


def ranks_nothing(found):
    claims = ("leads", "ahead of", "shown to be behind")
    said = any(claim in found.verdict + found.text for claim in claims)
    return found.verdict == "The scores rank no objective" and not said


def test_rates_that_differ_between_the_rows_rank_no_objective(tmp_path):
    same = {name: {"optimizer": {"lr": 0.001}} for name in ("grao", "sft")}
    assert found_in(lead(tmp_path / "same", config=same)).verdict == "grao leads"
    other = same | {"sft": {"optimizer": {"lr": 0.004}}}
    found = found_in(lead(tmp_path / "other", config=other))
    assert ranks_nothing(found)
    assert "Against a ranking: optimizer.lr differs between rows: sft 0.004, grao 0.001." in found.text
    assert SIZE in found.text  # the numbers are still said


def test_rates_that_were_tuned_by_one_rule_may_differ_and_are_said(tmp_path):
    root = lead(tmp_path, config={"grao": {"optimizer": {"lr": 0.001}}, "sft": {"optimizer": {"lr": 0.004}}})
    (found,) = findings(tables_of(root), questions=Questions(tuned=("optimizer.lr",)))
    assert found.verdict == "grao leads"
    assert "Said to be tuned for each by one rule: optimizer.lr differs between rows: sft 0.004, grao 0.001." in found.text
    (found,) = findings(tables_of(root), questions=Questions(tuned=("budget.steps",)))
    assert ranks_nothing(found)


def test_the_objectives_own_settings_are_what_is_compared(tmp_path):
    own = {"grao": {"objective": {"beta": 0.3}}, "sft": {"objective": {"length": 1}}}
    assert found_in(lead(tmp_path, config=own)).verdict == "grao leads"


def test_an_alarm_on_either_row_ranks_no_objective(tmp_path):
    silent = [StepRecord(1, {"groups_without_signal": 0.75}, 1, 8, 9, 9)]
    for alarmed, quiet in (("grao", "sft"), ("sft", "grao")):
        root = lead(tmp_path / alarmed, steps={alarmed: silent, quiet: []})
        found = found_in(root)
        assert ranks_nothing(found)
        assert f"alarms on {alarmed} (75% of groups without signal (5 of 5 seeds))" in found.text


def test_grao_behind_is_no_verdict_on_it_where_the_rates_differ(tmp_path):
    for name, lr in (("grpo", 0.0005), ("grao", 0.000125)):
        for seed, value in enumerate((80, 82, 84, 81, 83) if name == "grpo" else (50, 51, 55, 52, 52)):
            config = {"optimizer": {"lr": lr}}
            write_run(tmp_path, name, {KEY: share(value)}, seed=seed, config=config)
    found = found_in(tmp_path)
    assert ranks_nothing(found)
    assert f"GRAO has 52.0%, grpo minus grao{SIZE[3:]}." in found.text


def test_a_caveat_stands_on_top_of_page_and_tables_and_ranks_no_objective(tmp_path):
    root = lead(tmp_path / "runs")
    assert '<p class="verdict">grao leads</p>' in build_report(root).page.read_text()
    (root / "caveat.txt").write_text("The judge pays\nfor <manners>.\n")
    report = build_report(root, tmp_path / "out", records=True)
    page = report.page.read_text()
    caveat = page.index("The judge pays for &lt;manners&gt;.")
    assert page.index('<section id="headline">') < caveat < page.index('<p class="verdict">')
    assert "leads" not in page[caveat : page.index("<nav")]
    text = report.tables.read_text()
    head, said = "## What this shows", "**Caveat.** The judge pays for <manners>."
    assert text.index(head) < text.index(said)
    assert "**The scores rank no objective.** Against a ranking: the caveat above." in text
    assert report.brief.startswith("Caveat: The judge pays for <manners>.")
    # it lies with the copied records too: a report on them can't lose it
    again = build_report(tmp_path / "out", tmp_path / "again").tables.read_text()
    assert again.splitlines()[1:] == text.splitlines()[1:]  # the first names the folder


def test_a_caveat_that_is_no_text_is_one_clear_line(tmp_path):
    (lead(tmp_path) / "caveat.txt").write_bytes(b"\xff\xfe")
    message = r"caveat.txt: cannot be read as text .*; mend or remove it"
    with pytest.raises(UserError, match=message):
        build_report(tmp_path)
