"""The judge's file: replies that stay, and an account that is never below what was spent nor above its ceiling."""

from __future__ import annotations

import multiprocessing
import sqlite3

import pytest

from grao_bench.core.errors import UserError
from grao_bench.rewards.judge.cache import Account, Prices, Reply, ReplyCache, Usage

PRICES = Prices(prompt=2.0, completion=10.0)
BOUND = Usage(100, 16)


def test_a_cost_is_tokens_times_price():
    """100 x 2 / 10^6 + 16 x 10 / 10^6 = 0.00036."""
    assert PRICES.cost(BOUND) == 360_000_000


def test_a_call_counts_at_its_bound_until_its_usage_is_known(tmp_path):
    cache = ReplyCache(tmp_path / "judge.sqlite")
    first, second = cache.reserve("m", BOUND, PRICES, None), cache.reserve("m", BOUND, PRICES, None)
    assert cache.account() == Account(0.00072, 2, Usage(0, 0), Usage(200, 32))
    cache.settle(first, Usage(40, 5), PRICES, "key", 0, Reply("1 > 2", "m"))
    assert cache.account() == Account(0.00049, 2, Usage(40, 5), Usage(100, 16))
    cache.settle(second, Usage(0, 0), PRICES)
    assert cache.account() == Account(0.00013, 2, Usage(40, 5), Usage(0, 0))


def test_a_call_that_would_pass_the_ceiling_is_not_entered(tmp_path):
    cache = ReplyCache(tmp_path / "judge.sqlite")
    assert cache.reserve("m", BOUND, PRICES, 0.00036) is not None
    assert cache.reserve("m", Usage(0, 1), PRICES, 0.00036) is None
    assert cache.account().cost == 0.00036
    assert cache.reserve("m", Usage(0, 1), PRICES, 0.00037) is not None


def test_the_first_reply_stays(tmp_path):
    path = tmp_path / "deep" / "judge.sqlite"
    one, other = ReplyCache(path), ReplyCache(path)
    for cache, text in ((one, "1 > 2"), (other, "1 < 2")):
        call = cache.reserve("m", BOUND, PRICES, None)
        cache.settle(call, Usage(1, 1), PRICES, "key", 0, Reply(text, "m"))
    one.keep_bound("key", 1, Reply("1 = 2", "m"))
    assert [reply.text for reply in other.replies("key")] == ["1 > 2", "1 = 2"]
    assert other.replies("another") == []


def spend(path, ceiling, made):
    cache = ReplyCache(path)
    count = 0
    while (call := cache.reserve("m", BOUND, PRICES, ceiling)) is not None:
        cache.settle(call, Usage(50, 8), PRICES, f"key{count}", 0, Reply("1 > 2", "m"))
        count += 1
    made.put(count)


def test_processes_that_open_and_use_one_new_file_at_once_keep_one_exact_account(tmp_path):
    """Each call costs 0.00018 in the end and 0.00036 before: 0.036 admits 199, the last one still in at its bound."""
    context, path = multiprocessing.get_context("fork"), tmp_path / "judge.sqlite"
    made = context.Queue()
    workers = [context.Process(target=spend, args=(path, 0.036, made)) for _ in range(4)]
    for worker in workers:
        worker.start()
    counts = [made.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    account = ReplyCache(path).account()
    # processes near the ceiling see each other's bounds, so some calls fewer than one alone would make
    assert 196 <= sum(counts) <= 199
    assert account == Account(180_000_000 * sum(counts) / 1e12, sum(counts), Usage(50 * sum(counts), 8 * sum(counts)), Usage(0, 0))


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 40, None])
def test_a_file_that_is_no_cache_is_one_clear_line(tmp_path, content):
    path = tmp_path / "judge.sqlite"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"reward\.cache=.*judge\.sqlite: can't be used") as raised:
        ReplyCache(path)
    assert "\n" not in str(raised.value)


def test_the_file_is_in_wal_mode(tmp_path):
    """Readers and a writer of several processes don't stand in each other's way."""
    ReplyCache(tmp_path / "judge.sqlite")
    assert sqlite3.connect(tmp_path / "judge.sqlite").execute("PRAGMA journal_mode").fetchone() == ("wal",)
