"""One cell of a grid: base -> train -> evaluate -> records. Wires the parts together; usable from a notebook, without Hydra.

    experiment = Experiment(objective=load_objective("grao", beta=0.3), model=TinyModel(...), ...)
    with process_settings(experiment.threads):
        cell = build(experiment)
        for record in train(cell.trainer, cell.collector, cell.examples, experiment.seed): ...

`grao_bench.runs.run.run(experiment)` does all of it and leaves a run folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from grao_bench.core.interfaces import Objective, Sampling
from grao_bench.core.spec_interfaces import DataSpec, ModelSpec, RewardSpec, RolloutSpec, TrackingSpec
from grao_bench.core.values import value_hash
from grao_bench.evaluation.lm_eval import NO_TASKS, LMEval
from grao_bench.text.dialogue import NEXT_TURN
from grao_bench.training.loop import Budget
from grao_bench.training.optimizer import AdamW


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a policy is evaluated. See conf/evaluation/standard.yaml for each field."""

    revision: ClassVar[int] = 1

    sets: Literal["all", "own"]
    max_examples: int | None
    answers_per_prompt: int
    temperature: float | None
    reward: RewardSpec | None
    seed: int
    store_text: bool
    lm_eval: LMEval


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One cell, as values. `seed` drives data order, sampling and heads; the base has `model.seed`, the data `data.seed`.

    save_model: `full` leaves a whole model in the run's folder (an adapter is merged into it),
    `adapter` the adapter alone, `none` nothing; None the adapter of a model that has one, else the
    whole model.

    role: what the objective is among the others, as its YAML says ("variant of grpo"; see
    `reporting.gather.roles`); None: what conf/ says of one of its name. `control` puts the run's
    row below the objectives', in no test (SFT to saturation).

    The run is written to output/sweep/<model>/<data>/<objective>-<config_hash>/seed<seed>.
    """

    objective: Objective
    model: ModelSpec
    data: DataSpec
    reward: RewardSpec
    rollout: RolloutSpec
    optimizer: AdamW
    budget: Budget
    evaluation: Evaluation
    tracking: TrackingSpec
    save_model: Literal["full", "adapter", "none"] | None
    role: str | None
    seed: int
    threads: int
    output: str
    sweep: str

    @property
    def config_hash(self) -> str:
        """A cell's identity: 8 hex digits of the resolved configuration and of its classes'
        revisions, without the data's and the output's paths, tracking, threads, seed, role and what is
        a matter of memory, speed or cost alone (`field(compare=False)`), and of
        `values.HASH_VERSION`. What the configuration only names is in `identity.computed_by`."""
        # what the data are is in their fingerprint, wherever they lie
        data = replace(self.data, path=None) if hasattr(self.data, "path") else self.data  # type: ignore[type-var]
        budget = self.budget
        if budget.keep != "best_dev":  # else what is measured decides what is kept
            budget = replace(budget, probe_every=0)
        return value_hash(
            self.objective,
            self.model,
            data,
            self.reward,
            self.rollout,
            self.optimizer,
            budget,
            self.evaluation,
        )

    @property
    def folder(self) -> Path:
        """Where the finished run lies."""
        cell = f"{self.objective.name}-{self.config_hash}"
        return Path(self.output) / self.sweep / self.model.name / self.data.name / cell / f"seed{self.seed}"

    @property
    def sampling(self) -> Sampling:
        """How training samples its rollouts. In the hh format an answer ends before the user's next
        turn, unless `rollout.stop` says otherwise."""
        rollout = self.rollout
        own = (NEXT_TURN,) if self.model.prompt_format == "hh" else ()
        return Sampling(
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            max_new_tokens=self.budget.max_answer_tokens,
            top_k=rollout.top_k,
            min_p=rollout.min_p,
            stop=own if rollout.stop is None else tuple(rollout.stop),
        )

    @property
    def logp_temperature(self) -> float:
        """What divides the logits of the loss's log-probabilities: ratio, KL and J alike, the
        reference model's too. `model.logp_temperature`, or what it is by itself."""
        own = self.model.logp_temperature
        return self.own_temperature if own == "auto" else float(own)

    @property
    def own_temperature(self) -> float:
        """What `model.logp_temperature=auto` is: d/dz E[R] of answers drawn at a temperature is
        E[R d/dz log pi] with log pi at that temperature. See `LogpTemperature`."""
        heat = self.rollout.temperature
        return heat if self.objective.needs.rollouts > 0 and heat > 0 else 1.0

    @property
    def evaluation_sampling(self) -> Sampling:
        """How evaluation samples its answers."""
        temperature = self.evaluation.temperature
        return replace(self.sampling, temperature=self.rollout.temperature if temperature is None else temperature)

    @property
    def answers_per_prompt(self) -> int:
        """How many answers evaluation draws to each prompt: greedy ones are all the same one."""
        greedy = self.evaluation_sampling.temperature == 0
        return 1 if greedy else self.evaluation.answers_per_prompt

    @property
    def evaluation_sets(self) -> tuple[DataSpec, ...]:
        """The sets a policy is evaluated on."""
        return self.data.siblings() if self.evaluation.sets == "all" else (self.data,)

    @property
    def judge(self) -> RewardSpec:
        """The reward that evaluation judges by: `evaluation.reward`, or else the training reward."""
        return self.reward if self.evaluation.reward is None else self.evaluation.reward

    @property
    def judge_key(self) -> str:
        """Where the configuration names the judge."""
        return "reward" if self.evaluation.reward is None else "evaluation.reward"

    @property
    def by_training_reward(self) -> Experiment:
        """The same cell, evaluated by its training reward alone."""
        return replace(self, evaluation=replace(self.evaluation, reward=None, lm_eval=NO_TASKS))
