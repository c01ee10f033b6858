"""Settings of configurations: which tell rows apart, and which differ between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from grao_bench.reporting.gather.cells import Cell

NOT_IDENTITY = ("seed", "threads", "output", "sweep", "tracking", "role")
"""Top-level configuration keys that a configuration's hash leaves out."""

NOT_COMPUTED = {
    "tokens_per_forward",
    "gradient_checkpointing",
    "checkpoint_every",
    "probe_every",
    "answers_per_call",
    "disjoint_from",
    "max_excluded",
    "reply_models",
    "base_url",
    "api_key_env",
    "concurrency",
    "call_timeout",
    "total_timeout",
    "retries",
    "backoff",
    "price_prompt",
    "price_completion",
    "max_cost",
    "cache",
}
"""Names of settings, wherever they stand, that are a matter of memory, speed, cost or of a check:
they make no rows apart."""

ANSWERING = (
    "evaluation",
    "reward",
    "rollout",
    "budget.max_prompt_tokens",
    "budget.max_answer_tokens",
    "budget.long_references",
)
"""Configuration keys that shape a base's evaluation. The rest of a base's configuration is that of
the cell that happened to ask first."""


def differing(cells: Sequence[Cell], only: Sequence[str] = ()) -> dict[str, list[str]]:
    """Settings that differ between these cells' configurations: dotted key -> each cell's value as
    text ("-" where absent).

    `only` restricts them to keys that start with one of these.
    """
    flat = [chosen(cell.config, only) for cell in cells]
    keys = sorted({key for one in flat for key in one if tells_apart(key)})
    values = {key: [one.get(key, "-") for one in flat] for key in keys}
    return {key: texts for key, texts in values.items() if len(set(texts)) > 1}


def chosen(config: Mapping[str, Any], prefixes: Sequence[str]) -> dict[str, str]:
    """The flat configuration, restricted to keys that are, or lie below, one of the prefixes; all
    of it when there are none."""
    flat = flatten(config)
    return {
        key: text
        for key, text in flat.items()
        if not prefixes or any(f"{key}.".startswith(f"{one}.") for one in prefixes)
    }


def tells_apart(key: str) -> bool:
    """Whether a dotted setting can be what makes two rows of a table two."""
    names = key.split(".")
    return names[0] not in NOT_IDENTITY and names[-1] not in NOT_COMPUTED


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (
                value if isinstance(value, str) else json.dumps(value, default=str)
            )
    return flat


ASKED = (
    "rollout",
    "evaluation.temperature",
    "evaluation.max_examples",
    "evaluation.answers_per_prompt",
    "evaluation.seed",
    "budget.max_prompt_tokens",
    "budget.max_answer_tokens",
)
"""Settings that a checkpoint trained elsewhere shares with the runs that it stands beside."""


def unequal_settings(cells: Sequence[Cell], only: Sequence[str] = ()) -> tuple[str, ...]:
    """A line for each setting, other than the objective's own, that differs between these cells;
    `only` these and those below them, where some are given."""
    finished = [cell for cell in cells if cell.runs]
    lines = []
    for key, values in differing(finished, only).items():
        if key.split(".")[0] not in ("objective", "model", "data"):
            pairs = ", ".join(
                f"{cell.label} {value}" for cell, value in zip(finished, values, strict=True)
            )
            lines.append(f"{key} differs between rows: {pairs}")
    return tuple(lines)
