"""A figure as files and as part of a page: PNG, SVG, and an inline <svg> in the page's own ink,
with the values of its points on hover."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import SupportsFloat

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from grao_bench.reporting.tables.sheets import tex
from grao_bench.reporting.text import slug

INK, PAPER = "#111112", "#fefefd"
"""Replaced in the inline SVG by the page's own text colour and by nothing; no other element may use
them."""

STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
WIDTH, HEIGHT = 4.8, 3.6  # inches; a page shows 72 units an inch
REACH = 5.0
"""How near a point the pointer has to be, in the inline SVG's units."""


@dataclass(frozen=True)
class Drawing:
    """A figure, rendered. `kind` joins the figures of one sort; `inline` is an <svg> element for a
    page; `frame` the numbers drawn."""

    name: str
    kind: str
    title: str
    caption: str
    png: bytes
    svg: bytes
    inline: str
    frame: pd.DataFrame

    def latex(self) -> str:
        """A figure environment for the package graphicx that shows the PNG file."""
        return (
            "\\begin{figure}[t]\n\\centering\n"
            f"\\includegraphics[width=\\linewidth]{{figures/{self.name}.png}}\n"
            f"\\caption{{{tex(self.title)}. {tex(self.caption)}}}\n\\label{{fig:{self.name}}}\n"
            "\\end{figure}\n"
        )


@dataclass(frozen=True)
class Sketch:
    """A figure being drawn, and what its spots say on hover."""

    figure: Figure
    spots: list[tuple[Axes, float, float, float, float, str]] = field(default_factory=list)

    def point(self, axes: Axes, x: SupportsFloat, y: SupportsFloat, text: str) -> None:
        """The text shows near this point of the data."""
        self.area(axes, x, y, x, y, text)

    def area(
        self,
        axes: Axes,
        left: SupportsFloat,
        low: SupportsFloat,
        right: SupportsFloat,
        high: SupportsFloat,
        text: str,
    ) -> None:
        """The text shows within this rectangle of the data."""
        self.spots.append((axes, float(left), float(low), float(right), float(high), text))

    def points(
        self,
        axes: Axes,
        xs: Sequence[SupportsFloat],
        ys: Sequence[SupportsFloat],
        texts: Sequence[str],
        most: int = 26,
    ) -> None:
        """Points along a line; of a long one, evenly spaced ones and its last."""
        stride = max(1, -(-len(xs) // most))
        for i in sorted({*range(0, len(xs), stride), len(xs) - 1} if len(xs) else ()):
            self.point(axes, xs[i], ys[i], texts[i])


@contextmanager
def sketch(
    rows: int = 1, columns: int = 1, height: float = HEIGHT, width: float = WIDTH
) -> Iterator[Sketch]:
    """A new figure with this many panels, in the report's style."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
        figure.subplots(rows, columns, squeeze=False)
        yield Sketch(figure)


def finish(
    drawn: Sketch,
    name: str,
    kind: str,
    title: str,
    caption: str,
    frame: pd.DataFrame,
    *,
    legend: bool = True,
) -> Drawing:
    """Renders. The same records give the same bytes. The legend names every labelled line of any
    panel once."""
    name = slug(name)
    handles: dict[str, Artist] = {}
    for axes in drawn.figure.axes:
        handles |= {
            str(label): handle
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
    if handles and legend:
        columns = max(1, min(4, len(handles), int(80 / (6 + max(map(len, handles))))))
        drawn.figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=columns
        )
    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawn.figure.draw_without_rendering()
        drawn.figure.set_layout_engine(
            "none"
        )  # laid out once: the spots below and both files agree
        drawn.figure.savefig(
            svg,
            format="svg",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
        hits = "".join(_hits(drawn))
        lines = textwrap.wrap(title, int(13 * WIDTH))
        width, height = drawn.figure.get_size_inches()
        drawn.figure.text(
            0.5, 1.0, "\n".join(lines), ha="center", va="bottom"
        )  # the PNG alone has its title; the others stand under one
        box = Bbox([[0.0, 0.0], [width, height + 0.05 + 0.2 * len(lines)]])
        drawn.figure.savefig(
            png, format="png", dpi=150, bbox_inches=box, metadata={"Software": None}
        )
    inline = _inline(svg.getvalue().decode(), name, title).replace(
        "</svg>", f'<g class="hits">{hits}</g></svg>'
    )
    return Drawing(name, kind, title, caption, png.getvalue(), svg.getvalue(), inline, frame)


def _hits(drawn: Sketch) -> Iterator[str]:
    """An invisible element with a <title> over every spot, in the SVG's coordinates (y runs
    down)."""
    height = drawn.figure.bbox.height
    for axes, left, low, right, high, text in drawn.spots:
        (x0, y0), (x1, y1) = axes.transData.transform([(left, low), (right, high)])
        title = f"<title>{escape(text)}</title>"
        if (left, low) == (right, high):
            place = f'cx="{x0:.1f}" cy="{height - y0:.1f}"'
            yield f'<circle class="hit" {place} r="{REACH:g}">{title}</circle>'
        else:
            size = f'width="{abs(x1 - x0):.1f}" height="{abs(y1 - y0):.1f}"'
            place = f'x="{min(x0, x1):.1f}" y="{height - max(y0, y1):.1f}"'
            yield f'<rect class="hit" {place} {size}>{title}</rect>'


def _inline(svg: str, name: str, title: str) -> str:
    """The <svg> element alone, its ids made unique on the page, ink and paper replaced by the
    page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]*)"', svg)
    assert view, "matplotlib writes a viewBox"
    svg = re.sub(
        r"<svg [^>]*>",
        f'<svg viewBox="{view[1]}" role="img" aria-label="{escape(title)}">',
        svg,
        count=1,
    )
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 sans-serif", svg)
    # hundredths of a 72nd of an inch are enough for a place; a label, which stands between tags,
    # keeps its digits
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag.group()), svg)
    return re.sub(
        r"\n\s*",
        "\n",
        svg.replace("xlink:href", "href").replace(INK, "currentColor").replace(PAPER, "none"),
    )
