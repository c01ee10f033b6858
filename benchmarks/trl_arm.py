"""TRL's arm: a real trainer's train(), held at the beginning of each step until that step is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LogitsProcessor, LogitsProcessorList, TrainerCallback
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from benchmarks.machine import peak_rss_mb
from benchmarks.pipe import Asked, Clock, Step, Timed, ready
from benchmarks.settings import Trl
from benchmarks.workload import TEMPERATURE, Task, Workload, load_tokenizer, reward

LEARNING_RATE = 0.000001


class ForcedLengths(LogitsProcessor):
    """The end token exactly where each row's length says, never before; a length above the limit never ends."""

    def __init__(self, lengths: Sequence[int], prompt_width: int, end: int) -> None:
        self.prompt_width, self.end = prompt_width, end
        self.rows: dict[int, list[int]] = defaultdict(list)
        for row, length in enumerate(lengths):
            self.rows[length].append(row)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, self.end] = -torch.inf
        ending = self.rows.get(input_ids.shape[1] - self.prompt_width + 1)
        if ending:
            scores[ending] = -torch.inf
            scores[ending, self.end] = 0.0
        return scores


class Held(TrainerCallback):
    """Blocks at on_step_begin until a step is asked for, and answers at on_step_end.

    What TRL does between two steps is not timed: it takes the next rows from its dataset and collates them.
    """

    def __init__(self, asked: Asked, clock: Clock) -> None:
        self.asked, self.clock = asked, clock
        self.begun = self.optimizer_begun = self.optimizer = 0.0
        self.rollout: Timed | None = None
        self.masks: list[torch.Tensor] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.asked.answer(ready(self.clock))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.asked.wait():
            raise SystemExit(0)
        self.begun = self.clock.now()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.optimizer_begun = self.clock.now()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.optimizer = self.clock.now() - self.optimizer_begun

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seconds, masks, self.masks = self.clock.now() - self.begun, self.masks, []
        self.asked.answer(
            Step(
                seconds=seconds,
                rollout=self.rollout.taken() if self.rollout else 0.0,
                optimizer=self.optimizer,
                generated=sum(len(ids) for ids in self.rollout.result[0]) if self.rollout else 0,
                sequence_tokens=sum(int(mask.sum()) for mask in masks),
                peak_rss_mb=peak_rss_mb(),
                peak_device_mb=self.clock.peak_mb(),
            )
        )

    def count(self, loss: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """compute_loss, with the masks of its inputs kept to be counted when the clock has stopped."""
        names = ("prompt_mask", "completion_mask") if "prompt_mask" in inputs else ("attention_mask",)
        self.masks += [inputs[name] for name in names]
        return loss(model, inputs, *args, **kwargs)


def serve(asked: Asked, work: Workload, folder: Path, device: str, setting: Trl) -> None:
    """Build the trainer and answer each request with one step of its train()."""
    torch.set_float32_matmul_precision(setting.matmul)
    held = Held(asked, Clock(device))
    trainer = {"grpo": _grpo, "sft": _sft, "dpo": _dpo}[work.objective](work, folder, device, setting, held)
    trainer.compute_loss = partial(held.count, trainer.compute_loss)
    trainer.train()


def _common(work: Workload, folder: Path, device: str, setting: Trl, rows: int) -> dict[str, Any]:
    batch = min(setting.batch or rows, rows)
    return {
        "output_dir": str(folder / "trl"),
        "max_steps": work.steps,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": rows // batch,
        "learning_rate": LEARNING_RATE,
        "bf16": setting.bf16,
        "gradient_checkpointing": setting.gradient_checkpointing,
        "model_init_kwargs": {"dtype": setting.weights},
        "use_cpu": device == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": device != "cpu",
        "seed": work.seed,
    }


def _text(task: Task) -> str:
    return f"\n\nHuman: {task.prompt}\n\nAssistant:"


def _grpo(work: Workload, folder: Path, device: str, setting: Trl, held: Held) -> GRPOTrainer:
    tasks = work.tasks()
    trainer = GRPOTrainer(
        model=str(folder),
        args=GRPOConfig(
            **_common(work, folder, device, setting, work.prompts * work.answers),
            num_generations=work.answers,
            max_completion_length=work.max_answer_tokens,
            temperature=TEMPERATURE,
            beta=0.0,
            num_iterations=1,
            loss_type="grpo",
            shuffle_dataset=False,
        ),
        processing_class=load_tokenizer(folder),
        train_dataset=Dataset.from_list([{"prompt": _text(task)} for task in tasks]),
        reward_funcs=_rewards,
        callbacks=[held],
    )
    generate = trainer.model.generate

    def forced(**inputs: Any) -> torch.Tensor:
        step = trainer.state.global_step
        rows = [length for task in tasks[step * work.prompts : (step + 1) * work.prompts] for length in task.lengths]
        ids = inputs["input_ids"]
        force = ForcedLengths(rows, ids.shape[1], trainer.processing_class.eos_token_id)
        return generate(**inputs, logits_processor=LogitsProcessorList([force]))

    trainer.model.generate = forced
    held.rollout = Timed(trainer._generate_single_turn, held.clock)
    trainer._generate_single_turn = held.rollout  # type: ignore[method-assign]
    return trainer


def _rewards(completions: list[str], **columns: Any) -> list[float]:
    return [reward(text) for text in completions]


def _sft(work: Workload, folder: Path, device: str, setting: Trl, held: Held) -> SFTTrainer:
    return SFTTrainer(
        model=str(folder),
        args=SFTConfig(**_common(work, folder, device, setting, work.prompts), train_sampling_strategy="sequential"),
        processing_class=load_tokenizer(folder),
        train_dataset=Dataset.from_list([{"prompt": _text(task), "completion": f" {task.chosen}"} for task in work.tasks()]),
        callbacks=[held],
    )


def _dpo(work: Workload, folder: Path, device: str, setting: Trl, held: Held) -> DPOTrainer:
    rows = [{"prompt": _text(task), "chosen": f" {task.chosen}", "rejected": f" {task.rejected}"} for task in work.tasks()]
    return DPOTrainer(
        model=str(folder),
        args=DPOConfig(
            **_common(work, folder, device, setting, work.prompts),
            train_sampling_strategy="sequential",
            precompute_ref_log_probs=setting.precompute_reference,
        ),
        processing_class=load_tokenizer(folder),
        train_dataset=Dataset.from_list(rows),
        callbacks=[held],
    )
