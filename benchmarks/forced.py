"""Answers of given lengths: what the benchmark puts around the rollout engine's own draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from grao_bench.core.interfaces import Codec, Sampling
from grao_bench.core.types import Prompt
from grao_bench.rollouts.sampler import Draw, NextToken


@dataclass(frozen=True)
class ForcedLengths:
    """`engine.draws` with the end token exactly where `lengths` has it, never before.

    make: the engine's own `draws`. lengths: (prompt id, sample index) -> the answer's tokens, its
    end token included; more than max_new_tokens never ends. An end token drawn elsewhere becomes
    one that isn't.
    """

    make: Callable[[Sequence[Prompt], int, Sampling, int, torch.device], Draw]
    lengths: Callable[[str, int], int]
    codec: Codec

    def __call__(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        seed: int,
        device: torch.device,
    ) -> Draw:
        draw, T = self.make(prompts, n, sampling, seed, device), sampling.max_new_tokens
        ends = torch.full((len(prompts), n, T), -1)
        for p, prompt in enumerate(prompts):
            for k in range(n):
                if (length := self.lengths(prompt.id, k)) <= T:
                    ends[p, k, length - 1] = self.codec.end_token
        ends = ends.flatten().to(device)
        stops = torch.tensor(self.codec.stop_tokens, device=device)
        other = next(token for token in range(len(stops) + 1) if token not in stops)

        def forced(following: NextToken, place: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
            token, end = draw(following, place), ends.index_select(0, place)
            going = torch.where(torch.isin(token, stops), other, token)
            return torch.where(end < 0, going, end)

        return forced
