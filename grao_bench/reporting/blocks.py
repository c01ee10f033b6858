"""python -m grao_bench.reporting.blocks README.md results/README.md: their blocks, made anew.

A block lies between `<!-- NAME: begin -->` and `<!-- NAME: end -->`; the names are those of BLOCKS.
Blocks are made from the committed tables below results/ alone: their sentences are those of
"What this shows", which come from the adjusted results and the alarms (`headline`).
"""

from __future__ import annotations

import csv
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from grao_bench.core.errors import UserError
from grao_bench.reporting.gather.roles import ours

BEGIN, END = "<!-- {}: begin -->\n", "<!-- {}: end -->"
SAID = re.compile(
    r"^- (?P<set>\S+) \((?P<model>[^)]*)\), judged by (?P<judge>[^:]*):"
    r" \*\*(?P<verdict>.*?)\.\*\* "
)
NAMED, LEAST = 4, 0.005
"""So many criteria of a gain are named, the largest first; what moved less is not."""

Row = dict[str, str]
"""A line of a CSV: texts by column, "" for none."""


@dataclass(frozen=True)
class Finding:
    """A line of "What this shows": of which set, the verdict, and the sentences up to the power of
    the tests (`text`) and from there (`sure`)."""

    set: str
    model: str
    judge: str
    verdict: str
    text: str
    sure: str


@dataclass(frozen=True)
class Results:
    """A folder of committed tables."""

    folder: Path

    @property
    def caveat(self) -> str:
        """What is known against its scores as a ranking; "" for nothing."""
        return next((line for line in self._shown() if line.startswith("**Caveat.**")), "")

    def findings(self) -> list[Finding]:
        """One per main table and model."""
        found = []
        for line in self._shown():
            if told := SAID.match(line):
                text, cut, sure = line[told.end() :].partition(" Adjusted for ")
                of, model, judge, verdict = told.group("set", "model", "judge", "verdict")
                sentences = (text, f"{cut}{sure}".strip())
                found.append(Finding(of, model, judge, verdict, *sentences))
        if not found:
            raise UserError(f"{self.folder / 'tables.md'}: no finding; make it with report")
        return found

    def _shown(self) -> Iterator[str]:
        path = self.folder / "tables.md"
        if not path.is_file():
            raise UserError(f"{path}: not there; python -m grao_bench.report makes it")
        _, _, after = path.read_text(encoding="utf-8").partition("## What this shows\n")
        yield from after.partition("\nPercent unless")[0].splitlines()

    def rows(self, name: str, one: Finding) -> list[Row]:
        """The lines of a table of a finding's set, of its model; none where there is no table."""
        path = self.folder / "tables" / f"{name}-{one.set}-{one.judge}.csv"
        return [row for row in _read(path) if row["model"] == one.model]

    def methods(self, one: Finding) -> list[Row]:
        """The main table's rows that were trained, the highest RAS first; no controls."""
        main = self.rows("main", one)
        kept = [row for row in main if row["trained_on"] == one.set and not row.get("role")]
        return sorted(kept, key=lambda row: -float(row["ras"] or "-inf"))

    def named(self, one: Finding) -> list[str]:
        """The method with the highest RAS, and the one under study where that is another."""
        found = [row["method"] for row in self.methods(one)]
        return [*found[:1], *(name for name in found[1:] if name == ours(()))]


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _by_method(rows: Iterable[Row]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row["method"], row)
    return found


def what_came_out(results: Path, link: str) -> str:
    """For the README: the scores of results/laptop, and a verdict for each set."""
    laptop = Results(results / "laptop")
    found = laptop.findings()
    seeds = sorted({_seeds(row) for one in found for row in laptop.methods(one)})
    head = (
        f"[results/laptop]({link}laptop/README.md), mean ± sd over {' or '.join(map(str, seeds))}"
        " seeds, percent. RAS: answers better than the reference, a tie counting as a loss;"
        " nag_mean: the gain over the base that stands beside the paper's NAG"
    )
    table = scores(laptop, found)
    right = "; right: answers with all that was asked and nothing else" * (" right |" in table)
    verdicts = [_wrapped(f"- **{one.set}: {one.verdict}.** {one.text}", "  ") for one in found]
    last = f"What the gains consist of, and how sure this is: [results]({link}README.md)."
    head, caveat = _wrapped(f"{head}{right}."), _wrapped(laptop.caveat)
    parts = [head, table, caveat, "\n".join(verdicts), last]
    return "\n\n".join(part for part in parts if part)


def answers(results: Path, link: str) -> str:
    """For results/README.md: which objective leads where, by how much, what its gain consists of,
    how sure; in ten lines."""
    laptop = Results(results / "laptop")
    lines = []
    for one in laptop.findings():
        lines.append(f"- **{one.set}: {one.verdict}.** {one.text}")
        told = (gained(laptop, one), beside(laptop, one), f"How sure: {sure(laptop, one)}")
        lines += [f"- {one.set}. {text}" for text in told if text]
    if (results / "equal_rates" / "tables.md").is_file():
        lines.append(f"- {at_equal_settings(Results(results / 'equal_rates'), link)}")
    lines.append(f"- {limits(laptop)}")
    points = "\n".join(_wrapped(line, "  ") for line in lines)
    return f"{_wrapped(laptop.caveat)}\n\n{points}" if laptop.caveat else points


BLOCKS: dict[str, Callable[[Path, str], str]] = {
    "what came out": what_came_out,
    "answers": answers,
}


def scores(at: Results, found: Sequence[Finding]) -> str:
    """A Markdown table: a line per method, and per control that passes the base on a set by a
    point; RAS, nag_mean and right answers on each set."""
    columns = {"ras": "RAS", "nag_mean": "nag_mean", "correct": "right"}
    mains = [_by_method(at.rows("main", one)) for one in found]
    shown = [
        (one.set, main, name)
        for one, main in zip(found, mains, strict=True)
        for name in columns
        if any(row.get(name) for row in main.values())
    ]
    header = ["method", *(f"{of} {columns[name]}" for of, _, name in shown)]
    lines = [header, ["---"] * len(header)]
    labels = dict.fromkeys(label for main in mains for label in main)
    for label in (label for label in labels if any(_worth(main, label) for main in mains)):
        lines.append([label, *(_with_sd(main.get(label, {}), name) for _, main, name in shown)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _worth(main: dict[str, Row], label: str) -> bool:
    row = main.get(label, {"role": "absent"})
    if not row.get("role"):
        return True
    return bool(row.get("ras")) and float(row["ras"]) >= float(main["base"]["ras"]) + 1


def _with_sd(row: Row, name: str) -> str:
    if not row.get(name):
        return ""
    spread = f" ± {_number(row[f'{name}_sd'])}" if _seeds(row) > 1 else ""
    return f"{_number(row[name])}{spread}"


def _seeds(row: Row) -> int:
    return len(row["seeds"].split())


def gained(at: Results, one: Finding) -> str:
    """What the gains consist of, by kind and by criterion; "" where the judge's number has no
    parts."""
    rows = _by_method(at.rows("gains", one))
    told = [_gain(rows[label], label) for label in at.named(one) if label in rows]
    if not told:
        return ""
    if "the references" in rows:
        told.append(f"the references have {_signed(rows['the references']['total'])}")
    return f"What was gained, in the judge's score over the base's: {'; '.join(told)}."


def _gain(row: Row, label: str) -> str:
    moved = {
        name: row[name]
        for name in (column.removesuffix("_sd") for column in row if column.endswith("_sd"))
        if name != "total" and row[name] and abs(float(row[name])) >= LEAST
    }
    parts = [name for name in moved if name.startswith("criterion ")]
    parts.sort(key=lambda name: -abs(float(moved[name])))
    split = [f"{name} {_signed(moved[name])}" for name in moved if name not in parts]
    by = [f"{name.removeprefix('criterion ')} {_signed(moved[name])}" for name in parts[:NAMED]]
    share = row["form_or_manners_percent"]
    formal = f"form or manners {float(share):.0f}%" if share else "no gain is shown"
    limits = f"[{_signed(row['total_low'])}, {_signed(row['total_high'])}]"
    of_it = f", of it {', '.join(split)}" if split else ""
    named = f"; by {', '.join(by)}" if by else ""
    return f"{label} {_signed(row['total'])} {limits}{of_it} ({formal}{named})"


def beside(at: Results, one: Finding) -> str:
    """Other readings of the same answers, base first: right or wrong, length controlled, and RAS on
    the sets that go with this one."""
    main = _by_method(at.rows("main", one))
    labels = [*(name for name, row in main.items() if row["objective"] == "base"), *at.named(one)]
    told = []
    for name, words in (("correct", "right answers"), ("ras_lc", "RAS with length controlled")):
        told += _listed(words, main, labels, name)
    every = [row for row in _read(at.folder / "tables.csv") if row["model"] == one.model]
    every = [row for row in every if row["reward_source"] == one.judge]
    every = [row for row in every if row["trained_on"] in ("", one.set)]
    for other in dict.fromkeys(row["set"] for row in every):
        if other.startswith(f"{one.set}_"):
            here = _by_method(row for row in every if row["set"] == other)
            told += _listed(f"RAS on {other}", here, labels, "ras")
    return f"In percent: {'; '.join(told)}." if told else ""


def _listed(words: str, rows: dict[str, Row], labels: Sequence[str], name: str) -> list[str]:
    known = [label for label in labels if rows.get(label, {}).get(name)]
    named = ", ".join(f"{label} {_number(rows[label][name])}" for label in known)
    return [f"{words} {named}"] if known else []


def sure(at: Results, one: Finding) -> str:
    """What is said of the tests' power, after how often a run of the best method beats one of that
    under study (where that is the best, of the next)."""
    ranked = [row["method"] for row in at.methods(one)]
    pair = at.named(one) if len(at.named(one)) > 1 else ranked[:2]
    told = _improved(at.rows("differences", one), pair)
    return " ".join(text for text in (told, one.sure) if text) or "nothing is tested."


def _improved(rows: Sequence[Row], pair: Sequence[str]) -> str:
    """By RAS, whichever of the two the table names first."""
    for row in rows:
        names = [row["first"], row["second"]]
        if row["score"] != "ras" or sorted(names) != sorted(pair):
            continue
        p, low, high = (float(row[name]) for name in ("better", "better_low", "better_high"))
        if names != list(pair):
            p, low, high = 1 - p, 1 - high, 1 - low
        chance = f"with probability {p:.2f} [{low:.2f}, {high:.2f}]"
        return f"a run of {pair[0]} scores over one of {pair[1]} {chance}."
    return ""


def at_equal_settings(at: Results, link: str) -> str:
    """RAS of every method at the settings that were the same for all, and the verdicts."""
    told = []
    for one in at.findings():
        by_settings: dict[str, list[str]] = {}
        methods = at.methods(one)
        for row in methods:
            settings = row["method"].partition(" (")[2].rstrip(")")
            text = f"{row['objective']} {_number(row['ras'])}"
            by_settings.setdefault(settings, []).append(text)
        seeds = max(_seeds(row) for row in methods)
        split = [f"{name}: {', '.join(of)}" for name, of in sorted(by_settings.items())]
        told.append(f"{one.set} ({seeds} seeds; {one.verdict}): {'; '.join(split)}")
    where = f"[{at.folder.name}]({link}{at.folder.name}/tables.md)"
    return f"At equal rates ({where}), RAS in percent. {'. '.join(told)}."


def limits(at: Results) -> str:
    """What all of it is conditional on."""
    found = at.findings()
    counts = {int(row["prompts"]) for one in found for row in at.methods(one) if row["prompts"]}
    prompts = sorted(counts)
    bases, judges = (sorted({getattr(one, name) for one in found}) for name in ("model", "judge"))
    return (
        f"Conditional on one base ({', '.join(bases)}), one judge ({', '.join(judges)}) and"
        f" {' or '.join(map(str, prompts))} prompts a set. Intervals in brackets are 95%, after RAS"
        " over seeds and prompts, after a difference adjusted for all its tests, else over seeds."
    )


def made_anew(text: str, results: Path, link: str) -> str:
    """The text with its blocks made from the tables below `results`; UserError for a block that is
    not known or not closed. link: of that folder from where the text lies."""
    for name in re.findall(r"<!-- (.+?): begin -->", text):
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if name not in BLOCKS or not closed:
            what = "is not closed" if name in BLOCKS else f"is none of {', '.join(BLOCKS)}"
            raise UserError(f"block {name!r} {what}")
        text = f"{before}{begin}{BLOCKS[name](results, link)}\n{end}{after}"
    return text


def remade(path: Path) -> str:
    """A file's text with its blocks made anew, from results/ beside it or around it."""
    beside_it = path.resolve().parent
    inside = beside_it.name == "results"
    results, link = (beside_it, "") if inside else (beside_it / "results", "results/")
    return made_anew(path.read_text(encoding="utf-8"), results, link)


def main(arguments: Sequence[str]) -> int:
    """The command; 2 for a user's mistake."""
    try:
        if not arguments:
            raise UserError("name the files, such as README.md results/README.md")
        for path in map(Path, arguments):
            path.write_text(remade(path), encoding="utf-8")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _number(text: str) -> str:
    return f"{round(float(text), 1) + 0.0:.1f}"


def _signed(text: str) -> str:
    return f"{round(float(text), 2) + 0.0:+.2f}"


def _wrapped(text: str, indent: str = "") -> str:
    lines = textwrap.wrap(
        text,
        width=100,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
