"""python -m tests.data.second_list.score [<sweep>]: what the second list scores, into scores.csv.

With a sweep, the answers of its base and of its SFT on harmless are first kept in answers.jsonl.gz,
one to each test prompt; the list is scored on those. By the first list's protocol: RAS and ties
against the references, a change of the base's answer being as finished as that was.
"""

import csv
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from grao_bench.core.record_files import find_runs
from grao_bench.core.records import first_answers
from grao_bench.core.specs import load
from grao_bench.core.types import Example
from grao_bench.data.world.exploits.measure import Score, Verdicts
from tests.data.second_list import POLICIES, Policy

HERE = Path(__file__).parent
ANSWERS, SCORES = HERE / "answers.jsonl.gz", HERE / "scores.csv"
SETS = ("world_helpful", "world_harmless")
JUDGE, TIE_BAND = "gold", 0.05

Kept = dict[str, dict[str, tuple[str, bool]]]
"""By "base" or "sft" and by a test prompt's id: the answer, and whether it is finished."""


def keep(sweep: Path) -> None:
    """Writes the answers of a sweep's base and SFT, one to each test prompt of both sets."""
    with gzip.GzipFile(ANSWERS, "wb", mtime=0) as file:
        for run in find_runs(sweep):
            for name in SETS:
                for one in first_answers(run.evaluations[(name, JUDGE)]):
                    told = [run.info.objective, one.example_id, one.answer, one.finished]
                    file.write((json.dumps(told) + "\n").encode())


def kept() -> Kept:
    """The committed answers."""
    found: Kept = {"base": {}, "sft": {}}
    with gzip.open(ANSWERS, "rt", encoding="utf-8") as file:
        for who, key, answer, finished in map(json.loads, file):
            found[who][key] = (answer, finished)
    return found


def of_base(policy: Policy) -> bool:
    """Whether the policy changes the base's answer, unfinished where that is."""
    name = policy.__name__
    return name.startswith("base_") or name == "refuse_then_base"


def scored(name: str, policies: Sequence[Policy] = POLICIES) -> Iterator[tuple[str, Score]]:
    """The base, SFT and each policy on a set's test prompts, in that order."""
    dataset, verdicts, answers = load(f"data/{name}").build(), Verdicts(TIE_BAND), kept()
    train = [(one.prompt[-1].text, one.chosen, one.rejected) for one in dataset.train]
    examples: list[Example] = [one for one in dataset.test if one.id in answers["base"]]
    for who, told in answers.items():
        yield who, verdicts.score((one, *told[one.id]) for one in examples)
    base = answers["base"]
    for policy in policies:
        told = [policy(one.prompt[-1].text, base[one.id][0], train) for one in examples]
        ended = [base[one.id][1] if of_base(policy) else True for one in examples]
        yield policy.__name__, verdicts.score(zip(examples, told, ended, strict=True))


def main(arguments: Sequence[str]) -> None:
    if arguments:
        keep(Path(arguments[0]))
    with SCORES.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("set", "policy", "ras", "ties", "reward"))
        for name in SETS:
            for policy, one in scored(name):
                numbers = (f"{one.ras:.1f}", f"{one.ties:.1f}", f"{one.reward:.4f}")
                rows.writerow((name, policy, *numbers))
                file.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
