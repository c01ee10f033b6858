"""Nothing that we call warns that it is about to go away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMOKE = (
    "objective=grpo data=world_helpful data.num_train=16 data.corpus_documents=200 budget=smoke "
    "budget.steps=1 evaluation.sets=own evaluation.max_examples=2 model.steps=2 model.vocab_size=512 "
    "threads=1 output=runs"
)


def test_a_cell_deprecates_nothing(tmp_path):
    """As a user starts it, with what Python would have said once turned into errors."""
    flags = ["-W", "error::FutureWarning", "-W", "error::DeprecationWarning"]
    command = [sys.executable, *flags, "-m", "grao_bench.train", *SMOKE.split(), "sweep=w"]
    settings = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    done = subprocess.run(command, **settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Warning" not in done.stderr
    (record,) = tmp_path.glob("runs/w/tiny/world_helpful/*/seed0/run.json")
    assert json.loads(record.read_text(encoding="utf-8"))
