"""How a reward model reads an answer, and how rows of ids become scores: packed where the model
allows it, else padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float

from grao_bench.core.batching import pad_rows
from grao_bench.core.errors import UserError
from grao_bench.core.types import Example, Turn
from grao_bench.models.scorer import Row, Scorer, head_scores, score_rows
from grao_bench.rewards.reward_folder import PairFormat
from grao_bench.text.dialogue import render
from grao_bench.text.shorten import shortened, words
from grao_bench.text.tokens import TextCodec

Text = tuple[str, bool]
"""An answer's text, and whether it is finished."""
Read = Callable[[Example, Sequence[Text], bool], list[tuple[Row, ...]]]
"""(example, texts, closing) -> of each text the rows whose scores it may have, all after the same
prompt; the lowest counts. One row each without closing; see `readings`."""
Scores = Callable[[Sequence[Row]], list[float]]


def machines(
    model: Any,
    tokenizer: Any,
    prompt_format: PairFormat,
    max_tokens: int,
    tokens_per_forward: int,
    end_token: int | None = None,
) -> tuple[Read, Scores]:
    """What reads an answer, and what scores such rows: packed where the model allows it.
    end_token: of an answer; None finds it."""
    padded = partial(padded_scores, model, tokenizer, tokens_per_forward)
    if prompt_format == "pair":  # its second segment ends alike, finished or not
        return partial(segment_readings, tokenizer, max_tokens), padded
    codec = TextCodec(tokenizer, prompt_format, max_tokens, end_token=end_token)
    read = partial(readings, codec, max_tokens)
    try:
        scorer = Scorer(model)
    except UserError:  # soft-capped attention and the like: padding is slower, but right
        return read, padded
    return read, lambda rows: score_rows(scorer, rows, tokens_per_forward)


def readings(
    codec: TextCodec,
    max_tokens: int,
    example: Example,
    texts: Sequence[Text],
    closing: bool,
) -> list[tuple[Row, ...]]:
    """See `Read`. Closing, a text that is read without its end token has a row with it besides:
    an unfinished one those of the finished one and its own; one that was cut, the end token in the
    place of the last token left. So it never has a higher score than it has finished."""
    asked = [
        (number, text, ends)
        for number, (text, finished) in enumerate(texts)
        for ends in ((True, finished) if closing and not finished else (finished,))
    ]
    both = [(text, ends) for _, text, ends in asked]
    prompt, answers = codec.judged(example.id, example.prompt, both, max_tokens)
    found: list[list[Row]] = [[] for _ in texts]
    for (number, _, ends), answer in zip(asked, answers, strict=True):
        found[number].append((prompt.tokens, answer.tokens))
        if closing and ends and not answer.finished:
            found[number].append((prompt.tokens, (*answer.tokens[:-1], codec.end_token)))
    return [tuple(rows) for rows in found]


def segment_readings(
    tokenizer: Any,
    max_tokens: int,
    example: Example,
    texts: Sequence[Text],
    closing: bool,
) -> list[tuple[Row, ...]]:
    """See `Read`: of an encoder, which reads no end token."""
    return [(two_segments(tokenizer, max_tokens, example, text),) for text, _ in texts]


def two_segments(tokenizer: Any, max_tokens: int, example: Example, text: str) -> Row:
    """A dialogue and an answer as the tokenizer joins two segments, in one row of ids. What doesn't
    fit is cut from the dialogue as a prompt's is (`shortened`), then from the answer's right."""

    def joined(turns: Sequence[Turn]) -> list[int]:
        dialogue = render(turns).strip()
        return list(tokenizer(dialogue, text, split_special_tokens=True)["input_ids"])

    ids = joined(example.prompt)
    if len(ids) > max_tokens:
        left = shortened(example.prompt, lambda some, _: len(joined(some)) <= max_tokens, words)
        last = example.prompt[-1]
        word = replace(last, text=(last.text.split() or [""])[-1])
        ids = joined([word] if left is None else left[0])
    return tuple(ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]), ()


@torch.no_grad()
def padded_scores(
    model: Any,
    tokenizer: Any,
    tokens_per_forward: int,
    rows: Sequence[Row],
) -> list[float]:
    """[N] scores of rows of similar length, right-padded, at most tokens_per_forward at once: for
    a model that can't run them packed."""
    found: dict[Row, float] = {}
    waiting = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))
    while waiting:
        width = len(waiting[-1][0]) + len(waiting[-1][1])
        count = max(1, tokens_per_forward // width)
        waiting, chunk = waiting[:-count], waiting[-count:]
        ids = [[*prompt, *answer] for prompt, answer in chunk]
        found |= zip(chunk, classify(model, ids, tokenizer).tolist(), strict=True)
    return [found[row] for row in rows]


def classify(model: Any, rows: Sequence[Sequence[int]], tokenizer: Any) -> Float[torch.Tensor, "N"]:
    """[N] scores of right-padded rows. A decoder's last real token is pooled, by position and not
    by looking for the pad id.

    transformers' own pooling searches for pad_token_id, which is wrong where pad and end token are
    the same. A model whose head is not called `score` pools by itself (an encoder: its first token).
    """
    pad = tokenizer.pad_token_id
    pad = tokenizer.eos_token_id if pad is None else pad
    ids, mask = pad_rows(rows, pad)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    if "token_type_ids" in tokenizer.model_input_names:
        inputs["token_type_ids"] = _segments(ids, tokenizer)
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    if not hasattr(model, "score"):
        logits: torch.Tensor = model(**inputs).logits
        return logits[:, 0].float()
    inputs.pop("token_type_ids", None)
    hidden = model.base_model(**inputs).last_hidden_state
    ends = inputs["attention_mask"].sum(1) - 1
    last = hidden[torch.arange(len(rows), device=hidden.device), ends]
    return head_scores(model.score, last)[:, 0]


def _segments(ids: torch.Tensor, tokenizer: Any) -> torch.Tensor:
    """0 up to the first separator, 1 after it: the segments of a row
    [CLS] dialogue [SEP] answer [SEP]."""
    between: torch.Tensor = (ids == tokenizer.sep_token_id).long()
    return (between.cumsum(1) - between > 0).long()
