"""The results as one self-contained HTML page: no network requests, every text escaped, light and
dark, laptop and phone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from grao_bench.core.records import RunInfo
from grao_bench.reporting.figures.drawing import Drawing
from grao_bench.reporting.gather.alarms import RULES
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.origins import origins
from grao_bench.reporting.gather.scores import Ties
from grao_bench.reporting.page.answers import Link, answer_sets
from grao_bench.reporting.page.case_studies import CaseStudies, verdict_text
from grao_bench.reporting.page.headline import Finding
from grao_bench.reporting.page.judge_prompts import JudgePromptText
from grao_bench.reporting.tables.sheets import Sheet
from grao_bench.reporting.text import NONE

TIES_TEXT: dict[Ties, str] = {
    "loss": "a tie counts as a loss, as in the paper's formula",
    "win": "a tie counts as a win here; the paper's formula counts it as a loss",
    "half": "a tie counts as half a win here; the paper's formula counts it as a loss",
}

_NUMBER = re.compile(r"[<>]?-?\d")
_PARTS = re.compile(
    r"^(?P<value>.*?)(?: (?P<interval>\[[^\]]*\]))?(?: (?P<stars>\*+))?$", re.DOTALL
)
_WORDS = ("notes", "alarms", "hardware", "method", "pair", "variant", "metric", "asked with")


@dataclass(frozen=True)
class Contents:
    """All that a page shows.

    `main`: Tables 1, 2 and their like; `sheets`: every other table; `note` stands under the title,
    `caveat` above the findings.
    """

    title: str
    note: str
    caveat: str
    ties: Ties
    cells: Sequence[Cell]
    findings: Sequence[Finding]
    main: Sequence[Sheet]
    sheets: Sequence[Sheet]
    drawings: Sequence[Drawing]
    cases: Sequence[CaseStudies]
    prompts: Sequence[JudgePromptText]


@dataclass(frozen=True)
class CellView:
    """A table's cell: its value, its interval and stars apart, whether it is the best, and where a
    number leads to."""

    value: str
    interval: str
    stars: str
    best: bool
    href: str
    kind: str


@dataclass(frozen=True)
class RowView:
    """A table's row: its cells, its class and the numbers of the runs behind it."""

    cells: Sequence[CellView]
    kind: str
    runs: str


@dataclass(frozen=True)
class TableView:
    """A sheet, ready for the template. header: each column's name, and whether its cells are
    numbers."""

    name: str
    title: str
    header: Sequence[tuple[str, bool]]
    rows: Sequence[RowView]
    notes: Sequence[str]


def render(contents: Contents, root: Path, link: Link) -> str:
    """The page. `root` is the folder reported on: runs are named relative to it; `link` gives a
    folder's address relative to the page."""
    environment = Environment(
        loader=PackageLoader("grao_bench.reporting.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["trusted_svg"] = (
        Markup  # drawn by matplotlib and `drawing`, which escape the labels in it
    )
    environment.filters["verdict"] = verdict_text
    environment.filters["facts"] = counted_facts
    runs = [(cell, run) for cell in contents.cells for run in cell.runs]
    numbers = {run.folder: i for i, (_, run) in enumerate(runs)}
    unfinished = [(cell, missing) for cell in contents.cells for missing in cell.missing]
    answers = answer_sets(contents.cells, link)
    return environment.get_template("report.html.j2").render(
        page=contents,
        counts=_counts(len(runs), {run.info.seed for _, run in runs}, len(unfinished)),
        ties_text=TIES_TEXT[contents.ties],
        clip0=any(cell.objective == "grao_clip0" for cell in contents.cells),
        main=[_view(sheet, numbers, link) for sheet in contents.main],
        sheets=[_view(sheet, numbers, link) for sheet in contents.sheets],
        figures=[
            _figures(kind, list(same))
            for kind, same in groupby(contents.drawings, key=lambda drawing: drawing.kind)
        ],
        answers=answers,
        rules=RULES,
        origins=origins(contents.cells),
        unfinished=[
            (cell, missing, _relative(missing.folder, root)) for cell, missing in unfinished
        ],
        runs=[(cell, run, _relative(run.folder, root), link(run.folder)) for cell, run in runs],
        run_links=[
            {"name": f"{cell.label}, seed {run.info.seed}", "href": link(run.folder)}
            for cell, run in runs
        ],
    )


def _figures(
    kind: str, drawings: Sequence[Drawing]
) -> tuple[str, Sequence[str], Sequence[Drawing]]:
    """Figures of one kind, with what stands above them: each different caption once."""
    return kind, list(dict.fromkeys(drawing.caption for drawing in drawings)), drawings


def _view(sheet: Sheet, numbers: Mapping[Path, int], link: Link) -> TableView:
    rows = []
    for i, texts in enumerate(sheet.grid.rows):
        folders = sheet.runs[i] if i < len(sheet.runs) else ()
        href = _address(folders, link)
        cells = [_cell(sheet, i, j, text, href) for j, text in enumerate(texts)]
        known = (str(numbers[folder]) for folder in folders if folder in numbers)
        rows.append(RowView(cells, _row_kind(sheet, i, cells), " ".join(known)))
    numeric = [
        any(row.cells[j].kind == "number" for row in rows) for j in range(len(sheet.grid.header))
    ]
    return TableView(
        sheet.name,
        sheet.title,
        list(zip(sheet.grid.header, numeric, strict=True)),
        rows,
        sheet.notes,
    )


def _cell(sheet: Sheet, i: int, j: int, text: str, href: str) -> CellView:
    header = sheet.grid.header[j]
    words = header in _WORDS or j == 0
    numeric = not words and bool(_NUMBER.match(text))
    if not numeric:
        kind = (
            "alarm"
            if header == "alarms"
            else "words"
            if header == "notes" or len(text) > 40
            else "none"
            if text == NONE
            else "text"
        )
        return CellView("–" if text == NONE else text, "", "", False, "", kind)
    parts = _PARTS.match(text)
    assert parts, "every part of the pattern is optional"
    best = (i, j) in sheet.grid.bold
    return CellView(
        parts["value"], parts["interval"] or "", parts["stars"] or "", best, href, "number"
    )


def _row_kind(sheet: Sheet, i: int, cells: Sequence[CellView]) -> str:
    texts = sheet.grid.rows[i]
    if i in sheet.grid.headings:
        return "heading"
    named = dict(zip(sheet.grid.header, texts, strict=True))
    failed = "not finished" in named.get("notes", "") or named.get("notes") == "not run"
    if failed and not any(cell.kind == "number" and cell.href for cell in cells):
        return "failed"
    return (
        "base"
        if texts[0] == "base"
        else "alarmed"
        if named.get("alarms")
        else "partial"
        if failed
        else ""
    )


def _address(folders: Sequence[Path], link: Link) -> str:
    """The configuration's folder where all its runs lie in one, else the first run's; empty without
    runs."""
    parents = {folder.parent for folder in folders}
    return "" if not folders else link(parents.pop() if len(parents) == 1 else folders[0])


def counted_facts(info: RunInfo) -> list[str]:
    """What a run counted besides its scores, each by name, in alphabetical order."""
    found: dict[str, float] = {f"dropped: {reason}": count for reason, count in info.drops.items()}
    for name, lengths in info.lengths.items():
        of, examples = (
            ("", "training examples") if name == "training" else (f"{name} test: ", "examples")
        )
        found |= {
            f"{of}{examples}": lengths.examples,
            f"{of}prompts cut": lengths.prompts_cut,
            f"{of}answers over max_answer_tokens ({lengths.rule})": lengths.answers_over_limit,
        }
        if lengths.answers_apart:
            found[f"{of}answers without a token boundary before them"] = lengths.answers_apart
        if lengths.without_reference:
            found[f"{of}prompts without a reference"] = lengths.without_reference
        if lengths.equal_pairs:
            found[f"dropped: {of}pairs equal within max_answer_tokens"] = lengths.equal_pairs
    for purpose, judges in info.judges.items():
        for judge, counts in judges.items():
            told = asdict(replace(counts, pair_accuracy=None))  # which has a table of its own
            told |= {
                f"fault: {kind}": count for kind, count in told.pop("faults").items()
            } | told.pop("other")
            found |= {
                f"{purpose}: {judge}: {key}": value
                for key, value in told.items()
                if value is not None
            }
    if info.peak_memory is not None:
        found["peak memory MiB"] = info.peak_memory / 2**20
    if info.kept_step is not None:
        found["kept the policy of step"] = info.kept_step
    return [
        f"{name} {value:g}" for name, value in sorted(found.items(), key=lambda one: one[0].lower())
    ]


def _counts(runs: int, seeds: set[int], unfinished: int) -> str:
    text = f"{runs} finished {'run' if runs == 1 else 'runs'}"
    text += f", {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
    return text + (f", {unfinished} unfinished" if unfinished else "")


def _relative(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)
