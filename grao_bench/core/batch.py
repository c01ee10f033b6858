"""The P x K x T rectangle, what a policy says of it, and a loss: see `types` for the letters.

What was not asked for can't be read: the error names the column and the need that gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grao_bench.core.errors import UserError

_HOW = {
    "labels": "the objective needs Needs(labelled=True)",
    "rewards": "the objective needs Needs(rewards=True)",
    "old_logp": "an objective that reads it in prepare needs Needs(old_logp='prepare'), "
    "one that reads it in its loss alone Needs(old_logp='loss')",
    "reference_logp": "the objective needs Needs(reference_logp=True)",
    "old_values": "the objective needs Needs(values=True)",
    "sampler_logp": "an objective that reads it needs Needs(old_logp='sampler'), and batch.old_logp",
    "values": "the objective needs Needs(values=True)",
    "entropy": "the objective needs Needs(entropy=True)",
}


def _asked_for(owner: str, filled: Mapping[str, Tensor], name: str) -> Tensor:
    """The column of this name; UserError saying how to get it where nobody asked for it."""
    if name in filled:
        return filled[name]
    how = _HOW.get(name, "fill it in the objective's prepare")
    raise UserError(f"{owner}.{name}: nobody asked for it; {how}")


@dataclass(frozen=True)
class Batch:
    """The P x K x T rectangle.

    prompts [P Tp] are padded on the left, tokens [P K T] on the right; both masks are True on real
    tokens. finished [P K] says whether the answer ends with its end token. step (1-based) of steps
    is when in the run this batch is trained on, for schedules.

    `filled` are the optional columns by name: those that the objective's `Needs` ask for and those
    that its `prepare` fills (`batch.fill(advantages=...)`), of any name, [P], [P K], [P K 1] or
    [P K T]. Read one as an attribute or as batch["name"]; UserError where nobody asked for it.
    """

    slots: tuple[str, ...]
    ids: tuple[str, ...]
    prompts: Int[Tensor, "P Tp"]
    prompt_mask: Bool[Tensor, "P Tp"]
    tokens: Int[Tensor, "P K T"]
    mask: Bool[Tensor, "P K T"]
    finished: Bool[Tensor, "P K"]
    filled: Mapping[str, Tensor] = field(default_factory=dict)
    step: int = 1
    steps: int = 1

    def __getitem__(self, name: str) -> Tensor:
        return _asked_for("batch", self.filled, name)

    def __contains__(self, name: str) -> bool:
        return name in self.filled

    def fill(self, **columns: Tensor | None) -> Batch:
        """The same batch with these optional columns; None empties one."""
        filled = {**self.filled, **columns}
        present = {name: column for name, column in filled.items() if column is not None}
        return replace(self, filled=present)

    @property
    def labels(self) -> Bool[Tensor, "P"]:
        """Whether the labelled answer was called good."""
        return self["labels"]

    @property
    def rewards(self) -> Float[Tensor, "P K"]:
        """The reward source's verdicts. A rollout that was not `judged` has the mean of its
        prompt's others (0 where there is none), a rejected answer 0."""
        return self["rewards"]

    @property
    def judged(self) -> Bool[Tensor, "P K"]:
        """Where `rewards` hold a verdict to learn from: not on rejected answers, which are not
        asked for, and not on answers that the source could say nothing of or leaves out. What
        normalises rewards takes its statistics over these alone. All, where rewards came without.
        """
        given = self.filled.get("judged")
        return torch.ones_like(self.rewards, dtype=torch.bool) if given is None else given

    @property
    def old_logp(self) -> Float[Tensor, "P K T"]:
        """Under the policy that drew the rollouts: see `OldLogp`."""
        return self["old_logp"]

    @property
    def reference_logp(self) -> Float[Tensor, "P K T"]:
        """Under the frozen reference model."""
        return self["reference_logp"]

    @property
    def old_values(self) -> Float[Tensor, "P K T"]:
        """The value head's, before this batch's first update."""
        return self["old_values"]

    @property
    def sampler_logp(self) -> Float[Tensor, "P K T"]:
        """The sampler's of its tokens, under the distribution that it drew from, for the mismatch
        metric; 0 on other answers."""
        return self["sampler_logp"]

    @property
    def advantages(self) -> Float[Tensor, "P K #T"]:
        """[P K 1], one per answer, or [P K T], one per token; `prepare` fills them."""
        return self["advantages"]

    @property
    def returns(self) -> Float[Tensor, "P K T"]:
        """What values should have been; `prepare` fills them."""
        return self["returns"]

    @property
    def token_weights(self) -> Float[Tensor, "P K T"]:
        """A token-normalised reduction. `prepare` takes its constant over the whole batch, so that
        cutting the batch changes no number."""
        return self["token_weights"]

    @property
    def size(self) -> int:
        """P, the number of prompts."""
        return len(self.ids)

    def columns(self, slot: str) -> list[int]:
        """The indices along K that hold this kind of answer."""
        return [k for k, name in enumerate(self.slots) if name == slot]

    def column(self, slot: str) -> int:
        """The one index along K that holds this kind of answer; ValueError unless there is exactly
        one."""
        (k,) = self.columns(slot)
        return k

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with every tensor changed."""
        own = {name: change(x) for name, x in vars(self).items() if isinstance(x, Tensor)}
        filled = {name: change(column) for name, column in self.filled.items()}
        return replace(self, filled=filled, **own)  # type: ignore[arg-type]

    def select(self, rows: list[int]) -> Batch:
        """The same batch restricted to these prompts, in this order."""
        return replace(self.map(lambda x: x[rows]), ids=tuple(self.ids[row] for row in rows))

    def trimmed(self) -> Batch:
        """The same batch without the columns that are padding in every row."""
        Tp, T = int(self.prompt_mask.sum(-1).max()), int(self.mask.sum(-1).max())
        width = self.tokens.shape[-1]
        cut = self.map(lambda x: x[..., :T] if x.dim() == 3 and x.shape[-1] == width else x)
        return replace(cut, prompts=cut.prompts[:, -Tp:], prompt_mask=cut.prompt_mask[:, -Tp:])


@dataclass(frozen=True)
class PolicyOutput:
    """What a policy says of a batch's answers.

    logp: log-probabilities at the loss's temperature. `filled` holds what was asked for besides:
    `values` and `entropy`; UserError on reading what was not. `model_losses` are the model's own
    (a mixture of experts' router loss) per prompt, already weighted, which the loop adds.
    """

    logp: Float[Tensor, "P K T"]
    filled: Mapping[str, Tensor] = field(default_factory=dict)
    model_losses: Mapping[str, Float[Tensor, "P"]] = field(default_factory=dict)

    @property
    def values(self) -> Float[Tensor, "P K T"]:
        """The value head's, with gradient."""
        return _asked_for("policy", self.filled, "values")

    @property
    def entropy(self) -> Float[Tensor, "P K T"]:
        """Of each token's distribution, in nats, with gradient."""
        return _asked_for("policy", self.filled, "entropy")


@dataclass(frozen=True)
class Loss:
    """`parts` are to be minimised and sum to the loss; `stats` are for the log. All per prompt [P],
    detached stats."""

    parts: dict[str, Float[Tensor, "P"]]
    stats: dict[str, Float[Tensor, "P"]] = field(default_factory=dict)

    @property
    def total(self) -> Float[Tensor, "P"]:
        """The loss per prompt: the sum of its parts."""
        return sum(self.parts.values())  # type: ignore[return-value]
