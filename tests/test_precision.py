"""The matrix products' precision is measured, not assumed."""

from __future__ import annotations

import pytest
import torch

from grao_bench.core import precision


@pytest.fixture(autouse=True)
def restored():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_the_error_of_true_float32_is_near_its_machine_epsilon():
    """512 products of size 1 summed: some multiples of 6e-8; bfloat16 inputs would give about 1e-3."""
    torch.set_float32_matmul_precision("highest")
    assert 1e-9 < precision.float32_error() < 5e-6


def test_a_path_that_rounds_too_much_is_not_taken(monkeypatch):
    """With a tolerance that nothing meets, and with one that everything does."""
    monkeypatch.setattr(precision, "FLOAT32_TOLERANCE", 0.0)
    assert precision.fast_float32() == "highest"
    monkeypatch.setattr(precision, "FLOAT32_TOLERANCE", 1.0)
    assert precision.fast_float32() == "medium"


def test_what_is_set_keeps_float32():
    precision.fast_float32()
    assert precision.float32_error() <= 1e-5


def test_bfloat16_is_asked_of_the_hardware():
    assert precision.bfloat16_in_hardware(torch.device("cpu")) in (True, False)


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        ({"avx512_f": True, "avx2": True}, False),
        ({}, False),
        ({"avx512_bf16": False, "amx_tile": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_tile": True}, True),
    ],
)
def test_what_a_processor_has_is_in_its_flags(flags, there):
    assert precision.multiplies_bfloat16(flags) is there
    line = precision.emulated("model.dtype", "bfloat16", flags, 7.25)
    if there:
        assert line == ""
    else:
        assert line.startswith("model.dtype=bfloat16: this processor has no bfloat16 products")
        assert "a matrix product takes 7.2 times as long as in float32" in line


def test_nothing_is_said_of_what_costs_nothing():
    """Of another dtype, auto among them, and where it is no slower after all."""
    for dtype in ("float32", "auto", "float64"):
        assert precision.emulated("model.dtype", dtype, {}, 7.0) == ""
    assert precision.emulated("model.dtype", "bfloat16", {}, 0.9) == ""


def test_the_cost_is_measured_here():
    """It was 0.3 to 30 on every processor that we know; the same number within a process."""
    slower = precision.times_slower()
    assert 0.01 < slower < 1000
    assert precision.times_slower() == slower
