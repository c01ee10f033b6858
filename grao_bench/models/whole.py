"""Whether a checkpoint has all of a model's weights, and no others."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from grao_bench.core.errors import UserError

SHOWN = 3
"""So many weights are named where several are at fault."""


def require_whole(what: str, kind: str, loading: Mapping[str, Collection[Any]]) -> None:
    """UserError for weights that are missing, left over or of another shape. Tied embeddings, and
    what transformers knows to be no weight, are none of these."""
    for key, says in (("missing_keys", "lacks"), ("unexpected_keys", "has besides")):
        names = sorted(loading[key])
        if names:
            which = f"{says} {listed(names)}{_hint(names)}"
            raise UserError(f"{what}: is no whole {kind}: it {which}; give a whole causal LM")
    for name, found, wanted in sorted(loading["mismatched_keys"]):
        shapes = f"its {name} is {list(found)}, and by its config.json it must be {list(wanted)}"
        raise UserError(f"{what}: {shapes}; weights and config don't belong together")
    for error in loading.get("error_msgs") or ():
        raise UserError(f"{what}: can't be loaded ({str(error).splitlines()[0]})")


def _hint(names: list[str]) -> str:
    """What left-over or missing weights tell of a checkpoint."""
    joined = " ".join(names)
    if "lora_" in joined:
        return " (an adapter that was never merged)"
    if re.search(r"\bv_head\b|value_head", joined):
        return " (a value head: save the model without it)"
    if re.search(r"\bscore\b|classifier|reward", joined):
        return " (a reward model or classifier)"
    if any(name.startswith(("module.", "_orig_mod.", "_fsdp")) for name in names):
        return " (saved from inside a wrapper: save the model itself)"
    return ""


def listed(names: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
