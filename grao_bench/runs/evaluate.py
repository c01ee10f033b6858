"""A policy's answers on every set, drawn once and judged by all who judge them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grao_bench.core.interfaces import ItemisedSource, RewardSource, RolloutEngine, TellingSource
from grao_bench.core.ops import stream_seed
from grao_bench.core.provenance import data_fingerprint
from grao_bench.core.record_files import write_lines
from grao_bench.core.records import Criteria, JudgeCounts
from grao_bench.core.values import value_hash
from grao_bench.evaluation.answers import Evaluator
from grao_bench.evaluation.lm_eval import evaluate_tasks
from grao_bench.experiment import Experiment
from grao_bench.models.policy import Policy
from grao_bench.runs.cell import EvaluationSet
from grao_bench.text.tokens import TextCodec

OnTask = Callable[[str, int, int], None]
"""Called with (what lm-eval's tasks ask, requests done, requests)."""


@dataclass(frozen=True)
class Tested:
    """A policy after so many steps of training (where the best on dev is kept, after its own), and
    what draws its answers."""

    policy: Policy
    step: int
    codec: TextCodec
    engine: RolloutEngine

    def synced(self) -> RolloutEngine:
        """The run's engine, told to draw from this policy."""
        self.engine.sync(self.policy, self.step)
        return self.engine


def evaluate_policy(
    experiment: Experiment,
    sets: Sequence[EvaluationSet],
    tested: Tested,
    folder: Path,
    label: str = "",
) -> list[Path]:
    """Evaluate on every set; returns the files that were written, one per set and reward.

    `label` is added to the name of the sets' `reward`. A file that is there already is left as it is. Answers are drawn once for all
    who judge them.
    """
    engine = tested.synced()
    evaluator = Evaluator(
        tested.codec,
        experiment.evaluation_sampling,
        experiment.evaluation.store_text,
        experiment.answers_per_prompt,
    )
    written = []
    for one in sets:
        asked = {folder / f"{source}.jsonl": reward for source, reward in judges_of(one, label).items()}
        missing = {path: reward for path, reward in asked.items() if not path.exists()}
        if missing:
            answers = evaluator.draw(engine, one.examples, stream_seed(experiment.evaluation.seed, "evaluation", one.name))
        for path, reward in missing.items():
            write_lines(path, evaluator.judge(reward, one.examples, answers))
            written.append(path)
    return written


def judges_of(one: EvaluationSet, label: str = "") -> dict[str, RewardSource]:
    """Who judges a set's answers, by the name of the evaluation: "<set>-<reward><label>", and the training reward by its plain name."""
    found = {f"{one.name}-{one.reward.name}{label}": one.reward}
    return found | ({f"{one.name}-{one.training_reward.name}": one.training_reward} if one.training_reward is not None else {})


def evaluating(sets: Sequence[EvaluationSet], label: str = "") -> dict[str, RewardSource]:
    """The judge of each evaluation: "<set>/<reward><label>"."""
    judges = [judges_of(one, label) for one in sets]
    return {name.replace("-", "/", 1): each for one in judges for name, each in one.items()}


def fingerprints_of(sets: Sequence[EvaluationSet], label: str = "") -> dict[str, str]:
    """What the sets' prompts are, and for each evaluation by its own name, what its prompts and its judge are."""
    found: dict[str, str] = {}
    for one in sets:
        prompts = data_fingerprint(one.examples)
        found[f"data/{one.name}"] = prompts
        for name, reward in judges_of(one, label).items():
            source = name.replace("-", "/", 1)
            found |= {f"data/{source}": prompts, f"reward/{source}": reward.fingerprint}
    return found


def criteria_of_sets(sets: Sequence[EvaluationSet], label: str = "") -> dict[str, Criteria]:
    """How the reward of each evaluation splits, by its own name, where its source says so."""
    return {
        name: source.criteria
        for name, source in evaluating(sets, label).items()
        if isinstance(source, ItemisedSource) and source.criteria is not None
    }


def score_tasks(
    experiment: Experiment,
    tested: Tested,
    folder: Path,
    on_task: OnTask | None = None,
) -> list[Path]:
    """Score a model on the experiment's lm-eval tasks, those that are not in its folder yet; returns the files written."""
    spec = experiment.evaluation.lm_eval
    if not spec.tasks:
        return []
    from grao_bench.evaluation.engine_lm import EngineLM  # with lm_eval, which takes seconds to load

    most, seed = experiment.budget.tokens_per_forward, experiment.evaluation.seed
    lm = EngineLM(tested.policy, tested.codec, tested.synced(), most, seed, on_task)
    return evaluate_tasks(spec, lm, folder)


def told_by(judges: Mapping[str, RewardSource], folder: Path) -> dict[str, dict[str, JudgeCounts]]:
    """What judges have counted (calls, cost, consistency, exclusions), for whom they judged; their prompts become files of the folder.

    Counts are this process's: of a resumed run since it was started again, and with the base's answers where it judged those.
    """
    told: dict[str, dict[str, JudgeCounts]] = {}
    for what, source in judges.items():
        if isinstance(source, TellingSource):
            for name, text in source.texts().items():
                (folder / name).write_text(text, encoding="utf-8")
            told[what] = source.statistics()
    return told


def judge_mark(experiment: Experiment, taken: Sequence[str], sets: Sequence[EvaluationSet]) -> str:
    """What tells a judge from others of the run that have its name; empty for the training reward, which keeps its plain name."""
    clashes = experiment.judge != experiment.reward and sets[0].reward.name in taken
    return f"_{value_hash(experiment.judge)[:4]}" if clashes else ""
