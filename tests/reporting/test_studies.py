"""The tables beside Tables 1 and 2, from record folders: numbers by hand, absences shown."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from grao_bench.core.record_files import find_runs, find_unfinished, read_run
from grao_bench.core.records import EvalRecord, ProbeRecord, StepRecord
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.tables.choice import cross_tables, main_tables
from grao_bench.reporting.tables.every import all_sheets
from grao_bench.reporting.tables.mcnemar import mcnemar_sheet

from .records import HARMLESS, HELPFUL, evaluation, share, write_run, write_unfinished

KEY, OTHER = (HELPFUL, "gold"), (HARMLESS, "gold")
BASE_RAS = 20
GRAO = {"objective": {"alpha": 1.0, "beta": 0.5, "lam": 0.6, "group": "outputs"}}


def sheets_of(root):
    cells = gather(find_runs(root), find_unfinished(root))
    rows = score(cells, "loss")
    sheets = all_sheets(cells, rows, main_tables(rows, "loss"), cross_tables(rows, "loss"))
    assert len({sheet.name for sheet in sheets}) == len(sheets)
    return {sheet.name: sheet for sheet in sheets}


def lines(sheet, *key):
    """The text rows as dicts, by the values of these columns (the first by default)."""
    found = [dict(zip(sheet.grid.header, row, strict=True)) for row in sheet.grid.rows]
    return {tuple(line[name] for name in key) if key else next(iter(line.values())): line for line in found}


def write_seeds(root, objective, values, **more):
    for seed, value in enumerate(values):
        write_run(root, objective, {KEY: share(value)}, seed=seed, **more)


@pytest.fixture
def base(tmp_path):
    write_run(tmp_path, "base", {KEY: share(BASE_RAS)}, config_hash="00000000")
    return tmp_path


def test_ablation_drops_against_full_grao_paired_by_seed(base):
    write_seeds(base, "grao", (70, 65, 75), config=GRAO)  # nag_mean 100 90 110
    write_seeds(base, "grao_no_imitation", (65, 60, 69))  # 90 80 98: drops 10 10 12, relative 10, 11.11, 10.91
    write_seeds(base, "grao_no_regulariser", (45, 45, 45))  # 50: drops 50 40 60
    write_unfinished(base, "grao_no_exploration", "loss is not finite at step 3")
    sheet = sheets_of(base)["ablation-world_helpful-gold"]
    assert sheet.title.startswith("Table 3")
    found = lines(sheet)
    assert list(found) == [
        "full GRAO",
        "without imitation",
        "without exploration",
        "without exploration at all",
        "without alignment regulariser",
    ]
    imitation = found["without imitation"]
    # over seeds: sd 1.1547, t = 16, p = 0.0039, twice that of two tests. Over 100 prompts too: the variants differ by 1/3 on 14 and
    # by 2/3 on one, error 200 sqrt((2 / 100 - 0.0533^2) / 99) = 2.63, 2.28 times that, which is wider
    assert imitation["drop in nag_mean"] == "10.7 [4.6, 16.7] **"
    assert imitation["p (adjusted)"] == "0.008"
    assert imitation["relative drop %"].startswith("10.7 ± 0.6")
    assert found["without alignment regulariser"]["drop in nag_mean"].startswith("50.0 [14.2, 85.8]")
    assert found["full GRAO"]["drop in nag_mean"] == "-"
    assert found["full GRAO"]["paper's Qwen2.5-7B: NAG (drop %)"] == "67.98"
    assert found["without alignment regulariser"]["paper's Moonlight-16B: NAG (drop %)"] == "46.26 (16.0)"
    assert found["without exploration"]["notes"].startswith("seed 0 not finished: loss is not finite at step 3")
    assert found["without exploration at all"]["notes"] == "not run"
    assert {found["without exploration at all"][name] for name in ("nag_mean %", "RAS %", "drop in nag_mean", "method")} == {"-"}
    numbers = sheet.frame.set_index("variant")
    assert numbers.loc["without imitation", "drop_mean"] == pytest.approx(32 / 3)
    assert numbers.loc["without exploration"][["nag_mean", "drop_mean", "relative_drop"]].isna().all()


def test_an_ablation_that_differs_in_more_than_the_objective_says_so(base):
    write_seeds(base, "grao", (70, 65), config=GRAO | {"optimizer": {"lr": 0.1}})
    write_seeds(base, "grao_no_imitation", (65, 60), config={"optimizer": {"lr": 0.2}})
    found = lines(sheets_of(base)["ablation-world_helpful-gold"])
    assert found["without imitation"]["notes"] == "differs from full GRAO also in optimizer.lr"


def test_no_ablation_no_table_3(base):
    write_seeds(base, "grao", (70, 65), config=GRAO)
    assert not [name for name in sheets_of(base) if name.startswith(("ablation", "two_stages", "judges"))]


def steps(count, tokens):
    return [StepRecord(i, {}, 1, 8, tokens, 10 * tokens) for i in range(1, count + 1)]


def test_two_stages_count_both_and_stand_against_grao(base):
    write_seeds(base, "grao", (60, 66), config=GRAO, steps=steps(5, 100))
    write_seeds(base, "sft", (30, 30), config={"model": {"start_from": None}}, steps=steps(2, 0))
    for seed in (0, 1):
        config = {"model": {"start_from": f"elsewhere/tiny/{HELPFUL}/sft-aaaaaaaa/seed{seed}"}}
        run = {KEY: share(50 + 8 * seed)}
        write_run(base, "grpo", run, seed=seed, config=config, config_hash=f"{seed}" * 8, steps=steps(3, 100))
    found = lines(sheets_of(base)["two_stages-world_helpful-gold"])
    chained = found["sft, then grpo"]
    assert (chained["steps"], chained["generated tokens"], chained["forward tokens"]) == ("5", "300", "3000")
    assert chained["RAS: minus GRAO"] == "-9.0 [-21.7, 3.7]"  # -10 -8: sd 1.414, t(0.975, 1) / sqrt 2 * 1.414 = 12.7
    assert chained["p"] == "0.070"  # over seeds, which are two here and count for more than the prompts
    assert found["grao"]["RAS: minus GRAO"] == "-"
    assert found["grao"]["steps"] == "5"


def test_a_first_stage_that_is_not_there_leaves_the_cost_open(base):
    config = {"model": {"start_from": f"runs/tiny/{HELPFUL}/sft-99999999/seed0"}}
    write_run(base, "grpo", {KEY: share(50)}, config=config, steps=steps(3, 100))
    (line,) = lines(sheets_of(base)["two_stages-world_helpful-gold"]).values()
    assert line["notes"] == "the first stage's run is not in this folder, so its cost is not known"
    assert "steps" not in line, "nothing is known in any row"


def test_the_training_reward_beside_the_judge_on_the_same_answers(tmp_path):
    for seed in (0, 1):
        both = {(HELPFUL, "model"): share(80 + 10 * seed), KEY: share(50 - 4 * seed)}
        write_run(tmp_path, "grpo", both, seed=seed, reward="model")
    (line,) = lines(sheets_of(tmp_path)["judges"]).values()
    assert (line["training reward"], line["judge"]) == ("model (test)", "gold")
    assert line["RAS % by it"].startswith("85.0 ± 7.1")
    assert line["RAS % by the judge"].startswith("48.0 ± 2.8")
    assert line["gap"].startswith("37.0 [")
    assert "its base's gap" not in line, "the base was not judged"
    write_run(tmp_path, "base", {(HELPFUL, "model"): share(30), KEY: share(BASE_RAS)}, config_hash="00000000")
    (line,) = lines(sheets_of(tmp_path)["judges"]).values()
    assert (line["its base's"][:4], line["its base's gap"]) == ("30.0", "10.0")


def test_the_training_reward_on_dev_where_the_test_answers_were_judged_by_another_alone(tmp_path):
    probes = [ProbeRecord(0, {"ras": 0.25}), ProbeRecord(5, {"ras": 0.9})]
    write_run(tmp_path, "grpo", {KEY: share(50)}, reward="model", probes=probes)
    (line,) = lines(sheets_of(tmp_path)["judges"]).values()
    assert line["training reward"] == "model (dev)"
    assert (line["RAS % by it"], line["its base's"]) == ("90.0", "25.0")
    assert line["gap"] == "40.0"


def test_probes_of_the_kept_policy_with_their_errors(base):
    probes = [ProbeRecord(0, {"kl": 0.0, "entropy": 1.0, "j_reference": -1.0})]
    for seed, kl in enumerate((1.0, 3.0)):
        last = ProbeRecord(9, {"kl": kl, "kl_se": 0.1 + 0.2 * seed, "kl_token": kl / 10, "entropy": 0.5, "j_reference": -2.0})
        write_run(base, "grpo", {KEY: share(50)}, seed=seed, probes=[*probes, last])
    write_run(base, "sft", {KEY: share(50)}, probes=[*probes, replace(last, step=5)])
    found = lines(sheets_of(base)["probes"])
    assert found["grpo"]["KL per answer, nats"].startswith("2.00 ± 1.41 [")
    assert found["grpo"]["its standard error within a run"] == "0.20"
    assert found["grpo"]["KL per token, nats"].startswith("0.2000 ± 0.1414")
    assert found["sft"]["KL per answer, nats"] == "3.00 [2.41, 3.59]"  # 1.96 x 0.3
    assert (found["sft"]["J(y) at start"], found["sft"]["entropy at start"]) == ("-1.000", "1.000")


def test_cost_by_hand_and_what_was_not_recorded(base):
    for seed, seconds in enumerate(((1.0, 2.0), (2.0, 3.0))):
        peak = (900 + 100 * seed) * 2**20
        write_run(base, "grpo", {KEY: share(50)}, seed=seed, steps=steps(2, 100 + 50 * seed), seconds=seconds, peak_memory=peak)
    write_run(base, "sft", {KEY: share(50)}, steps=steps(2, 0))
    write_unfinished(base, "ppo", "MemoryError: too large")
    found = lines(sheets_of(base)["cost"])
    grpo = found["grpo"]
    assert (grpo["steps"], grpo["answers trained on"], grpo["generated tokens"], grpo["forward tokens"]) == ("2", "16", "250", "2500")
    assert (grpo["seconds"], grpo["seconds per step"], grpo["peak memory"]) == ("4.0 ± 1.4", "2.000", "1,000 MiB")
    assert (found["sft"]["seconds"], found["sft"]["peak memory"]) == ("-", "not recorded")
    assert {found["ppo"][name] for name in ("steps", "seconds", "peak memory", "generated tokens")} == {"-"}
    assert found["ppo"]["notes"] == "seed 0 not finished: MemoryError: too large"


def test_quartiles_lengths_and_repetition(base):
    for seed in (0, 1):
        records = [
            EvalRecord(f"p{i}", 1.0, value + seed, 4, True, reference_tokens=8, distinct_1=0.5, distinct_2=0.5, repetition=0.25)
            for i, value in enumerate((0.0, 1.0, 2.0, 3.0, 9.0))
        ]
        write_run(base, "grpo", {OTHER: records}, data=HARMLESS, seed=seed)
    write_run(base, "base", {OTHER: evaluation([-1, -1, -1, 1, 1])}, data=HARMLESS, config_hash="11111111")
    sheets = sheets_of(base)
    spread = lines(sheets["quartiles-world_harmless-gold"])["grpo"]
    assert spread["q1"] == "1.500 ± 0.707"
    assert spread["variance"] == "12.500 ± 0.000"  # deviations -3 -2 -1 0 6: 50 / 4
    repeated = lines(sheets["lengths-world_harmless-gold"])
    assert repeated["grpo"]["reference's length"] == "8.0 ± 0.0 [8.0, 8.0]"
    assert repeated["grpo"]["RAS %, length controlled"].startswith("100.0")
    assert repeated["grpo"]["repetition %"].startswith("25.0")
    assert repeated["base"]["RAS %, length controlled"] == "-"


def test_steps_to_best_says_what_was_not_reached(base):
    for objective, rewards in {"grpo": (0.0, 0.1, 0.2, 1.0), "grao": (0.0, 1.0, 1.0, 1.0), "sft": (0.0, 0.1, 0.1, 0.1)}.items():
        for seed in (0, 1):
            probes = [ProbeRecord(10 * i, {"reward": reward + 0.01 * seed}) for i, reward in enumerate(rewards)]
            write_run(base, objective, {KEY: share(50)}, seed=seed, probes=probes)
    sheet = sheets_of(base)["steps_to_best"]
    found = lines(sheet)
    assert found["grao"]["steps to its best"] == "10 ± 0 [10, 10]"
    assert found["grao"]["fewer steps than grpo, each to its best, %"] == "67 ± 0 [67, 67]"
    assert found["sft"]["fewer steps to grpo's best, %"] == "not reached in 2 of 2 seeds"
    assert sheet.frame.set_index("method").loc["grao", "fewer_than_grpo_to_reference"] == pytest.approx(200 / 3)


def test_differences_have_intervals_p_a_word_and_the_probability_of_improvement(base):
    write_seeds(base, "sft", (20, 30, 25))
    write_seeds(base, "ppo", (58, 73, 61))
    sheet = sheets_of(base)["differences-world_helpful-gold"]
    found = lines(sheet, "pair", "score")
    assert set(found) == {("sft - ppo", "RAS"), ("sft - ppo", "nag_mean")}
    ras = found["sft - ppo", "RAS"]
    # -38 -43 -36: sd 3.606, over seeds alone 4.3027 * 3.606 / sqrt 3 = 8.96; 100 prompts about 4.9 and some seeds: 2.0 * 5.2
    assert ras["over seeds alone"] == "[-48.0, -30.0]"
    low, high = (float(text) for text in re.findall(r"-?[0-9.]+", ras["difference"])[1:3])
    assert (low < -48.0, high > -30.0, high < -27.0) == (True, True, True)
    assert (ras["p (adjusted)"], ras["first is"]) == ("0.003", "behind")
    assert ras["P(first better)"].startswith("0.00 [0.00, ")
    write_seeds(base, "grpo", (40,), config_hash="bbbbbbbb")
    assert sheets_of(base)["differences-world_helpful-gold"].frame["p"].notna().sum() == 2


def test_one_seed_has_no_table_of_differences(base):
    write_seeds(base, "sft", (20,))
    write_seeds(base, "ppo", (58,))
    assert "differences-world_helpful-gold" not in sheets_of(base)


def test_every_sheet_is_written_three_ways(base):
    write_seeds(base, "grao", (70, 65), config=GRAO)
    write_seeds(base, "grao_no_imitation", (65, 63))
    for sheet in sheets_of(base).values():
        assert sheet.markdown().startswith(f"## {sheet.title}\n\n| ")
        assert "\\toprule" in sheet.latex()
        assert sheet.csv().count("\n") == len(sheet.frame) + 1
        assert len(sheet.frame) > 0


def test_two_checkpoints_prompt_by_prompt(tmp_path):
    folders = [write_run(tmp_path, name, {KEY: evaluation(v)}) for name, v in (("a", (1, 1, 1, -1)), ("b", (0, -1, 1, -1)))]
    sheet = mcnemar_sheet(*map(read_run, folders))
    (line,) = lines(sheet).values()
    assert [line[name] for name in ("prompts", "only A wins", "only B wins", "both", "neither", "p")] == ["4", "2", "0", "1", "1", "0.500"]
    assert sheet.notes[0] == f"A: {folders[0]}"
