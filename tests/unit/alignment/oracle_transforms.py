"""Slow and obvious twins of the moves: loops over single positions, in plain numbers.

A move is a function ``source(sample, position) -> position`` that says where content came from.
"""

import math
from itertools import product

import numpy as np
import torch


def by_displacement(displacement):
    rows = displacement.tolist()
    return lambda k, p: tuple(a - d for a, d in zip(p, rows[k], strict=True))


def by_field(field):
    return lambda k, p: tuple(a - float(field[(k, axis, *p)]) for axis, a in enumerate(p))


def by_matrix(matrix):
    """From where content lies to where it moves; so its inverse says where it came from."""
    back = []
    for rows in matrix.double().numpy():
        whole = np.vstack([rows, [0] * (rows.shape[1] - 1) + [1]])
        back.append(np.linalg.inv(whole))
    return lambda k, p: tuple((back[k] @ [*p, 1])[:-1])


def one_after_the_other(first, then):
    """Of whole displacements: what comes back from outside is lost."""
    return lambda k, p: first(k, then(k, p))


def settled(q):
    half = round(2 * q) / 2
    return half if abs(q - half) < 1e-9 else q


def inside(q, space):
    return all(0 <= a < n for a, n in zip(q, space, strict=True))


def corners(q):
    """(position, weight) of everything that counts, by how near it is."""
    floors = [math.floor(a) for a in q]
    for ups in product((0, 1), repeat=len(q)):
        weight = 1.0
        for a, floor, up in zip(q, floors, ups, strict=True):
            weight *= a - floor if up else 1 - (a - floor)
        if weight > 0:
            yield tuple(f + up for f, up in zip(floors, ups, strict=True)), weight


def nearest(q):
    return tuple(math.floor(a + 0.5) for a in q)


def classes_by_vote(at, found):
    votes = {}
    for place, weight in found:
        votes[at(place)] = votes.get(at(place), 0.0) + weight
    return votes


def moved(label, valid, source, mode):
    """The moved label and valid; channels one by one."""
    space = tuple(valid.shape[1:])
    channels = label.is_floating_point()
    out, known = torch.zeros_like(label), torch.zeros_like(valid)
    for k in range(len(valid)):
        for p in product(*map(range, space)):
            q = tuple(settled(a) for a in source(k, p))
            found = [(nearest(q), 1.0)] if mode == "nearest" else list(corners(q))
            if not all(inside(place, space) and bool(valid[(k, *place)]) for place, _ in found):
                continue
            known[(k, *p)] = True
            if channels:
                for c in range(label.shape[1]):
                    value = sum(w * float(label[(k, c, *place)]) for place, w in found)
                    out[(k, c, *p)] = value
            else:
                votes = classes_by_vote(lambda place, k=k: int(label[(k, *place)]), found)
                most = max(votes.values())
                winners = {c for c, v in votes.items() if v > most - 1e-12}
                near = int(label[(k, *nearest(q))])
                # Among others than the nearest a tie is nobody's to call.
                out[(k, *p)] = near if near in winners else min(winners)
    return out, known


def determinant(field, k, p):
    """The least over all ways to take a lower or higher neighbour, by numpy."""
    space = field.shape[2:]
    found = []
    for ups in product((0, 1), repeat=len(space)):
        jacobian = np.eye(len(space))
        for axis, up in enumerate(ups):
            low = list(p)
            if space[axis] == 1:
                continue
            low[axis] = min(max(p[axis] - 1 + up, 0), space[axis] - 2)
            high = list(low)
            high[axis] += 1
            for row in range(len(space)):
                step = float(field[(k, row, *high)]) - float(field[(k, row, *low)])
                jacobian[row, axis] -= step
        found.append(np.linalg.det(jacobian))
    return min(found)
