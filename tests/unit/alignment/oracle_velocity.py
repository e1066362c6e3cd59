"""Slow and obvious twins of flows and penalties: one position at a time, in plain numbers."""

import math
from itertools import product

import numpy as np


def read(values, q):
    """Values ``(channels, *space)`` at a position, linearly; outside, the nearest there is."""
    space = values.shape[1:]
    inside = [min(max(a, 0.0), n - 1.0) for a, n in zip(q, space, strict=True)]
    total = np.zeros(len(values))
    for ups in product((0, 1), repeat=len(space)):
        weight, corner = 1.0, []
        for a, up, n in zip(inside, ups, space, strict=True):
            share = a - math.floor(a)
            weight *= share if up else 1 - share
            corner.append(min(math.floor(a) + up, n - 1))
        total += weight * values[(slice(None), *corner)]
    return total


def flowed(velocity, count):
    """The backward field of so many short steps against the velocity, one after the other."""
    out = np.zeros(velocity.shape)
    for k, sample in enumerate(velocity.double().numpy()):
        for p in product(*map(range, sample.shape[1:])):
            q = np.array(p, dtype=float)
            for _ in range(count):
                q = q - read(sample, q) / count
            out[(k, slice(None), *p)] = np.array(p) - q
    return velocity.new_tensor(out)


def enlarged(field, space):
    out = np.zeros((*field.shape[:2], *space))
    cells = field.shape[2:]
    ratio = [n / m for n, m in zip(space, cells, strict=True)]
    for k, sample in enumerate(field.double().numpy()):
        for p in product(*map(range, space)):
            cell = [(a - (g - 1) / 2) / g for a, g in zip(p, ratio, strict=True)]
            out[(k, slice(None), *p)] = read(sample, cell) * np.array(ratio)
    return field.new_tensor(out)


def _stepped(p, axis, by):
    return tuple(a + by * (n == axis) for n, a in enumerate(p))


def _mean(values):
    return sum(values) / len(values) if values else 0.0


def gradient_energy(sample):
    """Of one sample ``(dims, *space)`` of numpy."""
    space, each = sample.shape[1:], []
    for axis in range(len(space)):
        found = []
        for c, p in product(range(len(sample)), product(*map(range, space))):
            if p[axis] + 1 < space[axis]:
                found.append((sample[(c, *_stepped(p, axis, 1))] - sample[(c, *p)]) ** 2)
        each.append(_mean(found))
    return _mean(each)


def bending_energy(sample):
    """Own axes by three neighbours, two axes by the four corners of a square."""
    space, each = sample.shape[1:], []
    for one, other in product(range(len(space)), repeat=2):
        found = []
        for c, p in product(range(len(sample)), product(*map(range, space))):
            corners = [_stepped(_stepped(p, one, i), other, j) for i in (0, 1) for j in (0, 1)]
            if all(a < n for q in corners for a, n in zip(q, space, strict=True)):
                low, right, left, high = (sample[(c, *q)] for q in corners)
                found.append((low - right - left + high) ** 2)
        each.append(_mean(found))
    return _mean(each)


def size_energy(sample, limits):
    found = []
    for c, p in product(range(len(sample)), product(*map(range, sample.shape[1:]))):
        found.append(max(abs(sample[(c, *p)]) - limits[c], 0.0) ** 2)
    return _mean(found)
