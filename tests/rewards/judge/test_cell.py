"""A cell that an LLM judges, from the command line to the report: verdicts, exclusions, prompts, counts and cost, and nowhere the key."""

from __future__ import annotations

import json

import pytest

from grao_bench.core.record_files import read_run
from grao_bench.rewards.judge.prompt import load_prompt
from tests.cells import SMALL_WORLD

from .fault_server import KEY, MODEL, Behaviour, serving
from .setting import KEY_VARIABLE

ROUTES = ("helpful", "harmless")
GRID = (
    *SMALL_WORLD,
    "objective=grpo",
    "evaluation.sets=all",
    "reward=routed",
    *(f"reward@reward.routes.{one}=judge_{one}" for one in ROUTES),
)


def no_nan(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_from_the_command_line_to_the_report(tmp_path, command):
    # an endpoint that now and then says nothing that can be read, and is not asked twice
    with serving(Behaviour(share=0.15, faults=("garbage",))) as server:
        asked = {
            "base_url": server.url,
            "model": MODEL,
            "api_key_env": KEY_VARIABLE,
            "cache": "judge.sqlite",
            "ask_again": 0,
            "max_excluded": 1,
        }
        settings = [f"reward.routes.{route}.{key}={value}" for route in ROUTES for key, value in asked.items()]
        environment = {KEY_VARIABLE: KEY, "NO_PROXY": "127.0.0.1"}
        first = command("train", *GRID, *settings, **environment)
        assert first.code == 0, first.err
        calls, tokens = server.log.calls, (server.log.prompt_tokens, server.log.completion_tokens)
        again = command("train", *GRID, *settings, "sweep=again", **environment)
        assert again.code == 0, again.err
        assert server.log.calls == calls, "a rerun asks nothing"
    reported = command("report", "runs/single")
    assert reported.code == 0, reported.err

    folder = tmp_path / first.out.splitlines()[-1]
    run = read_run(folder)
    sets = {"world_helpful", "world_harmless", "world_helpful_new"}
    assert set(run.evaluations) == {(name, "routed") for name in sets}
    records = [record for found in run.evaluations.values() for record in found]
    assert {record.excluded for record in records} == {True, False}
    for record in records:
        ours, theirs = record.answer.count("e"), record.reference.count("e")
        assert record.verdict == (0 if record.excluded else (ours > theirs) - (ours < theirs))
    assert any(step.metrics.get("reward/excluded", 0) > 0 for step in run.steps)
    for path in (*folder.rglob("*.jsonl"), folder / "run.json"):
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(line, parse_constant=no_nan)

    for route in ROUTES:
        assert (folder / f"judge_prompt-judge_{route}.md").read_text() == load_prompt(route).text
        told = run.info.judges[f"world_{route}/routed"][f"{route}/judge_{route}"]
        assert told.position_consistency == 1.0
        assert 0 < told.excluded < 1
        assert told.cost * 1e6 == pytest.approx(0.27 * tokens[0] + 1.1 * tokens[1])
    (tables,) = (tmp_path / "runs" / "single").rglob("tables.md")
    for title in ("Table 6: the judge's prompt, judge_helpful", "Table 7: the judge's prompt, judge_harmless", "% of answers excluded"):
        assert title in tables.read_text()

    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "config.yaml" and KEY_VARIABLE in path.read_text() for path in kept)
    assert [path for path in kept if KEY.encode() in path.read_bytes()] == []
    assert all(KEY not in text for outcome in (first, again, reported) for text in (outcome.out, outcome.err))
