"""The state of a grid, read from the folders that its cells write."""

from __future__ import annotations

import pytest

from grao_bench.core.record_files import append_line
from grao_bench.core.records import StepRecord
from grao_bench.runs.progress import GridState, grid_state, step_note


def record(step, **metrics):
    return StepRecord(step, {"loss": 1.0, **metrics}, prompts=1, answers=8, generated_tokens=9, forward_tokens=9)


@pytest.fixture
def grid(tmp_path):
    """Four cells of ten steps: done, running with a reward, running without one, not begun."""
    (tmp_path / "done").mkdir()
    for name, metrics in (("rewarded", {"reward/mean": 0.25}), ("plain", {})):
        (tmp_path / f"{name}.partial").mkdir()
        for step in (1, 2, 3):
            append_line(tmp_path / f"{name}.partial" / "steps.jsonl", record(step, **metrics))
    return tmp_path, [(tmp_path / name, name, 10) for name in ("done", "rewarded", "plain", "waiting")]


def test_cells_and_steps_are_counted_from_the_folders(grid):
    _, cells = grid
    assert grid_state(cells) == GridState(cells_done=1, steps_done=16, running={"rewarded": (3, 0.25), "plain": (3, None)})
    assert grid_state([]) == GridState(0, 0, {})


def test_a_line_that_is_being_written_does_not_hide_the_last_reward(grid):
    folder, cells = grid
    with (folder / "rewarded.partial" / "steps.jsonl").open("a") as file:
        file.write('{"step": 4, "metrics": {"rew')
    assert grid_state(cells).running["rewarded"][1] == 0.25


def test_a_cell_that_has_begun_and_not_stepped_is_not_running(grid):
    folder, cells = grid
    (folder / "waiting.partial").mkdir()
    assert "waiting" not in grid_state(cells).running
    (folder / "waiting.partial" / "steps.jsonl").write_text("")
    assert grid_state(cells).running["waiting"] == (0, None)


def test_a_step_is_told_by_its_loss_and_its_reward():
    assert step_note(record(1, loss=0.12345)) == "loss 0.123"
    assert step_note(record(1, **{"loss": -2.0, "reward/mean": 0.5})) == "loss -2.000  reward +0.500"
