"""What a process has one of: set for a cell, put back after it, and no cell's numbers another's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.precision import FLOAT32_TOLERANCE, float32_error
from grao_bench.core.process import loaded_once, process_settings
from grao_bench.core.specs import load
from grao_bench.runs.run import run
from tests.cells import RESULTS, cell, contents, small
from tests.commands import begin


def state():
    return torch.get_num_threads(), torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def elsewhere():
    """Settings that no cell asks for."""
    before = state()
    torch.set_num_threads(3)
    torch.set_float32_matmul_precision("high")
    yield (3, "high")
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])


def test_settings_hold_within_and_are_put_back_after_also_when_it_fails(elsewhere):
    with process_settings(2):
        assert torch.get_num_threads() == 2
        assert float32_error() <= FLOAT32_TOLERANCE
        with process_settings(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert state() == elsewhere
    with pytest.raises(UserError), process_settings(2):
        raise UserError("stop")
    assert state() == elsewhere


def test_a_cell_leaves_the_process_as_it_was(elsewhere, tmp_path):
    run(cell("sft", tmp_path, evaluation=small("evaluation/standard", max_examples=2)))
    assert state() == elsewhere
    short = load("budget/smoke", max_answer_tokens=1, long_references="drop")
    with pytest.raises(UserError, match="no reference fits"):
        run(cell("sft", tmp_path, budget=short))
    assert state() == elsewhere


def test_what_is_loaded_is_shared_within_a_cell_and_let_go_after():
    made = []

    def load_it():
        made.append(object())
        return made[-1]

    with process_settings(1):
        one, two, other = loaded_once("a", load_it), loaded_once("a", load_it), loaded_once("b", load_it)
        with process_settings(1):
            assert loaded_once("a", load_it) is not one, "a cell within has its own"
        assert loaded_once("a", load_it) is one
    assert one is two
    assert one is not other
    assert loaded_once("a", load_it) is not one
    assert len(made) == 4


CELLS = {
    "one": {"objective": "grpo", "threads": 1, "rollout": "shared_prefix", "dtype": "float32"},
    "two": {"objective": "sft", "threads": 2, "rollout": "transformers", "dtype": "float64"},
}


def experiment(name, output):
    asked = CELLS[name]
    model = small("model/tiny", steps=20, dtype=asked["dtype"])
    budget = load("budget/smoke", max_answer_tokens=8, answers_per_step=8, probe_prompts=2, steps=1)
    rollout = load(f"rollout/{asked['rollout']}")
    evaluation = small("evaluation/standard", max_examples=2)
    changed = {"model": model, "rollout": rollout, "budget": budget, "evaluation": evaluation}
    return cell(asked["objective"], output, threads=asked["threads"], **changed)


def run_it(name, output):
    run(experiment(name, output))


def alone(name, output):
    """The cell's bytes in a fresh process, with a base of its own."""
    cache = str(output.parent / f"cache-{name}")
    process = begin(run_it, name, output, GRAO_BENCH_CACHE=cache)
    process.join()
    assert process.exitcode == 0
    return contents(experiment(name, output).folder, *RESULTS)


def test_two_cells_in_one_process_give_the_bytes_that_each_gives_alone(tmp_path, monkeypatch):
    """In either order, with other threads, precision and engine."""
    expected = {name: alone(name, tmp_path / "alone" / name) for name in CELLS}
    for order in (["one", "two"], ["two", "one"]):
        output = tmp_path / "-".join(order)
        monkeypatch.setenv("GRAO_BENCH_CACHE", str(output / "cache"))
        for name in order:
            folder = run(experiment(name, output / name))
            assert contents(folder, *RESULTS) == expected[name], (order, name)


def test_the_base_does_not_depend_on_the_cell_that_makes_it(tmp_path, monkeypatch):
    """Cells of other threads share it, and a process with another float32 path made it before."""
    made = set()
    for threads, precision in ((1, "highest"), (2, "medium")):
        monkeypatch.setenv("GRAO_BENCH_CACHE", str(tmp_path / f"{threads}"))
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        spec, data = small("model/tiny", hidden_size=64, steps=20), small("data/world_helpful")
        folder = spec.checkpoint(data.corpus)
        made.add((Path(folder) / "model.safetensors").read_bytes())
        assert state() == (threads, precision)
    assert len(made) == 1
