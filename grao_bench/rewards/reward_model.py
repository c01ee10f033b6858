"""A reward model: any Hugging Face sequence-classification model with one output, trained on preference pairs (Bradley-Terry).

decoders with a head called score (Llama, Qwen, ...; what train_reward makes)   the last token's hidden state, by position
any other (BERT, DeBERTa, ...)                                                  the model's own pooling and head
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from grao_bench.devices import resolve_device
from grao_bench.dialogue import OPENING, render
from grao_bench.errors import UserError
from grao_bench.interfaces import DataSpec, RewardRequest
from grao_bench.ops import sign_with_ties
from grao_bench.process import loaded_once
from grao_bench.provenance import weights_fingerprint
from grao_bench.types import Example, PromptFormat, Turn, Verdict

Mode = Literal["score", "sign", "margin"]
PairFormat = Literal["hh", "chat", "pair"]
PAIRS_FILE = "pairs.json"


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """path: a checkpoint folder or hub id; "{data}" in it stands for the set's name, so that each set has its own model.

    mode: `score` is r(answer) as it is, `sign` is sign(r(answer) - r(reference)) with ties within tie_margin (pairwise), `margin` is
    r(answer) - r(reference): a score whose zero is the reference.
    unfinished: what an answer without an end token gets in sign mode: `lose` (-1) or `judge` (its text is scored like any other).
    max_tokens: prompt and answer together; a longer prompt is cut from the left.
    prompt_format: `hh`, `chat`, or `pair`: dialogue and answer as the tokenizer's own two segments ([CLS] dialogue [SEP] answer [SEP]).
    disjoint_from: the path of another reward model that this one must share no training pair with; null checks nothing.
    """

    path: str
    mode: Mode
    tie_margin: float
    unfinished: Literal["lose", "judge"]
    max_tokens: int
    batch_size: int
    prompt_format: PairFormat
    device: str
    disjoint_from: str | None

    def __post_init__(self) -> None:
        for key, known in (("mode", get_args(Mode)), ("unfinished", ("lose", "judge")), ("prompt_format", get_args(PairFormat))):
            if getattr(self, key) not in known:
                raise UserError(f"reward.{key}={getattr(self, key)}: unknown; choose one of {', '.join(known)}")
        if not self.tie_margin >= 0:
            raise UserError(f"reward.tie_margin={self.tie_margin}: must not be negative")

    def needs_reference(self, data: DataSpec) -> bool:
        """All modes but `score` compare with it."""
        return self.mode != "score"

    def check(self, data: DataSpec) -> None:
        """UserError if a number is out of range, a local path holds no model, or it shares training pairs with `disjoint_from`.

        A hub id (owner/name) is only looked up when it is loaded.
        """
        for key in ("max_tokens", "batch_size"):
            if getattr(self, key) < 1:
                raise UserError(f"reward.{key}={getattr(self, key)}: must be at least 1")
        path = self.path_for(data)
        if not Path(path).is_dir() and (path.count("/") != 1 or path.startswith((".", "/", "runs/"))):
            half = next((f" half={half}" for half in ("training", "evaluation") if path.endswith(f"-{half}")), "")
            raise UserError(f"reward.path={path}: no such folder; train one with python -m grao_bench.train_reward data={data.name}{half}")
        if self.disjoint_from is not None:
            require_disjoint(Path(path), Path(self.disjoint_from.replace("{data}", data.name)))

    def path_for(self, data: DataSpec) -> str:
        """The path with the set's name in it."""
        return self.path.replace("{data}", data.name)

    def build(self, data: DataSpec) -> RewardModelSource:
        """Load it, once in a cell for all that ask for it; UserError where it can't be."""
        path, device = self.path_for(data), self.device
        key = ("reward model", path, device)
        model, tokenizer = loaded_once(key, lambda: load_reward_model(path, device))
        if self.prompt_format != "pair" and not hasattr(model, "score"):
            raise UserError(f"reward.prompt_format={self.prompt_format}: {type(model).__name__} reads two segments; use prompt_format=pair")
        return RewardModelSource(self, PairEncoder(tokenizer, self.prompt_format, self.max_tokens), model)


class PairEncoder:
    """A prompt and an answer as the ids that a reward model reads."""

    def __init__(self, tokenizer: Any, prompt_format: PromptFormat | PairFormat, max_tokens: int) -> None:
        self.tokenizer, self.prompt_format, self.max_tokens = tokenizer, prompt_format, max_tokens
        begin = tokenizer.bos_token_id
        # the begin token, where the tokenizer puts one in front of a text by itself
        self._begin = [begin] if begin is not None and tokenizer("a")["input_ids"][:1] == [begin] else []

    def ids(self, turns: Sequence[Turn], text: str, finished: bool) -> list[int]:
        """Prompt ids + answer ids (+ the end token of a finished answer), the last max_tokens of them; or the two segments of `pair`."""
        if self.prompt_format == "pair":
            return self._pair(render(turns).strip(), text)
        if self.prompt_format == "chat":
            messages = [{"role": turn.role, "content": turn.text} for turn in turns]
            prompt = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
            answer = self._encode(text)
        else:
            prompt = [*self._begin, *self._encode(render(turns) + OPENING)]
            answer = self._encode(f" {text}" if text else "")
        ids = [*prompt, *answer, *([self.tokenizer.eos_token_id] if finished else [])]
        return ids[-self.max_tokens :]

    def _pair(self, dialogue: str, text: str) -> list[int]:
        """Both segments as the tokenizer joins them; what doesn't fit is cut from the dialogue's left, then from the answer's right."""
        ids: list[int] = self.tokenizer(dialogue, text, split_special_tokens=True)["input_ids"]
        over = max(0, len(ids) - self.max_tokens)
        cut = min(over, len(self._encode(dialogue)))
        ids = [ids[0], *ids[1 + cut :]]
        return ids if cut == over else [*ids[: self.max_tokens - 1], ids[-1]]

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
        if self.spec.mode == "score":
            return [Verdict(score, self.name, {"score": score}) for score in self._scores(rows)]
        references = [tuple(self.encoder.ids(request.example.prompt, request.example.reference, True)) for request in requests]
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
    """[N] scores of right-padded rows. A decoder's last real token is pooled, by position and not by looking for the pad id.

    transformers' own pooling searches for pad_token_id, which is wrong where pad and end token are the same. A model whose head is not
    called `score` pools by itself (an encoder: its first token).
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    if not hasattr(model, "score"):
        segments = {"token_type_ids": _segments(ids, tokenizer).to(model.device)} if "token_type_ids" in tokenizer.model_input_names else {}
        logits: torch.Tensor = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), **segments).logits
        return logits[:, 0].float()
    hidden = model.base_model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).last_hidden_state
    last = hidden[torch.arange(len(rows), device=hidden.device), mask.sum(1).to(hidden.device) - 1]
    scores: torch.Tensor = model.score(last)[:, 0].float()
    return scores


def _segments(ids: torch.Tensor, tokenizer: Any) -> torch.Tensor:
    """0 up to the first separator, 1 after it: the segments of a [CLS] dialogue [SEP] answer [SEP] row."""
    between = (ids == tokenizer.sep_token_id).long()
    return (between.cumsum(1) - between > 0).long()


def pair_digest(example: Example) -> str:
    """16 hex digits over a pair's texts, whatever its id: the same pair in two sets has the same digest."""
    text = json.dumps([render(example.prompt), example.chosen, example.rejected])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_pairs(folder: Path, pairs: Iterable[Example], half: str) -> None:
    """Leave beside a reward model which pairs it was trained on: digests alone, no text."""
    digests = sorted({pair_digest(example) for example in pairs})
    (folder / PAIRS_FILE).write_text(json.dumps({"half": half, "pairs": digests}) + "\n", encoding="utf-8")


def shared_pairs(one: Path, other: Path) -> int:
    """How many training pairs two reward models' folders share; UserError where one does not say what it was trained on."""
    found = []
    for folder in (one, other):
        file = folder / PAIRS_FILE
        if not file.is_file():
            raise UserError(
                f"{folder}: holds no {PAIRS_FILE}, so nothing shows what it was trained on; train it with grao_bench.train_reward"
            )
        found.append(set(json.loads(file.read_text(encoding="utf-8"))["pairs"]))
    return len(found[0] & found[1])


def require_disjoint(one: Path, other: Path) -> None:
    """UserError if two reward models share training pairs."""
    count = shared_pairs(one, other)
    if count:
        raise UserError(
            f"reward.path={one}: shares {count} training pairs with {other} (reward.disjoint_from); "
            "train one with half=training and the other with half=evaluation"
        )


def load_reward_model(path: str, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a sequence classifier with one label; UserError where it can't be had."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    where = resolve_device(device, "reward.device")
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            path,
            num_labels=1,
            output_loading_info=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a head of another size
        raise UserError(f"reward.path={path}: no reward model could be loaded ({str(error).splitlines()[0]})") from None
    if loading["missing_keys"]:
        raise UserError(
            f"reward.path={path}: a checkpoint without {sorted(loading['missing_keys'])[0]} is no reward model; "
            "give a sequence classifier with one output"
        )
    return model.to(where).eval(), tokenizer
