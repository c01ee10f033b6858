"""python -m tests.golden.regenerate: writes tests/golden/<objective>.jsonl anew, and says which changed.

Those are at rollout.temperature=1, where the losses are at 1 too; at_0.7/ holds objectives with
rollouts at 0.7, whose losses are at 0.7.

parts.json holds what data sets, rewards, the engine and the embedded base say of fixed inputs, and
revisions.json whose numbers all of these are: a changed number needs a raised `revision` of its
class, which is part of a run's identity, or nothing is written.

Do it when numbers are meant to change, and say in the commit why they did: the diff shows every one of them.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

from grao_bench.core.records import StepRecord
from grao_bench.core.specs import load
from grao_bench.core.values import describe
from grao_bench.experiment import Experiment
from grao_bench.rollouts.scripted import ScriptedRollout
from grao_bench.runs.cell import build
from grao_bench.training.loop import train
from tests.cells import cell, small
from tests.golden.parts import parts

OBJECTIVES = ("sft", "dpo", "ppo", "grpo", "grao")
STEPS = 5
GOLDEN = [*((name, 1.0) for name in OBJECTIVES), *((name, 0.7) for name in ("ppo", "grpo", "grao"))]
"""(objective, rollout.temperature)."""
HERE = Path(__file__).parent
REVISIONS, PARTS = HERE / "revisions.json", HERE / "parts.json"
"""The revisions of the classes that each golden file's numbers are of, and what the parts say."""


def path_of(objective: str, temperature: float = 1.0) -> Path:
    """Where the golden records lie."""
    here = Path(__file__).parent
    return (here if temperature == 1 else here / f"at_{temperature}") / f"{objective}.jsonl"


def save_base(folder: Path) -> None:
    """A GPT-2 over bytes, float64 throughout: it has none of the norms and rotary angles that transformers takes in float32.

    Its weights come from Python's generator, whose uniform numbers are the same on every machine.
    """
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=258, n_positions=384, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=256, pad_token_id=257)
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
        budget=load("budget/smoke", steps=STEPS, answers_per_step=16, max_answer_tokens=224, tokens_per_forward=2048, probe_every=0),
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


def revisions(*specs: Any) -> dict[str, int]:
    """Class -> revision, of everything of ours within these specs."""
    found: dict[str, int] = {}
    waiting: list[Any] = [describe(specs, identity=True)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and "_revision_" in one:
            found[one["_target_"]] = one["_revision_"]
        if isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
    return dict(sorted(found.items()))


def of_cell(experiment: Experiment) -> dict[str, int]:
    """Of what makes a golden cell's steps."""
    made = (experiment.objective, experiment.data, experiment.reward, experiment.rollout)
    return revisions(*made, experiment.model, experiment.optimizer, experiment.budget)


def forgotten(name: str, changed: bool, before: dict[str, int], now: dict[str, int]) -> str:
    """What to say of numbers that have changed under the revisions that they had; "" otherwise."""
    if not changed or not before or any(now.get(kind, 0) > number for kind, number in before.items()):
        return ""
    own = ", ".join(f"{kind} ({number})" for kind, number in now.items())
    return (
        f"{name}: its numbers have changed and no revision was raised. Raise `revision` of the class whose numbers they are: {own}. "
        "Budget's is the training loop's (collect, gradient), which all objectives share"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A golden file; nothing where it is not there yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def same(before: Any, now: Any) -> bool:
    """Equal, numbers to 1e-9."""
    if isinstance(before, list | dict) and type(before) is type(now) and len(before) == len(now):
        if isinstance(before, dict):
            return before.keys() == now.keys() and all(same(before[key], now[key]) for key in before)
        return all(map(same, before, now))
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=1e-9, abs_tol=1e-9)
    return bool(before == now)


def main() -> None:
    """Writes every golden file; exits with what was forgotten, and writes nothing of it, where numbers changed under their revision."""
    known, said = read_json(REVISIONS), []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GRAO_BENCH_CACHE"] = scratch
        base = Path(scratch) / "base"
        save_base(base)
        for objective, temperature in GOLDEN:
            path = path_of(objective, temperature)
            name = str(path.relative_to(HERE))
            records = [asdict(one) for one in golden_steps(objective, base, Path(scratch), temperature)]
            before = [*map(json.loads, path.read_text().splitlines())] if path.exists() else []
            now = of_cell(golden_cell(objective, base, Path(scratch), temperature))
            changed = not same(before, records)
            said.append(forgotten(name, changed, known.get(name, {}), now))
            if said[-1]:
                continue
            known[name] = now
            if changed:
                path.parent.mkdir(exist_ok=True)
                path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
            print(f"{name}: {'changed; say why in the commit' if changed else 'as it was'}")
        stored = read_json(PARTS)
        for name, (spec, numbers) in parts(base, Path(scratch)).items():
            found, now = json.loads(json.dumps(numbers())), revisions(spec)
            changed = not same(stored.get(name), found)
            said.append(forgotten(name, changed, known.get(name, {}), now))
            if said[-1]:
                continue
            known[name] = now
            if changed:
                stored[name] = found
            print(f"{name}: {'changed; say why in the commit' if changed else 'as it was'}")
    PARTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    REVISIONS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    if any(said):
        sys.exit("\n".join(filter(None, said)))


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    main()
