"""What a probe's own arithmetic says: the standard error of a ratio."""

from __future__ import annotations

import pytest
import torch

from grao_bench.evaluation.probe import ratio_error


def test_equal_counts_give_the_standard_error_of_the_mean():
    totals = torch.tensor([1.0, 4.0, 2.0, 9.0], dtype=torch.float64)
    counts = torch.full((4,), 5.0, dtype=torch.float64)
    assert ratio_error(totals, counts) == pytest.approx((totals / 5).std().item() / 2)


def test_a_ratio_that_is_the_same_in_every_row_has_no_error():
    counts = torch.tensor([1.0, 7.0, 3.0], dtype=torch.float64)
    assert ratio_error(0.3 * counts, counts) == pytest.approx(0, abs=1e-12)
    assert ratio_error(torch.tensor([2.0]), torch.tensor([5.0])) == 0.0


def test_it_is_the_spread_that_repeated_samples_show():
    random = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 30, (4000, 50), generator=random).double()
    totals = 0.2 * counts + torch.randn(counts.shape, generator=random, dtype=torch.float64) * counts.sqrt()
    ratios = totals.sum(1) / counts.sum(1)
    stated = torch.tensor([ratio_error(*rows) for rows in zip(totals, counts, strict=True)])
    assert stated.mean().item() == pytest.approx(ratios.std().item(), rel=0.05)
