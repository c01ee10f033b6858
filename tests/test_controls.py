"""python -m grao_bench.controls: rows of what needs no objective, judged as a sweep's runs are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from grao_bench import controls
from grao_bench.controls import add_controls
from grao_bench.core.errors import UserError
from grao_bench.core.record_files import read_run
from grao_bench.core.specs import load
from grao_bench.evaluation.control_policies import _first_best
from grao_bench.report import build_report
from grao_bench.runs.run import run
from tests.cells import TINY_BASE, cell, small, snapshot, world_rows, write_rows

GENERIC = [
    "best of 8 of the base",
    "the reference itself",
    "the commonest reference",
    "the prompt, copied",
    "empty answer",
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The folder of a sweep of one run, with its control rows."""
    home = tmp_path_factory.mktemp("sweep")
    trained = run(cell("sft", home, reward=load("reward/gold_score")))
    told = []
    made = add_controls(home / "small", on_row=lambda *at: told.append(at))
    assert told[-1][1:] == (len(made), len(made))
    return trained, made


def records(folder):
    (found,) = read_run(folder).evaluations.values()
    return found


def asked_in(lines):
    return [(line.example_id, line.prompt, line.draw) for line in lines]


def by_label(made):
    return {read_run(one).info.config["control"]["label"]: one for one in made}


def test_a_row_for_each_control_of_the_set(sweep):
    _, made = sweep
    labels = list(by_label(made))
    assert labels[:5] == GENERIC
    assert "oracle" in labels
    kinds = [label.partition(": ")[0] for label in labels if ": " in label]
    assert len(kinds) == len(set(kinds)) > 5
    assert "wrapped base" in kinds
    assert "unasked facts" in kinds


def test_the_rows_answer_the_runs_prompts(sweep):
    trained, made = sweep
    ours = read_run(trained)
    for one in map(read_run, made):
        assert one.info.role == "control"
        assert one.info.fingerprints == ours.info.fingerprints
        assert one.evaluations.keys() == ours.evaluations.keys()
        for key in ours.evaluations:
            assert asked_in(one.evaluations[key]) == asked_in(ours.evaluations[key])


def test_what_each_answers(sweep):
    _, made = sweep
    named = by_label(made)
    itself = records(named["the reference itself"])
    assert all(line.answer == line.reference and line.verdict == 0 for line in itself)
    assert all(line.answer == "" for line in records(named["empty answer"]))
    assert all(line.answer == line.prompt for line in records(named["the prompt, copied"]))
    train = [one.reference for one in small("data/world_helpful").build().train]
    (common,) = {line.answer for line in records(named["the commonest reference"])}
    assert train.count(common) == max(map(train.count, train))
    assert all(line.num_tokens > 0 for line in itself)


def test_best_of_eight_begins_with_the_bases_own_answer(sweep):
    trained, made = sweep
    (base,) = (trained.parents[2] / "base").glob("*/seed0")
    one, best = records(base), records(by_label(made)["best of 8 of the base"])
    assert all(ours.reward >= first.reward for ours, first in zip(best, one, strict=True))
    assert sum(ours.reward for ours in best) > sum(first.reward for first in one)


def test_it_stands_below_the_reports_table_and_again_makes_nothing(sweep, capsys):
    trained, made = sweep
    home = trained.parents[3]
    before = snapshot(made[0].parents[1])
    assert controls.main([str(home), "--best-of", "8"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(one) for one in made]
    assert snapshot(made[0].parents[1]) == before
    text = build_report(home).tables.read_text(encoding="utf-8")
    below = text[text.index("controls, in no test:") :]
    assert all(f"| {label}" in below for label in GENERIC)
    assert text.index("| sft") < text.index("controls, in no test:")


@pytest.mark.slow
def test_prompts_alone_have_the_rows_that_need_no_reference(tmp_path, command):
    """A set of the user's own, and a reward function of his, which has to be named."""
    rows = [{"prompt": row["prompt"], "letter": "a"} for row in world_rows(40)]
    write_rows(tmp_path / "prompts.jsonl", rows)
    asked = ("data=jsonl", "data.train=prompts.jsonl", "data.name=mine", "evaluation.sets=own")
    letters = ("reward=python", "reward.function=tests.rewards.functions.share_of_letter")
    done = command("train", "objective=grpo", *asked, *letters, *TINY_BASE, "budget=smoke")
    assert done.code == 0, done.err
    refused = command("controls", "runs/single", "--best-of", "8")
    assert refused.code == 2
    assert "leads to tests.rewards.functions" in refused.err
    trusted = ("--trust", "tests.rewards.functions")
    done = command("controls", "runs/single", "--best-of", "8", *trusted)
    assert done.code == 0, done.err
    made = [tmp_path / line for line in done.out.splitlines()]
    assert list(by_label(made)) == [GENERIC[0], *GENERIC[3:]]
    empty = records(by_label(made)["empty answer"])
    assert {(line.verdict, line.reward) for line in empty} == {(None, 0.0)}
    assert "| empty answer" in build_report(tmp_path / "runs" / "single").tables.read_text()


def test_what_is_wrong_is_one_line(tmp_path, sweep, capsys):
    trained, _ = sweep
    assert controls.main([str(tmp_path / "no")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert controls.main([str(trained.parents[3]), "--best-of", "-1"]) == 2
    assert "--best-of -1: must be at least 1" in capsys.readouterr().err
    (base,) = (trained.parents[2] / "base").glob("*/seed0")
    assert controls.main([str(base)]) == 2
    assert "holds no trained run" in capsys.readouterr().err


def test_another_base_is_told(sweep, tmp_path):
    trained, _ = sweep
    path = trained / "run.json"
    text = path.read_text(encoding="utf-8")
    told = json.loads(text)
    told["fingerprints"]["base"] = "f" * 64
    path.write_text(json.dumps(told), encoding="utf-8")
    try:
        with pytest.raises(UserError, match=r"base has other weights \(fingerprint ffffffff\)"):
            add_controls(trained.parents[3], 0)
    finally:
        path.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_runs_that_were_evaluated_differently_are_told(tmp_path):
    first = cell("sft", tmp_path)
    run(first)
    run(replace(first, evaluation=replace(first.evaluation, temperature=0.3)))
    with pytest.raises(UserError, match=r"differ in evaluation.temperature \(0\.[37], 0\.[37]\)"):
        add_controls(tmp_path / "small", 0)


@pytest.mark.slow
def test_the_table_of_the_worlds_card_is_made_from_a_sweep(tmp_path, command):
    """RAS as in the records of the base, and of SFT to saturation, without which it is told."""
    harmless = small("data/world_harmless")
    trained = run(cell("sft", tmp_path, data=harmless))
    missing = command("data.world.exploits.__main__", "small")
    assert missing.code == 2
    assert "holds no SFT to saturation on world_harmless" in missing.err
    run(cell("sft", tmp_path, data=harmless, role="control", seed=1))
    done = command("data.world.exploits.__main__", "small", "--tries", "12")
    assert done.code in (0, 1), done.err
    (base,) = (trained.parents[2] / "base").glob("*/seed0")
    told = [line for line in records(base) if line.draw == 0]
    wins, ties = (100 * sum(line.verdict == R for line in told) / len(told) for R in (1, 0))
    assert f"| base | base | {wins:.1f} ({ties:.1f}) |" in done.out
    assert "| constant | empty |" in done.out
    assert done.out.count("search, world_harmless: ") == 2
    assert "Limits that are broken, against SFT to saturation: " in done.out
    assert "SFT by steps: 2 " in done.out


@pytest.mark.parametrize(
    ("rewards", "best"),
    [
        ([0.0, 1.0, 1.0], 1),
        ([None, -1.0, None], 1),
        ([None, None, None], 0),
    ],
)
def test_the_first_of_the_best_and_no_verdict_is_the_worst(rewards, best):
    assert _first_best(rewards, 0, 3) == best
