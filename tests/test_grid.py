"""The cells of a grid are known before it starts: the ones that Hydra's own multirun then runs, whatever is swept."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import grao_bench

APP = """
import json
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback

HERE = Path(__file__).parent


class Foresee(Callback):
    def on_multirun_start(self, config, **kwargs):
        from grao_bench.train import grid_cells

        (HERE / "foreseen").write_text(json.dumps(grid_cells(config)))


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def task(cfg):
    with (HERE / "ran").open("a") as file:
        file.write(json.dumps(list(HydraConfig.get().overrides.task)) + "\\n")


if __name__ == "__main__":
    task()
"""
CONFIG = """
defaults:
  - group: one
  - _self_
a: 0
b: 0
c: 0
d: {e: 0, f: [1, 2]}
gone: 1
hydra:
  mode: MULTIRUN
  sweeper:
    params: {a: "5,6", b: "7,8", d.e: "choice(1, 2)"}
  callbacks:
    foresee: {_target_: __main__.Foresee}
"""
SWEEPS = {
    "the configuration's own": [],
    "another order and an override": ["c=1,2", "a=1"],
    "a sweep in place of a sweep": ["b=range(3)", "a=x"],
    "everything": [
        "a=choice('two, three',{six: 7})",
        "b=range(0,1,0.5)",
        "c=sort(3,1,2,reverse=true)",
        "d.e=null",
        "d.f=[8,9]",
        "~gone",
        "+new=true",
        "++b2='q=1'",
        "+text='a \\'quoted\\' text'",
        "group=glob(t*)",
    ],
}


@pytest.mark.parametrize("overrides", SWEEPS.values(), ids=SWEEPS)
def test_a_grid_has_the_cells_that_hydra_runs(overrides, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "group").mkdir()
    for name in ("one", "two", "three"):
        (tmp_path / "group" / f"{name}.yaml").write_text("x: 1\n")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "app.py"), *overrides, f"hydra.sweep.dir={tmp_path}/out"],
        env=os.environ | {"PYTHONPATH": str(Path(grao_bench.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    ran = [json.loads(line) for line in (tmp_path / "ran").read_text().splitlines()]
    assert json.loads((tmp_path / "foreseen").read_text()) == ran
    assert len(ran) == len({tuple(cell) for cell in ran}) > 1


def test_only_what_hydra_offers_is_used():
    for path in Path(grao_bench.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            private = [name for name in names if name.startswith("hydra") and "._" in name]
            assert not private, f"{path}:{node.lineno}: {private}"
