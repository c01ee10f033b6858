"""Tracking a cell with Weights & Biases, offline: what its file holds, and that the run is finished."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from grao_bench.core.record_files import read_run
from grao_bench.core.specs import load
from grao_bench.runs.run import run
from tests.cells import cell


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_home"))


def written(folder: Path) -> list[wandb_internal_pb2.Record]:
    """The records of the one offline run below a folder: LevelDB's log format behind a header of 7 bytes, blocks of 32 KiB."""
    wandb.teardown()  # its service writes on after a run is finished, and ends with the process at the latest
    (path,) = folder.rglob("*.wandb")
    data, place = path.read_bytes(), 7
    records, whole = [], b""
    while place < len(data):
        if (left := -place % 32768) < 7 and left:
            place += left  # too little is left of the block for a header
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            records.append(wandb_internal_pb2.Record.FromString(whole))
            whole = b""
    return records


def items(entries) -> dict[str, object]:
    """Key (a nested one joined by points) -> value."""
    return {entry.key or ".".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


def test_a_cell_leaves_an_offline_run_with_its_config_metrics_and_summary(tmp_path):
    folder = run(cell("grpo", tmp_path, tracking=load("tracking/wandb_offline")))

    assert wandb.run is None, "the run is finished"
    records = written(folder)
    (started,) = [record.run for record in records if record.HasField("run")]
    assert (started.project, started.run_group, started.job_type) == ("grao_bench", "small", "grpo")
    assert started.display_name == "grpo-world_helpful-seed0"
    config = items(started.config.update)
    assert config["seed"] == 0
    assert config["objective"]["kl"] == 0.02

    found = read_run(folder)
    history = [items(record.history.item) for record in records if record.HasField("history")]
    assert [row["loss"] for row in history if "loss" in row] == [record.metrics["loss"] for record in found.steps]
    assert [row["probe/kl"] for row in history if "probe/kl" in row] == [probe.metrics["kl"] for probe in found.probes]
    summary = {key: value for record in records if record.HasField("summary") for key, value in items(record.summary.update).items()}
    verdicts = [record.verdict for record in found.evaluations["world_helpful", "gold"]]
    assert summary["world_helpful/ras"] == pytest.approx(100 * sum(verdict > 0 for verdict in verdicts) / len(verdicts))
    assert "world_helpful/nag_mean" in summary
    (end,) = [record.exit for record in records if record.HasField("exit")]
    assert end.exit_code == 0


def test_a_cell_that_fails_finishes_its_run_as_failed(tmp_path):
    experiment = cell("sft", tmp_path, tracking=load("tracking/wandb_offline"))

    def on_step(record):
        raise RuntimeError("no disk left")

    with pytest.raises(RuntimeError, match="no disk left"):
        run(experiment, on_step=on_step)

    assert wandb.run is None
    (end,) = [record.exit for record in written(experiment.folder.with_name("seed0.partial")) if record.HasField("exit")]
    assert end.exit_code == 1
