"""Reports know roles: an objective of somebody's own stands wherever its role belongs, and a role is
no part of what a configuration is."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from grao_bench.cli.command_line import sweeps_parent, to_value
from grao_bench.core.errors import UserError
from grao_bench.core.record_files import find_runs
from grao_bench.core.records import ProbeRecord, StepRecord
from grao_bench.core.specs import conf_dir, load
from grao_bench.reporting.figures.every import draw_all
from grao_bench.reporting.gather.roles import Role, installed, read_role
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.tables.choice import cross_tables, main_tables
from grao_bench.reporting.tables.every import all_sheets
from grao_bench.train import NO_FIELDS

from .records import HARMLESS, HELPFUL, share, write_run

KEY, OTHER = (HELPFUL, "gold"), (HARMLESS, "gold")
END = f"tiny-{HELPFUL}"
GRAO = {"objective": {"alpha": 1.0, "beta": 0.5, "lam": 0.6, "group": "outputs", "rollouts": 8}}


def trained(root, objective, ras, key=KEY, **more):
    """Two seeds with two steps of 100 generated tokens, a loss in two parts and two probes."""
    loss = {"loss": 1.0, "loss/a": 0.5, "loss/b": 0.5, "reward/mean": 0.1}
    for seed in (0, 1):
        probes = [ProbeRecord(step, {"reward": step * (ras + seed) / 200, "kl": float(step)}) for step in (0, 2)]
        steps = [StepRecord(i, loss, 1, 8, 100, 500) for i in (1, 2)]
        write_run(root, objective, {key: share(ras + seed)}, seed=seed, probes=probes, steps=steps, **more)


def shown(root):
    """Every sheet and drawing by name."""
    cells = gather(find_runs(root), {})
    rows = score(cells, "loss")
    tables = main_tables(rows, "loss")
    sheets = {one.name: one for one in all_sheets(cells, rows, tables, cross_tables(rows, "loss"))}
    return sheets, {one.name: one for one in draw_all(cells, rows, tables)}


def says(sheet, name):
    """Whether a row, or a pair of rows, is this method's."""
    words = ("method", "pair")
    places = [i for i, title in enumerate(sheet.grid.header) if title in words]
    return any(name in row[i].replace(",", "").split() for row in sheet.grid.rows for i in places)


def draws(drawing, name):
    columns = [column for column in ("method", "objective") if column in drawing.frame]
    return any((drawing.frame[column] == name).any() for column in columns)


TOYS = {
    "toy_variant": "variant of grpo",
    "toy_of_ours": "variant of grao",
    "toy_part": "ablation of grao: without luck",
    "toy_baseline": "baseline",
    "toy_ours": "ours",
    "toy": "",
    "toy_less": "ablation of toy: without luck",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A sweep with a toy objective of each role."""
    root = tmp_path_factory.mktemp("sweep")
    write_run(root, "base", {KEY: share(20), OTHER: share(20)}, config_hash="00000000")
    trained(root, "grpo", 40, config={"objective": {"rollouts": 8}})
    trained(root, "grao", 60, config=GRAO)
    trained(root, "toy_copy", 30, config={"objective": {"reduction": "mean"}}, role="baseline")
    for name, role in TOYS.items():
        trained(root, name, 50, config={"objective": {"rollouts": 8}}, role=role)
    return root


@pytest.fixture(scope="module")
def report(root):
    return shown(root)


EVERYWHERE = [f"{kind}-{HELPFUL}-gold" for kind in ("main", "quartiles", "lengths")]
EVERYWHERE += ["probes", "steps_to_best", "cost"]
DRAWN = [f"scores-{HELPFUL}-gold", f"quartiles-{HELPFUL}-gold"]
DRAWN += [f"{kind}-{END}" for kind in ("loss", "rollout_reward", "reward_vs_kl")]
TRAINING = [f"reward_vs_{axis}-{END}" for axis in ("step", "generated_tokens")]
DIFFERENCES, TABLE_3 = f"differences-{HELPFUL}-gold", f"ablation-{HELPFUL}-gold"
FIGURE_3, FIGURE_5 = f"ablations-{END}", f"loss_shares-{END}"
OWN_TABLE, OWN_FIGURE = f"ablation_of_toy-{HELPFUL}-gold", f"ablations_of_toy-{END}"


WHOLE = ("toy_variant", "toy_of_ours", "toy_baseline", "toy_ours", "toy")
STANDS = [
    *((name, [DIFFERENCES], TRAINING, [TABLE_3], [FIGURE_3]) for name in WHOLE),
    ("toy_of_ours", [], [FIGURE_5], [], []),
    ("toy_ours", [], [FIGURE_5], [], []),
    *((name, [], [], [], [FIGURE_5]) for name in ("toy_variant", "toy_baseline", "toy", "toy_less")),
    ("toy_part", [TABLE_3], [FIGURE_3, FIGURE_5], [DIFFERENCES], TRAINING),
    ("toy_less", [OWN_TABLE], [OWN_FIGURE], [DIFFERENCES, TABLE_3], [*TRAINING, FIGURE_3]),
    ("toy", [OWN_TABLE], [OWN_FIGURE], [], []),
]


@pytest.mark.parametrize(("name", "sheets", "drawings", "not_sheets", "not_drawings"), STANDS)
def test_a_toy_objective_stands_where_its_role_belongs(report, name, sheets, drawings, not_sheets, not_drawings):
    found, drawn = report
    assert not [one for one in (*EVERYWHERE, *sheets) if not says(found[one], name)]
    assert not [one for one in (*DRAWN, *drawings) if not draws(drawn[one], name)]
    assert not [one for one in not_sheets if says(found[one], name)]
    assert not [one for one in not_drawings if draws(drawn[one], name)]


def test_table_3_has_a_toy_part_by_its_own_name_and_its_drop(report):
    grid = report[0][TABLE_3].grid
    rows = [dict(zip(grid.header, row, strict=True)) for row in grid.rows]
    toy = next(row for row in rows if row["method"] == "toy_part")
    # RAS 50, 51 against 60, 61 without ties: nag_mean 60, 62 against 80, 82
    assert (toy["variant"], toy["RAS %"][:4]) == ("without luck", "50.5")
    assert toy["drop in nag_mean"].startswith("20.0")
    assert [row["variant"] for row in rows if row["method"] == "-"] == [
        "without imitation",
        "without exploration",
        "without exploration at all",
        "without alignment regulariser",
    ]


def test_parts_of_somebody_elses_objective_have_a_table_and_a_figure_of_their_own(report):
    sheet = report[0][OWN_TABLE]
    assert sheet.title.startswith("TOY without its parts")
    assert [row[0] for row in sheet.grid.rows] == ["full TOY", "without luck"]
    assert set(report[1][OWN_FIGURE].frame["objective"]) == {"toy", "toy_less"}


def test_speed_is_shown_against_a_new_baseline_that_draws_rollouts(report):
    columns = report[0]["steps_to_best"].frame.columns
    assert "fewer_than_toy_baseline_to_own" in columns
    assert not [name for name in columns if "toy_copy" in name]


def test_rows_stand_by_role_and_then_by_name(root):
    order = [cell.objective for cell in gather(find_runs(root), {})]
    baselines, ours = ["grpo", "toy_baseline", "toy_copy"], ["grao", "toy_ours", "toy_of_ours"]
    assert order == ["base", *baselines, *ours, "toy_less", "toy_part", "toy", "toy_variant"]


def test_a_run_says_its_role_and_an_older_one_has_that_of_its_name(tmp_path):
    trained(tmp_path, "grpo", 40)
    trained(tmp_path, "grpo", 40, config_hash="b", role="variant of ppo", data=HARMLESS, key=OTHER)
    roles = {cell.data: cell.role for cell in gather(find_runs(tmp_path), {})}
    assert roles == {HELPFUL: Role("baseline"), HARMLESS: Role("variant", "ppo")}


def test_every_installed_objective_has_a_role_of_one_that_is_there():
    assert installed().keys() == {path.stem for path in (conf_dir() / "objective").glob("*.yaml")}
    assert all(role.kind and (not role.of or role.of in installed()) for role in installed().values())


@pytest.mark.parametrize("text", ["", "best", "variant", "variant of ", "ablation of grao", "ours of grao", "variant of a b"])
def test_another_text_is_no_role(text):
    with pytest.raises(UserError, match=r"^objective.role: role .* is none; give baseline, ours, control, "):
        read_role(text, "objective.role")


TOY = """
_target_: grao_bench.objectives.sft.SFT
name: toy
role: variant of grpo
reduction: token_mean
"""


def test_the_role_of_a_yaml_elsewhere_is_the_runs_and_in_no_hash(tmp_path, monkeypatch):
    (tmp_path / "objective").mkdir()
    (tmp_path / "objective" / "toy.yaml").write_text(TOY, encoding="utf-8")
    monkeypatch.setenv("GRAO_BENCH_SWEEPS_PARENT", str(sweeps_parent()))
    search = f"hydra.searchpath=[file://{tmp_path}]"

    def experiment(*words):
        with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
            return to_value(compose("train", overrides=[search, *words]), NO_FIELDS)

    toy = experiment("objective=toy")
    assert toy.role == "variant of grpo"
    assert toy.config_hash == experiment("objective=toy", "objective.role=baseline").config_hash
    assert experiment("objective=toy", "role=control").role == "control"
    with pytest.raises(UserError, match=r"^objective.role: role 'best' is none"):
        experiment("objective=toy", "objective.role=best")
    assert load("objective/grao") == experiment("objective=grao").objective
