"""From a model's spec to the models of a run: what is loaded, how often, and what is frozen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from grao_bench.data.tokens import TextCodec
from grao_bench.errors import UserError
from grao_bench.interfaces import Models, ModelSpec, ModelsWanted
from grao_bench.models.load import load_causal_lm, load_tokenizer
from grao_bench.models.policy import Policy


def build_models(spec: ModelSpec, wanted: ModelsWanted) -> Models:
    """The policy, its base and its reference: two loads, or three where the policy starts from
    another run's model and its start is read as well."""
    path = base_spec(spec).checkpoint(wanted.corpus, wanted.on_pretrain)
    start = spec.checkpoint(wanted.corpus)
    base, codec = load_policy(spec, path, wanted)
    base.requires_grad_(False)
    policy = Policy(
        load_causal_lm(start, spec.dtype, spec.device)[0],
        spec.logp_temperature,
        wanted.value_head,
        wanted.tokens_per_forward,
        wanted.gradient_checkpointing,
    )
    reference = None
    if wanted.reference:
        reference = base
        if start != path:
            reference = load_policy(spec, start, wanted)[0].requires_grad_(False)
    return Models(policy, reference, base, codec)


def base_spec(spec: ModelSpec) -> ModelSpec:
    """The model without `start_from`."""
    base: ModelSpec = replace(spec, start_from=None)  # type: ignore[type-var]
    return base


def load_policy(spec: ModelSpec, path: str, wanted: ModelsWanted) -> tuple[Policy, TextCodec]:
    """A policy without a value head, and the codec of its tokenizer."""
    model, tokenizer = load_causal_lm(path, spec.dtype, spec.device)
    codec = _codec(spec, tokenizer, model.generation_config, wanted.max_prompt_tokens)
    temperature, most = spec.logp_temperature, wanted.tokens_per_forward
    return Policy(model, temperature, value_head=False, tokens_per_forward=most), codec


def load_codec(spec: ModelSpec, max_prompt_tokens: int) -> TextCodec:
    """How the model of a spec reads, without its weights. UserError for one that is made first."""
    path = getattr(spec, "path", None)
    if path is None:
        what = f"model={spec.name}: its tokenizer is made with its weights"
        raise UserError(f"{what}; give a folder or a hub id")
    tokenizer, generation = load_tokenizer(path, getattr(spec, "revision", None))
    return _codec(spec, tokenizer, generation, max_prompt_tokens)


def _codec(spec: ModelSpec, tokenizer: Any, generation: Any, max_prompt_tokens: int) -> TextCodec:
    """All of a generation config's ends stop an answer."""
    ends = generation.eos_token_id
    stop_tokens = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return TextCodec(
        tokenizer,
        spec.prompt_format,
        max_prompt_tokens,
        stop_tokens,
        spec.end_token,
    )
