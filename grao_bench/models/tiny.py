"""The embedded base: a small Llama with its own BPE tokenizer, pre-trained by the product itself on the data's corpus.

It is made once and cached in the user's cache folder under a hash of its configuration, its corpus
and TinyModel.revision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from grao_bench.core.batching import pad_rows
from grao_bench.core.devices import resolve_device
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Models, ModelsWanted, Ranks
from grao_bench.core.ops import stream_seed
from grao_bench.core.process import process_settings
from grao_bench.core.provenance import content_digest
from grao_bench.core.spec_interfaces import AdapterSpec
from grao_bench.core.types import LogpTemperature
from grao_bench.core.values import READS
from grao_bench.models.build import build_models
from grao_bench.models.cache import cache_folder, made_once
from grao_bench.models.hf import Progress, check_start, start_digest, started_from

END, PAD = "<|end|>", "<|pad|>"


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A Llama of hidden_size, layers and heads over a byte-level BPE of vocab_size, tied embeddings.

    Pre-training: `steps` steps of `batch_size` documents, AdamW at `learning_rate` decaying linearly to 5%. `corpus` lists more files
    (.txt, or .jsonl with a "text" key) that join the data's own corpus. `seed` belongs to the base and never follows the run's seed.
    `start_from`: a run's folder, whose trained model replaces the base. The other fields are as in HFModel.
    """

    revision: ClassVar[int] = 1

    name: str
    hidden_size: int
    layers: int
    heads: int
    vocab_size: int
    max_positions: int
    steps: int
    batch_size: int
    learning_rate: float
    corpus: Sequence[str] = field(metadata={READS: lambda spec, sets: content_digest(*spec.corpus)})
    seed: int
    start_from: str | None = field(metadata={READS: lambda spec, sets: start_digest(spec)})
    prompt_format: Literal["hh"]
    dtype: Literal["float32", "float64"]
    device: str
    logp_temperature: LogpTemperature
    adapter: AdapterSpec | None

    def __post_init__(self) -> None:
        if self.heads < 1 or self.hidden_size % (2 * self.heads):  # rotary embeddings turn pairs of dimensions
            raise UserError(f"model.heads={self.heads}: model.hidden_size={self.hidden_size} must be a multiple of twice the heads")

    @property
    def end_token(self) -> None:
        """Its tokenizer's own."""

    @property
    def corpus_files(self) -> tuple[str, ...]:
        """The files whose documents join the data's corpus."""
        return tuple(self.corpus)

    def check(self) -> None:
        """UserError where start_from has no whole model."""
        check_start(self.start_from)
        if self.adapter is not None:
            self.adapter.check()

    def checkpoint(self, corpus: Callable[[], list[str]], progress: Progress | None = None) -> str:
        """The folder of the base, made now if it is not in the cache; one process makes it while others wait."""
        from_run = started_from(self.start_from)
        if from_run:
            return from_run
        documents = corpus()
        if not documents:
            raise UserError("model=tiny: the data has no corpus to pre-train on; use model=hf or give model.corpus files")

        def make(aside: Path) -> None:
            # cells of other settings share it: its bits are those of its fields alone
            with process_settings(threads=1, float32="highest"):
                model, tokenizer = self.pretrain(documents, progress)
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)

        return str(made_once(self._place(documents), make))

    def is_made(self, corpus: Callable[[], list[str]]) -> bool:
        """Whether the base is there, and `checkpoint` makes nothing."""
        return self.start_from is not None or self._place(corpus()).is_dir()

    def _place(self, documents: list[str]) -> Path:
        return cache_folder() / "tiny" / self._key(documents)

    def build(self, ranks: Ranks, wanted: ModelsWanted) -> Models:
        """See `build_models`; every process holds the whole models."""
        return build_models(self, wanted)

    def pretrain(self, documents: list[str], progress: Progress | None = None) -> tuple[Any, Any]:
        """(model, tokenizer) trained from scratch on the documents, each followed by the end token."""
        tokenizer = train_tokenizer(documents, self.vocab_size)
        encoded = [np.array([*ids[: self.max_positions - 1], tokenizer.eos_token_id]) for ids in tokenizer(documents)["input_ids"]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self.seed, "tiny", "weights"))
            model = self._architecture(tokenizer)
        model.to(resolve_device(self.device))
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=self.steps)
        for step, rows in enumerate(length_bucketed(encoded, self.batch_size, self.steps, stream_seed(self.seed, "tiny", "order")), 1):
            loss = _language_model_loss(model, [encoded[row] for row in rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if progress is not None:
                progress(step, self.steps, loss.item())
        return model.eval(), tokenizer

    def _architecture(self, tokenizer: Any) -> Any:
        from transformers import LlamaConfig, LlamaForCausalLM

        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=self.hidden_size,
                intermediate_size=4 * self.hidden_size,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                num_key_value_heads=self.heads,
                max_position_embeddings=self.max_positions,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ).to(getattr(torch, self.dtype))

    def _key(self, documents: list[str]) -> str:
        """16 hex digits: the fields that shape the weights, the documents, and the revision."""
        others = ("name", "start_from", "logp_temperature", "corpus", "adapter")
        shaping = {key: value for key, value in asdict(self).items() if key not in others}
        digest = hashlib.sha256(json.dumps(shaping, sort_keys=True, default=list).encode())
        digest.update(f"recipe {self.revision}\0".encode())
        for document in documents:
            digest.update(document.encode() + b"\0")
        return digest.hexdigest()[:16]


def train_tokenizer(documents: list[str], vocab_size: int) -> Any:
    """A byte-level BPE tokenizer of at most vocab_size tokens, with an end and a pad token and no token added by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[END, PAD], initial_alphabet=sorted(alphabet), show_progress=False)
    bpe.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False)


def length_bucketed(encoded: list[np.ndarray], batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """`steps` batches of row numbers of similar length: each epoch is shuffled, cut into pools of 50 batches, sorted inside a pool.

    A batch size of 16 was decisive for a model this small; padding is kept low by the sorting, not by packing.
    """
    random = np.random.default_rng(seed)
    lengths = np.array([len(ids) for ids in encoded])
    batches: list[list[int]] = []
    while len(batches) < steps:
        order = random.permutation(len(encoded))
        epoch: list[list[int]] = []
        for start in range(0, len(order), 50 * batch_size):
            pool = order[start : start + 50 * batch_size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            epoch += [pool[i : i + batch_size].tolist() for i in range(0, len(pool), batch_size)]
        batches += [epoch[i] for i in random.permutation(len(epoch))]
    return batches[:steps]


def _language_model_loss(model: Any, rows: list[np.ndarray]) -> torch.Tensor:
    """Mean cross-entropy over every token of right-padded documents."""
    labels = pad_rows([row.tolist() for row in rows], -100)[0].to(model.device)
    # right padding needs no attention mask under causal attention: no real token can see a pad
    logits = model(input_ids=labels.clamp(min=0), use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
