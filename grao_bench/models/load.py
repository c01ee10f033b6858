"""Causal LMs from folders, GGUF files and the hub: what is wrong with one is said before its
weights are read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from grao_bench.core.devices import resolve_device, resolve_dtype
from grao_bench.core.errors import UserError
from grao_bench.models.gguf_file import check_gguf, unpacked
from grao_bench.models.hub import fetched, fetched_config, is_hub_id
from grao_bench.models.whole import listed, require_whole

KEY = "model.path"
NOWHERE = "is neither a folder nor a reachable hub id"


def load_causal_lm(path: str, dtype: str, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder, a GGUF file or a hub id, on its device.

    A GGUF file's weights are dequantised, and rounded to `dtype`. UserError, as `check_causal_lm`
    says.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = resolve_device(device)
    folder = local(path)
    _check_folder(folder, path, _stamp(Path(folder)))
    with _refused(path):
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=resolve_dtype(dtype, where),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    require_whole(f"{KEY}={path}", type(model).__name__, loading)
    _require_vocabulary(path, model.config, tokenizer)
    return model.to(where), tokenizer


def load_tokenizer(path: str, revision: str | None = None) -> tuple[Any, Any]:
    """(tokenizer, generation config) of a folder, a GGUF file or a hub id, without its weights,
    which need not be there. UserError for what can't be had."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    here = Path(path).expanduser()
    at_hub = is_hub_id(str(here))
    if not at_hub and not here.exists():
        nowhere = "is neither a folder nor a reachable hub id; check the spelling"
        raise UserError(f"{KEY}={path}: {nowhere}")
    options = {"revision": revision} if at_hub else {}
    place = path if at_hub else local(path)
    with _refused(path):
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
        with suppress(OSError):  # most base models have none
            return tokenizer, GenerationConfig.from_pretrained(place, **options)
        if (Path(place) / "generation_config.json").is_file():
            what = "its generation_config.json, which names the end tokens, can't be read"
            raise UserError(f"{KEY}={path}: {what}; mend the file or remove it")
        try:
            config = AutoConfig.from_pretrained(place, trust_remote_code=False, **options)
        except (OSError, ValueError):  # a tokenizer alone
            return tokenizer, GenerationConfig()
        return tokenizer, GenerationConfig.from_model_config(config)


def local(path: str, revision: str | None = None) -> str:
    """The folder itself, or of a GGUF file or a hub id the one in a cache: unpacked or downloaded
    now if it must be."""
    here = Path(path).expanduser()
    if here.is_file():
        check_causal_lm(path)
        with _refused(path):
            return str(unpacked(here, KEY))
    if is_hub_id(str(here)):
        return fetched(path, revision)
    return str(here)


def check_causal_lm(path: str, revision: str | None = None) -> None:
    """UserError unless a causal LM with all its weights, and no others, lies there: a reward model,
    an adapter, a checkpoint cut in half and a quantised one are named for what they are.

    It reads configurations and the weights' headers, no weights; of a hub id the configuration
    alone. What was looked at and has not changed since is not looked at again.
    """
    here = Path(path).expanduser()
    if is_hub_id(str(here)):
        _check_at_hub(path, revision)
    elif here.is_dir():
        _check_folder(str(here), path, _stamp(here))
    elif here.is_file():
        _check_file(path, _stamp(here))
    else:
        what = "no such file" if here.suffix == ".gguf" else NOWHERE
        raise UserError(f"{KEY}={path}: {what}; check the spelling")


@lru_cache
def _check_at_hub(path: str, revision: str | None) -> None:
    folder = fetched_config(path, revision)
    if folder is None:
        what = "holds no config.json, so no model that transformers can load"
        raise UserError(f"{KEY}={path}: {what}; of GGUF files give a downloaded one")
    _require_no_adapter(path, Path(folder))
    _require_causal(path, Path(folder))


@lru_cache
def _check_folder(lies: str, path: str, stamp: tuple[Any, ...]) -> None:
    """lies: the folder; path: what it was asked for as."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(lies)
    if not folder.is_dir():
        raise UserError(f"{KEY}={path}: {NOWHERE}; check the spelling")
    _require_no_adapter(path, folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{KEY}={path}: {_instead_of_a_checkpoint(folder)}")
    _require_causal(path, folder)
    _require_readable(path, folder)
    with _refused(path):
        # on the meta device transformers matches names and shapes, and reads nothing
        model, loading = AutoModelForCausalLM.from_pretrained(
            str(folder),
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    require_whole(f"{KEY}={path}", type(model).__name__, loading)
    _require_vocabulary(path, model.config, tokenizer)


@lru_cache
def _check_file(path: str, stamp: tuple[Any, ...]) -> None:
    check_gguf(Path(path).expanduser(), KEY)


def _stamp(place: Path) -> tuple[Any, ...]:
    """What changes when a folder's files, or a file, do."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    states = [(file.name, file.stat()) for file in files if file.exists()]
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)


@contextmanager
def _refused(path: str) -> Iterator[None]:
    """What transformers and the readers below it raise over foreign files, which is anything, as
    one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        what = "is not a checkpoint that transformers can load"
        raise UserError(f"{KEY}={path}: {what} ({reason}); check that it is whole") from error


def _require_no_adapter(path: str, folder: Path) -> None:
    """transformers would load an adapter's base in its place, without a word."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        return
    said = _json(path, file)
    base = said.get("base_model_name_or_path") or "its base"
    raise UserError(
        f"{KEY}={path}: is an adapter ({said.get('peft_type', 'of peft')}) of {base}, no whole "
        f"model; merge it into its base and give the merged folder, or give {KEY}={base}"
    )


def _require_causal(path: str, folder: Path) -> None:
    """UserError where config.json is of another kind of model, or of quantised weights."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = _json(path, folder / "config.json")
    causal = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    named = config.get("architectures") or []
    others = [name for name in named if name not in causal and re.search("For[A-Z]|Reward", name)]
    others = [name for name in others if not name.endswith("ForCausalLM")]
    if others and len(others) == len(named):
        kind = ""
        if "SequenceClassification" in others[0] or "Reward" in others[0]:
            kind = " (a reward model or classifier; as a reward: reward.path=...)"
        raise UserError(f"{KEY}={path}: is a {others[0]}, no causal LM{kind}; give a causal LM")
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "a quantisation")
        what = f"its weights are quantised ({method}), which can't be trained or compared"
        raise UserError(f"{KEY}={path}: {what}; give the checkpoint it was made from")


def _instead_of_a_checkpoint(folder: Path) -> str:
    """What a folder without config.json holds, and what to give."""
    if (folder / "model" / "config.json").is_file():
        return f"is a run's folder; give model.start_from={folder}, or {KEY}={folder / 'model'}"
    if (folder / "run.json").is_file():
        return "is the folder of a run that kept no model (save_model=none); give another"
    inside = sorted(each.parent.name for each in folder.glob("*/config.json"))
    if inside:
        shown = listed(inside)
        return f"holds no config.json, but {shown} in it; give {KEY}={folder / inside[-1]}"
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if files:
        return f"holds GGUF files; give one: {KEY}={folder / files[0]}"
    return "is not a checkpoint that transformers can load: it holds no config.json"


def _require_readable(path: str, folder: Path) -> None:
    """UserError for safetensors that are absent or cut short, by the name of the file."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if not (folder / names[0]).is_file():
        if not index.is_file():
            return  # another format, or none: transformers says so
        names = sorted(set(_json(path, index).get("weight_map", {}).values()))
    for name in names:
        if not (folder / name).is_file():
            what = f"lacks {name}, which its {index.name} lists"
            raise UserError(f"{KEY}={path}: {what}; copy or download it again")
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except Exception as error:
            what = f"its {name} is cut short or damaged ({error})"
            raise UserError(f"{KEY}={path}: {what}; copy or download it again") from error


def _require_vocabulary(path: str, config: Any, tokenizer: Any) -> None:
    vocabulary = config.get_text_config().vocab_size
    # special tokens beyond it are of no use here and do no harm: Gemma 3's text models have none
    # for their tokenizer's image token
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    if any(t >= vocabulary and t not in special for t in tokenizer.get_vocab().values()):
        what = f"the tokenizer has {len(tokenizer)} tokens, the model {vocabulary}"
        raise UserError(f"{KEY}={path}: {what}; they don't belong together")


def _json(path: str, file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint; UserError where it can't be read."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(said, dict):
            return said
        reason = "it holds no JSON object"
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)
    raise UserError(f"{KEY}={path}: its {file.name} can't be read ({reason}); copy it again")
