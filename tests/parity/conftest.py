"""What the parity tests need: TRL of exactly one version, silent, and the wheel of the last TRL that holds PPO."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when the hub's library is imported
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

TRL = "1.16.0"
TRL_WITH_PPO = "1.12.0"
SHA256 = "9c8f117b21a941edbc85744f5a341c9453d38e81f24ae81d3c6e9b9ca3b96409"


@pytest.fixture(scope="session")
def trl():
    """The module, of the version that these tests cut lines out of; else a skip that says what to install."""
    module = pytest.importorskip("trl", reason="the peer is not installed: pip install -e '.[parity]'")
    if module.__version__ != TRL:
        pytest.skip(f"trl {module.__version__} is installed; these tests read the source of {TRL}: pip install -e '.[parity]'")
    return module


@pytest.fixture(scope="session")
def trl_with_ppo(trl, pytestconfig, tmp_path_factory) -> Path:
    """A folder that holds TRL 1.12.0, unpacked: the last with PPO. Fetched once into pytest's cache; a skip where it can't be."""
    cache = getattr(pytestconfig, "cache", None)  # None under -p no:cacheprovider
    folder = cache.mkdir(f"trl-{TRL_WITH_PPO}") if cache else tmp_path_factory.mktemp("trl")
    wheel = folder / f"trl-{TRL_WITH_PPO}-py3-none-any.whl"
    if not wheel.exists():
        _download(wheel)
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        pytest.fail(f"{wheel}: not the wheel that these tests were written against; remove it")
    unpacked = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked


def _download(wheel: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", f"trl=={TRL_WITH_PPO}"]
    with tempfile.TemporaryDirectory(dir=wheel.parent) as aside:
        try:
            done = subprocess.run([*command, "--dest", aside], capture_output=True, text=True, timeout=120, check=False)
            reason = done.stderr.strip().splitlines()[-1:] if done.returncode else None
        except subprocess.TimeoutExpired as error:
            reason = [str(error)]
        if reason is not None:
            pytest.skip(f"trl {TRL_WITH_PPO}, the last with PPO, can't be fetched: {' '.join(reason)}")
        os.replace(Path(aside) / wheel.name, wheel)  # whole or not at all: two workers may fetch it at once
