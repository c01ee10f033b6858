"""Steps to a level, from curves written by hand: first crossing, censoring, savings paired by seed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from grao_bench.core.records import ProbeRecord, Run, RunInfo
from grao_bench.reporting.gather.dynamics import best_gain, fewer_steps, steps_frame, steps_to_best, steps_to_gain
from grao_bench.reporting.gather.runs import gather

SLOW = (-0.5, -0.4, -0.2, 0.0, 0.4, 0.5)  # gains 0.1 0.3 0.5 0.9 1.0: 95% of the best at step 50
FAST = (-0.5, 0.2, 0.48, 0.5, 0.3, 0.1)  # gains 0.7 0.98 1.0 0.8 0.6: 95% at step 20
WEAK = (-0.5, -0.3, -0.2, -0.2, -0.2, -0.2)
FALLS = (-0.5, -0.6, -0.7, -0.5, -0.5, -0.6)


def run(objective, values, seed=0, every=10, first=0):
    info = RunInfo(objective, "tiny", "world_helpful", "gold", seed, f"hash of {objective}", {}, {}, {})
    probes = [ProbeRecord(first + every * i, {"reward": value}) for i, value in enumerate(values)]
    return Run(Path(f"{objective}/seed{seed}"), info, [], probes, [], {})


def cell(*runs):
    (found,) = gather(runs, {})
    return found


def test_the_first_probe_with_95_percent_of_the_gain():
    assert best_gain(run("a", SLOW)) == 1.0
    assert steps_to_best(run("a", SLOW)) == 50
    assert steps_to_best(run("a", FAST)) == 20
    assert steps_to_best(run("a", SLOW), share=0.5) == 30
    assert steps_to_gain(run("a", WEAK), 0.3) == 20


def test_what_is_never_reached_has_no_number():
    assert math.isnan(steps_to_gain(run("a", WEAK), 1.0))
    assert math.isnan(steps_to_best(run("a", FALLS)))
    assert math.isnan(steps_to_best(run("a", SLOW, first=10))), "no probe of the base"
    assert math.isnan(steps_to_best(run("a", ())))


def test_half_the_steps_is_50_percent_fewer_paired_by_seed():
    grpo = cell(run("grpo", SLOW, 0), run("grpo", SLOW, 1, every=20), run("grpo", SLOW, 2))
    grao = cell(run("grao", FAST, 0), run("grao", FAST, 1, every=20), run("grao", SLOW, 2, every=5))  # 20/50, 40/100, 25/50
    saving, why = fewer_steps(grao, grpo, "own")
    assert (saving.mean, saving.n, saving.kind, why) == (pytest.approx((60 + 60 + 50) / 3), 3, "seeds", "")
    assert fewer_steps(grpo, grao, "own")[0].mean < -100


def test_a_seed_that_never_gets_there_takes_the_number_away():
    grpo = cell(run("grpo", SLOW, 0), run("grpo", SLOW, 1))
    weak = cell(run("weak", FAST, 0), run("weak", WEAK, 1))
    assert fewer_steps(weak, grpo, "reference") == (None, "not reached in 1 of 2 seeds")
    assert fewer_steps(weak, grpo, "own")[0].mean == pytest.approx((60 + 60) / 2)  # 20 of 50; WEAK's own best (0.3) at 20 of 50
    assert fewer_steps(weak, cell(run("grpo", SLOW, 7)), "own") == (None, "no common seed")


def test_the_frame_has_a_line_per_cell_that_was_probed():
    cells = gather([run("grpo", SLOW), run("grao", FAST), run("sft", FALLS), run("dpo", ()), run("base", SLOW)], {})
    lines = {line["method"]: line for line in steps_frame(cells).to_dict("records")}
    assert set(lines) == {"sft", "grpo", "grao"}
    assert lines["grao"]["fewer_than_grpo_to_own"].mean == pytest.approx(60)
    assert lines["grao"]["fewer_than_grpo_to_own"].kind == "point"
    assert lines["grpo"]["fewer_than_grpo_to_own"] is None
    assert lines["grao"]["fewer_than_ppo_to_own"] is None
    assert (lines["sft"]["never"], lines["sft"]["steps_to_best_interval"]) == (1, None)
