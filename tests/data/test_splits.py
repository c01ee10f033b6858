"""Splits by content: turns and spellings of one dialogue are on one side, in every set."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.data.splits import cut, dialogue_keys, normalised


def files(path: Path, rows: list[dict[str, object]], **changed: object) -> Dataset:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load("data/files", train=str(path), **changed).build()


def plain(example: Example) -> str:
    """The first turn by the user, its letters and digits alone."""
    return re.sub(r"\W", "", next(t.text for t in example.prompt if t.role == "user").lower())


def shared(data: Dataset) -> set[str]:
    """The first turns that stand in two splits."""
    sides = [{plain(example) for example in split} for split in (data.train, data.dev, data.test)]
    assert all(sides)
    counts = Counter(first for side in sides for first in side)
    return {first for first, count in counts.items() if count > 1}


def two_turn_rows(count: int) -> list[dict[str, object]]:
    """A row for each assistant turn of dialogues of two; the second row's prompt holds the first's
    reference."""
    rows: list[dict[str, object]] = []
    for n in range(count):
        first = {"role": "user", "content": f"Question number {n}, please"}
        answer = {"role": "assistant", "content": f"It is answer {n} of many"}
        more = {"role": "user", "content": f"And then {n}?"}
        rows.append({"prompt": [first], "chosen": answer["content"], "rejected": "no"})
        rows.append({"prompt": [first, answer, more], "chosen": f"so {n}", "rejected": "no"})
    Random(0).shuffle(rows)
    return rows


def test_turns_of_a_dialogue_are_on_one_side(tmp_path: Path) -> None:
    data = files(tmp_path / "turns.jsonl", two_turn_rows(300))
    assert shared(data) == set()
    assert len(data.train) + len(data.dev) + len(data.test) == 600
    said = {turn.text for example in data.train for turn in example.prompt}
    assert not [example for example in data.dev + data.test if example.chosen in said]
    assert 60 <= len(data.test) <= 180  # 120 +- 2.9 sd of 300 dialogues at 0.2, two rows each
    assert not data.notes[1:]


def test_spellings_of_a_question_are_on_one_side(tmp_path: Path) -> None:
    spellings = "What is topic {} about?", "what is  topic {} about", " WHAT is topic {} about ?"
    rows = [{"prompt": one.format(n), "chosen": f"a {n}"} for one in spellings for n in range(300)]
    data = files(tmp_path / "spellings.jsonl", rows)
    assert shared(data) == set()
    assert len(data.train) + len(data.dev) + len(data.test) == 900


def test_files_of_their_own_take_their_dialogues_out_of_the_others(tmp_path: Path) -> None:
    dev, test = tmp_path / "dev.jsonl", tmp_path / "test.jsonl"
    for path, texts in ((dev, ["In dev", "in both"]), (test, ["In test!", "In both?"])):
        path.write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts), encoding="utf-8")
    texts = ["in DEV", "in test", "in both ", "elsewhere", "nowhere"]
    rows = [{"prompt": text} for text in texts]
    data = files(tmp_path / "train.jsonl", rows, dev=str(dev), test=str(test))
    assert [plain(example) for example in data.train] == ["elsewhere", "nowhere"]
    assert [plain(example) for example in data.dev] == ["indev"]
    assert len(data.test) == 2
    found = {reason: count for reason, count in data.dropped.items() if count}
    expected = {"training row with a held-out prompt": 3, "dev row with a test prompt": 1}
    assert found == expected


def test_references_that_training_repeats_are_counted(tmp_path: Path) -> None:
    test = tmp_path / "test.jsonl"
    test.write_text('{"prompt": "x", "chosen": "same"}\n{"prompt": "y", "chosen": "other"}\n')
    rows = [{"prompt": f"question {n}", "chosen": "same"} for n in range(30)]
    data = files(tmp_path / "train.jsonl", rows, test=str(test))
    repeated = len(data.dev) + 1
    assert data.notes[-1].startswith(f"{repeated} of {len(data.dev) + 2} dev and test references")


def test_spellings_count_in_every_set(tmp_path: Path) -> None:
    hh = tmp_path / "helpful-base"
    hh.mkdir()
    for split, texts in (("train", [f"q {n}?" for n in range(60)]), ("test", ["Q 3", "new"])):
        dialogues = [f"\n\nHuman: {text}\n\nAssistant:" for text in texts]
        rows = [{"chosen": f"{text} a", "rejected": f"{text} b"} for text in dialogues]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (hh / f"{split}.jsonl").write_text(text, encoding="utf-8")
    data = load("data/hh_helpful", path=str(tmp_path)).build()
    assert data.dropped["training row with a held-out prompt"] == 1
    assert shared(data) == set()

    frames = ("I have {} pears?", "i HAVE {} pears")
    spellings = [frame.format(n) for frame in frames for n in range(80)]
    rows = [{"question": text, "answer": "#### 1"} for text in spellings]
    one = tmp_path / "gsm8k.jsonl"
    one.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert shared(load("data/gsm8k", path=str(one)).build()) == set()


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("What's up?", "whats  up", True),
        ("Stra\u00dfe!", "STRASSE", True),
        ("\uff21\uff22 \u200bc", "ab c", True),
        ("a,b", "a b", True),
        ("2-2", "22", False),
        ("C++", "C", False),
        ("???", "!!!", False),
        ("\u0915\u093f", "\u0915\u093e", False),  # vowel signs are no punctuation
    ],
)
def test_a_spelling_is_case_blanks_and_punctuation(one: str, other: str, equal: bool) -> None:
    assert (normalised(one) == normalised(other)) is equal


def asked(name: str, *texts: str) -> Example:
    turns = [Turn("user", text) for text in texts]
    between = [turn for text in turns for turn in (text, Turn("assistant", "yes"))]
    return Example(name, tuple(between[:-1]), "a")


def test_a_greeting_that_opens_most_dialogues_is_no_dialogue() -> None:
    examples = [asked(str(n), "hi", f"topic {n // 2}") for n in range(20)]
    keys = dialogue_keys(examples)
    assert len(set(keys)) == 10
    assert all(keys[n] == keys[n + 1] for n in range(0, 20, 2))
    # where it opens few, it is one dialogue
    others = [asked(str(n), f"question {n}", "more") for n in range(30)]
    assert len(set(dialogue_keys([*examples, *others]))) == 31
    # one long dialogue, a row for each of its turns, stays one
    chain = [asked(str(n), *(f"turn {m}" for m in range(n + 1))) for n in range(5)]
    assert len(set(dialogue_keys(chain))) == 1


def test_a_split_that_the_shares_leave_empty_gets_a_dialogue(tmp_path: Path) -> None:
    rows = [{"prompt": f"p {n}", "chosen": "a"} for n in range(3)]
    data = files(tmp_path / "few.jsonl", rows)
    assert (len(data.train), len(data.dev), len(data.test)) == (1, 1, 1)
    few = r"few\.jsonl: no rows are left for (dev|test); its 2 rows are too few"
    with pytest.raises(UserError, match=few):
        files(tmp_path / "few.jsonl", rows[:2])
    alike = r"few\.jsonl: no rows are left for train; its 40 rows are too few dialogues to cut"
    with pytest.raises(UserError, match=alike):
        files(tmp_path / "few.jsonl", rows[:1] * 40)
    files(tmp_path / "other.jsonl", rows)
    own = str(tmp_path / "few.jsonl")
    taken = r"no rows are left for train; the dialogues of its 40 rows are all in dev or test"
    with pytest.raises(UserError, match=taken):
        files(tmp_path / "few.jsonl", rows[:1] * 40, test=own, dev=str(tmp_path / "other.jsonl"))


def test_a_cut_holds_its_shares_and_its_order() -> None:
    examples = [asked(str(n), f"question {n}") for n in range(1000)]
    parts = cut(examples, {"test": 0.2, "dev": 0.1}, lambda e: e.prompt[0].text, 0)
    assert 160 <= len(parts["test"]) <= 240  # 200 +- 3 sd
    assert 70 <= len(parts["dev"]) <= 130
    for part in parts.values():
        assert [int(example.id) for example in part] == sorted(int(e.id) for e in part)
