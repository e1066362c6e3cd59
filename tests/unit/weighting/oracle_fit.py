"""The slow and obvious way: one position after the other, in plain numbers."""

from __future__ import annotations

import math


def of_classes(logits, label, valid, wanted):
    """One minus the soft Dice overlap of the wanted classes in one sample.

    ``logits`` is a list of positions, each a list of classes.
    """
    if not any(known and claimed in wanted for claimed, known in zip(label, valid, strict=True)):
        return of_nothing_labelled(logits, valid, wanted)
    inner = whole = count = 0.0
    for z, claimed, known in zip(logits, label, valid, strict=True):
        if not known:
            continue
        count += 1
        highest = max(z)
        parts = [math.exp(value - highest) for value in z]
        for c in wanted:
            p, y = parts[c] / math.fsum(parts), float(claimed == c)
            inner += p * y
            whole += p * p + y
    floor = 0.001 * count
    return 1 - (2 * inner + floor) / (whole + floor) if count else 0.0


def of_nothing_labelled(logits, valid, wanted):
    """How much of the sample is taken for one of the wanted classes, beside half a hundredth."""
    found, count = 0.0, 0
    for z, known in zip(logits, valid, strict=True):
        highest, count = max(z), count + bool(known)
        if known and z.index(highest) in wanted:
            found += (1 / math.fsum(math.exp(value - highest) for value in z)) ** 2
    return found / (found + 0.005 * count) if count else 0.0


def of_channels(prediction, label, valid):
    """Σ |z − y| / Σ (|z − m| + |y − m|) over the channels of one sample, each with its mean m.

    Both are lists of channels, each a list of positions.
    """
    apart = whole = 0.0
    for z, y in zip(prediction, label, strict=True):
        pairs = [(a, b) for a, b, known in zip(z, y, valid, strict=True) if known]
        if not pairs:
            continue
        mean = math.fsum(b for _, b in pairs) / len(pairs)
        apart += math.fsum(abs(a - b) for a, b in pairs)
        whole += math.fsum(abs(a - mean) + abs(b - mean) for a, b in pairs)
    return apart / whole if whole else 0.0
