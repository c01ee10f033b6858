"""Two checkpoints, prompt by prompt."""

from __future__ import annotations

import pandas as pd

from grao_bench.core.records import Run
from grao_bench.reporting.gather.comparisons import mcnemar
from grao_bench.reporting.tables.differences import (
    p_text,
)
from grao_bench.reporting.tables.sheets import Sheet, grid_of


def mcnemar_sheet(first: Run, second: Run) -> Sheet:
    """Two given checkpoints on every set that the same judge judged for both: McNemar's exact test
    over the prompts, labelled so."""
    texts, lines = [], []
    shared = sorted(first.evaluations.keys() & second.evaluations.keys())
    for name, reward in shared:
        found = mcnemar(first.evaluations[name, reward], second.evaluations[name, reward])
        prompts = found.only_first + found.only_second + found.both + found.neither
        counts = [found.only_first, found.only_second, found.both, found.neither]
        texts.append([name, reward, str(prompts), *map(str, counts), p_text(found.p)])
        lines.append(
            {
                "set": name,
                "reward": reward,
                "prompts": prompts,
                "only_first": counts[0],
                "only_second": counts[1],
            }
        )
        lines[-1] |= {"both": counts[2], "neither": counts[3], "p": found.p}
    return Sheet(
        "mcnemar",
        "Two checkpoints, prompt by prompt (McNemar's exact test)",
        grid_of(
            ["set", "judge", "prompts", "only A wins", "only B wins", "both", "neither", "p"], texts
        ),
        pd.DataFrame(lines),
        (
            f"A: {first.folder}",
            f"B: {second.folder}",
            "a win is R > 0, of the first answer to a prompt where there are several. p is over"
            " prompts, for these two checkpoints: it does not say that one objective is better than"
            " another, which takes seeds. Not adjusted for several sets",
        ),
    )
