"""The counted floor against the operations that torch counts in a plain forward and backward pass."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from benchmarks.floor import Needed, Rates, fastest_of, layer_weights, rollout_needs, train_needs
from benchmarks.workload import SHAPES, Shape, Task, write_checkpoint

TOY = SHAPES["toy"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_checkpoint(TOY, folder, seed=0)
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")


def counted(model, tokens: int, rows: int, backward: bool) -> int:
    """Operations of one sequence, the head on its last `rows` positions; eager attention multiplies the whole square."""
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=torch.ones(1, tokens, dtype=torch.long), logits_to_keep=rows, use_cache=False).logits
        if backward:
            logits.sum().backward()
    return counter.get_total_flops()


def above_the_diagonal(tokens: int) -> int:
    """What causal attention need not multiply in a forward pass: two products, two operations each, per layer and pair."""
    return TOY.layers * 2 * 2 * TOY.hidden * (tokens * tokens - tokens * (tokens + 1) // 2)


@pytest.mark.parametrize("answer", [1, 5])
def test_one_answer_needs_what_a_plain_forward_does(model, answer):
    """A prompt of 9 and an answer whose last token is drawn but never read: 9 + answer - 1 tokens, `answer` predictions."""
    task, read = Task("a", "", 9, (answer,), "", ""), 9 + answer - 1
    forward = counted(model, read, answer, backward=False) - above_the_diagonal(read)
    assert rollout_needs(TOY, [task], 64, 4).total == forward
    both = counted(model, read, answer, backward=True) - 3 * above_the_diagonal(read)
    assert train_needs(TOY, [task], 64).total == both


def test_answers_share_their_prompt():
    one, two = (train_needs(TOY, [Task("a", "", 40, lengths, "", "")], 64) for lengths in ((4,), (4, 4)))
    prompt = 3 * 2 * TOY.layers * (40 * layer_weights(TOY) + 2 * TOY.hidden * 40 * 41 // 2)
    assert two.layers - prompt == 2 * (one.layers - prompt)
    assert two.head == 2 * one.head


def test_an_answer_that_never_ends_is_cut():
    cut, full = (train_needs(TOY, [Task("a", "", 8, (length,), "", "")], 16) for length in (17, 16))
    assert cut == full


def test_bytes_by_hand():
    """Two steps read the weights; the prompt's 9 keys and values are read at the one step after the prefill, with one own token."""
    weights = TOY.layers * layer_weights(TOY) + TOY.hidden * TOY.vocab
    keys = 2 * TOY.layers * TOY.kv_heads * 16
    assert rollout_needs(TOY, [Task("a", "", 9, (2,), "", "")], 64, 4).bytes == 4 * (2 * weights + (9 + 1) * keys)


def test_a_step_by_hand():
    """One layer of 22 weights in its products, a head of 2 x 10; a prompt of 4 tokens with two answers of 2, whose last is never read."""
    shape, tasks = Shape(hidden=2, layers=1, heads=1, kv_heads=1, ff=1, vocab=10), [Task("a", "", 4, (2, 2), "", "")]
    # 2 x 22 per token and 2 x 2 x 2 per pair of tokens: 4 tokens with 10 pairs, then twice a token with 5
    layers = (4 * 44 + 10 * 8) + 2 * (44 + 5 * 8)
    # a prediction after the prompt, shared, and one of each answer; read are the weights at 2 steps, and 4 numbers of each of the prompt's
    # 4 tokens and of 2 own ones
    assert rollout_needs(shape, tasks, 2, 4) == Needed(layers, 2 * 20 * 3, 4 * (2 * (22 + 20) + (4 + 2) * 4)) == Needed(424, 120, 432)
    # the loss predicts all four answer tokens
    assert train_needs(shape, tasks, 2) == Needed(3 * layers, 3 * 2 * 20 * 4) == Needed(1272, 480)


def test_the_slower_of_products_and_bytes_is_the_floor():
    rates = Rates(layers=10.0, head=5.0, bytes=2.0, matmul="highest")
    assert Needed(layers=30.0, head=5.0, bytes=4.0).seconds(rates) == 4.0
    assert Needed(layers=30.0, head=5.0, bytes=18.0).seconds(rates) == 9.0


def test_each_rate_at_its_better_measurement():
    one, other = Rates(10.0, 5.0, 2.0, "highest"), Rates(11.0, 4.0, 3.0, "medium")
    assert fastest_of(one, other) == fastest_of(other, one) == Rates(11.0, 5.0, 3.0, "medium")
