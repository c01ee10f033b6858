"""The matrix products' precision is measured, not assumed."""

from __future__ import annotations

import pytest
import torch

from grao_bench import precision


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
