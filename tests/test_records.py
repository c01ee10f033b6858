"""Run records: what is written is read back, and what is broken is named."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import (
    append_line,
    find_runs,
    find_unfinished,
    plain_or_gz,
    read_info,
    read_lines,
    read_records,
    read_run,
    write_info,
    write_lines,
)
from grao_bench.core.records import Criteria, EvalRecord, JudgeCounts, Lengths, ProbeRecord, RunInfo, StepRecord

STEP = StepRecord(step=1, metrics={"loss": 0.1 + 0.2, "lr": 1e-6}, prompts=8, answers=64, generated_tokens=512, forward_tokens=900)
PROBE = ProbeRecord(step=0, metrics={"kl": 0.0, "ras": 1 / 3})
EVALUATION = EvalRecord("e1", 1.0, 0.25, 17, True, {"on topic": 0.5}, "Why?\nWhy “not”?", "Because.", "Ünïcode \u2028 answer")
INFO = RunInfo(
    "grao",
    "tiny",
    "world_helpful",
    "gold",
    3,
    "0123abcd",
    {"seed": 3},
    {"data": "ff"},
    {"torch": "2"},
    drops={"no answer": 2},
    lengths={
        "training": Lengths(128, 3, 7, "drop"),
        "world_helpful": Lengths(64, 0, 1, "drop"),
    },
    judges={
        "training": {"mine": JudgeCounts(judged=4, excluded=0.25, other={"mood": 0.5})},
        "world_helpful/routed": {"helpful/judge": JudgeCounts(calls=3, cost=0.5, faults={"timeout": 1})},
    },
    peak_memory=700 * 2**20,
    kept_step=40,
    sweep="demo",
    hash_version=1,
    criteria={"world_helpful/gold": Criteria("score", {"coverage": "content"}, {"coverage": 2.0})},
)
OLD_NOTES = {
    "dropped: no answer: or an empty one": 2.0,
    "training examples": 128.0,
    "prompts cut from the left": 3.0,
    "answers over max_answer_tokens (drop)": 7.0,
    "world_helpful test: examples": 64.0,
    "world_helpful test: prompts cut from the left": 0.0,
    "world_helpful test: answers over max_answer_tokens (drop)": 1.0,
    "training: mine: judged": 4.0,
    "training: mine: excluded": 0.25,
    "training: mine: mood": 0.5,
    "world_helpful test: routed: helpful: calls": 3.0,
    "world_helpful test: routed: helpful: cost_of_cache": 0.5,
    "world_helpful test: routed: helpful: fault: status 500": 2.0,
    "world_helpful test_T0: judge: position_consistency": 0.75,
    "world_helpful test_T0: judge: usage not reported": 1.0,
    "peak memory MiB": 700,
    "kept the policy of step": 40.0,
}


def make_run(folder, info=INFO):
    (folder / "evaluations").mkdir(parents=True)
    write_info(folder, info)
    write_lines(folder / "steps.jsonl", [STEP])
    append_line(folder / "probes.jsonl", PROBE)
    append_line(folder / "timing.jsonl", {"step": 1, "seconds": 0.5})
    write_lines(folder / "evaluations" / "world_helpful-gold.jsonl.gz", [EVALUATION])
    return folder


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
@pytest.mark.parametrize("record", [STEP, PROBE, EVALUATION], ids=["step", "probe", "evaluation"])
def test_a_record_is_read_back_as_it_was_written(tmp_path, name, record):
    """Floats to the last bit, line separators and quotes inside texts too."""
    write_lines(tmp_path / name, [record, record])
    assert read_records(tmp_path / name, type(record)) == [record, record]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_compressed_file_holds_the_same_bytes_each_time(tmp_path):
    write_lines(tmp_path / "a.jsonl.gz", [STEP])
    write_lines(tmp_path / "b.jsonl.gz", [STEP])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert json.loads(gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()))["metrics"]["loss"] == 0.1 + 0.2


def test_appending_adds_lines_and_writing_replaces_them(tmp_path):
    path = tmp_path / "steps.jsonl"
    append_line(path, STEP)
    append_line(path, STEP)
    assert len(list(read_lines(path))) == 2
    write_lines(path, [STEP])
    assert len(list(read_lines(path))) == 1


def test_an_absent_file_has_no_records_and_a_blank_line_is_none(tmp_path):
    assert read_records(tmp_path / "absent.jsonl", StepRecord) == []
    (tmp_path / "blank.jsonl").write_text('\n{"a": 1}\n\n')
    assert list(read_lines(tmp_path / "blank.jsonl")) == [{"a": 1}]


@pytest.mark.parametrize(("line", "reason"), [('{"a": 1', "not JSON"), ("[1]", "expected a JSON object, found list")])
def test_a_malformed_line_is_named_with_its_number(tmp_path, line, reason):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n' + line + "\n")
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}:2: {reason}"):
        list(read_lines(path))


def test_a_file_cut_short_or_of_another_kind_is_named(tmp_path):
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    for name, content in (("cut.jsonl.gz", whole[:-9]), ("plain.jsonl.gz", b'{"a": 1}\n'), ("bytes.jsonl", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
            list(read_lines(tmp_path / name))


def test_unknown_keys_are_left_out_and_a_missing_one_is_named(tmp_path):
    path = tmp_path / "probes.jsonl"
    path.write_text('{"step": 0, "metrics": {}, "since_version_9": 1}\n')
    assert read_records(path, ProbeRecord) == [ProbeRecord(0, {})]
    path.write_text('{"step": 0, "metrics": {}}\n{"step": 1}\n')
    with pytest.raises(UserError, match=r"probes.jsonl:2: not a ProbeRecord .*metrics"):
        read_records(path, ProbeRecord)


def test_run_info_is_read_back_and_its_absence_or_damage_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no run.json; give the folder of a finished run"):
        read_info(tmp_path)
    write_info(tmp_path, INFO)
    assert read_info(tmp_path) == INFO
    (tmp_path / "run.json").write_text('{"objective": "grao"}')
    with pytest.raises(UserError, match=r"run.json: not a run's record"):
        read_info(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": "x"},
        {"drops": [1]},
        {"fingerprints": None},
        {"config": None},
        {"peak_memory": "much"},
        {"hash_version": None},
        {"lengths": {"training": asdict(Lengths(9, 0, 0, "cut")) | {"examples": "9"}}},
        {"judges": {"training": {"judge": {"calls": "9"}}}},
    ],
)
def test_a_run_info_of_other_types_is_named(tmp_path, wrong):
    (tmp_path / "run.json").write_text(json.dumps(asdict(INFO) | wrong))
    with pytest.raises(UserError, match=r"run.json: not a run's record"):
        read_info(tmp_path)


def test_an_old_record_is_read_into_the_fields_of_a_new_one(tmp_path):
    """Every note that a run ever wrote, by hand."""
    new = ("drops", "lengths", "judges", "peak_memory", "kept_step", "hash_version")
    old = {key: value for key, value in asdict(INFO).items() if key not in new} | {"notes": OLD_NOTES}
    (tmp_path / "run.json").write_text(json.dumps(old))
    info = read_info(tmp_path)
    assert info.drops == {"no answer: or an empty one": 2}
    assert info.lengths == INFO.lengths
    assert info.judges == {
        "training": INFO.judges["training"],
        "world_helpful/routed": {"helpful": JudgeCounts(calls=3, cost=0.5, faults={"status 500": 2})},
        "world_helpful/judge_T0": {"judge": JudgeCounts(position_consistency=0.75, usage_not_reported=1)},
    }
    assert (info.peak_memory, info.kept_step, info.hash_version) == (700 * 2**20, 40, 0)
    write_info(tmp_path, info)
    assert read_info(tmp_path) == info
    assert "notes" not in json.loads((tmp_path / "run.json").read_text())


TESTS = Path(__file__).parent
FIRST = sorted((TESTS / "first_records").rglob("run.json"))
"""Of the first results/laptop, written before lengths and memory had fields of their own."""
RECORDED = sorted((TESTS.parent / "results").rglob("run.json"))


def test_the_first_records_are_read():
    assert len(FIRST) == 3
    for info in (read_info(path.parent) for path in FIRST):
        assert set(info.lengths) == {"training", "world_helpful", "world_harmless"}
        assert {lengths.rule for lengths in info.lengths.values()} == {"cut"}
        assert info.lengths["training"].examples > info.lengths["world_helpful"].examples > 100
        assert 500 * 2**20 < info.peak_memory < 2000 * 2**20
        assert (info.hash_version, info.drops, info.judges, info.kept_step) == (0, {}, {}, None)


def test_every_recorded_run_is_read():
    assert len(RECORDED) >= 60
    found = [read_info(path.parent) for path in RECORDED]
    trained = [info for info in found if info.objective != "base" and info.lengths]
    assert len(trained) >= 60
    assert {info.role for info in found if info not in trained and info.objective != "base"} == {"control"}
    for info in trained:
        assert set(info.lengths) >= {"training", "world_helpful", "world_harmless"}
        assert info.lengths["training"].examples > info.lengths["world_helpful"].examples > 100
        assert info.peak_memory > 500 * 2**20
        assert info.hash_version == 2


def test_the_plain_file_is_read_where_both_exist(tmp_path):
    (tmp_path / "a.jsonl.gz").touch()
    assert plain_or_gz(tmp_path / "a.jsonl").name == "a.jsonl.gz"
    (tmp_path / "a.jsonl").touch()
    assert plain_or_gz(tmp_path / "a.jsonl").name == "a.jsonl"


def test_a_run_is_read_whole(tmp_path):
    folder = make_run(tmp_path / "seed3")
    (folder / "evaluations" / "world_harmless-gold.jsonl.partial").write_text("half a li")
    run = read_run(folder)
    assert (run.info, run.steps, run.probes, run.timing) == (INFO, [STEP], [PROBE], [{"step": 1, "seconds": 0.5}])
    assert run.evaluations == {("world_helpful", "gold"): [EVALUATION]}


def test_only_finished_runs_are_found(tmp_path):
    for name in ("b/seed1", "a/seed0", "b/seed0.partial"):
        make_run(tmp_path / name)
    (tmp_path / "b" / "seed2.partial").mkdir()
    (tmp_path / "b" / "seed2.partial" / "error.txt").write_text("the disk is full\n")
    assert [str(run.folder.relative_to(tmp_path)) for run in find_runs(tmp_path)] == ["a/seed0", "b/seed1"]
    reasons = {str(path.relative_to(tmp_path)): reason for path, reason in find_unfinished(tmp_path).items()}
    assert reasons == {"b/seed0.partial": "unfinished", "b/seed2.partial": "the disk is full"}


def test_no_runs_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_runs(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no finished run"):
        find_runs(tmp_path)
