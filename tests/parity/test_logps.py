"""The policy's log-probabilities and entropies, and their gradients, against TRL's fused head: what every loss is made of.

Here a prompt runs once for all its answers and nothing is padded; TRL repeats it and pads both sides.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from grao_bench.core.types import Needs
from grao_bench.models.policy import Policy
from tests.parity.agreement import one_process
from tests.small import rectangle, tiny_llama, tiny_qwen2

pytestmark = pytest.mark.slow
TEMPERATURE, TOLERANCE = 0.7, 3e-6


def theirs(trl, model, batch):
    """TRL's log-probs and entropies [P K T], 0 outside the mask, by the method that GRPO computes them with."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    K, T = batch.mask.shape[1:]
    ids = torch.cat([batch.prompts.repeat_interleave(K, 0), batch.tokens.flatten(0, 1)], 1)
    real = torch.cat([batch.prompt_mask.repeat_interleave(K, 0), batch.mask.flatten(0, 1)], 1)
    trainer = SimpleNamespace(accelerator=one_process(autocast=nullcontext, is_main_process=False))
    logp, entropy, _ = trl.GRPOTrainer._get_per_token_logps_and_entropies(trainer, model, ids, real.long(), T, compute_entropy=True)
    return logp.reshape(batch.mask.shape), entropy.reshape(batch.mask.shape)


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen2])
def test_logprobs_entropies_and_gradients(trl, make):
    """A float64 model, prompts and answers of unequal lengths: equal to float32's precision, in which TRL's head takes the log-softmax
    whatever the model's dtype (and transformers the rotary angles, which TRL counts from the first pad). Gradients: by every parameter,
    of a random mixture of the log-probs, relative to the largest entry."""
    batch = rectangle(Needs(rollouts=3), [[4, 1, 6], [2, 5, 3], [6, 6, 1]], seed=4)
    own_model, peer_model = (make(vocab=20, seed=2).double() for _ in range(2))
    peer_logp, peer_entropy = theirs(trl, peer_model, batch)
    own = Policy(own_model, TEMPERATURE, value_head=False)(batch, entropy=True)
    torch.testing.assert_close(own.logp, peer_logp.double(), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(own.entropy, peer_entropy.double(), rtol=0, atol=TOLERANCE)
    weights = torch.randn(batch.mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (weights * own.logp).sum().backward()
    (weights * peer_logp).sum().backward()
    for mine, yours in zip(own_model.parameters(), peer_model.parameters(), strict=True):
        assert ((mine.grad - yours.grad).abs().max() / yours.grad.abs().max()) < TOLERANCE
