"""python -m grao_bench.controls <folder>: rows below the tables of a finished sweep.

The reference itself, the commonest reference, the prompt copied, an empty answer, the best of
several answers of the base, and what the data set has of its own (the embedded world: exploits and
an oracle), judged on the same prompts by the same judge as the sweep's runs. Their records lie
beside the runs, where `report` finds them.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import PARTIAL, find_runs, write_info
from grao_bench.core.records import Run, RunInfo
from grao_bench.reporting.gather.roles import CONTROL

OnRow = Callable[[str, int, int], None]
"""Called with (of which model and set, rows made, rows)."""


@dataclass(frozen=True)
class Row:
    """A row to be made: its label, and the engine that draws its answers on a set, by its name."""

    label: str
    engines: dict[str, Any]


def add_controls(
    folder: Path,
    best_of: int = 8,
    trust: Collection[str] = (),
    on_row: OnRow | None = None,
    on_pretrain: Callable[[int, int, float], None] | None = None,
) -> list[Path]:
    """The folders of the control rows of every model and set that runs below `folder` trained on;
    those that are there already stay. UserError for what can't be, before anything is judged.

    best_of: of how many answers of the base the best one is a row; 0 for no such row. trust: see
    `specs.rebuild`.
    """
    if best_of < 0:
        raise UserError(f"--best-of {best_of}: must be at least 1, or 0 for no such row")
    asked = [(run, _experiment(run, trust)) for run in _one_of_each(find_runs(folder), folder)]
    made = []
    for run, experiment in asked:
        made += _rows_of(run, experiment, best_of, on_row, on_pretrain)
    return made


def _one_of_each(runs: Sequence[Run], folder: Path) -> list[Run]:
    """A trained run of each model and set. UserError where there is none, or where those of one
    model and set were evaluated in different ways."""
    from grao_bench.reporting.gather.runs import gather
    from grao_bench.reporting.gather.settings import ASKED, differing

    cells = [cell for cell in gather(runs, {}) if cell.trained and not cell.control]
    if not cells:
        raise UserError(f"{folder}: holds no trained run; give the folder of a sweep")
    found = []
    for model, data in dict.fromkeys((cell.model, cell.data) for cell in cells):
        same = [cell for cell in cells if (cell.model, cell.data) == (model, data)]
        settings = (*(key for key in ASKED if key != "rollout"), "data", "reward", "evaluation")
        for key, values in differing(same, settings).items():
            ways = ", ".join(dict.fromkeys(values))
            what = f"{folder}: runs on {data} differ in {key} ({ways})"
            raise UserError(f"{what}, so no control stands beside all of them; give a part of it")
        found.append(same[0].runs[0])
    return found


def _experiment(run: Run, trust: Collection[str]) -> Any:
    """The run's configuration from its run.json, which has to be of this code."""
    from grao_bench.core.specs import rebuild
    from grao_bench.experiment import Experiment
    from grao_bench.runs.check import check
    from grao_bench.runs.folders import require_unchanged

    path = run.folder / "run.json"
    experiment = rebuild(run.info.config, str(path), trust)
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path}: holds no configuration of a run")
    check(experiment)
    require_unchanged(run.folder, experiment, run.info)
    return experiment


def _rows_of(
    run: Run,
    experiment: Any,
    best_of: int,
    on_row: OnRow | None,
    on_pretrain: Callable[[int, int, float], None] | None,
) -> list[Path]:
    from grao_bench.core.process import process_settings
    from grao_bench.runs.cell import judged_sets

    with process_settings(experiment.threads):
        base = _base(run, experiment, on_pretrain)
        every = judged_sets(experiment, base.policy, base.codec)
        own = next(one for one in every if one.name == experiment.data.name)
        # other prompts of the same sort, such as a second test set
        subset = own.examples[0].subset
        sets = [own, *(one for one in every if one is not own and one.examples[0].subset == subset)]
        rows = list(_rows(experiment, base, sets, best_of))
        made = []
        for count, row in enumerate(rows, 1):
            made.append(_written(run, experiment, base, sets, row))
            if on_row is not None:
                on_row(f"{run.info.model}, {run.info.data}", count, len(rows))
    return made


def _base(
    run: Run,
    experiment: Any,
    on_pretrain: Callable[[int, int, float], None] | None,
) -> Any:
    """The base that the run was measured against. UserError where there is another one here."""
    from grao_bench.core.provenance import weights_fingerprint
    from grao_bench.models.build import base_spec, load_policy
    from grao_bench.runs.cell import models_wanted
    from grao_bench.runs.evaluate import Tested

    wanted = models_wanted(experiment, on_pretrain)
    path = base_spec(experiment.model).checkpoint(wanted.corpus, on_pretrain)
    policy, codec = load_policy(base_spec(experiment.model), path, wanted)
    here, there = weights_fingerprint(policy.model), run.info.fingerprints.get("base", "")
    if here != there:
        why = "another processor pre-trains another one"
        raise UserError(
            f"{run.folder}: its base has other weights (fingerprint {there[:8]}) than the one made "
            f"here ({here[:8]}): {why}; use the machine, or the cache, of the sweep"
        )
    return Tested(policy, 0, codec, experiment.rollout.build(codec))


def _rows(experiment: Any, base: Any, sets: Sequence[Any], best_of: int) -> Iterator[Row]:
    """The rows of a model and set. A policy of the set's own is chosen on its own prompts."""
    from grao_bench.core.interfaces import ControlledData
    from grao_bench.core.ops import stream_seed
    from grao_bench.evaluation.control_policies import (
        BaseAnswers,
        BestOf,
        ControlEngine,
        generic_controls,
        seen_of,
    )
    from grao_bench.runs.cell import read_data

    train, own = read_data(experiment.data).train, sets[0]
    drawn = {one.name: BaseAnswers(base.synced()) for one in sets}
    known = {one.name: {example.id: example for example in one.examples} for one in sets}
    controls = generic_controls(own.examples, train)
    if isinstance(experiment.data, ControlledData):
        prompts = [base.codec.prompt(example.id, example.prompt) for example in own.examples]
        seed = stream_seed(experiment.evaluation.seed, "evaluation", own.name)
        answers = drawn[own.name].sample(prompts, 1, experiment.evaluation_sampling, seed)
        seen = seen_of(prompts, [row[0] for row in answers], train)
        controls += experiment.data.controls(own.examples, seen)
    if best_of:
        reward = experiment.reward.build(experiment.data)
        chosen = {name: BestOf(best_of, reward, drawn[name], known[name]) for name in drawn}
        yield Row(f"best of {best_of} of the base", chosen)
    for control in controls:
        engines = {}
        for name in drawn:
            engines[name] = ControlEngine(control, base.codec, drawn[name], known[name], train)
        yield Row(control.label, engines)


def _written(run: Run, experiment: Any, base: Any, sets: Sequence[Any], row: Row) -> Path:
    """Evaluate a row and leave its record beside the run's; one that is there already stays."""
    from grao_bench.core.provenance import environment
    from grao_bench.core.values import HASH_VERSION, describe, value_hash
    from grao_bench.runs.bases import asked_of
    from grao_bench.runs.evaluate import evaluate_policy, fingerprints_of

    prints = fingerprints_of(sets)
    asked = asked_of(experiment, base, run.info.fingerprints["base"], prints)
    identity = value_hash(row.label, asked)
    name = re.sub(r"[^a-z0-9]+", "_", row.label.lower()).strip("_")
    folder = run.folder.parents[1] / f"{name}-{identity}" / "seed0"
    if folder.is_dir():
        return folder
    partial = folder.with_name(folder.name + PARTIAL)
    for one in sets:
        tested = replace(base, engine=row.engines[one.name])
        evaluate_policy(experiment, [one], tested, partial / "evaluations")
    told = {"objective": None, "optimizer": None, CONTROL: {"label": row.label}}
    kept = {key: run.info.fingerprints[key] for key in ("data", "base")}
    model = base.policy.model
    write_info(
        partial,
        RunInfo(
            objective=name,
            model=run.info.model,
            data=run.info.data,
            reward=run.info.reward,
            seed=0,
            config_hash=identity,
            config=describe(experiment) | told,
            fingerprints=kept | prints,
            environment=environment(model.device, model.dtype, experiment.threads),
            sweep=experiment.sweep,
            hash_version=HASH_VERSION,
            end_token=run.info.end_token,
            role=CONTROL,
        ),
    )
    partial.rename(folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (2 for a user's mistake)."""
    from grao_bench.cli.command_line import quiet_transformers
    from grao_bench.runs.progress import Bars

    options = _parser().parse_args(arguments)
    quiet_transformers()
    try:
        with Bars() as bars:

            def on_row(what: str, made: int, of: int) -> None:
                bars.show(what, made, of, "")

            found = add_controls(
                options.folder,
                options.best_of,
                options.trust,
                on_row,
                bars.on_pretrain,
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for folder in found:
        print(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grao_bench.controls",
        description="Rows below the tables of a sweep: what needs no objective.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="a sweep's folder, such as runs/laptop")
    parser.add_argument(
        "--best-of",
        type=int,
        default=8,
        metavar="N",
        help="a row of the base's best of N answers by the training reward (default: 8; 0: none)",
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="NAME",
        help="a module or address that the runs' configurations may lead to; may be given again",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
