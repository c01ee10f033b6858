"""The tables beside Tables 1 and 2: differences, ablations, two stages against one, rewards, lengths, KL, steps and cost. A Sheet each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from grao_bench.records import EvalRecord, Run
from grao_bench.reporting import paper
from grao_bench.reporting.alignment_tax import alignment_tax
from grao_bench.reporting.cells import ABLATIONS, BASE, Cell, cell_order, differing, first_objective, slug
from grao_bench.reporting.columns import Line, cell_columns, folders, row_name, spread, tidy
from grao_bench.reporting.comparisons import Difference, adjust, mcnemar, paired
from grao_bench.reporting.differences import (
    DETECTABLE,
    TESTED,
    difference_numbers,
    difference_texts,
    differences,
    least_text,
    p_text,
)
from grao_bench.reporting.dynamics import REFERENCES, SHARE, steps_frame
from grao_bench.reporting.families import difference_of
from grao_bench.reporting.gains import gain_sheet
from grao_bench.reporting.intervals import PERCENT, Interval, from_error, over_seeds
from grao_bench.reporting.late_training import late_training
from grao_bench.reporting.reward_models import reward_models
from grao_bench.reporting.scores import reward_statistics
from grao_bench.reporting.sheets import NONE, Sheet, grid_of
from grao_bench.reporting.tables import (
    LENGTH_CONTROLLED,
    CrossTable,
    Row,
    Table,
    cross_grid,
    frame,
    kept_probe,
    number,
    seeds_text,
    table_grid,
    ties_text,
    with_interval,
    with_sd,
)


def all_sheets(cells: Sequence[Cell], rows: Sequence[Row], tables: Sequence[Table], crosses: Sequence[CrossTable]) -> list[Sheet]:
    """Every table that these records hold, in the order of a report: each of Tables 1 and 2 with what belongs to it, then the others."""
    sheets: list[Sheet] = []
    for table in tables:
        made = (
            gain_sheet(table, cells),
            differences(table),
            ablation(table),
            two_stages(table, cells),
            rewards_spread(table),
            lengths(table),
        )
        sheets += [main_sheet(table), *(sheet for sheet in made if sheet)]
    sheets += [cross_sheet(table) for table in crosses]
    behind = reward_models([run for cell in cells for run in cell.runs])
    speed = (steps_to_best(cells), late_training(cells))
    others = (probes(cells), *speed, alignment_tax(cells), cost(cells))
    sheets += [sheet for sheet in (behind, judges(rows), *others) if sheet]
    return sheets


def main_sheet(table: Table) -> Sheet:
    """Table 1 or 2, or its like on another set."""
    name = slug(f"main-{table.set}-{table.reward}")
    rows = (*table.rows, *table.controls)
    runs = _folders(table.rows)
    if table.controls:
        runs = (*runs, (), *_folders(table.controls))
    return Sheet(name, table.title, table_grid(table), frame(rows, table.ties), table.notes, runs)


def cross_sheet(table: CrossTable) -> Sheet:
    """Every model on every set."""
    rows = [row for _, by_set in table.rows for row in by_set.values()]
    name = slug(f"cross-{'-'.join(table.sets)}-{table.reward}")
    notes = ("what training on one set does to the other",)
    return Sheet(name, table.title, cross_grid(table), frame(rows, table.ties), notes, tuple(folders(cell) for cell, _ in table.rows))


def ablation(table: Table) -> Sheet | None:
    """Table 3: GRAO without each of its parts, as the drop in nag_mean against full GRAO; None where no part was taken out."""
    lines: list[Line] = []
    texts = []
    runs = []
    subset = paper.subset_of(table.set)
    for model in dict.fromkeys(row.cell.model for row in table.rows):
        here = [row for row in table.rows if row.cell.model == model and not row.cell.first_stage]
        variants = {name: [row for row in here if row.cell.objective == name] for name in ABLATIONS}
        full = [row for row in here if row.cell.objective == "grao"]
        if not any(variants.values()):
            continue
        pairs = [(row, _nearest(row, full)) for rows in variants.values() for row in rows]
        gaps = [difference_of(other, row, "nag_mean") for row, other in pairs if other]
        tested = adjust([one for one in gaps if one])
        by_label = {one.second: one for one in tested}
        named: list[tuple[str, Row | None]] = [("full GRAO", row) for row in full or (None,)]
        named += [(ABLATIONS[name], row) for name, rows in variants.items() for row in rows or (None,)]
        for name, row in named:
            found = by_label.get(row.cell.label) if row and name != "full GRAO" else None
            relative = _relative_drop(_nearest(row, full), row) if row and name != "full GRAO" else None
            printed = [_printed_drop(name, other) if subset == "helpful" else NONE for other in paper.MODELS]
            notes = "; ".join([*(row.notes if row else ("not run",)), *_unlike(row, full)])
            texts.append(
                [
                    name,
                    model,
                    *_pair_of_scores(row),
                    _drop(found),
                    p_text(found.p_adjusted) if found else NONE,
                    least_text(found),
                    with_interval(relative, 1),
                    *printed,
                    row.cell.label if row else NONE,
                    notes,
                ]
            )
            runs.append(folders(row.cell) if row else ())
            lines.append({"variant": name, "model": model, **_row_numbers(row, ("nag_mean", "ras"))} | difference_numbers(found, "drop_"))
            lines[-1] |= spread("relative_drop", relative) | {"notes": notes}
    if not texts:
        return None
    columns = ["variant", "model", "nag_mean %", "RAS %", "drop in nag_mean", "p (adjusted)", "smallest detectable", "relative drop %"]
    columns += [*(f"paper's {model}: NAG (drop %)" for model in paper.MODELS), "method", "notes"]
    return Sheet(
        slug(f"ablation-{table.set}-{table.reward}"),
        f"Table 3: GRAO without its parts, trained and evaluated on {table.set}, judged by {table.reward}",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "drop: full GRAO minus the variant, paired by seed and prompt, [simultaneous 95% interval"
            " over seeds and prompts]; the tests are the variants of one model",
            TESTED,
            DETECTABLE,
            "relative drop: 1 - nag_mean of the variant / that of full GRAO, per seed; none where full GRAO gained nothing in one",
            '"without exploration" is alpha = 0, which leaves lambda A_i J(o_i) in the regulariser; "at all" takes that out too:'
            " the paper does not say which it means",
        ),
        tuple(runs),
    )


def two_stages(table: Table, cells: Sequence[Cell]) -> Sheet | None:
    """SFT and then RL against GRAO and against RL from the base, with what both stages cost; None where no run starts from another."""
    chained = [row for row in table.rows if row.cell.first_stage]
    if not chained:
        return None
    firsts = {first_objective(row.cell.first_stage) for row in chained}
    wanted = firsts | {row.cell.objective for row in chained} | {"grao"}
    shown = [row for row in table.rows if row.cell.first_stage or row.cell.objective in wanted]
    texts, lines = [], []
    for row in shown:
        rivals = [other for other in table.rows if other.cell.objective == "grao" and not other.cell.first_stage]
        rival = _nearest(row, [other for other in rivals if other.cell.model == row.cell.model])
        found = difference_of(row, rival, "ras") if rival and rival is not row else None
        counts = [_both_stages(run, cells) for run in row.cell.runs]
        known = [count for count in counts if count is not None]
        budget = {name: over_seeds([one[name] for one in known]) for name in COUNTED} if known and len(known) == len(counts) else {}
        lost = [] if len(known) == len(counts) else ["the first stage's run is not in this folder, so its cost is not known"]
        notes = "; ".join([*row.notes, *lost])
        cost_texts = [number(budget[name].mean, 0) if budget else NONE for name in COUNTED]
        vs = [difference_texts(found)[0], p_text(found.p), least_text(found)] if found else [NONE, NONE, NONE]
        texts.append([row.cell.label, row.cell.model, *_pair_of_scores(row)[::-1], seeds_text(row), *vs, *cost_texts, notes])
        lines.append({"method": row.cell.label, "model": row.cell.model, **_row_numbers(row, ("ras", "nag_mean"))})
        lines[-1] |= difference_numbers(found, "vs_grao_") | {"notes": notes}
        lines[-1] |= {name: budget[name].mean if budget else None for name in COUNTED}
    columns = ["method", "model", "RAS %", "nag_mean %", "seeds", "RAS: minus GRAO", "p", "smallest detectable", *COUNTED.values(), "notes"]
    return Sheet(
        slug(f"two_stages-{table.set}-{table.reward}"),
        f"One stage or two: trained and evaluated on {table.set}, judged by {table.reward}",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "steps and tokens are of both stages together, means over seeds: read a difference beside them, it is one at equal budget only"
            " where they agree",
            "minus GRAO: paired by seed and prompt, [95% interval over seeds and prompts]; interval and"
            " p are of that test alone, not adjusted",
            DETECTABLE,
        ),
        _folders(shown),
    )


def rewards_spread(table: Table) -> Sheet | None:
    """The reward's distribution over the test prompts: mean, variance, quartiles; each the mean over seeds, with its sd."""
    names = ("mean", "variance", "min", "q1", "median", "q3", "max")
    return _per_run_sheet(
        table,
        "quartiles",
        f"Reward over the test prompts: {table.set}, judged by {table.reward}",
        lambda records: reward_statistics(records),
        {name: (name, 3) for name in names},
        ("in the judge's own unit; variance and quartiles are over prompts within a run, here their mean ± sd over seeds",),
    )


def lengths(table: Table) -> Sheet | None:
    """Length, RAS with length controlled, repetition, truncation."""
    columns = {
        "length": ("length", 1),
        "reference_length": ("reference's length", 1),
        "ras": (f"RAS %{ties_text(table.ties)}", 1),
        "ras_lc": (LENGTH_CONTROLLED, 1),
        "distinct_1": ("distinct-1 %", 1),
        "distinct_2": ("distinct-2 %", 1),
        "repetition": ("repetition %", 1),
        "truncated": ("truncated %", 1),
    }
    shown = {name: text for name, text in columns.items() if any(name in row.scores for row in table.rows)}
    if not shown:
        return None
    texts = [
        [*row_name(row.cell), *(with_interval(row.scores.get(name), digits) for name, (_, digits) in shown.items())] for row in table.rows
    ]
    lines = [cell_columns(row.cell) | _row_numbers(row, tuple(shown)) for row in table.rows]
    return Sheet(
        slug(f"lengths-{table.set}-{table.reward}"),
        f"Lengths and repetition: {table.set}, judged by {table.reward}",
        tidy(["method", "model", *(header for header, _ in shown.values())], texts),
        pd.DataFrame(lines),
        (
            "length controlled: the share won if every answer were as long as its reference, from a logistic regression of the win on"
            " tanh(length difference / its sd), as AlpacaEval 2 LC without its term for the prompt's difficulty",
            "distinct-n: different words (pairs) within an answer; repetition: its 4-grams that came before",
        ),
        _folders(table.rows),
    )


def judges(rows: Sequence[Row]) -> Sheet | None:
    """The reward that was trained on beside others that judge the same model: a gap between them is what over-optimisation looks like.

    RAS by the training reward is that on the test set where it was judged so there, else that of the kept policy's probe on dev.
    None where nothing is judged by another reward than it was trained on.
    """
    texts: list[list[str]] = []
    lines: list[Line] = []
    runs = []
    for row in sorted((row for row in rows if row.cell.objective != BASE), key=lambda row: (cell_order(row.cell), row.set, row.reward)):
        own = sorted({run.info.reward for run in row.cell.runs})
        if row.set != row.cell.data or "ras" not in row.scores or len(own) != 1 or row.reward == own[0]:
            continue
        twin = next((other for other in rows if other.cell is row.cell and other.set == row.set and other.reward == own[0]), None)
        trained, where = _by_training_reward(row, twin)
        gap = paired("training reward", row.reward, trained, row.means["ras"]) if trained else None
        started = _started(row, rows, own[0], where)
        by_judge = _base_ras(row, rows, row.reward)
        beyond = NONE if started is None or by_judge is None else number(started.mean - by_judge.mean, 1)
        ours = over_seeds(list(trained.values()), PERCENT) if trained else None
        texts.append([*row_name(row.cell), row.set, f"{own[0]} ({where})", with_interval(ours, 1), with_interval(started, 1)])
        texts[-1] += [row.reward, with_interval(row.scores["ras"], 1), difference_texts(gap)[0] if gap else NONE, beyond]
        runs.append(folders(row.cell))
        lines.append(cell_columns(row.cell) | {"set": row.set, "training_reward": own[0], "training_reward_on": where, "judge": row.reward})
        lines[-1] |= spread("ras_by_training_reward", ours) | spread("ras_by_judge", row.scores["ras"]) | difference_numbers(gap, "gap_")
        lines[-1] |= {"base_by_training_reward": started.mean if started else None, "base_by_judge": by_judge.mean if by_judge else None}
    if not texts:
        return None
    columns = [
        "method",
        "model",
        "set",
        "training reward",
        "RAS % by it",
        "its base's",
        "judge",
        "RAS % by the judge",
        "gap",
        "its base's gap",
    ]
    return Sheet(
        "judges",
        "Trained on one reward, judged by another",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "gap: RAS by the training reward minus RAS by the judge, paired by seed. Two judges differ on any text; over-optimisation is a"
            " gap that grows beyond the base's",
            "(test): the same test answers under both; (dev): the training reward was asked on the dev batch alone, so prompts differ too",
        ),
        tuple(runs),
    )


def probes(cells: Sequence[Cell]) -> Sheet | None:
    """What the dev-batch probes say of the policy that was kept: KL to the base per answer and per token, J(y), entropy."""
    names = {"kl": ("KL per answer, nats", 2), "kl_token": ("KL per token, nats", 4), "j_reference": ("J(y), nats per token", 3)}
    names |= {"entropy": ("entropy, nats per token", 3)}
    texts: list[list[str]] = []
    lines: list[Line] = []
    runs = []
    for cell in (cell for cell in cells if cell.objective != BASE):
        kept = [(run, probe.metrics) for run in cell.runs if (probe := kept_probe(run))]
        starts = [run.probes[0].metrics for run in cell.runs if run.probes and run.probes[0].step == 0]
        if not kept:
            continue
        found = {name: _of_probes([metrics for _, metrics in kept], name, _prompts_probed(kept[0][0])) for name in names}
        before = {name: [one[name] for one in starts if name in one] for name in ("j_reference", "entropy")}
        errors = [metrics["kl_se"] for _, metrics in kept if "kl_se" in metrics]
        se = sum(errors) / len(errors) if errors else None
        texts.append(
            [
                *row_name(cell),
                cell.data,
                str(len(kept)),
                *(with_interval(found[name], digits) for name, (_, digits) in names.items()),
            ]
        )
        texts[-1].insert(5, NONE if se is None else number(se, 2))
        texts[-1] += [number(sum(values) / len(values), 3) if values else NONE for values in before.values()]
        runs.append(folders(cell))
        lines.append(cell_columns(cell) | {"seeds": len(kept), "kl_se_within_run": se})
        for name, interval in found.items():
            lines[-1] |= spread(name, interval)
        lines[-1] |= {f"{name}_at_start": sum(values) / len(values) if values else None for name, values in before.items()}
    if not texts:
        return None
    columns = ["method", "model", "trained on", "seeds", *(header for header, _ in names.values()), "J(y) at start", "entropy at start"]
    columns.insert(5, "its standard error within a run")
    return Sheet(
        "probes",
        "How far from the base: KL, J(y) and entropy on the dev batch",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "of the policy that was kept. Several seeds: mean ± sd [95% t interval]. One seed: mean [95% normal interval from the standard"
            " error over prompts]. KL and entropy from untruncated samples at T = 1; J(y) of the references",
        ),
        tuple(runs),
    )


def steps_to_best(cells: Sequence[Cell]) -> Sheet | None:
    """How many steps each run takes to its best dev reward, and how many fewer than PPO and GRPO; None where nothing was probed."""
    found = steps_frame(cells)
    if found.empty:
        return None
    texts = []
    for one in found.to_dict("records"):
        never = f"never above the base in {one['never']} of {one['seeds']} seeds" if one["never"] else ""
        steps = with_interval(one["steps_to_best_interval"], 0) if one["steps_to_best_interval"] else never or NONE
        texts.append([one["method"], one["model"], one["data"], str(one["seeds"]), with_interval(one["best_gain_interval"], 3), steps])
        for name in REFERENCES:
            for to in ("own", "reference"):
                texts[-1].append(with_interval(one[f"fewer_than_{name}_to_{to}"], 0) if one[f"fewer_than_{name}_to_{to}"] else NONE)
                texts[-1][-1] = one[f"fewer_than_{name}_to_{to}_why"] or texts[-1][-1]
    columns = ["method", "model", "trained on", "seeds", "best gain in dev reward", "steps to its best"]
    columns += [
        text for name in REFERENCES for text in (f"fewer steps than {name}, each to its best, %", f"fewer steps to {name}'s best, %")
    ]
    flat = pd.DataFrame([_flat_intervals(one) for one in found.to_dict("records")])
    return Sheet(
        "steps_to_best",
        "How fast: steps to the best dev reward",
        tidy(columns, texts),
        flat,
        (
            f"a run is at a level at the first probe with {100 * SHARE:.0f}% of the gain over the base that the level has; as fine as the"
            " probes are apart, and the best of a noisy curve lies a little high",
            "fewer steps: 100 (1 - steps / the other's steps), paired by seed, mean ± sd [95% t interval]; negative: more. The paper claims"
            " 50 for GRAO. Steps are those of one learning rate each: a slower rate is not a slower objective",
        ),
        tuple(next((folders(cell) for cell in cells if _same(cell, one)), ()) for one in found.to_dict("records")),
    )


COUNTED = {
    "steps": "steps",
    "answers": "answers trained on",
    "generated_tokens": "generated tokens",
    "forward_tokens": "forward tokens",
}


def cost(cells: Sequence[Cell]) -> Sheet | None:
    """Tokens, seconds and peak memory per method; None where nothing was trained."""
    texts: list[list[str]] = []
    lines: list[Line] = []
    for cell in (cell for cell in cells if cell.trained):
        runs = cell.runs
        counts = {name: over_seeds([_counts(run)[name] for run in runs]) if runs else None for name in COUNTED}
        seconds = [sum(float(line["seconds"]) for line in run.timing) for run in runs if run.timing]
        spent = over_seeds(seconds) if seconds else None
        steps = counts["steps"].mean if counts["steps"] else 0.0
        peaks = [peak for run in runs if (peak := peak_memory(run)) is not None]
        peak = max(peaks) if peaks else None
        hardware = ", ".join(sorted({run.info.environment.get("hardware", "") for run in runs} - {""}))
        texts.append(
            [*row_name(cell), cell.data, str(len(runs)), *(NONE if one is None else number(one.mean, 0) for one in counts.values())]
        )
        texts[-1] += [with_sd(spent, 1), number(spent.mean / steps, 3) if spent and steps else NONE]
        texts[-1] += [f"{peak:,.0f} MiB" if peak is not None else "not recorded" if runs else NONE, hardware or NONE]
        texts[-1].append("; ".join(f"seed {lost.seed} not finished: {lost.reason}" for lost in cell.missing))
        lines.append(cell_columns(cell) | {"seeds": len(runs), **{name: one.mean if one else None for name, one in counts.items()}})
        lines[-1] |= spread("seconds", spent) | {"peak_memory_mib": peak, "hardware": hardware}
    if not texts:
        return None
    columns = [
        "method",
        "model",
        "trained on",
        "seeds",
        *COUNTED.values(),
        "seconds",
        "seconds per step",
        "peak memory",
        "hardware",
        "notes",
    ]
    return Sheet(
        "cost",
        "What training cost",
        tidy(columns, texts),
        pd.DataFrame(lines),
        (
            "means over seeds, seconds ± sd: training steps alone, without probes and evaluation; the peak is the largest of the seeds."
            " SFT and DPO generate nothing. A run that started from another run shows its own stage",
        ),
        tuple(folders(cell) for cell in cells if cell.trained),
    )


def mcnemar_sheet(first: Run, second: Run) -> Sheet:
    """Two given checkpoints on every set that the same judge judged for both: McNemar's exact test over the prompts, labelled so."""
    texts, lines = [], []
    shared = sorted(first.evaluations.keys() & second.evaluations.keys())
    for name, reward in shared:
        found = mcnemar(first.evaluations[name, reward], second.evaluations[name, reward])
        prompts = found.only_first + found.only_second + found.both + found.neither
        counts = [found.only_first, found.only_second, found.both, found.neither]
        texts.append([name, reward, str(prompts), *map(str, counts), p_text(found.p)])
        lines.append({"set": name, "reward": reward, "prompts": prompts, "only_first": counts[0], "only_second": counts[1]})
        lines[-1] |= {"both": counts[2], "neither": counts[3], "p": found.p}
    return Sheet(
        "mcnemar",
        "Two checkpoints, prompt by prompt (McNemar's exact test)",
        grid_of(["set", "judge", "prompts", "only A wins", "only B wins", "both", "neither", "p"], texts),
        pd.DataFrame(lines),
        (
            f"A: {first.folder}",
            f"B: {second.folder}",
            "a win is R > 0, of the first answer to a prompt where there are several. p is over"
            " prompts, for these two checkpoints: it does not say that one objective is better than"
            " another, which takes seeds. Not adjusted for several sets",
        ),
    )


def peak_memory(run: Run) -> float | None:
    """MiB; None where it was not recorded."""
    return None if run.info.peak_memory is None else run.info.peak_memory / 2**20


def _per_run_sheet(
    table: Table,
    kind: str,
    title: str,
    measure: Callable[[Sequence[EvalRecord]], Mapping[str, float]],
    columns: Mapping[str, tuple[str, int]],
    notes: tuple[str, ...],
) -> Sheet | None:
    """A sheet of numbers that are no column's mean: measured in each run, then mean and sd over seeds."""
    texts, lines = [], []
    for row in table.rows:
        measured = [measure(records) for run in row.cell.runs if (records := run.evaluations.get((row.set, row.reward)))]
        found = {name: over_seeds([one[name] for one in measured]) for name in columns} if measured else {}
        texts.append([*row_name(row.cell), *(with_sd(found.get(name), digits) for name, (_, digits) in columns.items())])
        lines.append(cell_columns(row.cell) | {"seeds": len(measured)})
        for name in columns:
            lines[-1] |= spread(name, found.get(name))
    if not any(row.scores for row in table.rows):
        return None
    headers = ["method", "model", *(header for header, _ in columns.values())]
    name = slug(f"{kind}-{table.set}-{table.reward}")
    return Sheet(name, title, tidy(headers, texts), pd.DataFrame(lines), notes, _folders(table.rows))


def _nearest(row: Row | None, candidates: Sequence[Row]) -> Row | None:
    """The candidate whose configuration differs least from the row's outside the objective; the first of equals."""
    if row is None or not candidates:
        return None
    return min(candidates, key=lambda other: len(_other_settings(row.cell, other.cell)))


def _other_settings(one: Cell, other: Cell) -> list[str]:
    if not one.runs or not other.runs:
        return []
    return [key for key in differing([one, other]) if key.split(".")[0] not in ("objective", "model", "data")]


def _unlike(row: Row | None, full: Sequence[Row]) -> list[str]:
    other = _nearest(row, full)
    keys = _other_settings(row.cell, other.cell) if row and other else []
    return [f"differs from full GRAO also in {', '.join(keys)}"] if keys else []


def _relative_drop(full: Row | None, variant: Row) -> Interval | None:
    """1 - variant / full in percent, per seed that both have; None where full GRAO gained nothing in one of them."""
    if full is None:
        return None
    whole, part = full.means.get("nag_mean", {}), variant.means.get("nag_mean", {})
    seeds = sorted(whole.keys() & part.keys())
    if not seeds or any(whole[seed] <= 0 for seed in seeds):
        return None
    return over_seeds([100.0 * (1.0 - part[seed] / whole[seed]) for seed in seeds])


def _printed_drop(name: str, model: paper.Model) -> str:
    values = paper.ABLATION.get(name)
    if values is None:
        return NONE
    drop = 100.0 * (1.0 - values[model] / paper.ABLATION["full GRAO"][model])
    return f"{values[model]:.2f}" + ("" if name == "full GRAO" else f" ({drop:.1f})")


def _pair_of_scores(row: Row | None) -> list[str]:
    return [with_interval(row.scores.get(name) if row else None, 1) for name in ("nag_mean", "ras")]


def _drop(found: Difference | None) -> str:
    return difference_texts(found)[0] if found else NONE


def spent_before(cell: Cell, cells: Iterable[Cell], axis: str) -> float | None:
    """What the runs that a cell started from had spent (a key of COUNTED), mean over its seeds; None when one is not among the cells."""
    found = [(_both_stages(run, cells), _counts(run)) for run in cell.runs]
    before = [total[axis] - own[axis] for total, own in found if total is not None]
    return sum(before) / len(before) if before and len(before) == len(found) else None


def _both_stages(run: Run, cells: Iterable[Cell]) -> dict[str, float] | None:
    """What a run and the runs that it started from counted together; None when one of them is not among the cells."""
    cells = list(cells)
    total = dict.fromkeys(COUNTED, 0.0)
    current: Run | None = run
    seen: set[Path] = set()
    while current is not None and current.folder not in seen:
        seen.add(current.folder)
        total = {name: total[name] + count for name, count in _counts(current).items()}
        model = current.info.config.get("model")
        start = model.get("start_from") if isinstance(model, Mapping) else None
        if not start:
            return total
        tail = Path(start).parts[-4:]
        current = next((other for cell in cells for other in cell.runs if other.folder.resolve().parts[-4:] == tail), None)
    return None


def _counts(run: Run) -> dict[str, float]:
    return {
        "steps": float(len(run.steps)),
        "answers": float(sum(step.answers for step in run.steps)),
        "generated_tokens": float(sum(step.generated_tokens for step in run.steps)),
        "forward_tokens": float(sum(step.forward_tokens for step in run.steps)),
    }


def _by_training_reward(row: Row, twin: Row | None) -> tuple[Mapping[int, float], str]:
    if twin is not None and "ras" in twin.scores:
        return twin.means["ras"], "test"
    return _dev_ras(row.cell.runs), "dev"


def _started(row: Row, rows: Sequence[Row], reward: str, where: str) -> Interval | None:
    """The base's RAS by the training reward, where the row's own was taken: on the test set, or on dev."""
    if where == "test":
        return _base_ras(row, rows, reward)
    start = _dev_ras(row.cell.runs, first=True)
    return over_seeds(list(start.values()), PERCENT) if start else None


def _base_ras(row: Row, rows: Sequence[Row], reward: str) -> Interval | None:
    bases = (one for one in rows if one.cell.objective == BASE and (one.set, one.reward) == (row.set, reward))
    return next((one.scores.get("ras") for one in bases if one.cell.base_fingerprint == row.cell.base_fingerprint), None)


def _dev_ras(runs: Sequence[Run], first: bool = False) -> dict[int, float]:
    found = {run.info.seed: (run.probes[0] if first and run.probes else kept_probe(run)) for run in runs}
    return {seed: 100.0 * probe.metrics["ras"] for seed, probe in found.items() if probe and "ras" in probe.metrics}


def _of_probes(metrics: Sequence[Mapping[str, float]], name: str, prompts: int) -> Interval | None:
    values = [one[name] for one in metrics if name in one]
    if len(values) == 1 and f"{name}_se" in metrics[0]:
        return from_error(values[0], metrics[0][f"{name}_se"], prompts)
    return over_seeds(values) if values else None


def _prompts_probed(run: Run) -> int:
    budget = run.info.config.get("budget")
    return int(budget.get("probe_prompts") or 0) if isinstance(budget, Mapping) else 0


def _folders(rows: Sequence[Row]) -> tuple[tuple[Path, ...], ...]:
    return tuple(folders(row.cell) for row in rows)


def _same(cell: Cell, line: Mapping[Any, object]) -> bool:
    names = ("model", "data", "objective", "config_hash")
    return tuple(line[name] for name in names) == tuple(getattr(cell, name) for name in names)


def _row_numbers(row: Row | None, names: Sequence[str]) -> Line:
    found: Line = {"seeds": len(row.seeds) if row else 0}
    for name in names:
        found |= spread(name, row.scores.get(name) if row else None)
    return found


def _flat_intervals(line: Mapping[Any, object]) -> Line:
    flat: Line = {}
    for key, value in ((str(name), entry) for name, entry in line.items()):
        if isinstance(value, Interval) or key.endswith("_interval") or (key.startswith("fewer_than_") and not key.endswith("_why")):
            flat |= spread(key.removesuffix("_interval"), value if isinstance(value, Interval) else None)
        else:
            flat[key] = value
    return flat
