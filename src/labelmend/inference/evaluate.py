"""How good are a run's predictions on labels that can be trusted."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelmend.data.whole import judge
from labelmend.errors import DataError, NonFiniteError, SettingsError
from labelmend.files.readers import load_verified, read_as, read_label
from labelmend.inference.offsets import (
    Case,
    Offset,
    Pool,
    best,
    check_tolerance,
    fit,
    main_metric,
)
from labelmend.inference.predictor import Model, Predictor
from labelmend.inference.reliability import Answers, Reliability, Tally
from labelmend.metrics import Row, summarise
from labelmend.progress import Silent, Watcher, go_through
from labelmend.runs import write_atomically
from labelmend.telling import Telling
from labelmend.types import DataSpec, Sample, Split


@dataclass(frozen=True, slots=True)
class Tolerant:
    """Figures as they were if every label had stood at its best place within a few positions.

    A label is moved only where that makes Dice (in regression: PSNR) of its sample better, and
    figures are over what is still valid. The trap: the best of many places flatters; these stand
    beside the raw figures and never for them.

    Attributes:
        tolerance: how many positions a label may move along every axis.
        displacements: by how much each one does, one whole number per axis.
        rows: figures per sample, without the slow distances between surfaces.
        mean: of them all.
        per_class: likewise.
    """

    tolerance: int
    displacements: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    mean: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]

    def said(self) -> str:
        """One sentence for a person."""
        figures = ", ".join(f"{name} {_shown(value)}" for name, value in self.mean.items())
        return (
            "shift-tolerant, each label at its best place within "
            f"{self.tolerance} position{'s' * (self.tolerance != 1)}: {figures}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, and the sentence."""
        return {
            "mean": _numbers(self.mean),
            "per_class": {name: _numbers(row) for name, row in self.per_class.items()},
            "said": self.said(),
        }


@dataclass(frozen=True, slots=True)
class Evaluation(Telling):
    """What an evaluation found; also written to ``RUN/evaluation/SPLIT.csv`` and ``.json``.

    That of another ``model`` than the main network goes to ``RUN/evaluation-MODEL/``. ``rows``,
    ``mean`` and ``per_class`` are raw: of labels where they are. ``tolerant`` and ``offset`` are
    None where they were not asked for. ``reliability`` says how far probabilities by
    ``temperature`` can be taken at their word; None for regression.
    """

    split: str
    step: int
    samples: tuple[Sample, ...]
    rows: tuple[Row, ...]
    mean: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    model: Model = "main"
    tolerant: Tolerant | None = None
    offset: Offset | None = None
    reliability: Reliability | None = None
    temperature: float = 1.0

    def __repr__(self) -> str:
        metric, figure = next(iter(self.mean.items()), ("dice", None))
        facts = f"step={self.step}, labels={len(self.samples)}, {metric}={_shown(figure)}"
        other = "" if self.model == "main" else f", model={self.model!r}"
        return f"Evaluation({self.split!r}, {facts}{other})"

    def to_json(self) -> dict[str, Any]:
        """Plain values; a figure that does not exist (a class that never occurs) is null."""
        return {
            "split": self.split,
            "step": self.step,
            "model": self.model,
            "samples": len(self.samples),
            "mean": _numbers(self.mean),
            "per_class": {name: _numbers(row) for name, row in self.per_class.items()},
            "tolerance": 0 if self.tolerant is None else self.tolerant.tolerance,
            "shift_tolerant": None if self.tolerant is None else self.tolerant.to_json(),
            "offset": None if self.offset is None else self.offset.to_json(self.mean),
            "temperature": self.temperature,
            "calibration_error": None if self.reliability is None else self.reliability.ece,
        }

    def to_csv(self) -> str:
        """A line per sample and class: raw figures, then shift-tolerant ones and the move."""
        names, more = _metrics(self.rows), _metrics(self.tolerant.rows) if self.tolerant else []
        moved = ["displacement"] if self.tolerant else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        beside = [f"tolerant_{metric}" for metric in more]
        writer.writerow(["label", "image", "group", "class", *names, *beside, *moved])
        for number, (row, sample) in enumerate(self._pairs()):
            for name, numbers in row.items():
                figures = [_cell(numbers.get(metric)) for metric in names]
                if self.tolerant:
                    there = self.tolerant.rows[number][name]
                    figures += [_cell(there.get(metric)) for metric in more]
                    figures.append(" ".join(map(str, self.tolerant.displacements[number])))
                writer.writerow([sample.label, sample.image, sample.group, name, *figures])
        return text.getvalue()

    def to_text(self) -> str:
        """A table for a person: a line per class, the mean, what the figures are, the worst."""
        metrics = list(self.mean)
        lines = [["", *metrics]]
        for name, row in (*self.per_class.items(), ("mean", self.mean)):
            lines.append([name, *(_shown(row.get(metric)) for metric in metrics)])
        many = len(self.samples)
        title = f"{self.split}: {many} strong label{'s' * (many != 1)}, step {self.step}"
        title += "" if self.model == "main" else f", model {self.model}"
        return "\n".join([title, "", *_aligned(lines), "", *self._remarks()])

    def sentences(self) -> list[str]:
        """What was found by moving labels, a sentence each; none where nothing was moved."""
        said = [] if self.tolerant is None else [self.tolerant.said()]
        return said if self.offset is None else [*said, self.offset.said(self.mean)]

    def _remarks(self) -> list[str]:
        remarks = []
        if self.split in _CAUTION:
            remarks.append(f"{self.split}: {_CAUTION[self.split]}")
        if _DISTANCES & set(self.mean):
            remarks.append(
                "distances and errors are in the files' unit, positions where none is known"
            )
        if self.reliability is not None:
            by = (
                f"temperature {self.temperature:.3f}" if self.temperature != 1 else "no temperature"
            )
            remarks.append(f"expected calibration error: {self.reliability.ece:.3f} ({by})")
        for said in self.sentences():
            remarks += textwrap.wrap(said, 80, subsequent_indent="  ", break_on_hyphens=False)
        metric = next((m for m in ("dice", "psnr") if m in self.mean), None)
        if metric is None or len(self.rows) < 2 * _WORST:
            return remarks
        figures = ((summarise([row])["mean"].get(metric, math.nan), s) for row, s in self._pairs())
        worst = sorted((f, s.label) for f, s in figures if math.isfinite(f))[:_WORST]
        return remarks + [f"lowest {metric}: {figure:.3f} {label}" for figure, label in worst]

    def _pairs(self) -> Iterator[tuple[Row, Sample]]:
        return zip(self.rows, self.samples, strict=True)


_WORST = 3
_SURFACE = {"surface_distance", "hausdorff95"}
_DISTANCES = {"surface_distance", "hausdorff95", "onset_error", "offset_error"}
_CAUTION = {
    "train": "the network was trained on these samples: that is no sign of quality",
    "val": "these chose the best checkpoint; only a test split says how good it is",
}


def evaluate(
    predictor: Predictor,
    split: Split | None = None,
    *,
    tolerance: int = 8,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Compare predictions with the strong labels of a split, at the size of the files.

    Beside these raw figures, labels are moved, by whole positions of the files: each to its best
    place, and all by one displacement, for a network that was trained on labels that are all off
    learns to be off, and labels that are judged by may be off as well.

    Args:
        predictor: from :func:`load`, which also says which of two networks is judged.
        split: by default ``test``, or ``val`` where no strong sample is kept for testing.
        tolerance: how many positions labels may be moved along every axis; 0 moves none.

    Raises:
        DataError: when the split has no strong sample, or a file changed since training.
        SettingsError: for a tolerance below 0, or too large to be searched, or what is no
            predictor.

    The trap: figures on ``val`` chose the best checkpoint and are no test figures.
    """
    if not isinstance(predictor, Predictor):
        kind = type(predictor).__name__
        raise SettingsError(f"what is evaluated is a Predictor, labelmend.load(run), not a {kind}")
    watcher = watcher or Silent()
    check_tolerance(tolerance, predictor.spec.dims)
    chosen, samples = _samples(predictor, split)
    judging = _Judging(predictor, tolerance)
    go_through(samples, judging.add, watcher)
    summary = summarise(judging.rows)
    result = Evaluation(
        chosen,
        predictor.step,
        samples,
        tuple(judging.rows),
        summary["mean"],
        summary["per_class"],
        predictor.model,
        judging.tolerant() if tolerance else None,
        judging.offset(samples, summary["mean"], watcher) if tolerance else None,
        judging.reliability(),
        predictor.temperature,
    )
    folder = predictor.folder("evaluation")
    write_atomically(folder / f"{chosen}.csv", result.to_csv().encode())
    text = json.dumps(result.to_json(), indent=2, allow_nan=False)
    write_atomically(folder / f"{chosen}.json", text.encode())
    return result


MOST_KEPT = 2**28
"""Bytes of predictions that are kept until it is known whether they are all off; of those that
are more, images are predicted once more if they are."""


class _Judging:
    """The figures of one sample after the other, and what moving labels would change."""

    def __init__(self, predictor: Predictor, tolerance: int) -> None:
        self.predictor, self.tolerance = predictor, tolerance
        self.rows: list[Row] = []
        self._moved: list[Row] = []
        self._displacements: list[tuple[int, ...]] = []
        self._pool = Pool(tolerance, predictor.spec.dims)
        self._kept: dict[str, Case] = {}
        self._tally = Tally()
        self._room = MOST_KEPT

    def add(self, sample: Sample) -> None:
        """Judge a sample."""
        case = open_case(self.predictor, sample)
        self.rows.append(_judged(case, self.predictor.spec, surface=True))
        if self.predictor.spec.task != "regression":
            answers = Answers(case.scores[:, case.valid], case.label[case.valid])
            self._tally.add(answers, self.predictor.temperature)
        if self.tolerance:
            self._search(case, self.rows[-1])
            light = case.decided()
            self._room -= light.size
            if self._room >= 0:
                self._kept[sample.id] = light

    def _search(self, case: Case, raw: Row) -> None:
        score, scored = fit(case, self.predictor.spec, self.tolerance)
        self._pool.add(score, scored)
        there = best(score, scored)
        row = {c: {m: v for m, v in own.items() if m not in _SURFACE} for c, own in raw.items()}
        if any(there):
            moved = _judged(case.moved(there), self.predictor.spec)
            if _figure(moved) > _figure(row):
                row = moved
            else:  # what fits best by one measure may not by another
                there = (0,) * len(there)
        self._moved.append(row)
        self._displacements.append(there)

    def reliability(self) -> Reliability | None:
        """How far probabilities can be taken at their word; None where nothing says so."""
        found = self._tally.result()
        return found if found.bins else None

    def tolerant(self) -> Tolerant:
        """The figures with every label at its best place."""
        summary = summarise(self._moved)
        return Tolerant(
            self.tolerance,
            tuple(self._displacements),
            tuple(self._moved),
            summary["mean"],
            summary["per_class"],
        )

    def offset(
        self, samples: Sequence[Sample], raw: Mapping[str, float], watcher: Watcher
    ) -> Offset:
        """What all labels have in common, and the figures when all are moved by it."""
        found, spec = self._pool.offset(), self.predictor.spec
        if found.displacement is None or not found.found:
            return found
        there, rows = found.displacement, list[Row]()

        def add(sample: Sample) -> None:
            case = self._kept.get(sample.id) or open_case(self.predictor, sample)
            rows.append(_judged(case.moved(there), spec))

        go_through(samples, add, watcher)
        return found.judged(summarise(rows)["mean"], raw)


def _samples(predictor: Predictor, split: Split | None) -> tuple[Split, tuple[Sample, ...]]:
    """The split that is judged, and its strong samples."""
    data = predictor.run.data
    chosen: Split = split or ("test" if data.of("test", "strong") else "val")
    samples = data.of(chosen, "strong")
    if not samples:
        raise DataError(_no_sample(predictor, split))
    predictor.run.data_folder()
    return chosen, samples


def _no_sample(predictor: Predictor, split: Split | None) -> str:
    every: tuple[Split, ...] = ("train", "val", "test")
    counts = {name: len(predictor.run.data.of(name, "strong")) for name in every}
    there = [f"{count} in {name} (--split {name})" for name, count in counts.items() if count]
    kept = Path(predictor.run.data.root) / "splits.csv"
    remove = f"remove {kept} and " if kept.exists() else ""
    return (
        f"{predictor.run.path}: no strong label in {split or 'test or val'} to compare with; "
        f"there are {' and '.join(there) or 'none at all'}; to keep some apart in a new run, say "
        f"so in manifest.csv, or {remove}train with --set input.test_share=0.2"
    )


def judge_sample(predictor: Predictor, sample: Sample) -> Row:
    """Every metric of one sample, by class."""
    return _judged(open_case(predictor, sample), predictor.spec, surface=True)


def open_case(predictor: Predictor, sample: Sample) -> Case:
    """A sample read and predicted.

    Raises:
        DataError: when a file is not the one that the run began with; NonFiniteError: naming it.
    """
    spec, root = predictor.spec, Path(predictor.run.data.root)
    content = load_verified(root / sample.image, sample.image_sha256)
    raster = read_as(root / sample.image, spec, content=content)
    content = load_verified(root / sample.label, sample.label_sha256)
    label, valid = read_label(root / sample.label, spec, raster, content=content)
    try:
        scores = predictor.scores(raster)
    except NonFiniteError as error:
        raise NonFiniteError(f"{root / sample.image}: {error}") from error
    return Case(scores, label, valid, raster.spacing)


def _judged(case: Case, spec: DataSpec, *, surface: bool = False) -> Row:
    return judge(case.scores, case.label, case.valid, spec, spacing=case.spacing, surface=surface)


def _figure(row: Row) -> float:
    """The figure of a sample that decides which place is better; NaN if there is none."""
    mean = summarise([row])["mean"]
    return mean[main_metric(mean)]


def _metrics(rows: Sequence[Row]) -> list[str]:
    return sorted({m for row in rows for numbers in row.values() for m in numbers})


def _numbers(row: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _shown(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text: the first to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
