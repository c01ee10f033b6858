"""What a hub of models and data sets refuses, as one line of what to do."""

from __future__ import annotations

from typing import Literal

Kind = Literal["model", "data set"]
_PLACES: dict[Kind, str] = {"model": "", "data set": "datasets/"}
_KEYS: dict[Kind, str] = {"model": "model", "data set": "data"}
_FLAGS: dict[Kind, str] = {"model": "", "data set": "--repo-type dataset "}


def refusal(error: BaseException, path: str, revision: str | None, kind: Kind = "model") -> str:
    """What a hub's error means, and what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{_PLACES[kind]}{path}"
    log_in = "log in (`hf auth login`, or the environment variable HF_TOKEN)"
    causes = causes_of(error)
    status = next((code for one in causes if (code := _status(one))), None)

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in causes)

    if is_a(errors.GatedRepoError):
        who = "your account has no access to it yet" if status == 403 else "who asks must be known"
        return f"is gated at the hub, and {who}: accept its terms at {page} and {log_in}"
    if is_a(errors.RevisionNotFoundError):
        fix = f"see {page}, or give {_KEYS[kind]}.revision=main"
        return f"the hub has no revision {revision} of it; {fix}"
    if is_a(errors.RepositoryNotFoundError):
        unknown = f"the hub has no such {kind}, or a private one"
        fix = f"check the spelling, or {log_in} as who may read it"
        return f"is neither a folder nor a reachable hub id: {unknown}; {fix}"
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
            f"`hf download {_FLAGS[kind]}{path}`"
        )
    reason = next(iter(str(causes[-1]).split("\n")), "") or type(causes[-1]).__name__
    return f"{nowhere} ({reason}); give a local folder, or check the network"


def causes_of(error: BaseException | None) -> list[BaseException]:
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
