"""Text to token ids and back, for one tokenizer: prompt and answer are encoded apart and their ids concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import get_args

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from grao_bench.dialogue import OPENING, render
from grao_bench.errors import UserError
from grao_bench.types import Answer, Prompt, PromptFormat, Turn

__all__ = ["TextCodec", "TruncationCount", "render"]

_CONTENT = "\u2402content\u2403"
"""Stands for a user's text while a chat template is rendered."""


@dataclass(frozen=True, slots=True)
class TruncationCount:
    """How many prompts and answers were encoded, and how many of them did not fit. Each call counts, repeated texts too."""

    prompts: int = 0
    truncated_prompts: int = 0
    answers: int = 0
    truncated_answers: int = 0


class TextCodec:
    """A Hugging Face tokenizer as `interfaces.Codec`.

    "hh": a prompt is "\\n\\nHuman: ...\\n\\nAssistant:" and an answer is " " + its text, so that for tokenizers that join a blank to
    the word after it the concatenated ids are those of the whole text. "chat": a prompt goes through the tokenizer's chat template
    with the generation prompt, and an answer is its bare text; turns running by one speaker are joined by a blank line, as most
    templates refuse them.

    A prompt longer than `max_prompt_tokens` loses tokens from the left. A begin token that the tokenizer adds by itself stays in
    front of the prompt, never of an answer. An answer never holds a special token but its end token: where its text spells one,
    that is encoded as plain text. In "hh" the same is true of prompts; in "chat" a template's specials can't be told from a user's.
    A sampled answer may also end with one of `stop_tokens`, the further end tokens that a model's generation settings name.
    What did not fit is counted in `truncation`.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat, max_prompt_tokens: int, stop_tokens: Sequence[int] = ()
    ) -> None:
        """UserError when the tokenizer has no end token, no chat template that "chat" needs, or the length leaves no room."""
        if prompt_format not in get_args(PromptFormat):
            raise UserError(f"prompt_format={prompt_format}: must be one of {', '.join(get_args(PromptFormat))}")
        if tokenizer.eos_token_id is None:
            raise UserError(f"tokenizer {tokenizer.name_or_path!r} has no end token; set eos_token in its tokenizer_config.json")
        if prompt_format == "chat" and not tokenizer.chat_template:
            raise UserError(f"tokenizer {tokenizer.name_or_path!r} has no chat template; use the prompt format hh")
        if max_prompt_tokens < 2:
            raise UserError(f"max_prompt_tokens={max_prompt_tokens}: must be at least 2")
        self.tokenizer = tokenizer
        self.prompt_format = prompt_format
        self.max_prompt_tokens = max_prompt_tokens
        self.truncation = TruncationCount()
        self._stop = tuple(dict.fromkeys([int(tokenizer.eos_token_id), *map(int, stop_tokens)]))
        self._begin = _automatic_begin(tokenizer)

    @property
    def end_token(self) -> int:
        """The id that ends a finished answer."""
        return int(self.tokenizer.eos_token_id)

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Every id that ends an answer: the tokenizer's end token first, then the model's others."""
        return self._stop

    @property
    def pad_token(self) -> int:
        """The id that fills up a rectangle. It may be the end token: masks, never ids, say what is real."""
        pad = self.tokenizer.pad_token_id
        return self.end_token if pad is None else int(pad)

    def prompt(self, example_id: str, turns: Sequence[Turn], room: int | None = None) -> Prompt:
        """The prompt's ids up to where the answer begins, at most `room` of them where that is
        less than max_prompt_tokens.

        UserError names the example when it is empty or the template refuses it.
        """
        if not any(turn.text.strip() for turn in turns):
            raise UserError(f"example {example_id}: the prompt is empty; remove the row")
        ids = self._chat_ids(example_id, turns) if self.prompt_format == "chat" else [*self._begin, *self._encode(render(turns) + OPENING)]
        limit = min(self.max_prompt_tokens, room or self.max_prompt_tokens)
        fits = len(ids) <= limit
        if not fits:
            begin = ids[:1] if ids[0] == self.tokenizer.bos_token_id else []
            ids = begin + ids[len(ids) - limit + len(begin) :]
        count = self.truncation
        self.truncation = replace(count, prompts=count.prompts + 1, truncated_prompts=count.truncated_prompts + (not fits))
        return Prompt(example_id, tuple(ids))

    def answer(self, text: str, max_tokens: int, finished: bool = True) -> Answer:
        """The answer's ids with the end token when that makes at most max_tokens; else the first max_tokens ids, unfinished.

        `finished` is False for a text that was cut already: no end token follows it.
        `Answer.text` is the stripped text, or what is left of it after the cut.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens={max_tokens}: must be at least 1")
        text = text.strip()
        ids = (*self.answer_ids(text), *([self.end_token] if finished else []))
        fits = len(ids) <= max_tokens
        tokens = ids[:max_tokens]
        count = self.truncation
        self.truncation = replace(count, answers=count.answers + 1, truncated_answers=count.truncated_answers + (not fits))
        return Answer(text if fits else self.text(tokens), tokens, finished and fits)

    def judged(
        self,
        example_id: str,
        turns: Sequence[Turn],
        texts: Sequence[tuple[str, bool]],
        max_tokens: int,
    ) -> tuple[Prompt, list[Answer]]:
        """A prompt and (text, finished) answers to it as a reward model reads them: the prompt
        with any one of them is at most max_tokens (at least 2) long.

        An answer is cut as `answer` cuts it, to leave the prompt a token; the prompt from the
        left, to the room beside the longest answer, so that all are read after the same prompt.
        """
        answers = [self.answer(text, max_tokens - 1, finished) for text, finished in texts]
        room = max_tokens - max(len(answer.tokens) for answer in answers)
        return self.prompt(example_id, turns, room), answers

    def question(self, text: str) -> tuple[int, ...]:
        """The ids of a prompt that is one user turn, whole. A special token that the text spells
        out is plain text in either format: only the format's own are special."""
        if self.prompt_format == "hh":
            return (*self._begin, *self._encode(render([Turn("user", text)]) + OPENING))
        message = [{"role": "user", "content": _CONTENT}]
        rendered = self.tokenizer.apply_chat_template(
            message,
            add_generation_prompt=True,
            tokenize=False,
        )
        before, _, after = str(rendered).partition(_CONTENT)
        return (*self._special(before), *self._encode(text), *self._special(after))

    def answer_ids(self, text: str) -> tuple[int, ...]:
        """A text's ids where an answer stands, without an end token: in "hh" it opens with a
        blank."""
        return tuple(self._encode(f" {text}" if text and self.prompt_format == "hh" else text))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an answer's ids, without special tokens, the token that stopped it, and surrounding blanks."""
        kept = list(tokens[:-1]) if tokens and tokens[-1] in self._stop else list(tokens)
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()

    def decoded(self, tokens: Sequence[int]) -> str:
        """The ids' own text, nothing left out or stripped: control tokens are spelled out."""
        return str(self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def _encode(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return [int(token) for token in ids]

    def _special(self, text: str) -> list[int]:
        """As `_encode`, but what spells a special token is one: for a template's own marks."""
        return [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _chat_ids(self, example_id: str, turns: Sequence[Turn]) -> list[int]:
        messages = [
            {"role": role, "content": "\n\n".join(turn.text for turn in run if turn.text)}
            for role, run in groupby(turns, key=lambda turn: turn.role)
        ]
        try:
            ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        except TemplateError as error:
            raise UserError(f"example {example_id}: the chat template refuses the prompt ({error}); use the prompt format hh") from None
        return [int(token) for token in ids]


def _automatic_begin(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The begin token as a list of one when the tokenizer puts it in front of a text by itself, else an empty list."""
    begin = tokenizer.bos_token_id
    return [int(begin)] if begin is not None and tokenizer("a")["input_ids"][:1] == [begin] else []
