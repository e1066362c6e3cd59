"""The page of conclusions: what all files hold, which are flagged, how large objects are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labelmend.inference.conclusions import UNITS, Conclusion, Figures
from labelmend.inference.rules import Rule
from labelmend.report.canvas import HELD, STRONG, STYLE, to_svg
from labelmend.report.document import chart, make_document, section
from labelmend.report.markup import Child, Html, element, table
from labelmend.report.phrases import count
from labelmend.runs import write_atomically
from labelmend.types import DataSpec

PAGE = "conclusions.html"
MOST_FILES = 500
"""So many files are listed; the table file holds all."""


def write_conclusions_page(
    folder: Path, conclusions: Sequence[Conclusion], spec: DataSpec, rules: Sequence[Rule] = ()
) -> Path:
    """Make one self-contained HTML page of what was counted and measured, beside its tables.

    Args:
        folder: where :func:`labelmend.inference.conclusions.write_conclusions` wrote.
        conclusions: one per file, judged by the rules already.
        spec: names the classes.
        rules: what their flags mean.

    Returns:
        ``conclusions.html``.

    Raises:
        StorageError: when the page cannot be kept.

    The trap: sizes are shown in physical units only where every file has a spacing.
    """
    page = _Maker(folder, conclusions, spec, rules).page()
    write_atomically(folder / PAGE, page.encode("utf-8", "replace"))
    return folder / PAGE


class _Maker:
    """Makes the parts of the page."""

    def __init__(
        self,
        folder: Path,
        conclusions: Sequence[Conclusion],
        spec: DataSpec,
        rules: Sequence[Rule],
    ) -> None:
        self.folder, self.files, self.spec = folder, conclusions, spec
        self.verdicts = {rule.name: rule.verdict or rule.name for rule in rules}
        figures = Figures(spec)
        self.summaries = [figures.summary(each) for each in conclusions]
        self.physical = bool(conclusions) and all(each.spacing is not None for each in conclusions)

    def page(self) -> str:
        """The whole document."""
        about = f"What a network says of {count(len(self.files), 'file')}"
        header = element(
            "header",
            element("p", "labelmend conclusions", class_="brand"),
            element("h1", self.folder.parent.name),
            element("p", about, class_="about"),
        )
        classes = map(self._class, self.spec.classes[1:])
        sections = (self._summary(), self._flagged(), *classes, self._table())
        title = f"{self.folder.parent.name} · labelmend conclusions"
        return make_document(title, header, *sections)

    def _summary(self) -> Html:
        cards: list[Html] = []
        for name in self.spec.classes[1:]:
            burdens = [summary[name]["burden"] or 0.0 for summary in self.summaries]
            mean = f"{statistics.fmean(burdens):.2%}" if burdens else "–"
            cards.append(
                element(
                    "div",
                    element("dt", name),
                    element("dd", f"{self._count(name):,}"),
                    element("dd", f"covers {mean} of a file in the mean"),
                )
            )
        lead = "Objects are connected pieces of one class; in recordings, stretches of it. "
        lead += "Confidence is what the network says of itself."
        return element(
            "section",
            element("h2", "What was found"),
            element("p", lead, class_="lead"),
            element("dl", *cards, class_="figures"),
            id="verdict",
            aria_label="What was found",
        )

    def _flagged(self) -> Html | None:
        if not self.verdicts:
            return None
        rows: list[list[Child]] = [
            [each.file, "; ".join(self.verdicts.get(name, name) for name in each.flags)]
            for each in self.files
            if each.flags
        ]
        if not rows:
            return section("flagged", "Flagged", element("p", "No rule holds of any file."))
        return section(
            "flagged", "Flagged", table(["file", "because"], rows, count(len(rows), "file"))
        )

    # ------------------------------------------------------------------ a class

    def _class(self, name: str) -> Html:
        sizes = self._sizes(name)
        burdens = [100 * (summary[name]["burden"] or 0.0) for summary in self.summaries]
        if not sizes:
            return section(_anchor(name), name, element("p", "None was found in any file."))
        what = self._what()
        spread = f"{min(sizes):.4g} to {max(sizes):.4g}, median {statistics.median(sizes):.4g}"
        by_size = chart(
            _histogram(sizes, what, f"size-{_anchor(name)}", STRONG),
            f"{count(len(sizes), 'object')} by {what}: {spread}.",
        )
        by_share = chart(
            _histogram(burdens, "share of a file in %", f"burden-{_anchor(name)}", HELD),
            f"{count(len(burdens), 'file')} by how much of it the class covers: "
            f"{min(burdens):.2f} % to {max(burdens):.2f} %.",
        )
        return section(_anchor(name), name, element("div", by_size, by_share, class_="charts"))

    def _count(self, name: str) -> int:
        return int(sum(summary[name]["count"] or 0 for summary in self.summaries))

    def _what(self) -> str:
        measure, _, power = UNITS[self.spec.dims]
        shown = power.replace("2", "²").replace("3", "³")
        return f"{measure} in {shown if self.physical else 'positions'}"

    def _sizes(self, name: str) -> list[float]:
        measure, _, power = UNITS[self.spec.dims]
        column = f"{measure}_{power}" if self.physical else measure
        rows = (row for each in self.files for row in each.objects if row["class"] == name)
        return [float(row[column]) for row in rows]

    # ------------------------------------------------------------------ files

    def _table(self) -> Html:
        """All files: flagged ones first, then by how much of them is not background."""
        order = sorted(
            range(len(self.files)),
            key=lambda n: (not self.files[n].flags, -self._burden(n), self.files[n].file),
        )
        names = self.spec.classes[1:]
        head = ["file", *(f"{name}: {what}" for name in names for what in ("count", "share"))]
        head += ["confidence", "flags"]
        rows: list[list[Child]] = []
        for n in order[:MOST_FILES]:
            each, summary = self.files[n], self.summaries[n]
            cells: list[Child] = [each.file]
            for name in names:
                cells += [f"{summary[name]['count']:,}", f"{summary[name]['burden'] or 0.0:.2%}"]
            sure = [float(row["confidence"]) for row in each.objects]
            cells += [f"{statistics.fmean(sure):.3f}" if sure else "–", ", ".join(each.flags)]
            rows.append(cells)
        rest = len(order) - len(rows)
        more = f"{count(rest, 'file')} more in files.csv." if rest else "All of it: files.csv."
        caption = "flagged files first, then those with most of all classes"
        return section("files", "Files", table(head, rows, caption), element("p", more))

    def _burden(self, number: int) -> float:
        return sum(each["burden"] or 0.0 for each in self.summaries[number].values())


def _anchor(name: str) -> str:
    """A name that can stand in an address."""
    return "class-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in name)


def _histogram(values: Sequence[float], what: str, name: str, colour: str) -> Html:
    """How many values lie where; as many bars as tell something."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 2.8), layout="constrained")
        axes = figure.subplots()
        bars = min(max(int(math.sqrt(len(values))), 5), 40)
        axes.hist(np.asarray(values), bins=bars, color=colour, rwidth=0.92)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel(what)
        return to_svg(figure, name)
