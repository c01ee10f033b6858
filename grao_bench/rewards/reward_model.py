"""A reward model: any Hugging Face sequence-classification model with one output, trained on preference pairs (Bradley-Terry)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from grao_bench.dialogue import OPENING, render
from grao_bench.errors import UserError
from grao_bench.interfaces import DataSpec, RewardRequest
from grao_bench.ops import sign_with_ties
from grao_bench.provenance import weights_fingerprint
from grao_bench.types import PromptFormat, Turn, Verdict


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """path: a checkpoint folder or hub id; "{data}" in it stands for the set's name, so that each set has its own model.

    mode: `score` is r(answer) as it is, `sign` is sign(r(answer) - r(reference)) with ties within tie_margin (pairwise).
    unfinished: what an answer without an end token gets in sign mode: `lose` (-1) or `judge` (its text is scored like any other).
    max_tokens: prompt and answer together; a longer prompt is cut from the left.
    """

    path: str
    mode: Literal["score", "sign"]
    tie_margin: float
    unfinished: Literal["lose", "judge"]
    max_tokens: int
    batch_size: int
    prompt_format: PromptFormat
    device: str

    def check(self, data: DataSpec) -> None:
        """UserError if a local path holds no model. A hub id (owner/name) is only looked up when it is loaded."""
        path = self.path_for(data)
        if not Path(path).is_dir() and (path.count("/") != 1 or path.startswith((".", "/", "runs/"))):
            raise UserError(f"reward.path={path}: no such folder; train one with python -m grao_bench.train_reward data={data.name}")

    def path_for(self, data: DataSpec) -> str:
        """The path with the set's name in it."""
        return self.path.replace("{data}", data.name)

    def build(self, data: DataSpec) -> RewardModelSource:
        """Load it; UserError where it can't be."""
        model, tokenizer = load_reward_model(self.path_for(data), self.device)
        return RewardModelSource(self, PairEncoder(tokenizer, self.prompt_format, self.max_tokens), model)


class PairEncoder:
    """A prompt and an answer as the ids that a reward model reads."""

    def __init__(self, tokenizer: Any, prompt_format: PromptFormat, max_tokens: int) -> None:
        self.tokenizer, self.prompt_format, self.max_tokens = tokenizer, prompt_format, max_tokens
        begin = tokenizer.bos_token_id
        # the begin token, where the tokenizer puts one in front of a text by itself
        self._begin = [begin] if begin is not None and tokenizer("a")["input_ids"][:1] == [begin] else []

    def ids(self, turns: Sequence[Turn], text: str, finished: bool) -> list[int]:
        """Prompt ids + answer ids (+ the end token of a finished answer), the last max_tokens of them."""
        if self.prompt_format == "chat":
            messages = [{"role": turn.role, "content": turn.text} for turn in turns]
            prompt = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
            answer = self._encode(text)
        else:
            prompt = [*self._begin, *self._encode(render(turns) + OPENING)]
            answer = self._encode(f" {text}" if text else "")
        ids = [*prompt, *answer, *([self.tokenizer.eos_token_id] if finished else [])]
        return ids[-self.max_tokens :]

    def _encode(self, text: str) -> list[int]:
        # an end token spelt out in a text is text
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids


class RewardModelSource:
    """Scores texts with a loaded reward model."""

    def __init__(self, spec: RewardModel, encoder: PairEncoder, model: Any) -> None:
        self.spec, self.encoder, self.model = spec, encoder, model
        self.name = f"reward_model_{spec.mode}"
        self.pairwise = spec.mode == "sign"
        self.tie_margin = spec.tie_margin
        self.fingerprint = weights_fingerprint(model)

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; parts hold the scores behind a sign."""
        rows = [tuple(self.encoder.ids(request.example.prompt, request.text, request.finished)) for request in requests]
        if not self.pairwise:
            return [Verdict(score, self.name, {"score": score}) for score in self._scores(rows)]
        references = [tuple(self.encoder.ids(request.example.prompt, request.example.chosen, True)) for request in requests]
        scores = self._scores([*rows, *references])
        pairs = zip(requests, scores[: len(rows)], scores[len(rows) :], strict=True)
        return [self._compare(request, score, reference) for request, score, reference in pairs]

    def _compare(self, request: RewardRequest, score: float, reference: float) -> Verdict:
        sign = sign_with_ties(score - reference, self.spec.tie_margin)
        if self.spec.unfinished == "lose" and not request.finished:
            sign = -1.0
        return Verdict(sign, self.name, {"score": score, "reference_score": reference})

    def _scores(self, rows: Sequence[tuple[int, ...]]) -> list[float]:
        """[N] scores; UserError where one is not a number, before a sign makes it look like one.

        Equal rows are scored once: apart, rounding differs with what shares their batch, so that R(y, y) would not be 0 and a group of
        equal answers not without signal.
        """
        scores: dict[tuple[int, ...], float] = {}
        distinct = sorted(dict.fromkeys(rows), key=len)
        for start in range(0, len(distinct), self.spec.batch_size):
            chunk = distinct[start : start + self.spec.batch_size]
            with torch.no_grad():
                values = classify(self.model, chunk, self.encoder.tokenizer)
            if not torch.isfinite(values).all():
                raise UserError(f"reward.path={self.spec.path}: gave a score that is not a number; look at the model, or train it anew")
            scores |= zip(chunk, values.tolist(), strict=True)
        return [scores[row] for row in rows]


def classify(model: Any, rows: Sequence[Sequence[int]], tokenizer: Any) -> torch.Tensor:
    """[N] scores of right-padded rows. The last real token of each row is pooled, by position and not by looking for the pad id.

    transformers' own pooling searches for pad_token_id, which is wrong where pad and end token are the same.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    hidden = model.base_model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).last_hidden_state
    last = hidden[torch.arange(len(rows), device=hidden.device), mask.sum(1).to(hidden.device) - 1]
    scores: torch.Tensor = model.score(last)[:, 0].float()
    return scores


def load_reward_model(path: str, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a sequence classifier with one label; UserError where it can't be had."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"reward.path={path}: no reward model could be loaded ({str(error).splitlines()[0]})") from None
    if loading["missing_keys"] or not hasattr(model, "score"):
        what = f"without {sorted(loading['missing_keys'])[0]}" if loading["missing_keys"] else "whose head is not called score"
        raise UserError(f"reward.path={path}: a checkpoint {what} is no reward model; give a sequence classifier of a causal LM")
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    return model.to(where).eval(), tokenizer
