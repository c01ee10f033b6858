"""What a run computes beside its configuration: the code, prompts and files that it reads.

The configuration's hash names the folder. What stands here is written into the run's record, and a
folder that was made by something else than there is now is an error, never an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from grao_bench.core.code_fingerprint import code_fingerprint
from grao_bench.core.values import READS, dotted_name, revision_of
from grao_bench.experiment import Experiment

PARTS = ("objective", "model", "data", "reward", "rollout", "optimizer", "budget", "evaluation")
"""What of an experiment makes its numbers."""
UNREAD = "unread"
"""In place of a fingerprint: code without source or bytecode."""


def computed_by(experiment: Experiment) -> dict[str, str]:
    """What the numbers come from that the configuration only names: "<config key> <name>" ->
    fingerprint.

    The code of every class that is not ours, and of every function; of ours the class's `revision`
    is in the configuration's hash. The text of prompts; the content of local models; of a run that
    is started from, its record.
    """
    sets = [experiment.data.name, *(data.name for data in experiment.evaluation_sets)]
    found: dict[str, str] = {}
    for part in PARTS:
        for key, value in _values(getattr(experiment, part), part):
            if not is_dataclass(value):
                found[f"{key} {dotted_name(value)}"] = code_fingerprint(value) or UNREAD
                continue
            if not _is_ours(type(value)):
                found[f"{key} {dotted_name(type(value))}"] = code_fingerprint(type(value)) or UNREAD
            found |= _read_by(value, key, tuple(dict.fromkeys(sets)))
    for slot in experiment.objective.needs.others:
        if not slot.answers.__module__.startswith("grao_bench."):
            found[f"objective.needs {slot.name}"] = code_fingerprint(slot.answers) or UNREAD
    return found


def _values(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every spec and every piece of code within a value, with its configuration key."""
    if is_dataclass(value) and not isinstance(value, type):
        yield key, value
        for item in fields(value):
            yield from _values(getattr(value, item.name), f"{key}.{item.name}")
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _values(entry, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _values(entry, f"{key}.{index}")
    elif callable(value):
        yield key, value


def _is_ours(kind: type) -> bool:
    """A class of this package that says its `revision`; one that somebody added here may not."""
    return kind.__module__.startswith("grao_bench.") and revision_of(kind) is not None


def _read_by(spec: Any, key: str, sets: Sequence[str]) -> dict[str, str]:
    found = {}
    for item in fields(spec):
        if READS in item.metadata:
            for name, digest in item.metadata[READS](spec, sets).items():
                found[f"{key}.{item.name} {name}"] = digest or UNREAD
    return found


def unread(code: Mapping[str, str]) -> list[str]:
    """A line for each piece of code that has no fingerprint."""
    return [
        f"{key.replace(' ', '=', 1)}: its code can't be read; a change of it goes unnoticed"
        for key, digest in code.items()
        if digest == UNREAD
    ]


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which of them differ, in words; "" where none does."""
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(key.replace(" ", "=", 1) for key in sorted(changed))
