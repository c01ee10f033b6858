"""A mixture of experts' own loss: what its config asks training to add for a balanced load."""

from __future__ import annotations

import sys
from typing import Any

from jaxtyping import Float
from torch import Tensor

from grao_bench.core.errors import UserError


def router_loss(model: Any, router_logits: Any) -> Float[Tensor, ""] | None:
    """router_aux_loss_coef times the family's own load_balancing_loss_func (Fedus et al. 2021,
    arXiv 2101.03961, Eq. 4-6) over the tokens of one forward pass; None where the config does not
    ask (`output_router_logits`).

    E sum_e f_e p_e, with f_e the share of the pass's tokens that go to expert e and p_e its mean
    probability, over all layers: of real tokens, a shared prompt's once. It is no mean over
    tokens, so a batch cut into micro-batches has the mean of theirs, weighted by prompts.
    """
    config = model.config.get_text_config()
    if not getattr(config, "output_router_logits", False):
        return None
    family = sys.modules[type(model.get_decoder()).__module__]
    if router_logits is None or not hasattr(family, "load_balancing_loss_func"):
        what = f"{type(model).__name__}: its router's loss can't be had"
        raise UserError(f"{what}; set output_router_logits to false in its config.json")
    balance = family.load_balancing_loss_func
    loss: Tensor = balance(router_logits, model.num_experts, model.num_experts_per_tok)
    return float(config.router_aux_loss_coef) * loss


def without_router_loss(config: Any) -> dict[str, bool]:
    """What to pass to a model that only decodes: its own loss can't be had of packed tokens."""
    asked = hasattr(config.get_text_config(), "output_router_logits")
    return {"output_router_logits": False} if asked else {}
