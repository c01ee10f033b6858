"""Records as files: written line by line, read back with their places in errors, found by folder."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from grao_bench.core.errors import UserError
from grao_bench.core.old_records import typed
from grao_bench.core.pair_accuracy import read_accuracy
from grao_bench.core.records import Criteria, EvalRecord, JudgeCounts, Lengths, ProbeRecord, Run, RunInfo, StepRecord, TaskRecord
from grao_bench.core.values import check_types

PARTIAL = ".partial"
Record = TypeVar("Record", StepRecord, ProbeRecord, EvalRecord, TaskRecord)


def write_lines(path: Path, records: Iterable[object]) -> None:
    """Write dataclass records or dicts as JSON lines (gzip when the name ends in .gz), aside first, then renamed."""
    aside = path.with_name(path.name + PARTIAL)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(_line(record) for record in records)
    # mtime=0 keeps a compressed file byte-identical for identical records
    aside.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    aside.replace(path)


def append_line(path: Path, record: object) -> None:
    """Append one record to a JSON-lines file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(record))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file (.gz or plain); UserError with file:line on a line that is not a JSON object."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}:{number}: not JSON ({error.msg}); mend or remove the line") from None
                if not isinstance(value, dict):
                    raise UserError(f"{path}:{number}: expected a JSON object, found {type(value).__name__}; mend or remove the line")
                yield value
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); check that the file is whole") from None


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """The records of one kind in a file; an absent file is an empty list."""
    if not path.exists():
        return []
    known = {item.name for item in fields(kind)}
    records = []
    for number, value in enumerate(read_lines(path), 1):
        try:
            records.append(kind(**{key: entry for key, entry in value.items() if key in known}))
        except TypeError as error:
            raise UserError(f"{path}:{number}: not a {kind.__name__} ({error}); was it written by another version?") from None
    return records


def plain_or_gz(path: Path) -> Path:
    """The file, or its compressed copy where only that exists."""
    compressed = path.with_name(path.name + ".gz")
    return compressed if compressed.exists() and not path.exists() else path


def write_info(folder: Path, info: RunInfo) -> None:
    """Write run.json."""
    (folder / "run.json").write_text(json.dumps(asdict(info), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_info(folder: Path) -> RunInfo:
    """Read run.json, an old one too; UserError where it is absent or malformed."""
    path = folder / "run.json"
    try:
        return _info(typed(json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        layout = "runs/<sweep>/<model>/<data>/<objective>-<hash>/seed<k>"
        raise UserError(f"{folder}: holds no run.json; give the folder of a finished run ({layout})") from None
    except (TypeError, AttributeError, ValueError, RecursionError, UserError) as error:
        raise UserError(f"{path}: not a run's record ({error})") from None


def _info(written: dict[str, Any]) -> RunInfo:
    lengths = {name: Lengths(**values) for name, values in written.pop("lengths", {}).items()}
    judges = {what: _counts(counts) for what, counts in written.pop("judges", {}).items()}
    criteria = {name: Criteria(**values) for name, values in written.pop("criteria", {}).items()}
    info = RunInfo(**written, lengths=lengths, judges=judges, criteria=criteria)
    counted = [one for counts in judges.values() for one in counts.values()]
    for part in (info, *lengths.values(), *counted, *criteria.values()):
        check_types(part)
    return info


def _counts(written: dict[str, Any]) -> dict[str, JudgeCounts]:
    found = {}
    for name, values in written.items():
        told = values.get("pair_accuracy")
        found[name] = JudgeCounts(**{**values, "pair_accuracy": told and read_accuracy(told)})
    return found


def read_run(folder: Path) -> Run:
    """Read one finished run folder."""
    evaluations = {}
    for path in sorted((folder / "evaluations").glob("*.jsonl*")):
        if path.name.endswith(PARTIAL):
            continue
        name, _, reward = path.name.removesuffix(".gz").removesuffix(".jsonl").partition("-")
        evaluations[name, reward] = read_records(path, EvalRecord)
    return Run(
        folder=folder,
        info=read_info(folder),
        steps=read_records(plain_or_gz(folder / "steps.jsonl"), StepRecord),
        probes=read_records(plain_or_gz(folder / "probes.jsonl"), ProbeRecord),
        timing=list(read_lines(timing)) if (timing := plain_or_gz(folder / "timing.jsonl")).exists() else [],
        evaluations=evaluations,
        lm_eval=read_records(plain_or_gz(folder / "lm_eval.jsonl"), TaskRecord),
    )


def find_runs(folder: Path) -> list[Run]:
    """Every finished run below a folder, in the folders' order; UserError when there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder that holds runs, for example runs/demo")
    found = sorted(path.parent for path in folder.rglob("run.json") if not any(part.endswith(PARTIAL) for part in path.parts))
    if not found:
        raise UserError(f"{folder}: holds no finished run; train one with python -m grao_bench.train")
    return [read_run(path) for path in found]


def find_unfinished(folder: Path) -> dict[Path, str]:
    """Cells that started and did not finish: folder -> reason (the first line of its error.txt, or "unfinished")."""
    unfinished = {}
    for path in sorted(folder.rglob(f"seed*{PARTIAL}")):
        error = path / "error.txt"
        reason = error.read_text(encoding="utf-8").split("\n")[0].strip() if error.exists() else ""
        unfinished[path] = reason or "unfinished"
    return unfinished


def _line(record: object) -> str:
    value = record if isinstance(record, dict) else asdict(record)  # type: ignore[call-overload]
    return json.dumps(value, ensure_ascii=False) + "\n"
