"""The whole way on real software: `transformers serve` with a checkpoint that has learnt to judge, asked through the openai client."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from .setting import judge

STARTUP_SECONDS = 180


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"transformers serve did not start: {log.read_text()}")


@pytest.mark.slow
@pytest.mark.skipif(not is_serve_available(), reason="needs transformers[serving]: pip install 'grao-bench[serving]'")
def test_a_served_checkpoint_judges_through_the_client(little, tmp_path):
    port, log = free_port(), tmp_path / "serve.log"
    command = [Path(sys.executable).with_name("transformers"), "serve", str(little.folder), "--host", "127.0.0.1", "--port", str(port)]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with (
        log.open("wb") as output,
        subprocess.Popen([*command, "--device", "cpu", "--dtype", "float32"], stdout=output, stderr=output, env=env) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}", server, log)
            asked = {"prompt": str(little.prompt), "model": str(little.folder), "orders": "both", "call_timeout": 60.0, "concurrency": 2}
            source = judge(f"http://127.0.0.1:{port}/v1", tmp_path / "j.sqlite", **asked)
            verdicts = source.score(little.asked)
        finally:
            server.terminate()
            server.wait(30)
    assert [verdict.reward for verdict in verdicts] == list(little.rewards)
    assert verdicts[0].replies == ("1 > 2", "1 < 2")
    (found,) = source.statistics().values()
    assert (found.excluded, found.calls, found.unreadable) == (0.0, 12.0, 0.0)
    assert found.position_consistency == pytest.approx(5 / 6)
    assert found.prompt_tokens > 12 * 20
    # without its server, everything is there
    again = judge(f"http://127.0.0.1:{port}/v1", tmp_path / "j.sqlite", **asked)
    assert [verdict.reward for verdict in again.score(little.asked)] == list(little.rewards)
    assert again.statistics()[again.name].calls == 0.0
