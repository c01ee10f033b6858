"""lm-eval's model interface over our policy and rollout engine. Only `grao_bench.evaluation.lm_eval` imports it, when tasks are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text, resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from grao_bench.core.batching import make_batch, to_device
from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RolloutEngine, Sampling
from grao_bench.core.types import Answer, Needs, Prompt
from grao_bench.models.attention import pack
from grao_bench.models.hidden import hidden_states
from grao_bench.models.policy import Policy
from grao_bench.text.tokens import TextCodec

OnProgress = Callable[[str, int, int], None]
"""Called with (what is being done, requests done, requests)."""

TokenRequest = tuple[Any, list[int], list[int]]
"""lm-eval's: (the texts, context ids, continuation ids)."""

Row = tuple[tuple[int, ...], list[tuple[int, ...]]]
"""A context and the continuations that are scored after it."""

DEFAULT_MAX_TOKENS = 256
"""As lm_eval's HFLM."""
FIRST_ROUND = 64
"""After this many tokens, and twice as many each time, answers that hold a stop string are over."""
GREEDY_LOGITS = 2**24
"""Logits that exist at once where only the largest of each row is asked for."""

NEUTRAL = {"num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1, "length_penalty": 1, "use_cache": True}
"""Generation settings that change nothing at this value; at another, a task asks for what the engine doesn't do."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How a task wants its answers: sampled so, and cut before the first of these texts."""

    sampling: Sampling
    until: tuple[str, ...]


class EngineLM(TemplateLM):
    """A policy as lm-eval sees a model; what it says is what `lm_eval --model hf` says of the same checkpoint.

    A context is computed once for all its continuations. Answers come from the rollout engine: of the policy's own distribution, whatever
    penalties the checkpoint's generation settings name. Sampled ones depend on `seed`, the task, the document and the sample's number.
    """

    def __init__(
        self,
        policy: Policy,
        codec: TextCodec,
        engine: RolloutEngine,
        tokens_per_forward: int,
        seed: int,
        on_progress: OnProgress | None = None,
    ) -> None:
        TemplateLM.__init__(self)  # a single process, no cache
        self.policy, self.codec, self.engine = policy, codec, engine
        self.tokens_per_forward, self.seed, self.on_progress = tokens_per_forward, seed, on_progress
        self.tokenizer: Any = codec.tokenizer
        self.max_length = resolve_max_length(policy.model.config, self.tokenizer)
        self._device = policy.model.device

    @property
    def eot_token_id(self) -> int:
        """The id that ends a text: the tokenizer's own, as in stock lm-eval, whatever closes a
        turn."""
        end = self.tokenizer.eos_token_id
        return self.codec.end_token if end is None else int(end)

    @property
    def prefix_token_id(self) -> int:
        """What a text without context is conditioned on: the begin token, or without one the end token."""
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else int(begin)

    @property
    def tokenizer_name(self) -> str:
        """For lm-eval's request cache."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The dialogue in the tokenizer's chat template; without system turns where the template refuses them."""
        last = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, tokenize=False, **last))
        except TemplateError:
            spoken = [message for message in chat_history if message["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(spoken, tokenize=False, **last))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Ids, with the special tokens that the tokenizer adds by itself unless told otherwise or the text begins with one."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return [int(token) for token in self.tokenizer.encode(string, **special)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """The log-probability of each whole text: windows of max_length that overlap in one token, the first after the prefix token."""
        windows: list[TokenRequest] = []
        owner: list[int] = []
        for number, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, context_len=1):
                windows.append((None, *make_disjoint_window(window)))
                owner.append(number)
        totals = [0.0] * len(requests)
        for number, (logp, _) in zip(owner, self._loglikelihood_tokens(windows), strict=True):
            totals[number] += logp
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """An answer to each (context, generation settings): cut at an end token, before a stop string, or at the settings' length."""
        groups: dict[Generation, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(self._generation(request.args[1], str(request.task_name)), []).append(number)
        texts = [""] * len(requests)
        done = 0
        for generation, numbers in groups.items():
            drawn = self._generate([requests[number] for number in numbers], generation, done, len(requests))
            for number, text in zip(numbers, drawn, strict=True):
                texts[number] = text
            done += len(numbers)
        return texts

    @torch.no_grad()
    def _loglikelihood_tokens(self, requests: Sequence[TokenRequest], **kwargs: Any) -> list[tuple[float, bool]]:
        """(log-probability of the continuation in nats, whether greedy decoding would say it) of each request.

        TemplateLM's `loglikelihood` encodes context and continuation and calls this. A context too long loses tokens from the left.
        """
        wanted: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = {}
        for number, (texts, before, after) in enumerate(requests):
            if not 0 < len(after) <= self.max_length:
                what = f"a continuation of {len(after)} tokens"
                raise UserError(f"lm-eval: {what} can't be scored in a context of {self.max_length} ({texts!r:.80})")
            kept = tuple(before[-(self.max_length + 1 - len(after)) :])
            wanted.setdefault(kept, {}).setdefault(tuple(after), []).append(number)
        found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        done = 0
        for rows in self._batches([(context, list(continuations)) for context, continuations in wanted.items()]):
            for (context, continuations), scores in zip(rows, self._score(rows), strict=True):
                for continuation, score in zip(continuations, scores, strict=True):
                    for number in wanted[context][continuation]:
                        found[number] = score
                        done += 1
            self._show("lm-eval: log-likelihoods", done, len(requests))
        return found

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """The rows, those with as many continuations together, within tokens_per_forward; a row with more is cut."""
        pieces = [piece for row in rows for piece in self._pieces(row)]
        batch: list[Row] = []
        used = 0
        for row in sorted(pieces, key=lambda row: (len(row[1]), _cost(row)), reverse=True):
            if batch and used + _cost(row) > self.tokens_per_forward:
                yield batch
                batch, used = [], 0
            batch.append(row)
            used += _cost(row)
        if batch:
            yield batch

    def _pieces(self, row: Row) -> Iterator[Row]:
        context, continuations = row
        piece: list[tuple[int, ...]] = []
        for continuation in continuations:
            if piece and _cost((context, [*piece, continuation])) > self.tokens_per_forward:
                yield context, piece
                piece = []
            piece.append(continuation)
        yield context, piece

    def _score(self, rows: Sequence[Row]) -> list[list[tuple[float, bool]]]:
        K = max(len(continuations) for _, continuations in rows)
        answers = [[Answer("", continuation, False) for continuation in continuations] for _, continuations in rows]
        nothing = Answer("", (), False)
        batch = make_batch(
            [context for context, _ in rows],
            [[*some, *[nothing] * (K - len(some))] for some in answers],
            [str(number) for number in range(len(rows))],
            Needs(rollouts=K),
            self.codec.pad_token,
        )
        batch = to_device(batch, self.device)
        layout = pack(batch)
        hidden = hidden_states(self.policy.model, layout).index_select(0, layout.predictors)
        targets = batch.tokens[batch.mask]
        logp = self.policy.head(self.policy.output_layer, hidden, targets, 1.0).double()
        totals = logp.new_zeros(batch.mask.shape).masked_scatter(batch.mask, logp).sum(-1).tolist()
        missed = torch.zeros_like(batch.mask).masked_scatter(batch.mask, self._greedy(hidden) != targets).any(-1).tolist()
        return [[(totals[p][k], not missed[p][k]) for k in range(len(some))] for p, some in enumerate(answers)]

    def _greedy(self, hidden: Tensor) -> Tensor:
        """The likeliest token of each position; a soft cap keeps the order."""
        layer = self.policy.output_layer
        rows = max(1, GREEDY_LOGITS // self.policy.model.config.get_text_config().vocab_size)
        return torch.cat([layer(part).argmax(-1) for part in hidden.split(rows)])

    def _generation(self, settings: Mapping[str, Any], task: str) -> Generation:
        """lm-eval's generation settings as ours; UserError for one that asks for what the engine doesn't do."""
        given: dict[str, Any] = dict(normalize_gen_kwargs(dict(settings), DEFAULT_MAX_TOKENS))
        until, length, sampled = given.pop("until"), given.pop("max_gen_toks"), given.pop("do_sample")
        temperature = float(given.pop("temperature", 1.0)) * bool(sampled)
        drawn = {name: given.pop(name, default) for name, default in (("top_p", 1.0), ("top_k", 0), ("min_p", 0.0))}
        strange = [f"{name}={value}" for name, value in given.items() if name not in NEUTRAL or value != NEUTRAL[name]]
        if strange:
            raise UserError(f"lm-eval task {task}: generation_kwargs {', '.join(strange)}: the rollout engine can't do that; leave it out")
        if self.max_length <= length:
            raise UserError(
                f"lm-eval task {task}: max_gen_toks={length} leaves no room for a prompt in the model's context of {self.max_length}; "
                "set a smaller one in the task's generation_kwargs"
            )
        if not sampled:  # what shapes a distribution changes nothing about its largest
            drawn = {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
        return Generation(
            Sampling(temperature, float(drawn["top_p"]), length, int(drawn["top_k"] or 0), float(drawn["min_p"] or 0.0)),
            tuple(term for term in until if term),
        )

    def _generate(self, requests: Sequence[Instance], generation: Generation, before: int, total: int) -> list[str]:
        """Answers in rounds, each twice as long as the one before, so that a stop string is not passed by far."""
        sampling, length = generation.sampling, generation.sampling.max_new_tokens
        contexts = [self.tok_encode(request.args[0])[-(self.max_length - length) :] or [self.prefix_token_id] for request in requests]
        streams = _streams(requests)
        drawn: list[list[int]] = [[] for _ in requests]
        going, size = list(range(len(requests))), FIRST_ROUND
        while going:
            size = min(size, length - len(drawn[going[0]]))
            prompts = [Prompt(f"{streams[i]}/{len(drawn[i])}", (*contexts[i], *drawn[i])) for i in going]
            answers = self.engine.sample(prompts, 1, replace(sampling, max_new_tokens=size), self.seed)
            unfinished = []
            for i, (answer,) in zip(going, answers, strict=True):
                drawn[i] += answer.tokens
                text = self._text(drawn[i])
                if not answer.finished and len(drawn[i]) < length and not any(term in text for term in generation.until):
                    unfinished.append(i)
            going, size = unfinished, 2 * size
            self._show("lm-eval: answers", before + len(requests) - len(going), total)
        return [postprocess_generated_text(self._text(tokens), list(generation.until), None) for tokens in drawn]

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _show(self, what: str, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(what, done, total)


def _cost(row: Row) -> int:
    return len(row[0]) + sum(len(continuation) for continuation in row[1])


def _streams(requests: Sequence[Instance]) -> list[str]:
    """A name for each request's random numbers: its task, its document, and which of the document's requests and repeats it is."""
    seen: dict[str, int] = {}
    names = []
    for request in requests:
        name = f"{request.task_name}/{request.doc_id}/{request.idx}"
        names.append(f"{name}/{seen.get(name, 0)}")
        seen[name] = seen.get(name, 0) + 1
    return names
