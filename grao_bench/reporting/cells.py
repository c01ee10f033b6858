"""Runs grouped into cells: one cell is one configuration, its runs are its seeds. Different hashes are never merged."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from grao_bench.errors import UserError
from grao_bench.records import PARTIAL, EvalRecord, Run
from grao_bench.reporting.paper import SUBSETS, subset_of

BASE = "base"
CONTROL = "control"
METHOD_ORDER = (BASE, "sft", "dpo", "ppo", "grpo", "grao", "grao_clip0")

ABLATIONS = {
    "grao_no_imitation": "without imitation",
    "grao_no_exploration": "without exploration",
    "grao_no_exploration_at_all": "without exploration at all",
    "grao_no_regulariser": "without alignment regulariser",
}
"""Objectives that are GRAO without a part -> Table 3's name. Its "without exploration" has two readings: alpha = 0, which leaves the
regulariser's lambda A_i J(o_i), and no J(o_i) at all."""

NOT_IDENTITY = ("seed", "threads", "output", "sweep", "tracking", "role")
"""Top-level configuration keys that a configuration's hash leaves out."""

NOT_COMPUTED = {
    "tokens_per_forward",
    "gradient_checkpointing",
    "checkpoint_every",
    "probe_every",
    "answers_per_call",
    "disjoint_from",
    "max_excluded",
    "reply_models",
    "base_url",
    "api_key_env",
    "concurrency",
    "call_timeout",
    "total_timeout",
    "retries",
    "backoff",
    "price_prompt",
    "price_completion",
    "max_cost",
    "cache",
}
"""Names of settings, wherever they stand, that are a matter of memory, speed, cost or of a check:
they make no rows apart."""

ANSWERING = ("evaluation", "reward", "rollout", "budget.max_prompt_tokens", "budget.max_answer_tokens", "budget.long_references")
"""Configuration keys that shape a base's evaluation. The rest of a base's configuration is that of the cell that happened to ask first."""

EvalKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Missing:
    """A cell's seed that started and did not finish, and why. `config` is empty where it left none."""

    folder: Path
    seed: str
    reason: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One configuration: its finished runs by seed (may be none) and its unfinished ones. `label` is its row's name."""

    model: str
    data: str
    objective: str
    config_hash: str
    label: str
    runs: tuple[Run, ...]
    missing: tuple[Missing, ...] = ()

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration of its first run, finished or not; empty when none recorded it."""
        return self.runs[0].info.config if self.runs else next((lost.config for lost in self.missing if lost.config), {})

    @property
    def trained(self) -> bool:
        """Whether it was trained here; not a base, nor a checkpoint that was evaluated alone."""
        return self.objective != BASE and self.config.get("objective", "") is not None

    @property
    def control(self) -> bool:
        """Whether it is a control: a row below the objectives', in no test."""
        role = self.runs[0].info.role if self.runs else self.config.get("role")
        return role == CONTROL

    @property
    def first_stage(self) -> str:
        """The folder of the run that training started from, as the first run names it; empty where it started from the base."""
        return start_of(self.config)

    @property
    def base_fingerprint(self) -> str:
        """The fingerprint of the base model's weights; empty when none finished."""
        return self.runs[0].info.fingerprints.get("base", "") if self.runs else ""


def gather(runs: Iterable[Run], unfinished: Mapping[Path, str]) -> list[Cell]:
    """Cells in table order. UserError when two runs of one configuration and seed disagree.

    A cell is one configuration hash; runs that start from other runs are one cell when nothing but the seed differs (`identity_of`).
    """
    grouped: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        info = run.info
        grouped[info.model, info.data, info.objective, identity_of(run)].append(run)
    cells = [Cell(*key, label=key[2], runs=_by_seed(members)) for key, members in grouped.items()]
    for folder, reason in unfinished.items():
        _add_missing(cells, folder, reason)
    cells = _labelled(cells)
    return sorted(cells, key=cell_order)


def start_of(config: Mapping[str, Any]) -> str:
    """model.start_from of a configuration, empty where there is none."""
    model = config.get("model")
    return str(model.get("start_from") or "") if isinstance(model, Mapping) else ""


def first_objective(folder: str) -> str:
    """The objective that made the run in .../<objective>-<hash8>/seed<k>; the folder's own name where it is not laid out so."""
    path = Path(folder)
    return path.parent.name.rpartition("-")[0] or path.name


def identity_of(run: Run) -> str:
    """What runs of one cell share: the configuration's hash, or for a run that starts from another run, one that leaves out its seed.

    model.start_from names a folder with a seed in it, and so makes a hash of its own for every seed.
    """
    return _identity(run.info.config, run.info.config_hash, str(run.info.seed))


def _identity(config: Mapping[str, Any], config_hash: str, seed: str) -> str:
    start = start_of(config)
    if not start:
        return config_hash
    kept = ((key, text) for key, text in _flatten(config).items() if _tells_apart(key))
    flat = {key: text for key, text in kept if key != "data.path"}
    path = Path(start)
    flat["model.start_from"] = str(path.parent if path.name == f"seed{seed}" else path)
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:8]


def cell_order(cell: Cell) -> tuple[object, ...]:
    """The order of rows: model, its base, then by the set trained on (the paper's first) and the method."""
    trained_on = (-1, "") if cell.objective == BASE else set_order(cell.data)
    return (cell.model, trained_on, method_rank(cell.objective), cell.label, cell.config_hash)


def set_order(name: str) -> tuple[int, str]:
    """The paper's order of sets, then the others by name."""
    subset = subset_of(name)
    return (SUBSETS.index(subset) if subset else len(SUBSETS), name)


def method_rank(objective: str) -> tuple[int, str]:
    """The paper's order of methods, then the others by name."""
    order = (*METHOD_ORDER, *ABLATIONS)
    return (order.index(objective) if objective in order else len(order), objective)


def base_records(cells: Sequence[Cell], run: Run, key: EvalKey) -> list[EvalRecord] | None:
    """The base model's records for this (set, reward), found by the fingerprint of the base's weights; None when there are none.

    Of several base runs, those that answered under the run's own settings are taken. UserError when they still disagree.
    """
    found = [base for cell in cells if cell.objective == BASE for base in cell.runs if _is_base_of(base, run, key)]
    if len({_verdicts(base, key) for base in found}) > 1:
        settings = _chosen(run.info.config, ANSWERING)
        found = [base for base in found if _chosen(base.info.config, ANSWERING) == settings] or found
    if len({_verdicts(base, key) for base in found}) > 1:
        raise UserError(f"{found[0].folder} and {found[1].folder}: two different evaluations of one base on {key[0]}; report on them apart")
    return found[0].evaluations[key] if found else None


def check_comparable(cells: Sequence[Cell], evaluated_on: Sequence[str], reward: str) -> None:
    """UserError, a line for each clash, unless the cells of one table share, by fingerprint, what they call by one name.

    That is each base model and data set that they name, the test prompts of each set that the table shows, and who judged them.
    A fingerprint that only some runs recorded (older ones lack the judge's) is no clash.
    """
    seen: dict[str, tuple[str, Run]] = {}
    clashes: dict[str, str] = {}
    for run in (run for cell in cells for run in cell.runs):
        for what, fingerprint in _named(run, evaluated_on, reward).items():
            first, other = seen.setdefault(what, (fingerprint, run))
            if first != fingerprint:
                clashes.setdefault(
                    what,
                    f"{other.folder} and {run.folder}: {what} differs between them (fingerprints {first[:8]} and {fingerprint[:8]}), "
                    "so they cannot stand in one table; report on their folders apart",
                )
    if clashes:
        raise UserError("\n".join(clashes.values()))


def check_same_evaluation(first: Run, second: Run, key: EvalKey) -> None:
    """UserError unless two runs answered the same prompts and were judged by the same judge, by fingerprint where both recorded one."""
    for kind, what in (("data", "the test set"), ("reward", "the judge")):
        ours, theirs = (_evaluated(run.info.fingerprints, kind, key) for run in (first, second))
        if ours and theirs and ours != theirs:
            raise UserError(
                f"{first.folder} and {second.folder}: {what} of {key[0]} by {key[1]} differs between them (fingerprints {ours[:8]} and "
                f"{theirs[:8]}), so they can't be compared prompt by prompt; evaluate both alike"
            )


def _named(run: Run, evaluated_on: Sequence[str], reward: str) -> dict[str, str]:
    """What a run calls by a name that others use too -> its fingerprint, for what was recorded."""
    info = run.info
    named = {f"the base of model {info.model!r}": info.fingerprints.get("base")}
    if info.objective != BASE:
        named[f"data {info.data!r}"] = info.fingerprints.get("data")
    for name in evaluated_on:
        if (name, reward) in run.evaluations:
            named[f"the test set of {name!r}"] = _evaluated(info.fingerprints, "data", (name, reward))
            named[f"the judge {reward!r} of {name!r}"] = info.fingerprints.get(f"reward/{name}/{reward}")
    return {what: fingerprint for what, fingerprint in named.items() if fingerprint is not None}


def differing(cells: Sequence[Cell], only: Sequence[str] = ()) -> dict[str, list[str]]:
    """Settings that differ between these cells' configurations: dotted key -> each cell's value as text ("-" where absent).

    `only` restricts them to keys that start with one of these.
    """
    flat = [_chosen(cell.config, only) for cell in cells]
    keys = sorted({key for one in flat for key in one if _tells_apart(key)})
    values = {key: [one.get(key, "-") for one in flat] for key in keys}
    return {key: texts for key, texts in values.items() if len(set(texts)) > 1}


def _is_base_of(base: Run, run: Run, key: EvalKey) -> bool:
    ours, theirs = run.info.fingerprints, base.info.fingerprints
    same_base = ours.get("base") == theirs.get("base")
    same_set = all(_evaluated(ours, kind, key) == _evaluated(theirs, kind, key) for kind in ("data", "reward"))
    return same_base and same_set and bool(base.evaluations.get(key))


def _evaluated(fingerprints: Mapping[str, str], kind: str, key: EvalKey) -> str | None:
    """The fingerprint of an evaluation's prompts ("data") or judge ("reward"): by its own name, or else by its set's."""
    return fingerprints.get(f"{kind}/{key[0]}/{key[1]}", fingerprints.get(f"{kind}/{key[0]}"))


def _by_seed(runs: Sequence[Run]) -> tuple[Run, ...]:
    kept: dict[int, Run] = {}
    for run in runs:
        first = kept.setdefault(run.info.seed, run)
        shared = first.evaluations.keys() & run.evaluations.keys()
        if first is not run and any(_verdicts(first, key) != _verdicts(run, key) for key in shared):
            raise UserError(
                f"{first.folder} and {run.folder}: the same configuration and seed with different verdicts; report on their folders apart"
            )
        if len(run.evaluations) > len(first.evaluations):
            kept[run.info.seed] = run
    return tuple(kept[seed] for seed in sorted(kept))


def _verdicts(run: Run, key: EvalKey) -> tuple[tuple[str, float], ...]:
    """What was said of each prompt: the verdict, or the reward where there is no reference."""
    return tuple((record.example_id, record.reward if record.verdict is None else record.verdict) for record in run.evaluations[key])


def _add_missing(cells: list[Cell], folder: Path, reason: str) -> None:
    """Files a `<model>/<data>/<objective>-<hash8>/seed<k>.partial` folder under its cell, or opens one without runs for it."""
    if len(folder.parts) < 4:
        return
    model, data, name, last = folder.parts[-4:]
    objective, _, short = name.rpartition("-")
    seed = last.removesuffix(PARTIAL).removeprefix("seed")
    lost = Missing(folder, seed, reason, _config(folder))
    identity = _identity(lost.config, short, seed)
    for index, cell in enumerate(cells):
        if (cell.model, cell.data, cell.objective) == (model, data, objective) and identity and cell.config_hash.startswith(identity):
            if not any(str(run.info.seed) == seed for run in cell.runs):
                cells[index] = replace(cell, missing=(*cell.missing, lost))
            return
    cells.append(Cell(model, data, objective or name, identity, objective or name, (), (lost,)))


def _config(partial: Path) -> Mapping[str, Any]:
    """The configuration that a run writes before anything else; empty where it is absent, or torn by the interruption."""
    try:
        config = yaml.safe_load((partial / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _labelled(cells: Sequence[Cell]) -> list[Cell]:
    """Each cell with its label: the objective's name, and where it has several configurations, the settings that differ."""
    families: dict[tuple[str, str, str, str], list[Cell]] = defaultdict(list)
    named = [replace(cell, label=_control_label(cell)) for cell in cells if cell.control]
    for cell in cells:
        if cell.control:
            continue
        apart = _base_and_sources(cell) if cell.objective == BASE else first_objective(cell.first_stage) if cell.first_stage else ""
        families[cell.model, cell.data, cell.objective, apart].append(cell)
    for family in families.values():
        labels = _labels(family)
        named += [replace(cell, label=label) for cell, label in zip(family, labels, strict=True)]
    return named


def _control_label(cell: Cell) -> str:
    """What a control says of itself; of one that was trained, how long."""
    told = cell.config.get(CONTROL)
    if isinstance(told, Mapping) and "label" in told:
        return str(told["label"])
    budget = cell.config.get("budget")
    steps = budget.get("steps") if isinstance(budget, Mapping) else None
    return f"{cell.objective}, {steps} steps" if cell.trained and steps else cell.objective


def _base_and_sources(cell: Cell) -> str:
    """What the evaluations of one base share that stand in one table: its weights, and who judged them."""
    return " ".join([cell.base_fingerprint, *sorted({source for run in cell.runs for _, source in run.evaluations})])


def _labels(family: Sequence[Cell]) -> list[str]:
    objective, start = family[0].objective, family[0].first_stage
    name = f"{first_objective(start)}, then {objective}" if start else objective
    if len(family) == 1:
        return [name]
    known = [cell for cell in family if cell.runs or cell.config]
    settings = differing(known, ANSWERING if objective == BASE else ())
    texts = {cell.config_hash: f"{name} ({_settings_text(settings, index)})" for index, cell in enumerate(known) if settings}
    if objective == BASE:
        return [texts.get(cell.config_hash, BASE) for cell in family]
    if len(set(texts.values())) < len(known):  # what differs lies outside the recorded configuration
        texts = {}
    return [texts.get(cell.config_hash, f"{name} [{cell.config_hash[:8]}]") for cell in family]


def _settings_text(settings: Mapping[str, Sequence[str]], index: int, most: int = 3) -> str:
    texts = [f"{key.removeprefix('objective.')}={values[index]}" for key, values in settings.items()]  # whose it is stands before it
    more = [f"and {len(texts) - most} more settings"] if len(texts) > most else []
    return ", ".join(texts[:most] + more)


def _chosen(config: Mapping[str, Any], prefixes: Sequence[str]) -> dict[str, str]:
    """The flat configuration, restricted to keys that are, or lie below, one of the prefixes; all of it when there are none."""
    flat = _flatten(config)
    return {key: text for key, text in flat.items() if not prefixes or any(f"{key}.".startswith(f"{one}.") for one in prefixes)}


def _tells_apart(key: str) -> bool:
    """Whether a dotted setting can be what makes two rows of a table two."""
    names = key.split(".")
    return names[0] not in NOT_IDENTITY and names[-1] not in NOT_COMPUTED


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def slug(text: str) -> str:
    """A name that is safe as a file name and as an HTML id."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_")
