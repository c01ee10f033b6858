"""Tables of text as aligned Markdown, readable as plain text too."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def markdown(
    header: Sequence[str], rows: Sequence[Sequence[str]], bold: Collection[tuple[int, int]] = ()
) -> str:
    """A Markdown table, columns padded; pipes, asterisks and line breaks in the cells are escaped.

    The first column is aligned left, numbers right. bold: the (row, column) of cells to emphasise,
    the header not counted.
    """
    texts = [[_escape(text) for text in line] for line in (header, *rows)]
    right = [i > 0 and _is_numeric([line[i] for line in texts[1:]]) for i in range(len(header))]
    lines = [
        [f"**{text}**" if (i - 1, j) in bold else text for j, text in enumerate(line)]
        for i, line in enumerate(texts)
    ]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]
    padded = [
        " | ".join(
            text.rjust(w) if r else text.ljust(w)
            for text, w, r in zip(line, widths, right, strict=True)
        )
        for line in lines
    ]
    rule = " | ".join(
        "-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)
    )
    return "\n".join(f"| {line} |" for line in (padded[0], rule, *padded[1:]))


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def _is_numeric(column: Sequence[str]) -> bool:
    filled = [text for text in column if text not in ("", "-")]
    return bool(filled) and all(text.lstrip("-")[:1].isdigit() for text in filled)
