"""Adapters in a model: sharing the frozen weights below them, writing, reading and merging.

A run's models share their frozen weights as tensors, not a module whose adapter is switched on and
off: the base and the reference are module trees of their own over the same parameters, so nothing
that runs on one can leak into another, and the base is the untouched base to the bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grao_bench.core.errors import UserError
from grao_bench.core.provenance import tensors_fingerprint
from grao_bench.models.hub import is_hub_id
from grao_bench.models.load import local

NAME = "default"
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
BELOW_FILE = "below.json"
"""Beside an adapter: the fingerprint of the weights that it was trained on."""
SNAPSHOT = re.compile(r"/models--([^/]+)/snapshots/([^/]+)/?$")
"""A folder that the hub's cache fetched a model into: of which id, at which commit."""
PREFIX = "base_model.model."
"""What peft puts before the names of an adapter's tensors."""
RESIDUAL = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
"""Initialisations that take something out of the base: with them W + B A is not the base on disk
plus a delta."""


def has_adapter(model: Any) -> bool:
    """Whether a model was given one."""
    return bool(getattr(model, "peft_config", None))


def is_adapter(path: str | Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (Path(path) / CONFIG_FILE).is_file()


def sharing(model: Any) -> Any:
    """A second module tree over the same parameters and buffers: no memory but the modules' own.
    What is put into one, an adapter, is not in the other."""
    held = chain(model.parameters(), model.buffers())
    return deepcopy(model, {id(tensor): tensor for tensor in held})


def inject(model: Any, config: Any, heads: Sequence[str] = ()) -> None:
    """Put an adapter of this peft configuration into a model, in float32 at least; only it and the
    heads, which become the model's own, train."""
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import cast_adapter_dtype

    model.requires_grad_(False)
    own = deepcopy(config)
    own.modules_to_save = None  # the heads train where they are; the config tells a reader of them
    inject_adapter_in_model(own, model, NAME)
    cast_adapter_dtype(model, NAME)
    config.modules_to_save = list(heads) or None
    model.peft_config = {NAME: config}
    for head in heads:
        model.set_submodule(head, deepcopy(model.get_submodule(head)).requires_grad_(True))


def adapter_config(folder: str | Path) -> Any:
    """The peft configuration of a folder. UserError for what is no LoRA on the base as it is on
    disk, and where peft is not installed."""
    require_peft(f"{folder}: is an adapter, which")
    from peft import PeftConfig

    try:
        text = (Path(folder) / CONFIG_FILE).read_text(encoding="utf-8")
        config = PeftConfig.from_peft_type(**json.loads(text))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder}: its {CONFIG_FILE} can't be read ({reason})") from None
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind != "LORA":
        raise UserError(f"{folder}: is an adapter of type {kind}; LoRA alone is read here")
    start = str(config.init_lora_weights).lower()
    if start.startswith(RESIDUAL):
        what = f"was initialised by {start}, which takes a residual out of the base's own weights"
        fix = "save it with peft's path_initial_model_for_weight_conversion, as a plain one"
        raise UserError(f"{folder}: {what}; {fix}")
    return config


def load_adapter(model: Any, folder: Path, trainable: bool = False) -> None:
    """Put a saved adapter, and the heads that were trained with it, into the model below it.

    UserError where the weights there are not those that it was trained on, or don't fit; nothing of
    the model below is written to.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    config = adapter_config(folder)
    heads = _whole_names(model, config.modules_to_save or ())
    _require_below(model, folder, heads)
    _require_own(model, heads, folder)
    misfit = f"{folder}: its adapter does not fit {type(model).__name__}"
    try:
        stored = load_file(folder / WEIGHTS_FILE)
        config.inference_mode = False
        inject(model, config, heads)
    except (ValueError, OSError, AttributeError) as error:
        raise UserError(f"{misfit} ({str(error).splitlines()[0]})") from None
    there = {name: tuple(value.shape) for name, value in adapter_tensors(model).items()}
    given = {name: tuple(value.shape) for name, value in stored.items()}
    if there != given:
        odd = min(name for name, _ in there.items() ^ given.items())
        raise UserError(f"{misfit} ({odd.removeprefix(PREFIX)})")
    stored = {name.removeprefix(PREFIX): value for name, value in stored.items()}
    with torch.no_grad():
        for name in [name for name in stored if _within(name, heads)]:
            model.get_parameter(name).copy_(stored.pop(name))
    set_peft_model_state_dict(model, stored, NAME)
    if not trainable:
        model.requires_grad_(False)


def save_adapter(model: Any, folder: Path) -> None:
    """What `PeftModel.from_pretrained(base, folder)` loads, and what the weights below it are."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = deepcopy(model.peft_config[NAME])
    config.inference_mode = True
    config.base_model_name_or_path = whereabouts(model.name_or_path)
    fetched = SNAPSHOT.search(model.name_or_path)
    config.revision = fetched and fetched[2]
    if not isinstance(config.target_modules, str):
        config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(folder))
    save_file(adapter_tensors(model), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    heads = list(config.modules_to_save or ())
    below = {"dtype": str(model.dtype), "weights": _below(model, heads)}
    text = json.dumps(below, indent=1) + "\n"
    (folder / BELOW_FILE).write_text(text, encoding="utf-8")


def adapter_tensors(model: Any) -> dict[str, Tensor]:
    """The adapter's tensors and those of the heads that train with it, by peft's names."""
    from peft import get_peft_model_state_dict

    heads = list(model.peft_config[NAME].modules_to_save or ())
    state = model.state_dict()
    found = get_peft_model_state_dict(model, state, NAME, save_embedding_layers=False)
    found |= {name: value for name, value in state.items() if _within(name, heads)}
    return {f"{PREFIX}{name}": value.detach().cpu().contiguous() for name, value in found.items()}


@torch.no_grad()
def merged(model: Any) -> Any:
    """A model without the adapter, which is added to its weights: in float32 at least and left so.
    In bfloat16 an update smaller than a weight's last digit, as most are, would be rounded away."""
    whole = deepcopy(model).to(torch.promote_types(model.dtype, torch.float32))
    for name, layer in list(_adapted(whole)):
        layer.merge(safe_merge=True)
        whole.set_submodule(name, layer.get_base_layer())
    del whole.peft_config
    return whole


def base_of(folder: Path, own: str | None = None) -> str:
    """The path of the model that an adapter was trained on: as its folder says or, where that is
    no longer there, `own`; UserError without."""
    config = adapter_config(folder)
    said = str(config.base_model_name_or_path)
    if own is not None and whereabouts(own) == said:
        return own
    if Path(said).is_dir() or is_hub_id(said):
        return local(said, config.revision)
    if own is None:
        raise UserError(f"{folder}: is an adapter of {said}, which is not there; put it back")
    return own


def untouched_experts(model: Any) -> str | None:
    """A line for a model with an adapter whose experts, fused into one parameter, have none."""
    fused = [name for name, each in model.named_parameters() if is_fused(name, each)]
    if not fused or not has_adapter(model):
        return None
    names = ", ".join(sorted({name.rpartition(".")[2] for name in fused}))
    what = f"experts fused into one parameter ({names})"
    return f"model.adapter: {what} have no adapter and stay as they are"


def is_fused(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is several experts' weights in one."""
    return parameter.ndim == 3 and ".lora_" not in name


def _adapted(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    named = model.named_modules()
    return ((name, each) for name, each in named if isinstance(each, BaseTunerLayer))


def _within(name: str, heads: Sequence[str]) -> bool:
    return any(name.startswith(f"{head}.") for head in heads)


def _require_own(model: Any, heads: Sequence[str], folder: Path) -> None:
    """UserError for an adapter that brings a whole embedding or output layer into a model where
    these share one weight: which of the two it is of, nothing says."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if outputs is None or outputs.weight is not inputs.weight:
        return
    for name, module in model.named_modules():
        if module in (inputs, outputs) and name in heads:
            what = f"it was trained with a {name} of its own, which shares its weight in the base"
            fix = "train it without modules_to_save"
            raise UserError(f"{folder}: {what} (tie_word_embeddings); {fix}")


def _whole_names(model: Any, heads: Sequence[str]) -> list[str]:
    names = [name for name, _ in model.named_modules()]
    return [name for name in names if any(f".{name}".endswith(f".{head}") for head in heads)]


def _require_below(model: Any, folder: Path, heads: Sequence[str]) -> None:
    path = folder / BELOW_FILE
    if not path.is_file():  # made elsewhere
        return
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        other = said["dtype"] == str(model.dtype) and said["weights"] != _below(model, heads)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: can't be read ({type(error).__name__})") from None
    if other:
        what = f"its adapter was trained on other weights than those of {model.name_or_path}"
        raise UserError(f"{folder}: {what}; give the base that it was trained on")


def _below(model: Any, heads: Sequence[str]) -> str:
    """The fingerprint of the frozen weights, under the names that they have without an adapter."""
    return tensors_fingerprint(
        (name.replace(".base_layer.", "."), value)
        for name, value in model.named_parameters()
        if ".lora_" not in name and not _within(name, heads)
    )


def whereabouts(path: str) -> str:
    """A hub id as it is, also of the folder that it was fetched into; another folder as a whole
    path."""
    fetched = SNAPSHOT.search(path)
    if fetched is not None:
        return fetched[1].replace("--", "/", 1)
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def require_peft(what: str) -> None:
    """UserError where it is not installed."""
    if find_spec("peft") is None:
        raise UserError(f'{what} needs peft; pip install "grao-bench[lora]"')
