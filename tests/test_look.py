"""All five objectives on two real models, three steps each, from one command; and what their
first_batch.txt shows, against the models' own tokenizers. Minutes: run by make test-all."""

from __future__ import annotations

import pytest
import yaml
from transformers import AutoTokenizer

from grao_bench.core.record_files import read_info, read_run
from grao_bench.core.specs import rebuild
from grao_bench.text.dialogue import OPENING, render
from tests.pretrained import pretrained
from tests.test_first_batch import read

MODELS = {"smollm2_135m": ("smollm2", "<|im_end|>"), "gemma3_270m": ("gemma", "<eos>")}
GIB = 2**30


def after_the_prompt(tokenizer, example, answer: str) -> list[int]:
    """The answer's ids and its end, as one call of the tokenizer on the whole dialogue has them."""
    if not tokenizer.chat_template:
        prompt = render(example.prompt) + OPENING
        whole = [*tokenizer(f"{prompt} {answer}").input_ids, tokenizer.eos_token_id]
        return whole[len(tokenizer(prompt).input_ids) :]
    turns = [{"role": turn.role, "content": turn.text} for turn in example.prompt]
    ids = {"tokenize": True, "return_dict": False}
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, **ids)
    said = [*turns, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(said, **ids)
    assert whole[: len(prompt)] == prompt
    assert tokenizer.decode(whole[-2:]) == "<|im_end|>\n"
    return whole[len(prompt) : -1]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("objective", ["sft", "dpo", "ppo", "grpo", "grao"])
def test_three_steps_and_their_page(objective, model, tmp_path, command):
    name, end = MODELS[model]
    path = pretrained(name)
    own = (f"model={model}", f"model.path={path}", "model.revision=null")
    cell = ("data=world_helpful", "reward=gold_score", "budget=look", "evaluation.sets=own")
    done = command("train", f"objective={objective}", *own, *cell, "evaluation.max_examples=4")
    assert done.code == 0, done.err
    folder = tmp_path / done.out.splitlines()[-1]
    assert len(read_run(folder).steps) == 3
    assert (read_info(folder).peak_memory or 0) < 8 * GIB

    head, shown = read(folder / "first_batch.txt")
    assert f"an answer ends with ‹{end}›" in head
    tokenizer = AutoTokenizer.from_pretrained(path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    experiment = rebuild(config, "config.yaml", trust=None)
    examples = {example.id: example for example in experiment.data.build().train}
    assert len(shown) == 2 * len(experiment.objective.needs.slots)
    for one in shown:
        example = examples[one.prompt.split(": ")[1].split(",")[0]]
        slot = one.heading.split(", ")[1].partition(":")[0]
        if slot == "rollout":
            text = tokenizer.decode(one.ids).removesuffix(end)
            assert one.text.removesuffix(f"‹{end}›") == text
            assert f"finished with ‹{end}›" in one.heading or not one.text.endswith("›")
        else:
            whole = after_the_prompt(tokenizer, example, getattr(example, slot))
            cut = "CUT at 32 tokens, no end token" in one.heading
            assert list(one.ids) == (whole[:32] if cut else whole)
            assert cut == (len(whole) > 32)
