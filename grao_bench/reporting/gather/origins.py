"""Where a folder's runs come from, in words: commits, clean or not, and processors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell

UNKNOWN = "not known"


def origins(cells: Sequence[Cell]) -> list[str]:
    """A line for the commits, one for the processors, and one for each set and seed whose rows were
    made on different ones."""
    runs = [run for cell in cells for run in cell.runs]
    if not runs:
        return []
    commits = Counter(_commit(run) for run in runs)
    dirty = sum(run.info.environment.get("git_dirty") == "True" for run in runs)
    unknown = sum(_commit(run) == UNKNOWN for run in runs)
    listed = ", ".join(f"{name} ({count})" for name, count in commits.most_common())
    clean = f"{dirty} of {len(runs)} runs were recorded on a working tree with uncommitted changes"
    lines = [
        f"Commits: {listed}."
        + (f" {clean}: what they ran is in no commit." if dirty else "")
        + (f" Of {unknown} the commit is not known." if unknown and unknown < len(runs) else "")
        + (" All from a clean commit." if not dirty and not unknown else "")
    ]
    processors = Counter(processor(run) for run in runs)
    names = ", ".join(f"{name} ({count})" for name, count in processors.most_common())
    lines.append(f"Processors: {names}.")
    return lines + mixed_machines(cells)


def mixed_machines(cells: Sequence[Cell]) -> list[str]:
    """A line for each model and set of which rows of one seed were made on different processors:
    the last bits of training differ between them, so such rows are no pairs."""
    seen: dict[tuple[str, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for cell in cells:
        for run in cell.runs:
            if cell.trained and processor(run) != UNKNOWN:
                seen[cell.model, cell.data][run.info.seed].add(processor(run))
    lines = []
    for (model, data), seeds in seen.items():
        mixed = {seed: names for seed, names in seeds.items() if len(names) > 1}
        if mixed:
            names = ", ".join(sorted(set().union(*mixed.values())))
            which = ", ".join(map(str, sorted(mixed)))
            what = f"rows of seed {which} were made on different processors ({names})"
            fix = "run a seed's objectives on one machine"
            lines.append(f"WARNING: {model} on {data}: {what}; {fix}.")
    return lines


def processor(run: Run) -> str:
    """Its name and what of it torch uses, as recorded."""
    found = run.info.environment
    name = found.get("processor") or found.get("hardware") or UNKNOWN
    return f"{name}, {found['cpu_capability']}" if found.get("cpu_capability") else name


def _commit(run: Run) -> str:
    found = run.info.environment.get("git", "")
    known = len(found) == 40
    if not known:
        return UNKNOWN
    return found[:8] + (" changed" if run.info.environment.get("git_dirty") == "True" else "")
