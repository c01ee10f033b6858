"""GSM8K from local files: splits, dirt, errors that name the line, and what a set without pairs is for. The hub is not asked."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Turn
from grao_bench.data.gsm8k import GSM8KData
from tests.cells import TINY_BASE

Row = dict[str, object]


def rows(count: int, word: str = "apples") -> list[Row]:
    return [
        {"question": f"Tom has {n} {word} and gets 2. How many?", "answer": f"{n} + 2 = <<{n}+2={n + 2}>>{n + 2}\n#### {n + 2}"}
        for n in range(count)
    ]


def write(path: Path, listed: list[Row]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in listed).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def spec(path: Path, **changed: object) -> GSM8KData:
    return load("data/gsm8k", **({"path": str(path), "instruction": None} | changed))


def questions(examples) -> set[str]:
    return {example.prompt[0].text for example in examples}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train.jsonl.gz", rows(60))
    write(tmp_path / "test.jsonl", rows(20, "pears"))
    return tmp_path


def test_a_folder_in_the_upstream_layout(folder):
    data = spec(folder)
    assert isinstance(data, DataSpec)
    built = data.build()
    assert isinstance(built, Dataset)
    assert (built.name, built.subset, data.siblings()) == ("gsm8k", "gsm8k", (data,))
    assert len(built.test) == 20
    assert len(built.train) + len(built.dev) == 60
    assert 1 <= len(built.dev) <= 15
    first = built.test[0]
    assert (first.id, first.prompt, first.rejected) == (
        "gsm8k-test-00000",
        (Turn("user", "Tom has 0 pears and gets 2. How many?"),),
        None,
    )
    assert first.chosen == "0 + 2 = 2\n#### 2", "the calculator's note is stripped"
    assert len({example.id for example in (*built.train, *built.dev, *built.test)}) == 80


def test_annotations_may_stay_and_an_instruction_be_added(folder):
    example = spec(folder, calculator="keep", instruction="Count.").build().test[0]
    assert example.chosen == "0 + 2 = <<0+2=2>>2\n#### 2"
    assert example.prompt[0].text == "Tom has 0 pears and gets 2. How many?\nCount."


def test_one_file_is_split_by_its_questions(tmp_path):
    data = spec(write(tmp_path / "all.jsonl", rows(100) + rows(100)), test_fraction=0.3, dev_fraction=0.2)
    built = data.build()
    splits = [questions(split) for split in (built.train, built.dev, built.test)]
    assert sum(map(len, splits)) == 100, "equal questions are on one side"
    assert 15 <= len(splits[2]) <= 45
    assert 5 <= len(splits[1]) <= 30
    assert built == data.build()


def test_training_questions_of_the_test_file_are_left_out(tmp_path):
    write(tmp_path / "train.jsonl", [*rows(30), {"question": "", "answer": "#### 1"}, {"question": "Q", "answer": " "}])
    write(tmp_path / "test.jsonl", rows(4))
    built = spec(tmp_path).build()
    assert not questions(built.test) & questions((*built.train, *built.dev))
    assert len(built.train) + len(built.dev) == 26
    dropped = {reason: count for reason, count in built.dropped.items() if count}
    assert dropped == {"training row with a held-out prompt": 4, "no prompt": 1, "empty answer": 1}


def test_the_corpus_is_of_the_training_split(folder):
    data = spec(folder)
    corpus, train = data.corpus(), data.build().train
    assert len(corpus) == len(train)
    assert corpus[0] == f"\n\nHuman: {train[0].prompt[0].text}\n\nAssistant: {train[0].chosen}"


def test_a_limit_keeps_some_of_each_split(folder):
    built = spec(folder, max_examples=3).build()
    assert [len(built.train), len(built.dev), len(built.test)] == [3, min(3, len(spec(folder).build().dev)), 3]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q", "answer": "18"}, 'test.jsonl:2: "answer" holds no "#### number"'),
        ({"question": "Q", "answer": "#### many"}, 'test.jsonl:2: "answer" holds no "#### number"'),
        ({"question": "Q"}, 'test.jsonl:2: no "answer"'),
        ({"prompt": "Q", "answer": "#### 1"}, 'test.jsonl:2: no "question"'),
        ({"question": 3, "answer": "#### 1"}, 'test.jsonl:2: "question" is int; it must be a text'),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_line(tmp_path, row, message):
    write(tmp_path / "train.jsonl", rows(30))
    write(tmp_path / "test.jsonl", [*rows(1), row])
    with pytest.raises(UserError) as raised:
        spec(tmp_path).build()
    assert message in str(raised.value)


def test_missing_files_and_empty_splits_are_named(tmp_path):
    with pytest.raises(UserError, match=r"test\.jsonl\[\.gz\]: no such file; data\.path must name a folder with train\.jsonl"):
        spec(tmp_path).build()
    with pytest.raises(UserError, match=r"all\.jsonl: no such file"):
        spec(tmp_path / "all.jsonl").build()
    one = write(tmp_path / "one.jsonl", rows(40))
    with pytest.raises(UserError, match=r"no rows are left for test; look at data\.test_fraction"):
        spec(one, test_fraction=0.0).build()
    with pytest.raises(UserError, match=r"no rows are left for dev; look at data\.dev_fraction"):
        spec(one, dev_fraction=0.0).build()
    with pytest.raises(UserError, match=r"data\.test_fraction=1\.5: must be at least 0 and below 1"):
        spec(one, test_fraction=1.5).build()


def test_without_a_network_the_hub_is_a_users_error(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"^data\.hub_id=nobody/gsm8k: .* could not be loaded .*set data\.path"):
        load("data/gsm8k", hub_id="nobody/gsm8k").build()


def test_every_field_has_a_value():
    assert {item.name for item in fields(GSM8KData)} == set(vars(load("data/gsm8k")))


def test_a_cell_learns_from_checked_answers_and_pairs_are_refused_in_one_line(tmp_path, command):
    """GRPO on a local file with reward=verifiable from start to end; DPO needs rejected answers."""
    write(tmp_path / "all.jsonl", rows(60))
    small = ("data=gsm8k", "data.path=all.jsonl", "reward=verifiable", "budget=smoke", "evaluation.max_examples=4", *TINY_BASE)
    outcome = command("train", "objective=grpo", *small)
    assert outcome.code == 0, outcome.err
    file = tmp_path / outcome.out.splitlines()[-1] / "evaluations" / "gsm8k-verifiable_gsm8k.jsonl"
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    asked = Counter(one["example_id"] for one in answers)
    assert len(asked) == 4
    assert set(asked.values()) == {4}, "four answers to each of four prompts"
    assert all(set(one["parts"]) == {"correct", "parsed"} for one in answers)

    outcome = command("train", "objective=dpo", *small)
    assert outcome.code == 2
    assert outcome.err.startswith("grao_bench: data=gsm8k: has no rejected answer, which")
    assert outcome.err.count("\n") == 1
