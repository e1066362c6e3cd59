"""What the colours and lines of the pictures mean."""

from __future__ import annotations

from collections.abc import Sequence

from labelmend.report.markup import Html, element
from labelmend.types import DataSpec

COLOURS = 14
"""Distinct colours for classes in page.css; after that they repeat."""


def colour(index: int) -> str:
    """The style class of a class index; the background has none.

    >>> colour(1), colour(15)
    ('k1', 'k1')
    """
    return f"k{(index - 1) % COLOURS + 1}"


def is_paired(spec: DataSpec) -> bool:
    """Whether colour tells a prediction from a label, there being no classes to tell apart."""
    if spec.task == "regression":
        return spec.dims == 1
    return len(spec.classes) == 2 and spec.dims > 1


def make_legend(spec: DataSpec, kinds: Sequence[str]) -> list[Html]:
    """An item for everything that is drawn; none where pictures carry their own words.

    ``kinds`` is ``label``, or ``label`` and ``prediction``.
    """
    if spec.task == "regression":
        return [_item(f"{kind} k1", f"{kind}, below the image") for kind in kinds if spec.dims == 1]
    if is_paired(spec):
        items = [_item(f"{kind} k1", kind) for kind in kinds]
    else:
        items = [_item(f"swatch {colour(i)}", name) for i, name in enumerate(spec.classes) if i]
        if len(items) > COLOURS:
            items.append(element("li", f"(colours repeat after {COLOURS} classes)"))
        if len(kinds) > 1 and spec.dims > 1:
            items += [_item(f"{kind} plain", kind) for kind in kinds]
    if spec.dims == 1:
        places = {"label": "label above the signal", "prediction": "prediction below it"}
        items += [element("li", places[kind]) for kind in kinds]
    if spec.ignore is not None:
        items.append(_item("ignored", "not said (ignored)"))
    return items


def _item(style: str, text: str) -> Html:
    if style.startswith(("label", "prediction")):
        mark = element("path", d="M2 7H26", class_=style)
    else:
        mark = element("rect", x=4, y=1, width=20, height=12, class_=style)
    drawing = element("svg", mark, viewBox="0 0 28 14", aria_hidden="true", class_="layers")
    return element("li", drawing, text)
