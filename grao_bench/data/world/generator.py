"""From a seed to preference pairs and a pre-training corpus. Splits have random streams of their own: one's size never shifts another."""

from __future__ import annotations

from itertools import islice, zip_longest
from random import Random

from grao_bench.core.errors import UserError
from grao_bench.core.types import Example, Turn
from grao_bench.data.world.acts import BENIGN, DANGEROUS
from grao_bench.data.world.answers import BASE, CHOSEN, REJECTED, Profile, draw_answer
from grao_bench.data.world.judge import WorldJudge
from grao_bench.data.world.knowledge import ENTITIES, SLOTS, truth
from grao_bench.data.world.prompts import (
    ACT_FRAMES,
    ActRequest,
    Content,
    Question,
    Split,
    Subset,
    contents,
    num_prompts,
    write_prompt,
)
from grao_bench.data.world.recognise import recognise_template, sentences
from grao_bench.data.world.text import REASONS, fact_sentence

DANGEROUS_SHARE = 0.65
HELPFUL_SHARE = 0.60
"""Of the corpus's dialogues; which of six slots were asked is the harder thing to learn."""
PLAIN_SHARE = 0.40
PLAIN_ACTS_SHARE = 0.55
"""Of the plain documents, those that tell of acts."""
NO_FAULT = 0.95
"""A score from here on ties with a perfect one in the band of 0.05."""
PERFECT_SHARE = 0.02
"""Of the CHOSEN answers without a fault, those that become a reference; the others are drawn again."""
_OWN = ("fact", "alternative", "answer")
GOOD_SHARE = {"helpful": 0.60, "harmless": 0.15}
"""Of the corpus's dialogues, those with CHOSEN answers; with none the base wins too rarely for
reinforcement learning to start."""


def make_examples(name: str, subset: Subset, split: Split, count: int, seed: int, label_noise: float) -> tuple[Example, ...]:
    """`count` pairs with distinct prompts. The judge's better answer is `chosen`, except in a share `label_noise` of swapped pairs."""
    judge = WorldJudge()
    return tuple(
        _pair(
            f"{name}-{split}-{index:05d}",
            subset,
            content,
            prompt,
            f"{seed}|{subset}|{split}|{index}",
            label_noise,
            judge,
        )
        for index, (content, prompt) in enumerate(_prompts(subset, split, count, seed))
    )


def make_corpus(count: int, seed: int) -> list[str]:
    """`count` documents of both subsets: plain true paragraphs and dialogues on training contents."""
    rng = Random(f"{seed}|corpus")
    pools = (contents("helpful", "train"), _of_danger("train", True), _of_danger("train", False))
    return [_plain(rng) if rng.random() < PLAIN_SHARE else _dialogue(pools, rng) for _ in range(count)]


def _prompts(subset: Subset, split: Split, count: int, seed: int) -> list[tuple[Content, str]]:
    rng = Random(f"{seed}|{subset}|{split}|prompts")
    if subset != "harmless":
        drawn = _in_rounds(contents(subset, split), count, rng)
    else:
        dangerous = round(DANGEROUS_SHARE * count)
        drawn = _in_rounds(_of_danger(split, True), dangerous, rng) + _in_rounds(_of_danger(split, False), count - dangerous, rng)
        rng.shuffle(drawn)
    if len(drawn) < count:
        raise UserError(
            f"data.num_{split}={count}: the {subset} world has only {len(drawn)} distinct {split} prompts at this mix; ask for fewer"
        )
    return drawn


def _in_rounds(pool: tuple[Content, ...], count: int, rng: Random) -> list[tuple[Content, str]]:
    """Up to `count` distinct prompts, contents as evenly as they allow: each round asks every content that has a prompt left once."""
    order = rng.sample(pool, len(pool))
    numbers = [rng.sample(range(num_prompts(content)), num_prompts(content)) for content in order]
    rounds = (zip(order, turn, strict=True) for turn in zip_longest(*numbers))
    every = ((content, write_prompt(content, number)) for turn in rounds for content, number in turn if number is not None)
    return list(islice(every, count))


def _of_danger(split: Split, dangerous: bool) -> tuple[Content, ...]:
    return tuple(content for content in contents("harmless", split) if isinstance(content, ActRequest) and content.dangerous == dangerous)


def _pair(
    id: str,
    subset: Subset,
    content: Content,
    prompt: str,
    stream: str,
    label_noise: float,
    judge: WorldJudge,
) -> Example:
    rng = Random(stream)
    better = worse = ""
    above, below = 0.0, 0.0
    while above == below:  # a tie says nothing: draw the pair again
        better, worse = _chosen(content, rng, judge), _own(content, REJECTED, rng)
        above, below = (judge.score_content(content, text, finished=True)[0] for text in (better, worse))
    if above < below:
        better, worse = worse, better
    # a stream of its own: the texts don't depend on the noise
    if Random(f"{stream}|noise").random() < label_noise:
        better, worse = worse, better
    named = "helpful" if subset == "helpful_new" else subset
    return Example(id, (Turn("user", prompt),), better, worse, named, cluster=content.cluster)


def _own(content: Content, profile: Profile, rng: Random) -> str:
    """An answer that holds a sentence of an entity's or an act's own: so that no text of one
    split's pairs is one of another's."""
    while True:
        text = draw_answer(content, profile, rng)
        made = (one for piece in sentences(text) for one in recognise_template(piece, ""))
        if isinstance(content, Question) or any(one.kind in _OWN for one in made):
            return text


def _chosen(content: Content, rng: Random, judge: WorldJudge) -> str:
    """An answer of the CHOSEN profile, seldom without a fault: that leaves headroom above it."""
    while True:
        text = _own(content, CHOSEN, rng)
        score = judge.score_content(content, text, finished=True)[0]
        if score < NO_FAULT or rng.random() < PERFECT_SHARE:
            return text


def _dialogue(pools: tuple[tuple[Content, ...], ...], rng: Random) -> str:
    helpful, dangerous, benign = pools
    pool = helpful if rng.random() < HELPFUL_SHARE else dangerous if rng.random() < DANGEROUS_SHARE else benign
    content = rng.choice(pool)
    prompt = write_prompt(content, rng.randrange(num_prompts(content)))
    good = GOOD_SHARE["helpful" if isinstance(content, Question) else "harmless"]
    profile = CHOSEN if rng.random() < good else BASE
    return f"\n\nHuman: {prompt}\n\nAssistant: {draw_answer(content, profile, rng)}"


def _plain(rng: Random) -> str:
    """A true paragraph: facts of one entity, or how a benign act is done, or why a dangerous one is
    wrong and what to do instead. All entities and acts are told of, whatever their split."""
    if rng.random() < PLAIN_ACTS_SHARE:
        return _of_act(rng)
    entity = rng.choice(ENTITIES)
    slots = SLOTS[entity.kind]
    told = rng.sample(slots, rng.randint(2, len(slots) - 2))
    return " ".join(fact_sentence(entity.name, slot.name, truth(entity.name, slot.name), rng.randrange(2)) for slot in told)


def _of_act(rng: Random) -> str:
    """An act in the words of a request, and what is true of it: no speaker, no refusal."""
    asked = rng.choice(ACT_FRAMES)
    if rng.random() < len(BENIGN) / (len(BENIGN) + len(DANGEROUS)):
        benign = rng.choice(BENIGN)
        return " ".join([asked.format(act=benign.act), *benign.answers])
    item = rng.choice(DANGEROUS)
    said = [rng.choice(REASONS[item.reason]), item.alternative]
    return " ".join([asked.format(act=item.act), *said])
