"""lm-eval's tasks (EleutherAI's evaluation harness) on a policy, through our own engine: what alignment costs elsewhere.

lm_eval itself is imported only when tasks are named.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import read_records, write_lines
from grao_bench.core.records import TaskRecord
from grao_bench.evaluation.tasks import FOLDER

if TYPE_CHECKING:
    from grao_bench.evaluation.engine_lm import EngineLM

KEY = "evaluation.lm_eval"
BOOTSTRAP_DRAWS = 1000
"""For the standard errors of metrics that are no mean; lm-eval's own 100,000 take minutes and say the same."""


@dataclass(frozen=True, kw_only=True)
class LMEval:
    """Which tasks, and how. See conf/evaluation/standard.yaml for each field.

    A name is a task, a group or a tag of lm-eval's, of our own (`grao_bench.evaluation.tasks`) or of `include_path`; or a task file.
    """

    revision: ClassVar[int] = 1

    tasks: Sequence[str]
    limit: int | float | None
    num_fewshot: int | None
    apply_chat_template: bool
    log_samples: bool
    include_path: str | None

    def check(self) -> None:
        """UserError for a setting out of range, a folder or name that does not exist, or a missing package. Free where no task is named."""
        if not self.tasks:
            return
        if self.limit is not None and (self.limit <= 0 or (self.limit > 1 and self.limit != int(self.limit))):
            raise UserError(f"{KEY}.limit={self.limit}: must be a number of documents, a share of them below 1, or null for all")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise UserError(f"{KEY}.num_fewshot={self.num_fewshot}: must be at least 0, or null for the task's own")
        if self.include_path is not None and not Path(self.include_path).is_dir():
            raise UserError(f"{KEY}.include_path={self.include_path}: no such folder; give one that holds task files (.yaml)")
        _manager(self)

    def settings(self, seed: int) -> dict[str, Any]:
        """What a score depends on besides the task and the model."""
        return {"limit": self.limit, "num_fewshot": self.num_fewshot, "apply_chat_template": self.apply_chat_template, "seed": seed}


NO_TASKS = LMEval(tasks=[], limit=None, num_fewshot=None, apply_chat_template=False, log_samples=False, include_path=None)


def evaluate_tasks(spec: LMEval, lm: EngineLM, folder: Path) -> list[Path]:
    """Score a model on the tasks that `<folder>/lm_eval.jsonl` has no scores for yet under these settings; returns the files written.

    With log_samples, `<folder>/lm_eval_samples/<task>.jsonl` holds every document with its answer. Scores are written task by task, so
    that an interrupted evaluation goes on. UserError where a task can't be loaded (its data need the network, or a file).
    """
    path, settings = folder / "lm_eval.jsonl", spec.settings(lm.seed)
    records = read_records(path, TaskRecord)
    written: list[Path] = []
    for name in spec.tasks:
        if any(record.asked == name and record.settings == settings for record in records):
            continue
        found = _evaluate(spec, lm, name)
        if spec.log_samples:
            for task, samples in found["samples"].items():
                written.append(folder / "lm_eval_samples" / f"{task}{_label(settings)}.jsonl")
                write_lines(written[-1], samples)
        records += records_of(found, name, settings)
        write_lines(path, records)
        written += [path] if path not in written else []
    return written


def records_of(found: Mapping[str, Any], asked: str, settings: Mapping[str, Any]) -> list[TaskRecord]:
    """lm-eval's results as records: one per task (or group), metric and filter."""
    records = []
    for task, scores in found["results"].items():
        for key, value in scores.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = scores.get(f"{metric}_stderr,{kind}")
            records.append(
                TaskRecord(
                    asked=asked,
                    task=task,
                    metric=metric,
                    filter=kind,
                    value=float(value),
                    stderr=float(error) if isinstance(error, int | float) else None,
                    higher_is_better=found["higher_is_better"].get(task, {}).get(metric),
                    documents=int(scores.get("sample_len", found["n-samples"].get(task, {}).get("effective", 0))),
                    num_fewshot=found["n-shot"].get(task),
                    settings=dict(settings),
                    fingerprint=_fingerprint(found["samples"].get(task, [])),
                    task_version=str(found["versions"].get(task, "")),
                    lm_eval_version=version("lm_eval"),
                )
            )
    return records


def _evaluate(spec: LMEval, lm: EngineLM, name: str) -> dict[str, Any]:
    """What lm-eval's `evaluate` returns for one name, its samples as plain JSON values; seeded and prepared as by its simple_evaluate."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.evaluator import evaluate
    from lm_eval.utils import handle_non_serializable

    if spec.apply_chat_template and not lm.tokenizer.chat_template:
        raise UserError(f"{KEY}.apply_chat_template=true: the model's tokenizer has no chat template; leave it false")
    manager = _manager(spec)
    with _quiet(), _global_randomness_kept():
        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)  # noqa: NPY002
        torch.manual_seed(DEFAULT_OTHER_SEED)
        try:
            loaded = manager.load([name])
        except Exception as error:  # task files are code, and data sets come from anywhere
            raise UserError(
                f"{KEY}.tasks: {name} can't be loaded ({_line(error)}); check its files, or the network for its data"
            ) from error
        for task in loaded["tasks"].values():
            own = task.get_config("num_fewshot")
            if own != 0:  # a task that says 0 means it
                task.set_config(key="num_fewshot", value=next(n for n in (spec.num_fewshot, own, 0) if n is not None))
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        found = evaluate(
            lm=lm,
            task_dict=loaded,
            limit=spec.limit,
            bootstrap_iters=BOOTSTRAP_DRAWS,
            log_samples=True,
            apply_chat_template=spec.apply_chat_template,
            fewshot_as_multiturn=True,
        )
    samples = json.loads(json.dumps(found["samples"], default=handle_non_serializable))
    return {**found, "samples": samples}


def _manager(spec: LMEval) -> Any:
    """The TaskManager that knows every name. Reading lm-eval's own thousands of task files takes seconds, so ours are looked at first."""
    try:
        from lm_eval.tasks import TaskManager  # noqa: F401
    except ImportError:
        raise UserError(f"{KEY}.tasks={list(spec.tasks)}: needs the package lm_eval; pip install 'lm_eval[hf]'") from None
    for defaults in (False, True):
        manager = _index(spec.include_path, defaults)
        unknown = [name for name in spec.tasks if name not in manager.task_index and not Path(name).is_file()]
        if not unknown:
            return manager
    raise UserError(f"{KEY}.tasks: lm-eval knows no {', '.join(unknown)}; see python -m lm_eval ls tasks, or give {KEY}.include_path")


@cache
def _index(include_path: str | None, defaults: bool) -> Any:
    from lm_eval.tasks import TaskManager

    folders = [str(FOLDER), *([] if include_path is None else [include_path])]
    with _quiet():
        return TaskManager(include_path=folders, include_defaults=defaults)


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval logs, prints and draws bars on every way out; a grid's display would not survive it."""
    logger, switch = logging.getLogger("lm_eval"), "DISABLE_MULTIPROC"
    level, before = logger.level, os.environ.get(switch)
    logger.setLevel(logging.ERROR)
    os.environ[switch] = "1"  # no pool of processes for a thousand bootstrap draws
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        os.environ.pop(switch)
        if before is not None:
            os.environ[switch] = before


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """lm-eval seeds the global generators, and some tasks draw from them: theirs to use, and put back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _fingerprint(samples: Sequence[Mapping[str, Any]]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample['doc_hash']} {sample['prompt_hash']} {sample['target_hash']}\n".encode())
    return digest.hexdigest() if samples else ""


def _label(settings: Mapping[str, Any]) -> str:
    """What tells the samples of one evaluation of a task from another's, in the files' names."""
    marks = {"limit": "_first{:g}", "num_fewshot": "_{}shot", "apply_chat_template": "_chat", "seed": "_seed{}"}
    return "".join(mark.format(settings[name]) for name, mark in marks.items() if settings[name])


def _line(error: BaseException) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first and not isinstance(error, UserError) else first or type(error).__name__
