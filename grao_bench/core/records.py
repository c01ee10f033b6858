"""What a run leaves behind, as plain records: JSON lines that `report` reads without torch.

    <run>/run.json                              RunInfo
    <run>/steps.jsonl                           StepRecord a line: bit-identical for the same config and seed
    <run>/probes.jsonl                          ProbeRecord a line: measured on a fixed dev batch, step 0 is the base
    <run>/timing.jsonl                          {"step", "seconds", ...}: apart, because times differ from run to run
    <run>/evaluations/<set>-<reward>.jsonl[.gz] EvalRecord a line
    <run>/lm_eval.jsonl                         TaskRecord a line, where tasks of lm-eval were asked for

A run folder is written as `<run>.partial` and renamed when it is complete, so a reader sees it whole or not at all.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from grao_bench.core.errors import UserError
from grao_bench.core.old_records import typed
from grao_bench.core.pair_accuracy import PairAccuracy, read_accuracy
from grao_bench.core.values import check_types

PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step's batch. `prompts`, `answers` and token counts are of this step alone.

    metrics: loss, loss/<part>, grad_norm, lr, reward/mean, reward/std, groups_without_signal (share), truncated (share of
    rollouts), length (mean rollout tokens), sampler_mismatch (see ProbeRecord; here between the loss
    and what its rollouts were drawn from), and whatever the objective's stats add. Those that are
    made of log-probabilities (kl) are the loss's own, at its temperature; a probe's are at 1.
    """

    step: int
    metrics: dict[str, float]
    prompts: int
    answers: int
    generated_tokens: int
    forward_tokens: int


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """The policy measured on the fixed dev batch after `step` updates (0 = the base).

    metrics: kl (nats per answer to the base, from untruncated T = 1 samples), kl_token (per token), their standard errors over the
    prompts kl_se and kl_token_se, entropy (nats per token of the same samples), j_reference (mean log-prob per token of the
    references), sampler_mismatch (mean |difference| of sampler's and policy's log-probs of those samples, where the engine tells its
    own), reward (mean of the training reward's own number at the evaluation's temperature), ras (share of R > 0 against the
    reference, 0..1), truncated, length. Without references no j_reference and no ras.
    """

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """One answer to one held-out prompt. `verdict` is R(answer, reference): +1, 0 or -1 (a judge
    asked in both orders may say +-0.5); None where the prompt has no reference.

    `reward` is the source's own number (a score, or the verdict again). Texts are empty in records that hold ids and verdicts only.
    Measured when the answer was drawn, so that they outlive the texts, and None in records from before: `reference_tokens`, the
    reference's length in the same tokens as `num_tokens`, uncut; and the fields of `repetition_of`. `excluded`: the judge gave no readable
    verdict, and the numbers in its place mean nothing; scores leave the prompt out and say how many there were.

    draw: which of the answers to this prompt it is, from 0. cluster: see `Example`. correct:
    whether the answer is right by a rule that says yes or no; None where the source has none, or
    the record is from before. reference_parts: the reference by the criteria of `parts`, likewise.
    """

    example_id: str
    verdict: float | None
    reward: float
    num_tokens: int
    finished: bool
    parts: dict[str, float] = field(default_factory=dict)
    prompt: str = ""
    reference: str = ""
    answer: str = ""
    reference_tokens: int | None = None
    distinct_1: float | None = None
    distinct_2: float | None = None
    repetition: float | None = None
    excluded: bool = False
    draw: int = 0
    cluster: str | None = None
    correct: bool | None = None
    reference_parts: dict[str, float] | None = None


def no_references(records: Iterable[EvalRecord]) -> str:
    """Why RAS and NAG can't be computed of an evaluation, in words; "" where they can."""
    told = all(record.verdict is None for record in records)
    return "no references in the set, so RAS and NAG can't be computed" if told else ""


def judged(records: Iterable[EvalRecord]) -> list[EvalRecord]:
    """The records with a verdict."""
    return [record for record in records if not record.excluded]


def first_answers(records: Iterable[EvalRecord]) -> list[EvalRecord]:
    """One record per prompt: that of the first answer to it."""
    return [record for record in records if record.draw == 0]


def repetition_of(answer: str) -> dict[str, float]:
    """How far an answer repeats itself, each 0..1, over its lower-cased words.

    distinct_1, distinct_2: different words, and word pairs, as a share of all (Li et al. 2016, there over a corpus, here within one
    answer). repetition: the share of its 4-grams that came before, seq-rep-4 (Welleck et al. 2020, Eq. 9). A text of fewer than n
    words repeats no n-gram: distinct 1, repetition 0.
    """
    words = re.findall(r"\w+", answer.lower())
    return {
        "distinct_1": round(_distinct(words, 1), 4),
        "distinct_2": round(_distinct(words, 2), 4),
        "repetition": round(1.0 - _distinct(words, 4), 4),
    }


def _distinct(words: list[str], n: int) -> float:
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One score of one lm-eval task, in lm-eval's own terms.

    `asked` is the name that was asked for: `task` itself, or the group or tag that it belongs to; a group's own scores are among them.
    `stderr` is None where lm-eval gives none. `num_fewshot` is what the task used, `settings` what was asked: limit, num_fewshot,
    apply_chat_template, seed. `fingerprint` tells the documents and prompts (empty for a group): scores with different ones don't compare.
    """

    asked: str
    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    higher_is_better: bool | None
    documents: int
    num_fewshot: int | None
    settings: dict[str, Any]
    fingerprint: str
    task_version: str
    lm_eval_version: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """What the budget's limits did to a set: `examples` that are used, prompts that were shortened,
    of so many `prompts`, and answers of more than max_answer_tokens, which `rule`
    (budget.long_references) cuts or drops.

    without_reference: examples that are a prompt alone. equal_pairs: how many were left out, as
    their two answers are equal within max_answer_tokens. answers_apart: answers at whose beginning
    the joined text of prompt and answer has no token boundary. prompts 0: not recorded. Of a very
    large training set all of this is said of the part that the run reads (`training.fit.LARGE`).
    """

    examples: int
    prompts_cut: int
    answers_over_limit: int
    rule: str
    without_reference: int = 0
    equal_pairs: int = 0
    prompts: int = 0
    answers_apart: int = 0


@dataclass(frozen=True, slots=True)
class JudgeCounts:
    """What a judge counted in this process, over all that it was asked.

    judged: judgements that it was asked for; excluded: the share of them, 0..1, without a verdict;
    identical, unfinished: answers that needed none. position_consistency: the share of judgements
    in both orders that came out alike; first_preference: how much oftener the first text won than
    the second, as a share of the verdicts; None where nothing was read.

    Of a judge behind an endpoint, None of another: questions, those that its cache knew, calls,
    replies that could not be read, texts that it refused, replies without their usage, tokens as
    reported, and cost, in the prices' currency, of every call through the cache over all runs that
    share it, calls of unknown cost at their bound. faults: by kind. other: what a source of the
    user's own tells besides, by name. pair_accuracy: of a reward model, how it does on held-out
    pairs; None where its folder does not say, as before it was recorded.
    """

    judged: int = 0
    excluded: float = 0.0
    identical: int = 0
    unfinished: int = 0
    position_consistency: float | None = None
    first_preference: float | None = None
    questions: int | None = None
    cached: int | None = None
    calls: int | None = None
    unreadable: int | None = None
    refused: int | None = None
    usage_not_reported: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    faults: dict[str, int] = field(default_factory=dict)
    other: dict[str, float] = field(default_factory=dict)
    pair_accuracy: PairAccuracy | None = None


@dataclass(frozen=True, slots=True)
class Criteria:
    """How a reward splits by criterion: `total`, up to clipping, is the sum over the names in
    `kinds` of weight times that part of the verdict.

    total: "reward", or the part that is split instead (a gold verdict is the sign of a difference
    of scores: its "score" is a sum). kinds: criterion -> "content", "form", "manners" or a kind of
    its own. weights: those that are not 1.
    """

    total: str
    kinds: dict[str, str]
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run was. `objective` is "base" for the untrained base model, which is evaluated once and shared.

    `config` is the resolved configuration; `config_hash` its hash without paths, tracking and seed,
    of version `hash_version` (0: before hashes had one). `fingerprints` hold sha256 of the examples
    used (data) and of the base model's weights (base). `code`: what else the numbers come from and
    the configuration only names, such as a reward function (`identity.computed_by`).

    drops: examples that the data left out, by reason. lengths: of "training" and of each evaluated
    set. judges: who judged for what ("training", or an evaluation as in `fingerprints`:
    "<set>/<reward>"), and of each judge by its name what it counted. peak_memory: bytes that the
    process held at most. kept_step: whose policy was evaluated, where it is not the last one's.
    end_token: the text of the token that closes an answer. criteria: how the reward of an
    evaluation ("<set>/<reward>") splits, where it has parts that add up. role: "control" of a row
    that stands below the objectives' and in no test (`grao_bench.controls`), else "".
    """

    objective: str
    model: str
    data: str
    reward: str
    seed: int
    config_hash: str
    config: dict[str, Any]
    fingerprints: dict[str, str]
    environment: dict[str, str]
    drops: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, Lengths] = field(default_factory=dict)
    judges: dict[str, dict[str, JudgeCounts]] = field(default_factory=dict)
    peak_memory: int | None = None
    kept_step: int | None = None
    sweep: str = ""
    hash_version: int = 0
    code: dict[str, str] = field(default_factory=dict)
    end_token: str = ""
    criteria: dict[str, Criteria] = field(default_factory=dict)
    role: str = ""


@dataclass(frozen=True)
class Run:
    """A finished run folder, read. `evaluations` is keyed by (set, reward source)."""

    folder: Path
    info: RunInfo
    steps: list[StepRecord]
    probes: list[ProbeRecord]
    timing: list[dict[str, int | float]]
    evaluations: dict[tuple[str, str], list[EvalRecord]]
    lm_eval: list[TaskRecord] = field(default_factory=list)


Record = TypeVar("Record", StepRecord, ProbeRecord, EvalRecord, TaskRecord)


def write_lines(path: Path, records: Iterable[object]) -> None:
    """Write dataclass records or dicts as JSON lines (gzip when the name ends in .gz), aside first, then renamed."""
    aside = path.with_name(path.name + PARTIAL)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(_line(record) for record in records)
    # mtime=0 keeps a compressed file byte-identical for identical records
    aside.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    aside.replace(path)


def append_line(path: Path, record: object) -> None:
    """Append one record to a JSON-lines file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(record))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file (.gz or plain); UserError with file:line on a line that is not a JSON object."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}:{number}: not JSON ({error.msg}); mend or remove the line") from None
                if not isinstance(value, dict):
                    raise UserError(f"{path}:{number}: expected a JSON object, found {type(value).__name__}; mend or remove the line")
                yield value
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); check that the file is whole") from None


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """The records of one kind in a file; an absent file is an empty list."""
    if not path.exists():
        return []
    known = {item.name for item in fields(kind)}
    records = []
    for number, value in enumerate(read_lines(path), 1):
        try:
            records.append(kind(**{key: entry for key, entry in value.items() if key in known}))
        except TypeError as error:
            raise UserError(f"{path}:{number}: not a {kind.__name__} ({error}); was it written by another version?") from None
    return records


def plain_or_gz(path: Path) -> Path:
    """The file, or its compressed copy where only that exists."""
    compressed = path.with_name(path.name + ".gz")
    return compressed if compressed.exists() and not path.exists() else path


def write_info(folder: Path, info: RunInfo) -> None:
    """Write run.json."""
    (folder / "run.json").write_text(json.dumps(asdict(info), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_info(folder: Path) -> RunInfo:
    """Read run.json, an old one too; UserError where it is absent or malformed."""
    path = folder / "run.json"
    try:
        return _info(typed(json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        layout = "runs/<sweep>/<model>/<data>/<objective>-<hash>/seed<k>"
        raise UserError(f"{folder}: holds no run.json; give the folder of a finished run ({layout})") from None
    except (TypeError, AttributeError, ValueError, RecursionError, UserError) as error:
        raise UserError(f"{path}: not a run's record ({error})") from None


def _info(written: dict[str, Any]) -> RunInfo:
    lengths = {name: Lengths(**values) for name, values in written.pop("lengths", {}).items()}
    judges = {what: _counts(counts) for what, counts in written.pop("judges", {}).items()}
    criteria = {name: Criteria(**values) for name, values in written.pop("criteria", {}).items()}
    info = RunInfo(**written, lengths=lengths, judges=judges, criteria=criteria)
    counted = [one for counts in judges.values() for one in counts.values()]
    for part in (info, *lengths.values(), *counted, *criteria.values()):
        check_types(part)
    return info


def _counts(written: dict[str, Any]) -> dict[str, JudgeCounts]:
    found = {}
    for name, values in written.items():
        told = values.get("pair_accuracy")
        found[name] = JudgeCounts(**{**values, "pair_accuracy": told and read_accuracy(told)})
    return found


def read_run(folder: Path) -> Run:
    """Read one finished run folder."""
    evaluations = {}
    for path in sorted((folder / "evaluations").glob("*.jsonl*")):
        if path.name.endswith(PARTIAL):
            continue
        name, _, reward = path.name.removesuffix(".gz").removesuffix(".jsonl").partition("-")
        evaluations[name, reward] = read_records(path, EvalRecord)
    return Run(
        folder=folder,
        info=read_info(folder),
        steps=read_records(plain_or_gz(folder / "steps.jsonl"), StepRecord),
        probes=read_records(plain_or_gz(folder / "probes.jsonl"), ProbeRecord),
        timing=list(read_lines(timing)) if (timing := plain_or_gz(folder / "timing.jsonl")).exists() else [],
        evaluations=evaluations,
        lm_eval=read_records(plain_or_gz(folder / "lm_eval.jsonl"), TaskRecord),
    )


def find_runs(folder: Path) -> list[Run]:
    """Every finished run below a folder, in the folders' order; UserError when there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder that holds runs, for example runs/demo")
    found = sorted(path.parent for path in folder.rglob("run.json") if not any(part.endswith(PARTIAL) for part in path.parts))
    if not found:
        raise UserError(f"{folder}: holds no finished run; train one with python -m grao_bench.train")
    return [read_run(path) for path in found]


def find_unfinished(folder: Path) -> dict[Path, str]:
    """Cells that started and did not finish: folder -> reason (the first line of its error.txt, or "unfinished")."""
    unfinished = {}
    for path in sorted(folder.rglob(f"seed*{PARTIAL}")):
        error = path / "error.txt"
        reason = error.read_text(encoding="utf-8").split("\n")[0].strip() if error.exists() else ""
        unfinished[path] = reason or "unfinished"
    return unfinished


def _line(record: object) -> str:
    value = record if isinstance(record, dict) else asdict(record)  # type: ignore[call-overload]
    return json.dumps(value, ensure_ascii=False) + "\n"
