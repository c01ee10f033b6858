"""The reference model's log-probabilities of a set's own pairs, computed once and kept on disk: cells and seeds of a sweep share them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grao_bench.core.types import Batch
from grao_bench.models.policy import Policy


class ReferenceCache:
    """Log-probabilities of the answers to a prompt, for one reference model and temperature.

    A key stands for all that a value was computed from: a row's prompt and all its answers, since these are computed together and the
    rounding of one depends on the others, and which of them it is. So a value is the same to the bit, whatever was stored before and
    whichever batch asked first. Processes may share a file.
    """

    def __init__(self, reference: Policy, identity: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.reference = reference
        self.file = folder / f"reference-{identity}.sqlite"
        self.connection = sqlite3.connect(self.file, timeout=60, isolation_level=None)
        self.connection.execute("create table if not exists logp (key blob primary key, value blob not null)")

    @torch.no_grad()
    def logp(self, batch: Batch) -> Float[Tensor, "P K T"]:
        """The reference's log-probabilities of the batch's answers, 0 outside the mask; only what is not stored yet is computed."""
        out = torch.zeros(batch.tokens.shape, dtype=torch.promote_types(self.reference.model.dtype, torch.float32))
        for row in range(batch.size):
            keys = _keys(batch, row)
            stored = [value for key in keys if (value := self._read(key)) is not None]
            if len(stored) < len(keys):
                part = batch.select([row]).trimmed()
                computed = self.reference(part).logp[0].cpu()
                stored = [computed[k][part.mask[0, k].cpu()].numpy() for k in range(len(keys))]
                self.connection.executemany(
                    "insert or ignore into logp values (?, ?)", [(key, value.tobytes()) for key, value in zip(keys, stored, strict=True)]
                )
            for k, value in enumerate(stored):
                out[row, k, : len(value)] = torch.from_numpy(value.copy())
        return out.to(batch.tokens.device)

    def _read(self, key: bytes) -> np.ndarray | None:
        found = self.connection.execute("select value from logp where key = ?", (key,)).fetchone()
        dtype = np.float64 if self.reference.model.dtype == torch.float64 else np.float32
        return None if found is None else np.frombuffer(found[0], dtype=dtype)


def _keys(batch: Batch, row: int) -> list[bytes]:
    prompt = batch.prompts[row][batch.prompt_mask[row]].tolist()
    answers = [tokens[mask].tolist() for tokens, mask in zip(batch.tokens[row], batch.mask[row], strict=True)]
    # as text, which says where one list of ids ends and the next begins
    return [hashlib.sha256(json.dumps([prompt, answers, k]).encode()).digest() for k in range(len(answers))]
