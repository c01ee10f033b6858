"""Which models the shared-prefix engine takes: it tries each when it is loaded."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from grao_bench.core.errors import UserError
from grao_bench.models.attention import NAME, use_shared_prefix

from .small import FAMILIES, WORDS

SMALL = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
REFUSED = {
    "positions inside attention": (FalconForCausalLM, FalconConfig, {}, "its prompts see each other"),
    "convolutions": (Lfm2ForCausalLM, Lfm2Config, {"layer_types": ["conv", "full_attention"]}, "its prompts see each other"),
    "soft-capped attention": (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 8}, "soft-capped attention and attention sinks"),
    "its own attention": (BloomForCausalLM, BloomConfig, {"n_head": 2, "n_layer": 2}, "can't run prompts packed in one row"),
    "no attention": (MambaForCausalLM, MambaConfig, {}, "can't run prompts packed in one row"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_models_that_would_give_wrong_numbers_are_refused(kind):
    """In one line, and the model stays as it was: it can still be run by itself."""
    model_class, config_class, fields, message = REFUSED[kind]
    torch.manual_seed(0)
    model = model_class(config_class(**(SMALL | fields))).eval()
    ids = torch.tensor([[6, 7, 8]])
    before, implementation = model(input_ids=ids).logits, model.config._attn_implementation

    for _ in range(2):
        with pytest.raises(UserError, match=message) as caught:
            use_shared_prefix(model)
        assert "\n" not in str(caught.value)

    assert model.config._attn_implementation == implementation
    assert torch.equal(model(input_ids=ids).logits, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", FAMILIES)
def test_those_that_fit_are_taken_in_every_precision(kind, dtype):
    model = FAMILIES[kind]().to(dtype).train()
    use_shared_prefix(model)
    assert model.config._attn_implementation == NAME
    assert model.training, "as it came"
