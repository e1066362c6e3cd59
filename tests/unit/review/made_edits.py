"""Cases and edits drawn at random, as JSON."""

from __future__ import annotations

import numpy as np

CLASSES = 3
SIZES = ((9,), (1,), (7, 8), (1, 1), (1, 6), (4, 5, 3), (1, 3, 4))
DRAWN = ("brush", "polygon", "ellipse", "box")
WORDS = ("", "looks late", "Mitose?\nnein", "見て ")


def random_label(rng, size, *, ignore):
    """Patches of classes: every second position its own, the others as the first."""
    label = rng.integers(-1 if ignore else 0, CLASSES, size).astype(np.int16)
    same = rng.random(size) < 0.5
    label[same] = label.flat[0]
    return label


def random_op(rng, size, *, ignore, kinds=None):
    """Any operation that fits a label of this size, a third of it outside."""
    choices = kinds or [*edit_kinds(size), "undo", "undo", "redo", "verdict", "quality", "comment"]
    kind = str(rng.choice(choices))
    op = {"kind": kind}
    if kind in (*DRAWN, "interval"):
        op["class"] = int(rng.integers(-1 if ignore else 0, CLASSES))
    op |= _MADE[kind](rng, size) if kind in _MADE else {}
    if kind in (*DRAWN, "move") and len(size) == 3:
        axis = int(rng.integers(3))
        op["slice"] = {"axis": axis, "index": int(rng.integers(size[axis]))}
    return op


def edit_kinds(size):
    return ("interval", "move", "take") if len(size) == 1 else (*DRAWN, "move", "take")


def _point(rng, size):
    longest = max(size)
    return [float(x) for x in rng.uniform(-0.5 * longest, 1.5 * longest, 2)]


def _length(rng, size):
    return float(rng.uniform(0.05, 1.0) * max(size))


def _angle(rng):
    return float(rng.choice([0.0, rng.uniform(-7, 7)]))


def _brush(rng, size):
    points = [_point(rng, size) for _ in range(rng.integers(1, 5))]
    return {"radius": _length(rng, size) / 2, "points": points}


def _polygon(rng, size):
    rings = [
        [_point(rng, size) for _ in range(rng.integers(3, 7))] for _ in range(rng.integers(1, 3))
    ]
    return {"rings": rings}


def _ellipse(rng, size):
    radii = [_length(rng, size), _length(rng, size)]
    return {"centre": _point(rng, size), "radii": radii, "angle": _angle(rng)}


def _box(rng, size):
    sides = [_length(rng, size), _length(rng, size)]
    return {"centre": _point(rng, size), "sides": sides, "angle": _angle(rng)}


def _interval(rng, size):
    start, stop = sorted(int(p) for p in rng.integers(-3, size[0] + 4, 2))
    return {"start": start, "stop": stop + 1}


def _move(rng, size):
    displacement = [float(rng.choice([0, rng.integers(-3, 4), rng.normal()])) for _ in size]
    if len(size) == 1:
        return {"displacement": displacement, "angle": 0.0}
    centre = {"centre": _point(rng, size)} if rng.random() < 0.5 else {}
    return {"displacement": displacement, "angle": _angle(rng), **centre}


_MADE = {
    "brush": _brush,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "box": _box,
    "interval": _interval,
    "move": _move,
    "take": lambda rng, size: {"what": str(rng.choice(["prediction", "moved", "original"]))},
    "verdict": lambda rng, size: {"value": str(rng.choice(["open", "accepted", "rejected"]))},
    "quality": lambda rng, size: {"value": str(rng.choice(["strong", "weak"]))},
    "comment": lambda rng, size: {"text": str(rng.choice(WORDS))},
}
