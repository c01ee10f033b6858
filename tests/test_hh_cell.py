"""The two-step version of sweeps/hh_tiny.yaml on real dialogues: two reward models for each set, then a cell that all four judge."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from itertools import islice, product
from pathlib import Path

import pytest

from grao_bench.core.record_files import read_run
from tests.cells import TINY_BASE

FOLDER = Path(os.environ.get("GRAO_BENCH_HH") or Path(__file__).parents[1] / "../shared/data/hh-rlhf").resolve()
SUBSETS = ("helpful", "harmless")

pytestmark = pytest.mark.skipif(not (FOLDER / "helpful-base").is_dir(), reason="no HH-RLHF folder; set GRAO_BENCH_HH")


@pytest.fixture
def excerpt(tmp_path):
    """The first rows of the real files, in the upstream layout."""
    for subset in SUBSETS:
        for split, rows in (("train", 120), ("test", 40)):
            name = f"{subset}-base/{split}.jsonl"
            source = next(path for path in (FOLDER / f"{name}.gz", FOLDER / name) if path.is_file())
            (tmp_path / "hh" / name).parent.mkdir(parents=True, exist_ok=True)
            with (gzip.open if source.suffix == ".gz" else open)(source, "rt", encoding="utf-8") as file:
                (tmp_path / "hh" / name).write_text("".join(islice(file, rows)), encoding="utf-8")
    return tmp_path / "hh"


def test_reward_models_and_a_cell(excerpt, tmp_path, command):
    base = (*TINY_BASE, "model.steps=30", f"data.path={excerpt}")
    for subset, half in product(SUBSETS, ("training", "evaluation")):
        of = f"data=hh_{subset}", f"half={half}"
        outcome = command("train_reward", "model=tiny_hh", *of, "max_tokens=256", "training.epochs=1", *base)
        assert outcome.code == 0, outcome.err
        assert (tmp_path / "runs" / "reward_models" / f"hh_{subset}-{half}" / "metrics.json").is_file()

    small = ("budget.steps=2", "budget.answers_per_step=16", "budget.probe_prompts=4", "evaluation.max_examples=6")
    outcome = command("train", "experiment=hh_tiny", "objective=grao", *base, *small)

    assert outcome.code == 0, outcome.err
    folder = tmp_path / outcome.out.splitlines()[-1]
    found = read_run(folder)
    assert (found.info.model, found.info.reward) == ("tiny_hh", "reward_model_score")
    assert len(found.steps) == 2
    # the judge that training did not see, and the one that it did
    assert set(found.evaluations) == set(product([f"hh_{subset}" for subset in SUBSETS], ["reward_model_sign", "reward_model_score"]))
    for records in found.evaluations.values():
        asked = Counter(record.example_id for record in records)
        assert 1 <= len(asked) <= 6
        assert set(asked.values()) == {4}, "four answers to each prompt"
        assert {record.verdict for record in records} <= {-1.0, 0.0, 1.0}
        assert all(record.example_id for record in records)
        assert {(record.prompt, record.reference, record.answer) for record in records} == {("", "", "")}, "no HH text is kept"
    lengths = found.info.lengths["training"]
    assert (lengths.rule, lengths.answers_over_limit > 0, lengths.examples > 20) == ("drop", True, True)
    assert set(found.info.lengths) == {"training", *(f"hh_{subset}" for subset in SUBSETS)}
    assert sum(found.info.drops.values()) > 0
