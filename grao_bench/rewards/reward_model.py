"""A reward model: any Hugging Face sequence-classification model with one output, trained on preference pairs (Bradley-Terry).

decoders with a head called score (Llama, Qwen, ...; what train_reward makes)   the last token's hidden state, by position
any other (BERT, DeBERTa, ...)                                                  the model's own pooling and head
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float

from grao_bench.batching import context, pad_rows
from grao_bench.data.tokens import TextCodec
from grao_bench.dialogue import render
from grao_bench.errors import UserError
from grao_bench.interfaces import DataSpec, RewardRequest
from grao_bench.models.scorer import Row, Scorer, load_classifier, score_rows
from grao_bench.ops import sign_with_ties
from grao_bench.process import loaded_once
from grao_bench.provenance import content_digest, weights_fingerprint
from grao_bench.rewards.reward_folder import (
    PairFormat,
    TrainedAs,
    read_record,
    require_disjoint,
    template_digest,
)
from grao_bench.types import Example, Verdict
from grao_bench.values import READS, value_hash

Mode = Literal["score", "sign", "margin"]
Dtype = Literal["float32", "bfloat16", "float64", "auto"]


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """path: a checkpoint folder or hub id; "{data}" in it stands for the set's name, so that each set has its own model.

    mode: `score` is r(answer) as it is, `sign` is sign(r(answer) - r(reference)) with ties within tie_margin (pairwise), `margin` is
    r(answer) - r(reference): a score whose zero is the reference.
    unfinished: what an answer without an end token gets in sign mode: `lose` (-1) or `judge` (its text is scored like any other).
    prompt_format: `hh`, `chat`, or `pair`: dialogue and answer as the tokenizer's own two segments
    ([CLS] dialogue [SEP] answer [SEP]). None: as it was trained, or `chat` where train_reward
    left no record of that and its tokenizer has a template.
    max_tokens: prompt and answer together; a longer prompt is shortened. None: as it was
    trained, or the model's context.
    dtype: what it computes in. Scores are float32 at least.
    disjoint_from: the path of another reward model that this one must share no training pair with; null checks nothing.
    """

    revision: ClassVar[int] = 1

    path: str = field(metadata={READS: lambda spec, sets: content_digest(*spec.paths(sets))})
    mode: Mode
    tie_margin: float
    unfinished: Literal["lose", "judge"]
    prompt_format: PairFormat | None
    max_tokens: int | None
    tokens_per_forward: int = field(compare=False)
    dtype: Dtype
    device: str
    disjoint_from: str | None = field(compare=False)

    def __post_init__(self) -> None:
        for key, known in (
            ("mode", get_args(Mode)),
            ("unfinished", ("lose", "judge")),
            ("prompt_format", (*get_args(PairFormat), None)),
        ):
            if getattr(self, key) not in known:
                names = ", ".join("null" if name is None else name for name in known)
                value = getattr(self, key)
                raise UserError(f"reward.{key}={value}: unknown; choose one of {names}")
        if not self.tie_margin >= 0:
            raise UserError(f"reward.tie_margin={self.tie_margin}: must not be negative")

    def needs_reference(self, data: DataSpec) -> bool:
        """All modes but `score` compare with it."""
        return self.mode != "score"

    def check(self, data: DataSpec) -> None:
        """UserError if a number is out of range, a local path holds no model, it was trained to
        read otherwise than this asks, or it shares training pairs with `disjoint_from`.

        A hub id (owner/name) is only looked up when it is loaded.
        """
        for key, least in (("max_tokens", 2), ("tokens_per_forward", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise UserError(f"reward.{key}={value}: must be at least {least}")
        path = self.path_for(data)
        if not Path(path).is_dir() and (path.count("/") != 1 or path.startswith((".", "/", "runs/"))):
            halves = (half for half in ("training", "evaluation") if path.endswith(f"-{half}"))
            half = next((f" half={half}" for half in halves), "")
            command = f"python -m grao_bench.train_reward data={data.name}{half}"
            raise UserError(f"reward.path={path}: no such folder; train one with {command}")
        self._require_as_trained(path, read_record(path))
        if self.disjoint_from is not None:
            require_disjoint(Path(path), Path(self.disjoint_from.replace("{data}", data.name)))

    def path_for(self, data: DataSpec) -> str:
        """The path with the set's name in it."""
        return self.path.replace("{data}", data.name)

    def paths(self, sets: Sequence[str]) -> list[str]:
        """The paths for sets of these names, each once."""
        return list(dict.fromkeys(self.path.replace("{data}", name) for name in sets))

    def build(self, data: DataSpec) -> RewardModelSource:
        """Load it, once in a cell for all that ask for it; UserError where it can't be, or can't
        read what it is asked to."""
        path = self.path_for(data)
        record = read_record(path)
        self._require_as_trained(path, record)
        model, tokenizer = loaded_once(
            ("reward model", path, self.dtype, self.device),
            lambda: load_classifier(path, self.dtype, self.device, "reward"),
        )
        prompt_format = self.prompt_format or _format(path, record, model, tokenizer)
        max_tokens = self.max_tokens or _length(path, record, model, tokenizer)
        _require_readable(path, record, model, tokenizer, prompt_format, max_tokens)
        end = _end_token(record, tokenizer)
        most = self.tokens_per_forward
        made = machines(model, tokenizer, prompt_format, max_tokens, most, end)
        template = template_digest(tokenizer, prompt_format)
        how = prompt_format, max_tokens, template, end  # which null leaves to the folder
        fingerprint = value_hash("reward model", weights_fingerprint(model), *how)
        return RewardModelSource(self, *made, fingerprint)

    def _require_as_trained(self, path: str, record: TrainedAs | None) -> None:
        if record is None:
            return
        for key in ("prompt_format", "max_tokens"):
            asked, trained = getattr(self, key), getattr(record, key)
            if asked is not None and asked != trained:
                how = f"{path} was trained with {key}={trained}"
                raise UserError(f"reward.{key}={asked}: {how}; use {trained}, or null")


def _format(path: str, record: TrainedAs | None, model: Any, tokenizer: Any) -> PairFormat:
    """How it was trained to read, or as its tokenizer's template says; UserError where neither is
    known."""
    if record is not None:
        return record.prompt_format
    if hasattr(model, "score") and tokenizer.chat_template:
        return "chat"
    raise UserError(
        f"reward.prompt_format=null: {path} says neither how it was trained nor has it a chat "
        "template; give hh (a decoder on HH-RLHF's dialogues) or pair (an encoder of two segments)"
    )


def _length(path: str, record: TrainedAs | None, model: Any, tokenizer: Any) -> int:
    """How long it was trained to read, or its context; UserError where neither is known."""
    if record is not None:
        return record.max_tokens
    told = tokenizer.model_max_length  # 1e30 where it says nothing
    found = min(context(model.config) or told, told)
    if found > 10**9:
        raise UserError(f"reward.max_tokens=null: {path} does not say how long; give a number")
    return int(found)


def _require_readable(
    path: str,
    record: TrainedAs | None,
    model: Any,
    tokenizer: Any,
    prompt_format: PairFormat,
    max_tokens: int,
) -> None:
    """UserError where the model, or its tokenizer as it is now, can't read what it is to."""
    if prompt_format != "pair" and not hasattr(model, "score"):
        what = f"{type(model).__name__} reads two segments"
        raise UserError(f"reward.prompt_format={prompt_format}: {what}; use prompt_format=pair")
    room = context(model.config)
    if room is not None and max_tokens > room:
        what = f"{path} reads at most {room} tokens (its max_position_embeddings)"
        raise UserError(f"reward.max_tokens={max_tokens}: {what}; lower it, or train it anew")
    if record is None:
        return
    end, text, template = record.end_token, record.end_text, record.chat_template
    for name, other in (
        ("end token", None not in (end, text) and text != tokenizer.decode([end])),
        ("chat template", template not in (None, template_digest(tokenizer, prompt_format))),
    ):
        if other:
            what = f"its tokenizer's {name} is not the one it was trained with"
            raise UserError(f"reward.path={path}: {what}; restore its tokenizer, or train it anew")


def _end_token(record: TrainedAs | None, tokenizer: Any) -> int | None:
    """The id of the end token that it was trained with: before that was recorded, always the
    tokenizer's own. None for a model of others, whose template tells."""
    if record is None:
        return None
    end: int | None = tokenizer.eos_token_id if record.end_token is None else record.end_token
    return end


Read = Callable[[Example, str, bool], Row]
"""(example, answer's text, finished) -> the ids that are scored."""
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
    if prompt_format == "pair":
        return partial(two_segments, tokenizer, max_tokens), padded
    codec = TextCodec(tokenizer, prompt_format, max_tokens, end_token=end_token)

    def read(example: Example, text: str, finished: bool) -> Row:
        texts = [(text, finished)]
        prompt, (answer,) = codec.judged(example.id, example.prompt, texts, max_tokens)
        return prompt.tokens, answer.tokens

    try:
        scorer = Scorer(model)
    except UserError:  # soft-capped attention and the like: padding is slower, but right
        return read, padded
    return read, lambda rows: score_rows(scorer, rows, tokens_per_forward)


class RewardModelSource:
    """Scores texts with a loaded reward model. fingerprint: of its weights and of how it reads."""

    def __init__(self, spec: RewardModel, read: Read, scores: Scores, fingerprint: str) -> None:
        self.spec, self.read, self.scores, self.fingerprint = spec, read, scores, fingerprint
        self.name = f"reward_model_{spec.mode}"
        self.pairwise = spec.mode == "sign"
        self.tie_margin = spec.tie_margin

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; parts hold the scores behind a sign."""
        rows = [self.read(each.example, each.text, each.finished) for each in requests]
        if self.spec.mode == "score":
            return [Verdict(score, self.name, {"score": score}) for score in self._scores(rows)]
        references = [self.read(each.example, each.example.reference, True) for each in requests]
        scores = self._scores([*rows, *references])
        pairs = zip(requests, scores[: len(rows)], scores[len(rows) :], strict=True)
        return [self._compare(request, score, reference) for request, score, reference in pairs]

    def _compare(self, request: RewardRequest, score: float, reference: float) -> Verdict:
        parts = {"score": score, "reference_score": reference}
        if self.spec.mode == "margin":
            return Verdict(score - reference, self.name, parts)
        sign = sign_with_ties(score - reference, self.spec.tie_margin)
        if self.spec.unfinished == "lose" and not request.finished:
            sign = -1.0
        return Verdict(sign, self.name, parts)

    def _scores(self, rows: Sequence[Row]) -> list[float]:
        """[N] scores; UserError where one is not a number, before a sign makes it look like one.

        Equal rows are scored once: apart, rounding differs with what shares their batch, so that R(y, y) would not be 0 and a group of
        equal answers not without signal.
        """
        distinct = list(dict.fromkeys(rows))
        found = dict(zip(distinct, self.scores(distinct), strict=True))
        if not all(map(math.isfinite, found.values())):
            what = f"reward.path={self.spec.path}: gave a score that is not a number"
            raise UserError(f"{what}; look at the model, or train it anew")
        return [found[row] for row in rows]


def two_segments(
    tokenizer: Any,
    max_tokens: int,
    example: Example,
    text: str,
    finished: bool,
) -> Row:
    """A dialogue and an answer as the tokenizer joins two segments, in one row of ids. What doesn't
    fit is cut from the dialogue's left, then from the answer's right."""
    dialogue = render(example.prompt).strip()
    ids: list[int] = tokenizer(dialogue, text, split_special_tokens=True)["input_ids"]
    alone = tokenizer(dialogue, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    over = max(0, len(ids) - max_tokens)
    cut = min(over, len(alone))
    ids = [ids[0], *ids[1 + cut :]]
    return tuple(ids if cut == over else [*ids[: max_tokens - 1], ids[-1]]), ()


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
    """[N] scores of right-padded rows. A decoder's last real token is pooled, by position and not by looking for the pad id.

    transformers' own pooling searches for pad_token_id, which is wrong where pad and end token are the same. A model whose head is not
    called `score` pools by itself (an encoder: its first token).
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
    scores: torch.Tensor = model.score(last)[:, 0].float()
    return scores


def _segments(ids: torch.Tensor, tokenizer: Any) -> torch.Tensor:
    """0 up to the first separator, 1 after it: the segments of a [CLS] dialogue [SEP] answer [SEP] row."""
    between = (ids == tokenizer.sep_token_id).long()
    return (between.cumsum(1) - between > 0).long()
