"""Small batches, models and tokenizers that several test files share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from grao_bench.core.batching import make_batch
from grao_bench.core.types import Answer, Batch, Needs, PolicyOutput

END, PAD, UNKNOWN = 0, 1, 2
WORDS = ("<|end|>", "<|pad|>", "<|unk|>", "Human", "Assistant", ":", "red", "green", "blue", "good", "bad", "one", "two", "three")


@dataclass(frozen=True)
class Weights:
    """What an engine draws from, without a policy around it."""

    model: Any


def synced(engine: Any, model: Any, step: int = 0) -> Any:
    """The engine, told to draw from this model."""
    engine.sync(Weights(model), step)
    return engine


def rectangle(needs: Needs, lengths: Sequence[Sequence[int]], seed: int = 0) -> Batch:
    """A batch of random ids whose answers have these lengths [P][K]; prompts of 1 to 4 tokens."""
    random = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(6, 20, (1 + p % 4,), generator=random).tolist() for p in range(len(lengths))]
    rows = [[Answer("", tuple(torch.randint(6, 20, (n,), generator=random).tolist()), finished=True) for n in row] for row in lengths]
    return make_batch(prompts, rows, [f"e{p}" for p in range(len(lengths))], needs, PAD)


def padded(rows: Sequence[Sequence[Sequence[float]]]) -> torch.Tensor:
    """Ragged numbers [P][K][t] as a float64 tensor [P K T], 0 where there are none: columns for `rectangle`."""
    width = max(len(answer) for row in rows for answer in row)
    return torch.tensor([[[*answer, *[0.0] * (width - len(answer))] for answer in row] for row in rows], dtype=torch.float64)


def moved(needs: Needs, batch: Batch, seed: int = 0) -> tuple[Batch, PolicyOutput]:
    """(the batch with random columns, exactly those that `needs` names; a policy that has moved from where they were taken), in float64.

    What the policy says is a leaf that asks for its gradient. Everything is 0 outside the mask, as Policy leaves it.
    """
    random = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> torch.Tensor:
        return torch.where(batch.mask, scale * torch.randn(batch.mask.shape, generator=random, dtype=torch.float64), 0.0)

    old, values = torch.where(batch.mask, -1.5 + noise(0.5), 0.0), noise(1.0)
    rewards = torch.randint(-1, 2, batch.mask.shape[:2], generator=random).double()
    rewards[:, 0] += 0.25  # no group is all equal
    reference, logp, new_values = old + noise(0.4), old + noise(0.3), values + noise(0.3)
    filled = batch.fill(
        rewards=rewards if needs.rewards else None,
        old_logp=old if needs.old_logp != "no" else None,
        reference_logp=reference if needs.reference_logp else None,
        old_values=values if needs.values else None,
    )
    policy = PolicyOutput(logp.requires_grad_(), {"values": new_values.requires_grad_()} if needs.values else {})
    return filled, policy


def tiny_llama(vocab: int = len(WORDS), seed: int = 0, **changed: Any) -> LlamaForCausalLM:
    """A random Llama of hidden size 16 whose next-token distributions are far from uniform."""
    return _random(LlamaForCausalLM, LlamaConfig, vocab, seed, changed)


def tiny_qwen2(vocab: int = len(WORDS), seed: int = 0, **changed: Any) -> Qwen2ForCausalLM:
    """The same as a Qwen2, with grouped-query attention."""
    return _random(Qwen2ForCausalLM, Qwen2Config, vocab, seed, {"num_key_value_heads": 1} | changed)


def tiny_qwen3(vocab: int = len(WORDS), seed: int = 0, **changed: Any) -> Qwen3ForCausalLM:
    """A Qwen3, with normalised queries and keys."""
    return _random(Qwen3ForCausalLM, Qwen3Config, vocab, seed, {"num_key_value_heads": 1, "head_dim": 8} | changed)


def tiny_gemma3(vocab: int = len(WORDS), seed: int = 0, **changed: Any) -> Gemma3ForCausalLM:
    """A Gemma 3: one layer sees 3 positions, the other all; its logits are capped softly."""
    fields = {
        "num_key_value_heads": 1,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"],
        "final_logit_softcapping": 5.0,
    }
    return _random(Gemma3ForCausalLM, Gemma3TextConfig, vocab, seed, fields | changed)


def tiny_deepseek(vocab: int = len(WORDS), seed: int = 0, **changed: Any) -> DeepseekV3ForCausalLM:
    """A mixture of experts with latent attention, of the DeepSeek-V3 type."""
    fields = {
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 6,
        "experts_implementation": "eager",  # grouped_mm has no float64
    }
    return _random(DeepseekV3ForCausalLM, DeepseekV3Config, vocab, seed, fields | changed)


FAMILIES = {"qwen2": tiny_qwen2, "qwen3": tiny_qwen3, "llama": tiny_llama, "gemma3": tiny_gemma3, "deepseek_v3": tiny_deepseek}
"""A tiny random model of each architecture that the engine is tested on."""


def _random(kind: Any, config: Any, vocab: int, seed: int, changed: dict[str, Any]) -> Any:
    fields = {
        "vocab_size": vocab,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "tie_word_embeddings": True,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config(**(fields | changed))).eval()


def word_tokenizer(pad: str = "<|pad|>") -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; pad="<|end|>" makes one whose pad token is its end token, as many have."""
    words = Tokenizer(models.WordLevel({word: token for token, word in enumerate(WORDS)}, unk_token="<|unk|>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", pad_token=pad, unk_token="<|unk|>")
