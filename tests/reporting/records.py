"""Small record folders, written as a run would write them, for the reporting tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from grao_bench.core.record_files import write_info, write_lines
from grao_bench.core.records import Criteria, EvalRecord, JudgeCounts, ProbeRecord, RunInfo, StepRecord, TaskRecord

HELPFUL, HARMLESS = "world_helpful", "world_harmless"


def evaluation(
    verdicts: Sequence[float], *, finished: Sequence[bool] | None = None, prompt: str = "", reference: str = "", answer: str = "an answer"
) -> list[EvalRecord]:
    """A record per verdict; ids p0, p1, ...; 10, 11, ... tokens; the reward is the verdict."""
    done = finished or [True] * len(verdicts)
    texts = {"prompt": prompt, "reference": reference, "answer": answer}
    return [EvalRecord(f"p{i}", float(verdict), float(verdict), 10 + i, done[i], **texts) for i, verdict in enumerate(verdicts)]


def share(percent: float, prompts: int = 100) -> list[EvalRecord]:
    """Records of which this share wins and the rest loses: RAS is `percent`, to within a prompt."""
    return evaluation([1.0] * round(percent * prompts / 100) + [-1.0] * (prompts - round(percent * prompts / 100)))


def write_run(
    root: Path,
    objective: str,
    evaluations: Mapping[tuple[str, str], Sequence[EvalRecord]],
    *,
    model: str = "tiny",
    data: str = HELPFUL,
    seed: int = 0,
    config_hash: str = "aaaaaaaabbbb",
    config: Mapping[str, Any] | None = None,
    reward: str = "gold",
    fingerprints: Mapping[str, str] | None = None,
    steps: Sequence[StepRecord] = (),
    probes: Sequence[ProbeRecord] = (),
    seconds: Sequence[float] = (),
    peak_memory: int | None = None,
    hash_version: int = 1,
    lm_eval: Sequence[TaskRecord] = (),
    judges: Mapping[str, Mapping[str, JudgeCounts]] | None = None,
    criteria: Mapping[str, Criteria] | None = None,
    role: str = "",
) -> Path:
    """Writes one finished run and returns its folder; `seconds` are those of each step."""
    folder = root / model / data / f"{objective}-{config_hash[:8]}" / f"seed{seed}"
    folder.mkdir(parents=True)
    prints = {"data": f"data of {data}", "base": f"base of {model}"} | dict(fingerprints or {})
    environment = {"python": "3.11"}
    write_info(
        folder,
        RunInfo(
            objective,
            model,
            data,
            reward,
            seed,
            config_hash,
            dict(config or {}),
            prints,
            environment,
            peak_memory=peak_memory,
            hash_version=hash_version,
            judges={what: dict(counts) for what, counts in (judges or {}).items()},
            criteria=dict(criteria or {}),
            role=role,
        ),
    )
    for (name, source), records in evaluations.items():
        write_lines(folder / "evaluations" / f"{name}-{source}.jsonl", records)
    write_lines(folder / "steps.jsonl", steps)
    write_lines(folder / "probes.jsonl", probes)
    if lm_eval:
        write_lines(folder / "lm_eval.jsonl", lm_eval)
    write_lines(folder / "timing.jsonl", [{"step": i, "seconds": value} for i, value in enumerate(seconds, 1)])
    return folder


def write_unfinished(
    root: Path,
    objective: str,
    reason: str,
    *,
    data: str = HELPFUL,
    seed: int = 0,
    config_hash: str = "aaaaaaaabbbb",
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Writes one unfinished cell with its error, and its configuration where there is one; returns its folder."""
    folder = root / "tiny" / data / f"{objective}-{config_hash[:8]}" / f"seed{seed}.partial"
    folder.mkdir(parents=True)
    (folder / "error.txt").write_text(f"{reason}\n", encoding="utf-8")
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    return folder
