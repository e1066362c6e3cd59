"""How good are a run's predictions on labels that can be trusted."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from labelmend.data.readers import load_verified, read_as, read_label
from labelmend.data.whole import judge
from labelmend.errors import DataError
from labelmend.inference.predictor import Predictor
from labelmend.metrics import Row, summarise
from labelmend.progress import Silent, Watcher
from labelmend.runs import write_atomically
from labelmend.types import Sample, Split


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found; also written to ``RUN/evaluation/SPLIT.csv`` and ``.json``."""

    split: str
    step: int
    samples: tuple[Sample, ...]
    rows: tuple[Row, ...]
    mean: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; a figure that does not exist (a class that never occurs) is null."""
        return {
            "split": self.split,
            "step": self.step,
            "samples": len(self.samples),
            "mean": _numbers(self.mean),
            "per_class": {name: _numbers(row) for name, row in self.per_class.items()},
        }

    def to_csv(self) -> str:
        """A line per sample and class."""
        names = sorted({m for row in self.rows for numbers in row.values() for m in numbers})
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["label", "image", "group", "class", *names])
        for sample, row in zip(self.samples, self.rows, strict=True):
            for name, numbers in row.items():
                figures = [_cell(numbers.get(metric)) for metric in names]
                writer.writerow([sample.label, sample.image, sample.group, name, *figures])
        return text.getvalue()

    def to_text(self) -> str:
        """A table for a person: a line per class and the mean over foreground classes."""
        metrics = list(self.mean)
        table = Table(title=f"{self.split}: {len(self.samples)} samples, step {self.step}")
        table.add_column("class")
        for metric in metrics:
            table.add_column(metric, justify="right")
        for name, row in self.per_class.items():
            table.add_row(name, *(_shown(row.get(m)) for m in metrics))
        table.add_section()
        table.add_row("mean of foreground", *(_shown(self.mean[m]) for m in metrics))
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(table)
        return console.export_text().rstrip()


def evaluate(
    predictor: Predictor, split: Split | None = None, *, watcher: Watcher | None = None
) -> Evaluation:
    """Compare predictions with the strong labels of a split, at the size of the files.

    Args:
        split: by default ``test``, or ``val`` where no strong sample is kept for testing.

    Raises:
        DataError: when the split has no strong sample, or a file changed since training.

    The trap: figures on ``val`` chose the best checkpoint and are no test figures.
    """
    watcher = watcher or Silent()
    data = predictor.run.data
    chosen: Split = split or ("test" if data.of("test", "strong") else "val")
    samples = data.of(chosen, "strong")
    if not samples:
        raise DataError(
            f"{data.root}: no strong label in split {chosen!r} to compare with; say which samples "
            "are for testing in manifest.csv or splits.csv, or set input.test_share"
        )
    watcher.start(len(samples), 0)
    rows = []
    try:
        for number, sample in enumerate(samples, 1):
            rows.append(judge_sample(predictor, sample))
            watcher.step(number, {})
    finally:
        watcher.finish()
    summary = summarise(rows)
    result = Evaluation(
        chosen, predictor.step, samples, tuple(rows), summary["mean"], summary["per_class"]
    )
    folder = predictor.run.folder("evaluation")
    write_atomically(folder / f"{chosen}.csv", result.to_csv().encode())
    text = json.dumps(result.to_json(), indent=2, allow_nan=False)
    write_atomically(folder / f"{chosen}.json", text.encode())
    return result


def judge_sample(predictor: Predictor, sample: Sample) -> Row:
    """Every metric of one sample, by class."""
    spec, root = predictor.spec, Path(predictor.run.data.root)
    content = load_verified(root / sample.image, sample.image_sha256)
    raster = read_as(root / sample.image, spec, content=content)
    content = load_verified(root / sample.label, sample.label_sha256)
    label, valid = read_label(root / sample.label, spec, raster, content=content)
    scores = predictor.scores(raster)
    return judge(scores, label, valid, spec, spacing=raster.spacing, surface=True)


def _numbers(row: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _shown(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
