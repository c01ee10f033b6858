"""Every objective against the NumPy oracle on random ragged batches: losses to 1e-12, gradients along random directions to 1e-10."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from grao_bench.core.types import PolicyOutput
from grao_bench.objectives import conf_dir, load_objective

from . import oracle
from .small import rectangle

NAMES = sorted(path.stem for path in (conf_dir() / "objective").glob("*.yaml"))
TENTH = float(np.float32(0.1))  # whose float32 mean and sigma over eight are not 0.1 and 0
REWARDS = (-1.0, 0.0, 1.0, TENTH, 0.1, 1 / 3, -2.5)
STEP = 1e-30

READINGS = {
    "sft": {"reduction": ("sequence_mean", "token_mean")},
    "dpo": {"beta": (0.05, 0.3, 2.0), "label_smoothing": (0.0, 0.1, 0.49)},
    "ipo": {"beta": (0.05, 0.3, 2.0), "length": ("mean", "sum")},
    "ppo": {
        "kl": (0.0, 0.02, 1.0),
        "gamma": (1.0, 0.9, 0.0),
        "lam": (1.0, 0.8, 0.0),
        "clip": (0.2, 0.0, 0.5),
        "value_clip": (0.2, 0.0, 0.5),
        "value_coef": (0.5, 0.0, 1.0),
    },
    "grpo": {
        "std": ("population", "sample", "none", "batch"),
        "reduction": ("answer_mean", "token_mean", "constant_length"),
        "ratio": ("token", "sequence"),
        "clip_low": (0.2, 0.0, 0.5),
        "clip_high": (0.2, 0.28, 0.05),
        "kl": (0.0, 0.02, 1.0),
        "kl_estimator": ("k1", "k2", "k3"),
        "kl_gradient": ("as_loss", "corrected"),
    },
    "grao": {"alpha": (1.0, 0.0, 0.3), "beta": (0.5, 0.0), "lam": (0.6, 0.0), "group": ("outputs", "outputs_and_reference")},
}
READINGS["grao_clip0"] = READINGS["grao_no_exploration_at_all"] = READINGS["grao"]


@dataclass
class Rows:
    """A batch as the oracle reads it, the columns [p][k][t] and rewards [p][k], and what the
    prompts' order and raggedness are.

    judged [p][k]: of the others nothing was said, and their number is another answer's."""

    lengths: list[list[int]]
    rewards: np.ndarray
    judged: np.ndarray
    columns: dict[str, list[list[np.ndarray]]]
    directions: dict[str, list[list[np.ndarray]]]
    finished: np.ndarray


@st.composite
def batches(draw, K: int) -> Rows:
    """1 to 3 prompts with K answers of 1 to 4 tokens; rewards that often tie; log-probs on both sides of every clip."""
    P = draw(st.integers(1, 3))
    lengths = draw(st.lists(st.lists(st.integers(1, 4), min_size=K, max_size=K), min_size=P, max_size=P))
    equal = st.sampled_from(REWARDS).map(lambda reward: [reward] * K)
    mixed = st.lists(st.sampled_from(REWARDS), min_size=K, max_size=K)
    rewards = np.array(draw(st.lists(st.one_of(mixed, mixed, equal), min_size=P, max_size=P)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def noise(scale):
        return [[scale * random.standard_normal(n) for n in row] for row in lengths]

    def plus(a, b):
        return [[x + y for x, y in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]

    old, old_values = noise(1.0), noise(1.0)
    columns = {
        "logp": plus(old, noise(0.4)),
        "old_logp": old,
        "reference_logp": plus(old, noise(0.6)),
        "values": plus(old_values, noise(0.4)),
        "old_values": old_values,
    }
    judged = random.random((P, K)) < draw(st.sampled_from((1.0, 1.0, 0.6, 0.2)))
    directions = {"logp": noise(1.0), "values": noise(1.0)}
    return Rows(lengths, rewards, judged, columns, directions, random.random((P, K)) < 0.5)


def told(rows: Rows, needs) -> list[list[float | None]]:
    """The rewards, None where nothing was said; something always is of a reference."""
    given = rows.judged | (np.array(needs.slots) != "rollout")
    pairs = zip(rows.rewards, given, strict=True)
    return [[float(x) if known else None for x, known in zip(*pair, strict=True)] for pair in pairs]


def known(rewards) -> torch.Tensor:
    """[P K]: where something was said."""
    return torch.tensor([[x is not None for x in row] for row in rewards])


def padded(ragged, width):
    return torch.tensor(np.array([[np.pad(x, (0, width - len(x))) for x in row] for row in ragged]))


def ours(objective, rows: Rows, reward_dtype=torch.float64):
    """(parts [P], the derivative of the loss summed over prompts along the rows' directions, the prepared batch)."""
    needs, width = objective.needs, max(n for row in rows.lengths for n in row)
    tensors = {name: padded(x, width) for name, x in rows.columns.items()}
    batch = replace(rectangle(needs, rows.lengths), finished=torch.tensor(rows.finished)).fill(
        rewards=torch.tensor(rows.rewards, dtype=reward_dtype) if needs.rewards else None,
        judged=known(told(rows, needs)) if needs.rewards else None,
        old_logp=tensors["old_logp"] if needs.old_logp != "no" else None,
        reference_logp=tensors["reference_logp"] if needs.reference_logp else None,
        old_values=tensors["old_values"] if needs.values else None,
    )
    said = {"values": tensors["values"].requires_grad_()} if needs.values else {}
    inputs = {"logp": tensors["logp"].requires_grad_()} | said
    prepared = objective.prepare(batch)
    loss = objective.loss(PolicyOutput(inputs["logp"], said), prepared)
    gradients = torch.autograd.grad(loss.total.sum(), list(inputs.values()))
    slope = sum((g * padded(rows.directions[name], width)).sum().item() for name, g in zip(inputs, gradients, strict=True))
    return {name: part.tolist() for name, part in loss.parts.items()}, slope, prepared


def theirs(objective, rows: Rows, step: float = 0.0):
    """The oracle's parts, at log-probs (and values) moved by `step` i along the rows' directions."""
    spec = {item.name: getattr(objective, item.name) for item in fields(objective)}
    for name in ("name", "rollouts", "epochs", "minibatches", "value_only_steps"):
        spec.pop(name, None)
    columns = dict(rows.columns)
    if step:
        for name, direction in rows.directions.items():
            columns[name] = [[x + 1j * step * v for x, v in zip(*pair, strict=True)] for pair in zip(columns[name], direction, strict=True)]
    logp, reference = columns["logp"], columns["reference_logp"]
    rewards = told(rows, objective.needs)
    match type(objective).__name__:
        case "SFT":
            return oracle.sft(logp, **spec)
        case "DPO":
            return oracle.dpo(logp, reference, **spec)
        case "IPO":
            return oracle.ipo(logp, reference, **spec)
        case "PPO":
            old, values = columns["old_logp"], (columns["values"], columns["old_values"])
            return oracle.ppo(logp, values[0], rewards, old, reference, values[1], **spec)
        case "GRPO":
            return oracle.grpo(logp, rewards, columns["old_logp"], reference, **spec)
        case "GRAO":
            equations = {
                "printed": oracle.grao,
                "reference_only": oracle.grao_reference_only,
                "clip0": oracle.grao_clip0,
            }
            return equations[spec.pop("equation")](logp, rewards, **spec)
    raise NotImplementedError(f"{objective.name}: an objective without an oracle; write its loss from its paper in tests/oracle.py")


def assert_agree(objective, rows: Rows) -> None:
    parts, slope, _ = ours(objective, rows)
    expected = theirs(objective, rows)
    assert list(parts) == list(expected)
    for name, part in expected.items():
        assert parts[name] == pytest.approx([float(value) for value in part], abs=1e-12, rel=1e-12), name
    complex_parts = theirs(objective, rows, STEP)
    assert slope == pytest.approx(sum(np.imag(value) / STEP for part in complex_parts.values() for value in part), abs=1e-10, rel=1e-10)


def quick(count):
    """The same examples every time; a failing one is made smaller, without Hypothesis's minute of explaining it."""
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, phases=phases)


def with_rollouts(name, count):
    return load_objective(name, **({"rollouts": count} if load_objective(name).needs.rollouts else {}))


@pytest.mark.parametrize("name", NAMES)
@quick(15)
@given(data=st.data())
def test_every_yaml(name, data):
    """One answer to eight, ties, equal rewards, answers of one token, unfinished ones."""
    objective = with_rollouts(name, data.draw(st.integers(1, 8), "rollouts"))
    assert_agree(objective, data.draw(batches(len(objective.needs.slots)), "rows"))


@pytest.mark.parametrize("name", READINGS)
@quick(80)
@given(data=st.data())
def test_every_reading(name, data):
    """Every field's readings and numbers, in every combination that Hypothesis thinks of."""
    changed = {field: data.draw(st.sampled_from(values), field) for field, values in READINGS[name].items()}
    if changed.get("reduction") == "constant_length":
        changed["max_tokens"] = data.draw(st.sampled_from((1, 4, 64)), "max_tokens")
    objective = replace(with_rollouts(name, data.draw(st.integers(1, 4), "rollouts")), **changed)
    assert_agree(objective, data.draw(batches(len(objective.needs.slots)), "rows"))


@pytest.mark.parametrize("name", [name for name in NAMES if load_objective(name).needs.rewards and not load_objective(name).needs.values])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@quick(5)
@given(data=st.data())
def test_eight_equal_rewards_of_a_tenth(name, dtype, data):
    """No advantage at all, whatever the rewards' dtype, and so no loss but the KL's."""
    objective = with_rollouts(name, 8)
    rows = data.draw(batches(len(objective.needs.slots)))
    rows.rewards[:] = TENTH
    parts, _, prepared = ours(objective, rows, dtype)
    assert not prepared.advantages.any()
    assert all(not any(part) for part_name, part in parts.items() if part_name != "kl")
    assert parts == {part: pytest.approx([float(x) for x in value], abs=1e-12) for part, value in theirs(objective, rows).items()}


@quick(60)
@given(rewards=st.lists(st.sampled_from(REWARDS), min_size=2, max_size=9), group=st.sampled_from(READINGS["grao"]["group"]))
def test_grao_advantages(rewards, group):
    """Eq. 4 alone."""
    objective = replace(with_rollouts("grao", len(rewards) - 1), group=group)
    batch = rectangle(objective.needs, [[1] * len(rewards)]).fill(rewards=torch.tensor([rewards], dtype=torch.float64))
    A_o, A_y = oracle.grao_advantages(rewards, group)
    assert objective.prepare(batch).advantages.flatten().tolist() == pytest.approx([*A_o, A_y], abs=1e-13)


@quick(60)
@given(
    rewards=st.lists(st.lists(st.sampled_from(REWARDS), min_size=4, max_size=4), min_size=1, max_size=3),
    std=st.sampled_from(READINGS["grpo"]["std"]),
)
def test_grpo_advantages(rewards, std):
    """Each deviation alone."""
    objective = replace(with_rollouts("grpo", 4), std=std)
    batch = rectangle(objective.needs, [[1] * 4] * len(rewards)).fill(rewards=torch.tensor(rewards, dtype=torch.float64))
    expected = oracle.grpo_advantages(rewards, std)
    assert objective.prepare(batch).advantages[..., 0].tolist() == [pytest.approx(row, abs=1e-13) for row in expected]


@quick(40)
@given(data=st.data())
def test_ppo_advantages_and_returns(data):
    """The KL-shaped reward, GAE and whitening alone."""
    objective = replace(with_rollouts("ppo", 2), kl=0.3, gamma=0.9, lam=0.7)
    rows = data.draw(batches(2))
    _, _, prepared = ours(objective, rows)
    columns = (rows.columns[name] for name in ("old_logp", "reference_logp", "old_values"))
    rewards = told(rows, objective.needs)
    advantages, returns = oracle.ppo_advantages(rewards, *columns, kl=0.3, gamma=0.9, lam=0.7)
    width, judged = prepared.mask.shape[-1], known(rewards)
    close = {"atol": 1e-12, "rtol": 0}
    torch.testing.assert_close(prepared.returns[judged], padded(returns, width)[judged], **close)
    white = padded(oracle.whitened(advantages, rewards), width)
    torch.testing.assert_close(prepared.advantages, white, **close)
