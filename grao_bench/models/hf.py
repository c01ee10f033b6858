"""A base model from a local folder or the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grao_bench.errors import UserError
from grao_bench.interfaces import Models, ModelsWanted, Ranks
from grao_bench.models.build import build_models
from grao_bench.types import PromptFormat

Progress = Callable[[int, int, float], None]
"""Called with (step, steps, loss) while a base is pre-trained."""


@dataclass(frozen=True, kw_only=True)
class HFModel:
    """Any causal LM. path: local folder or hub id. start_from: a run's folder, whose trained model replaces the base (SFT, then RL).

    prompt_format: `chat` uses the tokenizer's chat template, `hh` the dialogue text of HH-RLHF.
    dtype `auto` is bfloat16 where the hardware has it; half-precision weights are updated through float32 copies.
    logp_temperature divides the logits of every method's loss; 1 is the model's own distribution.
    """

    name: str
    path: str
    start_from: str | None
    prompt_format: PromptFormat
    dtype: Literal["float32", "bfloat16", "float64", "auto"]
    device: str
    logp_temperature: float

    @property
    def corpus_files(self) -> tuple[str, ...]:
        """None: nothing is pre-trained."""
        return ()

    def checkpoint(self, corpus: Callable[[], list[str]], progress: Progress | None = None) -> str:
        """Where the base lies; the corpus is not read."""
        return started_from(self.start_from) or self.path

    def build(self, ranks: Ranks, wanted: ModelsWanted) -> Models:
        """See `build_models`; every process holds the whole models."""
        return build_models(self, wanted)


def started_from(run: str | None) -> str | None:
    """The model folder of a run given as model.start_from; UserError if it holds none."""
    if run is None:
        return None
    folder = Path(run) / "model"
    if not folder.is_dir():
        raise UserError(f"model.start_from={run}: holds no model/; give the folder of a finished run")
    return str(folder)
