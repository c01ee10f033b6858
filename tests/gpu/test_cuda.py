"""On a CUDA device: the same log-probs, answers and gradients as on the CPU, with CUDA graphs and without. Skipped where there is none."""

from __future__ import annotations

import copy
import inspect
import re
import sys
import textwrap
from types import MethodType

import pytest
import torch

from grao_bench.core.batching import make_batch, to_device
from grao_bench.core.interfaces import Sampling
from grao_bench.core.types import Answer, Needs, Prompt
from grao_bench.models.policy import Policy
from grao_bench.rollouts.cache import GRAPHED

from ..rollouts.test_shared_prefix import engine, tokens
from ..small import FAMILIES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine's torch sees no CUDA device")

PROMPTS = [Prompt(f"p{i}", tuple(6 + (i + j) % 8 for j in range(1 + 3 * i))) for i in range(6)]
WARM = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=40)
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=40)
DENSE = pytest.mark.parametrize("make", [FAMILIES[name] for name in FAMILIES if "deepseek" not in name.lower()])


@pytest.fixture(autouse=True)
def full_float32():
    torch.backends.cuda.matmul.allow_tf32 = False


FLOAT32_PARTS = ("RMSNorm", "Rotary", "TopkRouter", "Attention")
"""What transformers computes in float32 whatever the model's dtype: a GPU rounds otherwise there."""


def exact(model):
    """The model in float64 everywhere: its float32 parts' code runs with the other dtype's name."""
    for module in model.double().modules():
        kind = type(module)
        if any(part in kind.__name__ for part in FLOAT32_PARTS):
            scope = dict(vars(sys.modules[kind.__module__]))
            for name in ("forward", "_norm"):
                if hasattr(kind, name):
                    source = textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(kind, name))))
                    source = source[re.search(r"^def ", source, re.MULTILINE).start() :]
                    source = re.sub(r"torch\.float(32)?\b", "torch.float64", source)
                    source = source.replace(".float()", ".double()")
                    exec("from __future__ import annotations\n" + source, scope)
                    setattr(module, name, MethodType(scope[name], module))
    return model


@DENSE
def test_graphs_change_no_token(make):
    model = make().double().cuda()
    graphed, eager = engine(model, 16), engine(model, 16)
    graphed.buckets = GRAPHED

    first, again = graphed.sample(PROMPTS, 5, WARM, 0), graphed.sample(PROMPTS, 5, WARM, 0)

    assert graphed._decoder is not None
    assert graphed._decoder._recorded
    assert tokens(first) == tokens(again) == tokens(eager.sample(PROMPTS, 5, WARM, 0))


@DENSE
def test_a_graph_sees_weights_that_have_changed(make):
    model = make().double().cuda()
    graphed = engine(model, 16)
    graphed.buckets = GRAPHED
    graphed.sample(PROMPTS, 2, WARM, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)

    assert tokens(graphed.sample(PROMPTS, 2, WARM, 0)) == tokens(engine(copy.deepcopy(model), 16).sample(PROMPTS, 2, WARM, 0))


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
def test_the_device_answers_as_the_cpu_does(make):
    model = make().double()
    here = tokens(engine(model).sample(PROMPTS, 3, GREEDY, 0))

    assert tokens(engine(model.cuda()).sample(PROMPTS, 3, GREEDY, 0)) == here


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
def test_log_probs_and_gradients_are_the_cpus(make):
    found = {}
    for device in ("cpu", "cuda"):
        model = exact(make()).to(device)
        policy = Policy(model, 0.7, value_head=False)
        answers = [[Answer("", tuple(6 + (p * k) % 7 for _ in range(1 + k)), True) for k in range(3)] for p in range(2)]
        batch = make_batch([prompt.tokens for prompt in PROMPTS[1:3]], answers, ["a", "b"], Needs(rollouts=3), 0)
        logp = policy(to_device(batch, model.device)).logp
        logp.sum().backward()
        found[device] = logp.cpu(), torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])

    assert torch.allclose(found["cpu"][0], found["cuda"][0], rtol=0, atol=1e-12)
    difference = (found["cpu"][1] - found["cuda"][1]).norm() / found["cpu"][1].norm()
    assert difference < 1e-12
