"""Settings of different groups that must agree, compared before anything is trained.

What can't be right is an error of `experiment.check`. What may be meant, and changes what a cell's
numbers mean, is a line that is said once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from grao_bench.core.devices import resolve_device
from grao_bench.core.precision import emulated, times_slower
from grao_bench.experiment import Experiment
from grao_bench.rewards.reward_folder import read_record
from grao_bench.rewards.reward_model import RewardModel
from grao_bench.rewards.shaping import Shaped
from grao_bench.training.loop import fewer_minibatches


def remarks(experiment: Experiment) -> list[str]:
    """What a person should know of a cell before it trains: where it can't do what it is asked, or
    where two of its settings belong together and differ. A line each."""
    told = [
        fewer_minibatches(experiment.objective, experiment.budget),
        _temperature(experiment),
        _truncation(experiment),
        _answers(experiment),
        *_reward_lengths(experiment),
        *emulations(model=experiment.model, reward=[experiment.reward, experiment.judge]),
    ]
    return [line for line in dict.fromkeys(told) if line]


def _temperature(experiment: Experiment) -> str:
    """The loss's, and what its answers are drawn at."""
    asked, own = experiment.model.logp_temperature, experiment.own_temperature
    if asked in ("auto", own):
        return ""
    drawn = f"learns from answers drawn at {own:g}, and its ratio, KL and J are at {asked:g}"
    alone = f"has no rollouts, and its loss is of the model at temperature {asked:g}, not at 1"
    what = drawn if experiment.objective.needs.rollouts else alone
    name = experiment.objective.name
    return f"model.logp_temperature={asked:g}: {name} {what}; auto would take {own:g}"


def _truncation(experiment: Experiment) -> str:
    """What answers are drawn from, and what the loss is of: always the whole vocabulary."""
    rollout, whole = experiment.rollout, {"top_p": 1, "top_k": 0, "min_p": 0}
    asked = {name: getattr(rollout, name) for name in whole}
    cut = [f"rollout.{name}={asked[name]:g}" for name in whole if asked[name] != whole[name]]
    if not cut or not experiment.objective.needs.rollouts:
        return ""
    what = "answers are drawn from a part of the distribution, and the loss is of the whole"
    return f"{' '.join(cut)}: {what}; sampler_mismatch in steps.jsonl is how far apart the two are"


def _answers(experiment: Experiment) -> str:
    """How many answers a step is to have, and how many its groups make."""
    budget, needs = experiment.budget, experiment.objective.needs
    made = budget.prompts(needs) * needs.rollouts
    if budget.prompts_per_step is not None or made in (0, budget.answers_per_step):
        return ""
    what = f"a step of {experiment.objective.name} has {made}, in groups of {needs.rollouts}"
    fix = "a multiple of objective.rollouts makes steps equal"
    return f"budget.answers_per_step={budget.answers_per_step}: {what}; {fix}"


def _reward_lengths(experiment: Experiment) -> Iterator[str]:
    """How much the rewards read or punish, and how long prompts and answers may be."""
    budget = experiment.budget
    longest, whole = budget.max_answer_tokens, budget.max_prompt_tokens + budget.max_answer_tokens
    for spec in _within([experiment.reward, experiment.judge]):
        if isinstance(spec, Shaped):
            punished = {
                "soft_overlong.longest": spec.soft_overlong.longest - spec.soft_overlong.cache,
                "length.target": spec.length.target,
            }
            for key, least in punished.items():
                if key.partition(".")[0] in spec.shaping and least >= longest:
                    what = f"it punishes answers of more than {least} tokens, and none has more"
                    yield f"reward.{key}: {what} than budget.max_answer_tokens={longest}"
        if isinstance(spec, RewardModel):
            for path in spec.paths([data.name for data in experiment.evaluation_sets]):
                record = read_record(path)
                reads = spec.max_tokens or (record and record.max_tokens)
                if reads and reads < whole:
                    what = f"reads {reads} tokens of prompt and answer, where the budget allows"
                    yield f"reward.path={path}: {what} {whole}; what is longer is cut for it"


def emulations(**parts: Any) -> Iterator[str]:
    """A line for each model among these specs (configuration key -> spec) that is asked for in
    bfloat16 on a processor without it, with what that costs."""
    for key, part in parts.items():
        for spec in _within(part):
            dtype, device = getattr(spec, "dtype", ""), getattr(spec, "device", "cpu")
            if dtype == "bfloat16" and resolve_device(device).type == "cpu":
                flags = torch.cpu.get_capabilities()
                yield emulated(f"{key}.dtype", dtype, flags, times_slower())


def _within(value: Any) -> Iterator[Any]:
    """Every spec in a value, itself among them."""
    if is_dataclass(value) and not isinstance(value, type):
        yield value
        for item in fields(value):
            yield from _within(getattr(value, item.name))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _within(entry)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for entry in value:
            yield from _within(entry)
