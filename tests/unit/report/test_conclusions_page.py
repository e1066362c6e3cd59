from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from labelmend.inference.conclusions import Conclusion, Figures, conclude
from labelmend.inference.objects import Object
from labelmend.inference.rules import read_rules
from labelmend.report import conclusions_page
from labelmend.report.conclusions_page import write_conclusions_page
from labelmend.types import DataSpec

SPEC = DataSpec("segmentation", ("none", "cell", "odd <b>"), (0, 1, 2), None, 2, 1, "none", ".png")


def cell(size: int, index: int = 1) -> Object:
    return Object(index, size, (2.0, 1.5), (1, 1), (4, 3), (90.0,), 0.75, 8.0, 0.5, 0.9)


def file(name: str, *sizes: int, spacing: float | None = 0.5) -> Conclusion:
    pitch = None if spacing is None else (spacing, spacing)
    found = ((100 - sum(sizes), sum(sizes)), [cell(size) for size in sizes])
    return conclude((name, name), (10, 10), pitch, found, SPEC)


class Text(HTMLParser):
    """What a reader sees, and whether all elements are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in ("meta", "link", "br", "img", "path", "use"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        pass

    def handle_endtag(self, tag) -> None:
        if tag not in ("path", "use"):
            assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())


def page_of(folder: Path, *files: Conclusion, rules=()) -> str:
    page = write_conclusions_page(folder, files, SPEC, rules).read_text()
    seen = Text(page)
    assert not seen.open
    return " ".join(word for word in seen.words if word)


def test_counts_sizes_and_files_are_told(tmp_path) -> None:
    said = page_of(tmp_path, file("a.png", 4, 8), file("b.png", 6), file("c.png"))
    assert "cell 3 covers 6.00% of a file in the mean" in said
    assert "3 objects by area in mm²: 1 to 2, median 1.5." in said
    assert "3 files by how much of it the class covers: 0.00 % to 12.00 %." in said
    assert "odd <b> None was found in any file." in said
    assert said.index("a.png 2 12.00%") < said.index("b.png 1 6.00%") < said.index("c.png 0 0.00%")


def test_without_a_spacing_somewhere_sizes_are_in_positions(tmp_path) -> None:
    said = page_of(tmp_path, file("a.png", 4), file("b.png", 6, spacing=None))
    assert "2 objects by area in positions: 4 to 6, median 5." in said


def test_flagged_files_come_first_with_their_reason(tmp_path) -> None:
    table = tmp_path / "rules.csv"
    table.write_text("name,where,verdict\nfew,cell.count < 2,look <again>\n")
    figures = Figures(SPEC)
    rules = read_rules(table, figures.names)
    files = [figures.judge(each, rules[0]) for each in (file("a.png", 4, 8), file("b.png", 6))]
    said = page_of(tmp_path, *files, rules=rules)
    assert "Flagged 1 file file because b.png look <again>" in said
    assert said.index("b.png 1 6.00%") < said.index("a.png 2 12.00%")
    assert "share confidence flags b.png 1 6.00% 0 0.00% 0.750 few a.png" in said
    calm = page_of(tmp_path, *[replace(each, flags=()) for each in files], rules=rules)
    assert "No rule holds of any file." in calm


def test_names_are_never_markup(tmp_path) -> None:
    write_conclusions_page(tmp_path, [file("<script>x</script>.png", 4)], SPEC)
    assert "<script>" not in (tmp_path / "conclusions.html").read_text()


def test_the_rest_is_counted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(conclusions_page, "MOST_FILES", 2)
    said = page_of(tmp_path, *[file(f"{n}.png", 4) for n in range(5)])
    assert "3 files more in files.csv." in said


@pytest.mark.parametrize("dims", [1, 3])
def test_recordings_and_volumes_have_units_of_their_own(tmp_path, dims) -> None:
    spec = replace(SPEC, dims=dims, classes=("none", "cell"), values=(0, 1))
    nothing = (0.0,) * dims
    one = Object(1, 4, nothing, (0,) * dims, (2,) * dims, (1.0,), 0.5)
    made = conclude(("a", "a"), (10,) * dims, (0.5,) * dims, ((6, 4), [one]), spec)
    page = write_conclusions_page(tmp_path, [made], spec).read_text()
    assert ("length in s" if dims == 1 else "volume in mm³") in page


def test_no_file_at_all_is_a_page_too(tmp_path) -> None:
    assert "What a network says of 0 files" in page_of(tmp_path)
