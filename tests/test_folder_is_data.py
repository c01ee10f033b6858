"""A run's folder, and a checkpoint, are data and never code: nothing that they name is imported or called unless the user names it."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import grao_bench
from grao_bench.core.errors import UserError
from grao_bench.core.specs import load, rebuild
from grao_bench.core.values import describe
from grao_bench.evaluate import load_experiment
from grao_bench.models.load import load_causal_lm
from grao_bench.models.scorer import load_classifier
from grao_bench.runs.run import run
from tests.cells import cell

OURS = sorted(Path(grao_bench.__file__).parent.rglob("*.py"))
PYTHON = {"_target_": "grao_bench.rewards.callable.PythonReward", "pairwise": False, "conversational": None, "tie_margin": 0.0}
HOSTILE: dict[str, dict[str, Any]] = {
    "a process": {"_target_": "subprocess.Popen", "args": ["touch", "MARKER"]},
    "a shell": {"_target_": "os.system", "command": "touch MARKER"},
    "a builtin": {"_target_": "builtins.open", "file": "MARKER", "mode": "w"},
    "a function of ours that imports": {"_target_": "grao_bench.rewards.callable.load_function", "path": "hostile.fn"},
    "a function of ours that writes": {"_target_": "grao_bench.core.specs.Path.touch", "self": "MARKER"},
    "what a module of ours imports": {"_target_": "grao_bench.runs.run.FileLock", "lock_file": "MARKER"},
    "a module that one of ours imports": {"_target_": "grao_bench.core.provenance.subprocess.Popen", "args": ["touch", "MARKER"]},
    "a dataclass of ours that is no spec": {
        "_target_": "grao_bench.core.interfaces.Sampling",
        "temperature": 1,
        "top_p": 1,
        "max_new_tokens": 1,
    },
    "a reward function": {**PYTHON, "function": "hostile.fn"},
    "a reward function without a module": {**PYTHON, "function": "hostile"},
    "a class": {"_target_": "hostile.Spec"},
    "a module": {"_target_": "hostile"},
    "no name": {"_target_": ["subprocess", "Popen"]},
}


@dataclass(frozen=True)
class OwnObjective:
    """A user's own objective, which is trusted or not."""

    name: str


@dataclass
class Changeable:
    """No spec: it can be changed."""

    name: str


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}"])
def test_a_configuration_that_holds_itself_is_no_configuration(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config.yaml: can't be read"):
        load_experiment(tmp_path)


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that hostile code makes: whoever imports the module `hostile`, too."""
    path = tmp_path / "was_here"
    (tmp_path / "hostile.py").write_text(f"open({str(path)!r}, 'w').close()\ndef fn(p, c, r):\n    return [0.0] * len(c)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("hostile", None)


@cache
def honest_config() -> dict[str, Any]:
    config: dict[str, Any] = describe(cell("sft", "runs"))
    return config


def written(folder: Path, place: tuple[str, ...], value: Any, files: tuple[str, ...] = ("config.yaml", "run.json")) -> Path:
    """A run's folder without its model, whose configuration holds something else at this place."""
    honest = honest_config()
    changed = json.loads(json.dumps(honest))
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    info = {"objective": "sft", "model": "tiny", "data": "world_helpful", "reward": "gold", "seed": 0, "config_hash": "0"}
    info |= {"config": changed if "run.json" in files else honest, "fingerprints": {}, "environment": {}}
    (folder / "config.yaml").write_text(yaml.safe_dump(changed if "config.yaml" in files else honest))
    (folder / "run.json").write_text(json.dumps(info))
    return folder


def armed(kind: str, marker: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(HOSTILE[kind]).replace("MARKER", str(marker)))
    return found


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("place", [("reward",), ("evaluation", "reward"), ("data", "subset"), ("anything",)], ids=".".join)
def test_what_a_configuration_names_is_not_called(kind, place, marker, tmp_path):
    value = armed(kind, marker)
    folder = written(tmp_path, place, [{"deep": [value]}] if place == ("data", "subset") else value)
    with pytest.raises(UserError, match=r"config\.yaml: ") as raised:
        load_experiment(folder)
    assert "\n" not in str(raised.value)
    assert not marker.exists()
    assert "hostile" not in sys.modules


def test_a_file_that_asks_yaml_for_an_object_is_refused(marker, tmp_path):
    (tmp_path / "config.yaml").write_text(f"!!python/object/apply:os.system ['touch {marker}']\n")
    with pytest.raises(UserError, match=r"config\.yaml: can't be read \(could not determine a constructor"):
        load_experiment(tmp_path)
    assert not marker.exists()


def test_a_configuration_of_something_else_is_refused(tmp_path, command):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(describe(load("objective/sft"))))
    with pytest.raises(UserError, match=r"config\.yaml: is not the configuration of a run"):
        load_experiment(tmp_path)
    outcome = command("evaluate", f"run={written(tmp_path, ('evaluation',), None)}")
    assert (outcome.code, outcome.err) == (2, "grao_bench: evaluation=None: expected Evaluation, got NoneType\n")


@pytest.mark.parametrize("kind", ["a process", "a shell", "a reward function"])
@pytest.mark.parametrize("file", ["config.yaml", "run.json"])
def test_the_command_calls_nothing_either(kind, file, marker, tmp_path, command):
    outcome = command("evaluate", f"run={written(tmp_path, ('reward',), armed(kind, marker), (file,))}")
    assert outcome.code == 2
    assert outcome.err.startswith("grao_bench: ")
    assert len(outcome.err.splitlines()) == 1
    assert not marker.exists()


def test_a_users_class_is_made_where_its_module_is_named(tmp_path):
    folder = written(tmp_path, ("objective",), {"_target_": f"{__name__}.OwnObjective", "name": "own"})
    with pytest.raises(UserError, match=rf"names {__name__}\.OwnObjective, .* add trust={__name__}$"):
        load_experiment(folder)
    for others in (["tests"], [__name__ + ".more"], [__name__[:-1]]):
        with pytest.raises(UserError, match="add trust="):
            load_experiment(folder, others)
    made = rebuild(yaml.safe_load((folder / "config.yaml").read_text())["objective"], "", [__name__])
    assert made == OwnObjective("own")


@pytest.mark.parametrize("name", ["Changeable", "Path", "written", "HOSTILE", "gone", "subprocess.Popen"])
def test_of_a_trusted_module_too_only_its_own_specs_are_made(name):
    with pytest.raises(UserError, match=r"can't be made again|add trust="):
        rebuild({"_target_": f"{__name__}.{name}"}, "config.yaml", [__name__])


def test_an_address_is_asked_only_where_it_is_named(tmp_path):
    """A folder could have the user's key sent to whom it likes."""
    judge = describe(replace(load("reward/judge_helpful"), base_url="https://elsewhere.example/v1", api_key_env="OPENAI_API_KEY"))
    folder = written(tmp_path, ("reward",), judge)
    with pytest.raises(UserError, match=r"LLMJudge\.base_url=https://elsewhere\.example/v1 .* add trust=https://elsewhere\.example/v1$"):
        load_experiment(folder, ["https://elsewhere.example"])
    assert load_experiment(folder, ["https://elsewhere.example/v1"]).reward.base_url == "https://elsewhere.example/v1"


def test_a_run_with_a_function_of_the_users_own_is_evaluated_where_its_module_is_named(tmp_path, command):
    reward = load("reward/python", function="tests.rewards.functions.shorter", pairwise=False)
    folder = run(cell("sft", tmp_path, reward=reward))
    refused = command("evaluate", f"run={folder}", "temperature=0")
    assert refused.code == 2
    assert refused.err.endswith("add trust=tests.rewards.functions\n")
    done = command("evaluate", f"run={folder}", "temperature=0", "trust=tests.rewards.functions")
    assert done.code == 0, done.err
    assert done.out == f"{folder}/evaluations/world_helpful-python_shorter_T0.jsonl\n"
    listed = command("evaluate", f"run={folder}", "seed=1", "trust=[tests.rewards,tests.rewards.functions]")
    assert listed.code == 0, listed.err


@pytest.fixture
def checkpoint(tmp_path, marker):
    """A model's folder that brings code along, and a user who says yes to every question."""
    folder = tmp_path / "model"
    folder.mkdir()
    code = (tmp_path / "hostile.py").read_text() + (
        "from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast\n"
        "class Config(LlamaConfig):\n    model_type = 'hostile'\n"
    )
    (folder / "code.py").write_text(code)
    automatic = {"AutoConfig": "code.Config", "AutoTokenizer": ["code.PreTrainedTokenizerFast", None]}
    automatic |= {
        "AutoModelForCausalLM": "code.LlamaForCausalLM",
        "AutoModelForSequenceClassification": "code.LlamaForSequenceClassification",
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "hostile", "auto_map": automatic}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": automatic}))
    return folder


def test_a_checkpoints_own_code_is_neither_run_nor_asked_about(checkpoint, marker, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question="": "y")
    path = str(checkpoint)
    for load_it in (
        lambda: load_causal_lm(path, "float32", "cpu"),
        lambda: load_classifier(path, "float32", "cpu", "reward"),
    ):
        with pytest.raises(UserError) as raised:
            load_it()
        assert not marker.exists()
        assert "contains custom code" in str(raised.value)


def calls_of(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def test_every_loader_says_that_it_runs_no_code():
    for path, node in [(file, call) for file in OURS for call in calls_of(file)]:
        name, said = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        # a generation config is a file of settings: no code can stand in it
        if name.endswith(".from_pretrained") and name != "GenerationConfig.from_pretrained":
            assert said.get("trust_remote_code") == "False", f"{path}:{node.lineno}"
        if name == "torch.load":
            assert said.get("weights_only") == "True", f"{path}:{node.lineno}"
        if name.startswith("yaml."):
            assert name in ("yaml.safe_load", "yaml.safe_dump"), f"{path}:{node.lineno}"
        assert name.partition(".")[0] not in ("pickle", "eval", "exec"), f"{path}:{node.lineno}"


def test_a_checkpoint_that_pickles_more_than_weights_is_refused(tmp_path, marker):
    class Hostile:
        def __reduce__(self):
            return open, (str(marker), "w")

    torch.save({"policy": Hostile()}, tmp_path / "step1.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "step1.pt", weights_only=True)
    assert not marker.exists()
