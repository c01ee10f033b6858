"""What a run records of itself, each entry against another way to know it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from datetime import date
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from grao_bench.core.errors import UserError
from grao_bench.core.provenance import code_revision, data_fingerprint, environment, package_versions, weights_fingerprint
from grao_bench.core.record_files import read_info
from grao_bench.core.types import Example, Turn
from grao_bench.runs.run import run
from tests.cells import cell, small
from tests.small import tiny_llama

ROOT = Path(__file__).parents[1]
PAIR = Example("e0", (Turn("user", "naïve?"),), "yes", "no", "s")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(a cell, its folder) run once."""
    experiment = cell("sft", tmp_path_factory.mktemp("recorded"), seed=3)
    return experiment, run(experiment)


def git(folder: Path, *words: str) -> str:
    names = {f"GIT_{role}_{what}": "someone" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", *words], cwd=folder, env=os.environ | names | alone, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_run_records_its_versions_hardware_threads_and_precision(recorded):
    found = read_info(recorded[1]).environment
    assert found["python"] == sys.version.split()[0]
    assert {"torch", "transformers", "tokenizers", "numpy", "hydra-core", "joblib", "safetensors", "grao-bench"} <= set(found)
    assert found["torch"] == metadata.version("torch")
    assert found["numpy"] == np.__version__
    assert (found["threads"], found["precision"]) == ("1", "float32")
    assert found["float32_matmul"] in ("highest", "high", "medium")
    assert found["hardware"] == found["processor"]  # the model is on the CPU
    assert found["cuda"] == ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (lines := [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]):
        assert found["hardware"] == f"{len(lines)} x {lines[0].split(':', 1)[1].strip()}"


def test_every_package_that_the_project_declares_is_recorded():
    """By pyproject.toml itself; the extras are not part of a run."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {text.split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip().lower() for text in declared}
    versions = {name.lower().replace("_", "-"): version for name, version in package_versions().items()}
    assert {name.replace("_", "-") for name in names} <= set(versions)
    assert versions["torch"] == torch.__version__
    assert "trl" not in versions


def test_a_run_records_its_revision_as_git_says_it(recorded):
    found = read_info(recorded[1]).environment
    if not (ROOT / ".git").exists():
        assert found["git"] == "not a checkout"
        return
    # a commit may have been made since the run began
    assert found["git"] in git(ROOT, "rev-list", "--max-count=20", "HEAD").split()
    assert found["git_dirty"] in ("True", "False")


def test_dirty_is_what_is_not_committed(tmp_path):
    """A changed tracked file anywhere, or a new one in the code or conf/; a run's output beside them is neither."""
    for name in ("package/code.py", "conf/a.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one\n")
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    package, head = tmp_path / "package", git(tmp_path, "rev-parse", "HEAD")
    clean, dirty = {"git": head, "git_dirty": "False"}, {"git": head, "git_dirty": "True"}
    assert code_revision(package) == clean
    for name in ("package/code.pyc", "run.json"):
        (tmp_path / name).write_text("new\n")
    assert code_revision(package) == clean
    for name in ("package/new.py", "conf/new.yaml"):
        (tmp_path / name).write_text("new\n")
        assert code_revision(package) == dirty
        (tmp_path / name).unlink()
    (tmp_path / "README.md").write_text("two\n")
    assert code_revision(package) == dirty
    git(tmp_path, "commit", "--quiet", "--all", "--message", "second")
    assert code_revision(package) == {"git": git(tmp_path, "rev-parse", "HEAD"), "git_dirty": "False"} != clean


def test_an_installed_copy_is_not_the_repository_that_it_is_installed_below(tmp_path):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "code.py").write_text("")
    assert code_revision(tmp_path / "site-packages") == {"git": "not a checkout", "git_dirty": "unknown"}


def test_the_revision_is_that_at_the_start(tmp_path, monkeypatch):
    """git is asked before the first step: what is committed while a cell trains is not what it ran."""
    binary = tmp_path / "bin" / "git"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\necho asked >> "{tmp_path}/asked"\nexit 1\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    asked: list[bool] = []
    folder = run(cell("sft", tmp_path / "runs"), on_step=lambda _: asked.append((tmp_path / "asked").exists()))
    assert asked == [True, True]
    assert read_info(folder).environment["git"] == "not a checkout"


def test_a_run_records_its_seeds_and_its_configurations_hash(recorded):
    """The run's, the base's, the data's and the evaluation's. The hash: sha256 over the written
    configuration without seed, place and what is memory or speed alone, each part with its class's
    revision."""
    experiment, folder = recorded
    info = read_info(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert info.config == config
    assert info.seed == config["seed"] == 3
    assert {part: config[part]["seed"] for part in ("model", "data", "evaluation")} == {"model": 0, "data": 0, "evaluation": 0}
    parts = [config[key] for key in ("objective", "model", "data", "reward", "rollout", "optimizer", "budget", "evaluation")]
    for part in (*parts, config["evaluation"]["lm_eval"]):
        part["_revision_"] = 2 if part is config["data"] else 1
    for key in ("tokens_per_forward", "gradient_checkpointing", "checkpoint_every"):
        del config["budget"][key]
    del config["rollout"]["answers_per_call"]
    config["budget"]["probe_every"] = 0
    hashed = json.dumps([2, parts], sort_keys=True).encode()  # 2: the hash version
    assert info.config_hash == hashlib.sha256(hashed).hexdigest()[:8]
    assert info.config_hash == replace(experiment, seed=4, threads=2, output="elsewhere", sweep="other").config_hash
    assert info.config_hash != replace(experiment, model=small("model/tiny", seed=1)).config_hash


def test_the_data_fingerprint_is_the_sha256_of_the_examples(recorded):
    """Of the set trained on and probed, and of the prompts evaluated on: a JSON object a line, keys in order."""
    experiment, folder = recorded
    dataset = experiment.data.build()

    def digest(examples) -> str:
        lines = [
            json.dumps(
                {
                    "chosen": one.chosen,
                    "cluster": one.cluster,
                    "id": one.id,
                    "prompt": [{"role": turn.role, "text": turn.text} for turn in one.prompt],
                    "rejected": one.rejected,
                    "subset": one.subset,
                },
                ensure_ascii=False,
                sort_keys=True,
            )
            for one in examples
        ]
        return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()

    found = read_info(folder).fingerprints
    assert found["data"] == digest([*dataset.train, *dataset.dev])
    assert found["data/world_helpful"] == digest(dataset.test)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "e1"},
        {"prompt": (Turn("user", "naive?"),)},
        {"prompt": (Turn("assistant", "naïve?"),)},
        {"chosen": "yes."},
        {"rejected": None},
        {"chosen": None},
        {"demonstrations": ("so",)},
        {"label": False},
        {"metadata": {"source": "mine"}},
        {"cluster": "otters"},
    ],
)
def test_any_change_of_an_example_or_their_order_changes_the_data_fingerprint(changed):
    other = replace(PAIR, id="e9")
    assert data_fingerprint([PAIR, other]) == data_fingerprint([replace(PAIR), other])
    assert len({data_fingerprint(rows) for rows in ([PAIR, other], [replace(PAIR, **changed), other], [other, PAIR], [PAIR])}) == 4


def test_metadata_are_fingerprinted_by_their_plain_values_or_refused_with_their_example():
    """A set of the user's own may hold numpy's numbers; what has no form is told by its example."""
    plain = replace(PAIR, metadata={"a": 2.0, "b": [1, 2], "c": {"d": "2026-01-31"}})
    day = MappingProxyType({"d": date(2026, 1, 31)})
    same = {"a": np.float32(2), "b": np.arange(1, 3), "c": day}
    typed = replace(PAIR, metadata=MappingProxyType(same))
    assert data_fingerprint([typed]) == data_fingerprint([plain])
    for odd in (object(), b"x", {1, 2}, {1: 2, "a": 3}):
        with pytest.raises(UserError, match=f"example {PAIR.id}: its metadata: "):
            data_fingerprint([replace(PAIR, metadata={"a": odd})])


def test_what_cant_be_recorded_is_refused_before_anything_trains(tmp_path, monkeypatch):
    experiment = cell("sft", tmp_path)
    built = type(experiment.data).build

    def odd(data):
        dataset = built(data)
        test = tuple(replace(one, metadata={"a": object()}) for one in dataset.test)
        return replace(dataset, test=test)

    monkeypatch.setattr(type(experiment.data), "build", odd)
    with pytest.raises(UserError, match="its metadata: object can't be recorded"):
        run(experiment)
    assert not [*tmp_path.rglob("steps.jsonl")]


def test_the_base_fingerprint_is_the_sha256_of_its_weights(recorded):
    """From the checkpoint's file, without torch: each tensor's name, a zero byte and its bytes, by name."""
    experiment, folder = recorded
    base = load_file(Path(experiment.model.checkpoint(experiment.data.corpus)) / "model.safetensors")
    digest = hashlib.sha256()
    for name, value in sorted(base.items()):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(value).tobytes())
    info = read_info(folder)
    assert info.fingerprints["base"] == digest.hexdigest()
    (evaluated,) = folder.parents[2].glob("base/*/seed0")
    assert read_info(evaluated).fingerprints["base"] == digest.hexdigest()


def test_the_smallest_change_of_a_weight_changes_the_fingerprint(tmp_path):
    model = tiny_llama()
    before = weights_fingerprint(model)
    assert weights_fingerprint(tiny_llama()) == before
    with torch.no_grad():
        weight = model.model.norm.weight
        weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    assert weights_fingerprint(model) != before
    assert weights_fingerprint(tiny_llama().to(torch.bfloat16)) != before


def test_a_base_of_a_sweep_records_its_environment_too(recorded):
    (evaluated,) = recorded[1].parents[2].glob("base/*/seed0")
    there, here = read_info(evaluated).environment, read_info(recorded[1]).environment
    assert there.keys() == here.keys() == environment(torch.device("cpu"), torch.float32, 1).keys()
    assert (there["torch"], there["hardware"], there["precision"]) == (here["torch"], here["hardware"], here["precision"])
