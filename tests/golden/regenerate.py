"""python -m tests.golden.regenerate: writes tests/golden/<objective>.jsonl anew, and says which changed.

Those are at rollout.temperature=1, where the losses are at 1 too; at_0.7/ holds objectives with
rollouts at 0.7, whose losses are at 0.7.

Do it when numbers are meant to change, and say in the commit why they did: the diff shows every one of them.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

from grao_bench.experiment import Experiment, build
from grao_bench.records import StepRecord, append_line
from grao_bench.rollouts.scripted import ScriptedRollout
from grao_bench.specs import load
from grao_bench.training.loop import train
from tests.cells import cell, small

OBJECTIVES = ("sft", "dpo", "ppo", "grpo", "grao")
STEPS = 5
GOLDEN = [*((name, 1.0) for name in OBJECTIVES), *((name, 0.7) for name in ("ppo", "grpo", "grao"))]
"""(objective, rollout.temperature)."""


def path_of(objective: str, temperature: float = 1.0) -> Path:
    """Where the golden records lie."""
    here = Path(__file__).parent
    return (here if temperature == 1 else here / f"at_{temperature}") / f"{objective}.jsonl"


def save_base(folder: Path) -> None:
    """A GPT-2 over bytes, float64 throughout: it has none of the norms and rotary angles that transformers takes in float32.

    Its weights come from Python's generator, whose uniform numbers are the same on every machine.
    """
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=258, n_positions=256, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=256, pad_token_id=257)
    ).double()
    numbers = random.Random("golden base")
    with torch.no_grad():
        for name, value in model.named_parameters():
            centre = 1.0 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.0
            value.copy_(torch.tensor([numbers.uniform(centre - 0.4, centre + 0.4) for _ in range(value.numel())]).view_as(value))
    model.save_pretrained(folder)
    bytes_alone = Tokenizer(models.BPE({text: i for i, text in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    bytes_alone.add_special_tokens(["<|end|>", "<|pad|>"])
    PreTrainedTokenizerFast(tokenizer_object=bytes_alone, eos_token="<|end|>", pad_token="<|pad|>").save_pretrained(folder)


def golden_cell(
    objective: str,
    base: Path,
    output: Path,
    temperature: float = 1.0,
    **model: Any,
) -> Experiment:
    """Five steps on 16 pairs of the embedded world; what would be sampled is scripted, good answers and bad ones."""
    data = small("data/world_helpful", num_train=16)
    pairs = data.build().train
    script = {
        pair.id: [pair.chosen, str(pair.rejected), other.chosen, f"{pair.chosen} {pair.chosen}", "no"]
        for pair, other in zip(pairs, (*pairs[1:], pairs[0]), strict=True)
    }
    fields = {"path": str(base), "dtype": "float64", "prompt_format": "hh", "device": "cpu"} | model
    return cell(
        objective,
        output,
        data=data,
        model=load("model/hf", **fields),
        rollout=ScriptedRollout(answers=script, temperature=temperature, top_p=1.0),
        budget=load("budget/smoke", steps=STEPS, answers_per_step=16, max_answer_tokens=96, tokens_per_forward=2048, probe_every=0),
        optimizer=load("optimizer/adamw", lr=0.002, warmup_steps=0, schedule="linear"),
    )


def golden_steps(
    objective: str,
    base: Path,
    output: Path,
    temperature: float = 1.0,
    **model: Any,
) -> Iterator[StepRecord]:
    """The cell's records, step after step, of a policy that has left its reference: where they are one, rounding decides DPO's accuracy."""
    experiment = golden_cell(objective, base, output, temperature, **model)
    built = build(experiment)
    policy = built.trainer.policy
    with torch.no_grad():
        for value in policy.model.parameters():
            value.mul_(1.05)
    if policy.value_head is not None:
        policy.value_head.double()  # in float32 its sums would differ from processor to processor by more than 1e-9
    yield from train(built.trainer, built.collector, built.examples, experiment.seed)


def main() -> None:
    """Writes every golden file."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GRAO_BENCH_CACHE"] = scratch
        base = Path(scratch) / "base"
        save_base(base)
        for objective, temperature in GOLDEN:
            path = path_of(objective, temperature)
            path.parent.mkdir(exist_ok=True)
            before = path.read_bytes() if path.exists() else b""
            path.write_bytes(b"")
            for record in golden_steps(objective, base, Path(scratch), temperature):
                append_line(path, record)
            name = path.relative_to(Path(__file__).parent)
            print(f"{name}: {'as it was' if path.read_bytes() == before else 'changed; say why in the commit'}")


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    main()
