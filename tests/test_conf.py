"""Every configuration composes, spells every field of what it makes, and comes back from a run's record as it was."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any

import jaxtyping
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from grao_bench.cli.command_line import sweeps_parent, to_value
from grao_bench.core.errors import UserError
from grao_bench.core.specs import conf_dir, load, rebuild, spec_classes
from grao_bench.core.types import Batch, Loss, Needs, PolicyOutput, Updates
from grao_bench.core.values import describe, revision_of
from grao_bench.evaluate import Reevaluation
from grao_bench.experiment import Experiment
from grao_bench.reporting.gather.settings import NOT_COMPUTED
from grao_bench.rewards.mixture import Part
from grao_bench.runs.cell import models_wanted
from grao_bench.runs.check import check
from grao_bench.runs.checkpoints import CheckpointEvaluation
from grao_bench.train import NO_FIELDS, grid_cells, to_experiment
from grao_bench.train_reward import RewardExperiment

CONF = conf_dir()
OWN_ROOMS = ("hydra", "experiment", "debug", "tune")
"""What is composed in another way than by a choice of a group."""
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in OWN_ROOMS)
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
PRESETS = [(group, path.stem) for group in ("experiment", "debug") for path in sorted((CONF / group).glob("*.yaml"))]
SWEEPS = sorted(path.stem for path in (sweeps_parent() / "sweeps").glob("*.yaml"))
OBJECTIVES = sorted(path.stem for path in (CONF / "objective").glob("*.yaml"))
OUTSIDE = {"placeholder", "https://api.deepseek.com"}
"""Where the configurations lead: a placeholder of a function, and the judges' addresses."""
OTHERS = [
    ("evaluate", Reevaluation),
    ("evaluate_checkpoint", CheckpointEvaluation),
    ("train_reward", RewardExperiment),
]
SPECS = ("objective", "model", "data", "reward", "rollout", "optimizer", "budget", "evaluation")


@pytest.fixture(autouse=True, scope="module")
def _hydra():
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        patch.setenv("GRAO_BENCH_SWEEPS_PARENT", str(sweeps_parent()))
        yield


@pytest.fixture
def as_installed():
    """Without the signature checks that the tests run under: a user has none, and a spec of wrong type must be found by check_types."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@cache
def composed(*overrides: str, root: str = "train", hydra: bool = False) -> DictConfig:
    """A configuration whose `???` are filled with a placeholder, as a user would on the command line."""
    cfg = compose(root, overrides=list(overrides), return_hydra_config=hydra)
    missing = [key for key in OmegaConf.missing_keys(cfg) if not key.startswith("hydra.")]
    return compose(root, overrides=[*overrides, *(f"{key}=placeholder" for key in missing)], return_hydra_config=hydra) if missing else cfg


def value(*overrides: str, root: str = "train") -> Any:
    return to_value(composed(*overrides, root=root), NO_FIELDS if root == "train" else ())


def targets(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with a _target_ in a composed configuration, with its key."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, node
        for name, entry in node.items():
            yield from targets(entry, f"{key}.{name}" if key else str(name))


@cache
def kind_of(target: str) -> type:
    module, _, name = target.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    assert is_dataclass(kind), target
    return kind


def assert_spelled(cfg: DictConfig, tables: tuple[str, ...] = ()) -> None:
    """Keys and fields are the same names, at the root and wherever there is a _target_."""
    for key, node in targets(OmegaConf.to_container(cfg, resolve=False)):
        keys = set(node) - {"_target_"} - (set(tables) if not key else set())
        if key == "objective":  # where reports show it: a run's role, and no setting
            assert "role" in keys
            keys -= {"role"}
        assert keys == {item.name for item in fields(kind_of(node["_target_"]))}, key or "the root"


def assert_survives_its_record(spec: Any) -> None:
    assert rebuild(yaml.safe_load(yaml.safe_dump(describe(spec))), "config.yaml", trust=OUTSIDE) == spec


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_of_every_group(group, choice):
    """It composes into a checked Experiment with every field spelled, and the Experiment survives its own record."""
    cfg = composed(f"{group}={choice}")
    assert_spelled(cfg, NO_FIELDS)
    experiment = to_value(cfg, NO_FIELDS)
    assert isinstance(experiment, Experiment)
    assert_survives_its_record(experiment)


@pytest.mark.parametrize(("group", "choice"), PRESETS)
def test_every_preset(group, choice):
    """experiment= and debug= compose on their own and with each other's absence."""
    cfg = composed(f"{group}={choice}")
    assert_spelled(cfg, NO_FIELDS)
    assert_survives_its_record(to_value(cfg, NO_FIELDS))
    assert to_value(cfg, NO_FIELDS) != value()


@pytest.mark.parametrize(("root", "kind"), OTHERS)
def test_the_other_commands(root, kind):
    cfg = composed(root=root)
    assert_spelled(cfg)
    assert isinstance(to_value(cfg), kind)
    assert_survives_its_record(to_value(cfg))


@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group, choice in CHOICES if group in ("model", "data")])
def test_a_reward_model_can_be_trained_on_every_model_and_set(group, choice):
    assert isinstance(value(f"{group}={choice}", root="train_reward"), RewardExperiment)


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "reward"])
def test_every_reward_can_evaluate_again(choice):
    assert value(f"reward={choice}", root="evaluate").reward == value(f"reward={choice}").reward
    assert value(f"reward@evaluation.reward={choice}").evaluation.reward == value(f"reward={choice}").reward


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_sweep(sweep):
    """It is a grid and writes below its own name, or that of the one it goes on from.

    Every value of every swept key composes into an Experiment with every field spelled.
    """
    cfg = composed(f"+sweeps={sweep}", hydra=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    assert cfg.sweep in SWEEPS
    assert sweep.startswith(cfg.sweep)
    cells = grid_cells(cfg)
    assert len(set(cells)) == len(cells) > 1
    unseen = {value for cell in cells for value in cell}
    while unseen:
        cell = max(cells, key=lambda cell: len(unseen.intersection(cell)))
        unseen.difference_update(cell)
        cell_cfg = composed(*sorted(cell))
        assert_spelled(cell_cfg, NO_FIELDS)
        assert_survives_its_record(to_value(cell_cfg, NO_FIELDS))


def test_a_sweep_without_a_file_is_an_error_and_not_a_key():
    with pytest.raises(HydraException, match="sweeps/tabel1"):
        compose("train", overrides=["+sweeps=tabel1"])


def test_no_spec_hides_a_default_or_can_be_changed():
    """Every hyper-parameter gets its value in YAML alone, and what was built from it can't drift away from the record."""
    kinds = {
        kind_of(node["_target_"])
        for choice in CHOICES
        for _, node in targets(OmegaConf.to_container(composed("=".join(choice)), resolve=False))
    }
    assert Experiment in kinds
    for kind in kinds:
        assert kind.__dataclass_params__.frozen, kind
        hidden = [item.name for item in fields(kind) if item.default is not MISSING or item.default_factory is not MISSING]
        assert not hidden, f"{kind}: {hidden}"


def test_the_hash_ignores_where_and_how_a_cell_runs():
    base = value()
    elsewhere = ("output=elsewhere", "sweep=other", "tracking=wandb_offline", "role=control")
    for override in ("seed=3", "threads=4", *elsewhere):
        other = value(override)
        assert other != base, override
        assert other.config_hash == base.config_hash, override
    assert value("rerun=true") == base


BY_THE_WAY = {
    "Budget": {"tokens_per_forward", "gradient_checkpointing", "checkpoint_every"},
    "SharedPrefixRollout": {"answers_per_call"},
    "RewardModel": {"tokens_per_forward", "disjoint_from"},
    "LikelihoodModel": {"tokens_per_forward"},
    "LLMJudge": {
        "max_excluded",
        "reply_models",
        "base_url",
        "api_key_env",
        "concurrency",
        "call_timeout",
        "total_timeout",
        "retries",
        "backoff",
        "price_prompt",
        "price_completion",
        "max_cost",
        "cache",
    },
}
"""What is a matter of memory, speed, cost or of a check: every field that a hash leaves out."""


def spec_kinds() -> set[type]:
    return {kind_of(name) for name in spec_classes() - {"grao_bench.train.GridCallback"}}


def test_what_leaves_the_hash_is_this_and_no_more():
    """An engine whose answers depend on what else is in a call (transformers) keeps its size in it."""
    found = {kind.__name__: {item.name for item in fields(kind) if not item.compare} for kind in spec_kinds()}
    assert {name: left_out for name, left_out in found.items() if left_out} == BY_THE_WAY
    assert {"probe_every", *(name for names in BY_THE_WAY.values() for name in names)} == NOT_COMPUTED


def test_how_often_is_measured_counts_where_the_best_is_kept():
    for keep, same in (("last", True), ("best_dev", False)):
        one, other = (value(f"budget.keep={keep}", f"budget.probe_every={n}") for n in (1, 2))
        assert (one.config_hash == other.config_hash) == same


def test_every_part_of_ours_has_a_revision_and_it_counts(monkeypatch):
    """Of what makes numbers: commands and trackers make none."""
    commands = {"Experiment", "Reevaluation", "CheckpointEvaluation", "RewardExperiment"}
    none = {*commands, "RewardTraining", "NoTracking", "WandbTracking"}
    assert {kind.__name__ for kind in spec_kinds() if revision_of(kind) is None} == none
    before = value("reward=mixture").config_hash
    monkeypatch.setattr(Part, "revision", 2)
    assert value("reward=mixture").config_hash != before
    assert value().config_hash == value("reward=gold").config_hash


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.usefixtures("as_installed")
def test_the_hash_changes_with_every_field(spec):
    base = value("objective.name=mine")  # the name grao is kept for the printed equation
    entry = getattr(base, spec)
    for item in fields(entry):
        if not item.compare or item.name == "probe_every":
            continue
        other = replace(base, **{spec: replace(entry, **{item.name: replacement(getattr(entry, item.name))})})
        assert other.config_hash != base.config_hash, f"{spec}.{item.name}"


def replacement(entry: Any) -> Any:
    """Another value, of a kind that the specs' own checks let pass."""
    if isinstance(entry, float):
        return entry / 2 + 0.011
    if isinstance(entry, int) and not isinstance(entry, bool):
        return 2 * entry or 1
    return {"ternary": "score", "helpful": "harmless"}.get(entry, "other") if isinstance(entry, str) else "other"


def test_a_cell_lies_where_its_name_says():
    experiment = value("seed=2", "output=out", "sweep=s")
    assert str(experiment.folder) == f"out/s/tiny/world_helpful/grao-{experiment.config_hash}/seed2"


def rates_in(table: str) -> dict[str, Any]:
    """A table of conf/lr_by with those that it goes on from."""
    rates = yaml.safe_load((CONF / "lr_by" / f"{table}.yaml").read_text())
    parents = rates.pop("defaults", [])
    return {key: value for name in parents for key, value in rates_in(name).items()} | rates


@pytest.mark.parametrize("table", [choice for group, choice in CHOICES if group == "lr_by"])
def test_learning_rates_come_from_the_table(table):
    """A row that names no objective would silently do nothing; an objective without a row has its
    parent's rate, or the default."""
    rates = rates_in(table)
    parents = rates.pop("parents", {})
    of_sets = {name: rates.pop(name) for name in [*rates] if isinstance(rates[name], dict)}
    assert set(rates) <= {"default", *OBJECTIVES}
    assert {*parents, *parents.values()} <= set(OBJECTIVES)
    assert set(of_sets) <= {choice for group, choice in CHOICES if group == "data"}
    cfg = composed(f"lr_by={table}", "data=hub").copy()
    for objective in [*OBJECTIVES, "mine"]:
        cfg.objective.name = objective
        named = rates.get(objective, rates.get(parents.get(objective), rates["default"]))
        assert cfg.optimizer.lr == named
    for data, lines in of_sets.items():
        assert set(lines) <= set(OBJECTIVES)
        cfg.data.name = data
        for objective, rate in lines.items():
            cfg.objective.name = objective
            assert cfg.optimizer.lr == rate


@pytest.mark.parametrize("model", [choice for group, choice in CHOICES if group == "model"])
def test_every_model_has_a_table_of_its_name(model):
    """The world's rates, far over a pretrained model's, never reach one by default."""
    for objective, rate in (("sft", 2e-5), ("dpo", 1e-6), ("grao", 1e-6)):
        cfg = composed(f"model={model}", f"objective={objective}")
        if model.startswith("tiny"):
            assert cfg.optimizer.lr >= 5e-5
        else:
            assert cfg.optimizer.lr == rate
    table = composed(f"model={model}", "lr_by=paper", "objective=sft")
    assert table.optimizer.lr == 1e-6, "a table on the command line wins"


def test_a_grid_over_models_takes_each_ones_own_rates():
    """A table is chosen for each cell, not once for the grid."""
    cfg = compose("train", return_hydra_config=True)
    loader = GlobalHydra.instance().config_loader()
    names = ("tiny", "smollm2_135m")
    cells = [loader.load_sweep_config(cfg, [f"model={name}"]) for name in names]
    assert [cell.optimizer.lr for cell in cells] == [0.0005, 0.000001]


PRESET_IDS = {
    "smollm2_135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", "chat"),
    "gemma3_270m": ("google/gemma-3-270m", "hh"),
    "qwen2_5_0_5b": ("Qwen/Qwen2.5-0.5B-Instruct", "chat"),
    "qwen2_5_7b": ("Qwen/Qwen2.5-7B", "hh"),
    "llama3_2_1b": ("meta-llama/Llama-3.2-1B-Instruct", "chat"),
}


@pytest.mark.parametrize("preset", PRESET_IDS)
def test_a_preset_names_a_commit_and_gives_way_to_a_folder(preset):
    """An instruct model reads its template, a base the dialogue text; its commit is fixed."""
    model = value(f"model={preset}").model
    assert (model.path, model.prompt_format) == PRESET_IDS[preset]
    assert model.name == preset
    assert re.fullmatch("[0-9a-f]{40}", model.revision)
    assert value(f"model={preset}", "model.path=my/folder").model.path == "my/folder"
    assert load(f"model/{preset}", path="my/folder") == replace(model, path="my/folder")


def test_a_learning_rate_on_the_command_line_wins():
    assert value("objective=sft", "optimizer.lr=0.125").optimizer.lr == 0.125


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.beta=much", "objective.beta='much': expected float, got str"),
        ("budget.steps=2.5", "budget.steps=2.5: expected int, got float"),
        ("budget.keep=first", "budget.keep='first': expected Literal"),
        ("optimizer.betas=0.9", r"optimizer.betas=0.9: expected Sequence\[float\], got float"),
        ("evaluation.reward=gold", "evaluation.reward='gold': expected RewardSpec | None, got str"),
        ("seed=null", "seed=None: expected int, got NoneType"),
        ("budget.steps=-1", "budget.steps=-1: must be at least 0"),
        ("rollout.temperature=0", "rollout.temperature=0: 8 greedy answers are one answer"),
        ("objective.rollouts=0", "objective.rollouts=0: grao learns from sampled answers"),
        ("data=hh_helpful", "data=hh_helpful has no gold judge"),
        ("model=hf", "model.path: has no value yet; give it one on the command line"),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_a_mistake_is_one_line_that_names_its_key(override, message):
    with pytest.raises(UserError, match=message) as raised:
        to_experiment(compose("train", overrides=[override]))
    assert "\n" not in str(raised.value)


@dataclass(frozen=True)
class ReadsTheSampler:
    """What `check` reads of an objective."""

    rollouts: int = 4
    name: str = "reads_the_sampler"
    updates: Updates = field(default_factory=Updates)

    @property
    def needs(self) -> Needs:
        return Needs(rollouts=self.rollouts, old_logp="sampler")

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        return Loss({})


@pytest.mark.parametrize(
    ("overrides", "rollouts", "message"),
    [
        (("rollout.top_p=0.9",), 4, r"^model.logp_temperature=auto: .*reads the sampler.*\(0\.7\)"),
        (("model.logp_temperature=0.5",), 4, "set rollout.temperature to it"),
        (("rollout=transformers",), 4, "^rollout: .* this engine tells none; use rollout=shared_prefix"),
        ((), 0, "^objective.rollouts=0: .*use at least 1"),
        (("rollout.top_p=0.9", "model.logp_temperature=1"), 4, None),
        (("rollout.temperature=0.5",), 4, None),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_log_probabilities_that_the_sampler_cant_tell_are_refused_at_once(overrides, rollouts, message):
    """At the loss's temperature: raw ones at 1, or its own where it draws from everything at it."""
    experiment = replace(to_experiment(composed(*overrides)), objective=ReadsTheSampler(rollouts))
    if message is None:
        check(experiment)
        return
    with pytest.raises(UserError, match=message):
        check(experiment)


def test_an_unknown_key_is_refused_by_hydra():
    with pytest.raises(HydraException, match="betta"):
        compose("train", overrides=["objective.betta=0.3"])


@pytest.mark.parametrize(
    ("overrides", "temperature"),
    [
        (("objective=grao",), 0.7),
        (("objective=ppo", "rollout.temperature=0.4"), 0.4),
        (("objective=grpo", "rollout=transformers", "rollout.temperature=1.3"), 1.3),
        (("objective=grpo_trl",), 1.0),  # which samples at 1
        (("objective=grpo_trl", "rollout.temperature=0.7"), 0.7),
        (("objective=sft",), 1.0),
        (("objective=dpo", "rollout.temperature=0.4"), 1.0),
        (("objective=grpo", "objective.rollouts=1", "rollout.temperature=0.0"), 1.0),
        (("objective=grao", "model.logp_temperature=1.0"), 1.0),
        (("objective=sft", "model=hf", "model.logp_temperature=0.5"), 0.5),
    ],
)
def test_the_losss_temperature_is_the_rollouts(overrides, temperature):
    """And 1 for objectives without; a number on the command line wins. The models are told it."""
    experiment = value(*overrides)
    assert experiment.logp_temperature == temperature
    assert models_wanted(experiment).logp_temperature == temperature


def test_grpo_trl_samples_as_trl_does():
    """GRPOConfig of TRL 1.16: temperature 1, top_p 1, top_k 0, no min_p; with either engine and
    from a preset. Every policy is evaluated alike."""
    of_others = value("objective=grpo")
    for more in ((), ("rollout=transformers",), ("experiment=hh_tiny",)):
        one = value("objective=grpo_trl", *more)
        sampling = one.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (1, 1, 0, 0)
    assert value("objective=grpo_trl").evaluation_sampling == of_others.evaluation_sampling
    assert of_others.evaluation_sampling.temperature == of_others.sampling.temperature == 0.7
    assert value("objective=grpo", "evaluation.temperature=null").evaluation_sampling.temperature == 0.7
