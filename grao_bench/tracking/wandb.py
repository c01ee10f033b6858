"""Weights & Biases: one run per cell, group = the sweep, job type = the objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grao_bench.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class WandbTracking:
    """mode `offline` writes below the run folder without an account (`wandb sync` uploads it later); `online` needs `wandb login`."""

    project: str
    entity: str | None
    mode: Literal["online", "offline"]

    def build(self, folder: Path, group: str, job_type: str, name: str, config: Mapping[str, Any]) -> WandbTracker:
        """Starts a W&B run; UserError where it can't be started."""
        import wandb

        try:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                mode=self.mode,
                dir=str(folder),
                group=group,
                job_type=job_type,
                name=name,
                config=dict(config),
                reinit="finish_previous",
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.Error as error:
            advice = "run `wandb login`, or use tracking=wandb_offline"
            raise UserError(f"tracking.mode={self.mode}: wandb could not start ({error}); {advice}") from None
        return WandbTracker(run)


class WandbTracker:
    """Sends metrics to one W&B run."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one step."""
        self.run.log(dict(metrics), step=step)

    def summary(self, metrics: Mapping[str, float]) -> None:
        """The evaluation's scores."""
        self.run.summary.update(dict(metrics))

    def finish(self, failed: bool = False) -> None:
        """Ends the run, so that the next cell of a sweep in this process starts its own."""
        self.run.finish(exit_code=int(failed))
