"""Which Pythons grao_bench runs on, said in one line by whatever a user starts first: pip, make or a command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from grao_bench.cli.command_line import check_python, hydra_main
from grao_bench.core.errors import UserError

ROOT = Path(__file__).parents[1]
VERSIONS = {(3, 10): False, (3, 11): True, (3, 12): True, (3, 13): True, (3, 14): False, (3, 15): False}


@pytest.mark.parametrize(("version", "runs"), VERSIONS.items())
def test_the_command_and_pip_agree(version, runs):
    required = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    assert required.contains(f"{version[0]}.{version[1]}.1") == runs
    if runs:
        check_python(version)
        return
    with pytest.raises(UserError, match=rf"^Python 3\.{version[1]}: Hydra 1\.3.* use Python 3\.11, 3\.12 or 3\.13$"):
        check_python(version)


def test_a_command_says_so_before_hydra_starts(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    with pytest.raises(SystemExit) as stopped:
        hydra_main("no such configuration", print)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("grao_bench: Python 3.14: Hydra 1.3")


@pytest.mark.parametrize(("version", "runs"), VERSIONS.items())
def test_make_says_so_before_it_installs(version, runs, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    # a Python of that version, as far as make's line can see; it makes no environment
    other = tmp_path / "other"
    pretend = f"import sys; sys.version_info = {(*version, 0)}; sys.argv[1] == '-c' and exec(sys.argv[2])"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{pretend}" "$@"\n')
    other.chmod(0o755)
    made = subprocess.run(["make", "test", f"PYTHON={other}"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    said = f"grao_bench needs Python 3.11, 3.12 or 3.13 (Hydra 1.3 cannot start on 3.14), and {other} is 3.{version[1]}"
    assert (said in made.stderr) != runs
    assert ("-m venv" in made.stdout) == runs
