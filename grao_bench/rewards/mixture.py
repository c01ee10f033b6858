"""Rewards made of rewards: a weighted sum of named parts, and one reward per subset."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource, TellingSource
from grao_bench.core.ops import is_reward
from grao_bench.core.records import Criteria, JudgeCounts
from grao_bench.core.spec_interfaces import DataSpec, RewardSpec
from grao_bench.core.types import Verdict
from grao_bench.core.values import value_hash
from grao_bench.rewards.criteria import criteria_of, split_of
from grao_bench.rewards.trying import try_source

Missing = Literal["exclude", "skip"]
"""What a mixture says of an answer of which a part could say nothing: nothing either (a judge that
failed), or the sum of the other parts (a part for some rows alone, as TRL's None)."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One source of a mixture and its weight, which may be negative."""

    revision: ClassVar[int] = 1

    source: RewardSpec
    weight: float


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """r(o) = sum_k weight_k r_k(o) over the named parts: the scalarised multi-objective reward.

    A part in {-1, 0, 1} (pairwise) and a score stand side by side as they are; the weights make them comparable. A weighted sum is no
    ternary verdict, so a mixture is pointwise: answers are compared by its sum, a tie within tie_margin.
    missing: see `Missing`; where no part said anything, the mixture does not.
    """

    revision: ClassVar[int] = 1

    parts: Mapping[str, Part]
    missing: Missing
    tie_margin: float

    def __post_init__(self) -> None:
        _check_names("reward.parts", self.parts)
        for name, part in self.parts.items():
            if not isinstance(part.weight, int | float) or not math.isfinite(part.weight):
                raise UserError(f"reward.parts.{name}.weight={part.weight}: must be a finite number")
        if not self.tie_margin >= 0:
            raise UserError(f"reward.tie_margin={self.tie_margin}: must not be negative")

    def needs_reference(self, data: DataSpec) -> bool:
        """Where a part does."""
        return any(part.source.needs_reference(data) for part in self.parts.values())

    def check(self, data: DataSpec) -> None:
        """UserError, with the part's name, if a part can't score that set."""
        for name, part in self.parts.items():
            _named(f"reward.parts.{name}.source", part.source, data)

    def build(self, data: DataSpec) -> MixtureSource:
        """The source for that set."""
        sources = {name: part.source.build(data) for name, part in self.parts.items()}
        weights = {name: part.weight for name, part in self.parts.items()}
        return MixtureSource(sources, weights, self.tie_margin, missing=self.missing)


@dataclass(frozen=True)
class MixtureSource:
    """A weighted sum. Parts of a verdict: `<part>/reward`, what the part said before its weight, and the part's own parts as
    `<part>/<name>`. An answer is correct where all parts that can tell say so."""

    sources: Mapping[str, RewardSource]
    weights: Mapping[str, float]
    tie_margin: float
    name: str = "mixture"
    pairwise: bool = False
    missing: Missing = "exclude"

    @property
    def fingerprint(self) -> str:
        """Of the parts' fingerprints and weights, and of what becomes of a missing one."""
        parts = {name: [source.fingerprint, self.weights[name]] for name, source in self.sources.items()}
        return value_hash(parts, self.missing)

    @property
    def criteria(self) -> Criteria:
        """See `ItemisedSource`: of the parts that split themselves, their criteria, and of the
        others the part."""
        found = Criteria("reward", {})
        for name, source in self.sources.items():
            part = split_of(source, name)
            found.kinds.update(part.kinds)
            found.weights.update({key: self.weights[name] * part.weights.get(key, 1.0) for key in part.kinds})
        return found

    def statistics(self) -> dict[str, JudgeCounts]:
        """See `TellingSource`; `<part>/<judge>`."""
        return told_facts(self.sources)

    def texts(self) -> dict[str, str]:
        """See `TellingSource`."""
        return told_texts(self.sources)

    def try_out(self, requests: Sequence[RewardRequest]) -> None:
        """See `Tried`: of each part."""
        for source in self.sources.values():
            try_source(source, requests)

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; its reward is None where a part could say nothing
        (missing="skip": where all could).

        UserError names the part whose reward is not a number.
        """
        by_part = {name: source.score(requests) for name, source in self.sources.items()}
        return [self._sum({name: verdicts[row] for name, verdicts in by_part.items()}) for row in range(len(requests))]

    def _sum(self, said: Mapping[str, Verdict]) -> Verdict:
        weighted: list[float] = []
        for name, verdict in said.items():
            if verdict.reward is None:
                continue
            if not is_reward(verdict.reward):
                raise UserError(f"reward.parts.{name}: gave a reward that is not a number; check its model and its inputs")
            weighted.append(self.weights[name] * verdict.reward)
        enough = self.missing == "skip" or len(weighted) == len(said)
        checked = [verdict.correct for verdict in said.values() if verdict.correct is not None]
        return Verdict(
            math.fsum(weighted) if weighted and enough else None,
            self.name,
            {key: value for name, verdict in said.items() for key, value in named_parts(name, verdict).items()},
            tuple(reply for verdict in said.values() for reply in verdict.replies),
            any(verdict.left_out for verdict in said.values()),
            correct=all(checked) if checked else None,
        )


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Another reward for each subset: `routes` maps an example's subset, or the set's name, to who scores it.

    Helpful prompts to one, harmless to another. The set's name decides before the subset. Where all routes are pairwise, so is the
    whole; where not, it is pointwise: a pairwise route's R(o, y) is compared with its R(y, y) = 0. tie_margin: of pointwise scores.
    """

    revision: ClassVar[int] = 1

    routes: Mapping[str, RewardSpec]
    tie_margin: float

    def __post_init__(self) -> None:
        _check_names("reward.routes", self.routes)
        if not self.tie_margin >= 0:
            raise UserError(f"reward.tie_margin={self.tie_margin}: must not be negative")

    def needs_reference(self, data: DataSpec) -> bool:
        """Where a route to that set does."""
        return any(spec.needs_reference(data) for spec in self.routes_to(data).values())

    def check(self, data: DataSpec) -> None:
        """UserError, with the route's name, if no route or one that can't score it leads to that set."""
        for name, spec in self.routes_to(data).items():
            _named(f"reward.routes.{name}", spec, data)

    def build(self, data: DataSpec) -> RoutedSource:
        """The source for that set: its own route alone where the set's name or its one subset is known, else all of them."""
        return RoutedSource({name: spec.build(data) for name, spec in self.routes_to(data).items()}, data.name, self.tie_margin)

    def routes_to(self, data: DataSpec) -> dict[str, RewardSpec]:
        """The routes that examples of that set may take; UserError where there is none."""
        subset = getattr(data, "subset", "")
        for key in (data.name, subset):
            if key in self.routes:
                return {key: self.routes[key]}
        if subset:
            raise UserError(f"reward.routes: none for data={data.name} or its subset {subset}; there are {', '.join(self.routes)}")
        return dict(self.routes)


@dataclass(frozen=True)
class RoutedSource:
    """Each example's own source. Parts of a verdict: `<route>/reward`, and the source's own as `<route>/<name>`."""

    routes: Mapping[str, RewardSource]
    data: str
    margin: float
    name: str = "routed"
    pairwise: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairwise", all(source.pairwise for source in self.routes.values()))

    @property
    def tie_margin(self) -> float:
        """Two pointwise scores closer than this are a tie."""
        return self.margin

    @property
    def fingerprint(self) -> str:
        """Of the routes' fingerprints."""
        return value_hash({name: source.fingerprint for name, source in self.routes.items()})

    @property
    def criteria(self) -> Criteria | None:
        """See `ItemisedSource`: a set's one route splits as its source does; of several, those that
        split themselves."""
        if len(self.routes) > 1:
            parts = [split_of(source, name) for name, source in self.routes.items()]
            kinds = {key: kind for part in parts for key, kind in part.kinds.items()}
            weights = {key: weight for part in parts for key, weight in part.weights.items()}
            return Criteria("reward", kinds, weights)
        ((name, source),) = self.routes.items()
        found = criteria_of(source)
        if found is None:
            return None
        total = found.total if found.total == "reward" else f"{name}/{found.total}"
        return Criteria(
            total,
            {f"{name}/{key}": kind for key, kind in found.kinds.items()},
            {f"{name}/{key}": weight for key, weight in found.weights.items()},
        )

    def statistics(self) -> dict[str, JudgeCounts]:
        """See `TellingSource`; `<part>/<judge>`."""
        return told_facts(self.routes)

    def texts(self) -> dict[str, str]:
        """See `TellingSource`."""
        return told_texts(self.routes)

    def try_out(self, requests: Sequence[RewardRequest]) -> None:
        """See `Tried`: of each route, the requests that take it."""
        for name, source in self.routes.items():
            try_source(source, [one for one in requests if self._route(one) == name])

    def score(self, requests: Sequence[RewardRequest]) -> list[Verdict]:
        """One verdict per request, in order; UserError for an example whose subset has no route."""
        rows: dict[str, list[int]] = {}
        for row, request in enumerate(requests):
            rows.setdefault(self._route(request), []).append(row)
        verdicts: dict[int, Verdict] = {}
        for name, mine in rows.items():
            for row, verdict in zip(mine, self.routes[name].score([requests[row] for row in mine]), strict=True):
                parts = named_parts(name, verdict)
                reference = verdict.reference_parts
                if reference is not None:
                    reference = {f"{name}/{key}": value for key, value in reference.items()}
                verdicts[row] = replace(verdict, source=self.name, parts=parts, reference_parts=reference)
        return [verdicts[row] for row in range(len(requests))]

    def _route(self, request: RewardRequest) -> str:
        for key in (self.data, request.example.subset):
            if key in self.routes:
                return key
        raise UserError(
            f"reward.routes: none for {request.example.id} of subset {request.example.subset}; there are {', '.join(self.routes)}"
        )


def told_facts(sources: Mapping[str, RewardSource]) -> dict[str, JudgeCounts]:
    """What those of the sources that have something to tell have counted, under their names."""
    telling = {name: source for name, source in sources.items() if isinstance(source, TellingSource)}
    return {f"{name}/{judge}": counts for name, source in telling.items() for judge, counts in source.statistics().items()}


def told_texts(sources: Mapping[str, RewardSource]) -> dict[str, str]:
    """The files of those of the sources that have some."""
    telling = [source for source in sources.values() if isinstance(source, TellingSource)]
    return {name: text for source in telling for name, text in source.texts().items()}


def named_parts(name: str, verdict: Verdict) -> dict[str, float]:
    """A verdict's reward and parts under the name of whoever said them.

    `<name>/reward` is the convention by which a part of a composed reward gets its mean and deviation into the step records. It is
    absent where nothing could be said.
    """
    said = {} if verdict.reward is None else {f"{name}/reward": verdict.reward}
    return said | {f"{name}/{key}": value for key, value in verdict.parts.items()}


def _named(key: str, spec: RewardSpec, data: DataSpec) -> None:
    try:
        spec.check(data)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def _check_names(key: str, entries: Mapping[str, object]) -> None:
    if not entries:
        raise UserError(f"{key}: is empty; name at least one")
    for name in entries:
        if not re.fullmatch(r"\w+", name):
            raise UserError(f"{key}.{name}: names columns of the records; use letters, digits and '_'")
