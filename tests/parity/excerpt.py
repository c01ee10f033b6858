"""Running a part of a long method: the peer's own lines, cut out of its source, never a transcription."""

from __future__ import annotations

import textwrap
from typing import Any


def excerpt(source: str, first: str, last: str) -> str:
    """The lines of `source` from the one that begins with `first` to the one that begins with `last`, both included.

    AssertionError unless each begins exactly one line: a peer that was rewritten is noticed, not misread.
    """
    lines = source.splitlines()
    (start,) = _lines_that_begin(lines, first)
    (end,) = _lines_that_begin(lines, last)
    assert start <= end, f"{last!r} comes before {first!r}"
    return textwrap.dedent("\n".join(lines[start : end + 1]))


def run(code: str, module: Any, **names: Any) -> dict[str, Any]:
    """Execute lines of a module with these names beside the module's own; what they defined."""
    scope = {**vars(module), **names}
    exec(code, scope)
    return scope


def _lines_that_begin(lines: list[str], text: str) -> list[int]:
    found = [number for number, line in enumerate(lines) if line.strip().startswith(text)]
    assert len(found) == 1, f"{len(found)} lines begin with {text!r}; expected one"
    return found
