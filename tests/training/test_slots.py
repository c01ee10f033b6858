"""Slots that the data fill: demonstrations, labelled answers, and a kind that only the test knows.

Each objective here is one class, as somebody outside the package would write it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset
from grao_bench.core.ops import masked_mean, masked_sum
from grao_bench.core.specs import load
from grao_bench.core.types import Batch, Example, Loss, Needs, PolicyOutput, Slot, Turn, Updates
from grao_bench.rewards.gold import GoldReward
from grao_bench.runs.check import check
from grao_bench.runs.fit import require_examples, within_length
from grao_bench.training.collect import collect
from grao_bench.training.loop import train, update

from ..cells import cell
from .setting import WordJudge, budget, codec, collector, policy, trainer

SCORE = GoldReward(mode="score", tie_band=0.05).source(WordJudge())


def prompt(text: str) -> tuple[Turn, ...]:
    return (Turn("user", text),)


def drawn(spec, policy_, examples, reward=SCORE) -> Batch:
    parts = collector(spec, policy_, reward=reward)
    return collect(parts, policy_, examples, spec.needs, spec.updates, 0)[0]


def ids(batch: Batch, p: int, slot: str) -> list[list[int]]:
    return [batch.tokens[p, k][batch.mask[p, k]].tolist() for k in batch.columns(slot)]


def encoded(*texts: str) -> list[list[int]]:
    asked = codec().prompt("x", prompt("red"))
    return [list(codec().answer(asked, text, 5).tokens) for text in texts]


@dataclass(frozen=True)
class OffPolicy:
    """Two demonstrations in the group beside the rollouts, as LUFFY mixes them (arXiv 2504.14945):
    A = R - mean over all four, and the loss is -mean_k A_k J(o_k)."""

    name: str = "off_policy"

    @property
    def needs(self) -> Needs:
        return Needs(rollouts=2, demonstrations=2, rewards=True)

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        A = batch.rewards - batch.rewards.mean(-1, keepdim=True)
        return batch.fill(advantages=A[..., None].double())

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        J = masked_mean(policy.logp, batch.mask)
        return Loss(parts={"mixed": -(batch.advantages[..., 0] * J).mean(-1)})


DEMONSTRATED = [
    Example("e1", prompt("say red"), demonstrations=("good good", "red", "never read")),
    Example("e2", prompt("say one two"), demonstrations=("good", "one bad")),
]


def test_demonstrations_stand_in_the_group_with_rewards_of_their_own():
    """0.25 for each good, -0.25 for each bad, in the script's rollouts and in the demonstrations;
    none of these prompts has a reference."""
    spec = OffPolicy()
    batch = drawn(spec, policy(spec), DEMONSTRATED)
    assert batch.slots == ("rollout", "rollout", "demonstration", "demonstration")
    assert ids(batch, 0, "demonstration") == encoded("good good", "red")
    assert ids(batch, 1, "demonstration") == encoded("good", "one bad")
    assert batch.rewards.tolist() == [[0.25, -0.25, 0.5, 0.0], [-0.25, 0.25, 0.25, -0.25]]


def test_an_objective_of_two_demonstrations_trains():
    """The first update's loss by hand from A and J of each answer, and then the demonstration that
    is better than its group gains likelihood over the one that is worse."""
    spec = OffPolicy()
    trainer_ = trainer(spec, policy(spec), budget(steps=5, prompts_per_step=2))
    parts = collector(spec, trainer_.policy, reward=SCORE)

    def J(example: Example, text: str) -> float:
        one = Needs(demonstrations=1)
        asked = replace(example, demonstrations=(text,))
        batch = collect(parts, trainer_.policy, [asked], one, Updates(), 0)[0]
        return masked_mean(trainer_.policy(batch).logp, batch.mask).item()

    groups = [
        (DEMONSTRATED[0], (0.125, -0.375, 0.375, -0.125), ("good red", "bad red green", "good good", "red")),
        (DEMONSTRATED[1], (-0.25, 0.25, 0.25, -0.25), ("bad", "good", "good", "one bad")),
    ]
    by_hand = [-sum(A * J(example, text) for A, text in zip(advantages, texts, strict=True)) / 4 for example, advantages, texts in groups]
    before = J(DEMONSTRATED[0], "good good") - J(DEMONSTRATED[0], "red")
    records = list(train(trainer_, parts, DEMONSTRATED, 0))
    assert records[0].metrics["loss"] == pytest.approx(sum(by_hand) / 2, abs=1e-9)
    assert J(DEMONSTRATED[0], "good good") - J(DEMONSTRATED[0], "red") > before + 0.1


def test_an_example_with_too_few_demonstrations_is_named():
    spec = OffPolicy()
    few = replace(DEMONSTRATED[1], demonstrations=("good",))
    with pytest.raises(UserError, match="e2: has 1 of the 2 demonstration answers"):
        drawn(spec, policy(spec), [DEMONSTRATED[0], few])


@dataclass(frozen=True)
class KTO:
    """Ethayarajh et al. 2024 (arXiv 2402.01306), Eq. 8, with lambda_D = lambda_U = 1: per prompt
    1 - sigmoid(beta s (r - z)), s = +1 for a good answer and -1 for a bad one, r the answer's
    log-ratio to the reference model and z that of the mismatched ones, at least 0."""

    beta: float = 0.1
    name: str = "kto"

    @property
    def needs(self) -> Needs:
        return Needs(labelled=True, mismatched=True, reference_logp=True)

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        ratio = masked_sum(policy.logp - batch.reference_logp, batch.mask)
        z = ratio[:, batch.column("mismatched")].detach().mean().clamp(min=0)
        sign = torch.where(batch.labels, 1.0, -1.0)
        r = ratio[:, batch.column("labelled")]
        return Loss(parts={"kto": 1 - torch.sigmoid(self.beta * sign * (r - z))})


LABELLED = [
    Example("e1", prompt("say red"), chosen="good red", label=True),
    Example("e2", prompt("say one two"), rejected="bad one", label=False),
    Example("e4", prompt("green"), chosen="blue", label=True),
]


def test_labels_and_mismatched_answers_reach_the_batch():
    spec = KTO()
    batch = drawn(spec, policy(spec), LABELLED, reward=None)
    assert batch.slots == ("labelled", "mismatched")
    assert batch.labels.tolist() == [True, False, True]
    found = [ids(batch, p, "labelled") + ids(batch, p, "mismatched") for p in range(3)]
    assert found == [encoded("good red", "bad one"), encoded("bad one", "blue"), encoded("blue", "good red")]
    assert batch.select([1, 0]).labels.tolist() == [False, True]


def test_a_labelled_set_trains_a_loss_that_reads_its_labels():
    """The loss by plain arithmetic from the log-ratios of three answers, and of each under the
    prompt before it; then the good answers gain and the bad
    one loses, and with the labels turned round it is the other way about."""
    spec = KTO()

    def ratios(policy_, examples=LABELLED) -> list[float]:
        batch = drawn(spec, policy_, examples, reward=None)
        ratio = masked_sum(policy_(batch).logp - batch.reference_logp, batch.mask)
        return ratio[:, 0].tolist()

    def gains(examples) -> list[float]:
        trainer_ = trainer(spec, policy(spec), budget(steps=6, prompts_per_step=3))
        before = ratios(trainer_.policy)
        list(train(trainer_, collector(spec, trainer_.policy), examples, 0))
        return [b - a for a, b in zip(before, ratios(trainer_.policy), strict=True)]

    start = trainer(spec)
    r = torch.tensor(ratios(start.policy), dtype=torch.float64)
    others = [replace(LABELLED[p], chosen=text, label=True) for p, text in enumerate(("bad one", "blue", "good red"))]
    z = max(0.0, sum(ratios(start.policy, others)) / 3)
    by_hand = [1 / (1 + torch.exp(0.1 * s * (one - z))) for s, one in zip((1, -1, 1), r, strict=True)]
    metrics = update(start, drawn(spec, start.policy, LABELLED, reward=None), value_only=False)
    assert metrics["loss"] == pytest.approx(sum(by_hand).item() / 3, abs=1e-9)

    gained = gains(LABELLED)
    turned = [replace(one, chosen=one.rejected, rejected=one.chosen, label=not one.label) for one in LABELLED]
    lost = gains(turned)
    assert gained[0] > 0.5 > -0.5 > lost[0]
    assert gained[1] < -0.5 < 0.5 < lost[1]


def test_an_unlabelled_example_is_named():
    with pytest.raises(UserError, match="e1: has no labelled answer"):
        drawn(KTO(), policy(KTO()), [replace(LABELLED[0], label=None), LABELLED[1]], reward=None)


HINTED = [
    Example("e1", prompt("say red"), metadata={"hints": ["red", "good"]}),
    Example("e2", prompt("say one two"), metadata={"hints": ["one", "two"]}),
]
HINT = Slot("hint", lambda example: example.metadata["hints"], count=2)


@dataclass(frozen=True)
class FromHints:
    """Learns from a kind of answer that the package has never heard of."""

    name: str = "from_hints"

    @property
    def needs(self) -> Needs:
        return Needs(chosen=True, others=(HINT,))

    @property
    def updates(self) -> Updates:
        return Updates()

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        J = masked_mean(policy.logp, batch.mask)[:, batch.columns("hint")]
        return Loss(parts={"hints": -J.mean(-1)})


def test_an_objective_brings_a_slot_of_its_own():
    spec, examples = FromHints(), [replace(one, chosen="blue") for one in HINTED]
    trainer_ = trainer(spec, budget_=budget(steps=4, prompts_per_step=2))
    batch = drawn(spec, trainer_.policy, examples)
    assert batch.slots == ("chosen", "hint", "hint")
    assert [ids(batch, p, "hint") for p in (0, 1)] == [encoded("red", "good"), encoded("one", "two")]
    records = list(train(trainer_, collector(spec, trainer_.policy), examples, 0))
    assert records[-1].metrics["loss"] < records[0].metrics["loss"] - 0.05


def test_a_set_that_lacks_a_slot_of_ones_own_is_told_so_before_training():
    """Also where the slot reads metadata that are not there; a text alone is one answer."""
    bare = [replace(one, chosen="blue", metadata={}) for one in HINTED]
    sets = (tuple(bare), tuple(bare), tuple(bare))
    known = Slot("hint", lambda example: example.metadata["hints"][0])
    with pytest.raises(UserError, match="has no 2 hint answers, which objective=from_hints") as told:
        require_examples(Dataset("mine", "mine", *sets, {}), FromHints())
    assert "objectives that fit this set: bnpo, " in str(told.value)
    assert "sft" in str(told.value)
    assert str(told.value).endswith("sets that can fit from_hints: none of conf/")
    assert known.fill(HINTED[0]) == ("red",)
    require_examples(Dataset("mine", "mine", *[tuple(one for one in HINTED)] * 3, {}), OnlyHints())


@dataclass(frozen=True)
class OnlyHints(FromHints):
    """Without the reference beside them."""

    @property
    def needs(self) -> Needs:
        return Needs(others=(HINT,))


def test_a_labelled_answer_counts_once_against_the_length_rule():
    """It is the chosen answer too. One of these three has more than two tokens and an end token."""
    examples = (replace(LABELLED[0], chosen="red red red"), *LABELLED[1:])
    rule = budget(max_answer_tokens=3)
    kept, lengths = within_length(examples, codec(), policy(KTO()).model.config, rule, KTO().needs)
    assert (kept, lengths.examples, lengths.answers_over_limit) == (examples, 3, 1)


def test_mismatched_answers_need_a_second_prompt_in_the_step(tmp_path):
    """Or each would be its own."""
    two = load("budget/smoke", prompts_per_step=2)
    asked = replace(cell("sft", tmp_path, budget=two), objective=KTO())
    check(asked)
    message = r"^budget\.prompts_per_step=1: mismatched answers are of another prompt of the step"
    with pytest.raises(UserError, match=message):
        check(replace(asked, budget=replace(two, prompts_per_step=1)))


def test_the_columns_keep_their_order():
    needs = Needs(2, others=(HINT,), mismatched=True, labelled=True, demonstrations=1, rejected=True, chosen=True)
    assert needs.slots == (
        *("rollout", "rollout", "chosen", "rejected", "demonstration", "labelled", "mismatched"),
        *("hint", "hint"),
    )
    assert Needs(chosen=True) == Needs(chosen=True)
    assert hash(needs) == hash(replace(needs))


@pytest.mark.parametrize(
    ("value", "told"),
    [(5, "can't be read"), ([3], "is int, not a text"), (None, "has no own answer")],
)
def test_a_slot_that_gives_no_text_is_refused_with_its_example(value, told):
    slot = Slot("own", lambda example: example.metadata["own"])
    example = Example("e7", prompt("green"), metadata={"own": value})
    with pytest.raises(UserError, match=f"example e7: .*{told}"):
        slot.fill(example)


@pytest.mark.parametrize(
    ("slot", "told"),
    [
        (Slot("rollout", lambda example: "good"), "a column named rollout is there already"),
        (Slot("chosen", lambda example: "good"), "a column named chosen is there already"),
        (Slot("own", lambda example: "good", count=0), "own.count=0; use at least 1"),
    ],
)
def test_a_slot_has_a_name_of_its_own_and_at_least_one_column(slot, told):
    """Another's name would count its answers among the rollouts."""
    with pytest.raises(UserError, match=told):
        Needs(rollouts=2, chosen=True, others=(slot,))
