"""The generated blocks of README.md and results/README.md: current, and only from the tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from grao_bench.core.errors import UserError
from grao_bench.reporting.blocks import made_anew, main, remade

ROOT = Path(__file__).parents[2]
NUMBERS = "ras,ras_sd,nag_mean,nag_mean_sd,correct,correct_sd,ras_lc"
MAIN = f"""model,method,objective,trained_on,set,reward_source,seeds,prompts,{NUMBERS}
tiny,base,base,,s,gold,0,40,15.04,1,,,3,1,15.5
tiny,grao,grao,s,s,gold,0 1,40,20,1.26,10,2,30,3,21
tiny,grpo,grpo,s,s,gold,0 1,40,44.96,2,60,3,50,4,40
"""
GAINS = """model,method,total,total_sd,total_low,total_high,content,content_sd,form,form_sd,\
form_or_manners_percent,criterion coverage,criterion coverage_sd
tiny,grpo,0.5,0.1,0.4,0.6,0.301,0.1,0.2,0.1,40,0.301,0.1
tiny,the references,0.7,0.1,0.4,0.6,0.7,0.1,0,0,0,0.7,0.1
"""
PAIRS = """model,score,first,second,better,better_low,better_high
tiny,ras,grao,grpo,0.1,0.02,0.35
"""
SHOWN = """# laptop

## What this shows

- s (tiny), judged by gold: **grpo leads.** It has 45.0%. Adjusted for 3 tests, much.

Percent unless said otherwise.
"""


@pytest.fixture
def results(tmp_path):
    tables = tmp_path / "results" / "laptop" / "tables"
    tables.mkdir(parents=True)
    texts = {"main": MAIN, "gains": GAINS, "differences": PAIRS}
    for name, text in texts.items():
        (tables / f"{name}-s-gold.csv").write_text(text)
    elsewhere = MAIN.splitlines()[3].replace(",s,gold,", ",s_new,gold,")
    (tables.parent / "tables.csv").write_text(MAIN + elsewhere)
    (tables.parent / "tables.md").write_text(SHOWN)
    return tmp_path / "results"


def block(name: str, inside: str = "") -> str:
    return f"before\n<!-- {name}: begin -->\n{inside}<!-- {name}: end -->\nafter\n"


@pytest.mark.parametrize("name", ["README.md", "results/README.md"])
def test_the_committed_blocks_are_current(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert ": begin -->" in text
    assert text == remade(ROOT / name), "run python -m grao_bench.reporting.blocks on it"


def test_the_scores_and_the_verdict(results):
    made = made_anew(block("what came out", "old\n"), results, "results/")
    assert "old" not in made
    start = "before\n<!-- what came out: begin -->\n[results/laptop](results/laptop/README.md)"
    assert made.startswith(start)
    assert "| base | 15.0 |  | 3.0 |\n| grao | 20.0 ± 1.3 | 10.0 ± 2.0 | 30.0 ± 3.0 |" in made
    assert "- **s: grpo leads.** It has 45.0%.\n" in made
    assert made == made_anew(made, results, "results/")


def test_the_answers_say_what_a_gain_consists_of_and_how_sure_it_is(results):
    made = " ".join(made_anew(block("answers"), results, "").split())
    assert "- **s: grpo leads.** It has 45.0%. - s. What was gained" in made
    gain = "grpo +0.50 [+0.40, +0.60], of it content +0.30, form +0.20"
    assert f"{gain} (form or manners 40%; by coverage +0.30); the references have +0.70." in made
    right = "right answers base 3.0, grpo 50.0, grao 30.0"
    assert f"{right}; RAS with length controlled base 15.5" in made
    assert "RAS on s_new grpo 45.0." in made
    how = "How sure: a run of grpo scores over one of grao with probability 0.90 [0.65, 0.98]."
    assert f"{how} Adjusted for 3 tests, much." in made
    assert "one base (tiny), one judge (gold) and 40 prompts" in made


def test_what_speaks_against_a_ranking_stands_first(results):
    path = results / "laptop" / "tables.md"
    path.write_text(SHOWN.replace("- s (tiny)", "**Caveat.** It pays for manners.\n\n- s (tiny)"))
    for name in ("answers", "what came out"):
        made = made_anew(block(name), results, "")
        assert made.index("**Caveat.** It pays for manners.") < made.index("grpo leads")


def test_equal_rates_are_listed_by_rate(results):
    shutil.copytree(results / "laptop", results / "equal_rates")
    path = results / "equal_rates" / "tables" / "main-s-gold.csv"
    rows = MAIN
    for name in ("grao", "grpo"):
        rows = rows.replace(f",{name},{name},", f",{name} (optimizer.lr=0.1),{name},")
    path.write_text(rows)
    made = " ".join(made_anew(block("answers"), results, "").split())
    assert "s (2 seeds; grpo leads): optimizer.lr=0.1: grpo 45.0, grao 20.0." in made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (block("another"), "'another' is none of"),
        (block("answers").replace(": end", ""), "is not closed"),
    ],
)
def test_a_block_that_can_not_be_made_is_said_in_a_line(results, capsys, text, said):
    with pytest.raises(UserError, match=said):
        made_anew(text, results, "")
    (results / "README.md").write_text(text)
    assert main([str(results / "README.md")]) == 2
    assert capsys.readouterr().err.startswith("error: block")
    assert main([]) == 2
