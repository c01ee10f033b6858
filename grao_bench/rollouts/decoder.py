"""One more token for every row: the model's forward pass over an AnswerCache, on a GPU replayed as a CUDA graph."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from grao_bench.core.errors import UserError
from grao_bench.models.attention import prepared_mask
from grao_bench.models.router import without_router_loss
from grao_bench.rollouts.cache import AnswerCache, Buckets

WARM_UP_PASSES = 2
"""Passes before a capture: libraries choose kernels and allocate workspaces in their first, which a capture does not allow."""


def cache_argument(model: Any) -> str:
    """What a model's forward calls its key-value cache: `cache`, or in older transformers and in
    models with code of their own `past_key_values`, which transformers drops in 5.40."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


class Decoder:
    """Rows being decoded: their cache, the token that each is fed next [slots], and the step that makes the next logits.

    On a GPU, with coarse buckets, a step's kernels are recorded once per shape and replayed with one launch: a small model's step is
    hundreds of kernels that each take less time than their launch. A graph reads and writes the memory it was recorded on, so a decoder
    is kept between calls while it fits them.
    """

    def __init__(self, model: Any, slots: int, n: int, prompts: int, prompt_capacity: int, answer_capacity: int, buckets: Buckets) -> None:
        device = model.device
        self.model, self.graphs = model, device.type == "cuda" and buckets.coarse
        self.cache = AnswerCache(slots, n, prompts, prompt_capacity, answer_capacity, device, buckets)
        self.tokens = torch.zeros(slots, dtype=torch.long, device=device)
        self._mask, self._cache_name = prepared_mask(device), cache_argument(model)
        self._plain = without_router_loss(model.config)
        self._recorded: dict[tuple[int, ...], tuple[Any, Tensor]] = {}
        self._pool: Any = None

    def fits(self, model: Any, slots: int, n: int, prompt_capacity: int, answer_capacity: int) -> bool:
        """Whether it can take another call's rows."""
        prompt, answer = self.cache.capacities
        return (
            self.graphs
            and model is self.model
            and (slots, n) == (self.cache.slots, self.cache.n)
            and prompt_capacity <= prompt
            and answer_capacity <= answer
        )

    def step(self) -> Tensor:
        """[rows V]: the next logits of the rows alive, and of others after them, of no meaning. Valid until the next step."""
        self.cache.begin_step()
        logits = self._replayed() if self.graphs else self._forward(again=False)
        self.cache.end_step()
        return logits

    def _forward(self, again: bool) -> Tensor:
        self.cache.look(again)
        logits: Tensor = self.model(
            input_ids=self.tokens[: self.cache.shape[0], None],
            attention_mask=self._mask,
            position_ids=self.cache.positions,
            use_cache=True,
            logits_to_keep=1,
            **self._plain,
            layout=self.cache,
            **{self._cache_name: self.cache},
        ).logits
        return logits[:, 0]

    def _replayed(self) -> Tensor:
        shape = self.cache.shape
        if shape not in self._recorded:
            self._recorded[shape] = self._record()
        graph, logits = self._recorded[shape]
        graph.replay()
        return logits

    def _record(self) -> tuple[Any, Tensor]:
        """A step's graph and where it leaves its logits. A step that is run twice writes the same keys to the same places.

        UserError for a model that can't be recorded: a mixture of experts waits for its routing on the host.
        """
        if not self._recorded:
            self._pool = torch.cuda.graph_pool_handle()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_PASSES):
                self._forward(again=True)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                logits = self._forward(again=True)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"rollout.cuda_graphs=true: a decoding step of this model can't be recorded ({reason}); use false") from None
        return graph, logits
