"""The benchmarks' prompts and lengths: the same everywhere, lumpy as said, and encoded to exactly the counted tokens."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks.ours import in_training_order
from benchmarks.settings import arms_for, peer_of
from benchmarks.workload import SHAPES, Task, Workload, load_tokenizer, lumpy_lengths, write_checkpoint
from grao_bench.text.tokens import TextCodec
from grao_bench.training.loop import draw

WORK = Workload("grpo", vocab=128, prompts=3, answers=4, prompt_tokens=(8, 12), max_answer_tokens=10, steps=2, seed=0)


def test_a_workload_names_its_tasks():
    assert WORK.tasks() == WORK.tasks()
    assert replace(WORK, seed=1).tasks() != WORK.tasks()
    assert [task.id for task in WORK.tasks()] == ["step0-0", "step0-1", "step0-2", "step1-0", "step1-1", "step1-2"]


def test_lengths_are_lumpy_as_said():
    draw_from = random.Random(5)
    groups = [lumpy_lengths(draw_from, 8, 128) for _ in range(4000)]
    lengths = [length for group in groups for length in group]
    assert 0.30 < sum(min(length, 128) for length in lengths) / len(lengths) / 128 < 0.38
    assert 0.03 < sum(length == 129 for length in lengths) / len(lengths) < 0.14
    assert min(lengths) == 2
    assert max(lengths) == 129
    # between prompts they differ by more than by chance within a prompt: else the variance of a group's mean is the variance / 8
    means = [sum(group) / 8 for group in groups]
    centre = sum(means) / len(means)
    within = sum((length - centre) ** 2 for length in lengths) / len(lengths) / 8
    assert sum((mean - centre) ** 2 for mean in means) / len(means) > 1.3 * within


def test_tokens_of_a_step_by_hand():
    tasks = [Task("a", "", 5, (3, 11), "w7 w8", "w9"), Task("b", "", 7, (10, 2), "w7", "")]
    work = replace(WORK, prompts=2, answers=2)
    # answers 3 + 10 (11 is one that never ends, cut at 10) + 10 + 2; each prompt once per answer
    assert work.step_tokens(0, tasks) == (25, 25 + 2 * 5 + 2 * 7)
    # the words and an end token each: 3 and 2 for the chosen ones, 2 and 1 for the rejected
    assert replace(work, objective="sft").step_tokens(0, tasks) == (5, 5 + 5 + 7)
    assert replace(work, objective="dpo").step_tokens(0, tasks) == (8, 8 + 2 * 5 + 2 * 7)


def test_texts_encode_to_the_tokens_that_are_counted(tmp_path):
    write_checkpoint(SHAPES["toy"], tmp_path, seed=0)
    codec = TextCodec(load_tokenizer(tmp_path), "hh", 12)
    assert len(codec.tokenizer) == WORK.vocab
    for task, example in zip(WORK.tasks(), sorted(in_training_order(WORK.tasks()), key=lambda one: one.id), strict=True):
        prompt = codec.prompt(task.id, example.prompt)
        assert len(prompt.tokens) == task.prompt_tokens
        for text, length in zip((task.chosen, task.rejected), task.lengths, strict=False):
            answer = codec.answer(prompt, text, WORK.max_answer_tokens)
            assert answer.finished
            assert len(answer.tokens) == min(length, WORK.max_answer_tokens)
    assert codec.truncation.truncated_prompts == 0


def test_the_loop_draws_the_tasks_in_their_order():
    examples = in_training_order(WORK.tasks())
    drawn = [example.id for step in (1, 2) for example in draw(examples, WORK.prompts, step, seed=0)]
    assert drawn == [task.id for task in WORK.tasks()]


@pytest.mark.parametrize(
    ("objective", "arms"), [("grpo", ["ours", "trl-fp32"]), ("dpo", ["ours", "ours-cached", "trl-fp32", "trl-precomputed-8"])]
)
def test_only_dpo_has_references_to_compute_before(objective, arms):
    assert arms_for(objective, ["ours-cached", "trl-fp32", "trl-precomputed-8"]) == arms


def test_like_is_compared_with_like():
    assert peer_of("trl-precomputed-8", ["ours", "ours-cached"]) == "ours-cached"
    assert peer_of("trl-precomputed-8", ["ours"]) == "ours"
    assert peer_of("trl-fp32", ["ours", "ours-cached"]) == "ours"
