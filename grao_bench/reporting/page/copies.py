"""What of the records a report gives away: copies, with texts or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import PARTIAL, plain_or_gz, read_lines, write_lines
from grao_bench.core.records import Run
from grao_bench.reporting.page.judge_prompts import prompt_files

CAVEAT = "caveat.txt"
"""A file that may lie in a folder of runs: what speaks against reading its scores as a ranking."""
Texts = Literal["all", "ours", "none"]
"""Whose prompts, references and answers are shown: of every set, of those whose texts are generated
here, of none."""
GENERATED = "grao_bench.data.world."
"""Where the data come from whose texts are ours to give away."""


def may_show(run: Run, texts: Texts) -> bool:
    """Whether the texts of the sets that a run was evaluated on, its own data's, may be shown."""
    data = run.info.config.get("data")
    made_by = str(data.get("_target_", "")) if isinstance(data, Mapping) else ""
    return texts == "all" or (texts == "ours" and made_by.startswith(GENERATED))


def without_texts(run: Run) -> Run:
    """Ids and verdicts. A length in words that the texts alone would give is lost with them, where
    a record has none in tokens."""
    blank = {
        key: [replace(one, prompt="", reference="", answer="") for one in records]
        for key, records in run.evaluations.items()
    }
    return replace(run, evaluations=blank)


def texts_of_one_seed(runs: Sequence[Run]) -> list[Run]:
    """The runs, texts left out of all but the lowest seed of each configuration: nothing shows
    more, and they are most of what records weigh. Kept where a score needs them: records without
    lengths in tokens, or without how often an answer repeats itself."""
    lowest: dict[Path, int] = {}
    for run in runs:
        place = run.folder.parent
        lowest[place] = min(run.info.seed, lowest.get(place, run.info.seed))
    return [
        run
        if run.info.seed == lowest[run.folder.parent] or _needs_texts(run)
        else without_texts(run)
        for run in runs
    ]


def _needs_texts(run: Run) -> bool:
    every = (one for records in run.evaluations.values() for one in records)
    return any(one.reference_tokens is None or one.distinct_1 is None for one in every)


def copy_all(
    runs: Sequence[Run],
    unfinished: Mapping[Path, str],
    folder: Path,
    output: Path,
) -> None:
    """What a report is made of, from the folder of the runs to below its own."""
    if (folder / CAVEAT).exists():
        (output / CAVEAT).write_bytes((folder / CAVEAT).read_bytes())
    for run in runs:
        _copy_records(run, output / run.folder.relative_to(folder))
    for partial, reason in unfinished.items():
        _copy_reason(partial, output / partial.relative_to(folder), reason)


def _copy_records(run: Run, target: Path) -> None:
    if target.resolve() == run.folder.resolve():
        raise UserError(
            f"{target}: --records would write over the runs themselves; give an --output outside"
            " the folder"
        )
    target.mkdir(parents=True, exist_ok=True)
    (target / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    for name in ("steps.jsonl", "probes.jsonl", "timing.jsonl", "lm_eval.jsonl"):
        if (path := plain_or_gz(run.folder / name)).exists():
            write_lines(target / f"{name}.gz", read_lines(path))
    for path in prompt_files(run.folder):
        (target / path.name).write_bytes(path.read_bytes())
    for (name, reward), records in run.evaluations.items():
        write_lines(target / "evaluations" / f"{name}-{reward}.jsonl.gz", records)


def _copy_reason(partial: Path, target: Path, reason: str) -> None:
    assert target.name.endswith(PARTIAL)
    target.mkdir(parents=True, exist_ok=True)
    if (partial / "config.yaml").is_file():
        (target / "config.yaml").write_bytes((partial / "config.yaml").read_bytes())
    (target / "error.txt").write_text(reason + "\n", encoding="utf-8")
