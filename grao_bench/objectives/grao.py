"""GRAO: group relative alignment optimisation (arXiv 2508.07750, Eq. 3 and 4), as printed, and a separately named variant.

As printed there is no importance ratio, no clipping and no KL term. Where the text is ambiguous:
- Eq. 4 sums over the G outputs alone, the text speaks of "one group (o_i, y)": the reading `group` says who is in the statistics.
- sigma = 0 is not addressed: the advantages of such a group, the reference's too, are 0.
- G stays the number of outputs where some of them were not judged, whose A_i is 0.
- Table 3's "without exploration" is alpha = 0, where the regulariser still holds lambda A_i J(o_i), or that too is dropped: both readings
  have a name (`grao_no_exploration`, `grao_no_exploration_at_all`).
- A_y < 0 (the policy beats the reference) makes the imitation term lower the reference's likelihood
  without bound. `grao` keeps that, because it is Eq. 3; `grao_clip0` does not, has another name,
  and is never reported as the paper's GRAO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grao_bench.core.errors import UserError
from grao_bench.core.ops import group_moments, masked_mean, no_signal, standardise
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.objectives.limits import NOT_NEGATIVE, require, require_rollouts

Group = Literal["outputs", "outputs_and_reference"]
Equation = Literal["printed", "reference_only", "clip0"]


def grao(
    J_o: Float[Tensor, "P G"],
    J_y: Float[Tensor, "P 1"],
    A_o: Float[Tensor, "P G"],
    A_y: Float[Tensor, "P 1"],
    alpha: float,
    beta: float,
    lam: float,
) -> dict[str, Float[Tensor, "P"]]:
    """Eq. 3, per prompt, to be maximised:

        (1/G) sum_i [ alpha A_i J(o_i) + beta A_y J(y) + lambda A_i (J(o_i) - J(y)) ]

    J(x) is the length-normalised log-likelihood; alpha = 1 in the paper. With statistics over the outputs alone sum_i A_i = 0, so the sum
    equals (alpha + lambda) mean_i A_i J(o_i) + beta A_y J(y): the regulariser only re-weights the other two.
    """
    return {
        "exploration": alpha * (A_o * J_o).mean(-1),
        "imitation": beta * (A_y * J_y).mean(-1),
        "regulariser": lam * (A_o * (J_o - J_y)).mean(-1),
    }


def grao_reference_only(
    J_o: Float[Tensor, "P G"],
    J_y: Float[Tensor, "P 1"],
    A_o: Float[Tensor, "P G"],
    A_y: Float[Tensor, "P 1"],
    alpha: float,
    beta: float,
    lam: float,
) -> dict[str, Float[Tensor, "P"]]:
    """(1/G) sum_i [ alpha A_i J(o_i) + beta A_y J(y) - lambda A_i J(y) ]: Eq. 3 without the regulariser's own A_i J(o_i).

    With alpha = 0 no output's likelihood is trained on: the second reading of Table 3's "without exploration". With statistics over the
    outputs alone what is left of the regulariser sums to 0, and the objective is beta A_y J(y).
    """
    return {
        "exploration": alpha * (A_o * J_o).mean(-1),
        "imitation": beta * (A_y * J_y).mean(-1),
        "regulariser": -lam * (A_o * J_y).mean(-1),
    }


def grao_clip0(
    J_o: Float[Tensor, "P G"],
    J_y: Float[Tensor, "P 1"],
    A_o: Float[Tensor, "P G"],
    A_y: Float[Tensor, "P 1"],
    alpha: float,
    beta: float,
    lam: float,
) -> dict[str, Float[Tensor, "P"]]:
    """(alpha + lambda) mean_i A_i J(o_i) + beta max(A_y, 0) J(y): Eq. 3 in its reduced form with the un-learning branch A_y < 0 closed.

    A departure from the paper, which says beta A_y J(y).
    """
    return {
        "exploration": (alpha + lam) * (A_o * J_o).mean(-1),
        "imitation": beta * (A_y.clamp(min=0) * J_y).mean(-1),
    }


def grao_advantages(
    R_o: Float[Tensor, "P G"],
    R_y: Float[Tensor, "P 1"],
    group: Group,
    judged: Bool[Tensor, "P G"] | None = None,
) -> tuple[Float[Tensor, "P G"], Float[Tensor, "P 1"]]:
    """Eq. 4: (R - mu) / sigma for the outputs and for the reference, population sigma; both 0 where
    the group's rewards are all equal.

    An output that was not `judged` (None: all were) is in neither mu nor sigma, and its A is 0.
    """
    judged = torch.ones_like(R_o, dtype=torch.bool) if judged is None else judged
    if group == "outputs":
        members, said = R_o, judged
    else:
        members = torch.cat([R_o, R_y], -1)
        said = torch.cat([judged, torch.ones_like(judged[:, :1])], -1)
    mu, sigma = group_moments(members, said)
    silent = no_signal(members, said)
    return standardise(R_o, mu, sigma, silent, judged), standardise(R_y, mu, sigma, silent)


GAINS = {"printed": grao, "reference_only": grao_reference_only, "clip0": grao_clip0}


@dataclass(frozen=True, kw_only=True)
class GRAO:
    """rollouts: G. alpha, beta, lam weigh exploration, imitation and the alignment regulariser.

    equation: `printed`, Eq. 3; or one that is not the paper's, see `grao_reference_only` and
    `grao_clip0`, which can't have the name grao. group: who is in Eq. 4's mean and sigma.
    """

    revision: ClassVar[int] = 1

    name: str
    rollouts: int
    equation: Equation
    alpha: float
    beta: float
    lam: float
    group: Group

    def __post_init__(self) -> None:
        require_rollouts(self)
        require(self, alpha=NOT_NEGATIVE, beta=NOT_NEGATIVE, lam=NOT_NEGATIVE)
        if self.equation != "printed" and self.name == "grao":  # what reports call the paper's
            what = f"objective.equation={self.equation}: is not the paper's"
            raise UserError(f"{what}, which the name grao stands for; give another objective.name")

    @property
    def needs(self) -> Needs:
        return Needs(rollouts=self.rollouts, chosen=True, rewards=True, linear_in_logp=True)

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        return _with_advantages(batch, self.group)

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        J_o, J_y, A_o, A_y = _symbols(policy, batch)
        gains = GAINS[self.equation](J_o, J_y, A_o, A_y, self.alpha, self.beta, self.lam)
        return _minimise(gains, J_o, J_y, A_y)


def _with_advantages(batch: Batch, group: Group) -> Batch:
    o, y = batch.columns("rollout"), batch.columns("chosen")
    A_o, A_y = grao_advantages(batch.rewards[:, o], batch.rewards[:, y], group, batch.judged[:, o])
    advantages = torch.zeros_like(batch.rewards)
    advantages[:, o], advantages[:, y] = A_o, A_y
    return batch.fill(advantages=advantages[..., None])


def _symbols(policy: PolicyOutput, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """J_o [P G], J_y [P 1], A_o [P G], A_y [P 1] of the batch."""
    o, y = batch.columns("rollout"), batch.columns("chosen")
    J = masked_mean(policy.logp, batch.mask)
    A = batch.advantages[..., 0].to(J)
    return J[:, o], J[:, y], A[:, o], A[:, y]


def _minimise(gains: dict[str, Tensor], J_o: Tensor, J_y: Tensor, A_y: Tensor) -> Loss:
    return Loss(
        parts={name: -gain for name, gain in gains.items()},
        stats={"A_y": A_y[:, 0], "J_y": J_y[:, 0].detach(), "J_o": J_o.mean(-1).detach()},
    )
