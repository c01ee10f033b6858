"""The embedded world's entities and what is true of them; `acts` has the rest. Text and facts, no behaviour.

A value is an entry of its slot's pool: a wrong fact is the right template with another entry, so wrong answers look like right ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import md5


@dataclass(frozen=True, slots=True)
class Slot:
    """Something that can be asked of an entity.

    `questions` are indirect questions (free of "," and " and ", which join them); `sentences` say the fact ({e} entity, {v} value);
    `keywords` is a pattern of words that mark the slot in free text.
    """

    name: str
    questions: tuple[str, str]
    sentences: tuple[str, str]
    keywords: str


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing with one true value per slot, in the order of its kind's slots. `alias` is another name that free text may use."""

    name: str
    alias: str
    kind: str
    values: tuple[str, ...]


SLOTS: dict[str, tuple[Slot, ...]] = {
    "animal": (
        Slot(
            "food",
            ("what they eat", "which food they like"),
            ("{e} eat {v}.", "The food of {e} is {v}."),
            r"eats?|eating|feeds?|foods?|diet",
        ),
        Slot(
            "home",
            ("where they live", "what place is their home"),
            ("{e} live in {v}.", "The home of {e} is in {v}."),
            r"lives?|living|homes?|found|habitat",
        ),
        Slot(
            "activity",
            ("when they are active", "at which time they are awake"),
            ("{e} are active {v}.", "{e} are awake {v}."),
            r"active|awake|hunts?",
        ),
        Slot(
            "size",
            ("how big they are", "what size they reach"),
            ("{e} are as big as {v}.", "In size {e} are like {v}."),
            r"big|sizes?|large",
        ),
        Slot(
            "sound",
            ("what sound they make", "how they call"),
            ("{e} make {v}.", "The call of {e} is {v}."),
            r"make|makes|call|sounds?|noise",
        ),
        Slot(
            "young",
            ("what their young are called", "which name their babies have"),
            ("Young {e} are called {v}.", "{v} is the name of baby {e}."),
            r"young|bab(?:y|ies)|called|name",
        ),
    ),
    "country": (
        Slot(
            "capital",
            ("what its capital is", "which city is the capital"),
            ("The capital of {e} is {v}.", "{v} is the capital of {e}."),
            r"capital",
        ),
        Slot(
            "continent",
            ("which continent it is on", "in what part of the world it lies"),
            ("{e} lies in {v}.", "You find {e} in {v}."),
            r"lies?|find|found|located|continent",
        ),
        Slot(
            "language",
            ("what language people speak there", "which language is used there"),
            ("People in {e} speak {v}.", "The language of {e} is {v}."),
            r"speaks?|spoken|language",
        ),
        Slot(
            "money",
            ("what money people use there", "which currency it has"),
            ("People in {e} pay with {v}.", "The money of {e} is {v}."),
            r"pay|money|currency",
        ),
        Slot(
            "river",
            ("which river runs through it", "what river it has"),
            ("{v} runs through {e}.", "A river of {e} is {v}."),
            r"rivers?|runs|flows?",
        ),
        Slot(
            "dish",
            ("what dish it is known for", "which meal people cook there"),
            ("People in {e} cook {v}.", "A dish of {e} is {v}."),
            r"dish(?:es)?|cook|meals?",
        ),
    ),
    "task": (
        Slot(
            "tool",
            ("which tool I need", "what I should use"),
            ("You need {v} for {e}.", "The tool for {e} is {v}."),
            r"need|tools?|use|using",
        ),
        Slot(
            "first",
            ("what I do first", "how I should begin"),
            ("To start {e}, {v}.", "The first step of {e} is to {v}."),
            r"first|start|begin|step",
        ),
        Slot(
            "time",
            ("how long it takes", "how much time it needs"),
            ("{e} takes {v}.", "Plan {v} for {e}."),
            r"takes?|time|plan|long|lasts?",
        ),
        Slot(
            "caution",
            ("what I should avoid", "what I must not do"),
            ("Do not {v} when {e}.", "Be careful not to {v} when {e}."),
            r"careful|not|avoid|never|don't",
        ),
        Slot(
            "last",
            ("what I do at the end", "how I should finish"),
            ("To finish {e}, {v}.", "The last step of {e} is to {v}."),
            r"finish|last|end",
        ),
        Slot(
            "place",
            ("where I should do it", "which place is best for it"),
            ("The best place for {e} is {v}.", "For {e}, go to {v}."),
            r"place|best|where|go",
        ),
    ),
}


def _entities(kind: str, *rows: tuple[str, ...]) -> tuple[Entity, ...]:
    return tuple(Entity(name, alias, kind, values) for name, alias, *values_ in rows for values in [tuple(values_)])


# fmt: off
ENTITIES: tuple[Entity, ...] = (
    *_entities(
        "animal",
        ("otters", "otter", "fish", "rivers", "at dusk", "a cat", "a whistle", "pups"),
        ("owls", "owl", "mice", "woods", "at night", "a hen", "a hoot", "owlets"),
        ("bats", "bat", "insects", "caves", "at night", "a mouse", "a squeak", "pups"),
        ("lions", "lion", "meat", "grassland", "at night", "a pony", "a roar", "cubs"),
        ("pandas", "panda", "bamboo", "mountains", "by day", "a person", "a bleat", "cubs"),
        ("camels", "camel", "dry plants", "deserts", "by day", "a horse", "a groan", "calves"),
        ("koalas", "koala", "leaves", "trees", "at night", "a cat", "a bellow", "joeys"),
        ("rabbits", "rabbit", "grass", "burrows", "at dusk", "a cat", "a squeak", "kits"),
        ("squirrels", "squirrel", "nuts", "trees", "by day", "a shoe", "a chatter", "kits"),
        ("frogs", "frog", "insects", "ponds", "at night", "a fist", "a croak", "tadpoles"),
        ("seals", "seal", "fish", "cold seas", "by day", "a person", "a bark", "pups"),
        ("whales", "whale", "krill", "cold seas", "at all hours", "a bus", "a song", "calves"),
        ("bees", "bee", "nectar", "hives", "by day", "a bean", "a buzz", "grubs"),
        ("bears", "bear", "berries", "woods", "by day", "a pony", "a growl", "cubs"),
        ("wolves", "wolf", "meat", "woods", "at night", "a dog", "a howl", "pups"),
        ("zebras", "zebra", "grass", "grassland", "by day", "a horse", "a bray", "foals"),
        ("penguins", "penguin", "fish", "icy coasts", "by day", "a goose", "a honk", "chicks"),
        ("hedgehogs", "hedgehog", "insects", "gardens", "at night", "a shoe", "a snort", "hoglets"),
    ),
    *_entities(
        "country",
        ("Peru", "Peruvian", "Lima", "South America", "Spanish", "the sol", "the Amazon",
         "ceviche"),
        ("Japan", "Japan's", "Tokyo", "Asia", "Japanese", "the yen", "the Shinano", "sushi"),
        ("Kenya", "Kenyan", "Nairobi", "Africa", "Swahili", "the shilling", "the Tana", "ugali"),
        ("France", "France's", "Paris", "Europe", "French", "the euro", "the Seine", "onion soup"),
        ("Brazil", "Brazilian", "Brasilia", "South America", "Portuguese", "the real",
         "the Amazon", "black beans"),
        ("Egypt", "Egyptian", "Cairo", "Africa", "Arabic", "the pound", "the Nile", "koshari"),
        ("India", "Indian", "New Delhi", "Asia", "Hindi", "the rupee", "the Ganges", "curry"),
        ("Poland", "Poland's", "Warsaw", "Europe", "Polish", "the zloty", "the Vistula",
         "dumplings"),
        ("Chile", "Chilean", "Santiago", "South America", "Spanish", "the peso", "the Biobio",
         "corn pie"),
        ("Sweden", "Sweden's", "Stockholm", "Europe", "Swedish", "the krona", "the Torne",
         "meatballs"),
        ("Thailand", "Thailand's", "Bangkok", "Asia", "Thai", "the baht", "the Mekong",
         "fried rice"),
        ("Germany", "Germany's", "Berlin", "Europe", "German", "the euro", "the Rhine", "sausages"),
        ("Vietnam", "Vietnam's", "Hanoi", "Asia", "Vietnamese", "the dong", "the Mekong",
         "noodle soup"),
        ("Morocco", "Moroccan", "Rabat", "Africa", "Arabic", "the dirham", "the Draa", "couscous"),
        ("Hungary", "Hungary's", "Budapest", "Europe", "Hungarian", "the forint", "the Danube",
         "goulash"),
        ("Ghana", "Ghanaian", "Accra", "Africa", "English", "the cedi", "the Volta", "jollof rice"),
    ),
    *_entities(
        "task",
        ("fixing a flat tyre", "flat tyre", "a tyre lever", "take off the wheel", "half an hour",
         "pinch the tube", "pump it up", "a quiet road"),
        ("painting a wall", "wall", "a roller", "cover the floor", "a whole day",
         "paint damp stone", "wash the brush", "an empty room"),
        ("boiling an egg", "egg", "a small pot", "heat some water", "ten minutes",
         "crack the shell", "cool it in water", "the kitchen"),
        ("baking bread", "bread", "an oven", "mix flour and water", "three hours",
         "hurry the dough", "let the loaf rest", "the kitchen"),
        ("planting a tree", "tree", "a spade", "dig a hole", "one hour", "bend the roots",
         "water the soil", "the garden"),
        ("washing a car", "car", "a sponge", "rinse off the mud", "half an hour",
         "scratch the paint", "dry it with a towel", "the yard"),
        ("ironing a shirt", "shirt", "a hot iron", "read the label", "ten minutes",
         "burn the cloth", "hang it up", "the bedroom"),
        ("sewing on a button", "button", "a needle", "cut some thread", "ten minutes",
         "prick your finger", "tie a knot", "a bright corner"),
        ("making tea", "tea", "a kettle", "boil fresh water", "five minutes", "burn your tongue",
         "take out the leaves", "the kitchen"),
        ("hanging a picture", "picture", "a hammer", "mark the spot", "ten minutes",
         "hit your thumb", "check that it is level", "an empty room"),
        ("cleaning a window", "window", "a soft cloth", "wipe off the dust", "half an hour",
         "lean out too far", "polish the glass", "the yard"),
        ("building a kite", "kite", "sharp scissors", "tie the sticks", "two hours",
         "tear the paper", "add a tail", "the garden"),
    ),
)
# fmt: on

ENTITY = {entity.name: entity for entity in ENTITIES}


def slot_of(entity: str, name: str) -> Slot:
    """The slot of this name of the entity's kind."""
    return next(slot for slot in SLOTS[ENTITY[entity].kind] if slot.name == name)


def truth(entity: str, slot: str) -> str:
    """The one true value."""
    names = [item.name for item in SLOTS[ENTITY[entity].kind]]
    return ENTITY[entity].values[names.index(slot)]


HELD_OUT_SHARE = 0.2
"""Of the entities of each kind: those that no dialogue and no training prompt asks about."""


@cache
def held_out() -> frozenset[str]:
    """The names of the entities that only plain documents tell of: by md5 of the name, per kind."""
    found: list[str] = []
    for kind in SLOTS:
        names = sorted((one.name for one in ENTITIES if one.kind == kind), key=_digest)
        found += names[: round(HELD_OUT_SHARE * len(names))]
    return frozenset(found)


def _digest(name: str) -> str:
    return md5(name.encode(), usedforsecurity=False).hexdigest()


@cache
def pool(kind: str, slot: str) -> tuple[str, ...]:
    """Every value that the slot takes over the entities of a kind, in table order, each once."""
    return tuple(dict.fromkeys(truth(entity.name, slot) for entity in ENTITIES if entity.kind == kind))
