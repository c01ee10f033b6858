"""A base model from a folder, a GGUF file or a hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from grao_bench.core.devices import resolve_device
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Models, ModelsWanted, Ranks
from grao_bench.core.provenance import content_digest
from grao_bench.core.spec_interfaces import AdapterSpec, ModelSpec
from grao_bench.core.types import LogpTemperature, PromptFormat
from grao_bench.core.values import READS
from grao_bench.models.adapters import adapter_config, is_adapter
from grao_bench.models.build import build_models
from grao_bench.models.load import check_causal_lm, local
from grao_bench.models.of_run import model_of

Progress = Callable[[int, int, float], None]
"""Called with (step, steps, loss) while a base is pre-trained."""


@dataclass(frozen=True, kw_only=True)
class HFModel:
    """Any causal LM. path: a folder, a GGUF file or a hub id. start_from: a run's folder, whose
    trained model replaces the base (SFT, then RL).

    revision: a branch, tag or commit of a hub id; null is its main branch. Folders have none.
    prompt_format: `chat` uses the tokenizer's chat template, `hh` the dialogue text of HH-RLHF.
    end_token: the text of the token that closes an answer; None finds it: what closes an
    assistant's turn in the chat template's history, or else the tokenizer's own.
    dtype `auto` is bfloat16 where the hardware has it; half-precision weights are updated through float32 copies.
    adapter: what trains in place of the weights, which stay as they are (`LoRA`); None: they train.
    logp_temperature divides the logits of the loss's log-probabilities: see `LogpTemperature`.
    """

    code_revision: ClassVar[int] = 1

    name: str
    path: str = field(metadata={READS: lambda spec, sets: content_digest(spec.path)})
    revision: str | None
    start_from: str | None = field(metadata={READS: lambda spec, sets: start_digest(spec)})
    prompt_format: PromptFormat
    dtype: Literal["float32", "bfloat16", "float64", "auto"]
    device: str
    logp_temperature: LogpTemperature
    end_token: str | None
    adapter: AdapterSpec | None

    @property
    def corpus_files(self) -> tuple[str, ...]:
        """None: nothing is pre-trained."""
        return ()

    def check(self) -> None:
        """UserError for a checkpoint that can't be had or is no whole causal LM. Reads headers; of
        a hub id its configuration."""
        resolve_device(self.device)
        check_start(self.start_from)
        check_causal_lm(self.path, self.revision)
        if self.adapter is not None:
            self.adapter.check()

    def checkpoint(self, corpus: Callable[[], list[str]], progress: Progress | None = None) -> str:
        """Where the base lies, downloaded now if it must be; the corpus is not read."""
        return started_from(self.start_from) or local(self.path, self.revision)

    def build(self, ranks: Ranks, wanted: ModelsWanted) -> Models:
        """See `build_models`; every process holds the whole models."""
        return build_models(self, wanted)


def check_start(run: str | None) -> None:
    """UserError where a run given as model.start_from has no model or adapter to start from."""
    folder = started_from(run)
    if folder is not None:
        try:
            check = adapter_config if is_adapter(folder) else check_causal_lm
            check(folder)
        except UserError as error:
            raise UserError(f"model.start_from={run}: {error}") from None


def started_from(run: str | None) -> str | None:
    """The model folder of a run given as model.start_from; UserError if it holds none."""
    if run is None:
        return None
    return str(model_of(run, "model.start_from"))


def start_digest(spec: ModelSpec) -> dict[str, str]:
    """Of the weights that `start_from` names, which may have been made anew in their place."""
    return {} if spec.start_from is None else content_digest(str(Path(spec.start_from) / "model"))
