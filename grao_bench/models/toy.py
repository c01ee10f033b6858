"""A model of few random weights in a checkpoint's shape, with its own tokenizer: to try things on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from grao_bench.core.devices import resolve_device, resolve_dtype
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Models, ModelsWanted
from grao_bench.core.process import loaded_once
from grao_bench.core.spec_interfaces import AdapterSpec, ModelSpec
from grao_bench.models.build import load_codec
from grao_bench.models.hub import fetched_config, is_hub_id
from grao_bench.models.policy import Policy
from grao_bench.models.tiny import train_tokenizer
from grao_bench.text.tokens import TextCodec

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
VOCABULARY = 320
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@dataclass(frozen=True)
class Toy:
    """The models of a toy run. real: the tokenizer is the checkpoint's own, so that lengths and
    templates are."""

    models: Models
    real: bool


def toy_models(spec: ModelSpec, wanted: ModelsWanted, texts: Sequence[str]) -> Toy:
    """The policy, its base and reference, in a spec's dtype and on its device.

    Of a checkpoint the configuration and the tokenizer are read, and no weights; for a model that
    is yet to be made it is a small Llama, with a tokenizer made of the texts. Global generators
    are as they were. UserError for what the checkpoint's family or tokenizer can't do.
    """
    path, longest = getattr(spec, "path", None), wanted.max_prompt_tokens
    if path is None:
        tokenizer = train_tokenizer([*texts], VOCABULARY)
        tokenizer.chat_template = TEMPLATE
        codec = TextCodec(tokenizer, spec.prompt_format, longest)
    else:
        read = partial(load_codec, spec, longest)
        codec = loaded_once(("toy codec", path, spec.prompt_format, spec.end_token, longest), read)
    config = None if path is None else _config(path, getattr(spec, "revision", None))
    policy = _policy(spec, wanted, config, codec.tokenizer, wanted.value_head)
    base = _policy(_whole(spec), wanted, config, codec.tokenizer, value_head=False)
    base.requires_grad_(False)
    models = Models(policy, base if wanted.reference else None, base, codec)
    return Toy(models, real=path is not None)


def _whole(spec: ModelSpec) -> ModelSpec:
    """The model without an adapter."""
    without: ModelSpec = replace(spec, adapter=None)  # type: ignore[type-var]
    return without


def _config(path: str, revision: str | None) -> Any:
    """A checkpoint's configuration; None for what transformers can't read (a GGUF file)."""
    from transformers import AutoConfig

    here = Path(path).expanduser()
    with suppress(Exception):  # what is wrong with a checkpoint is said when it is looked at
        folder = fetched_config(path, revision) if is_hub_id(str(here)) else str(here)
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return None


def _policy(
    spec: ModelSpec,
    wanted: ModelsWanted,
    config: Any,
    tokenizer: Any,
    value_head: bool,
) -> Policy:
    from transformers import AutoModelForCausalLM

    device = resolve_device(spec.device)
    dtype = resolve_dtype(spec.dtype, device)

    def policy(config: Any, adapter: AdapterSpec | None) -> Policy:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).to(dtype).to(device)
        if adapter is not None:
            adapter.attach(model.requires_grad_(False), 0)
        temperature, most = wanted.logp_temperature, wanted.tokens_per_forward
        return Policy(model, temperature, value_head, most, wanted.gradient_checkpointing)

    if config is not None:
        try:
            return policy(_shrunk(config), spec.adapter)
        except UserError as error:
            if error.__context__ is None:
                raise  # what this kind of model can't do, at any size
        except Exception:
            pass
    return policy(_llama(tokenizer), None)


def _llama(tokenizer: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=max(len(tokenizer), VOCABULARY),
        max_position_embeddings=2**15,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
        **{name: size for name, size in SMALL.items() if not name.startswith("moe")},
    )


def _shrunk(config: Any) -> Any:
    """The configuration with few and small layers. The vocabulary and the context are the same."""
    small = deepcopy(config.get_text_config())
    heads = getattr(small, "num_key_value_heads", None) == small.num_attention_heads
    sizes = SMALL | ({"num_key_value_heads": SMALL["num_attention_heads"]} if heads else {})
    if hasattr(small, "kv_lora_rank"):  # latent attention has widths of its own
        del sizes["head_dim"]
    for name, size in sizes.items():
        if getattr(small, name, None) is not None:
            setattr(small, name, size)
    if getattr(small, "layer_types", None):
        small.layer_types = small.layer_types[: SMALL["num_hidden_layers"]]
    return small
