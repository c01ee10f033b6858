"""The policy: a causal language model seen through its answers' log-probabilities. The only place that shifts tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grao_bench.errors import UserError
from grao_bench.types import Batch, PolicyOutput


class Policy(nn.Module):
    """A Hugging Face causal LM and, where an objective needs one, a value head on its last hidden state.

    Dropout is off throughout, so that the sampler's and the trainer's log-probabilities are of one model.
    """

    def __init__(self, model: Any, logp_temperature: float, value_head: bool) -> None:
        super().__init__()
        self.model = model.eval()
        self.logp_temperature = logp_temperature
        # zeros: the first values are 0 for every seed, and no random draw is spent on them
        self.value_head = nn.Linear(model.config.get_text_config().hidden_size, 1, dtype=torch.float32) if value_head else None
        if self.value_head is not None:
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
            self.value_head.to(model.device)

    def forward(self, batch: Batch, entropy: bool = False, temperature: float | None = None) -> PolicyOutput:
        """Log-probabilities [P K T] of the batch's answers, 0 outside the mask; values if there is a head.

        temperature: divides the logits; None is `logp_temperature`, the losses' own.

        `entropy` adds the entropy (nats) of each answer position's distribution, without gradient.
        """
        P, K, T = batch.tokens.shape
        prompt = batch.prompts.repeat_interleave(K, 0)
        answer_mask = batch.mask.reshape(P * K, T)
        mask = torch.cat([batch.prompt_mask.repeat_interleave(K, 0), answer_mask], 1)
        out = self.model(
            input_ids=torch.cat([prompt, batch.tokens.reshape(P * K, T)], 1),
            attention_mask=mask.long(),
            position_ids=(mask.long().cumsum(1) - 1).clamp(min=0),
            logits_to_keep=T + 1,  # the last prompt position predicts the first answer token
            output_hidden_states=self.value_head is not None,
            use_cache=False,
        )
        logits = out.logits[:, -T - 1 : -1]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / (temperature or self.logp_temperature)
        logprobs = logits.log_softmax(-1)
        logp = logprobs.gather(-1, batch.tokens.reshape(P * K, T, 1))[..., 0]
        return PolicyOutput(
            logp=_rectangle(logp, batch),
            entropy=_rectangle(-(logprobs.exp() * logprobs).sum(-1).detach(), batch) if entropy else None,
            values=None if self.value_head is None else self._values(out.hidden_states[-1][:, -T - 1 : -1], batch),
        )

    def _values(self, hidden: Tensor, batch: Batch) -> Tensor:
        assert self.value_head is not None
        return _rectangle(self.value_head(hidden.to(self.value_head.weight))[..., 0], batch)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The language model's parameters, and the value head's (empty without one)."""
        return list(self.model.parameters()), list(self.value_head.parameters()) if self.value_head is not None else []


def load_causal_lm(path: str, dtype: str, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a local folder or hub id, on its device; UserError where it can't be had."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        what = "is not a checkpoint that transformers can load" if Path(path).is_dir() else "is neither a folder nor a reachable hub id"
        raise UserError(f"model.path={path}: {what} ({str(error).splitlines()[0]}); give a local folder or check the network") from None
    if len(tokenizer) > model.config.get_text_config().vocab_size:
        raise UserError(
            f"model.path={path}: the tokenizer has {len(tokenizer)} tokens, the model {model.config.get_text_config().vocab_size}; "
            "they don't belong together"
        )
    return model.to(resolve_device(device)), tokenizer


def resolve_device(device: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU. UserError for a CUDA device where there is none."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"model.device={device}: this machine's torch sees no CUDA device; use cpu or auto")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)


def _rectangle(x: Tensor, batch: Batch) -> Tensor:
    """[P*K T] -> [P K T], 0 outside the mask."""
    return torch.where(batch.mask, x.reshape(batch.tokens.shape), 0.0)
