"""The numbers behind the figures, from records written by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from grao_bench.core.record_files import find_runs
from grao_bench.core.records import ProbeRecord, StepRecord
from grao_bench.reporting.gather.curves import beta_lambda_map, component_shares, group_size_curve, kl_points, probe_curve, step_curve
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather

from .records import HELPFUL, share, write_run

KEY = (HELPFUL, "gold")


def probes(*rewards):
    return [ProbeRecord(2 * i, {"reward": float(reward), "kl": float(i), "ras": 0.5}) for i, reward in enumerate(rewards)]


def steps(*parts, tokens=100):
    return [
        StepRecord(i, {"loss/exploration": a, "loss/imitation": b, "loss": a + b}, 1, 8, tokens * i, 500)
        for i, (a, b) in enumerate(parts, 1)
    ]


@pytest.fixture
def cells(tmp_path):
    halves = [(1.0, -3.0), (0.0, 0.0), (-2.0, 2.0), (1.0, 0.0)]
    write_run(tmp_path, "base", {KEY: share(20)}, config_hash="00000000")
    write_run(tmp_path, "grao", {KEY: share(50)}, probes=probes(0, 1, 4), steps=steps(*halves), seconds=(1.0, 2.0, 3.0, 4.0))
    write_run(
        tmp_path, "grao", {KEY: share(50)}, seed=1, probes=probes(0, 3), steps=steps(*halves, tokens=300), seconds=(1.0, 4.0, 1.0, 1.0)
    )
    write_run(tmp_path, "sft", {KEY: share(50)}, probes=probes(0, 1, 1), steps=[replace(s, generated_tokens=0) for s in steps(*halves)])
    return gather(find_runs(tmp_path), {})


def test_reward_against_step_is_mean_and_t_band_where_all_seeds_were_probed(cells):
    found = probe_curve(cells)
    grao = found[found["method"] == "grao"]
    assert grao["step"].tolist() == grao["x"].tolist() == [0, 2]  # seed 1 has no probe at step 4
    last = grao.iloc[-1]
    assert (last["mean"], last["sd"], last["seeds"]) == (2, pytest.approx(math.sqrt(2)), 2)
    assert last["high"] - 2 == pytest.approx(12.706205)  # t(0.975, 1) * sqrt 2 / sqrt 2
    sft = found[found["method"] == "sft"]
    assert sft["mean"].tolist() == [0, 1, 1]
    assert sft[["sd", "low", "high"]].isna().all(axis=None)
    assert set(found["method"]) == {"sft", "grao"}


def test_the_same_against_what_had_been_spent(cells):
    tokens = probe_curve(cells, axis="generated_tokens")
    assert set(tokens["method"]) == {"grao"}, "SFT generates nothing"
    assert tokens["x"].tolist() == [0, ((100 + 200) + (300 + 600)) / 2]
    seconds = probe_curve(cells, axis="seconds")
    assert set(seconds["method"]) == {"grao"}, "no times were recorded for SFT"
    assert seconds["x"].tolist() == [0, (3 + 5) / 2]
    assert probe_curve(cells, axis="forward_tokens").query("method == 'sft'")["x"].tolist() == [0, 1000, 2000]


def test_a_step_metric_smoothed(cells):
    found = step_curve(cells, "loss", window=2).query("method == 'sft'")
    assert found["mean"].tolist() == [-2, -1, 0, 0.5]
    assert step_curve(cells, "absent").empty


def test_component_shares_by_hand(cells):
    plain = component_shares(cells).query("method == 'sft'")
    exploration = plain[plain["component"] == "exploration"]
    assert exploration["step"].tolist() == [1, 3, 4]  # all parts are 0 at step 2
    assert exploration["mean"].tolist() == [0.25, 0.5, 1.0]
    smooth = component_shares(cells, window=2).query("method == 'sft' and component == 'exploration'")
    assert smooth["mean"].tolist() == [0.25, 0.25, 0.5, pytest.approx(3 / 5)]
    totals = plain.groupby("step")["mean"].sum()
    assert totals.tolist() == [1, 1, 1]


def test_every_probe_is_a_point_and_the_kept_one_is_marked(cells):
    found = kl_points(cells)
    assert len(found) == 3 + 2 + 3
    grao = found[(found["method"] == "grao") & (found["seed"] == 0)]
    assert grao["kl"].tolist() == [0, 1, 2]
    assert grao["kept"].tolist() == [False, False, True]
    assert grao["entropy"].isna().all()


def test_maps_over_settings(tmp_path):
    write_run(tmp_path, "base", {KEY: share(20)}, config_hash="00000000")
    for i, (beta, lam, rollouts) in enumerate([(0.5, 0.6, 8), (0.5, 0.0, 8), (1, 0.6, 4)]):
        config = {"objective": {"beta": beta, "lam": lam, "rollouts": rollouts}}
        write_run(tmp_path, "grao", {KEY: share(50 + 10 * i)}, config=config, config_hash=f"{i}" * 8)
    write_run(tmp_path, "sft", {KEY: share(30)}, config={"objective": {"name": "sft"}})
    write_run(tmp_path, "grpo", {KEY: share(30)}, config={"objective": {"rollouts": 16}})
    rows = score(gather(find_runs(tmp_path), {}), "loss")
    found = beta_lambda_map(rows)
    assert {(line["beta"], line["lam"]): line["mean"] for line in found.to_dict("records")} == {
        (0.5, 0.6): 50,
        (0.5, 0.0): 60,
        (1.0, 0.6): 70,
    }
    assert found["seeds"].tolist() == [1, 1, 1]
    curve = group_size_curve(rows, "nag_mean")
    assert curve[["objective", "group_size", "mean"]].values.tolist() == [
        ["grao", 4.0, 100.0],
        ["grao", 8.0, 80.0],  # lambda 0 before 0.6, the order of the rows
        ["grao", 8.0, 60.0],
        ["grpo", 16.0, 20.0],
    ]


def test_no_records_give_empty_frames_with_their_columns():
    assert list(probe_curve([]).columns)[-6:] == ["mean", "sd", "low", "high", "seeds", "values"]
    assert component_shares([]).empty
    assert kl_points([]).empty
    assert beta_lambda_map([]).empty
