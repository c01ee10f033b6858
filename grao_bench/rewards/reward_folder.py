"""What a reward model's folder says of its training: how it reads, and which pairs it has seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.pair_accuracy import PairAccuracy, read_accuracy
from grao_bench.core.types import Example
from grao_bench.core.values import check_types
from grao_bench.text.dialogue import render

PairFormat = Literal["hh", "chat", "pair"]
"""A policy's prompt formats, and `pair`: dialogue and answer as the tokenizer's two segments."""
RECORD_FILE, CONFIG_FILE, PAIRS_FILE = "reward_model.json", "config.yaml", "pairs.json"
ACCURACY_FILE = "pair_accuracy.json"


@dataclass(frozen=True, kw_only=True)
class TrainedAs:
    """How a reward model was trained to read, so that it is asked in the same way.

    max_tokens: prompt and answer together. dtype: of its weights. end_token: the id that ends an
    answer, and end_text its text, by which another tokenizer is noticed. chat_template: a digest
    of the tokenizer's, for the format chat. started_from: the fingerprint of the first weights, new
    head included. All but the first two are None in folders of before they were recorded.
    """

    prompt_format: PairFormat
    max_tokens: int
    dtype: str | None = None
    end_token: int | None = None
    end_text: str | None = None
    chat_template: str | None = None
    started_from: str | None = None

    def write(self, folder: Path) -> None:
        """Leave it in the reward model's folder."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        (folder / RECORD_FILE).write_text(text, encoding="utf-8")


def template_digest(tokenizer: Any, prompt_format: PairFormat) -> str | None:
    """16 hex digits of the chat template that prompts go through; None where they go through
    none."""
    if prompt_format != "chat":
        return None
    return hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()[:16]


def read_record(path: str) -> TrainedAs | None:
    """How the reward model in a folder was trained; None for a hub id, or a folder that
    train_reward did not write. UserError for a file that can't be read."""
    folder = Path(path)
    try:
        if (folder / RECORD_FILE).is_file():
            text = (folder / RECORD_FILE).read_text(encoding="utf-8")
            return _checked(TrainedAs(**json.loads(text)))
        if (folder / CONFIG_FILE).is_file():  # of before there was a record
            config = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            read_as = config["model"]["prompt_format"]
            return _checked(TrainedAs(prompt_format=read_as, max_tokens=config["max_tokens"]))
    except (ValueError, TypeError, KeyError, RecursionError, UserError, yaml.YAMLError) as error:
        what = f"{folder}: what it says of its training can't be read ({error})"
        raise UserError(f"{what}; was it written by another version? Train it anew") from None
    return None


def _checked(record: TrainedAs) -> TrainedAs:
    """The record; UserError for a value that can't be, which a hand may have written."""
    check_types(record)
    if record.max_tokens < 2:
        raise UserError(f"max_tokens={record.max_tokens}: must be at least 2")
    return record


def write_accuracy(folder: Path, found: PairAccuracy) -> None:
    """Leave beside a reward model how it does on held-out pairs."""
    text = json.dumps(asdict(found), indent=1) + "\n"
    (folder / ACCURACY_FILE).write_text(text, encoding="utf-8")


def accuracy_of(path: str) -> PairAccuracy | None:
    """How the reward model in a folder does on held-out pairs; None for a hub id, or a folder that
    does not say. UserError for a file that can't be read."""
    file = Path(path) / ACCURACY_FILE
    if not file.is_file():
        return None
    try:
        found = read_accuracy(json.loads(file.read_text(encoding="utf-8")))
        check_types(found)
    except (ValueError, TypeError, AttributeError, RecursionError, UserError) as error:
        what = f"{file}: does not say how a reward model does on held-out pairs ({error})"
        raise UserError(f"{what}; remove it, or train its model anew") from None
    return found


def pair_digest(example: Example) -> str:
    """16 hex digits over a pair's texts, whatever its id: the same pair in two sets has the same
    digest."""
    text = json.dumps([render(example.prompt), example.chosen, example.rejected])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_pairs(folder: Path, pairs: Iterable[Example], half: str) -> None:
    """Leave beside a reward model which pairs it was trained on: digests alone, no text."""
    digests = sorted({pair_digest(example) for example in pairs})
    text = json.dumps({"half": half, "pairs": digests}) + "\n"
    (folder / PAIRS_FILE).write_text(text, encoding="utf-8")


def shared_pairs(one: Path, other: Path) -> int:
    """How many training pairs two reward models' folders share; UserError where one does not say
    what it was trained on."""
    found = []
    for folder in (one, other):
        file = folder / PAIRS_FILE
        if not file.is_file():
            what = f"{folder}: holds no {PAIRS_FILE}, so nothing shows what it was trained on"
            raise UserError(f"{what}; train it with grao_bench.train_reward")
        try:
            found.append(set(json.loads(file.read_text(encoding="utf-8"))["pairs"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            what = f"{file}: is no list of training pairs ({type(error).__name__}: {error})"
            raise UserError(f"{what}; train its model anew") from None
    return len(found[0] & found[1])


def require_disjoint(one: Path, other: Path) -> None:
    """UserError if two reward models share training pairs."""
    count = shared_pairs(one, other)
    if count:
        raise UserError(
            f"reward.path={one}: shares {count} training pairs with {other} "
            "(reward.disjoint_from); train one with half=training and the other with half=evaluation"
        )
