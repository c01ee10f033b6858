"""Any checkpoint scored as a run is: ours, another trainer's, a hub's, beside its base or alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from grao_bench.core.errors import UserError
from grao_bench.core.process import process_settings
from grao_bench.core.provenance import weights_fingerprint
from grao_bench.core.record_files import read_info, read_run, write_info
from grao_bench.core.spec_interfaces import DataSpec, ModelSpec, RewardSpec, RolloutSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.experiment import Evaluation, Experiment
from grao_bench.models.adapters import base_of, is_adapter
from grao_bench.models.build import base_spec, load_policy
from grao_bench.models.hub import fetched_config, is_hub_id
from grao_bench.models.load import local
from grao_bench.reporting.gather.comparable import base_records
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.gather.scores import scores
from grao_bench.runs.bases import evaluate_untrained
from grao_bench.runs.cell import evaluation_sets, models_wanted
from grao_bench.runs.check import check
from grao_bench.runs.evaluate import OnTask, Tested, evaluating, told_by
from grao_bench.training.loop import Budget

SHOWN = {"ras": "RAS {:.1f}%", "nag_mean": "nag_mean {:.1f}%", "reward": "mean reward {:.3g}"}
"""The scores that the command line prints."""


@dataclass(frozen=True, kw_only=True)
class NoObjective:
    """What a checkpoint was trained by here: nothing. `name` labels its row."""

    revision: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs(rollouts=1)
    updates: ClassVar[Updates] = Updates()
    name: str

    def prepare(self, batch: Batch) -> Batch:
        """Never called."""
        raise NotImplementedError

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        """Never called."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class CheckpointEvaluation:
    """model: the checkpoint. name: its row in reports; None is its folder's. base: a folder, GGUF
    file or hub id that it is measured against; None: none, then there is RAS against the references
    and no NAG. data, reward, rollout, budget (its lengths), evaluation: as a run's.

    The record goes to output/sweep/<model>/<data>/<name>-<hash>/seed0, where reports find it beside
    the runs of that sweep.
    """

    model: ModelSpec
    name: str | None
    base: str | None
    data: DataSpec
    reward: RewardSpec
    rollout: RolloutSpec
    budget: Budget
    evaluation: Evaluation
    threads: int
    output: str
    sweep: str

    @property
    def label(self) -> str:
        """`name`, or the last two parts of where the checkpoint lies, in letters that may name a
        folder."""
        if self.name is not None:
            return self.name
        path = str(getattr(self.model, "path", self.model.name))
        return re.sub(r"[^A-Za-z0-9_.]+", "_", "_".join(Path(path).parts[-2:])).strip("_.")

    @property
    def experiment(self) -> Experiment:
        """The cell that it would be, of no step."""
        return Experiment(
            objective=NoObjective(name=self.label),
            model=self.model,
            data=self.data,
            reward=self.reward,
            rollout=self.rollout,
            optimizer=load("optimizer/adamw", lr=0.0),
            budget=replace(self.budget, steps=0),
            evaluation=self.evaluation,
            tracking=load("tracking/none"),
            save_model="none",
            role=None,
            seed=0,
            threads=self.threads,
            output=self.output,
            sweep=self.sweep,
        )

    def of_base(self, experiment: Experiment) -> Experiment | None:
        """The same for the base; None without one."""
        if self.base is None:
            return None
        if not hasattr(self.model, "path"):
            raise UserError(f"base={self.base}: model={self.model.name} is a base itself")
        return replace(experiment, model=_at(base_spec(self.model), self.base))


def evaluate_checkpoint(asked: CheckpointEvaluation, on_task: OnTask | None = None) -> Path:
    """Evaluate the checkpoint, and its base where one is given, once; returns the record's folder.

    UserError for what can't be, before anything is loaded.
    """
    experiment = asked.experiment
    base = asked.of_base(experiment)
    if asked.label == "base":
        raise UserError("name=base: that is the name of the base's own row; give another")
    if base is not None:
        check(base)
    adapter = adapter_at(asked.model)
    whole = experiment
    if adapter is not None:
        own = None if asked.base is None else local(asked.base)
        whole = replace(experiment, model=_at(asked.model, base_of(adapter, own)))
    check(whole)
    with process_settings(experiment.threads):
        runs = Path(asked.output) / asked.sweep / asked.model.name
        tested = _tested(whole, adapter)
        sets = evaluation_sets(experiment, tested.policy, tested.codec)
        name, data = asked.label, asked.data.name
        folder = evaluate_untrained(experiment, sets, tested, runs, "", on_task, name, data)
        info = read_info(folder)
        lengths = {one.name: one.lengths for one in sets}
        judges = info.judges | told_by(evaluating(sets), folder)
        info = replace(info, lengths=lengths, judges=judges)
        if base is not None:
            lies, tested = tested.codec, _tested(base)
            if tested.codec.tokenizer.get_vocab() == lies.tokenizer.get_vocab():
                tested = replace(tested, codec=lies, engine=base.rollout.build(lies))
            evaluate_untrained(base, sets, tested, runs, "", on_task)
            weights = weights_fingerprint(tested.policy.model)
            info = replace(info, fingerprints=info.fingerprints | {"base": weights})
        write_info(folder, info)
    return folder


def _at(model: ModelSpec, path: str) -> ModelSpec:
    found: ModelSpec = replace(model, path=path)  # type: ignore[type-var]
    return found


def adapter_at(model: ModelSpec) -> Path | None:
    """The folder of the adapter that a model's path names, fetched where it is a hub's; None where
    it names a whole model."""
    path, revision = getattr(model, "path", None), getattr(model, "revision", None)
    if path is None:
        return None
    place = str(Path(path).expanduser())
    if is_hub_id(place):
        found = fetched_config(path, revision)
        place = local(path, revision) if found and is_adapter(found) else place
    return Path(place) if is_adapter(place) else None


def _tested(experiment: Experiment, adapter: Path | None = None) -> Tested:
    """The model of a cell, with an adapter that lies on it where one is given."""
    wanted = models_wanted(experiment)
    path = experiment.model.checkpoint(wanted.corpus, wanted.on_pretrain)
    path = path if adapter is None else str(adapter)
    policy, codec = load_policy(experiment.model, path, wanted)
    return Tested(policy, 0, codec, experiment.rollout.build(codec))


def score_lines(folder: Path) -> list[str]:
    """A line for each of the record's evaluations: its scores, by the base where it has one."""
    run = read_run(folder)
    beside = [read_run(path.parent) for path in folder.parents[2].glob("base/*/seed0/run.json")]
    cells = gather([run, *beside], {})
    lines = []
    for (name, reward), records in run.evaluations.items():
        found = scores(records, base_records(cells, run, (name, reward)))
        said = [text.format(found[key]) for key, text in SHOWN.items() if key in found]
        prompts = len({record.example_id for record in records})
        each = f", {len(records) // prompts} answers each" if len(records) > prompts else ""
        lines.append(f"{name} by {reward}: {', '.join(said)}, {prompts} prompts{each}")
    return lines
