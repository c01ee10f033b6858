"""Models at a hub: fetched once into its cache, and every refusal as one line of what to do."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from grao_bench.errors import UserError

FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors")
"""What a checkpoint of transformers is made of; `*.bin` where it has no safetensors."""


def is_hub_id(path: str) -> bool:
    """Whether it can be `owner/name` (or an old bare `name`) at a hub, and lies nowhere here."""
    right = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path)
    return right is not None and not Path(path).exists()


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
        raise UserError(f"{key}={path}: {_refusal(error, path, revision)}") from error
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
            raise UserError(f"{key}={path}: {_refusal(error, path, revision)}") from error
    return found


def _refusal(error: BaseException, path: str, revision: str | None) -> str:
    """What a hub's error means, and what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{path}"
    log_in = "log in (`hf auth login`, or the environment variable HF_TOKEN)"
    causes = list(_causes(error))
    status = next((code for one in causes if (code := _status(one))), None)

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in causes)

    if is_a(errors.GatedRepoError):
        who = "your account has no access to it yet" if status == 403 else "who asks must be known"
        return f"is gated at the hub, and {who}: accept its terms at {page} and {log_in}"
    if is_a(errors.RevisionNotFoundError):
        return f"the hub has no revision {revision} of it; see {page}, or give model.revision=main"
    if is_a(errors.RepositoryNotFoundError):
        return (
            "is neither a folder nor a reachable hub id: the hub has no such model, or a private "
            f"one; check the spelling, or {log_in} as who may read it"
        )
    if status in (401, 403):
        return f"the hub refuses (HTTP {status}): the token is wrong or may not read it; {log_in}"
    if is_a(errors.HFValidationError):
        return "is neither a folder nor a reachable hub id (owner/name); check the spelling"
    nowhere = "is neither a folder nor a reachable hub id"
    absent = is_a(errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)
    if constants.HF_HUB_OFFLINE and absent:
        return (
            f"{nowhere}: HF_HUB_OFFLINE is set, and it is not in the hub's cache "
            f"({constants.HF_HUB_CACHE}); unset HF_HUB_OFFLINE, or fetch it before with "
            f"`hf download {path}`"
        )
    reason = next(iter(str(causes[-1]).split("\n")), "") or type(causes[-1]).__name__
    return f"{nowhere} ({reason}); give a local folder, or check the network"


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error, and what it came from, the first cause last."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error tells of."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None
