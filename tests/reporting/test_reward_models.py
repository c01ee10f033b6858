"""Reward models that are no better than length, or than words, are said to be so beside every table
that they trained or judged, and their scores lead to no ranking."""

from __future__ import annotations

import numpy as np
import pytest

from grao_bench.core.pair_accuracy import PairAccuracy
from grao_bench.core.record_files import find_runs, read_info
from grao_bench.core.records import JudgeCounts
from grao_bench.report import build_report
from grao_bench.reporting.gather.alarms import alarms
from grao_bench.reporting.gather.reward_models import accuracies, warnings
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.page.headline import findings
from grao_bench.reporting.tables.choice import main_tables
from grao_bench.rewards.pair_metrics import pair_accuracy

from .records import HARMLESS, HELPFUL, share, write_run

RULE_OF_LENGTH = "scores under it say how long answers are"


def measured(right: float, follows: float, words: float = 0.55, pairs: int = 500) -> PairAccuracy:
    """Of 500 pairs of which 60% have the longer answer chosen: a model that is right in `right` of
    either kind's share that makes it prefer the longer answer in `follows`; a bag of words that is
    right in `words`, here and there."""
    longer = round(0.6 * pairs)
    # a + b right, a on pairs with the longer chosen; the longer preferred: a + (rest's mistakes)
    a = round((right * pairs + follows * pairs - (pairs - longer)) / 2)
    b = round(right * pairs) - a
    margins = np.full(pairs, -1.0)
    margins[:a] = margins[longer : longer + b] = 1.0
    longer_by = np.array([1.0] * longer + [-1.0] * (pairs - longer))
    by_words = np.where(np.arange(pairs) % 20 < round(20 * words), 1.0, -1.0)
    return pair_accuracy("test", margins, longer_by, True, by_words)


LENGTH = measured(0.58, 0.76, words=0.4)
GOOD = measured(0.80, 0.60)


def judges(training: PairAccuracy | None, judge: PairAccuracy | None, sets=(HELPFUL,)):
    told = {f"{name}/rm": {"rm": JudgeCounts(pair_accuracy=judge)} for name in sets}
    return told | {"training": {"rm_score": JudgeCounts(pair_accuracy=training)}}


def tables(root, training, judge):
    """sft at 31% and grpo at 81%, five seeds each: a lead that the test shows."""
    write_run(root, "base", {(HELPFUL, "rm"): share(20)}, config_hash="00000000")
    for objective, percents in (("sft", (30, 31, 32, 31, 31)), ("grpo", (80, 82, 81, 81, 82))):
        for seed, percent in enumerate(percents):
            scores = {(HELPFUL, "rm"): share(percent)}
            told = judges(training, judge)
            write_run(root, objective, scores, seed=seed, reward="rm_score", judges=told)
    return main_tables(score(gather(find_runs(root), {}), "loss"), "loss")


def test_hand_made_models_are_what_they_are_called():
    assert LENGTH.accuracy.value == pytest.approx(0.58)
    assert LENGTH.length_rule.value == 0.6
    assert LENGTH.follows_length.value == pytest.approx(0.76)
    assert GOOD.over_length_rule.low > 0.1


@pytest.mark.parametrize(("training", "judge"), [(LENGTH, GOOD), (GOOD, LENGTH)])
def test_trained_or_judged_by_a_rule_of_length_is_no_ranking(tmp_path, training, judge):
    (table,) = tables(tmp_path, training, judge)
    (found,) = findings([table])
    assert found.verdict == "The scores rank no objective"
    assert RULE_OF_LENGTH in found.text
    assert "leads" not in found.text
    said = "Trained by rm_score" if training is LENGTH else "Judged by rm"
    line = next(note for note in table.notes if RULE_OF_LENGTH in note)
    assert line.startswith(f"{said}: this reward model (right in 58.0% of 500 held-out pairs) is no")
    assert "a length rule, the longer answer (right in 60.0%, difference -2.0 [" in line
    assert "its margins correlate +0.50 with the length difference" in line
    for row in (row for row in table.rows if row.cell.trained):
        assert "its reward model is not shown better than a length rule" in " ".join(row.alarms)


def test_reward_models_that_read_lead_to_a_lead(tmp_path):
    (table,) = tables(tmp_path, GOOD, GOOD)
    (found,) = findings([table])
    assert found.verdict == "grpo leads"
    assert not any("reward model" in note for note in table.notes)
    assert not any(row.alarms for row in table.rows)


def test_no_better_than_words_is_said_without_a_word_of_length():
    """Better than length, level with a bag of words; and a model that does not follow length is not
    said to, though it is no better than a rule of it."""
    words = measured(0.80, 0.60, words=0.80)
    (text,) = warnings({"Judged by rm": words})
    assert "is no better than a bag of words (right in 80.0%" in text
    (text,) = warnings({"Judged by rm": measured(0.82, 0.60, words=0.80)})
    assert "is not shown to be better than a bag of words (right in 80.0%" in text
    assert "length" not in text
    (text,) = warnings({"Judged by rm": measured(0.55, 0.5, words=0.4)})
    assert "is no better than a length rule" in text
    assert RULE_OF_LENGTH not in text, "its margins don't go with the length"
    assert warnings({"Judged by rm": GOOD}) == []


def test_one_model_for_both_is_said_once(tmp_path):
    counts = {"rm": JudgeCounts(pair_accuracy=LENGTH)}
    told = {"training": counts, f"{HELPFUL}/rm": counts}
    write_run(tmp_path, "sft", {(HELPFUL, "rm"): share(50)}, judges=told)
    assert accuracies(find_runs(tmp_path), f"{HELPFUL}/rm") == {"Trained and judged by rm": LENGTH}


def test_each_table_is_told_of_its_own_judge(tmp_path):
    """One run, judged on two sets; the model of the other set alone is a rule of length."""
    told = judges(GOOD, GOOD) | {f"{HARMLESS}/rm": {"rm": JudgeCounts(pair_accuracy=LENGTH)}}
    scores = {(HELPFUL, "rm"): share(50), (HARMLESS, "rm"): share(50)}
    write_run(tmp_path, "sft", scores, judges=told)
    (run,) = find_runs(tmp_path)
    assert alarms(run, share(50), f"{HELPFUL}/rm") == ()
    (alarm,) = alarms(run, share(50), f"{HARMLESS}/rm")
    assert alarm.rule.name == "no better than length"
    assert set(accuracies([run], f"{HARMLESS}/rm")) == {"Trained by rm_score", "Judged by rm"}


def test_the_page_shows_the_models_and_old_records_say_nothing(tmp_path):
    """run.json keeps what the folder said; where it said nothing there is no table and no alarm."""
    root = tmp_path / "runs"
    tables(root, LENGTH, GOOD)
    info = read_info(next(root.rglob("sft-*/seed0")))
    assert info.judges["training"]["rm_score"].pair_accuracy == LENGTH
    report = build_report(root)
    text = report.tables.read_text()
    assert "The reward models, on pairs that they were not trained on" in text
    assert "58.0 [53.6, 62.2]" in text, "Wilson's interval of 290 of 500"
    assert RULE_OF_LENGTH in text
    assert RULE_OF_LENGTH in report.page.read_text()
    assert "no better than length" in report.page.read_text()

    old = tmp_path / "old"
    (table,) = tables(old, None, None)
    assert not any("reward model" in note for note in table.notes)
    assert "The reward models" not in build_report(old).tables.read_text()
