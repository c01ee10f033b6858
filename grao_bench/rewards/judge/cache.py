"""What a judge has said and what it has cost, in one SQLite file that several processes share.

A reply is stored in the transaction that settles its call, so a process that is killed loses the calls in flight and nothing else; they
stay in the account at their upper bound, for nobody can know what they cost.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grao_bench.core.errors import UserError

_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
  key TEXT NOT NULL, attempt INTEGER NOT NULL, text TEXT NOT NULL, model TEXT NOT NULL, PRIMARY KEY (key, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
  id INTEGER PRIMARY KEY, model TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost INTEGER NOT NULL,
  state TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), cost INTEGER NOT NULL);
INSERT OR IGNORE INTO spent VALUES (1, 0);
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of a call, as reported or as their upper bound."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Prices:
    """Per million tokens, in any currency. Costs are whole 10^-12 of it, so that sums are exact."""

    prompt: float
    completion: float

    def cost(self, usage: Usage) -> int:
        """In 10^-12 of the currency."""
        return round(self.prompt * 1e6) * usage.prompt_tokens + round(self.completion * 1e6) * usage.completion_tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """A judge's own words, and the model that the endpoint said it was."""

    text: str
    model: str


@dataclass(frozen=True, slots=True)
class Account:
    """What every call through a file has cost. `reported`: tokens that the endpoint reported; `bound`: of calls that it left open."""

    cost: float
    calls: int
    reported: Usage
    bound: Usage


class ReplyCache:
    """Replies by the hash of what was asked, and the account of all calls. WAL: needs a local disk, not a network one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"reward.cache={path}: can't be used as a judge's cache ({error}); give another file") from None

    def _open(self) -> None:
        """Two processes that open a new file at once get in each other's way, and SQLite doesn't wait by itself there."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                # a killed process loses nothing that was committed; a power cut may lose the last replies, and never the file
                self._file.execute("PRAGMA journal_mode=WAL")
                self._file.execute("PRAGMA synchronous=NORMAL")
                with self._transaction():
                    for statement in _SCHEMA.split(";\n"):
                        self._file.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield self._file
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    def replies(self, key: str) -> list[Reply]:
        """The replies to one question, in the order in which they were asked for."""
        rows = self._file.execute("SELECT text, model FROM replies WHERE key = ? ORDER BY attempt", (key,))
        return [Reply(*row) for row in rows]

    def reserve(self, model: str, bound: Usage, prices: Prices, ceiling: float | None) -> int | None:
        """Enter a call at its upper bound before it is made; None where the account would pass the ceiling."""
        cost = prices.cost(bound)
        with self._transaction() as file:
            if ceiling is not None and file.execute("SELECT cost FROM spent").fetchone()[0] + cost > round(ceiling * 1e12):
                return None
            file.execute("UPDATE spent SET cost = cost + ?", (cost,))
            values = (model, bound.prompt_tokens, bound.completion_tokens, cost)
            return file.execute("INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, 'open')", values).lastrowid

    def settle(self, call: int, usage: Usage, prices: Prices, key: str = "", attempt: int = 0, reply: Reply | None = None) -> None:
        """Replace a call's bound by its reported usage, and store its reply, if it brought one, both or neither.

        Where another process stored a reply to the same question first, that one stays, so that all give the same verdict.
        """
        with self._transaction() as file:
            before = file.execute("SELECT cost FROM calls WHERE id = ?", (call,)).fetchone()[0]
            cost = prices.cost(usage)
            file.execute("UPDATE spent SET cost = cost + ?", (cost - before,))
            file.execute(
                "UPDATE calls SET prompt_tokens = ?, completion_tokens = ?, cost = ?, state = 'reported' WHERE id = ?",
                (usage.prompt_tokens, usage.completion_tokens, cost, call),
            )
            if reply is not None:
                self._store(file, key, attempt, reply)

    def keep_bound(self, key: str, attempt: int, reply: Reply) -> None:
        """Store a reply that came without its usage: its call stays at its bound."""
        with self._transaction() as file:
            self._store(file, key, attempt, reply)

    def _store(self, file: sqlite3.Connection, key: str, attempt: int, reply: Reply) -> None:
        file.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?)", (key, attempt, reply.text, reply.model))

    def account(self) -> Account:
        """The sums over every call that was ever made through this file."""
        rows: Sequence[tuple[str, int, int, int]] = self._file.execute(
            "SELECT state, count(*), sum(prompt_tokens), sum(completion_tokens) FROM calls GROUP BY state"
        ).fetchall()
        by_state = {state: (count, Usage(prompt, completion)) for state, count, prompt, completion in rows}
        nothing = (0, Usage(0, 0))
        return Account(
            cost=self._file.execute("SELECT cost FROM spent").fetchone()[0] / 1e12,
            calls=sum(count for count, _ in by_state.values()),
            reported=by_state.get("reported", nothing)[1],
            bound=by_state.get("open", nothing)[1],
        )

    def close(self) -> None:
        """Give the file back."""
        self._file.close()
