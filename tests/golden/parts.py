"""What each part says of fixed inputs: data sets, rewards, the engine, the embedded base. Kept in parts.json beside its revisions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from grao_bench.core.interfaces import RewardRequest, Sampling
from grao_bench.core.provenance import data_fingerprint
from grao_bench.core.spec_interfaces import RewardSpec
from grao_bench.core.specs import load
from grao_bench.data.world import WorldData
from grao_bench.models.load import load_causal_lm
from tests.cells import small, world_rows, write_rows
from tests.small import synced

Numbers = list[Any]


def parts(base: Path, scratch: Path) -> dict[str, tuple[Any, Callable[[], Numbers]]]:
    """Name -> (the specs whose numbers they are, what they say)."""
    world, files = small("data/world_helpful"), write_rows(scratch / "rows.jsonl", world_rows(40))
    rewards = {name: load(f"reward/{name}") for name in ("gold", "gold_score", "gold_free_text", "mixture", "routed")}
    rewards["verifiable"] = load("reward/verifiable", rule="exact_words")
    shaping = ["length", "unfinished", "soft_overlong", "repetition", "clip", "whiten"]
    rewards["shaped"] = load("reward/shaped", shaping=shaping)
    engine, tiny = load("rollout/shared_prefix", temperature=0.9), small("model/tiny", steps=3)
    return {
        "world_helpful": (world, partial(_data, world)),
        "world_harmless": (small("data/world_harmless"), partial(_data, small("data/world_harmless"))),
        "files": ((load("data/files", train=str(files)), world), partial(_data, load("data/files", train=str(files)))),
        **{name: ((spec, world), partial(_rewards, spec, world)) for name, spec in rewards.items()},
        "shared_prefix": ((engine, world), partial(_answers, engine, base, world)),
        "tiny": ((tiny, world), partial(_losses, tiny, world)),
    }


def _data(spec: Any) -> Numbers:
    dataset = spec.build()
    return [data_fingerprint(split) for split in (dataset.train, dataset.dev, dataset.test)]


def _rewards(spec: RewardSpec, data: WorldData) -> Numbers:
    """Of good, bad, empty, long and repeated answers, finished and not."""
    requests = []
    for pair in data.build().train[:6]:
        chosen, rejected = str(pair.chosen), str(pair.rejected)
        for text in (chosen, rejected, "", f"{chosen} {rejected}", "yes yes yes yes yes"):
            finished = len(requests) % 4 != 3
            requests.append(RewardRequest(pair, text, finished, 40 * len(text.split())))
    return [verdict.reward for verdict in spec.build(data).score(requests)]


def _answers(spec: Any, base: Path, data: WorldData) -> Numbers:
    """The tokens that it draws from the golden base."""
    from grao_bench.text.tokens import TextCodec

    model, tokenizer = load_causal_lm(str(base), "float64", "cpu")
    codec = TextCodec(tokenizer, "hh", 128)
    prompts = [codec.prompt(one.id, one.prompt) for one in data.build().train[:3]]
    drawn = synced(spec.build(codec), model).sample(prompts, 2, Sampling(0.9, 1.0, 8), 5)
    return [list(answer.tokens) for row in drawn for answer in row]


def _losses(spec: Any, data: WorldData) -> Numbers:
    """Of three steps of pre-training, to what float32 gives on every processor."""
    losses: list[float] = []
    spec.pretrain(data.corpus(), lambda step, steps, loss: losses.append(round(loss, 2)))
    return losses
