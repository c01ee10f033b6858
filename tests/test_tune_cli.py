"""python -m grao_bench.tune, with real tiny runs: chosen on dev, equal counts, and gone on with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from grao_bench.core.record_files import find_runs
from grao_bench.core.specs import conf_dir
from grao_bench.tune import Tuning, read_protocol

PROTOCOL = """
_target_: grao_bench.tuning.protocol.TuningProtocol
sweep: toy
table: tiny
sets: [world_helpful]
seeds: [100, 101]
search: {_target_: grao_bench.tuning.protocol.GridSearch, points: 3}
most_rounds: 1
n_jobs: 1
committed: false
objectives:
  sft: {optimizer.lr: [0.001, 0.004]}
  dpo: {optimizer.lr: [0.01, 0.04]}
overrides: [model.steps=20, model.hidden_size=16, data.corpus_documents=200, data.num_train=40,
  data.num_dev=10, data.num_test=10, budget=smoke, budget.probe_every=0, evaluation.sets=own,
  evaluation.max_examples=2, save_model=none]
"""


@pytest.fixture(scope="module")
def toy(_commands, tmp_path_factory):
    """(its folder, how the tuning ended)."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "toy.yaml").write_text(PROTOCOL)
    return folder, _commands.run(folder, "tune", "protocol=toy.yaml", "write=false")


@pytest.fixture
def tune(_commands):
    """`tune(folder, ...)` is the command, of the toy protocol that lies in the folder."""
    return lambda folder, *words: _commands.run(folder, "tune", "protocol=toy.yaml", *words)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("run.json")}


@pytest.mark.slow
def test_every_objective_has_as_many_trials_and_the_best_mean_is_chosen(toy):
    folder, outcome = toy
    assert outcome.code == 0, outcome.err
    runs = [run for run in find_runs(folder / "runs" / "toy") if run.info.objective != "base"]
    scores = pd.DataFrame(
        [
            {
                "objective": run.info.objective,
                "rate": run.info.config["optimizer"]["lr"],
                "ras": 100 * run.probes[-1].metrics["ras"],
                "last": run.probes[-1].step,
            }
            for run in runs
        ]
    )
    assert set(scores["last"]) == {2}
    assert scores.groupby("objective").size().to_dict() == {"sft": 8, "dpo": 8}, "one round more"
    means = scores.groupby(["objective", "rate"])["ras"].mean().round(6).reset_index()
    ranked = means.sort_values(["ras", "rate"], ascending=[False, True])
    first = ranked.groupby("objective").first()["rate"].to_dict()
    chosen = yaml.safe_load((folder / "runs/toy/tuning/chosen.yaml").read_text())["world_helpful"]
    assert {name: one["optimizer.lr"] for name, one in chosen.items()} == pytest.approx(first)
    table = pd.read_csv(folder / "runs/toy/tuning/trials.csv")
    assert len(table) == 16
    assert sorted(table["round"].unique()) == [0, 1]
    assert "| sft " in outcome.out


@pytest.mark.slow
def test_a_tuning_goes_on_with_what_is_done(toy, tune):
    folder, _ = toy
    gone = next((folder / "runs/toy/tiny/world_helpful").glob("dpo-*/seed101"))
    csv = (folder / "runs/toy/tuning/trials.csv").read_bytes()
    shutil.rmtree(gone)
    before = times(folder)
    outcome = tune(folder, "write=false")
    assert outcome.code == 0, outcome.err
    after = times(folder)
    assert {path for path in after if after[path] != before.get(path)} == {gone / "run.json"}
    assert (folder / "runs/toy/tuning/trials.csv").read_bytes() == csv


@pytest.mark.slow
def test_an_estimate_trains_nothing(tune, tmp_path):
    (tmp_path / "toy.yaml").write_text(PROTOCOL)
    outcome = tune(tmp_path, "estimate=true")
    assert outcome.code == 0, outcome.err
    assert "sft on world_helpful: " in outcome.out
    assert "6 cells" in outcome.out
    assert "first round: " in outcome.out
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_cell_that_fails_is_told_once_and_its_trial_not_chosen(tune, tmp_path):
    alone = PROTOCOL.replace("  dpo: {optimizer.lr: [0.01, 0.04]}\n", "")
    (tmp_path / "toy.yaml").write_text(alone)
    protocol = read_protocol(str(tmp_path / "toy.yaml"))
    (cell,) = Tuning.of(protocol, str(tmp_path / "runs"), ()).cells.values()
    broken = replace(cell, seed=100, optimizer=replace(cell.optimizer, lr=0.001)).folder
    broken.parent.mkdir(parents=True)
    broken.with_name("seed100.partial").write_text("a file where the run's folder belongs")
    outcome = tune(tmp_path, "write=false")
    assert outcome.code == 0, outcome.err
    said = outcome.err.count(f"{broken.relative_to(tmp_path)}: FileExistsError")
    assert said == 1, "two rounds, and tried in the first alone"
    table = pd.read_csv(tmp_path / "runs/toy/tuning/trials.csv")
    assert len(table[table["optimizer.lr"] == 0.001]) == 1, "one seed of it, in one round"
    assert table["optimizer.lr"].nunique() in (3, 4)
    assert not table[table["optimizer.lr"] == 0.001]["chosen"].any()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("protocol=latop",), "protocol=latop: there is no latop.yaml; there are full, laptop"),
        (("estimate",), "estimate: give key=value"),
        (("protocol=toy.yaml", "objective.bta=1"), "objective.bta"),
    ],
)
def test_mistakes_are_one_line(words, told, command, tmp_path):
    (tmp_path / "toy.yaml").write_text(PROTOCOL)
    outcome = command("tune", *words)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert told in line


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "tune").glob("*.yaml")))
def test_committed_protocols_give_every_objective_as_many_trials(name):
    """On each set, in the first round and in every other; never with the seeds of a comparison."""
    protocol = read_protocol(name)
    first = {one: protocol.search.first(protocol.ranges(one)) for one in protocol.objectives}
    assert len({len(trials) for trials in first.values()}) == 1
    more = [
        len(protocol.search.more(protocol.ranges(one), trials, best, 1))
        for one, trials in first.items()
        for best in (min(trials), max(trials))
    ]
    assert len(set(more)) == 1
    assert min(protocol.seeds) >= 100
    assert (conf_dir() / "lr_by" / f"{protocol.table}.yaml").is_file()
    assert Path(protocol.sweep).name == protocol.sweep
