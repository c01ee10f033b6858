"""The reference model's log-probabilities of a set's own pairs: computed once, kept on disk, the same whoever asks."""

from __future__ import annotations

from dataclasses import replace

import torch

from grao_bench.core.types import Needs
from grao_bench.models.policy import Policy
from grao_bench.training.reference import ReferenceCache, _keys

from ..commands import begin
from ..small import rectangle, tiny_llama

PAIRS = Needs(chosen=True, rejected=True, reference_logp=True)
LENGTHS = [[3, 1], [1, 5], [6, 2], [2, 2]]


def reference():
    return Policy(tiny_llama(vocab=20).double(), 1.0, value_head=False)


def passes(policy):
    """Counts the policy's forward passes from here on."""
    counted = []
    policy.register_forward_pre_hook(lambda *_: counted.append(1))
    return counted


def test_log_probabilities_are_the_reference_models_own(tmp_path):
    batch = rectangle(PAIRS, LENGTHS)
    policy = reference()
    torch.testing.assert_close(ReferenceCache(policy, "a", tmp_path).logp(batch), policy(batch).logp.detach(), atol=1e-12, rtol=0)


def test_a_pair_is_computed_once_in_every_batch_and_process_that_holds_it(tmp_path):
    policy, batch = reference(), rectangle(PAIRS, LENGTHS)
    counted = passes(policy)
    first = ReferenceCache(policy, "a", tmp_path).logp(batch)
    assert len(counted) == 4
    again = ReferenceCache(policy, "a", tmp_path).logp(batch.select([2, 0]))
    assert len(counted) == 4
    assert torch.equal(again, first[[2, 0]])
    ReferenceCache(policy, "another model", tmp_path).logp(batch)
    assert len(counted) == 8


def test_what_is_stored_does_not_depend_on_who_asked_first(tmp_path):
    """Bit for bit: alone, in another order, and in the whole batch. A run's numbers must not depend on the state of a cache."""
    policy, batch = reference().float(), rectangle(PAIRS, LENGTHS)
    whole = ReferenceCache(policy, "a", tmp_path).logp(batch)
    other = ReferenceCache(policy, "b", tmp_path)
    for rows in ([3], [1, 2], [0]):
        part = other.logp(batch.select(rows).trimmed())
        assert torch.equal(part, whole[rows, :, : part.shape[-1]])


def test_pairs_that_share_an_answer_are_the_same_to_the_bit_whatever_was_stored(tmp_path):
    """One prompt and chosen answer, two rejected ones: a row is computed together, and what is read must be what was computed."""
    first = rectangle(PAIRS, [[3, 2]])
    second = replace(first, tokens=torch.cat([first.tokens[:, :1], 25 - first.tokens[:, 1:]], 1))
    policy = reference().float()
    # rounding that depends on all of the row, which on a real model only some lengths and machines show
    policy.register_forward_hook(lambda _, args, out: replace(out, logp=out.logp * (1 + 1e-5 * args[0].tokens.sum())))
    cold = ReferenceCache(policy, "a", tmp_path).logp(second)
    cache = ReferenceCache(policy, "b", tmp_path)
    cache.logp(first)
    for _ in range(2):  # computed, then read
        assert torch.equal(cache.logp(second), cold)


def test_where_a_prompt_ends_is_part_of_the_key(tmp_path):
    """The same ids, of which the prompt takes one more or the answer; 256, so that byte strings would be shifted copies too."""
    batch = rectangle(PAIRS, [[2, 2]])
    short, long = batch.prompts.new_tensor([[1]]), batch.prompts.new_tensor([[1, 256]])
    one = replace(batch, prompts=short, prompt_mask=torch.ones_like(short, dtype=torch.bool), tokens=torch.ones_like(batch.tokens))
    other = replace(one, prompts=long, prompt_mask=torch.ones_like(long, dtype=torch.bool), mask=torch.zeros_like(batch.mask))
    one.mask[0, :, 1:] = False
    assert set(_keys(one, 0)).isdisjoint(_keys(other, 0))


def test_an_answer_of_the_same_ids_after_another_prompt_is_another_pair(tmp_path):
    batch = rectangle(PAIRS, [[2, 2]])
    longer = batch.prompts.new_tensor([[7, *batch.prompts[0].tolist()]])
    policy = reference()
    cache = ReferenceCache(policy, "a", tmp_path)
    other = replace(batch, prompts=longer, prompt_mask=torch.ones_like(longer, dtype=torch.bool))
    assert not torch.allclose(cache.logp(batch), cache.logp(other))


def _fill(folder):
    torch.set_num_threads(1)
    ReferenceCache(reference(), "a", folder).logp(rectangle(PAIRS, LENGTHS))


def test_processes_may_share_a_file(tmp_path):
    workers = [begin(_fill, tmp_path) for _ in range(2)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    policy = reference()
    counted = passes(policy)
    ReferenceCache(policy, "a", tmp_path).logp(rectangle(PAIRS, LENGTHS))
    assert counted == []
