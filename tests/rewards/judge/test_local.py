"""The local judge: likelihoods against a plain forward pass, verdicts from likelihoods, and a model that has learnt to judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import pytest
import torch
import yaml

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardSource, TellingSource
from grao_bench.core.process import process_settings
from grao_bench.core.spec_interfaces import RewardSpec
from grao_bench.core.specs import conf_dir
from grao_bench.models.likelihood import LikelihoodModel, Likelihoods
from grao_bench.models.load import load_causal_lm
from grao_bench.models.policy import Policy
from grao_bench.rewards.judge.local import LocalJudge, LocalJudgeSource, ScorerSpec
from grao_bench.rewards.judge.prompt import VERDICTS
from grao_bench.text.tokens import TextCodec

from ...small import tiny_llama, word_tokenizer
from .checkpoint import END, USER, LittleJudge
from .setting import AnyData, request

BY_HAND = LikelihoodModel(path="x", prompt_format="hh", max_prompt_tokens=50, tokens_per_forward=40, dtype="float32", device="cpu")


def spec(little: LittleJudge, **changed: object) -> LocalJudge:
    model = LikelihoodModel(
        path=str(little.folder), prompt_format="chat", max_prompt_tokens=500, tokens_per_forward=400, dtype="float32", device="cpu"
    )
    fields_ = {"name": "judge_local", "prompt": str(little.prompt), "orders": "both", "unfinished": "judge", "model": model}
    return LocalJudge(**(fields_ | changed))


def by_hand() -> Likelihoods:
    codec = TextCodec(word_tokenizer(), "hh", 50)
    return Likelihoods(BY_HAND, Policy(tiny_llama(), 1.0, False), codec)


def plain(model, prompt: list[int], continuation: list[int]) -> float:
    """The sum of log-probabilities, from one unpadded sequence."""
    with torch.no_grad():
        logp = model(input_ids=torch.tensor([prompt + continuation])).logits[0].log_softmax(-1)
    return sum(logp[len(prompt) + t - 1, token].item() for t, token in enumerate(continuation))


def test_likelihoods_are_those_of_a_plain_forward_pass():
    """Prompts of several lengths in several chunks, continuations of several lengths."""
    scorer = by_hand()
    prompts, continuations = ["red", "red green blue one two three " * 3, "good", "red"], ["one two", "three", "bad bad bad"]
    codec = scorer.codec
    rows = [codec.question(prompt) for prompt in prompts]
    expected = [[plain(tiny_llama(), [*row.tokens], [*codec.continuation(row, text)]) for text in continuations] for row in rows]
    found = scorer.logps(prompts, continuations)
    for row, right in zip(found, expected, strict=True):
        assert row == pytest.approx(right, abs=1e-4)
    assert found[0] == found[3]


def test_a_prompt_that_is_too_long_has_no_likelihoods():
    scorer = by_hand()
    assert scorer.logps(["red " * 60, "red"], ["one"])[0] is None
    assert scorer.logps(["red " * 60], ["one"]) == [None]


def test_a_special_token_spelt_in_a_text_is_text(little):
    """The template's own are special; END and the user's mark are in the prompt once each at most, whatever the answer says."""
    scorer = spec(little).model.build()
    tokenizer = scorer.codec.tokenizer
    ids = [*scorer.codec.question(f"hello {END}{USER} 1 > 2").tokens]
    assert ids == [*tokenizer(f"{USER}")["input_ids"], *tokenizer(f"hello {END}{USER} 1 > 2", split_special_tokens=True)["input_ids"],
                   *tokenizer("<|assistant|>")["input_ids"]]  # fmt: skip
    assert tokenizer.eos_token_id not in ids
    assert ids.count(tokenizer.convert_tokens_to_ids(USER)) == 1


def test_a_model_that_has_learnt_to_judge_judges(little):
    """Six pairs in both orders; on the last it always prefers what stands first."""
    source = spec(little).build(AnyData())
    assert isinstance(source, RewardSource)
    assert isinstance(source, TellingSource)
    verdicts = source.score(little.asked)
    assert [verdict.reward for verdict in verdicts] == list(little.rewards)
    assert all(verdict.parts["mass_model_first"] > 0.9 for verdict in verdicts)
    assert verdicts[0].parts["margin_model_first"] > 0.9
    assert verdicts[1].parts["margin_reference_first"] < -0.9
    (counts,) = source.statistics().values()
    assert counts.position_consistency == pytest.approx(5 / 6)
    assert counts.first_preference == pytest.approx(2 / 12)
    assert (counts.calls, counts.cost) == (None, None), "nobody was called"
    assert source.texts() == {"judge_prompt-judge_local.md": little.prompt.read_text()}
    first = spec(little, orders="model_first").build(AnyData())
    assert [verdict.reward for verdict in first.score(little.asked)] == [*little.rewards[:-1], 1.0]
    assert first.fingerprint != source.fingerprint


def test_the_model_is_loaded_once_for_all_who_ask_for_it(little):
    with process_settings(threads=1):
        one, other = (spec(little, orders=orders) for orders in ("both", "model_first"))
        assert one.build(AnyData()).scorer is other.build(AnyData()).scorer


@dataclass(frozen=True)
class Written:
    """Likelihoods that are written down, by the text that stands in the prompt."""

    by_text: dict[str, list[float] | None]
    fingerprint: str = "written"

    def build(self) -> Written:
        return self

    def logps(self, prompts: Sequence[str], continuations: Sequence[str]) -> list[list[float] | None]:
        assert tuple(continuations) == VERDICTS
        return [next(logps for text, logps in self.by_text.items() if text in prompt) for prompt in prompts]


def written(by_text: dict[str, list[float] | None], orders: str = "model_first", unfinished: str = "judge") -> LocalJudgeSource:
    return LocalJudge(name="judge_local", prompt="helpful", orders=orders, unfinished=unfinished, model=Written(by_text)).build(AnyData())


def test_the_likeliest_verdict_is_the_verdict():
    """p = 0.5, 0.1, 0.2: better; the margin is (0.5 - 0.2) / 0.8, the mass 0.8."""
    by_text = {"alpha": [math.log(0.5), math.log(0.1), math.log(0.2)], "beta": [-9.0, -1.0, -2.0], "gamma": [-3.0, -2.5, -0.5]}
    verdicts = written(by_text).score([request(text, "the reference") for text in by_text])
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0, -1.0]
    assert verdicts[0].parts == pytest.approx({"model_first": 1.0, "margin_model_first": 0.375, "mass_model_first": 0.8})


def test_no_likelihoods_exclude_the_answer_and_the_reference_ties_with_itself():
    source = written({"alpha": None}, orders="both")
    excluded, tie = source.score([request("alpha", "the reference"), request("same", "same")])
    assert excluded.reward is None
    assert excluded.parts == {}
    assert tie.reward == 0.0
    (counts,) = source.statistics().values()
    assert (counts.judged, counts.excluded, counts.identical) == (1, 1.0, 1)
    assert written({}, unfinished="lose").score([request("a", "b", finished=False)])[0].reward == -1.0
    assert source.score([]) == []


def test_a_likelihood_that_is_not_a_number_stops():
    with pytest.raises(UserError, match=r"reward=judge_local: .*not a number"):
        written({"alpha": [math.nan, -1.0, -2.0]}).score([request("alpha", "the reference")])


def test_a_folder_that_holds_no_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"reward\.model\.path=.*nothing: ") as raised:
        replace(BY_HAND, path=str(tmp_path / "nothing")).build()
    assert "\n" not in str(raised.value)


def test_a_tokenizer_without_a_template_can_not_chat(tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    assert load_causal_lm(str(tmp_path), "float32", "cpu")
    with pytest.raises(UserError, match=r"no chat template; use reward\.model\.prompt_format=hh"):
        replace(BY_HAND, path=str(tmp_path), prompt_format="chat").build()


@pytest.mark.parametrize("name", ["helpful", "harmless"])
def test_the_yaml_spells_every_field(name):
    own = yaml.safe_load((conf_dir() / "reward" / f"judge_local_{name}.yaml").read_text())
    assert (own["name"], own["prompt"]) == (f"judge_local_{name}", name)
    values = yaml.safe_load((conf_dir() / "reward" / "judge_local_helpful.yaml").read_text())
    assert list(values)[1:] == [item.name for item in fields(LocalJudge)]
    assert list(values["model"])[1:] == [item.name for item in fields(LikelihoodModel)]
    assert isinstance(BY_HAND, ScorerSpec)
    assert issubclass(LocalJudge, RewardSpec)
