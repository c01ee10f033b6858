"""A named grid's axes on the command line: which ways work, and what the others are told."""

from __future__ import annotations

import pytest

GRID = (
    "+sweeps=laptop",
    "allow_dirty=true",
    "data=world_helpful",
    "model=tiny",
    "budget.steps=-1",
)
"""Whose every cell is refused, each by its overrides: so the cells are read off the message."""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("seed=[0,1]",), "seed=[0,1]: is one value, a list; write seed=0,1, or quoted: "),
        (("objective=[sft,dpo]",), "objective=[sft,dpo]: is one value, a list; write objective=sft,dpo,"),
        (("objective=sft,", "dpo"), "objective=sft,: is not how an axis of a grid is given; write objective=sft,dpo,"),
        (("hydra.sweeper.params.seed=0,1",), "hydra.sweeper.params.seed=0,1: is not how"),
    ],
)
def test_other_ways_are_told_the_one_that_works(words, told, command):
    outcome = command("train", *GRID, *words)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"grao_bench: {told}")
    assert "'hydra.sweeper.params." in line


@pytest.mark.parametrize(
    ("word", "cells"),
    [
        ("seed=0,7", 12),
        ('hydra.sweeper.params.seed="0,7"', 12),
        ("seed=7", 6),
        ("objective=sft,dpo", 10),
    ],
)
def test_the_ways_that_are_named_give_those_cells(word, cells, command):
    """As Hydra expands them: see `test_grid` for that the cells told are those that it runs."""
    outcome = command("train", *GRID, word)
    lines = [line for line in outcome.err.splitlines() if "budget.steps=-1: must be" in line]
    assert len(lines) == cells
    asked = word.partition("=")[2].strip('"').split(",")
    key = word.partition("=")[0].rpartition(".")[2]
    assert all(any(f"{key}={value} " in line for value in asked) for line in lines)
