"""A cell from start to finish: train, evaluate, record, resume."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock

from grao_bench.data.tokens import TextCodec
from grao_bench.errors import UserError
from grao_bench.evaluation.answers import Evaluator
from grao_bench.evaluation.lm_eval import NO_TASKS, evaluate_tasks
from grao_bench.experiment import Cell, EvaluationSet, Experiment, build, check, evaluation_sets, models_wanted, read_data
from grao_bench.first_batch import first_batch
from grao_bench.identity import (
    begin,
    complete,
    computed_by,
    finished_before,
    require_model,
    require_same,
    require_unchanged,
    unread,
    write_begun,
)
from grao_bench.interfaces import Dataset, RewardSource, RolloutEngine, TellingSource
from grao_bench.models.adapters import has_adapter, merged, save_adapter, untouched_experts
from grao_bench.models.build import base_spec, load_policy
from grao_bench.models.of_run import model_of, write_masters
from grao_bench.models.policy import Policy
from grao_bench.ops import stream_seed
from grao_bench.process import process_settings
from grao_bench.progress import say
from grao_bench.provenance import data_fingerprint, environment, weights_fingerprint
from grao_bench.records import (
    PARTIAL,
    Criteria,
    EvalRecord,
    JudgeCounts,
    ProbeRecord,
    RunInfo,
    StepRecord,
    append_line,
    no_references,
    read_info,
    read_lines,
    read_records,
    read_run,
    write_info,
    write_lines,
)
from grao_bench.rehearsal import rehearse
from grao_bench.reporting.alarms import alarms
from grao_bench.reporting.scores import scores, without_reference
from grao_bench.rewards.criteria import criteria_of
from grao_bench.training.checkpoint import (
    load_checkpoint,
    load_masters,
    load_trained_state,
    named_masters,
    save_checkpoint,
    trained_state,
)
from grao_bench.training.loop import train
from grao_bench.types import Batch
from grao_bench.values import HASH_VERSION, describe, value_hash

OnStep = Callable[[StepRecord], None]
OnPretrain = Callable[[int, int, float], None]
OnTask = Callable[[str, int, int], None]
"""Called with (what lm-eval's tasks ask, requests done, requests)."""


def run(
    experiment: Experiment,
    on_step: OnStep | None = None,
    on_pretrain: OnPretrain | None = None,
    extra_files: Mapping[str, str] | None = None,
    on_task: OnTask | None = None,
    rerun: bool = False,
    rehearsed: bool = False,
) -> Path:
    """Train, evaluate and record one cell; returns its folder.

    A finished cell is returned as it is, and said to be; an interrupted one goes on from its
    checkpoint and ends as if it had not been interrupted. UserError where either was made by other
    code, or on other data, than there is now. rerun: make it anew; a finished one stays until the
    new one is complete. What can fail is tried first (`rehearsal`), unless it was: rehearsed.
    `extra_files` (name -> text) are put into the folder. What went wrong is
    left in `<folder>.partial/error.txt`.
    """
    check(experiment)
    folder, code = experiment.folder, computed_by(experiment)

    def data() -> str:
        return training_fingerprint(experiment.data.build())

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir() and not rerun:
            require_same(folder, code, data())
            require_model(folder, experiment)
            say(finished_before(experiment))
            return folder
        partial = begin(folder, code, data, rerun)
        for line in unread(code):
            say(line)
        try:
            for name, text in {"config.yaml": yaml.safe_dump(describe(experiment), sort_keys=False), **(extra_files or {})}.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_text(text, encoding="utf-8")
            with process_settings(experiment.threads):
                if not rehearsed:
                    rehearse(experiment, read_data)
                _run(experiment, partial, code, on_step, on_pretrain, on_task)
        except BaseException as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            (partial / "error.txt").write_text(" ".join(reason.split()) + "\n", encoding="utf-8")
            raise
        complete(partial, folder)
    return folder


def _run(
    experiment: Experiment,
    partial: Path,
    code: Mapping[str, str],
    on_step: OnStep | None,
    on_pretrain: OnPretrain | None,
    on_task: OnTask | None,
) -> None:
    reset_peak_memory()
    cell = build(experiment, on_pretrain)
    if left := untouched_experts(cell.trainer.policy.model):
        say(left)
    name = f"{experiment.objective.name}-{experiment.data.name}-seed{experiment.seed}"
    around = environment(cell.base.model.device, cell.base.model.dtype, experiment.threads)
    label = judge_mark(experiment, [cell.collector.reward.name], cell.sets)
    info = _info(cell, label, around)  # what can't be written down is known before anything trains
    info = replace(info, code=dict(code))
    write_begun(partial, code, info.fingerprints["data"])
    tracker = experiment.tracking.build(partial, experiment.sweep, experiment.objective.name, name, describe(experiment))
    finished = False
    try:
        for record in _train(cell, partial):
            probed = isinstance(record, ProbeRecord)
            tracker.log(record.step, {f"probe/{key}" if probed else key: value for key, value in record.metrics.items()})
            if on_step is not None and isinstance(record, StepRecord):
                on_step(record)
        peak = peak_memory(cell.base.model.device)
        kept = _best_step(partial) if experiment.budget.keep == "best_dev" else None
        step = cell.trainer.step if kept is None else kept
        tested = Tested(cell.trainer.policy, step, cell.codec, cell.engine)
        base = replace(tested, policy=cell.base, step=0)
        bases = evaluate_bases(experiment, cell.sets, base, partial.parents[2], label, on_task)
        evaluate_policy(experiment, cell.sets, tested, partial / "evaluations", label)
        score_tasks(experiment, tested, partial, on_task)
        save_model(cell.trainer.policy, cell.codec, partial / "model", experiment.save_model)
        masters = named_masters(cell.trainer)
        if masters and experiment.save_model != "none":
            write_masters(partial, masters)
        told = told_by({"training": cell.collector.reward, **evaluating(cell.sets, label)}, partial)
        write_info(partial, replace(info, judges=told, peak_memory=peak, kept_step=kept))
        tracker.summary(summary(partial, bases))
        alarmed = "".join(f"{line}\n" for line in alarm_lines(partial, bases))
        (partial / "alarms.txt").write_text(alarmed, encoding="utf-8")
        for leftover in ("checkpoint", "best"):
            shutil.rmtree(partial / leftover, ignore_errors=True)
        finished = True
    finally:
        tracker.finish(failed=not finished)


def _info(cell: Cell, label: str, around: dict[str, str]) -> RunInfo:
    """What a run was, as far as its cell and the environment around it say."""
    experiment = cell.experiment
    return RunInfo(
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
            **fingerprints_of(cell.sets, label),
        },
        environment=around,
        drops={reason: count for reason, count in cell.dataset.dropped.items() if count},
        lengths={"training": cell.lengths} | {one.name: one.lengths for one in cell.sets},
        sweep=experiment.sweep,
        hash_version=HASH_VERSION,
        end_token=cell.codec.decoded([cell.codec.end_token]),
        criteria=criteria_of_sets(cell.sets, label),
        role=experiment.role or "",
    )


def told_by(judges: Mapping[str, RewardSource], folder: Path) -> dict[str, dict[str, JudgeCounts]]:
    """What judges have counted (calls, cost, consistency, exclusions), for whom they judged; their prompts become files of the folder.

    Counts are this process's: of a resumed run since it was started again, and with the base's answers where it judged those.
    """
    told: dict[str, dict[str, JudgeCounts]] = {}
    for what, source in judges.items():
        if isinstance(source, TellingSource):
            for name, text in source.texts().items():
                (folder / name).write_text(text, encoding="utf-8")
            told[what] = source.statistics()
    return told


def training_fingerprint(dataset: Dataset) -> str:
    """sha256 of what a run trains on and probes."""
    return data_fingerprint((*dataset.train, *dataset.dev))


def _train(cell: Cell, partial: Path) -> Iterator[StepRecord | ProbeRecord]:
    """Train from the last checkpoint, writing every record, and leave the policy that the budget keeps in the trainer."""
    trainer, budget, seed = cell.trainer, cell.experiment.budget, cell.experiment.seed
    load_checkpoint(partial / "checkpoint", trainer)
    _rewind(partial, trainer.step)
    if trainer.step == 0:
        yield _probe(cell, partial)

    def show(batch: Batch) -> None:
        if batch.step == 1:
            text = first_batch(cell, batch)
            (partial / "first_batch.txt").write_text(text, encoding="utf-8")

    started = time.perf_counter()
    for record in train(trainer, cell.collector, cell.examples, seed, show):
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
        state = {"policy": trained_state(trainer.policy), "step": trainer.step}
        state["masters"] = {name: each.detach() for name, each in named_masters(trainer).items()}
        torch.save(state, partial / "best" / f"step{trainer.step}.pt")
    return probe


def _restore_best(cell: Cell, partial: Path) -> None:
    state = torch.load(partial / "best" / f"step{_best_step(partial)}.pt", map_location=cell.trainer.policy.model.device, weights_only=True)
    load_trained_state(cell.trainer.policy, state["policy"])
    load_masters(cell.trainer, state["masters"])


def _best_step(partial: Path) -> int:
    """The first of those whose policy was best on dev."""
    probes = read_records(partial / "probes.jsonl", ProbeRecord)
    return max(probes, key=lambda probe: (probe.metrics["ras"], -probe.step)).step


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


@dataclass(frozen=True)
class Tested:
    """A policy after so many steps of training (where the best on dev is kept, after its own), and
    what draws its answers."""

    policy: Policy
    step: int
    codec: TextCodec
    engine: RolloutEngine

    def synced(self) -> RolloutEngine:
        """The run's engine, told to draw from this policy."""
        self.engine.sync(self.policy, self.step)
        return self.engine


def evaluate_policy(
    experiment: Experiment,
    sets: Sequence[EvaluationSet],
    tested: Tested,
    folder: Path,
    label: str = "",
) -> list[Path]:
    """Evaluate on every set; returns the files that were written, one per set and reward.

    `label` is added to the name of the sets' `reward`. A file that is there already is left as it is. Answers are drawn once for all
    who judge them.
    """
    engine = tested.synced()
    evaluator = Evaluator(
        tested.codec,
        experiment.evaluation_sampling,
        experiment.evaluation.store_text,
        experiment.answers_per_prompt,
    )
    written = []
    for one in sets:
        asked = {folder / f"{source}.jsonl": reward for source, reward in judges_of(one, label).items()}
        missing = {path: reward for path, reward in asked.items() if not path.exists()}
        if missing:
            answers = evaluator.draw(engine, one.examples, stream_seed(experiment.evaluation.seed, "evaluation", one.name))
        for path, reward in missing.items():
            write_lines(path, evaluator.judge(reward, one.examples, answers))
            written.append(path)
    return written


def judges_of(one: EvaluationSet, label: str = "") -> dict[str, RewardSource]:
    """Who judges a set's answers, by the name of the evaluation: "<set>-<reward><label>", and the training reward by its plain name."""
    found = {f"{one.name}-{one.reward.name}{label}": one.reward}
    return found | ({f"{one.name}-{one.training_reward.name}": one.training_reward} if one.training_reward is not None else {})


def evaluating(sets: Sequence[EvaluationSet], label: str = "") -> dict[str, RewardSource]:
    """The judge of each evaluation: "<set>/<reward><label>"."""
    judges = [judges_of(one, label) for one in sets]
    return {name.replace("-", "/", 1): each for one in judges for name, each in one.items()}


def fingerprints_of(sets: Sequence[EvaluationSet], label: str = "") -> dict[str, str]:
    """What the sets' prompts are, and for each evaluation by its own name, what its prompts and its judge are."""
    found: dict[str, str] = {}
    for one in sets:
        prompts = data_fingerprint(one.examples)
        found[f"data/{one.name}"] = prompts
        for name, reward in judges_of(one, label).items():
            source = name.replace("-", "/", 1)
            found |= {f"data/{source}": prompts, f"reward/{source}": reward.fingerprint}
    return found


def criteria_of_sets(sets: Sequence[EvaluationSet], label: str = "") -> dict[str, Criteria]:
    """How the reward of each evaluation splits, by its own name, where its source says so."""
    found = {name.replace("-", "/", 1): criteria_of(reward) for one in sets for name, reward in judges_of(one, label).items()}
    return {name: criteria for name, criteria in found.items() if criteria is not None}


def score_tasks(
    experiment: Experiment,
    tested: Tested,
    folder: Path,
    on_task: OnTask | None = None,
) -> list[Path]:
    """Score a model on the experiment's lm-eval tasks, those that are not in its folder yet; returns the files written."""
    spec = experiment.evaluation.lm_eval
    if not spec.tasks:
        return []
    from grao_bench.evaluation.engine_lm import EngineLM  # with lm_eval, which takes seconds to load

    most, seed = experiment.budget.tokens_per_forward, experiment.evaluation.seed
    lm = EngineLM(tested.policy, tested.codec, tested.synced(), most, seed, on_task)
    return evaluate_tasks(spec, lm, folder)


def evaluate_bases(
    experiment: Experiment,
    sets: Sequence[EvaluationSet],
    base: Tested,
    runs: Path,
    label: str = "",
    on_task: OnTask | None = None,
) -> list[Path]:
    """The base's evaluation by the sets' reward and, in a folder of its own for other cells to share, by their training reward."""
    judged = [replace(one, training_reward=None) for one in sets]
    folders = [evaluate_base(experiment, judged, base, runs, label, on_task)]
    trained_on = [replace(one, reward=one.training_reward, training_reward=None) for one in sets if one.training_reward is not None]
    if trained_on:
        folders.append(evaluate_base(experiment.by_training_reward, trained_on, base, runs))
    return folders


def evaluate_base(
    experiment: Experiment,
    sets: Sequence[EvaluationSet],
    base: Tested,
    runs: Path,
    label: str = "",
    on_task: OnTask | None = None,
) -> Path:
    """The base's own, made once for all cells that share it: see `evaluate_untrained`."""
    return evaluate_untrained(experiment, sets, base, runs, label, on_task)


def evaluate_untrained(
    experiment: Experiment,
    sets: Sequence[EvaluationSet],
    tested: Tested,
    runs: Path,
    label: str = "",
    on_task: OnTask | None = None,
    name: str = "base",
    data: str = "base",
) -> Path:
    """The evaluation of a model that no run here trained, made once for what is asked of its
    weights; returns its folder runs/<data>/<name>-<hash>/seed0.

    Scores of lm-eval tasks that it lacks are added to it.
    """
    weights, fingerprints = weights_fingerprint(tested.policy.model), fingerprints_of(sets, label)
    identity = asked_of(experiment, tested, weights, fingerprints)
    folder = runs / data / f"{name}-{identity}" / "seed0"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            partial = folder.with_name(folder.name + PARTIAL)
            evaluate_policy(experiment, sets, tested, partial / "evaluations", label)
            model = tested.policy.model
            write_info(
                partial,
                RunInfo(
                    objective=name,
                    model=experiment.model.name,
                    data=data,
                    reward=sets[0].reward.name,
                    seed=0,
                    config_hash=identity,
                    config=describe(experiment) | {"objective": None, "optimizer": None},
                    fingerprints={"base" if name == "base" else "model": weights, **fingerprints},
                    environment=environment(model.device, model.dtype, experiment.threads),
                    sweep=experiment.sweep,
                    hash_version=HASH_VERSION,
                    end_token=tested.codec.decoded([tested.codec.end_token]),
                    criteria=criteria_of_sets(sets, label),
                ),
            )
            partial.rename(folder)
        score_tasks(experiment, tested, folder, on_task)
    return folder


def asked_of(
    experiment: Experiment,
    tested: Tested,
    weights: str,
    fingerprints: Mapping[str, str],
) -> str:
    """The hash of what an evaluation of these weights depends on: how they read and are sampled
    here, and not what an objective's rollouts are drawn at."""
    asked = replace(
        experiment.budget,
        steps=0,
        keep="last",
        probe_every=0,
        checkpoint_every=0,
        prompts_per_step=None,
        answers_per_step=1,
    )
    evaluation = replace(experiment.evaluation, lm_eval=NO_TASKS)
    code = computed_by(experiment).items()
    engine = {key: digest for key, digest in code if key.startswith("rollout")}
    judged = (weights, fingerprints, experiment.judge)
    sampling = experiment.evaluation_sampling
    rollout: Any = experiment.rollout
    rollout = replace(rollout, temperature=sampling.temperature)
    reads = (tested.codec.reads, sampling)
    return value_hash(*judged, rollout, *reads, engine, asked, evaluation)


def save_model(policy: Policy, codec: TextCodec, folder: Path, how: str | None) -> None:
    """`how`, see `Experiment.save_model`: a whole model that AutoModelForCausalLM and AutoTokenizer
    load, and that generates up to the tokens that ended its answers here, or an adapter for
    `PeftModel.from_pretrained(base, folder)`."""
    if how == "none":
        return
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


def evaluate_again(own: Experiment, experiment: Experiment, folder: Path, on_task: OnTask | None = None) -> tuple[list[Path], list[Path]]:
    """Evaluate a finished run's model, and its base, by `experiment.evaluation`, its lm-eval tasks among it.

    `own` is the experiment that the run was; `experiment` differs from it in how it evaluates.
    What differs from the run's own evaluation is added to the files' names: `gold_T0` is greedy, `gold_1a2b` another judge of that name.
    Returns (the run's new record files, those that were there already and stay).
    """
    with process_settings(experiment.threads):
        return _evaluate_again(own, experiment, folder, on_task)


def _evaluate_again(own: Experiment, experiment: Experiment, folder: Path, on_task: OnTask | None) -> tuple[list[Path], list[Path]]:
    info = read_info(folder)
    require_unchanged(folder, experiment, info)
    spec, wanted = experiment.model, models_wanted(experiment)
    policy, codec = load_policy(spec, str(model_of(folder, "run")), wanted)
    step = experiment.budget.steps if info.kept_step is None else info.kept_step
    tested = Tested(policy, step, codec, experiment.rollout.build(codec))
    sets = evaluation_sets(experiment, policy, codec)
    label = _label(info, own, experiment, sets)
    written = evaluate_policy(experiment, sets, tested, folder / "evaluations", label)
    written += score_tasks(experiment, tested, folder, on_task)
    if written:
        path = base_spec(spec).checkpoint(wanted.corpus)
        base = replace(tested, policy=load_policy(spec, path, wanted)[0], step=0)
        evaluate_base(experiment, sets, base, folder.parents[2], label, on_task)
        # what stands there already was said when the run was made
        told = told_by(evaluating(sets, label), folder)
        fingerprints = fingerprints_of(sets, label) | info.fingerprints
        criteria = criteria_of_sets(sets, label) | info.criteria
        judges = info.judges | told
        info = replace(info, fingerprints=fingerprints, judges=judges, criteria=criteria)
        write_info(folder, info)
    kept = [folder / "evaluations" / f"{one.name}-{one.reward.name}{label}.jsonl" for one in sets]
    return written, [path for path in kept if path not in written]


def judge_mark(experiment: Experiment, taken: Sequence[str], sets: Sequence[EvaluationSet]) -> str:
    """What tells a judge from others of the run that have its name; empty for the training reward, which keeps its plain name."""
    clashes = experiment.judge != experiment.reward and sets[0].reward.name in taken
    return f"_{value_hash(experiment.judge)[:4]}" if clashes else ""


def _label(info: RunInfo, own: Experiment, asked: Experiment, sets: Sequence[EvaluationSet]) -> str:
    """What tells an evaluation from the run's own, in the name of its files; empty for another reward source alone."""
    marks = {
        "temperature": "_T{:g}",
        "seed": "_seed{}",
        "max_examples": "_first{}",
        "answers_per_prompt": "_draws{}",
    }
    before, now = own.evaluation, asked.evaluation
    changed = [mark.format(getattr(now, name)) for name, mark in marks.items() if getattr(now, name) != getattr(before, name)]
    taken = [info.reward, *([] if own.judge in (own.reward, asked.judge) else [own.judge.build(own.data).name])]
    return "".join([judge_mark(asked, taken, sets), *changed])


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that this process held since `reset_peak_memory`, on a GPU as its allocator
    counts it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident * (1 if sys.platform == "darwin" else 2**10)


def reset_peak_memory() -> None:
    """Begin the peak anew, for a grid's worker runs one cell after another. Where the system can't, it stays the worker's own."""
    for device in range(torch.cuda.device_count()):
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


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
