"""The types that every part speaks.

Shape letters: P prompts, K answers per prompt, G rollouts per prompt, T answer tokens, Tp prompt tokens.
Alignment, stated once: `logp[p, k, t] = log pi(tokens[p, k, t] | prompt[p], tokens[p, k, :t])`, so every tensor lines up with `tokens`.
The length |x| of an answer counts its end token where it has one: one that a stop string ended, or
that was truncated, has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal, get_args

from grao_bench.core.batch import Batch as Batch
from grao_bench.core.batch import Loss as Loss
from grao_bench.core.batch import PolicyOutput as PolicyOutput
from grao_bench.core.errors import UserError

Role = Literal["system", "user", "assistant"]
PromptFormat = Literal["hh", "chat"]
"""`hh`: the dialogue text of HH-RLHF; `chat`: the tokenizer's chat template."""
LogpTemperature = float | Literal["auto"]
"""What divides the logits of a loss's log-probabilities. `auto`: the temperature that rollouts are
drawn at; 1, the model's own distribution, for an objective without rollouts or with greedy ones."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a dialogue. `text` carries no role marker and no surrounding blanks."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt (one turn or many, the last by the user) and what its set knows about it.

    id: unique within its set and stable across runs; equal prompts are separate examples.
    chosen: the paper's reference answer y; rejected: the worse answer of a pair. None where the
    set has none: a prompt alone is an example too.
    demonstrations: answers by others (people, stronger models), as many as there are.
    label: in a set of single answers that were called good or bad (KTO), which of the two. A good
    answer is `chosen` and a bad one `rejected`, alone.
    metadata: a row's further columns, for reward functions, rules and slots that read them.
    conversational: whether the row gave its prompt as messages; a TRL reward function gets
    messages then, and texts otherwise.
    cluster: what prompts of the set have in common (a subject, a document), so that their scores
    don't vary independently; None: the prompt is a cluster of its own.
    """

    id: str
    prompt: tuple[Turn, ...]
    chosen: str | None = None
    rejected: str | None = None
    subset: str = ""
    _: KW_ONLY
    demonstrations: tuple[str, ...] = ()
    label: bool | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    conversational: bool = False
    cluster: str | None = None

    @property
    def reference(self) -> str:
        """`chosen`; UserError where there is none."""
        if self.chosen is None:
            raise UserError(
                f"example {self.id}: has no reference answer, which something read; "
                "use a set with chosen answers, or a reward that needs no reference"
            )
        return self.chosen


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model reads it: the example's id and the token ids up to where the answer
    begins.

    occurrence: of a prompt that stands several times in what is drawn together (a step), how many
    times it stood before, so that each gets answers of its own. It is counted over the whole step,
    whichever process draws a share of it (`occurrences`). None: an engine counts within its call.
    text: what was encoded, by which a codec tells how an answer goes on from it.
    """

    id: str
    tokens: tuple[int, ...]
    occurrence: int | None = None
    text: str = field(default="", compare=False, repr=False)


def occurrences(ids: Iterable[str]) -> list[int]:
    """How many times each id stood before in the list."""
    before: Counter[str] = Counter()
    found = []
    for each in ids:
        found.append(before[each])
        before[each] += 1
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as ids. Sampled ids are kept and trained on as they are, never re-encoded from `text`.

    `finished` is True when the answer ended by itself: its last id is an end token, or a stop
    string (`Sampling.stop`) came next, of which nothing is kept. Training sees the ids that are
    there and no end token in the stop string's place, which was not sampled: such an answer teaches
    what to say, and neither to go on with another turn nor to end. Its text is what stands before
    the stop string; a token that holds the text's end and the stop string's beginning is not among
    its ids. Where none is left the first one stays, so that there is something to train on.

    What a sampler says of each token, where it says it: `sampler_logp`, the
    log-probability under the distribution that it drew from (after temperature and truncation; 0 for a greedy token), and `logp`, the
    raw one, at temperature 1 over the whole vocabulary. `policy_step` says whose it is: the steps
    that the policy had trained for when it was drawn; None for an answer that no policy gave.
    """

    text: str
    tokens: tuple[int, ...]
    finished: bool
    sampler_logp: tuple[float, ...] | None = None
    logp: tuple[float, ...] | None = None
    policy_step: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reward source says of one answer.

    reward: None where the source, or a part of it, could say nothing: whoever reads it leaves the
    answer out and counts it. `parts` explain the reward by name; `replies` are a judge's own words.
    left_out: the answer has a number to be evaluated by, and nothing is to be learned from it.
    correct: whether the answer is right by a rule that says yes or no, None where the source has no
    such rule. reference_parts: the parts of the reference by the same criteria, where the source
    looked at it too.
    """

    reward: float | None
    source: str
    parts: dict[str, float] = field(default_factory=dict)
    replies: tuple[str, ...] = ()
    left_out: bool = False
    correct: bool | None = None
    reference_parts: dict[str, float] | None = None


OldLogp = Literal["no", "loss", "prepare", "sampler"]
"""Who reads `batch.old_logp`, the log-probabilities under the policy that drew the rollouts.

no       nobody.
loss     the loss alone. At a batch's only update they are the loss's own, detached: no pass.
prepare  `prepare`, and the loss where it likes: a pass over the policy before `prepare`.
sampler  either, as the engine told them while it drew, at the loss's temperature; of the rollouts
         alone, 0 on other answers. An engine or a sampling that can't tell them is refused.
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """A kind of answer that comes from the data, as a value: what fills its columns along K.

    answers: what an example gives for it, the first `count` of which are taken; fewer is an error.
    judged: rewards are asked for these answers too, on their full text. offset: the answers are
    those of the example so many places further in the step's batch, around its end (1: KTO's
    mismatched pairs, which need at least two prompts a step).
    """

    name: str
    answers: Callable[[Example], Sequence[str]]
    count: int = 1
    judged: bool = False
    offset: int = 0

    def texts(self, example: Example) -> tuple[str, ...]:
        """What an example gives, at most `count`; none where its metadata lack what is read.
        UserError where what it gives is no text."""
        where = f"example {example.id}: its {self.name} answer"
        try:
            found = self.answers(example)
            texts = (found,) if isinstance(found, str) else tuple(found or ())[: self.count]
        except KeyError:
            return ()
        except Exception as error:  # whatever a slot of the user's own raises
            fault = f"{type(error).__name__}: {error}"
            raise UserError(f"{where} can't be read ({fault}); mend the row or the slot") from error
        for text in texts:
            if not isinstance(text, str):
                kind = type(text).__name__
                raise UserError(f"{where} is {kind}, not a text; mend the row or the slot")
        return texts

    def fill(self, example: Example) -> tuple[str, ...]:
        """The `count` texts of an example; UserError where it gives fewer."""
        texts = self.texts(example)
        if len(texts) < self.count:
            some = f"{len(texts)} of the {self.count} {self.name} answers"
            raise UserError(
                f"example {example.id}: has {some if texts else f'no {self.name} answer'}, which the "
                "objective learns from; use a set that has them, or another objective"
            )
        return texts


def _chosen(example: Example) -> tuple[str, ...]:
    return () if example.chosen is None else (example.chosen,)


def _rejected(example: Example) -> tuple[str, ...]:
    return () if example.rejected is None else (example.rejected,)


def _demonstrations(example: Example) -> tuple[str, ...]:
    return example.demonstrations


def _labelled(example: Example) -> tuple[str, ...]:
    if example.label is None:
        return ()
    return _chosen(example) if example.label else _rejected(example)


SLOTS: tuple[Slot, ...] = (
    Slot("chosen", _chosen, judged=True),
    Slot("rejected", _rejected),
    Slot("demonstration", _demonstrations, judged=True),
    Slot("labelled", _labelled),
    Slot("mismatched", _labelled, offset=1),
)
"""What `Needs` asks for by a field, in the order of the columns. An objective that needs another
kind of answer brings its own, in `Needs.others`."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What an objective needs filled in before its loss can be computed: data that `collect` and
    the loop read, never a branch on a name. Reading what was not asked for is an error.

    chosen, rejected: a column each. demonstrations: that many. labelled: the one answer that
    `Batch.labels` speaks of; mismatched: the labelled answer of the next prompt beside it.
    others: slots of the objective's own.

    entropy: `policy.entropy` in the loss, with gradient; detach it where it is only a weight.
    linear_in_logp: the loss's gradient with respect to `policy.logp` depends on nothing that the
    policy says, where old_logp="loss" is at a batch's only update the loss's own. Its gradients
    may then be taken during the forward pass, which saves one product with the output layer; a
    wrong claim costs time and changes no number.
    """

    rollouts: int = 0
    chosen: bool = False
    rejected: bool = False
    rewards: bool = False
    old_logp: OldLogp = "no"
    reference_logp: bool = False
    values: bool = False
    demonstrations: int = 0
    labelled: bool = False
    mismatched: bool = False
    others: tuple[Slot, ...] = ()
    entropy: bool = False
    linear_in_logp: bool = False

    def __post_init__(self) -> None:
        if self.old_logp not in get_args(OldLogp):
            one_of = ", ".join(map(repr, get_args(OldLogp)))
            raise UserError(f"Needs(old_logp={self.old_logp!r}): must be one of {one_of}")
        names = ["rollout", *(slot.name for slot in self.data_slots)]
        for slot in self.others:
            if names.count(slot.name) > 1:
                what = f"a column named {slot.name} is there already"
                raise UserError(f"Needs(others): {what}; give the slot a name of its own")
            if slot.count < 1:
                raise UserError(f"Needs(others): {slot.name}.count={slot.count}; use at least 1")

    @property
    def data_slots(self) -> tuple[Slot, ...]:
        """The slots that the data fill, in the order of their columns after the rollouts."""
        counts = (self.chosen, self.rejected, self.demonstrations, self.labelled, self.mismatched)
        asked = zip(SLOTS, counts, strict=True)
        own = tuple(replace(slot, count=int(count)) for slot, count in asked if count)
        return own + self.others

    @property
    def slots(self) -> tuple[str, ...]:
        """The K slots of a row, by name, in their fixed order: rollouts, then what data give."""
        given = tuple(slot.name for slot in self.data_slots for _ in range(slot.count))
        return ("rollout",) * self.rollouts + given


@dataclass(frozen=True, slots=True)
class Updates:
    """How often the optimiser steps on one batch: `epochs` passes cut into `minibatches` chunks each.

    During the first `value_only_steps` steps of a run only the value head moves.
    """

    epochs: int = 1
    minibatches: int = 1
    value_only_steps: int = 0

    @property
    def count(self) -> int:
        """Optimiser updates per batch that are asked for."""
        return self.epochs * self.minibatches

    def made(self, prompts: int) -> int:
        """Optimiser updates on a batch of so many prompts: a minibatch has one at least."""
        return self.epochs * min(self.minibatches, prompts)
