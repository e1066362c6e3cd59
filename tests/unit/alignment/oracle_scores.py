"""Slow and obvious twins of the scores: move the label, compare, one displacement at a time."""

import itertools
import math

import numpy as np
import torch

from labelmend.losses import LOSSES, make_loss


def displacements(window):
    return list(itertools.product(*(range(-w, w + 1) for w in window)))


def moved(values, displacement, fill=0):
    """``values(p − d)`` over the last axes; ``fill`` where ``p − d`` is outside."""
    for axis, d in enumerate(displacement, start=-len(displacement)):
        size, room = values.shape[axis], [*values.shape]
        room[axis] = abs(d)
        outside = torch.full(room, fill, dtype=values.dtype)
        long = torch.cat([outside, values, outside], axis)
        values = long.narrow(axis, abs(d) - d, size)
    return values


def correlate(one, other, window):
    space = tuple(range(2, one.ndim))
    maps = [(one * moved(other, d)).sum(space) for d in displacements(window)]
    return torch.stack(maps, -1).reshape(*one.shape[:2], *(2 * w + 1 for w in window))


def score_maps(name, prediction, label, valid, window, known=None, least_overlap=0.5, bins=8):
    """Score and overlap as lists of samples × displacements, in nested order."""
    known = torch.ones_like(valid) if known is None else known
    scores, overlaps = [], []
    for k in range(len(prediction)):
        least = least_overlap * min(int(known[k].sum()), int(valid[k].sum()))
        row, places = [], []
        for d in displacements(window):
            both = moved(valid[k], d) & known[k]
            places.append(int(both.sum()))
            enough = places[-1] >= max(1, least)
            said = moved(label[k], d)
            value = one_score(name, prediction[k], said, both, (known[k], valid[k], label[k]), bins)
            row.append(value if enough else -math.inf)
        scores.append(row)
        overlaps.append(places)
    shape = (len(prediction), *(2 * w + 1 for w in window))
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return torch.tensor(scores, dtype=dtype).reshape(shape), torch.tensor(overlaps).reshape(shape)


def one_score(name, prediction, label, both, whole, bins):
    if name in LOSSES:
        loss = make_loss(name, "regression" if label.is_floating_point() else "segmentation")
        return -loss(prediction[None], label[None], both[None]).item()
    known, valid, unmoved = whole
    if label.is_floating_point():
        p, y = prediction.double().numpy(), label.double().numpy()
        ranges = [
            (edges(p[c][known.numpy()], bins), edges(unmoved[c].numpy()[valid.numpy()], bins))
            for c in range(len(p))
        ]
    else:
        p = prediction.double().softmax(0).numpy()
        y = np.stack([(label == c).double().numpy() for c in range(len(p))])
        ranges = None
    m = both.numpy()
    p, y = p[:, m], y[:, m]  # only what is shared
    if name == "mutual_information":
        return information(p, y) if ranges is None else binned_information(p, y, ranges)
    if ranges is None:
        p, y = p[1:], y[1:]
    if name == "correlation":
        return float((p * y).sum())
    assert name == "normalised"
    rows = range(len(p))
    if ranges is None:
        rows = [c for c in rows if (unmoved[valid] == c + 1).any()]
    return float(np.mean([pearson(p[c], y[c]) for c in rows])) if rows else 0.0


def pearson(a, b):
    if a.size == 0 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


def edges(values, bins):
    if values.size == 0 or values.min() == values.max():
        return np.array([-np.inf, np.inf])
    inner = np.linspace(values.min(), values.max(), bins + 1)[1:-1]
    return np.concatenate([[-np.inf], inner, [np.inf]])


def binned_information(p, y, ranges):
    found = []
    for a, b, (one, other) in zip(p, y, ranges, strict=True):
        table = np.histogram2d(a, b, bins=(one, other))[0] if a.size else np.zeros((1, 1))
        found.append(table_information(table))
    return float(np.mean(found))


def information(p, y):
    return table_information(p @ y.T)


def table_information(table):
    if table.sum() == 0:
        return 0.0
    joint = table / table.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    found = 0.0
    for i, j in itertools.product(*(range(n) for n in joint.shape)):
        if joint[i, j] > 0:
            found += joint[i, j] * math.log(joint[i, j] / (rows[i] * columns[j]))
    return found


def phase(prediction, label, valid, known, window, sizes):
    """Of one sample; ``sizes`` are those of the padded transform."""
    if label.is_floating_point():
        p, y = prediction.double().numpy(), label.double().numpy()
    else:
        p = prediction.double().softmax(0).numpy()[1:]
        y = np.stack([(label == c).double().numpy() for c in range(1, len(prediction))])
    axes = tuple(range(p.ndim - 1))
    cross = 0
    for a, b in zip(p, y, strict=True):
        filled = (np.where(m, v, v[m].mean()) - v[m].mean() for v, m in ((a, known), (b, valid)))
        one, other = (np.fft.fftn(v, sizes, axes) for v in filled)
        cross = cross + one * other.conj()
    size = np.abs(cross)
    cross = np.where(size > 1e-10 * size.max(), cross / np.maximum(size, 1e-300), 0)
    around = np.fft.ifftn(cross).real
    return torch.tensor([around[d] for d in displacements(window)]).reshape(
        [2 * w + 1 for w in window]
    )
