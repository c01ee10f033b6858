"""The shared-prefix engine: exact on every architecture, each prompt computed once, rows dropped and refilled, draws free of the batch."""

from __future__ import annotations

import inspect
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MethodType

import pytest
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3

from benchmarks.forced import ForcedLengths
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Sampling
from grao_bench.core.specs import load
from grao_bench.core.types import Answer, Prompt
from grao_bench.rollouts.cache import EAGER, GRAPHED, AnswerCache
from grao_bench.rollouts.decoder import cache_argument
from grao_bench.rollouts.shared_prefix import SharedPrefixEngine
from grao_bench.rollouts.transformers import TransformersEngine
from grao_bench.text.tokens import TextCodec

from ..small import END, FAMILIES, WORDS, synced, tiny_llama, tiny_qwen2, word_tokenizer

PROMPTS = [Prompt("long", (6, 7, 8, 9, 10, 11, 12)), Prompt("short", (13,)), Prompt("middle", (9, 9, 6))]
WARM = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=12)
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=40)

every_family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)


def codec(stop_tokens: tuple[int, ...] = ()) -> TextCodec:
    return TextCodec(word_tokenizer(), "hh", 64, stop_tokens)


def engine(model: object, answers_per_call: int = 256, stop_tokens: tuple[int, ...] = ()) -> SharedPrefixEngine:
    return synced(SharedPrefixEngine(codec(stop_tokens), answers_per_call), model)


def force(sampler: SharedPrefixEngine, lengths: Callable[[str, int], int]) -> None:
    """Answers of (prompt id, sample index) get that many tokens."""
    sampler.draws = ForcedLengths(sampler.draws, lengths, sampler.codec)


def exact(model):
    """The model in float64, with DeepSeek's router too: transformers has it in float32, whose rounding depends on the batch."""
    for module in model.double().modules():
        if isinstance(module, modeling_deepseek_v3.DeepseekV3TopkRouter):
            source = textwrap.dedent(inspect.getsource(type(module).forward)).replace("torch.float32", "torch.float64")
            scope = dict(vars(modeling_deepseek_v3))
            exec(source, scope)
            module.forward = MethodType(scope["forward"], module)
    return model


def tokens(drawn: list[list[Answer]]) -> list[list[tuple[int, ...]]]:
    return [[answer.tokens for answer in row] for row in drawn]


def plain_logits(model, prompt: Prompt, answer: Answer) -> torch.Tensor:
    """Logits [T V] of the answer's positions: one unpadded sequence, no cache, SDPA."""
    ids = torch.tensor([[*prompt.tokens, *answer.tokens]])
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits[0, len(prompt.tokens) - 1 : -1]


@contextmanager
def watched(model) -> Iterator[list[torch.Tensor]]:
    """The input ids of every forward pass."""
    seen: list[torch.Tensor] = []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["input_ids"].clone()), with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


# --- exactness ---


@every_family
@pytest.mark.parametrize("answers_per_call", [256, 5])
def test_log_probabilities_are_a_plain_forwards_to_1e_12(make, answers_per_call):
    """In float64, with rows that finish, move and are refilled; prompts longer than Gemma's sliding window of 3."""
    model, plain = exact(make(seed=1)), exact(make(seed=1))
    assert plain.config._attn_implementation == "sdpa"
    sampling = Sampling(0.7, 1.0, 20)
    drawn = engine(model, answers_per_call).sample(PROMPTS, 4, sampling, 0)
    assert len({len(answer.tokens) for row in drawn for answer in row}) > 3
    for prompt, row in zip(PROMPTS, drawn, strict=True):
        for answer in row:
            logits = plain_logits(plain, prompt, answer)
            index = torch.tensor(answer.tokens)[:, None]
            raw, sampler = (x.log_softmax(-1).gather(1, index)[:, 0] for x in (logits, logits / 0.7))
            assert (torch.tensor(answer.logp, dtype=torch.float64) - raw).abs().max() <= 1e-12
            assert (torch.tensor(answer.sampler_logp, dtype=torch.float64) - sampler).abs().max() <= 1e-12


@every_family
def test_greedy_answers_are_those_of_generate(make):
    """Token for token in float32, the two engines on two copies of the model. A few hundred tokens of each architecture."""
    prompts = [*PROMPTS, *(Prompt(f"e{i}", tuple(6 + (i * j) % 8 for j in range(1, 3 + 2 * i))) for i in range(8))]
    ours = engine(make(seed=6), 4).sample(prompts, 1, GREEDY, 0)
    theirs = synced(TransformersEngine(codec(), 4), make(seed=6)).sample(prompts, 1, GREEDY, 0)
    assert tokens(ours) == tokens(theirs)
    assert sum(len(row[0].tokens) for row in ours) > 60


@every_family
def test_the_draw_does_not_depend_on_the_batch(make):
    """In float64, where rounding decides nothing: any number of slots, n, order or company gives the same answers."""
    model = exact(make(seed=2))
    together = dict(zip([prompt.id for prompt in PROMPTS], tokens(engine(model).sample(PROMPTS, 6, WARM, 4)), strict=True))
    for slots in (1, 4, 7):
        assert tokens(engine(model, slots).sample(PROMPTS[::-1], 6, WARM, 4)) == [together[p.id] for p in PROMPTS[::-1]]
    for prompt in PROMPTS:
        assert tokens(engine(model).sample([prompt], 2, WARM, 4)) == [together[prompt.id][:2]]


def test_in_float32_rounding_seldom_changes_an_answer():
    """Below one answer in a thousand between two numbers of slots: 3,000 answers of up to 12 tokens over a vocabulary of 500."""
    model = tiny_qwen2(vocab=500)
    prompts = [Prompt(f"e{i}", tuple(6 + (i * j) % 400 for j in range(1, 2 + i % 9))) for i in range(40)]
    at_once, in_turn = (tokens(engine(model, slots).sample(prompts, 75, WARM, 0)) for slots in (3000, 250))
    pairs = [(a, b) for first, second in zip(at_once, in_turn, strict=True) for a, b in zip(first, second, strict=True)]
    assert len(pairs) == 3000
    assert sum(len(a) for a, _ in pairs) > 6_000
    assert sum(a != b for a, b in pairs) / len(pairs) < 1e-3


# --- what is computed ---


@pytest.mark.parametrize(("slots", "packs"), [(256, [11]), (20, [4, 7]), (2, [1, 3, 7])])
def test_each_prompt_is_computed_once_without_padding(slots, packs):
    """Ten answers to each of three prompts of 1, 3 and 7 tokens: as many prompts per pass as there are slots for, shortest first."""
    model = tiny_llama()
    with watched(model) as seen:
        engine(model, slots).sample(PROMPTS, 10, Sampling(1.0, 1.0, 3), 0)
    prompts = [ids[0].tolist() for ids in seen if ids.shape[1] > 1 or ids.tolist() == [[13]]]
    assert [len(ids) for ids in prompts] == packs
    assert [token for ids in prompts for token in ids] == [13, 9, 9, 6, 6, 7, 8, 9, 10, 11, 12]


def test_finished_rows_are_not_computed():
    """Forced lengths 1 to 64: each step computes the rows that are left, rounded up to 8 (below 8, to a power of two)."""
    model = tiny_llama(max_position_embeddings=128)
    sampler = engine(model)
    force(sampler, lambda _, sample: sample + 1)
    with watched(model) as seen:
        drawn = sampler.sample([Prompt("e", (6, 7, 8))], 64, Sampling(1.0, 1.0, 100), 0)
    assert [len(answer.tokens) for answer in drawn[0]] == list(range(1, 65))
    left = list(range(63, 0, -1))
    rows = [len(ids) for ids in seen[1:]]
    assert len(rows) == 63
    assert rows == [min(64, -(-n // 8) * 8) if n > 4 else {1: 1, 2: 2, 3: 4, 4: 4}[n] for n in left]


def test_waiting_prompts_keep_the_slots_busy():
    """200 prompts through 16 slots: without refilling each batch of 16 would run to its longest answer."""
    model = tiny_llama(max_position_embeddings=128)
    sampler = engine(model, 16)
    lengths = {f"e{i}": 1 + (i * 37) % 60 for i in range(200)}
    force(sampler, lambda example, _: lengths[example])
    prompts = [Prompt(example, (6, 7, 8, 9)[: 1 + i % 4]) for i, example in enumerate(lengths)]
    with watched(model) as seen:
        drawn = sampler.sample(prompts, 1, Sampling(1.0, 1.0, 64), 0)
    assert [len(row[0].tokens) for row in drawn] == list(lengths.values())
    steps = [len(ids) for ids in seen if ids.shape[1] == 1 and len(ids) > 1]
    needed = sum(lengths.values()) - len(lengths)
    drained = sum(max(list(lengths.values())[i : i + 16]) for i in range(0, 200, 16))
    assert len(steps) < 0.7 * drained
    assert needed <= sum(steps) < 1.25 * needed
    assert max(steps) == 16


def test_more_answers_than_slots_share_one_prefill():
    with watched(model := tiny_llama()) as seen:
        drawn = engine(model, 3).sample([PROMPTS[0]], 10, WARM, 0)
    assert sum(ids.shape[1] == 7 for ids in seen) == 1
    assert max(len(ids) for ids in seen) <= 3
    assert tokens(drawn) == tokens(engine(tiny_llama()).sample([PROMPTS[0]], 10, WARM, 0))


@pytest.mark.parametrize(("slots", "buckets", "room"), [(256, EAGER, 16), (7, EAGER, 7), (256, GRAPHED, 27)])
def test_a_call_keeps_room_for_as_many_prompts_as_it_has(slots, buckets, room):
    """Nine prompts, rounded up to 16, and not the 27 rows of their answers; but as many as rows where answers begin in turns, or where
    another call with other prompts may follow."""
    sampler = engine(tiny_llama(), slots)
    sampler.buckets, make, made = buckets, sampler.decoder, []
    sampler.decoder = lambda *capacity: made.append(make(*capacity)) or made[-1]
    sampler.sample([Prompt(f"e{i}", (6, 7, 8)[: 1 + i % 3]) for i in range(9)], 3, WARM, 0)
    (decoder,) = made
    assert {buffer.shape[0] for layer in decoder.cache._prompts for buffer in layer} == {room}


# --- the cache, by the name that the model's forward has for it ---


@every_family
def test_no_argument_is_deprecated(make):
    """In newer transformers `past_key_values` is, and from 5.40 on nothing takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert engine(make()).sample(PROMPTS, 2, WARM, 0)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_goes_by_the_models_name_for_it(name, monkeypatch):
    """A model whose forward takes only one of the names decodes as the family's own does."""
    model, seen = tiny_qwen2(), []
    forward, installed = model.forward, cache_argument(model)

    def renamed(given=None, **others):
        assert not {"cache", "past_key_values"} & set(others)
        seen.append(given)
        return forward(**others, **{installed: given})

    source = f"lambda *, {name}=None, **others: renamed({name}, **others)"
    monkeypatch.setattr(model, "forward", eval(source, {"renamed": renamed}))
    same = tokens(engine(tiny_qwen2()).sample(PROMPTS, 2, WARM, 0))
    assert tokens(engine(model).sample(PROMPTS, 2, WARM, 0)) == same
    assert any(isinstance(cache, AnswerCache) for cache in seen)


# --- how an answer ends ---


def test_an_answer_ends_at_any_of_the_stop_tokens():
    stops = (9, 12)
    drawn = [answer for row in engine(tiny_llama(), stop_tokens=stops).sample(PROMPTS, 100, WARM, 3) for answer in row]
    ends = {answer.tokens[-1] for answer in drawn if answer.finished}
    assert ends == {END, *stops}
    for answer in drawn:
        assert answer.finished == (answer.tokens[-1] in ends)
        assert not ends & set(answer.tokens[:-1])
        assert len(answer.tokens) == 12 or answer.finished
        assert answer.text == " ".join(WORDS[token] for token in answer.tokens[: -1 if answer.finished else None])


def test_both_engines_stop_at_the_same_tokens():
    ours = engine(tiny_llama(seed=5), stop_tokens=(9, 12)).sample(PROMPTS, 1, GREEDY, 0)
    theirs = synced(TransformersEngine(codec((9, 12)), 256), tiny_llama(seed=5)).sample(PROMPTS, 1, GREEDY, 0)
    assert tokens(ours) == tokens(theirs)
    assert [row[0].finished for row in ours] == [row[0].finished for row in theirs]
    assert any(row[0].tokens[-1] in (9, 12) for row in ours)


@pytest.mark.parametrize("slots", [256, 4])
def test_past_the_deadline_answers_come_as_they_are(slots):
    """A deadline in the past: one token each, also for prompts that had not begun; what is not an end token is unfinished."""
    drawn = synced(SharedPrefixEngine(codec(), slots, max_seconds=0.0), tiny_llama()).sample(PROMPTS, 20, WARM, 0)
    whole = engine(tiny_llama()).sample(PROMPTS, 20, WARM, 0)
    assert tokens(drawn) == [[answer.tokens[:1] for answer in row] for row in whole]
    assert {answer.finished for row in drawn for answer in row} == {True, False}
    assert all(answer.finished == (answer.tokens[-1] == END) and len(answer.logp) == 1 for row in drawn for answer in row)


@pytest.mark.parametrize("name", ["shared_prefix", "transformers"])
def test_settings_leave_rows_and_time(name):
    spec = load(f"rollout/{name}", answers_per_call=8, max_seconds=0.0)
    with pytest.raises(UserError, match=r"rollout\.max_seconds=0\.0: must be above 0"):
        spec.build(codec())
    with pytest.raises(UserError, match=r"rollout\.answers_per_call=0: must be at least 1"):
        replace(spec, answers_per_call=0).build(codec())


def test_generate_has_a_deadline_too():
    drawn = synced(TransformersEngine(codec(), 256, max_seconds=0.0), tiny_llama()).sample(PROMPTS, 20, WARM, 0)
    assert {len(answer.tokens) for row in drawn for answer in row} == {1}


def test_lengths_can_be_forced():
    """Ended exactly there and never before; one beyond max_new_tokens is cut, unfinished. Other tokens are still the model's."""
    wanted = {("long", 0): 3, ("long", 1): 12, ("short", 0): 13, ("short", 1): 1, ("middle", 0): 7, ("middle", 1): 500}
    sampler = engine(tiny_llama())
    force(sampler, lambda example, sample: wanted[example, sample])
    drawn = sampler.sample(PROMPTS, 2, WARM, 0)
    for prompt, row in zip(PROMPTS, drawn, strict=True):
        for sample, answer in enumerate(row):
            length = wanted[prompt.id, sample]
            assert len(answer.tokens) == min(length, 12)
            assert answer.finished == (length <= 12)
            assert END not in answer.tokens[:-1]
            logits = plain_logits(tiny_llama(), prompt, answer)
            expected = logits.log_softmax(-1).gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
            assert answer.logp == pytest.approx(expected.tolist(), abs=1e-5)


# --- bad input ---


@pytest.mark.parametrize("kind", [SharedPrefixEngine, TransformersEngine])
def test_bad_input_names_the_example(kind):
    model, bad = tiny_llama(), Prompt("row 9", (6, 7))
    with pytest.raises(UserError, match=r"example row 9: the tokenizer's id 14 is not in the model's vocabulary of 14"):
        synced(kind(codec(), 256), model).sample([PROMPTS[0], Prompt("row 9", (6, 14))], 2, WARM, 0)
    with pytest.raises(UserError, match=r"example row 9: the tokenizer's id 99 is not in the model's vocabulary of 14"):
        synced(kind(codec((99,)), 256), model).sample([bad], 2, WARM, 0)
    with pytest.raises(UserError, match=r"example row 9: budget\.max_answer_tokens=0: must be at least 1"):
        synced(kind(codec(), 256), model).sample([bad], 2, Sampling(1.0, 1.0, 0), 0)


@pytest.mark.parametrize("kind", [SharedPrefixEngine, TransformersEngine])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logits_that_are_not_numbers_name_the_example(temperature, kind):
    """The embedding of token 8 is not a number: only the prompt that has it is to blame."""
    model = tiny_llama(tie_word_embeddings=False)
    with torch.no_grad():
        model.model.embed_tokens.weight[8] = torch.nan
    with pytest.raises(UserError, match="example long: the policy's logits are not numbers"):
        synced(kind(codec(), 256), model).sample([PROMPTS[1], PROMPTS[0], PROMPTS[2]], 3, Sampling(temperature, 1.0, 1), 0)
    assert synced(kind(codec(), 256), model).sample(PROMPTS[1:], 3, Sampling(temperature, 1.0, 1), 0)


@every_family
@pytest.mark.parametrize("slots", [5, 16, 256])
def test_coarse_shapes_change_no_token(make, slots):
    """What a GPU's graphs are recorded on: rows and prompts rounded up to powers, on whatever device."""
    model = exact(make())
    coarse = engine(model, slots)
    coarse.buckets = GRAPHED

    assert tokens(coarse.sample(PROMPTS, 6, WARM, 0)) == tokens(engine(model).sample(PROMPTS, 6, WARM, 0))
