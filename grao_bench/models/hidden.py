"""The decoder below every head, run on packed tokens: its last hidden states, and checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from grao_bench.core.errors import UserError
from grao_bench.models.attention import PackedLayout, prepared_mask


def hidden_states(
    model: Any,
    layout: PackedLayout,
    gradient_checkpointing: bool = False,
) -> Float[Tensor, "N H"]:
    """The last hidden state of every packed token. The model was made ready by use_shared_prefix,
    and by enable_checkpointing where only each layer's input is to be kept for the backward pass.
    """
    hidden: Tensor = decoded(model, layout, gradient_checkpointing).last_hidden_state
    return hidden[0]


def decoded(model: Any, layout: PackedLayout, gradient_checkpointing: bool = False) -> Any:
    """What the decoder returns for packed tokens; see `hidden_states`."""
    with _checkpointing(model, gradient_checkpointing and torch.is_grad_enabled()):
        return model.get_decoder()(
            input_ids=layout.tokens,
            attention_mask=prepared_mask(layout.tokens.device),
            position_ids=layout.positions,
            use_cache=False,
            layout=layout,
        )


def enable_checkpointing(model: Any) -> None:
    """Make the model's layers ready to be checkpointed; UserError where it has none that can be."""
    options = {"use_reentrant": False}
    layers = _checkpointed_layers(model)
    if not layers or not model.supports_gradient_checkpointing:
        what = f"{type(model).__name__} has no layers that transformers checkpoints"
        raise UserError(f"gradient_checkpointing=true: {what}; use false")
    if hasattr(model, "activation_checkpointing_enable"):  # its name from transformers 5.20 on
        model.activation_checkpointing_enable(options)
    else:
        model.gradient_checkpointing_enable(options)
    for layer in layers:
        checkpointed = partial(_in_evaluation_mode, layer, layer._gradient_checkpointing_func)
        layer._gradient_checkpointing_func = checkpointed


def _checkpointed_layers(model: Any) -> list[Any]:
    return [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]


def _in_evaluation_mode(
    layer: Any,
    checkpointed: Callable[..., Any],
    forward: Callable[..., Any],
    *args: Any,
) -> Any:
    """The layer's checkpointed forward pass without its own dropout, also when it is run again."""

    def run(*args: Any) -> Any:
        training, layer.training = layer.training, False
        try:
            return forward(*args)
        finally:
            layer.training = training

    return checkpointed(run, *args)


@contextmanager
def _checkpointing(model: Any, on: bool) -> Iterator[None]:
    """transformers checkpoints layers in training mode alone: the layers are put into it, and
    nothing in or around them."""
    layers = _checkpointed_layers(model) if on else []
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
