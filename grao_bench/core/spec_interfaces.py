"""What a configuration builds: the protocols of specs, each a frozen dataclass whose `build` makes the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from grao_bench.core.interfaces import Codec, Dataset, Models, ModelsWanted, Ranks, RewardSource, RolloutEngine, Tracker
from grao_bench.core.types import (
    LogpTemperature,
    PromptFormat,
)


@runtime_checkable
class DataSpec(Protocol):
    """A data set as a value: what the config holds. `build` reads or generates it."""

    @property
    def name(self) -> str: ...
    @property
    def provides(self) -> frozenset[str]:
        """The slots that such a set can fill, by name, known without reading it (a `ClassVar`):
        `chosen`, `rejected`, ... What this one's examples hold is looked at once it is built."""
        ...

    def build(self) -> Dataset:
        """Reads or makes the set; UserError names the file and line of what is wrong."""
        ...

    def corpus(self) -> list[str]:
        """Documents for pre-training a tiny base, each a dialogue in the text format "\\n\\nHuman: ...\\n\\nAssistant: ..." or plain text.
        Holds nothing of dev or test. Sets that share a base share this corpus."""
        ...

    def siblings(self) -> tuple[DataSpec, ...]:
        """The sets that a model trained on this one is evaluated on, itself among them (helpful and harmless)."""
        ...


@runtime_checkable
class AdapterSpec(Protocol):
    """A few weights that train beside a model's frozen ones, as a value."""

    def check(self) -> None:
        """UserError for what can't be, known before anything is loaded."""
        ...

    def attach(self, model: Any, seed: int, heads: Sequence[str] = ()) -> None:
        """Put a new adapter into the model, which is frozen but for it and for its `heads`, modules
        that train in full."""
        ...

    def go_on(self, model: Any, folder: Path) -> None:
        """Put a saved adapter into the model, to be trained further; UserError where it is not of
        these values."""
        ...


@runtime_checkable
class ModelSpec(Protocol):
    """Where a base model comes from, as a value."""

    @property
    def name(self) -> str: ...
    @property
    def corpus_files(self) -> tuple[str, ...]: ...
    @property
    def start_from(self) -> str | None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def prompt_format(self) -> PromptFormat: ...
    @property
    def end_token(self) -> str | None:
        """The text of the token that closes an answer; None: the one that closes a turn in the
        chat template, or the tokenizer's."""
        ...

    @property
    def logp_temperature(self) -> LogpTemperature: ...

    @property
    def adapter(self) -> AdapterSpec | None: ...

    def check(self) -> None:
        """UserError for what can be known to be wrong without reading weights."""
        ...

    def checkpoint(self, corpus: Callable[[], list[str]], progress: Callable[[int, int, float], None] | None = None) -> str:
        """The folder or hub id of the base, made first if it must be from the documents of `corpus` (progress: step, steps, loss)."""
        ...

    def build(self, ranks: Ranks, wanted: ModelsWanted) -> Models:
        """The models, loaded once, for these processes; UserError for what can't be had."""
        ...


@runtime_checkable
class RolloutSpec(Protocol):
    """A rollout engine as a value."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def min_p(self) -> float: ...
    @property
    def stop(self) -> Sequence[str] | None:
        """Texts that an answer ends before; None for those of the prompt format."""
        ...

    @property
    def tells_logp(self) -> bool:
        """Whether its answers carry the log-probabilities of their tokens."""
        ...

    def build(self, codec: Codec) -> RolloutEngine:
        """An engine, once for a run; it has no policy before its first `sync`."""
        ...


@runtime_checkable
class RewardSpec(Protocol):
    """A reward source as a value."""

    def needs_reference(self, data: DataSpec) -> bool:
        """Whether it reads the example's reference to score an answer to that set. A source that
        does not scores sets of prompts alone too."""
        ...

    def check(self, data: DataSpec) -> None:
        """UserError if this source can't score that set; cheap, called before anything is trained."""
        ...

    def build(self, data: DataSpec) -> RewardSource:
        """The source for that set."""
        ...


@runtime_checkable
class TrackingSpec(Protocol):
    """A tracker as a value."""

    def build(self, folder: Path, group: str, job_type: str, name: str, config: Mapping[str, Any]) -> Tracker:
        """Starts tracking a run."""
        ...
