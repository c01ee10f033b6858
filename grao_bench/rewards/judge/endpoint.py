"""An endpoint's settings, checked."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.rewards.judge.cache import Prices, Usage

TEMPLATE_TOKENS = 64
"""What a chat template may add to one message, generously."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How an endpoint is asked and what that may cost. See conf/reward/judge_helpful.yaml for each field."""

    model: str
    reply_models: Sequence[str]
    temperature: float
    max_tokens: int
    extra_body: Mapping[str, Any]
    base_url: str
    api_key_env: str | None
    concurrency: int
    call_timeout: float
    total_timeout: float
    retries: int
    backoff: float
    price_prompt: float
    price_completion: float
    max_cost: float | None

    def check(self) -> None:
        """UserError for a value that can't be, a missing package, or a key that isn't set."""
        for key, right, rule in (
            ("temperature", self.temperature >= 0, "at least 0"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("concurrency", self.concurrency >= 1, "at least 1"),
            ("call_timeout", self.call_timeout > 0, "above 0"),
            ("total_timeout", self.total_timeout > 0, "above 0"),
            ("retries", self.retries >= 0, "at least 0"),
            ("backoff", self.backoff >= 0, "at least 0"),
            ("price_prompt", self.price_prompt >= 0, "at least 0"),
            ("price_completion", self.price_completion >= 0, "at least 0"),
            ("max_cost", self.max_cost is None or self.max_cost >= 0, "at least 0, or null for no ceiling"),
        ):
            if not right:
                raise UserError(f"reward.{key}={getattr(self, key)}: must be {rule}")
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            # it may well be the key itself, so it is not repeated
            raise UserError("reward.api_key_env: must name an environment variable that holds the key, and not be the key itself")
        if not re.match(r"https?://", self.base_url):
            raise UserError(f"reward.base_url={self.base_url}: must be an http:// or https:// address")
        for package in ("openai", "tenacity"):
            if find_spec(package) is None:
                raise UserError(f"reward: an LLM judge needs the package {package}; install it with pip install 'grao-bench[judge]'")
        self.api_key()

    def api_key(self) -> str:
        """The key, from the environment alone; UserError where it isn't there."""
        if self.api_key_env is None:
            return "none"
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise UserError(f"reward.api_key_env={self.api_key_env}: this environment variable is not set; put the endpoint's key there")
        return key

    @property
    def prices(self) -> Prices:
        """Per million tokens."""
        return Prices(self.price_prompt, self.price_completion)

    def key(self, prompt: str) -> str:
        """What a reply is kept under: the model, how it is asked, and the whole prompt, thus both texts and their order."""
        asked = [self.model, self.temperature, self.max_tokens, dict(self.extra_body), prompt]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()

    def bound(self, content: str) -> Usage:
        """What a call can cost at most: no tokenizer that falls back to bytes makes more tokens than bytes."""
        return Usage(len(content.encode("utf-8", "replace")) + TEMPLATE_TOKENS, self.max_tokens)

    def is_model(self, said: str) -> bool:
        """Whether a reply's model is the one that was asked: by name, with a date or revision behind it, or one of reply_models."""
        if not said or said in self.reply_models:
            return True
        asked, said = (name.lower().rsplit("/", 1)[-1] for name in (self.model, said))
        return said.startswith(asked) and re.fullmatch(r"(@.*|[-@]\d{4}(-?\d\d){0,2})?", said[len(asked) :]) is not None
