"""A whole training step, ours against TRL's, in one paired run: ours, TRL a, TRL b, ..., ours, TRL a, ... on the same prompts and lengths.

    python -m benchmarks.step_vs_trl --models 4M 40M --objectives grpo sft dpo --repeats 5 --out results/performance/step_vs_trl.json

Each arm is a process of its own that waits until it is asked for a step, so that its peak memory is its own and the arms alternate.
benchmarks/README.md says what is held equal and what is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.floor import Rates, fastest_of, rollout_needs, train_needs
from benchmarks.machine import describe
from benchmarks.settings import CACHED, GRAPHS, OURS, PLAIN, TRL, arms_for, peer_of
from benchmarks.workload import SHAPES, Shape, Task, Workload

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_ARMS = (CACHED, "trl-fp32", "trl-defaults", "trl-fp32-8", "trl-fp32-8-medium", "trl-bf16-8", "trl-precomputed-8")
progress = Console(stderr=True, highlight=False)


@dataclass
class Arm:
    """A worker process and the steps it has answered with."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    base_rss_mb: float = 0.0
    gpu: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> dict[str, Any]:
        """The worker's next answer; SystemExit with the end of its log when it has died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise SystemExit(f"{self.name}: its process ended with code {self.process.wait()}:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def greet(self) -> None:
        """Wait until it has built its model."""
        answer = self.read()
        self.base_rss_mb, self.gpu = answer["base_rss_mb"], answer["gpu"]

    def step(self) -> dict[str, Any]:
        """Ask for a step and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """Let the worker end; it has nothing to save."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON after each objective and model."""
    options = parse(words)
    runs: list[dict[str, Any]] = []
    out = {
        "command": f"python -m benchmarks.step_vs_trl {' '.join(sys.argv[1:] if words is None else words)}",
        "machine": describe(),
        "runs": runs,
    }
    with tempfile.TemporaryDirectory() as scratch:
        for model in options.models:
            folder = Path(scratch) / model
            subprocess.run(
                worker({"checkpoint": model, "folder": str(folder), "threads": options.threads, "seed": 0}), check=True, **setting(options)
            )
            for objective in options.objectives:
                runs.append(measure(options, objective, model, folder))
                show(runs[-1])
                if options.out:
                    options.out.parent.mkdir(parents=True, exist_ok=True)
                    options.out.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="A whole training step, ours against TRL's, paired.")
    parser.add_argument("--models", nargs="+", default=["4M", "40M"], choices=SHAPES, help="shapes of random-weight Qwen2 models")
    parser.add_argument("--objectives", nargs="+", default=["grpo"], choices=["grpo", "sft", "dpo"])
    parser.add_argument(
        "--arms",
        nargs="*",
        default=DEFAULT_ARMS,
        choices=[*OURS, *TRL],
        metavar="ARM",
        help=f"beside {PLAIN}: {', '.join([CACHED, GRAPHS, *TRL])}",
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds; a round is one step of every arm")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them")
    parser.add_argument(
        "--slow-seconds", type=float, default=60.0, help="an arm whose step takes longer leaves after --slow-repeats rounds"
    )
    parser.add_argument("--slow-repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of our arm")
    parser.add_argument("--tokens-per-forward", type=int, default=16384, help="of our arm: budget.tokens_per_forward")
    parser.add_argument("--sequences", type=int, default=64, help="per step: GRPO's prompts x answers, SFT's rows, twice DPO's pairs")
    parser.add_argument("--answers", type=int, default=8, help="K, GRPO's answers per prompt")
    parser.add_argument("--prompt-tokens", type=int, nargs=2, default=[62, 128], metavar=("LEAST", "MOST"))
    parser.add_argument("--max-answer-tokens", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and lengths")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args(words)
    for name in ("repeats", "slow_repeats", "threads", "sequences", "answers", "max_answer_tokens"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: must be at least 1")
    if options.warmup < 0:
        parser.error(f"--warmup {options.warmup}: must be at least 0")
    least, most = options.prompt_tokens
    if not 8 <= least <= most:
        parser.error(f"--prompt-tokens {least} {most}: must be at least 8, the least first")
    if options.sequences % options.answers or options.sequences % 2:
        parser.error(f"--sequences {options.sequences}: must be even, and a multiple of --answers {options.answers}")
    return options


def measure(options: argparse.Namespace, objective: str, model: str, folder: Path) -> dict[str, Any]:
    """One objective on one model: start every arm, alternate, and stop them."""
    work = workload(options, objective, model)
    tasks = work.tasks()
    arms: list[Arm] = []
    before = measure_rates(options, model) if work.samples else None
    try:
        for name in arms_for(objective, options.arms):
            progress.print(f"{objective} {model}: starting {name}")
            arms.append(start(name, options, work, folder))
        for arm in arms:
            arm.greet()
        for number in range(work.steps):
            for arm in arms:
                if number < rounds(arm, options):
                    answer = checked(arm.name, arm.step(), work, number, tasks)
                    progress.print(f"{objective} {model} round {number + 1}/{work.steps} {arm.name}: {answer['seconds']:.2f} s")
                    arm.steps.append(answer)
    finally:
        for arm in arms:
            arm.close()
    floors = None if before is None else floor_seconds(options, work, SHAPES[model], [before, measured_after(options, model, before)])
    return {
        "objective": objective,
        "model": model,
        "shape": asdict(SHAPES[model]),
        "workload": asdict(work),
        "threads": options.threads,
        "device": options.device,
        "gpu": arms[0].gpu,
        "warmup": options.warmup,
        "floor": floors,
        "arms": {arm.name: summary(arm, arms, options, floors) for arm in arms},
    }


def measure_rates(options: argparse.Namespace, model: str) -> dict[str, Any]:
    """`floor.Rates` of the model's products in our arm's dtype, from a process of its own."""
    request = {"rates": model, "threads": options.threads, "device": options.device, "dtype": options.dtype}
    found: dict[str, Any] = json.loads(subprocess.run(worker(request), check=True, stdout=subprocess.PIPE, **setting(options)).stdout)
    return found


def measured_after(options: argparse.Namespace, model: str, before: dict[str, Any]) -> dict[str, Any]:
    """The rates once more, after the rounds; where that fails those measured before, so that the rounds are not lost."""
    try:
        return measure_rates(options, model)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        progress.print(f"{model}: the floor is of the rates measured before the rounds alone: {error}")
        return before


def floor_seconds(options: argparse.Namespace, work: Workload, shape: Shape, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The least that each GRPO step can cost here (`floor`): with its products at the better of the rates measured before and after."""
    rates = fastest_of(*(Rates(**one) for one in measured))
    tasks, width = work.tasks(), 4 if options.dtype == "float32" else 2
    rows = [tasks[start : start + work.prompts] for start in range(0, len(tasks), work.prompts)]
    needs = [(rollout_needs(shape, row, work.max_answer_tokens, width), train_needs(shape, row, work.max_answer_tokens)) for row in rows]
    return {"rates": asdict(rates), "seconds": [sum(need.seconds(rates) for need in pair) for pair in needs]}


def workload(options: argparse.Namespace, objective: str, model: str) -> Workload:
    """The step that every arm does."""
    prompts = {"grpo": options.sequences // options.answers, "sft": options.sequences, "dpo": options.sequences // 2}[objective]
    return Workload(
        objective=objective,  # type: ignore[arg-type]
        vocab=SHAPES[model].vocab,
        prompts=prompts,
        answers=options.answers,
        prompt_tokens=tuple(options.prompt_tokens),
        max_answer_tokens=options.max_answer_tokens,
        steps=options.warmup + options.repeats,
        seed=options.seed,
    )


def rounds(arm: Arm, options: argparse.Namespace) -> int:
    """How many rounds an arm takes part in, warm-up included: fewer when its first step was slow. Ours take part in all."""
    slow = arm.name in TRL and bool(arm.steps) and arm.steps[0]["seconds"] > options.slow_seconds
    return options.warmup + (min(options.slow_repeats, options.repeats) if slow else options.repeats)


def checked(name: str, answer: dict[str, Any], work: Workload, number: int, tasks: list[Task]) -> dict[str, Any]:
    """The answer, after a check that the arm has sampled and trained on the workload's own number of tokens."""
    answers, sequences = work.step_tokens(number, tasks)
    wanted = (answers if work.samples else 0, sequences)
    found = (answer["generated"], answer["sequence_tokens"])
    if found != wanted:
        raise SystemExit(f"{name}, step {number + 1}: {found} tokens (generated, of all sequences) where the workload has {wanted}")
    return answer


def start(name: str, options: argparse.Namespace, work: Workload, folder: Path) -> Arm:
    """A worker that builds its model, beside the others, and then waits for its first step."""
    request = {
        "arm": name,
        "workload": asdict(work),
        "folder": str(folder),
        "threads": options.threads,
        "device": options.device,
        "dtype": options.dtype,
        "tokens_per_forward": options.tokens_per_forward,
    }
    log = folder / f"{work.objective}-{name}.log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            worker(request), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, **setting(options)
        )
    return Arm(name, process, log)


def worker(request: dict[str, Any]) -> list[str]:
    """The command of a worker."""
    return [sys.executable, "-m", "benchmarks.worker", json.dumps(request)]


def setting(options: argparse.Namespace) -> dict[str, Any]:
    """Where and with which environment a worker runs: the thread counts must be there before torch is imported."""
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {"cwd": ROOT, "env": os.environ | threads}


def summary(arm: Arm, arms: Sequence[Arm], options: argparse.Namespace, floors: dict[str, Any] | None = None) -> dict[str, Any]:
    """An arm's medians, and its ratios to ours: seconds in the same round, and peak memory; and to the floor where there is one.

    `floors` are of our arm's dtype: an arm whose products are in another has no ratio to them.
    """
    by_name = {one.name: one for one in arms}
    ours = by_name[peer_of(arm.name, list(by_name))]
    timed = arm.steps[options.warmup :]
    ratios = [step["seconds"] / own["seconds"] for step, own in zip(arm.steps, ours.steps, strict=False)][options.warmup :]
    same_products = arm.name in OURS or TRL[arm.name].dtype == options.dtype
    floor = floors["seconds"] if floors and same_products else []
    least = [step["seconds"] / seconds for step, seconds in zip(arm.steps, floor, strict=False)]
    rates = {
        "rollout_tokens_per_s": median(step["generated"] / step["rollout"] for step in timed) if timed[0]["rollout"] else None,
        "train_tokens_per_s": median(step["sequence_tokens"] / (step["seconds"] - step["rollout"]) for step in timed),
    }
    key = "peak_rss_mb" if options.device == "cpu" else "peak_device_mb"
    return {
        "setting": _setting(arm.name, options),
        "compared_with": ours.name,
        "seconds": spread([step["seconds"] for step in timed]),
        "rollout_seconds": spread([step["rollout"] for step in timed]),
        "train_seconds": spread([step["seconds"] - step["rollout"] for step in timed]),
        **rates,
        "base_rss_mb": arm.base_rss_mb,
        "peak_rss_mb": arm.steps[-1]["peak_rss_mb"],
        "peak_device_mb": arm.steps[-1]["peak_device_mb"],
        "seconds_over_ours": spread(ratios),
        "seconds_over_floor": spread(least[options.warmup :]) if least else None,
        "memory_over_ours": arm.steps[-1][key] / ours.steps[len(arm.steps) - 1][key],
        "steps": arm.steps,
    }


def _setting(name: str, options: argparse.Namespace) -> dict[str, Any]:
    ours = {"says": OURS.get(name), "dtype": options.dtype, "tokens_per_forward": options.tokens_per_forward}
    return asdict(TRL[name]) if name in TRL else ours


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def fastest_trl(run: dict[str, Any]) -> str | None:
    """The TRL arm with the least median seconds, of those compared with plain ours; None without one."""
    peers = {name: arm["seconds"]["median"] for name, arm in run["arms"].items() if name in TRL and arm["compared_with"] == PLAIN}
    return min(peers, key=peers.__getitem__) if peers else None


def show(run: dict[str, Any]) -> None:
    """A table on standard output."""
    table = Table(title=f"{run['objective']} {run['model']}: one step, {run['threads']} thread(s), {run['device']}", title_justify="left")
    best = fastest_trl(run)
    for name in (
        "arm",
        "step s",
        "rollout s",
        "train s",
        "rollout tok/s",
        "train tok/s",
        "peak (base) MB",
        "x ours",
        "memory x ours",
        "x floor",
        "rounds",
    ):
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
    for name, arm in run["arms"].items():
        peak = f"{arm['peak_rss_mb']:.0f} ({arm['base_rss_mb']:.0f})"
        table.add_row(
            name + (" *" if name == best else ""),
            _range(arm["seconds"]),
            f"{arm['rollout_seconds']['median']:.2f}",
            f"{arm['train_seconds']['median']:.2f}",
            f"{arm['rollout_tokens_per_s']:.0f}" if arm["rollout_tokens_per_s"] else "",
            f"{arm['train_tokens_per_s']:.0f}",
            peak if arm["peak_device_mb"] is None else f"{arm['peak_device_mb']:.0f} (device)",
            "" if name in OURS else _range(arm["seconds_over_ours"]),
            "" if name in OURS else f"{arm['memory_over_ours']:.2f}",
            _range(arm["seconds_over_floor"]) if arm["seconds_over_floor"] else "",
            str(len(arm["steps"]) - run["warmup"]),
        )
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    if best:
        console.print(f"* the fastest of TRL's settings tried: {TRL[best].says}")
    if run["floor"]:
        rates = run["floor"]["rates"]
        console.print(
            f"floor: the products that the step needs, at {rates['layers'] / 1e9:.0f} GFLOP/s in the layers and "
            f"{rates['head'] / 1e9:.0f} in the head, measured in this run (benchmarks/floor.py)"
        )


def _range(values: dict[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f}-{values['max']:.2f})"


if __name__ == "__main__":
    main()
