"""Prompt and answer, encoded one after the other, have the ids of their joined text: every family
of tokenizers, every kind of template, against one call of the tokenizer itself."""

from __future__ import annotations

import pytest

from grao_bench.core.types import Turn
from grao_bench.text.dialogue import OPENING, render
from grao_bench.text.tokens import TextCodec
from tests.text_tokenizers import CROSSING, FAMILIES, TEMPLATES, text_tokenizer

TURNS = (
    Turn("user", "What is the capital of France?"),
    Turn("assistant", "Paris."),
    Turn("user", "And what do cats eat?"),
)
ANSWERS = [
    "Paris",
    "paris is pretty",
    "Paris is the capital, and people like it.",
    "1 2 3",
    "(four)!",
    "'s fish",
    "ant",
    "...",
    "\u00e9t\u00e9 \u2013 \u65e5\u672c",
    "a\n\nb  c",
]


def joined(tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def check(codec: TextCodec, text: str, lead: str, before: tuple[int, ...] = ()) -> int:
    """How many answers have the joined text's ids; the others are counted."""
    prompt = codec.prompt("x", TURNS)
    assert prompt.tokens == before + joined(codec.tokenizer, text)
    apart = 0
    for answer in ANSWERS:
        found = codec.answer(prompt, answer, 1000)
        assert found.tokens[-1] == codec.end_token
        assert found.finished
        whole = before + joined(codec.tokenizer, text + lead + answer)
        if whole[: len(prompt.tokens)] == prompt.tokens and len(whole) > len(prompt.tokens):
            assert prompt.tokens + found.tokens[:-1] == whole, answer
        else:
            apart += 1
        assert codec.truncation.unjoined_answers == apart
    return len(ANSWERS) - apart


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_hh(family: str, begin: bool) -> None:
    tokenizer = text_tokenizer(family, begin=begin)
    codec = TextCodec(tokenizer, "hh", 1000)
    before = (tokenizer.bos_token_id,) if begin else ()
    assert check(codec, render(TURNS) + OPENING, " ", before) >= 9


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_chat(family: str, template: str) -> None:
    """As the template's own history has the answer: Llama-2's with a blank before it."""
    tokenizer = text_tokenizer(family, template)
    codec = TextCodec(tokenizer, "chat", 1000)
    messages = [{"role": turn.role, "content": turn.text} for turn in TURNS]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    lead = " " if template == "llama2" else ""
    assert check(codec, text, lead) >= (1 if family == "words" else 8)
    said = [*messages, {"role": "assistant", "content": "Fish."}]
    history = tokenizer.apply_chat_template(said, tokenize=False)
    assert history.startswith(text + lead + "Fish.")


@pytest.mark.parametrize("family", CROSSING)
def test_where_a_token_spans_the_border_the_answer_stands_alone_and_is_counted(family: str) -> None:
    """Its ids are those of its pieces, with the blank of the format and no other: told by putting
    a newline, at which no merge was learnt, in front."""
    tokenizer = text_tokenizer(family)
    codec = TextCodec(tokenizer, "hh", 1000)
    text = render(TURNS) + OPENING
    prompt = codec.prompt("x", TURNS)
    whole = joined(tokenizer, f"{text} Paris")
    assert whole[: len(prompt.tokens)] != prompt.tokens
    found = codec.answer(prompt, "Paris", 100)
    start = joined(tokenizer, "(\x00")
    apart = joined(tokenizer, "(\x00 Paris")
    assert apart[: len(start)] == start
    assert found.tokens == (*apart[len(start) :], codec.end_token)
    assert codec.text(found.tokens) == "Paris"
    assert codec.truncation.unjoined_answers == 1
