"""The add_* pages, followed: their files are written into a folder of one's own, outside the
checkout, and their commands run there; what they made is looked at."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
import yaml

from grao_bench.core.interfaces import Objective, RolloutEngine, Sampling
from grao_bench.core.record_files import read_run
from grao_bench.core.records import Run
from grao_bench.core.spec_interfaces import DataSpec, RewardSpec, RolloutSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Prompt, Turn
from tests.cells import SMALL_WORLD, TINY_BASE, small
from tests.commands import Command
from tests.rewards.judge.fault_server import KEY, MODEL, Behaviour, serving
from tests.rollouts.test_engines import GREEDY, PROMPTS, WARM, codec, tokens
from tests.small import synced, tiny_llama

from .pages import RECIPES, ROOT, files, shell_lines

CONTRACTS = {
    "objective": Objective,
    "reward": RewardSpec,
    "data": DataSpec,
    "rollout": RolloutSpec,
}
MODULES = {"data": "data.__main__"}
OWN_ROWS = (*TINY_BASE, "model.steps=10", "budget=smoke", "optimizer.lr=0.002")


class Followed:
    """A page's commands, run in order in a folder that holds the files of all recipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for text in RECIPES.values():
            for name, content in files(text).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                assert not path.exists(), f"{name}: two recipes write it"
                path.write_text(content, encoding="utf-8")

    def follow(self, page: str, *more: str) -> tuple[dict[str, list[str]], list[Run]]:
        """(what each module's commands printed, the runs that were trained)."""
        printed: dict[str, list[str]] = defaultdict(list)
        runs: list[Run] = []
        for line in shell_lines(RECIPES[page]):
            if line.startswith("export "):
                continue
            assert line.startswith("python -m grao_bench."), line
            name, *arguments = shlex.split(line.removeprefix("python -m grao_bench."))
            if name == "train":
                arguments += more
            if name == "evaluate":  # the page can't know the hash
                last = f"run={runs[-1].folder}"
                arguments = [re.sub(r"^run=.*", last, one) for one in arguments]
            done = Command(self.folder, MODULES.get(name, name), *arguments).wait()
            assert done.code == 0, (line, done.err)
            printed[name].append(done.out)
            if name == "train":
                runs.append(read_run(self.folder / done.out.splitlines()[-1]))
        return printed, runs


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return Followed(tmp_path)


def test_every_file_is_what_it_says(project):
    """Modules are imported, and what a YAML names is made of its values; cheap beside the runs."""
    for path in sorted(project.folder.rglob("*.yaml")):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        target = values.pop("_target_", None)
        if target is None:  # a table, or a preset over another file
            assert values
            continue
        values.pop("role", None)  # where reports show an objective: the run's, no field
        spec = pkgutil.resolve_name(target)(**values)
        contract = CONTRACTS[path.parent.name]
        assert isinstance(spec, contract), (path, contract)
    for path in project.folder.glob("mine/*.py"):
        importlib.import_module(f"mine.{path.stem}")


def only(records: Mapping[object, list]) -> list:
    (found,) = records.values()
    assert found
    return found


def test_an_objective(project):
    printed, (run,) = project.follow("add_an_objective", *SMALL_WORLD)
    assert (run.info.objective, run.info.role) == ("rescue", "variant of grao")
    for step in run.steps:
        # -losses * J_y, with losses between 0 and 1 and J_y below 0
        assert 0 <= step.metrics["loss/imitation"] <= -step.metrics["J_y"]
    assert any(step.metrics["loss/imitation"] > 0 for step in run.steps)
    assert printed["evaluate"]


@pytest.mark.slow
def test_an_objective_in_the_checkout_is_tested_by_being_there(tmp_path):
    for name in ("grao_bench", "conf", "sweeps", "tests"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, text in files(RECIPES["add_an_objective"]).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    (command,) = re.findall(r"^    pytest (.+)$", RECIPES["add_an_objective"], re.MULTILINE)
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *command.split()]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 3


@pytest.mark.slow
def test_a_reward(project):
    _, (asking, both, keywords) = project.follow("add_a_reward", *SMALL_WORLD)
    for record in only(asking.evaluations):
        assert record.reward == ("?" in record.answer and "?" not in record.reference)
    for record in only(both.evaluations):
        asked = "?" in record.answer and "?" not in record.reference
        brevity = max(0, 1 - record.num_tokens / 40)
        assert record.reward == pytest.approx(asked + 0.5 * brevity)
    for record in only(keywords.evaluations):
        said = sum(word in record.answer.lower() for word in ("is", "hope"))
        assert record.parts == {"words": said, "unfinished": 0 if record.finished else -0.5}
        assert record.reward == said - 0.5 * (not record.finished)


def test_data(project):
    printed, (rows, quiz) = project.follow("add_data", *OWN_ROWS)
    assert "read as preference" in printed["data"][0]
    asked = files(RECIPES["add_data"])
    for run, file in ((rows, "rows.jsonl"), (quiz, "quiz.tsv")):
        for record in only(run.evaluations):
            assert record.prompt in asked[file]
            assert record.reference in asked[file]
    assert {record.example_id.rpartition("-")[0] for record in only(quiz.evaluations)} == {"quiz"}


def test_a_layout(project):
    from mine.layout import OPTIONS

    row = {"question": "2 + 2?", "options": ["3", "4", "5"], "right": 1}
    parts = OPTIONS.read(row, "refuse")
    assert parts.prompt == (Turn("user", "2 + 2?"),)
    assert (parts.chosen, parts.rejected) == ("4", "3")


@pytest.mark.slow
def test_an_engine(project):
    _, (run,) = project.follow("add_an_engine", *SMALL_WORLD, "budget.max_answer_tokens=8")
    assert all(step.metrics["length"] > 0 for step in run.steps)


def test_an_engine_keeps_the_contract(project):
    from mine.plain import PlainRollout

    spec = PlainRollout(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, stop=None)
    model = tiny_llama()
    plain = synced(spec.build(codec()), model)
    assert isinstance(plain, RolloutEngine)
    # greedy answers are another engine's; a drawn one is itself whatever is drawn beside it
    other = synced(load("rollout/shared_prefix").build(codec()), model)
    theirs = other.sample(PROMPTS, 1, GREEDY, 0)
    assert tokens(plain.sample(PROMPTS, 1, GREEDY, 0)) == tokens(theirs)
    whole = plain.sample(PROMPTS, 3, WARM, 5)
    assert len(set(tokens(whole)[1])) > 1
    for place, prompt in enumerate(PROMPTS):
        assert plain.sample([prompt], 3, WARM, 5)[0] == whole[place]
    twice = plain.sample([PROMPTS[0], PROMPTS[0]], 3, WARM, 5)
    assert twice[0] == whole[0] != twice[1]
    second = Prompt(PROMPTS[0].id, PROMPTS[0].tokens, occurrence=1)
    assert plain.sample([second], 3, WARM, 5) == twice[1:]
    assert plain.sample(PROMPTS, 0, Sampling(1.0, 0.5, 4), 0) == [[], [], []]


@pytest.mark.slow
def test_a_metric(project):
    _, (spread, brief) = project.follow("add_a_metric", *SMALL_WORLD)
    for step in spread.steps:
        assert step.metrics["J_apart"] > 0
        assert step.metrics["loss/exploration"] == pytest.approx(step.metrics["loss"])
    right = [one.finished and one.num_tokens <= 24 for one in only(brief.evaluations)]
    assert [one.correct for one in only(brief.evaluations)] == right
    tables = pd.read_csv(project.folder / "runs" / "single" / "report" / "tables.csv")
    (shown,) = tables.loc[tables.method == "grpo", "correct"].dropna()
    assert shown == pytest.approx(100 * sum(right) / len(right))
    page = project.folder / "runs" / "single" / "report" / "tables.md"
    assert " correct % |" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_model(project):
    base = small("model/tiny").checkpoint(small("data/world_helpful").corpus)
    shutil.copytree(base, project.folder / "my_checkpoint")
    own_base = (*TINY_BASE, "optimizer.lr=0.002")
    world = [one for one in SMALL_WORLD if one not in own_base]
    _, (plain, preset) = project.follow("add_a_model", *world)
    assert plain.info.config["model"]["path"] == "my_checkpoint"
    assert "my_model" in preset.folder.parts
    # the table of its own name
    assert preset.info.config["optimizer"]["lr"] == 2e-5
    first, second = ([one.verdict for one in only(run.evaluations)] for run in (plain, preset))
    assert len(first) == len(second) > 0


@pytest.mark.slow
def test_a_judge(project):
    with serving(Behaviour(share=0.0)) as server:
        asked = {"base_url": server.url, "model": MODEL}
        reward = [f"reward.{key}={value}" for key, value in asked.items()]
        environment = {"MY_JUDGE_KEY": KEY, "NO_PROXY": "127.0.0.1"}
        page = RECIPES["add_a_judge"]
        trained_on, judged_by = [line for line in shell_lines(page) if "grao_bench" in line]
        both = {"": trained_on, "evaluation.": judged_by}
        runs = []
        for prefix, line in both.items():
            words = shlex.split(line.removeprefix("python -m grao_bench.train "))
            where = [f"{prefix}{one}" for one in reward]
            done = Command(project.folder, "train", *words, *SMALL_WORLD, *where, **environment).wait()
            assert done.code == 0, done.err
            runs.append(read_run(project.folder / done.out.splitlines()[-1]))
        assert any("more concise" in body["messages"][0]["content"] for body in server.log.bodies)
    for run in runs:
        ((_, name),) = [key for key in run.evaluations if "judge_concise" in key[1]]
        records = run.evaluations["world_helpful", name]
        for record in records:
            ours, theirs = record.answer.count("e"), record.reference.count("e")
            assert record.verdict == (ours > theirs) - (ours < theirs)
