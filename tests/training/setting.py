"""A tiny training setting of real parts: a random Llama, scripted or sampled rollouts, and the gold reward over a judge of two words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grao_bench.core.interfaces import Objective, RolloutEngine, Sampling
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.models.policy import Policy
from grao_bench.rewards.gold import GoldReward
from grao_bench.rollouts.scripted import ScriptedRollout
from grao_bench.text.tokens import TextCodec
from grao_bench.training.collect import Collector
from grao_bench.training.loop import Budget, Trainer

from ..small import tiny_llama, word_tokenizer

# per example four answers: good ones, bad ones, one too long to be finished within 5 tokens; "same" has a group without signal
SCRIPT = {
    "e1": ["good red", "bad red green", "red", "good good one two three one"],
    "e2": ["bad", "good", "bad bad", "one"],
    "same": ["good", "good", "good", "good"],
    "*": ["two three", "good", "bad two", "good good"],
}
EXAMPLES = (
    Example("e1", (Turn("user", "say red"),), "good red", "bad", "s"),
    Example("e2", (Turn("user", "say one two"),), "one good", "one bad", "s"),
    Example("same", (Turn("user", "green"),), "bad green", "bad bad bad", "s"),
    Example("e4", (Turn("user", "say three"), Turn("assistant", "three"), Turn("user", "again")), "good three", "bad three", "s"),
    Example("e5", (Turn("user", "blue"),), "blue blue blue blue good good", "blue", "s"),
)


@dataclass(frozen=True)
class WordJudge:
    """0.25 for every "good", -0.25 for every "bad"."""

    worth: float = 0.25

    def score(self, example: Example, text: str, finished: bool) -> tuple[float, dict[str, float]]:
        words = text.split()
        score = self.worth * (words.count("good") - words.count("bad"))
        return score, {"words": score}


def codec() -> TextCodec:
    return TextCodec(word_tokenizer(), "hh", 32)


def policy(objective: Objective, seed: int = 0, **changed: Any) -> Policy:
    """In float64: what the tests compare is then exact to many digits."""
    return Policy(tiny_llama(seed=seed, **changed).double(), 1.0, objective.needs.values)


def budget(**changed: Any) -> Budget:
    fields = {
        "steps": 3,
        "prompts_per_step": 5,
        "answers_per_step": 8,
        "max_prompt_tokens": 32,
        "max_answer_tokens": 5,
        "tokens_per_forward": 10_000,
        "probe_every": 0,
        "probe_prompts": 2,
        "checkpoint_every": 0,
    }
    return load("budget/smoke", **(fields | changed))


def trainer(objective: Objective, policy_: Policy | None = None, budget_: Budget | None = None, **optimizer: Any) -> Trainer:
    adamw = load("optimizer/adamw", **({"lr": 0.01, "warmup_steps": 0} | optimizer))
    return Trainer(policy_ or policy(objective), objective, adamw, budget_ or budget())


def collector(
    objective: Objective, policy_: Policy, reward: Any = None, sampled: bool = False, tokens_per_forward: int = 10_000
) -> Collector:
    """Scripted rollouts, or sampled ones from the policy as it moves. The reference is another random model."""
    spec: Any = ScriptedRollout(answers=SCRIPT, temperature=0.7, top_p=1.0)
    if sampled:
        spec = load("rollout/transformers", answers_per_call=64)
    engine: RolloutEngine = spec.build(codec())
    engine.sync(policy_, 0)
    return Collector(
        codec=codec(),
        engine=engine,
        reward=reward or GoldReward(mode="ternary", tie_band=0.05).source(WordJudge()),
        reference=policy(objective, seed=9) if objective.needs.reference_logp else None,
        sampling=Sampling(temperature=0.7, top_p=1.0, max_new_tokens=5),
        max_answer_tokens=5,
        tokens_per_forward=tokens_per_forward,
    )
