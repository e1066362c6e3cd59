"""The weights as rows and columns of plain numbers, for the run folder."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from labelmend.types import Sample
from labelmend.weighting.weights import WeightTable


def weight_rows(
    table: WeightTable, samples: Sequence[Sample], classes: Sequence[str]
) -> list[dict[str, object]]:
    """The table as it stands, a row for every training sample."""
    columns = _values(table, classes) | {"average": table.overall_average}
    return [
        {
            "id": sample.id,
            **{name: _known(values[place].item()) for name, values in columns.items()},
            "updated": int(table.updated[place]),
        }
        for place, sample in enumerate(samples)
        if sample.split == "train"
    ]


def weight_columns(
    table: WeightTable, samples: Sequence[Sample], classes: Sequence[str], step: int
) -> dict[str, list[float | None]]:
    """What a weight step changed: a value for every weak sample, None where nothing moved.

    Weak samples of any split, as :attr:`labelmend.runs.Run.weak` has them. Those that share a
    weight move together, though only some of them were judged.
    """
    judged = table.updated == step
    earlier = table.weight if table.earlier is None else table.earlier
    moved = judged | (table.weight != earlier).reshape(len(judged), -1).any(1)
    places = [place for place, sample in enumerate(samples) if sample.quality == "weak"]
    found = {}
    for name, values in _values(table, classes).items():
        known = moved if name.startswith("weight") else judged
        found[name] = [_known(values[p].item()) if known[p] else None for p in places]
    return found


def _values(table: WeightTable, classes: Sequence[str]) -> dict[str, Tensor]:
    """``(samples,)`` each; with weights by class their mean, and one column for every class."""
    if table.weight.ndim == 1:
        return {"weight": table.weight, "similarity": table.similarity, "loss": table.loss}
    whole = {
        "weight": table.overall,
        "similarity": table.similarity.sum(1),
        "loss": table.loss.sum(1),
    }
    return whole | {f"weight_{name}": table.weight[:, c] for c, name in enumerate(classes)}


def _known(value: float) -> float | None:
    """A figure that does not exist yet is no number."""
    return value if math.isfinite(value) else None
