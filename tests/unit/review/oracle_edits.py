"""Slow, obvious twins of the edits: one position at a time, and one full copy per edit."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np


def apply(label, op, *, ignore, taken=None):
    """The label after an edit given as JSON; ``taken`` is what a take takes."""
    new = np.empty_like(label)
    for place in np.ndindex(label.shape):
        new[place] = _at(label, op, place, ignore, taken)
    return new


def _at(label, op, place, ignore, taken):
    kind = op["kind"]
    if kind == "take":
        return taken[place]
    if kind == "move":
        return _moved(label, op, place, -1 if ignore else 0)
    if kind == "interval":
        return op["class"] if op["start"] <= place[0] < op["stop"] else label[place]
    if "slice" in op:
        axis, index = op["slice"]["axis"], op["slice"]["index"]
        if place[axis] != index:
            return label[place]
        inside = INSIDE[kind](op, *(p for a, p in enumerate(place) if a != axis))
    else:
        inside = INSIDE[kind](op, *place)
    return op["class"] if inside else label[place]


def _brush(op, row, column):
    points = [*op["points"], op["points"][-1]]
    return any(
        _distance(a, b, row, column) <= op["radius"] * (1 + 5e-10) for a, b in pairwise(points)
    )


def _distance(a, b, row, column):
    """From a position to the nearest point of a line from ``a`` to ``b``."""
    down, right = b[0] - a[0], b[1] - a[1]
    length = down * down + right * right
    t = 0.0 if length == 0 else ((row - a[0]) * down + (column - a[1]) * right) / length
    t = min(max(t, 0.0), 1.0)
    return math.hypot(row - a[0] - t * down, column - a[1] - t * right)


def _polygon(op, row, column):
    """How often a line from the far left to the position crosses an edge: an odd number."""
    crossings = 0
    for ring in op["rings"]:
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
            if (a[0] <= row < b[0]) or (b[0] <= row < a[0]):
                at = a[1] + (row - a[0]) / (b[0] - a[0]) * (b[1] - a[1])
                crossings += at <= column
    return crossings % 2 == 1


def _own_axes(op, row, column):
    angle = op.get("angle", 0.0)
    down, right = row - op["centre"][0], column - op["centre"][1]
    return (
        down * math.cos(angle) + right * math.sin(angle),
        right * math.cos(angle) - down * math.sin(angle),
    )


def _ellipse(op, row, column):
    along, across = _own_axes(op, row, column)
    return (along / op["radii"][0]) ** 2 + (across / op["radii"][1]) ** 2 <= 1 + 1e-9


def _box(op, row, column):
    reached = zip(_own_axes(op, row, column), op["sides"], strict=True)
    return all(-side / 2 <= at + 1e-9 < side / 2 for at, side in reached)


INSIDE = {"brush": _brush, "polygon": _polygon, "ellipse": _ellipse, "box": _box}


def _moved(label, op, place, outside):
    back = [p - d for p, d in zip(place, op["displacement"], strict=True)]
    angle = op.get("angle", 0.0)
    if angle:
        axis = op["slice"]["axis"] if "slice" in op else None
        first, second = (a for a in range(label.ndim) if a != axis)
        centre = centre_of_mass(label)
        if op.get("centre") is not None:
            centre[first], centre[second] = op["centre"]
        down, right = back[first] - centre[first], back[second] - centre[second]
        back[first] = centre[first] + math.cos(angle) * down + math.sin(angle) * right
        back[second] = centre[second] - math.sin(angle) * down + math.cos(angle) * right
    source = tuple(math.floor(x + 0.5 + 1e-6) for x in back)
    if all(0 <= s < n for s, n in zip(source, label.shape, strict=True)):
        return label[source]
    return outside


def centre_of_mass(label):
    places = [place for place in np.ndindex(label.shape) if label[place] > 0]
    places = places or list(np.ndindex(label.shape))
    return [sum(axis) / len(places) for axis in zip(*places, strict=True)]


class FullCopies:
    """A case that keeps a copy of the whole label after every edit."""

    def __init__(self, label, *, ignore):
        self.copies, self.at, self.ignore = [label.copy()], 0, ignore
        self.version, self.verdict, self.quality, self.comment = 0, "open", None, ""

    def do(self, op, taken=None):
        """Whether it could be done; nothing happens when it could not."""
        kind = op["kind"]
        if (kind == "undo" and not self.can_undo) or (kind == "redo" and not self.can_redo):
            return False
        if kind in ("undo", "redo"):
            self.at += 1 if kind == "redo" else -1
        elif kind == "verdict":
            self.verdict = op["value"]
        elif kind == "quality":
            self.quality = op["value"]
        elif kind == "comment":
            self.comment = op["text"]
        else:
            new = apply(self.label, op, ignore=self.ignore, taken=taken)
            self.copies = [*self.copies[: self.at + 1], new]
            self.at += 1
        self.version += 1
        return True

    label = property(lambda self: self.copies[self.at])
    can_undo = property(lambda self: self.at > 0)
    can_redo = property(lambda self: self.at < len(self.copies) - 1)
    edited = property(lambda self: not np.array_equal(self.label, self.copies[0]))
