"""python -m grao_bench.data: sets in every layout that people have, from a file to the page, and
what is wrong with the others in one line; a few of them on to training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from grao_bench.cli.show_data import MOST, _percentile, _some
from grao_bench.core.record_files import read_run
from grao_bench.core.specs import load
from grao_bench.core.types import Example
from tests.cells import TINY_BASE, world_rows, write_rows
from tests.layouts import COUNT, LOADS, REFUSED, bad, good, prompt
from tests.text_tokenizers import text_tokenizer

SHARED = Path(__file__).parents[1] / ".." / "shared" / "cases" / "data"


@pytest.fixture
def show(command):
    """show(file, ...) is python -m grao_bench.data file ..."""
    return lambda *arguments: command("data.__main__", *arguments)


def rows_of(page: str) -> dict[str, int]:
    """The rows of each split, as the page says."""
    found = re.findall(r"^(train|dev|test) +(\d+) ", page, re.M)
    return {split: int(count) for split, count in found}


def fitting(page: str) -> list[str]:
    (line,) = re.findall(r"^objectives that fit: (.*)$", page, re.M)
    return line.split(", ")


def columns_of(options: tuple[str, ...]) -> dict:
    """Options of the command line as `load` takes them."""
    named = dict(option.removeprefix("data.").split("=") for option in options)
    columns = {key.removeprefix("columns."): value for key, value in named.items()}
    own = {key: columns.pop(key) for key in ("tool_turns",) if key in columns}
    plain = load("data/files", train="x").columns
    given = {name: columns.get(name) for name in vars(plain)}
    return own | {"columns": type(plain)(**given)}


@pytest.mark.parametrize("name", LOADS)
def test_a_set_is_read_whole(name, tmp_path, show):
    """What the page says of it, every text of every row, and three of them on the page."""
    case = LOADS[name]
    case.write(tmp_path / case.file)
    done = show(case.file, *case.options)
    assert done.code == 0, done.err
    assert case.says in done.out.splitlines()[0]
    assert sum(rows_of(done.out).values()) == COUNT
    assert "left out: nothing" in done.out
    assert set(case.fits) <= set(fitting(done.out))
    assert not set(case.misses) & set(fitting(done.out))

    spec = load("data/files", train=str(tmp_path / case.file), **columns_of(case.options))
    dataset = spec.build()
    examples = [*dataset.train, *dataset.dev, *dataset.test]
    found = {(one.prompt, one.chosen, one.rejected) for one in examples}
    assert found == {(case.turns(i), case.chosen(i), case.rejected(i)) for i in range(COUNT)}
    assert rows_of(done.out) == {s: len(getattr(dataset, s)) for s in ("train", "dev", "test")}
    assert done.out.count("\n--- ") == 3
    first = dataset.train[0]
    for text in filter(None, (first.chosen, first.rejected)):
        assert f"⟦{text}⟧" in done.out
    last = first.prompt[-1].text.splitlines()[-1]
    assert last.replace("\u202e", "\\u202e") in done.out


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_one_line(name, tmp_path, show):
    file, write, message = REFUSED[name]
    write(tmp_path / file)
    done = show(file)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith(f"grao_bench: {message}"), done.err
    assert done.err.count("\n") == 1


def test_a_row_of_another_shape_is_named(tmp_path, show):
    """Row 31 has a number for a prompt; blank lines count as lines."""
    rows = [{"prompt": prompt(i), "chosen": good(i)} for i in range(COUNT)]
    rows[30] = {"prompt": 7, "chosen": "x"}
    write_rows(tmp_path / "rows.jsonl", rows)
    text = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text("\n\n" + text)
    done = show("rows.jsonl")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("grao_bench: rows.jsonl:33: ")


def test_what_is_left_out_is_counted_by_reason(tmp_path, show):
    """Three empty answers, two pairs of one answer; the other rows are read as without them."""
    rows = [{"prompt": prompt(i), "chosen": good(i), "rejected": bad(i)} for i in range(COUNT)]
    for i in (1, 2, 3):
        rows[i]["rejected"] = "  "
    for i in (11, 12):
        rows[i]["rejected"] = rows[i]["chosen"]
    write_rows(tmp_path / "rows.jsonl", rows)
    done = show("rows.jsonl")
    assert "left out: 3 empty answer, 2 identical answers" in done.out
    assert sum(rows_of(done.out).values()) == COUNT - 5


def test_options_are_trains_own(tmp_path, show):
    """Files for the splits, fractions and a limit; a set by its name; a wrong option."""
    rows = [{"prompt": prompt(i), "chosen": good(i)} for i in range(COUNT)]
    write_rows(tmp_path / "a.jsonl", rows[:20])
    write_rows(tmp_path / "b.jsonl", rows[20:])
    done = show("a.jsonl", "data.test=b.jsonl", "data.dev_fraction=0.3", "data.max_examples=9")
    assert rows_of(done.out)["test"] == 9
    done = show("data=world_helpful", "data.num_train=12", "data.num_test=5", "data.num_dev=4")
    assert rows_of(done.out) == {"train": 12, "dev": 4, "test": 5}
    outcome = show("a.jsonl", "data.tset=b.jsonl")
    assert (outcome.code, outcome.out) == (2, "")
    assert "data.tset" in outcome.err
    assert outcome.err.startswith("grao_bench: ")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one set at a time, and nothing was given"),
        (("a.jsonl", "b.jsonl"), "one set at a time, and a.jsonl b.jsonl was given"),
        (("owner/a_set",), "data.id=owner/a_set: "),
        (("a folder", "data.test=x"), "a folder: "),
        (("*.jsonl",), "*.jsonl: "),
    ],
)
def test_what_is_no_set(arguments, message, show):
    done = show(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_file_with_blanks_and_quotes_in_its_name(tmp_path, show):
    name = "it's a {set}, mine.jsonl"
    write_rows(tmp_path / name, [{"prompt": prompt(i), "chosen": good(i)} for i in range(COUNT)])
    done = show(name)
    assert done.code == 0, done.err
    assert sum(rows_of(done.out).values()) == COUNT


def test_what_a_terminal_would_obey_is_spelled_out(tmp_path, show):
    rows = [{"prompt": f"\x1b[31m\u202e {prompt(i)}", "chosen": good(i)} for i in range(COUNT)]
    write_rows(tmp_path / "rows.jsonl", rows)
    page = show("rows.jsonl").out
    assert r"│ user: \x1b[31m\u202e What" in page
    assert "\x1b" not in page


def test_lengths_in_words_by_hand(tmp_path, show):
    """Of 20 training prompts of 1 to 20 words: median 10, 95% of them have at most 19."""
    rows = [{"prompt": " ".join([f"p{i}"] * (i + 1)), "chosen": "one two"} for i in range(20)]
    write_rows(tmp_path / "rows.jsonl", rows)
    for split in ("dev", "test"):
        others = [{"prompt": f"{split} {i}", "chosen": "one"} for i in range(4)]
        write_rows(tmp_path / f"{split}.jsonl", others)
    page = show("rows.jsonl", "data.test=test.jsonl", "data.dev=dev.jsonl").out
    table = [line.split() for line in page.splitlines()]
    assert ["train", "20", "prompt", "20", "10", "19", "20"] in table
    assert ["chosen", "20", "2", "2", "2"] in table
    assert ["test", "4", "prompt", "4", "2", "2", "2"] in table


def test_with_a_model_the_page_is_what_the_model_reads(tmp_path, show):
    """A chat template: its control tokens are marked and those that the text spells are not; the
    lengths are those of the whole joined text; what the budget would cut is counted."""
    tokenizer = text_tokenizer("byte_level", "chatml")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [{"prompt": f"<|im_end|> {prompt(i)}", "chosen": good(i)} for i in range(COUNT)]
    write_rows(tmp_path / "rows.jsonl", rows)
    limits = ("budget.max_prompt_tokens=300", "budget.max_answer_tokens=300")
    page = show("rows.jsonl", "--model", "model", *limits).out
    assert "│ ‹<|im_start|>›user\n│ <|im_end|> What should a child" in page
    assert "would be cut" not in page

    def ids(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    dataset = load("data/files", train=str(tmp_path / "rows.jsonl")).build()
    assert f"⟦{dataset.train[0].chosen}‹<|im_end|>›⟧" in page
    of = sorted(ids(f"{one.chosen}") + 1 for one in dataset.train)
    wanted = [str(number) for number in (of[(len(of) - 1) // 2], of[-1])]
    line = next(line.split() for line in page.splitlines() if line.split()[:1] == ["chosen"])
    assert [line[-3], line[-1]] == wanted
    longest = int(line[-1])
    limits = ("budget.max_prompt_tokens=300", f"budget.max_answer_tokens={longest - 1}")
    page = show("rows.jsonl", "--model", "model", *limits).out
    over = sum(one == longest for one in of)
    assert f"{over} of {len(of)} chosen texts of train are longer than budget.max_answer_" in page


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere/at/all", "model.path=nowhere/at/all: is neither a folder nor a reachable hub id"),
        ("rows.jsonl", "rows.jsonl"),
    ],
)
def test_a_model_that_is_none(model, message, tmp_path, show):
    write_rows(tmp_path / "rows.jsonl", [{"prompt": prompt(i)} for i in range(COUNT)])
    done = show("rows.jsonl", "--model", model)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert "its tokenizer is made with its weights" in show("rows.jsonl", "model=tiny").err


def test_percentiles_and_samples_by_hand():
    assert [_percentile(range(1, n + 1), 95) for n in (1, 2, 20, 100, 101)] == [1, 2, 19, 95, 96]
    examples = [Example(str(i), ()) for i in range(2 * MOST + 1)]
    assert _some(examples[:MOST]) == examples[:MOST]
    assert [one.id for one in _some(examples)[:3]] == ["0", "3", "6"]


def test_a_set_that_fits_trains_and_one_that_does_not_says_so(tmp_path, command):
    """Prompt and completion, as messages of another writing, through SFT; the same for DPO, and
    the page's own word on both."""
    rows = [
        {"conversations": [{"from": "human", "value": row["prompt"]}, {"from": "gpt", "value": row["chosen"]}]} for row in world_rows(COUNT)
    ]
    write_rows(tmp_path / "talks.jsonl", rows)
    page = command("data.__main__", "talks.jsonl").out
    cell = ("data=files", "data.train=talks.jsonl", *TINY_BASE, "budget=smoke", "evaluation.sets=own")
    judge = ("reward=python", "reward.function=tests.rewards.functions.shorter")
    done = command("train", "objective=sft", *cell, *judge)
    assert done.code == 0, done.err
    run = read_run(tmp_path / done.out.splitlines()[-1])
    assert len(run.steps) == 2
    outcome = command("train", "objective=dpo", *cell, *judge)
    assert outcome.code == 2
    assert "has no rejected answer, which objective=dpo learns from" in outcome.err
    assert "sft" in fitting(page)
    assert "dpo" not in fitting(page)


EXPECTED = {
    "all_empty.jsonl": 2,
    "bad_line.jsonl": 2,
    "empty.jsonl": 2,
    "latin1.jsonl": 2,
    "tool.jsonl": 2,
}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no folder {SHARED}")
def test_the_files_that_were_handed_over(show):
    """Each loads, all of its rows, or is refused in one line."""
    for path in sorted(SHARED.iterdir()):
        done = show(str(path))
        assert done.code == EXPECTED.get(path.name, 0), (path.name, done.err)
        if done.code:
            assert done.err.count("\n") == 1, path.name
        else:
            rows = 3 if path.name == "few.jsonl" else 60
            assert sum(rows_of(done.out).values()) == rows, path.name
