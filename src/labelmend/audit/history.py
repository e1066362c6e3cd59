"""What a run recorded of its labels: weights over training, and where labels belong."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from labelmend.inference.places import Place
from labelmend.runs import Run
from labelmend.training.assembly.weighing import table as initial_weights
from labelmend.types import IN_PLACE, MOVED, REASONS, UNSURE


@dataclass(frozen=True, slots=True)
class Course:
    """How the weight of one label went.

    Attributes:
        began: before the first look.
        weight: the latest.
        average: the mean over all looks; None where there was none.
        loss: its own at the last look; None likewise.
    """

    began: float
    weight: float
    average: float | None
    loss: float | None


def read_courses(run: Run) -> dict[str, Course]:
    """The weights of the weak training labels, by label, as the history leaves them.

    Weights that were given tell what somebody knew, so they count as a look.

    Raises:
        DamagedError: for records that are not as they were written.
    """
    weights: dict[str, list[float]] = defaultdict(list)
    losses: dict[str, float] = {}
    given = run.facts.get("given_weights") or {}
    for sample, value in zip(run.data.samples, _began(run), strict=True):
        if sample.label in given:
            weights[sample.id].append(value)
    for record in run.weight_history():
        columns = record["columns"]
        for sample, weight in zip(run.weak, columns["weight"], strict=True):
            if weight is not None:
                weights[sample.id].append(weight)
        for sample, loss in zip(run.weak, columns.get("loss", ()), strict=False):
            if loss is not None:
                losses[sample.id] = loss
    return {
        sample.id: _course(began, weights[sample.id], losses.get(sample.id))
        for sample, began in zip(run.data.samples, _began(run), strict=True)
        if sample.quality == "weak" and sample.split == "train"
    }


def read_places(run: Run) -> dict[str, Place]:
    """Where training found labels to belong, by label, in positions of what the network sees.

    A place that is not clear now and was before is that of before. Of labels that were turned or
    bent only the shift of their centre is known.

    Raises:
        DamagedError: as :func:`read_courses`.
    """
    dims, found = run.data.spec.dims, {}
    for row in run.places():
        displacement = np.array([float(row[f"displacement_{axis}"]) for axis in range(dims)])
        reason = REASONS.index(row["reason"])
        if displacement.any():
            reason = MOVED
        elif reason not in (IN_PLACE, MOVED):
            reason = UNSURE
        found[row["id"]] = Place(displacement, float(row["confidence"]), float(row["gain"]), reason)
    return found


def _began(run: Run) -> list[float]:
    began: list[float] = initial_weights(run.settings, run.data, run.facts).overall.tolist()
    return began


def _course(began: float, weights: list[float], loss: float | None) -> Course:
    if not weights:
        return Course(began, began, None, loss)
    return Course(began, weights[-1], statistics.fmean(weights), loss)
