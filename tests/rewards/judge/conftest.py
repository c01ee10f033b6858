"""The judge's key, and no proxy between a test and its server."""

from __future__ import annotations

import pytest

from .checkpoint import LittleJudge, little_judge
from .fault_server import KEY
from .setting import KEY_VARIABLE


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def little(tmp_path_factory) -> LittleJudge:
    """A checkpoint that judges six pairs."""
    return little_judge(tmp_path_factory.mktemp("little"))
