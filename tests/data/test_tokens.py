"""The text codec on real tokenizers trained here: concatenation, truncation, begin and end tokens, chat templates, round trips."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from grao_bench.core.errors import UserError
from grao_bench.core.types import Turn
from grao_bench.data.hh import HHData
from grao_bench.text.tokens import TextCodec, TruncationCount, render

REAL = Path(os.environ.get("GRAO_BENCH_HH") or Path(__file__).parents[2] / "../shared/data/hh-rlhf").resolve()
TEXT = [
    "\n\nHuman: What do cats eat?\n\nAssistant: Cats eat fish, and they like it. Don't they?",
    "The cat sat; the dog ran. 1 2 3 (four)!",
]
HI = (Turn("user", "What do cats eat?"),)
LONG = "They like the fish; and the dog ran. Don't they?"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if not loop.first and m.role == loop.previtem.role %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<{{ m.role }}>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@cache
def tokenizer(begin: bool = False, template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 tokens; `begin` makes it put <|begin|> in front of, and <|end|> after, what it encodes."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator(TEXT * 3, trainer)
    if begin:
        ids = [(token, model.token_to_id(token)) for token in special[:2]]
        model.post_processor = processors.TemplateProcessing(single="<|begin|> $A <|end|>", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|pad|>", chat_template=template
    )


def codec(max_prompt_tokens: int = 1000, begin: bool = False) -> TextCodec:
    return TextCodec(tokenizer(begin), "hh", max_prompt_tokens)


def plain_ids(text: str) -> tuple[int, ...]:
    return tuple(tokenizer()(text, add_special_tokens=False)["input_ids"])


def test_prompt_and_answer_are_the_whole_text_s_ids() -> None:
    turns = (*HI, Turn("assistant", "Fish."), Turn("user", "Do they like it?"))
    one = codec()
    prompt, answer = one.prompt("x", turns), one.answer(one.prompt("x", turns), "They do.", 100)
    whole = "\n\nHuman: What do cats eat?\n\nAssistant: Fish.\n\nHuman: Do they like it?\n\nAssistant: They do."
    assert prompt.tokens + answer.tokens == (*plain_ids(whole), one.end_token)
    assert (prompt.id, answer.text, answer.finished) == ("x", "They do.", True)


# A blank is joined to the word after it, so no token crosses "Assistant:" + " answer": whatever the answer opens with.
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(
        lambda text: text.strip() == text and "<|" not in text
    )
)
def test_concatenation_equals_encoding_the_whole_text(text: str) -> None:
    one = codec()
    prompt = one.prompt("x", HI)
    whole = render((*HI, Turn("assistant", text)))
    assert prompt.tokens + one.answer(prompt, text, 10_000).tokens[:-1] == plain_ids(whole)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
@pytest.mark.parametrize("prompt_format", ["hh", "chat"])
def test_text_undoes_answer(prompt_format: str, text: str) -> None:
    one = TextCodec(tokenizer(template=TEMPLATE), prompt_format, 100)  # type: ignore[arg-type]
    answer = one.answer(one.prompt("x", HI), text, 10_000)
    assert one.text(answer.tokens) == answer.text == text.strip()


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("prompt_format", ["hh", "chat"])
def test_a_special_token_spelt_in_an_answer_is_plain_text(begin: bool, prompt_format: str) -> None:
    one = TextCodec(tokenizer(begin, TEMPLATE), prompt_format, 100)  # type: ignore[arg-type]
    answer = one.answer(one.prompt("x", HI), "a <|end|> b <|begin|> c", 100)
    specials = {*one.tokenizer.all_special_ids}
    assert len(specials) == 3
    assert not specials & {*answer.tokens[:-1]}
    assert answer.tokens[-1] == one.end_token
    assert one.text(answer.tokens) == "a <|end|> b <|begin|> c"
    assert not specials & {*codec().prompt("x", (Turn("user", "<|end|>"),)).tokens}


def test_an_answer_is_cut_only_when_its_end_token_does_not_fit() -> None:
    one = codec()
    prompt = one.prompt("x", HI)
    whole = one.answer(prompt, "They like the fish.", 100).tokens
    exact = one.answer(prompt, "They like the fish.", len(whole))
    short = one.answer(prompt, "They like the fish.", len(whole) - 1)
    assert (exact.tokens, exact.finished) == (whole, True)
    assert (short.tokens, short.finished) == (whole[:-1], False)
    shorter = one.answer(prompt, "They like the fish.", 2)
    assert shorter.tokens == whole[:2]
    assert shorter.text == one.text(whole[:2]) != "They like the fish."
    assert one.truncation == TruncationCount(prompts=1, answers=4, truncated_answers=2)
    assert one.counting_anew().truncation == TruncationCount()
    with pytest.raises(ValueError, match="max_tokens=0"):
        one.answer(prompt, "a", 0)


def test_an_empty_answer_is_its_end_token() -> None:
    assert codec().answer(codec().prompt("x", HI), " ", 1).tokens == (codec().end_token,)


def test_a_prompt_loses_words_from_its_left_inside_its_frame_and_is_counted() -> None:
    whole = codec().prompt("x", HI).tokens
    fits, cut = codec(len(whole)), codec(len(whole) - 2)
    assert fits.prompt("x", HI).tokens == whole
    assert cut.prompt("x", HI).tokens == plain_ids("\n\nHuman: cats eat?\n\nAssistant:")
    assert cut.prompt("y", (Turn("user", "a"),)).tokens == codec().prompt("y", (Turn("user", "a"),)).tokens
    assert fits.truncation == TruncationCount(prompts=1)
    assert cut.truncation == TruncationCount(prompts=2, truncated_prompts=1)


def test_the_tokenizer_s_own_begin_token_leads_prompts_and_never_answers() -> None:
    one = codec(begin=True)
    begin = one.tokenizer.bos_token_id
    prompt, answer = one.prompt("x", HI).tokens, one.answer(one.prompt("x", HI), "Fish.", 100).tokens
    assert prompt == (begin, *codec().prompt("x", HI).tokens)  # and the end token that it would add is not there
    assert answer == codec().answer(codec().prompt("x", HI), "Fish.", 100).tokens
    short = codec(len(prompt) - 2, begin=True)
    assert short.prompt("x", HI).tokens == (begin, *plain_ids("\n\nHuman: cats eat?\n\nAssistant:"))
    assert codec().prompt("x", HI).tokens[0] != begin


def test_end_and_pad_tokens() -> None:
    assert (codec().end_token, codec().pad_token) == (1, 2)
    no_pad = PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer, eos_token="<|begin|>")
    assert (TextCodec(no_pad, "hh", 100).end_token, TextCodec(no_pad, "hh", 100).pad_token) == (0, 0)
    with pytest.raises(UserError, match="no end token"):
        TextCodec(PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer), "hh", 100)


def test_a_chat_prompt_goes_through_the_template_and_its_answer_has_no_leading_blank() -> None:
    one = TextCodec(tokenizer(template=TEMPLATE), "chat", 1000)
    turns = (Turn("system", "Be kind."), Turn("user", "Hello"), Turn("user", "there"), Turn("assistant", "Hi"), Turn("user", "Bye"))
    text = "<|begin|><system>Be kind.<|end|><user>Hello\n\nthere<|end|><assistant>Hi<|end|><user>Bye<|end|><assistant>"
    prompt = one.prompt("x", turns).tokens
    assert prompt == plain_ids(text)
    assert one.answer(one.prompt("x", HI), "Fish.", 100).tokens == (*plain_ids("Fish."), one.end_token)
    assert one.prompt("x", turns).tokens == prompt  # encoding an answer leaves no setting behind in the tokenizer
    short = TextCodec(tokenizer(template=TEMPLATE), "chat", len(prompt) - 1)
    left = "<|begin|><system>Be kind.<|end|><user>there<|end|><assistant>Hi<|end|><user>Bye<|end|><assistant>"
    assert short.prompt("x", turns).tokens == plain_ids(left)
    assert short.truncation.truncated_prompts == 1


def test_a_text_that_was_cut_has_no_end_token() -> None:
    """And fits where it is max_tokens long; the same text finished would need one more."""
    one, ids = codec(), plain_ids(" Cats eat")
    assert one.answer(one.prompt("x", HI), "Cats eat", 100, finished=False).tokens == ids
    assert not one.answer(one.prompt("x", HI), "Cats eat", len(ids), finished=False).finished
    assert one.truncation.truncated_answers == 0
    assert one.answer(one.prompt("x", HI), "Cats eat", len(ids) - 1, finished=False).tokens == ids[:-1]
    assert one.truncation.truncated_answers == 1


def test_what_a_judge_reads_is_cut_to_its_longest_answer() -> None:
    """All answers come after one prompt, whose frame stays; within the length nothing is cut."""
    one = codec(begin=True)
    prompt = one.prompt("x", HI)
    short, long = one.answer(prompt, "Fish.", 100), one.answer(prompt, LONG, 100)
    texts = [("Fish.", True), (LONG, True)]
    whole = len(prompt.tokens) + len(long.tokens)
    assert one.judged("x", HI, texts, whole) == (prompt, [short, long])
    cut, answers = one.judged("x", HI, texts, whole - 2)
    shorter = prompt.tokens[0], *plain_ids("\n\nHuman: cats eat?\n\nAssistant:")
    assert cut.tokens == shorter
    assert answers == [short, long]
    alone, _ = one.judged("x", HI, texts[:1], whole - 2)
    assert alone == prompt, "beside the short answer there is room for all of it"
    least, answers = one.judged("x", HI, texts, one.least_prompt_tokens + 2)
    assert least.tokens == (prompt.tokens[0], *plain_ids("\n\nHuman: eat?\n\nAssistant:"))
    assert answers[1].tokens == long.tokens[:2]
    with pytest.raises(UserError, match=r"max_tokens=5: a prompt alone takes \d+"):
        one.judged("x", HI, texts, 5)


@pytest.mark.parametrize("prompt_format", ["hh", "chat"])
def test_a_special_token_spelt_in_a_question_is_plain_text(prompt_format: str) -> None:
    """The template's own marks stay special; without any in the text it is the prompt's ids."""
    both = tokenizer(begin=True, template=TEMPLATE)
    one = TextCodec(both, prompt_format, 1000)  # type: ignore[arg-type]
    assert one.question(HI[0].text).tokens == one.prompt("x", HI).tokens
    said, plain = one.question("a <|end|> b").tokens, one.question("a b").tokens
    ends = one.tokenizer.eos_token_id
    assert said.count(ends) == plain.count(ends) == (prompt_format == "chat")


def test_what_can_t_be_encoded_names_its_place() -> None:
    for turns in ((), (Turn("user", " "),)):
        with pytest.raises(UserError, match="example set-00007: the prompt is empty"):
            codec().prompt("set-00007", turns)
    refusing = tokenizer(template="{{ raise_exception('no system role') }}")
    with pytest.raises(UserError, match=r"example set-00007: the chat template refuses the prompt \(no system role\)"):
        TextCodec(refusing, "chat", 100).prompt("set-00007", HI)
    with pytest.raises(UserError, match=r"no chat template; give model\.prompt_format=hh"):
        TextCodec(tokenizer(), "chat", 10)
    with pytest.raises(UserError, match=r"max_prompt_tokens=5: the shortest prompt in the format hh has \d+"):
        TextCodec(tokenizer(), "hh", 5)


@pytest.mark.skipif(not (REAL / "helpful-base").is_dir(), reason="no HH-RLHF folder; set GRAO_BENCH_HH")
def test_every_real_test_dialogue_concatenates_and_comes_back() -> None:
    one = codec(100_000)
    data = HHData("hh_harmless", "harmless", str(REAL), "Anthropic/hh-rlhf", 0.1, 0, None).build()
    for example in data.test:
        prompt = one.prompt(example.id, example.prompt)
        answer = one.answer(prompt, example.chosen, 100_000)
        assert prompt.tokens + answer.tokens[:-1] == plain_ids(render((*example.prompt, Turn("assistant", example.chosen))))
        assert one.text(answer.tokens) == example.chosen
    assert one.truncation == TruncationCount(prompts=len(data.test), answers=len(data.test))


def test_a_last_word_of_many_tokens_takes_its_room_from_the_answers() -> None:
    """With room for the shortest prompt there can be, a prompt that ends in a word of several
    tokens still has it, and the answers give way."""
    codec = TextCodec(tokenizer(), "hh", 1000)
    turns = (Turn("user", "and then " * 20 + "☃"),)
    snowman = len(codec.prompt("e", (Turn("user", "☃"),)).tokens)
    most = snowman + 4
    prompt, answers = codec.judged("e", turns, [("yes " * 40, True), ("no", True)], most)
    assert codec.decoded(prompt.tokens).endswith("Human: ☃\n\nAssistant:")
    assert [len(prompt.tokens) + len(one.tokens) <= most for one in answers] == [True, True]
    assert (len(answers[0].tokens), answers[0].finished, answers[1].finished) == (4, False, True)
    assert codec.truncation.answers == 2
