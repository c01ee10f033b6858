"""Our arm: what grao_bench.training.loop.train does for a step, with the rollouts' lengths forced and nothing else changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.forced import ForcedLengths
from benchmarks.machine import peak_rss_mb
from benchmarks.pipe import Asked, Clock, Step, Timed, ready
from benchmarks.settings import CACHED, GRAPHS
from benchmarks.workload import TEMPERATURE, Task, Workload, load_tokenizer, reward
from grao_bench.core.interfaces import RewardRequest, Sampling
from grao_bench.core.precision import fast_float32
from grao_bench.core.record_files import append_line
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn, Verdict
from grao_bench.models.load import load_causal_lm
from grao_bench.models.policy import Policy
from grao_bench.text.tokens import TextCodec
from grao_bench.training.collect import Collector, collect
from grao_bench.training.loop import Trainer, draw, train
from grao_bench.training.reference import ReferenceCache

LEARNING_RATE = 0.000001  # the weights hardly move, so that every step is like the first
SEED = 0


@dataclass(frozen=True)
class PlainReward:
    """`workload.reward` as a RewardSource."""

    name: str = "even words"
    pairwise: bool = False
    fingerprint: str = "even words"
    tie_margin: float = 0.0

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        return [Verdict(reward(request.text), self.name) for request in requests]


@dataclass(frozen=True)
class Machines:
    """A trainer and what fills its batches."""

    trainer: Trainer
    collector: Collector
    examples: tuple[Example, ...]


def build(
    work: Workload,
    folder: Path,
    device: str,
    dtype: str,
    tokens_per_forward: int,
    cache: Path | None = None,
    cuda_graphs: bool = False,
) -> Machines:
    """A policy of the checkpoint in `folder` with everything that its objective needs, as grao_bench.runs.cell puts it together.

    cache: where DPO's reference log-probabilities are kept; None keeps none.
    """
    fast_float32()
    objective: Any = {
        "grpo": lambda: load("objective/grpo", rollouts=work.answers, kl=0.0, epochs=1, minibatches=1),
        "sft": lambda: load("objective/sft_token"),
        "dpo": lambda: load("objective/dpo"),
    }[work.objective]()
    # what logp_temperature=auto is: the sampler's where an objective has rollouts, as TRL has it
    heat = TEMPERATURE if objective.needs.rollouts else 1.0
    model = load_causal_lm(str(folder), dtype, device)[0]
    policy = Policy(model, heat, value_head=False, tokens_per_forward=tokens_per_forward)
    reference = None
    if objective.needs.reference_logp:
        frozen = load_causal_lm(str(folder), dtype, device)[0].requires_grad_(False)
        reference = Policy(frozen, heat, value_head=False, tokens_per_forward=tokens_per_forward)
    codec = TextCodec(load_tokenizer(folder), "hh", work.prompt_tokens[1])
    tasks = work.tasks()
    budget = load(
        "budget/smoke",
        steps=work.steps,
        prompts_per_step=work.prompts,
        max_prompt_tokens=work.prompt_tokens[1],
        max_answer_tokens=work.max_answer_tokens,
        tokens_per_forward=tokens_per_forward,
        probe_every=0,
        checkpoint_every=0,
    )
    collector = Collector(
        codec=codec,
        engine=forced_engine(codec, tasks, cuda_graphs),
        reward=PlainReward(),
        reference=reference,
        reference_cache=ReferenceCache(reference, "benchmark", cache) if reference and cache else None,
        sampling=Sampling(TEMPERATURE, 1.0, work.max_answer_tokens),
        max_answer_tokens=work.max_answer_tokens,
        tokens_per_forward=tokens_per_forward,
    )
    optimizer = load("optimizer/adamw", lr=LEARNING_RATE, warmup_steps=0)
    return Machines(Trainer(policy, objective, optimizer, budget), collector, in_training_order(tasks))


def forced_engine(codec: TextCodec, tasks: Sequence[Task], cuda_graphs: bool) -> Any:
    """The engine of a run, whose answers get the lengths that the tasks say."""
    sampling = {"temperature": TEMPERATURE, "top_p": 1.0, "cuda_graphs": cuda_graphs}
    engine = load("rollout/shared_prefix", **sampling).build(codec)
    table = {task.id: task.lengths for task in tasks}
    engine.draws = ForcedLengths(engine.draws, lambda prompt, k: table[prompt][k], codec)
    return engine


def in_training_order(tasks: Sequence[Task]) -> tuple[Example, ...]:
    """The examples, arranged so that the loop's own shuffle draws step 1's tasks at step 1, and so on."""
    examples = [Example(task.id, (Turn("user", task.prompt),), task.chosen, task.rejected, "benchmark") for task in tasks]
    place = {example.id: row for row, example in enumerate(examples)}
    arranged = dict(zip((place[drawn.id] for drawn in draw(examples, len(examples), 1, SEED)), examples, strict=True))
    return tuple(arranged[row] for row in range(len(examples)))


def serve(asked: Asked, work: Workload, folder: Path, request: Mapping[str, Any]) -> None:
    """Answer each request with one step. In the arm "ours-cached" every pair's reference log-probabilities are on disk before the first."""
    cache = folder / f"cache-{request['arm']}"
    device, arm = request["device"], request["arm"]
    tokens_per_forward, graphs = request["tokens_per_forward"], arm == GRAPHS
    machines = build(work, folder, device, request["dtype"], tokens_per_forward, cache, graphs)
    if arm == CACHED:
        objective = machines.trainer.objective
        collect(machines.collector, machines.trainer.policy, machines.examples, objective.needs, objective.updates, SEED)
    clock = Clock(device)
    steps = timed_steps(machines, clock, folder / f"steps-{arm}-{work.objective}.jsonl")
    asked.answer(ready(clock))
    while asked.wait():
        asked.answer(next(steps))


def timed_steps(machines: Machines, clock: Clock, log: Path) -> Iterator[Step]:
    """The loop's steps, each timed from its prompts to its record in the log."""
    sample, optimizer, seen = Timed(machines.collector.engine.sample, clock), Marks(clock), []
    machines.collector.engine.sample = sample  # type: ignore[method-assign]
    machines.trainer.optimizer.register_step_pre_hook(optimizer.begin)
    machines.trainer.optimizer.register_step_post_hook(optimizer.end)
    machines.trainer.policy.register_forward_hook(lambda policy, inputs, out: seen.append(inputs[0]))
    records = train(machines.trainer, machines.collector, machines.examples, SEED)
    while True:
        begun = clock.now()
        record = next(records, None)
        if record is None:
            return
        append_line(log, record)
        seconds, rollout = clock.now() - begun, sample.taken()
        yield Step(
            seconds=seconds,
            rollout=rollout if record.generated_tokens else 0.0,
            optimizer=optimizer.seconds,
            generated=record.generated_tokens,
            sequence_tokens=sum(int(batch.mask.sum() + batch.prompt_mask.sum() * len(batch.slots)) for batch in seen),
            peak_rss_mb=peak_rss_mb(),
            peak_device_mb=clock.peak_mb(),
        )
        seen.clear()


class Marks:
    """The seconds between an optimiser's hooks, of its last step."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.begun = self.seconds = 0.0

    def begin(self, *_: Any) -> None:
        self.begun = self.clock.now()

    def end(self, *_: Any) -> None:
        self.seconds = self.clock.now() - self.begun
