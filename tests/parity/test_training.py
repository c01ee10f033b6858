"""Twenty optimiser steps beside TRL's own trainers: the same model, prompts and answers, AdamW, schedule and clip, in float32.

TRL pads rows, repeats each prompt and averages micro-batches; here a prompt runs once for all its answers and the batch's constants are
taken before it is cut. The gradients and the parameters must agree after every step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from grao_bench.core.interfaces import Sampling
from grao_bench.core.specs import load
from grao_bench.core.types import Example, Turn
from grao_bench.models.load import load_causal_lm
from grao_bench.models.policy import Policy
from grao_bench.objectives import load_objective
from grao_bench.rewards.gold import GoldReward
from grao_bench.rollouts.scripted import ScriptedRollout
from grao_bench.text.dialogue import OPENING
from grao_bench.text.tokens import render
from grao_bench.training.collect import Collector
from grao_bench.training.loop import Trainer, draw, train
from grao_bench.training.optimizer import share_of_rate
from tests.small import tiny_qwen2, word_tokenizer
from tests.training.setting import WordJudge, budget, codec

# the peer calls what transformers renames
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]
STEPS, PROMPTS, GROUP, LONGEST, SEED, TEMPERATURE = 20, 4, 4, 5, 3, 0.7
ADAMW = {"lr": 0.003, "value_lr": 0.0, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.0, "schedule": "linear", "warmup_steps": 3}
CLIP_NORM = 4.0
TOLERANCE = 1e-4
WORDS = ("red", "green", "blue", "one", "two", "three")


def example(i: int) -> Example:
    """Prompts of one to three turns, references of one to six words (the longest exceed LONGEST tokens with their end token)."""
    a, b = WORDS[i % 6], WORDS[(2 * i + 1) % 6]
    turns = [Turn("user", f"{a} {b}"), Turn("assistant", b), Turn("user", " ".join([a] * (1 + i % 3)))]
    chosen = " ".join(["good", a, b, "good"][: 1 + i % 4])
    rejected = " ".join([b, "bad", a, a][: 1 + (i * 3 + 1) % 4])
    return Example(f"e{i}", tuple(turns if i % 2 else [*turns[2:], Turn("user", f"{b} {i % 7}")]), chosen, rejected, "s")


def script(i: int) -> list[str]:
    """Four answers that differ in length and reward; the last is too long to be finished."""
    a, b = WORDS[i % 6], WORDS[(i + 3) % 6]
    return [f"good {a}", f"bad {b} {a}", a if i % 5 else "good bad good", f"{b} good {a} bad bad {b}"]


EXAMPLES = [example(i) for i in range(11)]
SCRIPT = {row.id: script(i) for i, row in enumerate(EXAMPLES)}


def prompt_text(row: Example) -> str:
    return render(row.prompt) + OPENING


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with the model that both sides start from. Its biases are not 0, as a trained model's are not: a key's bias has next to no
    gradient (softmax does not see what all keys share), Adam divides it by its own size, and nothing but rounding would be compared."""
    folder = tmp_path_factory.mktemp("base")
    model, random = tiny_qwen2(seed=1), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(std=0.3, generator=random)
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return str(folder)


State = dict[str, torch.Tensor]


def snapshot(named: Any) -> State:
    return {name: value.detach().clone() for name, value in named}


def ours(base: str, objective: Any, temperature: float) -> tuple[list[State], list[State]]:
    """Gradients as the optimiser sees them, and parameters, after each of its steps."""
    policies = [Policy(load_causal_lm(base, "float32", "cpu")[0], temperature, value_head=False) for _ in range(2)]
    policy, reference = policies
    settings = budget(
        steps=STEPS // objective.updates.count,
        prompts_per_step=PROMPTS,
        max_prompt_tokens=64,
        max_answer_tokens=LONGEST,
        tokens_per_forward=60,
    )
    trainer = Trainer(policy, objective, load("optimizer/adamw", **ADAMW, clip_norm=CLIP_NORM), settings)
    collector = Collector(
        codec=codec(),
        engine=ScriptedRollout(answers=SCRIPT, temperature=temperature, top_p=1.0).build(codec()),
        reward=GoldReward(mode="score", tie_band=0.0).source(WordJudge()),
        reference=reference,
        sampling=Sampling(temperature=temperature, top_p=1.0, max_new_tokens=LONGEST),
        max_answer_tokens=LONGEST,
        tokens_per_forward=60,
    )
    gradients: list[State] = []
    parameters: list[State] = []
    model = policy.model
    trainer.optimizer.register_step_pre_hook(
        lambda *_: gradients.append(snapshot((name, value.grad) for name, value in model.named_parameters()))
    )
    trainer.optimizer.register_step_post_hook(lambda *_: parameters.append(snapshot(model.named_parameters())))
    for _ in train(trainer, collector, EXAMPLES, SEED):
        pass
    return gradients, parameters


def drawn(updates: int = 1) -> list[Example]:
    """What `train` draws, step after step."""
    return [row for step in range(1, STEPS // updates + 1) for row in draw(EXAMPLES, PROMPTS, step, SEED)]


def theirs(trainer_class: Any, base: str, config: Any, rows: list[dict[str, Any]], **more: Any) -> tuple[list[State], list[State]]:
    """The same of a TRL trainer."""
    from datasets import Dataset
    from transformers import TrainerCallback

    gradients: list[State] = []
    parameters: list[State] = []

    class Recorder(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **_):
            gradients.append(snapshot((name, value.grad) for name, value in model.named_parameters()))

        def on_step_end(self, args, state, control, model=None, **_):
            parameters.append(snapshot(model.named_parameters()))

    trainer = trainer_class(
        model=base, args=config, train_dataset=Dataset.from_list(rows), processing_class=word_tokenizer(), callbacks=[Recorder()], **more
    )
    trainer.create_scheduler = partial(our_schedule, trainer)
    trainer.train()
    return gradients, parameters


def our_schedule(trainer: Any, num_training_steps: int, optimizer: Any = None) -> Any:
    """In the place of transformers' own, whose warm-up begins at a rate of 0 and not lr / n."""
    share = partial(share_of_rate, ADAMW["schedule"], ADAMW["warmup_steps"], num_training_steps)
    moved = trainer.optimizer if optimizer is None else optimizer
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(moved, share)
    return trainer.lr_scheduler


def config(kind: Any, folder: Any, **more: Any) -> Any:
    """TRL's arguments for the same training; all else is as TRL has it."""
    return kind(
        output_dir=str(folder),
        model_init_kwargs={"dtype": "float32"},
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
        num_train_epochs=1,
        optim="adamw_torch",
        learning_rate=ADAMW["lr"],
        adam_beta1=ADAMW["betas"][0],
        adam_beta2=ADAMW["betas"][1],
        adam_epsilon=ADAMW["eps"],
        weight_decay=ADAMW["weight_decay"],
        lr_scheduler_type=ADAMW["schedule"],
        warmup_steps=ADAMW["warmup_steps"],
        max_grad_norm=CLIP_NORM,
        **more,
    )


def distances(own: State, peer: State) -> dict[str, float]:
    """|own - peer| / |peer| of each tensor, Euclidean."""
    assert own.keys() == peer.keys()
    return {name: float((own[name] - peer[name]).norm() / peer[name].norm()) for name in own}


def assert_same_path(base: str, own: tuple[list[State], list[State]], peer: tuple[list[State], list[State]]) -> None:
    """Every tensor's gradient at each step, and the tensor after it, within 1e-4 of the peer's; in the end each moved 50 times that."""
    assert [len(states) for states in (*own, *peer)] == [STEPS] * 4
    for what, ours_, theirs_ in zip(("gradient", "parameter"), own, peer, strict=True):
        for step in range(STEPS):
            apart = {name: value for name, value in distances(ours_[step], theirs_[step]).items() if not value <= TOLERANCE}
            assert not apart, f"step {step + 1}: {what} differs: {apart}"
    norms = [float(torch.stack([value.norm() for value in gradient.values()]).norm()) for gradient in peer[0]]
    assert max(norms) > 0.999 * CLIP_NORM, "the clip never acts"
    assert min(norms) < 0.9 * CLIP_NORM, "the clip always acts, and hides the gradient's size"
    start = snapshot(load_causal_lm(base, "float32", "cpu")[0].named_parameters())
    assert min(distances(start, peer[1][-1]).values()) >= 50 * TOLERANCE


def test_sft(trl, base, tmp_path):
    """Two micro-batches a step, whose token counts differ."""
    settings = config(
        trl.SFTConfig, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, train_sampling_strategy="sequential"
    )
    rows = [{"prompt": prompt_text(row), "completion": f" {row.chosen}"} for row in drawn()]
    assert_same_path(base, ours(base, load_objective("sft_token"), 1.0), theirs(trl.SFTTrainer, base, settings, rows))


def test_dpo(trl, base, tmp_path):
    settings = config(
        trl.DPOConfig,
        tmp_path,
        beta=0.3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        train_sampling_strategy="sequential",
    )
    rows = [{"prompt": prompt_text(row), "chosen": f" {row.chosen}", "rejected": f" {row.rejected}"} for row in drawn()]
    assert_same_path(base, ours(base, load_objective("dpo", beta=0.3), 1.0), theirs(trl.DPOTrainer, base, settings, rows))


def words(completions, **_):
    """The reward as TRL asks for it."""
    return [WordJudge().score(EXAMPLES[0], text, True)[0] for text in completions]


def forced(prompts, trainer):
    """TRL's rollouts: the scripted answers' ids."""
    rows = [next(row for row in EXAMPLES if prompt_text(row) == prompt) for prompt in prompts]
    answers = [codec().answer(codec().prompt(row.id, row.prompt), SCRIPT[row.id][i % GROUP], LONGEST).tokens for i, row in enumerate(rows)]
    return {
        "prompt_ids": [trainer.processing_class(prompt)["input_ids"] for prompt in prompts],
        "completion_ids": [list(answer) for answer in answers],
        "logprobs": None,
    }


GRPO_RUNS = {  # our objective, and what TRL is told
    "defaults": ({"name": "grpo_trl"}, {"beta": 0.0}),
    "kl": ({"name": "grpo_trl", "kl": 0.1}, {"beta": 0.1}),
    "two iterations": (
        {"name": "grpo", "std": "sample", "kl": 0.1, "clip_low": 0.05, "clip_high": 0.1, "epochs": 2},
        {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False, "epsilon": 0.05, "epsilon_high": 0.1, "num_iterations": 2},
    ),
}


@pytest.mark.parametrize("run", GRPO_RUNS)
def test_grpo(trl, base, tmp_path, run):
    """On-policy the loss is 0 by construction: what is compared is what it does."""
    own, told = GRPO_RUNS[run]
    objective = load_objective(own["name"], rollouts=GROUP, **{key: value for key, value in own.items() if key != "name"})
    settings = config(
        trl.GRPOConfig,
        tmp_path,
        num_generations=GROUP,
        max_completion_length=LONGEST,
        temperature=TEMPERATURE,
        per_device_train_batch_size=PROMPTS * GROUP,
        shuffle_dataset=False,
        **told,
    )
    rows = [{"prompt": prompt_text(row)} for row in drawn(objective.updates.count)]
    peer = theirs(trl.GRPOTrainer, base, settings, rows, reward_funcs=words, rollout_func=forced)
    assert_same_path(base, ours(base, objective, TEMPERATURE), peer)
