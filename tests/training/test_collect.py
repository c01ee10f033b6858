"""Collect fills exactly what an objective needs, from a real model, scripted answers and the gold reward."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Sampling
from grao_bench.core.specs import conf_dir, load
from grao_bench.core.types import Batch, Needs, Updates, Verdict
from grao_bench.evaluation.answers import Evaluator
from grao_bench.evaluation.probe import Prober
from grao_bench.models.policy import Policy
from grao_bench.objectives import load_objective
from grao_bench.rewards.gold import GoldReward
from grao_bench.rewards.shaping import LengthPenalty
from grao_bench.rollouts.scripted import ScriptedRollout
from grao_bench.training.collect import collect
from grao_bench.training.loop import prepared
from grao_bench.training.reference import ReferenceCache

from ..small import END, tiny_llama
from .setting import EXAMPLES, WordJudge, codec, collector, policy

NAMES = sorted(path.stem for path in (conf_dir() / "objective").glob("*.yaml"))
EVERYTHING = Needs(rollouts=4, chosen=True, rejected=True, rewards=True, old_logp="prepare", reference_logp=True, values=True)


def objective(name, **changed):
    spec = load_objective(name)
    return replace(spec, **({"rollouts": 4} if spec.needs.rollouts else {}), **changed)


class Probe:
    """What `collect` reads of an objective, for needs that no objective has."""

    def __init__(self, needs: Needs) -> None:
        self.needs = needs


def collected(spec, updates: Updates | None = None, seed=0, examples=EXAMPLES, policy_=None, **parts) -> tuple[Batch, dict[str, float]]:
    policy_ = policy_ or policy(spec)
    return collect(collector(spec, policy_, **parts), policy_, examples, spec.needs, updates or spec.updates, seed)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_holds_what_is_needed_and_nothing_else(name):
    """Old log-probs may be missing only where they would be the loss's own: at a batch's only update."""
    spec = objective(name)
    batch, _ = collected(spec)
    needs = spec.needs
    present = {key for key in ("rewards", "old_logp", "reference_logp", "old_values", "returns", "advantages") if key in batch}
    expected = {
        "rewards": needs.rewards,
        "old_logp": needs.old_logp == "prepare" or (needs.old_logp == "loss" and spec.updates.count > 1),
        "reference_logp": needs.reference_logp,
        "old_values": needs.values,
    }
    assert present == {key for key, needed in expected.items() if needed}
    assert batch.slots == needs.slots
    assert batch.ids == tuple(example.id for example in EXAMPLES)
    assert not any(value.requires_grad for value in vars(batch).values() if isinstance(value, torch.Tensor))


def test_old_log_probabilities_are_computed_where_the_policy_will_move_away_from_them():
    """GRPO with one update spends no pass on them; with two epochs they are the policy's own before the first."""
    assert "old_logp" not in collected(objective("grpo"))[0]
    spec = objective("grpo", epochs=2)
    policy_ = policy(spec)
    batch, _ = collected(spec, policy_=policy_)
    torch.testing.assert_close(batch.old_logp, policy_(batch).logp.detach(), atol=1e-12, rtol=0)


def test_old_log_probabilities_for_prepare_are_there_at_a_single_update():
    probe = Probe(Needs(rollouts=4, chosen=True, old_logp="prepare"))
    policy_ = policy(probe)
    batch, _ = collected(probe, Updates(), policy_=policy_)
    torch.testing.assert_close(batch.old_logp, policy_(batch).logp.detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("heat", "sampling"),
    [
        (1.0, Sampling(0.7, 0.8, 5)),  # raw log-probs, whatever the rollouts were drawn with
        (0.7, Sampling(0.7, 1.0, 5)),  # the sampler's own, of the whole distribution
    ],
)
def test_the_samplers_log_probabilities_are_those_of_the_loss_on_rollouts_alone(heat, sampling):
    """By the model's own logits at the loss's temperature; the reference answer has none."""
    probe = Probe(Needs(rollouts=3, chosen=True, old_logp="sampler"))
    policy_ = Policy(tiny_llama(), heat, value_head=False)
    engine = load("rollout/shared_prefix").build(codec())
    engine.sync(policy_, 0)
    collector_ = replace(collector(probe, policy_), engine=engine, sampling=sampling)
    batch, _ = collect(collector_, policy_, EXAMPLES, probe.needs, Updates(), 0)
    k, y = batch.columns("rollout"), batch.column("chosen")
    expected = policy_(batch).logp.detach()
    torch.testing.assert_close(batch.old_logp[:, k], expected[:, k], atol=1e-5, rtol=0)
    assert expected[:, k].any()
    assert not batch.old_logp[:, y].any()


def test_an_engine_that_tells_no_log_probabilities_is_named():
    probe = Probe(Needs(rollouts=4, old_logp="sampler"))
    with pytest.raises(UserError, match=r"^rollout: .* this engine tells none; use rollout="):
        collected(probe, Updates())


def test_the_columns_are_the_models_own_numbers():
    """Reference and policy are two models; values come with the old log-probs."""
    probe = Probe(EVERYTHING)
    policy_ = policy(probe)
    torch.nn.init.normal_(policy_.value_head.weight, generator=torch.Generator().manual_seed(1))
    batch, _ = collected(probe, Updates(epochs=2), policy_=policy_)
    with torch.no_grad():
        ours, theirs = policy_(batch), policy(probe, seed=9)(batch)
    torch.testing.assert_close(batch.old_logp, ours.logp, atol=1e-12, rtol=0)
    torch.testing.assert_close(batch.old_values, ours.values, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.reference_logp, theirs.logp, atol=1e-12, rtol=0)
    assert (batch.old_logp - batch.reference_logp).abs().max() > 0.1


@pytest.mark.parametrize("bound", [1, 60, 150])
def test_cutting_for_memory_changes_no_number(bound):
    probe = Probe(EVERYTHING)
    whole, _ = collected(probe, Updates(epochs=2))
    cut, _ = collected(probe, Updates(epochs=2), tokens_per_forward=bound)
    for key in ("old_logp", "reference_logp"):
        torch.testing.assert_close(getattr(cut, key), getattr(whole, key), atol=1e-12, rtol=0)
    assert torch.equal(cut.rewards, whole.rewards)


def test_slots_hold_the_drawn_ids_the_reference_and_the_rejected_answer():
    batch, _ = collected(Probe(EVERYTHING), Updates())
    rows = [[batch.tokens[p, k][batch.mask[p, k]].tolist() for k in range(6)] for p in range(len(EXAMPLES))]
    expected = [(9, 6, END), (10, 6, 7, END), (6, END), (9, 9, 11, 12, 13), (9, 6, END), (10, END)]
    assert rows[0] == [list(ids) for ids in expected]
    assert batch.finished[0].tolist() == [True, True, True, False, True, True]
    for p, example in enumerate(EXAMPLES):
        prompt = codec().prompt(example.id, example.prompt)
        assert rows[p][4] == list(codec().answer(prompt, example.chosen, 5).tokens)
        assert rows[p][5] == list(codec().answer(prompt, example.rejected, 5).tokens)
        assert batch.prompts[p][batch.prompt_mask[p]].tolist() == list(prompt.tokens)


def test_rewards_are_verdicts_on_every_rollout_and_the_reference():
    """Ternary against each reference, by counting words. e1's y scores 1 good: a tie, two losses, and -1 for the unfinished one though
    it says good twice. e5's y is cut to 5 tokens for the model, yet judged on its full text: R(y, y) = 0. The rejected one isn't asked."""
    batch, _ = collected(Probe(EVERYTHING), Updates())
    assert batch.rewards.tolist() == [
        [0, -1, -1, -1, 0, 0],
        [-1, 0, -1, -1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [-1, 0, -1, 1, 0, 0],
        [-1, -1, -1, 0, 0, 0],
    ]
    assert not batch.finished[4, 4]


def test_a_pointwise_reward_scores_the_reference_too():
    """score mode: 0.25 a "good", in the full text of e5's reference twice."""
    reward = GoldReward(mode="score", tie_band=0.05).source(WordJudge())
    batch, _ = collected(objective("grao"), reward=reward)
    assert batch.rewards[0].tolist() == [0.25, -0.25, 0.0, 0.5, 0.25]
    assert batch.rewards[4].tolist() == [0.0, 0.25, -0.25, 0.5, 0.5]


def test_metrics_of_rollouts_and_rewards():
    """20 rollouts: lengths 3+4+2+5, 2+2+3+2, 2*4, 3+2+3+3, twice = 53 tokens, one of them cut. Rewards: sum -3-3+4-1-3 = -6;
    squares 3+3+4+3+3 = 16, so the variance is 16/20 - 0.3^2 = 0.71. One group of five has no signal. The reference counts nowhere."""
    _, metrics = collected(objective("grao"))
    assert metrics == pytest.approx(
        {
            "length": 53 / 20,
            "truncated": 1 / 20,
            "reward/mean": -6 / 20,
            "reward/std": math.sqrt(0.71),
            "groups_without_signal": 1 / 5,
        }
    )


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_an_objective_without_rollouts_samples_and_judges_nothing(name):
    """Nothing is scripted, and a judgement would fail."""
    batch, metrics = collected(objective(name), reward=Refusing())
    assert metrics == {}
    assert not batch.columns("rollout")


class Refusing:
    """A reward source that must not be asked."""

    name, fingerprint, pairwise, tie_margin = "refusing", "", True, 0.0

    def score(self, requests):
        raise AssertionError("asked for a reward that nothing needs")


def test_sampled_answers_follow_the_seed():
    spec = objective("grao")
    batches = [collected(spec, seed=seed, sampled=True)[0] for seed in (1, 1, 2)]
    assert torch.equal(batches[0].tokens, batches[1].tokens)
    assert not torch.equal(batches[0].tokens, batches[2].tokens)


@pytest.mark.parametrize("worth", [math.nan, math.inf, 1e39])
def test_a_reward_that_is_no_number_stops_before_training(worth):
    reward = GoldReward(mode="score", tie_band=0.05).source(WordJudge(worth))
    with pytest.raises(UserError, match="gold_score: gave a reward that is not a finite number"):
        collected(objective("grpo"), reward=reward)


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_the_datas_own_answers_fit_the_context(name):
    """What nothing is sampled for is checked too: e4's prompt has 12 tokens and its references 3, in a context of 14 and of 15."""
    spec = objective(name)
    with pytest.raises(
        UserError, match=r"^example e4: 12 prompt tokens \+ 3 answer tokens exceed the model's context of 14; lower budget\."
    ):
        collected(spec, policy_=policy(spec, max_position_embeddings=14))
    assert collected(spec, policy_=policy(spec, max_position_embeddings=15))[0].size == 5


def test_the_datas_own_answers_are_in_the_vocabulary():
    """A model with fewer embeddings than the tokenizer has words; padding may lie beyond them."""
    spec = objective("sft")
    with pytest.raises(UserError, match=r"^example e\d: the tokenizer's id \d+ is not in the model's vocabulary of 9; tokenizer and model"):
        collected(spec, policy_=policy(spec, vocab=9))


def test_the_references_log_probabilities_of_pairs_come_from_the_cache(tmp_path):
    """DPO's second look at a pair runs the reference model no more, and sees the same numbers."""
    spec = objective("dpo")
    policy_ = policy(spec)
    plain = collector(spec, policy_)
    cached = replace(plain, reference_cache=ReferenceCache(plain.reference, "a", tmp_path))
    expected = collect(plain, policy_, EXAMPLES, spec.needs, spec.updates, 0)[0].reference_logp
    passes = []
    plain.reference.register_forward_pre_hook(lambda *_: passes.append(1))
    for asked in (5, 5):  # one pass per pair in the first round, none in the second
        batch, _ = collect(cached, policy_, EXAMPLES, spec.needs, spec.updates, 0)
        torch.testing.assert_close(batch.reference_logp, expected, atol=1e-12, rtol=0)
        assert len(passes) == asked


def test_an_example_without_a_rejected_answer_is_named():
    single = replace(EXAMPLES[1], rejected=None)
    with pytest.raises(UserError, match="example e2: has no rejected answer"):
        collected(objective("dpo"), examples=[EXAMPLES[0], single])
    assert collected(objective("grao"), examples=[EXAMPLES[0], single])[0].size == 2


class Silent:
    """A judge that could not be understood about every answer of three tokens or more; -1 for the others."""

    name, fingerprint, pairwise, tie_margin = "silent", "", True, 0.0

    def score(self, requests):
        unread = Verdict(None, "silent")
        return [unread if (one.num_tokens or 0) >= 3 else Verdict(-1.0, "silent") for one in requests]


def test_an_answer_that_the_judge_could_say_nothing_of_teaches_nothing():
    """It has the mean of its prompt's others (-1 here; 0 in a row of which nothing is known), so its advantage is 0."""
    batch, metrics = collected(objective("grpo"), reward=Silent())

    lengths = batch.mask.sum(-1)
    known = lengths < 3
    expected = torch.where(known.any(-1, keepdim=True), -1.0, 0.0).expand_as(batch.rewards)
    assert torch.equal(batch.rewards, expected.to(batch.rewards))
    assert metrics["reward/excluded"] == pytest.approx((~known).float().mean().item())
    assert 0 < metrics["reward/excluded"] < 1


@dataclass(frozen=True)
class Long:
    """A pointwise source, and its spec: 0 for every text, whose lengths it was told are `seen`."""

    seen: list[int | None]
    name: str = "long"
    fingerprint: str = ""
    pairwise: bool = False
    tie_margin: float = 0.0

    def needs_reference(self, data):
        return False

    def check(self, data): ...

    def build(self, data):
        return self

    def score(self, requests):
        self.seen.extend(one.num_tokens for one in requests)
        return [Verdict(0.0, "long") for _ in requests]


def test_a_length_penalty_sees_the_whole_reference_in_training_evaluation_and_probes():
    """25 words and an end token, 10 of them free and 0.01 for each more: -0.16, though the model
    reads 16."""
    spec, policy_, seen = objective("grao"), policy(objective("grao")), []
    penalty = {"shaping": ["length"], "length": LengthPenalty(target=10, per_token=0.01)}
    reward = replace(load("reward/shaped"), source=Long(seen), **penalty)
    reward = reward.build(load("data/world_helpful"))
    examples = [replace(EXAMPLES[4], id="*", chosen=" ".join(["good"] * 25))]
    collector_ = replace(collector(spec, policy_, reward), max_answer_tokens=16)
    batch, _ = collect(collector_, policy_, examples, spec.needs, spec.updates, 0)
    assert int(batch.mask[0, -1].sum()) == 16
    assert batch.rewards[0, -1].item() == pytest.approx(-0.16)

    prompt, sampling = codec().prompt("*", examples[0].prompt), Sampling(1.0, 1.0, 16)
    own = codec().answer(prompt, examples[0].chosen, 100)
    (record,) = Evaluator(codec(), sampling, store_text=False).judge(reward, examples, [[own]])
    assert (record.reward, record.verdict) == (pytest.approx(-0.16), 0.0)
    engine = collector_.engine
    Prober(codec(), engine, reward, policy_, examples, sampling, 100, seed=0).probe(policy_, 0)
    assert [number for number in seen if number == 26] == [26] * 4  # the own answer's is one


@dataclass(frozen=True)
class Told:
    """Says what `numbers` say of a text, 0 of a reference, nothing of another text."""

    numbers: dict[str, float]
    name: str = "told"
    fingerprint: str = ""
    pairwise: bool = True
    tie_margin: float = 0.0

    def score(self, requests):
        known = {one.example.chosen: 0.0 for one in requests} | self.numbers
        return [Verdict(known.get(one.text), "told") for one in requests]


JUDGED = [name for name in NAMES if load_objective(name).needs.rewards]


@pytest.mark.parametrize("name", JUDGED)
def test_the_statistics_are_of_the_judged_answers_alone(name):
    """Rewards 1 and 0, and six answers of which nothing is known: mean 1/2, population sigma 1/2,
    so +1 and -1, as in a group of these two. The six have no advantage; in PPO they weigh nothing.
    """
    changed = {"kl": 0.0, "lam": 1.0, "gamma": 1.0} if name == "ppo" else {}
    spec = load_objective(name, rollouts=8, **changed)
    answers = {"*": ["good red", "bad red", *["two three"] * 6]}
    engine = ScriptedRollout(answers=answers, temperature=0.7, top_p=1.0).build(codec())
    policy_ = policy(spec)
    told = Told({"good red": 1.0, "bad red": 0.0})
    asked = replace(collector(spec, policy_, told), engine=engine)
    batch, metrics = collect(asked, policy_, EXAMPLES[2:4], spec.needs, spec.updates, 0)
    k = batch.columns("rollout")
    assert batch.judged[:, k].tolist() == [[True, True, *[False] * 6]] * 2
    assert batch.rewards[:, k].tolist() == [[1.0, 0.0, *[0.5] * 6]] * 2
    assert (metrics["reward/mean"], metrics["reward/std"]) == (0.5, 0.5)
    assert metrics["groups_without_signal"] == 0

    ready = prepared(spec, batch)
    advantages = ready.advantages[:, k]
    assert not advantages[:, 2:].any()
    if name == "ppo":  # values are 0, so returns are 1 and 0 on 3 tokens each: 1/2 +- 1/2, n = 12
        assert not ready.token_weights[:, 2:].any()
        weights = torch.full((2, 2, 3), 2 / 12).double()
        torch.testing.assert_close(ready.token_weights[:, :2], weights)
        expected = torch.tensor([1.0, -1.0]).double() / 2 / (3 / 11) ** 0.5
        torch.testing.assert_close(advantages[:, :2, 0], expected.expand(2, 2))
        return
    sigma = {"sample": 0.5**0.5 + 1e-4, "none": 1.0, "batch": 3**-0.5 + 1e-4}
    expected = torch.tensor([0.5, -0.5]) / sigma.get(getattr(spec, "std", ""), 0.5)
    if getattr(spec, "group", "") == "outputs_and_reference":  # 1, 0 and the reference's 0
        expected = torch.tensor([2**0.5, -(2**-0.5)])
    torch.testing.assert_close(advantages[:, :2, 0], expected.expand(2, 2))


def test_a_step_of_which_nothing_was_judged_has_no_mean_reward():
    batch, metrics = collected(objective("grpo"), reward=Told({}), examples=EXAMPLES[2:3])
    assert not batch.judged.any()
    assert metrics.keys() == {"length", "truncated", "groups_without_signal", "reward/excluded"}
    assert (metrics["groups_without_signal"], metrics["reward/excluded"]) == (1, 1)


def test_a_reference_that_the_judge_could_say_nothing_of_is_an_error_and_no_number():
    with pytest.raises(UserError, match="silent: could say nothing of the reference of e"):
        collected(objective("grao"), reward=Silent())
