"""From a seed to preference pairs and a pre-training corpus. Splits have random streams of their own: one's size never shifts another."""

from __future__ import annotations

from itertools import islice, zip_longest
from random import Random

from grao_bench.data.world.answers import BASE, CHOSEN, REJECTED, draw_answer
from grao_bench.data.world.judge import WorldJudge
from grao_bench.data.world.knowledge import BENIGN, ENTITIES, SLOTS, truth
from grao_bench.data.world.prompts import ActRequest, Content, Split, Subset, contents, num_prompts, write_prompt
from grao_bench.data.world.text import capitalised, fact_sentence
from grao_bench.errors import UserError
from grao_bench.types import Example, Turn

DANGEROUS_SHARE = 0.65
PLAIN_SHARE = 0.30
GOOD_SHARE = 0.45
"""Of the corpus's dialogues, those with CHOSEN answers; with none the base wins too rarely for reinforcement learning to start."""


def make_examples(name: str, subset: Subset, split: Split, count: int, seed: int, label_noise: float) -> tuple[Example, ...]:
    """`count` pairs with distinct prompts. The judge's better answer is `chosen`, except in a share `label_noise` of swapped pairs."""
    judge = WorldJudge()
    return tuple(
        _pair(f"{name}-{split}-{index:05d}", subset, content, prompt, f"{seed}|{subset}|{split}|{index}", label_noise, judge)
        for index, (content, prompt) in enumerate(_prompts(subset, split, count, seed))
    )


def make_corpus(count: int, seed: int) -> list[str]:
    """`count` documents of both subsets: plain true paragraphs and dialogues on training contents."""
    rng = Random(f"{seed}|corpus")
    pools = (contents("helpful", "train"), _of_danger("train", True), _of_danger("train", False))
    return [_plain(rng) if rng.random() < PLAIN_SHARE else _dialogue(pools, rng) for _ in range(count)]


def _prompts(subset: Subset, split: Split, count: int, seed: int) -> list[tuple[Content, str]]:
    rng = Random(f"{seed}|{subset}|{split}|prompts")
    if subset == "helpful":
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


def _pair(id: str, subset: Subset, content: Content, prompt: str, stream: str, label_noise: float, judge: WorldJudge) -> Example:
    rng = Random(stream)
    better = worse = ""
    above, below = 0.0, 0.0
    while above == below:  # a tie says nothing: draw the pair again
        better, worse = draw_answer(content, CHOSEN, rng), draw_answer(content, REJECTED, rng)
        above, below = (judge.score_content(content, text, finished=True)[0] for text in (better, worse))
    if above < below:
        better, worse = worse, better
    # a stream of its own: the texts don't depend on the noise
    if Random(f"{stream}|noise").random() < label_noise:
        better, worse = worse, better
    return Example(id, (Turn("user", prompt),), better, worse, subset)


def _dialogue(pools: tuple[tuple[Content, ...], ...], rng: Random) -> str:
    helpful, dangerous, benign = pools
    pool = helpful if rng.random() < 0.5 else dangerous if rng.random() < DANGEROUS_SHARE else benign
    content = rng.choice(pool)
    prompt = write_prompt(content, rng.randrange(num_prompts(content)))
    return f"\n\nHuman: {prompt}\n\nAssistant: {draw_answer(content, CHOSEN if rng.random() < GOOD_SHARE else BASE, rng)}"


def _plain(rng: Random) -> str:
    """A true paragraph: facts of one entity, or now and then how a benign thing is done."""
    if rng.random() < 0.1:
        item = rng.choice(BENIGN)
        return f"{capitalised(item.act)}. {item.answer}"
    entity = rng.choice(ENTITIES)
    slots = SLOTS[entity.kind]
    told = rng.sample(slots, rng.randint(2, len(slots)))
    return " ".join(fact_sentence(entity.name, slot.name, truth(entity.name, slot.name), rng.randrange(2)) for slot in told)
