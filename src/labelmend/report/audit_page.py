"""The page of an audit: which labels to look at first, why, and what they look like."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from labelmend.audit import Audit, Part, Ranked
from labelmend.audit.ranking import Order
from labelmend.audit.result import SUMS, folder_of, telling
from labelmend.errors import LabelmendError
from labelmend.inference.predictor import Predictor
from labelmend.progress import Silent, Watcher
from labelmend.report.audit_pictures import CSS, draw_case, draw_gain, moved_legend
from labelmend.report.document import chart, make_document, section
from labelmend.report.legend import is_paired, make_key, make_legend
from labelmend.report.markup import Child, Html, element, join, table
from labelmend.report.phrases import count
from labelmend.report.pictures import Painter
from labelmend.report.views import read_sample
from labelmend.runs import write_atomically
from labelmend.types import Sample

PAGE = "audit.html"
MOST_SHOWN, LEAST_SHOWN, ENOUGH = 60, 12, 0.95
"""At most so many labels are shown: those of the budget, or without one as many as hold so much of
what is to be gained, but so many at the least; the table file holds all."""
SCORES: dict[Order, str] = {
    "gain": "A score is how likely a label is wrong, times how much it still counts in training.",
    "wrong": "A score is how likely a label is wrong.",
}
"""What a score is."""
MOST_PARTS = 20
"""So many annotators, or groups, are listed."""


def write_audit_page(predictor: Predictor, audit: Audit, *, watcher: Watcher | None = None) -> Path:
    """Make one self-contained HTML page of an audit, in the folder its other files are in.

    Args:
        predictor: the network that looked.
        audit: what it found, with the budget if there is one.
        watcher: who sees the progress; nobody by default.

    Returns:
        The file that was written.

    Raises:
        StorageError: when the page cannot be kept.

    A trap: what cannot be shown (a file that changed meanwhile) is said in its place on the page.
    """
    folder = predictor.run.folder(folder_of(audit.model))
    page = _Maker(predictor, audit, watcher or Silent()).page()
    write_atomically(folder / PAGE, page.encode("utf-8", "replace"))
    return folder / PAGE


class _Maker:
    """Makes the parts of the page."""

    def __init__(self, predictor: Predictor, audit: Audit, watcher: Watcher) -> None:
        self.predictor, self.audit, self.watcher = predictor, audit, watcher
        spectrogram = predictor.preparation if predictor.preparation.spectrogram else None
        self.painter = Painter(predictor.spec, spectrogram)
        self.samples = {sample.label: sample for sample in predictor.run.data.samples}

    def page(self) -> str:
        """The whole document."""
        title = f"{self.predictor.run.path.name} · labelmend audit"
        sections = (self._summary(), self._gallery(), *self._parts())
        return make_document(title, self._header(), *sections, style=CSS)

    def _header(self) -> Html:
        run = self.predictor.run
        about = (
            f"Labels of data set “{Path(run.data.root).name}”, as the network of step "
            f"{self.audit.step:,} sees them"
        )
        about += "" if self.audit.model == "main" else f" (model {self.audit.model})"
        return element(
            "header",
            element("p", "labelmend audit", class_="brand"),
            element("h1", run.path.name),
            element("p", about, class_="about"),
        )

    def _summary(self) -> Html:
        audit = self.audit
        many = len(audit.best) if audit.budget is not None else self._shown
        weak = sum(one.quality == "weak" for one in audit.labels)
        strong = count(len(audit.labels) - weak, "strong one")
        lead = (
            f"Of {count(weak, 'weak label')} and {strong}, {audit.said(many)}. They come first, "
            "each with its reason."
        )
        command = f"labelmend review {shlex.quote(audit.run)}"
        following = join("To repair them: ", element("code", command))
        figures = [
            ("labels", f"{len(audit.labels):,}", f"{weak:,} weak"),
            (f"held by the best {many:,}", f"{100 * audit.share(many):.0f} %", SUMS[audit.order]),
            ("lie elsewhere", f"{sum(one.moves for one in audit.labels):,}", "by what is clear"),
            ("repeat others", f"{sum(bool(one.like) for one in audit.labels):,}", "come last"),
        ]
        return element(
            "section",
            element("h2", "Where to begin"),
            element("p", lead, class_="lead"),
            element(
                "dl",
                *(
                    element("div", element("dt", n), element("dd", v), element("dd", u))
                    for n, v, u in figures
                ),
                class_="figures",
            ),
            element("p", following, class_="next"),
            *(element("p", note, class_="note warning") for note in audit.notes),
            id="verdict",
            aria_label="Where to begin",
        )

    # ------------------------------------------------------------------ labels

    @property
    def _shown(self) -> int:
        audit = self.audit
        most = min(len(audit.best), MOST_SHOWN)
        if audit.budget is not None:
            return most
        known = (n for n in range(min(LEAST_SHOWN, most), most) if audit.share(n) >= ENOUGH)
        return next(known, most)

    def _gallery(self) -> Html:
        spec, shown = self.predictor.spec, self.audit.named[: self._shown]
        named = spec.dims == 1 and spec.task == "segmentation"  # lanes carry their own words
        items = make_legend(spec, () if named else ("label", "prediction"))
        lined = spec.task == "segmentation" and spec.dims > 1
        if lined and any(one.moves for one in shown):
            items.append(moved_legend())
        wide = spec.dims == 1 or spec.task == "regression"
        tiles = []
        self.watcher.start(len(shown), 0)
        try:
            for place, one in enumerate(shown, 1):
                tiles.append(self._tile(place, one))
                self.watcher.step(place, {})
        finally:
            self.watcher.finish()
        rest = len(self.audit.labels) - len(shown)
        more = f"{count(rest, 'label')} more in audit.csv." if rest else ""
        return section(
            "labels",
            "Labels to look at first",
            make_key("labels", spec, items),
            element("div", *tiles, class_="tiles" + " wide" * wide + " paired" * is_paired(spec)),
            element("p", more, class_="about") if more else None,
        )

    def _tile(self, place: int, one: Ranked) -> Html:
        picture, note = self._picture(self.samples[one.label], one)
        most = self.audit.labels[0].score
        bar = element(
            "span",
            element("span", style=f"width: {100 * one.score / most:.1f}%"),
            class_="bar",
            aria_hidden="true",
        )
        strong = element("span", "strong", class_="badge strong")
        head = [
            element("span", str(place), class_="place"),
            element("b", f"{one.score:.2f}"),
            bar,
            strong if one.quality == "strong" else None,
        ]
        split = "" if one.split == "train" else f"held out: {one.split}"
        weight = "" if one.weight is None or "weight" in one.reason else f"weight {one.weight:.2f}"
        details = " · ".join(text for text in (weight, one.annotator, split, note) if text)
        caption = element(
            "figcaption",
            element("span", *head, class_="head"),
            element("span", one.reason, class_="why"),
            element("code", one.label),
            element("span", details, class_="details") if details else None,
        )
        return element("figure", picture, caption, class_="tile", id=f"label-{place}")

    def _picture(self, sample: Sample, one: Ranked) -> tuple[Html, str]:
        root, spec = Path(self.predictor.run.data.root), self.predictor.spec
        alt = f"{one.image} with {one.label} and the prediction: {one.reason}"
        try:
            loaded = read_sample(root, sample, spec)
            prediction = self.predictor.decide(self.predictor.scores(loaded.raster))
            there = one.displacement if one.moves else None
            return draw_case(self.painter, loaded, prediction, there, alt)
        except LabelmendError as error:
            self.watcher.say(f"{one.label} cannot be shown: {error}")
            return element("p", f"Cannot be shown: {error}", class_="missing"), ""

    # ------------------------------------------------------------------ sums

    def _parts(self) -> list[Html]:
        audit = self.audit
        text = (
            "Scores added up in order, as a share of all; dashed: in no order. "
            f"{SCORES[audit.order]} By what is known; it is no measured frequency."
        )
        found = []
        if audit.named:
            gain = element("div", chart(draw_gain(audit), text), class_="charts")
            found.append(section("gain", "What a budget buys", gain))
        for name, parts in (("Annotators", audit.annotators), ("Groups", audit.groups)):
            if telling(parts):
                found.append(section(name.lower(), name, _table(name[:-1].lower(), parts)))
        return found


def _table(name: str, parts: Sequence[Part]) -> Html:
    rows: list[list[Child]] = []
    for part in parts[:MOST_PARTS]:
        figures = ["–" if v is None else f"{v:.2f}" for v in (part.weight, part.disagreement)]
        rows.append([part.name, f"{part.labels:,}", *figures, f"{100 * part.first:.0f} %"])
    head = [name, "labels", "mean weight", "mean disagreement", "in the first tenth"]
    more = len(parts) - MOST_PARTS
    text = "By the share of labels in the first tenth of the order, largest first"
    return table(head, rows, text + (f"; {more} more in audit.json." if more > 0 else "."))
