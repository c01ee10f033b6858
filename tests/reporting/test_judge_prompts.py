"""Tables 6 and 7: the prompts that the runs recorded, each different text once."""

from __future__ import annotations

from grao_bench.core.record_files import find_runs
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.page.judge_prompts import judge_prompts

from .records import HELPFUL, evaluation, write_run

KEY = (HELPFUL, "gold")


def test_prompts_are_read_from_the_runs_and_numbered_by_criterion(tmp_path):
    for seed in (0, 1):
        folder = write_run(tmp_path, "sft", {KEY: evaluation([1, -1])}, seed=seed)
        (folder / "judge_prompt-harmless.md").write_text("Which is ```safer```?\n")
        (folder / "judge_prompt.md").write_text("Which is better?\n")
    first, second = judge_prompts(gather(find_runs(tmp_path), {}))
    assert first.title == f"Table 6: the judge's prompt, {HELPFUL}"  # unnamed: that of the set trained on
    assert second.title == "Table 7: the judge's prompt, harmless"
    assert [run.name for run in second.runs] == ["seed0", "seed1"]
    assert "````text\nWhich is ```safer```?\n````" in second.markdown()
    assert "\\begin{verbatim}\nWhich is better?\n\\end{verbatim}" in first.latex()


def test_another_text_is_another_table_and_none_is_none(tmp_path):
    for seed, text in enumerate(["one", "two"]):
        folder = write_run(tmp_path, "sft", {KEY: evaluation([1, -1])}, seed=seed)
        assert judge_prompts(gather(find_runs(folder), {})) == []
        (folder / "judge_prompt-helpful.md").write_text(text)
    assert [one.text for one in judge_prompts(gather(find_runs(tmp_path), {}))] == ["one", "two"]
