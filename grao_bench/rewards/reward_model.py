"""A reward model: any Hugging Face sequence-classification model with one output, trained on preference pairs (Bradley-Terry).

decoders with a head called score (Llama, Qwen, ...; what train_reward makes)   the last token's hidden state, by position
any other (BERT, DeBERTa, ...)                                                  the model's own pooling and head
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from transformers import AutoConfig

from grao_bench.core.batching import context
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.ops import sign_with_ties
from grao_bench.core.pair_accuracy import PairAccuracy
from grao_bench.core.process import loaded_once
from grao_bench.core.provenance import content_digest, weights_fingerprint
from grao_bench.core.records import JudgeCounts
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.types import Verdict
from grao_bench.core.values import READS, value_hash
from grao_bench.models.scorer import Row, load_classifier
from grao_bench.rewards.readings import Read, Scores, Text, machines
from grao_bench.rewards.reward_folder import (
    PairFormat,
    TrainedAs,
    accuracy_of,
    read_record,
    require_disjoint,
    template_digest,
)

Mode = Literal["score", "sign", "margin"]
Dtype = Literal["float32", "bfloat16", "float64", "auto"]


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """path: a checkpoint folder or hub id; "{data}" in it stands for the set's name, so that each set has its own model.

    mode: `score` is r(answer) as it is, `sign` is sign(r(answer) - r(reference)) with ties within tie_margin (pairwise), `margin` is
    r(answer) - r(reference): a score whose zero is the reference.
    unfinished: `lose`, so that not finishing never gains: an answer that is read without its end
    token, which is where a reward model learned its score, has the lower of its scores as it stands
    and with that token, in every mode; in sign mode one that was not finished gets -1. A reference
    that doesn't fit into max_tokens is scored likewise. `judge`: all are scored as they stand.
    prompt_format: `hh`, `chat`, or `pair`: dialogue and answer as the tokenizer's own two segments
    ([CLS] dialogue [SEP] answer [SEP]). None: as it was trained, or `chat` where train_reward
    left no record of that and its tokenizer has a template.
    max_tokens: prompt and answer together; a longer prompt is shortened. None: as it was
    trained, or the model's context.
    dtype: what it computes in. Scores are float32 at least.
    disjoint_from: the path of another reward model that this one must share no training pair with; null checks nothing.
    """

    revision: ClassVar[int] = 2

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
        record = read_record(path)
        self._require_as_trained(path, record)
        asked = self.max_tokens or (None if record is None else record.max_tokens)
        if asked is not None and (Path(path) / "config.json").is_file():
            with suppress(OSError, ValueError):  # which loading says in its own words
                _require_room(path, AutoConfig.from_pretrained(path, trust_remote_code=False), asked)
        if self.disjoint_from is not None:
            require_disjoint(Path(path), Path(self.disjoint_from.replace("{data}", data.name)))

    def path_for(self, data: DataSpec) -> str:
        """The path with the set's name in it."""
        return self.paths([data.name])[0]

    def paths(self, sets: Sequence[str]) -> list[str]:
        """The paths for sets of these names, each once."""
        named = (self.path.replace("{data}", name) for name in sets)
        return list(dict.fromkeys(map(os.path.expanduser, named)))

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
        return RewardModelSource(self, *made, fingerprint, accuracy_of(path))

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


def _require_room(path: str, config: Any, max_tokens: int) -> None:
    """UserError where a model with this config has fewer positions."""
    room = context(config)
    if room is not None and max_tokens > room:
        what = f"{path} reads at most {room} tokens (its max_position_embeddings)"
        raise UserError(f"reward.max_tokens={max_tokens}: {what}; lower it, or train it anew")


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
    _require_room(path, model.config, max_tokens)
    told = tokenizer.model_max_length
    if prompt_format == "pair" and max_tokens > told:  # RoBERTa's first two positions are padding's
        what = f"the tokenizer of {path} says at most {told}"
        raise UserError(f"reward.max_tokens={max_tokens}: {what}; lower it")
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


class RewardModelSource:
    """Scores texts with a loaded reward model. fingerprint: of its weights and of how it reads.
    pair_accuracy: how it does on held-out pairs, where its folder says so."""

    def __init__(
        self,
        spec: RewardModel,
        read: Read,
        scores: Scores,
        fingerprint: str,
        pair_accuracy: PairAccuracy | None = None,
    ) -> None:
        self.spec, self.read, self.scores, self.fingerprint = spec, read, scores, fingerprint
        self.pair_accuracy, self.judged = pair_accuracy, 0
        self.name = f"reward_model_{spec.mode}"
        self.pairwise = spec.mode == "sign"
        self.tie_margin = spec.tie_margin

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; parts hold the scores behind a sign."""
        self.judged += len(requests)
        read = [self._read(request) for request in requests]
        found = self._scores([row for texts in read for rows in texts for row in rows])
        lowest = [[min(found[row] for row in rows) for rows in texts] for texts in read]
        pairs = zip(requests, lowest, strict=True)
        return [self._verdict(request, *scores) for request, scores in pairs]

    def statistics(self) -> dict[str, JudgeCounts]:
        """See `TellingSource`."""
        return {self.name: JudgeCounts(judged=self.judged, pair_accuracy=self.pair_accuracy)}

    def texts(self) -> dict[str, str]:
        """See `TellingSource`: none."""
        return {}

    def _read(self, request: RewardRequest) -> list[tuple[Row, ...]]:
        """The readings of the answer and, where they are compared, of its reference: together, as
        a pair is in training, after the same prompt."""
        texts: list[Text] = [(request.text, request.finished)]
        if self.spec.mode != "score":
            texts.append((request.example.reference, True))
        return self.read(request.example, texts, self.spec.unfinished == "lose")

    def _verdict(
        self,
        request: RewardRequest,
        score: float,
        reference: float | None = None,
    ) -> Verdict:
        if reference is None:
            return Verdict(score, self.name, {"score": score})
        parts = {"score": score, "reference_score": reference}
        if self.spec.mode == "margin":
            return Verdict(score - reference, self.name, parts)
        sign = sign_with_ties(score - reference, self.spec.tie_margin)
        if self.spec.unfinished == "lose" and not request.finished:
            sign = -1.0
        return Verdict(sign, self.name, parts)

    def _scores(self, rows: Sequence[Row]) -> dict[Row, float]:
        """The score of each row; UserError where one is not a number, before a sign makes it look
        like one.

        Equal rows are scored once: apart, rounding differs with what shares their batch, so that R(y, y) would not be 0 and a group of
        equal answers not without signal.
        """
        distinct = list(dict.fromkeys(rows))
        found = dict(zip(distinct, self.scores(distinct), strict=True))
        if not all(map(math.isfinite, found.values())):
            what = f"reward.path={self.spec.path}: gave a score that is not a number"
            raise UserError(f"{what}; look at the model, or train it anew")
        return found
