"""TRL's reward functions, unchanged: what they are called with, and what becomes of what they
give. Values by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from transformers import TrainerState

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource
from grao_bench.core.provenance import data_fingerprint
from grao_bench.core.record_files import read_run
from grao_bench.core.spec_interfaces import RewardSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.data.reading import read_row
from grao_bench.rewards.arguments import TRAINED
from tests.cells import TINY_BASE, world_rows, write_rows
from tests.rewards import trl_functions

HERE = "tests.rewards.trl_functions"
ANY = load("data/world_helpful")


def plain(text: str, **columns) -> Example:
    return Example("p", (Turn("user", text),), metadata=columns)


def chat(*turns: str, **columns) -> Example:
    roles = ("system", "user", "assistant", "user")[-len(turns) :]
    made = tuple(Turn(role, text) for role, text in zip(roles, turns, strict=True))
    return Example("c", made, metadata=columns, conversational=True)


def asked(example: Example, text: str, ids: tuple[int, ...] | None = (5, 6)) -> RewardRequest:
    return RewardRequest(example, text, True, None if ids is None else len(ids), ids)


def rewards(name: str, *requests: RewardRequest, **changed):
    source = load("reward/python", function=f"{HERE}.{name}", **changed).build(ANY)
    return [verdict.reward for verdict in source.score(requests)]


BOXED = [
    asked(plain("2+2?", ground_truth="4"), r"It is \boxed{4}."),
    asked(plain("3+3?", ground_truth="6"), r"\boxed{5}"),
]
TASKS = [asked(plain("2+2?", task="math"), "4"), asked(plain("sort", task="code"), "sorted")]
LONG = [asked(plain("a"), "x", (1,) * count) for count in (1, 2, 3, 4, 9)]
COUNTED = [asked(plain("a"), "x", (1, 2, 3)), asked(plain("b"), "y", (1,))]
THOUGHT = "<think>two and two</think>\n<answer>4</answer>"


@pytest.mark.parametrize(
    ("name", "requests", "values"),
    [
        ("token_count", COUNTED, [3.0, 1.0]),
        ("characters", [asked(plain("a"), "four"), asked(plain("b"), "")], [4.0, 0.0]),
        ("think_format", [asked(chat("2+2?"), THOUGHT), asked(chat("2+2?"), "4")], [1.0, 0.0]),
        ("boxed_accuracy", BOXED, [1.0, 0.0]),
        ("math_task", TASKS, [1.0, None]),
        ("code_task", TASKS, [None, -1.0]),
        ("slow_nonempty", [asked(plain("a"), "x"), asked(plain("a"), "")], [1.0, 0.0]),
        ("short_answers", LONG, [0.0, 0.0, -0.5, -1.0, -1.0]),
        ("a_callable", [asked(plain("abc"), "x")], [3.0]),
        ("role_of_prompt", [asked(chat("Be kind.", "Hi", "Ho", "So?"), "x")], [1.0]),
    ],
)
def test_trls_examples_work_as_they_are(name, requests, values):
    assert rewards(name, *requests) == values


def test_what_a_function_is_called_with_in_both_forms():
    """Everything by keyword, each a list as long as the completions, but for what is of the run."""
    trl_functions.CALLS.clear()
    row = {"answer": 4, "completions": "no"}
    pair = Example("e", (Turn("user", "Hi"),), "good", "bad", metadata=row)
    talk = Example("t", (Turn("system", "S"), Turn("user", "Hi")), "good", conversational=True)
    rewards("wrapped", asked(pair, "one", (7, 8)))
    rewards("wrapped", asked(talk, "two", (9,)))
    rewards("wrapped", asked(talk, "two", None), conversational=False)
    rewards("wrapped", asked(pair, "one"), conversational=True)
    assert [call["args"] for call in trl_functions.CALLS] == [()] * 4
    text, messages, as_text, as_messages = (call["kwargs"] for call in trl_functions.CALLS)
    for given in (text, messages, as_text, as_messages):
        assert callable(given.pop("log_extra"))
        assert callable(given.pop("log_metric"))
        assert isinstance(given.pop("trainer_state"), TrainerState)

    def said(content: str) -> list[list[dict[str, str]]]:
        return [[{"role": "assistant", "content": content}]]

    columns = {"answer": [4]}
    texts = {"references": ["good"], "chosen": ["good"], "rejected": ["bad"]}
    sampled = {"prompts": ["Hi"], "completions": ["one"], "completion_ids": [[7, 8]]}
    assert text == sampled | texts | columns
    assert messages == {
        "prompts": [[{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]],
        "completions": said("two"),
        "completion_ids": [[9]],
        "references": said("good"),
        "chosen": said("good"),
    }
    assert as_text == {
        "prompts": ["S\n\nHuman: Hi"],
        "completions": ["two"],
        "references": ["good"],
        "chosen": ["good"],
    }, "without token ids, which nobody had"
    assert as_messages["prompts"] == [[{"role": "user", "content": "Hi"}]]
    assert as_messages["rejected"] == said("bad")


def test_the_datas_prompts_say_which_form_it_is():
    """As TRL's is_conversational does, by the prompt's own kind, and not by its turns."""
    messages = [{"role": "user", "content": "Hi"}]
    assert read_row({"prompt": messages}).conversational
    assert not read_row({"prompt": "Hi"}).conversational
    dialogue = "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: So?\n\nAssistant:"
    assert not read_row({"prompt": dialogue}).conversational
    one, other = (data_fingerprint([read_row({"prompt": prompt})]) for prompt in (messages, "Hi"))
    assert one != other


def test_rows_of_both_kinds_need_a_word():
    """A function can be written for one of them only."""
    mixed = [asked(plain("a"), "x"), asked(chat("a"), "x")]
    what = "the prompt of c is messages, that of p a text; set reward.conversational=true or false"
    with pytest.raises(UserError, match=f"^reward.function={HERE}.characters: {what}"):
        rewards("characters", *mixed)
    assert rewards("characters", *mixed, conversational=False) == [1.0, 1.0]


def test_our_own_form_gets_texts_of_messages_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    head = "def fn(prompts, completions, references, **columns):\n"
    body = "    assert columns == {'n': [1]}\n    return [len(prompts[0] + completions[0])]\n"
    (tmp_path / "own_form.py").write_text(head + body)
    source = load("reward/python", function="own_form.fn").build(ANY)
    assert [one.reward for one in source.score([asked(chat("Hi", n=1), "abc")])] == [5.0]


def test_the_training_state():
    """global_step of max_steps while training; a judge's state is the end of training, whoever it
    judges."""
    early = RewardRequest(plain("a"), "x", True, 1, (1,), step=1, steps=4)
    late = RewardRequest(plain("a"), "x", True, 1, (1,), step=3, steps=4)
    judged = RewardRequest(plain("a"), "x", True, 1, (1,))
    values = [rewards("later_is_stricter", one)[0] for one in (early, late, judged)]
    assert values == [-0.25, -0.75, -1.0]
    assert TRAINED >= 10**6


def test_what_trls_loggers_are_told_stands_beside_the_verdict():
    right, wrong = asked(plain("a", solution="x"), "x"), asked(plain("b", solution="y"), "z")
    source = load("reward/python", function=f"{HERE}.with_loggers").build(ANY)
    first, second = source.score([right, wrong])
    assert (first.reward, second.reward) == (1.0, 0.0)
    assert first.parts == {"right": 1.0, "accuracy": 0.5}
    assert second.parts == {"right": 0.0, "accuracy": 0.5}


def test_an_async_function_in_a_notebook():
    """Where a loop runs already; and its own loop is one for all calls."""

    async def cell():
        return rewards("slow_nonempty", asked(plain("a"), "x"))

    assert asyncio.run(cell()) == [1.0]
    assert rewards("slow_nonempty", asked(plain("a"), "x")) == [1.0]


def several(names: str, **changed):
    paths = [f"{HERE}.{name}" for name in names.split()]
    return load("reward/functions", functions=paths, **changed)


def test_several_functions_are_summed_by_weight_and_none_is_left_out_of_the_sum():
    """nansum of weighted rewards, as TRL: 2 x 1 + 0.5 x 1, and -1 + 0.5 x 6."""
    spec = several("math_task code_task characters", weights=[2.0, 1.0, 0.5])
    assert isinstance(spec, RewardSpec)
    spec.check(ANY)
    source = spec.build(ANY)
    assert isinstance(source, RewardSource)
    math, code = source.score(TASKS)
    assert (math.reward, code.reward) == (2 * 1.0 + 0.5 * 1, -1.0 + 0.5 * 6)
    assert math.parts == {"math_task/reward": 1.0, "characters/reward": 1.0}
    assert code.parts == {"code_task/reward": -1.0, "characters/reward": 6.0}
    other = asked(plain("x", task="poem"), "4")
    (neither,) = several("math_task code_task").build(ANY).score([other])
    assert neither.reward is None
    assert several("characters").build(ANY).score(TASKS)[1].reward == 6.0, "1 each by default"


@pytest.mark.parametrize(
    ("functions", "weights", "message"),
    [
        ([], None, r"^reward\.functions: is empty; name at least one"),
        ([f"{HERE}.characters"], [1.0, 2.0], r"^reward\.weights: 2 weights for 1 functions"),
        ([f"{HERE}.characters"] * 2, None, r"names a function twice"),
        ([f"{HERE}.nothing"], None, r"reward\.parts\.nothing\.source: .* has no nothing"),
    ],
)
def test_functions_that_do_not_fit(functions, weights, message):
    with pytest.raises(UserError, match=message):
        load("reward/functions", functions=functions, weights=weights).check(ANY)


def test_a_mixture_without_skip_leaves_an_answer_out_that_a_part_said_nothing_of():
    parts = several("math_task characters").mixture().parts
    strict = load("reward/mixture", parts=parts).build(ANY)
    assert [one.reward for one in strict.score(TASKS)] == [2.0, None]


TALKS = ("data=jsonl", "data.train=talks.jsonl", "data.name=talks", "evaluation.sets=own")


def test_messages_from_the_command_line_to_the_records(tmp_path, command):
    """Two functions of messages with weights: GRPO trains on their sum, and every recorded reward
    is the one by hand; some answers are left out."""
    rows = []
    for i, row in enumerate(world_rows(40)):
        rows.append({"prompt": [{"role": "user", "content": row["prompt"]}], "letter": "ae"[i % 2]})
    write_rows(tmp_path / "talks.jsonl", rows)
    functions = f"reward.functions=[{HERE}.letters,{HERE}.role_of_prompt]"
    cell = (*TALKS, *TINY_BASE, "budget=smoke", "optimizer.lr=0.002")
    reward = ("reward=functions", functions, "reward.weights=[1,0.5]")
    done = command("train", "objective=grpo", *cell, *reward)
    assert done.code == 0, done.err
    run = read_run(tmp_path / done.out.splitlines()[-1])
    wanted = {row["prompt"][0]["content"]: row["letter"] for row in rows}
    (records,) = run.evaluations.values()
    for one in records:
        assert one.reward == pytest.approx(one.answer.count(wanted[one.prompt]) / 100 + 0.5)
        assert one.parts["role_of_prompt/reward"] == 1.0
    assert all(step.metrics["reward/role_of_prompt/mean"] == 1.0 for step in run.steps)
    assert any(step.metrics["reward/letters/std"] > 0 for step in run.steps)


def test_a_column_that_is_the_reference_keeps_its_name(tmp_path):
    """data.columns.chosen=solution: a TRL function still gets `solution`."""
    rows = [{"problem": f"{i} + 1?", "solution": f"{i + 1}"} for i in range(40)]
    write_rows(tmp_path / "rows.jsonl", rows)
    columns = replace(load("data/files", train="x").columns, prompt="problem", chosen="solution")
    data = load("data/files", train=str(tmp_path / "rows.jsonl"), columns=columns).build()
    example = data.train[0]
    assert example.metadata == {"solution": example.chosen}
    assert rewards("with_loggers", asked(example, example.reference)) == [1.0]


def test_the_run_tells_how_far_it_is(tmp_path, command):
    """global_step 0 and 1 of 2: rewards 0 and -0.5."""
    write_rows(tmp_path / "rows.jsonl", [{"prompt": row["prompt"]} for row in world_rows(40)])
    data = ("data=jsonl", "data.train=rows.jsonl", "data.name=rows", "evaluation.sets=own")
    reward = ("reward=python", f"reward.function={HERE}.later_is_stricter")
    done = command("train", "objective=grpo", *data, *TINY_BASE, "budget=smoke", *reward)
    assert done.code == 0, done.err
    run = read_run(tmp_path / done.out.splitlines()[-1])
    assert [step.metrics["reward/mean"] for step in run.steps] == [0.0, -0.5]
    (records,) = run.evaluations.values()
    assert {one.reward for one in records} == {-1.0}
