"""Signs that a run went wrong, from its records: shown on the table's row, beside the score that
they put in doubt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from grao_bench.core.records import Criteria, EvalRecord, Lengths, ProbeRecord, Run, StepRecord
from grao_bench.reporting.gather.criteria import formal_share, gains
from grao_bench.reporting.gather.reward_models import accuracies, shortfall


@dataclass(frozen=True, slots=True)
class Rule:
    """An alarm fires when the measured value is over the limit. `text` is a format string of the
    value; `why` is for the page."""

    name: str
    limit: float
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """A rule that fired in one run, and the value that made it."""

    rule: Rule
    value: float


REFERENCE = Rule(
    "reference un-learned",
    1.0,
    "J(y) {:.1f} nat/token below the base",
    "At some probe the references' mean log-probability per token, J(y), lay more than 1 nat below"
    " the base model's: training pushed "
    "the human-preferred answers away.",
)
ENTROPY = Rule(
    "entropy",
    2.0,
    "entropy {:.1f}x the base's",
    "At some probe the policy's entropy per token was more than twice the base model's: it is"
    " falling apart into noise.",
)
SIGNAL = Rule(
    "no signal",
    50.0,
    "{:.0f}% of groups without signal",
    "In the last quarter of training more than half of the groups had equal rewards throughout, so"
    " they taught nothing.",
)
TRUNCATION = Rule(
    "truncation",
    20.0,
    "{:.0f}% truncated",
    "More than 20% of the test answers reached the length limit without an end token.",
)
MINIBATCHES = Rule(
    "minibatches",
    0.0,
    "{:.0f} fewer minibatches a step than asked for",
    "A step had fewer prompts than objective.minibatches, and a prompt's answers stay together: "
    "the optimiser made fewer updates than the configuration says, and at a single one no clip"
    " acts.",
)
PROMPTS = Rule(
    "prompts cut",
    5.0,
    "{:.1f}% of a set's prompts cut",
    "More than 5% of the prompts of a set, in training or evaluation, were longer than"
    " budget.max_prompt_tokens and lost turns or words.",
)
LENGTH_RULE = Rule(
    "no better than length",
    0.0,
    "its reward model is not shown better than a length rule (up to {:.1f} points under it)",
    "On held-out pairs a reward model that trained the row, or judges it, is not shown to be right "
    "more often than preferring the longer (or the shorter) answer is.",
)
WORDS_RULE = Rule(
    "no better than words",
    0.0,
    "its reward model is not shown better than a bag of words (up to {:.1f} points under it)",
    "On held-out pairs a reward model that trained the row, or judges it, is not shown to be right "
    "more often than a bag of words from the same training pairs is.",
)
FORM = Rule(
    "gain by form or manners",
    50.0,
    "{:.0f}% of its gain is form or manners",
    "Of what its answers gained over the base's by the judge's criteria, more than half is form or "
    "manners, not what was asked for: see where the gain came from.",
)
LONGER = Rule(
    "longer",
    3.0,
    "answers {:.1f} times as long as the base's",
    "Its test answers are on average more than three times as long as the base model's.",
)
SHORTER = Rule(
    "shorter",
    3.0,
    "the base's answers {:.1f} times as long",
    "Its test answers are on average less than a third as long as the base model's.",
)
RULES = (
    REFERENCE,
    ENTROPY,
    SIGNAL,
    TRUNCATION,
    PROMPTS,
    MINIBATCHES,
    LENGTH_RULE,
    WORDS_RULE,
    FORM,
    LONGER,
    SHORTER,
)


def alarms(
    run: Run,
    records: Sequence[EvalRecord],
    judge: str = "",
    base: Sequence[EvalRecord] | None = None,
) -> tuple[Alarm, ...]:
    """The alarms of one run, judged on the records of one evaluation, `judge` ("<set>/<reward>"),
    and of its base by the same. A quantity that was not measured raises none."""
    criteria = run.info.criteria.get(judge)
    longer = length_ratio(records, base or ())
    reward_models = accuracies([run], judge).values()
    measured = {
        REFERENCE: reference_drop(run.probes),
        ENTROPY: entropy_ratio(run.probes),
        SIGNAL: groups_without_signal(run.steps),
        TRUNCATION: 100.0 * sum(not record.finished for record in records) / len(records)
        if records
        else math.nan,
        PROMPTS: prompts_cut(run.info.lengths.values()),
        MINIBATCHES: minibatches_short(run),
        LENGTH_RULE: shortfall(reward_models, "length_rule"),
        WORDS_RULE: shortfall(reward_models, "bag_of_words"),
        FORM: gained_by_form(records, base or (), criteria),
        LONGER: longer,
        SHORTER: 1.0 / longer if longer > 0 else math.nan,
    }
    return tuple(Alarm(rule, value) for rule, value in measured.items() if value > rule.limit)


def gained_by_form(
    records: Sequence[EvalRecord], base: Sequence[EvalRecord], criteria: Criteria | None
) -> float:
    """See `criteria.formal_share`; nan where the judge's number does not split."""
    if criteria is None or not records or not base:
        return math.nan
    return formal_share(gains(records, base, criteria), criteria.kinds)


def length_ratio(records: Sequence[EvalRecord], base: Sequence[EvalRecord]) -> float:
    """The answers' mean length as a multiple of the base's, in tokens; nan where it has none."""
    theirs = sum(one.num_tokens for one in base)
    if not records or not theirs:
        return math.nan
    return sum(one.num_tokens for one in records) / len(records) / (theirs / len(base))


def prompts_cut(lengths: Iterable[Lengths]) -> float:
    """The largest share of a set's prompts that were shortened, percent; nan where it was not
    recorded."""
    shares = [100.0 * one.prompts_cut / one.prompts for one in lengths if one.prompts]
    return max(shares, default=math.nan)


def reference_drop(probes: Sequence[ProbeRecord]) -> float:
    """How far J(y) fell below the base's (the probe at step 0) at its worst, nats per token; nan
    when not measured."""
    return _worst(probes, "j_reference", lambda base, value: base - value)


def entropy_ratio(probes: Sequence[ProbeRecord]) -> float:
    """The largest entropy as a multiple of the base's (the probe at step 0); nan when not
    measured."""
    return _worst(probes, "entropy", lambda base, value: value / base if base > 0 else math.nan)


def groups_without_signal(steps: Sequence[StepRecord]) -> float:
    """The share of groups whose rewards are all equal, percent, averaged over the last quarter of
    the steps; nan when not measured."""
    tail = steps[-math.ceil(len(steps) / 4) :] if steps else []
    values = [
        step.metrics["groups_without_signal"]
        for step in tail
        if "groups_without_signal" in step.metrics
    ]
    return 100.0 * sum(values) / len(values) if values else math.nan


def minibatches_short(run: Run) -> float:
    """By how many minibatches a step fell short of the configuration's; nan where it has none."""
    asked = (run.info.config.get("objective") or {}).get("minibatches")
    if asked is None or not run.steps:
        return math.nan
    return float(asked - min(step.prompts for step in run.steps))


def summarise(found: Sequence[Sequence[Alarm]]) -> tuple[str, ...]:
    """One line per rule that fired, from each seed's alarms: the worst value, and in how many seeds
    where there are several."""
    lines = []
    for rule in RULES:
        values = [alarm.value for one in found for alarm in one if alarm.rule == rule]
        if values:
            seeds = f" ({len(values)} of {len(found)} seeds)" if len(found) > 1 else ""
            lines.append(rule.text.format(max(values)) + seeds)
    return tuple(lines)


def _worst(
    probes: Sequence[ProbeRecord], name: str, distance: Callable[[float, float], float]
) -> float:
    base = next(
        (probe.metrics[name] for probe in probes if probe.step == 0 and name in probe.metrics),
        math.nan,
    )
    later = [
        distance(base, probe.metrics[name])
        for probe in probes
        if probe.step > 0 and name in probe.metrics
    ]
    return max(later, default=math.nan)
