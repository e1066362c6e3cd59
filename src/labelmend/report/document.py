"""What all pages are made of: a whole document with one style, its parts, charts and notes."""

from __future__ import annotations

from datetime import datetime
from importlib import metadata, resources

from labelmend.report.markup import Child, Html, element


def make_document(title: str, header: Html, *sections: Child, style: str = "") -> str:
    """A self-contained page, and below its sections when it was made by what.

    Args:
        title: its name in a browser.
        header: what stands above.
        sections: what it is about; None is passed over.
        style: rules beside those of all pages.
    """
    usual = resources.files("labelmend.report").joinpath("page.css").read_text("utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(usual + style)),
    )
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    text = f"Made {made} by labelmend {metadata.version('labelmend')}."
    footer = element("footer", element("p", text))
    body = element("body", header, element("main", *sections), footer)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def section(name: str, title: str, *children: Child) -> Html:
    """A part of the page that can be linked to."""
    return element("section", element("h2", title), *children, id=name, aria_label=title)


def say(text: str, tone: str = "unknown") -> Html:
    """A sentence in place of something that cannot be shown."""
    return element("p", text, class_=f"note {tone}")


def chart(drawing: Html, caption: str) -> Html:
    """A drawing with its words, which those hear who do not see it."""
    picture = element("div", drawing, role="img", aria_label=caption)
    return element("figure", picture, element("figcaption", caption), class_="chart")
