"""Read what a run recorded and put it into the forms that words and pictures are made from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelmend.errors import DamagedError
from labelmend.report.story import Course, Curve, Data, Judgement, Story, Weighing
from labelmend.runs import Run
from labelmend.training.assembly.parts import DEFAULT_STEPS
from labelmend.types import Sample


@dataclass(frozen=True, slots=True)
class WeightRow:
    """The latest weight of one weak training label; ``loss`` is ``None`` until it was judged."""

    sample: Sample
    weight: float
    similarity: float | None
    loss: float | None
    updated: bool


@dataclass(frozen=True, slots=True)
class Paths:
    """How weights moved: at every weight step, a value for every row, as it then stood."""

    steps: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Records:
    """Everything of a run that the page needs, apart from images."""

    story: Story
    rows: tuple[WeightRow, ...]
    paths: Paths


def gather(run: Run) -> Records:
    """All records of a run.

    Raises:
        DamagedError: for records that are not as they were written.
    """
    history = run.weight_history()
    rows = _rows(run, history)
    return Records(_story(run, rows, history), rows, _paths(run, rows, history))


def columns_of(rows: Sequence[WeightRow]) -> tuple[str, dict[str, tuple[float, ...]]]:
    """What to compare weights by (annotator, else group, else nothing), and the weights of each.

    Groups serve only where they hold several labels each on average: of single labels there is
    nothing to compare.
    """
    for name in ("annotator", "group"):
        parts: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            value = getattr(row.sample, name)
            if value:
                parts[value].append(row.weight)
        enough = name == "annotator" or len(rows) >= 3 * len(parts)
        if len(parts) > 1 and enough:
            return name, {key: tuple(values) for key, values in parts.items()}
    return "", {}


def main_metric(run: Run) -> str:
    """The metric by which predictions are ranked; larger is better."""
    return "dice" if run.data.spec.task == "segmentation" else "psnr"


def _story(run: Run, rows: Sequence[WeightRow], history: Sequence[Mapping[str, Any]]) -> Story:
    return Story(
        _data(run), _course(run), _weighing(run, rows, history), tuple(_judgements(run.path))
    )


def _data(run: Run) -> Data:
    data = run.data
    trained = data.of("train")
    return Data(
        strong=len(data.of("train", "strong")),
        weak=len(data.of("train", "weak")),
        groups=len({s.group for s in trained if s.group}),
        annotators=tuple(sorted({s.annotator for s in trained if s.annotator})),
        held_out={
            "val": len(data.of("val", "strong")),
            "test": len(data.of("test", "strong")),
        },
        left_out=len(run.problems),
        notes=tuple(data.notes),
    )


def _course(run: Run) -> Course:
    settings = run.settings
    train, metric = run.metrics("train"), main_metric(run)
    planned = None if settings.epochs is not None else settings.steps or DEFAULT_STEPS
    times = [record["seconds"] for record in train if "seconds" in record]
    return Course(
        steps=max((record["step"] for record in train), default=0),
        planned=planned,
        seconds=sum(times) if times else None,
        metric=metric,
        patience=settings.patience,
        loss=_curve(train, "loss"),
        loss_strong=_curve(train, "loss_strong"),
        loss_weak=_curve(train, "loss_weak"),
        held=_curve(run.metrics("val"), metric),
        rate=_curve(train, "learning_rate"),
    )


def _curve(records: Iterable[Mapping[str, Any]], name: str) -> Curve:
    pairs = [(r["step"], float(r[name])) for r in records if r.get(name) is not None]
    return Curve(tuple(step for step, _ in pairs), tuple(value for _, value in pairs))


def _weighing(
    run: Run, rows: Sequence[WeightRow], history: Sequence[Mapping[str, Any]]
) -> Weighing:
    chosen = run.settings.weighting
    by, parts = columns_of(rows)
    return Weighing(
        learned=chosen.method != "constant",
        used=run.settings.batch.strong_share != 1,
        initial=chosen.initial,
        start=max(chosen.start, 1),
        rounds=len(history),
        judged=sum(row.updated for row in rows),
        weights=tuple(row.weight for row in rows),
        by_annotator=parts if by == "annotator" else {},
    )


def _rows(run: Run, history: Sequence[Mapping[str, Any]]) -> tuple[WeightRow, ...]:
    """The weak training labels as the history leaves them, which is never behind a table.

    The table of latest weights is written with checkpoints only; the history at every weight step.
    """
    latest: dict[str, dict[str, float | None]] = defaultdict(dict)
    for record in history:
        for name, values in record["columns"].items():
            for sample, value in zip(run.weak, values, strict=True):
                if value is not None:
                    latest[sample.id][name] = value
    initial = run.settings.weighting.initial
    rows = []
    for sample in run.data.of("train", "weak"):
        found = latest.get(sample.id, {})
        weight = found.get("weight")
        rows.append(
            WeightRow(
                sample,
                initial if weight is None else weight,
                found.get("similarity"),
                found.get("loss"),
                weight is not None,
            )
        )
    return tuple(rows)


def _paths(run: Run, rows: Sequence[WeightRow], history: Sequence[Mapping[str, Any]]) -> Paths:
    wanted = {row.sample.id for row in rows}
    places = [i for i, sample in enumerate(run.weak) if sample.id in wanted]
    now = [run.settings.weighting.initial] * len(places)
    steps, weights = [0], [tuple(now)]
    for record in history:
        column = record["columns"]["weight"]
        now = [was if column[i] is None else column[i] for was, i in zip(now, places, strict=True)]
        steps.append(record["step"])
        weights.append(tuple(now))
    return Paths(tuple(steps), tuple(weights)) if history else Paths((), ())


def _judgements(path: Path) -> Iterable[Judgement]:
    for file in sorted((path / "evaluation").glob("*.json")):
        try:
            found = json.loads(file.read_bytes())
            yield Judgement(
                found["split"], found["step"], found["samples"], found["mean"], found["per_class"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"{file} is not an evaluation; remove it or run labelmend evaluate again"
            ) from error
