"""Run folders as they lie on disk."""

from __future__ import annotations

import gzip
import json
from functools import cached_property
from pathlib import Path

import pandas as pd


def lines(path: Path) -> list[dict]:
    """JSON lines, plain or compressed; none where there is no file."""
    packed = path.with_name(f"{path.name}.gz")
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else b""
    raw = raw or (path.read_bytes() if path.exists() else b"")
    found: list[dict] = json.loads(b"[" + b",".join(raw.splitlines()) + b"]")
    return found


class Run:
    """One run.json and what lies beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info = json.loads((path / "run.json").read_text(encoding="utf-8"))
        self.seed: int = self.info["seed"]

    @cached_property
    def keys(self) -> dict[tuple[str, str], Path]:
        """(set, judge) -> its file; a set's name has no hyphen."""
        found = (self.path / "evaluations").glob("*.jsonl*")
        named = [path.with_name(f"{path.name.split('.jsonl')[0]}.jsonl") for path in found]
        keys = [path.stem.split("-", 1) for path in named]
        return {(of, judge): path for (of, judge), path in zip(keys, named, strict=True)}

    def answers(self, key: tuple[str, str]) -> pd.DataFrame:
        """A row an answer, by cluster, prompt and draw; older records have neither clusters nor
        several draws."""
        if key not in self._answers:
            frame = pd.DataFrame(lines(self.keys[key]))
            for name, value in (("draw", 0), ("excluded", False)):
                frame[name] = frame.get(name, value)
            if "cluster" not in frame:
                frame["cluster"] = None
            frame["cluster"] = frame["cluster"].fillna(frame["example_id"])
            frame["verdict"] = frame["verdict"].astype(float)
            self._answers[key] = frame.set_index(["cluster", "example_id", "draw"], drop=False)
        return self._answers[key]

    @cached_property
    def _answers(self) -> dict:
        return {}

    @cached_property
    def steps(self) -> list[dict]:
        return lines(self.path / "steps.jsonl")

    @cached_property
    def probes(self) -> list[dict]:
        return lines(self.path / "probes.jsonl")

    @cached_property
    def seconds(self) -> list[dict]:
        return lines(self.path / "timing.jsonl")

    @property
    def kept(self) -> dict | None:
        """The probe of the policy that was evaluated."""
        step = self.info.get("kept_step")
        found = [one for one in self.probes if step is None or one["step"] == step]
        return found[-1]["metrics"] if found else None

    def series(self, metric: str = "reward") -> pd.Series:
        """A probe's metric by step."""
        known = [one for one in self.probes if metric in one["metrics"]]
        return pd.Series({one["step"]: one["metrics"][metric] for one in known}, dtype=float)

    def step_series(self, metric: str) -> pd.Series:
        """A training step's metric by step."""
        known = [one for one in self.steps if metric in one["metrics"]]
        return pd.Series({one["step"]: one["metrics"][metric] for one in known}, dtype=float)


class Folder:
    """The runs below a folder under results/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = [Run(one.parent) for one in sorted(path.rglob("run.json"))]
        main = path / "tables.csv"
        self.tables = pd.read_csv(main, dtype=str, keep_default_na=False)

    def of(self, row: dict) -> list[Run]:
        """The runs of a row of numbers, by seed."""
        same = [
            run
            for run in self.runs
            if (run.info["model"], run.info["objective"]) == (row["model"], row["objective"])
            and (not row.get("trained_on") or run.info["data"] == row["trained_on"])
        ]
        exact = [run for run in same if run.info["config_hash"][:8] == str(row["config_hash"])[:8]]
        started = [run for run in same if (run.info["config"].get("model") or {}).get("start_from")]
        return sorted(exact or started, key=lambda run: run.seed)

    def labelled(self, key: tuple[str, str], model: str, label: str) -> list[Run]:
        """The runs of a row by its name, in the table of what was trained on the set."""
        at = self.tables
        mine = at[(at["method"] == label) & (at["model"] == model) & (at["set"] == key[0])]
        mine = mine[mine["trained_on"].isin((key[0], ""))]
        (row,) = mine[mine["reward_source"] == key[1]].to_dict("records")
        return [run for run in self.of(row) if key in run.keys]

    def base(self, run: Run, key: tuple[str, str]) -> Run | None:
        """The run of its base's answers: of several those to the same prompts and draws."""
        weights = run.info["fingerprints"].get("base")
        found = [
            one
            for one in self.runs
            if one.info["objective"] == "base" and key in one.keys
            if one.info["fingerprints"].get("base") == weights
        ]
        if len(found) > 1:
            asked = set(run.answers(key).index)
            found = [one for one in found if asked == set(one.answers(key).index)]
        return found[0] if found else None
