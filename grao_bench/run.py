"""A cell from start to finish: train, evaluate, record, resume."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from filelock import FileLock

from grao_bench.data.tokens import TextCodec
from grao_bench.errors import UserError
from grao_bench.evaluation.answers import Evaluator
from grao_bench.experiment import Cell, EvaluationSet, Experiment, base_spec, build, check, corpus_of, evaluation_sets, load_policy
from grao_bench.interfaces import Dataset
from grao_bench.models.policy import Policy
from grao_bench.ops import stream_seed
from grao_bench.precision import fast_float32
from grao_bench.provenance import data_fingerprint, environment, weights_fingerprint
from grao_bench.records import (
    PARTIAL,
    ProbeRecord,
    RunInfo,
    StepRecord,
    append_line,
    read_info,
    read_lines,
    read_records,
    read_run,
    write_info,
    write_lines,
)
from grao_bench.reporting.alarms import alarms
from grao_bench.reporting.scores import scores
from grao_bench.training.checkpoint import load_checkpoint, save_checkpoint
from grao_bench.training.loop import train
from grao_bench.values import describe, rebuild, value_hash

OnStep = Callable[[StepRecord], None]
OnPretrain = Callable[[int, int, float], None]


def run(
    experiment: Experiment,
    on_step: OnStep | None = None,
    on_pretrain: OnPretrain | None = None,
    extra_files: Mapping[str, str] | None = None,
) -> Path:
    """Train, evaluate and record one cell; returns its folder.

    A finished cell is returned as it is; an interrupted one goes on from its checkpoint and ends as if it had not been interrupted.
    `extra_files` (name -> text) are put into the folder. What went wrong is left in `<folder>.partial/error.txt`.
    """
    check(experiment)
    folder = experiment.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            _require_same_data(experiment, folder)
            return folder
        partial = folder.with_name(folder.name + PARTIAL)
        partial.mkdir(exist_ok=True)
        (partial / "error.txt").unlink(missing_ok=True)
        try:
            for name, text in {"config.yaml": yaml.safe_dump(describe(experiment), sort_keys=False), **(extra_files or {})}.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_text(text, encoding="utf-8")
            _run(experiment, partial, on_step, on_pretrain)
        except BaseException as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            (partial / "error.txt").write_text(" ".join(reason.split()) + "\n", encoding="utf-8")
            raise
        partial.rename(folder)
    return folder


def _run(experiment: Experiment, partial: Path, on_step: OnStep | None, on_pretrain: OnPretrain | None) -> None:
    cell = build(experiment, on_pretrain)
    name = f"{experiment.objective.name}-{experiment.data.name}-seed{experiment.seed}"
    tracker = experiment.tracking.build(partial, experiment.sweep, experiment.objective.name, name, describe(experiment))
    finished = False
    try:
        for record in _train(cell, partial):
            probed = isinstance(record, ProbeRecord)
            tracker.log(record.step, {f"probe/{key}" if probed else key: value for key, value in record.metrics.items()})
            if on_step is not None and isinstance(record, StepRecord):
                on_step(record)
        base = evaluate_base(experiment, cell.sets, cell.base, cell.codec, partial.parents[2])
        evaluate_policy(experiment, cell.sets, cell.trainer.policy, cell.codec, partial / "evaluations")
        save_model(cell.trainer.policy, cell.codec, partial / "model")
        write_info(
            partial,
            RunInfo(
                objective=experiment.objective.name,
                model=experiment.model.name,
                data=experiment.data.name,
                reward=cell.collector.reward.name,
                seed=experiment.seed,
                config_hash=experiment.config_hash,
                config=describe(experiment),
                fingerprints={
                    "data": training_fingerprint(cell.dataset),
                    "base": weights_fingerprint(cell.base.model),
                    **fingerprints_of(cell.sets),
                },
                environment=environment(cell.base.model.dtype, experiment.threads),
                notes=cell.notes,
                sweep=experiment.sweep,
            ),
        )
        tracker.summary(summary(partial, base))
        (partial / "alarms.txt").write_text("".join(f"{line}\n" for line in alarm_lines(partial)), encoding="utf-8")
        for leftover in ("checkpoint", "best"):
            shutil.rmtree(partial / leftover, ignore_errors=True)
        finished = True
    finally:
        tracker.finish(failed=not finished)


def training_fingerprint(dataset: Dataset) -> str:
    """sha256 of what a run trains on and probes."""
    return data_fingerprint((*dataset.train, *dataset.dev))


def _require_same_data(experiment: Experiment, folder: Path) -> None:
    if read_info(folder).fingerprints["data"] != training_fingerprint(experiment.data.build()):
        raise UserError(f"{folder}: was trained on other data of the same name; give another sweep= or output=, or remove it")


def _train(cell: Cell, partial: Path) -> Iterator[StepRecord | ProbeRecord]:
    """Train from the last checkpoint, writing every record, and leave the policy that the budget keeps in the trainer."""
    trainer, budget, seed = cell.trainer, cell.experiment.budget, cell.experiment.seed
    load_checkpoint(partial / "checkpoint", trainer)
    _rewind(partial, trainer.step)
    if trainer.step == 0:
        yield _probe(cell, partial)
    started = time.perf_counter()
    for record in train(trainer, cell.collector, cell.examples, seed):
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
        torch.save({"policy": trainer.policy.state_dict(), "step": trainer.step}, partial / "best" / f"step{trainer.step}.pt")
    return probe


def _restore_best(cell: Cell, partial: Path) -> None:
    probes = read_records(partial / "probes.jsonl", ProbeRecord)
    best = max(probes, key=lambda probe: (probe.metrics["ras"], -probe.step))
    state = torch.load(partial / "best" / f"step{best.step}.pt", map_location=cell.trainer.policy.model.device, weights_only=True)
    cell.trainer.policy.load_state_dict(state["policy"])
    cell.notes["kept the policy of step"] = float(best.step)


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


def evaluate_policy(
    experiment: Experiment, sets: Sequence[EvaluationSet], policy: Policy, codec: TextCodec, folder: Path, label: str = ""
) -> list[Path]:
    """Evaluate on every set; returns the files that were written, one per set and reward.

    `label` is added to the reward's name. A file that is there already is left as it is.
    """
    engine = experiment.rollout.build(policy.model, codec)
    written = []
    for one in sets:
        path = folder / f"{one.name}-{one.reward.name}{label}.jsonl"
        if not path.exists():
            evaluator = Evaluator(codec, one.reward, experiment.evaluation_sampling, experiment.evaluation.store_text)
            seed = stream_seed(experiment.evaluation.seed, "evaluation", one.name)
            write_lines(path, evaluator.evaluate(engine, one.examples, seed))
            written.append(path)
    return written


def fingerprints_of(sets: Sequence[EvaluationSet], label: str = "") -> dict[str, str]:
    """What the sets' prompts are, and for each evaluation by its own name, what its prompts and its judge are."""
    found: dict[str, str] = {}
    for one in sets:
        prompts, source = data_fingerprint(one.examples), f"{one.name}/{one.reward.name}{label}"
        found |= {f"data/{one.name}": prompts, f"data/{source}": prompts, f"reward/{source}": one.reward.fingerprint}
    return found


def evaluate_base(
    experiment: Experiment, sets: Sequence[EvaluationSet], base: Policy, codec: TextCodec, runs: Path, label: str = ""
) -> Path:
    """The base's own evaluation, made once for all cells that share it and what is asked of it; returns its folder below `runs`."""
    asked = replace(experiment.budget, steps=0, keep="last", probe_every=0, checkpoint_every=0, prompts_per_step=None, answers_per_step=1)
    weights, fingerprints = weights_fingerprint(base.model), fingerprints_of(sets, label)
    judge = experiment.evaluation.reward or experiment.reward
    identity = value_hash(weights, fingerprints, judge, experiment.rollout, asked, experiment.evaluation)
    folder = runs / "base" / f"base-{identity}" / "seed0"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            partial = folder.with_name(folder.name + PARTIAL)
            evaluate_policy(experiment, sets, base, codec, partial / "evaluations", label)
            write_info(
                partial,
                RunInfo(
                    objective="base",
                    model=experiment.model.name,
                    data="base",
                    reward=sets[0].reward.name,
                    seed=0,
                    config_hash=identity,
                    config=describe(experiment) | {"objective": None, "optimizer": None},
                    fingerprints={"base": weights, **fingerprints},
                    environment=environment(base.model.dtype, experiment.threads),
                    sweep=experiment.sweep,
                ),
            )
            partial.rename(folder)
    return folder


def save_model(policy: Policy, codec: TextCodec, folder: Path) -> None:
    """A checkpoint that AutoModelForCausalLM and AutoTokenizer load."""
    policy.model.save_pretrained(folder)
    codec.tokenizer.save_pretrained(folder)
    if policy.value_head is not None:
        torch.save(policy.value_head.state_dict(), folder / "value_head.pt")


def evaluate_again(experiment: Experiment, folder: Path) -> tuple[list[Path], list[Path]]:
    """Evaluate a finished run's model, and its base, by `experiment.evaluation`.

    What differs from the run's own evaluation is added to the files' names: `gold_T0` is greedy, `gold_1a2b` another judge of that name.
    Returns (the run's new record files, those that were there already and stay).
    """
    torch.set_num_threads(experiment.threads)
    fast_float32()
    info = read_info(folder)
    own = rebuild(info.config, str(folder / "run.json"))
    policy, codec = load_policy(experiment, str(folder / "model"))
    sets = evaluation_sets(experiment, codec)
    label = _label(own, experiment, sets)
    written = evaluate_policy(experiment, sets, policy, codec, folder / "evaluations", label)
    if written:
        base, _ = load_policy(experiment, base_spec(experiment).checkpoint(corpus_of(experiment)))
        evaluate_base(experiment, sets, base, codec, folder.parents[2], label)
        # what stands there already was said when the run was made
        write_info(folder, replace(info, fingerprints=fingerprints_of(sets, label) | info.fingerprints))
    kept = [folder / "evaluations" / f"{one.name}-{one.reward.name}{label}.jsonl" for one in sets]
    return written, [path for path in kept if path not in written]


def _label(own: Experiment, asked: Experiment, sets: Sequence[EvaluationSet]) -> str:
    """What tells an evaluation from the run's own, in the name of its files; empty for another reward source alone."""
    marks = {"temperature": "_T{:g}", "seed": "_seed{}", "max_examples": "_first{}"}
    before, now = own.evaluation, asked.evaluation
    changed = [mark.format(getattr(now, name)) for name, mark in marks.items() if getattr(now, name) != getattr(before, name)]
    judge, other = own.evaluation.reward or own.reward, asked.evaluation.reward or asked.reward
    same_name = judge.build(own.data).name == sets[0].reward.name
    return "".join([f"_{value_hash(other)[:4]}" if same_name and judge != other else "", *changed])


def summary(folder: Path, base: Path) -> dict[str, float]:
    """The evaluation's scores for a tracker: "<set>/ras", "<set>/nag_mean", ..., and "<set>/alarm: <name>" for each alarm."""
    run, before = read_run(folder), read_run(base).evaluations
    named: dict[str, float] = {}
    for (name, reward), records in run.evaluations.items():
        named |= {f"{name}/{score}": value for score, value in scores(records, before.get((name, reward))).items()}
        named |= {f"{name}/alarm: {alarm.rule.name}": alarm.value for alarm in alarms(run, records)}
    return named


def alarm_lines(folder: Path) -> list[str]:
    """The alarms of a run, a line each, with the sets whose evaluation they come from; empty when all is well."""
    run = read_run(folder)
    found: dict[str, list[str]] = {}
    for (name, _), records in run.evaluations.items():
        for alarm in alarms(run, records):
            found.setdefault(f"ALARM: {alarm.rule.text.format(alarm.value)}", []).append(name)
    return [f"{line} ({', '.join(sets)})" for line, sets in found.items()]
