"""An experiment's machines, put together: data read, models built, rewards and engine beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset, Models, ModelsWanted, RewardSource, RolloutEngine
from grao_bench.core.process import loaded_once
from grao_bench.core.provenance import weights_fingerprint
from grao_bench.core.records import Lengths
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Example, Needs
from grao_bench.core.values import value_hash
from grao_bench.data.corpus import load_corpus_files
from grao_bench.data.sets import tell
from grao_bench.evaluation.probe import Prober
from grao_bench.experiment import Experiment
from grao_bench.models.adapters import has_adapter, untouched_experts
from grao_bench.models.cache import cache_folder
from grao_bench.models.of_run import read_masters
from grao_bench.models.policy import Policy
from grao_bench.runs.fit import (
    require_examples,
    require_left,
    require_references,
    to_train_on,
    within_length,
)
from grao_bench.text.tokens import TextCodec
from grao_bench.training.checkpoint import load_masters
from grao_bench.training.collect import Collector
from grao_bench.training.loop import Trainer
from grao_bench.training.ranks import ALONE
from grao_bench.training.reference import ReferenceCache


@dataclass(frozen=True)
class EvaluationSet:
    """A set's held-out examples after the budget's length rule, what that rule counted, and who judges the answers.

    `training_reward` judges the same answers once more, so that a policy which learned to please it alone shows. None where it is the
    judge itself, or can't judge this set.
    """

    name: str
    examples: tuple[Example, ...]
    lengths: Lengths
    reward: RewardSource
    training_reward: RewardSource | None = None


@dataclass(frozen=True)
class Cell:
    """An experiment's machines, built. `examples` are the training examples after the budget's length rule.

    `base` is what the policy is measured against (KL, NAG), also where it starts from another run's model; the objective's own
    reference model is the model that training starts from.
    """

    experiment: Experiment
    trainer: Trainer
    collector: Collector
    prober: Prober
    engine: RolloutEngine
    base: Policy
    dataset: Dataset
    sets: tuple[EvaluationSet, ...]
    codec: TextCodec
    examples: tuple[Example, ...]
    lengths: Lengths

    @property
    def untouched(self) -> str:
        """A line for what of the policy stays as it is; or ""."""
        return untouched_experts(self.trainer.policy.model) or ""


def build(experiment: Experiment, on_pretrain: Callable[[int, int, float], None] | None = None) -> Cell:
    """Load or make the base, read the data, and put the machines together.

    Within `process_settings`, so that its numbers are this cell's own.
    """
    data, budget, needs = experiment.data, experiment.budget, experiment.objective.needs
    dataset = read_data(data)
    require_fit(experiment, dataset)
    models = experiment.model.build(ALONE, models_wanted(experiment, on_pretrain))
    policy, codec = models.policy, models.codec
    sets = judged_sets(experiment, policy, codec)
    config, seed = policy.model.config, experiment.seed
    examples, lengths = to_train_on(dataset.train, codec, config, budget, needs, seed)
    engine, reward = experiment.rollout.build(codec), experiment.reward.build(data)
    require_left(lengths, budget, dataset.name)
    start = experiment.model.start_from
    masters = {} if start is None else read_masters(start)
    collector = collector_of(experiment, models, engine, reward)
    trainer = Trainer(policy, experiment.objective, experiment.optimizer, budget)
    if masters:
        load_masters(trainer, masters)
    return Cell(
        experiment=experiment,
        trainer=trainer,
        collector=collector,
        prober=prober_of(experiment, models, engine, reward, dataset),
        engine=engine,
        base=models.base,
        dataset=dataset,
        sets=sets,
        codec=codec,
        examples=examples,
        lengths=lengths,
    )


def read_data(data: DataSpec) -> Dataset:
    """The set, built once within `process_settings` for all that read it."""
    return loaded_once(("data", value_hash(data)), data.build)


def collector_of(
    experiment: Experiment,
    models: Models,
    engine: RolloutEngine,
    reward: RewardSource,
) -> Collector:
    """What fills an experiment's batches with these machines."""
    budget, needs = experiment.budget, experiment.objective.needs
    cache = None
    if models.reference is not None and not needs.rollouts:
        cache = _reference_cache(experiment, models.reference)
    return Collector(
        codec=models.codec,
        engine=engine,
        reward=reward,
        reference=models.reference,
        reference_cache=cache,
        sampling=experiment.sampling,
        max_answer_tokens=budget.max_answer_tokens,
        tokens_per_forward=budget.tokens_per_forward,
        steps=budget.steps,
    )


def prober_of(
    experiment: Experiment,
    models: Models,
    engine: RolloutEngine,
    reward: RewardSource,
    dataset: Dataset,
) -> Prober:
    """What measures a policy on the dev batch."""
    budget, config = experiment.budget, models.policy.model.config
    needs = Needs(rollouts=1)
    dev, _ = within_length(dataset.dev, models.codec, config, budget, needs, budget.probe_prompts)
    return Prober(
        codec=models.codec,
        engine=engine,
        reward=reward,
        base=models.base,
        examples=dev,
        sampling=experiment.evaluation_sampling,
        tokens_per_forward=budget.tokens_per_forward,
        seed=experiment.evaluation.seed,
    )


def models_wanted(
    experiment: Experiment,
    on_pretrain: Callable[[int, int, float], None] | None = None,
) -> ModelsWanted:
    """What the cell asks of its model's spec."""
    budget, needs = experiment.budget, experiment.objective.needs
    return ModelsWanted(
        max_prompt_tokens=budget.max_prompt_tokens,
        tokens_per_forward=budget.tokens_per_forward,
        gradient_checkpointing=budget.gradient_checkpointing,
        logp_temperature=experiment.logp_temperature,
        value_head=needs.values,
        reference=needs.reference_logp,
        corpus=corpus_of(experiment),
        on_pretrain=on_pretrain,
        seed=experiment.seed,
    )


def evaluation_sets(
    experiment: Experiment,
    policy: Policy,
    codec: TextCodec,
) -> tuple[EvaluationSet, ...]:
    """The sets to evaluate on, read, and their rewards, loaded; UserError for what can't be."""
    sets = []
    for data in experiment.evaluation_sets:
        dataset = read_data(data)
        require_references(data, dataset.test, experiment.judge, experiment.judge_key)
        asked = Needs(rollouts=1)
        examples, lengths = within_length(dataset.test, codec, policy.model.config, experiment.budget, asked)
        lengths = replace(lengths, examples=len(examples[: experiment.evaluation.max_examples]))
        reward = experiment.judge.build(data)
        require_left(lengths, experiment.budget, data.name)
        sets.append(EvaluationSet(data.name, examples[: experiment.evaluation.max_examples], lengths, reward))
    return tuple(sets)


def judged_sets(
    experiment: Experiment,
    policy: Policy,
    codec: TextCodec,
) -> tuple[EvaluationSet, ...]:
    """The sets to evaluate on, each with its judge, and the training reward where it is another."""
    read = evaluation_sets(experiment, policy, codec)
    return tuple(
        replace(one, training_reward=_second_judge(experiment, of, one.examples))
        for one, of in zip(read, experiment.evaluation_sets, strict=True)
    )


def _second_judge(experiment: Experiment, data: DataSpec, examples: Sequence[Example]) -> RewardSource | None:
    """The training reward of a cell that is evaluated by another, where it can judge the set; it may know its own set alone."""
    if experiment.judge == experiment.reward:
        return None
    try:
        experiment.reward.check(data)
        require_references(data, examples, experiment.reward, "reward")
    except UserError:
        return None
    return experiment.reward.build(data)


def require_fit(experiment: Experiment, dataset: Dataset) -> None:
    """UserError where the experiment's set, as built, lacks what its objective learns from or its
    rewards compare with: known before any model is made or loaded. Of one that fits, how it was
    read is told."""
    require_examples(dataset, experiment.objective)
    data, train = experiment.data, dataset.train if experiment.objective.needs.rewards else ()
    require_references(data, (*train, *dataset.dev), experiment.reward, "reward")
    require_references(data, dataset.test, experiment.judge, experiment.judge_key)
    if experiment.budget.keep == "best_dev" and any(one.chosen is None for one in dataset.dev):
        raise UserError(f"budget.keep=best_dev: chooses by RAS, and data={dataset.name} has no references on dev; use budget.keep=last")
    tell(dataset)


def _reference_cache(experiment: Experiment, reference: Policy) -> ReferenceCache:
    """Where answers are the data's own, the reference model needs to see each pair once, in all cells that share it."""
    spec = experiment.model
    # which decide the last bits
    made = torch.__version__, str(reference.model.device), experiment.threads, experiment.budget.tokens_per_forward
    # the fingerprint of an adapter that it starts from has its weights, and not their scale
    scale = (spec.adapter,) if has_adapter(reference.model) else ()
    fingerprint = weights_fingerprint(reference.model)
    identity = value_hash(fingerprint, spec.dtype, experiment.logp_temperature, *made, *scale)
    return ReferenceCache(reference, identity, cache_folder())


def corpus_of(experiment: Experiment) -> Callable[[], list[str]]:
    """The documents that a tiny base is pre-trained on: the data's own corpus, and the model's files."""
    return lambda: experiment.data.corpus() + load_corpus_files(experiment.model.corpus_files)
