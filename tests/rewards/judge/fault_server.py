"""An OpenAI-compatible chat-completions server on loopback that judges by a rule and fails by a seed."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from grao_bench.rewards.judge.client import REMINDER

KEY, MODEL = "sk-the-right-key", "judge-1"
FAULTS = ("rate limit", "status 500", "hang", "truncated JSON", "other model", "half a body", "garbage")
GARBAGE = ("", "I'd rather not say.", "1 > 2 or 1 < 2", "2", "Both texts are fine.", "１≧２")


@dataclass(frozen=True)
class Behaviour:
    """What the server does. `hang`: seconds; `pause`: seconds before every reply; `after`: then `status` for every call."""

    faults: Sequence[str] = FAULTS
    share: float = 0.3
    seed: int = 0
    hang: float = 0.4
    pause: float = 0.0
    retry_after: str = "0.02"
    status: int | None = None
    status_text: str = "no"
    status_from: int = 0
    reply: str | None = None
    usage: bool = True
    model: str = MODEL


@dataclass
class Log:
    """What the server saw and did. `answered` counts, by question, the good replies that left it whole; all under one lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lost: list[str] = field(default_factory=list)
    """The contents of calls whose usage never reached the client."""
    too_early: list[float] = field(default_factory=list)
    """Seconds by which a question came back before its Retry-After was over."""
    in_flight: int = 0
    most_in_flight: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return sum(self.asked.values())


def texts_of(prompt: str) -> tuple[str, str]:
    """The two quoted texts of a rendered prompt."""
    parts = re.split(r"^\[(?:Context|Text 1|Text 2|Judgment Result)\]$", prompt, flags=re.MULTILINE)
    quoted = ["\n".join(line[2:] for line in part.splitlines() if line.startswith("| ")) for part in parts]
    return quoted[2], quoted[3]


def rule(prompt: str) -> str:
    """The server's verdict: the text with more of the letter e; a tie where they have as many."""
    first, second = (text.count("e") for text in texts_of(prompt))
    return "1 > 2" if first > second else "1 < 2" if first < second else "1 = 2"


class Handler(BaseHTTPRequestHandler):
    """One connection. `server.behaviour` and `server.log` are the test's."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        log, behaviour = self.server.log, self.server.behaviour
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = body["messages"][0]["content"]
        question = content.removesuffix(REMINDER)
        with log.lock:
            nth = log.asked[question]
            log.asked[question] += 1
            log.bodies.append(body)
            log.in_flight += 1
            log.most_in_flight = max(log.most_in_flight, log.in_flight)
            due = self.server.due.pop(question, 0.0)
            if time.monotonic() < due:
                log.too_early.append(due - time.monotonic())
            status = behaviour.status if log.calls > behaviour.status_from else None
        try:
            self._answer(question, content, nth, body, status)
        finally:
            with log.lock:
                log.in_flight -= 1

    def _answer(self, question: str, content: str, nth: int, body: dict[str, Any], status: int | None) -> None:
        log, behaviour = self.server.log, self.server.behaviour
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self._send(401, {"error": {"message": f"Incorrect API key provided: {self.headers['Authorization']}"}})
        if body["model"] != MODEL:
            return self._send(404, {"error": {"message": f"The model {body['model']} does not exist"}})
        if status is not None:
            return self._send(status, {"error": {"message": behaviour.status_text}})
        time.sleep(behaviour.pause)
        draw = random.Random(f"{behaviour.seed}|{question}|{nth}")
        fault = draw.choice(behaviour.faults) if draw.random() < behaviour.share else "none"
        with log.lock:
            log.did[fault] += 1
            if fault in ("status 500", "hang", "truncated JSON", "half a body"):
                log.lost.append(content)
        if fault == "rate limit":
            with log.lock:
                self.server.due[question] = time.monotonic() + float(behaviour.retry_after)
            return self._send(429, {"error": {"message": "slow down"}}, {"Retry-After": behaviour.retry_after})
        if fault == "status 500":
            return self._send(500, {"error": {"message": "oops"}})
        if fault == "hang":
            time.sleep(behaviour.hang)
            self.close_connection = True
            return None
        said = draw.choice(GARBAGE) if fault == "garbage" else behaviour.reply if behaviour.reply is not None else rule(question)
        usage = {"prompt_tokens": len(content) // 4, "completion_tokens": 1 + draw.randrange(5)}
        reply = self._completion(said, usage, "another-model" if fault == "other model" else behaviour.model)
        if fault in ("truncated JSON", "half a body"):
            return self._break_off(json.dumps(reply).encode(), whole_length=fault == "half a body")
        with log.lock:
            if behaviour.usage:
                log.prompt_tokens += usage["prompt_tokens"]
                log.completion_tokens += usage["completion_tokens"]
            log.answered[question] += fault == "none"
        return self._send(200, reply)

    def _completion(self, said: str, usage: dict[str, int], model: str) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
        return reply | ({"usage": usage | {"total_tokens": sum(usage.values())}} if self.server.behaviour.usage else {})

    def _break_off(self, data: bytes, whole_length: bool) -> None:
        """Half of the JSON: said to be all of it, or with the connection closed in its middle."""
        half = data[: len(data) // 2]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) if whole_length else len(half)))
        self.end_headers()
        self.wfile.write(half)
        self.close_connection = whole_length

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """A client that goes away in the middle is no event."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self, behaviour: Behaviour) -> None:
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), Handler)
        self.behaviour, self.log, self.due = behaviour, Log(), {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[Server]:
    """A server that runs while the block does."""
    with Server(behaviour) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
