"""One cell of a grid: base -> train -> evaluate -> records. Wires the parts together; usable from a notebook, without Hydra.

    experiment = Experiment(objective=load_objective("grao", beta=0.3), model=TinyModel(...), ...)
    cell = build(experiment)
    for record in train(cell.trainer, cell.collector, cell.examples, experiment.seed): ...

`grao_bench.run.run(experiment)` does all of it and leaves a run folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from grao_bench.data.corpus import load_corpus_files
from grao_bench.data.tokens import TextCodec
from grao_bench.errors import UserError
from grao_bench.evaluation.probe import Prober
from grao_bench.interfaces import Dataset, DataSpec, ModelSpec, Objective, RewardSpec, RolloutEngine, RolloutSpec, Sampling, TrackingSpec
from grao_bench.models.policy import Policy, load_causal_lm
from grao_bench.training.collect import Collector
from grao_bench.training.loop import Budget, Trainer
from grao_bench.training.optimizer import AdamW
from grao_bench.types import Example, Needs
from grao_bench.values import check_types, value_hash


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a policy is evaluated. See conf/evaluation/standard.yaml for each field."""

    sets: Literal["all", "own"]
    max_examples: int | None
    temperature: float | None
    reward: RewardSpec | None
    seed: int
    store_text: bool


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One cell, as values. `seed` drives data order, sampling and heads; the base has `model.seed`, the data `data.seed`.

    The run is written to output/sweep/<model>/<data>/<objective>-<config_hash>/seed<seed>.
    """

    objective: Objective
    model: ModelSpec
    data: DataSpec
    reward: RewardSpec
    rollout: RolloutSpec
    optimizer: AdamW
    budget: Budget
    evaluation: Evaluation
    tracking: TrackingSpec
    seed: int
    threads: int
    output: str
    sweep: str

    @property
    def config_hash(self) -> str:
        """8 hex digits of the resolved configuration without paths, tracking, threads and seed."""
        shaping = (self.objective, self.model, self.data, self.reward, self.rollout, self.optimizer, self.budget, self.evaluation)
        return value_hash(*shaping)

    @property
    def folder(self) -> Path:
        """Where the finished run lies."""
        cell = f"{self.objective.name}-{self.config_hash}"
        return Path(self.output) / self.sweep / self.model.name / self.data.name / cell / f"seed{self.seed}"

    @property
    def sampling(self) -> Sampling:
        """How training samples its rollouts."""
        return Sampling(self.rollout.temperature, self.rollout.top_p, self.budget.max_answer_tokens)

    @property
    def evaluation_sampling(self) -> Sampling:
        """How evaluation samples its answers."""
        temperature = self.evaluation.temperature
        return replace(self.sampling, temperature=self.rollout.temperature if temperature is None else temperature)

    @property
    def evaluation_sets(self) -> tuple[DataSpec, ...]:
        """The sets a policy is evaluated on."""
        return self.data.siblings() if self.evaluation.sets == "all" else (self.data,)


def check(experiment: Experiment) -> None:
    """Everything that can be known to be wrong before anything is trained; UserError with the config key."""
    check_types(experiment)
    experiment.budget.check()
    experiment.optimizer.check()
    needs, updates, rollout = experiment.objective.needs, experiment.objective.updates, experiment.rollout
    model, count, heat = experiment.model, experiment.evaluation.max_examples, experiment.evaluation.temperature
    for key, value, right, rule in (
        ("threads", experiment.threads, experiment.threads >= 1, "at least 1"),
        ("model.logp_temperature", model.logp_temperature, model.logp_temperature > 0, "above 0"),
        ("objective.epochs", updates.epochs, updates.epochs >= 1, "at least 1"),
        ("objective.minibatches", updates.minibatches, updates.minibatches >= 1, "at least 1"),
        ("rollout.temperature", rollout.temperature, rollout.temperature >= 0, "at least 0 (0: greedy)"),
        ("rollout.top_p", rollout.top_p, 0 < rollout.top_p <= 1, "above 0 and at most 1"),
        ("evaluation.max_examples", count, count is None or count >= 1, "at least 1, or null for all"),
        ("evaluation.temperature", heat, heat is None or heat >= 0, "at least 0 (0: greedy), or null"),
    ):
        if not right:
            raise UserError(f"{key}={value}: must be {rule}")
    if rollout.temperature == 0 and needs.rollouts > 1:
        raise UserError(f"rollout.temperature=0: {needs.rollouts} greedy answers are one answer; use a value above 0")
    if needs.rewards and needs.rollouts < 1:
        raise UserError(f"objective.rollouts={needs.rollouts}: {experiment.objective.name} learns from sampled answers; use at least 1")
    experiment.reward.check(experiment.data)
    for data in experiment.evaluation_sets:
        (experiment.evaluation.reward or experiment.reward).check(data)


@dataclass(frozen=True)
class Cell:
    """An experiment's machines, built. `examples` are the training examples after the budget's length rule."""

    experiment: Experiment
    trainer: Trainer
    collector: Collector
    prober: Prober
    engine: RolloutEngine
    base: Policy
    base_path: str
    dataset: Dataset
    codec: TextCodec
    examples: tuple[Example, ...]
    notes: dict[str, float]


def build(experiment: Experiment, on_pretrain: Callable[[int, int, float], None] | None = None) -> Cell:
    """Load or make the base, read the data, and put the machines together."""
    torch.set_num_threads(experiment.threads)
    spec, data, budget, needs = experiment.model, experiment.data, experiment.budget, experiment.objective.needs
    dataset = data.build()
    require_examples(dataset, experiment.objective)
    path = spec.checkpoint(corpus_of(experiment), on_pretrain)
    base_model, tokenizer = load_causal_lm(path, spec.dtype, spec.device)
    base = Policy(base_model, spec.logp_temperature, value_head=False).requires_grad_(False)
    policy = Policy(load_causal_lm(path, spec.dtype, spec.device)[0], spec.logp_temperature, needs.values)
    codec = TextCodec(tokenizer, spec.prompt_format, budget.max_prompt_tokens)
    examples, lengths = within_length(dataset.train, codec, budget, needs)
    engine = experiment.rollout.build(policy.model, codec)
    reward = experiment.reward.build(data)
    collector = Collector(
        codec=codec,
        engine=engine,
        reward=reward,
        reference=base if needs.reference_logp else None,
        sampling=experiment.sampling,
        max_answer_tokens=budget.max_answer_tokens,
        tokens_per_forward=budget.tokens_per_forward,
    )
    _require_left(examples, budget, dataset.name)
    dev, _ = within_length(dataset.dev, codec, budget, Needs(chosen=True))
    prober = Prober(
        codec=codec,
        engine=engine,
        reward=reward,
        base=base,
        examples=dev[: budget.probe_prompts],
        sampling=experiment.sampling,
        tokens_per_forward=budget.tokens_per_forward,
        seed=experiment.evaluation.seed,
    )
    notes = {f"dropped: {reason}": float(count) for reason, count in dataset.dropped.items()} | lengths
    return Cell(
        experiment=experiment,
        trainer=Trainer(policy, experiment.objective, experiment.optimizer, budget),
        collector=collector,
        prober=prober,
        engine=engine,
        base=base,
        base_path=path,
        dataset=dataset,
        codec=codec,
        examples=examples,
        notes=notes,
    )


def corpus_of(experiment: Experiment) -> Callable[[], list[str]]:
    """The documents that a tiny base is pre-trained on: the data's own corpus, and the model's files."""
    return lambda: experiment.data.corpus() + load_corpus_files(experiment.model.corpus_files)


def require_examples(dataset: Dataset, objective: Objective) -> None:
    """UserError where a split is empty, or an objective that learns from pairs finds an example without a rejected answer."""
    for split in ("train", "dev", "test"):
        if not getattr(dataset, split):
            raise UserError(f"data={dataset.name}: its {split} split is empty; check the files, or the fractions in the data config")
    if objective.needs.rejected:
        for example in dataset.train:
            if example.rejected is None:
                raise UserError(
                    f"data={dataset.name}: example {example.id} has no rejected answer, and objective={objective.name} learns from pairs; "
                    "use a set with pairs, or another objective"
                )


def within_length(
    examples: tuple[Example, ...], codec: TextCodec, budget: Budget, needs: Needs
) -> tuple[tuple[Example, ...], dict[str, float]]:
    """The examples that the budget's `long_references` rule keeps, and how many prompts and answers are longer than it allows."""
    counter = TextCodec(codec.tokenizer, codec.prompt_format, codec.max_prompt_tokens)
    kept = []
    for example in examples:
        counter.prompt(example.id, example.prompt)
        texts = [example.chosen, *([example.rejected] if needs.rejected and example.rejected else [])]
        finished = [counter.answer(text, budget.max_answer_tokens).finished for text in texts]
        if all(finished) or budget.long_references == "cut":
            kept.append(example)
    count = counter.truncation
    return tuple(kept), {
        "training examples": float(len(kept)),
        "prompts cut from the left": float(count.truncated_prompts),
        f"answers over max_answer_tokens ({budget.long_references})": float(count.truncated_answers),
    }


def _require_left(examples: tuple[Example, ...], budget: Budget, name: str) -> None:
    if not examples:
        limit = f"budget.max_answer_tokens={budget.max_answer_tokens}"
        raise UserError(f"data={name}: no reference fits {limit}; raise it, or use budget.long_references=cut")
