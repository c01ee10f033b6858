"""What is measured: random-weight models of stated shapes, prompts, and answer lengths drawn once and forced on whoever samples.

Nothing here imports torch at the top, so that the parent process of a benchmark stays small.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ObjectiveName = Literal["grpo", "sft", "dpo"]
TEMPERATURE = 0.7
END, PAD, UNKNOWN = "<|end|>", "<|pad|>", "<|unk|>"
_MARKS = ("Human", "Assistant", ":")
_OVERHEAD = 4  # "Human", ":", "Assistant", ":"


@dataclass(frozen=True)
class Shape:
    """A Qwen2 with tied embeddings; widths in units, `positions` the longest context in tokens."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ff: int
    vocab: int
    positions: int = 4096


SHAPES = {
    "toy": Shape(hidden=32, layers=2, heads=2, kv_heads=1, ff=64, vocab=128),
    "4M": Shape(hidden=256, layers=4, heads=4, kv_heads=2, ff=768, vocab=4096),
    "40M": Shape(hidden=512, layers=8, heads=8, kv_heads=4, ff=1536, vocab=32000),
    "0.5B": Shape(hidden=896, layers=24, heads=14, kv_heads=2, ff=4864, vocab=151936),
}


@dataclass(frozen=True)
class Task:
    """One prompt of a step: its words, and the length in tokens of each of its answers.

    A length counts the end token; one above the workload's max_answer_tokens belongs to an answer that never ends.
    """

    id: str
    prompt: str
    prompt_tokens: int
    lengths: tuple[int, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Workload:
    """`steps` steps of `prompts` prompts with `answers` answers each.

    Prompts have `prompt_tokens` (least, most) tokens, drawn evenly. Answers have at most max_answer_tokens; their lengths are `lumpy`
    (see lumpy_lengths), or all `full`: that many tokens, the end token the last.
    """

    objective: ObjectiveName
    vocab: int
    prompts: int
    answers: int
    prompt_tokens: tuple[int, int]
    max_answer_tokens: int
    steps: int
    seed: int
    lengths: Literal["lumpy", "full"] = "lumpy"

    @property
    def samples(self) -> bool:
        """Whether a step samples its answers; else they are the tasks' own texts."""
        return self.objective == "grpo"

    def tasks(self) -> list[Task]:
        """Every step's prompts, step after step: the same list for the same workload, on every machine."""
        draw = random.Random(self.seed)
        return [self._task(draw, f"step{step}-{row}") for step in range(self.steps) for row in range(self.prompts)]

    def _task(self, draw: random.Random, name: str) -> Task:
        count = draw.randint(*self.prompt_tokens)
        lengths = [self.max_answer_tokens] * max(self.answers, 2)
        if self.lengths == "lumpy":
            lengths = lumpy_lengths(draw, len(lengths), self.max_answer_tokens)
        # a written answer always ends, so it has one token less for its words at the limit
        written = [self._words(draw, min(length, self.max_answer_tokens) - 1) for length in lengths[:2]]
        return Task(name, self._words(draw, count - _OVERHEAD), count, tuple(lengths[: self.answers]), *written)

    def _words(self, draw: random.Random, count: int) -> str:
        first = len(special_words())
        return " ".join(f"w{draw.randrange(first, self.vocab)}" for _ in range(count))

    def step_tokens(self, step: int, tasks: list[Task]) -> tuple[int, int]:
        """(answer tokens, tokens of all sequences with their prompts) of a step: what every arm must have generated and trained on."""
        rows = tasks[step * self.prompts : (step + 1) * self.prompts]
        if self.samples:
            counts = [[min(length, self.max_answer_tokens) for length in task.lengths] for task in rows]
        else:
            texts = [[task.chosen] if self.objective == "sft" else [task.chosen, task.rejected] for task in rows]
            counts = [[len(text.split()) + 1 for text in pair] for pair in texts]
        answers = sum(map(sum, counts))
        return answers, answers + sum(task.prompt_tokens * len(row) for task, row in zip(rows, counts, strict=True))


def lumpy_lengths(draw: random.Random, count: int, most: int) -> list[int]:
    """Answer lengths of one prompt, as sampling from a model with one end-token probability per prompt would give them.

    Geometric, with a rate that differs between prompts (log-normal, sigma 0.35). Over many prompts the mean of min(length, most) is
    about 34% of `most`, and 3-14% of answers reach it unfinished (they have the length most + 1).
    """
    rate = min(0.5, 2.8 / most * math.exp(draw.gauss(0.0, 0.35)))
    lengths = [1 + int(math.log(1.0 - draw.random()) / math.log(1.0 - rate)) for _ in range(count)]
    return [min(max(2, length), most + 1) for length in lengths]


def special_words() -> tuple[str, ...]:
    """The words of the tokenizer that are no w<number>, in the order of their ids."""
    return (END, PAD, UNKNOWN, *_MARKS)


def write_checkpoint(shape: Shape, folder: Path, seed: int) -> None:
    """A random Qwen2 of this shape in float32 and a tokenizer of as many whole words, as a folder that transformers loads."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    words = [*special_words(), *(f"w{number}" for number in range(len(special_words()), shape.vocab))]
    tokenizer = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, unk_token=UNKNOWN).save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.ff,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words.index(END),
        pad_token_id=words.index(PAD),
    )
    torch.manual_seed(seed)
    Qwen2ForCausalLM(config).save_pretrained(folder)


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's tokenizer as it was written: AutoTokenizer would replace its word splitting by Qwen2's own."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def reward(text: str) -> float:
    """The share of an answer's words whose number is even: plain Python, and never the same for a whole group."""
    words = text.split()
    return sum(word[-1] in "02468" for word in words) / max(1, len(words))
