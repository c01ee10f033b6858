"""Everything that can fail, tried before minutes are spent: on a toy, before a base is made or read.

One step of training as the loop makes it, on a random model in the base's shape and made-up
rewards, with two of the set's own examples: the template, the engine, what the objective needs, its
`prepare`, its loss and the gradient. Then each reward on two real answers. Of an LLM judge its
address and key are tried as far as that is free: nothing is asked that costs.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset, Objective, RewardRequest, RolloutEngine, Sampled, Sampling
from grao_bench.core.spec_interfaces import DataSpec, RewardSpec
from grao_bench.core.types import Answer, Batch, Example, Loss, Needs, PolicyOutput, Prompt, Updates, Verdict
from grao_bench.core.values import value_hash
from grao_bench.experiment import Experiment
from grao_bench.models.toy import toy_models
from grao_bench.rewards.trying import try_source
from grao_bench.runs.cell import collector_of, models_wanted, require_fit
from grao_bench.runs.fit import require_references, within_length
from grao_bench.runs.identity import computed_by
from grao_bench.training.loop import Trainer, train

LOOKED_AT = 32
"""Examples that are encoded with the checkpoint's own tokenizer."""
LONGEST = 16
"""Tokens of a toy answer."""
_tried: set[str] = set()
"""What passed in this process, by all that it depends on."""


def rehearse(experiment: Experiment, read: Callable[[DataSpec], Dataset]) -> None:
    """UserError, one line that names what, for what would fail later. `read` gives a set, built.

    Takes about a second, once in a process for the same parts. No random stream is moved.
    """
    dataset = read(experiment.data)
    require_fit(experiment, dataset)
    code = computed_by(experiment)
    parts = (experiment.objective, experiment.model, experiment.rollout, experiment.optimizer)
    with _undisturbed():
        what = (parts, experiment.budget, experiment.data, code)
        _once(lambda: _step(experiment, dataset), "step", *what)
        _reward(experiment.reward, "reward", experiment.data, dataset.dev, code)
        for data in experiment.evaluation_sets:
            judged = read(data).test
            require_references(data, judged, experiment.judge, experiment.judge_key)
            _reward(experiment.judge, experiment.judge_key, data, judged, code)


def _once(check: Callable[[], None], *of: Any) -> None:
    key = value_hash(*of)
    if key not in _tried:
        check()
        _tried.add(key)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The global generators, which a user's code may draw from, are put back."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


@contextmanager
def _named(what: str) -> Iterator[None]:
    """An error of somebody's own code as one line with its place."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())
        fault = f"{type(error).__name__}: {said[:300]} ({last.filename}:{last.lineno})"
        raise UserError(f"{what}: raised {fault}; tried before training") from error


def _step(experiment: Experiment, dataset: Dataset) -> None:
    """One step of training on a toy, and one answer as evaluation draws it."""
    needs, budget = experiment.objective.needs, experiment.budget
    wanted = models_wanted(experiment)
    texts = [turn.text for one in dataset.train[:LOOKED_AT] for turn in one.prompt]
    toy = toy_models(experiment.model, wanted, texts)
    codec, config = toy.models.codec, toy.models.policy.model.config
    if toy.real:
        within_length(dataset.train[:LOOKED_AT], codec, config, budget, needs)
        within_length(dataset.test[:LOOKED_AT], codec, config, budget, Needs(rollouts=1))
    _require_room(experiment)
    offsets = [slot.offset for slot in needs.data_slots if slot.offset]
    count = next(n for n in range(2, 99) if all(offset % n for offset in offsets))
    longest = min(LONGEST, budget.max_answer_tokens)
    budget = replace(budget, steps=1, prompts_per_step=count, max_answer_tokens=longest)
    small = replace(experiment, budget=budget)
    objective = _Watched(experiment.objective, f"objective={experiment.objective.name}")
    engine = _Engine(experiment.rollout.build(codec))
    collector = collector_of(small, toy.models, engine, _MadeUp())
    trainer = Trainer(toy.models.policy, objective, experiment.optimizer, small.budget)
    try:
        with _named(objective.what):
            for _ in train(trainer, collector, dataset.train[:count], seed=0):
                pass
    except UserError as error:
        raise UserError(f"{error} (tried on a toy model with made-up rewards)") from error
    if not needs.rollouts:
        engine.sync(toy.models.policy, 1)
        first = dataset.test[0]
        sampling = replace(small.evaluation_sampling, max_new_tokens=2)
        engine.sample([codec.prompt(first.id, first.prompt)], 1, sampling, 0)


def _require_room(experiment: Experiment) -> None:
    """UserError where an answer alone is longer than a base that is yet to be made can read."""
    longest = getattr(experiment.model, "max_positions", None)
    asked = experiment.budget.max_answer_tokens
    if longest is not None and asked >= longest:
        what = f"the model's context is {longest} tokens (model.max_positions)"
        raise UserError(f"budget.max_answer_tokens={asked}: {what}; lower it, or raise that")


@dataclass(frozen=True)
class _Watched:
    """An objective whose faults are named."""

    objective: Objective
    what: str

    @property
    def name(self) -> str:
        return self.objective.name

    @property
    def needs(self) -> Needs:
        return self.objective.needs

    @property
    def updates(self) -> Updates:
        return self.objective.updates

    def prepare(self, batch: Batch) -> Batch:
        with _named(self.what):
            ready = self.objective.prepare(batch)
        if not isinstance(ready, Batch):
            raise UserError(f"{self.what}: its prepare gave {type(ready).__name__}, not a Batch")
        return ready

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        with _named(self.what):
            loss = self.objective.loss(policy, batch)
        if not isinstance(loss, Loss) or not loss.parts:
            raise UserError(f"{self.what}: its loss gave no Loss with parts")
        for name, part in (loss.parts | loss.stats).items():
            if tuple(part.shape) != (batch.size,):
                shape = f"has the shape {tuple(part.shape)}, not [P] = ({batch.size},)"
                raise UserError(f"{self.what}: its {name} {shape}; give one number per prompt")
        says = (policy.logp, *policy.filled.values())
        if any(one.requires_grad for one in says) and not loss.total.requires_grad:
            why = "depends on nothing that the policy says, so nothing would be learned"
            raise UserError(f"{self.what}: its loss {why}; use policy.logp, and don't detach it")
        return loss


@dataclass(frozen=True)
class _Engine:
    """A rollout engine whose faults are named."""

    engine: RolloutEngine

    @property
    def reproducible(self) -> bool:
        return self.engine.reproducible

    def sync(self, policy: Sampled, step: int) -> None:
        with _named("rollout"):
            self.engine.sync(policy, step)

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        seed: int,
    ) -> list[list[Answer]]:
        with _named("rollout"):
            drawn = self.engine.sample(prompts, n, sampling, seed)
        if [len(row) for row in drawn] != [n] * len(prompts):
            given = [len(row) for row in drawn]
            raise UserError(f"rollout: gave {given} answers to {len(prompts)} prompts, not {n} each")
        return drawn


@dataclass(frozen=True)
class _MadeUp:
    """Rewards that differ within a group, so that an objective has something to learn."""

    name: str = "made up"
    pairwise: bool = False
    fingerprint: str = ""
    tie_margin: float = 0.0

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        return [Verdict((1.0, -1.0, 0.0)[i % 3], self.name) for i in range(len(requests))]


def _reward(
    spec: RewardSpec,
    key: str,
    data: DataSpec,
    examples: Sequence[Example],
    code: Mapping[str, str],
) -> None:
    """UserError where a reward can't be loaded, or does not give a number for each of two answers
    to a set's own prompts."""
    mine = {name: digest for name, digest in code.items() if name.startswith((key, "data"))}
    ids = [example.id for example in examples[:2]]
    _once(lambda: _try_reward(spec, key, data, examples[:2]), key, spec, data, mine, ids)


def _try_reward(spec: RewardSpec, key: str, data: DataSpec, examples: Sequence[Example]) -> None:
    with _named(key):
        source = spec.build(data)
    # one that ends and one that was cut off; the second is nobody's reference
    texts = [(examples[0].chosen or "Yes.", True), ("I think that", False)]
    requests = []
    for example, (text, finished) in zip(examples, texts, strict=False):
        ids = tuple(range(len(text.split())))  # a policy's answers come with tokens
        requests.append(RewardRequest(example, text, finished, len(ids), ids))
    with _named(f"{key} ({source.name})"):
        try_source(source, requests)
