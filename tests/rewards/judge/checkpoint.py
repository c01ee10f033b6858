"""A judge on disk that is small enough to be made in seconds: it has learnt by heart what to reply to a few prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from grao_bench.core.interfaces import RewardRequest
from grao_bench.rewards.judge.prompt import load_prompt

from .setting import request

SAID = {1: "1 > 2", 0: "1 = 2", -1: "1 < 2"}
END, USER, ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% if message['role'] == 'assistant' %}"
    "{{ '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tokenizer_for(documents: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a chat template of three special tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        documents,
        trainers.BpeTrainer(vocab_size=800, special_tokens=[END, USER, ASSISTANT], initial_alphabet=alphabet, show_progress=False),
    )
    special = {"eos_token": END, "pad_token": END, "additional_special_tokens": [USER, ASSISTANT]}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=TEMPLATE, **special)


def learn_by_heart(replies: Mapping[str, str], folder: Path, steps: int = 800) -> float:
    """Train a tiny Llama until it gives each prompt its reply, save it, and return the last loss."""
    tokenizer = tokenizer_for([*replies, *replies.values()])
    rows = []
    for prompt, reply in replies.items():
        ids = tokenizer(f"{USER}{prompt}{ASSISTANT}")["input_ids"]
        rows.append((ids, tokenizer(reply + END)["input_ids"]))
    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    tokens, labels = torch.full((len(rows), width), tokenizer.pad_token_id), torch.full((len(rows), width), -100)
    for i, (prompt, reply) in enumerate(rows):
        tokens[i, : len(prompt) + len(reply)] = torch.tensor([*prompt, *reply])
        labels[i, len(prompt) : len(prompt) + len(reply)] = torch.tensor(reply)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=1,
                num_attention_heads=4,
                max_position_embeddings=2048,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                tie_word_embeddings=True,
            )
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
        loss = torch.tensor(0.0)
        for _ in range(steps):
            # padding stands on the right and is not attended to by what comes before it
            loss = model(input_ids=tokens, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if loss < 0.01:
                break
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return float(loss.detach())


@dataclass(frozen=True)
class LittleJudge:
    """The checkpoint's folder, its prompt's file, and the pairs that it knows with their R(answer, reference)."""

    folder: Path
    prompt: Path
    asked: tuple[RewardRequest, ...]
    rewards: tuple[float, ...]


def little_judge(folder: Path) -> LittleJudge:
    """A judge that knows six pairs in both orders, and contradicts itself on the last."""
    file = folder / "short.md"
    file.write_text("{context}\n[A]\n{text_1}\n[B]\n{text_2}\n1 > 2, 1 = 2 or 1 < 2?\n", encoding="utf-8")
    prompt = load_prompt(str(file))
    pairs = [("fish", "stones", 1), ("mud", "crabs", -1), ("eels", "snails", 0), ("frogs", "sand", 1), ("glass", "clams", -1)]
    asked = [request(answer, reference, number) for number, (answer, reference, _) in enumerate(pairs)]
    replies = {}
    for one, (_, _, sign) in zip(asked, pairs, strict=True):
        replies[prompt.ask(one.example.prompt, one.text, one.example.chosen, "model_first")] = SAID[sign]
        replies[prompt.ask(one.example.prompt, one.text, one.example.chosen, "reference_first")] = SAID[-sign]
    biased = request("roots", "bark", len(pairs))
    for order in ("model_first", "reference_first"):
        replies[prompt.ask(biased.example.prompt, biased.text, biased.example.chosen, order)] = SAID[1]
    loss = learn_by_heart(replies, folder / "model")
    assert loss < 0.02, f"the little judge has not learnt its replies: {loss}"
    return LittleJudge(folder / "model", file, (*asked, biased), (*(float(sign) for _, _, sign in pairs), 0.0))
