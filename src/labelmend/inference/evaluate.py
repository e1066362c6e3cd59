"""How good are a run's predictions on labels that can be trusted."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelmend.data.whole import judge
from labelmend.errors import DataError, NonFiniteError
from labelmend.files.readers import load_verified, read_as, read_label
from labelmend.inference.predictor import Model, Predictor
from labelmend.metrics import Row, summarise
from labelmend.progress import Silent, Watcher
from labelmend.runs import write_atomically
from labelmend.types import Sample, Split


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found; also written to ``RUN/evaluation/SPLIT.csv`` and ``.json``.

    That of another ``model`` than the main network goes to ``RUN/evaluation-MODEL/``.
    """

    split: str
    step: int
    samples: tuple[Sample, ...]
    rows: tuple[Row, ...]
    mean: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    model: Model = "main"

    def to_json(self) -> dict[str, Any]:
        """Plain values; a figure that does not exist (a class that never occurs) is null."""
        return {
            "split": self.split,
            "step": self.step,
            "model": self.model,
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
        for row, sample in self._pairs():
            for name, numbers in row.items():
                figures = [_cell(numbers.get(metric)) for metric in names]
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

    def _remarks(self) -> list[str]:
        remarks = []
        if self.split in _CAUTION:
            remarks.append(f"{self.split}: {_CAUTION[self.split]}")
        if _DISTANCES & set(self.mean):
            remarks.append("distances and errors are in the unit of the files' spacing")
        metric = next((m for m in ("dice", "psnr") if m in self.mean), None)
        if metric is None or len(self.rows) < 2 * _WORST:
            return remarks
        figures = ((summarise([row])["mean"].get(metric, math.nan), s) for row, s in self._pairs())
        worst = sorted((f, s.label) for f, s in figures if math.isfinite(f))[:_WORST]
        return remarks + [f"lowest {metric}: {figure:.3f} {label}" for figure, label in worst]

    def _pairs(self) -> Iterator[tuple[Row, Sample]]:
        return zip(self.rows, self.samples, strict=True)


_WORST = 3
_DISTANCES = {"surface_distance", "hausdorff95", "onset_error", "offset_error"}
_CAUTION = {
    "train": "the network was trained on these samples: that is no sign of quality",
    "val": "these chose the best checkpoint; only a test split says how good it is",
}


def evaluate(
    predictor: Predictor, split: Split | None = None, *, watcher: Watcher | None = None
) -> Evaluation:
    """Compare predictions with the strong labels of a split, at the size of the files.

    Args:
        predictor: from :func:`load`, which also says which of two networks is judged.
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
        raise DataError(_no_sample(predictor, split))
    if not Path(data.root).is_dir():
        raise DataError(
            f"{data.root} does not exist any more, and {predictor.run.path} was trained on the "
            "data there; put it back"
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
        chosen,
        predictor.step,
        samples,
        tuple(rows),
        summary["mean"],
        summary["per_class"],
        predictor.model,
    )
    folder = predictor.folder("evaluation")
    write_atomically(folder / f"{chosen}.csv", result.to_csv().encode())
    text = json.dumps(result.to_json(), indent=2, allow_nan=False)
    write_atomically(folder / f"{chosen}.json", text.encode())
    return result


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
    spec, root = predictor.spec, Path(predictor.run.data.root)
    content = load_verified(root / sample.image, sample.image_sha256)
    raster = read_as(root / sample.image, spec, content=content)
    content = load_verified(root / sample.label, sample.label_sha256)
    label, valid = read_label(root / sample.label, spec, raster, content=content)
    try:
        scores = predictor.scores(raster)
    except NonFiniteError as error:
        raise NonFiniteError(f"{root / sample.image}: {error}") from error
    return judge(scores, label, valid, spec, spacing=raster.spacing, surface=True)


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
