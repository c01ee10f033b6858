"""A run's folder: begun aside, complete or absent to readers, and never answered for by one that was
made by something else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import PARTIAL, read_info
from grao_bench.core.records import RunInfo
from grao_bench.core.values import describe
from grao_bench.experiment import Experiment
from grao_bench.models.adapters import has_adapter, merged, save_adapter
from grao_bench.models.of_run import write_masters
from grao_bench.models.policy import Policy
from grao_bench.runs.identity import computed_by, differences
from grao_bench.text.tokens import TextCodec
from grao_bench.training.checkpoint import named_masters
from grao_bench.training.loop import Trainer

BEGUN = "begun.json"
"""In the folder of an unfinished run: what it was begun with."""
GO_ON = "give another sweep= (or output=) to keep both, or rerun=true to make it anew in its place"


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


def leave(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts, by name, into a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@contextmanager
def fault_left_in(partial: Path) -> Iterator[None]:
    """What goes wrong within is left in the folder's error.txt."""
    try:
        yield
    except BaseException as error:
        plain = isinstance(error, UserError)
        reason = str(error) if plain else f"{type(error).__name__}: {error}"
        leave(partial, {"error.txt": " ".join(reason.split()) + "\n"})
        raise


def save_model(trainer: Trainer, codec: TextCodec, run: Path, how: str | None) -> None:
    """Leave the trained model, and its masters if it has any, in a run's folder. `how`: see
    `Experiment.save_model`."""
    if how == "none":
        return
    masters = named_masters(trainer)
    _save(trainer.policy, codec, run / "model", how)
    if masters:
        write_masters(run, masters)


def _save(policy: Policy, codec: TextCodec, folder: Path, how: str | None) -> None:
    """A whole model that AutoModelForCausalLM and AutoTokenizer load, and that generates up to the
    tokens that ended its answers here, or an adapter for `PeftModel.from_pretrained(base, folder)`."""
    adapter = has_adapter(policy.model)
    if adapter and how != "full":
        save_adapter(policy.model, folder)
    else:
        whole = merged(policy.model) if adapter else policy.model
        ends = list(codec.stop_tokens)
        whole.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
        whole.save_pretrained(folder)
    codec.tokenizer.save_pretrained(folder)
    if policy.value_head is not None:
        torch.save(policy.value_head.state_dict(), folder / "value_head.pt")
