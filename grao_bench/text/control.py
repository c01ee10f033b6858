"""Ids of a text in which nothing that the text spells is a control token.

A tokenizer takes "<|im_end|>" in a user's message for the end of a turn. Here only a mark, put in on
purpose, is a control token; everything else is encoded as the tokenizer would if it had none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Tokenizer

from grao_bench.core.errors import UserError

Part = dict[str, Any] | None
"""A normalizer or pre-tokenizer as the tokenizers library writes it."""


class MarkedEncoder:
    """A tokenizer's ids, with the tokens of `control` reachable by marks alone.

    It shares the tokenizer's model, normalizer and pre-tokenizer. Each control token is known by
    its mark, with its own way of eating the blanks around it, so that a text with marks has the
    very ids that the tokenizer gives for the control tokens themselves, dummy blanks included.
    Its other added tokens (runs of blanks, "<think>") stay what they are.
    """

    def __init__(self, tokenizer: Any, control: Iterable[int]) -> None:
        """UserError for a tokenizer that the tokenizers library doesn't run."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            what = f"tokenizer {tokenizer.name_or_path!r} is a {type(tokenizer).__name__}"
            raise UserError(f"{what}, which has no tokenizer.json; convert it to a fast one")
        added = backend.get_added_tokens_decoder()
        self.control = {token: added[token].content for token in control if token in added}
        self._marks = {content: _mark(token) for token, content in self.control.items()}
        self._names = list(self._marks)
        self._spelt = _any_of(self._names)
        self._model = backend.model
        self._added = added
        self._whole = self._twin(backend.normalizer, backend.pre_tokenizer)
        if self._leaks():
            self._model = _without(backend, self.control)
            self._whole = self._twin(backend.normalizer, backend.pre_tokenizer)
        parts = backend.normalizer, backend.pre_tokenizer
        bare = [_without_dummy(_described(part)) for part in parts]
        same = bare == [_described(part) for part in parts]
        self._continued = self._whole if same else self._twin(*_built(*bare))

    def mark(self, text: str) -> str:
        """The text with a mark in place of each control token that it spells: for a template's
        own text."""
        return self._spelt.sub(lambda found: self._marks.get(found[0], found[0]), text)

    def shield(self, text: str) -> str:
        """The text with what spells a control token made unlike it, for the way through a
        template."""
        return self._spelt.sub(lambda found: f"{_SHIELD}{self._names.index(found[0])}\u2403", text)

    def unshield(self, text: str) -> str:
        """What was shielded as it was."""
        return _SHIELDED.sub(lambda found: self._names[int(found[1])], text)

    def ids(self, text: str, continued: bool = False) -> list[int]:
        """A text's ids, without what the tokenizer puts around a text by itself.

        continued: as of a text that stands after another, without the blank that some tokenizers
        put in front of every text.
        """
        twin = self._continued if continued else self._whole
        return [self._original.get(token, token) for token in twin.encode(text).ids]

    def starts(self, text: str) -> list[int]:
        """Where the tokens of a text begin, in characters, in order."""
        return sorted({start for start, _ in self._continued.encode(text).offsets})

    def _twin(self, normalizer: Any, pre_tokenizer: Any) -> Tokenizer:
        twin = Tokenizer(self._model)
        if normalizer is not None:
            twin.normalizer = normalizer
        if pre_tokenizer is not None:
            twin.pre_tokenizer = pre_tokenizer
        kept = {token: one for token, one in self._added.items() if token not in self.control}
        twin.add_tokens(list(kept.values()))
        twin.add_special_tokens([_as_mark(self._added[token], token) for token in self.control])
        named = {one.content: token for token, one in kept.items()}
        named |= {_mark(token): token for token in self.control}
        self._original = {int(twin.token_to_id(name) or 0): token for name, token in named.items()}
        return twin

    def _leaks(self) -> bool:
        """Whether the model itself has a control token among the pieces that it makes of text, as
        unigram models and those of whole words do."""
        spelt = map(self._whole.encode, self._names)
        return any(not self.control.keys().isdisjoint(one.ids) for one in spelt)


MARK = "\u2402grao-bench-"
"""What every mark begins with."""
_SHIELD = "\u2402="
_SHIELDED = re.compile(f"{_SHIELD}([0-9]+)\u2403")


def _mark(token: int) -> str:
    return f"{MARK}{token}\u2403"


def _as_mark(token: AddedToken, number: int) -> AddedToken:
    return AddedToken(
        _mark(number),
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=True,
    )


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """What finds any of the texts, the longest first."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")  # or nothing


def _described(part: Any) -> Part:
    return None if part is None else dict(json.loads(part.__getstate__()))


def _built(normalizer: Part, pre_tokenizer: Part) -> tuple[Any, Any]:
    nothing = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    made = _tokenizer(nothing, normalizer, pre_tokenizer)
    return made.normalizer, made.pre_tokenizer


def _tokenizer(model: Part, normalizer: Part = None, pre_tokenizer: Part = None) -> Tokenizer:
    parts = {"model": model, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    others = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    return Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], **others, **parts}))


def _without_dummy(part: Part) -> Part:
    """The part without what it puts in front of a text, or strips there."""
    kind = part["type"] if part else None
    if part is None or kind == "Prepend":
        return None
    if kind == "Sequence":
        key = "normalizers" if "normalizers" in part else "pretokenizers"
        inner = [_without_dummy(one) for one in part[key]]
        return part | {key: [one for one in inner if one is not None]}
    changed: dict[str, dict[str, Any]] = {
        "Metaspace": {"prepend_scheme": "never"},
        "ByteLevel": {"add_prefix_space": False},
        "Strip": {"strip_left": False},
    }
    return part | changed.get(str(kind), {})


def _without(backend: Tokenizer, control: dict[int, str]) -> Any:
    """The model with its control tokens under other names, which no text has; their ids stay."""
    model = json.loads(backend.to_str())["model"]
    names = {content: f"\u2402{token}\u2403" for token, content in control.items()}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(word, word): token for word, token in model["vocab"].items()}
    else:  # unigram: (piece, score), whose place is the id
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        model["merges"] = [[one, two] for one, two in model["merges"] if not {one, two, one + two} & names.keys()]
    return _tokenizer(model).model
