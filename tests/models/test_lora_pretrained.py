"""LoRA on a real model: the base untouched, one engine, what half precision keeps, peft's reading."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from grao_bench.core.batching import make_batch
from grao_bench.core.interfaces import ModelsWanted, Sampling
from grao_bench.core.specs import load
from grao_bench.core.types import Answer, Loss, Needs, Prompt, Turn
from grao_bench.models.adapters import merged, save_adapter
from grao_bench.models.policy import Policy
from grao_bench.rollouts.shared_prefix import SharedPrefixEngine
from grao_bench.training.gradient import gradient_step
from grao_bench.training.ranks import Alone

from ..pretrained import pretrained

TEXTS = ("Paris is the capital of France.", "Two and two make four.")


@pytest.fixture(params=["float32", "bfloat16"])
def models(request):
    """Of SmolLM2, with an adapter."""
    path = str(pretrained("smollm2"))
    spec = load("model/smollm2_135m", path=path, dtype=request.param, device="cpu")
    wanted = ModelsWanted(128, 1000, True, 1.0, False, True, lambda: pytest.fail("read"))
    return replace(spec, adapter=load("model/adapter/lora")).build(Alone(), wanted)


def batch_of(codec):
    asked = [codec.prompt("0", (Turn("user", "Tell me something."),))] * 2
    answers = [[Answer(text, tuple(codec.tokenizer(text)["input_ids"]), True)] for text in TEXTS]
    return make_batch([one.tokens for one in asked], answers, ["0", "1"], Needs(chosen=True), 0)


class Step:
    """One update of the adapter on the texts."""

    def __init__(self, policy, lr):
        adamw = load("optimizer/adamw", lr=lr, warmup_steps=0)
        self.module, self.clip_norm, self.step = policy, adamw.clip_norm, 0
        self.optimizer, self.schedule = adamw.build(policy, 1)

    def on(self, batch):
        def loss(part):
            return Loss(parts={"nll": -self.module(part).logp.sum((1, 2))})

        return gradient_step(self, batch, 1000, loss, "")


@pytest.mark.slow
def test_on_a_real_model(models, tmp_path):
    policy, codec, batch = models.policy, models.codec, batch_of(models.codec)
    path, dtype = models.base.model.name_or_path, policy.model.dtype
    untouched = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    with torch.no_grad():
        before = Policy(untouched, 1.0, False)(batch).logp
        assert torch.equal(policy(batch).logp, before)
    every = [*policy.parameters(), *models.base.parameters()]
    held = sum({each.data_ptr(): each.nbytes for each in every}.values())
    whole = sum(each.nbytes for each in untouched.parameters())
    assert whole < held < 1.2 * whole, "the weights are there once"
    Step(policy, 1e-4).on(batch)
    with torch.no_grad():
        after = policy(batch).logp
        assert torch.equal(models.base(batch).logp, before)
    assert (after - before).sum() > 0.1, "the texts are likelier"

    engine = SharedPrefixEngine(codec, 8)
    engine.sync(policy, 1)
    prompt = Prompt("0", tuple(batch.prompts[0][batch.prompt_mask[0]].tolist()))
    (answers,) = engine.sample([prompt], 4, Sampling(1.0, 1.0, 12), seed=0)
    drawn = make_batch([prompt.tokens], [answers], ["0"], Needs(rollouts=4), 0)
    told = torch.zeros(drawn.tokens.shape)
    for k, answer in enumerate(answers):
        told[0, k, : len(answer.tokens)] = torch.tensor(answer.logp)
    with torch.no_grad():
        off = (policy(drawn).logp - told).abs().sum() / drawn.mask.sum()
    assert off < (1e-4 if dtype == torch.float32 else 5e-2)

    save_adapter(policy.model, tmp_path)
    again = PeftModel.from_pretrained(untouched, tmp_path)
    ids = torch.arange(1000, 1040)[None]
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, policy.model(input_ids=ids).logits)


@pytest.mark.slow
def test_of_a_first_update_merged_into_bfloat16_hardly_anything_is_left(models):
    if models.policy.model.dtype != torch.bfloat16:
        pytest.skip("of half precision")
    policy, batch = models.policy, batch_of(models.codec)
    Step(policy, 1e-4).on(batch)
    whole = merged(policy.model)
    base = dict(models.base.model.named_parameters())
    kept = total = 0.0
    for name, value in whole.named_parameters():
        update = value.detach() - base[name].float()
        left = value.detach().bfloat16().float() - base[name].float()
        kept, total = kept + float((left * update).sum()), total + float((update * update).sum())
    assert whole.dtype == torch.float32
    assert total > 0
    assert kept < 0.3 * total  # 0.06 measured
