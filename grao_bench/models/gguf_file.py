"""GGUF files: their weights dequantised once, into a checkpoint as any other."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from grao_bench.core.errors import UserError
from grao_bench.models.cache import cache_folder, made_once
from grao_bench.models.whole import require_whole

MAGIC = b"GGUF"


def check_gguf(file: Path, key: str) -> None:
    """UserError, naming the config's `key`, for another file, one that is cut short, or where the
    package that reads it is not installed. Reads what stands before the weights."""
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise UserError(f"{key}={file}: is a file, and no GGUF file; give its folder")
    if find_spec("gguf") is None:
        what = "a GGUF file needs another package"
        raise UserError(f"{key}={file}: {what}; pip install 'grao-bench[gguf]'")
    if _folder(file).is_dir():
        return
    import gguf

    try:
        gguf.GGUFReader(file)  # it maps every weight, so that one cut short shows
    except Exception as error:  # numpy's and its own, over a torn file
        what = f"is cut short or damaged ({error})"
        raise UserError(f"{key}={file}: {what}; copy or download it again") from error


def unpacked(file: Path, key: str) -> Path:
    """The folder of a checkpoint with the file's weights in float32 and its tokenizer, in the
    cache: made now, in some minutes, if it is not there. It takes 4 bytes a parameter."""
    return made_once(_folder(file), lambda aside: _unpack(file, aside, key))


def _folder(file: Path) -> Path:
    """Where it is kept: named by where the file lies, its size and when it was written."""
    state, place = file.stat(), file.resolve()
    text = f"{place}\0{state.st_size}\0{state.st_mtime_ns}"
    return cache_folder() / "gguf" / hashlib.sha256(text.encode()).hexdigest()[:16]


def _unpack(file: Path, folder: Path, key: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = str(file.parent)
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=file.name, trust_remote_code=False)
    model, loading = AutoModelForCausalLM.from_pretrained(
        place,
        gguf_file=file.name,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are told below
        trust_remote_code=False,
    )
    require_whole(f"{key}={file}", type(model).__name__, loading)
    # so that it is saved as what it is now
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
