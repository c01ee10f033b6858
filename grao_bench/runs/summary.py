"""What a run came to, in numbers for a tracker and in lines for who reads along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grao_bench.core.record_files import read_run
from grao_bench.core.records import EvalRecord, no_references
from grao_bench.reporting.gather.alarms import alarms
from grao_bench.reporting.gather.scores import scores, without_reference


def summary(folder: Path, bases: Sequence[Path]) -> dict[str, float]:
    """The evaluation's scores for a tracker: "<set>/ras", "<set>/nag_mean", ..., and "<set>/alarm: <name>" for each alarm.

    Where the training reward judged beside another, its scores are named "<set>/<reward>/ras", ...
    """
    run, before = read_run(folder), _evaluations(bases)
    named: dict[str, float] = {}
    several = len({reward for _, reward in run.evaluations}) > 1
    for (name, reward), records in run.evaluations.items():
        shown = f"{name}/{reward}" if several and reward == run.info.reward else name
        named |= {f"{shown}/{score}": value for score, value in scores(records, before.get((name, reward))).items()}
        unknown = without_reference(records)
        named |= {f"{shown}/prompts without a reference": float(unknown)} if unknown else {}
        fired = alarms(run, records, f"{name}/{reward}", before.get((name, reward)))
        named |= {f"{shown}/alarm: {alarm.rule.name}": alarm.value for alarm in fired}
    return named


def _evaluations(folders: Sequence[Path]) -> dict[tuple[str, str], list[EvalRecord]]:
    """Every evaluation in these runs' folders, by set and reward."""
    return {key: rows for one in folders for key, rows in read_run(one).evaluations.items()}


def missing_scores(folder: Path) -> list[str]:
    """A line for each set that a run has no RAS on, and why."""
    run = read_run(folder)
    sets = {name: why for (name, _), records in run.evaluations.items() if (why := no_references(records))}
    return [f"data={name}: {why}; mean rewards are in the report" for name, why in sets.items()]


def alarm_lines(folder: Path, bases: Sequence[Path] = ()) -> list[str]:
    """The alarms of a run beside its bases, a line each, with the sets whose evaluation they come
    from; empty when all is well."""
    run, before = read_run(folder), _evaluations(bases)
    found: dict[str, list[str]] = {}
    for (name, reward), records in run.evaluations.items():
        for alarm in alarms(run, records, f"{name}/{reward}", before.get((name, reward))):
            found.setdefault(f"ALARM: {alarm.rule.text.format(alarm.value)}", []).append(name)
    return [f"{line} ({', '.join(dict.fromkeys(sets))})" for line, sets in found.items()]
