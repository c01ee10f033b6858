"""python -m grao_bench.evaluate: a finished run evaluated again, by another reward or in another way, and what the report then shows."""

from __future__ import annotations

import pandas as pd
import pytest

from grao_bench.core.record_files import read_run
from grao_bench.report import build_report
from grao_bench.runs.run import run
from tests.cells import cell, snapshot

SOURCES = ("gold", "gold_score")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, whose evaluations the tests add to."""
    return run(cell("sft", tmp_path_factory.mktemp("runs")))


def test_another_reward_adds_a_file_that_the_report_shows(finished, tmp_path, command):
    before = snapshot(finished)

    outcome = command("evaluate", f"run={finished}", "reward=gold_score")

    assert outcome.code == 0, outcome.err
    added = finished / "evaluations" / "world_helpful-gold_score.jsonl"
    assert outcome.out.split() == [str(added)]
    touched = {str(added.relative_to(finished)), "run.json"}  # which learns what the new evaluation's prompts and judge are
    after = snapshot(finished)
    assert {name: value for name, value in after.items() if name not in touched} == {
        name: value for name, value in before.items() if name != "run.json"
    }
    assert "reward/world_helpful/gold_score" in read_run(finished).info.fingerprints
    first, second = (read_run(finished).evaluations["world_helpful", reward] for reward in SOURCES)
    assert [record.answer for record in first] == [record.answer for record in second], "the same random numbers"
    assert [record.reward for record in second] == [record.parts["score"] for record in first], "the judge's score behind the verdict"

    build_report(finished.parents[4], tmp_path / "report")
    rows = pd.read_csv(tmp_path / "report" / "tables.csv")
    assert sorted(zip(rows.method, rows.reward_source, strict=True)) == [(name, source) for name in ("base", "sft") for source in SOURCES]
    assert rows[rows.objective == "sft"].nag_mean.notna().all(), "the base was evaluated again too"


def test_another_temperature_stands_beside_the_first(finished, command):
    outcome = command("evaluate", f"run={finished}", "temperature=0", "max_examples=3")

    assert outcome.code == 0, outcome.err
    key = ("world_helpful", "gold_T0_first3")
    evaluations = read_run(finished).evaluations
    assert len(evaluations[key]) == 3
    assert [record.answer for record in evaluations[key]] != [record.answer for record in evaluations["world_helpful", "gold"][:3]]
    # what is there is not made again
    again = command("evaluate", f"run={finished}", "temperature=0", "max_examples=3")
    assert again.code == 0
    assert again.out.splitlines() == [
        f"{finished}/evaluations/world_helpful-gold_T0_first3.jsonl (there already; remove it to evaluate anew)"
    ]


def test_tasks_of_lm_eval_score_the_run_and_its_base(finished, command):
    """Ours here, which need no network; other evaluations are left as they are."""
    before = {path.name for path in (finished / "evaluations").iterdir()}
    outcome = command("evaluate", f"run={finished}", "lm_eval.tasks=[grao_world_harmless]", "lm_eval.limit=2", "lm_eval.log_samples=true")

    assert outcome.code == 0, outcome.err
    samples = finished / "lm_eval_samples" / "grao_world_harmless_first2.jsonl"
    assert outcome.out.splitlines()[:2] == [str(samples), str(finished / "lm_eval.jsonl")]
    assert {path.name for path in (finished / "evaluations").iterdir()} == before
    assert len(samples.read_text().splitlines()) == 2
    (base,) = (path for path in finished.parents[2].glob("base/*/seed0") if (path / "lm_eval.jsonl").exists())
    for folder in (finished, base):
        scores = {record.metric: record.value for record in read_run(folder).lm_eval}
        assert scores["ras"] + scores["tie"] + scores["loss"] == 1
        assert {record.documents for record in read_run(folder).lm_eval} == {2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "grao_bench: run=nowhere: holds no config.yaml; give the folder of a finished run"),
        ([], "grao_bench: run: has no value yet"),
        (["run=here", "rewards=gold"], "Could not override 'rewards'"),
        (["run=here", "max_examples=few"], "grao_bench: max_examples='few': expected int | None, got str"),
        (["run=here", "temperature=-1"], "grao_bench: evaluation.temperature=-1: must be at least 0"),
        (["run=here", "lm_eval.tasks=[x]", "lm_eval.include_path=no"], "grao_bench: evaluation.lm_eval.include_path=no: no such folder"),
        (["run=here", "reward=reward_model"], "grao_bench: reward.path=runs/reward_models/world_helpful: no such folder"),
    ],
)
def test_bad_input_is_one_line(finished, arguments, message, command):
    before = snapshot(finished)
    outcome = command("evaluate", *[argument.replace("run=here", f"run={finished}") for argument in arguments])

    assert outcome.code != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert snapshot(finished) == before


def test_a_run_without_its_model_is_one_line(finished, tmp_path, command):
    (tmp_path / "config.yaml").write_bytes((finished / "config.yaml").read_bytes())
    (tmp_path / "run.json").write_bytes((finished / "run.json").read_bytes())

    outcome = command("evaluate", f"run={tmp_path}")

    assert outcome.code == 2
    assert f"run={tmp_path}: holds no model/; give the folder of a finished run" in outcome.err
    assert len(outcome.err.splitlines()) == 1
