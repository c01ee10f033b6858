"""Specs as values: checking their types, writing them down, and hashing them. `specs` makes them
again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from beartype import BeartypeConf
from beartype.door import is_bearable

from grao_bench.core.errors import UserError

HASH_VERSION = 2
"""Of `value_hash`, and of what goes into it: a new one where equal hashes would no longer mean
equal values. run.json names it."""
REACHES = "reaches"
"""Key of a field's metadata: from its value, the name of what it reaches outside the program (a
module, an address). What a run's folder says there is followed only where the user names the same;
see `specs.rebuild`."""
READS = "reads"
"""Key of a field's metadata: from the spec and the names of the sets it is for, digests of what the
field names outside the configuration (a function's code, a prompt's text, a model's files), by
name. Part of what a run computes; see `identity`."""

FIRST_NAMES = {"grao_bench.core.interfaces.Sampling": "grao_bench.interfaces.Sampling"}
"""Of classes that moved after hashes had named them: equal values keep their hash."""

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

    identity: without the fields that don't count when two values are compared
    (`field(compare=False)`: a matter of memory, speed or cost), and with each class's `revision`.
    Code is written down by its name.
    """
    if is_dataclass(value) and not isinstance(value, type):
        target = dotted_name(type(value))
        target = FIRST_NAMES.get(target, target)
        named = {item.name: getattr(value, item.name) for item in fields(value) if item.compare or not identity}
        number = revision_of(type(value))
        made = {"_revision_": number} if identity and number is not None else {}
        own = {name: describe(entry, identity) for name, entry in named.items()}
        return {"_target_": target} | made | own
    if isinstance(value, Mapping):
        return {str(key): describe(entry, identity) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [describe(entry, identity) for entry in value]
    if callable(value):
        return dotted_name(value)
    return value


def dotted_name(thing: Any) -> str:
    """module.qualname of a class or function; of anything else, its class's."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def revision_of(kind: type) -> int | None:
    """The number that whoever changes a class's numbers raises: its `revision`, or where that names
    something else (of a hub's repository), its `code_revision`. None where it says none."""
    found = (vars(kind).get(name) for name in ("code_revision", "revision"))
    return next((number for number in found if isinstance(number, int)), None)


def value_hash(*values: Any) -> str:
    """8 hex digits over the described values and HASH_VERSION."""
    described = [HASH_VERSION, describe(values, identity=True)]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]
