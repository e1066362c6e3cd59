"""Slow and obvious twins of the decision: one sample, one displacement at a time, plain numbers."""

import itertools
import math

import numpy as np

FLOOR, NEAR = 1e-3, 1.001


def edge_length(label, valid):
    """Of one sample, numpy; label ``(*space)`` of whole numbers or ``(channels, *space)``."""
    channels = label if np.issubdtype(label.dtype, np.floating) else label[None]
    found = []
    for values in channels:
        size = 1.0
        if np.issubdtype(values.dtype, np.floating):
            sure = values[valid]
            size = sure.max() - sure.min() if sure.size else 0.0
        total = 0.0
        for p in itertools.product(*map(range, valid.shape)):
            for axis in range(valid.ndim):
                q = tuple(a + (i == axis) for i, a in enumerate(p))
                if q[axis] == valid.shape[axis] or not (valid[p] and valid[q]):
                    continue
                if np.issubdtype(values.dtype, np.floating):
                    total += abs(float(values[p]) - float(values[q])) / size if size else 0.0
                else:
                    total += values[p] != values[q]
        found.append(total)
    return float(np.mean(found))


def belief(score, name, edges, limit, grain):
    """Of one sample's map, numpy."""
    left = {}
    for d in itertools.product(*map(range, score.shape)):
        value = float(score[d])
        if not math.isfinite(value):
            continue
        if limit is not None:
            value = value / limit if limit > 0 else 0.0
        if name in ("correlation", "normalised", "phase"):
            left[d] = 1 - min(max(value, 0), 1) ** 2
        elif name == "mutual_information":
            left[d] = 1 - min(max(value, 0), 1) if limit is not None else math.exp(-2 * value)
        else:
            left[d] = -value
    most = max(left.values(), default=0.0)
    floor = FLOOR * most if most > 0 else 1.0
    pieces = {1: 3.0, 2: 1.0, 3: 1.5}[score.ndim] * edges / grain ** (score.ndim - 1)
    out = np.full(score.shape, -np.inf)
    for d, value in left.items():
        out[d] = -pieces * math.log(max(value, floor))
    return out


def place(likely, edges, prior, confidence, margin):
    """Of one sample's map, numpy: displacement, confidence, gain, reason in a word."""
    window = [n // 2 for n in likely.shape]
    ways = [np.array(w) for w in itertools.product(*(range(-w, w + 1) for w in window))]
    value = [float(likely[tuple(w + window)]) - 0.5 * float(w @ w) / prior**2 for w in ways]
    still = tuple([0] * likely.ndim)
    known = [v for v in likely.flatten() if math.isfinite(v)]
    if not edges > 0:
        return still, 0.0, 0.0, "empty"
    if not known or max(known) == min(known):
        return still, None, 0.0, "flat"
    best = _best(value, ways)
    seen = [v if math.isfinite(v) else -math.inf for v in value]
    odds = np.exp(np.array(seen) - max(seen))
    odds = odds / odds.sum()
    whole = sum(o for o, w in zip(odds, ways, strict=True) if max(abs(w - best)) <= 1)
    goal, sureness, kind = best, whole, "moved"
    if whole < confidence:
        goal, sureness = _along(odds, ways, best, window, confidence)
        kind = "partly"
        if goal is None:
            return still, whole, 0.0, "unsure"
    at = {tuple(w): v for w, v in zip(ways, value, strict=True)}
    gain = at[tuple(goal)] - at[still]
    if any(goal) and gain >= margin:
        return tuple(int(a) for a in goal), sureness, gain, kind
    if kind == "moved" and max(abs(best)) <= 1:
        return still, sureness, 0.0, "in place"
    return still, sureness, 0.0, "unsure"


def _best(value, ways):
    top = max(value)
    ties = [w for v, w in zip(value, ways, strict=True) if v >= top - 1e-12 * abs(top)]
    return min(ties, key=lambda w: float(w @ w))


def _along(odds, ways, best, window, confidence):
    if len(best) == 1:
        return None, 0.0
    spread = np.zeros((len(best), len(best)))
    for o, w in zip(odds, ways, strict=True):
        spread += o * np.outer(w - best, w - best)
    directions = np.linalg.eigh(spread)[1].T
    goal, least = np.zeros(len(best)), math.inf
    for one in directions:
        mass = sum(o for o, w in zip(odds, ways, strict=True) if abs((w - best) @ one) <= NEAR)
        if mass >= confidence:
            goal, least = goal + (best @ one) * one, min(least, mass)
    if least == math.inf:
        return None, 0.0
    return np.clip(np.round(goal), [-w for w in window], window).astype(int), least


def score_limit(prediction, label, valid, name, known):
    """Of one sample, numpy: probabilities or values ``(channels, *space)``."""
    sure = valid.astype(bool)
    if name == "mutual_information":
        said = label[sure]
        shares = [float((said == c).mean()) for c in range(len(prediction))] if said.size else []
        return -sum(s * math.log(s) for s in shares if s > 0)
    lengths = [0.0, 0.0]
    continuous = np.issubdtype(label.dtype, np.floating)
    for c in range(0 if continuous else 1, len(prediction)):
        claimed = label[c] if continuous else (label == c).astype(float)
        if not continuous and not claimed[sure].any():
            continue
        lengths[0] += float((prediction[c][known] ** 2).sum())
        lengths[1] += float((claimed[sure] ** 2).sum())
    return math.sqrt(lengths[0] * lengths[1])
