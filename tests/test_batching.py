"""The P x K x T rectangle: how it is laid out, cut and put back together."""

from __future__ import annotations

import pytest
import torch

from grao_bench.core.batching import make_batch, micro_batches, pad_rows, to_device
from grao_bench.core.types import Answer, Batch, Needs

from .small import rectangle

NEEDS = Needs(rollouts=2, chosen=True)
LENGTHS = [[3, 1, 2], [1, 1, 1], [6, 2, 5], [2, 4, 3], [1, 2, 1]]


def test_slots_stand_in_a_fixed_order():
    assert Needs(rejected=True, chosen=True, rollouts=2).slots == ("rollout", "rollout", "chosen", "rejected")


def test_prompts_are_padded_left_and_answers_right():
    prompts = [[11], [12, 13, 14]]
    rows = [[Answer("", (21, 22), True), Answer("", (23,), False)], [Answer("", (24,), True), Answer("", (25, 26, 27), True)]]
    batch = make_batch(prompts, rows, ["a", "b"], Needs(chosen=True, rejected=True), pad_token=9)
    assert batch.prompts.tolist() == [[9, 9, 11], [12, 13, 14]]
    assert batch.prompt_mask.tolist() == [[False, False, True], [True, True, True]]
    assert batch.tokens.tolist() == [[[21, 22, 9], [23, 9, 9]], [[24, 9, 9], [25, 26, 27]]]
    assert batch.mask.int().tolist() == [[[1, 1, 0], [1, 0, 0]], [[1, 0, 0], [1, 1, 1]]]
    assert batch.finished.tolist() == [[True, False], [True, True]]
    assert (batch.slots, batch.ids, batch.size) == (("chosen", "rejected"), ("a", "b"), 2)


def test_a_pad_id_inside_an_answer_is_a_real_token():
    """The masks come from lengths: with pad and end token the same, an answer's own end token still counts."""
    batch = make_batch([[5]], [[Answer("", (7, 9), True), Answer("", (7, 7, 9), True)]], ["a"], Needs(rollouts=2), pad_token=9)
    assert batch.mask.int().tolist() == [[[1, 1, 0], [1, 1, 1]]]


def test_rows_are_padded_to_the_longest_on_either_side():
    """The pad token inside a row is real; an empty row is all padding."""
    right, left = pad_rows([[1, 9], [2, 3, 4], []], 9), pad_rows([[1, 9], [2, 3, 4]], 9, left=True)
    assert right[0].tolist() == [[1, 9, 9], [2, 3, 4], [9, 9, 9]]
    assert right[1].int().tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert left[0].tolist() == [[9, 1, 9], [2, 3, 4]]
    assert left[1].int().tolist() == [[0, 1, 1], [1, 1, 1]]


def test_columns_find_their_slots():
    batch = rectangle(NEEDS, LENGTHS)
    assert batch.columns("rollout") == [0, 1]
    assert batch.columns("rejected") == []
    assert batch.column("chosen") == 2
    for slot in ("rollout", "rejected"):
        with pytest.raises(ValueError, match="unpack"):
            batch.column(slot)


def test_select_takes_rows_of_every_column_in_the_order_asked():
    batch = rectangle(NEEDS, LENGTHS).fill(rewards=torch.arange(15.0).reshape(5, 3), advantages=torch.arange(15.0).reshape(5, 3, 1))
    part = batch.select([3, 0])
    assert part.ids == ("e3", "e0")
    assert part.rewards.tolist() == [[9.0, 10.0, 11.0], [0.0, 1.0, 2.0]]
    assert part.advantages[:, :, 0].tolist() == part.rewards.tolist()
    for name in ("prompts", "prompt_mask", "tokens", "mask", "finished"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[[3, 0]])
    assert "old_logp" not in part


def test_trimmed_drops_only_padding():
    """Rows 1 and 4 have answers of at most 2 tokens and prompts of 2 and 1."""
    batch = rectangle(NEEDS, LENGTHS).fill(old_logp=torch.randn(5, 3, 6), advantages=torch.randn(5, 3, 1), rewards=torch.randn(5, 3))
    part = batch.select([1, 4]).trimmed()
    assert (part.tokens.shape, part.prompts.shape) == ((2, 3, 2), (2, 2))
    assert torch.equal(part.old_logp, batch.old_logp[[1, 4], :, :2])
    assert torch.equal(part.advantages, batch.advantages[[1, 4]])
    assert torch.equal(part.rewards, batch.rewards[[1, 4]])
    assert real_ids(part) == [real_ids(batch)[1], real_ids(batch)[4]]
    assert torch.equal(batch.trimmed().tokens, batch.tokens)


@pytest.mark.parametrize("bound", [1, 12, 24, 30, 40, 10_000])
def test_micro_batches_hold_every_row_once_and_respect_the_bound(bound):
    """A chunk's tokens are its prompts', once, and its answers'; only a single row may exceed the bound."""
    batch = rectangle(NEEDS, LENGTHS)
    chunks = micro_batches(batch, bound)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(batch.size))
    for chunk in chunks:
        part = batch.select(chunk)
        assert int(part.prompt_mask.sum() + part.mask.sum()) <= bound or len(chunk) == 1


def test_micro_batches_of_ample_memory_are_one():
    assert len(micro_batches(rectangle(NEEDS, LENGTHS), 10_000)) == 1


def test_micro_batches_need_no_more_forwards_than_equal_rows_demand():
    """Eight equal rows of prompt + K x answer = 1 + 2 x 3 = 7 tokens: a bound of 24 holds three a chunk."""
    rows = [[Answer("", (7, 7, 7), True)] * 2] * 8
    batch = make_batch([[5]] * 8, rows, [str(p) for p in range(8)], Needs(rollouts=2), pad_token=1)
    assert [len(chunk) for chunk in micro_batches(batch, 24)] == [3, 3, 2]


def test_to_device_moves_every_tensor_and_nothing_else():
    batch = rectangle(NEEDS, LENGTHS).fill(rewards=torch.zeros(5, 3))
    moved = to_device(batch, torch.device("meta"))
    tensors = {name: value for name, value in (vars(moved) | dict(moved.filled)).items() if isinstance(value, torch.Tensor)}
    assert set(tensors) == {"prompts", "prompt_mask", "tokens", "mask", "finished", "rewards"}
    assert {value.device.type for value in tensors.values()} == {"meta"}
    assert (moved.ids, moved.slots) == (batch.ids, batch.slots)


def real_ids(batch: Batch) -> list[tuple[list[int], list[list[int]]]]:
    """Each row's prompt and answers without their padding."""
    return [
        (batch.prompts[p][batch.prompt_mask[p]].tolist(), [batch.tokens[p, k][batch.mask[p, k]].tolist() for k in range(len(batch.slots))])
        for p in range(batch.size)
    ]
