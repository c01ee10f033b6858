"""The choice from hand-made trials, what is tried next, and the tables that come of it."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import yaml

from grao_bench.core.errors import UserError
from grao_bench.tuning.choice import Trial, best, choices, scores_by_rate
from grao_bench.tuning.protocol import (
    RATE,
    GridSearch,
    RandomSearch,
    TuningProtocol,
    edges,
    settings,
)
from grao_bench.tuning.written import write_rates, write_tables

RATES = {RATE: (0.001, 0.016)}


def trial(rate, *scores, data="helpful", objective="mine", **weights):
    keys = {f"objective.{name}": value for name, value in weights.items()}
    values = {seed: float(score) for seed, score in zip((100, 101), scores, strict=False)}
    return Trial(objective, data, settings({RATE: rate} | keys), 0, values)


def rates(found):
    return [dict(one)[RATE] for one in found]


def test_the_highest_mean_over_seeds_wins_and_not_the_best_seed():
    trials = [trial(0.001, 20, 24), trial(0.002, 10, 33), trial(0.004, 23, 22)]
    assert best(trials, 2).settings == settings({RATE: 0.004})


def test_of_equal_ones_the_lowest_rate_and_then_the_lowest_weight():
    trials = [trial(0.004, 20, 24), trial(0.001, 24, 20, beta=2.0), trial(0.001, 21, 23, beta=0.5)]
    assert best(trials, 2) is trials[2]


def test_a_trial_without_all_its_seeds_is_not_chosen():
    trials = [trial(0.001, 90), trial(0.002, 10, 10)]
    assert best(trials, 2) is trials[1]
    with pytest.raises(UserError, match="no trial of mine on helpful finished with all seeds"):
        best(trials[:1], 2)


def test_beyond_an_edge_that_failed_is_no_further_edge():
    trials = [trial(0.001), trial(0.002, 30, 30), trial(0.004, 10, 10)]
    (made,) = choices(trials, 2)
    assert made.best is trials[1]
    assert made.at_edge == {}


def test_a_grid_is_at_equal_ratios_with_both_ends():
    assert rates(GridSearch(points=5).first(RATES)) == [0.001, 0.002, 0.004, 0.008, 0.016]


@pytest.mark.parametrize(
    ("chosen", "added"),
    [(0.001, 0.0005), (0.016, 0.032), (0.004, math.sqrt(0.004 * 0.002))],
)
def test_one_more_beyond_the_edge_or_beside_an_inner_best(chosen, added):
    """So that every objective and set has as many trials as any other."""
    search = GridSearch(points=5)
    tried = search.first(RATES)
    (one,) = search.more(RATES, tried, settings({RATE: chosen}), 1)
    assert dict(one)[RATE] == pytest.approx(added, rel=1e-5)
    assert one not in tried


def test_a_best_with_a_half_step_below_is_looked_at_above():
    tried = [settings({RATE: rate}) for rate in (0.001, 0.002, 0.00282843, 0.004, 0.008)]
    (one,) = GridSearch(points=5).more(RATES, tried, settings({RATE: 0.004}), 2)
    assert dict(one)[RATE] == pytest.approx(math.sqrt(0.004 * 0.008), rel=1e-5)


def test_edges_are_the_lowest_and_the_highest_that_was_tried():
    tried = [settings({RATE: rate, "objective.beta": beta}) for rate, beta in ((1.0, 3.0), (2.0, 1.0), (3.0, 2.0))]
    assert edges(tried, tried[0]) == {RATE: "low", "objective.beta": "high"}
    assert edges(tried, tried[2]) == {RATE: "high"}


def test_random_draws_are_seeded_log_uniform_and_the_same_for_each_objective():
    search = RandomSearch(trials=2000, more_trials=3, widen=4.0, seed=0)
    ours = rates(search.first(RATES))
    assert ours == rates(search.first(RATES)) != rates(RandomSearch(trials=2000, more_trials=3, widen=4.0, seed=1).first(RATES))
    assert min(ours) >= 0.001
    assert max(ours) <= 0.016
    below = sum(rate < 0.004 for rate in ours) / len(ours)  # the geometric middle
    assert below == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2000))
    # of another objective, which has a weight beside its rate and other rates: the same places
    theirs = rates(search.first({"objective.beta": (0.1, 10.0), RATE: (0.01, 0.16)}))
    assert theirs == pytest.approx([10 * rate for rate in ours], rel=1e-4)


def test_random_draws_go_on_beyond_an_edge_and_around_an_inner_best():
    search = RandomSearch(trials=3, more_trials=50, widen=4.0, seed=0)
    tried = [settings({RATE: rate, "objective.beta": beta}) for rate, beta in ((0.001, 1), (0.002, 2), (0.004, 3))]
    more = [dict(one) for one in search.more({}, tried, tried[0], 1)]
    assert len(more) == 50
    assert all(0.00025 <= one[RATE] <= 0.001 and 0.25 <= one["objective.beta"] <= 1 for one in more)
    inner = settings({RATE: 0.002, "objective.beta": 3})
    more = [dict(one) for one in search.more({}, [*tried, inner], inner, 1)]
    assert all(0.001 <= one[RATE] <= 0.004 and 3 <= one["objective.beta"] <= 12 for one in more)


def protocol(**changed):
    values = {
        "sweep": "toy",
        "table": "tiny",
        "sets": ["helpful", "harmless"],
        "seeds": [100, 101],
        "objectives": {"mine": {RATE: [0.001, 0.004]}},
        "search": GridSearch(points=3),
        "most_rounds": 2,
        "n_jobs": 1,
        "committed": False,
        "overrides": [],
    }
    return TuningProtocol(**values | changed)


def test_a_range_is_two_rising_numbers():
    with pytest.raises(UserError, match=r"objectives.mine.optimizer.lr=\[0.0, 1.0\]: must be \[low, high\]"):
        protocol(objectives={"mine": {RATE: [0.0, 1.0]}})
    with pytest.raises(UserError, match="a grid has one key"):
        GridSearch(points=5).first(RATES | {"objective.beta": (1.0, 2.0)})


def test_the_tables_say_what_was_tried_and_chosen(tmp_path):
    trials = [trial(0.001, 20, 24), trial(0.002, 30, 31), trial(0.004, 3.5), trial(0.001, 7, 7, data="harmless")]
    made = choices(trials, 2)
    write_tables(tmp_path, protocol(), made, {"git": "a" * 40, "git_dirty": "False"})
    frame = pd.read_csv(tmp_path / "trials.csv")
    assert len(frame) == 7
    assert frame[frame.chosen].groupby("data").dev_ras.mean().to_dict() == {"harmless": 7.0, "helpful": 30.5}
    text = (tmp_path / "tuning.md").read_text()
    assert "Code: commit aaaaaaaaaaaa, changed since: False." in text
    assert "| mine      | helpful  | optimizer.lr=0.002 |       30.5 | 30.0, 31.0 |" in text
    assert yaml.safe_load((tmp_path / "chosen.yaml").read_text())["harmless"] == {"mine": {RATE: 0.001}}
    assert scores_by_rate(made, "helpful").rows == (("mine", "22.0", "30.5", "3.5"),)
    drawn = {path.name: path for path in tmp_path.iterdir() if path.stem == "score_against_rate"}
    assert set(drawn) == {"score_against_rate.png", "score_against_rate.svg"}
    svg = drawn["score_against_rate.svg"].read_text()
    assert ">0.001</text>" in svg
    assert "mathdefault" not in svg, "rates are spelled as numbers"


def test_rates_are_written_by_set_and_the_other_lines_stay(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("# ours\ndefault: 0.5\nmine: 0.25  # as before\n")
    write_rates(path, choices([trial(0.00005, 1, 1)], 2), "first")
    write_rates(path, choices([trial(0.001, 1, 1, data="harmless"), trial(0.002, 1, 1)], 2), "second")
    text = path.read_text()
    assert text.startswith("# ours\ndefault: 0.5\nmine: 0.25  # as before\n")
    assert text.count("written by") == 1
    assert yaml.safe_load(text) == {
        "default": 0.5,
        "mine": 0.25,
        "helpful": {"mine": 0.002},
        "harmless": {"mine": 0.001},
    }
    write_rates(path, choices([trial(0.00005, 1, 1)], 2), "third")
    assert yaml.safe_load(path.read_text())["helpful"] == {"mine": 0.00005}, "a number, not a text"
