"""Specs from conf/ without Hydra, for notebooks: the same YAML files, read as they are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from grao_bench.errors import UserError
from grao_bench.values import rebuild


def conf_dir() -> Path:
    """Where conf/ lies: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def load(name: str, /, **overrides: Any) -> Any:
    """The spec of conf/<name>.yaml, such as "model/tiny", with some fields changed.

    UserError for an unknown file or field, or one that still needs a value.
    """
    values = _read(name) | overrides
    module, _, cls = values.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), cls)
    known = [item.name for item in fields(kind)]
    for key, value in values.items():
        where = f"{name.replace('/', '.')}.{key}"
        if key not in known:
            raise UserError(f"{where}: no such field; there are {', '.join(known)}")
        if isinstance(value, str) and (value == "???" or value.startswith("${")):
            raise UserError(f"{where}: has no value of its own; give load({name!r}, {key}=...)")
    return kind(**{key: rebuild(value, name) if isinstance(value, Mapping) else value for key, value in values.items()})


def _read(name: str) -> dict[str, Any]:
    """A file's values over those of its defaults list: files of the same group, and `/group@place: choice` for a place within it."""
    path = conf_dir() / f"{name}.yaml"
    if not path.exists():
        choices = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "no such group"
        raise UserError(f"{name.replace('/', '=')}: no such file {path}; there are: {choices}")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    merged: dict[str, Any] = {}
    for parent in values.pop("defaults", []):
        if isinstance(parent, Mapping):
            ((choice, file),) = parent.items()
            group, _, place = choice.lstrip("/").partition("@")
            nested = _read(f"{group}/{file}")
            for key in reversed(place.split(".")):
                nested = {key: nested}
            merged = _merged(merged, nested)
        elif parent != "_self_":
            merged = _merged(merged, _read(f"{name.rpartition('/')[0]}/{parent}"))
    return _merged(merged, values)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping over another, mappings within them too."""
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
