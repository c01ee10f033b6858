"""The policy: a causal language model seen through its answers' log-probabilities. The only place that shifts tokens."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from grao_bench.core.batching import packed_tokens
from grao_bench.core.types import Batch, PolicyOutput
from grao_bench.models.attention import pack, use_shared_prefix
from grao_bench.models.head import LogprobHead
from grao_bench.models.hidden import decoded, enable_checkpointing
from grao_bench.models.router import router_loss


class Policy(nn.Module):
    """A Hugging Face causal LM and, where an objective needs one, a value head on its last hidden state.

    A prompt runs once for all its answers, with gradient, and nothing is padded
    (grao_bench.models.attention). `tokens_per_forward`: a group with more tokens takes two passes,
    log-probabilities first and d loss / d logp second, some answers at a time; None never does.
    `gradient_checkpointing` keeps only each layer's input for the backward pass. Dropout is off throughout, so that the sampler's and the
    trainer's log-probabilities are of one model.
    """

    def __init__(
        self,
        model: Any,
        logp_temperature: float,
        value_head: bool,
        tokens_per_forward: int | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        use_shared_prefix(model)
        self.head = LogprobHead(model)
        self.logp_temperature, self.tokens_per_forward = logp_temperature, tokens_per_forward
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            enable_checkpointing(model)
        self.value_head = _zero_head(model) if value_head else None

    def forward(
        self, batch: Batch, entropy: bool = False, temperature: float | None = None, expected: Tensor | None = None
    ) -> PolicyOutput:
        """Log-probabilities [P K T] of the batch's answers, 0 outside the mask; values if there is a head.

        temperature: divides the logits; None is `logp_temperature`, the losses' own.
        `entropy` adds the entropy (nats) of each answer position's distribution, with gradient.
        expected [P K T]: d loss / d logp where it is known beforehand; it saves time and changes no
        number (`LogprobHead.forward`).
        """
        run = partial(self._packed, entropy=entropy, temperature=temperature or self.logp_temperature)
        slices = self._slices(batch)
        if len(slices) == 1:
            return run(batch, expected=expected)
        # the exact two-pass route: a slice keeps nothing but its log-probs, and runs again when their gradient is known
        again = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False) if torch.is_grad_enabled() else run
        parts = [_answers(batch, columns) for columns in slices]
        tokens = [packed_tokens(part)[0] for part in parts]
        return _side_by_side([again(part) for part in parts], tokens)

    def _slices(self, batch: Batch) -> list[list[int]]:
        """The answers' columns, cut where one group has more tokens than a forward pass may have."""
        everything = list(range(len(batch.slots)))
        if batch.size != 1 or self.tokens_per_forward is None or packed_tokens(batch)[0] <= self.tokens_per_forward:
            return [everything]
        prompt, lengths = int(batch.prompt_mask.sum()), batch.mask[0].sum(-1).tolist()
        slices: list[list[int]] = []
        used = 0
        for column in everything:
            if not slices or used + lengths[column] > self.tokens_per_forward:
                slices.append([])
                used = prompt
            slices[-1].append(column)
            used += lengths[column]
        return slices

    def _packed(self, batch: Batch, entropy: bool, temperature: float, expected: Tensor | None = None) -> PolicyOutput:
        layout = pack(batch)
        out = decoded(self.model, layout, self.gradient_checkpointing)
        hidden = out.last_hidden_state[0].index_select(0, layout.predictors)
        targets = batch.tokens[batch.mask]
        guess = None if expected is None else expected[batch.mask]
        logp = self.head(self.output_layer, hidden, targets, temperature, guess)
        asked: dict[str, Tensor] = {}
        if entropy:
            asked["entropy"] = self.head.entropies(self.output_layer, hidden, temperature)
        if self.value_head is not None:
            asked["values"] = self.value_head(hidden.to(self.value_head.weight))[:, 0]
        filled = {name: _rectangle(x, batch) for name, x in asked.items()}
        router = None
        if torch.is_grad_enabled():  # else nothing trains
            router = router_loss(self.model, getattr(out, "router_logits", None))
        own = {} if router is None else {"router": router.expand(batch.size)}
        return PolicyOutput(_rectangle(logp, batch), filled, own)

    @property
    def output_layer(self) -> nn.Module:
        """The model's, as it is now: an adapter may have taken its place."""
        layer: nn.Module = self.model.get_output_embeddings()
        return layer

    @property
    def logp_dtype(self) -> torch.dtype:
        """Of the log-probabilities: float32 at least."""
        return torch.promote_types(self.model.dtype, torch.float32)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The trainable parameters of the language model, and of the value head (empty without).

        Trainable is what asks for a gradient: all of them, or an adapter's alone.
        """
        head = [] if self.value_head is None else list(self.value_head.parameters())
        model = [each for each in self.model.parameters() if each.requires_grad]
        return model, [each for each in head if each.requires_grad]


def _zero_head(model: Any) -> nn.Linear:
    """Zeros: the first values are 0 for every seed, and no random draw is spent on them."""
    width = model.config.get_text_config().hidden_size
    head: nn.Linear = nn.utils.skip_init(nn.Linear, width, 1, dtype=torch.float32, device=model.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def _answers(batch: Batch, columns: list[int]) -> Batch:
    """The batch with some of its answers, and only what a policy reads."""
    return replace(
        batch,
        slots=tuple(batch.slots[column] for column in columns),
        tokens=batch.tokens[:, columns],
        mask=batch.mask[:, columns],
        finished=batch.finished[:, columns],
        filled={},
    )


def _side_by_side(outputs: list[PolicyOutput], tokens: list[int]) -> PolicyOutput:
    """One output of some answers each; a model's own loss is the slices' mean by their tokens."""
    filled = {name: torch.cat([out.filled[name] for out in outputs], 1) for name in outputs[0].filled}
    shares = [count / sum(tokens) for count in tokens]
    own: dict[str, Tensor] = {}
    for name in outputs[0].model_losses:
        each = [out.model_losses[name] * share for out, share in zip(outputs, shares, strict=True)]
        own[name] = torch.stack(each).sum(0)
    return PolicyOutput(torch.cat([out.logp for out in outputs], 1), filled, own)


def _rectangle(x: Tensor, batch: Batch) -> Tensor:
    """[M] -> [P K T]: one number per answer token, in the mask's order, 0 elsewhere."""
    return x.new_zeros(batch.mask.shape).masked_scatter(batch.mask, x)
