"""Asking an OpenAI-compatible endpoint: many questions at once, each until it has a reply that can be read, none twice, never above a
ceiling of cost."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.rewards.judge.cache import Reply, ReplyCache, Usage
from grao_bench.rewards.judge.completions import reply_in, retry_after, usage_in
from grao_bench.rewards.judge.endpoint import Endpoint

REMINDER = "\n\nYour last reply could not be read. Write one of these three lines and nothing else:\n1 > 2\n1 = 2\n1 < 2"
"""Stands after a question that is asked again."""
LONGEST_WAIT = 60.0
"""Seconds between two tries, where the endpoint asks for no longer."""
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
            seconds: float = max(fault.wait, jitter(state))
            return seconds

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
            raise PassingFault(f"status {status}", retry_after(error.response.headers))
        self._settle_free(call)
        where, kept = endpoint.base_url, "run again, replies so far are kept"
        if status == 401 or status == 403:
            raise UserError(f"reward.api_key_env={endpoint.api_key_env}: {where} does not accept its key ({status}); mend it and {kept}")
        if status == 402 or "insufficient_quota" in said:
            raise UserError(f"reward.base_url={where}: the account has no balance left ({status}); top it up and {kept}")
        if status == 429:
            raise PassingFault(f"status {status}", retry_after(error.response.headers))
        if status == 404:
            raise UserError(f"reward.model={endpoint.model}: {where} has no such model, or is no chat endpoint (404); mend it and {kept}")
        if any(word in said.lower() for word in (*_REFUSALS, *_TOO_LONG)):
            self.counts["refused"] += 1
            return {"choices": [{"message": {"content": f"(refused with status {status})"}}], "usage": NOTHING}
        raise UserError(f"reward.base_url={where}: refuses the request ({status}: {said[:200]}); mend the reward's fields and {kept}")

    def _settle(self, body: Any, call: int, key: str, attempt: int) -> None:
        """Enter what was reported and keep the reply, together."""
        reply, usage = reply_in(body), usage_in(body)
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
