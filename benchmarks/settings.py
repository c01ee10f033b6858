"""The arms of a comparison, by name: ours, and TRL in several settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Trl:
    """How TRL is set. batch: sequences (DPO: pairs) per forward, accumulated to the whole step; None is the whole step at once.

    matmul: torch.set_float32_matmul_precision; "medium" sends float32 products to oneDNN, which was 2x faster at the same error.
    weights: dtype that the weights are kept in; bf16 is autocast over them. precompute_reference: DPO's, before training.
    """

    says: str
    batch: int | None = None
    bf16: bool = False
    gradient_checkpointing: bool = False
    matmul: str = "highest"
    weights: str = "float32"
    precompute_reference: bool = False

    @property
    def dtype(self) -> str:
        """Of its products."""
        return "bfloat16" if self.bf16 else self.weights


PLAIN, CACHED, GRAPHS = "ours", "ours-cached", "ours-graphs"
OURS = {
    PLAIN: "grao_bench's own loop (DPO: each pair is new, so its reference log-probs are computed in the step, as in a first epoch)",
    CACHED: "the same with DPO's reference log-probs on disk before the first step, as in every later epoch, seed and cell",
    GRAPHS: "the same with rollout.cuda_graphs=true: a decoding step is one launch (GRPO on a GPU)",
}
TRL = {
    "trl-fp32": Trl("float32, whole batch, gradient checkpointing off"),
    "trl-defaults": Trl("TRL's defaults: bf16 autocast, gradient checkpointing, whole batch", bf16=True, gradient_checkpointing=True),
    "trl-fp32-8": Trl("float32, 8 at a time", batch=8),
    "trl-fp32-8-medium": Trl("float32, 8 at a time, oneDNN products (matmul precision medium)", batch=8, matmul="medium"),
    "trl-fp32-medium": Trl("float32, whole batch, oneDNN products (matmul precision medium)", matmul="medium"),
    "trl-bf16-8": Trl("bf16 autocast, 8 at a time, gradient checkpointing off", batch=8, bf16=True),
    "trl-bf16": Trl("bf16 autocast, whole batch, gradient checkpointing off", bf16=True),
    "trl-bf16-weights": Trl("bf16 weights, whole batch, gradient checkpointing off", weights="bfloat16"),
    "trl-precomputed-8": Trl(
        "float32, 8 at a time, reference log-probs computed before training (DPO)", batch=8, precompute_reference=True
    ),
}


def arms_for(objective: str, names: Sequence[str]) -> list[str]:
    """Those of the named arms that mean something for an objective, ours first: references are DPO's
    alone, and GRPO's a sampler."""
    about_references = {CACHED, *(name for name, one in TRL.items() if one.precompute_reference)}
    others = {"grpo": about_references, "sft": about_references | {GRAPHS}, "dpo": {GRAPHS}}[objective]
    return [PLAIN, *(name for name in names if name != PLAIN and name not in others)]


def peer_of(name: str, names: Sequence[str]) -> str:
    """Which of our arms one is compared with: like with like where reference log-probs were computed before."""
    return CACHED if name in TRL and TRL[name].precompute_reference and CACHED in names else PLAIN
