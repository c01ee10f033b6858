"""The page in a browser, where there is one: headless Chromium opens it, presses what can be pressed and reports what it saw."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from grao_bench.core.records import ProbeRecord
from grao_bench.report import build_report

from .records import HELPFUL, evaluation, write_run, write_unfinished

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium binary on the path; Debian has one in the package chromium")
WIDTHS = (390, 1280)
EVIL = "</script><script>throw 1</script><img src=x onerror=throw>"

# stands before everything else in a copy of the page: what went wrong is kept from the first line on
WATCH = """<script>
window.seen = { errors: [] };
addEventListener("error", (event) => seen.errors.push(String(event.message)), true);
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => seen.errors.push("blocked " + event.blockedURI));
</script>"""

CHECK = r"""<script>
addEventListener("load", () => {
  const $ = (id) => document.getElementById(id);
  const table = document.querySelector("#table-main-world_helpful-gold table");
  const column = (name) => [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith(name));
  const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const press = (name) => { table.tHead.rows[0].cells[column(name)].querySelector("button").click(); return order(); };
  seen.sorted = { first: order(), down: press("RAS"), up: press("RAS"), back: press("RAS"), words: press("method") };
  press("method"); press("method");

  const pick = (id, text) => {
    const select = $(id);
    select.value = [...select.options].find((one) => one.textContent.startsWith(text)).value;
    select.dispatchEvent(new Event("change"));
  };
  const cards = () => [...document.querySelectorAll("#answers-list article")];
  const ids = () => cards().map((card) => card.querySelector("code").textContent);
  pick("answers-method", "sft"); pick("answers-verdict", "any");
  seen.all = { shown: cards().length, more: !$("answers-more").hidden };
  $("answers-more").click();
  seen.more = cards().length;
  pick("answers-verdict", "loss");
  seen.losses = ids();
  pick("answers-verdict", "better");
  seen.better = ids();
  seen.diff = cards()[0].innerHTML.match(/<(ins|del)>[^<]*/g);
  $("answers-diff").click();
  seen.plain = cards()[0].querySelectorAll("ins, del").length;
  pick("answers-verdict", "any");
  $("answers-text").value = "NUMBER 7";
  $("answers-text").dispatchEvent(new Event("input"));

  const number = table.querySelector("td.number a");
  number.click();
  seen.sources = [...document.querySelectorAll("#sources a")].map((link) => link.getAttribute("href"));
  const hit = document.querySelector(".hit");
  hit.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 50 }));
  seen.tip = $("tip").textContent;
  const before = getComputedStyle(document.body).backgroundColor;
  $("theme").click();
  seen.themes = [before, getComputedStyle(document.body).backgroundColor];
  seen.width = innerWidth;
  seen.overflow = document.documentElement.scrollWidth - innerWidth;
  seen.requests = performance.getEntriesByType("resource").length;
  setTimeout(() => { seen.searched = ids(); parent.postMessage(JSON.stringify(seen), "*"); }, 400);
});
</script>"""


def answers(verdicts, name):
    records = evaluation(verdicts, prompt="a question", reference=EVIL)
    return [replace(record, answer=f"{name} says number {i} is {EVIL if i == 0 else 'fine'}") for i, record in enumerate(records)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """30 prompts; sft wins the first 12, dpo 9, grao all 30 and with a longer name; ppo failed."""
    root = tmp_path_factory.mktemp("page")
    key = (HELPFUL, "gold")
    probes = [ProbeRecord(step, {"reward": 0.1 * step, "kl": float(step)}) for step in (0, 5)]
    write_run(root, "base", {key: answers([1] * 3 + [-1] * 27, "base")}, config_hash="00000000")
    for objective, wins in (("sft", 12), ("dpo", 9), ("grao", 30)):
        for seed in (0, 1):
            write_run(root, objective, {key: answers([1] * wins + [-1] * (30 - wins), objective)}, seed=seed, probes=probes)
    write_unfinished(root, "ppo", f"ValueError: {EVIL}")
    return build_report(root).page


@pytest.fixture(scope="module")
def seen(page):
    """What the page reports of itself at each width, and what the browser said."""
    copy, frames = page.with_name("checked.html"), page.with_name("frames.html")
    copy.write_text(page.read_text().replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"{CHECK}</body>", 1))
    inner = "".join(f'<iframe src="checked.html" style="width:{width}px;height:2000px;border:0"></iframe>' for width in WIDTHS)
    frames.write_text(
        f'<pre id="result"></pre>{inner}<script>const all = []; addEventListener("message", (event) => {{ all.push(JSON.parse(event.data));'
        'document.getElementById("result").textContent = JSON.stringify(all); });</script>'
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--window-size=1400,2200"]
    flags += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=8000", "--dump-dom"]
    done = subprocess.run([str(CHROMIUM), *flags, frames.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    assert found[1], done.stderr[-2000:]
    text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return {one["width"]: one for one in json.loads(text)}, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@needs_browser
def test_no_errors_no_requests_and_no_sideways_scroll(seen):
    by_width, console = seen
    assert sorted(by_width) == sorted(WIDTHS)
    for one in by_width.values():
        assert one["errors"] == []
        assert one["requests"] == 0
        assert one["overflow"] <= 0
    assert console == []


@needs_browser
def test_tables_sort_by_number_and_by_word_and_back(seen):
    for one in seen[0].values():
        found = one["sorted"]
        assert found["first"] == ["base", "sft", "dpo", "ppo", "grao"]
        assert found["down"] == ["grao", "sft", "dpo", "base", "ppo"]  # 100, 40, 30, 10, and what did not finish last
        assert found["up"] == ["base", "dpo", "sft", "grao", "ppo"]
        assert found["back"] == found["first"]
        assert found["words"] == ["base", "dpo", "grao", "ppo", "sft"]


@needs_browser
def test_answers_are_filtered_by_verdict_method_and_text(seen):
    for one in seen[0].values():
        assert one["all"] == {"shown": 20, "more": True}
        assert one["more"] == 30
        assert one["losses"] == sorted(f"p{i}" for i in range(12, 30))
        assert sorted(one["better"]) == sorted(f"p{i}" for i in range(3, 12))
        assert one["diff"] == ["<del>base ", "<ins>sft "]
        assert one["plain"] == 0
        assert one["searched"] == ["p7"]


@needs_browser
def test_numbers_lead_to_runs_points_speak_and_the_theme_turns(seen):
    for one in seen[0].values():
        assert one["sources"] == ["../tiny/world_helpful/base-00000000/seed0"]
        assert "RAS" in one["tip"]
        assert len(set(one["themes"])) == 2


def test_what_failed_is_a_dash_with_its_reason_and_never_a_zero(page):
    text = page.read_text()
    (row,) = re.findall(r'<tr class="failed">.*?</tr>', text[: text.index('id="figures-1"')], re.DOTALL)
    assert "ppo" in row
    assert "seed 0 not finished: ValueError: &lt;/script&gt;" in row
    assert '<td class="none">–</td>' in row
    assert not re.search(r">0(\.0)?<", row)
