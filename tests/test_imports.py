"""The house rules that can be read off the source: floors, who may import what, sizes, docstrings, no inheritance of behaviour."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import grao_bench

ROOT = Path(grao_bench.__file__).parent
FLOORS = (
    ("core",),
    ("text",),
    ("data", "models"),
    ("objectives", "rewards", "rollouts", "tracking"),
    ("training", "evaluation"),
    ("reporting",),
    ("tuning",),
    ("experiment",),
    ("runs",),
    ("cli",),
    # the package's root: what is typed after python -m
    ("train", "evaluate", "train_reward", "report", "controls", "tune", "bases"),
)
"""Rooms, from below; two on one floor meet through `core.interfaces` alone. docs/architecture.md"""
MACHINES = (1, 2, 3, 4)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
COMMANDS = len(FLOORS) - 1
# what a package's own __init__ offers from below
FACADE = {"core", "objectives"}

MODULES = sorted(path for path in ROOT.rglob("*.py"))
FUNCTION_LINES, MODULE_LINES = 50, 350
# tables of patterns and phrases
TABLES = {"data.world.free_text"}


def name_of(path: Path) -> str:
    """grao_bench/training/loop.py -> "training.loop"; the package's own __init__ is ""."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def part_of(name: str) -> str:
    """A package's own command is no part of it: it only starts another."""
    return "train" if name == "data.__main__" else name.partition(".")[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name that a file imports, at its top or inside a function, and the line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            assert node.module is not None
            # `from grao_bench import x` imports the module grao_bench.x
            yield from (
                (f"{node.module}.{alias.name}" if node.module == "grao_bench" else node.module, node.lineno) for alias in node.names
            )


def full_names(path: Path) -> Iterator[str]:
    """Every module or name of grao_bench that a file imports, as far as it is spelled out."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "grao_bench":
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    """The parts of grao_bench that a file imports: "training", "ops", ..."""
    for module, line in imports(path):
        if module.startswith("grao_bench."):
            yield part_of(module.removeprefix("grao_bench.")), line


every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: name_of(path) or "grao_bench")


def test_every_part_has_a_floor():
    parts = {part_of(name_of(path)) for path in MODULES} - {""}
    assert parts == set(FLOOR)


@every_module
def test_imports_go_down_only(path):
    part = part_of(name_of(path))
    if not part:
        assert {imported for imported, _ in own_imports(path)} <= FACADE
        return
    for imported, line in own_imports(path):
        below = FLOOR[imported] < FLOOR[part]
        beside = FLOOR[imported] == FLOOR[part] == COMMANDS
        assert imported == part or below or beside, (
            f"{path}:{line}: {part} (floor {FLOOR[part]}) imports {imported} (floor {FLOOR[imported]})"
        )


def test_no_modules_import_each_other_in_a_circle():
    paths = {name_of(path): path for path in MODULES}
    reads = {}
    for name, path in paths.items():
        found = {module.removeprefix("grao_bench.") for module in full_names(path)}
        reads[name] = {each for each in found if each in paths and each != name}
    assert len([*TopologicalSorter(reads).static_order()]) == len(paths)  # CycleError names a circle


def test_an_experiments_way_is_in_one_room():
    """docs/architecture.md, from YAML to report: what lies below is reached by the one neighbour
    whose matter it is."""
    rooms = {part for part, _ in own_imports(ROOT / "runs" / "run.py")}
    assert rooms == {"runs", "experiment", "core"}


@every_module
def test_only_the_commands_know_hydra(path):
    if FLOOR.get(part_of(name_of(path)), 0) < FLOOR["cli"]:
        found = [f"{path}:{line}" for module, line in imports(path) if part_of(module) in ("hydra", "omegaconf")]
        assert not found


def closure(start: str) -> dict[str, Path]:
    """Every module of grao_bench that importing one loads, packages' __init__ included."""
    paths = {name_of(path): path for path in MODULES}
    found: dict[str, Path] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in found or name not in paths:
            continue
        found[name] = paths[name]
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        waiting += [module.removeprefix("grao_bench.") for module, _ in imports(paths[name]) if module.startswith("grao_bench.")]
    return found


@pytest.mark.parametrize(
    "start",
    sorted(name for path in MODULES if part_of(name := name_of(path)) in ("reporting", "report")),
)
def test_reporting_needs_neither_torch_nor_the_machines(start):
    """Installable on a laptop: nothing that it reaches imports torch, transformers, or a module of
    the machines' floors."""
    for name, path in closure(start).items():
        assert FLOOR[part_of(name)] not in MACHINES, f"{start} reaches {name}"
        heavy = [module for module, _ in imports(path) if part_of(module) in ("torch", "transformers", "jaxtyping", "datasets")]
        assert not heavy, f"{start} reaches {name}, which imports {heavy}"


@every_module
def test_every_module_says_what_it_is(path):
    docstring = ast.get_docstring(tree(path))
    assert docstring, f"{path}: no docstring"


@every_module
def test_nothing_is_too_long_to_read(path):
    name = name_of(path)
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < MODULE_LINES or name in TABLES, f"{path}: {lines} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length < FUNCTION_LINES, f"{path}:{node.lineno}: {node.name} has {length} lines"


@every_module
def test_super_is_called_in_torch_modules_alone(path):
    """No behaviour is inherited: protocols and leaves."""
    modules = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Module") for base in node.bases)
    ]
    allowed = {call for node in modules for call in ast.walk(node)}
    found = [
        f"{path}:{node.lineno}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super" and node not in allowed
    ]
    assert not found


@every_module
def test_values_are_frozen(path):
    """Every dataclass is frozen: values outside, machines inside."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if "dataclass" in ast.unparse(decorator):
                    assert "frozen=True" in ast.unparse(decorator), f"{path}:{node.lineno}: {node.name} is a dataclass that can be changed"
