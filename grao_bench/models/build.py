"""From a model's spec to the models of a run: what is loaded, how often, and what is frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import Models, ModelsWanted
from grao_bench.core.ops import stream_seed
from grao_bench.core.spec_interfaces import AdapterSpec, ModelSpec
from grao_bench.models.adapters import (
    base_of,
    is_adapter,
    load_adapter,
    merged,
    sharing,
    whereabouts,
)
from grao_bench.models.load import load_causal_lm, load_tokenizer
from grao_bench.models.of_run import read_masters, restore
from grao_bench.models.policy import Policy
from grao_bench.text.tokens import TextCodec


def build_models(spec: ModelSpec, wanted: ModelsWanted) -> Models:
    """The policy, its base and its reference.

    Two loads, or three where the policy starts from another run's model and its start is read as
    well. With an adapter, one load of each weights that it lies on: base, reference and policy
    share them, and nothing moves them.
    """
    path = base_spec(spec).checkpoint(wanted.corpus, wanted.on_pretrain)
    start = spec.checkpoint(wanted.corpus)
    base, codec = load_policy(spec, path, wanted)
    base.requires_grad_(False)
    before: Callable[[], Any] = partial(_whole, spec, path, start)
    if spec.adapter is None:
        model = before()
    else:
        model, before = _adapted(spec, spec.adapter, base.model, path, start, wanted.seed)
    policy = Policy(
        model,
        wanted.logp_temperature,
        wanted.value_head,
        wanted.tokens_per_forward,
        wanted.gradient_checkpointing,
    )
    reference = None
    if wanted.reference:
        own = start != path
        reference = _frozen(before(), wanted) if own else base
    return Models(policy, reference, base, codec)


def base_spec(spec: ModelSpec) -> ModelSpec:
    """The model without `start_from`."""
    base: ModelSpec = replace(spec, start_from=None)  # type: ignore[type-var]
    return base


def load_policy(spec: ModelSpec, path: str, wanted: ModelsWanted) -> tuple[Policy, TextCodec]:
    """A policy without a value head, and the codec of its tokenizer. An adapter's folder gives it
    on the model that it was trained on."""
    if is_adapter(path):
        own = base_spec(spec).checkpoint(wanted.corpus, wanted.on_pretrain)
        model, tokenizer = load_causal_lm(base_of(Path(path), own), spec.dtype, spec.device)
        load_adapter(model, Path(path))
    else:
        model, tokenizer = load_causal_lm(path, spec.dtype, spec.device)
    codec = _codec(spec, tokenizer, model.generation_config, wanted.max_prompt_tokens)
    temperature, most = wanted.logp_temperature, wanted.tokens_per_forward
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


def _frozen(model: Any, wanted: ModelsWanted) -> Policy:
    temperature, most = wanted.logp_temperature, wanted.tokens_per_forward
    return Policy(model, temperature, False, tokens_per_forward=most).requires_grad_(False)


def _whole(spec: ModelSpec, path: str, start: str) -> Any:
    """The model that training starts from, all of whose weights train: of a run with an adapter,
    the two as one. UserError in half precision, which would round the adapter away."""
    if not is_adapter(start):
        model = load_causal_lm(start, spec.dtype, spec.device)[0]
        if spec.start_from is not None:
            restore(model, read_masters(spec.start_from))
        return model
    model = load_causal_lm(base_of(Path(start), path), spec.dtype, spec.device)[0]
    if torch.finfo(model.dtype).bits < 32:
        what = f"{start} holds an adapter, most of which {spec.dtype} weights would round away"
        fix = "use model.dtype=float32, or model.adapter=lora with its rank, alpha and targets"
        raise UserError(f"model.start_from={spec.start_from}: {what}; {fix}")
    load_adapter(model, Path(start))
    return merged(model).requires_grad_(True)


def _adapted(
    spec: ModelSpec,
    adapter: AdapterSpec,
    base: Any,
    path: str,
    start: str,
    seed: int,
) -> tuple[Any, Callable[[], Any]]:
    """(a model whose adapter trains: a new one, or the start's own; what gives the model that it
    starts from). All lie on the same weights: the base's, unless the start has others."""
    below, goes_on = base, is_adapter(start)
    lies_on = base_of(Path(start), path) if goes_on else start
    if whereabouts(lies_on) != whereabouts(path):
        below = load_causal_lm(lies_on, spec.dtype, spec.device)[0].requires_grad_(False)
    model = sharing(below)
    if goes_on:
        adapter.go_on(model, Path(start))
    else:
        adapter.attach(model, stream_seed(seed, "adapter"))

    def before() -> Any:
        first = sharing(below)
        if goes_on:
            load_adapter(first, Path(start))
        return first

    return model, before
