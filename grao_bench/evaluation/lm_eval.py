"""lm-eval's tasks (EleutherAI's evaluation harness), run on a policy through our own engine: what alignment costs elsewhere.

lm_eval itself is imported only when tasks are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LMEval:
    """Which tasks, and how. See conf/evaluation/standard.yaml for each field."""

    tasks: Sequence[str]
    limit: int | float | None
    num_fewshot: int | None
    apply_chat_template: bool
    log_samples: bool
    include_path: str | None
