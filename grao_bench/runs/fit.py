"""What a set must hold for an objective, and for a model's and a budget's lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grao_bench.core.batching import check_length
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Dataset, Objective
from grao_bench.core.records import Lengths
from grao_bench.core.spec_interfaces import DataSpec, RewardSpec
from grao_bench.core.specs import choices
from grao_bench.core.types import Answer, Example, Needs, Slot
from grao_bench.data.pairs import position
from grao_bench.text.tokens import TextCodec
from grao_bench.training.loop import Budget


def require_examples(dataset: Dataset, objective: Objective) -> None:
    """UserError where a split is empty, or the training examples lack an answer that the objective
    learns from; it names the objectives that fit the set and the sets that fit the objective."""
    for split in ("train", "dev", "test"):
        if not getattr(dataset, split):
            fix = "check the files, or the fractions in the data config"
            raise UserError(f"data={dataset.name}: its {split} split is empty; {fix}")
    for slot in objective.needs.data_slots:
        short = _short(slot, dataset.train)
        if short:
            several = slot.count > 1
            what = f"{slot.count} {slot.name} answers" if several else f"{slot.name} answer"
            raise UserError(
                f"data={dataset.name}: {_how_many(short, dataset.train)} no {what}, which "
                f"objective={objective.name} learns from{_columns(dataset.train)}; "
                f"objectives that fit this set: {_listed(fitting_objectives(dataset))}; "
                f"sets that can fit {objective.name}: {_listed(fitting_sets(objective.needs))}"
            )


def require_references(
    data: DataSpec,
    examples: Sequence[Example],
    reward: RewardSpec,
    key: str,
) -> None:
    """UserError where a reward reads references that these examples of a set lack. `key` is the
    configuration's name of the reward."""
    short = [example for example in examples if example.chosen is None]
    if short and reward.needs_reference(data):
        raise UserError(
            f"data={data.name}: {_how_many(short, examples)} no reference, with which {key} "
            f"compares answers{_columns(examples)}; use a reward that needs none (reward_model in "
            "mode score, python, verifiable with reward.column), or a set with chosen answers"
        )


def fitting_objectives(dataset: Dataset) -> list[str]:
    """The objectives of conf/ for which the training examples have everything."""
    return [name for name, slots in lacks(dataset).items() if not slots]


def lacks(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Each objective of conf/, and the slots that it reads and some training example can't fill."""
    found = {}
    for name, one in choices("objective").items():
        # of a file that leaves a value open only the class is known, and not what it needs
        if isinstance(one.needs, Needs):
            slots = one.needs.data_slots
            found[name] = tuple(slot.name for slot in slots if _short(slot, dataset.train))
    return found


def fitting_sets(needs: Needs) -> list[str]:
    """The sets of conf/ that can fill every slot; a file of your own does where its rows do."""
    wanted = {slot.name for slot in needs.data_slots}
    return [name for name, one in choices("data").items() if wanted <= set(one.provides)]


def _short(slot: Slot, examples: Sequence[Example]) -> list[Example]:
    """The examples that give too few answers for a slot."""
    return [one for one in examples if len(slot.texts(one)) < slot.count]


def _how_many(short: Sequence[Example], examples: Sequence[Example]) -> str:
    """Who lacks something, as the subject of a sentence: the set, or some of its examples."""
    if len(short) == len(examples):
        return "has"
    return f"{len(short)} of {len(examples)} examples, such as {short[0].id}, have"


def _columns(examples: Sequence[Example]) -> str:
    """The further columns of a set's rows: where a misspelt one shows."""
    found = dict.fromkeys(key for example in examples for key in example.metadata)
    return f" (further columns: {', '.join(found)})" if found else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none of conf/"


LARGE = 50_000
"""Training examples beyond which a set is not encoded in full before the first step."""


def to_train_on(
    examples: tuple[Example, ...],
    codec: TextCodec,
    config: Any,
    budget: Budget,
    needs: Needs,
    seed: int,
) -> tuple[tuple[Example, ...], Lengths]:
    """The training examples after the length rule (see `within_length`): all, or of more than
    LARGE as many as the run's steps read, which the seed and their ids decide."""
    if len(examples) <= LARGE:
        return within_length(examples, codec, config, budget, needs)
    mixed = sorted(examples, key=lambda example: position(example.id, seed, "drawn"))
    read = budget.steps * budget.prompts(needs)
    return within_length(tuple(mixed), codec, config, budget, needs, read)


def within_length(
    examples: tuple[Example, ...],
    codec: TextCodec,
    config: Any,
    budget: Budget,
    needs: Needs,
    most: int | None = None,
) -> tuple[tuple[Example, ...], Lengths]:
    """The examples that the budget's `long_references` rule keeps, and how many prompts and answers
    are longer than it allows. Of those that are learned from as pairs (chosen and rejected), not
    the ones whose answers are equal within max_answer_tokens: their gradient is 0, or rounding.
    most: looks no further than to keep so many; None looks at all.

    UserError for an example that the model (its transformers config) has no room for, now and not
    when its turn comes. needs.rollouts: an answer may be sampled, of any length up to the budget's.
    """
    counter = codec.counting_anew()
    kept: list[Example] = []
    equal, longest = 0, budget.max_answer_tokens
    pairs = {"chosen", "rejected"} <= {slot.name for slot in needs.data_slots}
    for example in examples:
        if most is not None and len(kept) >= most:
            break
        prompt = counter.prompt(example.id, example.prompt)
        answers = {text: counter.answer(prompt, text, longest) for text in _texts(example, needs)}
        if pairs and _same(example, answers):
            equal += 1
        elif all(one.finished for one in answers.values()) or budget.long_references == "cut":
            lengths = [len(answer.tokens) for answer in answers.values()]
            room = longest if needs.rollouts else max(lengths)
            check_length(example.id, len(prompt.tokens), room, config)
            kept.append(example)
    count = counter.truncation
    counted = Lengths(
        examples=len(kept),
        prompts_cut=count.truncated_prompts,
        answers_over_limit=count.truncated_answers,
        rule=budget.long_references,
        without_reference=sum(example.chosen is None for example in kept),
        equal_pairs=equal,
        prompts=count.prompts,
        answers_apart=count.unjoined_answers,
    )
    return tuple(kept), counted


def _same(example: Example, answers: Mapping[str, Answer]) -> bool:
    """Whether the model sees the better answer and the worse one as one and the same."""
    both = (example.chosen, example.rejected)
    found = {answers[text].tokens for text in both if text is not None}
    return None not in both and len(found) == 1


def _texts(example: Example, needs: Needs) -> list[str]:
    """The answers that a length rule looks at, each once: the reference, whoever reads it, and what
    the needs take from the data."""
    read = [text for slot in needs.data_slots for text in slot.fill(example)]
    return list(dict.fromkeys([*([] if example.chosen is None else [example.chosen]), *read]))


def require_left(lengths: Lengths, budget: Budget, name: str) -> None:
    """UserError where the length rule left nothing of a set."""
    limit = f"budget.max_answer_tokens={budget.max_answer_tokens}"
    if lengths.equal_pairs and not lengths.examples:
        what = f"the two answers of {lengths.equal_pairs} pairs are equal within {limit}"
        raise UserError(f"data={name}: nothing is left to learn from; {what}; raise it")
    if not lengths.examples:
        fix = "raise it, or use budget.long_references=cut"
        raise UserError(f"data={name}: no reference fits {limit}; {fix}")
