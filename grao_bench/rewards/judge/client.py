"""Asking an OpenAI-compatible endpoint: many questions at once, each until it has a reply that can be read, none twice, never above a
ceiling of cost."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.rewards.judge.cache import Prices, Reply, ReplyCache, Usage

REMINDER = "\n\nYour last reply could not be read. Write one of these three lines and nothing else:\n1 > 2\n1 = 2\n1 < 2"
"""Stands after a question that is asked again."""
LONGEST_WAIT = 60.0
"""Seconds between two tries, where the endpoint asks for no longer."""
TEMPLATE_TOKENS = 64
"""What a chat template may add to one message, generously."""
_MAY_HAVE_COST = (408, 409, 425)
"""Statuses below 500 of calls that may have been worked on; after 500 and above too, nobody knows."""
_REFUSALS = (
    "content_filter",
    "content filter",
    "content exists risk",
    "content policy",
    "content_policy",
    "inspection",
    "safety",
    "moderation",
)
_TOO_LONG = ("context_length", "context length", "maximum context", "too long", "too many tokens")


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


REACH_SECONDS = 10.0
"""How long an endpoint may take to say that it is there."""
COUNTED = ("questions", "cached", "calls", "unreadable", "refused", "usage_not_reported")
NOTHING = {"prompt_tokens": 0, "completion_tokens": 0}


class PassingFault(Exception):
    """A fault that may be gone at the next try. `wait`: seconds that the endpoint asked for."""

    def __init__(self, kind: str, wait: float = 0.0) -> None:
        self.kind, self.wait = kind, wait
        Exception.__init__(self, kind)


class Client:
    """Puts questions to an endpoint. `counts` are this process's own, by the fields of
    `JudgeCounts`; `faults` by kind."""

    def __init__(self, endpoint: Endpoint, cache: ReplyCache, ask_again: int, readable: Callable[[str], bool]) -> None:
        self.endpoint, self.cache, self.ask_again, self.readable = endpoint, cache, ask_again, readable
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self.faults: Counter[str] = Counter()
        self.usage = Usage(0, 0)
        """Tokens that the endpoint reported to this process."""
        self._in_flight = 0

    def reach(self) -> None:
        """UserError where the endpoint can't be reached, or refuses its key: its list of models is
        asked for, which is free. Nothing is done where replies are kept already, which may be all
        that is needed."""
        import openai

        endpoint = self.endpoint
        if self.cache.account().calls:
            return
        try:
            with openai.OpenAI(
                api_key=endpoint.api_key(),
                base_url=endpoint.base_url,
                max_retries=0,
                timeout=min(endpoint.call_timeout, REACH_SECONDS),
            ) as client:
                client.models.with_raw_response.list()
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                what = f"{endpoint.base_url} does not accept its key ({error.status_code})"
                raise UserError(f"reward.api_key_env={endpoint.api_key_env}: {what}") from None
        except openai.APIConnectionError as error:
            what = f"can't be reached ({error.__cause__ or error})"
            raise UserError(f"reward.base_url={endpoint.base_url}: {what}; start it") from None

    def ask(self, prompts: Sequence[str]) -> dict[str, list[Reply]]:
        """Every reply to each prompt, the last one readable unless all are not. UserError where the endpoint can't be asked any further.

        What was answered until then is kept, and calls that are under way are waited for.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._in_new_loop(prompts)
        with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own
            return thread.submit(self._in_new_loop, prompts).result()

    def _in_new_loop(self, prompts: Sequence[str]) -> dict[str, list[Reply]]:
        try:
            return asyncio.run(self._ask(list(dict.fromkeys(prompts))))
        except sqlite3.Error as error:
            raise UserError(f"reward.cache={self.cache.path}: {error}; check its disk, and run again") from None

    async def _ask(self, prompts: Sequence[str]) -> dict[str, list[Reply]]:
        found: dict[str, list[Reply]] = {}
        waiting = []
        for prompt in prompts:
            replies = self.cache.replies(self.endpoint.key(prompt))
            self.counts["questions"] += 1
            if self._enough(replies):
                self.counts["cached"] += 1
                found[prompt] = replies
            else:
                waiting.append(prompt)
        if waiting:
            found |= await _Crowd(self, waiting).run()
        return found

    def _enough(self, replies: Sequence[Reply]) -> bool:
        return len(replies) > self.ask_again or any(self.readable(reply.text) for reply in replies)

    async def answer(self, openai_client: Any, prompt: str, stop: asyncio.Event) -> list[Reply]:
        """Ask one question until its reply can be read, or as often as allowed; replies that are stored are not asked for again."""
        key = self.endpoint.key(prompt)
        while not self._enough(replies := self.cache.replies(key)):
            content = prompt + (REMINDER if replies else "")
            await self._reply(openai_client, content, key, len(replies), stop)
        return replies

    async def _reply(self, openai_client: Any, content: str, key: str, attempt: int, stop: asyncio.Event) -> None:
        """One reply, stored, through as many tries as it takes; UserError when none is left."""
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, stop_before_delay, wait_random_exponential

        endpoint, last = self.endpoint, PassingFault("nothing yet")
        jitter = wait_random_exponential(multiplier=endpoint.backoff, max=LONGEST_WAIT)

        def wait(state: Any) -> float:
            fault = state.outcome.exception()
            return max(fault.wait, jitter(state))

        async def sleep(seconds: float) -> None:
            await _until(stop, seconds)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(PassingFault),
            stop=stop_after_attempt(endpoint.retries + 1) | stop_before_delay(endpoint.total_timeout),
            wait=wait,
            sleep=sleep,
            reraise=True,
        )
        started = time.monotonic()
        try:
            async with asyncio.timeout(endpoint.total_timeout):
                async for try_ in retrying:
                    with try_:
                        try:
                            await self._try(openai_client, content, key, attempt, stop)
                        except PassingFault as fault:
                            self.faults[fault.kind] += 1
                            last = fault
                            raise
        except (PassingFault, TimeoutError):
            raise UserError(self._gave_up(last, time.monotonic() - started)) from None

    def _gave_up(self, last: PassingFault, seconds: float) -> str:
        if last.kind.startswith("answered as"):
            return (
                f"reward.model={self.endpoint.model}: {self.endpoint.base_url} {last.kind}; "
                "if that is the same model, add its name to reward.reply_models"
            )
        asked_for = f", which asks to wait {last.wait:g} s" if last.wait else ""
        return (
            f"reward.base_url={self.endpoint.base_url}: no usable reply to a question within {seconds:.0f} s "
            f"(last: {last.kind}{asked_for}); replies so far are kept in {self.cache.path}, run again to go on"
        )

    async def _try(self, openai_client: Any, content: str, key: str, attempt: int, stop: asyncio.Event) -> None:
        """One call: entered at its bound, made, settled."""
        endpoint = self.endpoint
        call = await self._reserve(endpoint.bound(content), stop)
        self.counts["calls"] += 1
        self._in_flight += 1
        try:
            body = await self._body(openai_client, content, call)
            self._settle(body, call, key, attempt)
        finally:
            self._in_flight -= 1

    async def _reserve(self, bound: Usage, stop: asyncio.Event) -> int:
        """The call's number in the account. Near the ceiling it waits for the calls under way, which mostly cost less than their bound."""
        endpoint = self.endpoint
        while True:
            if stop.is_set():
                raise _Stopped
            call = self.cache.reserve(endpoint.model, bound, endpoint.prices, endpoint.max_cost)
            if call is not None:
                return call
            if not self._in_flight:
                account = self.cache.account()
                raise UserError(
                    f"reward.max_cost={endpoint.max_cost}: reached ({account.cost:.6g} spent in {account.calls} calls, by "
                    f"{self.cache.path}); raise it and run again, replies so far are kept"
                )
            await _until(stop, 0.02)

    async def _body(self, openai_client: Any, content: str, call: int) -> Any:
        """The reply's JSON. A call that the endpoint turned away cost nothing; one that broke off stays at its bound."""
        import openai

        endpoint = self.endpoint
        try:
            async with asyncio.timeout(endpoint.call_timeout):
                raw = await openai_client.chat.completions.with_raw_response.create(
                    model=endpoint.model,
                    messages=[{"role": "user", "content": content}],
                    temperature=endpoint.temperature,
                    max_tokens=endpoint.max_tokens,
                    extra_body=dict(endpoint.extra_body) or None,
                )
            return json.loads(raw.http_response.text)
        except (TimeoutError, openai.APITimeoutError):
            raise PassingFault("timeout") from None
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout"):
                self._settle_free(call)  # it never left
                raise PassingFault("no connection") from None
            raise PassingFault("connection broken") from None
        except openai.APIStatusError as error:
            return self._turned_away(error, call)
        except ValueError:
            raise PassingFault("malformed reply") from None

    def _turned_away(self, error: Any, call: int) -> Any:
        """What a status other than 200 means: a fault that passes, a refusal to judge this text (a reply without a verdict), or the end."""
        endpoint, status, said = self.endpoint, int(error.status_code), self._scrubbed(error.response.text)
        if status >= 500 or status in _MAY_HAVE_COST:
            raise PassingFault(f"status {status}", _retry_after(error.response.headers))
        self._settle_free(call)
        where, kept = endpoint.base_url, "run again, replies so far are kept"
        if status == 401 or status == 403:
            raise UserError(f"reward.api_key_env={endpoint.api_key_env}: {where} does not accept its key ({status}); mend it and {kept}")
        if status == 402 or "insufficient_quota" in said:
            raise UserError(f"reward.base_url={where}: the account has no balance left ({status}); top it up and {kept}")
        if status == 429:
            raise PassingFault(f"status {status}", _retry_after(error.response.headers))
        if status == 404:
            raise UserError(f"reward.model={endpoint.model}: {where} has no such model, or is no chat endpoint (404); mend it and {kept}")
        if any(word in said.lower() for word in (*_REFUSALS, *_TOO_LONG)):
            self.counts["refused"] += 1
            return {"choices": [{"message": {"content": f"(refused with status {status})"}}], "usage": NOTHING}
        raise UserError(f"reward.base_url={where}: refuses the request ({status}: {said[:200]}); mend the reward's fields and {kept}")

    def _settle(self, body: Any, call: int, key: str, attempt: int) -> None:
        """Enter what was reported and keep the reply, together."""
        reply, usage = _reply_in(body), _usage_in(body)
        other = reply is not None and not self.endpoint.is_model(reply.model)
        if other or reply is None:
            if usage is not None:
                self._settle_at(usage, call)
            raise PassingFault(f"answered as {reply.model!r}" if reply is not None else "malformed reply")
        if usage is None:
            self.counts["usage_not_reported"] += 1
            self.cache.keep_bound(key, attempt, reply)
        else:
            self._settle_at(usage, call, key, attempt, reply)
        self.counts["unreadable"] += not self.readable(reply.text)

    def _settle_at(self, usage: Usage, call: int, key: str = "", attempt: int = 0, reply: Reply | None = None) -> None:
        self.cache.settle(call, usage, self.endpoint.prices, key, attempt, reply)
        self.usage = Usage(self.usage.prompt_tokens + usage.prompt_tokens, self.usage.completion_tokens + usage.completion_tokens)

    def _settle_free(self, call: int) -> None:
        self.cache.settle(call, Usage(0, 0), self.endpoint.prices)

    def _scrubbed(self, text: str) -> str:
        """One line of an endpoint's words, without the key, which some echo."""
        return " ".join(text.replace(self.endpoint.api_key(), "***").split())


class _Stopped(Exception):
    """Another question met the end; this one is not asked."""


class _Crowd:
    """So many workers at one list of questions. The first UserError stops them: calls under way finish, nothing new is asked."""

    def __init__(self, client: Client, prompts: Sequence[str]) -> None:
        self.client, self.prompts = client, prompts
        self.left: Iterator[str] = iter(prompts)
        self.found: dict[str, list[Reply]] = {}
        self.stop = asyncio.Event()
        self.failure: UserError | None = None

    async def run(self) -> dict[str, list[Reply]]:
        """The replies to every question, or the UserError that ended it."""
        from openai import AsyncOpenAI

        endpoint = self.client.endpoint
        # retries are ours: the library's own would make calls that no account knows of
        async with AsyncOpenAI(
            api_key=endpoint.api_key(), base_url=endpoint.base_url, max_retries=0, timeout=endpoint.call_timeout
        ) as openai_client:
            await asyncio.gather(*(self._work(openai_client) for _ in range(min(endpoint.concurrency, len(self.prompts)))))
        if self.failure is not None:
            raise self.failure
        return self.found

    async def _work(self, openai_client: Any) -> None:
        for prompt in self.left:
            if self.stop.is_set():
                return
            try:
                self.found[prompt] = await self.client.answer(openai_client, prompt, self.stop)
            except _Stopped:
                return
            except UserError as error:
                self.failure = self.failure or error
                self.stop.set()
                return


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but not longer than until the stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


def _reply_in(body: Any) -> Reply | None:
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


def _usage_in(body: Any) -> Usage | None:
    """The tokens that a completion reports; None where it reports none."""
    usage = body.get("usage") if isinstance(body, dict) else None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else [None]
    if any(not isinstance(count, int) or isinstance(count, bool) or count < 0 for count in counts):
        return None
    return Usage(*counts)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the endpoint asks to wait: a number, or a date; 0 where it says nothing that can be read."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        said = headers.get("retry-after", "0")
        return max(0.0, float(said) if re.fullmatch(r"[\d.]+", said) else parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 0.0
