"""Files of every kind give the same rows; what is wrong with one is said with its line or row."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.specs import load
from grao_bench.data.sources import open_source
from tests.models.hub_server import serving

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = [{"chosen": f"gut {n}", "rejected": f'schlecht, "{n}"'} for n in range(30)]
ROWS = [{"prompt": f"Frage {n}, é?\n\u2028x", **answers} for n, answers in enumerate(ANSWERS)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = pyarrow.Table.from_pylist(ROWS)


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(TABLE, sink)
    return sink.getvalue()


def arrow(new: Callable[..., Any]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with new(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return bytes(sink.getvalue())


def packed_zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def table(delimiter: str = ",", cell: Callable[[str], str] = str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([list(ROWS[0]), *([cell(value) for value in row.values()] for row in ROWS)])
    return text.getvalue().encode()


def as_message(text: str) -> str:
    role = "user" if text.startswith("Frage") else "assistant"
    return json.dumps([{"role": role, "content": text}])


def as_python(text: str) -> str:
    return str(json.loads(as_message(text)))


COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
KINDS: dict[str, tuple[str, bytes]] = {
    "lines": ("x.jsonl", LINES.encode()),
    "escaped": ("x.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode()),
    "Windows": ("x.jsonl", LINES.replace("\n", "\r\n").encode()),
    "a mark": ("x.jsonl", LINES.encode("utf-8-sig")),
    "UTF-16": ("x.jsonl", LINES.encode("utf-16")),
    "blank lines": ("x.jsonl", b"\n \n" + LINES.replace("\n", "\n\n").encode()),
    "no last end": ("x.json", LINES.rstrip("\n").encode()),
    "array": ("x.json", json.dumps(ROWS).encode()),
    "array over lines": ("x.json", b"\xef\xbb\xbf\n" + json.dumps(ROWS, indent=2).encode()),
    "object": ("x.json", json.dumps({"data": ROWS}).encode()),
    "object over lines": ("x.json", json.dumps({"rows": ROWS}, indent=1).encode()),
    "columns": ("x.json", json.dumps(COLUMNS).encode()),
    "object with a head": ("x.json", json.dumps({"version": 1, "data": ROWS}).encode()),
    "head over lines": ("x.json", json.dumps({"data": ROWS, "by": {"a": 1}}, indent=1).encode()),
    "a long object": ("x.json", f'{{"version": "1", "data": {json.dumps(ROWS)}{" " * 70_000}}}'.encode()),
    "a list in each line": (
        "x.jsonl",
        "".join(json.dumps({"data": [{"k": 1}], **row}) + "\n" for row in ROWS).encode(),
    ),
    "lines of JSON in JSON": (
        "x.jsonl",
        "".join(json.dumps({"prompt": as_message(row["prompt"]), **ANSWERS[n]}) + "\n" for n, row in enumerate(ROWS)).encode(),
    ),
    "csv": ("x.csv", table()),
    "semicolons": ("x.csv", table(";")),
    "tsv": ("x.tsv", table("\t")),
    "cells of JSON": ("x.csv", table(cell=as_message)),
    "cells as Python prints them": ("x.csv", table(cell=as_python)),
    "parquet": ("x.parquet", parquet()),
    "arrow": ("x.arrow", arrow(pyarrow.ipc.new_file)),
    "arrow stream": ("x.arrow", arrow(pyarrow.ipc.new_stream)),
    "gz": ("x.jsonl.gz", gzip.compress(LINES.encode())),
    "zst": ("x.jsonl.zst", packed_zstd(LINES.encode())),
    "bz2": ("x.jsonl.bz2", bz2.compress(LINES.encode())),
    "xz": ("x.jsonl.xz", lzma.compress(LINES.encode())),
    "csv.gz": ("x.csv.gz", gzip.compress(table())),
    "parquet.gz": ("x.parquet.gz", gzip.compress(parquet())),
    # whatever the name says
    "parquet named jsonl": ("x.jsonl", parquet()),
    "lines named csv": ("x.csv", LINES.encode()),
    "csv named jsonl": ("x.jsonl", table()),
    "gz named jsonl": ("x.jsonl", gzip.compress(LINES.encode())),
    "array named parquet": ("x.parquet", json.dumps(ROWS).encode()),
}


def texts(data: Dataset) -> list[tuple[str, str | None, str | None]]:
    examples = sorted((*data.train, *data.dev, *data.test), key=lambda example: example.id)
    return [(one.prompt[0].text, one.chosen, one.rejected) for one in examples]


def build(train: Path | list[str], **changed: Any) -> Dataset:
    given = train if isinstance(train, list) else str(train)
    return load("data/files", train=given, **changed).build()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_texts_and_splits(tmp_path: Path, kind: str) -> None:
    name, content = KINDS[kind]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "plain.jsonl").write_bytes(LINES.encode())
    data, plain = build(tmp_path / name), build(tmp_path / "plain.jsonl")
    expected = [tuple(value.strip() for value in row.values()) for row in ROWS]
    assert texts(data) == texts(plain) == expected
    assert [e.id for e in data.test] == [e.id.replace("plain", "x") for e in plain.test]


PRINTED = b"prompt,chosen\na,\"[{'role': 'user', 'content': 'x'}\n {'role': 'a'}]\"\n"
EMPTY = b'{"prompt": "a", "chosen": ""}\n' * 3
GOOD = '{"prompt": "a", "chosen": "b"}\n'
FAULTS: dict[str, tuple[str, bytes, str]] = {
    "torn line": (
        "x.jsonl",
        (GOOD + '{"prompt": "x", \n' + GOOD).encode(),
        r"x\.jsonl:2: not JSON",
    ),
    "torn first line": ("x.jsonl", ('{"prompt": "x", \n' + GOOD).encode(), r"x\.jsonl:1: not JSON"),
    "torn last line": ("x.jsonl", (GOOD * 2 + '{"prompt": "x"').encode(), r"x\.jsonl:3: not JSON"),
    "Latin-1": (
        "x.jsonl",
        (GOOD + GOOD.replace("a", "é")).encode("latin-1"),
        r"x\.jsonl:2: is not UTF-8 \(byte 0xe9",
    ),
    "Latin-1 in CSV": (
        "x.csv",
        "prompt\na\né\n".encode("latin-1"),
        r"x\.csv:3: is not UTF-8 \(byte 0xe9",
    ),
    "list": ("x.jsonl", b'["a"]\n["b"]\n', r"x\.jsonl:1: expected a JSON object, found list"),
    "number in array": (
        "x.json",
        b'[{"prompt": "a"}, 3]',
        r"x\.json row 2: expected a JSON object, found int",
    ),
    "torn array": ("x.json", b'[\n{"prompt": "a"},\n{"prompt"\n', r"x\.json:\d: not JSON"),
    "deep line": ("x.jsonl", b'{"prompt": ' + b"[" * 9999, r"x\.jsonl:1: not JSON \(maximum rec"),
    "deep array": ("x.json", b"[" * 9999, r"x\.json: not JSON \(maximum recursion"),
    "torn UTF-16": (
        "x.jsonl",
        (GOOD * 2).encode("utf-16")[:-1],
        r"x\.jsonl:2: is not UTF-16, as its first bytes say \(truncated data\); check",
    ),
    "two sets": (
        "x.json",
        json.dumps({"train": ROWS, "test": ROWS[:2]}).encode(),
        r"x\.json: one object that holds several sets \('train', 'test'\); write each to",
    ),
    "two keys": (
        "x.jsonl",
        (GOOD + '{"prompt": "a", "prompt": "b"}\n').encode(),
        r"x\.jsonl:2: the key 'prompt' stands there twice",
    ),
    "two columns": (
        "x.csv",
        b"prompt,chosen,prompt\na,b,c\n",
        r"x\.csv:1: the header has two columns 'prompt'",
    ),
    "cells": (
        "x.csv",
        b'prompt,chosen\n"a\nb",c\nd\n',
        r"x\.csv:4: has 1 cells where the header has 2",
    ),
    "quote": ("x.csv", b'prompt,chosen\na,b\nc,"d\n', r"x\.csv:3: not CSV"),
    "printed": (
        "x.csv",
        PRINTED,
        r'x\.csv:2: "chosen" holds messages as NumPy prints',
    ),
    "row of parquet": ("x.parquet", b"", r"x\.parquet row 2: \"chosen\" is int; it must be a text"),
    "torn parquet": ("x.parquet", parquet()[:-9], r"x\.parquet: cannot be read"),
    "torn gz": ("x.jsonl.gz", gzip.compress(LINES.encode())[:-9], r"x\.jsonl\.gz: cannot be read"),
    "torn zst": ("x.jsonl.zst", packed_zstd(LINES.encode())[:-9], r"x\.jsonl\.zst: cannot be read"),
    "empty": ("x.jsonl", b"", r"x\.jsonl: the file is empty"),
    "blank": ("x.jsonl", b"\xef\xbb\xbf \n\n", r"x\.jsonl: the file is empty"),
    "header alone": ("x.csv", b"prompt,chosen\n", r"x\.csv: the file is empty"),
    "empty array": ("x.json", b"[]", r"x\.json: the file is empty"),
    "all empty": (
        "x.jsonl",
        EMPTY,
        r"x\.jsonl:1: empty answer; no row of train in .* \(empty answer: 3\)",
    ),
    "text": (
        "x.txt",
        b"just a text\nof lines\n",
        r"x\.txt: this is plain text that begins 'just a text', not rows",
    ),
    "web page": ("x.parquet", b"<!DOCTYPE html>\n<html></html>", r"this is a web page"),
    "pointer": (
        "x.parquet",
        b"version https://git-lfs.github.com/spec/v1\noid x\n",
        r"a Git LFS pointer",
    ),
    "pickle": ("x.jsonl", b"\x80\x04\x95x", r"a Python pickle"),
    "binary": ("x.csv", b"\x01\x02\0\0", r"a binary file of a kind unknown here"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_file_is_one_line_with_its_place(tmp_path: Path, fault: str) -> None:
    name, content, message = FAULTS[fault]
    (tmp_path / name).write_bytes(content)
    if fault == "row of parquet":
        rows = {"prompt": ["a", "b"], "chosen": [None, 3]}
        pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / name)
    with pytest.raises(UserError, match=message) as told:
        build(tmp_path / name)
    assert "\n" not in str(told.value)


def test_a_zip_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.jsonl", "w") as archive:
        archive.writestr("rows.jsonl", LINES)
    with pytest.raises(UserError, match=r"x\.jsonl: this is a zip archive"):
        open_source(tmp_path / "x.jsonl")


def write(path: Path, start: int, stop: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"question {n}", "chosen": f"a {n}"} for n in range(start, stop)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def numbers(data: Dataset, *splits: str) -> list[int]:
    found = (example for split in splits for example in getattr(data, split))
    return sorted(int(example.prompt[0].text.split()[1]) for example in found)


def test_several_files_globs_and_folders(tmp_path: Path) -> None:
    for name, start in (("a.jsonl", 0), ("b.json", 20), ("c.csv", 40)):
        write(tmp_path / "parts" / name, start, start + 20)
    (tmp_path / "parts" / "README.md").write_text("# Not rows")
    every = list(range(60))
    parts = tmp_path / "parts"
    files = [str(parts / name) for name in ("a.jsonl", "b.json", "c.csv")]
    for train in (parts, parts / "*.*s*", files, [str(parts / "[ab]*"), files[2]]):
        data = build(train)
        assert numbers(data, "train", "dev", "test") == every, train
        ids = {example.id for example in (*data.train, *data.dev, *data.test)}
        assert ids == {f"files-train-{n:05d}" for n in every}
    none = r"none\*\.jsonl: no such file; the pattern data\.train matches none"
    with pytest.raises(UserError, match=none):
        build(tmp_path / "none*.jsonl")
    with pytest.raises(UserError, match=r"data\.train=\[\]: names no file"):
        build([])


def test_a_folders_own_splits(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for split, start in (("train", 0), ("validation", 30), ("test", 40)):
        write(tmp_path / "data" / f"{split}-00000-of-00001.jsonl", start, start + 10)
    write(tmp_path / "more.jsonl", 80, 85)
    with caplog.at_level("INFO"):
        data = build(tmp_path)
    assert "not read, for their names say no split as others' do: more.jsonl" in caplog.text
    caplog.clear()
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO"):
        assert build(Path("data")).test == data.test
    assert "not read" not in caplog.text
    found = numbers(data, "train"), numbers(data, "dev"), numbers(data, "test")
    assert found == (list(range(10)), list(range(30, 40)), list(range(40, 50)))
    write(tmp_path / "held" / "test.jsonl", 90, 95)
    with pytest.raises(UserError, match=r"held: holds the splits test, none of them train; name"):
        build(tmp_path / "held")
    held = build(tmp_path / "more.jsonl", dev=str(tmp_path / "data"), test=str(tmp_path / "held"))
    assert (numbers(held, "dev"), numbers(held, "test")) == ([*range(30, 40)], [*range(90, 95)])
    write(tmp_path / "own.jsonl", 70, 75)
    both = build([str(tmp_path / "data"), str(tmp_path / "more.jsonl")])
    assert numbers(both, "train") == [*range(10), *range(80, 85)]
    assert numbers(both, "test") == list(range(40, 50))
    given = build(tmp_path / "data", test=str(tmp_path / "own.jsonl"))
    assert numbers(given, "test") == list(range(70, 75))


def test_what_save_to_disk_left(tmp_path: Path) -> None:
    import datasets

    rows = [{"prompt": f"question {n}", "chosen": "a"} for n in range(30)]
    alone, held = datasets.Dataset.from_list(rows), datasets.Dataset.from_list(rows[:4])
    alone.save_to_disk(tmp_path / "alone")
    datasets.DatasetDict({"train": alone, "test": held}).save_to_disk(tmp_path / "both")
    datasets.DatasetDict({"train_prefs": alone}).save_to_disk(tmp_path / "odd")
    assert numbers(build(tmp_path / "alone"), "train", "dev", "test") == list(range(30))
    both = build(tmp_path / "both")
    assert numbers(both, "test") == [0, 1, 2, 3]
    assert numbers(both, "train", "dev") == list(range(4, 30))
    odd = r"odd: holds the splits train_prefs, none of them train; .*data\.train=.*odd/train_prefs"
    with pytest.raises(UserError, match=odd):
        build(tmp_path / "odd")
    one = build(tmp_path / "odd" / "train_prefs")
    assert numbers(one, "train", "dev", "test") == list(range(30))


def test_a_folder_as_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, start in (("train", 0), ("test", 40)):
        write(tmp_path / "set" / "extra" / f"{split}.jsonl", start, start + 30)
    parts = {"first": "train", "second": "test"}
    files = [{"split": name, "path": f"extra/{file}.jsonl"} for name, file in parts.items()]
    card = yaml.safe_dump({"configs": [{"config_name": "extra", "data_files": files}]})
    (tmp_path / "set" / "README.md").write_text(f"---\n{card}---\n")
    given = {"id": str(tmp_path / "set"), "config": "extra", "split": "first"}
    data = load("data/hub", **given, test_split="second").build()
    assert numbers(data, "train", "dev") == list(range(30))
    assert numbers(data, "test") == list(range(40, 70))
    assert data.test[0].id == "hub-test-00000"
    for changed, message in (
        (
            {"split": "train"},
            r"data\.id=.*set: train could not be loaded \(.*second.*\); set data\.split",
        ),
        (
            {"config": "other"},
            r"data\.id=.*set: first could not be loaded \(.*extra.*\); set data\.config",
        ),
        ({"id": str(tmp_path / "none")}, r"data\.id=.*none: first "),
    ):
        with pytest.raises(UserError, match=message) as told:
            load("data/hub", **given | changed).build()
        assert "\n" not in str(told.value)


SCRIPT = """
import sys
from grao_bench.core.errors import UserError
from grao_bench.core.specs import load
for given in sys.argv[1:]:
    id, _, revision = given.partition("@")
    try:
        load("data/hub", id=id, revision=revision or None).build()
    except UserError as error:
        print(error)
"""


def told(home: Path, *ids: str, **environment: str) -> list[str]:
    """What is said of sets by their ids, with a cache of its own."""
    given = {**os.environ, "HF_HOME": str(home), **environment}
    given.pop("HF_TOKEN", None)
    command = [sys.executable, "-c", SCRIPT, *ids]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_hubs_refusals_are_one_line_each(tmp_path: Path) -> None:
    ids = ("gated/set", "private/set", "open/set@v9")
    (tmp_path / "open" / "set").mkdir(parents=True)
    with serving(tmp_path) as (address, _):
        gated, private, revision = told(tmp_path, *ids, HF_ENDPOINT=address, HF_HUB_OFFLINE="0")
    assert gated.startswith("data.id=gated/set: train is gated at the hub")
    assert f"accept its terms at {address}/datasets/gated/set and log in" in gated
    assert "the hub has no such data set, or a private one" in private
    assert "the hub has no revision v9 of it" in revision


def test_without_a_network_the_hub_is_one_line(tmp_path: Path) -> None:
    (line,) = told(tmp_path, "nobody/no-such-set", HF_HUB_OFFLINE="1")
    assert line.startswith("data.id=nobody/no-such-set: train is neither a folder nor a reachable")
    assert "HF_HUB_OFFLINE is set, and it is not in the hub's cache" in line
    assert "hf download --repo-type dataset nobody/no-such-set" in line
