"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, text, name) => {
  const one = document.createElement(tag);
  if (text !== undefined) one.textContent = text;
  if (name) one.className = name;
  return one;
};

// theme: the system's until the button is pressed; remembered where the browser lets a file do so
{
  const root = document.documentElement, button = $("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const show = () => { button.textContent = dark() ? "light" : "dark"; button.title = "switch to the " + button.textContent + " theme"; };
  try { if (localStorage.theme) root.dataset.theme = localStorage.theme; } catch (_) { /* no storage */ }
  button.hidden = false;
  button.onclick = () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.theme = root.dataset.theme; } catch (_) { /* no storage */ }
    show();
  };
  show();
}

// tables: a click sorts, largest number or first word first; a second reverses; a third restores. What is absent stays last.
const sortKey = (text) => {
  const found = text.replace(/(\d),(?=\d{3})/g, "$1").match(/^[<>]?\s*(-?\d+(\.\d+)?)/);
  return found ? Number(found[1]) : null;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], original = [...body.rows];
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const value = (row) => row.cells[head.cellIndex].firstChild?.textContent.trim() ?? "";
    const filled = original.map(value).filter((text) => text && text !== "–");
    const numeric = filled.length > 0 && filled.every((text) => sortKey(text) !== null);
    const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
    const next = { none: first, [first]: second, [second]: "none" }[head.getAttribute("aria-sort") ?? "none"];
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    if (next === "none") return body.append(...original);
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const absent = (text) => !text || text === "–";
    body.append(...[...original].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (absent(a) || absent(b)) return absent(a) - absent(b);
      return sign * (numeric ? sortKey(a) - sortKey(b) : a.localeCompare(b, "en", { numeric: true }));
    }));
  });
}

// figures: what a point says, on hover, on a tap, and by its <title> where there is no script
{
  const tip = $("tip");
  for (const hit of document.querySelectorAll(".hit")) {
    hit.dataset.text = hit.textContent;
    hit.replaceChildren();
  }
  const show = (event) => {
    const hit = event.target.closest?.(".hit");
    tip.hidden = !hit;
    if (!hit) return;
    tip.textContent = hit.dataset.text;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 4)) + "px";
    tip.style.top = (event.clientY - height - 12 < 4 ? event.clientY + 16 : event.clientY - height - 12) + "px";
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
}

// numbers: the folders of the runs behind one
{
  const links = JSON.parse($("run-links").textContent), box = $("sources");
  document.addEventListener("click", (event) => {
    const row = event.target.closest("td.number a")?.closest("tr[data-runs]");
    if (!row) { if (!box.contains(event.target)) box.hidden = true; return; }
    event.preventDefault();
    box.replaceChildren(...row.dataset.runs.split(" ").map((number) => {
      const link = make("a", links[number].name);
      link.href = links[number].href;
      return link;
    }));
    box.hidden = false;
    const place = event.target.getBoundingClientRect();
    box.style.left = scrollX + Math.max(4, Math.min(place.left, document.documentElement.clientWidth - box.offsetWidth - 4)) + "px";
    box.style.top = scrollY + place.bottom + 4 + "px";
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") box.hidden = true; });
}

// answers
const diffWords = (before, after) => {
  // the longest common subsequence of words; [" ", "-" or "+", words]
  const a = before.split(/(?<=\s)/), b = after.split(/(?<=\s)/);
  if (a.length * b.length > 250000) return [["-", before], ["+", after]];
  const same = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      same[i][j] = a[i].trim() === b[j].trim() ? same[i + 1][j + 1] + 1 : Math.max(same[i + 1][j], same[i][j + 1]);
  const parts = [];
  const add = (sign, word) => { const last = parts.at(-1); if (last?.[0] === sign) last[1] += word; else parts.push([sign, word]); };
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    if (i < a.length && j < b.length && a[i].trim() === b[j].trim()) { add(" ", b[j++]); i++; }
    else if (j >= b.length || (i < a.length && same[i + 1][j] >= same[i][j + 1])) add("-", a[i++]);
    else add("+", b[j++]);
  }
  return parts;
};

if ($("answer-data")) {
  const sets = JSON.parse($("answer-data").textContent), PAGE = 20;
  const [set, method, verdict, text, diff] = ["set", "method", "verdict", "text", "diff"].map((name) => $("answers-" + name));
  const list = $("answers-list"), more = $("answers-more");
  const nameOf = (one) => one.name + (one.trained_on ? ", trained on " + one.trained_on : "") + " (" + one.model + ", seed " + one.seed + ")";
  const word = (value) => (value === null ? "" : value > 0 ? "win" : value < 0 ? "loss" : "tie");
  let found = [], shown = 0;

  const matches = (one, base, prompt, i) => {
    const answer = one.answers[i], before = base?.answers[i], wanted = verdict.value;
    if (!answer) return false;
    if (wanted === "better than the base" && !(before && answer[0] > before[0])) return false;
    if (wanted === "worse than the base" && !(before && answer[0] < before[0])) return false;
    if (["win", "tie", "loss"].includes(wanted) && word(answer[0]) !== wanted) return false;
    const sought = text.value.trim().toLowerCase();
    return !sought || [...prompt, answer[4]].some((part) => part.toLowerCase().includes(sought));
  };
  const said = (who, what, judged) => {
    const line = make("p", undefined, "said");
    line.append(make("b", who));
    if (judged && judged[0] !== null) line.append(make("span", word(judged[0]) + (Math.abs(judged[0]) === 0.5 ? " (half)" : ""), "badge " + word(judged[0])));
    if (Array.isArray(what)) for (const [sign, words] of what) line.append(make({ "-": "del", "+": "ins", " ": "span" }[sign], words));
    else line.append(what);
    return line;
  };
  const card = ([one, base, prompt, i]) => {
    const box = make("article", undefined, "case"), answer = one.answers[i], before = base?.answers[i];
    const head = make("h3");
    head.append(make("code", prompt[0]), " · " + nameOf(one) + " · reward " + answer[1] + ", " + answer[2] + " tokens" + (answer[3] ? "" : ", cut off") + " · ");
    const link = make("a", "run");
    link.href = one.run;
    head.append(link);
    box.append(head);
    if (prompt[1]) box.append(said("prompt", prompt[1]), said("reference", prompt[2]));
    if (before) box.append(said("base", before[4], before));
    const changed = diff.checked && before && before[4] && answer[4];
    box.append(said(one.name, changed ? diffWords(before[4], answer[4]) : answer[4] || (prompt[1] ? "(empty)" : "(no text recorded)"), answer));
    return box;
  };
  const page = () => {
    list.append(...found.slice(shown, shown + PAGE).map(card));
    shown = Math.min(found.length, shown + PAGE);
    more.hidden = shown >= found.length;
    const here = sets[set.value];
    $("answers-count").textContent = found.length + " answers, " + shown + " shown. On this page: " + here.rule + ".";
  };
  const filter = () => {
    const here = sets[set.value];
    const chosen = method.value === "" ? here.methods : [here.methods[method.value]];
    found = here.prompts.flatMap((prompt, i) => chosen.map((one) => [one, one.base === null ? null : here.methods[one.base], prompt, i]))
      .filter((one) => matches(...one));
    shown = 0;
    list.replaceChildren();
    page();
  };
  const option = (value, name) => { const one = make("option", name); one.value = value; return one; };
  const methods = () => {
    const named = sets[set.value].methods.map((one, i) => option(i, nameOf(one)));
    const before = method.selectedOptions[0]?.textContent;
    method.replaceChildren(option("", "every method"), ...named);
    const again = named.find((one) => one.textContent === before);
    if (again) again.selected = true;
  };
  set.replaceChildren(...sets.map((one, i) => option(i, one.name + ", judged by " + one.reward)));
  set.onchange = () => { methods(); filter(); };
  method.onchange = verdict.onchange = diff.onchange = filter;
  let timer;
  text.oninput = () => { clearTimeout(timer); timer = setTimeout(filter, 150); };
  document.querySelector(".filters").onsubmit = (event) => event.preventDefault();
  more.onclick = page;
  methods();
  const other = sets[0].methods.findIndex((one) => one.base !== null);
  if (other >= 0) method.value = String(other);
  filter();
}
