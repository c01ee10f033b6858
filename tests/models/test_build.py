"""The models of a run: what is loaded, how often, and which of them are one."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from grao_bench.core.interfaces import ModelsWanted
from grao_bench.core.specs import load
from grao_bench.training.ranks import Alone

from ..small import tiny_llama, word_tokenizer


@pytest.fixture
def loads(monkeypatch):
    """The paths whose weights transformers reads, in order."""
    seen, plain = [], AutoModelForCausalLM.from_pretrained

    def counted(path, *args, **kwargs):
        if kwargs.get("device_map") != "meta":  # which reads names and shapes
            seen.append(path)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counted)
    return seen


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints: a base, and one in the folder of a run that started from it."""
    base, run = tmp_path / "base", tmp_path / "run"
    for folder, seed in ((base, 0), (run / "model", 1)):
        tiny_llama(seed=seed).save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
    return str(base), str(run)


def built(path, start_from, reference, value_head=False):
    spec = load("model/hf", path=path, start_from=start_from, dtype="float32", prompt_format="hh", device="cpu")
    wanted = ModelsWanted(32, 1000, False, 0.7, value_head, reference, lambda: pytest.fail("read"))
    return spec.build(Alone(), wanted)


@pytest.mark.parametrize("reference", [False, True])
def test_equal_weights_are_there_twice(reference, saved, loads):
    """As they were, and in training; the reference is the base."""
    models = built(saved[0], None, reference)
    assert loads == [saved[0]] * 2
    assert models.reference is (models.base if reference else None)
    assert models.policy is not models.base
    pairs = zip(models.policy.parameters(), models.base.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) and ours is not theirs for ours, theirs in pairs)
    assert all(each.requires_grad for each in models.policy.parameters())
    assert not any(each.requires_grad for each in models.base.parameters())


def test_a_start_of_its_own_is_loaded_again_only_where_it_is_read(saved, loads):
    base, run = saved
    without = built(base, run, reference=False)
    assert without.reference is None
    assert loads == [base, f"{run}/model"]
    models = built(base, run, reference=True, value_head=True)
    assert loads[2:] == [base, f"{run}/model", f"{run}/model"]
    assert models.policy.value_head is not None
    start = dict(models.policy.model.named_parameters())
    for frozen, same in ((models.reference, True), (models.base, False)):
        assert not any(each.requires_grad for each in frozen.parameters())
        named = frozen.model.named_parameters()
        assert all(torch.equal(start[name], each) for name, each in named) == same
