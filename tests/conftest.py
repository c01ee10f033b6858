"""What holds for every test: one thread, no user cache, no network, a quiet transformers; and command lines that start at once."""

from __future__ import annotations

import os
from functools import partial

import pytest

from tests.commands import Commands

# threads that wait sleep: spinning, they take the core from another worker's test
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's library is imported, so before it is


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None):
        return  # its workers run the tests
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory):
    """A base that a test pre-trains never lands in, or comes from, the user's cache. All workers share one, so it is trained once."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAO_BENCH_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
        for name in ("HYDRA_FULL_ERROR", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def _commands(_private_cache):
    with Commands() as commands:
        yield commands


@pytest.fixture
def command(_commands, tmp_path):
    """`command("train", "objective=sft", ...)` is python -m grao_bench.train objective=sft ..., in tmp_path."""
    return partial(_commands.run, tmp_path)
