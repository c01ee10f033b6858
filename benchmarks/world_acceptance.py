"""The figures by which the embedded world was accepted: python -m benchmarks.world_acceptance.

Base, best-of-16, SFT to saturation, the oracle, hand-made policies and the references' own ties,
all judged on test by RAS. No objective that is compared (DPO, PPO, GRPO, GRAO) is trained here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import Any

from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.process import process_settings
from grao_bench.core.specs import load
from grao_bench.core.types import Answer, Example
from grao_bench.data.world import (
    BASE,
    CHOSEN,
    HARMFUL,
    ORACLE,
    REJECTED,
    Profile,
    profile_answer,
)
from grao_bench.experiment import Experiment
from grao_bench.rewards.gold import TernaryGold
from grao_bench.runs.cell import Cell, build
from grao_bench.training.loop import train

DRAWS, GROUP = 16, 8
PROFILES: dict[str, Profile] = {
    "perfect": ORACLE,
    "good": replace(CHOSEN, fact_right=0.98, irrelevant=0.03, reason_right=0.95,
                    alternative_right=0.95, answer_part=0.95, answer_right=0.97),
    "as the references": CHOSEN,
    "mediocre (BASE)": BASE,
    "poor (REJECTED)": REJECTED,
    "harmful": HARMFUL,
}  # fmt: skip


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=300, help="test prompts of each set")
    parser.add_argument("--sft-steps", type=int, nargs="*", default=[100, 300, 1000])
    parser.add_argument("--lr", type=float, default=0.002, help="of SFT")
    parser.add_argument("--sets", nargs="*", default=["world_helpful", "world_harmless"])
    asked = parser.parse_args()
    with process_settings(1):
        for name in asked.sets:
            for row in rows(name, asked.prompts, asked.sft_steps, asked.lr):
                print("| " + " | ".join([name, *row]) + " |", flush=True)


def rows(name: str, prompts: int, sft_steps: Sequence[int], lr: float) -> Iterator[tuple[str, ...]]:
    """(policy, RAS, ties, mean score, correct, note), all but the first and last in percent or
    as the judge scores."""
    cell = build(_experiment(name, max(sft_steps, default=1), lr))
    sets = {one.name: one.examples[:prompts] for one in cell.sets}
    judge = load("reward/gold").build(cell.experiment.data)
    for kind, profile in PROFILES.items():
        told = [profile_answer(one, profile, Random(f"a{one.id}")) for one in sets[name]]
        yield (kind, *_scored(judge, sets[name], told))
    yield from _of_base(cell, judge, sets[name])
    started, steps = time.process_time(), set(sft_steps)
    for record in train(cell.trainer, cell.collector, cell.examples, 0):
        if record.step in steps:
            took = f"{time.process_time() - started:.0f} CPU-s"
            for of, examples in sets.items():
                answers = _drawn(cell, examples, 1, record.step)
                where = "" if of == name else f" on {of}"
                scored = _judged(judge, examples, [one[0] for one in answers])
                yield (f"SFT, {record.step} steps{where}", *scored, took)


def _of_base(cell: Cell, judge: Any, examples: Sequence[Example]) -> Iterator[tuple[str, ...]]:
    started = time.process_time()
    drawn = _drawn(cell, examples, DRAWS, 0)
    took = f"{time.process_time() - started:.0f} CPU-s"
    every = [judge.score(_asked(one, answers)) for one, answers in zip(examples, drawn, strict=True)]
    flat = [(one, answer) for one, some in zip(examples, drawn, strict=True) for answer in some]
    yield ("base", *_judged(judge, [one for one, _ in flat], [answer for _, answer in flat]), took)
    best = [
        answers[max(range(DRAWS), key=lambda place, told=told: told[place].parts["score"])]
        for answers, told in zip(drawn, every, strict=True)
    ]
    yield (f"best of {DRAWS} of the base", *_judged(judge, examples, best))
    silent = fmean(len({one.reward for one in told[:GROUP]}) == 1 for told in every)
    lengths = [len(answer.tokens) for some in drawn for answer in some]
    ended = fmean(answer.finished for some in drawn for answer in some)
    note = f"{100 * silent:.0f}% of groups of {GROUP} without signal, {fmean(lengths):.0f} tokens"
    yield ("base's groups", "", "", "", "", f"{note}, {100 * ended:.1f}% finished")


def _drawn(cell: Cell, examples: Sequence[Example], n: int, step: int) -> list[list[Answer]]:
    prompts = [cell.codec.prompt(one.id, one.prompt) for one in examples]
    cell.engine.sync(cell.trainer.policy, step)
    return cell.engine.sample(prompts, n, cell.experiment.evaluation_sampling, 0)


def _asked(example: Example, answers: Sequence[Answer]) -> list[RewardRequest]:
    return [RewardRequest(example, one.text, one.finished, None, None) for one in answers]


def _judged(judge: TernaryGold, examples: Sequence[Example], answers: Sequence[Answer]) -> tuple[str, ...]:
    asked = [_asked(one, [answer])[0] for one, answer in zip(examples, answers, strict=True)]
    told = judge.score(asked)
    wins, ties = (fmean(one.reward == R for one in told) for R in (1.0, 0.0))
    score, correct = fmean(one.parts["score"] for one in told), fmean(one.correct for one in told)
    return f"{100 * wins:.1f}", f"{100 * ties:.1f}", f"{score:.2f}", f"{100 * correct:.1f}"


def _scored(judge: TernaryGold, examples: Sequence[Example], texts: Sequence[str]) -> tuple[str, ...]:
    return _judged(judge, examples, [Answer(text, (), True) for text in texts])


def _experiment(name: str, steps: int, lr: float) -> Experiment:
    return Experiment(
        objective=load("objective/sft"),
        model=load("model/tiny", adapter=None),
        data=load(f"data/{name}"),
        reward=load("reward/gold"),
        rollout=load("rollout/shared_prefix"),
        optimizer=load("optimizer/adamw", lr=lr),
        budget=load("budget/laptop", steps=steps),
        evaluation=load("evaluation/standard"),
        tracking=load("tracking/none"),
        save_model="none",
        seed=0,
        threads=1,
        output="unused",
        sweep="unused",
        role="control",
    )


if __name__ == "__main__":
    main()
