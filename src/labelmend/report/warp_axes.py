"""A picture with numbered sides, so that lengths in it can be read off."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from labelmend.report.markup import Html, element, join
from labelmend.report.views import encode

TICKS = 6
"""A side has about so many numbers."""

_LEFT, _BELOW, _ABOVE, _RIGHT = 46.0, 38.0, 8.0, 12.0


class Axis(NamedTuple):
    """What is written along a side; ``upward`` where it is counted from the bottom."""

    name: str
    upward: bool = False


def make_axes(
    pixels: np.ndarray,
    over: Html,
    size: tuple[int, int],
    scale: tuple[float, float],
    axes: tuple[Axis, Axis, str],
) -> Html:
    """A plane with lines over it and numbers along its left and lower side.

    Args:
        pixels: ``(height, width[, 3])``, 8 bit.
        over: what is drawn over it, in units of the picture from its upper left corner.
        size: its height and width in positions.
        scale: units of the picture to a position, down and across.
        axes: the left and the lower side, and the words for who does not see the picture.
    """
    down, across, alt = axes
    height, width = size[0] * scale[0], size[1] * scale[1]
    address, _, tiny = encode(pixels)
    picture = element(
        "image",
        href=address,
        width=width,
        height=height,
        preserveAspectRatio="none",
        class_="tiny" if tiny else None,
    )
    clipped = element("svg", over, width=width, height=height, class_="over")
    inner = element(
        "g",
        picture,
        clipped,
        _ticks(down, size[0], scale[0], left=True),
        element("g", _ticks(across, size[1], scale[1]), transform=f"translate(0 {height:.6g})"),
        transform=f"translate({_LEFT:g} {_ABOVE:g})",
    )
    wide, tall = _LEFT + width + _RIGHT, _ABOVE + height + _BELOW
    return element(
        "svg",
        inner,
        viewBox=f"0 0 {wide:.6g} {tall:.6g}",
        class_="layers field",
        role="img",
        aria_label=alt,
        style=f"max-width: {1.1 * wide:.0f}px",  # or numbers beside a narrow one would be large
    )


def make_scale(size: int) -> Html:
    """Numbers along the only axis of a signal, for below a drawing of it.

    >>> make_scale(1)
    '<div class="scale"><span style="left: 50.00%">0</span></div>'
    """
    places = range(0, size, round_step(size / TICKS))
    numbers = [
        element("span", f"{position:,}", style=f"left: {100 * (position + 0.5) / size:.2f}%")
        for position in places
    ]
    return element("div", *numbers, class_="scale")


def round_step(least: float) -> int:
    """The least of 1, 2, 5, 10, 20, 50 … that is as large.

    >>> [round_step(v) for v in (0.3, 1.5, 3, 6, 21)]
    [1, 2, 5, 10, 50]
    """
    if least <= 1:
        return 1
    power = 10 ** math.floor(math.log10(least))
    return int(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least))


def _ticks(axis: Axis, size: int, scale: float, *, left: bool = False) -> Html:
    """Numbers at centres of positions, and what they count."""
    parts = []
    for position in range(0, size, round_step(size / TICKS)):
        place = scale * ((size - 1 - position if axis.upward else position) + 0.5)
        x, y = (-7.0, place) if left else (place, 15.0)
        line = f"M-4 {place:.4g}h4" if left else f"M{place:.4g} 0v4"
        parts += [
            element("path", class_="tick", d=line),
            element("text", str(position), x=x, y=y, class_="left" if left else "below"),
        ]
    middle = scale * size / 2
    turn = f"translate(-36 {middle:.6g}) rotate(-90)" if left else f"translate({middle:.6g} 32)"
    return join(*parts, element("text", axis.name, transform=turn, class_="below"))
