"""Tables 6 and 7: the judge prompts that runs recorded beside their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grao_bench.core.errors import UserError
from grao_bench.reporting import paper
from grao_bench.reporting.gather.cells import Cell
from grao_bench.reporting.text import slug

PATTERN = "judge_prompt*.md"
PROMPT_NUMBER: dict[paper.Subset, int] = {"helpful": 6, "harmless": 7}


@dataclass(frozen=True)
class JudgePromptText:
    """A judge's prompt as runs used it. `name` is what stands after the dash in
    judge_prompt-<name>.md, else the set trained on."""

    name: str
    text: str
    runs: tuple[Path, ...]

    @property
    def title(self) -> str:
        """Names the paper's table where the prompt is for its criterion."""
        subset = next((one for one in paper.SUBSETS if one in self.name), None)
        head = f"Table {PROMPT_NUMBER[subset]}: the" if subset else "The"
        return f"{head} judge's prompt, {self.name}"

    @property
    def file_name(self) -> str:
        """For the files that are written."""
        return slug(f"judge_prompt-{self.name}")

    def markdown(self) -> str:
        """The text, fenced by more backticks than it holds in a row."""
        fence = "```"
        while fence in self.text:
            fence += "`"
        text = f"{fence}text\n{self.text.rstrip()}\n{fence}"
        return f"## {self.title}\n\n{text}\n\n- recorded by {len(self.runs)} runs"

    def latex(self) -> str:
        """The text, word for word, in a verbatim environment."""
        return f"% {self.title}\n\\begin{{verbatim}}\n{self.text.rstrip()}\n\\end{{verbatim}}\n"


def judge_prompts(cells: Sequence[Cell]) -> list[JudgePromptText]:
    """Every different prompt that a run recorded as judge_prompt.md or judge_prompt-<name>.md in
    its folder; the paper's order."""
    found: dict[tuple[str, str], list[Path]] = {}
    for cell in cells:
        for run in cell.runs:
            for path in prompt_files(run.folder):
                try:
                    text = path.read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    raise UserError(
                        f"{path}: cannot be read ({error}); mend or remove the file"
                    ) from None
                name = path.stem.partition("-")[2] or run.info.data
                found.setdefault((name, text), []).append(run.folder)
    return [
        JudgePromptText(name, text, tuple(runs))
        for (name, text), runs in sorted(found.items(), key=lambda one: _order(one[0][0]))
    ]


def prompt_files(folder: Path) -> list[Path]:
    """The judge prompts that one run recorded."""
    return sorted(folder.glob(PATTERN))


def _order(name: str) -> tuple[int, str]:
    return (
        next((i for i, one in enumerate(paper.SUBSETS) if one in name), len(paper.SUBSETS)),
        name,
    )
