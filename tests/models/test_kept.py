"""Bases with their record: made by one command, started from, and refused where they don't belong."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import read_info
from grao_bench.core.specs import load
from grao_bench.models.kept import RECORD, check_kept, corpus_digest, read_kept

SMALL = ("model.steps=20", "model.hidden_size=16", "model.heads=2", "data.corpus_documents=200")
CELL = (
    "data.corpus_documents=200",
    "data.num_train=20",
    "data.num_dev=8",
    "data.num_test=8",
    "budget=smoke",
    "evaluation.sets=own",
)


@pytest.fixture(scope="module")
def made(_commands, tmp_path_factory):
    """A working folder with results/bases, made by the command."""
    folder = tmp_path_factory.mktemp("bases")
    outcome = _commands.run(folder, "bases", *SMALL, "budget.steps=2", "data.num_train=20")
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def bases(made, _commands):
    """`bases("train", ...)` is the command, in the folder that holds them."""
    return partial(_commands.run, made)


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_the_command_makes_three_different_bases_and_leaves_them(made, bases):
    folders = sorted((made / "results" / "bases").iterdir())
    assert [one.name for one in folders] == ["tiny_seed0", "tiny_seed1", "tiny_sft"]
    records = [read_kept(one, "key") for one in folders]
    assert len({one.weights for one in records}) == 3
    assert len({one.corpus for one in records}) == 1
    assert records[0].documents == 200
    assert records[0].made["data"]["_revision_"] >= 1
    assert [part["subset"] for part in records[2].made["stage"]["data"]["parts"]] == ["helpful", "harmless"]
    assert records[0].environment["processor"]
    before = {path: path.stat().st_mtime_ns for path in made.rglob("results/bases/*/*")}
    again = bases("bases", *SMALL, "budget.steps=2", "data.num_train=20")
    assert again.out.splitlines() == [f"results/bases/{one.name}" for one in folders]
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("results/bases/*/*")}
    first, sft = weights(folders[0]), weights(folders[2])
    assert all(torch.isfinite(value).all() for value in sft.values())
    assert any(not torch.equal(first[name], sft[name]) for name in first)


def test_a_run_starts_from_it_and_its_base_row_is_its(made, bases):
    outcome = bases("train", "model=tiny_seed1", *CELL)
    assert outcome.code == 0, outcome.err
    info = read_info(made / outcome.out.splitlines()[-1])
    assert info.fingerprints["base"] == read_kept(made / "results/bases/tiny_seed1", "key").weights
    # by the configuration's name for it, whatever folder this is
    (digest,) = (info.code[key] for key in info.code if key.startswith("model.path "))
    assert info.code["model.path results/bases/tiny_seed1"] == digest
    assert not [key for key in info.code if str(made) in key]
    (base,) = (made / "runs/single/tiny_seed1/base").glob("*/seed0")
    assert read_info(base).fingerprints["base"] == info.fingerprints["base"]


def test_a_base_of_another_corpus_is_refused_in_one_line(made, bases):
    others = ("data.corpus_documents=100", *CELL[1:])
    outcome = bases("train", "model=tiny_seed0", *others)
    assert outcome.code == 2
    line = outcome.err.splitlines()[-1]  # before it, that the tree is not clean
    assert line.startswith("grao_bench: model.path=results/bases/tiny_seed0: was pre-trained on another corpus")
    outcome = bases("bases", *SMALL[:3], "data.corpus_documents=100")
    assert outcome.code == 2
    assert "results/bases/tiny_seed0: was made from another corpus; remove the folder" in outcome.err


def test_weights_that_were_changed_are_refused(made, tmp_path):
    source = made / "results/bases/tiny_seed0"
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    check_kept(tmp_path, "model.path=x")
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps(record | {"weights": "0" * 64}))
    with pytest.raises(UserError, match=r"model.path=x: its weights are .*, and base.json says 00000000"):
        check_kept(tmp_path, "model.path=x")


def test_a_folder_without_a_base_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"model.path=none: there is no .*base.json; make it"):
        load("model/tiny_seed0", path="none", adapter=None).check()


def test_the_corpus_digest_sees_every_document_and_their_order():
    texts = [["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""]]
    assert len({corpus_digest(one) for one in texts}) == 4
