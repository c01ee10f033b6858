"""The report end to end from record files, and its command line in a process of its own."""

from __future__ import annotations

import contextlib
import gzip
import io
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from grao_bench.core.record_files import find_runs
from grao_bench.core.records import ProbeRecord, StepRecord, repetition_of
from grao_bench.report import build_report, main
from grao_bench.reporting.page.copies import may_show

from .records import HARMLESS, HELPFUL, evaluation, write_run, write_unfinished

EVIL = "<script>alert(1)</script>"


def write_demo(root):
    """A base, two seeds each of sft and of an objective with a hostile name, one failed cell; texts, probes, steps, two sets."""

    def both(*verdicts):
        records = evaluation(verdicts, prompt="a prompt", reference="a reference", answer=EVIL)
        return {(HELPFUL, "gold"): records, (HARMLESS, "gold"): records}

    def probes(end):
        return [
            ProbeRecord(step, {"reward": -0.5 + step * end, "kl": step * 0.1, "entropy": 1.0, "j_reference": -1.0}) for step in (0, 5, 10)
        ]

    write_run(root, "base", both(-1, -1, 0, 1), config_hash="00000000")
    for seed, verdicts in enumerate([(1, -1, 0, 1), (1, 1, 0, 1)]):
        write_run(root, "sft", both(*verdicts), seed=seed, probes=probes(0.01))
        steps = [StepRecord(i, {"reward/mean": 0.1 * i}, 1, 8, 9, 9) for i in range(1, 11)]
        folder = write_run(root, "evil", both(*verdicts), seed=seed, probes=probes(0.03), steps=steps, config_hash="eeeeeeee")
        info = (folder / "run.json").read_text()
        (folder / "run.json").write_text(info.replace('"objective": "evil"', f'"objective": "{EVIL} $x_1$"'))
    write_unfinished(root, "ppo", f"ValueError: {EVIL}")
    return root


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The demo's folder and what the command line said of it: one report for all the tests that only read it."""
    root = write_demo(tmp_path_factory.mktemp("runs") / "demo")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([str(root)]) == 0
    return root, said.getvalue()


@pytest.fixture
def runs(tmp_path):
    """The smallest folder that fills a table: a base, two seeds of sft, one failed cell. Few figures, so it is quick to report on."""
    return write_few(tmp_path / "runs" / "demo", "grao_bench.data.world.WorldData")


def write_few(root, made_by):
    """The runs of that folder, of data of this class."""
    of = {"config": {"data": {"_target_": made_by}}}
    texts = {"prompt": f"asked {EVIL}", "reference": f"refer {EVIL}", "answer": EVIL}

    def judged(verdicts):
        return {(HELPFUL, "gold"): evaluation(verdicts, **texts)}

    write_run(root, "base", judged((-1, -1, 0, 1)), config_hash="00000000", **of)
    for seed, verdicts in enumerate([(1, -1, 0, 1), (1, 1, 0, 1)]):
        write_run(root, "sft", judged(verdicts), seed=seed, **of)
    write_unfinished(root, "ppo", f"ValueError: {EVIL}")
    return root


class Page(HTMLParser):
    """Collects every attribute and script element of a page."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.attributes, self.ids, self.text = 0, [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text += data


def test_report_end_to_end(reported):
    runs, out = reported
    assert str(runs / "report" / "report.html") in out
    assert "62.5 ± 17.7" in out  # RAS of the seeds: 50 and 75
    markdown = (runs / "report" / "tables.md").read_text()
    assert "## Table 1: trained and evaluated on world_helpful, judged by gold" in markdown
    assert "62.5 ± 17.7 [0.2, 99.9]" in markdown  # t(0.975, 1) = 12.706; 12.706 * 12.5 / (62.5 * 0.375) = 6.776 logits about 0.511
    assert "75.0 ± 35.4" in markdown  # nag_mean 50 and 100
    assert "30.95 / 0.28" in markdown
    assert "seed 0 not finished: ValueError" in markdown

    numbers = pd.read_csv(runs / "report" / "tables.csv").set_index(["method", "set"])
    assert numbers.loc[("sft", HELPFUL), "ras"] == 62.5
    assert numbers.loc[("sft", HELPFUL), "nag_win"] == 37.5
    assert numbers.loc[("sft", HELPFUL), "kl"] == pytest.approx(1.0)
    assert numbers.loc[("base", HELPFUL), "interval"] == "prompts only"
    assert pd.isna(numbers.loc[("ppo", HELPFUL), "ras"])

    made = {path.name for path in (runs / "report" / "tables").iterdir()}
    kinds = ["cost", "probes", "steps_to_best", "late_training"]
    kinds += [f"cross-{HELPFUL}-{HARMLESS}-gold"]
    kinds += [f"{kind}-{HELPFUL}-gold" for kind in ("main", "quartiles", "lengths", "cases")]  # no pair that differs to test
    assert made == {f"{kind}.{end}" for kind in kinds for end in ("tex", "csv")}
    assert "\\toprule" in (runs / "report" / "tables" / f"main-{HELPFUL}-gold.tex").read_text()
    numbers = pd.read_csv(runs / "report" / "tables" / f"main-{HELPFUL}-gold.csv").set_index("method")
    assert numbers.loc["sft", "ras"] == 62.5
    assert pd.isna(numbers.loc["ppo", "ras"])

    names = {path.name for path in (runs / "report" / "figures").iterdir()}
    kinds = [f"{kind}-tiny-{HELPFUL}" for kind in ("reward_vs_step", "reward_vs_generated_tokens", "reward_vs_kl", "rollout_reward")]
    kinds += [f"{kind}-{HELPFUL}-gold" for kind in ("scores", "quartiles")]  # no times, no losses, no sweeps: no such figures
    assert names == {"figures.tex"} | {f"{kind}.{end}" for kind in kinds for end in ("png", "svg", "csv")}
    for kind in kinds:
        assert f"(figures/{kind}.svg)" in markdown
        assert f"figures/{kind}.png" in (runs / "report" / "figures" / "figures.tex").read_text()


def test_the_page_is_self_contained_and_escapes_every_text(reported):
    runs, _ = reported
    text = (runs / "report" / "report.html").read_text()
    page = Page(text)
    assert page.scripts == 3  # the page's own: the links of the runs, the answers, what sorts and filters
    assert EVIL not in text
    assert EVIL in page.text  # as text: in the table, the figure's legend, the failure's reason
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert not [name for name, _ in page.attributes if name in ("src", "xlink:href") or name.startswith("on")]
    local = [value for name, value in page.attributes if name == "href"]
    assert all(value[1:] in page.ids for value in local if value.startswith("#"))
    folders = {value for value in local if not value.startswith("#")}
    assert f"../tiny/{HELPFUL}/sft-aaaaaaaa" in folders  # behind the row's numbers
    assert f"../tiny/{HELPFUL}/sft-aaaaaaaa/seed1" in folders
    assert all((runs / "report" / folder).is_dir() for folder in folders)
    assert len(page.ids) == len(set(page.ids))
    assert "prefers-color-scheme: dark" in text
    assert "viewport" in text
    assert text.count("<svg") == 6
    assert "$x_1$" in page.text
    assert "seed 0 not finished" in page.text


def test_the_same_records_give_the_same_bytes(runs, tmp_path):
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output in outputs:
        build_report(runs, output)
    files = [sorted(path.relative_to(output) for path in output.rglob("*") if path.is_file()) for output in outputs]
    assert files[0] == files[1]
    assert all((outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes() for name in files[0])


def test_copied_records_can_be_reported_on_again(runs, tmp_path):
    results = tmp_path / "results" / "demo"
    write_unfinished(runs, "grao", "killed", config={"objective": {"beta": 0.5}})
    build_report(runs, results, records=True)
    assert len(list(results.rglob("evaluations/*.jsonl.gz"))) == 3
    assert len(list(results.rglob("*.partial/config.yaml"))) == 1
    assert f'href="tiny/{HELPFUL}/sft-aaaaaaaa/seed1"' in (results / "report.html").read_text()  # to the copy beside the page
    again = build_report(results)
    assert again.tables.read_text() == (results / "tables.md").read_text()
    assert find_runs(results)[0].evaluations[HELPFUL, "gold"][0].answer == EVIL


def test_copies_hold_the_texts_of_the_lowest_seed(tmp_path):
    """Of two seeds and a base; with --texts all of both."""
    root, texts = tmp_path / "runs", {"prompt": "asked", "reference": "refer", "answer": "said"}
    config = {"data": {"_target_": "grao_bench.data.world.WorldData"}}
    for name, data, seed in (("base", "base", 0), ("sft", HELPFUL, 3), ("sft", HELPFUL, 4)):
        told = [replace(one, reference_tokens=9, **repetition_of(one.answer)) for one in evaluation([1.0, -1.0], **texts)]
        write_run(root, name, {(HELPFUL, "gold"): told}, data=data, seed=seed, config=config)
    for asked, kept in ((None, ["said", "said", ""]), ("all", ["said"] * 3)):
        copies = tmp_path / str(asked) / "runs"
        build_report(root, copies, records=True, texts=asked)
        records = [run.evaluations[HELPFUL, "gold"][0] for run in find_runs(copies)]
        assert [one.answer for one in records] == kept
        assert build_report(copies).tables.read_text() == (copies / "tables.md").read_text()


def test_copied_records_can_leave_the_texts_out(runs, tmp_path):
    results = tmp_path / "results"
    build_report(runs, results, records=True, texts="none")
    records = [record for run in find_runs(results) for found in run.evaluations.values() for record in found]
    assert {record.answer for record in records} == {""}
    assert {record.verdict for record in records} == {-1.0, 0.0, 1.0}


def test_records_of_sets_that_are_not_ours_are_ids_and_verdicts(tmp_path, capsys):
    """What `report --records` writes of them holds no text, in no file of any kind; only
    --texts all copies them."""
    runs = write_few(tmp_path / "runs", "grao_bench.data.hh.HHData")
    results = tmp_path / "results"
    assert main([str(runs), "--records", "--output", str(results)]) == 0
    capsys.readouterr()
    assert texts_in(results) == set()
    evaluations = [run.evaluations[HELPFUL, "gold"] for run in find_runs(results)]
    records = [record for found in evaluations for record in found]
    assert {record.verdict for record in records} == {-1.0, 0.0, 1.0}
    assert {record.example_id for record in records} == {"p0", "p1", "p2", "p3"}

    everything = tmp_path / "everything"
    assert main([str(runs), "--records", "--texts", "all", "--output", str(everything)]) == 0
    assert texts_in(everything) == {"asked", "refer"}


def test_ours_are_the_worlds_texts_alone(tmp_path):
    """Nobody else's, nor those of a run that does not say where its data come from."""
    shown = {}
    for made_by in ("grao_bench.data.world.WorldData", "grao_bench.data.files.FileData", "a.B", ""):
        root = tmp_path / (made_by or "unsaid")
        config = {"data": {"_target_": made_by}} if made_by else {}
        write_run(root, "sft", {(HELPFUL, "gold"): evaluation([1.0])}, config=config)
        (run,) = find_runs(root)
        shown[made_by] = [may_show(run, texts) for texts in ("all", "ours", "none")]
    ours, *others = shown.values()
    assert ours == [True, True, False]
    assert others == [[True, False, False]] * 3


def texts_in(folder):
    """Which words that stand in prompts and references alone are in any file below."""
    found = set()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
        found |= {word for word in ("asked", "refer") if f"{word} <script" in text}
        found |= {word for word in ("asked", "refer") if f"{word} \\u003cscript" in text}
    return found


def test_an_earlier_reports_copies_are_not_counted_as_runs(runs):
    first = build_report(runs, records=True).tables.read_text()
    assert build_report(runs).tables.read_text() == first


def test_ties_as_half_a_win(runs, tmp_path):
    report = build_report(runs, tmp_path / "half", ties="half")
    assert "RAS % (ties: half)" in report.tables.read_text()
    assert "75.0 ± 17.7" in report.tables.read_text()  # 50 + 12.5 and 75 + 12.5
    assert "half a win" in report.page.read_text()


def test_paper(capsys):
    assert main(["--paper"]) == 0
    out = capsys.readouterr().out
    assert "64.60 ± 0.5" in out
    assert "6.355" in out


def test_mcnemar_compares_two_runs_and_says_what_it_is(runs, capsys):
    folders = [str(runs / "tiny" / HELPFUL / "sft-aaaaaaaa" / f"seed{seed}") for seed in (0, 1)]
    assert main(["--mcnemar", *folders]) == 0
    out = capsys.readouterr().out
    assert "McNemar's exact test" in out
    assert f"| {HELPFUL} | gold  |       4 |           0 |           1 |    2 |       1 | 1.000 |" in out
    assert "for these two checkpoints" in out


def test_mcnemar_refuses_other_prompts_other_judges_and_what_is_no_run(tmp_path, capsys):
    one = write_run(tmp_path, "sft", {(HELPFUL, "gold"): evaluation([1, -1])}, fingerprints={f"data/{HELPFUL}": "1" * 64})
    two = write_run(tmp_path, "dpo", {(HELPFUL, "gold"): evaluation([1, -1])}, fingerprints={f"data/{HELPFUL}": "2" * 64})
    three = write_run(tmp_path, "ppo", {(HELPFUL, "other"): evaluation([1, -1])})
    for folders, message in (((one, two), "the test set of"), ((one, three), "no set was judged"), ((one, tmp_path), "holds no run.json")):
        assert main(["--mcnemar", *map(str, folders)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (None, ["{}/absent"], "no such folder"),
        (None, ["{}"], "no finished run"),
        (None, [], "give a folder"),
        ("failed", ["{}"], "1 started and did not finish"),
        ("broken", ["{}"], "steps.jsonl:1: not JSON"),
        ("own", ["{}", "--output", "{}", "--records"], "would write over the runs"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys, prepare, arguments, message):
    if prepare == "failed":
        write_unfinished(tmp_path, "ppo", "MemoryError: too large")
    if prepare in ("broken", "own"):
        folder = write_run(tmp_path, "sft", {(HELPFUL, "gold"): evaluation([1, -1])})
        (folder / "steps.jsonl").write_text("{broken\n" if prepare == "broken" else "")
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_an_unknown_reading_of_ties_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["runs", "--ties", "draw"])
    assert stopped.value.code == 2
    assert "invalid choice: 'draw'" in capsys.readouterr().err


def test_reporting_imports_no_torch(runs):
    code = (
        "import sys; from grao_bench.report import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'hydra'} & set(sys.modules), 'heavy import'; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Table 1" in done.stdout


def test_module_runs_and_help_is_short():
    done = subprocess.run([sys.executable, "-m", "grao_bench.report", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--paper" in done.stdout
    assert len(done.stdout.splitlines()) < 40


def test_a_reader_that_stops_reading_is_no_mistake():
    with subprocess.Popen(
        [sys.executable, "-m", "grao_bench.report", "--paper"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()  # as `| head` does, before a line is written
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_a_note_stands_under_the_title_and_is_escaped(runs, tmp_path):
    build_report(runs, tmp_path / "out", note=f"a split of ours {EVIL}")

    assert (tmp_path / "out" / "tables.md").read_text().split("\n\n")[1] == f"a split of ours {EVIL}"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a split of ours &lt;script&gt;" in page
    assert EVIL not in page
