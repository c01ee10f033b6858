"""lm-eval's scores beside the base's, from record folders: differences by hand, what can't be compared says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from grao_bench.core.record_files import find_runs, find_unfinished
from grao_bench.core.records import TaskRecord
from grao_bench.report import build_report
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.tables.alignment_tax import alignment_tax

from .records import HELPFUL, share, write_run, write_unfinished

KEY = (HELPFUL, "gold")
SETTINGS = {"limit": None, "num_fewshot": None, "apply_chat_template": False, "seed": 0}
ACC = TaskRecord("quiz", "quiz", "acc", "none", 0.5, 0.05, True, 100, 2, SETTINGS, "f" * 64, "1.0", "0.4.9")
PERPLEXITY = replace(ACC, task="text", asked="text", metric="word_perplexity", value=20.0, stderr=None, higher_is_better=False)


def scored(*values, of=ACC):
    return [replace(of, value=value) for value in values]


def sheet_of(root):
    return alignment_tax(gather(find_runs(root), find_unfinished(root)))


def lines(sheet):
    found = [dict(zip(sheet.grid.header, row, strict=True)) for row in sheet.grid.rows]
    return {(line["task"], line["method"]): line for line in found}


@pytest.fixture
def base(tmp_path):
    """Two folders of one base, of which one has scores; another base's scores, which are not this one's."""
    write_run(tmp_path, "base", {KEY: share(20)}, config_hash="00000000", lm_eval=[ACC, PERPLEXITY])
    write_run(tmp_path, "base", {(HELPFUL, "other"): share(20)}, config_hash="00000001")
    more = {"model": "other", "config_hash": "00000002", "lm_eval": scored(0.9)}
    write_run(tmp_path, "base", {KEY: share(20)}, **more)
    return tmp_path


def test_the_difference_from_the_base_over_seeds(base):
    for seed, (acc, perplexity) in enumerate([(0.40, 22.0), (0.44, 21.0), (0.48, 26.0)]):
        write_run(base, "grao", {KEY: share(60)}, seed=seed, lm_eval=[*scored(acc), *scored(perplexity, of=PERPLEXITY)])
    write_run(base, "sft", {KEY: share(40)})  # never asked: no row
    sheet = sheet_of(base)
    found = lines(sheet)

    assert [*found] == [("quiz", "grao"), ("text", "grao")]
    quiz = found["quiz", "grao"]
    # sd 0.04; t(0.975, 2) = 4.3027, times 0.04 / sqrt 3 = 0.0994
    assert (quiz["score"], quiz["base"], quiz["minus base"]) == ("0.440 ± 0.040 [0.341, 0.539]", "0.500", "-0.060 ± 0.040 [-0.159, 0.039]")
    assert (quiz["metric"], quiz["better"], quiz["documents"], quiz["few-shot"], quiz["seeds"]) == ("acc", "higher", "100", "2", "3")
    # 2 1 6: mean 3, sd 2.6458, times 4.3027 / sqrt 3 = 6.572
    assert found["text", "grao"]["minus base"] == "3.000 ± 2.646 [-3.572, 9.572]"
    assert found["text", "grao"]["better"] == "lower"
    assert quiz["smallest detectable"] == "0.131"  # 3.264 sd at 3 seeds, from the noncentral t
    assert "notes" not in quiz, "nothing to say in any row"
    assert sheet.notes[-1] == "1 of 2 methods were asked no task"
    numbers = sheet.frame.set_index(["task", "method"]).loc["quiz", "grao"]
    assert numbers[["base", "minus_base", "minus_base_low", "seeds"]].tolist() == pytest.approx([0.5, -0.06, -0.159366, 3], abs=1e-6)


def test_one_seed_has_the_documents_interval_and_a_difference_without_one(base):
    write_run(base, "grao", {KEY: share(60)}, lm_eval=scored(0.4))
    (line,) = lines(sheet_of(base)).values()
    assert (line["score"], line["minus base"], line["seeds"]) == ("0.400 [0.302, 0.498]", "-0.100", "1 (documents only)")  # 1.96 x 0.05


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"fingerprint": "e" * 64}, {}),
        ({"settings": SETTINGS | {"limit": 10}}, {"asked with": "limit 10"}),
        ({"task_version": "2.0"}, {}),
        ({"filter": "strict"}, {"metric": "acc (strict)"}),
    ],
)
def test_what_was_asked_otherwise_is_not_compared(base, changed, shown):
    write_run(base, "grao", {KEY: share(60)}, lm_eval=[replace(ACC, value=0.4, **changed)])
    (line,) = lines(sheet_of(base)).values()
    assert line.items() >= shown.items()
    assert line["score"].startswith("0.400")
    assert {"base", "minus base"} & line.keys() == set(), "empty in every row"
    assert line["notes"] == "its base was not asked the same"


def test_one_task_asked_in_two_ways_has_two_rows_that_say_how(base):
    few = replace(ACC, value=0.3, settings=SETTINGS | {"num_fewshot": 5}, num_fewshot=5, fingerprint="5" * 64)
    write_run(base, "grao", {KEY: share(60)}, lm_eval=[*scored(0.4), few])
    rows = [dict(zip(sheet_of(base).grid.header, row, strict=True)) for row in sheet_of(base).grid.rows]
    assert [(row["few-shot"], row["score"][:5], row["minus base"]) for row in rows] == [("5", "0.300", "-"), ("2", "0.400", "-0.100")]
    assert [row["asked with"].split(", ")[1] for row in rows] == ["num_fewshot 5", "num_fewshot null"]


def test_a_group_is_compared_by_the_documents_of_its_tasks(tmp_path):
    def group(value, fingerprint="f"):
        part = replace(ACC, asked="all", fingerprint=fingerprint * 64, value=value)
        return [replace(part, task="all", fingerprint="", stderr=None), part, replace(part, task="quiz 2")]

    write_run(tmp_path, "base", {KEY: share(20)}, config_hash="00000000", lm_eval=group(0.5))
    write_run(tmp_path, "grao", {KEY: share(60)}, lm_eval=group(0.4))
    write_run(tmp_path, "sft", {KEY: share(60)}, lm_eval=group(0.4, "e"))
    differences = {(row["task"], row["method"]): row["minus base"] for row in lines(sheet_of(tmp_path)).values() if row["score"] != "-"}
    assert differences["all", "grao"] == "-0.100"
    rows = [dict(zip(sheet_of(tmp_path).grid.header, row, strict=True)) for row in sheet_of(tmp_path).grid.rows]
    sft = next(row for row in rows if row["method"] == "sft" and row["task"] == "all" and row["score"] != "-")
    assert (sft["minus base"], sft["notes"]) == ("-", "its base was not asked the same")


def test_a_failed_method_and_a_seed_that_was_not_asked_are_there(base):
    write_run(base, "grao", {KEY: share(60)}, seed=0, lm_eval=scored(0.4))
    write_run(base, "grao", {KEY: share(60)}, seed=1)
    write_unfinished(base, "ppo", "loss is not finite")
    found = lines(sheet_of(base))
    assert found["quiz", "ppo"]["notes"] == "seed 0 not finished: loss is not finite"
    assert (found["quiz", "ppo"]["score"], found["quiz", "ppo"]["seeds"]) == ("-", "-")
    assert found["quiz", "grao"]["notes"] == "seed 1 not asked"
    assert found["quiz", "grao"]["seeds"] == "1 (documents only)"


def test_it_stands_in_every_output_and_in_copied_records(base):
    assert sheet_of(base) is None, "the bases alone were asked"
    write_run(base, "grao", {KEY: share(60)}, lm_eval=scored(0.4))
    copy = base / "copy"
    report = build_report(base, copy, records=True)
    assert "## Alignment tax" in report.tables.read_text()
    assert 'id="table-alignment_tax"' in report.page.read_text()
    assert (copy / "tables" / "alignment_tax.csv").read_text().count("\n") == 2
    assert "\\toprule" in (copy / "tables" / "alignment_tax.tex").read_text()
    assert build_report(copy).tables.read_text() == report.tables.read_text().replace(f"# {base.name}", "# copy", 1)
