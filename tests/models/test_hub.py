"""Models of a hub, served on loopback as the real one does: fetched once, and every refusal one
line that says what to do, without a token anywhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from grao_bench.models.tiny import train_tokenizer
from tests.cells import SMALL_WORLD
from tests.commands import Commands
from tests.models.hub_server import COMMIT, serving
from tests.small import tiny_llama

TOKEN = "hf_thisisnotarealtokenbutlooksalike"
CELL = ("objective=sft", "model=hf", "model.prompt_format=hh", "model.device=cpu")
WORLD = (*(word for word in SMALL_WORLD if not word.startswith("model.")), "budget.steps=1")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """(address, what it was asked, environment of a process that uses it)."""
    folder = tmp_path_factory.mktemp("hub")
    tokenizer = train_tokenizer(["\n\nHuman: What is it?\n\nAssistant: It is."] * 2, 300)
    model = tiny_llama(len(tokenizer), max_position_embeddings=512)
    for name in ("open/whole", "open/lost", "gated/llama"):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    (folder / "open" / "lost" / "model.safetensors").unlink()
    (folder / "open" / "whole" / "original").mkdir()
    (folder / "open" / "whole" / "original" / "huge.pth").write_text("not ours")
    (folder / "open" / "files").mkdir()
    (folder / "open" / "files" / "q4.gguf").write_text("GGUF")
    with serving(folder) as (address, asked):
        home = tmp_path_factory.mktemp("home")
        yield address, asked, {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}


@pytest.fixture(scope="module")
def online(hub):
    """The commands in a process that asks the hub."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hub[2].items():
            patch.setenv(name, value)
        patch.delenv("HF_TOKEN", raising=False)
        commands = Commands("spawn")  # the address is read as the hub's library is imported
    with commands:
        yield commands


LOG_IN = "log in (`hf auth login`, or the environment variable HF_TOKEN)"
REFUSALS = {
    "gated": ("gated/llama", {}, "is gated at the hub, and who asks must be known: accept its "),
    "no access": (
        "gated/llama",
        {"HF_TOKEN": TOKEN},
        "is gated at the hub, and your account has no access to it yet: accept its terms at ",
    ),
    "private": ("private/mine", {}, "the hub has no such model, or a private one; check the"),
    "no such": ("open/absent", {}, "the hub has no such model, or a private one; check the"),
    "wrong token": ("strict/m", {"HF_TOKEN": TOKEN}, "the hub refuses (HTTP 401): the token is"),
    "GGUF files": ("open/files", {}, "holds no config.json, so no model that transformers can"),
    "no id": ("a/b/c", {}, "is neither a folder nor a reachable hub id"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_one_line_before_anything_is_read(case, hub, online, tmp_path):
    path, environment, said = REFUSALS[case]
    outcome = online.run(tmp_path, "train", *CELL, *WORLD, f"model.path={path}", **environment)
    assert outcome.code == 2
    assert outcome.err.startswith(f"grao_bench: model.path={path}: ")
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert TOKEN not in outcome.err + outcome.out
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    if "gated" in path:
        assert f"accept its terms at {hub[0]}/{path} and {LOG_IN}" in outcome.err


def test_a_revision_that_is_not_there(online, tmp_path):
    words = ("model.path=open/whole", "model.revision=v9")
    outcome = online.run(tmp_path, "train", *CELL, *WORLD, *words)
    assert outcome.code == 2
    assert "model.path=open/whole: the hub has no revision v9 of it; see" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_hub_model_trains_and_the_token_is_nowhere(hub, online, tmp_path):
    """Every file that the run leaves, the tracker's too, and all that it says."""
    words = (*CELL, *WORLD, "model.path=open/whole", f"model.revision={COMMIT}")
    outcome = online.run(tmp_path, "train", *words, "tracking=wandb_offline", HF_TOKEN=TOKEN)
    assert outcome.code == 0, outcome.err
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"run.json", "config.yaml", "model.safetensors"} <= {file.name for file in files}
    assert any("wandb" in str(file) for file in files)
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]
    assert TOKEN not in outcome.out + outcome.err
    assert not [line for line in hub[1] if "original" in line or "huge" in line]


SCRIPT = """
import sys
from grao_bench.core.errors import UserError
from grao_bench.models.load import load_causal_lm
from grao_bench.models.scorer import load_classifier
from grao_bench.core.specs import load

def checked(path):
    spec = load("model/hf", path=path, device="cpu")
    spec.check()
    return spec.checkpoint(list)

ways = {
    "model": checked,
    "load": lambda path: load_causal_lm(path, "float32", "cpu"),
    "reward": lambda path: load_classifier(path, "float32", "cpu", "reward"),
}
for way, path in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        print(ways[way](path))
    except UserError as error:
        print(error)
"""


def said(environment, *words):
    """What a process of its own says of each (way to load, path), a line each."""
    line = [sys.executable, "-c", SCRIPT, *words]
    environment = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | os.environ | environment
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_what_is_in_the_cache_needs_no_hub(hub, tmp_path):
    """HF_HUB_OFFLINE: a model that was fetched before is found, another is one line, and the hub is
    not asked. Judges and reward models are refused as models are."""
    environment = hub[2] | {"HF_HOME": str(tmp_path)}
    whole, lost, judge, reward = said(
        environment,
        *("model", "open/whole"),
        *("load", "open/lost"),
        *("load", "gated/llama"),
        *("reward", "gated/llama"),
    )
    assert whole.endswith(f"snapshots/{COMMIT}")
    assert "model.path=" in lost
    assert "no file named model.safetensors" in lost
    for line, key in ((judge, "model.path"), (reward, "reward.path")):
        assert line.startswith(f"{key}=gated/llama: is gated at the hub, and who asks must be")
    count = len(hub[1])
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    again, other = said(offline, "model", "open/whole", "model", "open/other")
    assert again == whole
    assert "model.path=open/other: " in other
    assert "HF_HUB_OFFLINE is set, and it is not in the hub's cache" in other
    assert len(hub[1]) == count
