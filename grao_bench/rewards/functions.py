"""Several reward functions with weights: TRL's reward_funcs and reward_weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from grao_bench.core.errors import UserError
from grao_bench.core.spec_interfaces import DataSpec
from grao_bench.core.values import REACHES, READS
from grao_bench.rewards.callable import PythonReward, function_fingerprint, module_of
from grao_bench.rewards.mixture import Mixture, MixtureSource, Part


@dataclass(frozen=True, kw_only=True)
class Functions:
    """r = sum_k weights_k f_k over `functions`, each called as `PythonReward` calls it; weights
    None: 1 each. As in TRL, a None of one leaves that one out of the sum, and an answer of which
    all say None is left out. It is a mixture of them: the parts have the functions' names.
    """

    revision: ClassVar[int] = 1

    functions: Sequence[str] = field(
        metadata={
            REACHES: module_of,
            READS: lambda spec, sets: {one: function_fingerprint(one) for one in spec.functions},
        }
    )
    weights: Sequence[float] | None
    conversational: bool | None
    tie_margin: float

    def needs_reference(self, data: DataSpec) -> bool:
        """Never: a function gets None for a reference that a set lacks."""
        return False

    def check(self, data: DataSpec) -> None:
        """UserError if a function can't be found, or there are not as many weights."""
        self.mixture().check(data)

    def build(self, data: DataSpec) -> MixtureSource:
        """The source; UserError if a function can't be found."""
        return self.mixture().build(data)

    def mixture(self) -> Mixture:
        """The mixture that this is; UserError for weights or names that don't fit."""
        paths = list(self.functions)
        weights = [1.0] * len(paths) if self.weights is None else list(self.weights)
        if len(weights) != len(paths):
            what = f"{len(weights)} weights for {len(paths)} functions"
            raise UserError(f"reward.weights: {what}; give one for each, or null for 1 each")
        if not paths:
            raise UserError("reward.functions: is empty; name at least one")
        if len(set(paths)) < len(paths):
            raise UserError(f"reward.functions={paths}: names a function twice; use reward.weights")
        names = [path.rpartition(".")[2] for path in paths]
        if len(set(names)) < len(names):  # of several modules
            names = [path.replace(".", "_") for path in paths]
        parts = {}
        for name, path, weight in zip(names, paths, weights, strict=True):
            parts[name] = Part(source=self._one(path), weight=weight)
        return Mixture(parts=parts, missing="skip", tie_margin=self.tie_margin)

    def _one(self, path: str) -> PythonReward:
        return PythonReward(
            function=path,
            pairwise=False,
            conversational=self.conversational,
            tie_margin=0.0,
        )
