"""What the browser of answers is given: every method's lowest seed on the same prompts, cut by a stated rule."""

from __future__ import annotations

import json
from dataclasses import replace

from grao_bench.core.record_files import find_runs
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.page.answers import answer_sets

from .records import HELPFUL, evaluation, write_run

KEY = (HELPFUL, "gold")


def sets_of(root, **options):
    return answer_sets(gather(find_runs(root), {}), lambda folder: folder.name, **options)


def test_methods_stand_beside_their_base(tmp_path):
    records = evaluation([1, -1], prompt="q", reference="r")
    write_run(tmp_path, "base", {KEY: evaluation([-1, -1], prompt="q", reference="r", answer="b")}, config_hash="00000000")
    write_run(tmp_path, "sft", {KEY: [replace(records[0], finished=False), records[1]]}, seed=3)
    write_run(tmp_path, "sft", {KEY: evaluation([0, 0], answer="a later seed's")}, seed=4)
    (found,) = sets_of(tmp_path)
    assert (found["name"], found["reward"], found["total"]) == (HELPFUL, "gold", 2)
    assert found["prompts"] == [["p0", "q", "r"], ["p1", "q", "r"]]
    base, sft = found["methods"]
    assert (base["name"], base["base"], base["trained_on"]) == ("base", None, "")
    assert (sft["name"], sft["base"], sft["seed"], sft["run"]) == ("sft", 0, 3, "seed3")
    assert sft["answers"] == [[1.0, 1.0, 10, 0, "an answer"], [-1.0, -1.0, 11, 1, "an answer"]]
    assert "all 2 prompts" in found["rule"]


def test_more_than_fits_is_drawn_and_said(tmp_path):
    write_run(tmp_path, "sft", {KEY: evaluation([1] * 200, prompt="q" * 50, answer="a" * 50)})
    (found,) = sets_of(tmp_path, most=5000)
    assert 10 < len(found["prompts"]) < 50
    assert len(json.dumps([found["prompts"], found["methods"][0]["answers"]])) < 6000
    assert f"{len(found['prompts'])} of 200 prompts, drawn with seed 0" in found["rule"]
    ids = [prompt[0] for prompt in found["prompts"]]
    assert ids == sorted(ids)
    assert set(ids) != {f"p{i}" for i in range(len(ids))}  # drawn, not the first
    assert ids == [prompt[0] for prompt in sets_of(tmp_path, most=5000)[0]["prompts"]]


def test_records_without_texts_show_ids_and_verdicts(tmp_path):
    write_run(tmp_path, "sft", {KEY: evaluation([1, -1], answer="")})
    (found,) = sets_of(tmp_path)
    assert found["prompts"][0] == ["p0", "", ""]
    assert found["methods"][0]["answers"][1][0] == -1.0
    assert "no texts" in found["rule"]
