"""SFT: maximise the likelihood of the reference answer (GRAO paper, Eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from grao_bench.core.ops import answer_mean_weights, token_mean_weights
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates


def sft(logp_y: Float[Tensor, "P T"], weights: Float[Tensor, "P T"]) -> Float[Tensor, "P"]:
    """The gain sum_t w_t log pi(y_t | q, y_<t) per prompt.

    w_t = 1/|y| is Eq. 1's J(y), a mean per sequence. w_t = P/N (N tokens in the batch) is the token mean that TRL's SFT minimises;
    the two differ when lengths do.
    """
    return (weights * logp_y).sum(-1)


@dataclass(frozen=True, kw_only=True)
class SFT:
    """reduction: `sequence_mean` is Eq. 1; `token_mean` is the usual cross-entropy over the batch's tokens (TRL's nll)."""

    revision: ClassVar[int] = 1

    name: str
    reduction: Literal["sequence_mean", "token_mean"]

    @property
    def needs(self) -> Needs:
        return Needs(chosen=True, linear_in_logp=True)

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        weigh = {"sequence_mean": answer_mean_weights, "token_mean": token_mean_weights}[self.reduction]
        return batch.fill(token_weights=weigh(batch.mask))

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        y = batch.column("chosen")
        return Loss(parts={"imitation": -sft(policy.logp[:, y], batch.token_weights[:, y].to(policy.logp))})
