"""HTML elements from Python values; whatever is not HTML already is escaped."""

from __future__ import annotations

import html

VOID = frozenset({"img", "input", "meta", "link", "br", "hr"})

Attribute = str | int | float | bool | None


class Html(str):
    """Text that is HTML already; only this module and the pictures make it."""

    __slots__ = ()


Child = str | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """One element. Children that are plain text are escaped, ``None`` is passed over.

    Attribute names lose a trailing underscore and write others as hyphens; ``True`` stands alone,
    ``None`` and ``False`` drop the attribute.

    >>> element("p", "a < b", class_="lead", aria_hidden=None)
    '<p class="lead">a &lt; b</p>'
    """
    text = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{text}>")
    return Html(f"<{name}{text}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Children one after the other, plain text escaped.

    >>> join("<", Html("<b>"), None)
    '&lt;<b>'
    """
    return Html("".join(_child(child) for child in children if child is not None))


def table(head: list[str], rows: list[list[Child]], caption: str, **attributes: Attribute) -> Html:
    """A table whose first column names its rows, in a box that scrolls on narrow screens."""
    header = element("tr", *(element("th", h, scope="col") for h in head))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:]))
        for row in rows
    ]
    whole = element(
        "table",
        element("caption", caption),
        element("thead", header),
        element("tbody", *body),
        **attributes,
    )
    return element("div", whole, class_="scroll")


def _child(child: str) -> str:
    return child if isinstance(child, Html) else html.escape(child)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    key = key.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {key}"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {key}="{html.escape(text)}"'
