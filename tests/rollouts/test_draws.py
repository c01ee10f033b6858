"""A prompt that stands in a step several times is answered anew each time, whoever draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from grao_bench.core.interfaces import Sampling
from grao_bench.core.specs import load
from grao_bench.core.types import Prompt, occurrences
from grao_bench.objectives import load_objective
from grao_bench.rollouts.shared_prefix import SharedPrefixRollout
from grao_bench.training.loop import draw, train

from ..small import synced, tiny_llama
from ..training import setting
from .test_engines import WARM, engine, every_sampler, tokens

RED, ONE = Prompt("red", (6, 7, 8)), Prompt("one", (13,))


def test_occurrences_count_what_came_before():
    assert occurrences("abaabb") == [0, 0, 1, 2, 1, 2]


@every_sampler
def test_a_prompt_twice_in_a_call_has_two_groups_of_its_own(name):
    """Of 24 answers none is the other group's at its place, but by chance: short ones may be."""
    first, other, second = tokens(engine(name).sample([RED, ONE, RED], 24, WARM, 0))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 6
    assert min(len(set(first)), len(set(second))) > 12
    assert first != other


def test_the_first_occurrence_draws_what_a_prompt_alone_draws():
    """So runs without repeats keep their numbers; later ones are the same beside any others."""
    sampler = engine("shared_prefix", tiny_llama().double())
    first, second, third = tokens(sampler.sample([RED, RED, RED], 6, WARM, 4))
    assert [first] == tokens(sampler.sample([RED], 6, WARM, 4))
    beside = tokens(sampler.sample([ONE, RED, ONE, RED, RED], 6, WARM, 4))
    assert [beside[1], beside[3], beside[4]] == [first, second, third]
    # told which it is, an engine needs not see the others
    assert [third] == tokens(sampler.sample([replace(RED, occurrence=2)], 6, WARM, 4))
    told = [replace(RED, occurrence=1), replace(RED, occurrence=0)]
    assert [second, first] == tokens(sampler.sample(told, 6, WARM, 4))


@every_sampler
def test_two_processes_do_not_copy_each_other(name):
    """Each has a share of the step, and the prompt's occurrence within the whole of it."""
    mine, theirs = replace(RED, occurrence=0), replace(RED, occurrence=1)
    ((first,), (second,)) = (tokens(engine(name).sample([one], 24, WARM, 0)) for one in (mine, theirs))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 6


@dataclass(frozen=True)
class Half:
    """One of two processes that take turns over a step's rows."""

    index: int
    count: int = 2

    def mine(self, rows: Sequence) -> Sequence:
        return rows[self.index :: self.count]


@dataclass
class Recorded:
    """An engine that also keeps what it drew: (prompt id, tokens) of every group."""

    inner: object
    groups: list
    reproducible: bool = True

    def sync(self, policy, step):
        self.inner.sync(policy, step)

    def sample(self, prompts, n, sampling, seed):
        drawn = self.inner.sample(prompts, n, sampling, seed)
        self.groups += [(each.id, tuple(row)) for each, row in zip(prompts, tokens(drawn), strict=True)]
        return drawn


def first_step(ranks=None):
    """The groups that the loop samples at its first step of seven prompts out of three."""
    spec = replace(load_objective("grpo"), rollouts=4)
    policy = setting.policy(spec)
    trainer = setting.trainer(spec, policy, setting.budget(steps=1, prompts_per_step=7))
    trainer.ranks = ranks or trainer.ranks
    rollout: SharedPrefixRollout = load("rollout/shared_prefix")
    engine = Recorded(rollout.build(setting.codec()), [])
    warm = Sampling(1.0, 1.0, 5)
    collector = replace(setting.collector(spec, policy), engine=engine, sampling=warm)
    next(train(trainer, collector, setting.EXAMPLES[:3], seed=0))
    return engine.groups


def test_a_step_of_a_small_set_holds_no_copied_group():
    """Three prompts, seven a step: an epoch's border lies twice within it."""
    groups = first_step()
    wanted = [example.id for example in draw(setting.EXAMPLES[:3], 7, 1, 0)]
    assert [name for name, _ in groups] == wanted
    assert max(map(wanted.count, wanted)) >= 2
    assert len(set(groups)) == 7


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_draws_what_one_alone_would_have_drawn(index):
    assert first_step(Half(index)) == first_step()[index::2]


def test_an_occurrence_is_no_other_prompts_stream():
    """The second occurrence of one prompt against the first of every other."""
    sampler = synced(load("rollout/shared_prefix").build(setting.codec()), tiny_llama())
    others = [Prompt(f"red/{k}", RED.tokens) for k in range(8)]
    rows = tokens(sampler.sample([RED, RED, *others], 8, WARM, 0))
    assert len({tuple(row) for row in rows}) == 10
