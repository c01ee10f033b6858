"""The reference model's log-probabilities of a set's own pairs, computed once and kept on disk: cells and seeds of a sweep share them."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grao_bench.models.policy import Policy
from grao_bench.types import Batch


class ReferenceCache:
    """Log-probabilities by (prompt ids, answer ids), for one reference model and temperature.

    Each row is computed by itself, so that what is stored does not depend on the batch that asked first. Processes may share a file.
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
            keys = [_key(batch, row, k) for k in range(len(batch.slots))]
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


def _key(batch: Batch, row: int, k: int) -> bytes:
    digest = hashlib.sha256()
    for ids in (batch.prompts[row][batch.prompt_mask[row]], batch.tokens[row, k][batch.mask[row, k]]):
        digest.update(ids.cpu().numpy().astype(np.int64).tobytes() + b"\0")
    return digest.digest()
