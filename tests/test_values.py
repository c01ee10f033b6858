"""Specs as values: their types are checked, they can be written down, hashed and made again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import yaml

from grao_bench.core import values
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Sampling
from grao_bench.core.specs import load, rebuild
from grao_bench.core.values import check_types, describe, value_hash
from grao_bench.objectives import load_objective
from grao_bench.objectives.dpo import IPO


@dataclass(frozen=True, kw_only=True)
class Leaf:
    rate: float
    steps: int | None
    mode: Literal["a", "b"]
    betas: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Root:
    leaf: Leaf
    answers: Mapping[str, Sequence[str]]
    on: bool


LEAF = Leaf(rate=0.5, steps=3, mode="a", betas=[0.9, 0.95])
ROOT = Root(leaf=LEAF, answers={"*": ["yes", "no"]}, on=True)


def test_right_types_pass_and_a_whole_number_is_a_float():
    check_types(ROOT)
    check_types(replace(LEAF, rate=1, steps=None))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": "0.5"}, "leaf.rate='0.5': expected float, got str"),
        ({"rate": True}, "leaf.rate=True: expected float, got bool"),
        ({"rate": None}, "leaf.rate=None: expected float, got NoneType"),
        ({"steps": 3.0}, "leaf.steps=3.0: expected int | None, got float"),
        ({"steps": "3"}, "leaf.steps='3': expected int | None, got str"),
        ({"mode": "c"}, "leaf.mode='c': expected Literal['a', 'b'], got str"),
        ({"betas": 0.9}, "leaf.betas=0.9: expected Sequence[float], got float"),
    ],
)
def test_a_wrong_type_is_named_with_its_config_key(wrong, message):
    with pytest.raises(UserError) as raised:
        check_types(replace(ROOT, leaf=replace(LEAF, **wrong)))
    assert str(raised.value).replace('"', "'") == message


def test_a_flag_given_as_a_word_is_refused():
    with pytest.raises(UserError, match="on='yes': expected bool"):
        check_types(replace(ROOT, on="yes"))


def test_describe_writes_what_hydra_would_read():
    written = {"name": "ipo", "beta": 0.5, "length": "mean"}
    assert describe(IPO(**written)) == {"_target_": "grao_bench.objectives.dpo.IPO"} | written
    assert describe({"pair": (1, 2), "none": None}) == {"pair": [1, 2], "none": None}


def test_a_described_spec_survives_yaml_and_is_made_again():
    text = yaml.safe_dump(describe(ROOT))
    assert rebuild(yaml.safe_load(text), "config.yaml", trust=[__name__]) == ROOT


@pytest.mark.parametrize(
    "value",
    [
        {"_target_": "grao_bench.objectives.grao.Gone", "name": "x"},
        {"_target_": "grao_bench.gone.GRAO", "name": "x"},
        {"_target_": "grao_bench.objectives.dpo.DPO", "name": "x", "beta": 0.1, "gone": 1},
    ],
)
def test_rebuilding_what_no_longer_exists_names_the_file_and_the_class(value):
    with pytest.raises(UserError, match=rf"^runs/x/config.yaml: {value['_target_']} can't be made again"):
        rebuild([value], "runs/x/config.yaml")


def test_a_hash_is_the_same_in_another_process_and_changes_with_any_field():
    spec = load_objective("grao")
    code = (
        "from grao_bench.objectives import load_objective as l; from grao_bench.core.values import value_hash as h; print(h(l('grao'), 1))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "12345"})
    assert value_hash(spec, 1) == other.stdout.strip()
    changed = [
        load_objective("grao", **{name: value}) for name, value in (("beta", 0.51), ("group", "outputs_and_reference"), ("rollouts", 9))
    ]
    assert len({value_hash(each, 1) for each in (spec, *changed)} | {value_hash(spec, 2)}) == 5


def test_a_hash_is_of_one_version(monkeypatch):
    before = value_hash("x")
    monkeypatch.setattr(values, "HASH_VERSION", values.HASH_VERSION + 1)
    assert value_hash("x") != before


def test_a_hash_tells_classes_apart_and_ignores_the_order_of_keys():
    @dataclass(frozen=True)
    class Other:
        name: str
        beta: float
        length: str

    fields = {"name": "x", "beta": 0.5, "length": "mean"}
    assert value_hash(IPO(**fields)) != value_hash(Other(**fields))
    assert value_hash({"a": 1, "b": 2}) == value_hash({"b": 2, "a": 1})
    assert json.loads(json.dumps(describe(ROOT))) == describe(ROOT)


def test_load_objective_reads_the_yaml_and_changes_what_is_asked():
    assert load_objective("grao", beta=0.3) == replace(load_objective("grao"), beta=0.3)
    assert load_objective("ipo") == IPO(name="ipo", beta=0.3, length="mean")


def test_load_objective_names_an_unknown_objective_and_an_unknown_field():
    with pytest.raises(UserError, match=r"objective=graoo: no such file .*grao, grao_clip0, .*grpo, .*ppo, sft"):
        load_objective("graoo")
    with pytest.raises(UserError, match=r"objective\.grao\.betta: no such field.* name, rollouts, equation, alpha"):
        load_objective("grao", betta=0.3)


def test_load_reads_any_group_and_what_a_file_builds_on():
    """reward_model_sign is reward_model with another mode."""
    sign, score = load("reward/reward_model_sign"), load("reward/reward_model")
    assert sign == replace(score, mode="sign")
    with pytest.raises(UserError, match=r"model\.hf\.path: has no value"):
        load("model/hf")
    assert load("model/hf", path="some/folder").path == "some/folder"


def test_what_moved_keeps_its_hash():
    """As the bases of committed results have it in their folders' names."""
    sampling = Sampling(temperature=0.7, top_p=1.0, max_new_tokens=16, stop=("\n",))
    assert value_hash(sampling) == "7594f00f"
