"""What holds for every test: one thread, no user cache, no network, and a quiet transformers."""

from __future__ import annotations

import pytest
import torch
from transformers.utils import logging

torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory, monkeypatch):
    """A base that a test pre-trains never lands in, or comes from, the user's cache; no hub is asked."""
    monkeypatch.setenv("GRAO_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
