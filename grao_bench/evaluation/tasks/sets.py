"""The functions that the task files name: the documents of a set, and the judgement of an answer against its reference.

lm-eval says only the text of an answer, so one that was cut at max_gen_toks is judged as if it had ended there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardSource
from grao_bench.core.specs import load
from grao_bench.core.types import Answer, Example, Turn
from grao_bench.evaluation.answers import compare, plain_text
from grao_bench.text.dialogue import OPENING, render


def documents(
    set: str,
    reward: str | None = None,
    reward_settings: Mapping[str, Any] | None = None,
    data_settings: Mapping[str, Any] | None = None,
    prompt_format: str = "hh",
    **others: Any,
) -> dict[str, Any]:
    """{"test": the held-out examples of conf/data/<set>.yaml} as lm-eval's documents.

    reward: a choice of conf/reward, by which answers are judged. The settings change fields of either file. prompt_format: hh, the
    dialogue text; chat, the text alone, for lm-eval's --apply_chat_template. `others` is whatever else lm-eval passes on.
    UserError where no reward is named, or it can't judge the set.
    """
    import datasets

    if prompt_format not in ("hh", "chat"):
        raise UserError(f"prompt_format={prompt_format}: choose hh or chat in the task's metadata")
    if reward is None:
        raise UserError(
            f"the set {set} has no judge of its own; name a reward in the task's metadata, such as "
            """--metadata '{"reward": "reward_model", "reward_settings": {"path": "<folder or hub id>"}}'"""
        )
    judge = json.dumps([set, reward, dict(reward_settings or {}), dict(data_settings or {})], sort_keys=True)
    judge_of(judge)
    data = load(f"data/{set}", **(data_settings or {}))
    rows = [
        {
            "id": example.id,
            "prompt": render(example.prompt) + OPENING if prompt_format == "hh" else plain_text(example.prompt),
            "turns": [{"role": turn.role, "text": turn.text} for turn in example.prompt],
            "reference": example.reference,
            "subset": example.subset,
            "judge": judge,
        }
        for example in data.build().test
    ]
    return {"test": datasets.Dataset.from_list(rows)}


def ras(document: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
    """The verdict on one answer: ras = win (R > 0), tie and loss, each 0 or 1, and the reward's own number."""
    example = Example(
        id=document["id"],
        prompt=tuple(Turn(turn["role"], turn["text"]) for turn in document["turns"]),
        chosen=document["reference"],
        rejected=None,
        subset=document["subset"],
    )
    ((R, verdict),) = compare(judge_of(document["judge"]), [example], [Answer(answers[0].strip(), (), finished=True)])
    if R is None or verdict.reward is None:
        raise UserError(
            f"{document['id']}: the judge {verdict.source} gave no readable verdict, and lm-eval has no way to leave a document out; "
            "use grao_bench.evaluate, which counts and excludes it"
        )
    return {"ras": float(R > 0), "tie": float(R == 0), "loss": float(R < 0), "reward": verdict.reward}


@cache
def judge_of(described: str) -> RewardSource:
    """The reward source that a document describes; UserError where it can't judge the set."""
    set_name, reward, reward_settings, data_settings = json.loads(described)
    data = load(f"data/{set_name}", **data_settings)
    spec = load(f"reward/{reward}", **reward_settings)
    spec.check(data)
    source: RewardSource = spec.build(data)
    return source
