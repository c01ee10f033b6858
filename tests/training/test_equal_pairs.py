"""Pairs whose two answers are one and the same within the length that the model sees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import read_info
from grao_bench.core.specs import conf_dir, load
from grao_bench.core.types import Example, Needs, Turn
from grao_bench.objectives import load_objective
from grao_bench.reporting.page.page import counted_facts
from grao_bench.runs.fit import require_left, within_length
from grao_bench.runs.progress import Bars
from grao_bench.runs.run import run
from grao_bench.train_reward import train_reward_model

from ..cells import cell, small, world_rows, write_rows
from ..rewards.test_reward_folder import chat_base, experiment
from .setting import budget, codec, policy

SFT = load_objective("sft")
NAMES = [path.stem for path in sorted((conf_dir() / "objective").glob("*.yaml"))]
PAIRED = [name for name in NAMES if load_objective(name).needs.rejected]


def pair(name: str, chosen: str, rejected: str | None) -> Example:
    return Example(name, (Turn("user", "red"),), chosen, rejected, "s")


PAIRS = (
    pair("differ late", "one two three good", "one two three bad"),
    pair("one goes on", "one two", "one two three"),
    pair("differ", "good", "bad"),
    pair("three and their end", "one two three", "one two three bad"),
)


def kept(needs: Needs, limit: int, rule: str = "cut"):
    config = policy(SFT).model.config
    asked = budget(max_answer_tokens=limit, long_references=rule)
    examples, lengths = within_length(PAIRS, codec(), config, asked, needs)
    return [one.id for one in examples], lengths


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_that_are_equal_after_the_cut_are_left_out_and_counted(name):
    """Within three tokens two pairs are equal; within four one token, or an end token, tells each
    two apart; within two, "one two" is unfinished on both sides."""
    needs = load_objective(name).needs
    everything = [one.id for one in PAIRS]
    for limit, left in ((2, ["differ"]), (3, ["one goes on", "differ"]), (4, everything)):
        found, lengths = kept(needs, limit)
        assert (found, lengths.equal_pairs, lengths.examples) == (left, 4 - len(left), len(left))
    assert kept(needs, 3, "drop")[1].equal_pairs == 2


def test_a_set_that_is_not_learned_from_as_pairs_keeps_them():
    for needs in (SFT.needs, load_objective("grao").needs, Needs(rollouts=1)):
        found, lengths = kept(needs, 3)
        assert (len(found), lengths.equal_pairs) == (4, 0)


def test_a_set_of_which_no_pair_is_left_says_why():
    equal = (PAIRS[0],)
    asked = budget(max_answer_tokens=3, long_references="cut")
    needs = load_objective("dpo").needs
    _, lengths = within_length(equal, codec(), policy(SFT).model.config, asked, needs)
    message = r"^data=mine: nothing is left .*; the two answers of 1 pairs are equal within budget"
    with pytest.raises(UserError, match=message):
        require_left(lengths, asked, "mine")


def test_a_run_records_them_and_its_page_shows_them(tmp_path):
    """World answers of which one token is left: many begin alike."""
    short = load("budget/smoke", steps=1, max_answer_tokens=1, checkpoint_every=0)
    folder = run(cell("dpo", tmp_path, budget=short))
    info = read_info(folder)
    lengths = info.lengths["training"]
    assert lengths.equal_pairs > 0
    assert lengths.equal_pairs + lengths.examples == len(small("data/world_helpful").build().train)
    line = f"dropped: pairs equal within max_answer_tokens {lengths.equal_pairs}"
    assert line in counted_facts(info)


def test_a_reward_model_is_not_trained_on_them(tmp_path):
    """In 40 tokens with their prompts, answers that differ only behind them are equal."""
    chat_base(tmp_path)
    rows = world_rows(24)
    short = replace(experiment(tmp_path), max_tokens=40)
    write_rows(tmp_path / "pairs.jsonl", [*map(longer, rows[::3]), *rows[1::3], *rows[2::3]])
    with Bars() as bars:
        metrics = train_reward_model(short, bars)
    train = len(short.data.build().train)
    assert metrics["pairs_equal"] > 0
    assert metrics["pairs"] + metrics["pairs_equal"] == train

    write_rows(tmp_path / "pairs.jsonl", [longer(row) for row in rows])
    message = "^max_tokens=40: the answers of all pairs of data=jsonl are equal within it; raise it"
    with pytest.raises(UserError, match=message), Bars() as bars:
        train_reward_model(replace(short, output=str(tmp_path / "other")), bars)


def longer(row: dict[str, str]) -> dict[str, str]:
    """The row with answers that differ in their last word of sixty-odd."""
    chosen = f"{row['chosen']} {' '.join(['the'] * 60)}"
    return row | {"chosen": f"{chosen} yes.", "rejected": f"{chosen} no."}
