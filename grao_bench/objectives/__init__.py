"""The objectives, one file and one YAML each. A new one needs no edit here: its YAML names it."""

from __future__ import annotations

import importlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from grao_bench.errors import UserError
from grao_bench.interfaces import Objective


def conf_dir() -> Path:
    """Where conf/ lies: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def load_objective(name: str, **overrides: Any) -> Objective:
    """The objective of conf/objective/<name>.yaml, with some fields changed; the same YAML that Hydra reads, without Hydra.

    UserError for an unknown name or field.
    """
    folder = conf_dir() / "objective"
    path = folder / f"{name}.yaml"
    if not path.exists():
        raise UserError(f"objective={name}: no such file {path}; there are {', '.join(sorted(p.stem for p in folder.glob('*.yaml')))}")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    module, _, cls = values.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), cls)
    unknown = overrides.keys() - {item.name for item in fields(kind)}
    if unknown:
        raise UserError(f"objective.{sorted(unknown)[0]}: {name} has no such field; it has {', '.join(item.name for item in fields(kind))}")
    return kind(**(values | overrides))
