"""The scaling benchmark on a toy model, from command line to figure."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.scaling import growth, main

SMALL = "--model toy --answers 1 2 --prompt 16 --answer --vocabulary 128 --base 2 16 4 --prompts 2"
QUICK = "--no-standard --repeats 1 --rate-seconds 0.01"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """The benchmark chooses torch's product path and the offline switches for its whole process."""
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_from_command_line_to_figure(tmp_path, capsys):
    main([*SMALL.split(), *QUICK.split(), "--out", str(tmp_path)])
    said = json.loads((tmp_path / "scaling.json").read_text())
    assert [(point["axis"], point["value"]) for point in said["points"]] == [
        ("answers", 1),
        ("answers", 2),
        ("prompt", 16),
        ("vocabulary", 128),
    ]
    # two prompts, K answers, 4 tokens each
    assert [point["generated_tokens"] for point in said["points"]] == [8, 16, 16, 16]
    for point in said["points"]:
        (step,) = point["steps"]
        assert point["rollout_seconds"] + point["train_seconds"] == pytest.approx(step["seconds"])
        floors = point["rollout_floor"] + point["train_floor"]
        assert point["step_over_floor"] == pytest.approx(step["seconds"] / floors)
        assert point["train_utilisation"] * point["train_seconds"] < point["utilisation"] * step["seconds"]
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "answers per prompt K" in (tmp_path / "scaling.svg").read_text()
    assert "for 2 times the answers" in capsys.readouterr().out


def test_growth_is_against_the_least_k():
    points = [
        {"axis": "standard", "value": 8, "rollout_seconds": 9.0, "train_seconds": 9.0},
        {"axis": "answers", "value": 2, "rollout_seconds": 1.0, "train_seconds": 3.0},
        {"axis": "answers", "value": 8, "rollout_seconds": 2.0, "train_seconds": 4.0},
    ]
    assert growth(points) == [{"value": 8, "first": 2, "times": 1.5, "answers": 4.0}]


@pytest.mark.parametrize("words", ["--repeats 0", "--answer 1", "--prompt 7"])
def test_what_cannot_be_is_said(words, capsys):
    with pytest.raises(SystemExit):
        main(words.split())
    assert "at least" in capsys.readouterr().err
