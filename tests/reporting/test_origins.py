"""What a page says of the commits and processors that a folder's runs come from."""

from __future__ import annotations

from dataclasses import replace

from grao_bench.core.record_files import read_run
from grao_bench.reporting.gather.origins import origins
from grao_bench.reporting.gather.runs import gather
from tests.reporting.records import HARMLESS, share, write_run

GIT, OTHER = "a" * 40, "b" * 40


def made(root, objective, environment, **more):
    folder = write_run(root, objective, {("world_helpful", "gold"): share(50)}, **more)
    run = read_run(folder)
    return replace(run, info=replace(run.info, environment=environment))


def test_commits_clean_or_not_and_processors_are_counted(tmp_path):
    clean = {"git": GIT, "git_dirty": "False", "processor": "one"}
    dirty = {"git": OTHER, "git_dirty": "True", "processor": "one", "cpu_capability": "AVX2"}
    runs = [
        made(tmp_path, "sft", clean),
        made(tmp_path, "dpo", clean),
        made(tmp_path, "ppo", dirty, seed=1),
        made(tmp_path, "grpo", {"python": "3.11"}, seed=2),
    ]
    found = origins(gather(runs, {}))
    assert found[0] == (
        "Commits: aaaaaaaa (2), bbbbbbbb changed (1), not known (1). 1 of 4 runs were recorded on a "
        "working tree with uncommitted changes: what they ran is in no commit. Of 1 the commit is "
        "not known."
    )
    assert found[1] == "Processors: one (2), one, AVX2 (1), not known (1)."
    assert len(found) == 2
    assert origins(gather(runs[:2], {}))[0] == "Commits: aaaaaaaa (2). All from a clean commit."
    assert origins([]) == []


def test_one_set_and_seed_on_two_processors_is_flagged(tmp_path):
    """Seeds may be on different ones, and sets; the rows of one seed are compared with each other."""
    one, two = ({"git": GIT, "git_dirty": "False", "processor": name} for name in ("one", "two"))
    apart = [
        made(tmp_path, "sft", one),
        made(tmp_path, "dpo", one),
        made(tmp_path, "sft", two, seed=1),
        made(tmp_path, "sft", two, data=HARMLESS),
    ]
    assert len(origins(gather(apart, {}))) == 2
    (line,) = origins(gather([*apart, made(tmp_path, "ppo", two)], {}))[2:]
    assert line == (
        "WARNING: tiny on world_helpful: rows of seed 0 were made on different processors (one, "
        "two); run a seed's objectives on one machine."
    )
