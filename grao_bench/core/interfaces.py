"""The protocols through which the parts meet. Whoever implements one never imports another's implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from grao_bench.core.records import Criteria, JudgeCounts
from grao_bench.core.types import (
    Answer,
    Batch,
    Example,
    Loss,
    Needs,
    PolicyOutput,
    Prompt,
    Turn,
    Updates,
    Verdict,
)

Row = TypeVar("Row")


@runtime_checkable
class Objective(Protocol):
    """An alignment objective: a frozen dataclass of hyper-parameters. `name` labels its row in the tables."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Needs: ...
    @property
    def updates(self) -> Updates: ...

    def prepare(self, batch: Batch) -> Batch:
        """Once per batch, without gradient: rewards become advantages."""
        ...

    def loss(self, policy: PolicyOutput, batch: Batch) -> Loss:
        """Pure, per prompt, in named parts."""
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. temperature 0 is greedy; max_new_tokens counts the end token.

    top_p 1, top_k 0 and min_p 0 keep the whole vocabulary. Otherwise, in this order, as transformers does: the top_k likeliest tokens; of
    those the fewest whose probability reaches top_p; of those the ones at least min_p times as likely as the likeliest.
    stop: an answer ends before the first of these texts, finished; the texts are no part of it.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()


@runtime_checkable
class Sampled(Protocol):
    """What an engine draws from: whatever has a transformers causal LM, such as a Policy."""

    @property
    def model(self) -> Any: ...


@runtime_checkable
class RolloutEngine(Protocol):
    """Draws answers from the policy that it was last told of."""

    @property
    def reproducible(self) -> bool:
        """Whether an answer is a function of (policy, sampling, seed, prompt with its occurrence,
        which of its samples) alone: whatever else is drawn beside it, and however fast the machine
        is."""
        ...

    def sync(self, policy: Sampled, step: int) -> None:
        """From now on, answers are this policy's, as it is after `step` steps of training. To be
        called again when its weights have moved."""
        ...

    def sample(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Answer]]:
        """n answers for each prompt, in the prompts' order. n = 0 gives an empty list per prompt.

        The same prompts, n, sampling and seed give the same draws. A prompt that stands there
        several times gets answers of its own each time (see `Prompt.occurrence`).
        """
        ...


@dataclass(frozen=True, slots=True)
class RewardRequest:
    """One answer to be scored against its example, whose `reference` is the answer that it is
    compared with; a set may have none.

    num_tokens: its length in the policy's tokens, the end token counted; None where whoever asks has no tokens.
    tokens: those tokens, None likewise. step of steps: how long the policy has trained that gave
    the answers of the request's batch; None where a judge is asked.
    """

    example: Example
    text: str
    finished: bool
    num_tokens: int | None = None
    tokens: tuple[int, ...] | None = None
    step: int | None = None
    steps: int | None = None


@runtime_checkable
class RewardSource(Protocol):
    """Scores answers.

    A pairwise source says R(answer, reference) in {-1, 0, +1}, so R(y, y) = 0; a pointwise one says a score r(answer).
    """

    @property
    def name(self) -> str: ...
    @property
    def pairwise(self) -> bool: ...
    @property
    def fingerprint(self) -> str:
        """What tells two sources of one name apart: the same fingerprint gives the same verdicts."""
        ...

    @property
    def tie_margin(self) -> float:
        """Two pointwise scores closer than this are a tie when they are compared."""
        ...

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; its reward is None where the source could say nothing
        of the answer."""
        ...


@runtime_checkable
class TellingSource(Protocol):
    """A reward source that has more to tell a run than its verdicts, such as an LLM judge."""

    def statistics(self) -> dict[str, JudgeCounts]:
        """What each judge counted over everything it scored so far, by the judge's name, for the
        run's record."""
        ...

    def texts(self) -> dict[str, str]:
        """File name -> text, for the run's folder, the same for every run that asks alike."""
        ...


@runtime_checkable
class ItemisedSource(Protocol):
    """A reward source that can say how its number comes about from the parts of its verdicts."""

    @property
    def criteria(self) -> Criteria | None:
        """The parts that add up to its number, each with its kind; None where they don't."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A set of prompts and of what is known about them, split; `dropped` counts what was left out,
    by reason. `notes`: what a person should know of how it was read, a line each."""

    name: str
    subset: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    dropped: Mapping[str, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Seen:
    """What a policy without a model may see, besides the prompt and what its example holds.

    train: the training examples. base: example id -> the base model's answer to that prompt.
    unfinished: ids of those that the base did not end.
    """

    train: tuple[Example, ...]
    base: Mapping[str, str]
    unfinished: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Control:
    """A policy without a model, for a row that says what a judge pays for.

    label: the row's name. answer: the policy. of_base: it changes the base's answer, and leaves
    one that is not finished unfinished.
    """

    label: str
    answer: Callable[[Example, Seen], str]
    of_base: bool = False


@runtime_checkable
class ControlledData(Protocol):
    """A data set that has control policies of its own."""

    def controls(self, examples: Sequence[Example], seen: Seen) -> Sequence[Control]:
        """Those that stand below the table of these prompts, such as the best of each sort."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Text to ids and back, for one tokenizer: the ids of a prompt and of its answer, concatenated,
    are what a model reads."""

    @property
    def end_token(self) -> int: ...
    @property
    def pad_token(self) -> int: ...
    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Every token that ends an answer, `end_token` among them."""
        ...

    def prompt(self, example_id: str, turns: Sequence[Turn]) -> Prompt: ...
    def answer(
        self,
        prompt: Prompt,
        text: str,
        max_tokens: int,
        finished: bool = True,
        verbatim: bool = False,
    ) -> Answer: ...
    def text(self, tokens: Sequence[int]) -> str: ...
    def decoded(self, tokens: Sequence[int]) -> str:
        """The ids' own text, nothing left out or stripped: control tokens are spelled out."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Where metrics go besides the run folder."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def summary(self, metrics: Mapping[str, float]) -> None: ...
    def finish(self, failed: bool = False) -> None: ...


@runtime_checkable
class Ranks(Protocol):
    """The processes that train together, and which of them this one is."""

    @property
    def index(self) -> int: ...
    @property
    def count(self) -> int: ...

    def mine(self, rows: Sequence[Row]) -> Sequence[Row]:
        """This process's share of a step's rows."""
        ...


@dataclass(frozen=True)
class ModelsWanted:
    """What a run wants of its models beside their spec.

    max_prompt_tokens: a longer prompt is shortened. tokens_per_forward and
    gradient_checkpointing: see `Policy`. logp_temperature: of the loss's log-probabilities.
    value_head: the policy has one. reference: a frozen copy of what the policy starts from is read.
    corpus: the documents that a base is made from, if it must be; on_pretrain is told (step, steps,
    loss) meanwhile. seed: of a new adapter.
    """

    max_prompt_tokens: int
    tokens_per_forward: int
    gradient_checkpointing: bool
    logp_temperature: float
    value_head: bool
    reference: bool
    corpus: Callable[[], list[str]]
    on_pretrain: Callable[[int, int, float], None] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Models:
    """The models of a run, each a `grao_bench.models.policy.Policy`, and their codec.

    policy: the one that trains. base: frozen, what it is measured against. reference: frozen, what
    it started from; the same object as the base where it started from that, None where nothing
    asks for it. So equal weights are there twice, never three times: as they were, and in training.
    Under an adapter they are there once.
    """

    policy: Any
    reference: Any | None
    base: Any
    codec: Any
