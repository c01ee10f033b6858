"""What code computes, as a digest: of a function or a class and of everything that it reads.

From the syntax tree, without comments, docstrings and positions, of the definition and, as far as
it leads, of the functions, classes and constants of its own module and of the user's other modules
that it imports from. So a reformatted or moved module keeps its digest, and an edited line that
counts changes it. Of an installed package, and of grao_bench, the import statement alone is read.

Where there is no file (a notebook) the parts come from the objects themselves: the source where
Python remembers it, else the bytecode with its constants.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from grao_bench.core.module_source import (
    DEFINITION,
    ModuleSource,
    apart,
    attributes_of,
    is_compiled,
    is_users,
    loaded_names,
    module_source,
    names_of,
    plain_tree,
    reached_data,
)


def code_fingerprint(thing: Any, named: tuple[str, str] | None = None) -> str | None:
    """16 hex digits for a function, a class or any object that can be called; None where neither
    source nor bytecode is to be had (an extension in C).

    named: (module, name) where `thing` is bound there: its statements are then read, which tells a
    closure, a lambda or a partial apart by how it was made.
    """
    if isinstance(thing, BuiltinFunctionType) or is_compiled(getattr(thing, "__module__", None)):
        return None
    parts = _Parts()
    place = named if named is not None and _own(thing, named[0]) else _place(thing)
    if place is None or not parts.add_name(*place):
        parts.add_object(thing)
    return parts.digest()


def _own(thing: Any, module: str) -> bool:
    """Whether a thing that is bound in a module comes from it, as far as it says."""
    return getattr(thing, "__module__", module) == module or not _place(thing)


def _place(thing: Any) -> tuple[str, str] | None:
    """(module, name at its top) of where a function or class was defined."""
    if not isinstance(thing, FunctionType | type):
        return None
    if isinstance(thing, FunctionType) and "<" in thing.__qualname__:
        return None  # a lambda, or made within a function: its place tells too little of it
    return thing.__module__, thing.__qualname__.partition(".")[0]


class _Parts:
    """The statements and values found so far, each as canonical text."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.seen: set[Any] = set()
        self.unread = False

    def digest(self) -> str | None:
        """Of all parts, in whatever order they were found."""
        if self.unread or not self.found:
            return None
        return hashlib.sha256("\n".join(sorted(self.found)).encode()).hexdigest()[:16]

    # --- by name, from a module's file ---

    def add_name(self, module: str, name: str) -> bool:
        """What binds a name of a module, and all that it reads; False where no file says."""
        source = module_source(module)
        if source is None or name not in source.bound:
            return False
        if (module, name) in self.seen:
            return True
        self.seen.add((module, name))
        for node in source.bound[name]:
            self._add_statement(source, node)
        if name in source.data:
            for node, names in source.touching:
                if name in reached_data(source, names):
                    self._add_statement(source, node)
        return True

    def _add_statement(self, module: ModuleSource, node: ast.stmt) -> None:
        text = json.dumps(plain_tree(node))
        if (module.name, text) in self.seen:
            return
        self.seen.add((module.name, text))
        self.found.add(text)
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._follow(module, node, set())
            return
        for inner in ast.walk(node):
            if isinstance(inner, ast.Import | ast.ImportFrom):
                for each in apart(inner):
                    self._follow(module, each, attributes_of(node, each))
        for name in sorted(names_of(node)[1]):
            for binding in module.bound.get(name, ()):
                if isinstance(binding, ast.Import):
                    self.found.add(json.dumps(plain_tree(binding)))
                    self._follow(module, binding, attributes_of(node, binding))
            if not self.add_name(module.name, name):
                for star in module.bound.get("*", ()):
                    self._follow(module, star, {name})

    def _follow(self, module: ModuleSource, node: ast.stmt, attributes: set[str]) -> None:
        """What an import statement brings from another of the user's modules; of `import tools` and
        `from tools import *` the attributes that are read."""
        if isinstance(node, ast.Import):
            (alias,) = node.names
            if is_users(alias.name):
                for name in attributes:
                    self.add_name(alias.name, name)
            return
        assert isinstance(node, ast.ImportFrom)
        (alias,) = node.names
        try:
            source = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(source, module.package)
        except (ImportError, ValueError):
            return
        if not is_users(origin):
            return
        if alias.name == "*":
            for name in attributes:
                self.add_name(origin, name)
        elif not self.add_name(origin, alias.name) and is_users(f"{origin}.{alias.name}"):
            inner = f"{origin}.{alias.name}"  # a module of a package: the whole of it
            for name in getattr(module_source(inner), "bound", ()):
                self.add_name(inner, name)

    # --- by object, where there is no file ---

    def add_object(self, thing: Any) -> None:
        """A function, class, partial, bound method or callable object."""
        if isinstance(thing, functools.partial):
            given = self.value(thing.args), self.value(thing.keywords)
            self.found.add(json.dumps(["partial", *given]))
            self._add_callable(thing.func)
        elif isinstance(thing, MethodType):
            self.found.add(json.dumps(["method", thing.__name__, self.value(thing.__self__)]))
            self._add_callable(thing.__func__)
        elif isinstance(thing, FunctionType):
            self._add_function(thing)
        elif isinstance(thing, type):
            self._add_class(thing)
        elif not hasattr(thing, "__dict__"):
            self.unread = True
        else:
            self.found.add(json.dumps(["object", self.value(vars(thing))]))
            self._add_callable(type(thing))

    def _add_callable(self, thing: Any) -> None:
        if id(thing) in self.seen:
            return
        self.seen.add(id(thing))
        place = _place(thing)
        if place is None or not self.add_name(*place):
            self.add_object(thing)

    def _add_function(self, function: FunctionType) -> None:
        self.found.add(json.dumps(_remembered(function) or _bytecode(function.__code__)))
        given = (function.__defaults__, function.__kwdefaults__, _cells(function))
        self.found.add(json.dumps(["given", self.value(given)]))
        for name in sorted(loaded_names(function.__code__)):
            if name in function.__globals__:
                value = function.__globals__[name]
                self.found.add(json.dumps(["global", name, self.value(value)]))

    def _add_class(self, kind: type) -> None:
        for name, value in sorted(vars(kind).items()):
            value = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
            made = isinstance(value, FunctionType) and value.__code__.co_filename == "<string>"
            # what Python or dataclasses put there says nothing more
            if not name.startswith("__") or (isinstance(value, FunctionType) and not made):
                self.found.add(json.dumps(["class", kind.__qualname__, name, self.value(value)]))
        for base in kind.__bases__:
            if is_users(base.__module__) or base.__module__ == kind.__module__:
                self._add_callable(base)

    def value(self, value: Any) -> Any:
        """A value that code reads, in canonical form; of code its name, and itself a part."""
        if value is None or isinstance(value, bool | int | str):
            return [type(value).__name__, value]
        if isinstance(value, float | complex | bytes | Path):
            return [type(value).__name__, str(value)]
        if isinstance(value, list | tuple):
            return [type(value).__name__, [self.value(each) for each in value]]
        if isinstance(value, set | frozenset):
            return ["set", sorted(json.dumps(self.value(each)) for each in value)]
        if isinstance(value, Mapping):
            return ["map", [[self.value(key), self.value(entry)] for key, entry in value.items()]]
        if isinstance(value, re.Pattern):
            return ["pattern", value.pattern, value.flags]
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        if isinstance(value, CodeType):
            return _bytecode(value)
        if hasattr(value, "tobytes") or hasattr(value, "numpy"):
            return ["array", _digest_of_array(value)]
        if is_dataclass(value) and not isinstance(value, type):
            self._add_callable(type(value))
            held = {each.name: self.value(getattr(value, each.name)) for each in fields(value)}
            return ["spec", held]
        module = getattr(value, "__module__", None) or type(value).__module__
        name = getattr(value, "__qualname__", type(value).__qualname__)
        partial = isinstance(value, functools.partial | MethodType)
        if partial or (is_users(module) and (callable(value) or hasattr(value, "__dict__"))):
            self._add_callable(value)
            return ["code", name]
        return ["other", module, name]


def _remembered(function: FunctionType) -> Any:
    """The tree of a function's own source, where Python remembers it and it stands alone in it."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError):
        return None
    if len(body) != 1 or not isinstance(body[0], DEFINITION) or body[0].name != function.__name__:
        return None
    return plain_tree(body[0])


def _bytecode(code: CodeType) -> Any:
    doc = code.co_consts[0] if code.co_consts and isinstance(code.co_consts[0], str) else None
    kept = [each for each in code.co_consts if each is not doc]
    constants = [_bytecode(each) if isinstance(each, CodeType) else repr(each) for each in kept]
    return ["bytecode", code.co_code.hex(), constants, code.co_names, code.co_varnames]


def _cells(function: FunctionType) -> dict[str, Any]:
    closed = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in closed if _is_filled(cell)}


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _digest_of_array(value: Any) -> str:
    array = value if hasattr(value, "tobytes") else value.detach().cpu().numpy()
    return hashlib.sha256(array.tobytes()).hexdigest()
