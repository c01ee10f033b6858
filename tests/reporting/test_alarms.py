"""Alarms: each fires just over its limit and not at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from grao_bench.core.records import Lengths, ProbeRecord, Run, RunInfo, StepRecord
from grao_bench.reporting.gather.alarms import alarms, groups_without_signal, summarise

from .records import evaluation

INFO = RunInfo("grao", "tiny", "world_helpful", "gold", 0, "aaaaaaaa", {}, {}, {})


def run(probes=(), steps=()):
    probe_records = [ProbeRecord(step, metrics) for step, metrics in probes]
    step_records = [StepRecord(i + 1, metrics, 1, 1, 1, 1) for i, metrics in enumerate(steps)]
    return Run(Path("run"), INFO, step_records, probe_records, [], {})


@pytest.mark.parametrize(
    ("probes", "fired"),
    [
        ([(0, {"j_reference": -1.0}), (10, {"j_reference": -2.5}), (20, {"j_reference": -1.2})], ["J(y) 1.5 nat/token below the base"]),
        ([(0, {"j_reference": -1.0}), (10, {"j_reference": -2.0})], []),
        ([(0, {"entropy": 1.0}), (10, {"entropy": 2.5})], ["entropy 2.5x the base's"]),
        ([(0, {"entropy": 1.0}), (10, {"entropy": 2.0})], []),
        ([(10, {"entropy": 9.0, "j_reference": -9.0})], []),  # no probe of the base: nothing to compare with
    ],
)
def test_probe_alarms(probes, fired):
    assert list(summarise([alarms(run(probes), evaluation([1.0]))])) == fired


def test_groups_without_signal_are_counted_over_the_last_quarter():
    early = [{"groups_without_signal": 1.0}] * 6
    assert groups_without_signal(run(steps=early + [{"groups_without_signal": share} for share in (0.4, 0.7)]).steps) == pytest.approx(55)
    assert summarise([alarms(run(steps=[*early, {"groups_without_signal": 0.5}, {"groups_without_signal": 0.5}]), [])]) == ()
    assert summarise([alarms(run(steps=[{"loss": 1.0}] * 8), [])]) == ()


def test_minibatches_that_were_not_made_are_an_alarm():
    """Steps of one prompt, three asked for; enough, or none asked for, is none."""
    steps = [{"loss": 1.0}] * 2
    short = replace(run(steps=steps), info=replace(INFO, config={"objective": {"minibatches": 3}}))
    line = "2 fewer minibatches a step than asked for"
    assert summarise([alarms(short, [])]) == (line,)
    for config in ({"objective": {"minibatches": 1}}, {"objective": None}, {}):
        assert alarms(replace(short, info=replace(INFO, config=config)), []) == ()


def test_truncation_and_the_count_of_seeds():
    bad = alarms(run(), evaluation([1.0] * 10, finished=[False] * 3 + [True] * 7))
    fine = alarms(run(), evaluation([1.0] * 10, finished=[False] * 2 + [True] * 8))
    assert summarise([bad, fine]) == ("30% truncated (1 of 2 seeds)",)
    assert fine == ()


def test_prompts_that_were_cut_are_an_alarm_above_five_percent_of_any_set():
    """As told of the set that lost most; old records, which don't say of how many, tell nothing."""

    def fired(**cut):
        lengths = {name: Lengths(100, count, 0, "cut", prompts=100) for name, count in cut.items()}
        return summarise([alarms(replace(run(), info=replace(INFO, lengths=lengths)), [])])

    assert fired(training=5, other=5) == ()
    assert fired(training=0, other=6) == ("6.0% of a set's prompts cut",)
    old = {"training": Lengths(100, 50, 0, "cut")}
    assert alarms(replace(run(), info=replace(INFO, lengths=old)), []) == ()
