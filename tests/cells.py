"""A cell small enough to train in half a second, for the library and for the command lines; both share one pre-trained base."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grao_bench.core.specs import conf_dir, load
from grao_bench.data.world import WorldData
from grao_bench.experiment import Experiment

MODEL = {"hidden_size": 32, "layers": 1, "vocab_size": 512, "steps": 200, "learning_rate": 0.01}
# every pair is swapped: next to references that are bad, some answers of so small a model win, and rewards differ
WORLD = {"num_train": 32, "num_dev": 8, "num_test": 8, "corpus_documents": 200, "label_noise": 1.0}
SMALL = {
    "model/tiny": MODEL,
    "data/world_helpful": WORLD,
    "data/world_harmless": WORLD,
    "evaluation/standard": {"sets": "own", "answers_per_prompt": 1},
}

TINY_BASE = tuple(f"model.{key}={value}" for key, value in MODEL.items())
SMALL_WORLD = (
    *TINY_BASE,
    *(f"data.{key}={value}" for key, value in WORLD.items()),
    "evaluation.sets=own",
    "evaluation.answers_per_prompt=1",
    "budget=smoke",
    "optimizer.lr=0.002",
)

OBJECTIVES = sorted(path.stem for path in (conf_dir() / "objective").glob("*.yaml"))


def small(name: str, **changed: Any) -> Any:
    """load(name), in the size that the tests use."""
    return load(name, **(SMALL.get(name, {}) | changed))


def cell(objective: str, output: Path | str, **changed: Any) -> Experiment:
    """A cell of this objective on the small world; `changed` are fields of Experiment."""
    fields = {
        # a policy that only its value head learns in would not be trained at all in so few steps
        "objective": load(f"objective/{objective}", **({"value_only_steps": 1} if objective == "ppo" else {})),
        "model": small("model/tiny"),
        "data": small("data/world_helpful"),
        "reward": load("reward/gold"),
        "rollout": load("rollout/shared_prefix"),
        "optimizer": load("optimizer/adamw", lr=0.002, warmup_steps=0),
        "budget": load("budget/smoke"),
        "evaluation": small("evaluation/standard"),
        "tracking": load("tracking/none"),
        "save_model": None,
        "role": None,
        "seed": 0,
        "threads": 1,
        "output": str(output),
        "sweep": "small",
    }
    return Experiment(**(fields | changed))


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what it holds."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """The bytes of the files below a folder that fit a pattern; every pattern must fit at least one."""
    found = {pattern: sorted(folder.glob(pattern)) for pattern in patterns}
    assert all(found.values()), found
    return {str(path.relative_to(folder)): path.read_bytes() for paths in found.values() for path in paths}


RESULTS = ("steps.jsonl", "probes.jsonl", "evaluations/*.jsonl", "model/*.safetensors")
"""What a configuration and a seed determine, byte for byte."""


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A JSON-lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def world_rows(count: int, pairs: bool = True) -> list[dict[str, Any]]:
    """Rows of prompt, chosen and rejected from the embedded world, for data=jsonl."""
    data: WorldData = small("data/world_helpful", num_train=count)
    return [
        {"prompt": example.prompt[0].text, "chosen": example.chosen, **({"rejected": example.rejected} if pairs else {})}
        for example in data.build().train
    ]
