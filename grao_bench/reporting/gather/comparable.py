"""What may stand in one table: the same base, data, prompts and judge, by fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grao_bench.core.errors import UserError
from grao_bench.core.records import EvalRecord, Run
from grao_bench.reporting.gather.cells import Cell, EvalKey
from grao_bench.reporting.gather.roles import BASE
from grao_bench.reporting.gather.runs import verdicts_of
from grao_bench.reporting.gather.settings import ANSWERING, chosen


def base_records(cells: Sequence[Cell], run: Run, key: EvalKey) -> list[EvalRecord] | None:
    """The base model's records for this (set, reward), found by the fingerprint of the base's
    weights; None when there are none.

    Of several base runs, those that answered under the run's own settings are taken. UserError when
    they still disagree.
    """
    found = [
        base
        for cell in cells
        if cell.objective == BASE
        for base in cell.runs
        if _is_base_of(base, run, key)
    ]
    if len({verdicts_of(base, key) for base in found}) > 1:
        settings = chosen(run.info.config, ANSWERING)
        found = [base for base in found if chosen(base.info.config, ANSWERING) == settings] or found
    if len({verdicts_of(base, key) for base in found}) > 1:
        raise UserError(
            f"{found[0].folder} and {found[1].folder}: two different evaluations of one base on"
            f" {key[0]}; report on them apart"
        )
    return found[0].evaluations[key] if found else None


def check_comparable(cells: Sequence[Cell], evaluated_on: Sequence[str], reward: str) -> None:
    """UserError, a line for each clash, unless the cells of one table share, by fingerprint, what
    they call by one name.

    That is each base model and data set that they name, the test prompts of each set that the table
    shows, and who judged them. A fingerprint that only some runs recorded (older ones lack the
    judge's) is no clash.
    """
    seen: dict[str, tuple[str, Run]] = {}
    clashes: dict[str, str] = {}
    for run in (run for cell in cells for run in cell.runs):
        for what, fingerprint in _named(run, evaluated_on, reward).items():
            first, other = seen.setdefault(what, (fingerprint, run))
            if first != fingerprint:
                clashes.setdefault(
                    what,
                    f"{other.folder} and {run.folder}: {what} differs between them (fingerprints"
                    f" {first[:8]} and {fingerprint[:8]}), "
                    "so they cannot stand in one table; report on their folders apart",
                )
    if clashes:
        raise UserError("\n".join(clashes.values()))


def check_same_evaluation(first: Run, second: Run, key: EvalKey) -> None:
    """UserError unless two runs answered the same prompts and were judged by the same judge, by
    fingerprint where both recorded one."""
    for kind, what in (("data", "the test set"), ("reward", "the judge")):
        ours, theirs = (evaluated_by(run.info.fingerprints, kind, key) for run in (first, second))
        if ours and theirs and ours != theirs:
            raise UserError(
                f"{first.folder} and {second.folder}: {what} of {key[0]} by {key[1]} differs"
                f" between them (fingerprints {ours[:8]} and "
                f"{theirs[:8]}), so they can't be compared prompt by prompt; evaluate both alike"
            )


def _named(run: Run, evaluated_on: Sequence[str], reward: str) -> dict[str, str]:
    """What a run calls by a name that others use too -> its fingerprint, for what was recorded."""
    info = run.info
    named = {f"the base of model {info.model!r}": info.fingerprints.get("base")}
    if info.objective != BASE:
        named[f"data {info.data!r}"] = info.fingerprints.get("data")
    for name in evaluated_on:
        if (name, reward) in run.evaluations:
            named[f"the test set of {name!r}"] = evaluated_by(
                info.fingerprints, "data", (name, reward)
            )
            named[f"the judge {reward!r} of {name!r}"] = info.fingerprints.get(
                f"reward/{name}/{reward}"
            )
    return {what: fingerprint for what, fingerprint in named.items() if fingerprint is not None}


def _is_base_of(base: Run, run: Run, key: EvalKey) -> bool:
    ours, theirs = run.info.fingerprints, base.info.fingerprints
    same_base = ours.get("base") == theirs.get("base")
    same_set = all(
        evaluated_by(ours, kind, key) == evaluated_by(theirs, kind, key)
        for kind in ("data", "reward")
    )
    return same_base and same_set and bool(base.evaluations.get(key))


def evaluated_by(fingerprints: Mapping[str, str], kind: str, key: EvalKey) -> str | None:
    """The fingerprint of an evaluation's prompts ("data") or judge ("reward"): by its own name, or
    else by its set's."""
    return fingerprints.get(f"{kind}/{key[0]}/{key[1]}", fingerprints.get(f"{kind}/{key[0]}"))
