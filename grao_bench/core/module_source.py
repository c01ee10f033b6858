"""A module of Python as its file has it: what binds each name, and what each statement reads."""

from __future__ import annotations

import ast
import dis
import functools
import importlib.util
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_UNSAID = ("ctx", "type_comment", "kind")
"""Fields of the syntax tree that say nothing of what is computed."""
_LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL", "DELETE_GLOBAL")
_STORES = ("STORE_NAME", "DELETE_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")
_INSTALLED = tuple(
    Path(path).resolve() for key, path in sysconfig.get_paths().items() if key in ("stdlib", "platstdlib", "purelib", "platlib")
)


@dataclass(frozen=True)
class ModuleSource:
    """A module as source: its statements by the names that they bind, and those that bind none but
    touch others (`TABLE.update(...)`, `@register` on a function)."""

    name: str
    package: str
    bound: Mapping[str, Sequence[ast.stmt]]
    touching: Sequence[tuple[ast.stmt, frozenset[str]]]
    data: frozenset[str]


@functools.lru_cache(maxsize=64)
def _parsed(name: str, package: str, text: str) -> ModuleSource | None:
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return None
    bound: dict[str, list[ast.stmt]] = {}
    touching: list[tuple[ast.stmt, frozenset[str]]] = []
    data: set[str] = set()
    for node in (each for whole in body for each in apart(whole)):
        if _says_nothing(node) or _is_main_guard(node):
            continue
        stored, loaded = names_of(node)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            stored = {"*"}
        for each in stored:
            bound.setdefault(each, []).append(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, DEFINITION):
            if node.decorator_list:
                touching.append((node, frozenset(_names_of_expressions(node.decorator_list))))
            continue
        data |= stored
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not stored:
            touching.append((node, frozenset(loaded)))
    return ModuleSource(name, package, bound, touching, frozenset(data))


def apart(node: ast.stmt) -> list[ast.stmt]:
    """`import a, b` as two statements."""
    if isinstance(node, ast.Import):
        return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        split = [ast.ImportFrom(node.module, [alias], node.level) for alias in node.names]
        return [ast.copy_location(each, node) for each in split]
    return [node]


def _says_nothing(node: ast.AST) -> bool:
    """A docstring or another bare constant, or `pass`."""
    bare = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return bare or isinstance(node, ast.Pass)


def _is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__ == '__main__'" in ast.unparse(node.test)


@functools.lru_cache(maxsize=4096)
def names_of(node: ast.stmt) -> tuple[set[str], set[str]]:
    """(names of the module that a statement binds, those that it or code within it reads), by its
    bytecode, which knows a local variable from a global one."""
    code = compile(ast.Module([node], []), "<statement>", "exec", dont_inherit=True)
    stored = {str(one.argval) for one in dis.get_instructions(code) if one.opname in _STORES}
    return stored, loaded_names(code)


def _names_of_expressions(nodes: Sequence[ast.expr]) -> set[str]:
    return {name for node in nodes for name in names_of(ast.copy_location(ast.Expr(node), node))[1]}


def loaded_names(code: CodeType) -> set[str]:
    """The names that code and what is nested in it look up in their module, or rebind there."""
    found = {str(one.argval) for one in dis.get_instructions(code) if one.opname in _LOADS}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= loaded_names(inner)
    return found


def _file(name: str) -> Path | None:
    """Where a module lies, which need not have been imported; None where in no file."""
    try:
        module = sys.modules.get(name)
        spec = importlib.util.find_spec(name) if module is None else None
        path = getattr(module, "__file__", None) or (spec.origin if spec is not None else None)
        return Path(path).resolve() if path is not None and Path(path).exists() else None
    except (ImportError, AttributeError, ValueError):
        return None


_AS_IMPORTED: dict[str, tuple[object, ModuleSource | None]] = {}


def module_source(name: str) -> ModuleSource | None:
    """The module of this name as its file has it; None where there is no file of Python.

    Read once for a module that is imported: what is edited later is not what runs, until it is
    imported anew.
    """
    module = sys.modules.get(name)
    loaded = getattr(module, "__spec__", None) or module
    if loaded is None:
        return _read(name)
    if name not in _AS_IMPORTED or _AS_IMPORTED[name][0] is not loaded:
        _AS_IMPORTED[name] = loaded, _read(name)
    return _AS_IMPORTED[name][1]


def _read(name: str) -> ModuleSource | None:
    path = _file(name)
    if path is None or path.suffix != ".py":
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    package = getattr(sys.modules.get(name), "__package__", None)
    package = package or (name if path.name == "__init__.py" else name.rpartition(".")[0])
    return _parsed(name, package, text)


@functools.lru_cache(maxsize=512)
def is_users(name: str) -> bool:
    """Whether a module is neither installed nor ours: what the user writes, in a file or not."""
    if name.partition(".")[0] in (__name__.partition(".")[0], *sys.builtin_module_names):
        return False
    path = _file(name)
    if path is None:
        return True
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(folder) for folder in _INSTALLED)


def is_compiled(name: str | None) -> bool:
    """Whether a module is an extension: a file, but none of Python."""
    path = None if name is None else _file(name)
    return path is not None and path.suffix != ".py"


def reached_data(module: ModuleSource, names: frozenset[str]) -> set[str]:
    """The data of a module that a statement with these names may touch, through its functions."""
    waiting, reached = list(names), set(names)
    while waiting:
        for node in module.bound.get(waiting.pop(), ()):
            new = names_of(node)[1] - reached if isinstance(node, DEFINITION) else set()
            reached |= new
            waiting += new
    return reached & module.data


def attributes_of(node: ast.AST, imported: ast.stmt) -> set[str]:
    """The names that are read from a module which a statement imports: `tools.rank` is rank."""
    if not isinstance(imported, ast.Import):
        return set()
    (alias,) = imported.names
    prefix = alias.asname or alias.name
    found = (inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute))
    return {inner.attr for inner in found if ast.unparse(inner.value) == prefix}


def plain_tree(node: Any) -> Any:
    """A syntax tree as lists, the same from every version of Python that parses it."""
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.AST):
        said = ((name, getattr(node, name, None)) for name in sorted(node._fields))
        kept = [[name, plain_tree(value)] for name, value in said if name not in _UNSAID]
        return [type(node).__name__, *(entry for entry in kept if entry[1] not in (None, []))]
    if isinstance(node, list):
        return [plain_tree(each) for each in node if not _says_nothing(each)]
    return node
