"""Any preference set in JSON lines: prompt, chosen and (for pairs) rejected, each as text or as messages."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grao_bench.data.lines import RowError, check_text, locate, read_rows, text_field
from grao_bench.data.pairs import Fault, check_fraction, documents, find_fault, held_out, limit, position, without
from grao_bench.dialogue import OPENING, render, split_turns
from grao_bench.errors import UserError
from grao_bench.interfaces import Dataset
from grao_bench.types import Example, Turn

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class JsonlData:
    """Rows {"prompt", "chosen", "rejected"} of .jsonl or .jsonl.gz files; "rejected" may be absent or null.

    A prompt is a text (one user turn; a whole prompt in HH format, "\\n\\nHuman: ...\\n\\nAssistant:", is split into its turns) or a
    list of messages {"role": system | user | assistant, "content": text} that ends with the user's. An answer is a text, or a list
    that holds one assistant message, alone or after the prompt's own messages.

    Where `test` or `dev` is null it is cut from `train` by the hash of the prompt (`test_fraction` and `dev_fraction` of the
    prompts), so equal prompts are never on two sides. Training rows whose prompt is in a dev or test file of its own are left out.
    Rows left out are counted by reason (`pairs.Fault`). An id is `<name>-<file>-<row from 0>`. `max_examples` limits each split.
    """

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
        """The training dialogues in HH text format, one document for each answer (chosen, and rejected where there is one)."""
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
                prompt, chosen, rejected = read_row(row)
            except RowError as error:
                raise UserError(f"{locate(path, number)}: {error}") from None
            fault = find_fault(prompt, chosen, rejected)
            if fault:
                dropped[fault] += 1
            else:
                examples.append(Example(f"{self.name}-{split}-{number:05d}", prompt, chosen, rejected, self.name))
        return examples


def read_row(row: dict[str, Any]) -> tuple[tuple[Turn, ...], str, str | None]:
    """Prompt, chosen and rejected of one row, stripped; RowError says what is wrong with it."""
    if "prompt" not in row and isinstance(row.get("chosen"), str) and split_turns(row["chosen"]):
        raise RowError('no "prompt", and "chosen" is a whole dialogue in HH format; use data=hh_helpful or data=hh_harmless with data.path')
    prompt = _read_prompt(row)
    if "chosen" not in row:
        text_field(row, "chosen")
    rejected = row.get("rejected")
    return prompt, _read_answer(row["chosen"], "chosen", prompt), None if rejected is None else _read_answer(rejected, "rejected", prompt)


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
