"""An estimate for people: a table of cells and their sum; or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from grao_bench.core.process import process_settings
from grao_bench.experiment import Experiment
from grao_bench.runs.estimate import Estimate, estimate


def estimates(experiments: Sequence[Experiment]) -> list[tuple[Estimate, int]]:
    """Of each cell, and how many seeds of it there are: they take the same."""
    cells: dict[str, list[Experiment]] = {}
    for one in experiments:
        cells.setdefault(f"{one.data.name} {one.config_hash}", []).append(one)
    found = []
    for seeds in cells.values():
        with process_settings(seeds[0].threads):
            found.append((estimate(seeds[0]), len(seeds)))
    return found


def as_json(found: Sequence[tuple[Estimate, int]]) -> str:
    """Every figure: bytes, tokens, operations, seconds."""
    cells = [one.plain() | {"seeds": seeds} for one, seeds in found]
    total = sum(one.total_seconds * seeds for one, seeds in found)
    return json.dumps({"cells": cells, "total_seconds": total}, indent=1)


def show(found: Sequence[tuple[Estimate, int]], finished: int) -> None:
    """Print a table for each cell, and the sum over all, one after another."""
    console = Console(highlight=False)
    for one, seeds in found:
        console.print(_table(one, seeds))
        for note in one.notes:
            console.print(f"note: {note}", soft_wrap=True)
    total = sum(one.total_seconds * seeds for one, seeds in found)
    count = sum(seeds for _, seeds in found)
    done = f"; {finished} finished before, which take nothing" if finished else ""
    cells = "cell" if count == 1 else "cells"
    line = f"{count} {cells} one after another: {_duration(total)}{done}; nothing was trained"
    console.print(line, soft_wrap=True)


def _table(one: Estimate, seeds: int) -> Table:
    table = Table(title=one.title + (f" ({seeds} seeds)" if seeds > 1 else ""), show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    table.add_row("parameters", f"{one.parameters:,}")
    if one.trained != one.parameters:
        table.add_row("trained", f"{one.trained:,}")
    table.add_section()
    for name, size in one.memory.items():
        if size:
            table.add_row(f"memory: {name}", _size(size))
    table.add_row("memory at its peak", _size(one.peak))
    table.add_section()
    for name, count in one.tokens.items():
        table.add_row(f"a step's {name}", f"{count:,}")
    for name, operations in one.flops.items():
        table.add_row(f"FLOPs of a step: {name}", f"{operations:.2e}")
    table.add_section()
    table.add_row("a step", _duration(one.step_seconds))
    _durations(table, one.seconds, one.steps)
    table.add_row("the cell", _duration(one.total_seconds))
    return table


def _durations(table: Table, seconds: Mapping[str, float], steps: int) -> None:
    for name, value in seconds.items():
        table.add_row(f"{steps} steps" if name == "training" else name, _duration(value))


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.2f} s"
