"""Training that goes on from its last checkpoint and ends as if it had not been interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from grao_bench.core.record_files import append_line, read_lines, read_records, write_lines
from grao_bench.core.records import ProbeRecord, StepRecord
from grao_bench.core.types import Batch
from grao_bench.runs.cell import Cell
from grao_bench.runs.first_batch import first_batch
from grao_bench.training.checkpoint import (
    load_checkpoint,
    load_masters,
    load_trained_state,
    named_masters,
    save_checkpoint,
    trained_state,
)
from grao_bench.training.loop import train


def resume(cell: Cell, partial: Path) -> Iterator[StepRecord | ProbeRecord]:
    """Train from the last checkpoint, writing every record, and leave the policy that the budget keeps in the trainer."""
    trainer, budget, seed = cell.trainer, cell.experiment.budget, cell.experiment.seed
    load_checkpoint(partial / "checkpoint", trainer)
    _rewind(partial, trainer.step)
    if trainer.step == 0:
        yield _probe(cell, partial)

    def show(batch: Batch) -> None:
        if batch.step == 1:
            text = first_batch(cell, batch)
            (partial / "first_batch.txt").write_text(text, encoding="utf-8")

    started = time.perf_counter()
    for record in train(trainer, cell.collector, cell.examples, seed, show):
        append_line(partial / "steps.jsonl", record)
        seconds, started = time.perf_counter() - started, time.perf_counter()
        append_line(partial / "timing.jsonl", {"step": record.step, "seconds": round(seconds, 4)})
        yield record
        if record.step == budget.steps or (budget.probe_every and record.step % budget.probe_every == 0):
            yield _probe(cell, partial)
        if budget.checkpoint_every and record.step % budget.checkpoint_every == 0:
            save_checkpoint(partial / "checkpoint", trainer)
        started = time.perf_counter()
    if budget.keep == "best_dev":
        _restore_best(cell, partial)


def _probe(cell: Cell, partial: Path) -> ProbeRecord:
    """Measure the policy; where the budget keeps the best on dev, save it when it is the best so far (the first of equals)."""
    trainer = cell.trainer
    before = read_records(partial / "probes.jsonl", ProbeRecord)
    probe = cell.prober.probe(trainer.policy, trainer.step)
    append_line(partial / "probes.jsonl", probe)
    if cell.experiment.budget.keep == "best_dev" and all(probe.metrics["ras"] > earlier.metrics["ras"] for earlier in before):
        (partial / "best").mkdir(exist_ok=True)
        state = {"policy": trained_state(trainer.policy), "step": trainer.step}
        state["masters"] = {name: each.detach() for name, each in named_masters(trainer).items()}
        torch.save(state, partial / "best" / f"step{trainer.step}.pt")
    return probe


def _restore_best(cell: Cell, partial: Path) -> None:
    state = torch.load(partial / "best" / f"step{best_step(partial)}.pt", map_location=cell.trainer.policy.model.device, weights_only=True)
    load_trained_state(cell.trainer.policy, state["policy"])
    load_masters(cell.trainer, state["masters"])


def best_step(partial: Path) -> int:
    """The first of those whose policy was best on dev."""
    probes = read_records(partial / "probes.jsonl", ProbeRecord)
    return max(probes, key=lambda probe: (probe.metrics["ras"], -probe.step)).step


def _rewind(partial: Path, step: int) -> None:
    """Drop the records of steps after the checkpoint; they are made again, the same."""
    for name in ("steps.jsonl", "timing.jsonl", "probes.jsonl"):
        path = partial / name
        if path.exists():
            # step 0 is the base's probe: it stays once any step was checkpointed
            write_lines(path, [line for line in _whole_lines(path) if step and line["step"] <= step])


def _whole_lines(path: Path) -> Iterator[dict[str, float]]:
    """The lines of a file whose last one may be torn by the interruption."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    yield from read_lines(path)
