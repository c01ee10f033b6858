"""examples/loop.py gives the numbers that the same cell gives through the library's own `build`."""

from __future__ import annotations

import re

import pytest

from examples import loop
from grao_bench.core.process import process_settings
from grao_bench.core.specs import load
from grao_bench.runs.cell import build
from grao_bench.training.loop import train
from tests.cells import cell, small


@pytest.mark.parametrize("objective", ["grao", "dpo"])
def test_it_trains_as_a_cell_does(objective, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "load", small)  # the same values, in the tests' size
    loop.main(["--objective", objective, "--steps", "1", "--prompts", "4", "--lr", "0.002"])
    said = capsys.readouterr().out

    budget = load("budget/laptop", steps=1)
    optimizer = load("optimizer/adamw", lr=0.002)
    experiment = cell(objective, tmp_path, budget=budget, optimizer=optimizer)
    with process_settings(experiment.threads):
        built = build(experiment)
        (record,) = train(built.trainer, built.collector, built.examples, experiment.seed)
    assert f"loss {record.metrics['loss']:7.3f}" in said
    before, after = re.findall(r"base ([\d.]+), \w+ ([\d.]+)", said)[0]
    assert {25 * n for n in range(5)} >= {float(before), float(after)}
