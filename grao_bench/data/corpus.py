"""Further documents for pre-training a tiny base: the files of `model.corpus`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grao_bench.core.errors import UserError
from grao_bench.data.lines import RowError, text_field
from grao_bench.data.sources import open_source


def load_corpus_files(paths: Sequence[str | Path]) -> list[str]:
    """The documents of the files, in order: each row's "text" of a .jsonl[.gz] file, the whole of a .txt file as one document.

    Texts are kept as they are. UserError when a file is absent, of another kind, empty or malformed (with file:line).
    """
    return [document for path in paths for document in _documents(Path(path).expanduser())]


def _documents(path: Path) -> list[str]:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        source = open_source(path)
        return [_document(source.place(number), row) for number, row in source.rows()]
    if path.suffix != ".txt":
        raise UserError(f"{path}: model.corpus reads .jsonl, .jsonl.gz and .txt files only")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a text file in UTF-8 in model.corpus") from None
    if not text.strip():
        raise UserError(f"{path}: the file is empty; take it out of model.corpus")
    return [text]


def _document(where: str, row: dict[str, object]) -> str:
    try:
        text = text_field(row, "text")
    except RowError as error:
        raise UserError(f"{where}: {error}") from None
    if not text.strip():
        raise UserError(f'{where}: "text" is empty; remove the line')
    return text
