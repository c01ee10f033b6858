"""Where the gain came from."""

from __future__ import annotations

import math
from functools import cache

import pandas as pd

from .folder import Folder, Run
from .numbers import Expected, Numbers, key_of, of_score
from .scores import PROMPT, Key, clustered_error, over_seeds, without_excluded

Split = tuple[dict[str, str], list[pd.DataFrame]]


def gains(numbers: Numbers, row: dict, name: str) -> Expected:
    """The reward over the base's, by criterion and kind."""
    key = key_of(name)
    of_references = row["method"] == "the references"
    if of_references:
        bases = numbers.folder.tables
        bases = bases[(bases["objective"] == "base") & (bases["model"] == row["model"])]
        runs = numbers.folder.of(bases.to_dict("records")[0])
    else:
        runs = numbers.scored(row, key)
    kinds, frames = split(numbers, key, of_references, tuple(runs))
    found: Expected = {}
    for column in [one for one in frames[0] if one in row]:
        values = [frame[column] for frame in frames]
        if len(values) > 1:
            found |= over_seeds(column, [float(one.mean()) for one in values], bounded=False)
        else:
            found |= of_score(column, [values[0].to_frame()], row)
    return found | {"form_or_manners_percent": formal(frames, kinds)}


@cache
def split(numbers: Numbers, key: Key, of_references: bool, runs: tuple[Run, ...]) -> Split:
    """The criteria's kinds, and each run's gains per prompt."""
    judge = f"{key[0]}/{key[1]}"
    told = [run.info.get("criteria", {}).get(judge) for run in numbers.folder.runs]
    known = next(one for one in told if one)
    found = [gained(numbers.folder, run, key, known, of_references) for run in runs]
    return known["kinds"], [with_kinds(frame, found, known["kinds"]) for frame in found]


def gained(folder: Folder, run: Run, key: Key, told: dict, of_references: bool) -> pd.DataFrame:
    """Per prompt: total, and `criterion X` of those that one of the two said something of."""
    base = run if of_references else folder.base(run, key)
    answers = without_excluded(run.answers(key), base.answers(key))
    mine = parts(answers[0], told, "reference_parts" if of_references else "parts")
    theirs = parts(answers[1], told, "parts")
    both = mine.index.intersection(theirs.index, sort=False)
    mine, theirs = mine.loc[both], theirs.loc[both]
    silent = [name for name in told["kinds"] if not mine[name].any() and not theirs[name].any()]
    gap = (mine - theirs).drop(columns=silent)
    return gap.add_prefix("criterion ").rename(columns={"criterion total": "total"})


def parts(answers: pd.DataFrame, told: dict, column: str) -> pd.DataFrame:
    """Per prompt: the criteria, weighted, and `total`; of the answers or of their references, for
    which a total that is the reward itself is the criteria's sum."""
    names = [*told["kinds"], *([] if told["total"] == "reward" else [told["total"]])]
    said = pd.DataFrame([[one.get(name, 0.0) for name in names] for one in answers[column]])
    said = said.set_axis(names, axis=1).set_axis(answers.index)
    weights = pd.Series(dict.fromkeys(told["kinds"], 1.0) | told.get("weights", {}))
    kinds = said[list(told["kinds"])] * weights
    total = answers["reward"] if column == "parts" else kinds.sum(axis=1)
    total = total if told["total"] == "reward" else said[told["total"]]
    frame = kinds[list(told["kinds"])].assign(total=total)
    return frame.groupby(level=PROMPT, sort=False).mean()


def with_kinds(frame: pd.DataFrame, frames: list[pd.DataFrame], kinds: dict) -> pd.DataFrame:
    """With 0 for what only other seeds said something of, the kinds' sums, and what is left."""
    said = [f"criterion {one}" for one in kinds if any(f"criterion {one}" in of for of in frames)]
    frame = frame.reindex(columns=["total", *said], fill_value=0.0)
    for kind in dict.fromkeys(kinds[name.removeprefix("criterion ")] for name in said):
        of_kind = [name for name in said if kinds[name.removeprefix("criterion ")] == kind]
        frame[kind] = frame[of_kind].sum(axis=1)
    return frame.assign(rest=frame["total"] - frame[said].sum(axis=1))


def formal(frames: list[pd.DataFrame], kinds: dict) -> float:
    """Form's and manners' share of what was gained; none where no gain is shown."""
    pooled = pd.concat(frames).groupby(level=[0, 1], sort=False).mean()
    error, _ = clustered_error(pooled["total"])
    said = [name for name in kinds if f"criterion {name}" in pooled]
    mean = {name: max(0.0, pooled[f"criterion {name}"].mean()) for name in said}
    if pooled["total"].mean() <= max(2 * error, 0) or not sum(mean.values()) > 0:
        return math.nan
    share = sum(value for name, value in mean.items() if kinds[name] in ("form", "manners"))
    return 100 * share / sum(mean.values())
