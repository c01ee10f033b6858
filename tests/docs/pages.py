"""What README.md and docs/*.md hold: commands, files to be written, links, headings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from grao_bench.cli.command_line import with_group

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted(
        [
            *ROOT.glob("*.md"),
            *(ROOT / "docs").glob("*.md"),
            *(ROOT / "benchmarks").glob("*.md"),
        ]
    )
    if path.name != "CHANGELOG.md"
}
RECIPES = {Path(name).stem: text for name, text in PAGES.items() if "/add_" in name}

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A file to be written: its path alone on a line, then its text."""
A_COMMAND = re.compile(r"python -m grao_bench|make |pytest ")


def files(text: str) -> dict[str, str]:
    """The files that a page has written, by their paths."""
    return dict(NAMED.findall(text))


def shell_lines(text: str) -> list[str]:
    """The lines of a page's sh blocks; one that ends in a backslash goes on."""
    blocks = [block for language, block in FENCE.findall(text) if language == "sh"]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def commands(text: str) -> list[str]:
    """Every command line: in sh blocks, in indented lines, and between backticks."""
    rest = FENCE.sub("", text)
    indented = re.findall(r"^    (.+)$", rest.replace("\\\n", " "), re.MULTILINE)
    plain = re.sub(r"^    .+$", "", rest, flags=re.MULTILINE)
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", plain)]
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in (*shell_lines(text), *indented, *spans)]
    return [line for line in dict.fromkeys(lines) if A_COMMAND.match(line)]


ALL_COMMANDS = sorted({line for text in PAGES.values() for line in commands(text)})


def of(start: str) -> list[list[str]]:
    """The arguments of all pages' commands that start like this."""
    found = [shlex.split(line) for line in ALL_COMMANDS if f"{line} ".startswith(f"{start} ")]
    return [[with_group(word) for word in words[len(start.split()) :]] for words in found]


def anchors(text: str) -> set[str]:
    """The headings' anchors, as GitHub makes them."""
    heads = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
