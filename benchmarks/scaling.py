"""What our GRPO step costs against K, prompt length, answer length and vocabulary, and how far it is from its floor.

    python -m benchmarks.scaling --model 40M --out results/performance/scaling

writes scaling.json, scaling.png and scaling.svg. benchmarks/README.md says how the floor is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.workload import SHAPES, Shape, Workload, write_checkpoint

progress = Console(stderr=True, highlight=False)
AXES = {"answers": "answers per prompt K", "prompt": "prompt tokens", "answer": "answer tokens", "vocabulary": "vocabulary"}
STANDARD = "standard"


@dataclass(frozen=True)
class Point:
    """One measured step: which axis it lies on, where, and what it does. The standard point is the step of step_vs_trl."""

    axis: str
    value: int
    shape: Shape
    work: Workload


def main(words: Sequence[str] | None = None) -> None:
    """Measure every point, print a table, write JSON and the figure."""
    options = parse(words)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    plan = list(points(options))
    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, point in enumerate(plan, 1):
            measured.append(measure(point, options, Path(scratch)))
            seconds = measured[-1]["rollout_seconds"] + measured[-1]["train_seconds"]
            progress.print(f"point {number}/{len(plan)}  {point.axis} {point.value}: {seconds:.2f} s a step")
    show(measured, options)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        said = {
            "command": f"python -m benchmarks.scaling {' '.join(sys.argv[1:] if words is None else words)}",
            "machine": describe() | ({"gpu": torch.cuda.get_device_name()} if options.device.startswith("cuda") else {}),
            "model": options.model,
            "threads": options.threads,
            "device": options.device,
            "dtype": options.dtype,
            "points": measured,
        }
        (options.out / "scaling.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        draw(measured, options)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line. An axis with no values is left out."""
    parser = argparse.ArgumentParser(description="What our GRPO step costs against K, lengths and vocabulary, and over its floor.")
    parser.add_argument("--model", default="40M", choices=SHAPES, help="shape of a random-weight Qwen2 model")
    parser.add_argument("--answers", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32], metavar="K", help="values of K")
    parser.add_argument("--prompt", type=int, nargs="*", default=[64, 128, 256, 512, 1024], metavar="TOKENS", help="prompt lengths")
    parser.add_argument("--answer", type=int, nargs="*", default=[16, 32, 64, 128, 256], metavar="TOKENS", help="answer lengths")
    parser.add_argument("--vocabulary", type=int, nargs="*", default=[1024, 4096, 16384, 65536], metavar="TOKENS", help="vocabularies")
    parser.add_argument(
        "--base", type=int, nargs=3, default=[8, 256, 32], metavar=("K", "PROMPT", "ANSWER"), help="what an axis holds fixed"
    )
    parser.add_argument("--prompts", type=int, default=4, help="prompts per step on the axes")
    parser.add_argument("--standard", action=argparse.BooleanOptionalAction, default=True, help="also the step of step_vs_trl")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps per point, after one that is not")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--tokens-per-forward", type=int, default=16384)
    parser.add_argument("--rate-seconds", type=float, default=0.5, help="how long each rate is measured")
    parser.add_argument("--peak-tflops", type=float, help="the device's own figure, for utilisation (else the rate that was measured)")
    parser.add_argument("--out", type=Path, help="a folder for scaling.json, .png and .svg")
    options = parser.parse_args(words)
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats}: must be at least 1")
    if min([*options.prompt, options.base[1]]) < 8 or min([*options.answer, options.base[2]]) < 2:
        parser.error("a prompt has at least 8 tokens and an answer 2")
    return options


def points(options: argparse.Namespace) -> Iterator[Point]:
    """The standard step, then each axis from its least value up."""
    shape = SHAPES[options.model]
    answers, prompt, answer = options.base
    steps = options.repeats + 1
    if options.standard:
        yield Point(STANDARD, 8, shape, Workload("grpo", shape.vocab, 8, 8, (62, 128), 128, steps, 0))
    base = Workload("grpo", shape.vocab, options.prompts, answers, (prompt, prompt), answer, steps, 0, "full")
    for value in sorted(options.answers):
        yield Point("answers", value, shape, replace(base, answers=value))
    for value in sorted(options.prompt):
        yield Point("prompt", value, shape, replace(base, prompt_tokens=(value, value)))
    for value in sorted(options.answer):
        yield Point("answer", value, shape, replace(base, max_answer_tokens=value))
    for value in sorted(options.vocabulary):
        yield Point("vocabulary", value, replace(shape, vocab=value), replace(base, vocab=value))


def measure(point: Point, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Medians over a point's steps, their floors (means over the same steps), and on a GPU utilisation and peak memory."""
    import torch

    from benchmarks.floor import fastest_of, rollout_needs, train_needs
    from benchmarks.ours import build, timed_steps
    from benchmarks.pipe import Clock
    from benchmarks.rates import measure_rates

    folder = scratch / f"vocabulary-{point.shape.vocab}"
    if not folder.exists():
        write_checkpoint(point.shape, folder, seed=0)
    before = measure_rates(point.shape, options.device, options.dtype, options.rate_seconds)
    clock = Clock(options.device)
    if clock.cuda:
        torch.cuda.reset_peak_memory_stats()
    machines = build(point.work, folder, options.device, options.dtype, options.tokens_per_forward)
    steps = list(timed_steps(machines, clock, folder / "steps.jsonl"))[1:]
    # a machine is not as fast at every moment: the floor is that of its better one, right before or right after
    rates = fastest_of(before, measure_rates(point.shape, options.device, options.dtype, options.rate_seconds))
    tasks = point.work.tasks()
    rows = [tasks[start : start + point.work.prompts] for start in range(point.work.prompts, len(tasks), point.work.prompts)]
    width = 4 if options.dtype == "float32" else 2
    rollouts = [rollout_needs(point.shape, row, point.work.max_answer_tokens, width) for row in rows]
    trainings = [train_needs(point.shape, row, point.work.max_answer_tokens) for row in rows]
    rollout, training = median(step.rollout for step in steps), median(step.seconds - step.rollout for step in steps)
    floors = {
        "rollout_floor": median(need.seconds(rates) for need in rollouts),
        "train_floor": median(need.seconds(rates) for need in trainings),
    }
    operations = median(a.total + b.total for a, b in zip(rollouts, trainings, strict=True))
    peak = options.peak_tflops * 1e12 if options.peak_tflops else rates.layers
    return {
        "axis": point.axis,
        "value": point.value,
        "workload": asdict(point.work),
        "shape": asdict(point.shape),
        "rollout_seconds": rollout,
        "train_seconds": training,
        **floors,
        "rollout_over_floor": rollout / floors["rollout_floor"],
        "train_over_floor": training / floors["train_floor"],
        "step_over_floor": (rollout + training) / sum(floors.values()),
        "generated_tokens": steps[0].generated,
        "decode_tokens_per_s": median(step.generated / step.rollout for step in steps),
        "train_tokens_per_s": median(step.sequence_tokens / (step.seconds - step.rollout) for step in steps),
        "operations": operations,
        "utilisation": operations / (rollout + training) / peak,
        "train_utilisation": median(need.total for need in trainings) / training / peak,
        "peak_device_mb": steps[-1].peak_device_mb,
        "rates": asdict(rates),
        "steps": [asdict(step) for step in steps],
    }


def show(measured: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """A table on standard output."""
    table = Table(title=f"GRPO step, {options.model}, {options.dtype}, {options.threads} thread(s), {options.device}", title_justify="left")
    names = (
        "axis",
        "value",
        "rollout s",
        "train s",
        "x floor: rollout",
        "train",
        "step",
        "decode tok/s",
        "train tok/s",
        "utilisation",
        "peak MB",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "axis" else "right", no_wrap=True)
    for point in measured:
        table.add_row(
            AXES.get(point["axis"], "standard step, K"),
            str(point["value"]),
            f"{point['rollout_seconds']:.3f}",
            f"{point['train_seconds']:.3f}",
            f"{point['rollout_over_floor']:.1f}",
            f"{point['train_over_floor']:.1f}",
            f"{point['step_over_floor']:.1f}",
            f"{point['decode_tokens_per_s']:.0f}",
            f"{point['train_tokens_per_s']:.0f}",
            f"{point['utilisation']:.0%} (train {point['train_utilisation']:.0%})",
            "" if point["peak_device_mb"] is None else f"{point['peak_device_mb']:.0f}",
        )
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    rates = measured[0]["rates"]
    console.print(
        f"Rates: {rates['layers'] / 1e9:.0f} GFLOP/s in the layers' products, {rates['head'] / 1e9:.0f} in the head's "
        f"(matmul precision {rates['matmul']}), {rates['bytes'] / 1e9:.1f} GB/s read."
    )
    for point in growth(measured):
        times, first, answers = point["times"], point["first"], point["answers"]
        console.print(f"K = {point['value']}: {times:.2f} times the cost of K = {first}, for {answers:.0f} times the answers.")


def growth(measured: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """For each K after the least: how many times that one's whole step it costs."""
    row = [point for point in measured if point["axis"] == "answers"]
    cost = [point["rollout_seconds"] + point["train_seconds"] for point in row]
    return [
        {"value": point["value"], "first": row[0]["value"], "times": seconds / cost[0], "answers": point["value"] / row[0]["value"]}
        for point, seconds in zip(row[1:], cost[1:], strict=True)
    ]


def draw(measured: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """scaling.png and scaling.svg: a panel per axis, seconds and floors on logarithmic scales."""
    import matplotlib
    from matplotlib.figure import Figure

    axes = [axis for axis in AXES if sum(point["axis"] == axis for point in measured) > 1]
    if not axes:
        return
    with matplotlib.rc_context({"svg.hashsalt": "scaling", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(3.2 * len(axes), 3.1), layout="constrained")
        panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
        for panel, axis in zip(panels, axes, strict=True):
            row = [point for point in measured if point["axis"] == axis]
            at = [point["value"] for point in row]
            for name, colour in (("rollout", "#0072b2"), ("train", "#d55e00")):
                panel.plot(at, [point[f"{name}_seconds"] for point in row], "o-", color=colour, label=name, markersize=4)
                panel.plot(at, [point[f"{name}_floor"] for point in row], ":", color=colour, label=f"{name}: floor")
            if axis == "answers":
                first = row[0]["rollout_seconds"] + row[0]["train_seconds"]
                panel.plot(at, [point["rollout_seconds"] + point["train_seconds"] for point in row], "-", color="#111112", label="step")
                panel.plot(at, [first * value / at[0] for value in at], "--", color="#7f7f7f", label="step if proportional to K")
            panel.set(xscale="log", yscale="log", xlabel=AXES[axis])
            panel.set_xticks(at, [str(value) for value in at])
            panel.minorticks_off()
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(alpha=0.15)
        panels[0].set_ylabel("seconds per step")
        # the last panel has room above its lines
        panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="upper left", frameon=False, fontsize=7)
        figure.suptitle(f"One GRPO step, {options.model} parameters, {options.dtype}, {options.device}", fontsize=10)
        figure.savefig(options.out / "scaling.png", dpi=150, metadata={"Software": None})
        figure.savefig(options.out / "scaling.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
