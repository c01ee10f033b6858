"""Models at a hub: fetched once into its cache, and every refusal as one line of what to do."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from grao_bench.core.errors import UserError
from grao_bench.core.hub import refusal

FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors")
"""What a checkpoint of transformers is made of; `*.bin` where it has no safetensors."""


def is_hub_id(path: str) -> bool:
    """Whether it can be `owner/name` (or an old bare `name`) at a hub, and lies nowhere here. A
    name that ends in .gguf is a file's."""
    right = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path)
    return right is not None and not path.endswith(".gguf") and not Path(path).exists()


def fetched(path: str, revision: str | None = None, key: str = "model.path") -> str:
    """The folder of this hub id's files in the hub's cache, downloaded first where they are not
    there. The token is the hub's own business: its environment variable, or its login.

    UserError, naming the config's `key`, for what the hub refuses or can't be reached for.
    """
    from huggingface_hub import snapshot_download

    asked = partial(snapshot_download, path, revision=revision, ignore_patterns=["*/*"])
    try:
        folder = asked(allow_patterns=[*FILES])
        if not any(Path(folder).glob("*.safetensors")):
            folder = asked(allow_patterns=[*FILES, "*.bin"])
    except Exception as error:  # the hub's, its HTTP client's, the file system's
        raise UserError(f"{key}={path}: {refusal(error, path, revision)}") from error
    return str(folder)


def fetched_config(path: str, revision: str | None = None, key: str = "model.path") -> str | None:
    """The same of its config.json alone, and of an adapter's; the folder, or None where it has
    neither."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    found = None
    for name in ("config.json", "adapter_config.json"):
        try:
            found = str(Path(hf_hub_download(path, name, revision=revision)).parent)
        except RemoteEntryNotFoundError:
            continue
        except Exception as error:
            if found and isinstance(error, LocalEntryNotFoundError):
                continue  # offline, of a model that is no adapter
            raise UserError(f"{key}={path}: {refusal(error, path, revision)}") from error
    return found
