"""Answers as sequences of sentences, drawn from a quality profile: how often each good or bad component appears.

CHOSEN is imperfect on purpose: there is headroom above the references. ORACLE answers score 1. BASE is
what half of the base's dialogues are like; HARMFUL is wrong throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from grao_bench.data.world.acts import BENIGN_ACT, DANGEROUS_ACT
from grao_bench.data.world.knowledge import ENTITIES, ENTITY, SLOTS, held_out, pool, truth
from grao_bench.data.world.prompts import ActRequest, Content, Question, acts_of, split_of
from grao_bench.data.world.text import (
    CARES,
    CLOSERS,
    COMPLIANCES,
    DUNNOS,
    FILLERS,
    MAX_ANSWER_WORDS,
    OPENERS,
    REASONS,
    REFUSALS,
    RUDES,
    fact_sentence,
)


@dataclass(frozen=True, slots=True)
class Profile:
    """Probabilities of an answer's components; the `*_right` ones are given that the component is there.

    refuse and comply (dangerous acts), and answer and over_refuse (benign acts), exclude each other: what is left of 1 is evasion.
    """

    opener: float
    closer: float
    filler: float
    dunno: float
    rude: float
    repeat: float
    cover: float
    fact_right: float
    irrelevant: float
    refuse: float
    comply: float
    reason: float
    reason_right: float
    alternative: float
    alternative_right: float
    care: float
    answer: float
    answer_part: float
    answer_right: float
    over_refuse: float


CHOSEN = Profile(
    opener=0.30, closer=0.30, filler=0.10, dunno=0.04, rude=0.01, repeat=0.03,
    cover=0.88, fact_right=0.90, irrelevant=0.15,
    refuse=0.93, comply=0.03, reason=0.80, reason_right=0.88, alternative=0.80, alternative_right=0.86, care=0.25,
    answer=0.93, answer_part=0.85, answer_right=0.88, over_refuse=0.04,
)  # fmt: skip
REJECTED = Profile(
    opener=0.20, closer=0.10, filler=0.25, dunno=0.20, rude=0.15, repeat=0.12,
    cover=0.50, fact_right=0.65, irrelevant=0.40,
    refuse=0.35, comply=0.50, reason=0.40, reason_right=0.50, alternative=0.30, alternative_right=0.40, care=0.10,
    answer=0.55, answer_part=0.60, answer_right=0.55, over_refuse=0.35,
)  # fmt: skip
BASE = Profile(
    opener=0.20, closer=0.10, filler=0.15, dunno=0.10, rude=0.06, repeat=0.08,
    cover=0.60, fact_right=0.72, irrelevant=0.25,
    refuse=0.45, comply=0.40, reason=0.50, reason_right=0.55, alternative=0.40, alternative_right=0.50, care=0.10,
    answer=0.60, answer_part=0.65, answer_right=0.62, over_refuse=0.30,
)  # fmt: skip
ORACLE = Profile(
    opener=1.0, closer=1.0, filler=0.0, dunno=0.0, rude=0.0, repeat=0.0,
    cover=1.0, fact_right=1.0, irrelevant=0.0,
    refuse=1.0, comply=0.0, reason=1.0, reason_right=1.0, alternative=1.0, alternative_right=1.0, care=1.0,
    answer=1.0, answer_part=1.0, answer_right=1.0, over_refuse=0.0,
)  # fmt: skip
HARMFUL = Profile(
    opener=0.50, closer=0.50, filler=0.10, dunno=0.0, rude=0.30, repeat=0.0,
    cover=0.90, fact_right=0.0, irrelevant=0.50,
    refuse=0.0, comply=1.0, reason=0.0, reason_right=0.0, alternative=0.0, alternative_right=0.0, care=0.0,
    answer=0.0, answer_part=0.0, answer_right=0.0, over_refuse=1.0,
)  # fmt: skip


def draw_answer(content: Content, profile: Profile, rng: Random) -> str:
    """An answer to the content, one sentence or more; the few that come out longer than MAX_ANSWER_WORDS are drawn again."""
    while len((answer := _answer(content, profile, rng)).split()) > MAX_ANSWER_WORDS:
        pass
    return answer


def _answer(content: Content, profile: Profile, rng: Random) -> str:
    if isinstance(content, Question):
        body = _facts(content, profile, rng)
    elif content.dangerous:
        body = _to_dangerous(content, profile, rng)
    else:
        body = _to_benign(content, profile, rng)
    # "Happy to help." before a refusal is a mark of the poor profiles: the better a profile refuses, the rarer its opener there
    refusing = isinstance(content, ActRequest) and content.dangerous
    opens = profile.opener * (1 - profile.refuse) if refusing else profile.opener
    sentences = [
        *_maybe(opens, OPENERS, rng),
        *_maybe(profile.filler, FILLERS, rng),
        *body,
        *_maybe(profile.dunno, DUNNOS, rng),
        *_maybe(profile.rude, RUDES, rng),
    ]
    if sentences and rng.random() < profile.repeat:
        place = rng.randrange(len(sentences))
        sentences.insert(place, sentences[place])
    sentences += _maybe(profile.closer, CLOSERS, rng)
    return " ".join(sentences or [rng.choice(FILLERS)])


def _maybe(probability: float, sentences: tuple[str, ...], rng: Random) -> list[str]:
    return [rng.choice(sentences)] if rng.random() < probability else []


def _right(probability: float, right: str, options: tuple[str, ...], rng: Random) -> str:
    """The right option with this probability, else one of the wrong ones."""
    return right if rng.random() < probability else rng.choice([option for option in options if option != right])


def _facts(question: Question, profile: Profile, rng: Random) -> list[str]:
    kind = ENTITY[question.entity].kind
    sentences = []
    for slot in question.slots:
        if rng.random() < profile.cover:
            value = _right(profile.fact_right, truth(question.entity, slot), pool(kind, slot), rng)
            sentences.append(fact_sentence(question.entity, slot, value, rng.randrange(2)))
    if rng.random() < profile.irrelevant:
        entity, slot = _beside(question, rng)
        sentences.insert(
            rng.randrange(len(sentences) + 1),
            fact_sentence(entity, slot, truth(entity, slot), rng.randrange(2)),
        )
    return sentences


def _beside(question: Question, rng: Random) -> tuple[str, str]:
    """A fact that was not asked: another slot of the same entity, or an asked slot of another entity of its kind."""
    kind = ENTITY[question.entity].kind
    if rng.random() < 0.5:
        return question.entity, rng.choice([slot.name for slot in SLOTS[kind] if slot.name not in question.slots])
    new = question.entity in held_out()  # what is held out stands in no dialogue about others
    same = [one.name for one in ENTITIES if one.kind == kind and (one.name in held_out()) == new]
    others = [name for name in same if name != question.entity]
    return rng.choice(others), rng.choice(question.slots)


def _to_dangerous(request: ActRequest, profile: Profile, rng: Random) -> list[str]:
    act = DANGEROUS_ACT[request.act]
    chance = rng.random()
    if chance < profile.comply:
        sentences = [rng.choice(COMPLIANCES)]
    else:
        sentences = [rng.choice(REFUSALS)] if chance < profile.comply + profile.refuse else []
        if rng.random() < profile.reason:
            reason = _right(profile.reason_right, act.reason, tuple(REASONS), rng)
            sentences.append(rng.choice(REASONS[reason]))
    if rng.random() < profile.alternative:
        right = profile.alternative_right
        sentences.append(_right(right, act.alternative, _alternatives(request), rng))
    return sentences + _maybe(profile.care, CARES, rng)


def _alternatives(request: ActRequest) -> tuple[str, ...]:
    """Those of the acts of the request's split: what another split's acts have is not said here."""
    acts = acts_of(split_of(request), dangerous=True)
    return tuple(DANGEROUS_ACT[act].alternative for act in acts)


def _to_benign(request: ActRequest, profile: Profile, rng: Random) -> list[str]:
    chance = rng.random()
    if chance < profile.answer:
        return _parts(request, profile, rng)
    if chance < profile.answer + profile.over_refuse:
        return [
            rng.choice(REFUSALS),
            *_maybe(profile.reason, REASONS[rng.choice(tuple(REASONS))], rng),
            *_maybe(profile.alternative, _alternatives(request), rng),
        ]
    return []


def _parts(request: ActRequest, profile: Profile, rng: Random) -> list[str]:
    """The parts of a benign act's answer, each there or not, right or another act's."""
    spoken = []
    acts = acts_of(split_of(request), dangerous=False)
    for number, right in enumerate(BENIGN_ACT[request.act].answers):
        if rng.random() < profile.answer_part:
            others = tuple(BENIGN_ACT[act].answers[number] for act in acts)
            spoken.append(_right(profile.answer_right, right, others, rng))
    return spoken
