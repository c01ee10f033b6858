"""Specs as values: checking their types, writing them down, hashing them, and making them again."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from beartype import BeartypeConf
from beartype.door import is_bearable

from grao_bench.errors import UserError

_INT_IS_FLOAT = BeartypeConf(is_pep484_tower=True)


def check_types(value: Any, key: str = "") -> None:
    """UserError, with its config key, for the first field whose value is not of its declared type; nested dataclasses too."""
    hints = get_type_hints(type(value))
    for item in fields(value):
        entry, name = getattr(value, item.name), f"{key}.{item.name}" if key else item.name
        if is_dataclass(entry) and not isinstance(entry, type):
            check_types(entry, name)
        if not is_bearable(entry, hints[item.name], conf=_INT_IS_FLOAT) or (isinstance(entry, bool) and hints[item.name] in (int, float)):
            hint = item.type if isinstance(item.type, str) else getattr(item.type, "__name__", item.type)
            raise UserError(f"{name}={entry!r}: expected {hint}, got {type(entry).__name__}")


def describe(value: Any, identity: bool = False) -> Any:
    """A spec as plain data: a dataclass becomes {"_target_": its class, field: ...}, as Hydra writes it; sequences become lists.

    identity: without the fields that don't count when two values are compared (`field(compare=False)`).
    """
    if is_dataclass(value) and not isinstance(value, type):
        target = f"{type(value).__module__}.{type(value).__qualname__}"
        named = {item.name: getattr(value, item.name) for item in fields(value) if item.compare or not identity}
        return {"_target_": target} | {name: describe(entry, identity) for name, entry in named.items()}
    if isinstance(value, Mapping):
        return {str(key): describe(entry, identity) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [describe(entry, identity) for entry in value]
    return value


def rebuild(value: Any, where: str) -> Any:
    """The inverse of `describe`. `where` names the file in errors; UserError for a class or field that no longer exists."""
    if isinstance(value, Mapping):
        entries = {key: rebuild(entry, where) for key, entry in value.items() if key != "_target_"}
        if "_target_" not in value:
            return entries
        module, _, name = value["_target_"].rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)(**entries)
        except (ImportError, AttributeError, TypeError) as error:
            raise UserError(f"{where}: {value['_target_']} can't be made again ({error}); was it written by another version?") from None
    return [rebuild(entry, where) for entry in value] if isinstance(value, list) else value


def value_hash(*values: Any) -> str:
    """8 hex digits over the described values."""
    return hashlib.sha256(json.dumps(describe(values, identity=True), sort_keys=True).encode()).hexdigest()[:8]
