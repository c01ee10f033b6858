"""Sets of prompts alone: trained on, judged by rewards that need no reference, and reported on."""

from __future__ import annotations

import pandas as pd
import pytest

from grao_bench.core.record_files import read_run
from tests.cells import TINY_BASE, world_rows, write_rows

PROMPTS = ("data=jsonl", "data.train=prompts.jsonl", "data.name=prompts", "evaluation.sets=own")
LETTERS = ("reward=python", "reward.function=tests.rewards.functions.share_of_letter")
CELL = (*PROMPTS, *LETTERS, *TINY_BASE, "budget=smoke", "optimizer.lr=0.002")


def prompt_rows(count: int = 40) -> list[dict[str, str]]:
    rows = world_rows(count)
    return [{"prompt": row["prompt"], "letter": "ae"[i % 2]} for i, row in enumerate(rows)]


@pytest.fixture
def inputs(tmp_path):
    write_rows(tmp_path / "prompts.jsonl", prompt_rows())
    labelled = [{"prompt": row["prompt"], "completion": row["letter"] * 5, "label": i % 4 < 2} for i, row in enumerate(prompt_rows())]
    write_rows(tmp_path / "labelled.jsonl", labelled)
    return tmp_path


def test_prompts_alone_are_trained_on_evaluated_and_reported(inputs, command):
    """grpo, and another objective beside it, and a Python reward that reads a column of the rows,
    from the command line to the page."""
    done = command("train", "objective=grpo", *CELL)
    assert done.code == 0, done.err
    assert "data=prompts: no references in the set, so RAS and NAG can't be computed" in done.out
    folder = inputs / done.out.splitlines()[-1]
    run = read_run(folder)
    assert len(run.steps) == 2
    assert any(step.metrics["reward/std"] > 0 for step in run.steps)
    assert all("reward" in probe.metrics for probe in run.probes)
    assert not any({"ras", "j_reference"} & probe.metrics.keys() for probe in run.probes)

    letters = {row["prompt"]: row["letter"] for row in prompt_rows()}
    (records,) = run.evaluations.values()
    assert len(records) > 3
    for one in records:
        share = one.answer.count(letters[one.prompt]) / max(1, len(one.answer))
        assert (one.verdict, one.reference_tokens) == (None, None)
        assert one.reward == pytest.approx(share)

    assert command("train", "objective=dr_grpo", *CELL).code == 0
    told = command("report", "runs/single")
    assert told.code == 0, told.err
    assert "RAS and NAG can't be computed. There are no references in the set" in told.out
    assert "Mean reward, not tested: " in told.out
    rows = pd.read_csv(inputs / "runs" / "single" / "report" / "tables.csv")
    assert sorted(rows.method) == ["base", "dr_grpo", "grpo"]
    assert "ras" not in rows.columns or rows["ras"].isna().all()
    mean = sum(one.reward for one in records) / len(records)
    assert rows.loc[rows.method == "grpo", "reward"].item() == pytest.approx(mean, abs=1e-6)
    tables = (inputs / "runs" / "single" / "report" / "tables.md").read_text()
    line = next(line for line in tables.splitlines() if line.startswith("| grpo "))
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[2:4] == ["-", "-"]
    assert "no references in the set, so RAS and NAG can't be computed" in cells
    page = (inputs / "runs" / "single" / "report" / "report.html").read_text()
    assert "no references in the set" in page


def test_every_objective_that_reads_no_reference_starts_on_prompts_alone(inputs, command):
    """All cells of the grid are checked; those of the last two lack what they learn from."""
    names = "grpo,ppo,dr_grpo,dapo,gspo,sft,grao"
    outcome = command("train", "-m", f"objective={names}", *CELL)
    assert outcome.code == 2
    faults = outcome.err.splitlines()[1:]
    assert [fault.split()[0] for fault in faults] == ["objective=sft", "objective=grao"]


MISTAKES = {
    "an objective that learns from pairs": (
        ["objective=dpo", *CELL],
        "grao_bench: data=prompts: has no chosen answer, which objective=dpo learns from "
        "(further columns: letter); objectives that fit this set: bnpo, dapo, dr_grpo, ",
        "; sets that can fit dpo: files, hh_harmless, hh_helpful, hub, jsonl, world_",
    ),
    "an objective that learns from good answers": (
        ["objective=sft", *CELL],
        "grao_bench: data=prompts: has no chosen answer, which objective=sft learns from",
        "; sets that can fit sft: files, gsm8k, hh_harmless, hh_helpful, hub, jsonl, world_",
    ),
    "some answers are missing": (
        ["objective=sft", *CELL, "data.train=labelled.jsonl"],
        "grao_bench: data=prompts: ",
        " examples, such as prompts-train-00002, have no chosen answer, which objective=sft",
    ),
    "a pairwise reward": (
        ["objective=grpo", *CELL, "reward.pairwise=true"],
        "grao_bench: data=prompts: has no reference, with which reward compares answers "
        "(further columns: letter); use a reward that needs none",
        "",
    ),
    "a pairwise judge": (
        [
            *("objective=grpo", *CELL, "reward@evaluation.reward=python"),
            "evaluation.reward.pairwise=true",
            "evaluation.reward.function=tests.rewards.functions.shorter",
        ],
        "grao_bench: data=prompts: has no reference, with which evaluation.reward compares answers",
        "",
    ),
    "a policy chosen by RAS": (
        ["objective=grpo", *CELL, "budget.keep=best_dev"],
        "grao_bench: budget.keep=best_dev: chooses by RAS, and data=prompts has no references",
        "",
    ),
}


@pytest.mark.parametrize(("arguments", "begins", "holds"), MISTAKES.values(), ids=MISTAKES.keys())
def test_what_does_not_fit_is_one_line_before_anything_loads(arguments, begins, holds, inputs, command):
    """The base is looked for only after the set was looked at: a corpus file that is absent is no
    matter yet."""
    outcome = command("train", *arguments, "model.corpus=[none.txt]")
    assert outcome.code == 2
    assert outcome.err.startswith(begins), outcome.err
    assert holds in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not [*inputs.rglob("steps.jsonl")]
