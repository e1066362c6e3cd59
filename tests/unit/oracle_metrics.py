"""Slow and obvious twins of the metrics: sets of positions and all pairs of points."""

import itertools
import math

import numpy as np


def points(mask):
    return [tuple(p) for p in np.argwhere(mask).tolist()]


def dice(mask, truth):
    a, b = set(points(mask)), set(points(truth))
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else math.nan


def iou(mask, truth):
    a, b = set(points(mask)), set(points(truth))
    return len(a & b) / len(a | b) if a or b else math.nan


def neighbours(p):
    for axis, step in itertools.product(range(len(p)), (-1, 1)):
        yield (*p[:axis], p[axis] + step, *p[axis + 1 :])


def surface(mask, known):
    """Known positions of the mask beside a known position outside it, or the sample's end."""
    inside, seen = set(points(mask)), set(points(known))

    def open_side(p):
        beyond = any(not 0 <= x < n for x, n in zip(p, mask.shape, strict=True))
        return beyond or (p in seen and p not in inside)

    return [p for p in inside if any(open_side(q) for q in neighbours(p))]


def distances(mask, truth, known, spacing):
    def nearest(p, others):
        return min(
            math.sqrt(sum(((a - b) * s) ** 2 for a, b, s in zip(p, q, spacing, strict=True)))
            for q in others
        )

    ours, theirs = surface(mask & known, known), surface(truth & known, known)
    return [nearest(p, theirs) for p in ours], [nearest(q, ours) for q in theirs]


def best_pairs(ours, theirs, tolerance):
    """Most pairs, then least error, over every way to pair events."""
    best = (0, 0.0)
    short, long = ours, theirs
    if len(ours) > len(theirs):
        short, long = theirs, ours
    for choice in itertools.permutations([*range(len(long)), *[None] * len(short)], len(short)):
        errors = []
        for event, j in zip(short, choice, strict=True):
            if j is not None:
                pair = [abs(a - b) for a, b in zip(event, long[j], strict=True)]
                if max(pair) > tolerance + 1e-9:
                    break
                errors.append(sum(pair))
        else:
            best = min(best, (-len(errors), sum(errors)))
    return -best[0], best[1]


def events(indices, index):
    runs, place = [], 0
    for value, run in itertools.groupby(indices):
        length = len(list(run))
        if value == index:
            runs.append((place, place + length))
        place += length
    return runs
