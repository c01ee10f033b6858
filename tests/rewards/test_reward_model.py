"""The reward model: its loss by hand, its training on pairs that can be told apart, and its scores as a reward source."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import cache
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from grao_bench.core.errors import UserError
from grao_bench.core.interfaces import RewardRequest, RewardSource
from grao_bench.core.specs import load
from grao_bench.core.types import Answer, Example, Turn
from grao_bench.evaluation.answers import compare
from grao_bench.models.scorer import Row, Scorer, load_classifier, score_rows
from grao_bench.rewards.mixture import Mixture, Part
from grao_bench.rewards.readings import classify, machines, two_segments
from grao_bench.rewards.reward_folder import shared_pairs, write_pairs
from grao_bench.rewards.reward_model import (
    RewardModel,
    RewardModelSource,
)
from grao_bench.runs.run import run
from grao_bench.training.bradley_terry import bradley_terry, fit_reward_model, pair_margins

from ..cells import cell, small
from ..small import END, PAD, WORDS, tiny_llama, word_tokenizer
from ..training.rewards import ids_of, reward_trainer

SPEC: RewardModel = load(
    "reward/reward_model",
    path="x",
    mode="sign",
    prompt_format="hh",
    max_tokens=40,
    tokens_per_forward=160,
    device="cpu",
)


def classifier(seed: int = 0) -> LlamaForSequenceClassification:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=128,
            initializer_range=0.2,
            num_labels=1,
            pad_token_id=PAD,
            eos_token_id=END,
        )
        return LlamaForSequenceClassification(config).eval()


def source(spec: RewardModel = SPEC, pad: str = "<|pad|>", model: Any = None) -> RewardModelSource:
    model = classifier() if model is None else model
    made = machines(model, word_tokenizer(pad), "hh", 40, spec.tokens_per_forward)
    return RewardModelSource(spec, *made, fingerprint="small")


def pairs(count: int, seed: int) -> list[Example]:
    """Answers of the same words in any order and number, but that the chosen one says "good" and the rejected one "bad"."""
    words = random.Random(seed)

    def text(telling: str) -> str:
        said = [telling, *words.choices(("red", "green", "blue", "one", "two", "three"), k=words.randint(1, 5))]
        words.shuffle(said)
        return " ".join(said)

    return [Example(f"e{i}", (Turn("user", text("one")),), text("good"), text("bad"), "s") for i in range(count)]


EXAMPLES = pairs(24, seed=5)


def ids(row: Row) -> list[int]:
    return [*row[0], *row[1]]


def only(read: Any, example: Example, text: str, finished: bool) -> Row:
    """The one row of a text that is read as it stands."""
    ((row,),) = read(example, [(text, finished)], False)
    return row


def requests() -> list[RewardRequest]:
    """Each example's rejected answer, one of its own reference, and one that is unfinished."""
    return [
        request
        for example in EXAMPLES
        for request in (
            RewardRequest(example, example.rejected, True),
            RewardRequest(example, example.chosen, True),
            RewardRequest(example, "good good", False),
        )
    ]


def test_bradley_terry():
    """-log sigmoid(r_w - r_l): log 2 at no margin; at a margin of 2, log(1 + e^-2) = 0.1269280; at -2, that plus 2."""
    loss = bradley_terry(torch.tensor([1.0, 3.0, 0.0]), torch.tensor([1.0, 1.0, 2.0]))
    assert loss.tolist() == pytest.approx([math.log(2), 0.1269280, 2.1269280], abs=1e-6)


def test_bradley_terrys_gradient_is_the_chance_of_being_wrong():
    """d loss / d r_w = -sigmoid(-2) = -0.1192029."""
    r_w = torch.tensor([3.0], requires_grad=True)
    bradley_terry(r_w, torch.tensor([1.0])).sum().backward()
    assert r_w.grad.item() == pytest.approx(-0.1192029, abs=1e-6)


@cache
def trained() -> LlamaForSequenceClassification:
    trainer = reward_trainer(classifier(), 160, epochs=3)
    for _ in fit_reward_model(trainer, ids_of(pairs(160, seed=1)), 0):
        pass
    return trainer.scorer.model


def test_training_tells_held_out_pairs_apart():
    """One word decides, so a held-out pair is ranked rightly nearly always; a random model ranks as its weights happen to."""
    held_out = ids_of(pairs(100, seed=2))
    before = pair_margins(Scorer(classifier()), held_out, 1000)
    after = pair_margins(Scorer(trained()), held_out, 1000)
    assert (before > 0).mean() < 0.9
    assert (after > 0).mean() > 0.97


def test_margins_come_in_the_pairs_order():
    held_out, scorer = ids_of(pairs(10, seed=4)), Scorer(trained())
    margins = pair_margins(scorer, held_out, 60)
    one_by_one = np.concatenate([pair_margins(scorer, [pair], 60) for pair in held_out])
    assert margins == pytest.approx(one_by_one, abs=1e-4)


def by_hand(model: LlamaForSequenceClassification, ids: list[int]) -> float:
    """The score of one unpadded sequence: the head on the last position's hidden state."""
    hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state
    return model.score(hidden[0, -1]).item()


@pytest.mark.parametrize("pad", ["<|pad|>", "<|end|>"])
def test_the_last_real_token_is_scored_whatever_pads_it(pad):
    """Rows of 1 to 9 ids, some ending with the end token, some holding the pad id inside; with pad and end token the same too."""
    rows = [[6], [6, 7, END], [9, PAD, 8, END], [10] * 9, [6, END, END], [7, 8, PAD]]
    with torch.no_grad():
        scores = classify(classifier(), rows, word_tokenizer(pad))
        expected = [by_hand(classifier(), row) for row in rows]
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 3) for score in expected}) == len(rows)


@pytest.mark.parametrize("pad", ["<|pad|>", "<|end|>"])
@pytest.mark.parametrize("tokens_per_forward", [1, 60, 5000])
def test_a_score_does_not_depend_on_what_shares_its_batch(pad, tokens_per_forward):
    asked = {"mode": "score", "unfinished": "judge", "tokens_per_forward": tokens_per_forward}
    score = source(replace(SPEC, **asked), pad)
    rows = [ids(only(score.read, r.example, r.text, r.finished)) for r in requests()]
    expected = [by_hand(classifier(), row) for row in rows]
    assert [verdict.reward for verdict in score.score(requests())] == pytest.approx(expected, abs=1e-5)
    backwards = [verdict.reward for verdict in score.score(requests()[::-1])]
    assert backwards[::-1] == pytest.approx(expected, abs=1e-5)


def test_prompt_and_answer_are_read_as_the_policy_reads_them_and_the_frame_stays():
    """ "\\n\\nHuman: red\\n\\nAssistant:" is Human : red Assistant :, then the answer, and the end token
    only of a finished one. In six tokens there is room for one of the answer's."""
    red = replace(EXAMPLES[0], prompt=(Turn("user", "red"),))
    read, _ = machines(classifier(), word_tokenizer(), "hh", 40, 100)
    short, _ = machines(classifier(), word_tokenizer(), "hh", 6, 100)
    assert ids(only(read, red, "good one", True)) == [3, 5, 6, 4, 5, 9, 11, END]
    assert ids(only(read, red, "good one", False)) == [3, 5, 6, 4, 5, 9, 11]
    assert ids(only(read, red, "", True)) == [3, 5, 6, 4, 5, END]
    assert ids(only(short, red, "good one", True)) == [3, 5, 6, 4, 5, 9]


def test_what_is_read_without_its_end_token_has_a_row_with_it_besides():
    """An unfinished text, beside its finished self; one that was cut, in the place of its last
    token; an empty one. A finished text that fits has one row."""
    red = replace(EXAMPLES[0], prompt=(Turn("user", "red"),))
    read, _ = machines(classifier(), word_tokenizer(), "hh", 40, 100)
    both = read(red, [("good one", False), ("bad", True), ("", False)], True)
    prompt = [3, 5, 6, 4, 5]
    assert [[ids(row) for row in rows] for rows in both] == [
        [[*prompt, 9, 11, END], [*prompt, 9, 11]],
        [[*prompt, 10, END]],
        [[*prompt, END], prompt],
    ]
    (rows,) = read(red, [("good " * 50, True)], True)
    assert [len(answer) for _, answer in rows] == [35, 35]
    assert rows[0][1][:-1] == rows[1][1][:-1]
    assert (rows[0][1][-1], rows[1][1][-1]) == (9, END)
    (also,) = read(red, [("good " * 50, False)], True)
    assert set(also) == set(rows)


def many_texts() -> list[str]:
    """Of 0 to 45 words, so that some don't fit into the 40 tokens of a prompt and an answer."""
    words = random.Random(7)
    return [" ".join(words.choices(WORDS[6:], k=words.randint(0, 45))) for _ in range(150)]


@pytest.mark.parametrize("mode", ["score", "margin", "sign"])
@pytest.mark.parametrize("model", [classifier, lambda: trained()], ids=["random", "trained"])
def test_not_finishing_never_gains(mode, model):
    """Over 150 texts: what each is worth finished bounds what it is worth cut off. As it stands
    (unfinished=judge), about half of them gain with random weights."""
    examples = [EXAMPLES[i % len(EXAMPLES)] for i in range(150)]
    pairs = list(zip(examples, many_texts(), strict=True))

    def rewards(unfinished: str) -> np.ndarray:
        """[2 150]: finished, and not, in one call: apart, equal rows differ by rounding."""
        judge = source(replace(SPEC, mode=mode, unfinished=unfinished), model=model())
        asked = [RewardRequest(*pair, ended) for ended in (True, False) for pair in pairs]
        return np.array([verdict.reward for verdict in judge.score(asked)]).reshape(2, -1)

    assert SPEC.unfinished == "lose"
    finished, cut = rewards("lose")
    assert (cut <= finished).all()
    if mode == "sign":
        assert (cut == -1).all()
    elif model is classifier:
        finished, cut = rewards("judge")
        assert 0.2 < (cut > finished).mean() < 0.8


@pytest.mark.parametrize("mode", ["margin", "sign"])
def test_a_reference_that_does_not_fit_is_judged_like_the_same_answer(mode):
    """60 words in 40 tokens, on either side: R(y, y) = 0, whatever the two readings are worth."""
    long = [replace(example, chosen=f"{example.chosen} {'blue ' * 60}") for example in EXAMPLES]
    judge = source(replace(SPEC, mode=mode))
    asked = [RewardRequest(example, example.chosen, True) for example in long]
    assert [verdict.reward for verdict in judge.score(asked)] == [0.0] * len(long)


@pytest.mark.parametrize("packed", [True, False])
def test_scores_of_half_precision_weights_come_from_a_head_in_float32(packed):
    """Where it can't be packed too: bfloat16's three digits would tie hundreds of answers."""
    model = classifier().to(torch.bfloat16)
    rows = [[6 + i % 8, 7 + i % 5, 9, END] for i in range(40)]
    with torch.no_grad():
        if packed:
            pairs = [(tuple(row), ()) for row in rows]
            scores = torch.tensor(score_rows(Scorer(model), pairs, 100))
        else:
            scores = classify(model, rows, word_tokenizer())
        hidden = model.model(input_ids=torch.tensor(rows)).last_hidden_state[:, -1]
        expected = hidden.float() @ model.score.weight.float().T
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
    torch.testing.assert_close(scores, expected[:, 0], atol=0.02, rtol=0.02)


def test_score_mode_says_the_models_number_and_sign_mode_its_comparison():
    sign, score = source(), source(replace(SPEC, mode="score"))
    assert isinstance(sign, RewardSource)
    assert (sign.name, sign.pairwise, score.name, score.pairwise) == ("reward_model_sign", True, "reward_model_score", False)
    numbers = [verdict.reward for verdict in score.score(requests())]
    for request, verdict, number in zip(requests(), sign.score(requests()), numbers, strict=True):
        margin = verdict.parts["score"] - verdict.parts["reference_score"]
        assert verdict.parts["score"] == pytest.approx(number, abs=1e-5)
        assert verdict.reward == (-1.0 if not request.finished else float(np.sign(margin)))
    assert {verdict.reward for verdict in sign.score(requests())} == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("tokens_per_forward", [1, 50, 70, 5000])
def test_a_reference_ties_with_itself_exactly(tokens_per_forward):
    """R(y, y) = 0 with no tie margin at all: float32 scores of one text differ in their last bit with what shares the batch."""
    verdicts = source(replace(SPEC, tokens_per_forward=tokens_per_forward)).score(requests())
    assert [verdict.reward for request, verdict in zip(requests(), verdicts, strict=True) if request.text == request.example.chosen] == [
        0.0
    ] * 24
    pointwise = source(replace(SPEC, mode="score", tokens_per_forward=tokens_per_forward))
    own = [Answer(example.chosen, (), True) for example in EXAMPLES]
    assert [R for R, _ in compare(pointwise, EXAMPLES, own)] == [0.0] * 24


@pytest.mark.parametrize("tokens_per_forward", [1, 30, 50])
def test_equal_answers_of_a_group_have_equal_rewards(tokens_per_forward):
    """To the last bit, also where they fall into different batches: else a group without signal would teach rounding."""
    asked = [RewardRequest(example, text, True) for example in EXAMPLES for text in ["red one", "good"] * 4]
    rewards = [verdict.reward for verdict in source(replace(SPEC, mode="score", tokens_per_forward=tokens_per_forward)).score(asked)]
    groups = [rewards[i : i + 8] for i in range(0, len(rewards), 8)]
    assert [len(set(group)) for group in groups] == [2] * len(groups)


def test_ties_lie_within_the_margin():
    """The margin is the median distance: half the finished verdicts become ties, and those alone."""
    finished = [request for request in requests() if request.finished and request.text != request.example.chosen]
    verdicts = source().score(finished)
    distances = [abs(verdict.parts["score"] - verdict.parts["reference_score"]) for verdict in verdicts]
    margin = sorted(distances)[len(distances) // 2 - 1] + 1e-4
    tied = source(replace(SPEC, tie_margin=margin)).score(finished)
    assert [verdict.reward == 0 for verdict in tied] == [distance <= margin for distance in distances]
    assert sum(verdict.reward == 0 for verdict in tied) == len(finished) // 2


def test_an_unfinished_answer_loses_or_is_judged_like_any_other():
    """The same text, the better one of two, cut before its end token."""
    example = Example("e", (Turn("user", "red"),), "bad", None, "s")
    model = trained()
    lose, judge = (source(replace(SPEC, unfinished=how), model=model) for how in ("lose", "judge"))
    cut, whole = RewardRequest(example, "good good", False), RewardRequest(example, "good good", True)
    assert [verdict.reward for verdict in lose.score([cut, whole])] == [-1.0, 1.0]
    assert [verdict.reward for verdict in judge.score([cut, whole])] == [1.0, 1.0]


@pytest.mark.parametrize("mode", ["sign", "score"])
def test_a_score_that_is_not_a_number_is_no_tie(mode):
    model = classifier()
    torch.nn.init.constant_(model.score.weight, math.nan)
    broken = source(replace(SPEC, mode=mode), model=model)
    with pytest.raises(UserError, match=r"reward\.path=x: gave a score that is not a number"):
        broken.score(requests())


def test_each_set_may_have_its_own_model(tmp_path):
    spec = replace(SPEC, path=f"{tmp_path}/{{data}}")
    classifier().save_pretrained(tmp_path / "hh_helpful")
    word_tokenizer().save_pretrained(tmp_path / "hh_helpful")
    spec.check(load("data/hh_helpful"))
    built = spec.build(load("data/hh_helpful"))
    expected = [verdict.reward for verdict in source().score(requests())]
    assert [verdict.reward for verdict in built.score(requests())] == expected


@pytest.mark.parametrize("path", ["runs/reward_models/{data}", "./here", "/nowhere/at/all", "a/b/c", "plain"])
def test_a_missing_model_is_named_before_anything_is_trained(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"reward.path=.*: no such folder; train one with python -m grao_bench.train_reward data=hh_helpful"
    ):
        replace(SPEC, path=path).check(load("data/hh_helpful"))


def test_a_hub_id_is_looked_up_only_when_it_is_loaded():
    replace(SPEC, path="owner/name").check(load("data/hh_helpful"))


def test_a_folder_that_holds_no_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"reward.path=.*: no reward model could be loaded"):
        load_classifier(str(tmp_path), "float32", "cpu", "reward")


def test_margin_mode_is_the_difference_and_no_verdict():
    """A score whose zero is the reference: pointwise, since it is not in {-1, 0, 1}."""
    margin, sign = source(replace(SPEC, mode="margin")), source()
    assert (margin.name, margin.pairwise) == ("reward_model_margin", False)
    for request, verdict, other in zip(requests(), margin.score(requests()), sign.score(requests()), strict=True):
        assert verdict.reward == verdict.parts["score"] - verdict.parts["reference_score"]
        if request.finished:
            assert np.sign(verdict.reward) == other.reward
    own = [Answer(example.chosen, (), True) for example in EXAMPLES]
    assert [R for R, _ in compare(margin, EXAMPLES, own)] == [0.0] * 24


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """A BERT-like tokenizer of whole words: [CLS] a [SEP] b [SEP]."""
    words = {word: row for row, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "Human", "Assistant", ":", *WORDS[6:]])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", marks)
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT classifier's checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("bert")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=20,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.5,
            num_labels=1,
            pad_token_id=0,
        )
        BertForSequenceClassification(config).save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder


def test_an_encoder_scores_two_segments_as_its_own_classes_do(bert):
    spec = replace(SPEC, path=str(bert), mode="score", prompt_format="pair", tokens_per_forward=30)
    built = spec.build(load("data/hh_helpful"))
    model, tokenizer = BertForSequenceClassification.from_pretrained(bert).eval(), encoder_tokenizer()
    with torch.no_grad():
        expected = [model(**tokenizer(f"Human: {r.example.prompt[0].text}", r.text, return_tensors="pt")).logits.item() for r in requests()]
    assert [verdict.reward for verdict in built.score(requests())] == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 3) for score in expected}) > 10


def test_two_segments_lose_words_of_the_dialogue_and_then_of_the_answer():
    """[CLS] Human : blue red [SEP] good one [SEP] has 9 ids; the role mark stays."""
    example = replace(EXAMPLES[0], prompt=(Turn("user", "blue red"),))
    tokenizer = encoder_tokenizer()
    ids = [[*two_segments(tokenizer, count, example, "good one")[0]] for count in (9, 8, 7)]
    blue, red, good, one = tokenizer.convert_tokens_to_ids(["blue", "red", "good", "one"])
    assert ids == [
        [1, 4, 6, blue, red, 2, good, one, 2],
        [1, 4, 6, red, 2, good, one, 2],
        [1, 4, 6, red, 2, good, 2],
    ]


def test_an_encoder_wants_two_segments(bert):
    with pytest.raises(
        UserError, match=r"reward\.prompt_format=hh: BertForSequenceClassification reads two segments; use prompt_format=pair"
    ):
        replace(SPEC, path=str(bert)).build(load("data/hh_helpful"))


def test_a_classifier_of_several_classes_is_no_reward_model(tmp_path):
    model = classifier()
    model.config.num_labels = 3
    LlamaForSequenceClassification(model.config).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"reward\.path=.*: no reward model could be loaded"):
        load_classifier(str(tmp_path), "float32", "cpu", "reward")


def test_a_causal_model_is_no_reward_model(tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"reward\.path=.*: a checkpoint without score\.weight is no reward model"):
        load_classifier(str(tmp_path), "float32", "cpu", "reward")


def test_an_evaluation_reward_that_saw_the_training_rewards_pairs_is_refused(tmp_path):
    """By their texts, whatever their ids."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, examples in ((ours, EXAMPLES[:12]), (theirs, EXAMPLES[12:])):
        folder.mkdir()
        write_pairs(folder, examples, "training")
    spec = replace(SPEC, path=str(ours), disjoint_from=str(theirs))
    spec.check(load("data/hh_helpful"))
    assert shared_pairs(ours, theirs) == 0

    write_pairs(theirs, [replace(example, id=f"renamed{example.id}") for example in EXAMPLES[10:]], "evaluation")
    with pytest.raises(UserError, match=r"reward\.path=.*ours: shares 2 training pairs with .*theirs \(reward\.disjoint_from\)"):
        spec.check(load("data/hh_helpful"))
    assert "red" not in (ours / "pairs.json").read_text(), "digests alone"


def test_what_does_not_say_its_pairs_can_not_be_shown_to_be_disjoint(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match=r"a: holds no pairs\.json, so nothing shows what it was trained on"):
        replace(SPEC, path=str(tmp_path / "a"), disjoint_from=str(tmp_path / "b")).check(load("data/hh_helpful"))


def test_bad_fields_are_a_users_error():
    with pytest.raises(UserError, match=r"reward\.tie_margin=-1\.0: must not be negative"):
        replace(SPEC, tie_margin=-1.0)
    for key, least in (("max_tokens", 2), ("tokens_per_forward", 1)):
        with pytest.raises(UserError, match=rf"reward\.{key}=0: must be at least {least}"):
            replace(SPEC, **{key: 0}).check(load("data/hh_helpful"))


def test_an_unknown_choice_names_those_there_are(monkeypatch):
    """As installed: without the signature checks of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for key, known in (("mode", "score, sign, margin"), ("unfinished", "lose, judge"), ("prompt_format", "hh, chat, pair, null")):
        with pytest.raises(UserError, match=rf"^reward\.{key}=some: unknown; choose one of {known}$"):
            replace(SPEC, **{key: "some"})


def test_a_cell_loads_a_reward_model_once(tmp_path, monkeypatch):
    """Which trains, judges both sets, and is a part of a mixture: one from_pretrained."""
    folder, loads = tmp_path / "judge", []
    classifier().save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    plain = AutoModelForSequenceClassification.from_pretrained

    def counted(path, *args, **kwargs):
        loads.append(path)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", counted)
    reward = replace(SPEC, path=str(folder), mode="score")
    mixture = Mixture(parts={"it": Part(source=reward, weight=1.0)}, missing="exclude", tie_margin=0.0)
    both = small("evaluation/standard", sets="all", max_examples=2, reward=mixture)
    for output in ("first", "second"):
        run(cell("grpo", tmp_path / output, reward=reward, evaluation=both))
    assert loads == [str(folder)] * 2, "once in each cell"
