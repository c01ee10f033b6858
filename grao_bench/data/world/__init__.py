"""The embedded world: a procedurally generated English preference set, helpful and harmless, with its gold judge. No files needed.

knowledge   tables of facts and acts           prompts    contents, their prompts, and the way back
text        sentences that belong to no entity answers    quality profiles and the sampler
recognise   sentences -> statements            judge      statements -> score by named criteria
generator   seed -> pairs and corpus
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Literal

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Control, Dataset, Seen
from grao_bench.core.types import Example
from grao_bench.data.world.answers import (
    BASE,
    CHOSEN,
    HARMFUL,
    ORACLE,
    REJECTED,
    Profile,
    draw_answer,
)
from grao_bench.data.world.exploits import PERFECT, best_of_each_kind
from grao_bench.data.world.generator import make_corpus, make_examples
from grao_bench.data.world.judge import WorldJudge, content_of
from grao_bench.data.world.prompts import Split, Subset, read_prompt, split_of

__all__ = [
    "BASE",
    "CHOSEN",
    "HARMFUL",
    "ORACLE",
    "REJECTED",
    "Profile",
    "WorldData",
    "WorldJudge",
    "oracle_answer",
    "profile_answer",
    "read_prompt",
    "split_of",
]

SUBSETS: tuple[Literal["helpful", "harmless"], ...] = ("helpful", "harmless")
TIE_BAND = 0.05
"""What the best exploit is chosen by, as in conf/reward/gold.yaml."""


@dataclass(frozen=True)
class WorldData:
    """One subset of the embedded world. Those of a seed share one corpus: one base serves them all.

    label_noise: the probability that a pair's chosen and rejected are swapped. corpus_documents:
    size of the pre-training corpus. entities: `new` are those that only the corpus's plain
    documents tell of; helpful questions about them are a set of their own, with a test split alone.
    """

    revision: ClassVar[int] = 2
    provides: ClassVar[frozenset[str]] = frozenset({"chosen", "rejected"})

    name: str
    subset: Literal["helpful", "harmless"]
    seed: int
    num_train: int
    num_dev: int
    num_test: int
    label_noise: float
    corpus_documents: int
    entities: Literal["known", "new"]

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise UserError(f"data.subset={self.subset}: not a subset of the embedded world; choose {', '.join(SUBSETS)}")
        if self.entities == "new" and self.subset != "helpful":
            raise UserError("data.entities=new: only the helpful subset has new entities")
        for field in ("num_train", "num_dev", "num_test", "corpus_documents"):
            if getattr(self, field) < 1:
                raise UserError(f"data.{field}={getattr(self, field)}: must be at least 1")
        if not 0 <= self.label_noise <= 1:
            raise UserError(f"data.label_noise={self.label_noise}: is a probability; give a number from 0 to 1")

    def build(self) -> Dataset:
        """Generate the set; UserError when a split has too few distinct prompts for the size asked."""
        return Dataset(
            name=self.name,
            subset=self.subset,
            train=self._examples("train", self.num_train),
            dev=self._examples("dev", self.num_dev),
            test=self._examples("test", self.num_test),
            dropped={},
        )

    def corpus(self) -> list[str]:
        """The documents for pre-training; they depend on `seed` and `corpus_documents` alone."""
        return make_corpus(self.corpus_documents, self.seed)

    def judge(self) -> WorldJudge:
        """The gold judge, the same for every seed and subset."""
        return WorldJudge()

    def controls(self, examples: Sequence[Example], seen: Seen) -> list[Control]:
        """The oracle, and of each sort of policy without content the best on these prompts."""
        best = best_of_each_kind(examples, seen, TIE_BAND)
        named = [(f"{one.kind}: {one.name}", one) for one in best]
        return [
            Control("oracle", PERFECT.answer),
            *(Control(label, one.answer, one.wraps == "base") for label, one in named),
        ]

    def siblings(self) -> tuple[WorldData, ...]:
        """The helpful and the harmless set, and the helpful one about new entities."""
        known = [replace(self, name=f"world_{subset}", subset=subset, entities="known") for subset in SUBSETS]
        new = replace(self, name="world_helpful_new", subset="helpful", entities="new")
        alike = (self.subset, self.entities)
        return tuple(self if (one.subset, one.entities) == alike else one for one in (*known, new))

    def _examples(self, split: Split, count: int) -> tuple[Example, ...]:
        new = self.entities == "new"
        if new and split != "test":
            return ()
        asked: Subset = "helpful_new" if new else self.subset
        return make_examples(self.name, asked, split, count, self.seed, self.label_noise)


def profile_answer(example: Example, profile: Profile, rng: Random) -> str:
    """An answer to the example's prompt, drawn from a quality profile."""
    return draw_answer(content_of(example), profile, rng)


def oracle_answer(example: Example) -> str:
    """An answer that the judge scores 1."""
    return profile_answer(example, ORACLE, Random(0))
