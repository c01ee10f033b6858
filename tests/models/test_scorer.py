"""The scorer: packed scores against transformers' plain forward pass, what it runs, and its gradients."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

from grao_bench.core.batching import make_batch
from grao_bench.core.errors import UserError
from grao_bench.core.types import Answer, Batch, Needs
from grao_bench.models.scorer import Row, Scorer, score_rows

from ..small import END, PAD, WORDS

ROTARY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
KINDS: dict[str, Any] = {
    # transformers' RMSNorm is in float32 whatever the weights are; GPT-2's LayerNorm is not
    "gpt2": (GPT2ForSequenceClassification, GPT2Config, {"n_embd": 16, "n_layer": 2, "n_head": 2}),
    "llama": (LlamaForSequenceClassification, LlamaConfig, ROTARY),
    "qwen2": (Qwen2ForSequenceClassification, Qwen2Config, ROTARY | {"num_key_value_heads": 1}),
}


def classifier(kind: str = "gpt2", dtype: torch.dtype = torch.float64) -> Any:
    make, config, fields = KINDS[kind]
    shared = {"num_labels": 1, "initializer_range": 0.3, "vocab_size": len(WORDS)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ends = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": None}
        return make(config(**fields, **shared, **ends)).to(dtype).eval()


def rows(seed: int = 0) -> list[Row]:
    """Five prompts with two answers each; lengths 1 to 9, one answer empty."""
    draw = random.Random(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, len(WORDS)) for _ in range(count))

    prompts = [ids(length) for length in (1, 4, 9, 2, 5)]
    lengths = [(1, 7), (3, 3), (8, 2), (5, 1), (0, 4)]
    return [(prompt, ids(n)) for prompt, pair in zip(prompts, lengths, strict=True) for n in pair]


def batch_of(pairs: list[Row]) -> Batch:
    prompts = [prompt for prompt, _ in pairs[::2]]
    answers = [Answer("", answer, True) for _, answer in pairs]
    both = [answers[i : i + 2] for i in range(0, len(answers), 2)]
    return make_batch(prompts, both, [str(i) for i in range(len(both))], Needs(rollouts=2), PAD)


def plain(model: Any, row: Row) -> torch.Tensor:
    """What transformers' own class says of one sequence without padding."""
    return model(input_ids=torch.tensor([[*row[0], *row[1]]])).logits[0, 0]


@pytest.mark.parametrize(("kind", "atol"), [("gpt2", 1e-12), ("llama", 1e-6), ("qwen2", 1e-6)])
def test_packed_scores_are_those_of_a_plain_forward_pass(kind, atol):
    expected = torch.stack([plain(classifier(kind), row) for row in rows()])
    found = Scorer(classifier(kind))(batch_of(rows()))
    torch.testing.assert_close(found.flatten(), expected, atol=atol, rtol=0)
    assert len(set(expected.tolist())) == len(rows())


def test_gradients_are_those_of_a_plain_forward_pass():
    """Through one prompt that both answers share; checkpointed, and for a long batch, the same."""
    weights = torch.arange(1.0, 11.0, dtype=torch.float64)
    model = classifier()
    (torch.stack([plain(model, row) for row in rows()]) * weights).sum().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    for fields in ({}, {"gradient_checkpointing": True}, {"tokens_per_forward": 10}):
        scorer = Scorer(classifier(), **fields)
        (scorer(batch_of(rows())).flatten() * weights).sum().backward()
        for found, right in zip(scorer.model.parameters(), expected, strict=True):
            torch.testing.assert_close(found.grad, right, atol=1e-10, rtol=1e-9)


def test_only_layers_inputs_are_kept_where_checkpointing_is_asked_for_or_the_batch_is_long():
    """A layer's forward pass runs twice then: once more in the backward pass."""

    def passes(**fields: Any) -> int:
        scorer, count = Scorer(classifier("llama", torch.float32), **fields), [0]
        mlp = scorer.model.model.layers[0].mlp
        mlp.register_forward_pre_hook(lambda *_: count.__setitem__(0, count[0] + 1))
        scorer(batch_of(rows())).sum().backward()
        return count[0]

    tokens = sum(len(prompt) for prompt, _ in rows()[::2]) + sum(len(answer) for _, answer in rows())
    assert passes() == passes(tokens_per_forward=tokens) == 1
    assert passes(gradient_checkpointing=True) == passes(tokens_per_forward=tokens - 1) == 2


def test_a_family_that_can_not_be_checkpointed_is_told_or_run_without():
    """Asked for, it is one line; for a long batch, the pass takes the memory that it takes."""
    model = classifier("llama", torch.float32)
    model.supports_gradient_checkpointing = False
    with pytest.raises(UserError, match=r"^gradient_checkpointing=true: LlamaForSeq"):
        Scorer(model, gradient_checkpointing=True)
    assert torch.isfinite(Scorer(model, tokens_per_forward=1)(batch_of(rows()))).all()


def tokens_seen(scorer: Scorer) -> list[int]:
    seen: list[int] = []
    embedding = scorer.model.get_input_embeddings()
    embedding.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].numel()))
    return seen


def test_a_prompt_runs_once_for_its_answers_and_nothing_is_padded():
    scorer = Scorer(classifier("llama", torch.float32))
    seen = tokens_seen(scorer)
    scorer(batch_of(rows()))
    answers = sum(len(answer) for _, answer in rows())
    assert seen == [1 + 4 + 9 + 2 + 5 + answers]


@pytest.mark.parametrize("bound", [1, 12, 20, 1000])
def test_rows_are_scored_in_passes_of_so_many_tokens(bound):
    """In their order, also where one prompt has many answers and rows repeat; equal rows run once."""
    many = [(rows()[0][0] * 3, answer) for _, answer in rows()]
    asked = [*rows(), *many, rows()[3]]
    scorer = Scorer(classifier("llama", torch.float32))
    seen = tokens_seen(scorer)
    found = score_rows(scorer, asked, bound)
    expected = [plain(classifier("llama", torch.float32), row).item() for row in asked]
    assert found == pytest.approx(expected, abs=1e-5)
    assert found[3] == found[-1]
    assert max(seen) <= max(bound, max(len(prompt) + len(answer) for prompt, answer in asked))
    if bound == 1000:
        distinct = {prompt for prompt, _ in asked}
        assert sum(seen) == sum(map(len, distinct)) + sum(len(answer) for _, answer in asked[:-1])


def test_scores_of_half_precision_weights_are_float32():
    """Told apart where bfloat16's three digits would not: the head multiplies in float32."""
    scorer = Scorer(classifier("llama", torch.bfloat16))
    scores = scorer(batch_of(rows())).detach()
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
