"""Where a gain came from: criteria by hand, and the alarms that read them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.records import Criteria, EvalRecord
from grao_bench.report import build_report
from grao_bench.reporting.gather.alarms import alarms, summarise
from grao_bench.reporting.gather.criteria import by_kind, formal_share, gains, room

from .records import HELPFUL, evaluation, write_run
from .test_alarms import INFO, run

CRITERIA = Criteria("score", {"facts": "content", "length": "form", "greeting": "manners"})
KEY = f"{HELPFUL}/gold"


def said(score: float, **parts: float) -> dict[str, float]:
    return {**parts, "score": score, "reference_score": 0.5}


def answers(*rows: list[dict[str, float]]) -> list[EvalRecord]:
    """Of prompt p0, p1, ... an answer for each of its parts."""
    return [EvalRecord(f"p{i}", 1.0, 1.0, 10, True, parts, draw=draw) for i, row in enumerate(rows) for draw, parts in enumerate(row)]


# p0: two answers of 1.0 and 0.5 against two of 0 and 0.25; p1: 0.5 against 0.5
OURS = answers(
    [said(1.0, facts=0.75, greeting=0.5), said(0.5, facts=0.75, length=-0.25)],
    [said(0.5, facts=0.5), said(0.5, facts=0.5)],
)
BASE = answers(
    [said(0.0), said(0.25, facts=0.5, length=-0.25)],
    [said(0.5, facts=0.5), said(0.5, facts=0.5)],
)


def test_a_gain_splits_into_criteria_and_what_clipping_left_over():
    """p0: score 0.75 - 0.125; facts 0.75 - 0.25; length -0.125 - -0.125; greeting 0.25 - 0."""
    frame = gains(OURS, BASE, CRITERIA)
    assert frame["total"].tolist() == [0.625, 0.0]
    assert frame["facts"].tolist() == [0.5, 0.0]
    assert frame["length"].tolist() == [0.0, 0.0]
    assert frame["greeting"].tolist() == [0.25, 0.0]
    assert frame["rest"].tolist() == [-0.125, 0.0]  # 0.75 + 0.5 = 1.25 was clipped to 1, of two
    kinds = by_kind(frame, CRITERIA.kinds)
    assert list(kinds) == ["total", "content", "form", "manners", "rest"]
    assert kinds.loc[("p0", "p0")].tolist() == [0.625, 0.5, 0.0, 0.25, -0.125]


def test_weights_and_a_total_that_is_the_reward():
    """0.5 x 3 of one part less 1 x 2 of the other, of which the base has none."""
    criteria = Criteria("reward", {"a/reward": "a", "b/reward": "b"}, {"a/reward": 0.5, "b/reward": -1.0})
    ours = [replace(one, reward=-0.5, parts={"a/reward": 3.0, "b/reward": 2.0}) for one in OURS]
    base = [replace(one, reward=0.0, parts={}) for one in BASE]
    frame = gains(ours, base, criteria)
    assert frame.iloc[0].to_dict() == {"total": -0.5, "a/reward": 1.5, "b/reward": -2.0, "rest": 0.0}


def test_what_the_references_have_over_the_base():
    told = [replace(one, reference_parts={"facts": 1.0, "score": 1.0}) for one in BASE]
    assert room(BASE, CRITERIA) is None
    frame = room(told, CRITERIA)
    assert frame is not None
    assert frame["total"].tolist() == [0.875, 0.5]
    assert frame["facts"].tolist() == [0.75, 0.5]


def many(score: float, prompts: int = 20, tokens: int = 10, **parts: float) -> list[EvalRecord]:
    """One answer to each prompt; the scores differ a little, by content."""
    rows = []
    for i in range(prompts):
        more = {**parts, "facts": parts.get("facts", 0.0) + 0.01 * (i % 3)}
        told = said(score + 0.01 * (i % 3), **more)
        rows.append(EvalRecord(f"p{i}", 1.0, 1.0, tokens, True, told, cluster=f"c{i // 2}"))
    return rows


def test_a_policy_that_gains_by_manners_alone_sets_the_alarm():
    cell = replace(run(), info=replace(INFO, criteria={KEY: CRITERIA}))
    base, polite = many(0.0), many(0.4, greeting=0.4)
    (found,) = summarise([alarms(cell, polite, KEY, base)])
    assert found == "100% of its gain is form or manners"
    knowing = many(0.4, facts=0.3, greeting=0.1)
    assert alarms(cell, knowing, KEY, base) == ()
    assert formal_share(gains(knowing, base, CRITERIA), CRITERIA.kinds) == pytest.approx(25)
    # what it lost elsewhere makes manners no better: all that was gained is manners
    rude = many(0.2, facts=-0.2, greeting=0.4)
    assert formal_share(gains(rude, base, CRITERIA), CRITERIA.kinds) == pytest.approx(100)


def test_no_gain_and_no_split_set_no_alarm():
    cell = replace(run(), info=replace(INFO, criteria={KEY: CRITERIA}))
    base = many(0.0)
    assert math.isnan(formal_share(gains(base, base, CRITERIA), CRITERIA.kinds))
    worse = many(-0.1, facts=-0.2, greeting=0.1)
    assert alarms(cell, worse, KEY, base) == ()
    assert alarms(run(), many(0.4, greeting=0.4), KEY, base) == ()


def test_a_gain_that_two_prompts_alone_have_is_not_shown():
    """One cluster of ten gains 0.5, the others nothing: under two standard errors of its mean."""
    base = [replace(one, parts=said(0.0)) for one in many(0.0)]
    polite = said(0.5, greeting=0.5)
    ours = [replace(one, parts=polite) if one.cluster == "c0" else one for one in base]
    assert math.isnan(formal_share(gains(ours, base, CRITERIA), CRITERIA.kinds))


@pytest.mark.parametrize(
    ("tokens", "fired"),
    [
        (30, ()),
        (31, ("answers 3.1 times as long as the base's",)),
        (4, ()),
        (3, ("the base's answers 3.3 times as long",)),
    ],
)
def test_answers_far_from_the_bases_length_set_an_alarm(tokens, fired):
    assert summarise([alarms(run(), many(0.0, tokens=tokens), "", many(0.0, tokens=10))]) == fired


def report(tmp_path: Path, ours: list[EvalRecord], base: list[EvalRecord]) -> str:
    criteria, key = {KEY: CRITERIA}, (HELPFUL, "gold")
    write_run(tmp_path / "runs", "base", {key: base}, data="base", criteria=criteria)
    for seed in range(2):
        write_run(tmp_path / "runs", "grpo", {key: ours}, seed=seed, criteria=criteria)
    build_report(tmp_path / "runs", tmp_path / "out")
    return (tmp_path / "out" / "tables.md").read_text()


def test_the_report_says_where_the_gain_came_from(tmp_path):
    base = [replace(one, verdict=-1.0, reference_parts={"facts": 1.0, "score": 1.0}) for one in many(0.0)]
    text = report(tmp_path, many(0.4, greeting=0.4), base)
    section = text.split("Where the gain came from")[1].split("\n## ")[0]
    (row,) = [line for line in section.splitlines() if line.startswith("| grpo")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "grpo"
    assert cells[1].startswith("0.400")
    assert cells[3].startswith("0.400")  # content 0, manners all
    assert cells[-2:] == ["100", "greeting +0.400"]
    assert "| the references |" in text
    numbers = (tmp_path / "out" / "tables" / "gains-world_helpful-gold.csv").read_text().splitlines()
    assert "criterion greeting" in numbers[0].split(",")
    assert "100% of its gain is form or manners (2 of 2 seeds)" in text


def test_records_without_criteria_have_no_such_table(tmp_path):
    write_run(tmp_path, "base", {(HELPFUL, "gold"): evaluation([-1.0] * 4)}, data="base")
    write_run(tmp_path, "grpo", {(HELPFUL, "gold"): evaluation([1.0] * 4)})
    build_report(tmp_path, tmp_path / "out")
    assert "Where the gain" not in (tmp_path / "out" / "tables.md").read_text()


def test_other_prompts_than_the_bases_are_left_out():
    assert len(gains(OURS, BASE[:2], CRITERIA)) == 1
    lost = [replace(one, excluded=True) for one in BASE]
    with pytest.raises(UserError, match="has a verdict"):
        gains(OURS, lost, CRITERIA)
