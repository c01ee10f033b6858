"""How far from the base the policy that was kept is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.intervals import Interval, from_error, over_seeds
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import kept_probe
from grao_bench.reporting.tables.columns import Line, cell_columns, folders, row_name, spread, tidy
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE, number, with_interval


def probes(cells: Sequence[Cell]) -> Sheet | None:
    """What the dev-batch probes say of the policy that was kept: KL to the base per answer and per
    token, J(y), entropy."""
    names = {
        "kl": ("KL per answer, nats", 2),
        "kl_token": ("KL per token, nats", 4),
        "j_reference": ("J(y), nats per token", 3),
    }
    names |= {"entropy": ("entropy, nats per token", 3)}
    texts: list[list[str]] = []
    lines: list[Line] = []
    runs = []
    for cell in (cell for cell in cells if cell.objective != BASE):
        kept = [(run, probe.metrics) for run in cell.runs if (probe := kept_probe(run))]
        starts = [
            run.probes[0].metrics for run in cell.runs if run.probes and run.probes[0].step == 0
        ]
        if not kept:
            continue
        found = {
            name: _of_probes([metrics for _, metrics in kept], name, _prompts_probed(kept[0][0]))
            for name in names
        }
        before = {
            name: [one[name] for one in starts if name in one]
            for name in ("j_reference", "entropy")
        }
        errors = [metrics["kl_se"] for _, metrics in kept if "kl_se" in metrics]
        se = sum(errors) / len(errors) if errors else None
        texts.append(
            [
                *row_name(cell),
                cell.data,
                str(len(kept)),
                *(with_interval(found[name], digits) for name, (_, digits) in names.items()),
            ]
        )
        texts[-1].insert(5, NONE if se is None else number(se, 2))
        texts[-1] += [
            number(sum(values) / len(values), 3) if values else NONE for values in before.values()
        ]
        runs.append(folders(cell))
        lines.append(cell_columns(cell) | {"seeds": len(kept), "kl_se_within_run": se})
        for name, interval in found.items():
            lines[-1] |= spread(name, interval)
        lines[-1] |= {
            f"{name}_at_start": sum(values) / len(values) if values else None
            for name, values in before.items()
        }
    if not texts:
        return None
    columns = [
        "method",
        "model",
        "trained on",
        "seeds",
        *(header for header, _ in names.values()),
        "J(y) at start",
        "entropy at start",
    ]
    columns.insert(5, "its standard error within a run")
    return Sheet(
        "probes",
        "How far from the base: KL, J(y) and entropy on the dev batch",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "of the policy that was kept. Several seeds: mean ± sd [95% t interval]. One seed:"
            " mean [95% normal interval from the standard"
            " error over prompts]. KL and entropy from untruncated samples at T = 1; J(y) of the"
            " references",
        ),
        tuple(runs),
    )


def _of_probes(metrics: Sequence[Mapping[str, float]], name: str, prompts: int) -> Interval | None:
    values = [one[name] for one in metrics if name in one]
    if len(values) == 1 and f"{name}_se" in metrics[0]:
        return from_error(values[0], metrics[0][f"{name}_se"], prompts)
    return over_seeds(values) if values else None


def _prompts_probed(run: Run) -> int:
    budget = run.info.config.get("budget")
    return int(budget.get("probe_prompts") or 0) if isinstance(budget, Mapping) else 0
