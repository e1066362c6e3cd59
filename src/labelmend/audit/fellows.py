"""How far labels of one image are from each other."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from labelmend.types import DataSpec, Sample


@dataclass(frozen=True, slots=True, eq=False)
class _Claim:
    sample: Sample
    label: np.ndarray
    valid: np.ndarray


class Fellows:
    """Takes labels, those of one image one after the other; keeps those of the latest image.

    A label is compared with the strong ones of its image, and with the weak ones where there is
    no strong one; a strong label with other strong ones alone.

    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 1, 1, "none", ".npy")
    >>> fellows, every = Fellows(spec), np.ones(3, bool)
    >>> for name, label in (("x", [0, 1, 1]), ("y", [0, 1, 1]), ("z", [1, 1, 0])):
    ...     fellows.add(Sample("i", name, "weak", "train", "g"), np.array(label), every)
    >>> fellows.found()
    {'x': (0.0, 2), 'y': (0.0, 2), 'z': (0.5, 2)}
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self._found: dict[str, tuple[float, int]] = {}
        self._claims: list[_Claim] = []

    def add(self, sample: Sample, label: np.ndarray, valid: np.ndarray) -> None:
        """One more label."""
        if self._claims and self._claims[0].sample.image != sample.image:
            self._conclude()
        if self.spec.task == "segmentation":
            label = label.astype(np.min_scalar_type(len(self.spec.classes)))
        self._claims.append(_Claim(sample, label, valid))

    def found(self) -> dict[str, tuple[float, int]]:
        """By label, how far it is from the others, and how many those are.

        The median of the distances; of two the lesser, for two of three that agree are right, and
        a mean would say of both that they differ by half as much as the third does.
        """
        self._conclude()
        return self._found

    def _conclude(self) -> None:
        """Compare every two labels once."""
        claims = self._claims
        trusted = any(claim.sample.quality == "strong" for claim in claims)
        apart = {
            (i, j): _apart(claims[i], claims[j], self.spec)
            for j in range(len(claims))
            for i in range(j)
            if "strong" in (claims[i].sample.quality, claims[j].sample.quality) or not trusted
        }
        for i, own in enumerate(claims):
            known = [
                value
                for j, other in enumerate(claims)
                if i != j and (other.sample.quality == "strong" or not trusted)
                for value in [apart[min(i, j), max(i, j)]]
                if value is not None
            ]
            if known:
                middle = min(known) if len(known) == 2 else statistics.median(known)
                self._found[own.sample.id] = middle, len(known)
        self._claims = []


def distance(found: np.ndarray, label: np.ndarray, valid: np.ndarray, spec: DataSpec) -> float:
    """1 - mean Dice of the foreground classes; in regression the mean absolute error.

    Args:
        found: class indices ``(*space)``, or values ``(channels, *space)``.
        label: likewise.
        valid: ``(*space)`` bool, somewhere True.
        spec: what the data set's files share.

    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 1, 1, "none", ".npy")
    >>> distance(np.array([0, 0]), np.array([0, 0]), np.array([True, True]), spec)
    0.0
    """
    if spec.task == "regression":
        values = (array[:, valid].astype(np.float64) for array in (found, label))
        return float(np.abs(next(values) - next(values)).mean())
    many = len(spec.classes)
    both = np.bincount(found[valid].astype(np.int64) * many + label[valid], minlength=many * many)
    table = both.reshape(many, many)
    shared, total = 2 * table.diagonal(), table.sum(0) + table.sum(1)
    there = total[1:] > 0
    if not there.any():
        return 0.0  # two empty labels are the same
    return 1 - float((shared[1:][there] / total[1:][there]).mean())


def _apart(one: _Claim, other: _Claim, spec: DataSpec) -> float | None:
    valid = one.valid & other.valid
    if one.label.shape != other.label.shape or not valid.any():
        return None
    return distance(one.label, other.label, valid, spec)
