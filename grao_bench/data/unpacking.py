"""A file's bytes, unpacked, and its lines as texts."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from grao_bench.core.errors import UserError

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
BREAKS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a file raises that is cut short or can't be read."""


def unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{path}: cannot be read ({reason}); check that the file is whole")


def binary(path: Path) -> io.BufferedIOBase:
    """The file's bytes, unpacked where its first ones say that it is packed."""
    packed = packing(path)
    if packed == "zstd":
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(str(path), "zstd"))
    opened: Any = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}.get(packed, open)
    file: io.BufferedIOBase = opened(path, "rb")
    return file


def packing(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(6)
    packings = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    return next((name for magic, name in packings.items() if head.startswith(magic)), "")


def lines_of(path: Path) -> Iterator[str]:
    """The file's lines as texts, a byte order mark taken off. Only a line feed ends one: JSON texts
    may hold the other characters that Python takes for line ends."""
    with binary(path) as opened:
        file: Iterable[bytes] = opened
        begin = opened.peek(2)[:2] if hasattr(opened, "peek") else b""
        if begin in (b"\xff\xfe", b"\xfe\xff"):
            file = io.BytesIO(_from_utf16(path, opened.read()))
        for number, raw in enumerate(file, 1):
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = raw[error.start]
                raise UserError(
                    f"{path}:{number}: is not UTF-8 (byte 0x{byte:02x} at {error.start}: another "
                    "encoding, such as Latin-1?); convert it, as iconv -f latin1 -t utf-8 does"
                ) from None


def _from_utf16(path: Path, whole: bytes) -> bytes:
    """The same text in UTF-8; UserError where it breaks off within a character, or is none."""
    try:
        return whole.decode("utf-16").encode()
    except UnicodeDecodeError as error:
        line = whole[: error.start].decode("utf-16", "ignore").count("\n") + 1
        what = f"is not UTF-16, as its first bytes say ({error.reason})"
        raise UserError(f"{path}:{line}: {what}; check that the file is whole") from None
