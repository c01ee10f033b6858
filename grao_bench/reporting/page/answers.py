"""What the page's browser of answers holds: the recorded answers, or ids and verdicts alone, as
much as fits by a stated rule."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grao_bench.core.records import EvalRecord, Run, first_answers
from grao_bench.reporting.gather.cells import Cell, EvalKey
from grao_bench.reporting.gather.order import set_order
from grao_bench.reporting.gather.roles import BASE

MOST_BYTES = 1_000_000
"""All answers of a page together, so that the page of a large sweep stays under 5 MB."""

Link = Callable[[Path], str]


def answer_sets(
    cells: Sequence[Cell], link: Link, most: int = MOST_BYTES, seed: int = 0
) -> list[dict[str, Any]]:
    """A dict per set and judge, for JSON: name, reward, total (prompts judged), rule, prompts and
    methods.

    prompts: [id, prompt, reference] each, texts empty where none were recorded. methods: name,
    trained_on, seed, run (a link), base (the index of its base's entry, or null) and answers, in
    the order of the prompts: [verdict, reward, tokens, finished, text] or null. Each method speaks
    through its lowest seed and its first answer to a prompt. As many prompts are kept, drawn with
    `seed`, as fit an equal share of `most` bytes.
    """
    keys = sorted(
        {key for cell in cells for run in cell.runs for key in run.evaluations},
        key=lambda key: (set_order(key[0]), key[1]),
    )
    return [found for key in keys if (found := _set(cells, key, link, most // len(keys), seed))]


def _set(
    cells: Sequence[Cell], key: EvalKey, link: Link, most: int, seed: int
) -> dict[str, Any] | None:
    speakers = [
        (cell, run)
        for cell in cells
        if (run := next((run for run in cell.runs if run.evaluations.get(key)), None))
    ]
    if not speakers:
        return None
    answers = [
        {record.example_id: record for record in first_answers(run.evaluations[key])}
        for _, run in speakers
    ]
    first = _with_prompts(answers)
    ids = sorted(first)
    random.Random(seed).shuffle(ids)
    prompts, columns = _within(ids, first, answers, most)
    kept = len(prompts)
    order = sorted(range(kept), key=lambda i: str(prompts[i][0]))
    some = f"{kept} of {len(ids)} prompts, drawn with seed {seed} to keep the page small"
    drawn = some if kept < len(ids) else f"all {kept} prompts"
    told = any(record.answer for one in answers for record in one.values())
    texts = "" if told else "; the records hold ids and verdicts, no texts"
    return {
        "name": key[0],
        "reward": key[1],
        "total": len(ids),
        "rule": f"{drawn}; the first answers of each method's lowest seed{texts}",
        "prompts": [prompts[i] for i in order],
        "methods": [
            {
                "name": cell.label,
                "model": cell.model,
                "trained_on": cell.data if cell.trained else "",
                "seed": run.info.seed,
                "run": link(run.folder),
                "base": _base_of(speakers, cell),
                "answers": [columns[i][m] for i in order],
            }
            for m, (cell, run) in enumerate(speakers)
        ],
    }


def _within(
    ids: Sequence[str],
    first: Mapping[str, EvalRecord],
    answers: Sequence[Mapping[str, EvalRecord]],
    most: int,
) -> tuple[list[list[str]], list[list[list[object] | None]]]:
    """As many prompts as take `most` bytes, one at least, and each one's answers."""
    prompts: list[list[str]] = []
    columns: list[list[list[object] | None]] = []
    size = 0
    for example_id in ids:
        prompt = [example_id, first[example_id].prompt, first[example_id].reference]
        column = [_answer(one.get(example_id)) for one in answers]
        size += len(json.dumps([prompt, column], ensure_ascii=False).encode())
        if size > most and prompts:
            break
        prompts.append(prompt)
        columns.append(column)
    return prompts, columns


def _with_prompts(answers: Sequence[Mapping[str, EvalRecord]]) -> dict[str, EvalRecord]:
    """A record of each id, one with its prompt where there is one."""
    first: dict[str, EvalRecord] = {}
    for one in answers:
        for example_id, record in one.items():
            if example_id not in first or (record.prompt and not first[example_id].prompt):
                first[example_id] = record
    return first


def _answer(record: EvalRecord | None) -> list[object] | None:
    if record is None or record.excluded:
        return None
    return [
        record.verdict,
        round(record.reward, 4),
        record.num_tokens,
        int(record.finished),
        record.answer,
    ]


def _base_of(speakers: Sequence[tuple[Cell, Run]], cell: Cell) -> int | None:
    if cell.objective == BASE:
        return None
    same = (
        i
        for i, (one, _) in enumerate(speakers)
        if one.objective == BASE and one.base_fingerprint == cell.base_fingerprint
    )
    return next(same, None)
