"""What an endpoint's response says: its words, its tokens, how long to wait."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from grao_bench.rewards.judge.cache import Reply, Usage


def reply_in(body: Any) -> Reply | None:
    """A chat completion's words and model; None where it is none."""
    try:
        message = body["choices"][0]["message"]
        text = message.get("content") or message.get("refusal") or ""
        model = body.get("model") or ""
    except (TypeError, KeyError, IndexError, AttributeError):
        return None
    return Reply(_storable(text), _storable(model)) if isinstance(text, str) and isinstance(model, str) else None


def _storable(text: str) -> str:
    """Without half a surrogate pair, which a reply cut in the middle of an emoji may end with, and which no file takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def usage_in(body: Any) -> Usage | None:
    """The tokens that a completion reports; None where it reports none."""
    usage = body.get("usage") if isinstance(body, dict) else None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else [None]
    if any(not isinstance(count, int) or isinstance(count, bool) or count < 0 for count in counts):
        return None
    return Usage(*counts)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the endpoint asks to wait: a number, or a date; 0 where it says nothing that can be read."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        said = headers.get("retry-after", "0")
        return max(0.0, float(said) if re.fullmatch(r"[\d.]+", said) else parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 0.0
