"""How rows are laid out: one entry of LAYOUTS for each way that preference, prompt and SFT sets are
written, and which of them a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from grao_bench.core.errors import UserError
from grao_bench.data.messages import ToolTurns, is_messages
from grao_bench.data.pairs import Fault
from grao_bench.data.rows import (
    Parts,
    Row,
    read_alpaca,
    read_completion,
    read_implicit,
    read_messages,
    read_question,
    read_ranking,
    read_sharegpt,
    read_standard,
    read_ultrafeedback,
    value_of,
)


@dataclass(frozen=True)
class Layout:
    """One way to lay out rows.

    columns: those a set must have. others: those that it may have; any further column is metadata.
    read: a row's parts, or why it is of no use; RowError where it does not fit. fits: whether a row
    that has the columns has them in this layout's shape.
    """

    name: str
    about: str
    columns: tuple[str, ...]
    read: Callable[[Row, ToolTurns], Parts | Fault]
    others: tuple[str, ...] = ()
    fits: Callable[[Row], bool] = field(default=lambda row: True)


def _has_ranks(column: str) -> Callable[[Row], bool]:
    """Whether a column's entries have ranks or scores."""

    def fits(row: Row) -> bool:
        entries = row[column]
        return isinstance(entries, list) and any(value_of(one) is not None for one in entries)

    return fits


def _share_a_turn(row: Row) -> bool:
    """Whether two dialogues open alike."""
    one, other = row["chosen"], row["rejected"]
    if isinstance(one, str) and isinstance(other, str):
        return one.strip().splitlines()[:1] == other.strip().splitlines()[:1]
    return is_messages(one) and is_messages(other)


_ANSWERS = ("chosen", "rejected", "demonstrations", "completion", "label")
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "ranking",
        "a prompt and answers with ranks (Nectar): the best and the worst are the pair",
        ("prompt", "answers"),
        read_ranking,
        fits=_has_ranks("answers"),
    ),
    Layout(
        "ultrafeedback",
        "an instruction and completions with scores (UltraFeedback): the best and the worst",
        ("instruction", "completions"),
        read_ultrafeedback,
        fits=_has_ranks("completions"),
    ),
    Layout(
        "preference",
        "a prompt and two answers, each as text or messages (TRL; UltraFeedback binarized)",
        ("prompt", "chosen", "rejected"),
        read_standard,
        _ANSWERS,
    ),
    Layout(
        "unpaired",
        "a prompt, an answer and whether it is good (TRL; KTO)",
        ("prompt", "completion", "label"),
        read_standard,
        _ANSWERS,
    ),
    Layout(
        "completion",
        "a prompt and its answer (TRL; SFT)",
        ("prompt", "completion"),
        read_completion,
        _ANSWERS,
    ),
    Layout(
        "reference",
        "a prompt and a reference answer",
        ("prompt", "chosen"),
        read_standard,
        _ANSWERS,
    ),
    Layout(
        "question",
        "a question and two answers (Orca pairs)",
        ("question", "chosen", "rejected"),
        read_question,
        ("chosen", "rejected"),
    ),
    Layout(
        "alpaca",
        "an instruction, its input and the output (Alpaca; SFT)",
        ("instruction", "output"),
        read_alpaca,
        ("input", "history"),
    ),
    Layout(
        "alpaca_preference",
        "an instruction, its input and two answers",
        ("instruction", "chosen", "rejected"),
        read_alpaca,
        ("input", "history"),
    ),
    Layout(
        "sharegpt",
        "conversations of {from, value} (ShareGPT); answers apart are a pair",
        ("conversations",),
        read_sharegpt,
        ("chosen", "rejected"),
        fits=lambda row: is_messages(row["conversations"]),
    ),
    Layout(
        "messages",
        "a dialogue as messages (TRL; SFT): the last answer is learnt",
        ("messages",),
        read_messages,
        ("chosen", "rejected"),
        fits=lambda row: is_messages(row["messages"]),
    ),
    Layout(
        "implicit",
        "two whole dialogues, as messages or as texts (TRL's implicit prompt; HH-RLHF)",
        ("chosen", "rejected"),
        read_implicit,
        fits=_share_a_turn,
    ),
    Layout(
        "prompt",
        "prompts alone",
        ("prompt",),
        read_standard,
        _ANSWERS,
    ),
)
BY_NAME = {layout.name: layout for layout in LAYOUTS}

_ALIASES = {
    "prompt": ("question", "query", "instruction", "input", "user", "problem", "context"),
    "chosen": ("answer", "response", "output", "solution", "target", "accepted", "better", "best"),
    "rejected": ("worse", "worst", "reject", "negative", "loser"),
}


def recognise(rows: Sequence[Row], where: str) -> Layout:
    """The layout of a set by its first rows: the first of LAYOUTS whose columns they have, in its
    shape. UserError with the rows' columns and the nearest layout where it is none."""
    present = [{name for name, value in row.items() if value is not None} for row in rows]
    every = set().union(*present)
    for layout in LAYOUTS:
        columns = set(layout.columns)
        whole = [row for row, names in zip(rows, present, strict=True) if columns <= names]
        if columns <= every and (any(map(layout.fits, whole)) or not whole):
            return layout
    names = dict.fromkeys(name for row in rows for name in row if name in every or not every)
    raise UserError(f"{where}: {_unknown(list(names))}")


def chosen_layout(name: str, rows: Sequence[Row], where: str) -> Layout:
    """The layout of this name, or the one that the rows have where it is "auto". UserError for an
    unknown name, or columns that the rows have not."""
    if name == "auto":
        return recognise(rows, where)
    if name not in BY_NAME:
        raise UserError(f"data.layout={name}: no such layout; there are auto, {', '.join(BY_NAME)}")
    layout = BY_NAME[name]
    has = {key for row in rows for key in row}
    if not set(layout.columns) <= has:
        needs = ", ".join(layout.columns)
        found = f"the rows have {_listed(dict.fromkeys(key for row in rows for key in row))}"
        raise UserError(f"{where}: data.layout={name} needs {needs}; {found}")
    return layout


def _unknown(columns: Sequence[str]) -> str:
    """That the columns are of no layout, the nearest one, and what to say."""
    if columns == ["text"]:
        fix = 'give them in model.corpus, or as "prompt" with data.columns.prompt=text'
        return f'rows of "text" alone are documents, not dialogues; {fix}'
    lower = {name.strip().lower(): name for name in columns}

    def missing(layout: Layout) -> list[str]:
        return [name for name in layout.columns if name not in columns]

    def likeness(layout: Layout) -> tuple[int, int, int]:
        gaps = missing(layout)
        # another spelling, or a name of the same meaning, is half there
        named = [n for n in gaps if n in lower or any(a in lower for a in _ALIASES.get(n, ()))]
        unknown = len(gaps) - len(named)
        return unknown, unknown - len(layout.columns), len(gaps)

    # one whose columns are all there has another shape
    nearest = min((layout for layout in LAYOUTS if missing(layout)), key=likeness)
    asks = any(alias in lower for alias in ("prompt", *_ALIASES["prompt"]))
    if nearest.name == "preference" and {"chosen", "rejected"} <= set(columns) and not asks:
        return (
            '"chosen" and "rejected" open with no turn or whole line that is the same, so where '
            "the prompt ends is unknown; name its column (data.columns.prompt), or use messages"
        )
    hints = []
    for name in missing(nearest):
        found = next((lower[a] for a in (name, *_ALIASES.get(name, ())) if a in lower), "<column>")
        hints.append(f"data.columns.{name}={found}")
    return (
        f"the columns {_listed(columns)} are of no known layout; the nearest is {nearest.name} "
        f"({', '.join(nearest.columns)}); name yours, as {' '.join(hints)}"
    )


def _listed(columns: Iterable[str]) -> str:
    names = [repr(name) for name in columns]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
