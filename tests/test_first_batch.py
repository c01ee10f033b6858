"""first_batch.txt: what it shows is what was rendered, sampled, rewarded and trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from grao_bench.core.interfaces import RewardRequest
from grao_bench.core.record_files import read_run
from grao_bench.core.specs import rebuild
from grao_bench.text.dialogue import OPENING, render
from grao_bench.text.shown import Shown
from grao_bench.text.tokens import TextCodec
from tests.cells import SMALL_WORLD

END = "‹<|end|>›"


@dataclass(frozen=True)
class Answered:
    """One answer as the page shows it: its heading, its columns, its text and its ids."""

    prompt: str
    heading: str
    columns: dict[str, float]
    text: str
    ids: tuple[int, ...]


def read(path: Path) -> tuple[str, list[Answered]]:
    """The page's head, and every answer on it."""
    head, *prompts = path.read_text(encoding="utf-8").split("\n===== prompt ")
    found = []
    for prompt in prompts:
        of, *answers = prompt.split("\n--- answer ")
        for answer in answers:
            lines = answer.split("\n")
            quoted = [line[2:] for line in lines if line.startswith("│ ")]
            (text,) = re.findall(r"⟦(.*)⟧", "\n".join(quoted), re.DOTALL)
            spelt = " ".join(line for line in lines[1:] if line.startswith("    "))
            columns = re.findall(r"(\w+) (-?[\d.e-]+)", lines[1] if "⟦" not in lines[1] else "")
            trained = spelt.partition("⟦")[2]
            ids = re.findall(r"(?<=  )(\d+):", trained)
            named = {name: float(value) for name, value in columns}
            found.append(Answered(of, lines[0], named, text, tuple(map(int, ids))))
    return head, found


def run_of(command, tmp_path, objective: str, *more: str):
    done = command("train", f"objective={objective}", *SMALL_WORLD, *more)
    assert done.code == 0, done.err
    folder = tmp_path / done.out.splitlines()[-1]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return folder, rebuild(config, "config.yaml", trust=None), *read(folder / "first_batch.txt")


@pytest.mark.parametrize("objective", ["grpo", "grao", "ppo"])
def test_rollouts_with_their_rewards_and_ends(tmp_path, command, objective):
    """Every answer's text is its ids decoded, its reward the gold judge's word on that text, and
    the mean over the page the step's own; GRPO's advantages are the group's, by hand."""
    folder, experiment, head, shown = run_of(command, tmp_path, objective)
    count = experiment.objective.needs.rollouts
    assert "rollouts are drawn at temperature 0.7, top_p 1" in head
    assert "they also end before '\\n\\nHuman:'" in head
    assert f"an answer ends with {END}" in head
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    judge, data = experiment.reward.build(experiment.data), experiment.data.build()
    examples = {example.id: example for example in data.train}
    rollouts = [one for one in shown if ", rollout: " in one.heading]
    assert len(rollouts) == 2 * count, "two prompts a step"
    for one in rollouts:
        example = examples[one.prompt.split(": ")[1].split(",")[0]]
        ended, stopped = (f"finished {how}" in one.heading for how in (f"with {END}", "before a stop"))
        finished = ended or stopped
        assert finished != ("NOT FINISHED within 32 tokens" in one.heading)
        assert one.text == tokenizer.decode(one.ids).replace("<|end|>", END)
        assert one.text.endswith(END) == ended
        assert "\n\nHuman:" not in one.text, "the format's stop string"
        text = one.text.removesuffix(END).strip()
        (verdict,) = judge.score([RewardRequest(example, text, finished)])
        assert one.columns["reward"] == pytest.approx(verdict.reward)
        if objective == "ppo":
            assert "old_values" in one.columns
    step = read_run(folder).steps[0].metrics
    given = [one.columns["reward"] for one in rollouts]
    assert fmean(given) == pytest.approx(step["reward/mean"])
    references = [one for one in shown if ", chosen: " in one.heading]
    assert len(references) == (2 if objective == "grao" else 0)
    assert all("sampler_logp" not in one.columns for one in references)
    for group in (rollouts[:count], rollouts[count:]) if objective == "grpo" else ():
        of = [one.columns["reward"] for one in group]
        hand = [(one - fmean(of)) / (pstdev(of) or 1.0) for one in of]
        assert [one.columns["advantage"] for one in group] == pytest.approx(hand, abs=1e-3)


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_answers_of_the_data_with_their_prompts(tmp_path, command, objective):
    """Of a pair both answers, each the set's own text with its end, or cut and said to be."""
    shorter = "budget.max_answer_tokens=24"
    _, experiment, head, shown = run_of(command, tmp_path, objective, shorter)
    assert "rollouts" not in head
    of = f"objective {objective}, model tiny, data world_helpful, seed 0"
    assert head.startswith(f"Step 1 of 2: {of}")
    examples = {example.id: example for example in experiment.data.build().train}
    slots = ("chosen",) if objective == "sft" else ("chosen", "rejected")
    assert len(shown) == 3 * len(slots)
    cut = 0
    for index, one in enumerate(shown):
        example = examples[one.prompt.split(": ")[1].split(",")[0]]
        prompt = "\n".join(line[2:] for line in one.prompt.split("\n")[1:])
        assert prompt.rstrip("\n") == render(example.prompt) + OPENING
        slot = slots[index % len(slots)]
        assert f", {slot}: {len(one.ids)} tokens, " in one.heading
        whole = f" {getattr(example, slot)}{END}"
        if "CUT at 24 tokens, no end token" in one.heading:
            cut += 1
            assert whole.startswith(one.text)
            assert len(one.ids) == 24
        else:
            assert one.text == whole
    assert 0 < cut < len(shown)
    assert "reward" not in shown[0].columns


def test_the_page_is_the_same_again_and_costs_no_numbers(tmp_path, command):
    """Of one seed in two folders."""
    first, *_ = run_of(command, tmp_path, "grpo", "sweep=a")
    again, *_ = run_of(command, tmp_path, "grpo", "sweep=b")
    assert first != again
    assert (first / "first_batch.txt").read_bytes() == (again / "first_batch.txt").read_bytes()


def byte_level(*special: str) -> PreTrainedTokenizerFast:
    """Bytes alone are its vocabulary, and the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({one: at for at, one in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=special[0])


def test_control_tokens_are_told_from_text_that_spells_them():
    tokenizer = byte_level("<|end|>", "<|user|>")
    page = Shown(TextCodec(tokenizer, "hh", 100))
    user, end = tokenizer.convert_tokens_to_ids(["<|user|>", "<|end|>"])
    as_text = {"add_special_tokens": False, "split_special_tokens": True}
    spelt = tokenizer("<|end|> é", **as_text)["input_ids"]
    assert page.text([], [user, *spelt, end]) == "‹<|user|>›<|end|> é‹<|end|>›"
    assert page.ids([user, *spelt[:2]]) == f"{user}:‹<|user|>›  {spelt[0]}:<  {spelt[1]}:|"


def test_half_a_character_is_shown_as_one():
    """An answer that was cut within é: its first byte alone; and the second alone after it."""
    tokenizer = byte_level("<|end|>")
    page = Shown(TextCodec(tokenizer, "hh", 100))
    a, first, second = tokenizer("aé", add_special_tokens=False)["input_ids"]
    assert page.text([], [a, first]) == "a\ufffd"
    assert page.text([a, first], [second, a]) == "\ufffda"
    assert page.text([a], [first, second]) == "é"


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_a_blank_where_an_answer_begins_is_seen(scheme):
    """Tokenizers that write a blank as ▁ drop it at the beginning of what they decode."""
    vocabulary = {"<unk>": 0, "</s>": 1, ":": 2, "▁Paris": 3, "▁": 4, "Paris": 5}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)
    made.add_special_tokens(["</s>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")
    page = Shown(TextCodec(tokenizer, "hh", 100))
    assert page.text([2], [3, 1]) == " Paris‹</s>›"
    assert page.text([2], [5, 1]) == "Paris‹</s>›"
    assert page.ids([4, 5]) == "4:▁  5:Paris"


def test_of_a_long_answer_both_ends_are_spelt():
    tokenizer = byte_level("<|end|>")
    page = Shown(TextCodec(tokenizer, "hh", 100))
    ids = tokenizer("x" * 60, add_special_tokens=False)["input_ids"]
    assert page.ids(ids).count(":x") == 48
    assert "... 12 more ..." in page.ids(ids)
