"""JSON-lines sets and corpus files: both spellings of a row, splits by prompt, and errors that name the file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.data.columns import Columns
from grao_bench.data.corpus import load_corpus_files
from grao_bench.data.files import FilesData
from grao_bench.data.reading import read_row

ROOT = Path(__file__).parents[2]
USER = {"role": "user", "content": " hi "}
ASSISTANT = {"role": "assistant", "content": "hello\n"}


def spec(train: Path, **changed: object) -> FilesData:
    given = {"name": "mine", "train": str(train), "dev_fraction": 0.2, "test_fraction": 0.3}
    return load("data/files", **given | changed)


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def rows(count: int, word: str = "prompt") -> list[dict[str, object]]:
    return [{"prompt": f"{word} {row}", "chosen": f"good {row}", "rejected": f"bad {row}"} for row in range(count)]


def prompts(data: Dataset, *splits: str) -> set[str]:
    return {example.prompt[0].text for split in splits for example in getattr(data, split)}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": " hi ", "chosen": "a ", "rejected": "b"}, ((Turn("user", "hi"),), "a", "b")),
        ({"prompt": "hi", "chosen": "a"}, ((Turn("user", "hi"),), "a", None)),
        ({"prompt": "hi", "chosen": "a", "rejected": None, "extra": 1}, ((Turn("user", "hi"),), "a", None)),
        (
            {"prompt": [{"role": "system", "content": "be kind"}, USER], "chosen": [ASSISTANT], "rejected": "b"},
            ((Turn("system", "be kind"), Turn("user", "hi")), "hello", "b"),
        ),
        # the answers' lists may repeat the prompt, which may be a text
        (
            {"prompt": "hi", "chosen": [USER, ASSISTANT], "rejected": [{**ASSISTANT, "content": "no"}]},
            ((Turn("user", "hi"),), "hello", "no"),
        ),
        # a prompt already in HH format is not wrapped again
        (
            {"prompt": "\n\nHuman: hi\n\nAssistant: ho\n\nHuman: so?\n\nAssistant:", "chosen": " a", "rejected": " b"},
            ((Turn("user", "hi"), Turn("assistant", "ho"), Turn("user", "so?")), "a", "b"),
        ),
        ({"prompt": "Human: rights, what are they?", "chosen": "a"}, ((Turn("user", "Human: rights, what are they?"),), "a", None)),
    ],
)
def test_a_row_is_read_as_text_or_as_messages(row: dict[str, object], expected: tuple[object, ...]) -> None:
    example = read_row(row)
    assert isinstance(example, Example)
    assert (example.prompt, example.chosen, example.rejected) == expected


HI = (Turn("user", "hi"),)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "hi"}, Example("e", HI, subset="s")),
        ({"prompt": "hi", "chosen": None, "rejected": None}, Example("e", HI, subset="s")),
        (
            {"prompt": "hi", "answer": 7, "source": {"page": 2}, "label": 3},
            Example("e", HI, subset="s", metadata={"answer": 7, "source": {"page": 2}, "label": 3}),
        ),
        (
            {"prompt": "hi", "demonstrations": [" a ", [ASSISTANT], [USER, ASSISTANT]]},
            Example("e", HI, subset="s", demonstrations=("a", "hello", "hello")),
        ),
        (
            {"prompt": "hi", "completion": "a ", "label": True, "by": "me"},
            Example("e", HI, "a", None, "s", label=True, metadata={"by": "me"}),
        ),
        (
            {"prompt": "hi", "completion": [ASSISTANT], "label": False},
            Example("e", HI, None, "hello", "s", label=False),
        ),
    ],
    ids=["prompt", "nulls", "metadata", "demonstrations", "good", "bad"],
)
def test_a_row_may_hold_less_or_more_than_a_pair(row: dict[str, object], expected: Example) -> None:
    assert read_row(row, "e", "s") == expected


def test_prompts_alone_are_split_and_their_corpus_is_the_prompts(tmp_path: Path) -> None:
    mine = spec(write(tmp_path / "prompts.jsonl", [{"prompt": f"q {i}", "n": i} for i in range(40)]))
    data = mine.build()
    assert len(data.train + data.dev + data.test) == 40
    assert all(one.prompt[0].text == f"q {one.metadata['n']}" for one in data.train)
    assert mine.corpus() == [f"\n\nHuman: {one.prompt[0].text}" for one in data.train]
    empty = [{"prompt": f"p{i}", "demonstrations": ["a", " "]} for i in range(3)]
    dirty = spec(write(tmp_path / "dirty.jsonl", [*rows(40), *empty])).build()
    assert dirty.dropped["empty answer"] == 3


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_one_file_is_split_by_prompt(tmp_path: Path, suffix: str) -> None:
    # every prompt stands in two rows: they stay two examples on one side
    data = spec(write(tmp_path / f"pairs{suffix}", rows(100) + rows(100))).build()
    sides = [prompts(data, split) for split in ("train", "dev", "test")]
    assert sum(len(side) for side in sides) == len(set.union(*sides)) == 100
    assert 10 <= len(sides[1]) <= 30  # 20 +- 2.5 sd of a binomial share of 0.2
    assert 19 <= len(sides[2]) <= 41
    examples = data.train + data.dev + data.test
    assert len({example.id for example in examples}) == 200
    row = int(examples[0].id.removeprefix("mine-train-"))
    assert (examples[0].chosen, examples[0].rejected) == (f"good {row % 100}", f"bad {row % 100}")


def test_files_of_their_own_keep_their_rows_and_take_their_prompts_out_of_training(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", rows(50))
    dev = write(tmp_path / "dev.jsonl", rows(3))
    test = write(tmp_path / "test.jsonl", rows(2, "other"))
    data = spec(train, dev=str(dev), test=str(test), dev_fraction=0.0, test_fraction=0.0).build()
    assert (len(data.train), len(data.dev), len(data.test)) == (47, 3, 2)
    assert data.dropped["training row with a held-out prompt"] == 3
    assert [example.id for example in data.test] == ["mine-test-00000", "mine-test-00001"]
    assert not prompts(data, "train") & prompts(data, "dev", "test")


def test_a_test_file_leaves_dev_to_be_cut_from_train(tmp_path: Path) -> None:
    data = spec(write(tmp_path / "train.jsonl", rows(50)), test=str(write(tmp_path / "test.jsonl", rows(4, "other")))).build()
    assert len(data.test) == 4
    assert len(data.train) + len(data.dev) == 50
    assert data.dev


def test_rows_of_no_use_are_counted(tmp_path: Path) -> None:
    dirt: list[dict[str, object]] = [
        {"prompt": " ", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "", "rejected": "b"},
        {"prompt": "p", "chosen": "a", "rejected": "\n"},
        {"prompt": "p", "chosen": "a", "rejected": "a "},
    ]
    data = spec(write(tmp_path / "pairs.jsonl", dirt + rows(60))).build()
    assert {reason: count for reason, count in data.dropped.items() if count} == {"no prompt": 1, "empty answer": 2, "identical answers": 1}
    assert len(data.train + data.dev + data.test) == 60


def test_the_corpus_is_the_training_dialogues_with_every_answer(tmp_path: Path) -> None:
    lines = rows(40)
    del lines[0]["rejected"]
    mine = spec(write(tmp_path / "pairs.jsonl", lines))
    expected = []
    for example in mine.build().train:
        row = int(example.id.removeprefix("mine-train-"))
        expected += [f"\n\nHuman: prompt {row}\n\nAssistant: {answer} {row}" for answer in (["good"] if row == 0 else ["good", "bad"])]
    assert mine.corpus() == expected
    assert replace(mine, max_examples=2).corpus() == expected
    assert mine.siblings() == (mine,)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "not JSON"),
        ('"text"', "expected a JSON object, found str"),
        ('{"chosen": "a", "rejected": "b"}', 'no "prompt"'),
        ('{"prompt": "p", "rejected": "b"}', '"rejected" without "chosen"'),
        ('{"prompt": "p", "completion": "b"}', '"completion" needs "label": true or false'),
        ('{"prompt": "p", "completion": "b", "label": 2}', '"completion" needs "label": true or'),
        ('{"prompt": "p", "chosen": "a", "completion": "b", "label": true}', "beside"),
        ('{"prompt": "p", "demonstrations": "a"}', '"demonstrations" is str; it must be a list'),
        (
            '{"prompt": "p", "demonstrations": ["a", 3]}',
            r'"demonstrations\[1\]" is int; it must be a text',
        ),
        ('{"prompt": 3, "chosen": "a"}', '"prompt" is int; it must be a text'),
        ('{"prompt": "p", "chosen": {"text": "a"}}', '"chosen" is dict'),
        ('{"prompt": "p", "chosen": "a", "rejected": 0}', '"rejected" is int'),
        ('{"prompt": [], "chosen": "a"}', '"prompt" does not end with a message by the user'),
        ('{"prompt": ["hi"], "chosen": "a"}', r'"prompt"\[0\] is not a message'),
        ('{"prompt": [{"role": "tool", "content": "x"}], "chosen": "a"}', r'"prompt"\[0\] is a turn of a tool.*data\.tool_turns=text'),
        ('{"prompt": [{"role": "x", "content": "x"}], "chosen": "a"}', r'"prompt"\[0\] is not a message'),
        ('{"prompt": [{"role": "user", "content": ["x"]}], "chosen": "a"}', r'"prompt"\[0\]\.content is list'),
        ('{"prompt": "p", "chosen": [{"role": "user", "content": "a"}]}', '"chosen" must be one message by the assistant'),
        (
            '{"prompt": "p", "chosen": [{"role": "user", "content": "other"}, {"role": "assistant", "content": "a"}]}',
            '"chosen" must be one message by the assistant, alone or after the messages of "prompt"',
        ),
        ('{"prompt": "\\udc00", "chosen": "a"}', '"prompt" holds half a surrogate pair'),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n" + json.dumps(rows(1)[0]) + "\n\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"pairs\.jsonl:4: .*" + message):
        spec(path).build()


def test_bad_files_and_values_are_named(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", rows(40))
    empty = write(tmp_path / "empty.jsonl", [])
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(b"not gzip")
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(good.read_bytes())[:-9])
    (tmp_path / "empty").mkdir()
    cases: list[tuple[FilesData, str]] = [
        (spec(tmp_path / "absent.jsonl"), r"absent\.jsonl: no such file"),
        (spec(tmp_path / "empty"), "the folder holds no file of rows"),
        (spec(empty), r"empty\.jsonl: the file is empty"),
        (spec(broken), r"broken\.jsonl\.gz: this is plain text that begins 'not gzip', not rows"),
        (spec(torn), r"torn\.jsonl\.gz: cannot be read"),
        (spec(good, test_fraction=0.0), r"no rows are left for test; raise data\.test_fraction.*or give data\.test"),
        (spec(good, dev_fraction=0.0), "no rows are left for dev"),
        (spec(good, test=str(good)), "no rows are left for train"),
        (spec(good, test_fraction=-0.1), r"data\.test_fraction=-0\.1"),
        (spec(good, dev_fraction=0.5, test_fraction=0.5), r"data\.dev_fraction \+ data\.test_fraction=1\.0"),
    ]
    for data, message in cases:
        with pytest.raises(UserError, match=message):
            data.build()


@pytest.mark.parametrize("name", ["files", "jsonl", "hub"])
def test_the_config_spells_every_field(name: str) -> None:
    given = {"id": "x"} if name == "hub" else {"train": "x"}
    made = load(f"data/{name}", **given)
    values = yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text(encoding="utf-8"))
    if name != "jsonl":
        assert {"_target_", *(item.name for item in fields(made))} == set(values)
        assert {"_target_", *(item.name for item in fields(Columns))} == set(values["columns"])
    assert made.name == name
    assert isinstance(made, DataSpec)


def test_corpus_files_are_read_in_order_and_kept_as_they_are(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl.gz", [{"text": "\n\nHuman: q\n\nAssistant: a"}, {"text": "plain "}])
    text = tmp_path / "b.txt"
    text.write_text("one\n\ntwo\n", encoding="utf-8")
    assert load_corpus_files([text, str(lines)]) == ["one\n\ntwo\n", "\n\nHuman: q\n\nAssistant: a", "plain "]
    assert load_corpus_files([]) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", '{"text": "a"}\n\n{"content": "b"}\n', r"c\.jsonl:3: no \"text\""),
        ("c.jsonl", '{"text": "a"}\n{"text": 1}\n', r"c\.jsonl:2: \"text\" is int"),
        ("c.jsonl", '{"text": " "}\n', r"c\.jsonl:1: \"text\" is empty"),
        ("c.jsonl", "", r"c\.jsonl: the file is empty"),
        ("c.txt", " \n", r"c\.txt: the file is empty"),
        ("c.csv", "a,b", r"c\.csv: model\.corpus reads"),
    ],
)
def test_a_bad_corpus_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_corpus_files([path])


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\xff\xfe\xff")])
def test_a_text_file_that_is_absent_or_not_utf8_is_named(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = tmp_path / "c.txt"
    path.write_text("text", encoding="utf-8")
    damage(path)
    with pytest.raises(UserError, match=r"c\.txt: cannot be read"):
        load_corpus_files([path])
