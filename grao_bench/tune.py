"""python -m grao_bench.tune: rates (and weights) for every objective on every set, chosen on dev.

    python -m grao_bench.tune protocol=laptop                 conf/tune/laptop.yaml
    python -m grao_bench.tune protocol=laptop estimate=true   what it takes; nothing is trained
    ... into=results/tuning   where the tables go (default: <output>/<sweep>/tuning)
    ... write=false           leave conf/lr_by as it is
    ... output=, n_jobs=, allow_dirty=true; any other key=value is an override of every cell

Cells lie where a sweep's do. What has finished is not run again: a tuning that was stopped goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from omegaconf import DictConfig, OmegaConf

from grao_bench.cli.command_line import composed, quiet_transformers, quit_with, to_value
from grao_bench.core.errors import UserError
from grao_bench.core.process import process_settings
from grao_bench.core.provenance import code_revision
from grao_bench.core.record_files import read_run
from grao_bench.core.specs import conf_dir
from grao_bench.experiment import Experiment
from grao_bench.runs.cell import read_data
from grao_bench.runs.check import check
from grao_bench.runs.estimate import estimate
from grao_bench.runs.progress import GridProgress, say
from grao_bench.runs.rehearsal import rehearse
from grao_bench.runs.run import run
from grao_bench.train import NO_FIELDS, PACKAGE, make_bases, require_traceable
from grao_bench.tuning.choice import Choice, Trial, choices, dev_ras
from grao_bench.tuning.protocol import Ranges, Settings, TuningProtocol
from grao_bench.tuning.written import write_rates, write_tables

Where = tuple[str, str]
"""(objective, set)."""
Plan = Mapping[Where, Sequence[tuple[int, Settings]]]
"""The trials of each, with the round that each belongs to."""
OWN = ("protocol", "estimate", "into", "write", "output", "n_jobs", "allow_dirty")


def main() -> int:
    """The command line; 2 for a user's mistake."""
    quiet_transformers()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        asked, overrides = _split(sys.argv[1:])
        protocol = read_protocol(asked.get("protocol", "laptop"))
        if "n_jobs" in asked:
            protocol = replace(protocol, n_jobs=int(asked["n_jobs"]))
        output = asked.get("output", "runs")
        tuning = Tuning.of(protocol, output, overrides)
        if asked.get("estimate") == "true":
            print(tuning.estimated())
            return 0
        allowed = asked.get("allow_dirty") == "true"
        if told := require_traceable(protocol.committed, allowed, protocol.sweep):
            say(f"grao_bench: {told}")
        made = tuning.run()
        into = Path(asked.get("into", f"{output}/{protocol.sweep}/tuning"))
        write_tables(into, protocol, made, code_revision(PACKAGE))
        print((into / "tuning.md").read_text(encoding="utf-8"))
        if asked.get("write", "true") == "true":
            path = conf_dir() / "lr_by" / f"{protocol.table}.yaml"
            write_rates(path, made, asked.get("protocol", "laptop"))
            print(f"rates written: {path}; see git diff")
    except UserError as error:
        quit_with(error)
    return 0


def _split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(this command's own keys, overrides of every cell)."""
    own: dict[str, str] = {}
    others = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: give key=value; own keys are {', '.join(OWN)}")
        if key in OWN:
            own[key] = value
        else:
            others.append(word)
    if not own.get("n_jobs", "1").isdigit():
        raise UserError(f"n_jobs={own['n_jobs']}: must be a number of processes")
    return own, others


def read_protocol(name: str) -> TuningProtocol:
    """conf/tune/<name>.yaml, or a file; UserError for what is no protocol."""
    path = Path(name) if name.endswith(".yaml") else conf_dir() / "tune" / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(one.stem for one in (conf_dir() / "tune").glob("*.yaml")))
        what = f"there is no {path.name}; there are {there}, or give a file"
        raise UserError(f"protocol={name}: {what}")
    written = OmegaConf.create(path.read_text(encoding="utf-8"))
    if not isinstance(written, DictConfig):
        raise UserError(f"protocol={name}: {path} is no mapping; conf/tune/laptop.yaml is one")
    protocol: TuningProtocol = to_value(written, key="tune")
    return protocol


@dataclass(frozen=True)
class Tuning:
    """A protocol being followed. cells: each objective's experiment on each set, of which a trial
    changes the settings and the seed."""

    protocol: TuningProtocol
    cells: Mapping[Where, Experiment]

    @classmethod
    def of(cls, protocol: TuningProtocol, output: str, overrides: Sequence[str]) -> Tuning:
        """With its cells below `output`. UserError for a cell that does not compose."""
        cells = {}
        for data in protocol.sets:
            for objective in protocol.objectives:
                words = [f"objective={objective}", f"data={data}", f"sweep={protocol.sweep}"]
                words += [*protocol.overrides, f"output={output}", *overrides]
                cells[objective, data] = to_value(composed("train", words), NO_FIELDS)
        return cls(protocol, cells)

    def run(self) -> list[Choice]:
        """Rounds of trials until no best lies at an edge, or `most_rounds` were added."""
        search, seeds = self.protocol.search, len(self.protocol.seeds)
        plan = {key: [(0, one) for one in search.first(self._ranges(key))] for key in self.cells}
        made: list[Choice] = []
        failed: set[Path] = set()
        for again in range(self.protocol.most_rounds + 1):
            self._train(plan, again, failed)
            made = choices(self._read(plan), seeds)
            if not any(one.at_edge for one in made) or again == self.protocol.most_rounds:
                break
            for one in made:
                key = (one.best.objective, one.best.data)
                tried = [trial.settings for trial in one.trials]
                added = search.more(self._ranges(key), tried, one.best.settings, again + 1)
                plan[key] += [(again + 1, each) for each in added]
        return made

    def estimated(self) -> str:
        """Seconds of a cell of each objective and set, and what the rounds take."""
        seeds, total, added = len(self.protocol.seeds), 0.0, 0.0
        lines = []
        for key, cell in self.cells.items():
            ranges = self._ranges(key)
            first = self.protocol.search.first(ranges)
            tried = sorted(first)
            more = self.protocol.search.more(ranges, tried, tried[0], 1)
            with process_settings(cell.threads):
                one = estimate(_changed(cell, first[0], self.protocol.seeds[0]))
            total += one.total_seconds * len(first) * seeds
            added += one.total_seconds * len(more) * seeds
            parts = ", ".join(f"{name} {value:.0f}" for name, value in one.seconds.items())
            a_cell = f"{one.total_seconds:.0f} s a cell ({parts})"
            lines.append(f"{key[0]} on {key[1]}: {a_cell}, {len(first) * seeds} cells")
        jobs, most = self.protocol.n_jobs, self.protocol.most_rounds
        lines += [
            f"first round: {total / 60:.0f} core-minutes ({jobs} processes at once)",
            f"each further round, of which there are at most {most}: {added / 60:.0f} core-minutes",
            "seconds are as timed here and now: other work on this machine stretches them",
        ]
        return "\n".join(lines)

    def _ranges(self, key: Where) -> Ranges:
        return self.protocol.ranges(key[0])

    def _experiments(self, plan: Plan) -> list[Experiment]:
        """Every cell of the plan, trial by trial: a stopped tuning has tried all objectives."""
        longest = max(len(trials) for trials in plan.values())
        return [
            _changed(self.cells[key], trials[i][1], seed)
            for i in range(longest)
            for seed in self.protocol.seeds
            for key, trials in plan.items()
            if i < len(trials)
        ]

    def _train(self, plan: Plan, again: int, failed: set[Path]) -> None:
        """The cells that are not finished, in n_jobs processes. What failed is said, and added to
        `failed`, whose cells are not tried again."""
        cells = self._experiments(plan)
        due = [one for one in cells if not one.folder.is_dir() and one.folder not in failed]
        if not due:
            return
        with process_settings(threads=1):
            for one in cells:
                check(one)
            for one in {(each.objective.name, each.data.name): each for each in due}.values():
                rehearse(one, read_data)
        make_bases(due)
        titled = [(one.folder, _title(one), one.budget.steps) for one in cells]
        progress = GridProgress(f"{self.protocol.sweep}, round {again}", titled)
        progress.start()
        try:
            workers = Parallel(n_jobs=self.protocol.n_jobs, batch_size=1)
            faults = workers(delayed(_train_cell)(one) for one in due)
        finally:
            progress.finish()
        for one, fault in zip(due, faults, strict=True):
            if fault:
                failed.add(one.folder)
                say(f"grao_bench: {one.folder}: {fault}")

    def _read(self, plan: Plan) -> list[Trial]:
        found = []
        for key, trials in plan.items():
            for again, one in trials:
                cells = [_changed(self.cells[key], one, seed) for seed in self.protocol.seeds]
                finished = [cell for cell in cells if cell.folder.is_dir()]
                done = {cell.seed: dev_ras(read_run(cell.folder)) for cell in finished}
                found.append(Trial(key[0], key[1], one, again, done))
        return found


def _changed(cell: Experiment, settings: Settings, seed: int) -> Experiment:
    """The cell with a trial's settings; UserError for a key that it lacks."""
    changed: Any = replace(cell, seed=seed)
    for key, value in settings:
        part, _, name = key.partition(".")
        spec = getattr(changed, part, None)
        if spec is None or not hasattr(spec, name):
            where = f"tune: objectives.{cell.objective.name}.{key}"
            raise UserError(f"{where}: the cell has no such key")
        changed = replace(changed, **{part: replace(spec, **{name: value})})
    assert isinstance(changed, Experiment)
    return changed


def _train_cell(experiment: Experiment) -> str:
    """In a process of its own; returns what went wrong, or ""."""
    quiet_transformers()
    try:
        run(experiment, rehearsed=True)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _title(one: Experiment) -> str:
    """Of a cell in the display."""
    return f"{one.objective.name}/{one.data.name}/{one.optimizer.lr:g}/{one.seed}"


if __name__ == "__main__":
    sys.exit(main())
