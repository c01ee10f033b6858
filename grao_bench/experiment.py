"""One cell of a grid: base -> train -> evaluate -> records. Wires the parts together; usable from a notebook, without Hydra.

    experiment = Experiment(objective=load_objective("grao", beta=0.3), model=TinyModel(...), ...)
    with process_settings(experiment.threads):
        cell = build(experiment)
        for record in train(cell.trainer, cell.collector, cell.examples, experiment.seed): ...

`grao_bench.run.run(experiment)` does all of it and leaves a run folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch

from grao_bench.data.corpus import load_corpus_files
from grao_bench.data.sets import tell
from grao_bench.data.tokens import TextCodec
from grao_bench.dialogue import NEXT_TURN
from grao_bench.errors import UserError
from grao_bench.evaluation.lm_eval import NO_TASKS, LMEval
from grao_bench.evaluation.probe import Prober
from grao_bench.interfaces import (
    Dataset,
    DataSpec,
    Models,
    ModelSpec,
    ModelsWanted,
    Objective,
    RewardSource,
    RewardSpec,
    RolloutEngine,
    RolloutSpec,
    Sampling,
    TrackingSpec,
)
from grao_bench.models.adapters import has_adapter
from grao_bench.models.cache import cache_folder
from grao_bench.models.of_run import read_masters
from grao_bench.models.policy import Policy
from grao_bench.process import loaded_once
from grao_bench.provenance import weights_fingerprint
from grao_bench.records import Lengths
from grao_bench.training.checkpoint import load_masters
from grao_bench.training.collect import SAMPLER_TELLS_NOTHING, Collector, told_by_sampler
from grao_bench.training.fit import (
    require_examples,
    require_left,
    require_references,
    to_train_on,
    within_length,
)
from grao_bench.training.loop import Budget, Trainer
from grao_bench.training.optimizer import AdamW
from grao_bench.training.ranks import ALONE
from grao_bench.training.reference import ReferenceCache
from grao_bench.types import Example, Needs
from grao_bench.values import check_types, value_hash


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a policy is evaluated. See conf/evaluation/standard.yaml for each field."""

    revision: ClassVar[int] = 1

    sets: Literal["all", "own"]
    max_examples: int | None
    answers_per_prompt: int
    temperature: float | None
    reward: RewardSpec | None
    seed: int
    store_text: bool
    lm_eval: LMEval


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One cell, as values. `seed` drives data order, sampling and heads; the base has `model.seed`, the data `data.seed`.

    save_model: `full` leaves a whole model in the run's folder (an adapter is merged into it),
    `adapter` the adapter alone, `none` nothing; None the adapter of a model that has one, else the
    whole model.

    role: `control` puts the run's row below the objectives', in no test (SFT to saturation).

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
    save_model: Literal["full", "adapter", "none"] | None
    role: Literal["control"] | None
    seed: int
    threads: int
    output: str
    sweep: str

    @property
    def config_hash(self) -> str:
        """A cell's identity: 8 hex digits of the resolved configuration and of its classes'
        revisions, without the data's and the output's paths, tracking, threads, seed, role and what is
        a matter of memory, speed or cost alone (`field(compare=False)`), and of
        `values.HASH_VERSION`. What the configuration only names is in `identity.computed_by`."""
        # what the data are is in their fingerprint, wherever they lie
        data = replace(self.data, path=None) if hasattr(self.data, "path") else self.data  # type: ignore[type-var]
        budget = self.budget
        if budget.keep != "best_dev":  # else what is measured decides what is kept
            budget = replace(budget, probe_every=0)
        return value_hash(
            self.objective,
            self.model,
            data,
            self.reward,
            self.rollout,
            self.optimizer,
            budget,
            self.evaluation,
        )

    @property
    def folder(self) -> Path:
        """Where the finished run lies."""
        cell = f"{self.objective.name}-{self.config_hash}"
        return Path(self.output) / self.sweep / self.model.name / self.data.name / cell / f"seed{self.seed}"

    @property
    def sampling(self) -> Sampling:
        """How training samples its rollouts. In the hh format an answer ends before the user's next
        turn, unless `rollout.stop` says otherwise."""
        rollout = self.rollout
        own = (NEXT_TURN,) if self.model.prompt_format == "hh" else ()
        return Sampling(
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            max_new_tokens=self.budget.max_answer_tokens,
            top_k=rollout.top_k,
            min_p=rollout.min_p,
            stop=own if rollout.stop is None else tuple(rollout.stop),
        )

    @property
    def logp_temperature(self) -> float:
        """What divides the logits of the loss's log-probabilities: ratio, KL and J alike, the
        reference model's too. `model.logp_temperature`, or what it is by itself."""
        own = self.model.logp_temperature
        return self.own_temperature if own == "auto" else float(own)

    @property
    def own_temperature(self) -> float:
        """What `model.logp_temperature=auto` is: d/dz E[R] of answers drawn at a temperature is
        E[R d/dz log pi] with log pi at that temperature. See `LogpTemperature`."""
        heat = self.rollout.temperature
        return heat if self.objective.needs.rollouts > 0 and heat > 0 else 1.0

    @property
    def evaluation_sampling(self) -> Sampling:
        """How evaluation samples its answers."""
        temperature = self.evaluation.temperature
        return replace(self.sampling, temperature=self.rollout.temperature if temperature is None else temperature)

    @property
    def answers_per_prompt(self) -> int:
        """How many answers evaluation draws to each prompt: greedy ones are all the same one."""
        greedy = self.evaluation_sampling.temperature == 0
        return 1 if greedy else self.evaluation.answers_per_prompt

    @property
    def evaluation_sets(self) -> tuple[DataSpec, ...]:
        """The sets a policy is evaluated on."""
        return self.data.siblings() if self.evaluation.sets == "all" else (self.data,)

    @property
    def judge(self) -> RewardSpec:
        """The reward that evaluation judges by: `evaluation.reward`, or else the training reward."""
        return self.reward if self.evaluation.reward is None else self.evaluation.reward

    @property
    def judge_key(self) -> str:
        """Where the configuration names the judge."""
        return "reward" if self.evaluation.reward is None else "evaluation.reward"

    @property
    def by_training_reward(self) -> Experiment:
        """The same cell, evaluated by its training reward alone."""
        return replace(self, evaluation=replace(self.evaluation, reward=None, lm_eval=NO_TASKS))


def check(experiment: Experiment) -> None:
    """Everything that can be known to be wrong before anything is trained; UserError with the config key."""
    check_types(experiment)
    experiment.budget.check()
    experiment.optimizer.check()
    for key, name in (("objective", experiment.objective.name), ("model", experiment.model.name), ("data", experiment.data.name)):
        if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
            raise UserError(f"{key}.name={name!r}: it names folders and files; use letters, digits, '_' and '.'")
    needs, updates, rollout = experiment.objective.needs, experiment.objective.updates, experiment.rollout
    model, evaluation = experiment.model, experiment.evaluation
    count, heat, draws = evaluation.max_examples, evaluation.temperature, evaluation.answers_per_prompt
    for key, value, right, rule in (
        ("threads", experiment.threads, experiment.threads >= 1, "at least 1"),
        (
            "model.logp_temperature",
            model.logp_temperature,
            experiment.logp_temperature > 0,
            "above 0, or auto",
        ),
        ("objective.epochs", updates.epochs, updates.epochs >= 1, "at least 1"),
        ("objective.minibatches", updates.minibatches, updates.minibatches >= 1, "at least 1"),
        ("rollout.temperature", rollout.temperature, rollout.temperature >= 0, "at least 0 (0: greedy)"),
        ("rollout.top_p", rollout.top_p, 0 < rollout.top_p <= 1, "above 0 and at most 1"),
        ("rollout.top_k", rollout.top_k, rollout.top_k >= 0, "at least 0 (0: the whole vocabulary)"),
        ("rollout.min_p", rollout.min_p, 0 <= rollout.min_p < 1, "at least 0 (the whole vocabulary) and below 1"),
        ("rollout.stop", rollout.stop, all(rollout.stop or ()), "texts of at least a character"),
        ("evaluation.max_examples", count, count is None or count >= 1, "at least 1, or null for all"),
        ("evaluation.answers_per_prompt", draws, draws >= 1, "at least 1"),
        ("evaluation.temperature", heat, heat is None or heat >= 0, "at least 0 (0: greedy), or null"),
    ):
        if not right:
            raise UserError(f"{key}={value}: must be {rule}")
    if rollout.temperature == 0 and needs.rollouts > 1:
        raise UserError(f"rollout.temperature=0: {needs.rollouts} greedy answers are one answer; use a value above 0")
    if needs.rewards and needs.rollouts < 1:
        raise UserError(f"objective.rollouts={needs.rollouts}: {experiment.objective.name} learns from sampled answers; use at least 1")
    if needs.old_logp == "sampler":
        _check_sampler(experiment)
    prompts = experiment.budget.prompts(needs)
    for slot in needs.data_slots:
        if slot.offset and slot.offset % prompts == 0:
            what = f"{slot.name} answers are of another prompt of the step, which has {prompts}"
            raise UserError(f"budget.prompts_per_step={prompts}: {what}; use more")
    experiment.model.check()
    if experiment.save_model == "adapter" and experiment.model.adapter is None:
        fix = "use full, or model.adapter=lora"
        raise UserError(f"save_model=adapter: all weights train, so there is no adapter; {fix}")
    experiment.evaluation.lm_eval.check()
    experiment.reward.check(experiment.data)
    for data in experiment.evaluation_sets:
        experiment.judge.check(data)


def _check_sampler(experiment: Experiment) -> None:
    """UserError where the sampler's log-probabilities can't be those at the loss's temperature."""
    name, needs = experiment.objective.name, experiment.objective.needs
    heat = experiment.logp_temperature
    asks = f"objective={name} reads the sampler's log-probabilities"
    if needs.rollouts < 1:
        raise UserError(f"objective.rollouts={needs.rollouts}: {asks}; use at least 1")
    if not experiment.rollout.tells_logp:
        raise UserError(SAMPLER_TELLS_NOTHING)
    if told_by_sampler(experiment.sampling, heat) is None:
        raise UserError(
            f"model.logp_temperature={experiment.model.logp_temperature}: {asks} at this temperature "
            f"({heat}), which are known only at 1, or where rollouts are drawn from the whole "
            "distribution at it; use 1, or set rollout.temperature to it with top_p=1, top_k=0, "
            "min_p=0"
        )


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
    trainer = Trainer(policy, experiment.objective, experiment.optimizer, budget)
    if experiment.model.start_from is not None:
        load_masters(trainer, read_masters(experiment.model.start_from))
    require_left(lengths, budget, dataset.name)
    return Cell(
        experiment=experiment,
        trainer=trainer,
        collector=collector_of(experiment, models, engine, reward),
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
