"""A judge whose endpoint fails at 30% of calls, in every way we know, and one that is killed."""

from __future__ import annotations

import time

import pytest

from tests.commands import begin

from .fault_server import FAULTS, Behaviour, serving
from .setting import judge, requests, right


@pytest.mark.parametrize("count", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_judgements_at_30_percent_faults(count, tmp_path):
    """Every verdict is the fault-free one, nothing is asked again after its answer was stored, the account is right to the token."""
    asked = requests(count)
    # a hang costs its whole timeout, which has to be longer than any reply of a busy machine takes
    faults = (*FAULTS, *(fault for fault in FAULTS if fault != "hang"))
    with serving(Behaviour(faults=faults, hang=8.0)) as server:
        source = judge(server.url, tmp_path / "j.sqlite", concurrency=32, call_timeout=5.0, retries=20, ask_again=12)
        assert [verdict.reward for verdict in source.score(asked)] == [right(one) for one in asked]
        log, found, account = server.log, source.statistics()[source.name], source.client.cache.account()

    assert all(log.did[fault] >= count // 50 for fault in FAULTS), log.did
    assert set(log.answered.values()) == {1}
    assert len(log.answered) == count
    assert found.excluded == 0.0
    assert not log.too_early, "a Retry-After was not waited for"
    # a reply of another model and one that can't be read are paid for too
    assert (account.reported.prompt_tokens, account.reported.completion_tokens) == (log.prompt_tokens, log.completion_tokens)
    assert account.bound.prompt_tokens == sum(len(content.encode()) + 64 for content in log.lost)
    assert account.bound.completion_tokens == 16 * len(log.lost)
    assert account.calls == log.calls == found.calls


def test_a_fault_free_run_says_what_the_rule_says(tmp_path):
    asked = requests(1000)[::10]
    with serving(Behaviour(share=0.0)) as server:
        assert [verdict.reward for verdict in judge(server.url, tmp_path / "j.sqlite").score(asked)] == [right(one) for one in asked]
        assert server.log.calls == 100


def ask(url, path):
    judge(url, path, concurrency=8).score(requests(200))


def test_a_kill_in_the_middle_loses_at_most_the_calls_in_flight(tmp_path):
    asked, path = requests(200), tmp_path / "j.sqlite"
    with serving(Behaviour(share=0.1, faults=("status 500", "garbage"), pause=0.05)) as server:
        child = begin(ask, server.url, path)
        deadline = time.monotonic() + 120
        while sum(server.log.answered.values()) < 60:
            assert child.is_alive(), "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.kill()
        child.join()
        while server.log.in_flight:  # what was under way is answered into the void
            time.sleep(0.01)
        before = sum(server.log.answered.values())

        source = judge(server.url, path)
        assert [verdict.reward for verdict in source.score(asked)] == [right(one) for one in asked]
        answered, account = server.log.answered, source.client.cache.account()

    assert 60 <= before < 200
    assert sum(answered.values()) - 200 <= 8, "a stored answer was asked for again"
    assert source.statistics()[source.name].cached >= before - 8
    # the lost calls are in the account, at their bound
    bound_calls = account.bound.completion_tokens / 16
    assert len(server.log.lost) <= bound_calls <= len(server.log.lost) + 8
    assert account.reported.prompt_tokens + account.bound.prompt_tokens >= server.log.prompt_tokens
