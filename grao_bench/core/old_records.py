"""What run.json was before its facts had fields of their own: `notes`, named numbers with their
meaning in the name."""

from __future__ import annotations

from typing import Any

_LENGTHS = {
    "training examples": "examples",
    "examples": "examples",
    "prompts cut from the left": "prompts_cut",
    "answers over max_answer_tokens": "answers_over_limit",
    "prompts without a reference": "without_reference",
}
_JUDGES = ("judged", "excluded", "identical", "unfinished", "position_consistency", "first_preference")
_CALLS = ("questions", "cached", "calls", "unreadable", "refused", "prompt_tokens", "completion_tokens")
_RENAMED = {"usage not reported": "usage_not_reported", "cost_of_cache": "cost"}
_FLOATS = ("excluded", "position_consistency", "first_preference", "cost")


def typed(written: dict[str, Any]) -> dict[str, Any]:
    """run.json's object with its `notes`, if it has any, in the fields that `RunInfo` has for them.

    A note of another name is of no run that was ever recorded, and is left out.
    """
    if "notes" not in written:
        return written
    found: dict[str, Any] = {"drops": {}, "lengths": {}, "judges": {}}
    for note, value in written["notes"].items():
        subject, _, fact = note.rpartition(": ")
        name, _, rule = fact.removesuffix(")").partition(" (")
        if note.startswith("dropped: "):
            found["drops"][note.removeprefix("dropped: ")] = int(value)
        elif note == "peak memory MiB":
            found["peak_memory"] = round(value * 2**20)
        elif note == "kept the policy of step":
            found["kept_step"] = int(value)
        elif name in _LENGTHS:
            lengths = found["lengths"].setdefault(subject.removesuffix(" test") or "training", {})
            lengths |= {_LENGTHS[name]: int(value)} | ({"rule": rule} if rule else {})
        elif subject:
            _count(found["judges"], subject.split(": "), fact, value)
    return {key: value for key, value in written.items() if key != "notes"} | found


def _count(judges: dict[str, Any], subject: list[str], fact: str, value: float) -> None:
    """ "<purpose>: <source>: [<part>: ][fault: ]<fact>", where the purpose is "training" or
    "<set> test<label>"."""
    kind = subject.pop() if subject[-1] == "fault" else ""
    purpose, *names = subject
    if not names:
        return
    set_name, test, label = purpose.partition(" test")
    purpose = f"{set_name}/{names[0]}{label}" if test else purpose
    counts: dict[str, Any] = judges.setdefault(purpose, {}).setdefault("/".join(names[1:] or names), {})
    field = _RENAMED.get(fact, fact)
    if kind:
        counts.setdefault("faults", {})[fact] = int(value)
    elif field in (*_JUDGES, *_CALLS, *_RENAMED.values()):
        counts[field] = float(value) if field in _FLOATS else int(value)
    else:
        counts.setdefault("other", {})[fact] = float(value)
