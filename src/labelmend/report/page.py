"""Put the page of a run together and keep it as one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from labelmend.data.prepare import Preparation
from labelmend.errors import LabelmendError, StorageError
from labelmend.inference.predictor import Predictor, load
from labelmend.progress import Silent, Watcher
from labelmend.report.document import make_document, say, section
from labelmend.report.gather import Records, WeightRow, gather
from labelmend.report.legend import is_paired, make_key, make_legend
from labelmend.report.markup import Child, Html, element, join
from labelmend.report.mixed_section import MIXED, make_course, make_examples
from labelmend.report.phrases import count, figure, metric_name
from labelmend.report.pictures import Painter
from labelmend.report.place_section import PLACES, make_places
from labelmend.report.places import gather_places
from labelmend.report.predictions import MOST_JUDGED, Choice, Shown, choose
from labelmend.report.reliability import RELIABILITY, make_reliability
from labelmend.report.sections import (
    make_evaluation,
    make_settings,
    make_training,
    make_verdict,
)
from labelmend.report.views import read_sample
from labelmend.report.weight_section import make_weights
from labelmend.runs import Run, write_atomically
from labelmend.types import Sample

MOST_LABELS = 8
"""So many labels with the lowest and so many with the highest weights are shown."""
MOST_CLASSES = 4
"""Of no more classes than this is every weight written beside a label."""


def write_report(
    run: Path,
    out: Path | None = None,
    *,
    network: str | None = None,
    watcher: Watcher | None = None,
) -> Path:
    """Make one self-contained HTML page of a run: words, curves, weights, labels, predictions.

    Args:
        run: the run folder; also of a training that is not finished.
        out: the page's file, by default ``report.html`` in the run folder.
        network: the run's own ``module:Class``, without which its code is not imported.
        watcher: who sees the progress; nobody by default.

    Returns:
        The file that was written.

    Raises:
        RunError: when the folder is no run; DamagedError when its records are damaged.
        StorageError: when the page cannot be kept.

    A trap: pictures need the images and labels the run began with. What cannot be shown (moved or
    changed files, no checkpoint, a network that was not named) is said in its place on the page.
    """
    opened = Run.open(run)
    maker = _Maker(opened, gather(opened), network, watcher or Silent())
    target = opened.path / "report.html" if out is None else out
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{target.parent} cannot be made ({error.strerror}); name another place with --out"
        ) from error
    write_atomically(target, maker.page().encode("utf-8", "replace"))
    return target


class _Maker:
    """Makes the sections that show samples."""

    def __init__(self, run: Run, records: Records, network: str | None, watcher: Watcher) -> None:
        self.run = run
        self.records = records
        self.network = network
        self.watcher = watcher
        prepared = run.facts.get("preparation", {})
        spectrogram = None
        if prepared.get("spectrogram"):
            spectrogram = Preparation(
                normalise="none",
                spectrogram=True,
                window=prepared["window"],
                hop=prepared["hop"],
            )
        self.painter = Painter(run.data.spec, spectrogram)
        self.placings = gather_places(run)
        self.reliability = make_reliability(run)

    def page(self) -> str:
        """The whole document."""
        story = self.records.story
        sections = [
            make_verdict(story),
            make_training(self.records),
            make_weights(self.records),
            *self._mixing(),
            *self._places(),
            self._labels(),
            self._predictions(),
            make_evaluation(self.run, story.judgements),
            *self.reliability,
            make_settings(self.run),
        ]
        title = f"{self.run.path.name} · labelmend report"
        return make_document(title, self._header(), *sections)

    def _header(self) -> Html:
        links = {
            "training": "Training",
            "weights": "Weights",
            **({"mixing": MIXED} if self.records.story.mixing else {}),
            **({"places": PLACES} if self.placings else {}),
            "labels": "Labels to look at",
            "predictions": "Predictions",
            "evaluation": "Evaluation",
            **({"reliability": RELIABILITY} if self.reliability else {}),
            "settings": "Settings",
        }
        spec = self.run.data.spec
        classes = ", ".join(spec.classes if spec.task == "regression" else spec.classes[1:])
        about = (
            f"{spec.dims}-D {spec.task} of {classes}, data set “{Path(self.run.data.root).name}”"
        )
        return element(
            "header",
            element("p", "labelmend report", class_="brand"),
            element("h1", self.run.path.name),
            element("p", about, class_="about"),
            element(
                "nav",
                *(element("a", title, href=f"#{name}") for name, title in links.items()),
                aria_label="Parts of this page",
            ),
        )

    # ------------------------------------------------------------------ mixed images

    def _mixing(self) -> list[Html]:
        mixing = self.records.story.mixing
        if mixing is None:
            return []
        spectrogram = self.painter.spectrogram is not None
        examples: Html
        try:
            examples = make_examples(self.run, mixing, spectrogram, self.network)
        except LabelmendError as error:
            self.watcher.say(f"mixed images cannot be shown: {error}")
            examples = say(f"They cannot be shown: {error}", "warning")
        return [section("mixing", MIXED, examples, *make_course(mixing))]

    # ------------------------------------------------------------------ labels put in place

    def _places(self) -> list[Html]:
        if self.placings is None:
            return []
        tell = self.watcher.say
        parts = make_places(self.run, self.placings, self.painter, self.network, tell)
        return [section("places", PLACES, *parts)]

    # ------------------------------------------------------------------ labels by weight

    def _labels(self) -> Html:
        title = "Labels to look at"
        rows = [row for row in self.records.rows if row.updated]
        if not rows:
            text = "No weak label was judged in this run, so there is no order to show them in."
            return section("labels", title, say(text))
        rows.sort(key=lambda row: (row.weight, row.average, -(row.loss or 0.0)))
        many = min(MOST_LABELS, (len(rows) + 1) // 2)
        parts: list[Child] = [self._switch("labels", prediction=False)]
        parts.append(element("h3", f"The {many} lowest weights" if many > 1 else "Lowest weight"))
        parts.append(self._tiles(self._weighted(row) for row in rows[:many]))
        top = rows[many:][-MOST_LABELS:][::-1]
        if top:
            name = f"The {len(top)} highest weights" if len(top) > 1 else "Highest weight"
            parts += [element("h3", name), self._tiles(self._weighted(row) for row in top)]
        return section("labels", title, *parts)

    def _weighted(self, row: WeightRow) -> Html:
        method = self.records.story.weighing.method
        bar = element(
            "span",
            element("span", style=f"width: {100 * row.weight / method.highest:.1f}%"),
            class_="bar",
            aria_hidden="true",
        )
        of = "" if method.highest == 1 else f" of {method.highest:g}"
        loss = "" if row.loss is None else f"loss {row.loss:#.3g}"
        details = [row.sample.annotator, _by_class(row, self.run.data.spec.classes), loss]
        head = join(element("b", f"weight {row.weight:.2f}{of}"), bar)
        alt = f"{row.sample.image} with the outline of {row.sample.label}"
        return self._tile(row.sample, None, head, details, alt)

    # ------------------------------------------------------------------ predictions

    def _predictions(self) -> Html:
        title = "Predictions beside labels"
        try:
            predictor = load(self.run, network=self.network)
            metric = self.records.story.course.metric
            choice = choose(predictor, metric, self.records.story.judgements, self.watcher)
        except LabelmendError as error:
            self.watcher.say(f"predictions cannot be shown: {error}")
            return section("predictions", title, say(f"They cannot be shown: {error}", "warning"))
        if choice is None:
            text = "No strong label was held out to compare predictions with."
            return section("predictions", title, say(text))
        tiles = [self._predicted(predictor, one, metric) for one in choice.shown]
        return section(
            "predictions",
            title,
            element("p", _explain(choice, metric, predictor.step)),
            self._switch("predictions", prediction=True),
            self._tiles(tiles),
        )

    def _predicted(self, predictor: Predictor, one: Shown, metric: str) -> Html:
        value = "no object" if one.value is None else figure(metric, one.value)
        name = metric_name(metric)
        head = join(
            element("b", f"{name} {value}"),
            element("span", one.place, class_="badge") if one.place else None,
        )
        alt = f"{one.sample.image} with outlines of label and prediction, {name} {value}"
        return self._tile(one.sample, predictor, head, [], alt)

    # ------------------------------------------------------------------ tiles

    def _tiles(self, tiles: Iterable[Html]) -> Html:
        wide = self.run.data.spec.dims == 1 or self.run.data.spec.task == "regression"
        paired = is_paired(self.run.data.spec)
        style = "tiles" + " wide" * wide + " paired" * paired
        return element("div", *tiles, class_=style)

    def _tile(
        self,
        sample: Sample,
        predictor: Predictor | None,
        head: Html,
        details: list[str],
        alt: str,
    ) -> Html:
        note = ""
        try:
            loaded = read_sample(Path(self.run.data.root), sample, self.run.data.spec)
            prediction: np.ndarray | None = None
            if predictor is not None:
                prediction = predictor.decide(predictor.scores(loaded.raster))
            picture, note = self.painter.draw(loaded, prediction, alt)
        except LabelmendError as error:
            self.watcher.say(f"{sample.label} cannot be shown: {error}")
            picture = element("p", f"Cannot be shown: {error}", class_="missing")
        shown = " · ".join(text for text in (*details, note) if text)
        caption = element(
            "figcaption",
            element("span", head, class_="head"),
            element("code", sample.label),
            element("span", shown, class_="details") if shown else None,
        )
        return element("figure", picture, caption, class_="tile")

    def _switch(self, name: str, *, prediction: bool) -> Html | None:
        """The legend, and a box that hides the outlines where there are any."""
        spec = self.run.data.spec
        kinds = ("label", "prediction") if prediction else ("label",)
        return make_key(name, spec, make_legend(spec, kinds))


def _by_class(row: WeightRow, classes: Sequence[str]) -> str:
    """The weights of a label's classes; of many the lowest."""
    if not row.by_class:
        return ""
    pairs = sorted(zip(row.by_class, classes, strict=True), key=lambda pair: pair[0])
    if len(pairs) > MOST_CLASSES:
        return f"lowest: {pairs[0][1]} {pairs[0][0]:.2f}"
    return ", ".join(f"{name} {weight:.2f}" for weight, name in pairs)


def _explain(choice: Choice, metric: str, step: int) -> str:
    shown = len(choice.shown)
    of = count(choice.total, "strong label")
    text = f"{shown} of {of} of the {choice.split} split, predicted at step {step:,}"
    refused = min(choice.total, MOST_JUDGED) - choice.judged
    if refused > 0:
        text += f"; {refused} could not be predicted"
    if shown < choice.judged:
        text += f": those with the worst, middle and best {metric_name(metric)}"
        if choice.judged < choice.total:
            text += f" among {choice.judged} that were looked at, evenly spread"
    elif shown > 1:
        text += ", worst first"
    return text + "."
