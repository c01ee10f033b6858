"""Collect: fill in what an objective needs. The one function that reads `Needs`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import Literal

import torch
from jaxtyping import Bool, Float

from grao_bench.core.batching import check_ids, check_length, make_batch, micro_batches, on_rollouts, to_device
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Codec, RewardRequest, RewardSource, RolloutEngine, Sampling
from grao_bench.core.ops import group_moments, is_reward, no_signal
from grao_bench.core.types import Answer, Batch, Example, Needs, Prompt, Slot, Updates, Verdict
from grao_bench.models.policy import Policy
from grao_bench.training.reference import ReferenceCache


@dataclass(frozen=True)
class Collector:
    """What fills a batch. `reference` is the frozen reference model, None where nothing needs it.

    `reference_cache` holds its log-probabilities of answers that are the data's own (DPO's pairs).
    steps: the run's, for rewards that change while it trains; None where nobody says.
    """

    codec: Codec
    engine: RolloutEngine
    reward: RewardSource
    reference: Policy | None
    sampling: Sampling
    max_answer_tokens: int
    tokens_per_forward: int
    reference_cache: ReferenceCache | None = None
    steps: int | None = None


def collect(
    collector: Collector,
    policy: Policy,
    examples: Sequence[Example],
    needs: Needs,
    updates: Updates,
    seed: int,
    step: int | None = None,
    occurrences: Sequence[int] | None = None,
) -> tuple[Batch, dict[str, float]]:
    """A batch of these examples with everything in `needs`, and the metrics of its rollouts and rewards.

    Old log-probabilities that the loss alone reads are computed here only where they differ from
    the loss's own: with one update per batch they are those, detached, and no pass is spent.
    step: how many the policy has trained for, where that is known: UserError for an answer that an
    engine drew from an earlier or later one.
    occurrences: how many times each example stood before in the whole step, of which these are a
    process's share; None where they are all of it.
    """
    prompts = _prompts(collector.codec, examples, occurrences)
    given = _given(collector, examples, prompts, needs)
    rollouts = collector.engine.sample(prompts, needs.rollouts, collector.sampling, seed)
    _require_current(rollouts, step)
    rows = [[*drawn, *(one.answer for one in own)] for drawn, own in zip(rollouts, given, strict=True)]
    batch = make_batch([prompt.tokens for prompt in prompts], rows, [example.id for example in examples], needs, collector.codec.pad_token)
    _require_room(batch, policy)
    if needs.labelled:
        batch = batch.fill(labels=torch.tensor([bool(example.label) for example in examples]))
    if any(rollouts):
        batch = batch.fill(sampler_logp=on_rollouts(batch, rollouts, "sampler_logp"))
    if needs.old_logp == "sampler":
        batch = batch.fill(old_logp=_sampler_logp(batch, rollouts, collector, policy))
    metrics = _rollout_metrics([answer for drawn in rollouts for answer in drawn])
    if needs.rewards:
        when = (step, collector.steps)
        rewards, judged, of_parts = _rewards(collector, examples, rollouts, given, needs, when)
        _require_finite(rewards, collector.reward.name)
        batch = batch.fill(rewards=rewards, judged=judged)
        k = batch.columns("rollout")
        metrics |= _reward_metrics(rewards[:, k], judged[:, k]) | of_parts
    batch = to_device(batch, policy.model.device)
    with torch.no_grad():
        batch = _with_outputs(batch, policy, _old_columns(needs, updates), collector.tokens_per_forward)
        if needs.reference_logp:
            batch = _with_reference(batch, collector)
    return batch, metrics


def _prompts(
    codec: Codec,
    examples: Sequence[Example],
    occurrences: Sequence[int] | None,
) -> list[Prompt]:
    prompts = [codec.prompt(example.id, example.prompt) for example in examples]
    if occurrences is None:
        return prompts
    numbered = zip(prompts, occurrences, strict=True)
    return [replace(prompt, occurrence=before) for prompt, before in numbered]


def _require_current(rollouts: Sequence[Sequence[Answer]], step: int | None) -> None:
    drawn = {answer.policy_step for row in rollouts for answer in row} - {None, step}
    if step is not None and drawn:
        what = f"the policy of step {min(drawn, key=str)}, and it is at step {step}"
        raise UserError(f"rollout: answers are of {what}; call engine.sync(policy, step) before")


def _require_room(batch: Batch, policy: Policy) -> None:
    """UserError for what the model has no room or no embedding for; an engine checks only prompts that it samples from."""
    ids, config = (batch.prompts * batch.prompt_mask).amax(-1), policy.model.config
    ids = ids.maximum((batch.tokens * batch.mask).amax((-2, -1)))
    lengths = batch.prompt_mask.sum(-1).tolist(), batch.mask.sum(-1).amax(-1).tolist()
    for example, prompt, answer, highest in zip(batch.ids, *lengths, ids.tolist(), strict=True):
        check_length(example, prompt, answer, config)
        check_ids(example, highest, config)


@dataclass(frozen=True, slots=True)
class _Given:
    """An answer that the data give for a column: its full text, the ids that the model sees, and
    those of the whole text, which is what is judged."""

    slot: Slot
    text: str
    answer: Answer
    whole: tuple[int, ...]


def _encoded(collector: Collector, prompt: Prompt, text: str) -> tuple[Answer, tuple[int, ...]]:
    """A text as the model sees it, and all of its ids."""
    answer = collector.codec.answer(prompt, text, collector.max_answer_tokens)
    whole = answer if answer.finished else collector.codec.answer(prompt, text, sys.maxsize)
    return answer, whole.tokens


def _given(
    collector: Collector,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    needs: Needs,
) -> list[list[_Given]]:
    """What the data give for each row, in the order of its columns after the rollouts."""
    return [
        [
            _Given(slot, text, *_encoded(collector, prompt, text))
            for slot in needs.data_slots
            for text in slot.fill(examples[(p + slot.offset) % len(examples)])
        ]
        for p, prompt in enumerate(prompts)
    ]


def _rewards(
    collector: Collector,
    examples: Sequence[Example],
    rollouts: Sequence[Sequence[Answer]],
    given: Sequence[Sequence[_Given]],
    needs: Needs,
    when: tuple[int | None, int | None],
) -> tuple[Float[torch.Tensor, "P K"], Bool[torch.Tensor, "P K"], dict[str, float]]:
    """(`Batch.rewards`, `Batch.judged`, metrics): a verdict on every rollout and on the data's
    judged answers (the reference). Texts stand for the sampled ids. when: the step, of how many.

    The metrics are what the parts of a composed reward said of the rollouts, and how many answers
    were left out.
    """
    source = collector.reward
    requests: dict[tuple[int, int], RewardRequest] = {}
    for p, example in enumerate(examples):
        for k, answer in enumerate(rollouts[p]):
            ids = answer.tokens
            requests[p, k] = RewardRequest(example, answer.text, answer.finished, len(ids), ids)
        for k, one in enumerate(given[p], needs.rollouts):
            if one.slot.judged:
                requests[p, k] = RewardRequest(example, one.text, True, len(one.whole), one.whole)
    rewards = torch.zeros(len(examples), len(needs.slots))
    judged = torch.zeros(len(examples), len(needs.slots), dtype=torch.bool)
    asked = [replace(one, step=when[0], steps=when[1]) for one in requests.values()]
    verdicts = dict(zip(requests, source.score(asked), strict=True))
    for (p, k), verdict in verdicts.items():
        if verdict.reward is None and k >= needs.rollouts:
            what = f"could say nothing of the reference of {examples[p].id}"
            raise UserError(f"reward source {source.name}: {what}, and its objective needs it")
        if verdict.reward is not None and not (verdict.left_out and k < needs.rollouts):
            worth = verdict.reward if is_reward(verdict.reward) else torch.nan
            rewards[p, k], judged[p, k] = worth, True
    metrics = _part_metrics([verdict for (_, k), verdict in verdicts.items() if k < needs.rollouts])
    lost = len(requests) - int(judged.sum())
    if lost:
        metrics["reward/excluded"] = lost / len(requests)
        drawn = slice(needs.rollouts)
        rewards[:, drawn] = _filled_in(rewards[:, drawn], judged[:, drawn])
    return rewards, judged, metrics


def _part_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """reward/<part>/mean and /std of each `<part>/reward` in the verdicts, over the rollouts that it was said of (a route sees its own)."""
    said: dict[str, list[float]] = {}
    for verdict in verdicts:
        for name, value in verdict.parts.items():
            if name.endswith("/reward"):
                said.setdefault(name.removesuffix("/reward"), []).append(value)
    moments = {name: (fmean(values), pstdev(values)) for name, values in said.items()}
    return {f"reward/{name}/{moment}": value for name, pair in moments.items() for moment, value in zip(("mean", "std"), pair, strict=True)}


SAMPLER_TELLS_NOTHING = (
    "rollout: the objective reads the sampler's log-probabilities (old_logp='sampler'), and this "
    "engine tells none; use rollout=shared_prefix"
)


def _sampler_logp(
    batch: Batch,
    rollouts: Sequence[Sequence[Answer]],
    collector: Collector,
    policy: Policy,
) -> Float[torch.Tensor, "P K T"]:
    """What the sampler said of its tokens, at the loss's temperature; UserError where it can't."""
    field = told_by_sampler(collector.sampling, policy.logp_temperature)
    told = None if field is None else on_rollouts(batch, rollouts, field)
    if told is None:
        raise UserError(SAMPLER_TELLS_NOTHING)
    return told


def told_by_sampler(sampling: Sampling, temperature: float) -> Literal["logp", "sampler_logp"] | None:
    """The field of an Answer that holds log-probabilities at the loss's temperature: the raw ones
    at 1, the sampler's own where it draws from the whole distribution at this temperature."""
    if temperature == 1:
        return "logp"
    whole = sampling.top_p == 1 and sampling.top_k == 0 and sampling.min_p == 0
    return "sampler_logp" if whole and temperature == sampling.temperature else None


def _filled_in(
    rewards: Float[torch.Tensor, "P K"],
    judged: Bool[torch.Tensor, "P K"],
) -> Float[torch.Tensor, "P K"]:
    """Rewards in which a rollout that was not judged has the mean of its prompt's others, 0 where
    there is none: what says least to an objective that does not ask for `Batch.judged`."""
    return torch.where(judged, rewards, group_moments(rewards, judged)[0].to(rewards))


def _require_finite(rewards: torch.Tensor, source: str) -> None:
    if not torch.isfinite(rewards).all():
        raise UserError(f"reward source {source}: gave a reward that is not a finite number; check its model and its inputs")


def _old_columns(needs: Needs, updates: Updates) -> dict[str, str]:
    """The columns that come from a pass over the policy as it is now, and which output fills
    each."""
    columns = {}
    if needs.old_logp == "prepare" or (needs.old_logp == "loss" and updates.count > 1):
        columns["old_logp"] = "logp"
    if needs.values:
        columns["old_values"] = "values"
    return columns


def _with_reference(batch: Batch, collector: Collector) -> Batch:
    if collector.reference_cache is not None:
        return batch.fill(reference_logp=collector.reference_cache.logp(batch))
    if collector.reference is None:
        raise UserError("the objective needs reference_logp; give the Collector a reference model")
    columns = {"reference_logp": "logp"}
    return _with_outputs(batch, collector.reference, columns, collector.tokens_per_forward)


def _with_outputs(batch: Batch, policy: Policy, columns: Mapping[str, str], tokens_per_forward: int) -> Batch:
    """Fill columns of the batch from a policy's outputs, micro-batch by micro-batch."""
    filled: dict[str, torch.Tensor] = {}
    for rows in micro_batches(batch, tokens_per_forward) if columns else ():
        part = batch.select(rows).trimmed()
        out = policy(part)
        for column, name in columns.items():
            value = getattr(out, name)
            whole = filled.setdefault(column, value.new_zeros(batch.tokens.shape))
            whole[rows, :, : value.shape[-1]] = value
    return batch.fill(**filled)


def _rollout_metrics(answers: Sequence[Answer]) -> dict[str, float]:
    if not answers:
        return {}
    return {
        "length": sum(len(answer.tokens) for answer in answers) / len(answers),
        "truncated": sum(not answer.finished for answer in answers) / len(answers),
    }


def _reward_metrics(
    rewards: Float[torch.Tensor, "P G"],
    judged: Bool[torch.Tensor, "P G"],
) -> dict[str, float]:
    """Over the judged rollouts; no mean and no deviation where there is none."""
    said = rewards[judged]
    metrics: dict[str, float] = {}
    if len(said):
        metrics |= {"reward/mean": said.mean().item(), "reward/std": said.std(correction=0).item()}
    return metrics | {"groups_without_signal": no_signal(rewards, judged).float().mean().item()}
