"""Learning from pairs: DPO (Rafailov et al. 2023, arXiv 2305.18290, Eq. 7), conservative DPO, and IPO (Azar et al. 2023, arXiv 2310.12036).

All three read one number per pair, D: how much more the policy has raised y_w than y_l, against the reference model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from grao_bench.core.ops import masked_mean, masked_sum
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.objectives.limits import ABOVE_ZERO, BELOW_HALF, require

Length = Literal["mean", "sum"]

_NEEDS = Needs(chosen=True, rejected=True, reference_logp=True)


def margin(
    logp_w: Float[Tensor, "P"], logp_l: Float[Tensor, "P"], ref_w: Float[Tensor, "P"], ref_l: Float[Tensor, "P"]
) -> Float[Tensor, "P"]:
    """D = (log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))."""
    return (logp_w - ref_w) - (logp_l - ref_l)


def dpo(D: Float[Tensor, "P"], beta: float, label_smoothing: float) -> Float[Tensor, "P"]:
    """-(1 - e) log sigmoid(beta D) - e log sigmoid(-beta D), e = label_smoothing.

    e = 0 is DPO (Eq. 7). e > 0 is conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences"): a share e of the labels is
    taken to be flipped, and the loss is least at beta D = log((1 - e)/e). TRL 1.16 accepts label_smoothing with its sigmoid loss and
    ignores it; its "robust" loss is another formula.
    """
    return -(1 - label_smoothing) * logsigmoid(beta * D) - label_smoothing * logsigmoid(-beta * D)


def ipo(D: Float[Tensor, "P"], beta: float) -> Float[Tensor, "P"]:
    """(D - 1/(2 beta))^2 (arXiv 2310.12036, Eq. 17, whose tau is beta): a target for the margin, where DPO's has none."""
    return (D - 1 / (2 * beta)) ** 2


@dataclass(frozen=True, kw_only=True)
class DPO:
    """beta: the strength of the implicit KL constraint. label_smoothing: the share of labels taken to be flipped; 0 is DPO."""

    revision: ClassVar[int] = 1

    name: str
    beta: float
    label_smoothing: float

    def __post_init__(self) -> None:
        require(self, beta=ABOVE_ZERO, label_smoothing=BELOW_HALF)

    @property
    def needs(self) -> Needs:
        return _NEEDS

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        D = _margin(policy, batch, "sum")
        return _of_pairs(dpo(D, self.beta, self.label_smoothing), D, policy, batch)


@dataclass(frozen=True, kw_only=True)
class IPO:
    """beta: 1/(2 beta) is the margin aimed at. length: D of each answer's `sum` of log-ratios, as the paper derives it, or of its `mean`
    per token, as TRL has it (the paper's authors recommend it, so that long answers aren't favoured)."""

    revision: ClassVar[int] = 1

    name: str
    beta: float
    length: Length

    def __post_init__(self) -> None:
        require(self, beta=ABOVE_ZERO)

    @property
    def needs(self) -> Needs:
        return _NEEDS

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        D = _margin(policy, batch, self.length)
        return _of_pairs(ipo(D, self.beta), D, policy, batch)


def _margin(policy: PolicyOutput, batch: Batch, length: Length) -> Float[Tensor, "P"]:
    over_tokens = {"sum": masked_sum, "mean": masked_mean}[length]
    logp, ref = over_tokens(policy.logp, batch.mask), over_tokens(batch.reference_logp, batch.mask)
    chosen, rejected = batch.column("chosen"), batch.column("rejected")
    return margin(logp[:, chosen], logp[:, rejected], ref[:, chosen], ref[:, rejected])


def _of_pairs(loss: Float[Tensor, "P"], D: Float[Tensor, "P"], policy: PolicyOutput, batch: Batch) -> Loss:
    logp_w = masked_sum(policy.logp, batch.mask)[:, batch.column("chosen")]
    return Loss(
        parts={"preference": loss},
        stats={"margin": D.detach(), "accuracy": (D > 0).to(D), "logp_chosen": logp_w.detach()},
    )
