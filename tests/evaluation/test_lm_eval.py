"""lm-eval's tasks through our engine: the same scores as stock `lm_eval --model hf`, what is recorded, our sets as tasks, and mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from grao_bench.core.errors import UserError
from grao_bench.core.record_files import read_records, read_run
from grao_bench.core.records import TaskRecord
from grao_bench.core.specs import load
from grao_bench.evaluation.engine_lm import EngineLM
from grao_bench.evaluation.lm_eval import NO_TASKS, LMEval, evaluate_tasks
from grao_bench.evaluation.tasks import FOLDER
from grao_bench.evaluation.tasks.sets import documents, ras
from grao_bench.models.load import load_causal_lm
from grao_bench.models.policy import Policy
from grao_bench.models.tiny import train_tokenizer
from grao_bench.runs.again import evaluate_again
from grao_bench.runs.run import run
from grao_bench.text.tokens import TextCodec
from tests.cells import cell, small, snapshot, write_rows
from tests.small import tiny_llama, tiny_qwen2

CHOICES = [
    {"question": "What does an otter eat", "choices": ["fish", "red stones and sand", "fish"], "label": 0},
    {"question": "Where is the river ", "choices": ["in the north", "nowhere at all", "here"], "label": 2},
    {"question": "", "choices": ["good", "bad answers are long", "one"], "label": 1},
    {"question": "A question so long that it has to be cut from the left " * 8, "choices": ["yes", "no", "it depends"], "label": 1},
]
TEXTS = [{"text": "A short text."}, {"text": "The river runs to the sea, past otters and stones, and never comes back the same. " * 9}]
QUESTIONS = [{"question": f"Tell me about the {word} in the north.", "answer": "fish"} for word in ("otter", "river", "stone", "sea")]


def write_tasks(folder: Path) -> Path:
    """A folder of task files of all three kinds, with their documents beside them."""
    choice = {"output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{label}}"}
    rolling = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    answer = {"output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{answer}}"}
    greedy = {"until": ["north", "\n\n"], "max_gen_toks": 24, "do_sample": False}
    tasks = {
        "local_choice": (CHOICES, choice | {"metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_mutual_info"}]}),
        "local_perplexity": (TEXTS, rolling | {"metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}]}),
        "local_answer": (QUESTIONS, answer | {"generation_kwargs": greedy, "metric_list": [{"metric": "exact_match"}]}),
        "local_sampled": (QUESTIONS, answer | {"generation_kwargs": greedy | {"do_sample": True, "temperature": 1.0}, "repeats": 3}),
        "local_beams": (QUESTIONS, answer | {"generation_kwargs": greedy | {"num_beams": 4}}),
        "local_long": (QUESTIONS, answer | {"generation_kwargs": greedy | {"max_gen_toks": 4096}}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (rows, config) in tasks.items():
        data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(write_rows(folder / f"{name}.jsonl", rows))}}}
        text = yaml.safe_dump({"task": name, "test_split": "test", "metadata": {"version": 1.0}, **data, **config})
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    broken = {"task": "local_broken", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "absent.jsonl")}}}
    (folder / "local_broken.yaml").write_text(yaml.safe_dump(broken | answer | {"test_split": "test"}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def checkpoint(request, tmp_path_factory):
    """A tiny checkpoint on disk with a context of 64: of the Qwen2 type with a begin token that its tokenizer puts in front of a text."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = train_tokenizer([*(row["text"] for row in TEXTS), *(row["question"] for row in CHOICES + QUESTIONS)], 300)
    if request.param == "qwen2":
        from tokenizers.processors import TemplateProcessing

        tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
        begin = ("<|begin|>", tokenizer.convert_tokens_to_ids("<|begin|>"))
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    make = tiny_qwen2 if request.param == "qwen2" else tiny_llama
    make(vocab=len(tokenizer) + 8, **ends).save_pretrained(folder)  # a Qwen2 tokenizer adds a token of its own
    tokenizer.save_pretrained(folder)
    return folder


def engine_lm(checkpoint: Path | str, tokens_per_forward: int = 200, seed: int = 0, answers_per_call: int = 3) -> EngineLM:
    """Our side: small batches, so that there are several."""
    model, tokenizer = load_causal_lm(str(checkpoint), "float32", "cpu")
    codec = TextCodec(tokenizer, "hh", 64)
    engine = load("rollout/shared_prefix", answers_per_call=answers_per_call).build(codec)
    engine.sync(policy := Policy(model, 1.0, value_head=False), 0)
    return EngineLM(policy, codec, engine, tokens_per_forward, seed)


def spec(folder: Path, *names: str, **changed: Any) -> LMEval:
    return replace(NO_TASKS, **({"tasks": list(names), "include_path": str(folder)} | changed))


def samples_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_scores_are_those_of_stock_lm_eval(checkpoint, tasks, tmp_path):
    names = ["local_choice", "local_perplexity", "local_answer"]
    shots = 1 if "qwen2" in checkpoint.name else None
    stock = simple_evaluate(
        model=HFLM(pretrained=str(checkpoint), dtype="float32", device="cpu", batch_size=2),
        tasks=names,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        num_fewshot=shots,
        bootstrap_iters=0,
    )
    written = evaluate_tasks(spec(tasks, *names, num_fewshot=shots, log_samples=True), engine_lm(checkpoint), tmp_path)

    files = [tmp_path / "lm_eval_samples" / f"{name}{'_1shot' if shots else ''}.jsonl" for name in names]
    assert written == [files[0], tmp_path / "lm_eval.jsonl", *files[1:]]
    records = read_records(tmp_path / "lm_eval.jsonl", TaskRecord)
    ours = {(record.task, f"{record.metric},{record.filter}"): record.value for record in records}
    theirs = {(name, key): value for name in names for key, value in stock["results"][name].items() if "," in key and "_stderr" not in key}
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert {record.documents for record in records if record.task == "local_choice"} == {4}
    for name, file in zip(names, files, strict=True):
        for our, their in zip(samples_in(file), stock["samples"][name], strict=True):
            assert (our["doc_hash"], our["prompt_hash"]) == (their["doc_hash"], their["prompt_hash"])
            if name == "local_answer":
                assert our["resps"] == their["resps"], "greedy answers, to the letter"
            else:
                logps, expected = (torch.tensor([_logp(one[0]) for one in sample["resps"]]) for sample in (our, their))
                torch.testing.assert_close(logps, expected, rtol=1e-5, atol=1e-5)
                assert [_greedy(one[0]) for one in our["resps"]] == [_greedy(one[0]) for one in their["resps"]]
    texts = [sample["resps"][0][0] for sample in samples_in(files[2])]
    assert len(set(texts)) > 1, texts
    assert not any("north" in text for text in texts)


def _logp(response: Any) -> float:
    return float(response[0] if isinstance(response, list | tuple) else response)


def _greedy(response: Any) -> bool | None:
    return bool(response[1]) if isinstance(response, list | tuple) else None


def test_how_requests_are_batched_changes_no_score(checkpoint, tasks, tmp_path):
    names = ("local_choice", "local_perplexity", "local_answer")
    one = evaluate_tasks(spec(tasks, *names), engine_lm(checkpoint, tokens_per_forward=1, answers_per_call=1), tmp_path / "one")
    all_ = evaluate_tasks(spec(tasks, *names), engine_lm(checkpoint, tokens_per_forward=10**6, answers_per_call=64), tmp_path / "all")

    assert one == [tmp_path / "one" / "lm_eval.jsonl"]
    ours, others = ([record.value for record in read_records(path, TaskRecord)] for (path,) in (one, all_))
    assert ours == pytest.approx(others, rel=1e-5)


def test_a_greedy_continuation_is_known_as_such(checkpoint):
    """One that the model itself says is greedy, and with its last token changed it is not."""
    lm = engine_lm(checkpoint)
    context = lm.tok_encode("Tell me about the otter")
    with torch.no_grad():
        said = list(context)
        for _ in range(4):
            said.append(int(lm.policy.model(torch.tensor([said])).logits[0, -1].argmax()))
    answer = said[len(context) :]
    changed = [*answer[:-1], (answer[-1] + 1) % 200]
    (_, first), (_, second) = lm._loglikelihood_tokens([("", context, answer), ("", context, changed)])
    assert (first, second) == (True, False)


def test_sampled_answers_follow_the_seed_alone(checkpoint, tasks, tmp_path):
    def answers(name: str, seed: int, *names: str) -> list[Any]:
        evaluate_tasks(spec(tasks, *names, log_samples=True), engine_lm(checkpoint, seed=seed), tmp_path / name)
        file = tmp_path / name / "lm_eval_samples" / f"local_sampled{'_seed1' if seed else ''}.jsonl"
        return [sample["resps"] for sample in samples_in(file)]

    alone = answers("alone", 0, "local_sampled")
    assert alone == answers("beside", 0, "local_answer", "local_sampled")
    assert alone != answers("other", 1, "local_sampled")
    assert any(len({*repeats}) > 1 for (repeats,) in alone), "the repeats of one document are drawn apart"


def test_limit_and_few_shot_reach_the_task(checkpoint, tasks, tmp_path):
    evaluate_tasks(spec(tasks, "local_answer", limit=2, num_fewshot=1, log_samples=True), engine_lm(checkpoint), tmp_path)

    (record,) = read_records(tmp_path / "lm_eval.jsonl", TaskRecord)
    assert (record.documents, record.num_fewshot) == (2, 1)
    assert record.settings == {"limit": 2, "num_fewshot": 1, "apply_chat_template": False, "seed": 0}
    rows = samples_in(tmp_path / "lm_eval_samples" / "local_answer_first2_1shot.jsonl")
    assert all("fish" in row["arguments"][0][0] for row in rows), "the other document's answer stands in the prompt"


def test_what_is_there_is_not_asked_again(checkpoint, tasks, tmp_path):
    lm = engine_lm(checkpoint)
    evaluate_tasks(spec(tasks, "local_answer", limit=2), lm, tmp_path)
    before = snapshot(tmp_path)

    assert evaluate_tasks(spec(tasks, "local_answer", limit=2), lm, tmp_path) == []
    assert snapshot(tmp_path) == before
    state = torch.get_rng_state()
    evaluate_tasks(spec(tasks, "local_answer", "local_choice", limit=3), lm, tmp_path)
    assert torch.equal(torch.get_rng_state(), state), "lm-eval's seeding of global generators leaves no trace"
    asked = [(record.task, record.settings["limit"]) for record in read_records(tmp_path / "lm_eval.jsonl", TaskRecord)]
    assert asked == [("local_answer", 2), ("local_answer", 3), *[("local_choice", 3)] * 3]


def test_a_run_and_its_base_are_scored_once(tmp_path, tasks):
    asked = spec(tasks, "local_choice", "local_answer", limit=2)
    evaluation = small("evaluation/standard", lm_eval=asked, reward=load("reward/gold_score"))
    experiment = cell("sft", tmp_path, evaluation=evaluation)
    seen = []
    folder = run(experiment, on_task=lambda what, done, total: seen.append((what, done, total)))

    runs = read_run(folder)
    bases = [read_run(path) for path in (tmp_path / "small" / "tiny" / "base").glob("*/seed0")]
    (base,) = [found for found in bases if found.lm_eval]
    assert len(bases) == 2, "the one that the training reward judges has no tasks"
    key = [(record.task, record.metric, record.fingerprint) for record in runs.lm_eval]
    assert key == [(record.task, record.metric, record.fingerprint) for record in base.lm_eval]
    assert {task for task, _, _ in key} == {"local_choice", "local_answer"}
    assert ("lm-eval: answers", 2, 2) in seen
    # another cell asks nothing of the base again; another task is added to both
    before = snapshot(base.folder)
    run(cell("sft", tmp_path, evaluation=evaluation, seed=1))
    assert snapshot(base.folder) == before
    more = small("evaluation/standard", lm_eval=spec(tasks, "local_perplexity"), reward=load("reward/gold_score"))
    written, _ = evaluate_again(experiment, cell("sft", tmp_path, evaluation=more), folder)
    assert written == [folder / "lm_eval.jsonl"]
    assert [record.task for record in read_run(base.folder).lm_eval][-2:] == ["local_perplexity"] * 2
    assert len(read_run(folder).lm_eval) == len(runs.lm_eval) + 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tasks": ["local_chioce"]}, r"evaluation\.lm_eval\.tasks: lm-eval knows no local_chioce; see python -m lm_eval ls tasks"),
        ({"include_path": "nowhere"}, r"evaluation\.lm_eval\.include_path=nowhere: no such folder"),
        ({"limit": 2.5}, r"evaluation\.lm_eval\.limit=2\.5: must be a number of documents"),
        ({"limit": 0}, r"evaluation\.lm_eval\.limit=0: must be"),
        ({"num_fewshot": -1}, r"evaluation\.lm_eval\.num_fewshot=-1: must be at least 0"),
    ],
)
def test_a_mistake_is_found_before_anything_is_trained(changed, message, tasks, tmp_path, monkeypatch):
    if "tasks" in changed:  # reading lm-eval's own thousands of files takes seconds, and finds this name no more than ours do
        monkeypatch.setattr("grao_bench.evaluation.lm_eval._index", lambda path, _: TaskManager(include_path=path, include_defaults=False))
    evaluation = small("evaluation/standard", lm_eval=spec(tasks, **({"tasks": ["local_choice"]} | changed)))
    with pytest.raises(UserError, match=message) as raised:
        run(cell("sft", tmp_path, evaluation=evaluation))
    assert "\n" not in str(raised.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("local_broken", "evaluation.lm_eval.tasks: local_broken can't be loaded (FileNotFoundError: "),
        ("local_beams", "lm-eval task local_beams: generation_kwargs num_beams=4: the rollout engine can't do that"),
        ("local_long", "lm-eval task local_long: max_gen_toks=4096 leaves no room for a prompt in the model's context of 64"),
    ],
)
def test_a_task_that_cannot_be_run_is_one_line(name, message, checkpoint, tasks, tmp_path):
    with pytest.raises(UserError) as raised:
        evaluate_tasks(spec(tasks, name), engine_lm(checkpoint), tmp_path)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "lm_eval.jsonl").exists()


def test_a_chat_template_that_is_not_there_is_one_line(checkpoint, tasks, tmp_path):
    with pytest.raises(UserError, match=r"apply_chat_template=true: the model's tokenizer has no chat template"):
        evaluate_tasks(spec(tasks, "local_answer", apply_chat_template=True), engine_lm(checkpoint), tmp_path)


def test_a_chat_template_wraps_the_prompt(checkpoint, tasks, tmp_path):
    lm = engine_lm(checkpoint)
    lm.tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}{% if add_generation_prompt %}[reply]{% endif %}"
    )
    evaluate_tasks(spec(tasks, "local_answer", apply_chat_template=True, limit=1, log_samples=True), lm, tmp_path)
    (row,) = samples_in(tmp_path / "lm_eval_samples" / "local_answer_first1_chat.jsonl")
    assert row["arguments"][0][0] == "[user] Tell me about the otter in the north.[reply]"


# our sets as tasks

FEW = {"num_train": 4, "num_dev": 4, "num_test": 20}


def test_the_embedded_world_is_a_task_for_any_model(checkpoint, tmp_path):
    """By lm-eval alone, as a user runs it: RAS is the gold judge's."""
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False, metadata={"data_settings": FEW})
    found = simple_evaluate(
        model=HFLM(pretrained=str(checkpoint), dtype="float32", device="cpu", batch_size=4, max_length=512),
        tasks=["grao_world_helpful"],
        task_manager=manager,
        limit=3,
        bootstrap_iters=0,
    )
    scores = found["results"]["grao_world_helpful"]
    assert scores["ras,none"] + scores["tie,none"] + scores["loss,none"] == pytest.approx(1)
    rows = found["samples"]["grao_world_helpful"]
    assert [row["doc"]["id"] for row in rows] == [example.id for example in load("data/world_helpful", **FEW).build().test[:3]]
    assert all(row["arguments"][0][0] == f"\n\nHuman: {row['doc']['turns'][0]['text']}\n\nAssistant:" for row in rows)


@pytest.mark.parametrize("name", ["world_helpful", "world_harmless"])
def test_an_answer_is_judged_against_its_reference(name):
    from grao_bench.data.world import oracle_answer

    examples = load(f"data/{name}", **FEW).build().test
    rows = documents(set=name, reward="gold", data_settings=FEW, version=1.0)["test"]
    perfect = [ras(row, [oracle_answer(example)]) for row, example in zip(rows, examples, strict=True)]
    same = [ras(row, [f" {example.chosen}\n"]) for row, example in zip(rows, examples, strict=True)]
    worst = [ras(row, ["Go away."]) for row in rows]

    assert all(one["loss"] == 0 and one["reward"] >= 0 for one in perfect)
    assert sum(one["ras"] for one in perfect) > 5
    assert all((one["ras"], one["tie"], one["loss"]) == (0, 1, 0) for one in same), "R(y, y) = 0"
    assert sum(one["loss"] for one in worst) > 15


def test_hh_needs_a_reward_and_says_so(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r'the set hh_helpful has no judge of its own; name a reward .*"reward": "reward_model"'):
        documents(set="hh_helpful")
    with pytest.raises(UserError, match="hh_helpful has no gold judge"):
        documents(set="hh_helpful", reward="gold")


def test_hh_with_a_reward_is_a_set_like_another(tmp_path, monkeypatch):
    folder = tmp_path / "helpful-base"
    folder.mkdir()
    for split in ("train", "test"):
        prompts = [f"\n\nHuman: What is {split} stone {i}?\n\nAssistant: " for i in range(30)]
        write_rows(folder / f"{split}.jsonl", ({"chosen": f"{prompt}A rock.", "rejected": f"{prompt}No."} for prompt in prompts))
    (tmp_path / "rewards_of_a_user.py").write_text(
        "def length(prompts, completions, references):\n    return [len(text) for text in completions]\n", encoding="utf-8"
    )
    monkeypatch.setenv("GRAO_BENCH_HH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    rows = documents(set="hh_helpful", reward="python", reward_settings={"function": "rewards_of_a_user.length"}, prompt_format="chat")[
        "test"
    ]

    assert [row["prompt"] for row in rows] == [f"What is test stone {i}?" for i in range(30)]
    assert [ras(rows[0], [text])["ras"] for text in ("A much longer rock.", "Rock.")] == [1, 0]
    assert ras(rows[0], ["A rock."])["tie"] == 1


def test_the_folder_is_printed():
    done = subprocess.run(
        [sys.executable, "-m", "grao_bench.evaluation.tasks"], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert Path(done.stdout.strip()) == FOLDER
    assert {path.name for path in FOLDER.glob("grao_*.yaml")} == {
        f"grao_{world}_{subset}.yaml" for world in ("world", "hh") for subset in ("helpful", "harmless")
    }
