"""DPO: direct preference optimisation with the sigmoid loss (Rafailov et al. 2023, arXiv 2305.18290, Eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from grao_bench.ops import masked_sum
from grao_bench.types import Batch, Loss, Needs, PolicyOutput, Updates


def dpo(
    logp_w: Float[Tensor, "P"], logp_l: Float[Tensor, "P"], ref_w: Float[Tensor, "P"], ref_l: Float[Tensor, "P"], beta: float
) -> Float[Tensor, "P"]:
    """-log sigmoid(beta [(log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))]), log-probs summed over the answer (Eq. 7)."""
    return -logsigmoid(beta * ((logp_w - ref_w) - (logp_l - ref_l)))


@dataclass(frozen=True, kw_only=True)
class DPO:
    """beta: the strength of the implicit KL constraint."""

    name: str
    beta: float

    @property
    def needs(self) -> Needs:
        return Needs(chosen=True, rejected=True, reference_logp=True)

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        assert batch.reference_logp is not None
        w, y = batch.column("chosen"), batch.column("rejected")
        logp = masked_sum(policy.logp, batch.mask)
        ref = masked_sum(batch.reference_logp, batch.mask)
        loss = dpo(logp[:, w], logp[:, y], ref[:, w], ref[:, y], self.beta)
        margin = ((logp - ref)[:, w] - (logp - ref)[:, y]).detach()
        return Loss(
            parts={"preference": loss},
            stats={"margin": margin, "accuracy": (margin > 0).to(margin), "logp_chosen": logp[:, w].detach()},
        )
