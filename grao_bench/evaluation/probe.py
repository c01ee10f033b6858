"""Probes: the policy measured on a fixed dev batch during training, the same way for every objective."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from grao_bench.core.batching import make_batch, micro_batches, on_rollouts, to_device
from grao_bench.core.interfaces import Codec, RewardSource, RolloutEngine, Sampling
from grao_bench.core.ops import masked_mean, masked_sum, stream_seed
from grao_bench.core.records import ProbeRecord
from grao_bench.core.types import Batch, Example, Needs, Prompt
from grao_bench.evaluation.answers import compare, unsaid
from grao_bench.models.policy import Policy


@dataclass(frozen=True)
class Prober:
    """Measures a policy. `base` is the frozen base; `seed` is the same for every run, so that all draw with common random numbers."""

    codec: Codec
    engine: RolloutEngine
    reward: RewardSource
    base: Policy
    examples: Sequence[Example]
    sampling: Sampling
    tokens_per_forward: int
    seed: int

    def probe(self, policy: Policy, step: int) -> ProbeRecord:
        """See ProbeRecord for the metrics; those of references are left out where an example has
        none. KL and entropy come from untruncated samples at T = 1, apart from the training's
        own."""
        self.engine.sync(policy, step)
        prompts = [self.codec.prompt(example.id, example.prompt) for example in self.examples]
        plain = replace(self.sampling, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0)
        samples = [drawn[0] for drawn in self.engine.sample(prompts, 1, plain, stream_seed(self.seed, "probe", "kl"))]
        answers = [drawn[0] for drawn in self.engine.sample(prompts, 1, self.sampling, stream_seed(self.seed, "probe", "reward"))]
        known = all(example.chosen is not None for example in self.examples)
        most = self.sampling.max_new_tokens
        references = [
            [self.codec.answer(prompt, example.reference, most)] if known else []
            for example, prompt in zip(self.examples, prompts, strict=True)
        ]
        wholes = self._whole_references(prompts)
        verdicts = compare(self.reward, self.examples, answers, wholes)
        judged = [
            (R, verdict.reward)
            for example, (R, verdict) in zip(self.examples, verdicts, strict=True)
            if verdict.reward is not None and not unsaid(example, R, verdict)
        ]
        wins = [R > 0 for R, _ in judged if R is not None]
        batch = make_batch(
            [prompt.tokens for prompt in prompts],
            [[sample, *reference] for sample, reference in zip(samples, references, strict=True)],
            [example.id for example in self.examples],
            Needs(rollouts=1, chosen=known),
            self.codec.pad_token,
        )
        batch = batch.fill(sampler_logp=on_rollouts(batch, [[sample] for sample in samples], "logp"))
        return ProbeRecord(
            step=step,
            metrics=self._likelihoods(policy, to_device(batch, policy.model.device))
            | {
                "reward": sum(reward for _, reward in judged) / max(1, len(judged)),
                **({"ras": sum(wins) / max(1, len(wins))} if known else {}),
                "truncated": sum(not answer.finished for answer in answers) / len(answers),
                "length": sum(len(answer.tokens) for answer in answers) / len(answers),
            },
        )

    def _whole_references(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...] | None]:
        """The references' tokens, uncut, as their texts are judged."""
        return [
            None if one.chosen is None else self.codec.answer(prompt, one.chosen, sys.maxsize).tokens
            for one, prompt in zip(self.examples, prompts, strict=True)
        ]

    @torch.no_grad()
    def _likelihoods(self, policy: Policy, batch: Batch) -> dict[str, float]:
        kl, tokens, entropy, j_reference, mismatch = [], [], [], [], []
        for rows in micro_batches(batch, self.tokens_per_forward):
            part = batch.select(rows).trimmed()
            ours, base = policy(part, entropy=True, temperature=1.0), self.base(part, temperature=1.0)
            sample, mask = part.column("rollout"), part.mask
            kl.append(masked_sum(ours.logp - base.logp, mask)[:, sample])
            entropy.append(masked_sum(ours.entropy, mask)[:, sample])
            tokens.append(mask.sum(-1)[:, sample])
            j_reference.append(masked_mean(ours.logp, mask)[:, part.columns("chosen")])
            if "sampler_logp" in part:
                mismatch.append(masked_sum((ours.logp - part.sampler_logp).abs(), mask)[:, sample])
        per_answer, lengths = torch.cat(kl).double(), torch.cat(tokens).double()
        references = torch.cat(j_reference).flatten()
        count = lengths.sum().item()
        return {
            "kl": per_answer.mean().item(),
            "kl_se": (per_answer.std() / len(per_answer) ** 0.5).item() if len(per_answer) > 1 else 0.0,
            "kl_token": per_answer.sum().item() / count,
            "kl_token_se": ratio_error(per_answer, lengths),
            "entropy": torch.cat(entropy).sum().item() / count,
            **({"j_reference": references.mean().item()} if len(references) else {}),
        } | ({"sampler_mismatch": torch.cat(mismatch).sum().item() / count} if mismatch else {})


def ratio_error(totals: Float[Tensor, "P"], counts: Float[Tensor, "P"]) -> float:
    """The standard error of sum(totals) / sum(counts) over P independent rows, such as nats per token over answers; 0 for one row.

    A ratio's counts vary with the rows too, so it is linearised (Cochran 1977, Eq. 2.46): the residuals totals - ratio * counts, whose
    sum is 0, have variance s^2, and the error is s sqrt(P) / sum(counts).
    """
    rows, total = len(totals), counts.sum()
    if rows < 2:
        return 0.0
    residuals = totals - totals.sum() / total * counts
    return ((residuals.square().sum() / (rows - 1) * rows).sqrt() / total).item()
