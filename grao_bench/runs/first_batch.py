"""first_batch.txt: what a run rendered, sampled and trained on at its first step, for a person to
read. It looks at the batch that the loss is computed on, after everything was filled in, and at
nothing else, so that what it shows is what was trained on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from torch import Tensor

from grao_bench.core.types import Batch, Example
from grao_bench.runs.cell import Cell
from grao_bench.text.shown import Shown, quoted

PROMPTS = 3
"""How many prompts are shown, with all their answers."""
_WIDTH = 100
"""Columns of the lines of ids."""


def first_batch(cell: Cell, batch: Batch) -> str:
    """The page of a cell's batch, as the objective's `prepare` left it."""
    page = Shown(cell.codec)
    known = {example.id: example for example in cell.examples}
    lines = [*_head(cell, batch, page)]
    for row in range(min(PROMPTS, batch.size)):
        lines += ["", *_prompt(cell, batch, page, row, known[batch.ids[row]])]
    return "\n".join(lines) + "\n"


def _head(cell: Cell, batch: Batch, page: Shown) -> Iterator[str]:
    experiment, sampling = cell.experiment, cell.collector.sampling
    objective, codec = experiment.objective, cell.codec
    what = f"objective {objective.name}, model {experiment.model.name}, data {experiment.data.name}"
    yield f"Step {batch.step} of {batch.steps}: {what}, seed {experiment.seed}"
    shown = f"{min(PROMPTS, batch.size)} of {batch.size} prompts"
    yield f"{shown}, each with its {len(batch.slots)} answers ({_slots(batch.slots)})"
    yield ""
    yield "⟦ ⟧  tokens that are trained on; everything before them is read, never trained on"
    yield "‹ ›  a control token; without these marks it is text that spells one"
    ends = ", ".join(f"{page.name(token)} ({token})" for token in codec.stop_tokens)
    yield f"format {codec.prompt_format}; an answer ends with {page.name(codec.end_token)}"
    yield f"sampling stops at {ends}"
    if objective.needs.rollouts:
        whole = f"top_p {sampling.top_p:g}, top_k {sampling.top_k}, min_p {sampling.min_p:g}"
        yield f"rollouts are drawn at temperature {sampling.temperature:g}, {whole}"
        if sampling.stop:
            yield f"they also end before {' or '.join(map(repr, sampling.stop))}"
    heat = cell.trainer.policy.logp_temperature
    yield f"the loss's log-probabilities are at temperature {heat:g}"
    budget = experiment.budget
    limits = f"prompts {budget.max_prompt_tokens} tokens, answers {budget.max_answer_tokens}"
    yield f"longest: {limits}; over the whole set {cell.lengths.prompts_cut} prompts were cut"
    if batch.step <= objective.updates.value_only_steps:
        yield "at this step only the value head moves"


def _slots(slots: Sequence[str]) -> str:
    counts = {name: slots.count(name) for name in slots}
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _prompt(cell: Cell, batch: Batch, page: Shown, row: int, example: Example) -> Iterator[str]:
    prompt = batch.prompts[row][batch.prompt_mask[row]].tolist()
    codec = page.codec
    counter = codec.counting_anew()
    counter.prompt(example.id, example.prompt)
    cut = ", CUT to the longest allowed" if counter.truncation.truncated_prompts else ""
    told = _columns(batch, row, None)
    yield f"===== prompt {row + 1}: {example.id}, {len(prompt)} tokens{cut}{told}"
    yield quoted(page.text([], prompt))
    for k, slot in enumerate(batch.slots):
        tokens = batch.tokens[row, k][batch.mask[row, k]].tolist()
        yield ""
        ending = _ending(cell, batch, page, (row, k), tokens)
        yield f"--- answer {k + 1} of {len(batch.slots)}, {slot}: {len(tokens)} tokens, {ending}"
        if told := _columns(batch, row, k, _unasked(cell, slot)):
            yield f"    {told.removeprefix(', ')}"
        yield quoted(f"⟦{page.text(prompt, tokens)}⟧")
        around = page.end_of(prompt)
        spelt = f"ids ... {around}  ⟦  {page.ids(tokens)}  ⟧"
        yield textwrap.fill(
            spelt,
            _WIDTH,
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _ending(
    cell: Cell,
    batch: Batch,
    page: Shown,
    place: tuple[int, int],
    tokens: Sequence[int],
) -> str:
    """Whether the answer has its end, and which; or why it has none."""
    if bool(batch.finished[place]):
        end = tokens[-1] in page.codec.stop_tokens
        return f"finished with {page.name(tokens[-1])}" if end else "finished before a stop string"
    limit = cell.experiment.budget.max_answer_tokens
    slot = batch.slots[place[1]]
    if slot != "rollout":
        judged = "rewards" in batch and "rewards" not in _unasked(cell, slot)
        whole = "; judged on its whole text" if judged else ""
        return f"CUT at {limit} tokens, no end token{whole}"
    return f"NOT FINISHED within {limit} tokens" if len(tokens) >= limit else "NOT FINISHED"


def _unasked(cell: Cell, slot: str) -> frozenset[str]:
    """The columns that say nothing of such an answer: what nobody asked, or told, of it."""
    judged = {one.name for one in cell.experiment.objective.needs.data_slots if one.judged}
    if slot == "rollout":
        return frozenset()
    return frozenset({"sampler_logp"} if slot in judged else {"sampler_logp", "rewards"})


def _columns(batch: Batch, row: int, k: int | None, skip: frozenset[str] = frozenset()) -> str:
    """ ", name value" of every filled column of a prompt (k None) or of one of its answers, by
    name: a number, or the mean over the answer's tokens and between what they lie."""
    first = {"rewards": "reward", "advantages": "advantage"}
    told = ""
    for name in (*first, *(one for one in batch.filled if one not in first)):
        column = batch.filled.get(name)
        if column is not None and (column.dim() == 1) == (k is None) and name not in skip:
            value = f"{float(column[row]):.4g}" if k is None else _said(batch, column, row, k)
            told += f", {first.get(name, name)} {value}"
    return told


def _said(batch: Batch, column: Tensor, row: int, k: int) -> str:
    values = column[row, k]
    if values.dim() == 0 or values.shape[-1] == 1:
        return f"{values.item():.4g}"
    some = values[batch.mask[row, k]].double()
    low, high = f"{some.min().item():.4g}", f"{some.max().item():.4g}"
    between = "" if low == high else f" ({low} to {high})"
    return f"{some.mean().item():.4g}{between} a token"
