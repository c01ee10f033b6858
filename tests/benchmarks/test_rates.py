"""The floor's rates are of the products that our engine computes, on its float32 path."""

from __future__ import annotations

import pytest
import torch

from benchmarks.rates import measure_rates
from benchmarks.workload import SHAPES
from grao_bench.core import precision
from grao_bench.core.process import process_settings


@pytest.mark.parametrize("medium_error", [None, 2e-3])
def test_the_timed_products_are_the_engines_own(medium_error, monkeypatch):
    """Also where "medium" is a silent bfloat16, as on AMX: there neither of the two takes it."""
    if medium_error is not None:
        monkeypatch.setattr(precision, "float32_error", lambda: medium_error)
    linear, errors, settings = torch.nn.functional.linear, [], set()

    def watched(left, right):
        out, exact = linear(left, right), linear(left.double(), right.double())
        errors.append(float((out.double() - exact).abs().max() / exact.abs().max()))
        settings.add(torch.get_float32_matmul_precision())
        return out

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    before = torch.get_float32_matmul_precision()
    rates = measure_rates(SHAPES["toy"], "cpu", "float32", seconds=0.0)
    assert torch.get_float32_matmul_precision() == before
    with process_settings(threads=1):
        engines = torch.get_float32_matmul_precision()
    assert settings == {rates.matmul} == {engines}
    assert medium_error is None or engines == "highest"
    assert 0 < max(errors) < 1e-5


def test_half_precision_is_measured_too():
    rates = measure_rates(SHAPES["toy"], "cpu", "bfloat16", seconds=0.0)
    assert min(rates.layers, rates.head, rates.bytes) > 0
