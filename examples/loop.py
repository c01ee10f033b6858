"""From a base to RAS in one file: one objective on the embedded world, without Hydra.

    python examples/loop.py                           # GRAO, 100 steps: some minutes of one core
    python examples/loop.py --objective grpo --steps 20

What `python -m grao_bench.train` does of a cell, put together by hand: data, models, reward, engine,
collector, trainer, the loop, evaluation. What it leaves out is bookkeeping: run folders,
checkpoints, probes on dev, trackers. The values are those of conf/; change them as arguments of
`load`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from grao_bench import load, load_objective
from grao_bench.core.interfaces import Dataset, Models, ModelsWanted, Objective, RewardSource, RolloutEngine, Sampling
from grao_bench.core.process import process_settings
from grao_bench.core.spec_interfaces import DataSpec, ModelSpec
from grao_bench.evaluation.answers import Evaluator
from grao_bench.models.policy import Policy
from grao_bench.training.collect import Collector
from grao_bench.training.loop import Budget, Trainer, train
from grao_bench.training.ranks import ALONE

SEED = 0
TEMPERATURE = 0.7
"""Of the rollouts, and so of the loss's log-probabilities."""


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    objective: Objective
    dataset: Dataset
    models: Models
    engine: RolloutEngine
    reward: RewardSource
    budget: Budget

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn; a base ends its answer where the user's next turn would begin."""
        most = self.budget.max_answer_tokens
        return Sampling(TEMPERATURE, top_p=1.0, max_new_tokens=most, stop=("\n\nHuman:",))


def assemble(objective: Objective, data: DataSpec, model: ModelSpec, budget: Budget) -> Parts:
    """Everything built: the base is made, or comes from its cache."""
    wanted = ModelsWanted(
        max_prompt_tokens=budget.max_prompt_tokens,
        tokens_per_forward=budget.tokens_per_forward,
        gradient_checkpointing=budget.gradient_checkpointing,
        logp_temperature=TEMPERATURE if objective.needs.rollouts else 1.0,
        value_head=objective.needs.values,
        reference=objective.needs.reference_logp,
        corpus=data.corpus,
    )
    models = model.build(ALONE, wanted)
    engine = load("rollout/shared_prefix").build(models.codec)
    reward = load("reward/gold").build(data)
    return Parts(objective, data.build(), models, engine, reward, budget)


def fit(parts: Parts, lr: float) -> None:
    """Train the policy in place, a line for each tenth of the steps."""
    collector = Collector(
        codec=parts.models.codec,
        engine=parts.engine,
        reward=parts.reward,
        reference=parts.models.reference,
        sampling=parts.sampling,
        max_answer_tokens=parts.budget.max_answer_tokens,
        tokens_per_forward=parts.budget.tokens_per_forward,
        steps=parts.budget.steps,
    )
    optimizer = load("optimizer/adamw", lr=lr)
    trainer = Trainer(parts.models.policy, parts.objective, optimizer, parts.budget)
    for record in train(trainer, collector, parts.dataset.train, SEED):
        if record.step % max(1, parts.budget.steps // 10) == 0:
            reward = record.metrics.get("reward/mean", float("nan"))
            print(f"step {record.step:4}  loss {record.metrics['loss']:7.3f}  reward {reward:6.3f}")


def ras(parts: Parts, policy: Policy, prompts: int) -> float:
    """The share, in percent, of test prompts whose answer beats the reference; a tie is a loss."""
    examples = parts.dataset.test[:prompts]
    evaluator = Evaluator(parts.models.codec, parts.sampling, store_text=False)
    parts.engine.sync(policy, parts.budget.steps)
    drawn = evaluator.draw(parts.engine, examples, seed=SEED)
    records = evaluator.judge(parts.reward, examples, drawn)
    return 100 * fmean((record.verdict or 0) > 0 for record in records)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objective", default="grao")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=300, help="of the test set")
    parser.add_argument("--lr", type=float, default=0.0005)
    asked = parser.parse_args(arguments)
    budget = load("budget/laptop", steps=asked.steps)
    data, model = load("data/world_helpful"), load("model/tiny")
    with process_settings(threads=1):  # torch's threads and float32 path, put back after
        parts = assemble(load_objective(asked.objective), data, model, budget)
        before = ras(parts, parts.models.base, asked.prompts)
        fit(parts, asked.lr)
        after = ras(parts, parts.models.policy, asked.prompts)
    print(f"RAS on {asked.prompts} test prompts: base {before:.1f}, {asked.objective} {after:.1f}")


if __name__ == "__main__":
    main()
