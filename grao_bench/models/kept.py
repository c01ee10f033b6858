"""A base whose weights lie in a folder with what they were made from: the bases that committed
results start from, as each processor would pre-train another one.

    <folder>/model.safetensors, tokenizer.json, ...   as transformers saves and loads them
    <folder>/base.json                                KeptRecord
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Models, ModelsWanted, Ranks
from grao_bench.core.provenance import content_digest, tensors_fingerprint
from grao_bench.core.spec_interfaces import AdapterSpec
from grao_bench.core.specs import conf_dir
from grao_bench.core.types import LogpTemperature
from grao_bench.core.values import READS
from grao_bench.models.build import build_models
from grao_bench.models.hf import Progress, check_start, start_digest, started_from
from grao_bench.models.load import check_causal_lm

RECORD = "base.json"


@dataclass(frozen=True, kw_only=True)
class KeptRecord:
    """What a kept base is. weights: sha256 of its tensors, as a run's record has its base's;
    corpus: of the documents that it was pre-trained on; made: how, by configuration key;
    environment: as a run's (processor, commit, versions)."""

    weights: str
    corpus: str
    documents: int
    made: dict[str, Any]
    environment: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class KeptModel:
    """A base from a folder with base.json; `path` is looked for from the working folder, then from
    the project's root. The other fields are as in HFModel.

    Where the data have a corpus, the base must have been made from that very corpus.
    """

    revision: ClassVar[int] = 1

    name: str
    path: str = field(metadata={READS: lambda spec, sets: _digest(spec)})
    start_from: str | None = field(metadata={READS: lambda spec, sets: start_digest(spec)})
    prompt_format: Literal["hh", "chat"]
    dtype: Literal["float32", "float64"]
    device: str
    logp_temperature: LogpTemperature
    adapter: AdapterSpec | None

    @property
    def end_token(self) -> None:
        """Its tokenizer's own."""

    @property
    def corpus_files(self) -> tuple[str, ...]:
        """None: nothing is pre-trained."""
        return ()

    @property
    def folder(self) -> Path:
        """Where it lies, if it is there."""
        here = Path(self.path).expanduser()
        return here if here.is_dir() else conf_dir().parent / here

    def check(self) -> None:
        """UserError where the folder holds no base with its record, or other weights than that
        says."""
        check_start(self.start_from)
        check_kept(self.folder, f"model.path={self.path}")
        if self.adapter is not None:
            self.adapter.check()

    def checkpoint(
        self,
        corpus: Callable[[], list[str]],
        progress: Progress | None = None,
    ) -> str:
        """The folder; UserError where the data's corpus is another than the base was made from."""
        if from_run := started_from(self.start_from):
            return from_run
        documents = corpus()
        record = read_kept(self.folder, f"model.path={self.path}")
        if documents and corpus_digest(documents) != record.corpus:
            what = "was pre-trained on another corpus than the data's"
            fix = "make it anew with python -m grao_bench.bases, or use model=tiny"
            raise UserError(f"model.path={self.path}: {what} (another world, or data.seed); {fix}")
        return str(self.folder)

    def build(self, ranks: Ranks, wanted: ModelsWanted) -> Models:
        """See `build_models`; every process holds the whole models."""
        return build_models(self, wanted)


def _digest(spec: KeptModel) -> dict[str, str]:
    """Of the folder's content, by the name that the configuration gives it: the same wherever the
    project lies."""
    return dict.fromkeys([spec.path], *content_digest(str(spec.folder)).values())


def corpus_digest(documents: Sequence[str]) -> str:
    """sha256 over the documents, in order."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.encode() + b"\0")
    return digest.hexdigest()


def file_fingerprint(folder: Path) -> str:
    """`weights_fingerprint` of the model that a folder's safetensors file holds."""
    from safetensors.torch import load_file

    return tensors_fingerprint(load_file(folder / "model.safetensors").items())


def write_kept(folder: Path, record: KeptRecord) -> None:
    """Leave base.json beside the weights."""
    text = json.dumps(asdict(record), indent=1, sort_keys=True) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def read_kept(folder: Path, key: str) -> KeptRecord:
    """base.json of a folder; UserError, naming the config's `key`, where there is none."""
    path = folder / RECORD
    try:
        return KeptRecord(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        fix = "make it with python -m grao_bench.bases"
        raise UserError(f"{key}: there is no {path}; {fix}") from None
    except (TypeError, ValueError, OSError) as error:
        raise UserError(f"{key}: {path} is no record of a base ({error})") from None


def check_kept(folder: Path, key: str) -> None:
    """UserError, naming the config's `key`, unless a folder holds the weights that its record
    names."""
    record = read_kept(folder, key)
    check_causal_lm(str(folder))
    found = file_fingerprint(folder)
    if found != record.weights:
        what = f"its weights are {found[:8]}, and {RECORD} says {record.weights[:8]}"
        raise UserError(f"{key}: {what}; restore the folder, or make it anew")
