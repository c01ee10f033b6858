"""What a run computes beside its configuration: the code, prompts and files that it reads.

The configuration's hash names the folder. What stands here is written into the run's record, and a
folder that was made by something else than there is now is an error, never an answer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from grao_bench.code_fingerprint import code_fingerprint
from grao_bench.errors import UserError
from grao_bench.experiment import Experiment
from grao_bench.records import PARTIAL, RunInfo, read_info
from grao_bench.values import READS, describe, dotted_name, revision_of

PARTS = ("objective", "model", "data", "reward", "rollout", "optimizer", "budget", "evaluation")
"""What of an experiment makes its numbers."""
UNREAD = "unread"
"""In place of a fingerprint: code without source or bytecode."""
BEGUN = "begun.json"
"""In the folder of an unfinished run: what it was begun with."""

GO_ON = "give another sweep= (or output=) to keep both, or rerun=true to make it anew in its place"


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


def require_same(folder: Path, code: Mapping[str, str], data: str) -> None:
    """UserError where a finished run was made by other code, prompts or models, or on other data
    (their fingerprint), than there are now."""
    info = read_info(folder)
    if changed := differences(info.code, code):
        raise UserError(f"{folder}: is finished, but {changed} has changed since; {GO_ON}")
    if info.fingerprints["data"] != data:
        raise UserError(f"{folder}: was trained on other data of the same name; {GO_ON}")


def require_model(folder: Path, experiment: Experiment) -> None:
    """UserError where something is asked for that a finished run did not keep: its model or its
    adapter. Who asks for nothing in particular takes either."""
    default = "full" if experiment.model.adapter is None else "adapter"
    kept = read_info(folder).config.get("save_model") or default
    asked = experiment.save_model or (kept if kept != "none" else default)
    if asked not in ("none", kept):
        held = {"none": "no model", "adapter": "its adapter alone", "full": "its whole model"}[kept]
        what = f"is finished, and kept {held}, as it ran with save_model={kept}"
        raise UserError(f"{folder}: {what}; use that again, or rerun=true to train it anew")


def require_unchanged(folder: Path, experiment: Experiment, info: RunInfo) -> None:
    """UserError where what a finished run is evaluated with (data, engine, judge, base) has changed
    since it was made: its records and new ones would not be of one thing."""
    now, parts = computed_by(experiment), ("data", "rollout", "model", experiment.judge_key)
    kept = {key: digest for key, digest in info.code.items() if key in now}
    used = {key: digest for key, digest in kept.items() if key.startswith(parts)}
    if changed := differences(used, {key: now[key] for key in used}):
        fix = "restore it, or train anew with rerun=true"
        raise UserError(f"run={folder}: {changed} has changed since it was made; {fix}")


def finished_before(experiment: Experiment) -> str:
    """The line for a cell that is there already, with what of its settings was asked otherwise."""
    before, now = read_info(experiment.folder).config, describe(experiment)
    asked = [
        f"{part}.{name}={now[part][name]} asked, {old} there"
        for part in ("budget", "rollout")
        for name, old in before[part].items()
        if now[part].get(name) != old
    ]
    other = f" ({', '.join(asked)})" if asked else ""
    what = f"finished before, nothing is trained{other}; rerun=true makes it anew"
    return f"{experiment.folder}: {what}"


def require_resumable(folder: Path, code: Mapping[str, str], data: Callable[[], str]) -> None:
    """UserError where an unfinished run of this folder was begun with other code, prompts or
    models, or on other data (asked for only where there is such a run), than there are now."""
    partial = folder.with_name(folder.name + PARTIAL)
    begun = _begun(partial)
    if begun is None:
        return
    if changed := differences(begun["code"], code):
        raise UserError(f"{partial}: was begun before {changed} changed; {GO_ON}")
    if begun["data"] not in (None, data()):
        raise UserError(f"{partial}: was begun on other data of the same name; {GO_ON}")


def begin(folder: Path, code: Mapping[str, str], data: Callable[[], str], rerun: bool) -> Path:
    """The folder of the unfinished run, to begin or to go on in; UserError as `require_resumable`,
    where rerun throws the unfinished run away."""
    partial = folder.with_name(folder.name + PARTIAL)
    try:
        require_resumable(folder, code, data)
    except UserError:
        if not rerun:
            raise
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    (partial / "error.txt").unlink(missing_ok=True)
    begun = _begun(partial) or {"code": dict(code), "data": None}
    write_begun(partial, begun["code"], begun["data"])
    return partial


def write_begun(partial: Path, code: Mapping[str, str], data: str | None) -> None:
    """Leave in an unfinished run's folder what it is begun with; data: their fingerprint, once they
    are read."""
    text = json.dumps({"code": dict(code), "data": data}, indent=1) + "\n"
    (partial / BEGUN).write_text(text, encoding="utf-8")


def _begun(partial: Path) -> dict[str, Any] | None:
    """What an unfinished run was begun with; None where it has left nothing yet."""
    steps = partial / "steps.jsonl"
    made = (steps.is_file() and steps.stat().st_size) or (partial / "evaluations").is_dir()
    if not made or not (partial / BEGUN).is_file():
        return None
    found: dict[str, Any] = json.loads((partial / BEGUN).read_text(encoding="utf-8"))
    return found


def complete(partial: Path, folder: Path) -> None:
    """The unfinished folder becomes the finished one; one that lies there goes when it is in place.
    Where this is interrupted, a new start completes it."""
    old = folder.with_name(f".{folder.name}.replaced{PARTIAL}")
    if folder.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    (partial / BEGUN).unlink(missing_ok=True)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
