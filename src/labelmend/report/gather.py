"""Read what a run recorded and put it into the forms that words and pictures are made from."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelmend.errors import DamagedError
from labelmend.report.story import (
    Course,
    Curve,
    Data,
    Endings,
    Judgement,
    Method,
    Mixing,
    Story,
    Weighing,
)
from labelmend.runs import Run
from labelmend.training.assembly.mixing import predicts
from labelmend.training.assembly.parts import DEFAULT_STEPS
from labelmend.training.assembly.weighing import table as initial_weights
from labelmend.training.assembly.weighing import trusted_and_trained
from labelmend.training.endings import Ending
from labelmend.types import Sample
from labelmend.verdict import read_verdict


@dataclass(frozen=True, slots=True)
class WeightRow:
    """The latest weight of one weak training label.

    Attributes:
        sample: the label.
        began: its weight before the first weight step.
        weight: the latest; the mean over classes where each has its own.
        by_class: the latest weight of every class, in their order; empty where they share one.
        similarity: the latest; None before the first, and where nobody asks for it.
        loss: likewise, its own loss when it was judged.
        looks: how often it was judged.
        average: the mean of its weight over all moves, which ranks what ended at 0 or 1 alike.
        moved: whether its weight changed.
    """

    sample: Sample
    began: float
    weight: float
    by_class: tuple[float, ...]
    similarity: float | None
    loss: float | None
    looks: int
    average: float
    moved: bool

    @property
    def updated(self) -> bool:
        """Whether it was judged, or moved with others that were."""
        return self.looks > 0 or self.moved


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


def classes_of(run: Run) -> tuple[str, ...]:
    """The classes that have weights of their own, in their order; none where they share one."""
    return run.data.spec.classes if run.settings.weighting.per == "class" else ()


def columns_of(
    rows: Sequence[WeightRow], per: str = "sample"
) -> tuple[str, dict[str, tuple[float, ...]]]:
    """What to compare weights by (annotator, else group, else nothing), and the weights of each.

    Groups serve only where they hold several labels each on average: of single labels there is
    nothing to compare. Where labels share weights, they are compared by what they share them by.
    """
    for name in ("annotator", "group"):
        parts: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            value = getattr(row.sample, name)
            if value:
                parts[value].append(row.weight)
        enough = len(parts) > 1 and (name == "annotator" or len(rows) >= 3 * len(parts))
        if per == name or (enough and per not in ("annotator", "group")):
            return name, {key: tuple(values) for key, values in parts.items()}
    return "", {}


def main_metric(run: Run) -> str:
    """The metric by which predictions are ranked; larger is better."""
    return "dice" if run.data.spec.task == "segmentation" else "psnr"


def _story(run: Run, rows: Sequence[WeightRow], history: Sequence[Mapping[str, Any]]) -> Story:
    return Story(
        _data(run),
        _course(run),
        _weighing(run, rows, history),
        tuple(_judgements(run.path)),
        _mixing(run) if run.settings.mixing.use else None,
        read_verdict(run),
    )


def _data(run: Run) -> Data:
    data = run.data
    trained = data.of("train")
    return Data(
        strong=len(trusted_and_trained(run.settings, data)[1]),
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
    if planned is not None and "ending" in run.facts:
        planned = Ending(**run.facts["ending"]).total(planned)
    times = [record["seconds"] for record in train if "seconds" in record]
    kept = kept_part(run)
    told = [record for record in train if kept(record["step"])]
    return Course(
        steps=max((record["step"] for record in train), default=0),
        planned=planned,
        seconds=sum(times) if times else None,
        metric=metric,
        patience=settings.patience,
        loss=curve(told, "loss"),
        loss_strong=curve(told, "loss_strong"),
        loss_weak=curve(told, "loss_weak"),
        held=curve([r for r in run.metrics("val") if kept(r["step"])], metric),
        rate=curve(told, "learning_rate"),
        endings=_endings(run),
    )


def kept_part(run: Run) -> Callable[[int], bool]:
    """Whether the network as it is took a step: of two endings, one is not its own."""
    planned, chosen = run.facts.get("ending"), _endings(run)
    if planned is None or planned["fork"] is None:
        return lambda _: True
    fork, strong_from = planned["fork"], planned["strong_from"]
    if chosen is not None and chosen.kept == "as_is":
        return lambda step: step <= strong_from
    begun = chosen is not None or any(r["step"] > strong_from for r in run.metrics("train"))
    return lambda step: not (begun and fork < step <= strong_from)


def _endings(run: Run) -> Endings | None:
    """The two that were chosen between; None before that, and where there is but one."""
    told = run.metrics("ending")
    if not told:
        return None
    planned, last = run.facts["ending"], told[-1]
    length = planned["strong_from"] - planned["fork"]
    figures = last["as_is"], last["strong"], last["kept"], last.get("trust")
    return Endings(planned["fork"], length, *figures)


def _mixing(run: Run) -> Mixing:
    settings, train = run.settings, run.metrics("train")
    return Mixing(
        two=settings.dual.use,
        predicted=predicts(settings),
        trusted=settings.mixing.target == "trusted",
        averaged=settings.mixing.average > 0,
        gate=settings.mixing.gate,
        loss=curve(train, "mixed_loss"),
        gated=curve(train, "gated"),
        gain=curve(train, "gain"),
        disagreement=curve(train, "disagreement"),
    )


def curve(records: Iterable[Mapping[str, Any]], name: str) -> Curve:
    """A figure of some records, where they have it."""
    pairs = [(r["step"], float(r[name])) for r in records if r.get(name) is not None]
    return Curve(tuple(step for step, _ in pairs), tuple(value for _, value in pairs))


def _weighing(
    run: Run, rows: Sequence[WeightRow], history: Sequence[Mapping[str, Any]]
) -> Weighing:
    method, steps = _method(run), run.metrics("weights")
    by, parts = columns_of(rows, method.per)
    return Weighing(
        method,
        used=run.settings.batch.strong_share != 1,
        rounds=len(history),
        began=tuple(row.began for row in rows),
        weights=tuple(row.weight for row in rows),
        looks=tuple(row.looks for row in rows),
        moved=tuple(row.moved for row in rows),
        by_class={
            name: tuple(row.by_class[place] for row in rows)
            for place, name in enumerate(classes_of(run))
        },
        by=by,
        parts=parts,
        agreement=curve(steps, "agreement"),
        notes=tuple(dict.fromkeys(step["note"] for step in steps if step.get("note"))),
    )


def _method(run: Run) -> Method:
    chosen, settings = run.settings.weighting, run.settings
    # Runs from before there were such facts meant other things by some words.
    known: Mapping[str, Any] = run.facts.get("weighing", {})
    trusted, trained = trusted_and_trained(settings, run.data)
    start = known.get("start", chosen.start)
    return Method(
        learned=chosen.method != "constant",
        signal=chosen.signal if known else "",
        per=chosen.per,
        use=chosen.use,
        apart=settings.batch.strong_share is not None,
        highest=chosen.highest,
        band=chosen.mean,
        given=run.facts.get("given_weights") is not None,
        shuffled=chosen.shuffled,
        held_out=0 if trained == trusted else len(trusted),
        start=None if start is None else max(start, 1),
        every=known.get("every"),
        judged=known.get("judged"),
        cost=known.get("cost"),
    )


def _rows(run: Run, history: Sequence[Mapping[str, Any]]) -> tuple[WeightRow, ...]:
    """The weak training labels as the history leaves them, which is never behind a table.

    The table of latest weights is written with checkpoints only; the history at every weight step.
    """
    latest: dict[str, dict[str, float]] = defaultdict(dict)
    looks: dict[str, int] = defaultdict(int)
    course: dict[str, list[float]] = defaultdict(list)
    for record in history:
        for name, values in record["columns"].items():
            for sample, value in zip(run.weak, values, strict=True):
                if value is not None:
                    latest[sample.id][name] = value
                    looks[sample.id] += name == "loss"
                    if name == "weight":
                        course[sample.id].append(value)
    began = _began(run)
    return tuple(
        _row(sample, began[sample.id], latest[sample.id], looks[sample.id], course[sample.id])
        for sample in run.data.of("train", "weak")
    )


def _row(
    sample: Sample,
    began: Mapping[str, float],
    latest: Mapping[str, float],
    looks: int,
    course: Sequence[float],
) -> WeightRow:
    """``began`` and ``latest`` have the names of the history's columns."""
    now = {name: latest.get(name, value) for name, value in began.items()}
    return WeightRow(
        sample,
        began["weight"],
        now["weight"],
        tuple(value for name, value in now.items() if name != "weight"),
        latest.get("similarity"),
        latest.get("loss"),
        looks,
        statistics.fmean(course or [began["weight"]]),
        any(not math.isclose(now[name], began[name], abs_tol=1e-6) for name in now),
    )


def _began(run: Run) -> dict[str, dict[str, float]]:
    """The weights of every weak label before the first weight step, as the training made them.

    Given ones, shared ones and ones held in a band all begin elsewhere than the settings say.
    """
    table = initial_weights(run.settings, run.data, run.facts)
    overall = table.overall.tolist()
    names = [f"weight_{name}" for name in classes_of(run)]
    return {
        sample.id: {"weight": overall[place]}
        | {name: table.weight[place, c].item() for c, name in enumerate(names)}
        for place, sample in enumerate(run.data.samples)
        if sample.quality == "weak"
    }


def _paths(run: Run, rows: Sequence[WeightRow], history: Sequence[Mapping[str, Any]]) -> Paths:
    wanted = {row.sample.id for row in rows}
    places = [i for i, sample in enumerate(run.weak) if sample.id in wanted]
    now = [row.began for row in rows]
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
            # What moving labels would change; null, or not there in files of older versions.
            more = [found.get("shift_tolerant"), found.get("offset")]
            yield Judgement(
                found["split"],
                found["step"],
                found["samples"],
                found["mean"],
                found["per_class"],
                tuple(part["said"] for part in more if part),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"{file} is not an evaluation; remove it or run labelmend evaluate again"
            ) from error
