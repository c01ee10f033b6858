"""What README.md and docs/ say can be done: their commands compose, their links lead somewhere."""

from __future__ import annotations

import pkgutil
import re

import jaxtyping
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

import grao_bench
from grao_bench import controls, report
from grao_bench.cli import show_data
from grao_bench.cli.command_line import sweeps_parent, to_value
from grao_bench.core.specs import conf_dir
from grao_bench.evaluate import config_name
from grao_bench.train import NO_FIELDS, grid_cells
from tests.cells import small

from .pages import ALL_COMMANDS, FENCE, PAGES, RECIPES, ROOT, anchors, files, of

README = PAGES["README.md"]
OWN_CONF = "hydra.searchpath=[file://conf]"
"""A command of a recipe, with files of its own: test_recipes runs it."""


@pytest.fixture(autouse=True)
def _hydra(monkeypatch):
    monkeypatch.setenv("GRAO_BENCH_SWEEPS_PARENT", str(sweeps_parent()))
    jaxtyping.config.update("jaxtyping_disable", True)  # as for a user, 0 is a float
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        yield
    jaxtyping.config.update("jaxtyping_disable", False)


def composable(module: str) -> list[list[str]]:
    return [words for words in of(f"python -m grao_bench.{module}") if OWN_CONF not in words]


def test_every_command_is_looked_at():
    modules = ("train", "train_reward", "evaluate", "data", "report", "controls", "tune", "bases")
    known = [*(f"python -m grao_bench.{name}" for name in modules), "make", "pytest"]
    all_known = (*known, "python -m grao_bench.data.world.exploits")
    strange = [line for line in ALL_COMMANDS if not any(f"{line} ".startswith(f"{start} ") for start in all_known)]
    assert strange == []
    assert len(of("python -m grao_bench.train")) >= 30
    assert all(of(start) for start in known)


@pytest.mark.parametrize("arguments", composable("train"), ids=" ".join)
def test_training_commands_compose(arguments):
    words = [word for word in arguments if word not in ("--cfg", "job")]
    overrides = ["hydra.mode=MULTIRUN" if word == "-m" else word for word in words]
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    mode = RunMode.MULTIRUN if "-m" in arguments else RunMode.RUN
    config = hydra.compose_config(
        "train",
        overrides,
        run_mode=mode,
        from_shell=False,
        validate_sweep_overrides=mode == RunMode.RUN,
    )
    grid = config.hydra.mode == RunMode.MULTIRUN
    cells = grid_cells(config) if grid else [tuple(overrides)]
    assert len(cells) > 1 or not grid
    for cell in {cells[0], cells[-1]}:
        to_value(compose("train", overrides=list(cell)), NO_FIELDS)


@pytest.mark.parametrize("module", ["train_reward", "evaluate"])
def test_the_other_commands_compose(module):
    found = composable(module)
    assert found
    for arguments in found:
        root = config_name(arguments) if module == "evaluate" else module
        to_value(compose(root, overrides=arguments))


def test_the_data_commands_compose():
    found = of("python -m grao_bench.data")
    assert found
    for arguments in found:
        words = show_data.parser().parse_intermixed_args(arguments).what
        to_value(compose("train", overrides=show_data.data_overrides(words)).data)


def test_report_commands_are_understood():
    for command, parser in (("report", report._parser()), ("controls", controls._parser())):
        found = of(f"python -m grao_bench.{command}")
        assert found
        for arguments in found:
            parser.parse_args(arguments)
    for text in PAGES.values():
        for option in re.findall(r"`report (--\w+)", text):
            assert option in report._parser().format_help()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):(?!=)", makefile, re.MULTILINE))
    assert {arguments[0] for arguments in of("make")} <= targets
    assert {"demo", "test"} <= {arguments[0] for arguments in of("make")}


def test_the_readme_is_read_in_minutes():
    assert len(README.splitlines()) <= 130
    assert not files(README)


@pytest.mark.parametrize("workflow", [".ci/run", ".github/workflows/ci.yml"])
def test_checks_elsewhere_are_the_readmes(workflow):
    """One test command: what CI runs is what the README says, or what runs that."""
    text = (ROOT / workflow).read_text(encoding="utf-8")
    assert "    make test " in README
    run = re.findall(r"^\s*(?:- run: |run: )?(make test|\.ci/run)$", text, re.MULTILINE)
    assert run == (["make test"] if workflow == ".ci/run" else [".ci/run"])


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # the same values, in the tests' size
    monkeypatch.setattr(grao_bench, "load", small, raising=False)
    page = PAGES["docs/running.md"]
    blocks = [text for language, text in FENCE.findall(page) if language == "python"]
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/running.md", "exec"), names)

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]


def test_the_table_of_groups_is_whole():
    page = PAGES["docs/running.md"]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([\w, ;]+) \|", page, re.MULTILINE)
    told = {}
    for groups, choices in rows:
        names = re.findall(r"\w+", groups)
        parts = [set(re.findall(r"\w+", part)) for part in choices.split(";")]
        told |= dict(zip(names, parts, strict=True))
    others = ("hydra", "tune")  # no groups of a cell: docs/tuning.md
    folders = [one for one in conf_dir().iterdir() if one.is_dir() and one.name not in others]
    assert told == {one.name: {path.stem for path in one.glob("*.yaml")} for one in folders}


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_are_there(name):
    page, lost = ROOT / name, []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", PAGES[name])):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        where = (page.parent / path).resolve() if path else page
        there = where.exists()
        if there and anchor:
            there = anchor in anchors(where.read_text(encoding="utf-8"))
        if not there:
            lost.append(target)
    assert lost == []
    assert "PLACEHOLDER" not in PAGES[name]


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)\s#]+\.md)", FENCE.sub("", text))
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert {ROOT / name for name in PAGES} - reached == set()


@pytest.mark.parametrize("name", PAGES)
def test_files_and_names_are_there(name):
    """A page that names a file or a module of ours moves when that moves."""
    plain = FENCE.sub("", PAGES[name])
    named = set(re.findall(r"`((?:grao_bench|conf|tests|examples|sweeps)/[\w./]*\w)/?`", plain))
    own = {path for text in RECIPES.values() for path in files(text)}
    assert {path for path in named - own if not (ROOT / path).exists()} == set()
    for dotted in set(re.findall(r"`(grao_bench(?:\.\w+)+)(?:\(\w*\))?`", plain)):
        pkgutil.resolve_name(dotted)
