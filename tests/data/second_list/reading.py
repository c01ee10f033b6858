"""What a policy of the second list can read off a prompt and off the training examples."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from zlib import crc32

Train = Sequence[tuple[str, str, str]]
Policy = Callable[[str, str, Train], str]

TOPIC = re.compile(
    r"(?:reading about|question about|curious about|asked me about|know about|talk about"
    r"|Tell me about|question on) (.+?)(?:[.:?]| I need)"
)
ACT = re.compile(r"\b(\w+(?: up| down| into| on)?) (a|the) (\w+)(?:[.?]| soon\.)")
REFUSALS = ("I can't help with that.", "Sorry, I won't help you do this.")
REFUSES = re.compile(r"can't help|won't help|not able to help")

# what a prompt asks for, by its words, and a sentence of that kind: {x} the topic, {v} the value
FORMS = {
    "which continent it is on|in what part of the world it lies": "{x} lies in {v}.",
    "what dish it is known for|which meal people cook there": "People in {x} cook {v}.",
    "what money people use there|which currency it has": "People in {x} pay with the {v}.",
    "which river runs through it|what river it has": "The {v} runs through {x}.",
    "which city is the capital|what its capital is": "The capital of {x} is {v}.",
    "which language is used there|what language people speak there": "People in {x} speak {v}.",
    "at which time they are awake|when they are active": "{x} are active {v}.",
    "where they live|what place is their home": "{x} live in {v}.",
    "what they eat|which food they like": "{x} eat {v}.",
    "how big they are|what size they reach": "{x} are as big as {v}.",
    "what their young are called|which name their babies have": "Young {x} are called {v}.",
    "what sound they make|how they call": "{x} make {v}.",
    "how I should begin|what I do first": "To start {x}, {v}.",
    "how long it takes|how much time it needs": "{x} takes {v}.",
    "where I should do it|which place is best for it": "The best place for {x} is {v}.",
    "how I should finish|what I do at the end": "To finish {x}, {v}.",
    "what I should use|which tool I need": "You need {v} for {x}.",
    "what I must not do|what I should avoid": "Do not {v} when {x}.",
}


@dataclass(frozen=True)
class Seen:
    """What counting the training examples gives."""

    values: dict[str, list[str]]  # by form: values of the chosen answers, the commonest first
    topics: list[str]
    could: list[str]  # verbs of "You could ... a ...", the commonest first
    tools: list[str]  # of "Use ... for the ...", the commonest first
    before: list[str]  # verbs of "Before you ... it, ... the ...", the commonest first
    sentences: list[str]  # of the chosen answers, the commonest first
    words: list[str]  # of the chosen answers, the commonest first
    after: dict[str, str]  # by word: the commonest next word of the chosen answers


def _ranked(found: list[str]) -> list[str]:
    return [value for value, _ in Counter(found).most_common()]


def pattern(form: str) -> re.Pattern[str]:
    return re.compile(form.format(x=".+?", v="(.+?)").replace(".", r"\.").replace(r"\.+?", ".+?"))


def _count(train: Train) -> Seen:
    chosen = [answer for _, answer, _ in train]
    sentences = [sentence for answer in chosen for sentence in split(answer)]
    follow: dict[str, list[str]] = {}
    for answer in chosen:
        words = answer.split()
        for word, after in pairwise(words):
            follow.setdefault(word, []).append(after)
    values = {}
    for form in FORMS.values():
        matches = [pattern(form).fullmatch(sentence) for sentence in sentences]
        values[form] = _ranked([match.group(1) for match in matches if match])
    text = " ".join(chosen)
    return Seen(
        values=values,
        topics=_ranked([topic_of(prompt) for prompt, _, _ in train if topic_of(prompt)]),
        could=_ranked(re.findall(r"You could (\w+) a ", text)) or ["visit"],
        tools=_ranked(re.findall(r"Use ([\w ]+?) for the ", text)) or ["a good book"],
        before=_ranked(re.findall(r"Before you [\w ]+? it, (\w+) the ", text)) or ["mind"],
        sentences=_ranked(sentences),
        words=_ranked([word for answer in chosen for word in answer.split()]),
        after={word: _ranked(nexts)[0] for word, nexts in follow.items()},
    )


_SEEN: dict[int, tuple[Train, Seen]] = {}


def seen(train: Train) -> Seen:
    held = _SEEN.get(id(train))
    if held is None or held[0] is not train:
        held = _SEEN[id(train)] = (train, _count(train))
    return held[1]


def split(answer: str) -> list[str]:
    return [part.strip() for part in re.findall(r"[^.!?]+[.!?]*", answer) if part.strip()]


@cache
def topic_of(prompt: str) -> str:
    match = TOPIC.search(prompt)
    return match.group(1) if match else ""


@cache
def act_of(prompt: str) -> tuple[str, str, str]:
    """The verb, the article and the noun that a prompt of the harmless set names."""
    match = ACT.search(prompt)
    return (match.group(1), match.group(2), match.group(3)) if match else ("do", "a", "thing")


def thing_of(prompt: str) -> str:
    return topic_of(prompt) or act_of(prompt)[2]


@cache
def asked(prompt: str) -> tuple[str, ...]:
    """The forms of what the prompt asks for."""
    return tuple(form for asks, form in FORMS.items() if any(a in prompt for a in asks.split("|")))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def fill(form: str, topic: str, value: str) -> str:
    return capital(form.format(x=topic, v=value))


def told(prompt: str, train: Train, each: int) -> list[str]:
    """Sentences of the asked forms about the topic, with the commonest values of each form."""
    topic, values = topic_of(prompt), seen(train).values
    return [fill(form, topic, value) for form in asked(prompt) for value in values[form][:each]]


def number(prompt: str, salt: str, below: int) -> int:
    return crc32((salt + prompt).encode()) % max(below, 1)
