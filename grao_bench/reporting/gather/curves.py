"""Records -> the numbers behind the figures, as tidy DataFrames. Pure: no drawing, no files. Lines
keep the cells' order.

Every frame starts with the columns model, data, method (the row's label), objective and
config_hash, one configuration each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import pandas as pd

from grao_bench.core.records import Run
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.dynamics import probe_series
from grao_bench.reporting.gather.intervals import Interval, over_seeds
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.rows import Row, kept_probe

Axis = Literal["step", "generated_tokens", "forward_tokens", "seconds"]

CELL = ["model", "data", "method", "objective", "config_hash"]
BAND = ["mean", "sd", "low", "high", "seeds"]
VALUES = "values"
"""Column: each seed's own number, as text with blanks between them; the dots of a figure."""


def probe_curve(cells: Sequence[Cell], metric: str = "reward", axis: Axis = "step") -> pd.DataFrame:
    """A dev-batch probe metric (reward, ras, kl, entropy, ...) along training: CELL, step, x, mean,
    sd, low, high, seeds.

    Mean and 95% t interval over the seeds, at the steps that all seeds of the cell have; sd, low
    and high are nan for one seed. x is the axis: the step itself, or what had been spent after it
    (tokens, seconds), averaged over the seeds. A cell whose axis never moves (SFT and DPO generate
    nothing) or was not recorded has no line.
    """
    return _curve(cells, lambda run: probe_series(run, metric), axis)


def step_curve(
    cells: Sequence[Cell], metric: str, axis: Axis = "step", window: int = 1
) -> pd.DataFrame:
    """As `probe_curve`, for a metric of the training steps (loss, loss/<part>, reward/mean,
    grad_norm, ...), moving mean over `window`."""
    return _curve(cells, lambda run: _smooth(_step_series(run, metric), window), axis)


def component_shares(cells: Sequence[Cell], window: int = 1) -> pd.DataFrame:
    """Figure 5: each part's share of the loss's magnitude, |part| / sum of |parts|, for cells whose
    loss has two parts or more.

    CELL, component, step, mean, sd, low, high, seeds; shares are 0..1, taken of the moving means of
    |part| over `window` steps, so a step where all parts are 0 counts for nothing.
    """
    frames = []
    for cell in _trained(cells):
        parts = sorted(
            {
                name
                for run in cell.runs
                for step in run.steps
                for name in step.metrics
                if name.startswith("loss/")
            }
        )
        if len(parts) < 2:
            continue
        by_run = {run.info.seed: _shares(run, parts, window) for run in cell.runs if run.steps}
        for part in parts:
            band = _band({seed: shares[part] for seed, shares in by_run.items()})
            frames.append(
                _tagged(
                    cell,
                    band.reset_index(names="step").assign(component=part.removeprefix("loss/")),
                )
            )
    return _joined(frames, [*CELL, "component", "step", *BAND])


def kl_points(cells: Sequence[Cell]) -> pd.DataFrame:
    """Every probe of every cell, for reward against KL: CELL, seed, step, kept (the policy that was
    evaluated), and the metrics.

    Metrics are as in ProbeRecord: kl (nats per answer), kl_se, kl_token, reward, ras (0..1),
    entropy, j_reference, length, truncated; nan where not measured.
    """
    frames = []
    for cell in _trained(cells):
        for run in cell.runs:
            if run.probes:
                kept = kept_probe(run)
                lines = [
                    {"step": probe.step, "kept": probe is kept, **probe.metrics}
                    for probe in run.probes
                ]
                frames.append(_tagged(cell, pd.DataFrame(lines).assign(seed=run.info.seed)))
    names = [
        "kl",
        "kl_se",
        "kl_token",
        "reward",
        "ras",
        "entropy",
        "j_reference",
        "length",
        "truncated",
    ]
    joined = _joined(frames, [*CELL, "seed", "step", "kept", *names])
    return joined.reindex(columns=[*CELL, "seed", "step", "kept", *names])


def settings_map(rows: Sequence[Row], keys: Mapping[str, str], score: str = "ras") -> pd.DataFrame:
    """A score on the set trained on, by settings: CELL, set, reward, one column per setting, mean,
    sd, low, high, seeds, notes.

    keys: column name -> dotted configuration key. Only rows whose configuration has all of them, as
    numbers, and either a score or a run that did not finish: then the numbers are nan, seeds 0, and
    `notes` has the reason. Two lines with the same settings differ in another one, which their
    `method` (the row's label) says.
    """
    lines = []
    for row in rows:
        found = {name: _setting(row.cell, key) for name, key in keys.items()}
        values = {name: value for name, value in found.items() if value is not None}
        failed = not row.cell.runs and row.cell.missing
        if (
            row.cell.data != row.set
            or row.cell.objective == BASE
            or not (score in row.scores or failed)
            or len(values) < len(keys)
        ):
            continue
        interval = row.scores.get(score) or Interval(
            math.nan, math.nan, math.nan, math.nan, 0, "point"
        )
        lines.append(
            dict[str, object](_tags(row.cell))
            | {"set": row.set, "reward": row.reward}
            | values
            | {
                "mean": interval.mean,
                "sd": interval.sd,
                "low": interval.low,
                "high": interval.high,
                "seeds": len(row.seeds),
            }
            | {VALUES: _values(row.means.get(score, {}).values()), "notes": "; ".join(row.notes)}
        )
    return pd.DataFrame(lines, columns=[*CELL, "set", "reward", *keys, *BAND, VALUES, "notes"])


def beta_lambda_map(rows: Sequence[Row], score: str = "ras") -> pd.DataFrame:
    """`settings_map` over GRAO's beta and lambda; variants of other names or without a part are
    left out."""
    ours = [row for row in rows if row.cell.role.kind == "ours" and not row.cell.first_stage]
    return settings_map(ours, {"beta": "objective.beta", "lam": "objective.lam"}, score)


def group_size_curve(rows: Sequence[Row], score: str = "ras") -> pd.DataFrame:
    """`settings_map` over the group size G, for every objective that rolls out from the base,
    sorted by it; what failed has no point."""
    found = settings_map(
        [row for row in rows if not row.cell.first_stage],
        {"group_size": "objective.rollouts"},
        score,
    )
    found = found.dropna(subset=["mean"])
    return found.sort_values(
        ["model", "data", "objective", "group_size"], kind="stable", ignore_index=True
    )


def _curve(cells: Sequence[Cell], series: Callable[[Run], pd.Series], axis: Axis) -> pd.DataFrame:
    frames = []
    for cell in _trained(cells):
        band = _band({run.info.seed: series(run) for run in cell.runs})
        spent = pd.DataFrame(
            {run.info.seed: _spent(run, axis).reindex(band.index) for run in cell.runs}
        ).mean(axis=1)
        if len(band) and spent.notna().all() and spent.max() > 0:
            frames.append(_tagged(cell, band.assign(x=spent).reset_index(names="step")))
    return _joined(frames, [*CELL, "step", "x", *BAND, VALUES])


def _band(by_seed: Mapping[int, pd.Series]) -> pd.DataFrame:
    """Mean, sd, 95% t interval and number of seeds, at the steps that all have; index step."""
    table = pd.DataFrame(dict(by_seed)).dropna()
    intervals = [over_seeds(values.tolist()) for _, values in table.iterrows()]
    lines = [[one.mean, one.sd, one.low, one.high, one.n] for one in intervals]
    each = [_values(values.tolist()) for _, values in table.iterrows()]
    return pd.DataFrame(lines, columns=BAND, index=table.index).assign(**{VALUES: each})


def _values(values: Iterable[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _spent(run: Run, axis: Axis) -> pd.Series:
    """What a run had spent after each step, with 0 at step 0."""
    if axis == "step":
        steps = {0, *(step.step for step in run.steps), *(probe.step for probe in run.probes)}
        return pd.Series({step: float(step) for step in sorted(steps)})
    if axis == "seconds":
        each = {int(line["step"]): float(line["seconds"]) for line in run.timing}
    else:
        each = {step.step: float(getattr(step, axis)) for step in run.steps}
    return pd.Series({0: 0.0} | each, dtype=float).sort_index().cumsum()


def _shares(run: Run, parts: Sequence[str], window: int) -> pd.DataFrame:
    sizes = pd.DataFrame({part: _smooth(_step_series(run, part).abs(), window) for part in parts})
    return sizes.div(sizes.sum(axis=1).where(lambda total: total > 0), axis=0)


def _step_series(run: Run, metric: str) -> pd.Series:
    return pd.Series(
        {step.step: float(step.metrics[metric]) for step in run.steps if metric in step.metrics},
        dtype=float,
    )


def _smooth(series: pd.Series, window: int) -> pd.Series:
    return series.rolling(window, min_periods=1).mean() if len(series) and window > 1 else series


def _setting(cell: Cell, key: str) -> float | None:
    value: object = cell.config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _trained(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.trained and cell.runs]


def _tags(cell: Cell) -> dict[str, str]:
    return {
        "model": cell.model,
        "data": cell.data,
        "method": cell.label,
        "objective": cell.objective,
        "config_hash": cell.config_hash,
    }


def _tagged(cell: Cell, frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**_tags(cell))


def _joined(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame(columns=list(columns))
    joined = pd.concat(frames, ignore_index=True)
    return joined[[name for name in columns if name in joined]]
