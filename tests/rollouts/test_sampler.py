"""The sampler against the softmax, against a search over the whole cumulative distribution, and against transformers' own warpers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LogitsProcessorList, MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from grao_bench.core.interfaces import Sampling
from grao_bench.rollouts.sampler import CANDIDATES, NextToken

PLAIN = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=1)
SETTINGS = [
    Sampling(temperature, top_p, 1, top_k, min_p)
    for temperature, top_p, top_k, min_p in product((0.7, 1.0, 1.3), (1.0, 0.8), (0, 7), (0.0, 0.1))
]


def logits(rows: int, vocab: int, seed: int = 0, scale: float = 2.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (scale * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def uniforms(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(count))


def warped(x: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probabilities after what `generate` does to logits, in its order."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers(None, x.double()).log_softmax(-1)


def every_logp(x: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities [N V] under the sampling distribution, raw ones) by asking for each token in turn."""
    N, V = x.shape
    asked = NextToken(x.repeat_interleave(V, 0), sampling).logp(torch.arange(V).repeat(N))
    return asked[0].view(N, V), asked[1].view(N, V)


@pytest.mark.parametrize("sampling", SETTINGS, ids=lambda s: f"t{s.temperature}-p{s.top_p}-k{s.top_k}-m{s.min_p}")
def test_the_distribution_is_that_of_transformers_warpers(sampling):
    x = logits(20, 50)
    drawn, raw = every_logp(x, sampling)
    expected = warped(x, sampling)
    assert torch.equal(drawn.isinf(), expected.isinf()), "another set of tokens"
    torch.testing.assert_close(drawn.double(), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(raw.double(), x.double().log_softmax(-1), atol=2e-6, rtol=0)


def test_ties_with_the_kth_token_stay():
    """bfloat16 logits are full of ties; transformers keeps them all."""
    x = torch.tensor([[3.0, 2.0, 2.0, 2.0, 1.0]])
    sampling = replace(PLAIN, top_k=2)
    assert every_logp(x, sampling)[0].isinf().tolist() == [[False, False, False, False, True]]
    assert warped(x, sampling).isinf().tolist() == [[False, False, False, False, True]]


def test_a_nucleus_larger_than_the_candidates_is_found_whole():
    """Nearly uniform over more tokens than are sorted at first."""
    x = logits(2, 4 * CANDIDATES, scale=0.01, dtype=torch.float64)
    drawn = NextToken(x, replace(PLAIN, top_p=0.9))
    expected = warped(x, replace(PLAIN, top_p=0.9))
    assert torch.equal(drawn.weights > 0, ~expected.isinf())
    assert (drawn.weights > 0).sum(-1).min() > 3 * CANDIDATES


@pytest.mark.parametrize("vocab", [2, 3, 14, 64, 1000, 4096, 33000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_draw_is_where_the_cumulative_distribution_passes_the_uniform(vocab, temperature):
    """Two levels of sums against one search over all of it, in float64: no draw in 2,000 may differ."""
    x, u = logits(8, vocab, dtype=torch.float64).repeat_interleave(250, 0)[: 2000 if vocab < 5000 else 200], uniforms(2000)
    u = u[: len(x)]
    cumulative = (x / temperature).softmax(-1).cumsum(-1)
    expected = torch.searchsorted(cumulative, u[:, None] * cumulative[:, -1:], right=True)[:, 0]
    assert torch.equal(NextToken(x, replace(PLAIN, temperature=temperature)).draw(u), expected)


def test_frequencies_are_the_softmaxs():
    """Chi-square over 200,000 draws in float32; a right sampler fails at p < 1e-4 once in ten thousand seeds, and this seed is fixed."""
    draws, x = 200_000, logits(1, 300, seed=1)
    token = torch.cat([NextToken(x.expand(20_000, -1), PLAIN).draw(u) for u in uniforms(draws, 7).split(20_000)])
    expected = x[0].double().softmax(-1).numpy() * draws
    observed = np.bincount(token.numpy(), minlength=300)
    common = expected >= 5
    observed, expected = np.append(observed[common], observed[~common].sum()), np.append(expected[common], expected[~common].sum())
    assert len(observed) > 250
    assert chisquare(observed, expected).pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [5, 64, 150])
def test_a_token_of_probability_0_is_never_drawn(vocab, dtype):
    """Uniforms at both ends and just beside the boundaries between tokens, over rows that are mostly impossible tokens."""
    x = logits(64, vocab, scale=30.0, dtype=dtype)
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.7] = -torch.inf
    x[:, -1] = 0.0  # something is possible
    weights = x.double().softmax(-1)
    edges = weights.cumsum(-1)
    ends = torch.tensor([0.0, 2.0**-1074, 0.5, 1 - 2.0**-53], dtype=torch.float64).expand(64, 4)
    for u in torch.cat([ends, (edges - 1e-9).clamp(0, 1 - 2.0**-53), edges.clamp(0, 1 - 2.0**-53)], 1).T:
        token = NextToken(x, PLAIN).draw(u)
        assert (x.gather(1, token[:, None]) > -torch.inf).all()
        assert (NextToken(x, PLAIN).logp(token)[0] > -torch.inf).all()


def test_greedy_is_the_largest_logit_and_its_own_distribution_is_certain():
    x, greedy = logits(10, 50), replace(PLAIN, temperature=0.0)
    following = NextToken(x, greedy)
    token = following.draw(uniforms(10))
    assert torch.equal(token, x.argmax(-1))
    drawn, raw = following.logp(token)
    assert drawn.tolist() == [0.0] * 10
    torch.testing.assert_close(raw, x.log_softmax(-1).amax(-1))


@pytest.mark.parametrize("sampling", [PLAIN, replace(PLAIN, temperature=0.0), replace(PLAIN, temperature=0.7, top_p=0.9, top_k=5)])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_show_in_their_own_row_alone(sampling, bad):
    x = logits(3, 50)
    clean = NextToken(x[[0, 2]], sampling)
    x[1, 4] = bad
    following = NextToken(x, sampling)
    token = following.draw(uniforms(3))
    assert ((token >= 0) & (token < 50)).all()
    drawn, raw = following.logp(token)
    assert raw.isnan().tolist() == [False, True, False]
    assert torch.equal(token[[0, 2]], clean.draw(uniforms(3)[[0, 2]]))
    assert torch.equal(drawn[[0, 2]], clean.logp(token[[0, 2]])[0])
