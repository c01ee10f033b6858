"""What was not asked for can't be read: the error names the column and how to get it."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.types import Needs, PolicyOutput

from .small import rectangle

BATCH = rectangle(Needs(rollouts=2), [[1, 2], [3, 1]])


@pytest.mark.parametrize(
    ("column", "remedy"),
    [
        ("rewards", r"Needs\(rewards=True\)"),
        ("old_logp", r"reads it in prepare needs Needs\(old_logp='prepare'\)"),
        ("reference_logp", r"Needs\(reference_logp=True\)"),
        ("old_values", r"Needs\(values=True\)"),
        ("sampler_logp", r"Needs\(old_logp='sampler'\)"),
        ("advantages", "fill it in the objective's prepare"),
        ("returns", "fill it in the objective's prepare"),
        ("token_weights", "fill it in the objective's prepare"),
    ],
)
def test_a_column_that_nobody_asked_for_is_named_with_its_need(column, remedy):
    with pytest.raises(UserError, match=rf"^batch\.{column}: nobody asked for it; .*{remedy}"):
        getattr(BATCH, column)
    assert column not in BATCH


@pytest.mark.parametrize("output", ["values", "entropy"])
def test_an_output_that_nobody_asked_for_is_named_with_its_need(output):
    out = PolicyOutput(torch.zeros(2, 2, 3))
    need = rf"^policy\.{output}: nobody asked for it; .*Needs\({output}=True\)"
    with pytest.raises(UserError, match=need):
        getattr(out, output)


def test_an_objective_may_fill_a_column_of_its_own():
    """It is cut, trimmed and moved like any other."""
    batch = BATCH.fill(surprise=torch.arange(12.0).reshape(2, 2, 3), weight=torch.tensor([1.0, 2.0]))
    with pytest.raises(UserError, match=r"^batch\.other: nobody asked for it; fill it in"):
        batch["other"]
    part = batch.select([0]).trimmed()
    assert part["surprise"].tolist() == [[[0.0, 1.0], [3.0, 4.0]]]
    assert part["weight"].tolist() == [1.0]
    assert "weight" not in batch.fill(weight=None)
    assert "surprise" not in BATCH


def test_a_wrong_need_is_named(monkeypatch):
    """`True` was a value once; it says nothing of when the column is read."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user
    with pytest.raises(UserError, match=r"^Needs\(old_logp=True\): must be one of 'no', 'loss'"):
        Needs(old_logp=True)
