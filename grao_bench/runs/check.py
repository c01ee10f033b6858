"""What can be known of an experiment before anything is trained: whether its values make sense
together.
"""

from __future__ import annotations

import re

from grao_bench.core.errors import UserError
from grao_bench.core.values import check_types
from grao_bench.experiment import Experiment
from grao_bench.training.collect import SAMPLER_TELLS_NOTHING, told_by_sampler


def check(experiment: Experiment) -> None:
    """Everything that can be known to be wrong before anything is trained; UserError with the config key."""
    check_types(experiment)
    experiment.budget.check()
    experiment.optimizer.check()
    for key, name in (("objective", experiment.objective.name), ("model", experiment.model.name), ("data", experiment.data.name)):
        if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
            raise UserError(f"{key}.name={name!r}: it names folders and files; use letters, digits, '_' and '.'")
    _check_ranges(experiment)
    _check_rollouts(experiment)
    experiment.model.check()
    if experiment.save_model == "adapter" and experiment.model.adapter is None:
        fix = "use full, or model.adapter=lora"
        raise UserError(f"save_model=adapter: all weights train, so there is no adapter; {fix}")
    experiment.evaluation.lm_eval.check()
    experiment.reward.check(experiment.data)
    for data in experiment.evaluation_sets:
        experiment.judge.check(data)


def _check_ranges(experiment: Experiment) -> None:
    """UserError for a number out of its range."""
    updates, rollout = experiment.objective.updates, experiment.rollout
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


def _check_rollouts(experiment: Experiment) -> None:
    """UserError where the objective can't learn from what is sampled or paired for it."""
    needs, rollout = experiment.objective.needs, experiment.rollout
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
