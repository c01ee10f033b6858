"""Results that are committed come from a clean commit: a grid of them refuses another tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grao_bench.core.errors import UserError
from grao_bench.train import require_traceable

ROOT = Path(__file__).parents[1]


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A repository with a package in it."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


@pytest.mark.parametrize("committed", [True, False])
def test_a_clean_commit_says_nothing(checkout, committed):
    assert require_traceable(committed, False, "s", checkout / "package") == ""


def test_a_changed_tree_is_told_and_refused_where_results_are_committed(checkout):
    package = checkout / "package"
    (package / "code.py").write_text("a = 2\n")
    for committed, allowed in ((False, False), (True, True)):
        line = require_traceable(committed, allowed, "s", package)
        assert line.startswith("the working tree differs from commit ")
    with pytest.raises(UserError, match="sweep=s: its results are committed, and the code has"):
        require_traceable(True, False, "s", package)


def test_where_there_is_no_checkout_only_committed_grids_are_refused(tmp_path):
    assert require_traceable(False, False, "s", tmp_path) == ""
    assert require_traceable(True, True, "s", tmp_path) == ""
    with pytest.raises(UserError, match="is in no git checkout"):
        require_traceable(True, False, "s", tmp_path)


def test_a_committed_grid_refuses_before_anything_is_read(tmp_path):
    for name in ("conf", "grao_bench", "sweeps"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    (tmp_path / "grao_bench" / "train.py").open("a").write("# changed\n")
    command = [sys.executable, "-m", "grao_bench.train", "+sweeps=laptop"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "grao_bench: sweep=laptop: its results are committed, and the code has uncommitted "
        "changes; commit them, or allow_dirty=true, and the records say so\n"
    )
