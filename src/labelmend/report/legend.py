"""What the colours and lines of the pictures mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labelmend.report.markup import Html, element
from labelmend.types import DataSpec

COLOURS = 14
"""Distinct colours for classes in page.css; after that they repeat."""


def colour(index: int) -> str:
    """The style class of a class index; that of the background is of its own.

    >>> colour(0), colour(1), colour(15)
    ('k0', 'k1', 'k1')
    """
    return f"k{(index - 1) % COLOURS + 1}" if index else "k0"


def is_paired(spec: DataSpec) -> bool:
    """Whether colour tells a prediction from a label, there being no classes to tell apart."""
    if spec.task == "regression":
        return spec.dims == 1
    return len(spec.classes) == 2 and spec.dims > 1


def make_key(name: str, spec: DataSpec, items: Sequence[Html]) -> Html | None:
    """A legend, and a box that hides outlines where there are any; nothing without items."""
    if not items:
        return None
    box = element(
        "label",
        element("input", type="checkbox", checked=True, id=f"{name}-outlines"),
        " show outlines",
        class_="switch",
    )
    legend = element("ul", *items, class_="legend", aria_label="Legend")
    style = "key paired" if is_paired(spec) else "key"
    return element("div", legend, None if spec.dims == 1 else box, class_=style)


def make_legend(spec: DataSpec, kinds: Sequence[str]) -> list[Html]:
    """An item for everything that is drawn; none where pictures carry their own words.

    ``kinds`` is ``label``, or ``label`` and ``prediction``.
    """
    if spec.task == "regression":
        return [_item(f"{kind} k1", f"{kind}, below the image") for kind in kinds if spec.dims == 1]
    items = _lines_and_colours(spec, {kind: kind for kind in kinds})
    if spec.dims == 1:
        places = {"label": "label above the signal", "prediction": "prediction below it"}
        items += [element("li", places[kind]) for kind in kinds]
    if spec.ignore is not None:
        items.append(_item("ignored", "not said (ignored)"))
    return items


def make_mixed_legend(spec: DataSpec, style: str, shaded: str) -> list[Html]:
    """An item for everything that is drawn over mixed images.

    ``shaded`` says what it is that teaches nothing, if there is any, and ``style`` how it looks.
    """
    kinds = {"label": "what is cut out, and what is taught", "prediction": "what a model says"}
    items = _lines_and_colours(spec, kinds)
    return [*items, _item(style, shaded)] if shaded else items


def _lines_and_colours(spec: DataSpec, kinds: Mapping[str, str]) -> list[Html]:
    """What classes look like, and what the kinds of lines around them mean."""
    if is_paired(spec):
        return [_item(f"{kind} k1", text) for kind, text in kinds.items()]
    items = [_item(f"swatch {colour(i)}", name) for i, name in enumerate(spec.classes) if i]
    if len(items) > COLOURS:
        items.append(element("li", f"(colours repeat after {COLOURS} classes)"))
    if len(kinds) > 1 and spec.dims > 1:
        items += [_item(f"{kind} plain", text) for kind, text in kinds.items()]
    return items


def _item(style: str, text: str) -> Html:
    if style.startswith(("label", "prediction")):
        mark = element("path", d="M2 7H26", class_=style)
    else:
        mark = element("rect", x=4, y=1, width=20, height=12, class_=style)
    drawing = element("svg", mark, viewBox="0 0 28 14", aria_hidden="true", class_="layers")
    return element("li", drawing, text)
