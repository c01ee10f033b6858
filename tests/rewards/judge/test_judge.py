"""The LLM judge against a server: verdicts in both orders, exclusions, what stops it, what it costs, and what it never tells."""

from __future__ import annotations

import asyncio
import time
from dataclasses import fields, replace

import jaxtyping
import pytest
import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardSource, TellingSource
from grao_bench.core.spec_interfaces import RewardSpec
from grao_bench.core.specs import conf_dir, load
from grao_bench.core.values import check_types
from grao_bench.rewards.judge.completions import retry_after
from grao_bench.rewards.judge.judge import LLMJudge
from grao_bench.rewards.judge.prompt import load_prompt

from .fault_server import KEY, MODEL, Behaviour, serving
from .setting import KEY_VARIABLE, AnyData, judge, request, requests, right

CLEAN = Behaviour(share=0.0)


def rewards(source, asked):
    return [verdict.reward for verdict in source.score(asked)]


def test_verdicts_are_of_the_answer_in_either_order(tmp_path):
    asked = [request("eee", "e"), request("e", "eee", 1), request("e a", "a e", 2)]
    with serving(CLEAN) as server:
        for orders in ("model_first", "reference_first", "both"):
            source = judge(server.url, tmp_path / f"{orders}.sqlite", orders=orders)
            assert rewards(source, asked) == [1.0, -1.0, 0.0], orders
    assert isinstance(source, RewardSource)
    assert isinstance(source, TellingSource)
    assert (source.name, source.pairwise) == ("judge_helpful", True)


def test_both_orders_average_and_tell_how_consistent_the_judge_is(tmp_path):
    """A judge that always prefers what stands first says +1 and -1 of every answer: R = 0, consistent nowhere."""
    with serving(replace(CLEAN, reply="1 > 2")) as server:
        source = judge(server.url, tmp_path / "j.sqlite", orders="both")
        (verdict,) = source.score([request("e", "eee")])
        assert (verdict.reward, verdict.parts) == (0.0, {"model_first": 1.0, "reference_first": -1.0})
        assert verdict.replies == ("1 > 2", "1 > 2")
        (found,) = source.statistics().values()
        assert (found.position_consistency, found.first_preference, found.calls) == (0.0, 1.0, 2.0)
    with serving(CLEAN) as server:
        source = judge(server.url, tmp_path / "fair.sqlite", orders="both")
        assert rewards(source, requests(30)) == [right(one) for one in requests(30)]
        (found,) = source.statistics().values()
        assert (found.position_consistency, found.first_preference) == (1.0, 0.0)


def test_half_a_verdict_where_one_order_ties(tmp_path):
    spec_prompt = load_prompt("helpful")
    asked = request("e", "ee")
    with serving(CLEAN) as server:
        source = judge(server.url, tmp_path / "j.sqlite", orders="both")
        source.score([asked])
        # what the judge said of the second order becomes a tie
        key = source.client.endpoint.key(spec_prompt.ask(asked.example.prompt, asked.text, asked.example.chosen, "reference_first"))
        source.client.cache._file.execute("UPDATE replies SET text = '1 = 2' WHERE key = ?", (key,))
        assert rewards(source, [asked]) == [-0.5]


def test_the_reference_ties_with_itself_and_nobody_is_asked(tmp_path):
    with serving(replace(CLEAN, reply="1 > 2")) as server:
        source = judge(server.url, tmp_path / "j.sqlite", orders="both")
        assert rewards(source, [request("the same", "the same")]) == [0.0]
        assert server.log.calls == 0
        assert source.statistics()[source.name].identical == 1.0
        assert rewards(source, []) == []


def test_an_unfinished_answer_is_judged_or_loses_as_the_spec_says(tmp_path):
    asked = [request("eee", "e", finished=False)]
    with serving(CLEAN) as server:
        assert rewards(judge(server.url, tmp_path / "a.sqlite"), asked) == [1.0]
        assert rewards(judge(server.url, tmp_path / "b.sqlite", unfinished="lose"), asked) == [-1.0]
        assert server.log.calls == 1


def test_what_can_not_be_read_is_asked_again_and_then_excluded_and_never_a_tie(tmp_path):
    with serving(replace(CLEAN, reply="Both are fine.")) as server:
        source = judge(server.url, tmp_path / "j.sqlite", ask_again=2)
        (verdict,) = source.score([request("e", "ee")])
        assert verdict.reward is None
        assert (verdict.parts, verdict.replies) == ({}, ("Both are fine.",) * 3)
        assert (source.statistics()[source.name].excluded, source.statistics()[source.name].unreadable, server.log.calls) == (1.0, 3.0, 3)
        # the first question as it is, the others with a reminder
        lengths = [len(body["messages"][0]["content"]) for body in server.log.bodies]
        assert lengths[0] < lengths[1] == lengths[2]
        # nor is it asked again by a new run
        again = judge(server.url, tmp_path / "j.sqlite", ask_again=2)
        assert rewards(again, [request("e", "ee")]) == [None]
        assert server.log.calls == 3


def test_a_reply_cut_in_the_middle_of_an_emoji_is_stored(tmp_path):
    with serving(replace(CLEAN, reply="1 > 2 \ud83d")) as server:
        (verdict,) = judge(server.url, tmp_path / "j.sqlite").score([request("e", "ee")])
    assert (verdict.reward, verdict.replies) == (1.0, ("1 > 2 ?",))


def test_with_one_order_unread_the_judgement_is_excluded(tmp_path):
    asked = request("e", "ee")
    with serving(CLEAN) as server:
        source = judge(server.url, tmp_path / "j.sqlite", orders="both", ask_again=0)
        source.score([asked])
        key = source.client.endpoint.key(source.prompt.ask(asked.example.prompt, "e", "ee", "model_first"))
        source.client.cache._file.execute("UPDATE replies SET text = 'no' WHERE key = ?", (key,))
        (verdict,) = source.score([asked])
        assert verdict.reward is None
        assert verdict.parts == {"reference_first": -1.0}
        assert source.statistics()[source.name].excluded == 0.5


def test_a_judge_that_mostly_can_not_be_read_stops_the_run(tmp_path):
    with serving(replace(CLEAN, reply="Both are fine.")) as server:
        source = judge(server.url, tmp_path / "j.sqlite", ask_again=0, max_excluded=0.5)
        source.score(requests(19))
        with pytest.raises(UserError, match=r"reward=judge_helpful: no verdict could be read for 100% of 38 judgements"):
            source.score(requests(19, seed=1))


@pytest.mark.parametrize("said", ["Content Exists Risk", "This model's maximum context length is 64 tokens", "code: content_filter"])
def test_a_refusal_to_judge_one_text_excludes_it_and_costs_nothing(tmp_path, said):
    with serving(replace(CLEAN, status=400, status_text=said)) as server:
        source = judge(server.url, tmp_path / "j.sqlite", ask_again=1)
        assert rewards(source, [request("e", "ee")]) == [None]
        assert (source.statistics()[source.name].refused, source.client.cache.account().cost) == (2.0, 0.0)


STOPS = [
    (401, "no", rf"reward\.api_key_env={KEY_VARIABLE}: http://127\.0\.0\.1:\d+/v1 does not accept its key \(401\)"),
    (402, "Insufficient Balance", r"reward\.base_url=.*: the account has no balance left \(402\)"),
    (429, "code: insufficient_quota", r"the account has no balance left \(429\)"),
    (403, "no", r"does not accept its key \(403\)"),
    (404, "no", rf"reward\.model={MODEL}: .* has no such model, or is no chat endpoint \(404\)"),
    (422, "max_tokens is too small", r"refuses the request \(422: .*max_tokens is too small"),
]


@pytest.mark.parametrize(("status", "said", "message"), STOPS)
def test_what_can_not_pass_stops_with_one_line_and_a_rerun_goes_on(tmp_path, status, said, message):
    """After 20 good calls every call is turned away; what was answered is not asked again."""
    asked = requests(60)
    with serving(replace(CLEAN, status=status, status_text=said, status_from=20)) as server:
        with pytest.raises(UserError, match=message) as raised:
            judge(server.url, tmp_path / "j.sqlite").score(asked)
        assert "\n" not in str(raised.value)
        assert server.log.calls <= 20 + 16, "nothing new is asked after the first refusal"
        kept = sum(server.log.answered.values())
        assert kept == 20
    with serving(CLEAN) as server:
        assert rewards(judge(server.url, tmp_path / "j.sqlite"), asked) == [right(one) for one in asked]
        assert server.log.calls == 40


def test_a_wrong_key_and_an_unknown_model_as_the_server_itself_says_it(tmp_path, monkeypatch):
    with serving(CLEAN) as server:
        with pytest.raises(UserError, match=r"reward\.model=judge-2: .*no such model"):
            judge(server.url, tmp_path / "j.sqlite", model="judge-2").score(requests(5))
        monkeypatch.setenv(KEY_VARIABLE, "sk-the-wrong-key")
        source = judge(server.url, tmp_path / "j.sqlite")
        with pytest.raises(UserError, match=r"does not accept its key") as raised:
            source.score(requests(5))
        assert "sk-" not in str(raised.value)
        assert source.client.cache.account().cost == 0.0


def test_another_models_replies_are_not_taken_for_the_judges(tmp_path):
    with serving(replace(CLEAN, model="other-9")) as server:
        with pytest.raises(UserError, match=r"reward\.model=judge-1: .* answered as 'other-9'; .*reward\.reply_models"):
            judge(server.url, tmp_path / "j.sqlite", retries=2).score(requests(1))
        assert rewards(judge(server.url, tmp_path / "j.sqlite", reply_models=["other-9"]), [request("ee", "e")]) == [1.0]


@pytest.mark.parametrize(
    ("asked", "said", "same"),
    [
        ("deepseek-chat", "deepseek-chat", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4", "gpt-4-0613", True),
        ("org/Model", "org/model@main", True),
        ("deepseek/deepseek-chat", "deepseek-chat", True),
        ("deepseek-chat", "", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4-32k", False),
        ("deepseek-chat", "deepseek-reasoner", False),
    ],
)
def test_a_models_name_may_come_with_a_date_or_a_revision(asked, said, same):
    assert load("reward/judge_helpful", model=asked).endpoint.is_model(said) is same


def test_an_endpoint_that_never_answers_stops_the_run(tmp_path):
    with serving(Behaviour(share=1.0, faults=("status 500",))) as server:
        with pytest.raises(UserError, match=r"reward\.base_url=.*: no usable reply to a question .*last: status 500.*run again to go on"):
            judge(server.url, tmp_path / "j.sqlite", retries=3).score(requests(1))
        assert server.log.calls == 4
        url = server.url
    with pytest.raises(UserError, match=r"last: no connection"):
        judge(url, tmp_path / "k.sqlite", retries=2).score(requests(1))


def test_a_wait_longer_than_the_total_is_not_begun(tmp_path):
    with serving(Behaviour(share=1.0, faults=("rate limit",), retry_after="3600")) as server:
        started = time.monotonic()
        with pytest.raises(UserError, match=r"last: status 429, which asks to wait 3600 s"):
            judge(server.url, tmp_path / "j.sqlite").score(requests(1))
        assert time.monotonic() - started < 60
        assert server.log.calls == 1


def test_what_an_endpoint_may_say_of_waiting():
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "40"}) == 0.04
    assert retry_after({}) == 0.0
    assert retry_after({"retry-after": "soon"}) == 0.0
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "Fri, 01 Jan 2199 00:00:00 GMT"}) > 1e9


def test_the_ceiling_holds_whatever_is_in_flight_and_raising_it_resumes(tmp_path):
    """A call's bound is its prompt's bytes + 64 and max_tokens; at a price of 1 each, some 1600 tokens a call where 400 are reported."""
    asked, prices = requests(60), {"price_prompt": 1.0, "price_completion": 1.0}
    with serving(CLEAN) as server:
        source = judge(server.url, tmp_path / "j.sqlite", max_cost=0.01, **prices)
        with pytest.raises(UserError, match=r"reward\.max_cost=0\.01: reached \(0\.00\d+ spent in \d+ calls.*raise it and run again"):
            source.score(asked)
        account, spent = source.client.cache.account(), (server.log.prompt_tokens + server.log.completion_tokens) / 1e6
        assert account.cost == pytest.approx(spent, abs=1e-15)
        assert 0.006 < account.cost <= 0.01, "it is used up to the bound of one more call"
        before = server.log.calls
        with pytest.raises(UserError, match=r"max_cost"):
            judge(server.url, tmp_path / "j.sqlite", max_cost=0.01, **prices).score(asked)
        assert server.log.calls == before
        assert rewards(judge(server.url, tmp_path / "j.sqlite", max_cost=1.0, **prices), asked) == [right(one) for one in asked]
        assert server.log.calls == 60


def test_a_call_whose_usage_was_not_reported_counts_at_its_bound(tmp_path):
    with serving(replace(CLEAN, usage=False)) as server:
        source = judge(server.url, tmp_path / "j.sqlite", price_prompt=1.0, price_completion=1.0)
        asked = requests(3)
        source.score(asked)
        contents = [body["messages"][0]["content"] for body in server.log.bodies]
    account = source.client.cache.account()
    assert account.bound.prompt_tokens == sum(len(content.encode()) + 64 for content in contents)
    assert account.bound.completion_tokens == 3 * 16
    assert account.cost == pytest.approx((account.bound.prompt_tokens + 48) / 1e6)
    assert source.statistics()[source.name].usage_not_reported == 3.0


def test_a_rerun_costs_nothing_and_what_differs_is_asked(tmp_path):
    asked = requests(20)
    with serving(CLEAN) as server:
        first = judge(server.url, tmp_path / "j.sqlite", orders="both")
        first.score(asked)
        calls = server.log.calls
        again = judge(server.url, tmp_path / "j.sqlite", orders="both", concurrency=2)
        assert rewards(again, asked) == [right(one) for one in asked]
        assert rewards(judge(server.url, tmp_path / "j.sqlite", orders="reference_first"), asked) == [right(one) for one in asked]
        assert (server.log.calls, again.statistics()[again.name].cached, again.statistics()[again.name].prompt_tokens) == (calls, 40.0, 0.0)
        for changed in ({"temperature": 0.5}, {"max_tokens": 8}, {"extra_body": {"seed": 1}}, {"prompt": "harmless"}):
            other = judge(server.url, tmp_path / "j.sqlite", **changed)
            other.score(asked[:1])
            assert server.log.calls == (calls := calls + 1), changed
            assert other.fingerprint != first.fingerprint, changed


def test_equal_questions_of_one_batch_are_asked_once(tmp_path):
    with serving(replace(CLEAN, pause=0.02)) as server:
        assert rewards(judge(server.url, tmp_path / "j.sqlite"), [request("ee", "e")] * 8) == [1.0] * 8
        assert server.log.calls == 1


def test_no_more_calls_at_once_than_asked_for(tmp_path):
    with serving(replace(CLEAN, pause=0.03)) as server:
        judge(server.url, tmp_path / "j.sqlite", concurrency=5).score(requests(40))
        assert server.log.most_in_flight == 5


def test_it_can_be_asked_from_a_notebook(tmp_path):
    """Where an event loop runs already."""
    with serving(CLEAN) as server:
        source = judge(server.url, tmp_path / "j.sqlite")

        async def cell():
            return rewards(source, [request("ee", "e")])

        assert asyncio.run(cell()) == [1.0]


def test_the_key_is_in_no_record_and_no_log(tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")
    with serving(Behaviour(share=0.5)) as server:
        source = judge(server.url, tmp_path / "j.sqlite")
        verdicts = source.score(requests(20))
    told = [repr(source.spec), repr(source.statistics()), source.fingerprint, repr(verdicts), *source.texts().values()]
    stored = [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    assert all(KEY not in text for text in (*told, *stored, caplog.text, *capfd.readouterr()))


def test_the_requests_are_what_the_spec_says(tmp_path):
    with serving(CLEAN) as server:
        judge(server.url, tmp_path / "j.sqlite", temperature=0.25, max_tokens=9, extra_body={"reasoning_effort": "low"}).score(
            [request("e", "ee")]
        )
        (body,) = server.log.bodies
    assert body.pop("messages")[0]["role"] == "user"
    assert body == {"model": MODEL, "temperature": 0.25, "max_tokens": 9, "reasoning_effort": "low"}


def test_what_the_run_records(tmp_path):
    with serving(CLEAN) as server:
        source = judge(server.url, tmp_path / "j.sqlite")
        source.score(requests(4))
        (found,) = source.statistics().values()
        assert (found.judged, found.excluded, found.calls, found.questions, found.cached) == (4.0, 0.0, 4.0, 4.0, 0.0)
        assert (found.prompt_tokens, found.completion_tokens) == (server.log.prompt_tokens, server.log.completion_tokens)
        assert found.cost == pytest.approx((0.27 * server.log.prompt_tokens + 1.1 * server.log.completion_tokens) / 1e6)
        assert source.texts() == {"judge_prompt-judge_helpful.md": load_prompt("helpful").text}


def test_a_judge_is_the_same_wherever_it_is_served_and_whatever_it_may_cost():
    spec = load("reward/judge_helpful")
    moved = replace(spec, base_url="http://127.0.0.1:1/v1", max_cost=None, concurrency=1, cache="elsewhere.sqlite")
    assert moved == spec
    for name, value in (("model", "other"), ("temperature", 1.0), ("orders", "model_first"), ("prompt", "harmless"), ("ask_again", 0)):
        assert replace(spec, **{name: value}) != spec


@pytest.fixture
def as_installed():
    """Without the signature checks that the tests run under, which a user has not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"orders": "all"}, r"reward\.orders=all: unknown; choose both, model_first, reference_first"),
        ({"unfinished": "win"}, r"reward\.unfinished=win"),
        ({"name": "a/b"}, r"reward\.name='a/b'"),
        ({"ask_again": -1}, r"reward\.ask_again=-1: must be at least 0"),
        ({"max_excluded": 2.0}, r"reward\.max_excluded=2.0: must be a share"),
        ({"concurrency": 0}, r"reward\.concurrency=0: must be at least 1"),
        ({"max_cost": -1.0}, r"reward\.max_cost=-1.0: must be at least 0"),
        ({"base_url": "localhost:8000"}, r"reward\.base_url=localhost:8000: must be an http"),
        ({"prompt": "nope"}, r"reward\.prompt=nope"),
        ({"api_key_env": "sk-a-key"}, r"^reward\.api_key_env: must name an environment variable .* and not be the key itself$"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, r"reward\.api_key_env=NOT_SET_ANYWHERE: this environment variable is not set"),
    ],
)
def test_a_mistake_is_found_before_anything_is_trained(changed, message):
    with pytest.raises(UserError, match=message):
        load("reward/judge_helpful", **({"api_key_env": None} | changed)).check(AnyData())


@pytest.mark.parametrize("name", ["helpful", "harmless"])
def test_the_yaml_spells_every_field(name):
    spec = load(f"reward/judge_{name}")
    assert isinstance(spec, RewardSpec)
    assert (spec.name, spec.prompt, spec.api_key_env, spec.base_url) == (
        f"judge_{name}",
        name,
        "DEEPSEEK_API_KEY",
        "https://api.deepseek.com",
    )
    check_types(spec, "reward")
    values = yaml.safe_load((conf_dir() / "reward" / "judge_helpful.yaml").read_text())
    assert list(values)[1:] == [item.name for item in fields(LLMJudge)]
