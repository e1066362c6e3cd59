"""What charts are drawn on and with: inline SVG whose colours follow the page, light or dark."""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from labelmend.report.markup import Html

# Drawn in these colours and written as the page's own, which differ between light and dark.
INK, MUTED, LINE, CARD = "#111213", "#717273", "#d1d2d3", "#fdfcfb"
STRONG, WEAK, HELD, THIN = "#0171b1", "#d25f01", "#019e71", "#8a8b8c"
_THEME = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    CARD: "card",
    STRONG: "strong",
    WEAK: "weak",
    HELD: "held",
    THIN: "thin",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 11,
    "svg.hashsalt": "labelmend",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.solid_capstyle": "round",
}


def mark(axes: Axes, x: float, text: str) -> None:
    """A dotted upright line with a word beside it."""
    axes.axvline(x, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    axes.annotate(
        text,
        (x, 1),
        (4, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        color=MUTED,
        fontsize=9.5,
    )


def to_svg(figure: Figure, name: str) -> Html:
    """The figure without anything that a page of many pictures cannot hold twice."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
        buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", text)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r'\sid="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", text)
    for colour, variable in _THEME.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"font-family: [^;\"]+;? ?", "", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    return Html(text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1))
