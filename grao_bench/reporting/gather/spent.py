"""What runs spent: steps, answers, tokens; of both stages where there are two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell

COUNTED = {
    "steps": "steps",
    "answers": "answers trained on",
    "generated_tokens": "generated tokens",
    "forward_tokens": "forward tokens",
}


def spent_before(cell: Cell, cells: Iterable[Cell], axis: str) -> float | None:
    """What the runs that a cell started from had spent (a key of COUNTED), mean over its seeds;
    None when one is not among the cells."""
    found = [(both_stages(run, cells), counts_of(run)) for run in cell.runs]
    before = [total[axis] - own[axis] for total, own in found if total is not None]
    return sum(before) / len(before) if before and len(before) == len(found) else None


def both_stages(run: Run, cells: Iterable[Cell]) -> dict[str, float] | None:
    """What a run and the runs that it started from counted together; None when one of them is not
    among the cells."""
    cells = list(cells)
    total = dict.fromkeys(COUNTED, 0.0)
    current: Run | None = run
    seen: set[Path] = set()
    while current is not None and current.folder not in seen:
        seen.add(current.folder)
        total = {name: total[name] + count for name, count in counts_of(current).items()}
        model = current.info.config.get("model")
        start = model.get("start_from") if isinstance(model, Mapping) else None
        if not start:
            return total
        tail = Path(start).parts[-4:]
        current = next(
            (
                other
                for cell in cells
                for other in cell.runs
                if other.folder.resolve().parts[-4:] == tail
            ),
            None,
        )
    return None


def counts_of(run: Run) -> dict[str, float]:
    return {
        "steps": float(len(run.steps)),
        "answers": float(sum(step.answers for step in run.steps)),
        "generated_tokens": float(sum(step.generated_tokens for step in run.steps)),
        "forward_tokens": float(sum(step.forward_tokens for step in run.steps)),
    }
