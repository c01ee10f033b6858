"""python -m grao_bench.train: one cell, or a grid of them (Hydra). See --help."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grao_bench.cli.command_line import hydra_main, quiet_transformers, quit_with, refused, to_value, without_hydra
from grao_bench.cli.rates import untuned
from grao_bench.core.errors import UserError
from grao_bench.core.values import value_hash

NO_FIELDS = ("lr_by", "rerun", "estimate", "committed", "allow_dirty")
"""Keys of conf/train.yaml that are no fields of a cell: a table for others, and what to do."""


def to_experiment(cfg: DictConfig) -> Any:
    """The Experiment of a composed configuration, checked as far as it can be before anything is trained."""
    from grao_bench.runs.check import check

    experiment = to_value(cfg, NO_FIELDS)
    check(experiment)
    return experiment


def asked(cfg: DictConfig, key: str) -> bool:
    """A flag of the command; UserError where it is none."""
    if not isinstance(cfg[key], bool):
        raise UserError(f"{key}={cfg[key]}: must be true or false")
    return bool(cfg[key])


def untuned_rate(cfg: DictConfig) -> str:
    """A line for a cell whose rate comes from its table, which has none for its objective; or ""."""
    asked_for = OmegaConf.to_container(cfg.optimizer, resolve=False)
    if not isinstance(asked_for, dict) or "tuned_rate" not in str(asked_for["lr"]):
        return ""
    table = OmegaConf.to_container(cfg.lr_by, resolve=True)
    assert isinstance(table, dict)
    return untuned({str(key): value for key, value in table.items()}, cfg.data.name, cfg.objective.name)


def tree_remark(cfg: DictConfig) -> str:
    """`require_traceable` of a composed configuration."""
    return require_traceable(asked(cfg, "committed"), asked(cfg, "allow_dirty"), cfg.sweep)


NO_CHECKOUT = "is in no git checkout, so its commit is not known", "run it in one"
PACKAGE = Path(__file__).resolve().parent


def require_traceable(
    committed: bool,
    allow_dirty: bool,
    sweep: str,
    package: Path = PACKAGE,
) -> str:
    """A line where what trains can't be traced to a commit, or ""; UserError where its results are
    to be committed, unless that is allowed."""
    from grao_bench.core.provenance import code_revision  # with torch, which takes seconds to load

    found = code_revision(package)
    if committed and not allow_dirty and found["git_dirty"] != "False":
        changed = found["git_dirty"] == "True"
        what, fix = ("has uncommitted changes", "commit them") if changed else NO_CHECKOUT
        told = "or allow_dirty=true, and the records say so"
        raise UserError(f"sweep={sweep}: its results are committed, and the code {what}; {fix}, {told}")
    if found["git_dirty"] != "True":
        return ""
    what = f"the working tree differs from commit {found['git'][:8]}"
    return f"{what}; the records say so, and can't be made again from a commit"


def estimated(cfg: DictConfig, experiments: Sequence[Any], rerun: bool) -> bool:
    """Whether an estimate was asked for, which is then printed: of the cells that would train."""
    how = cfg.estimate
    if how not in (True, False, "json"):
        raise UserError(f"estimate={how}: must be true, false or json")
    if how is False:
        return False
    from grao_bench.cli.estimate_table import as_json, estimates, show

    due = [one for one in experiments if rerun or not one.folder.is_dir()]
    found = estimates(due)
    if how == "json":
        print(as_json(found))
    else:
        show(found, len(experiments) - len(due))
    return True


class GridCallback(Callback):
    """Before a grid starts: compose and check every cell. While it runs: one progress display in the parent."""

    def __init__(self) -> None:
        self.progress: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What goes along to worker processes: not the display, which stays in the parent."""
        return {"progress": None}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks every cell, reading each data set once; exits with a line per faulty cell before any is trained."""
        from grao_bench.runs.progress import GridProgress

        quiet_transformers()
        try:
            rerun = asked(config, "rerun")
            said: list[str] = []
            tree = tree_remark(config) if config.estimate is False else ""
            experiments = tried_cells(config, grid_cells(config), rerun, said)
            if estimated(config, experiments, rerun):
                sys.exit(0)
        except UserError as error:
            quit_with(error)
        if experiments:
            tell(experiments, said)
            make_bases([one for one in experiments if rerun or not one.folder.is_dir()])
            tell((), [tree])
            cells = [(one.folder, f"{one.objective.name}/{one.data.name}/{one.seed}", one.budget.steps) for one in experiments]
            self.progress = GridProgress(config.sweep, cells)
            self.progress.start()
            atexit.register(self.progress.finish)  # Hydra calls on_multirun_end only when no cell failed

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Stops the display."""
        if self.progress is not None:
            self.progress.finish()


def tell(experiments: Sequence[Any], said: Sequence[str] = ()) -> None:
    """What a person should know of these cells before they run, on standard error, each once; after
    the lines that the caller has to say."""
    from grao_bench.runs.agreement import remarks

    for line in dict.fromkeys([*said, *(line for one in experiments for line in remarks(one))]):
        if line:
            print(f"grao_bench: {line}", file=sys.stderr)


def tried_cells(
    config: DictConfig,
    grid: Sequence[tuple[str, ...]],
    rerun: bool,
    said: list[str] | None = None,
) -> list[Any]:
    """The experiments of a grid, each set read once; UserError with a line for each cell that is
    wrong or would fail. said: gets what is to be told of their rates."""
    from grao_bench.core.process import process_settings

    loader = GlobalHydra.instance().config_loader()
    experiments = []
    faults: dict[str, Exception] = {}
    with process_settings(threads=1):
        for overrides in grid:
            try:
                cell = loader.load_sweep_config(config, list(overrides))
                experiment = to_experiment(cell)
                if said is not None:
                    said.append(untuned_rate(cell))
                require_trainable(experiment, rerun)
                experiments.append(experiment)
            except UserError as error:
                faults[f"{' '.join(overrides)}: {error}"] = error
            except (HydraException, OmegaConfBaseException) as error:
                faults[f"{' '.join(overrides)}: {refused(error)}"] = error
    if faults:
        summary = UserError("nothing was trained, because of\n  " + "\n  ".join(faults))
        raise summary from next(iter(faults.values()))
    return experiments


def require_trainable(experiment: Any, rerun: bool) -> None:
    """UserError where what lies in a cell's folder was made by other code or on other data, or
    where something of it fails when it is tried (`rehearsal`)."""
    from grao_bench.runs.cell import read_data, require_fit
    from grao_bench.runs.folders import require_model, require_resumable, require_same
    from grao_bench.runs.identity import computed_by
    from grao_bench.runs.record import training_fingerprint
    from grao_bench.runs.rehearsal import rehearse

    dataset = read_data(experiment.data)
    require_fit(experiment, dataset)
    code, folder = computed_by(experiment), experiment.folder
    if folder.is_dir() and not rerun:
        require_same(folder, code, training_fingerprint(dataset))
        require_model(folder, experiment)
        return
    if not rerun:
        require_resumable(folder, code, lambda: training_fingerprint(dataset))
    rehearse(experiment, read_data)


def make_bases(experiments: Sequence[Any]) -> None:
    """Make the tiny bases that cells start from, here and with a bar: the workers that would wait
    for them show none."""
    from grao_bench.models.build import base_spec
    from grao_bench.runs.cell import corpus_of
    from grao_bench.runs.progress import Bars

    wanted = {value_hash(one.model, one.data): one for one in experiments}
    try:
        with Bars() as bars:
            for experiment in wanted.values():
                base_spec(experiment.model).checkpoint(corpus_of(experiment), bars.on_pretrain)
    except UserError as error:
        quit_with(error)


def grid_cells(config: DictConfig) -> list[tuple[str, ...]]:
    """Every cell's overrides, expanded as Hydra's basic sweeper does: the product of each key's
    values, a later override of a key in place of an earlier one.

    Empty for a sweeper that chooses cells as it goes (optuna); UserError for an interval.
    """
    sweeper = config.hydra.sweeper
    if not sweeper._target_.endswith(".BasicSweeper"):
        return []
    # glob(*) asks the loader for a group's choices
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    swept: dict[str, list[str]] = {}
    for override in parser.parse_overrides([*params, *config.hydra.overrides.task]):
        key = override.get_key_element()
        if override.is_discrete_sweep():
            swept[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        elif override.is_sweep_override():
            raise UserError(f"{override.input_line}: a grid has no such sweep; give values, or a range(...) of them")
        else:
            swept[key] = [f"{key}={override.get_value_element_as_str()}"]
    return list(product(*swept.values()))


def train_cell(cfg: DictConfig) -> str:
    """Run one composed cell; returns its folder. In a grid a failing cell leaves its reason in its folder and the others go on."""
    hydra_config = HydraConfig.get()
    alone = hydra_config.mode == RunMode.RUN
    quiet_transformers()
    try:
        experiment, rerun = to_experiment(cfg), asked(cfg, "rerun")
        if estimated(cfg, [experiment], rerun):
            return ""
        from grao_bench.runs.progress import Bars, step_note
        from grao_bench.runs.run import run
        from grao_bench.runs.summary import missing_scores

        files = {
            ".hydra/config.yaml": OmegaConf.to_yaml(without_hydra(cfg)),
            ".hydra/overrides.yaml": OmegaConf.to_yaml(hydra_config.overrides.task),
            ".hydra/hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra_config})),
        }
        title = f"{experiment.objective.name} on {experiment.data.name}, seed {experiment.seed}"
        if alone:
            tree = tree_remark(cfg)
            tell([experiment], [untuned_rate(cfg)])
            steps = experiment.budget.steps
            with Bars() as bars:

                def show(record: Any) -> None:
                    if record.step == 1:  # what is wrong with the input comes alone
                        tell((), [tree])
                    bars.show(title, record.step, steps, step_note(record))

                folder = run(
                    experiment,
                    show,
                    bars.on_pretrain,
                    files,
                    lambda what, done, total: bars.show(what, done, total, ""),
                    rerun,
                )
        else:
            tried = hydra_config.sweeper._target_.endswith(".BasicSweeper")  # by GridCallback
            folder = run(experiment, extra_files=files, rerun=rerun, rehearsed=tried)
    except UserError as error:
        if alone:
            quit_with(error)
        raise CompactHydraException(f"grao_bench: {error}") from error  # which Hydra prints without a traceback
    if alone:
        lines = [*missing_scores(folder), str(folder)]
        print((folder / "alarms.txt").read_text(encoding="utf-8") + "\n".join(lines))
    return str(folder)


def main() -> None:
    """The command line."""
    hydra_main("train", train_cell)


if __name__ == "__main__":
    main()
