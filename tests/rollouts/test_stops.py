"""Stop strings: an answer ends before one, finished, in every engine, wherever in its tokens it
begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import isfinite

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, Sampling
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Prompt, Turn
from grao_bench.evaluation.answers import Evaluator
from grao_bench.models.load import load_causal_lm
from grao_bench.objectives import load_objective
from grao_bench.rollouts.ends import StopStrings, ended
from grao_bench.rollouts.scripted import ScriptedRollout
from grao_bench.runs.check import check
from grao_bench.text.tokens import TextCodec
from grao_bench.training.collect import collect
from grao_bench.training.loop import prepared, update

from ..cells import cell
from ..pretrained import pretrained
from ..small import synced, tiny_llama
from ..training import setting
from .test_engines import tokens

HUMAN = "\n\nHuman:"
END = "<|end|>"
# as bytes: what a byte-level vocabulary holds. The two of an "é", and four of a "😀", are apart
PIECES = [" 7", "7", " a", "b", "\n", "\n\n", ".\n\n", ".\n\nHum", "Human", "an", ":", "an: c"]
PIECES += [HUMAN]
BYTES = [b"\xc3", b"\xa9", *(bytes([b]) for b in "😀".encode()), b"\xa9\n\nHum"]


def wrapped(vocabulary: dict[str, int], decoder, **fields) -> PreTrainedTokenizerFast:
    one = Tokenizer(models.BPE(vocabulary, [], **fields))
    one.decoder = decoder
    one.add_special_tokens([END, "<|pad|>", "<|mark|>"])
    return PreTrainedTokenizerFast(tokenizer_object=one, eos_token=END, pad_token="<|pad|>")


@cache
def byte_level() -> TextCodec:
    letters = bytes_to_unicode()
    words = [*(piece.encode() for piece in PIECES), *BYTES]
    vocabulary = {"".join(letters[b] for b in word): n for n, word in enumerate(words)}
    return TextCodec(wrapped(vocabulary, decoders.ByteLevel()), "hh", 64)


@cache
def metaspace() -> TextCodec:
    """SentencePiece's kind: a blank is "▁", left out in front of a text; the rest are bytes."""
    words = [piece.replace(" ", "▁") for piece in PIECES]
    words += [f"<0x{b:02X}>" for b in range(256)]
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    vocabulary = {word: n for n, word in enumerate(words)}
    return TextCodec(wrapped(vocabulary, decoder, byte_fallback=True), "hh", 64)


CODECS = {"byte_level": byte_level, "metaspace": metaspace}
every_codec = pytest.mark.parametrize("codec", [make() for make in CODECS.values()], ids=CODECS)


def ids_of(codec: TextCodec, *parts: str | bytes) -> list[int]:
    """The ids of these pieces, by name; bytes one by one."""
    vocabulary, letters = codec.tokenizer.get_vocab(), bytes_to_unicode()
    found = []
    for part in parts:
        if isinstance(part, bytes):
            names = [f"<0x{b:02X}>" for b in part]
            names = names if names[0] in vocabulary else [letters[b] for b in part]
            found += [vocabulary[name] for name in names]
        else:
            spelled = "".join(letters[b] for b in part.encode())
            known = [name for name in (part, spelled, part.replace(" ", "▁")) if name in vocabulary]
            found.append(vocabulary[known[0]])
    return found


@every_codec
@pytest.mark.parametrize(
    ("parts", "kept", "text"),
    [
        ([" a", " 7", "\n\n", "Human", ":", " 7"], 2, "a 7"),
        ([" a", " 7", HUMAN, " 7"], 2, "a 7"),
        ([" a", " 7", "\n", "\n", "Human", ":"], 2, "a 7"),
        # the stop string begins within a token, of which the text keeps its part; ends within one
        ([" a", " 7", ".\n\n", "Human", ":"], 2, "a 7."),
        ([" a", " 7", ".\n\nHum", "an: c", "b"], 2, "a 7."),
        ([".\n\n", "Human", ":"], 1, "."),
        # a line break of the answer's own stays where it is a token by itself
        ([" a", " 7", "\n", "\n\n", "Human", ":"], 3, "a 7"),
        # a character of two and of four tokens
        ([" a", b"\xc3\xa9", "\n\n", "Human", ":"], 3, "a\u00e9"),
        ([" a", "😀".encode(), "\n\n", "Human", ":"], 5, "a😀"),
        # nothing before it: the first id stays, and the text is empty
        (["\n\n", "Human", ":", " 7"], 1, ""),
        ([HUMAN], 1, ""),
    ],
)
def test_an_answer_ends_before_the_stop_string(codec, parts, kept, text):
    """By hand. The text is stripped as every answer's is."""
    ids = ids_of(codec, *parts)
    assert ended(ids, codec, StopStrings(codec, [HUMAN])) == (tuple(ids[:kept]), text, True)


def test_a_character_across_the_border_is_left_out():
    """[0xC3] [0xA9 and the stop string's beginning]: half a character is no text of the ids'."""
    codec = byte_level()
    joined = len(PIECES) + len(BYTES) - 1
    ids = [*ids_of(codec, " a", b"\xc3"), joined, *ids_of(codec, "an", ":")]
    assert codec.decoded(ids) == " aé\n\nHuman:"
    assert ended(ids, codec, StopStrings(codec, [HUMAN])) == (tuple(ids[:1]), "aé", True)


@every_codec
@pytest.mark.parametrize(
    "parts",
    [
        [" a", " 7", "\n", "Human", ":"],  # one line break
        [" a", "\n\n", "Human", " 7", ":"],
        [" a", "\n\n", "Human"],  # not yet
        ["Human", ":", " 7"],
        [" a", "\n\n", "<|mark|>", "Human", ":"],  # a control token lies within
    ],
)
def test_what_is_no_stop_string_goes_on(codec, parts):
    ids = ids_of(codec, *parts)
    assert ended(ids, codec, StopStrings(codec, [HUMAN]))[::2] == (tuple(ids), False)


def test_whatever_comes_first_ends_an_answer():
    codec = byte_level()
    end = [codec.end_token]
    first = ids_of(codec, " a", " 7")
    later = ids_of(codec, "\n\n", "Human", ":")
    stops = StopStrings(codec, [HUMAN, "7"])
    assert ended([*ids_of(codec, " a"), *end, *later], codec, stops) == (
        (*ids_of(codec, " a"), *end),
        "a",
        True,
    )
    # of two stop strings, the one that begins first; " 7" holds the other
    assert ended([*first, *later], codec, stops) == (tuple(ids_of(codec, " a")), "a", True)
    assert ended([*first, *end], codec, StopStrings(codec, [])) == ((*first, *end), "a 7", True)


def by_definition(ids: Sequence[int], codec: TextCodec, strings: Sequence[str]) -> tuple:
    """The same without any short cut: the whole text anew at every token."""
    for t in range(1, len(ids) + 1):
        if ids[t - 1] in codec.stop_tokens:
            return tuple(ids[:t]), True
        text = codec.decoded(ids[:t])
        found = [text.find(string) for string in strings if string in text]
        if found:
            before = text[: min(found)]
            longest = max(m for m in range(t) if before.startswith(codec.decoded(ids[:m])))
            return tuple(ids[: max(1, longest)]), True
    return tuple(ids), False


@every_codec
@pytest.mark.parametrize(
    "strings",
    [[HUMAN], ["7", "an"], ["é"], ["a "], ["\n"], ["😀", "b\n\n"]],
)
def test_short_cuts_change_nothing(codec, strings):
    """Random ids of every kind, so that stop strings lie across tokens in every way."""
    random = torch.Generator().manual_seed(0)
    pool = [*range(len(PIECES)), *ids_of(codec, "é😀".encode()), codec.end_token]
    pool += [len(PIECES) + len(BYTES) - 1] if codec is byte_level() else []
    stops, seen = StopStrings(codec, strings), set()
    for length in range(300):
        chosen = torch.randint(len(pool), (1 + length % 24,), generator=random).tolist()
        ids = [pool[place] for place in chosen]
        kept, _, finished = ended(ids, codec, stops)
        assert (kept, finished) == by_definition(ids, codec, strings)
        seen.add((finished, kept[-1] == codec.end_token))
    assert len(seen) == 3


# --- the engines ---

WARM = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=24)
STOP = replace(WARM, stop=("an", "\n\n", "é"))
PROMPTS = [Prompt("one", (1, 2, 3)), Prompt("two", (8,)), Prompt("three", (7, 7))]


def engine(name: str, model, answers_per_call: int = 256):
    spec = load(f"rollout/{name}", answers_per_call=answers_per_call)
    return synced(spec.build(byte_level()), model)


def flat(rows):
    return [answer for row in rows for answer in row]


def byte_model():
    codec = byte_level()
    return tiny_llama(vocab=len(codec.tokenizer), eos_token_id=codec.end_token).double()


@pytest.mark.parametrize("name", ["shared_prefix", "transformers"])
def test_engines_cut_what_they_would_have_drawn(name):
    """Random numbers are the same with and without them; log-probabilities are cut alike."""
    model, codec = byte_model(), byte_level()
    free = engine(name, model).sample(PROMPTS, 40, WARM, 0)
    cut = engine(name, model).sample(PROMPTS, 40, STOP, 0)
    stopped = 0
    for before, after in zip(flat(free), flat(cut), strict=True):
        kept, finished = by_definition(before.tokens, codec, STOP.stop)
        assert (after.tokens, after.finished) == (kept, finished)
        said = codec.decoded(kept[1:] if len(kept) == 1 else kept)
        assert not any(string in said for string in STOP.stop)
        if name == "shared_prefix":
            assert after.logp == before.logp[: len(kept)]
            assert after.sampler_logp == before.sampler_logp[: len(kept)]
        stopped += kept[-1] != codec.end_token and finished
    assert stopped > 40


def test_both_engines_stop_at_the_same_place():
    """Greedily, where their draws are the same."""
    greedy = replace(STOP, temperature=0.0)
    prompts = [Prompt(str(n), (n, 3 * n % 17, 5)) for n in range(17)]
    said = []
    for name in ("shared_prefix", "transformers"):
        drawn = flat(engine(name, byte_model()).sample(prompts, 1, greedy, 0))
        said.append([(each.tokens, each.text, each.finished) for each in drawn])
    assert said[0] == said[1]
    assert {done for _, _, done in said[0]} == {True, False}


@pytest.mark.parametrize("slots", [1, 5, 256])
def test_stops_do_not_depend_on_what_is_beside(slots):
    """Neither on the order, nor on how many rows are decoded together."""
    model = byte_model()
    whole = engine("shared_prefix", model).sample(PROMPTS, 12, STOP, 3)
    turned = engine("shared_prefix", model, slots).sample(PROMPTS[::-1], 12, STOP, 3)
    assert tokens(turned[::-1]) == tokens(whole)


# --- what it means for a run ---

TURN = (Turn("user", "How much is 3 + 4?"),)
RUNS_ON = "The answer is 7.\n\nHuman: What is 3+5?"


def test_a_number_in_an_invented_turn_is_not_read():
    """The answer is 7; with the turn that the model went on with, the last number would be 5."""
    scripted = ScriptedRollout(answers={"*": [RUNS_ON]}, temperature=1.0, top_p=1.0)
    codec = words_and_bytes()
    example = Example("sum", TURN, chosen="7")
    evaluator = Evaluator(codec, Sampling(1.0, 1.0, 96, stop=(HUMAN,)), store_text=True)
    ((answer,),) = evaluator.draw(synced(scripted.build(codec), None), [example], 0)
    assert (answer.text, answer.finished) == ("The answer is 7.", True)
    assert codec.end_token not in answer.tokens
    rule = load("reward/verifiable", rule="numeric").build(load("data/world_helpful"))
    asked = [RewardRequest(example, text, True) for text in (answer.text, RUNS_ON)]
    assert [verdict.reward for verdict in rule.score(asked)] == [1.0, 0.0]


@cache
def words_and_bytes() -> TextCodec:
    """A byte each: whatever is scripted can be encoded."""
    letters = bytes_to_unicode()
    vocabulary = {letter: n for n, letter in letters.items()}
    one = wrapped(vocabulary, decoders.ByteLevel())
    one.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return TextCodec(one, "hh", 64)


@pytest.mark.parametrize("name", ["ppo", "grpo", "dapo", "gspo", "grao"])
def test_an_answer_that_begins_with_the_stop_string_can_be_trained_on(name):
    """All four answers of a prompt do. Each keeps a token, so that what was drawn first learns."""
    spec = replace(load_objective(name), rollouts=4)
    codec, model = words_and_bytes(), tiny_llama(vocab=259, max_position_embeddings=256)
    policy = setting.policy(spec)
    policy.model = model.double()
    trainer = setting.trainer(spec, policy)
    script = {"*": [f"{HUMAN} hi", "good", "bad", "good good"], "same": [f"{HUMAN} hi"]}
    scripted = ScriptedRollout(answers=script, temperature=1.0, top_p=1.0)
    collector = replace(
        setting.collector(spec, policy),
        codec=codec,
        engine=synced(scripted.build(codec), model),
        reference=policy,
        sampling=Sampling(1.0, 1.0, 32, stop=(HUMAN.strip(),)),
        max_answer_tokens=32,
    )
    batch, metrics = collect(collector, policy, setting.EXAMPLES, spec.needs, spec.updates, 0)
    rollouts = batch.columns("rollout")
    assert batch.finished[:, rollouts].all()
    assert metrics["truncated"] == 0
    assert batch.mask[:, rollouts].sum(-1)[0].tolist() == [1, 6, 5, 11]
    metrics = update(trainer, prepared(spec, batch), value_only=False)
    assert all(isfinite(value) for value in metrics.values())


def test_the_formats_own_stop_string(tmp_path):
    """In hh the user's next turn, in chats none; rollout.stop says otherwise, evaluation follows."""
    one = cell("grpo", tmp_path)
    assert one.sampling.stop == one.evaluation_sampling.stop == (HUMAN,)
    chat = replace(one, model=load("model/hf", path="somewhere"))
    assert chat.sampling.stop == ()
    told = replace(one, rollout=replace(one.rollout, stop=["###"]))
    assert told.sampling.stop == told.evaluation_sampling.stop == ("###",)
    assert replace(one, rollout=replace(one.rollout, stop=[])).sampling.stop == ()


def test_a_stop_string_is_a_text(tmp_path):
    one = cell("grpo", tmp_path)
    with pytest.raises(UserError, match=r"rollout.stop=\[''\]: must be texts of at least a char"):
        check(replace(one, rollout=replace(one.rollout, stop=[""])))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shared_prefix", "transformers"])
def test_a_real_base_invents_no_turn_of_the_users(name, tmp_path):
    """Gemma 3 270M, which goes on with one in 14 of 16 answers when nothing stops it."""
    spec = load("model/hf", path=str(pretrained("gemma")), prompt_format="hh", device="cpu")
    one = replace(cell("grpo", tmp_path), model=spec)
    asked = ["Why is the sky blue?", "Name a fruit.", "How do I boil an egg?", "What is 2 + 2?"]
    model, tokenizer = load_causal_lm(spec.path, "float32", "cpu")
    codec = TextCodec(tokenizer, "hh", 256)
    prompts = [codec.prompt(str(n), [Turn("user", each)]) for n, each in enumerate(asked)]
    sampler = synced(load(f"rollout/{name}").build(codec), model)
    sampling = replace(one.sampling, max_new_tokens=64)
    free = flat(sampler.sample(prompts, 2, replace(sampling, stop=()), 0))
    cut = flat(sampler.sample(prompts, 2, sampling, 0))
    assert sum("Human:" in answer.text for answer in free) >= 2
    assert sum("Human:" in answer.text for answer in cut) == 0
    assert sum(answer.finished for answer in cut) >= 2
