"""python -m grao_bench.bases: make the bases that committed results start from (conf/bases.yaml).

    python -m grao_bench.bases                     all of them, into results/bases
    python -m grao_bench.bases output=x            elsewhere
    python -m grao_bench.bases model.steps=20      other keys: overrides of every base's cell

A folder that is there is left as it is, if it still belongs to the data's corpus; to make it anew,
remove it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from grao_bench.cli.command_line import composed, quiet_transformers, quit_with, to_value
from grao_bench.core.errors import UserError
from grao_bench.core.provenance import environment
from grao_bench.core.records import StepRecord
from grao_bench.core.specs import conf_dir
from grao_bench.core.values import describe
from grao_bench.data.joined import JoinedData
from grao_bench.experiment import Experiment
from grao_bench.models.kept import (
    KeptRecord,
    check_kept,
    corpus_digest,
    file_fingerprint,
    read_kept,
    write_kept,
)
from grao_bench.models.of_run import model_of
from grao_bench.runs.cell import corpus_of
from grao_bench.runs.progress import Bars, say, step_note
from grao_bench.runs.run import run
from grao_bench.train import NO_FIELDS


def main() -> int:
    """The command line; 2 for a user's mistake."""
    quiet_transformers()
    try:
        for folder in make_all(sys.argv[1:]):
            print(folder)
    except UserError as error:
        quit_with(error)
    return 0


def make_all(arguments: Sequence[str]) -> list[Path]:
    """Every base of conf/bases.yaml, those that are not there made; their folders."""
    plan = yaml.safe_load((conf_dir() / "bases.yaml").read_text(encoding="utf-8"))
    given = [word for word in arguments if not word.startswith("output=")]
    output = [word.removeprefix("output=") for word in arguments if word.startswith("output=")]
    root = Path(output[-1] if output else plan["output"])
    made = []
    for name, how in plan["bases"].items():
        own = [*plan["overrides"], f"model.seed={how['seed']}"]
        made.append(_made(root / name, how, own, given))
    return made


def _made(
    folder: Path,
    how: Mapping[str, Any],
    overrides: Sequence[str],
    given: Sequence[str],
) -> Path:
    """One base's folder, filled aside first and then renamed."""
    experiment = _experiment([*overrides, *given])
    documents = corpus_of(experiment)()
    if folder.is_dir():
        _require_of(folder, documents)
        say(f"{folder}: is there and belongs to the corpus; nothing is made")
        return folder
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    with Bars() as bars:
        base = experiment.model.checkpoint(lambda: documents, bars.on_pretrain)
        made: dict[str, Any] = {
            "model": describe(experiment.model, identity=True),  # with the revisions of their code
            "data": describe(experiment.data, identity=True),
        }
        if "sft" in how:
            last = [*overrides, *how["sft"]["overrides"], *given]
            cells = [_experiment([*last, f"data={name}"]) for name in how["sft"]["data"]]
            stage = _stage(cells)
            made["stage"] = describe(stage, identity=True)
            _train_into(aside, stage, bars)
        else:
            shutil.copytree(base, aside)
    made = json.loads(json.dumps(made, default=str).replace(str(Path.cwd()), "."))
    write_kept(
        aside,
        KeptRecord(
            weights=file_fingerprint(aside),
            corpus=corpus_digest(documents),
            documents=len(documents),
            made=made,
            environment=environment(torch.device("cpu"), torch.float32, experiment.threads),
        ),
    )
    aside.chmod(0o755)
    for file in aside.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner reads
    aside.rename(folder)
    return folder


def _require_of(folder: Path, documents: Sequence[str]) -> None:
    """UserError where a base that is there is broken, or of another corpus."""
    key = str(folder)
    check_kept(folder, key)
    if read_kept(folder, key).corpus != corpus_digest(documents):
        raise UserError(f"{key}: was made from another corpus; remove the folder to make it anew")


def _experiment(overrides: Sequence[str]) -> Experiment:
    experiment: Experiment = to_value(composed("train", overrides), NO_FIELDS)
    return experiment


def _stage(cells: Sequence[Experiment]) -> Experiment:
    """The cell that trains on all the sets of these, and evaluates next to nothing."""
    first = cells[0]
    evaluation = replace(first.evaluation, sets="own", max_examples=2)
    data = JoinedData(name="joined", parts=[one.data for one in cells])
    return replace(first, data=data, evaluation=evaluation)


def _train_into(aside: Path, stage: Experiment, bars: Bars) -> None:
    """Train a cell in a folder that is thrown away, and keep its model."""

    def show(record: StepRecord) -> None:
        bars.show("SFT of the base", record.step, stage.budget.steps, step_note(record))

    with tempfile.TemporaryDirectory() as output:
        done = run(replace(stage, output=output), show, bars.on_pretrain)
        shutil.copytree(model_of(done, "bases"), aside)


if __name__ == "__main__":
    sys.exit(main())
