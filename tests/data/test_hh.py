"""HH-RLHF: dialogues split at role markers, dirt counted by reason, splits that share no first turn, and the real files' counts."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Turn
from grao_bench.data.hh import HHData, read_pair
from grao_bench.data.pairs import Fault
from grao_bench.text.dialogue import render, split_turns

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("GRAO_BENCH_HH") or ROOT / "../shared/data/hh-rlhf").resolve()
needs_real = pytest.mark.skipif(not (REAL / "helpful-base").is_dir(), reason="no HH-RLHF folder; set GRAO_BENCH_HH")

SPEC = HHData(name="hh_helpful", subset="helpful", path=None, hub_id="Anthropic/hh-rlhf", dev_fraction=0.3, seed=0, max_examples=None)


def dialogue(*texts: str) -> str:
    """Human and Assistant in turn."""
    return "".join(f"\n\n{'Assistant' if index % 2 else 'Human'}: {text}" for index, text in enumerate(texts))


def clean(prompt: str) -> dict[str, str]:
    return {"chosen": dialogue(prompt, f"good {prompt}"), "rejected": dialogue(prompt, f"bad {prompt}")}


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def folder(root: Path, suffix: str = ".jsonl", **files: list[dict[str, str]]) -> HHData:
    """A folder in the upstream layout: `helpful_train=[...]` and so on; files not named hold clean rows."""
    for subset in ("helpful", "harmless"):
        for split, count in (("train", 40), ("test", 4)):
            rows = files.get(f"{subset}_{split}", [clean(f"{subset} {split} {row}") for row in range(count)])
            write(root / f"{subset}-base" / f"{split}{suffix}", rows)
    return replace(SPEC, path=str(root))


def test_a_multi_turn_prompt_is_kept_and_texts_are_stripped() -> None:
    pair = read_pair(dialogue("one", "two", " three ", " yes\n"), dialogue("one", "two", "three", "no"))
    assert pair == ((Turn("user", "one"), Turn("assistant", "two"), Turn("user", "three")), "yes", "no")


def test_an_opening_that_both_answers_share_stays_in_the_answers() -> None:
    # the common prefix of the two sides ends inside the answers, in the middle of "Sure" / "Surely"
    pair = read_pair(dialogue("Help?", "I can. Sure."), dialogue("Help?", "I can. Surely not."))
    assert pair == ((Turn("user", "Help?"),), "I can. Sure.", "I can. Surely not.")


@pytest.mark.parametrize(
    "text", ["See:\n\nHumans: hello", "one\nHuman: two", "He said: Human: hi", "a\n\nhuman: b", "a\n\nHuman beings: b"]
)
def test_text_that_only_looks_like_a_marker_belongs_to_its_turn(text: str) -> None:
    assert read_pair(dialogue("q", text), dialogue("q", "no")) == ((Turn("user", "q"),), text, "no")


def test_a_marker_in_the_answer_ends_the_turn() -> None:
    # "\n\nHuman:" can't be told from a turn: the row then ends with the Human's
    assert read_pair(dialogue("q", "a\n\nHuman: more"), dialogue("q", "b")) is Fault.LAST_TURN


def test_two_turns_running_by_one_speaker_are_kept_in_a_prompt() -> None:
    start = dialogue("q", "let me look") + "\n\nAssistant: found it"
    prompt, chosen, rejected = read_pair(start + dialogue("thanks", "welcome"), start + dialogue("thanks", "bye"))  # type: ignore[misc]
    assert [turn.role for turn in prompt] == ["user", "assistant", "assistant", "user"]
    assert (chosen, rejected) == ("welcome", "bye")


@pytest.mark.parametrize(
    ("chosen", "rejected", "fault"),
    [
        (dialogue("q", "a", "and?"), dialogue("q", "b", "and?"), Fault.LAST_TURN),
        ("no markers at all", dialogue("q", "b"), Fault.LAST_TURN),
        ("preamble" + dialogue("q", "a"), dialogue("q", "b"), Fault.LAST_TURN),
        ("", "", Fault.LAST_TURN),
        (dialogue("q", "a"), dialogue("Q", "b"), Fault.PROMPTS_DIFFER),
        (dialogue("q", "a") + "\n\nAssistant: more", dialogue("q", "b"), Fault.PROMPTS_DIFFER),
        (dialogue("q", "a", "r", "b"), dialogue("q", "b"), Fault.PROMPTS_DIFFER),
        (dialogue("q", "same") + "\n\nAssistant: a", dialogue("q", "same") + "\n\nAssistant: b", Fault.NO_PROMPT),
        ("\n\nAssistant: a", "\n\nAssistant: b", Fault.NO_PROMPT),
        (dialogue(" ", "a"), dialogue("", "b"), Fault.NO_PROMPT),
        (dialogue("q", " \n"), dialogue("q", "b"), Fault.EMPTY),
        (dialogue("q", "a"), dialogue("q", ""), Fault.EMPTY),
        (dialogue("q", "a "), dialogue("q", "a"), Fault.IDENTICAL),
        (dialogue("q", ""), dialogue("q", ""), Fault.EMPTY),
    ],
)
def test_why_a_row_is_left_out(chosen: str, rejected: str, fault: Fault) -> None:
    assert read_pair(chosen, rejected) is fault


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_dirt_is_counted_over_both_files_and_ids_keep_the_row_number(tmp_path: Path, suffix: str) -> None:
    train = [clean(f"train {row}") for row in range(30)]
    train[3] = {"chosen": dialogue("q", "a"), "rejected": dialogue("p", "b")}
    train[4] = {"chosen": dialogue("q", ""), "rejected": dialogue("q", "b")}
    train[5] = {"chosen": dialogue("q", "a"), "rejected": dialogue("q", "")}
    train[6] = {"chosen": dialogue("q", "a", "thanks"), "rejected": dialogue("q", "b", "thanks")}
    train[7] = clean("test 1")
    test = [clean("test 0"), {"chosen": dialogue("q", "a"), "rejected": dialogue("q", "a")}, clean("test 1")]
    data = folder(tmp_path, suffix, helpful_train=train, helpful_test=test).build()
    assert data.dropped == {
        "last turn not the Assistant's": 1,
        "prompts differ": 1,
        "no prompt": 0,
        "empty answer": 2,
        "identical answers": 1,
        "no answer better than another": 0,
        "training row with a held-out prompt": 1,
        "dev row with a test prompt": 0,
    }
    assert [example.id for example in data.test] == ["helpful-base-test-00000", "helpful-base-test-00002"]
    kept = sorted([*data.train, *data.dev], key=lambda example: example.id)
    assert [example.id for example in kept] == [f"helpful-base-train-{row:05d}" for row in range(30) if row not in (3, 4, 5, 6, 7)]
    assert kept[0].prompt == (Turn("user", "train 0"),)
    assert (kept[0].chosen, kept[0].rejected, kept[0].subset) == ("good train 0", "bad train 0", "helpful")


def test_equal_prompts_stay_separate_examples_on_one_side(tmp_path: Path) -> None:
    train = [clean(f"prompt {row % 12}") for row in range(60)]
    data = folder(tmp_path, helpful_train=train).build()
    ids = [example.id for example in data.train + data.dev]
    assert len(ids) == len(set(ids)) == 60
    sides = [{example.prompt[0].text for example in split} for split in (data.train, data.dev)]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == 12


def test_the_split_goes_by_the_first_turn_alone(tmp_path: Path) -> None:
    train = [
        {
            "chosen": dialogue(f"first {row % 10}", f"reply {row}", f"second {row}", "good"),
            "rejected": dialogue(f"first {row % 10}", f"reply {row}", f"second {row}", "bad"),
        }
        for row in range(50)
    ]
    data = folder(tmp_path, helpful_train=train).build()
    assert not {example.prompt[0] for example in data.train} & {example.prompt[0] for example in data.dev}


def test_the_split_depends_on_the_seed_and_not_on_the_row(tmp_path: Path) -> None:
    spec = folder(tmp_path)
    dev = {example.prompt for example in spec.build().dev}
    assert {example.prompt for example in replace(spec, seed=1).build().dev} != dev
    write(tmp_path / "helpful-base" / "train.jsonl", [clean(f"helpful train {row}") for row in reversed(range(40))])
    assert {example.prompt for example in spec.build().dev} == dev


def test_max_examples_limits_each_split_and_not_the_corpus(tmp_path: Path) -> None:
    spec = folder(tmp_path)
    whole, limited = spec.build(), replace(spec, max_examples=3).build()
    assert [len(split) for split in (limited.train, limited.dev, limited.test)] == [3, 3, 3]
    assert [example for example in whole.train if example in limited.train] == list(limited.train)
    assert replace(spec, max_examples=3).corpus() == spec.corpus()


def test_the_corpus_holds_both_sets_training_dialogues_and_nothing_held_out(tmp_path: Path) -> None:
    # "shared" is a test prompt of harmless and a training prompt of helpful
    helpful = [clean("shared"), *(clean(f"helpful {row}") for row in range(40))]
    spec = folder(tmp_path, helpful_train=helpful, harmless_test=[clean("shared"), clean("other")])
    corpus = spec.corpus()
    sets = [sibling.build() for sibling in spec.siblings()]
    assert corpus == [
        dialogue(example.prompt[0].text, answer)
        for data in sets
        for example in data.train
        if example.prompt[0].text != "shared"
        for answer in (example.chosen, example.rejected)
    ]
    firsts = {split_turns(document)[0].text for document in corpus}
    assert not firsts & {example.prompt[0].text for data in sets for example in data.dev + data.test}
    assert {"helpful", "harmless"} == {first.split()[0] for first in firsts}


def test_one_base_serves_both_sets(tmp_path: Path) -> None:
    helpful, harmless = folder(tmp_path).siblings()
    assert helpful.corpus() == harmless.corpus()
    assert helpful.siblings() == harmless.siblings() == (helpful, harmless)
    assert [(spec.name, spec.subset) for spec in (helpful, harmless)] == [("hh_helpful", "helpful"), ("hh_harmless", "harmless")]


def test_render_is_the_inverse_of_split() -> None:
    turns = (Turn("user", "a"), Turn("assistant", "b\n\nc"), Turn("assistant", "d"), Turn("user", "e: Human: f"))
    assert render(turns) == "\n\nHuman: a\n\nAssistant: b\n\nc\n\nAssistant: d\n\nHuman: e: Human: f"
    assert split_turns(render(turns)) == turns


def test_the_environment_names_the_folder_unless_the_path_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "one", helpful_test=[clean("from one")])
    folder(tmp_path / "two", helpful_test=[clean("from two")])
    monkeypatch.setenv("GRAO_BENCH_HH", str(tmp_path / "one"))
    assert SPEC.build().test[0].prompt[0].text == "from one"
    assert replace(SPEC, path=str(tmp_path / "two")).build().test[0].prompt[0].text == "from two"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", r"train\.jsonl:3: not JSON"),
        ("[1]", r"train\.jsonl:3: expected a JSON object"),
        ('{"chosen": "x"}', r'train\.jsonl:3: no "rejected"'),
        ('{"chosen": "x", "rejected": 7}', r'train\.jsonl:3: "rejected" is int'),
        ('{"chosen": "\\ud800", "rejected": "y"}', r"train\.jsonl:3: .*surrogate"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    spec = folder(tmp_path)
    # the blank line counts as a line of the file
    (tmp_path / "helpful-base" / "train.jsonl").write_text(json.dumps(clean("a")) + "\n\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        spec.build()


def test_bad_places_and_values_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"helpful-base/test\.jsonl\[\.gz\]: no such file; data\.path .*GRAO_BENCH_HH"):
        replace(SPEC, path=str(tmp_path / "absent")).build()
    spec = folder(tmp_path)
    (tmp_path / "helpful-base" / "test.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"test\.jsonl: the file is empty"):
        spec.build()
    with pytest.raises(UserError, match="none of the 1 rows is usable"):
        folder(tmp_path, helpful_test=[{"chosen": "text", "rejected": "text"}]).build()
    spec = folder(tmp_path)
    for changed, message in [
        (replace(spec, dev_fraction=1.0), r"data\.dev_fraction=1\.0"),
        (replace(spec, dev_fraction=0.0), "no rows are left for dev"),
        (replace(spec, max_examples=0), r"data\.max_examples=0"),
        (replace(spec, subset="online"), r"data\.subset=online"),
    ]:
        with pytest.raises(UserError, match=message):
            changed.build()


def test_a_hub_that_cannot_be_reached_is_one_clear_error(tmp_path: Path) -> None:
    code = (
        "from grao_bench.data.hh import HHData\nfrom grao_bench.core.errors import UserError\n"
        "try: HHData('hh_helpful', 'helpful', None, 'nobody/no-such-set', 0.1, 0, None).build()\n"
        "except UserError as error: print(error)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "GRAO_BENCH_HH"} | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    (line,) = done.stdout.strip().splitlines()
    assert line.startswith("data.hub_id=nobody/no-such-set: helpful-base/test could not be loaded")
    assert "data.path=" in line
    assert "GRAO_BENCH_HH" in line


@pytest.mark.parametrize("subset", ["helpful", "harmless"])
def test_the_config_spells_every_field(subset: str) -> None:
    values = yaml.safe_load((ROOT / "conf/data" / f"hh_{subset}.yaml").read_text(encoding="utf-8"))
    assert values.pop("_target_") == "grao_bench.data.hh.HHData"
    assert set(values) == {item.name for item in fields(HHData)}
    assert (values["name"], values["subset"]) == (f"hh_{subset}", subset)
    assert isinstance(HHData(**values), DataSpec)


# What the public copy of upstream's test files, split again by the hash of the first turn, holds.
REAL_COUNTS = {
    "helpful": ({"train": 1525, "test": 471}, {"prompts differ": 5, "empty answer": 4, "identical answers": 2}),
    "harmless": ({"train": 1516, "test": 431}, {"prompts differ": 4, "empty answer": 4, "identical answers": 0}),
}


def counted_by_search(subset: str) -> tuple[dict[str, int], Counter[str]]:
    """Rows and dirt counted another way: the last "\\n\\nAssistant:" cuts the answer off, and nothing is parsed into turns."""
    rows, dirt = {}, Counter[str]()
    for split in ("train", "test"):
        with gzip.open(REAL / f"{subset}-base" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
            pairs = [json.loads(line) for line in file]
        rows[split] = len(pairs)
        for pair in pairs:
            (one, _, chosen), (other, _, rejected) = (pair[side].rpartition("\n\nAssistant:") for side in ("chosen", "rejected"))
            if "\n\nHuman:" in chosen + rejected:
                dirt["last turn not the Assistant's"] += 1
            elif one != other:
                dirt["prompts differ"] += 1
            elif not chosen.strip() or not rejected.strip():
                dirt["empty answer"] += 1
            elif chosen.strip() == rejected.strip():
                dirt["identical answers"] += 1
    return rows, dirt


@needs_real
@pytest.mark.parametrize("subset", ["helpful", "harmless"])
def test_the_real_files_counts(subset: str) -> None:
    rows, dirt = counted_by_search(subset)
    if rows != REAL_COUNTS[subset][0]:
        pytest.skip("another cut of HH-RLHF than the one counted here")
    spec = replace(SPEC, name=f"hh_{subset}", subset=subset, path=str(REAL), dev_fraction=0.1)
    data = spec.build()
    found = {reason: count for reason, count in data.dropped.items() if count}
    # one question of helpful's train file stands in its test file too, spelt in another way
    held_out = {Fault.HELD_OUT.value: 1} if subset == "helpful" else {}
    expected = {reason: count for reason, count in REAL_COUNTS[subset][1].items() if count}
    assert found == expected | held_out == dict(dirt) | held_out
    sizes = (len(data.train), len(data.dev), len(data.test))
    assert sizes == {"helpful": (1344, 173, 467), "harmless": (1368, 140, 431)}[subset]
    assert sum(sizes) + sum(found.values()) == sum(rows.values())


@needs_real
def test_the_real_files_examples_render_back_to_what_was_read() -> None:
    """Every kept example's dialogue equals its row up to blanks around turns; the last turns are the answers."""
    for subset in ("helpful", "harmless"):
        data = replace(SPEC, name=f"hh_{subset}", subset=subset, path=str(REAL)).build()
        for split, examples in (("train", data.train + data.dev), ("test", data.test)):
            with gzip.open(REAL / f"{subset}-base" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
                rows = [json.loads(line) for line in file]
            for example in examples:
                row = rows[int(example.id.rpartition("-")[2])]
                for side, answer in (("chosen", example.chosen), ("rejected", example.rejected)):
                    assert answer is not None
                    text = render((*example.prompt, Turn("assistant", answer)))
                    assert "".join(text.split()) == "".join(row[side].split())


@needs_real
def test_the_real_corpus_shares_no_first_turn_with_held_out_rows() -> None:
    spec = replace(SPEC, path=str(REAL), dev_fraction=0.1)
    corpus = spec.corpus()
    held_out = {example.prompt[0].text for sibling in spec.siblings() for data in [sibling.build()] for example in data.dev + data.test}
    assert len(corpus) == 2 * (1344 + 1368)
    assert not {split_turns(document)[0].text for document in corpus} & held_out
