"""LoRA: a trainable low-rank update beside each of a model's frozen layers (Hu et al. 2021,
arXiv 2106.09685, Eq. 3), through peft."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from grao_bench.core.errors import UserError
from grao_bench.models.adapters import (
    adapter_config,
    inject,
    is_fused,
    load_adapter,
    require_peft,
)

ALL_LINEAR = "all-linear"
KEY = "model.adapter"


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """h = W x + (alpha / rank) B A x, with A [rank, in] drawn as peft draws it, B [out, rank]
    zeros, and no dropout: before the first update the policy is its base to the bit.

    targets: `all-linear` (every linear layer but the output layer and a classifier's head), names
    of layers, or a regular expression over whole names. A and B are in float32 at least, whatever
    the frozen weights are in.
    """

    revision: ClassVar[int] = 1

    rank: int
    alpha: int | float
    targets: str | Sequence[str]

    def check(self) -> None:
        """UserError for a number that can't be, or where peft is not installed."""
        if self.rank < 1:
            raise UserError(f"{KEY}.rank={self.rank}: must be at least 1")
        if not self.alpha > 0:
            raise UserError(f"{KEY}.alpha={self.alpha}: must be above 0")
        if not self.targets:
            raise UserError(f"{KEY}.targets={self.targets!r}: names no layer; use {ALL_LINEAR}")
        require_peft(f"{KEY}=lora:")

    def attach(self, model: Any, seed: int, heads: Sequence[str] = ()) -> None:
        """Put a new adapter into a model, which is frozen but for it and for its `heads`, modules
        that train in full. UserError for layers that can't be adapted."""
        from peft import LoraConfig

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=0.0,
            target_modules=_short(model, chosen_layers(model, self.targets, heads)),
            task_type="SEQ_CLS" if heads else "CAUSAL_LM",
            modules_to_save=list(heads) or None,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject(model, config, heads)

    def go_on(self, model: Any, folder: Path) -> None:
        """Put the adapter of a folder into a model, to be trained further. UserError where it is
        not of these values."""
        saved = adapter_config(folder)
        values = ("rank", self.rank, saved.r), ("alpha", self.alpha, saved.lora_alpha)
        for name, asked, there in values:
            if asked != there:
                what = f"{folder} holds an adapter with {name}={there}"
                raise UserError(f"{KEY}.{name}={asked}: {what}; use {there}")
        theirs = chosen_layers(model, _plain(saved.target_modules))
        if chosen_layers(model, self.targets) != theirs:
            what = f"{folder} holds an adapter on {_shown(_short(model, theirs))}"
            raise UserError(f"{KEY}.targets={_shown(self.targets)}: {what}; use those")
        load_adapter(model, folder, trainable=True)


def chosen_layers(model: Any, targets: str | Sequence[str], heads: Sequence[str] = ()) -> list[str]:
    """The whole names of the layers to adapt. UserError, saying what there is, for a target that
    is no layer, one that can't be adapted, or one whose weight another layer shares."""
    layers = {name: each for name, each in model.named_modules() if _adaptable(each)}
    if targets == ALL_LINEAR:
        output, left_out = model.get_output_embeddings(), _taken_for_experts(model, layers)
        linear = {name: each for name, each in layers.items() if not isinstance(each, nn.Embedding)}
        names = [name for name, each in linear.items() if each is not output]
        return [name for name in names if name not in left_out and name not in heads]
    found: set[str] = set()
    for target in [targets] if isinstance(targets, str) else targets:
        matched = {name for name in layers if _matches(target, name)}
        if not matched:
            raise UserError(f"{KEY}.targets={target}: {_nothing(model, target, layers)}")
        found |= matched
    _require_untied(model, found)
    if taken := sorted(_taken_for_experts(model, found)):
        what = "peft takes layers of this name for the experts, which are fused into one parameter"
        raise UserError(f"{KEY}.targets: {taken[0]}: {what}; choose other layers")
    return [name for name in layers if name in found]


def _adaptable(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | nn.Embedding | Conv1D)


def _matches(target: str, name: str) -> bool:
    if name == target or name.endswith(f".{target}"):
        return True
    try:
        return re.fullmatch(target, name) is not None
    except re.error:
        return False


def _taken_for_experts(model: Any, names: Iterable[str]) -> set[str]:
    """The layers that peft would not adapt but translate into another target: where experts were
    layers of the same name before transformers fused them."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    taken = set()
    for name in names:
        config = LoraConfig(target_modules=[name])
        try:
            convert_peft_config_for_transformers(config, model, None)
        except ValueError:  # a half of what is fused
            taken.add(name)
        else:
            taken |= {name} - set(config.target_modules)
    return taken


def _nothing(model: Any, target: str, layers: dict[str, nn.Module]) -> str:
    """Why a target is no layer of the model, and what is."""
    there = _shown(sorted({name.rpartition(".")[2] for name in layers}))
    fused = [name for name, each in model.named_parameters() if is_fused(name, each)]
    if any(_matches(target, name) or f".{target}." in f".{name}." for name in fused):
        what = "experts fused into one parameter are no linear layers, and LoRA adapts those"
        return f"{what}; there are {there}"
    return f"no layer of {type(model).__name__} has this name; there are {there}"


def _require_untied(model: Any, names: set[str]) -> None:
    """UserError for a layer whose weight is another's too: an adapter would change one of them, and
    merging it both."""
    holders: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        weight = module._parameters.get("weight")
        if weight is not None:
            holders.setdefault(id(weight), []).append(name)
    for sharing in holders.values():
        if len(sharing) > 1 and names & set(sharing):
            what = f"{' and '.join(sharing)} share one weight (tie_word_embeddings)"
            why = "an adapter would move one and not the other, and merged it would move both"
            raise UserError(f"{KEY}.targets: {what}: {why}; choose other layers")


def _short(model: Any, names: Sequence[str]) -> list[str]:
    """The last parts of the names where those alone mean the same layers, else the names."""
    last = sorted({name.rpartition(".")[2] for name in names})
    every = [name for name, each in model.named_modules() if _adaptable(each)]
    meant = [name for name in every if any(_matches(part, name) for part in last)]
    return last if meant == list(names) else list(names)


def _plain(targets: str | set[str] | Sequence[str]) -> str | list[str]:
    return targets if isinstance(targets, str) else sorted(targets)


def _shown(targets: str | Sequence[str]) -> str:
    return targets if isinstance(targets, str) else f"[{','.join(targets)}]"
