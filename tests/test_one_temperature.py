"""The loss is of the distribution that answers are drawn from: every answer enumerated, through the
models that a cell makes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from grao_bench.core.batching import make_batch
from grao_bench.core.ops import kl_k1, kl_k3
from grao_bench.core.specs import load
from grao_bench.core.types import Answer, Batch, Needs
from grao_bench.models.policy import Policy
from grao_bench.objectives import load_objective
from grao_bench.runs.cell import models_wanted
from grao_bench.training.ranks import ALONE

from .cells import cell
from .small import END, PAD, WORDS, tiny_llama, word_tokenizer

V, PROMPT = len(WORDS), (6, 9)
ANSWERS = [(END,), *((a, b) for a in range(V) if a != END for b in range(V))]
"""Every answer of at most two tokens: the end at once, or a word and whatever follows."""
REWARDS = torch.linspace(-1, 1, len(ANSWERS), dtype=torch.float64).sin() * 3


@cache
def batch() -> Batch:
    """All of them as the answers to one prompt."""
    row = [Answer("", tokens, tokens[-1] == END) for tokens in ANSWERS]
    return make_batch([PROMPT], [row], ["every"], Needs(rollouts=len(ANSWERS)), PAD)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two models of sharp distributions: a policy's, and that of its reference."""
    made = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp(f"model{seed}")
        tiny_llama(seed=seed, initializer_range=0.3).double().save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
        made.append(str(folder))
    return made


def policy_of(folder: str, objective: str = "grpo", **changed) -> Policy:
    """The policy of a cell at rollout.temperature=0.7 whose model lies there."""
    fields = {"dtype": "float64", "prompt_format": "hh", "device": "cpu"} | changed
    one = cell(objective, folder, model=load("model/hf", path=folder, **fields))
    return one.model.build(ALONE, models_wanted(one)).policy


def exact(model, temperature: float) -> torch.Tensor:
    """log pi of every answer at a temperature, by plain forward passes of one sequence each."""

    def of(*tokens: int) -> torch.Tensor:
        logits = model(input_ids=torch.tensor([[*PROMPT, *tokens]])).logits[0, -1]
        return (logits / temperature).log_softmax(-1)

    first, second = of(), {a: of(a) for a in range(V) if a != END}
    rest = [first[a] + second[a][b] for a, b in ANSWERS[1:]]
    return torch.stack([first[END], *rest])


def gradient_of(value: torch.Tensor, policy: Policy) -> torch.Tensor:
    grads = torch.autograd.grad(value, list(policy.model.parameters()), allow_unused=True)
    return torch.cat([each.flatten() for each in grads if each is not None])


def of_the_loss(policy: Policy) -> torch.Tensor:
    """The gradient that GRPO's own loss has in expectation over answers drawn at 0.7: each answer's
    advantage is its reward, weighted with how often it is drawn."""
    spec = load_objective("grpo", rollouts=len(ANSWERS), kl=0.0)
    spec = replace(spec, reduction="constant_length", max_tokens=1)
    drawn = exact(policy.model, 0.7).detach().exp()
    advantages = (REWARDS * drawn * len(ANSWERS))[None, :, None]
    out = policy(batch())
    filled = spec.prepare(batch().fill(rewards=REWARDS[None]))
    filled = filled.fill(advantages=advantages, old_logp=out.logp.detach())
    return -gradient_of(spec.loss(out, filled).total.sum(), policy)


@pytest.mark.parametrize(
    ("changed", "right"),
    [({}, True), ({"logp_temperature": 0.7}, True), ({"logp_temperature": 1.0}, False)],
    ids=["auto", "0.7", "1"],
)
def test_the_losss_gradient_is_that_of_the_expected_reward(folders, changed, right):
    """d/dz E[R] of answers drawn at 0.7: cosine 1 and norm ratio 1 by itself, and at the rollouts'
    temperature; at 1 it is about 0.7 of it."""
    policy = policy_of(folders[0], **changed)
    expected = (exact(policy.model, 0.7).exp() * REWARDS).sum()
    true, ours = gradient_of(expected, policy), of_the_loss(policy)
    cosine = torch.cosine_similarity(true, ours, 0).item()
    ratio = (ours.norm() / true.norm()).item()
    if right:
        # transformers' RMSNorm is in float32
        assert (cosine, ratio) == pytest.approx((1, 1), abs=1e-5)
    else:
        assert cosine < 0.9999
        assert ratio == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("estimator", [kl_k1, kl_k3])
def test_kl_is_of_what_was_drawn_from(folders, estimator):
    """Estimators have KL(pi || ref) at 0.7 as their mean over rollouts; at 1 they have that of no
    pair of distributions."""
    policies = [policy_of(folder) for folder in folders]
    tables = {heat: [exact(each.model, heat).detach() for each in policies] for heat in (0.7, 1.0)}
    kl = {heat: (pi.exp() * (pi - ref)).sum().item() for heat, (pi, ref) in tables.items()}
    drawn = tables[0.7][0].exp()

    def mean(*said: torch.Tensor) -> float:
        return (drawn * estimator(*said)[0].sum(-1)).sum().item()

    with torch.no_grad():
        assert mean(*(each(batch()).logp for each in policies)) == pytest.approx(kl[0.7], rel=1e-6)
        other = mean(*(each(batch(), temperature=1.0).logp for each in policies))
    assert min(abs(other / each - 1) for each in kl.values()) > 0.02


def test_reference_and_base_are_at_the_policys_temperature(folders, tmp_path):
    one = cell("ppo", tmp_path, model=load("model/hf", path=folders[0], prompt_format="hh"))
    models = one.model.build(ALONE, models_wanted(one))
    found = [each.logp_temperature for each in (models.policy, models.reference, models.base)]
    assert found == [0.7] * 3


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_losses_without_rollouts_are_the_models_own(folders, objective):
    """log pi at temperature 1, whatever rollouts would be drawn at."""
    policy = policy_of(folders[0], objective)
    with torch.no_grad():
        found = policy(batch()).logp[0].sum(-1)
        torch.testing.assert_close(found, exact(policy.model, 1.0), atol=1e-6, rtol=0)
