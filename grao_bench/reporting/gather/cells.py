"""One configuration and its runs: a cell. Different hashes are never merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grao_bench.core.records import Run
from grao_bench.reporting.gather.roles import BASE, CONTROL, Role, role_of

EvalKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Missing:
    """A cell's seed that started and did not finish, and why. `config` is empty where it left
    none."""

    folder: Path
    seed: str
    reason: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One configuration: its finished runs by seed (may be none) and its unfinished ones. `label`
    is its row's name."""

    model: str
    data: str
    objective: str
    config_hash: str
    label: str
    runs: tuple[Run, ...]
    missing: tuple[Missing, ...] = ()

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration of its first run, finished or not; empty when none recorded
        it."""
        return (
            self.runs[0].info.config
            if self.runs
            else next((lost.config for lost in self.missing if lost.config), {})
        )

    @property
    def trained(self) -> bool:
        """Whether it was trained here; not a base, nor a checkpoint that was evaluated alone."""
        return self.objective != BASE and self.config.get("objective", "") is not None

    @property
    def control(self) -> bool:
        """Whether it is a control: a row below the objectives', in no test."""
        return self.role.kind == CONTROL

    @property
    def role(self) -> Role:
        """What its objective is among the others."""
        told = self.config.get("role") if not self.runs else ""
        told = told or next((run.info.role for run in self.runs if run.info.role), "")
        return role_of(self.objective, str(told), str(self.runs[0].folder if self.runs else ""))

    @property
    def first_stage(self) -> str:
        """The folder of the run that training started from, as the first run names it; empty where
        it started from the base."""
        return start_of(self.config)

    @property
    def base_fingerprint(self) -> str:
        """The fingerprint of the base model's weights; empty when none finished."""
        return self.runs[0].info.fingerprints.get("base", "") if self.runs else ""


def start_of(config: Mapping[str, Any]) -> str:
    """model.start_from of a configuration, empty where there is none."""
    model = config.get("model")
    return str(model.get("start_from") or "") if isinstance(model, Mapping) else ""


def first_objective(folder: str) -> str:
    """The objective that made the run in .../<objective>-<hash8>/seed<k>; the folder's own name
    where it is not laid out so."""
    path = Path(folder)
    return path.parent.name.rpartition("-")[0] or path.name
