"""Any set in JSON lines: prompts alone, or with answers to them, each as text or as messages."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from grao_bench.data.lines import RowError, check_text, locate, read_rows, text_field
from grao_bench.data.pairs import Fault, check_fraction, documents, find_fault, held_out, limit, position, without
from grao_bench.dialogue import OPENING, render, split_turns
from grao_bench.errors import UserError
from grao_bench.interfaces import Dataset
from grao_bench.types import SLOTS, Example, Turn

_ROLES = ("system", "user", "assistant")
_OWN = ("prompt", "chosen", "rejected", "demonstrations")
"""Columns with a meaning here; any other is an example's metadata."""


@dataclass(frozen=True)
class JsonlData:
    """Rows of .jsonl or .jsonl.gz files. "prompt" is all that a row must have; what is absent or
    null the set does not know:

        "chosen"                   a reference answer
        "chosen", "rejected"       a pair
        "demonstrations"           a list of answers by others
        "completion", "label"      one answer, and whether it is good (true) or bad (false)

    Any other column becomes the example's metadata, as it is: reward functions get it by its name.

    A prompt is a text (one user turn; a whole prompt in HH format, "\\n\\nHuman: ...\\n\\nAssistant:", is split into its turns) or a
    list of messages {"role": system | user | assistant, "content": text} that ends with the user's. An answer is a text, or a list
    that holds one assistant message, alone or after the prompt's own messages.

    Where `test` or `dev` is null it is cut from `train` by the hash of the prompt (`test_fraction` and `dev_fraction` of the
    prompts), so equal prompts are never on two sides. Training rows whose prompt is in a dev or test file of its own are left out.
    Rows left out are counted by reason (`pairs.Fault`). An id is `<name>-<file>-<row from 0>`. `max_examples` limits each split.
    """

    provides: ClassVar[frozenset[str]] = frozenset(slot.name for slot in SLOTS)

    name: str
    train: str
    dev: str | None
    test: str | None
    dev_fraction: float
    test_fraction: float
    seed: int
    max_examples: int | None

    def build(self) -> Dataset:
        """Reads the files; UserError names the file and line of a row that does not fit, or the split that is empty."""
        splits, dropped = self._splits()
        train, dev, test = (limit(splits[split], self.max_examples, self.seed) for split in ("train", "dev", "test"))
        return Dataset(self.name, self.name, train, dev, test, {fault.value: dropped[fault] for fault in Fault})

    def corpus(self) -> list[str]:
        """The training dialogues in HH text format: see `pairs.documents`."""
        return documents(self._splits()[0]["train"])

    def siblings(self) -> tuple[JsonlData, ...]:
        """Itself alone."""
        return (self,)

    def _splits(self) -> tuple[dict[str, list[Example]], Counter[str]]:
        """All examples by split, and how many rows were left out by reason."""
        dev_share = 0.0 if self.dev else self.dev_fraction
        test_share = 0.0 if self.test else self.test_fraction
        check_fraction("dev_fraction", dev_share)
        check_fraction("test_fraction", test_share)
        check_fraction("dev_fraction + data.test_fraction", dev_share + test_share)

        dropped: Counter[str] = Counter(dict.fromkeys(Fault, 0))
        splits: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
        for split, file in (("dev", self.dev), ("test", self.test)):
            if file:
                splits[split] = self._read(file, split, dropped)
        keys = held_out(splits["dev"] + splits["test"], _prompt)
        for example in without(self._read(self.train, "train", dropped), keys, _prompt, dropped):
            place = position(_prompt(example), self.seed, "split")
            splits["test" if place < test_share else "dev" if place < test_share + dev_share else "train"].append(example)
        for split, examples in splits.items():
            if not examples:
                fix = "add rows" if split == "train" else f"raise data.{split}_fraction, add rows or give data.{split}"
                raise UserError(f"{self.train}: no rows are left for {split}; {fix}")
        return splits, dropped

    def _read(self, file: str, split: str, dropped: Counter[str]) -> list[Example]:
        """The examples of one file; rows left out are added to `dropped`."""
        path = Path(file).expanduser()
        examples = []
        for number, row in enumerate(read_rows(path)):
            try:
                example = read_row(row, f"{self.name}-{split}-{number:05d}", self.name)
            except RowError as error:
                raise UserError(f"{locate(path, number)}: {error}") from None
            answers = example.chosen, example.rejected, example.demonstrations
            fault = find_fault(example.prompt, *answers)
            if fault:
                dropped[fault] += 1
            else:
                examples.append(example)
        return examples


def read_row(row: dict[str, Any], id: str = "", subset: str = "") -> Example:
    """The example of one row, its texts stripped; RowError says what is wrong with it."""
    if "prompt" not in row and isinstance(row.get("chosen"), str) and split_turns(row["chosen"]):
        raise RowError('no "prompt", and "chosen" is a whole dialogue in HH format; use data=hh_helpful or data=hh_harmless with data.path')
    prompt = _read_prompt(row)
    chosen, rejected = (_read_optional(row, key, prompt) for key in ("chosen", "rejected"))
    if rejected is not None and chosen is None:
        raise RowError('"rejected" without "chosen"; add it, or give one answer as "completion" with "label": false')
    given, label = row.get("demonstrations") or [], None
    own: tuple[str, ...] = _OWN
    if not isinstance(given, list):
        raise RowError(f'"demonstrations" is {type(given).__name__}; it must be a list of answers')
    if row.get("completion") is not None:
        label = _read_label(row)
        own = (*own, "completion", "label")
        completion = _read_answer(row["completion"], "completion", prompt)
        chosen, rejected = (completion, None) if label else (None, completion)
    return Example(
        id,
        prompt,
        chosen,
        rejected,
        subset,
        demonstrations=tuple(_read_answer(one, f"demonstrations[{i}]", prompt) for i, one in enumerate(given)),
        label=label,
        metadata={key: value for key, value in row.items() if key not in own},
        conversational=isinstance(row.get("prompt"), list),
    )


def _read_label(row: dict[str, Any]) -> bool:
    """The label of a row with a completion."""
    if row.get("chosen") is not None or row.get("rejected") is not None:
        fix = "a row has one labelled answer, or a pair"
        raise RowError(f'"completion" beside "chosen" or "rejected"; {fix}')
    label = row.get("label")
    if not isinstance(label, bool):
        fix = 'an answer without one is "chosen"'
        raise RowError(f'"completion" needs "label": true or false; {fix}')
    return label


def _read_optional(row: dict[str, Any], key: str, prompt: tuple[Turn, ...]) -> str | None:
    return None if row.get(key) is None else _read_answer(row[key], key, prompt)


def _prompt(example: Example) -> str:
    return render(example.prompt)


def _read_prompt(row: dict[str, Any]) -> tuple[Turn, ...]:
    if isinstance(row.get("prompt"), list):
        turns = _messages(row["prompt"], "prompt")
        if not turns or turns[-1].role != "user":
            raise RowError('"prompt" does not end with a message by the user; move the answer to "chosen"')
        return turns
    text = text_field(row, "prompt").strip()
    if text.startswith("Human:") and text.endswith(OPENING):
        return split_turns("\n\n" + text)[:-1]
    return (Turn("user", text),)


def _read_answer(value: object, key: str, prompt: tuple[Turn, ...]) -> str:
    if not isinstance(value, list):
        return check_text(value, f'"{key}"').strip()
    turns = _messages(value, key)
    if not turns or turns[-1].role != "assistant" or turns[:-1] not in ((), prompt):
        raise RowError(f'"{key}" must be one message by the assistant, alone or after the messages of "prompt"')
    return turns[-1].text


def _messages(value: list[Any], key: str) -> tuple[Turn, ...]:
    turns = []
    for index, message in enumerate(value):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise RowError(f'"{key}"[{index}] is not a message {{"role": {" | ".join(_ROLES)}, "content": text}}')
        turns.append(Turn(message["role"], check_text(message.get("content"), f'"{key}"[{index}].content').strip()))
    return tuple(turns)
