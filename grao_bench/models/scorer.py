"""The scorer: a sequence classifier with one output, seen through its answers' scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from grao_bench.core.batching import make_batch, micro_batches, to_device
from grao_bench.core.devices import resolve_device, resolve_dtype
from grao_bench.core.errors import UserError
from grao_bench.core.types import Answer, Batch, Needs
from grao_bench.models.adapters import adapter_config, base_of, is_adapter, load_adapter
from grao_bench.models.attention import pack, use_shared_prefix
from grao_bench.models.hidden import enable_checkpointing, hidden_states
from grao_bench.models.hub import fetched, is_hub_id

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""The ids of a prompt and of an answer to it."""


class Scorer(nn.Module):
    """A transformers decoder with a head called `score` (Llama, Qwen, ...) beside `Policy`.

    A prompt runs once for all its answers, with gradient, and nothing is padded. Dropout is off
    throughout. `gradient_checkpointing` keeps only each layer's input for the backward pass, which
    changes no number; a batch of more than `tokens_per_forward` tokens (a long pair, which can't
    be cut) is run so in any case, where the model can; None never does.
    """

    def __init__(
        self,
        model: Any,
        tokens_per_forward: int | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        use_shared_prefix(model)
        self.tokens_per_forward = tokens_per_forward
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            enable_checkpointing(model)
        elif tokens_per_forward is not None:
            with suppress(UserError):  # its layers can't be: a long pair takes the memory it takes
                enable_checkpointing(model)

    def forward(self, batch: Batch) -> Float[Tensor, "P K"]:
        """The score of each answer: the head on the hidden state at its last token, in float32 at
        least. An absent answer (no tokens) has the score of its bare prompt."""
        layout = pack(batch, last_tokens=True)
        bound = self.tokens_per_forward
        long = bound is not None and layout.tokens.numel() > bound
        hidden = hidden_states(self.model, layout, long or self.gradient_checkpointing)
        last = hidden.index_select(0, layout.ends.flatten())
        return head_scores(self.model.score, last).view(layout.ends.shape)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The trainable parameters, and none at a rate of their own."""
        return [each for each in self.model.parameters() if each.requires_grad], []


def head_scores(head: Any, hidden: Float[Tensor, "N H"]) -> Float[Tensor, "N 1"]:
    """A head on hidden states, in float32 at least, whatever the weights are in."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    bias = None if head.bias is None else head.bias.to(dtype)
    return linear(hidden.to(dtype), head.weight.to(dtype), bias)


@torch.no_grad()
def score_rows(scorer: Scorer, rows: Sequence[Row], tokens_per_forward: int) -> list[float]:
    """[N]: a score for each row, in order, in forward passes of at most tokens_per_forward tokens
    (one row at least). The answers to equal prompts run together, equal rows once."""
    groups: list[tuple[tuple[int, ...], list[tuple[int, ...]]]] = []
    open_groups: dict[tuple[int, ...], int] = {}
    used: dict[int, int] = {}
    for prompt, answer in dict.fromkeys(rows):
        at = open_groups.get(prompt)
        if at is None or used[at] + len(answer) > tokens_per_forward:
            at = open_groups[prompt] = len(groups)
            used[at] = len(prompt)
            groups.append((prompt, []))
        groups[at][1].append(answer)
        used[at] += len(answer)
    if not groups:
        return []
    K = max(len(answers) for _, answers in groups)
    absent = [()] * K
    batch = make_batch(
        [prompt for prompt, _ in groups],
        [[Answer("", ids, True) for ids in [*given, *absent][:K]] for _, given in groups],
        [str(number) for number in range(len(groups))],
        Needs(rollouts=K),
        pad_token=0,
    )
    found: dict[Row, float] = {}
    for chosen in micro_batches(batch, tokens_per_forward):
        part = to_device(batch.select(chosen).trimmed(), scorer.model.device)
        for number, scores in zip(chosen, scorer(part).tolist(), strict=True):
            prompt, answers = groups[number]
            found |= {(prompt, each): score for each, score in zip(answers, scores, strict=False)}
    return [found[row] for row in rows]


def load_classifier(
    path: str,
    dtype: str,
    device: str,
    key: str,
    new_head: bool = False,
) -> tuple[Any, Any]:
    """(model, tokenizer) of a sequence classifier with one label, on its device.

    `new_head`: of any causal LM, with a new head where it has none. An adapter's folder gives it,
    and the head that it holds, on the model that it was trained on. UserError, naming the config's
    `key`.path, where it can't be had.
    """
    if is_adapter(path):
        return _with_adapter(Path(path), dtype, device, key, new_head)
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    where = resolve_device(device, f"{key}.device")
    folder = fetched(path, key=f"{key}.path") if is_hub_id(path) else path
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=1,
            dtype=resolve_dtype(dtype, where),
            output_loading_info=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a head of another size
        reason = str(error).splitlines()[0]
        what = f"{key}.path={path}: no reward model could be loaded"
        raise UserError(f"{what} ({reason})") from None
    _require_whole(loading, f"{key}.path={path}", new_head)
    if new_head and not hasattr(model, "score"):
        what = f"{key}.path={path}: {type(model).__name__} is no decoder with a head called score"
        raise UserError(f"{what}; reward models start from a causal LM")
    return model.to(where).eval(), tokenizer


def _require_whole(loading: Mapping[str, Any], what: str, new_head: bool) -> None:
    """UserError for a classifier with weights missing or left over; where it gets a `new_head`, the
    head may be missing, and a language model's be left over."""
    head = ("score.", "lm_head.") if new_head else ()
    for name in sorted(loading["missing_keys"]):
        if not name.startswith(head):
            fault = f"{what}: a checkpoint without {name} is no reward model"
            whole = "a whole checkpoint" if new_head else "a sequence classifier with one output"
            raise UserError(f"{fault}; give {whole}")
    for name in sorted(loading["unexpected_keys"]):
        if not name.startswith(head):
            raise UserError(f"{what}: it has {name} besides, of another model; give one of its own")


def _with_adapter(folder: Path, dtype: str, device: str, key: str, new: bool) -> tuple[Any, Any]:
    if new or not adapter_config(folder).modules_to_save:
        what = "an adapter to start from" if new else "an adapter without a head"
        fix = "give a whole model (save_model=full)" if new else "train one with train_reward"
        raise UserError(f"{key}: {folder} is {what}; {fix}")
    with torch.random.fork_rng(devices=[]):  # for a new head, which the adapter's own replaces
        model, tokenizer = load_classifier(base_of(folder), dtype, device, key, new_head=True)
    load_adapter(model, folder)
    return model, tokenizer
