"""Run records: what is written is read back, and what is broken is named."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from grao_bench.errors import UserError
from grao_bench.records import (
    EvalRecord,
    ProbeRecord,
    RunInfo,
    StepRecord,
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

STEP = StepRecord(step=1, metrics={"loss": 0.1 + 0.2, "lr": 1e-6}, prompts=8, answers=64, generated_tokens=512, forward_tokens=900)
PROBE = ProbeRecord(step=0, metrics={"kl": 0.0, "ras": 1 / 3})
EVALUATION = EvalRecord("e1", 1.0, 0.25, 17, True, {"on topic": 0.5}, "Why?\nWhy “not”?", "Because.", "Ünïcode \u2028 answer")
INFO = RunInfo(
    "grao", "tiny", "world_helpful", "gold", 3, "0123abcd", {"seed": 3}, {"data": "ff"}, {"torch": "2"}, {"dropped": 1.0}, "demo"
)


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
