"""Late in training, from curves written by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from grao_bench.core.records import ProbeRecord, Run, RunInfo, StepRecord
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.tables.late_training import late_training, rise, silent_groups, variation

# probes at steps 0, 10, ..., 100: a gain of 1 at step 90; late: 0.3, 0.5, 0.4
RISES = (-0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.4)
FLAT = (-0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
FALLS = (-0.5, *(-0.6,) * 10)


def run(objective, values, seed=0, silent=()):
    info = RunInfo(objective, "tiny", "world_helpful", "gold", seed, objective, {}, {}, {})
    probes = [ProbeRecord(10 * i, {"reward": value}) for i, value in enumerate(values)]
    steps = [step(i, share) for i, share in enumerate(silent, 1)]
    return Run(Path(f"{objective}/seed{seed}"), info, steps, probes, [], {})


def step(number, silent):
    metrics = {} if silent is None else {"groups_without_signal": float(silent)}
    return StepRecord(number, metrics, 8, 64, 1000, 2000)


def test_half_the_range_of_the_last_fifth():
    assert variation(run("a", RISES)) == pytest.approx(10)  # (0.5 - 0.3) / 2 of a gain of 1
    assert variation(run("a", FLAT)) == 0
    assert math.isnan(variation(run("a", FALLS))), "no gain"
    assert math.isnan(variation(run("a", (0.0, 1.0, 2.0)))), "steps 16 to 20: one probe"


def test_the_last_quarter_against_the_one_before():
    # steps 80, 90, 100 (75 is between probes): 0.4; steps 50, 60, 70: 0.1
    assert rise(run("a", RISES)) == pytest.approx(30)
    assert rise(run("a", FLAT)) == 0
    assert math.isnan(rise(run("a", ())))


def test_groups_without_signal_of_the_last_fifth():
    # of ten steps the last two
    assert silent_groups(run("a", FLAT, silent=(1, 1, 1, 1, 1, 1, 1, 1, 0.25, 0.75))) == 50
    assert math.isnan(silent_groups(run("sft", FLAT, silent=(None,) * 10)))


def test_the_table_has_a_row_a_configuration_and_no_mean_over_some_of_the_seeds():
    runs = [run("grpo", RISES, 0), run("grpo", FLAT, 1), run("ppo", RISES, 0), run("ppo", FALLS, 1)]
    sheet = late_training(gather(runs, {}))
    lines = {line["method"]: line for line in sheet.frame.to_dict("records")}
    assert set(lines) == {"grpo"}, "a seed of ppo never gained"
    assert lines["grpo"]["variation"] == pytest.approx(5)
    assert lines["grpo"]["rise"] == pytest.approx(15)
    assert lines["grpo"]["seeds"] == 2
    assert late_training(gather([run("sft", ())], {})) is None
