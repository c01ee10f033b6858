"""python -m grao_bench.train_reward: a reward model from pairs, and a cell that is trained and evaluated by it."""

from __future__ import annotations

import json
import re
import time
from functools import partial

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from grao_bench.core.record_files import read_run
from grao_bench.core.types import Example, Turn
from grao_bench.rewards.reward_folder import accuracy_of, shared_pairs
from grao_bench.train_reward import halves
from tests.cells import TINY_BASE, world_rows, write_rows
from tests.commands import Command
from tests.rewards.judge.checkpoint import tokenizer_for
from tests.small import tiny_llama

OWN_PAIRS = ("data=jsonl", "data.train=pairs.jsonl", *TINY_BASE)


@pytest.fixture(scope="module")
def pairs():
    """Pairs that differ by one word at the end of the answer: easy, so that a model this small learns them."""
    return [
        {"prompt": row["prompt"], "chosen": f"{row['chosen']} Thanks.", "rejected": f"{row['chosen']} Never."} for row in world_rows(240)
    ]


@pytest.fixture(scope="module")
def trained(pairs, _commands, tmp_path_factory):
    """(outcome, folder, command) of a reward model trained on the pairs, in judges/jsonl of a folder that holds them."""
    home = tmp_path_factory.mktemp("reward")
    write_rows(home / "pairs.jsonl", pairs)
    command = partial(_commands.run, home)
    fast = ("training.epochs=4", "training.lr=0.005")
    return command("train_reward", *OWN_PAIRS, *fast, "output=judges/jsonl"), home / "judges" / "jsonl", command


def test_a_reward_model_that_rewards_a_cell(pairs, trained):
    outcome, folder, command = trained
    home = folder.parents[1]
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1].startswith("judges/jsonl: pairs 1")
    assert {path.name for path in home.iterdir()} == {"pairs.jsonl", "judges"}
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["pairs"] + metrics["dev/pairs"] + metrics["test/pairs"] == len(pairs)
    assert metrics["test/accuracy"] > 0.9
    assert metrics["test/margin_mean"] > 0
    assert metrics["test/accuracy_of_longer_is_better"] == 1.0, "'Thanks.' is longer than 'Never.'"

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.num_labels == 1

    # a cell whose policy is trained on the score, and evaluated by its sign against the reference
    judged = ("reward=reward_model", "reward@evaluation.reward=reward_model_sign")
    paths = ("reward.path='judges/{data}'", "evaluation.reward.path='judges/{data}'")
    outcome = command("train", "objective=grpo", *OWN_PAIRS, *judged, *paths, "budget=smoke", "evaluation.max_examples=12")
    assert outcome.code == 0, outcome.err
    found = read_run(home / outcome.out.splitlines()[-1])
    assert found.info.reward == "reward_model_score"
    assert len(found.steps) == 2
    assert found.steps[0].metrics["groups_without_signal"] == 0, "a score tells any two answers apart"
    assert {record.metrics["reward/std"] > 0 for record in found.steps} == {True}
    records = found.evaluations["jsonl", "reward_model_sign"]
    for record in records:
        margin = record.parts["score"] - record.parts["reference_score"]
        assert record.verdict == record.reward == ((margin > 0) - (margin < 0) if record.finished else -1)

    # the score in the record is what transformers says of the whole text
    record = next(record for record in records if record.finished)
    text = f"\n\nHuman: {record.prompt}\n\nAssistant: {record.reference}{tokenizer.eos_token}"
    with torch.no_grad():
        score = model(**tokenizer(text, return_tensors="pt")).logits.item()
    assert score == pytest.approx(record.parts["reference_score"], abs=1e-4)


def test_a_killed_training_goes_on_and_ends_the_same_to_the_byte(pairs, tmp_path, command):
    """Killed between two steps, like by a machine's end; begun again, its first step is a later
    one, and the folder's every file is the uninterrupted training's."""
    slow = ("training.epochs=1", "baseline=false", "training.checkpoint_every=1", "output=judges/mine")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for home in (whole, cut):
        home.mkdir()
        write_rows(home / "pairs.jsonl", pairs)
    asked = ("train_reward", *OWN_PAIRS, *slow)
    whole_outcome = Command(whole, *asked).wait()
    assert whole_outcome.code == 0, whole_outcome.err
    begun = Command(cut, *asked)
    while not (cut / "judges/mine.partial/checkpoint/state.pt").exists():
        assert begun.process.is_alive(), "it ended before it could be killed"
        time.sleep(0.005)
    begun.kill()
    assert not (cut / "judges" / "mine").exists()

    again = Command(cut, *asked).wait()
    assert again.code == 0, again.err
    first = re.search(r"step (\d+)/(\d+)", again.err)
    assert first is not None
    assert int(first[1]) > 1
    files = {path.name: path.read_bytes() for path in (whole / "judges" / "mine").iterdir()}
    assert {path.name: path.read_bytes() for path in (cut / "judges" / "mine").iterdir()} == files
    assert "model.safetensors" in files
    assert not {path.name for path in (cut / "judges").iterdir()} - {"mine", ".mine.lock"}


def test_a_checkpoint_of_another_training_is_not_gone_on_from(pairs, tmp_path, command):
    """Another seed, for one; it begins anew."""
    write_rows(tmp_path / "pairs.jsonl", pairs[:64])
    partial_ = tmp_path / "mine.partial"
    (partial_ / "checkpoint").mkdir(parents=True)
    (partial_ / "checkpoint" / "state.pt").write_text("of another")
    (partial_ / "config.yaml").write_text("seed: 1\n")
    outcome = command("train_reward", *OWN_PAIRS, "training.epochs=1", "output=mine")
    assert outcome.code == 0, outcome.err
    assert not (tmp_path / "mine" / "checkpoint").exists()


def test_the_two_commands_of_the_readme_agree(pairs, tmp_path, command):
    """A reward model from a chat base with each command's defaults, then a cell that it rewards:
    the score in the record is what transformers says of the template's ids and the answer's."""
    tokenizer = tokenizer_for([f"{row['prompt']} {row['chosen']}" for row in pairs[:40]])
    tokenizer.save_pretrained(tmp_path / "my_base")
    tiny_llama(vocab=len(tokenizer), max_position_embeddings=512).save_pretrained(tmp_path / "my_base")
    write_rows(tmp_path / "pairs.jsonl", pairs[:40])
    ours = ("data=jsonl", "data.train=pairs.jsonl", "model=hf", "model.path=my_base")
    outcome = command("train_reward", *ours, "training.epochs=1", "baseline=false")
    assert outcome.code == 0, outcome.err
    rewarded = ("reward=reward_model", "reward@evaluation.reward=reward_model_margin")
    small = ("budget=smoke", "evaluation.max_examples=4", "evaluation.sets=own")
    outcome = command("train", "objective=grpo", *ours, *rewarded, *small)
    assert outcome.code == 0, outcome.err
    found = read_run(tmp_path / outcome.out.splitlines()[-1])
    record = found.evaluations["jsonl", "reward_model_margin"][0]
    asked = re.sub(r"^\s*Human: |\s*Assistant:$", "", record.prompt).strip()
    message = [{"role": "user", "content": asked}]
    ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    answer = tokenizer(record.reference)["input_ids"]
    folder = tmp_path / "runs" / "reward_models" / "jsonl"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        whole = torch.tensor([[*ids, *answer, tokenizer.eos_token_id]])
        # not its own pooling: the tokenizer's pad token is its end token, and it would skip both
        score = model.score(model.model(input_ids=whole).last_hidden_state[0, -1]).item()
    assert record.parts["reference_score"] == pytest.approx(score, abs=1e-4)

    outcome = command("train", "objective=grpo", *ours, *rewarded, "reward.prompt_format=hh")
    assert outcome.code == 2
    assert "reward.prompt_format=hh: runs/reward_models/jsonl was trained with prompt_format=chat" in (outcome.err)


def test_an_existing_model_is_not_overwritten(tmp_path, command):
    write_rows(tmp_path / "pairs.jsonl", world_rows(16))
    (tmp_path / "mine").mkdir()

    outcome = command("train_reward", *OWN_PAIRS, "output=mine")

    assert outcome.code == 2
    assert outcome.err == "grao_bench: output=mine: is there already; remove it to train anew, or give another output=\n"
    assert [*(tmp_path / "mine").iterdir()] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=jsonl", "data.train=no_pairs.jsonl"], "grao_bench: data=jsonl: has no pairs to learn from"),
        (["data=hh_helpful", "data.path=nowhere"], "grao_bench: nowhere/helpful-base/test.jsonl[.gz]: no such file"),
        (["data=jsonl"], "grao_bench: data.train: has no value yet"),
        (["data=jsonl", "data.train=no_pairs.jsonl", "training.epochs=two"], "grao_bench: training.epochs='two': expected int, got str"),
        (
            ["data=jsonl", "data.train=no_pairs.jsonl", "half=some"],
            "grao_bench: half=some: unknown; choose one of all, training, evaluation",
        ),
        (["data=jsonl", "data.train=no_pairs.jsonl", "training.batch_size=0"], "grao_bench: training.batch_size=0: must be at least 1"),
        (["data=jsonl", "data.train=no_pairs.jsonl", "max_tokens=0"], "grao_bench: max_tokens=0: must be at least 2"),
        (["data=jsonl", "data.train=no_pairs.jsonl", "epochs=2"], "Could not override 'epochs'"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, command):
    write_rows(tmp_path / "no_pairs.jsonl", world_rows(16, pairs=False))

    outcome = command("train_reward", *arguments)

    assert outcome.code != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert {path.name for path in tmp_path.iterdir()} == {"no_pairs.jsonl"}


def test_the_report_of_a_reward_model(trained):
    """Every figure that the pairs allow, beside the baseline's; a figure without pairs is left out rather than not a number."""
    outcome, folder, _ = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    for split in ("dev", "test"):
        assert metrics[f"{split}/ece_bins"] == 10
        assert 0 <= metrics[f"{split}/ece"] <= 0.5
        assert metrics[f"{split}/pairs_chosen_shorter"] == 0
        assert f"{split}/accuracy_chosen_shorter" not in metrics, "'Thanks.' is always the longer one"
        assert f"{split}/agreement_with_gold" not in metrics, "data=jsonl has no gold judge"
        assert metrics[f"{split}/bag_of_words_accuracy"] == 1.0, "one word tells"
        assert f"{split}/bag_of_words_accuracy 1" in outcome.out
    found = accuracy_of(str(folder))
    assert found is not None
    assert (found.split, found.pairs) == ("test", metrics["test/pairs"])
    assert (found.prefers_longer, found.length_rule.value) == (True, 1.0)
    assert (metrics["test/length_rule"], metrics["test/prefers_longer"]) == (1.0, 1.0)
    assert metrics["test/accuracy_low"] == found.accuracy.low < found.accuracy.value
    assert metrics["test/over_length_rule_high"] == found.over_length_rule.high
    assert metrics["pairs_balanced_away"] == 0
    record = json.loads((folder / "pairs.json").read_text())
    assert record["half"] == "all"
    assert len(record["pairs"]) <= metrics["pairs"]


def test_length_balance_leaves_pairs_out_and_says_how_many(pairs, tmp_path, command):
    """Of 240 pairs every third has its answers swapped, so that the shorter one is chosen: as many
    of the others go. With none swapped there is nothing to balance, which is said in a line."""
    swapped = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} if n % 3 == 0 else row for n, row in enumerate(pairs)]
    write_rows(tmp_path / "pairs.jsonl", swapped)
    short = (*OWN_PAIRS, "training.epochs=1", "baseline=false", "length_balance=true")
    outcome = command("train_reward", *short, "output=mine")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "mine" / "metrics.json").read_text())
    trained = json.loads((tmp_path / "mine" / "pairs.json").read_text())["pairs"]
    assert metrics["pairs"] == len(trained)
    assert metrics["pairs"] % 2 == 0
    assert 40 <= metrics["pairs_balanced_away"] <= 90
    whole = metrics["pairs"] + metrics["pairs_balanced_away"]
    assert whole + metrics["dev/pairs"] + metrics["test/pairs"] == len(pairs)
    assert metrics["test/prefers_longer"] == 1.0, "the rule is of all pairs, balanced or not"

    write_rows(tmp_path / "pairs.jsonl", pairs)
    outcome = command("train_reward", *short, "output=other")
    assert outcome.code == 2
    assert outcome.err.startswith("grao_bench: length_balance=true: in no tenth of the")
    assert outcome.err.count("\n") == 1


def test_halves_are_disjoint_and_a_cell_is_evaluated_by_the_other(tmp_path, command):
    """On the embedded world, whose labels are noisy: the agreement with its judge is reported too."""
    world = (*TINY_BASE, "data.num_train=48", "data.num_dev=8", "data.num_test=16", "data.corpus_documents=200")
    short = ("data=world_helpful", *world, "training.epochs=1")
    for half in ("training", "evaluation"):
        outcome = command("train_reward", *short, f"half={half}")
        assert outcome.code == 0, outcome.err
        assert outcome.out.startswith(f"runs/reward_models/world_helpful-{half}: pairs ")
    folders = [tmp_path / "runs" / "reward_models" / f"world_helpful-{half}" for half in ("training", "evaluation")]
    counts = [json.loads((folder / "metrics.json").read_text())["pairs"] for folder in folders]
    assert sum(counts) == 48
    assert min(counts) >= 12
    assert shared_pairs(*folders) == 0
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    assert 0 <= metrics["test/agreement_with_gold"] <= 1
    assert metrics["test/pairs"] == 16

    rewards = ("reward=reward_model_training", "reward@evaluation.reward=reward_model_evaluation", "evaluation.sets=own")
    cell = ("objective=grpo", "data=world_helpful", *world, *rewards, "budget=smoke")
    outcome = command("train", *cell)
    assert outcome.code == 0, outcome.err
    found = read_run(tmp_path / outcome.out.splitlines()[-1])
    assert ("world_helpful", "reward_model_sign") in found.evaluations
    # the run says of both reward models how they do on held-out pairs, as their folders do
    told = found.info.judges
    trained_on = told["training"]["reward_model_score"]
    assert trained_on.pair_accuracy == accuracy_of(str(folders[0]))
    judge = told["world_helpful/reward_model_sign"]["reward_model_sign"]
    assert judge.pair_accuracy == accuracy_of(str(folders[1]))
    assert trained_on.pair_accuracy != judge.pair_accuracy
    assert judge.judged >= 32, "the base's answers to 16 prompts, and the policy's"

    # the evaluation model, trained anew on all pairs, has seen the training reward's
    outcome = command("train_reward", *short, "output=runs/reward_models/everything")
    assert outcome.code == 0, outcome.err
    outcome = command("train", *cell, "evaluation.reward.path=runs/reward_models/everything", "sweep=again")
    assert outcome.code == 2
    assert f"shares {counts[0]} training pairs with runs/reward_models/world_helpful-training" in outcome.err
    assert outcome.err.count("\n") == 1


def test_dialogues_are_in_one_half():
    """So equal pairs are, whatever their ids, and later turns and other spellings of a question;
    about half of many dialogues is in each."""
    asked = [[f"Prompt {n}?", f"prompt  {n}", f"Prompt {n} ?!"] for n in range(1000)]
    examples = []
    for spellings in asked:
        first, second, third = ((Turn("user", text),) for text in spellings)
        later = (*third, Turn("assistant", "a"), Turn("user", "More?"))
        examples += [Example(str(n), prompt, "a", "b", "s") for n, prompt in enumerate((first, second, later))]
    found = halves(examples)
    by_dialogue = [set(found[row : row + 3]) for row in range(0, 3000, 3)]
    assert all(len(half) == 1 for half in by_dialogue)
    assert 430 <= sum(half == {"training"} for half in by_dialogue) <= 570
    # spelt in one way, a prompt is in the half that it always was in
    assert halves(examples[:1]) == halves(examples[:3])[:1]
