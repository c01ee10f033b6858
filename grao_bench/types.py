"""The types that every part speaks.

Shape letters: P prompts, K answers per prompt, G rollouts per prompt, T answer tokens, Tp prompt tokens.
Alignment, stated once: `logp[p, k, t] = log pi(tokens[p, k, t] | prompt[p], tokens[p, k, :t])`, so every tensor lines up with `tokens`.
The length |x| of an answer counts its end token when the answer is finished; a truncated answer has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

Role = Literal["system", "user", "assistant"]
Slot = Literal["rollout", "chosen", "rejected"]
PromptFormat = Literal["hh", "chat"]
"""`hh`: the dialogue text of HH-RLHF; `chat`: the tokenizer's chat template."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a dialogue. `text` carries no role marker and no surrounding blanks."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One preference pair: a prompt (one turn or many, the last by the user) and two answers to it.

    `chosen` is the paper's reference answer y. `rejected` is None in a set without pairs.
    `id` is unique within its set and stable across runs; equal prompts are separate examples.
    """

    id: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str | None
    subset: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model reads it: the example's id and the token ids up to where the answer begins."""

    id: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as ids. Sampled ids are kept and trained on as they are, never re-encoded from `text`.

    `finished` is True when the last id is an end token. What a sampler says of each token, where it says it: `sampler_logp`, the
    log-probability under the distribution that it drew from (after temperature and truncation; 0 for a greedy token), and `logp`, the
    raw one, at temperature 1 over the whole vocabulary.
    """

    text: str
    tokens: tuple[int, ...]
    finished: bool
    sampler_logp: tuple[float, ...] | None = None
    logp: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reward source says of one answer. `parts` explain the reward by name; `replies` are a judge's own words."""

    reward: float
    source: str
    parts: dict[str, float] = field(default_factory=dict)
    replies: tuple[str, ...] = ()

    @property
    def excluded(self) -> bool:
        """Whether the source, or a part of it, could say nothing: the part `excluded` is 1 and the reward is not a number."""
        return any(value and name.rpartition("/")[2] == "excluded" for name, value in self.parts.items())


@dataclass(frozen=True, slots=True)
class Needs:
    """What an objective needs filled in before its loss can be computed: data that `collect` reads, never a branch on a name."""

    rollouts: int = 0
    chosen: bool = False
    rejected: bool = False
    rewards: bool = False
    old_logp: bool = False
    reference_logp: bool = False
    values: bool = False

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The K slots of a row, in their fixed order: rollouts, chosen, rejected."""
        counts: tuple[tuple[Slot, int], ...] = (("rollout", self.rollouts), ("chosen", self.chosen), ("rejected", self.rejected))
        return tuple(slot for slot, count in counts for _ in range(count))


@dataclass(frozen=True, slots=True)
class Updates:
    """How often the optimiser steps on one batch: `epochs` passes cut into `minibatches` chunks each.

    During the first `value_only_steps` steps of a run only the value head moves.
    """

    epochs: int = 1
    minibatches: int = 1
    value_only_steps: int = 0

    @property
    def count(self) -> int:
        """Optimiser updates per batch."""
        return self.epochs * self.minibatches


@dataclass(frozen=True)
class Batch:
    """The P x K x T rectangle. Optional columns are None unless the objective's `Needs` ask for them (or its `prepare` fills them).

    prompts [P Tp] are padded on the left, tokens [P K T] on the right; both masks are True on real tokens.
    finished [P K] says whether the answer ends with its end token.
    sampler_logp is what the sampler said of its tokens, at the loss's temperature, for the mismatch metric; 0 on other answers.
    advantages are [P K 1] (one per answer) or [P K T] (one per token). token_weights [P K T] carry a token-normalised
    reduction, its constant taken over the whole batch in `prepare`, so that cutting the batch changes no number.
    """

    slots: tuple[Slot, ...]
    ids: tuple[str, ...]
    prompts: Int[Tensor, "P Tp"]
    prompt_mask: Bool[Tensor, "P Tp"]
    tokens: Int[Tensor, "P K T"]
    mask: Bool[Tensor, "P K T"]
    finished: Bool[Tensor, "P K"]
    rewards: Float[Tensor, "P K"] | None = None
    sampler_logp: Float[Tensor, "P K T"] | None = None
    old_logp: Float[Tensor, "P K T"] | None = None
    reference_logp: Float[Tensor, "P K T"] | None = None
    old_values: Float[Tensor, "P K T"] | None = None
    returns: Float[Tensor, "P K T"] | None = None
    advantages: Float[Tensor, "P K #T"] | None = None
    token_weights: Float[Tensor, "P K T"] | None = None

    @property
    def size(self) -> int:
        """P, the number of prompts."""
        return len(self.ids)

    def columns(self, slot: Slot) -> list[int]:
        """The indices along K that hold this kind of answer."""
        return [k for k, name in enumerate(self.slots) if name == slot]

    def column(self, slot: Slot) -> int:
        """The one index along K that holds this kind of answer; ValueError unless there is exactly one."""
        (k,) = self.columns(slot)
        return k

    def select(self, rows: list[int]) -> Batch:
        """The same batch restricted to these prompts, in this order."""
        changed: dict[str, object] = {"ids": tuple(self.ids[row] for row in rows)}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                changed[item.name] = value[rows]
        return replace(self, **changed)  # type: ignore[arg-type]

    def trimmed(self) -> Batch:
        """The same batch without the columns that are padding in every row."""
        Tp, T = int(self.prompt_mask.sum(-1).max()), int(self.mask.sum(-1).max())
        width = self.tokens.shape[-1]
        changed: dict[str, object] = {"prompts": self.prompts[:, -Tp:], "prompt_mask": self.prompt_mask[:, -Tp:]}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor) and value.dim() == 3 and value.shape[-1] == width:
                changed[item.name] = value[..., :T]
        return replace(self, **changed)  # type: ignore[arg-type]


@dataclass(frozen=True)
class PolicyOutput:
    """What a policy says of a batch's answers: log-probabilities (at the loss's temperature), and on request entropy (nats) and values."""

    logp: Float[Tensor, "P K T"]
    entropy: Float[Tensor, "P K T"] | None = None
    values: Float[Tensor, "P K T"] | None = None


@dataclass(frozen=True)
class Loss:
    """`parts` are to be minimised and sum to the loss; `stats` are for the log. All per prompt [P], detached stats."""

    parts: dict[str, Float[Tensor, "P"]]
    stats: dict[str, Float[Tensor, "P"]] = field(default_factory=dict)

    @property
    def total(self) -> Float[Tensor, "P"]:
        """The loss per prompt: the sum of its parts."""
        return sum(self.parts.values())  # type: ignore[return-value]
