"""The figures: which are drawn from which runs, what their points say, and that a page can take them in."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from html import unescape

import pytest

from grao_bench.core.record_files import find_runs, find_unfinished
from grao_bench.core.records import ProbeRecord, StepRecord
from grao_bench.reporting.figures.every import draw_all
from grao_bench.reporting.figures.frontier import kl_frontier
from grao_bench.reporting.figures.settings import beta_lambda, group_sizes
from grao_bench.reporting.figures.training import ablation_curves, losses, reward_curves, rollout_curves, shares
from grao_bench.reporting.figures.two_stages import two_stages
from grao_bench.reporting.gather.curves import beta_lambda_map, group_size_curve
from grao_bench.reporting.gather.rows import score
from grao_bench.reporting.gather.runs import gather
from grao_bench.reporting.tables.choice import main_tables

from .records import HELPFUL, share, write_run, write_unfinished

KEY = (HELPFUL, "gold")
END = f"tiny-{HELPFUL}"


def config(**objective):
    return {"objective": {"alpha": 1.0, "beta": 0.5, "lam": 0.6, "group": "outputs", "rollouts": 8} | objective}


def trained(root, objective, ras, *, seeds=(0, 1), parts=("exploration", "imitation"), **more):
    """Runs with probes at 0 and 2, two steps of 100 generated tokens and 3 seconds; the last probe's reward is ras / 100 + seed / 10."""
    for seed in seeds:
        probes = [ProbeRecord(step, {"reward": step * (ras / 200 + seed / 20), "kl": 0.5 * step}) for step in (0, 2)]
        terms = {f"loss/{part}": 0.1 * (i + 1) for i, part in enumerate(parts)}
        steps = [StepRecord(i, {"loss": 1.0 / i, "reward/mean": 0.1 * i} | terms, 1, 8, 100, 500) for i in (1, 2)]
        write_run(root, objective, {KEY: share(ras + seed)}, seed=seed, probes=probes, steps=steps, seconds=[3.0, 3.0], **more)


def drawn(root):
    cells = gather(find_runs(root), {})
    rows = score(cells, "loss")
    return {drawing.name: drawing for drawing in draw_all(cells, rows, main_tables(rows, "loss"))}


def texts_of(svg):
    return [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")] or [element.text for element in svg.iter("text")]


def says(drawing):
    return [unescape(text) for text in re.findall(r'class="hit"[^>]*><title>([^<]*)</title>', drawing.inline)]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A folder with each sweep in its smallest form."""
    root = tmp_path_factory.mktemp("everything")
    write_run(root, "base", {KEY: share(20)}, config_hash="00000000")
    trained(root, "sft", 30, parts=(), config_hash="5f700000")
    trained(root, "grpo", 40, config=config(rollouts=4), config_hash="99000004", parts=())
    trained(root, "grpo", 50, config=config(rollouts=8), config_hash="99000008", parts=())
    trained(root, "grao", 60, config=config(), config_hash="a0000001")
    trained(root, "grao", 55, config=config(beta=0.1), config_hash="a0000002")
    trained(root, "grao", 65, config=config(lam=0.0), config_hash="a0000003", seeds=(0,))
    trained(root, "grao_no_imitation", 45, config=config(), config_hash="b0000001")
    start = {"model": {"start_from": str(root / "tiny" / HELPFUL / "sft-5f700000" / "seed0")}}
    trained(root, "grpo", 70, config=start, config_hash="c0000001", seeds=(0,), parts=())
    return drawn(root)


def test_every_figure_of_the_paper_and_the_unpublished_ones(everything):
    assert set(everything) == {
        f"scores-{HELPFUL}-gold",
        *(f"reward_vs_{axis}-{END}" for axis in ("step", "generated_tokens", "seconds", "kl")),
        *(f"{kind}-{END}" for kind in ("ablations", "loss", "loss_shares", "rollout_reward")),
        *(f"{kind}-{END}-gold" for kind in ("beta_lambda", "group_size")),
        *(f"two_stages_{axis}-{END}" for axis in ("steps", "forward_tokens")),
        f"quartiles-{HELPFUL}-gold",
    }


def test_a_figure_without_runs_is_not_drawn(tmp_path):
    write_run(tmp_path, "base", {KEY: share(20)}, config_hash="00000000")
    assert drawn(tmp_path).keys() == {f"quartiles-{HELPFUL}-gold"}
    write_run(tmp_path, "grpo", {KEY: share(40)}, config=config())  # neither steps nor probes
    cells = gather(find_runs(tmp_path), {})
    here = ("tiny", HELPFUL, [cell for cell in cells if cell.objective == "grpo"])
    by_group = (reward_curves, losses, shares, rollout_curves, kl_frontier)
    assert [draw(*here) for draw in by_group] == [None] * 5
    assert ablation_curves(*here, "grpo") is None
    assert two_stages(*here, cells, "steps") is None
    rows = score(cells, "loss")
    assert beta_lambda("tiny", HELPFUL, "gold", beta_lambda_map(rows)) is None
    assert group_sizes("tiny", HELPFUL, "gold", group_size_curve(rows)) is None  # one size is no curve


def test_points_say_their_values(everything):
    assert f"grpo (rollouts=8), step 2: 0.55 ± {0.1 / 2**0.5:.2g} (2 seeds)" in says(everything[f"reward_vs_step-{END}"])
    assert "sft, seed 1: RAS 31.0%" in says(everything[f"scores-{HELPFUL}-gold"])
    assert "grao_no_imitation, step 1: imitation 67%" in says(everything[f"loss_shares-{END}"])  # 0.2 of 0.1 + 0.2
    cells = says(everything[f"beta_lambda-{END}-gold"])
    assert "beta 0.1, lambda 0: no finished run" in cells
    assert any(text.startswith("beta 0.5, lambda 0: grao") and text.endswith("RAS 65.0% (one seed)") for text in cells)


def test_the_map_shows_what_failed_and_why(tmp_path):
    for i, beta in enumerate((0.1, 0.5, 1.0)):
        trained(tmp_path, "grao", 40 + i, config=config(beta=beta), config_hash=f"a000000{i}", parts=())
    failed = {"config": config(beta=1.0, lam=0.0), "config_hash": "a0000004"}
    write_unfinished(tmp_path, "grao", "loss is not finite at step 3", **failed)
    cells = gather(find_runs(tmp_path), find_unfinished(tmp_path))
    name = "grao (beta=1.0, lam=0.0)"
    assert name in {cell.label for cell in cells}, "named by its settings, as its neighbours are"
    found = beta_lambda("tiny", HELPFUL, "gold", beta_lambda_map(score(cells, "loss")))
    assert f"beta 1, lambda 0: {name}: seed 0 not finished: loss is not finite at step 3" in says(found)
    assert ">failed<" in found.inline.replace("\n", "")
    assert found.inline.count("not run") == 2
    line = found.frame.set_index("config_hash").loc["a0000004"]
    assert math.isnan(line["mean"])
    assert line["seeds"] == 0
    sizes = group_size_curve(score(cells, "loss"))
    assert set(sizes["config_hash"]) == {"a0000000", "a0000001", "a0000002"}, "what failed is no point of a curve"


def test_points_lie_where_the_line_does(everything):
    """The tooltip of a curve's last point is at the end of one of the drawn paths."""
    svg = everything[f"reward_vs_seconds-{END}"].inline
    paths = [re.findall(r"[ML] ([\d.]+) ([\d.]+)", d) for d in re.findall(r'<path d="([^"]*)"', svg)]
    ends = [(float(path[-1][0]), float(path[-1][1])) for path in paths if len(path) == 2]
    hits = re.findall(r'<circle class="hit" cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>[^<]*step 2:', svg)
    assert len(hits) == 6
    for x, y in hits:
        assert min(abs(float(x) - a) + abs(float(y) - b) for a, b in ends) < 0.3


def test_two_stages_begin_where_the_first_ended(everything):
    frame = everything[f"two_stages_steps-{END}"].frame
    chained = frame[frame["method"] == "sft, then grpo"]
    assert list(chained["x"]) == [2.0, 4.0]
    tokens = everything[f"two_stages_forward_tokens-{END}"].frame
    assert list(tokens[tokens["method"] == "sft, then grpo"]["x"]) == [1000.0, 2000.0]


def test_an_inline_svg_is_whole_takes_the_pages_ink_and_has_ids_of_its_own(everything):
    ids: list[str] = []
    for drawing in everything.values():
        root = ElementTree.fromstring(drawing.inline)
        assert root.get("viewBox")
        assert root.get("width") is None
        assert drawing.inline.count("currentColor") > 5
        assert "http" not in drawing.inline
        assert "<image" not in drawing.inline  # a picture within would not scale
        ids += [value for element in root.iter() if (value := element.get("id"))]
        assert texts_of(ElementTree.fromstring(drawing.svg)) == texts_of(root), "no label is cut"
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', drawing.inline)
        assert set(used) <= set(ids)
        assert drawing.png.startswith(b"\x89PNG")
        assert not drawing.frame.empty
    assert len(ids) == len(set(ids))


def test_many_configurations_of_one_objective_are_named_once(tmp_path):
    for i in range(5):
        trained(tmp_path, "grao", 40 + i, config=config(beta=0.1 * i), config_hash=f"a000000{i}", seeds=(0,))
    text = reward_curves("tiny", HELPFUL, gather(find_runs(tmp_path), {}))
    assert text is not None
    assert "grao: 5 configurations" in text.inline
    assert sum("beta=0.4" in line for line in says(text)) == 2  # but each point still says whose it is
