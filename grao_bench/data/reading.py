"""From sources to examples: what each row of a set becomes, or why it is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.core.types import Example, Turn
from grao_bench.data.columns import Columns
from grao_bench.data.layouts import Layout, chosen_layout
from grao_bench.data.lines import RowError, check_text
from grao_bench.data.messages import ToolTurns, spelt_out
from grao_bench.data.pairs import Fault, find_fault
from grao_bench.data.sources import Source

Row = Mapping[str, Any]
Turns = tuple[Turn, ...]
SYSTEM = ("system", "system_prompt")
"""Columns that hold a row's system prompt, in every layout."""
SPOKEN = ("prompt", "chosen", "rejected", "completion")
"""Columns that hold messages in some sets, which tables without nested columns keep as JSON."""
SAMPLE = 100
"""Rows by which a layout is recognised."""


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row as read: its place ("file:line"), and an example, or the fault for which it is left
    out."""

    where: str
    example: Example | None
    fault: Fault | None


@dataclass(frozen=True)
class Opened:
    """A source, and the layout that its rows are read in."""

    source: Source
    layout: Layout


@dataclass(frozen=True)
class How:
    """How rows are read; see conf/data/files.yaml for each field."""

    layout: str
    columns: Columns
    tool_turns: ToolTurns

    def open(self, sources: Sequence[Source]) -> tuple[Opened, ...]:
        """The sources, each with its layout; UserError where one has none that is known."""
        return tuple(Opened(source, self._layout(source)) for source in sources)

    def _layout(self, source: Source) -> Layout:
        sample = []
        for number, row in islice(source.rows(), SAMPLE):
            try:
                sample.append(self._renamed(row))
            except RowError as error:
                raise UserError(f"{source.place(number)}: {error}") from None
        return chosen_layout(self.layout, sample, source.name)

    def _renamed(self, row: Row) -> dict[str, Any]:
        """The row under the layouts' names, its messages as such; RowError as `Columns.renamed`."""
        named = self.columns.renamed(row)
        return named | {name: spelt_out(named[name]) for name in SPOKEN if name in named}

    def read(self, opened: Sequence[Opened], prefix: str, subset: str) -> Iterator[ReadRow]:
        """Every row, in order; an example's id is `<prefix>-<row from 0>`. UserError names the
        place of a row that does not fit."""
        count = 0
        for one in opened:
            for number, row in one.source.rows():
                where = one.source.place(number)
                try:
                    found = self.example(row, one.layout, f"{prefix}-{count:05d}", subset)
                except RowError as error:
                    raise UserError(f"{where}: {error}") from None
                count += 1
                if isinstance(found, Fault):
                    yield ReadRow(where, None, found)
                else:
                    yield ReadRow(where, found, None)

    def example(
        self,
        row: Row,
        layout: Layout,
        id: str,
        subset: str,
    ) -> Example | Fault:
        """The example of one row, its texts stripped; RowError says what is wrong with it."""
        whole, row = row, self._renamed(row)
        parts = layout.read(row, self.tool_turns)
        if isinstance(parts, Fault):
            return parts
        prompt, system = _with_system(row, parts.prompt)
        fault = find_fault(prompt, parts.chosen, parts.rejected, parts.demonstrations)
        if fault:
            return fault
        used = {*layout.columns, *layout.others, *system}
        if row.get("completion") is None:
            used -= {"completion", "label"}
        further = {name: value for name, value in row.items() if name not in used}
        return Example(
            id,
            prompt,
            parts.chosen,
            parts.rejected,
            subset,
            demonstrations=parts.demonstrations,
            label=parts.label,
            metadata=self.columns.riding(whole) | further,
            conversational=isinstance(row.get(layout.columns[0]), list),
        )


def read_row(row: Row, id: str = "", subset: str = "") -> Example | Fault:
    """The example of one row that a program made, in the layout that its columns say."""
    names = Columns(**{item.name: None for item in fields(Columns)})
    how = How("auto", names, "refuse")
    layout = chosen_layout("auto", [how._renamed(row)], "row")
    return how.example(row, layout, id, subset)


def _with_system(row: Row, prompt: Turns) -> tuple[Turns, list[str]]:
    """The prompt with the row's system prompt in front, and the columns that it is in."""
    columns = [name for name in SYSTEM if isinstance(row.get(name), str)]
    texts = dict.fromkeys(check_text(row[name], f'"{name}"').strip() for name in columns)
    texts.pop("", None)
    if prompt and prompt[0].role == "system":
        texts.setdefault(prompt[0].text)
        prompt = prompt[1:]
    if len(texts) > 1:
        raise RowError(f"{' and '.join(columns)} and the messages have different system prompts")
    return (*(Turn("system", text) for text in texts), *prompt), columns


def examples_of(rows: Iterator[ReadRow], what: str, dropped: Counter[str]) -> list[Example]:
    """The examples; rows left out are counted. UserError, with the first row's place, where all
    are."""
    examples: list[Example] = []
    first: ReadRow | None = None
    own: Counter[str] = Counter()
    for row in rows:
        if row.example is not None:
            examples.append(row.example)
        elif row.fault is not None:
            first = first or row
            own[row.fault] += 1
    if not examples and first is not None:
        reasons = ", ".join(f"{fault}: {count}" for fault, count in own.items())
        raise UserError(f"{first.where}: {first.fault}; no row of {what} is of use ({reasons})")
    dropped.update(own)
    return examples
