"""Every reward on the command line: what it says of itself, how a composed one is put together there, and cells that learn from one."""

from __future__ import annotations

import json

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from grao_bench.cli.command_line import sweeps_parent, to_value
from grao_bench.core.errors import UserError
from grao_bench.core.record_files import read_run
from grao_bench.core.specs import conf_dir, load
from grao_bench.data.gsm8k import GSM8KData
from grao_bench.data.world import WorldData
from grao_bench.rewards.callable import PythonReward
from grao_bench.rewards.gold import GoldReward
from grao_bench.rewards.mixture import Mixture, Routed
from grao_bench.rewards.reward_model import RewardModel
from grao_bench.rewards.shaping import Clip, Shaped
from grao_bench.rewards.verifiable import Verifiable
from grao_bench.train import NO_FIELDS
from tests.cells import SMALL_WORLD

WORLD = WorldData("world_helpful", "helpful", 0, 5, 5, 5, 0.0, 5, "known")


def composed(*overrides: str):
    """The spec that `reward=...` and further words make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAO_BENCH_SWEEPS_PARENT", str(sweeps_parent()))
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
            return to_value(compose("train", overrides=list(overrides)), NO_FIELDS).reward


@pytest.mark.parametrize(
    ("overrides", "needed"),
    [
        (["reward=gold"], True),
        (["reward=gold_score"], False),
        (["reward=gold_free_text"], True),
        (["reward=gold_free_text", "reward.mode=score"], False),
        (["reward=judge_helpful"], True),
        (["reward=judge_local_helpful", "reward.model.path=some_model"], True),
        (["reward=reward_model"], False),
        (["reward=reward_model_sign"], True),
        (["reward=reward_model_margin"], True),
        (["reward=verifiable"], True),
        (["reward=verifiable", "reward.column=answer"], False),
        (["reward=verifiable", "reward.rule=regex", "reward.pattern=thank"], False),
        (["reward=verifiable", "reward.rule=regex", 'reward.pattern="(thank)"'], True),
        (["reward=python", "reward.function=math.dist"], False),
        (["reward=python", "reward.function=math.dist", "reward.pairwise=true"], True),
        (["reward=shaped"], False),
        (["reward=shaped", "reward@reward.source=gold", "reward.shaping=[clip]"], True),
        (["reward=mixture", "reward@reward.parts.verdict.source=gold_score"], False),
        (["reward=mixture"], True),
        (["reward=routed"], True),
        (["reward=routed", "reward@reward.routes.helpful=gold_score"], False),
    ],
    ids=str,
)
def test_every_source_says_whether_it_reads_the_reference(overrides, needed):
    """Of data=world_helpful: a route that leads elsewhere is no matter."""
    assert composed(*overrides).needs_reference(WORLD) is needed


@pytest.mark.parametrize(
    ("overrides", "name", "pairwise"),
    [
        (["reward=gold"], "gold", True),
        (["reward=gold_score"], "gold_score", False),
        (["reward=gold_free_text"], "gold_free_text", True),
        (["reward=gold_free_text", "reward.mode=score"], "gold_free_text_score", False),
        (["reward=verifiable"], "verifiable_gsm8k", False),
        (["reward=python", "reward.function=math.dist"], "python_dist", False),
        (["reward=python", "reward.function=math.dist", "reward.pairwise=true"], "python_dist", True),
        (["reward=mixture"], "mixture", False),
        (["reward=routed"], "routed", True),
        (["reward=routed", "reward@reward.routes.helpful=gold_score"], "routed", False),
        (["reward=shaped"], "gold_score", False),
        (["reward=shaped", "reward@reward.source=gold"], "gold", True),
        (["reward=shaped", "reward@reward.source=gold", "reward.shaping=[clip]"], "gold_clip", False),
    ],
)
def test_every_source_says_whether_it_is_pairwise(overrides, name, pairwise):
    source = composed(*overrides).build(WORLD)
    assert (source.name, source.pairwise) == (name, pairwise)
    assert isinstance(source.fingerprint, str)
    assert source.tie_margin >= 0


def test_a_mixture_is_composed_on_the_command_line():
    found = composed(
        "reward=mixture",
        "reward@reward.parts.score.source=reward_model",
        "+reward@reward.parts.own.source=python",
        "+reward.parts.own._target_=grao_bench.rewards.mixture.Part",
        "reward.parts.own.source.function=math.dist",
        "+reward.parts.own.weight=0.25",
        "reward.parts.score.weight=2.0",
    )
    assert isinstance(found, Mixture)
    assert {name: (type(part.source), part.weight) for name, part in found.parts.items()} == {
        "verdict": (GoldReward, 1.0),
        "score": (RewardModel, 2.0),
        "own": (PythonReward, 0.25),
    }


def test_routes_are_composed_on_the_command_line():
    found = composed("reward=routed", "reward@reward.routes.harmless=gold_score", "+reward@reward.routes.gsm8k=verifiable")
    assert isinstance(found, Routed)
    assert {name: type(spec) for name, spec in found.routes.items()} == {
        "helpful": GoldReward,
        "harmless": GoldReward,
        "gsm8k": Verifiable,
    }
    assert isinstance(found.routes["harmless"], GoldReward)
    assert found.routes["harmless"].mode == "score"


def test_shapes_are_composed_on_the_command_line():
    found = composed("reward=shaped", "reward@reward.source=mixture", "reward.shaping=[repetition,clip]", "reward.clip.high=0.5")
    assert isinstance(found, Shaped)
    assert isinstance(found.source, Mixture)
    assert (list(found.shaping), found.clip) == (["repetition", "clip"], Clip(low=-1.0, high=0.5))
    assert found.build(WORLD).name == "mixture_repetition_clip"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reward=shaped", "reward.shaping=[clap]"], r"reward\.shaping=clap: must be one of length"),
        (["reward=mixture", "reward.parts.score.weight=.inf"], r"reward\.parts\.score\.weight=\.inf: must be a finite number"),
        (["reward=verifiable", "reward.rule=regex"], r"reward\.pattern=None: is for reward\.rule=regex"),
        (["reward=gold_free_text", "reward.tie_band=-1"], r"reward\.tie_band=-1: must not be negative"),
    ],
)
def test_a_mistake_is_one_line(overrides, message):
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)  # as installed: a user has no signature checks
    try:
        with pytest.raises(UserError, match=message) as raised:
            composed(*overrides)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert "\n" not in str(raised.value)


def test_reward_and_set_are_chosen_apart():
    """Any rule can look at any set's references; the data's spec knows no reward."""
    verifiable = composed("reward=verifiable", "reward.rule=exact")
    verifiable.check(WORLD)
    verifiable.check(GSM8KData("gsm8k", None, "x", 0.1, 0.1, "strip", None, 0, None))


def test_a_cell_learns_from_a_shaped_mixture_with_a_function_in_it(tmp_path, command):
    words = (
        "reward=shaped",
        "reward@reward.source=mixture",
        "reward.shaping=[unfinished,repetition,clip]",
        "+reward@reward.source.parts.own.source=python",
        "+reward.source.parts.own._target_=grao_bench.rewards.mixture.Part",
        "reward.source.parts.own.source.function=tests.rewards.functions.shorter",
        "+reward.source.parts.own.weight=0.5",
    )
    outcome = command("train", "objective=grpo", *SMALL_WORLD, *words)
    assert outcome.code == 0, outcome.err
    (path,) = (tmp_path / outcome.out.splitlines()[-1] / "evaluations").glob("*.jsonl")
    for line in path.read_text().splitlines():
        record = json.loads(line)
        assert -1 <= record["reward"] <= 1
        parts = record["parts"]
        unshaped = parts["verdict/reward"] + 0.5 * parts["score/reward"] + 0.5 * parts["own/reward"]
        assert parts["unshaped/reward"] == pytest.approx(unshaped)
        changes = [parts[f"{name}/reward"] for name in ("unfinished", "repetition", "clip")]
        assert record["reward"] == pytest.approx(parts["unshaped/reward"] + sum(changes))


def test_a_notebook_loads_composed_rewards_too():
    """Without Hydra: the files that the defaults list puts in places of it."""
    mixture, shaped = load("reward/mixture"), load("reward/shaped", shaping=["clip"])
    assert mixture == composed("reward=mixture")
    assert load("reward/routed") == composed("reward=routed")
    assert (shaped.source, shaped.build(WORLD).name) == (load("reward/gold_score"), "gold_score_clip")
    assert load("reward/reward_model_margin").mode == "margin"


def test_a_step_record_has_the_statistics_of_each_part(tmp_path, command):
    """reward/<part>/mean and /std over the step's rollouts; the sum of the means, weighted, is the mean of the reward. Shapes that count
    tokens get them in training, probes and evaluation."""
    shapes = ("reward=shaped", "reward@reward.source=mixture", "reward.shaping=[length,soft_overlong]", "reward.length.target=4")
    limits = ("reward.length.per_token=0.01", "reward.soft_overlong.longest=16", "reward.soft_overlong.cache=8")
    outcome = command("train", "objective=grao", *SMALL_WORLD, *shapes, *limits)
    assert outcome.code == 0, outcome.err
    run = read_run(tmp_path / outcome.out.splitlines()[-1])
    for record in run.steps:
        found = {key.removeprefix("reward/"): value for key, value in record.metrics.items() if key.startswith("reward/")}
        assert set(found) == {"mean", "std"} | {
            f"{part}/{moment}" for part in ("verdict", "score", "unshaped", "length", "soft_overlong") for moment in ("mean", "std")
        }
        assert found["unshaped/mean"] == pytest.approx(found["verdict/mean"] + 0.5 * found["score/mean"], abs=1e-6)
        assert found["mean"] == pytest.approx(found["unshaped/mean"] + found["length/mean"] + found["soft_overlong/mean"], abs=1e-6)
        assert found["score/std"] > 0
        # R and the score rise together here, so that the parts' deviations bound the sum's
        assert found["unshaped/std"] <= found["verdict/std"] + 0.5 * found["score/std"] + 1e-6
    (records,) = run.evaluations.values()
    for record in records:
        assert record.parts["length/reward"] == pytest.approx(-0.01 * max(0, record.num_tokens - 4))
        assert record.parts["soft_overlong/reward"] == pytest.approx(max(-1.0, min(0.0, (8 - record.num_tokens) / 8)))
