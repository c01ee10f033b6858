"""python -m grao_bench.data FILE_OR_HUB_ID [data.* ...]: what a set would be read as, before
anything is trained on it: rows, what is left out, lengths, examples, and which objectives fit."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from grao_bench.cli.command_line import composed, quiet_transformers, quit_with, to_value
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.types import Example
from grao_bench.data.sources import SUFFIXES
from grao_bench.data.unpacking import COMPRESSED
from grao_bench.runs.fit import lacks
from grao_bench.text.shown import Shown, quoted
from grao_bench.text.tokens import TextCodec

SPLITS = ("train", "dev", "test")
MOST = 2000
"""Examples of a split that lengths are taken of: of more, so many at even distances."""
_SHOWN, _LETTERS, _WIDTH = 3, 1500, 100
"""Examples that are shown; characters of a text that are shown; columns where nobody looks."""


@dataclass(frozen=True)
class Reader:
    """How a model reads: its codec, and the longest prompt and answer of the budget."""

    codec: TextCodec
    max_prompt_tokens: int
    max_answer_tokens: int

    @property
    def whole(self) -> TextCodec:
        """The codec without a limit on prompts."""
        codec = self.codec.counting_anew()
        codec.max_prompt_tokens = sys.maxsize
        return codec


def parser() -> argparse.ArgumentParser:
    """Of the command line; its options and sets may stand in any order."""
    made = argparse.ArgumentParser(
        prog="python -m grao_bench.data",
        description="Shows what a set would be read as: rows, what is left out and why, lengths, "
        "three examples with what is trained on, and the objectives that fit.",
        epilog="Options as train takes them: data.columns.prompt=question data.test=held_out.csv "
        "budget.max_answer_tokens=512 model.prompt_format=hh. A set by its name: data=hh_helpful.",
    )
    made.add_argument("what", nargs="*", metavar="FILE_OR_HUB_ID, data.*=...")
    made.add_argument("--model", help="a folder, GGUF file or hub id: lengths in its tokens")
    return made


def main() -> None:
    """The command line."""
    asked = parser().parse_intermixed_args()
    quiet_transformers()
    logging.getLogger("grao_bench.data").setLevel(logging.WARNING)  # what it says is shown below
    try:
        overrides = data_overrides(asked.what)
        data, reader = _values(overrides, asked.model)
        show(data.build(), reader, overrides, Console(width=_width(), highlight=False))
    except UserError as error:
        quit_with(error)


def _width() -> int | None:
    return None if sys.stdout.isatty() else _WIDTH


def data_overrides(words: Sequence[str]) -> list[str]:
    """Overrides for `train`: of a path or a hub id, and those that are given as such. UserError
    where there is no set, or there are two."""
    given = [word for word in words if re.match(r"[+~]*[\w.@/]+=", word)]
    named = [word for word in words if word not in given]
    chosen = [word for word in given if word.startswith(("data=", "+data="))]
    if len(named) + len(chosen) != 1:
        what = " ".join(named + chosen) or "nothing"
        fix = "give a file, a folder, a hub id, or data=<name>"
        raise UserError(f"one set at a time, and {what} was given; {fix}")
    if chosen:
        return given
    (name,) = named
    key, kind = ("data.id", "hub") if _is_hub_id(name) else ("data.train", "files")
    return [f"data={kind}", f"{key}={_quoted_word(name)}", *given]


def _is_hub_id(name: str) -> bool:
    """Whether this can only be meant as a set on the hub: no file, and no name of one."""
    if Path(name).expanduser().exists() or has_magic(name):
        return False
    ends = name.lower().endswith((*SUFFIXES, *COMPRESSED, ".txt", ".tsv"))
    return not ends and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None


def _quoted_word(word: str) -> str:
    """A text as a value of the command line's grammar."""
    if re.fullmatch(r"[\w./:-]+", word):
        return word
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _values(overrides: Sequence[str], model: str | None) -> tuple[Any, Reader | None]:
    """The data's spec, and how the model reads where one is asked for."""
    wanted = [] if model is None else ["model=hf", f"model.path={_quoted_word(model)}"]
    cfg = composed("train", [*wanted, *overrides])
    data = to_value(cfg.data, key="data")
    if not wanted and not any(word.startswith("model") for word in overrides):
        return data, None
    from grao_bench.models.build import load_codec  # heavy, and not needed without a model

    spec, budget = to_value(cfg.model, key="model"), to_value(cfg.budget)
    codec = load_codec(spec, budget.max_prompt_tokens)
    return data, Reader(codec, budget.max_prompt_tokens, budget.max_answer_tokens)


def show(
    dataset: Dataset,
    reader: Reader | None,
    overrides: Sequence[str],
    console: Console,
) -> None:
    """Print what was read."""

    def say(text: str = "") -> None:
        console.print(text, markup=False, soft_wrap=True)

    for note in dataset.notes:
        say(note)
    console.print(_sizes(dataset, reader))
    left = {reason: count for reason, count in dataset.dropped.items() if count}
    told = ", ".join(f"{count} {reason}" for reason, count in left.items())
    say(f"left out: {told or 'nothing'}")
    if reader is not None:
        for line in _over(dataset, reader):
            say(line)
    for line in _examples(dataset.train, reader):
        say(line)
    say()
    for line in _fits(dataset, overrides):
        say(line)


def _sizes(dataset: Dataset, reader: Reader | None) -> Table:
    """Rows of each split, and the lengths of what its rows hold."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    unit = "words" if reader is None else "tokens"
    for title in ("split", "rows", "of which", "have", f"{unit}: median", "95%", "longest"):
        table.add_column(title, justify="left" if title in ("split", "of which") else "right")
    for split in SPLITS:
        examples: Sequence[Example] = getattr(dataset, split)
        rows = [f"{split}", f"{len(examples)}"]
        for what, counts in _lengths(_some(examples), reader).items():
            have = len(examples)
            if what != "prompt":
                have = sum(bool(_texts(one)[what]) for one in examples)
            numbers = statistics.median_low(counts), _percentile(counts, 95), max(counts)
            table.add_row(*rows, what, f"{have}", *map(str, numbers))
            rows = ["", ""]
    return table


def _some(examples: Sequence[Example]) -> Sequence[Example]:
    return examples[:: max(1, -(-len(examples) // MOST))]


def _percentile(counts: Sequence[int], percent: int) -> int:
    """The smallest number that at least so many percent of them do not exceed."""
    return sorted(counts)[-(-percent * len(counts) // 100) - 1]


def _texts(example: Example) -> dict[str, tuple[str, ...]]:
    """What a row holds beside its prompt, by the slot's name."""
    own = {"chosen": example.chosen, "rejected": example.rejected}
    found = {name: () if text is None else (text,) for name, text in own.items()}
    return found | {"demonstration": example.demonstrations}


def _lengths(examples: Sequence[Example], reader: Reader | None) -> dict[str, list[int]]:
    """By what it is: in tokens, an answer with its end token; or in words."""
    found: dict[str, list[int]] = {what: [] for what in ("prompt", "chosen", "rejected")}
    codec = None if reader is None else reader.whole
    for example in examples:
        prompt = None if codec is None else codec.prompt(example.id, example.prompt)
        words = sum(len(turn.text.split()) for turn in example.prompt)
        found["prompt"].append(words if prompt is None else len(prompt.tokens))
        for what, texts in _texts(example).items():
            for text in texts:
                count = len(text.split())
                if codec is not None and prompt is not None:
                    count = len(codec.answer(prompt, text, sys.maxsize).tokens)
                found.setdefault(what, []).append(count)
    return {what: counts for what, counts in found.items() if counts}


def _over(dataset: Dataset, reader: Reader) -> Iterator[str]:
    """What the budget would cut, of the training examples that were looked at."""
    some = _some(dataset.train)
    limits = {"prompt": reader.max_prompt_tokens}
    for what, counts in _lengths(some, reader).items():
        most = limits.get(what, reader.max_answer_tokens)
        key = "max_prompt_tokens" if what == "prompt" else "max_answer_tokens"
        over = sum(count > most for count in counts)
        if over:
            share = f"{over} of {len(counts)} {what} texts of train"
            yield f"{share} are longer than budget.{key}={most} and would be cut"


def _examples(examples: Sequence[Example], reader: Reader | None) -> Iterator[str]:
    """The first example, the one in the middle, and the one with the longest prompt."""
    longest = max(range(len(examples)), key=lambda i: sum(len(t.text) for t in examples[i].prompt))
    yield ""
    yield "⟦ ⟧ is trained on by an objective that learns from this answer; the rest is read"
    if reader is not None:
        yield "‹ › is a control token; without these marks it is text that spells one"
    for at in sorted({0, len(examples) // 2, longest})[:_SHOWN]:
        yield ""
        yield f"--- {examples[at].id}"
        yield from _plain(examples[at]) if reader is None else _rendered(examples[at], reader)


def _plain(example: Example) -> Iterator[str]:
    for turn in example.prompt:
        yield quoted(f"{turn.role}: {_cut(turn.text)}")
    for what, texts in _texts(example).items():
        for text in texts:
            yield f"{what}:"
            yield quoted(f"⟦{_cut(text)}⟧")
    yield from _rest(example)


def _rendered(example: Example, reader: Reader) -> Iterator[str]:
    """As the model reads it, within the budget's limits."""
    page, codec = Shown(reader.codec), reader.codec.counting_anew()
    prompt = codec.prompt(example.id, example.prompt)
    cut = ", cut to fit" if codec.truncation.truncated_prompts else ""
    yield f"prompt, {len(prompt.tokens)} tokens{cut}:"
    yield quoted(_cut(page.text([], prompt.tokens)))
    for what, texts in _texts(example).items():
        for text in texts:
            answer = codec.answer(prompt, text, reader.max_answer_tokens)
            cut = "" if answer.finished else ", cut: no end token"
            yield f"{what}, {len(answer.tokens)} tokens{cut}:"
            yield quoted(f"⟦{_cut(page.text(prompt.tokens, answer.tokens))}⟧")
    yield from _rest(example)


def _rest(example: Example) -> Iterator[str]:
    if example.label is not None:
        yield f"label: {'good' if example.label else 'bad'}"
    if example.metadata:
        yield f"further columns: {', '.join(example.metadata)}"


def _cut(text: str) -> str:
    """The text, of a long one both ends."""
    if len(text) <= _LETTERS:
        return text
    half = _LETTERS // 2
    return f"{text[:half]}[... {len(text) - 2 * half} more characters ...]{text[-half:]}"


def _fits(dataset: Dataset, overrides: Sequence[str]) -> Iterator[str]:
    """Which objectives the training examples have everything for, and what the others lack."""
    missing = lacks(dataset)
    fit = [name for name, slots in missing.items() if not slots]
    yield f"objectives that fit: {', '.join(fit) or 'none of conf/'}"
    for slots in dict.fromkeys(slots for slots in missing.values() if slots):
        names = ", ".join(name for name, lacking in missing.items() if lacking == slots)
        yield f"no {' or '.join(slots)} answer in every row, so not: {names}"
    if any(one.chosen is None for one in dataset.train):
        need = "reward_model in mode score, python, functions, or verifiable with reward.column"
        yield f"rows without a chosen answer need a reward that compares with none: {need}"
    if fit:
        yield f"train: {shlex.join(['python', '-m', 'grao_bench.train', *overrides])} objective=..."
