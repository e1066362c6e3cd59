"""Nothing that came from a file gets into the page as HTML."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from labelmend.report.markup import Html, element, join, table


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.values: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


# Parsers change these: carriage returns are line ends, and NUL and surrogates are no characters.
TEXTS = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]))


@given(TEXTS, TEXTS)
def test_any_text_comes_back_as_text(content: str, attribute: str) -> None:
    found = read(element("p", content, title=attribute))
    assert (found.tags, found.text, found.values) == (["p"], content, [attribute])


def test_html_is_not_escaped_twice() -> None:
    inner = element("b", "a & b")
    assert join(inner, "<") == "<b>a &amp; b</b>&lt;"
    assert isinstance(join(inner), Html)


def test_attributes_that_are_switches() -> None:
    assert element("input", checked=True, disabled=False, id=None) == "<input checked>"


def test_a_table_names_its_rows_and_columns() -> None:
    text = table(["class", "Dice"], [["<a>", "0.5"]], "figures")
    assert '<th scope="col">Dice</th>' in text
    assert '<th scope="row">&lt;a&gt;</th><td>0.5</td>' in text
    assert "<caption>figures</caption>" in text
