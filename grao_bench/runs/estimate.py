"""What a cell would take, before it is trained: memory by part, tokens, FLOPs, seconds and hours.

Sizes are counted. Seconds are measured on this machine: steps of a few prompts with the cell's own
model in memory (what they do to it is thrown away), some answers as a probe and evaluation draw
them, and drawn out to the whole. A base that is not made yet is timed untrained, whose answers
rarely end: then the figures are an upper bound. An LLM judge is not asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from grao_bench.core.interfaces import Dataset, Models, RewardRequest, RewardSource, TellingSource
from grao_bench.core.ops import stream_seed
from grao_bench.core.process import peak_memory, reset_peak_memory
from grao_bench.core.types import Needs, Verdict
from grao_bench.data.corpus import load_corpus_files
from grao_bench.experiment import Experiment
from grao_bench.models.head import LOGITS_PER_CHUNK, ON_CUDA
from grao_bench.models.tiny import TinyModel
from grao_bench.runs.cell import collector_of, models_wanted, prober_of, read_data
from grao_bench.runs.fit import within_length
from grao_bench.runs.memory import peak_of, weights_of
from grao_bench.training.collect import Collector, collect
from grao_bench.training.loop import Trainer, train
from grao_bench.training.ranks import ALONE

PATIENCE = 4.0
"""Seconds: what would take less is timed whole, and TIMES times."""
TIMES = 3
PROCESS = 1240 * 2**20
"""Bytes on a processor, measured: Python and its libraries, a kernel of oneDNN for every shape that
it meets, and what the allocator keeps of what was freed."""


@dataclass(frozen=True)
class Estimate:
    """A cell's: memory in bytes by part and at its peak, tokens and FLOPs of a step, seconds of a
    step and of everything by part. notes: what they leave out."""

    title: str
    parameters: int
    trained: int
    memory: Mapping[str, int]
    peak: int
    tokens: Mapping[str, int]
    flops: Mapping[str, float]
    step_seconds: float
    steps: int
    seconds: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def total_seconds(self) -> float:
        """From the first step to the last record."""
        return sum(self.seconds.values())

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"total_seconds": self.total_seconds}


def estimate(experiment: Experiment) -> Estimate:
    """Of one cell, within `process_settings`. Reads the base, where it is there, and the data."""
    notes: list[str] = []
    spec = experiment.model
    if isinstance(spec, TinyModel) and not spec.is_made(lambda: _corpus(experiment)):
        notes.append("the base is not made yet: timed untrained, so answers rarely end")
        experiment = replace(experiment, model=replace(spec, steps=1))
    dataset = read_data(experiment.data)
    before = _resident()
    models = experiment.model.build(ALONE, models_wanted(experiment))
    machines = _Machines.of(experiment, models, dataset, notes)
    step, measured = machines.step()
    memory = machines.memory(before, measured)
    return Estimate(
        title=f"{experiment.objective.name} on {experiment.data.name}, {spec.name}",
        parameters=_count(models.base),
        trained=_count(models.policy, trained=True),
        memory=memory,
        peak=peak_of(memory),
        tokens=machines.tokens(measured),
        flops=machines.flops(measured),
        step_seconds=step,
        steps=experiment.budget.steps,
        seconds={
            "training": step * experiment.budget.steps,
            "probes": machines.probes(),
            "evaluation": machines.evaluation(),
        },
        notes=tuple(notes),
    )


def _corpus(experiment: Experiment) -> list[str]:
    return experiment.data.corpus() + load_corpus_files(experiment.model.corpus_files)


def _resident() -> int:
    reset_peak_memory()
    return peak_memory(torch.device("cuda" if torch.cuda.is_initialized() else "cpu"))


def _count(policy: Any, trained: bool = False) -> int:
    return sum(one.numel() for one in policy.parameters() if one.requires_grad or not trained)


def _drawn_out(seconds: Callable[[int], float], whole: int, first: int = 1) -> float:
    """What `whole` of something take: timed, where that is short, else on a line through two or
    three smaller numbers of them."""
    seconds(first)  # what is made once: buffers, an optimiser's state
    one = seconds(first)
    if whole <= 2 * first or one * whole / first <= PATIENCE:
        return sum(seconds(whole) for _ in range(TIMES)) / TIMES
    points = [(first, one), (2 * first, seconds(2 * first))]
    if 2 * points[-1][1] <= 8 * PATIENCE and 4 * first < whole:
        points.append((4 * first, seconds(4 * first)))
    (n, least), (m, most) = points[-2:]
    return most + max(0.0, most - least) / (m - n) * (whole - m)


@dataclass(frozen=True)
class _Unasked:
    """Stands for a judge that costs money."""

    name: str = "unasked"
    pairwise: bool = False
    fingerprint: str = ""
    tie_margin: float = 0.0

    def score(self, requests: Any) -> list[Verdict]:
        return [Verdict(float(i % 2), self.name) for i in range(len(requests))]


@dataclass(frozen=True)
class _Machines:
    """A cell's machines, to be timed."""

    experiment: Experiment
    models: Models
    dataset: Dataset
    collector: Collector
    trainer: Trainer
    reward: RewardSource
    notes: list[str]

    @classmethod
    def of(cls, experiment: Experiment, models: Models, dataset: Dataset, notes: list[str]) -> _Machines:
        reward = _free(experiment.reward.build(experiment.data), "reward", notes)
        engine = experiment.rollout.build(models.codec)
        collector = replace(collector_of(experiment, models, engine, reward), reference_cache=None)
        budget = replace(experiment.budget, steps=99)
        trainer = Trainer(models.policy, experiment.objective, experiment.optimizer, budget)
        return cls(experiment, models, dataset, collector, trainer, reward, notes)

    @property
    def prompts(self) -> int:
        """In a step."""
        return self.experiment.budget.prompts(self.experiment.objective.needs)

    def step(self) -> tuple[float, dict[str, float]]:
        """(seconds of a step, what was counted per prompt)."""
        needs = self.experiment.objective.needs
        counted: dict[str, float] = {}

        def seconds(count: int) -> float:
            trainer = self.trainer
            budget = self.experiment.budget
            trainer.budget = replace(budget, steps=trainer.step + 1, prompts_per_step=count)
            started = time.perf_counter()
            (record,) = train(trainer, self.collector, self.dataset.train, seed=0)
            taken = time.perf_counter() - started
            generated, forward = record.generated_tokens, record.forward_tokens
            updates = self.experiment.objective.updates
            counted.update(generated=generated / count, forward=forward / count / updates.epochs)
            return taken

        first = 1 + any(slot.offset for slot in needs.data_slots)
        return _drawn_out(seconds, self.prompts, min(first, self.prompts)), counted

    def probes(self) -> float:
        """Seconds of all probes of the run."""
        budget = self.experiment.budget
        times = 1 + (budget.steps // budget.probe_every if budget.probe_every else 1)
        whole = min(budget.probe_prompts, len(self.dataset.dev))
        engine = self.collector.engine
        prober = prober_of(self.experiment, self.models, engine, self.reward, self.dataset)

        def seconds(count: int) -> float:
            started = time.perf_counter()
            replace(prober, examples=prober.examples[:count]).probe(self.models.policy, 0)
            return time.perf_counter() - started

        return times * _drawn_out(seconds, whole, min(2, whole))

    def evaluation(self) -> float:
        """Seconds of the answers to every test prompt of every set, with their verdicts."""
        total, experiment = 0.0, self.experiment
        engine, codec = self.collector.engine, self.models.codec
        sampling, n = experiment.evaluation_sampling, experiment.answers_per_prompt
        for data in experiment.evaluation_sets:
            found = within_length(
                read_data(data).test,
                codec,
                self.models.policy.model.config,
                experiment.budget,
                Needs(rollouts=1),
            )[0][: experiment.evaluation.max_examples]
            asked = f"for up to {n * len(found)} judgements of {data.name}, of the base's as many"
            judge = _free(experiment.judge.build(data), experiment.judge_key, self.notes, asked)
            engine.sync(self.models.policy, 0)

            def seconds(count: int, found: Any = found, judge: Any = judge) -> float:
                examples = found[:count]
                started = time.perf_counter()
                prompts = [codec.prompt(one.id, one.prompt) for one in examples]
                drawn = engine.sample(prompts, n, sampling, stream_seed(0, "estimate"))
                judge.score(
                    [
                        RewardRequest(one, answer.text, answer.finished, len(answer.tokens))
                        for one, row in zip(examples, drawn, strict=True)
                        for answer in row
                    ]
                )
                return time.perf_counter() - started

            total += _drawn_out(seconds, len(found), min(4, len(found)))
        return total

    def tokens(self, measured: Mapping[str, float]) -> dict[str, int]:
        """Of a step."""
        prompts = self.prompts
        return {
            "prompts": prompts,
            "answers": prompts * len(self.experiment.objective.needs.slots),
            "sampled tokens": round(prompts * measured["generated"]),
            "trained tokens, with their prompts": round(prompts * measured["forward"]),
        }

    def flops(self, measured: Mapping[str, float]) -> dict[str, float]:
        """Of a step: 2 per parameter and token of a forward pass, 4 more where its gradient is
        taken; the embedding, which multiplies nothing, apart (Kaplan et al. 2020)."""
        policy, objective = self.models.policy, self.experiment.objective
        needs, updates = objective.needs, objective.updates
        model = policy.model
        tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
        parameters = _count(policy) - (0 if tied else model.get_input_embeddings().weight.numel())
        forward = 2.0 * parameters * self.prompts
        again = self.experiment.budget.gradient_checkpointing
        old = needs.old_logp == "prepare" or (needs.old_logp == "loss" and updates.count > 1)
        parts = {
            "sampling": forward * measured["generated"],
            "gradient": forward * measured["forward"] * (4 if again else 3) * updates.epochs,
            "reference": forward * measured["forward"] if needs.reference_logp else 0.0,
            "old log-probabilities": forward * measured["forward"] if old else 0.0,
        }
        return {name: value for name, value in parts.items() if value}

    def memory(self, process: int, measured: Mapping[str, float]) -> dict[str, int]:
        """Bytes by part; process: what it held before anything was loaded."""
        models, budget = self.models, self.experiment.budget
        policy, width = models.policy, models.policy.model.dtype.itemsize
        held = [one for one in (models.policy, models.base, models.reference) if one is not None]
        unique = {id(one): one for each in held for one in each.parameters()}
        half = width < 4
        trained = _count(policy, trained=True)
        tokens = self.prompts * measured["forward"]
        most = min(tokens, max(budget.tokens_per_forward, measured["forward"]))
        per_token = self._saved_per_token()
        config = policy.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        cached = config.num_hidden_layers * 2 * heads * size * width * tokens
        chunk = ON_CUDA if policy.model.device.type == "cuda" else LOGITS_PER_CHUNK
        rows = min(chunk // config.vocab_size + 1, tokens)
        return {
            "process": max(process, 0 if policy.model.device.type == "cuda" else PROCESS),
            "weights": sum(one.numel() * one.element_size() for one in unique.values()),
            "reward": weights_of(self.reward),
            "gradients": trained * (4 if half else width),
            "optimiser": 2 * trained * max(width, 4),
            "masters": 4 * trained if half else 0,
            "activations": round(per_token * most),
            "logits chunks": round(2 * 4 * rows * config.vocab_size),
            "key-value cache": round(cached),
        }

    def _saved_per_token(self) -> float:
        """Bytes that a forward pass keeps for its backward pass, by a pass over one prompt."""
        needs, updates = self.experiment.objective.needs, self.experiment.objective.updates
        count = 1 + any(slot.offset for slot in needs.data_slots)
        policy = self.models.policy
        rows = self.dataset.train[:count]
        batch, _ = collect(self.collector, policy, rows, needs, updates, 0)
        kept: dict[int, int] = {}
        own = {one.untyped_storage().data_ptr() for one in policy.parameters()}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = policy(batch, entropy=needs.entropy)
        del out
        tokens = int(batch.prompt_mask.sum() + batch.mask.sum())
        return sum(kept.values()) / tokens


def _free(source: RewardSource, key: str, notes: list[str], asked: str = "") -> RewardSource:
    told = source.statistics().values() if isinstance(source, TellingSource) else ()
    if any(counts.calls is not None for counts in told):
        what = "asks an endpoint" + (f" {asked}" if asked else "")
        notes.append(f"{key}: {what}, whose time and cost are not in the figures")
        return _Unasked()
    return source
