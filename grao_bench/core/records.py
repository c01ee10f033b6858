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

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grao_bench.core.pair_accuracy import PairAccuracy


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
    large training set all of this is said of the part that the run reads (`runs.fit.LARGE`).
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
    evaluation ("<set>/<reward>") splits, where it has parts that add up. role: what the
    objective is among the others (`reporting.gather.roles`), such as "variant of grpo"; "control" of
    a row that stands below the objectives' and in no test (`grao_bench.controls`); "" where nobody
    said, as in records from before there were roles.
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
