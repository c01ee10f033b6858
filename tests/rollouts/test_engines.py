"""The contract of every rollout engine, on a tiny random model whose distributions are known exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import GenerationConfig

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RolloutEngine, Sampling
from grao_bench.core.specs import load
from grao_bench.core.types import Prompt, Turn
from grao_bench.rollouts.scripted import ScriptedRollout
from grao_bench.text.tokens import TextCodec

from ..small import END, WORDS, synced, tiny_llama, tiny_qwen2, word_tokenizer

V = len(WORDS)
PROMPTS = [Prompt("long", (6, 7, 8, 9, 10, 11, 12)), Prompt("short", (13,)), Prompt("middle", (9, 9, 6))]
WARM = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=12)
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=12)
SCRIPT = {"long": ["red green", "blue"], "*": ["one two three", "good " * 40]}
SPECS = ("transformers", "shared_prefix")

every_sampler = pytest.mark.parametrize("name", SPECS)
every_engine = pytest.mark.parametrize("name", [*SPECS, "scripted"])


def codec(pad: str = "<|pad|>") -> TextCodec:
    return TextCodec(word_tokenizer(pad), "hh", 64)


def engine(name: str, model: object = None, answers_per_call: int = 256, pad: str = "<|pad|>") -> RolloutEngine:
    model = tiny_llama() if model is None else model
    if name == "scripted":
        return ScriptedRollout(answers=SCRIPT, temperature=1.0, top_p=1.0).build(codec(pad))
    spec = load(f"rollout/{name}", answers_per_call=answers_per_call)
    return synced(spec.build(codec(pad)), model)


def tokens(drawn: Sequence[Sequence[object]]) -> list[list[tuple[int, ...]]]:
    return [[answer.tokens for answer in row] for row in drawn]


@every_engine
def test_it_is_an_engine(name):
    assert isinstance(engine(name), RolloutEngine)


@every_engine
def test_no_answers_asked_for_are_no_answers(name):
    """SFT and DPO sample nothing: an empty list for each prompt, and no check of the prompts."""
    assert engine(name).sample([*PROMPTS, Prompt("empty", ())], 0, WARM, 0) == [[], [], [], []]
    assert engine(name).sample([], 4, WARM, 0) == []


@every_engine
def test_answers_come_in_the_prompts_order_and_number(name):
    drawn = engine(name).sample(PROMPTS, 5, WARM, 0)
    assert [len(row) for row in drawn] == [5, 5, 5]
    alone = [engine(name).sample([prompt], 2, GREEDY, 0)[0][0].tokens for prompt in PROMPTS]
    assert len(set(alone)) > 1
    assert [row[0].tokens for row in engine(name).sample(PROMPTS, 2, GREEDY, 0)] == alone


@every_engine
@pytest.mark.parametrize("pad", ["<|pad|>", "<|end|>"])
def test_an_answer_ends_with_its_end_token_or_is_unfinished(name, pad):
    """|x| counts the end token of a finished answer; a truncated one has none and max_new_tokens tokens. A pad token that is the end
    token is not counted twice."""
    drawn = [answer for row in engine(name, pad=pad).sample(PROMPTS, 64, WARM, 3) for answer in row]
    for answer in drawn:
        assert answer.finished == (answer.tokens[-1] == END)
        assert END not in answer.tokens[:-1]
        assert len(answer.tokens) == WARM.max_new_tokens or answer.finished
        assert len(answer.tokens) <= WARM.max_new_tokens
        assert answer.text == codec(pad).text(answer.tokens)
    assert {answer.finished for answer in drawn} == {True, False}


@every_engine
def test_the_same_seed_gives_the_same_answers(name):
    """Whatever was drawn before, by the engine or from torch's own generator, which is left as it was."""
    first = engine(name)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    drawn = first.sample(PROMPTS, 8, WARM, 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    first.sample(PROMPTS, 3, WARM, 6)
    assert first.sample(PROMPTS, 8, WARM, 5) == drawn == engine(name).sample(PROMPTS, 8, WARM, 5)


@every_sampler
def test_answers_differ_by_seed_by_sample_and_by_prompt(name):
    twins = [Prompt("a", (9, 9, 6)), Prompt("b", (9, 9, 6))]
    rows = tokens(engine(name).sample(twins, 8, WARM, 0)) + tokens(engine(name).sample(twins, 8, WARM, 1))
    assert len({tuple(row) for row in rows}) == 4
    assert all(len(set(row)) > 3 for row in rows)


def greedy_by_hand(model, prompt: Prompt, length: int) -> tuple[int, ...]:
    """The most likely token, one plain forward pass at a time, to the end token or the length."""
    ids = list(prompt.tokens)
    while len(ids) < len(prompt.tokens) + length:
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == END:
            break
    return tuple(ids[len(prompt.tokens) :])


@every_sampler
@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen2])
def test_greedy_is_the_most_likely_token_each_time(name, make):
    """Padded, batched and cached against none of it, and against Hugging Face's own generate one prompt at a time."""
    model = make(seed=2).double()
    drawn = engine(name, model).sample(PROMPTS, 2, GREEDY, 0)
    expected = [greedy_by_hand(model, prompt, GREEDY.max_new_tokens) for prompt in PROMPTS]
    assert tokens(drawn) == [[each, each] for each in expected]
    for prompt, each in zip(PROMPTS, expected, strict=True):
        generated = model.generate(
            input_ids=torch.tensor([prompt.tokens]), do_sample=False, max_new_tokens=12, eos_token_id=END, pad_token_id=1
        )
        assert tuple(generated[0, len(prompt.tokens) :].tolist()) == each


def kept(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The distribution [V] that sampling is from: the softmax at the temperature, of which the top_k likeliest tokens are kept, of those
    the fewest that reach top_p, of those the ones at least min_p times as likely as the likeliest."""
    probs = (logits.double() / sampling.temperature).softmax(-1)
    ranked = sorted(range(V), key=lambda token: -probs[token])[: sampling.top_k or V]
    reach = sampling.top_p * probs[ranked].sum().item()
    mass, nucleus = 0.0, []
    for token in ranked:
        if mass >= reach:
            break
        nucleus.append(token)
        mass += probs[token].item()
    nucleus = [token for token in nucleus if probs[token] >= sampling.min_p * probs[ranked[0]]]
    mass = probs[nucleus].sum().item()
    cut = torch.zeros_like(probs)
    cut[nucleus] = probs[nucleus] / mass
    return cut


def two_token_distribution(model, prompt: Prompt, sampling: Sampling) -> dict[tuple[int, ...], float]:
    """Every answer of at most two tokens with its exact probability."""
    first = kept(model(input_ids=torch.tensor([prompt.tokens])).logits[0, -1], sampling)
    exact = {(END,): first[END].item()}
    for token in range(V):
        if token != END and first[token] > 0:
            second = kept(model(input_ids=torch.tensor([[*prompt.tokens, token]])).logits[0, -1], sampling)
            exact |= {(token, after): (first[token] * second[after]).item() for after in range(V)}
    return {answer: probability for answer, probability in exact.items() if probability > 0}


@every_sampler
@pytest.mark.parametrize(("temperature", "top_p", "top_k", "min_p"), [(0.7, 1.0, 0, 0.0), (0.7, 0.8, 0, 0.0), (1.3, 0.9, 9, 0.15)])
@pytest.mark.parametrize("n", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_frequencies_are_the_softmaxs(name, temperature, top_p, top_k, min_p, n):
    """Chi-square over every answer of two tokens, 24 n draws for copies of one prompt beside a
    longer one, so that they are padded.

    A right sampler fails at p < 1e-4 once in ten thousand seeds, and this seed is fixed.
    """
    model, copies = tiny_llama(seed=1, initializer_range=0.15), 24
    sampling = Sampling(temperature, top_p, 2, top_k, min_p)
    prompts = [Prompt(f"copy {i}", PROMPTS[2].tokens) for i in range(copies)]
    drawn = engine(name, model, answers_per_call=(copies + 1) * n).sample([PROMPTS[0], *prompts], n, sampling, 11)
    answers = Counter(answer.tokens for row in drawn[1:] for answer in row)
    exact, draws = two_token_distribution(model, prompts[0], sampling), copies * n
    assert set(answers) <= set(exact), "an answer outside the nucleus"
    common = [answer for answer, probability in exact.items() if probability * draws >= 5]
    observed = [answers[answer] for answer in common]
    expected = [exact[answer] * draws for answer in common]
    rest = draws - sum(expected)
    if rest >= 5:
        observed, expected = [*observed, draws - sum(observed)], [*expected, rest]
    else:
        expected = list(np.array(expected) * sum(observed) / sum(expected))
    assert len(observed) > 20
    assert chisquare(observed, expected).pvalue > 1e-4


@every_sampler
def test_the_models_own_generation_settings_are_not_asked(name):
    """A checkpoint may come with top_k, a repetition penalty or a minimum length: rollouts are drawn from the policy's own distribution."""
    model, plain = tiny_llama(), tiny_llama()
    model.generation_config = GenerationConfig(
        do_sample=True,
        top_k=2,
        top_p=0.3,
        repetition_penalty=3.0,
        min_new_tokens=5,
        no_repeat_ngram_size=1,
        suppress_tokens=[6, 7],
        begin_suppress_tokens=[8],
        bad_words_ids=[[9]],
        forced_eos_token_id=5,
        exponential_decay_length_penalty=(1, 1.5),
        max_length=3,
        temperature=0.1,
        eos_token_id=[3, 4],
    )
    for sampling in (WARM, GREEDY):
        assert tokens(engine(name, model).sample(PROMPTS, 8, sampling, 0)) == tokens(engine(name, plain).sample(PROMPTS, 8, sampling, 0))


@every_sampler
def test_the_samplers_log_probabilities_are_of_what_it_drew_from(name):
    """Where an engine gives them: log of the truncated distribution at the temperature, token by token."""
    model, sampling = tiny_llama().double(), Sampling(0.7, 0.8, 6)
    for prompt, row in zip(PROMPTS, engine(name, model).sample(PROMPTS, 4, sampling, 2), strict=True):
        for answer in row:
            if answer.sampler_logp is None:
                continue
            logits = model(input_ids=torch.tensor([[*prompt.tokens, *answer.tokens]])).logits[0, len(prompt.tokens) - 1 : -1]
            expected = [kept(logits[t], sampling)[token].log().item() for t, token in enumerate(answer.tokens)]
            assert answer.sampler_logp == pytest.approx(expected, abs=1e-5)


def test_shared_prefix_gives_log_probabilities():
    assert engine("shared_prefix").sample(PROMPTS, 1, WARM, 0)[0][0].sampler_logp is not None


def test_shared_prefix_draws_by_prompt_and_sample_alone():
    """Common random numbers: neither the other prompts, nor their order, nor how many rows share a call, nor n changes an answer."""
    model = tiny_llama().double()
    together = dict(zip([prompt.id for prompt in PROMPTS], engine("shared_prefix", model).sample(PROMPTS, 6, WARM, 4), strict=True))
    for prompt in PROMPTS:
        (alone,) = engine("shared_prefix", model).sample([prompt], 6, WARM, 4)
        assert tokens([alone]) == tokens([together[prompt.id]])
        (fewer,) = engine("shared_prefix", model).sample([prompt], 2, WARM, 4)
        assert tokens([fewer]) == tokens([together[prompt.id][:2]])
    cut = engine("shared_prefix", model, answers_per_call=6).sample(PROMPTS[::-1], 6, WARM, 4)
    assert tokens(cut) == tokens([together[prompt.id] for prompt in PROMPTS[::-1]])


@every_sampler
def test_answers_follow_the_model_as_it_is_at_each_call(name):
    """The engine is built once; the policy moves between calls."""
    model = tiny_llama()
    sampler = engine(name, model)
    before = sampler.sample(PROMPTS, 4, GREEDY, 0)
    with torch.no_grad():
        model.model.embed_tokens.weight.neg_()
    assert sampler.sample(PROMPTS, 4, GREEDY, 0) != before
    assert sampler.sample(PROMPTS, 4, GREEDY, 0) == engine(name, model).sample(PROMPTS, 4, GREEDY, 0)


@every_sampler
def test_a_prompt_that_cannot_be_answered_names_its_example(name):
    """The context is 64 tokens: 60 of the prompt leave room for 4 of the answer, not for 12."""
    full = Prompt("row 17", tuple([6] * 60))
    with pytest.raises(UserError, match=r"example row 17: 60 prompt tokens \+ 12 answer tokens exceed the model's context of 64"):
        engine(name).sample([PROMPTS[0], full], 2, WARM, 0)
    assert len(engine(name).sample([full], 1, Sampling(1.0, 1.0, 4), 0)[0][0].tokens) <= 4
    with pytest.raises(UserError, match="example row 18: its prompt is empty"):
        engine(name).sample([PROMPTS[0], Prompt("row 18", ())], 2, WARM, 0)


def test_the_script_is_read_in_order_and_starts_over():
    answers = engine("scripted").sample(PROMPTS, 3, WARM, 0)
    assert [answer.text for answer in answers[0]] == ["red green", "blue", "red green"]
    assert [answer.finished for answer in answers[0]] == [True, True, True]
    assert answers[0][0].tokens == (6, 7, END)
    assert [answer.finished for answer in answers[1]] == [True, False, True]
    assert answers[1][1].tokens == (9,) * 12


def test_an_example_without_a_script_is_named():
    sampler = ScriptedRollout(answers={"long": ["red"]}, temperature=1.0, top_p=1.0).build(codec())
    with pytest.raises(UserError, match="nothing is scripted for example short"):
        sampler.sample(PROMPTS, 1, WARM, 0)


def test_a_prompt_of_the_codec_is_one_that_an_engine_takes():
    """The seam between the two: a rendered dialogue goes in, an answer's text comes out."""
    prompt = codec().prompt("e", [Turn("user", "red or green")])
    assert prompt.tokens[-2:] == (4, 5)
    for name in SPECS:
        (row,) = engine(name).sample([prompt], 2, WARM, 0)
        assert all(set(answer.text.split()) <= set(WORDS) for answer in row)


@every_engine
def test_an_engine_draws_from_the_policy_that_it_was_told_of_last(name):
    """One engine for a policy, its base, and the policy again; and every answer says whose it is."""
    models = {0: tiny_llama(seed=0), 3: tiny_llama(seed=1), 7: tiny_llama(seed=0)}
    sampler, drawn = engine(name, models[0]), {}
    for step, model in models.items():
        drawn[step] = synced(sampler, model, step).sample(PROMPTS, 2, WARM, 0)
        fresh = synced(engine(name), model, step).sample(PROMPTS, 2, WARM, 0)
        assert drawn[step] == fresh
        assert {answer.policy_step for row in drawn[step] for answer in row} == {step}
    assert tokens(drawn[0]) == tokens(drawn[7])
    assert (tokens(drawn[0]) == tokens(drawn[3])) == (name == "scripted")


@every_engine
def test_an_engine_that_says_so_draws_the_same_whatever_is_beside_it(name):
    sampler = engine(name)
    whole = tokens(sampler.sample(PROMPTS, 3, WARM, 0))
    alone = [tokens(sampler.sample([prompt], 3, WARM, 0))[0] for prompt in PROMPTS]
    assert (whole == alone) == sampler.reproducible


@pytest.mark.parametrize("name", SPECS)
def test_an_engine_without_a_policy_says_so(name):
    sampler = load(f"rollout/{name}").build(codec())
    assert sampler.sample(PROMPTS, 0, WARM, 0) == [[] for _ in PROMPTS]
    with pytest.raises(UserError, match=r"no policy yet: call engine\.sync"):
        sampler.sample(PROMPTS, 1, WARM, 0)
    late = load(f"rollout/{name}", max_seconds=1.0).build(codec())
    assert not late.reproducible
