"""python -m grao_bench.report <folder>: tables, figures and a page from a folder's record files. Needs no torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import quote

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import find_runs, find_unfinished, read_info, read_run
from grao_bench.core.records import Run
from grao_bench.reporting import paper_claims
from grao_bench.reporting.figures.drawing import Drawing
from grao_bench.reporting.figures.every import draw_all
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.gather.comparable import check_same_evaluation
from grao_bench.reporting.gather.families import Questions, check_named
from grao_bench.reporting.gather.origins import origins
from grao_bench.reporting.gather.rows import Row, score
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.gather.scores import Ties
from grao_bench.reporting.page import page
from grao_bench.reporting.page.case_studies import DISAGREEMENT, RANDOM, case_studies
from grao_bench.reporting.page.copies import CAVEAT, Texts, copy_all, may_show, texts_of_one_seed, without_texts
from grao_bench.reporting.page.headline import findings
from grao_bench.reporting.page.judge_prompts import judge_prompts
from grao_bench.reporting.page.page import Contents
from grao_bench.reporting.tables.choice import Table, cross_tables, main_tables
from grao_bench.reporting.tables.every import all_sheets
from grao_bench.reporting.tables.main import brief_grid, frame, main_sheet
from grao_bench.reporting.tables.mcnemar import mcnemar_sheet
from grao_bench.reporting.tables.sheets import Sheet


@dataclass(frozen=True)
class Report:
    """What was written: the page's path, the Markdown tables' path, and a brief text for a terminal."""

    page: Path
    tables: Path
    brief: str


def build_report(
    folder: Path,
    output: Path | None = None,
    *,
    ties: Ties = "loss",
    records: bool = False,
    texts: Texts | None = None,
    note: str = "",
    cases: str = DISAGREEMENT,
    questions: Questions | None = None,
) -> Report:
    """Reads the runs below `folder` and writes tables.md, tables.csv, tables/, figures/ and report.html into `output`
    (<folder>/report by default).

    tables/ holds every table as LaTeX (booktabs) and as CSV; figures/ every figure as PNG, SVG and
    the numbers drawn, and figures.tex; tables.csv is all rows of Tables 1, 2 and the cross tables
    in one. records: also copy each run's records (evaluations compressed) below `output`, so that
    it can be reported on again. texts: of which sets prompts, references and answers stand on the
    page and in the copies; None is "all", and with records "ours", since copies are made to be
    given away: other sets are ids and verdicts, and the copies hold the texts of each
    configuration's lowest seed, which the page shows (with "all" of every seed). note: a paragraph under the title, say of where the
    data come from. cases: how Tables 4 and 5 choose their prompts, see `case_studies`. questions:
    what is compared with what, and the margin of "level". A file caveat.txt in `folder` says
    why its scores rank no objective: its text stands above the findings, which then name no leader.
    Raises UserError where there is no finished run, or runs that cannot stand in one table.
    """
    output = folder / "report" if output is None else output
    runs, unfinished = _read(folder, output)
    shown = texts or ("ours" if records else "all")
    runs = [run if may_show(run, shown) else without_texts(run) for run in runs]
    every = gather(runs, unfinished)
    scored = score(every, ties)
    if questions:
        check_named(questions, [row for row in scored if not row.cell.control])
    tables = main_tables(scored, ties, questions)
    contents = _contents(folder, every, scored, tables, ties, questions, note, cases)
    _write(folder, output, contents, records)
    scores = output / "tables.csv"
    frame(scored, ties).to_csv(scores, index=False, float_format="%.6g", lineterminator="\n")
    if records:
        copied = runs if texts == "all" else texts_of_one_seed(runs)
        copy_all(copied, unfinished, folder, output)
    return Report(output / "report.html", output / "tables.md", _brief(contents, tables))


def _contents(
    folder: Path,
    every: Sequence[Cell],
    scored: Sequence[Row],
    tables: Sequence[Table],
    ties: Ties,
    questions: Questions | None,
    note: str,
    cases: str,
) -> Contents:
    """All that a report says of a folder's cells."""
    cells = [cell for cell in every if not cell.control]
    rows = [row for row in scored if not row.cell.control]
    caveat = _caveat(folder)
    main_sheets = [main_sheet(table) for table in tables]
    names = {sheet.name for sheet in main_sheets}
    sheets = all_sheets(cells, rows, tables, cross_tables(rows, ties))
    return Contents(
        title=f"grao_bench: {folder.resolve().name}",
        note=note,
        caveat=caveat,
        ties=ties,
        cells=cells,
        findings=findings(tables, caveat, questions),
        main=main_sheets,
        sheets=[sheet for sheet in sheets if sheet.name not in names],
        drawings=draw_all(cells, rows, tables),
        cases=case_studies(tables, cases),
        prompts=judge_prompts(cells),
    )


def _write(folder: Path, output: Path, contents: Contents, records: bool) -> None:
    """Figures, tables and the page. records: the page leads to their copies."""

    def link(target: Path) -> str:
        copied = output / target.relative_to(folder) if records else target
        return quote(Path(os.path.relpath(copied.resolve(), output.resolve())).as_posix())

    _write_figures(output / "figures", contents.drawings)
    _write_tables(output / "tables", contents)
    (output / "tables.md").write_text(_markdown(folder, contents), encoding="utf-8")
    html = page.render(contents, folder, link)
    (output / "report.html").write_text(html, encoding="utf-8")


def _brief(contents: Contents, tables: Sequence[Table]) -> str:
    """For a terminal: the findings, and Table 1 in short."""
    brief = [f"Caveat: {contents.caveat}"] if contents.caveat else []
    brief += [f"{one.about}: {one.verdict}. {one.text}" for one in contents.findings]
    brief += [f"{table.title}\n\n{brief_grid(table).markdown()}" for table in tables]
    return "\n\n".join(brief)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (2 for a user's mistake). A reader that stops reading (`| head`) is no mistake."""
    options = _parser().parse_args(arguments)
    try:
        code = _main(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still in the buffer would raise again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _main(options: argparse.Namespace) -> int:
    try:
        if options.paper:
            print(paper_claims.render(), end="")
            return 0
        if options.mcnemar is not None:
            print(compare_checkpoints(*options.mcnemar).markdown())
            return 0
        if options.folder is None:
            raise UserError("give a folder that holds runs, for example: python -m grao_bench.report runs/demo (or --paper)")
        report = build_report(
            options.folder,
            options.output,
            ties=options.ties,
            records=options.records,
            texts=options.texts,
            note=options.note,
            cases=options.cases,
            questions=Questions(tuple(options.against), options.margin, tuple(options.tuned)),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{report.brief}\n\ntables: {report.tables}\npage:   {report.page}")
    return 0


def compare_checkpoints(first: Path, second: Path) -> Sheet:
    """McNemar's exact test between two finished runs' answers, on every set and judge that both have.

    UserError where they share none, or their test prompts or judges differ.
    """
    for folder in (first, second):
        read_info(folder)  # says what is wrong with a folder that is no run
    ours, theirs = read_run(first), read_run(second)
    shared = ours.evaluations.keys() & theirs.evaluations.keys()
    if not shared:
        raise UserError(f"{first} and {second}: no set was judged by the same reward for both; evaluate both alike")
    for key in sorted(shared):
        check_same_evaluation(ours, theirs, key)
    return mcnemar_sheet(ours, theirs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grao_bench.report", description="Tables, figures and a page from a folder's record files.", allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, nargs="?", help="a folder that holds runs, such as runs/demo")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write (default: <folder>/report)")
    parser.add_argument("--records", action="store_true", help="also copy the runs' records there, compressed")
    parser.add_argument("--note", default="", metavar="TEXT", help="a paragraph under the title, say of where the data come from")
    parser.add_argument(
        "--texts",
        choices=get_args(Texts),
        help="whose prompts, references and answers are on the page and in records: ours are those "
        "of the embedded world (default: all; with --records ours, ids and verdicts of others)",
    )
    parser.add_argument(
        "--ties", choices=("loss", "win", "half"), default="loss", help="what a tie counts for in RAS (default: loss, the paper's formula)"
    )
    parser.add_argument(
        "--cases",
        default=DISAGREEMENT,
        metavar="RULE",
        help=f"prompts of the case studies: {DISAGREEMENT} between the methods (default), {RANDOM}, or ids with commas between them",
    )
    asked = Questions()
    parser.add_argument(
        "--against",
        nargs="+",
        default=asked.references,
        metavar="NAME",
        help=f"the rest is tested against (default: {' '.join(asked.references)})",
    )
    parser.add_argument(
        "--margin",
        type=_margin,
        default=asked.margin,
        metavar="POINTS",
        help=f"RAS within it is level (default: {asked.margin:g})",
    )
    parser.add_argument("--tuned", nargs="+", default=(), metavar="KEY", help="settings that were tuned by one rule")
    parser.add_argument("--mcnemar", type=Path, nargs=2, metavar=("RUN_A", "RUN_B"), help="compare two runs prompt by prompt, and no more")
    parser.add_argument("--paper", action="store_true", help="print the paper's own tables and recompute its claims from them")
    return parser


def _margin(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 100.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 100 points")
    return value


def _read(folder: Path, output: Path) -> tuple[list[Run], dict[Path, str]]:
    """The runs below `folder`, leaving out copies that an earlier report put into an `output` inside it."""
    unfinished = find_unfinished(folder) if folder.is_dir() else {}
    try:
        runs = find_runs(folder)
    except UserError as error:
        if not unfinished:
            raise
        path, reason = next(iter(unfinished.items()))
        raise UserError(f"{error}. {len(unfinished)} started and did not finish, such as {path} ({reason})") from None
    inside = folder.resolve() in output.resolve().parents
    copies = output.resolve() if inside else None
    runs = [run for run in runs if copies not in run.folder.resolve().parents]
    if not runs:
        raise UserError(f"{folder}: the only runs are in {output}, which this report would write; give another --output")
    return runs, {path: reason for path, reason in unfinished.items() if copies not in path.resolve().parents}


def _caveat(folder: Path) -> str:
    """The text of the folder's caveat.txt, on one line; empty where there is none."""
    path = folder / CAVEAT
    try:
        return " ".join(path.read_text(encoding="utf-8").split()) if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); mend or remove it") from None


def _write_figures(folder: Path, drawings: Sequence[Drawing]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        (folder / f"{drawing.name}.png").write_bytes(drawing.png)
        (folder / f"{drawing.name}.svg").write_bytes(drawing.svg)
        drawing.frame.to_csv(folder / f"{drawing.name}.csv", index=False, float_format="%.6g", lineterminator="\n")
    if drawings:
        text = "% \\usepackage{graphicx}\n" + "\n".join(drawing.latex() for drawing in drawings)
        (folder / "figures.tex").write_text(text, encoding="utf-8")


def _write_tables(folder: Path, contents: Contents) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for sheet in (*contents.main, *contents.sheets, *(study.sheet() for study in contents.cases)):
        (folder / f"{sheet.name}.tex").write_text(sheet.latex(), encoding="utf-8")
        (folder / f"{sheet.name}.csv").write_text(sheet.csv(), encoding="utf-8")
    for prompt in contents.prompts:
        (folder / f"{prompt.file_name}.tex").write_text(prompt.latex(), encoding="utf-8")


def _markdown(folder: Path, contents: Contents) -> str:
    parts = [
        f"# {folder.resolve().name}",
        *([contents.note] if contents.note else []),
        "## What this shows",
        *([f"**Caveat.** {contents.caveat}"] if contents.caveat else []),
        "\n".join(f"- {one.about}: **{one.verdict}.** {one.text}" for one in contents.findings),
        "Percent unless said otherwise. Several seeds: mean ± sd [95% t interval over seed means]. One seed: [95% bootstrap interval over\n"
        "prompts only]. nag_mean = mean(R_after - R_base) is what stands beside the paper's NAG; without ties it is 2 (RAS - RAS_base)\n"
        "and carries the same information as RAS. KL to base: nats per answer, on dev. The paper's columns are its own models,\n"
        "data and judge.",
        *(sheet.markdown() for sheet in contents.main),
        *(f"## {one.title}\n\n![{one.title}](figures/{one.name}.svg)\n\n{one.caption}" for one in contents.drawings),
        *(sheet.markdown() for sheet in contents.sheets),
        *(study.sheet().markdown() for study in contents.cases),
        *(prompt.markdown() for prompt in contents.prompts),
    ]
    parts += ["## Where the runs come from", "\n".join(f"- {line}" for line in origins(contents.cells))]
    missing = [f"- {lost.folder.relative_to(folder)}: {lost.reason}" for cell in contents.cells for lost in cell.missing]
    if missing:
        parts += ["## Not finished", "\n".join(missing)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
