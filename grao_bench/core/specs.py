"""Specs without Hydra: from conf/, for notebooks, and from a run's own record, where they are data
and never code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import grao_bench
from grao_bench.core.errors import UserError
from grao_bench.core.values import REACHES


def conf_dir() -> Path:
    """Where conf/ lies: inside the installed package, or beside it in a checkout."""
    package = Path(grao_bench.__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def load(name: str, /, **overrides: Any) -> Any:
    """The spec of conf/<name>.yaml, such as "model/tiny", with some fields changed.

    UserError for an unknown file or field, or one that still needs a value.
    """
    values = _read(name) | overrides
    module, _, cls = values.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), cls)
    known = [item.name for item in fields(kind)]
    if "role" not in known:
        values.pop("role", None)  # of an objective: where reports show it
    for key, value in values.items():
        where = f"{name.replace('/', '.')}.{key}"
        if key not in known:
            raise UserError(f"{where}: no such field; there are {', '.join(known)}")
        if isinstance(value, str) and (value == "???" or value.startswith("${")):
            raise UserError(f"{where}: has no value of its own; give load({name!r}, {key}=...)")
    return kind(**{key: rebuild(value, name, trust=None) if isinstance(value, Mapping) else value for key, value in values.items()})


def rebuild(value: Any, where: str, trust: Collection[str] | None = ()) -> Any:
    """The inverse of `values.describe`, of a record that anybody may have written: only specs are
    made, and nothing else is imported or called.

    A spec is a frozen dataclass that conf/ names, or that a module in `trust` defines. What a
    field of it reaches outside (`values.REACHES`: a module that it imports, an address that it
    asks) has to be in `trust` too. None trusts everything: what the caller wrote.
    `where` names the file in errors; UserError for what is not trusted, and for a class or field
    that no longer exists.
    """
    if isinstance(value, list):
        return [rebuild(entry, where, trust) for entry in value]
    if not isinstance(value, Mapping):
        return value
    entries = {key: rebuild(entry, where, trust) for key, entry in value.items() if key != "_target_"}
    if "_target_" not in value:
        return entries
    target = str(value["_target_"])
    try:
        kind = _spec_class(target, where, trust)
        _require_trusted(kind, entries, where, trust)
        return kind(**entries)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        fault = f"{target} can't be made again ({error}); was it written by another version?"
        raise UserError(f"{where}: {fault}") from None


@cache
def spec_classes() -> frozenset[str]:
    """The dotted names of all classes in conf/: the one list of what a configuration is made of."""
    texts = [path.read_text(encoding="utf-8") for path in conf_dir().rglob("*.yaml")]
    return frozenset(name for text in texts for name in re.findall(r"^ *_target_: *(\S+)", text, re.M))


def _spec_class(target: str, where: str, trust: Collection[str] | None) -> type:
    """The class of this dotted name, which is looked at before anything is imported."""
    module, _, name = target.rpartition(".")
    if trust is not None and target not in spec_classes() and module not in trust:
        if module.partition(".")[0] == __name__.partition(".")[0]:
            raise AttributeError("conf/ names no such class")
        raise UserError(
            f"{where}: names {target}, which is none of the classes in conf/, and a run's folder is data: "
            f"nothing is imported for it; if {module or target} is yours, add trust={module or target}"
        )
    kind: Any = getattr(importlib.import_module(module), name)
    # a function, or what the module itself imports (subprocess.Popen), is no spec of its own
    own = isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module
    if not own or not kind.__dataclass_params__.frozen:
        raise TypeError(f"it is no frozen dataclass that {module} defines")
    spec: type = kind
    return spec


def _require_trusted(kind: type, entries: Mapping[str, Any], where: str, trust: Collection[str] | None) -> None:
    for item in fields(kind):
        if trust is None or REACHES not in item.metadata or item.name not in entries:
            continue
        entry = entries[item.name]
        for one in entry if isinstance(entry, list) else [entry]:
            reached = item.metadata[REACHES](str(one))
            if reached not in trust:
                raise UserError(
                    f"{where}: {kind.__name__}.{item.name}={one} leads to {reached}, and a run's "
                    "folder is data: nothing is imported or asked for it; "
                    f"if {reached} is yours, add trust={reached}"
                )


def choices(group: str) -> dict[str, Any]:
    """Every spec of a group by its file's name; where a file leaves a value to be given, the
    class."""
    found = {}
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        name = f"{group}/{path.stem}"
        try:
            found[path.stem] = load(name)
        except UserError:
            module, _, cls = _read(name)["_target_"].rpartition(".")
            found[path.stem] = getattr(importlib.import_module(module), cls)
    return found


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
            if file == "none":  # the file's own null stays
                continue
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
