"""Text to token ids and back, for one tokenizer: the one way in which every model reads text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby
from typing import get_args

from transformers import PreTrainedTokenizerBase

from grao_bench.core.errors import UserError
from grao_bench.core.types import Answer, Prompt, PromptFormat, Turn
from grao_bench.text.control import MARK, MarkedEncoder
from grao_bench.text.dialogue import OPENING, as_text, render
from grao_bench.text.shorten import shortened
from grao_bench.text.template import (
    REFUSALS,
    Frame,
    control_tokens,
    end_of_turn,
    marks_of,
    read_frame,
    rendered,
    role_markers,
)

__all__ = ["TextCodec", "TruncationCount", "render"]

HH = Frame(cue=OPENING, lead=" ")
"""Of the HH text format: what an answer is written after, and what stands between."""


@dataclass(frozen=True, slots=True)
class TruncationCount:
    """How many prompts and answers were encoded, and how many of them did not fit. Each call counts, repeated texts too.

    unjoined_answers: those at whose beginning the joined text of prompt and answer has no token
    boundary, so that their ids continue the prompt's as no text has them.
    """

    prompts: int = 0
    truncated_prompts: int = 0
    answers: int = 0
    truncated_answers: int = 0
    unjoined_answers: int = 0


class TextCodec:
    """A Hugging Face tokenizer as `interfaces.Codec`.

    "hh": a prompt is "\\n\\nHuman: ...\\n\\nAssistant:" and an answer is " " + its text. "chat": a
    prompt goes through the tokenizer's chat template with the generation prompt, and an answer is
    its bare text, after a blank where the template's own history has one there; turns running by
    one speaker are joined by a blank line, as most templates refuse them. A begin token that the
    tokenizer adds by itself stands in front of an "hh" prompt.

    The ids of a prompt and of its answer are those of the joined text, wherever that has a token
    boundary between them; elsewhere the answer's ids are those of its text as a continuation,
    and it is counted. `end_token` closes an answer: the one asked for, or in "chat" the token that
    closes an assistant's turn in the template's history, or else the tokenizer's. A sampled answer
    may also end with any other of `stop_tokens`.

    Only the format's own control tokens are control tokens: where a prompt or an answer spells
    one, or a role marker of the format, that is text (see `dialogue.as_text`).

    A prompt longer than `max_prompt_tokens` loses whole oldest turns, then words of its last turn;
    its frame, from the begin token to where the answer begins, stays (see `shorten.shortened`).
    What did not fit is counted in `truncation`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt_format: PromptFormat,
        max_prompt_tokens: int,
        stop_tokens: Sequence[int] = (),
        end_token: str | int | None = None,
    ) -> None:
        """end_token: its text or id. UserError when there is none, no chat template that "chat"
        needs, or the length leaves no room beside the format's own marks."""
        if prompt_format not in get_args(PromptFormat):
            raise UserError(f"prompt_format={prompt_format}: must be one of {', '.join(get_args(PromptFormat))}")
        if prompt_format == "chat" and not tokenizer.chat_template:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path!r} has no chat template; give model.prompt_format=hh"
                " (a reward model: reward.prompt_format=hh)"
            )
        self.tokenizer = tokenizer
        self.prompt_format = prompt_format
        self.max_prompt_tokens = max_prompt_tokens
        self.truncation = TruncationCount()
        self._frame = read_frame(tokenizer) if prompt_format == "chat" else HH
        marks, eos = marks_of(tokenizer), tokenizer.eos_token_id
        self.end_token = _end_token(tokenizer, end_token, end_of_turn(self._frame, marks))
        ends = (self.end_token, *([] if eos is None else [eos]), *stop_tokens)
        self.stop_tokens: tuple[int, ...] = tuple(dict.fromkeys(map(int, ends)))
        control = control_tokens(tokenizer, self._frame, self.stop_tokens)
        self._encoder = MarkedEncoder(tokenizer, control)
        self._begin = _automatic_begin(tokenizer)
        self._markers = role_markers(self._frame, marks) if prompt_format == "chat" else None
        self.least_prompt_tokens = self._least()
        if max_prompt_tokens < self.least_prompt_tokens:
            what = f"the shortest prompt in the format {prompt_format} has"
            raise UserError(f"max_prompt_tokens={max_prompt_tokens}: {what} {self.least_prompt_tokens}; raise it")

    @property
    def pad_token(self) -> int:
        """The id that fills up a rectangle. It may be the end token: masks, never ids, say what is real."""
        pad = self.tokenizer.pad_token_id
        return self.end_token if pad is None else int(pad)

    @property
    def reads(self) -> tuple[str, str | None, tuple[int, ...]]:
        """What tells two codecs of one vocabulary apart: the format, its template, the ends."""
        template = str(self.tokenizer.chat_template) if self.prompt_format == "chat" else None
        return self.prompt_format, template, (self.end_token, *sorted(self.stop_tokens))

    def counting_anew(self) -> TextCodec:
        """The same codec with its counts at 0."""
        other = copy(self)
        other.truncation = TruncationCount()
        return other

    def prompt(self, example_id: str, turns: Sequence[Turn]) -> Prompt:
        """The prompt's ids up to where the answer begins, at most max_prompt_tokens.

        UserError names the example when it is empty or the template refuses it.
        """
        return self._counted(*self._within(example_id, turns, self.max_prompt_tokens))

    def question(self, text: str) -> Prompt:
        """A prompt that is one user turn, whole, however long."""
        return self._whole("", [Turn("user", text)])

    def answer(
        self,
        prompt: Prompt,
        text: str,
        max_tokens: int,
        finished: bool = True,
        verbatim: bool = False,
    ) -> Answer:
        """The ids of an answer to the prompt, with the end token when that makes at most
        max_tokens; else the first max_tokens ids, unfinished.

        `finished` is False for a text that was cut already: no end token follows it. verbatim: the
        text stands for what a model has said, in which a role marker is one.
        `Answer.text` is the stripped text as it was encoded, or what is left of it after the cut.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens={max_tokens}: must be at least 1")
        text = text.strip() if verbatim else self._as_text(text.strip())
        said, joined = self._continuation(prompt, text)
        ids = (*said, *([self.end_token] if finished else []))
        fits = len(ids) <= max_tokens
        tokens = ids[:max_tokens]
        count = self.truncation
        self.truncation = replace(
            count,
            answers=count.answers + 1,
            truncated_answers=count.truncated_answers + (not fits),
            unjoined_answers=count.unjoined_answers + (not joined),
        )
        return Answer(text if fits else self.text(tokens), tokens, finished and fits)

    def judged(
        self,
        example_id: str,
        turns: Sequence[Turn],
        texts: Sequence[tuple[str, bool]],
        max_tokens: int,
    ) -> tuple[Prompt, list[Answer]]:
        """A prompt and (text, finished) answers to it as a reward model reads them: the prompt
        with any one of them is at most max_tokens long.

        An answer is cut as `answer` cuts it, to leave room for the shortest prompt there can be;
        the prompt as `prompt` cuts it, to the room beside the longest answer, so that all are read
        after the same prompt. UserError where max_tokens leaves an answer no token.
        """
        longest = max_tokens - self.least_prompt_tokens
        if longest < 1:
            what = f"a prompt alone takes {self.least_prompt_tokens} in the format"
            raise UserError(f"max_tokens={max_tokens}: {what} {self.prompt_format}; raise it")
        whole, before = self._whole(example_id, turns), self.truncation
        answers = [self.answer(whole, text, longest, finished) for text, finished in texts]
        limit = min(max_tokens - _longest(answers), self.max_prompt_tokens)
        if len(whole.tokens) > limit and (needed := self._shortest(turns) - limit) > 0:
            # the last word of this prompt takes more than the shortest there can be
            self.truncation, longest = before, _longest(answers) - needed
            if longest < 1:
                what = "it leaves an answer no token beside the last word of the prompt"
                raise UserError(f"example {example_id}: max_tokens={max_tokens}: {what}; raise it")
            answers = [self.answer(whole, text, longest, finished) for text, finished in texts]
            limit = min(max_tokens - longest, self.max_prompt_tokens)
        return self._counted(*self._within(example_id, turns, limit)), answers

    def continuation(self, prompt: Prompt, text: str) -> tuple[int, ...]:
        """A text's ids where the answer to the prompt begins, as it is and without an end token."""
        return self._continuation(prompt, self._as_text(text))[0]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an answer's ids, without the token that stopped it and surrounding
        blanks. A control token in its middle is spelled out: who judges sees what is trained on."""
        kept = tokens[:-1] if tokens and tokens[-1] in self.stop_tokens else tokens
        return self.decoded(kept).strip()

    def decoded(self, tokens: Sequence[int]) -> str:
        """The ids' own text, nothing left out or stripped: control tokens are spelled out."""
        return str(self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def _least(self) -> int:
        """Of the shortest prompt, in tokens."""
        try:
            return len(self._whole("", [Turn("user", "a")], bare=True).tokens)
        except UserError:  # the template refuses even that: each example will say so
            return 2

    def _shortest(self, turns: Sequence[Turn]) -> int:
        """The tokens of what a prompt is cut to at most: the last word of its last turn."""
        last = turns[-1]
        starts = [i for i in self._encoder.starts(last.text) if last.text[i:].strip()]
        word = replace(last, text=last.text[starts[-1] :].lstrip() if starts else last.text)
        return len(self._whole("", [word], bare=True).tokens)

    def _counted(self, prompt: Prompt, fits: bool) -> Prompt:
        count = self.truncation
        self.truncation = replace(
            count,
            prompts=count.prompts + 1,
            truncated_prompts=count.truncated_prompts + (not fits),
        )
        return prompt

    def _within(self, example_id: str, turns: Sequence[Turn], limit: int) -> tuple[Prompt, bool]:
        """The prompt in at most `limit` tokens, and whether it is whole."""
        whole = self._whole(example_id, turns)
        if len(whole.tokens) <= limit:
            return whole, True

        def fits(some: Sequence[Turn], bare: bool) -> bool:
            return len(self._whole(example_id, some, bare).tokens) <= limit

        left = shortened(turns, fits, self._encoder.starts)
        if left is None:
            raise UserError(f"example {example_id}: no word of it fits {limit} tokens; raise them")
        return self._whole(example_id, *left), False

    def _whole(self, example_id: str, turns: Sequence[Turn], bare: bool = False) -> Prompt:
        """A prompt however long it is; bare: without the template's own system turn."""
        if not any(turn.text.strip() for turn in turns):
            raise UserError(f"example {example_id}: the prompt is empty; remove the row")
        if self.prompt_format == "hh":
            text, begin = _unmarked(render(turns)) + OPENING, self._begin
        else:
            text, begin = self._in_template(example_id, turns, bare), []
        return Prompt(example_id, (*begin, *self._encoder.ids(text)), text=text)

    def _in_template(self, example_id: str, turns: Sequence[Turn], bare: bool) -> str:
        """The turns in the chat template, a mark for each control token that is the template's."""
        shield = self._encoder.shield
        messages = [
            {
                "role": role,
                "content": shield(self._as_text("\n\n".join(turn.text for turn in run if turn.text))),
            }
            for role, run in groupby(turns, key=lambda turn: turn.role)
        ]
        try:
            text = rendered(self.tokenizer, messages, cue=True)
        except REFUSALS as error:
            raise UserError(f"example {example_id}: the chat template refuses the prompt ({error}); use the prompt format hh") from None
        frame = self._frame
        if bare and text.startswith(frame.begin + frame.default + frame.opening):
            text = frame.begin + text[len(frame.begin + frame.default) :]
        return self._encoder.unshield(self._encoder.mark(text))

    def _as_text(self, text: str) -> str:
        """The text without role markers of the format."""
        text = _unmarked(text)
        if self.prompt_format == "hh":
            return as_text(text)
        if self._markers is None:
            return text
        return self._markers.sub(lambda found: re.sub(r"(\S)", r"\1 ", found[0], count=1), text)

    def _continuation(self, prompt: Prompt, text: str) -> tuple[tuple[int, ...], bool]:
        """The ids of an answer's text after the prompt, and whether they are the joined text's."""
        said = self._frame.lead + text if text else ""
        for before, continued in self._windows(prompt) if text else ():
            ids = self._encoder.ids(before, continued)
            joined = self._encoder.ids(before + said, continued)
            if joined[: len(ids)] == ids and len(joined) > len(ids):
                return tuple(joined[len(ids) :]), True
        return tuple(self._encoder.ids(said, continued=True)), not text

    def _windows(self, prompt: Prompt) -> Iterator[tuple[str, bool]]:
        """What of the prompt's text, up to its end, decides how a text after it is encoded, and
        whether it stands in the middle of a text; the shortest first."""
        cue, text = self._frame.cue, prompt.text
        place = text.rfind(MARK)
        if place >= 0:  # what stands before a control token never matters
            yield text[place:], False
            return
        ids = self._encoder.ids(cue, continued=True) if cue and text.endswith(cue) else []
        if ids and list(prompt.tokens[-len(ids) :]) == ids:
            yield cue, True
        if text:
            yield text, False


def _longest(answers: Sequence[Answer]) -> int:
    return max(len(answer.tokens) for answer in answers)


def _unmarked(text: str) -> str:
    """The text, which comes from outside, without what would be a mark of the encoder's."""
    return text.replace(MARK, MARK[1:])


def _automatic_begin(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The begin token as a list of one when the tokenizer puts it in front of a text by itself, else an empty list."""
    begin = tokenizer.bos_token_id
    return [int(begin)] if begin is not None and tokenizer("a")["input_ids"][:1] == [begin] else []


def _end_token(
    tokenizer: PreTrainedTokenizerBase,
    asked: str | int | None,
    found: int | None,
) -> int:
    """The id of the end token: asked for, found in the template, or the tokenizer's own. UserError
    where there is none, or what is asked for is not one token."""
    if isinstance(asked, str):
        ids = tokenizer(asked, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            what = f"is not one token of {tokenizer.name_or_path!r}, but {len(ids)}"
            raise UserError(f"model.end_token={asked!r}: {what}; give the text of one, or null")
        return int(ids[0])
    token = next((one for one in (asked, found, tokenizer.eos_token_id) if one is not None), None)
    if token is None:
        what = f"tokenizer {tokenizer.name_or_path!r} has no end token"
        raise UserError(f"{what}; set eos_token in its tokenizer_config.json, or model.end_token")
    return int(token)
