"""Rows out of files of every kind that we read, each with its place. What a file is, its first
bytes say, whatever its name."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.data.unpacking import BREAKS, COMPRESSED, binary, lines_of, packing, unreadable

Row = dict[str, Any]
Reader = Callable[[Path], Iterator[tuple[int, Row]]]
READS = "JSON lines, a JSON array, CSV, TSV, parquet and Arrow, plain or in gz, zst, bz2 or xz"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
LIST_COLUMNS = ("messages", "conversations", "demonstrations", "completions", "answers")
"""Columns whose CSV cells are lists, whatever their entries are."""

HOLDERS = ("data", "rows", "examples", "instances", "items", "samples", "train")
"""Keys under which a JSON object holds the rows of a set."""
_WORD = r'"[^"]*"\s*:\s*("[^"]*"|[\w.+-]+)\s*,\s*'
_HOLDER = re.compile(rf'\{{\s*({_WORD})*"({"|".join(HOLDERS)})"\s*:\s*\[')
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook; unpack it, or save it as CSV"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run git lfs pull"),
    (b"\x93NUMPY", "a NumPy array; save the rows as JSON lines"),
    (b"\x89HDF", "an HDF5 file; save the rows as JSON lines"),
    (b"\x80", "a Python pickle, which may run code when it is read; save the rows as JSON lines"),
    (b"%PDF", "a PDF; save the rows as JSON lines"),
    (b"GGUF", "a model in GGUF, not a set of rows"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
)


@dataclass(frozen=True)
class Source:
    """The rows of one file, folder or split, in order.

    name: the path, or the hub's id and split. kind: what it is, in words. rows: (number, row), read
    anew at each call; number is the line from 1 that a row begins at where by_line, else the row
    from 1.
    """

    name: str
    kind: str
    rows: Callable[[], Iterator[tuple[int, Row]]]
    by_line: bool = False

    def place(self, number: int) -> str:
        """ "file:line", or "file row number"."""
        return f"{self.name}:{number}" if self.by_line else f"{self.name} row {number}"


def open_source(path: Path) -> Source:
    """A file as rows. UserError where it is absent, empty, or of a kind that we don't read; what is
    wrong with a row is found when it is read."""
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give a file ({READS})")
    try:
        with binary(path) as file:
            head = file.read(1 << 16)
    except BREAKS as error:
        raise unreadable(path, error) from None
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise UserError(f"{path}: the file is empty; it needs rows ({READS})")
    for magic, (kind, rows) in _TABLES.items():
        if head.startswith(magic):
            return Source(str(path), kind, partial(_checked, path, rows))
    return _text_source(path, head)


def _text_source(path: Path, head: bytes) -> Source:
    """JSON lines, a JSON array or object, or CSV; UserError for anything else, by its name."""
    foreign = next((what for magic, what in _FOREIGN if head.startswith(magic)), None)
    if foreign is None and head[257:262] == b"ustar":
        foreign = "a tar archive; unpack it"
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    if foreign is None and b"\0" in head and not utf16:
        foreign = "a binary file of a kind unknown here"
    if foreign:
        raise UserError(f"{path}: this is {foreign}; what is read: {READS}")
    start = head.decode(*(("utf-16", "ignore") if utf16 else ("utf-8-sig", "replace"))).lstrip()
    if start[:1] == "[" and not _is_array_line(start):
        return Source(str(path), "a JSON array", partial(_checked, path, _json_rows))
    if start[:1] in ("{", "["):
        if start[0] == "{" and _is_one_value(path, start):
            return Source(str(path), "a JSON object", partial(_checked, path, _json_rows))
        return Source(str(path), "JSON lines", partial(_checked, path, _line_rows), True)
    delimiter = _delimiter(path, start)
    kind = "TSV" if delimiter == "\t" else "CSV"
    return Source(str(path), kind, partial(_checked, path, partial(_csv_rows, delimiter)), True)


def _checked(path: Path, read: Reader) -> Iterator[tuple[int, Row]]:
    """The rows; UserError where the file breaks off, or holds none."""
    from pyarrow import ArrowException

    count = 0
    try:
        for numbered in read(path):
            count += 1
            yield numbered
    except (*BREAKS, ArrowException) as error:
        raise unreadable(path, error) from None
    if not count:
        raise UserError(f"{path}: the file is empty; it has no rows ({READS})")


def _line_rows(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            yield number, _object(_parsed(line, f"{path}:{number}"), f"{path}:{number}", "line")


def _parsed(text: str, where: str) -> Any:
    """JSON as a value; UserError where it is none, or where an object has one key twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except _TwiceError as error:
        raise UserError(f"{where}: the key {error} stands there twice; remove one") from None
    except (ValueError, RecursionError) as error:
        message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{where}: not JSON ({message}); mend or remove the line") from None


class _TwiceError(Exception):
    """A key that stands twice in an object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(repr(name) for name in names if names.count(name) > 1))
    return found


def _object(value: Any, where: str, what: str) -> Row:
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise UserError(f"{where}: expected a JSON object, found {kind}; mend or remove the {what}")
    return value


def _is_array_line(start: str) -> bool:
    """Whether a text that opens with "[" has an array a line, which is no row."""
    first, _, rest = start.partition("\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return bool(rest.strip())


def _is_one_value(path: Path, start: str) -> bool:
    """Whether a file that opens with "{" is one object over many lines, or one that holds rows."""
    first, _, rest = start.partition("\n")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        if not rest:  # a first line that is longer than what was looked at, or torn
            return _HOLDER.match(start) is not None
    else:
        return not rest.strip() and (_held_rows(value) is not None or len(_sets(value)) > 1)
    try:
        json.loads("".join(lines_of(path)))
    except (ValueError, RecursionError):
        return _HOLDER.match(start) is not None
    return True


def _held_rows(value: Mapping[str, Any]) -> list[Row] | None:
    """The rows that an object is made of: those under its one key of HOLDERS, beside words about
    the set; or, where every key has a list of as many texts, one row for each place in them."""
    lists = [item for item in value.values() if isinstance(item, list)]
    held = _sets(value)
    if len(held) == 1 and held[0] in HOLDERS:
        return list(value[held[0]])
    if len(value) == len(lists) == 1 and next(iter(value)) in HOLDERS:
        return lists[0]
    if len(value) < 2 or len(lists) < len(value) or len({*map(len, lists)}) > 1:
        return None
    if lists[0] and all(isinstance(one, str) for one in lists[0]):
        return [dict(zip(value, cells, strict=True)) for cells in zip(*lists, strict=True)]
    return None


def _sets(value: Mapping[str, Any]) -> list[str]:
    """The keys under which an object that is no row itself has a list of objects."""
    if not _HEADERS.isdisjoint(value):
        return []
    lists = {name: item for name, item in value.items() if isinstance(item, list) and item}
    return [name for name, item in lists.items() if all(isinstance(one, dict) for one in item)]


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The objects of a JSON array, or of an object that holds them."""
    text = "".join(lines_of(path))
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except _TwiceError as error:
        raise UserError(f"{path}: the key {error} stands in one object twice; remove one") from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise UserError(f"{where}: not JSON ({error.msg}); mend or remove the line") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    del text
    if isinstance(value, dict) and len(names := _sets(value)) > 1:
        held = ", ".join(map(repr, names))
        fix = "write each to a file of its own, and give them as data.train, data.dev, data.test"
        raise UserError(f"{path}: one object that holds several sets ({held}); {fix}")
    rows = (_held_rows(value) or [value]) if isinstance(value, dict) else value
    for number, row in enumerate(rows, 1):
        yield number, _object(row, f"{path} row {number}", "row")


def _delimiter(path: Path, start: str) -> str:
    """What parts the columns of a text that is no JSON; UserError where it is no table either."""
    header = next((line for line in start.splitlines() if line.strip()), "")
    if header.lower().startswith(("<!doctype", "<html", "<?xml")):
        fix = "download the file itself"
        raise UserError(f"{path}: this is a web page (HTML or XML), not rows; {fix}")
    counts = {mark: len(next(csv.reader([header], delimiter=mark))) for mark in "\t,;|"}
    best = max(counts, key=lambda mark: counts[mark])
    names = [name.strip() for name in next(csv.reader([header], delimiter=best))]
    named = (path.stem if path.suffix in COMPRESSED else path.name).lower()
    table = named.endswith((".csv", ".tsv")) or any(name in _HEADERS for name in names)
    if not table:
        shown = header[:40] + ("..." if len(header) > 40 else "")
        what = f"plain text that begins {shown!r}, not rows"
        raise UserError(f"{path}: this is {what}; what is read: {READS}")
    return best if counts[best] > 1 else ","


_NAMES = ("prompt", "chosen", "rejected", "completion", "instruction", "question")
_HEADERS = frozenset((*_NAMES, *LIST_COLUMNS))


def _csv_rows(delimiter: str, path: Path) -> Iterator[tuple[int, Row]]:
    """The records under a header; a cell that holds a JSON list of objects is that list."""
    csv.field_size_limit(1 << 27)
    reader = csv.reader(lines_of(path), delimiter=delimiter, strict=True)
    begin = 1
    header: list[str] | None = None
    try:
        for cells in reader:
            line, begin = begin, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells, f"{path}:{line}")
                continue
            if len(cells) != len(header):
                what = f"has {len(cells)} cells where the header has {len(header)}"
                raise UserError(f"{path}:{line}: {what}; quote cells that hold {delimiter!r}")
            named = zip(header, cells, strict=True)
            yield line, {name: _cell(name, text) for name, text in named}
    except csv.Error as error:
        fix = "double the quotes inside a quoted cell, and close it"
        raise UserError(f"{path}:{begin}: not CSV ({error}); {fix}") from None


def _header(cells: list[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: the header has two columns {name!r}; rename or remove one")
    return names


def _cell(name: str, text: str) -> Any:
    """A cell's text, or the list of objects that it spells: as JSON, or as Python prints one."""
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        entries = value if isinstance(value, list) else [value]
        if name in LIST_COLUMNS or (entries and all(isinstance(one, dict) for one in entries)):
            return value
    return text


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    from pyarrow.parquet import ParquetFile

    where = io.BytesIO(binary(path).read()) if packing(path) else path
    yield from _of_batches(ParquetFile(where).iter_batches(batch_size=1000))


def _arrow_rows(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow

    with binary(path) as file:
        whole = io.BytesIO(file.read())
    if whole.getvalue()[:6] == b"ARROW1":
        reader = pyarrow.ipc.open_file(whole)
        yield from _of_batches(reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        yield from _of_batches(pyarrow.ipc.open_stream(whole))


def _of_batches(batches: Iterable[Any]) -> Iterator[tuple[int, Row]]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield number, row


_TABLES: dict[bytes, tuple[str, Reader]] = {
    b"PAR1": ("parquet", _parquet_rows),
    b"ARROW1": ("an Arrow file", _arrow_rows),
    b"\xff\xff\xff\xff": ("an Arrow stream", _arrow_rows),
}
