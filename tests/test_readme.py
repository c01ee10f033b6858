"""What the README says can be done: its commands, its make targets, its notebook, its objective, its lists and links."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

import grao_bench
from grao_bench import controls, report, show_data
from grao_bench.command_line import sweeps_parent, to_value, with_group
from grao_bench.evaluate import config_name
from grao_bench.specs import conf_dir
from grao_bench.train import NO_FIELDS, grid_cells
from tests.cells import small

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A file to be written: its path alone on a line, then its text."""

FILES = dict(NAMED.findall(README))
NEW_OBJECTIVES = {Path(path).stem for path in FILES if path.startswith("conf/objective/")}


def commands() -> list[str]:
    """Every command line: in sh blocks, in indented lines, and between backticks."""
    blocks = [line for language, text in FENCE.findall(README) if language == "sh" for line in text.splitlines()]
    rest = FENCE.sub("", README)
    indented = re.findall(r"^    (.+)$", rest, re.MULTILINE)
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", re.sub(r"^    .+$", "", rest, flags=re.MULTILINE))]
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in (*blocks, *indented, *spans)]
    return sorted({line for line in lines if re.match(r"python -m grao_bench|make |pytest ", line)})


def of(start: str) -> list[list[str]]:
    """The arguments of the commands that start like this."""
    found = [shlex.split(line) for line in commands() if f"{line} ".startswith(f"{start} ")]
    return [[with_group(word) for word in words[len(start.split()) :]] for words in found]


@pytest.fixture(autouse=True)
def _hydra(monkeypatch):
    monkeypatch.setenv("GRAO_BENCH_SWEEPS_PARENT", str(sweeps_parent()))
    jaxtyping.config.update("jaxtyping_disable", True)  # as for a user, 0 is a float
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_every_command_is_looked_at():
    known = [
        *(f"python -m grao_bench.{name}" for name in ("train", "train_reward", "evaluate", "data")),
        *(f"python -m grao_bench.{name}" for name in ("report", "controls", "tune", "bases")),
        "make",
        "pytest",
    ]
    assert all(any(f"{line} ".startswith(f"{start} ") for start in known) for line in commands()), commands()
    assert len(of("python -m grao_bench.train")) >= 8
    assert all(of(start) for start in known)


@pytest.mark.parametrize("arguments", of("python -m grao_bench.train"), ids=" ".join)
def test_training_commands_compose(arguments):
    if any(f"objective={name}" in arguments for name in NEW_OBJECTIVES):
        pytest.skip("the objective that the README adds: test_adding_an_objective runs it")
    overrides = ["hydra.mode=MULTIRUN" if word == "-m" else word for word in arguments if word not in ("--cfg", "job")]
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    mode = RunMode.MULTIRUN if "-m" in arguments else RunMode.RUN
    config = hydra.compose_config("train", overrides, run_mode=mode, from_shell=False, validate_sweep_overrides=mode == RunMode.RUN)
    grid = config.hydra.mode == RunMode.MULTIRUN
    cells = grid_cells(config) if grid else [tuple(overrides)]
    assert len(cells) > 1 or not grid
    for cell in (cells[0], cells[-1]):
        to_value(compose("train", overrides=list(cell)), NO_FIELDS)


@pytest.mark.parametrize("module", ["train_reward", "evaluate"])
def test_the_other_commands_compose(module):
    found = of(f"python -m grao_bench.{module}")
    assert found
    for arguments in found:
        root = config_name(arguments) if module == "evaluate" else module
        to_value(compose(root, overrides=arguments))


def test_the_data_commands_compose():
    for arguments in of("python -m grao_bench.data"):
        words = show_data.parser().parse_intermixed_args(arguments).what
        to_value(compose("train", overrides=show_data.data_overrides(words)).data)


def test_report_commands_are_understood():
    for arguments in of("python -m grao_bench.report"):
        report._parser().parse_args(arguments)
    for arguments in of("python -m grao_bench.controls"):
        controls._parser().parse_args(arguments)
    for option in re.findall(r"`report (--\w+)", README):
        assert option in report._parser().format_help()


def test_make_targets_exist():
    targets = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {arguments[0] for arguments in of("make")} <= set(targets)
    assert {"demo", "test"} <= {arguments[0] for arguments in of("make")}


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # the same values, in the tests' size
    monkeypatch.setattr(grao_bench, "load", small, raising=False)
    blocks = [text for language, text in FENCE.findall(README) if language == "python" and text not in FILES.values()]
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]


def test_adding_an_objective(tmp_path):
    assert {Path(path).suffix for path in FILES} >= {".py", ".yaml"}
    for name in ("grao_bench", "conf", "sweeps", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, text in FILES.items():
        assert not (tmp_path / path).exists(), f"{path} is there already"
        (tmp_path / path).write_text(text)

    # the properties that every objective must have, and a cell from start to finish
    (name,) = NEW_OBJECTIVES
    files = ("tests/test_every_objective.py", "tests/test_run.py")
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", name, *files]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout[-3000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 3


def test_the_table_of_groups_is_whole():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([\w, ;]+) \|", README, re.MULTILINE)
    told = {}
    for groups, choices in rows:
        names = re.findall(r"\w+", groups)
        told |= dict(zip(names, (set(re.findall(r"\w+", part)) for part in choices.split(";")), strict=True))
    others = ("hydra", "tune")  # no groups of a cell: docs/tuning.md
    folders = [one for one in conf_dir().iterdir() if one.is_dir() and one.name not in others]
    assert told == {folder.name: {path.stem for path in folder.glob("*.yaml")} for folder in folders}


def test_links_and_pictures_are_there():
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", README) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if target and not (ROOT / target).exists()] == []
    assert "PLACEHOLDER" not in README
