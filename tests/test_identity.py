"""A run is what it computes: a folder that was made by other code, prompts, models or data is an error, never an answer."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Objective
from grao_bench.core.record_files import find_runs, read_info, read_run
from grao_bench.core.specs import load
from grao_bench.evaluate import load_experiment
from grao_bench.objectives.sft import SFT
from grao_bench.runs.again import evaluate_again
from grao_bench.runs.identity import computed_by
from grao_bench.runs.run import run
from tests.cells import SMALL_WORLD, cell, contents, small, snapshot, world_rows, write_rows
from tests.commands import Command
from tests.test_run import Stopped, stop_after

REWARD = '''
"""A reward of the user's."""
GOOD = ("the", "a")


def count(text):
    """Articles."""
    return sum(word in GOOD for word in text.split())


def score(prompts, completions, references):
    # per completion
    return [count(text) for text in completions]


def unrelated():
    return 1
'''
SAME = (
    REWARD.replace("# per completion", "# of each").replace('"""Articles."""', '"""How many articles."""'),
    REWARD.replace("return 1", "return 2"),
)
OTHER = (
    REWARD.replace("return [count", "return [-count"),
    REWARD.replace('("the", "a")', '("the",)'),
    REWARD.replace("word in GOOD", "word not in GOOD"),
)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """written(text): the module `users_reward` has this text, and is imported anew."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str, name: str = "users_reward") -> None:
        (tmp_path / f"{name}.py").write_text(text)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()

    yield write
    sys.modules.pop("users_reward", None)


def by_reward(output: Path, **changed: Any) -> Any:
    reward = load("reward/python", function="users_reward.score")
    return cell("grpo", output, reward=reward, **changed)


def test_an_edited_reward_is_another_run_and_a_reformatted_one_is_not(written, tmp_path, capsys):
    written(REWARD)
    experiment = by_reward(tmp_path / "runs")
    folder = run(experiment)
    before = snapshot(folder)
    assert list(read_info(folder).code) == ["reward.function users_reward.score"]

    for text in SAME:
        written(text)
        capsys.readouterr()
        assert run(experiment) == folder
        assert "finished before, nothing is trained" in capsys.readouterr().err
    for text in OTHER:
        written(text)
        with pytest.raises(UserError) as raised:
            run(experiment)
        for words in (str(folder), "reward.function=users_reward.score", "sweep=", "rerun=true"):
            assert words in str(raised.value)
        assert "\n" not in str(raised.value)
    assert snapshot(folder) == before
    assert len(find_runs(tmp_path / "runs")) == 2, "report reads what is there: the run and its base"


def test_rerun_makes_it_anew_and_loses_nothing_before_it_is_complete(written, tmp_path):
    written(REWARD)
    experiment = by_reward(tmp_path / "runs")
    folder = run(experiment)
    before, code = contents(folder, "steps.jsonl"), read_info(folder).code
    written(OTHER[0])

    with pytest.raises(Stopped):
        run(experiment, on_step=stop_after(1), rerun=True)
    assert contents(folder, "steps.jsonl") == before, "the finished run stays until the new one is complete"
    assert [one.folder for one in find_runs(tmp_path / "runs") if one.info.objective == "grpo"] == [folder]
    assert run(experiment, rerun=True) == folder
    assert contents(folder, "steps.jsonl") != before
    assert read_info(folder).code != code
    assert [path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")] == [folder.name]
    assert run(experiment) == folder, "and is from then on the run of that code"


def test_an_unfinished_run_of_other_code_is_not_gone_on_with(written, tmp_path):
    written(REWARD)
    experiment = by_reward(tmp_path / "runs")
    with pytest.raises(Stopped):
        run(experiment, on_step=stop_after(2))
    partial = experiment.folder.with_name("seed0.partial")
    before = snapshot(partial)
    written(OTHER[0])
    with pytest.raises(UserError, match=r"seed0\.partial: was begun before reward\.function=users_reward\.score changed"):
        run(experiment)
    assert snapshot(partial) == before
    folder = run(experiment, rerun=True)
    assert contents(folder, "steps.jsonl") == contents(run(by_reward(tmp_path / "fresh")), "steps.jsonl")


def test_an_unfinished_run_on_other_data_is_not_gone_on_with(tmp_path):
    def on(rows: list[dict[str, Any]]) -> Any:
        path = write_rows(tmp_path / "rows.jsonl", rows)
        return cell(
            "sft",
            tmp_path / "runs",
            data=load("data/jsonl", train=str(path)),
            reward=load("reward/verifiable", rule="exact"),
            model=small("model/tiny", corpus=[str(corpus)], steps=2),
        )

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\nHuman: a\n\nAssistant: b\n" * 50)
    rows = world_rows(40)
    with pytest.raises(Stopped):
        run(on(rows), on_step=stop_after(1))
    with pytest.raises(UserError, match="was begun on other data of the same name"):
        run(on(rows[:-1]))
    folder = run(on(rows))
    with pytest.raises(UserError, match=r"was trained on other data of the same name; give another sweep="):
        run(on(rows[:-1]))
    corpus.write_text("\n\nHuman: a\n\nAssistant: c\n" * 50)
    with pytest.raises(UserError, match=r"model\.corpus=.*corpus\.txt has changed since"):
        run(on(rows))
    assert run(on(rows[:-1]), rerun=True) == folder


OBJECTIVE = """
from dataclasses import dataclass

from grao_bench.core.ops import masked_mean
from grao_bench.core.types import Batch, Loss, Needs, Updates

SCALE = 1.0


class Base:
    @property
    def updates(self):
        return Updates()

    def prepare(self, batch):
        return batch


@dataclass(frozen=True, kw_only=True)
class Mine(Base):
    name: str

    @property
    def needs(self):
        return Needs(chosen=True)

    def loss(self, policy, batch):
        return Loss(parts={"imitation": -SCALE * masked_mean(policy.logp, batch.mask)[:, batch.column("chosen")]})
"""


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (OBJECTIVE.replace("-SCALE", "- SCALE").replace("\n\n\n", "\n\n"), True),
        (OBJECTIVE.replace("-SCALE", "-2.0 * SCALE"), False),
        (OBJECTIVE.replace("SCALE = 1.0", "SCALE = 2.0"), False),
        (OBJECTIVE.replace("        return batch", "        return batch.fill(x=batch.mask)"), False),
    ],
    ids=["layout", "its loss", "a constant", "its base's prepare"],
)
def test_a_users_objective_is_its_code(text, same, written):
    def code() -> dict[str, str]:
        module = importlib.import_module("users_objective")
        return computed_by(replace(cell("sft", "runs"), objective=module.Mine(name="mine")))

    found = []
    for each in (OBJECTIVE, text):
        written(each, "users_objective")
        found.append(code())
    assert list(found[0]) == ["objective users_objective.Mine"]
    assert (found[0] == found[1]) == same
    sys.modules.pop("users_objective")


@dataclass(frozen=True, kw_only=True)
class Added:
    """A reward that a notebook makes."""

    weigh: Any

    def needs_reference(self, data: Any) -> bool:
        return False

    def check(self, data: Any) -> None: ...

    def build(self, data: Any) -> Any: ...


def test_code_in_a_field_is_read_and_written_down_by_name():
    """As a notebook gives it; the configuration names it."""
    weighs = (lambda x: x, lambda x: -x)
    specs = [Added(weigh=weigh) for weigh in weighs]
    one, other = (computed_by(cell("sft", "runs", reward=spec)) for spec in specs)
    named = f"reward.weigh {__name__}.{weighs[0].__qualname__}"
    assert list(one) == list(other) == [f"reward {__name__}.Added", named]
    assert one != other


def test_a_class_of_ours_without_a_revision_is_read_as_a_users(monkeypatch):
    """An objective that somebody adds to the package is edited there."""
    monkeypatch.delattr(SFT, "revision")
    assert list(computed_by(cell("sft", "runs"))) == ["objective grao_bench.objectives.sft.SFT"]
    monkeypatch.undo()
    assert computed_by(cell("sft", "runs")) == {}
    assert isinstance(load("objective/sft"), Objective)


def test_a_judges_prompt_counts_by_its_text(tmp_path):
    prompt = tmp_path / "mine.md"
    text = "{context}\n{text_1}\n{text_2}\n1 > 2\n1 = 2\n1 < 2\n"
    judge = load("reward/judge_local_helpful", prompt=str(prompt), model=load_model(tmp_path))
    found = []
    for each in (text, text, text + "Be strict.\n"):
        prompt.write_text(each)
        found.append(computed_by(cell("sft", "runs", reward=judge)))
    assert found[0] == found[1] != found[2]
    assert f"reward.prompt {prompt}" in found[0]


def load_model(folder: Path) -> Any:
    from grao_bench.models.likelihood import LikelihoodModel

    return LikelihoodModel(path=str(folder), prompt_format="hh", max_prompt_tokens=64, tokens_per_forward=64, dtype="float32", device="cpu")


def test_a_model_in_a_folder_counts_by_its_files(tmp_path):
    """A reward model or a base that was made anew in the same place; a start that was trained anew."""
    (tmp_path / "world_helpful").mkdir()
    weights = tmp_path / "world_helpful" / "model.safetensors"
    (tmp_path / "run" / "model").mkdir(parents=True)
    start = tmp_path / "run" / "model" / "model.safetensors"
    start.write_bytes(b"1")
    experiment = cell(
        "sft",
        "runs",
        reward=load("reward/reward_model", path=f"{tmp_path}/{{data}}"),
        model=small("model/tiny", start_from=str(tmp_path / "run")),
    )
    found = []
    for content, size in ((b"a", 2**20), (b"a", 2**20), (b"b", 2**20), (b"a", 2**27)):
        weights.write_bytes(content * size)
        os.utime(weights, ns=(len(found), len(found)))
        found.append(computed_by(experiment))
    assert found[0] == found[1]
    assert len({tuple(one.items()) for one in found}) == 3
    start.write_bytes(b"2")
    os.utime(start, ns=(9, 9))
    assert computed_by(experiment) != found[-1]
    assert list(found[0]) == [f"model.start_from {tmp_path}/run/model", f"reward.path {tmp_path}/world_helpful"]


def test_a_change_of_one_weight_in_a_large_file_is_seen_where_training_moves_all(tmp_path):
    from grao_bench.core.provenance import SMALL_FILE, content_digest

    path = tmp_path / "weights"
    path.write_bytes(bytes(SMALL_FILE + 10**6))
    before = content_digest(str(path))
    path.write_bytes(bytes([1]) * (SMALL_FILE + 10**6))
    assert content_digest(str(path)) != before
    assert content_digest("owner/name") == {}


def test_a_model_below_the_home_folder_is_read_too(tmp_path, monkeypatch):
    from grao_bench.core.provenance import content_digest

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights").write_bytes(b"1")
    found = content_digest("~/weights")
    assert found == {"~/weights": content_digest(str(tmp_path / "weights"))[f"{tmp_path}/weights"]}


def test_code_that_can_not_be_read_is_said(tmp_path, monkeypatch, capsys):
    """A reward from an extension in C: the run is made, with a line."""
    written = tmp_path / "users_c.py"
    written.write_text("from operator import length_hint\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    reward = load("reward/python", function="users_c.length_hint")
    assert computed_by(cell("grpo", "runs", reward=reward)) == {"reward.function users_c.length_hint": "unread"}


def test_what_is_skipped_says_where_and_what_was_asked_otherwise(tmp_path, capsys):
    experiment = cell("sft", tmp_path)
    folder = run(experiment)
    capsys.readouterr()
    budget = replace(experiment.budget, tokens_per_forward=512, probe_every=2)
    assert run(replace(experiment, budget=budget)) == folder
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(f"{folder}: finished before, nothing is trained")
    assert "budget.tokens_per_forward=512 asked, 16384 there" in said
    assert "budget.probe_every=2 asked, 1 there" in said


def test_a_finished_run_is_not_evaluated_by_a_judge_that_has_changed(written, tmp_path):
    written(REWARD)
    folder = run(by_reward(tmp_path / "runs"))
    own = load_experiment(folder, ["users_reward"])
    assert evaluate_again(own, own, folder)[0] == []
    written(OTHER[0])
    with pytest.raises(UserError, match=r"reward\.function=users_reward\.score has changed since it was made"):
        evaluate_again(own, own, folder)
    other = replace(own, evaluation=replace(own.evaluation, reward=load("reward/gold")))
    evaluate_again(own, other, folder)
    assert ("world_helpful", "gold") in read_run(folder).evaluations


def test_a_grid_knows_it_before_its_first_cell(written, tmp_path):
    """In a process of its own, which imports the user's module from the folder it stands in."""
    written(REWARD)
    slow = {"optimizer": load("optimizer/adamw", lr=0.002)}
    run(by_reward(tmp_path / "runs", sweep="grid", **slow))
    written(OTHER[0])
    before = snapshot(tmp_path / "runs" / "grid" / "tiny")
    reward = ("reward=python", "reward.function=users_reward.score")
    cells = ("-m", "objective=sft,grpo", "sweep=grid", *reward, *SMALL_WORLD)
    refused = Command(tmp_path, "train", *cells).wait()
    assert refused.code == 2, refused.err
    first, second = refused.err.splitlines()
    assert first == "grao_bench: nothing was trained, because of"
    assert "objective=grpo" in second
    assert "reward.function=users_reward.score has changed since; give another sweep=" in second
    assert snapshot(tmp_path / "runs" / "grid" / "tiny") == before, "not even the good cell"


def test_a_grid_says_what_it_skips(command, tmp_path):
    run(cell("sft", tmp_path / "runs", sweep="grid", optimizer=load("optimizer/adamw", lr=0.002)))
    outcome = command("train", "-m", "objective=sft", "sweep=grid", *SMALL_WORLD)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("finished before, nothing is trained; rerun=true makes it anew") == 1


def test_rerun_is_a_flag(command):
    outcome = command("train", "rerun=maybe", *SMALL_WORLD)
    assert outcome.code == 2
    assert outcome.err == "grao_bench: rerun=maybe: must be true or false\n"
