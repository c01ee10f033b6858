"""What an objective is among the others, which says where its rows and lines stand: `role` of its
YAML, kept in run.json. Reports read roles and no objective's name.

A role is one of "baseline", "ours", "variant of <objective>", "ablation of <objective>: <Table 3's
name of the row>"; "control" is of a row that stands below the objectives' (`grao_bench.controls`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.specs import conf_dir
from grao_bench.reporting import paper

BASE = "base"
CONTROL = "control"
_SPELLED = re.compile(
    r"(?P<alone>baseline|ours|control)"
    r"|(?P<kind>variant|ablation) of (?P<of>[\w.-]+)(: (?P<what>.+))?"
)
_ASKED = "baseline, ours, control, variant of NAME, or ablation of NAME: WHAT IS LEFT OUT"


@dataclass(frozen=True, slots=True)
class Role:
    """kind: "baseline", "ours", "variant", "ablation", "control"; "" where nobody said one.

    of: the objective that it is a variant or an ablation of. what: how, in words.
    """

    kind: str = ""
    of: str = ""
    what: str = ""


def read_role(text: str, where: str) -> Role:
    """The role that a text spells. UserError, which names `where` it stands, for another text."""
    found = _SPELLED.fullmatch(text)
    if found is None or (found["kind"] == "ablation" and not found["what"]):
        raise UserError(f"{where}: role {text!r} is none; give {_ASKED}")
    return Role(found["alone"] or found["kind"], found["of"] or "", found["what"] or "")


@cache
def installed() -> Mapping[str, Role]:
    """The roles in conf/objective, by name: those of runs that were recorded before roles were."""
    return {name: _role(name, values) for name, values in _written().items()}


def role_of(objective: str, told: str, where: str) -> Role:
    """What a run's record tells, else what the objective of that name has in conf/."""
    return read_role(told, where) if told else installed().get(objective, Role())


def method_rank(objective: str, role: Role) -> tuple[int, int, str, str]:
    """The order of methods: the base, baselines (the paper's first, in its order), ours, its
    variants, its ablations (in Table 3's order), then the others by name."""
    if objective == BASE:
        return (0, 0, "", "")
    if role.kind == CONTROL:  # of an objective that was trained as one
        role = installed().get(objective, role)
    if role.kind == "baseline":
        paper_order = paper.METHODS.index(objective) if objective in paper.METHODS else 99
        return (1, paper_order, "", objective)
    if role.kind == "ours":
        return (2, 0, "", objective)
    if role.kind == "variant" and installed().get(role.of, role).kind == "ours":
        return (3, 0, "", objective)
    if role.kind == "ablation":
        return (4, _table_3(role.what), role.what, objective)
    return (5, 0, "", objective)


def rival_baselines(named: Iterable[tuple[str, Role, Mapping[str, Any]]]) -> tuple[str, ...]:
    """The baselines that draw rollouts, in order: installed ones and those of these objectives
    (name, role, settings)."""
    known = [(name, role, _written()[name]) for name, role in installed().items()]
    found = {name: role for name, role, settings in (*known, *named) if _rival(role, settings)}
    return tuple(sorted(found, key=lambda name: method_rank(name, found[name])))


def ours(named: Iterable[tuple[str, Role]]) -> str:
    """The objective under study among these, else the installed one."""
    found = [name for name, role in (*named, *installed().items()) if role.kind == "ours"]
    return found[0] if found else ""


def _rival(role: Role, settings: Mapping[str, Any]) -> bool:
    return role.kind == "baseline" and "rollouts" in settings


def _table_3(what: str) -> int:
    """The place of Table 3's row that this is, or is a reading of."""
    rows = list(paper.ABLATION)
    return next((i for i, name in enumerate(rows) if what.startswith(name)), len(rows))


@cache
def _written() -> dict[str, Mapping[str, Any]]:
    paths = sorted((conf_dir() / "objective").glob("*.yaml"))
    texts = {path.stem: path.read_text(encoding="utf-8") for path in paths}
    return {name: yaml.safe_load(text) for name, text in texts.items()}


def _role(name: str, values: Mapping[str, Any]) -> Role:
    told = values.get("role")
    return read_role(str(told), f"conf/objective/{name}.yaml") if told else Role()
