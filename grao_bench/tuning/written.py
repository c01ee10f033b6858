"""What a tuning leaves behind: its tables and figure, and the lines of conf/lr_by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from grao_bench.tuning.choice import RULE, Choice, drawing, frame, scores_by_rate, table
from grao_bench.tuning.protocol import RATE, TuningProtocol

MARK = "# written by python -m grao_bench.tune"


def write_tables(
    into: Path,
    protocol: TuningProtocol,
    made: Sequence[Choice],
    revision: Mapping[str, str],
) -> None:
    """tuning.md, trials.csv, chosen.yaml and the figure of score against rate. revision: of the
    code that chose, see `provenance.code_revision`; that of each trial is in its record."""
    into.mkdir(parents=True, exist_ok=True)
    counts = ", ".join(str(count) for count in sorted({len(one.trials) for one in made}))
    seeds = ", ".join(map(str, protocol.seeds))
    commit, changed = revision["git"][:12], revision["git_dirty"]
    lines = [
        f"# Tuning: {protocol.sweep}",
        f"Chosen: {RULE}. Seeds {seeds}; trials of each objective on each set: {counts}.",
        f"Code: commit {commit}, changed since: {changed}.",
        table(made).markdown(),
    ]
    for data in protocol.sets:
        lines += [f"## RAS on dev by learning rate: {data}", scores_by_rate(made, data).markdown()]
    (into / "tuning.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    frame(made).to_csv(into / "trials.csv", index=False, lineterminator="\n")
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    for one in made:
        chosen.setdefault(one.best.data, {})[one.best.objective] = dict(one.best.settings)
    (into / "chosen.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
    drawn = drawing(made)
    (into / f"{drawn.name}.png").write_bytes(drawn.png)
    (into / f"{drawn.name}.svg").write_bytes(drawn.svg)


def write_rates(path: Path, made: Sequence[Choice], protocol: str) -> None:
    """The chosen rates into a table of conf/lr_by, in place of what a tuning wrote for these sets;
    its other lines stay as they are."""
    before = path.read_text(encoding="utf-8")
    kept, _, written = before.partition(MARK)
    sets: dict[str, dict[str, float]] = yaml.safe_load(written.partition("\n")[2]) or {}
    for one in made:
        rates = sets.setdefault(one.best.data, {})
        rates[one.best.objective] = dict(one.best.settings)[RATE]
    lines = [f"{kept.rstrip()}\n{MARK} protocol={protocol}:", f"# {RULE}"]
    for data, rates in sets.items():
        lines.append(f"{data}:")
        # plain decimals: YAML 1.1 reads 5e-05 as a text
        lines += [f"  {name}: {f'{rate:.12f}'.rstrip('0')}" for name, rate in rates.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
