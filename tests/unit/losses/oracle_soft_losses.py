"""Slow and obvious twins of the losses against probabilities: loops over single positions.

``zs`` and ``qs`` are lists of positions, each a list with one number per class.
"""

import math

from .oracle_losses import mean, share, softmax


def less_log(q, p):
    return -q * math.log(p) if q else 0.0


def cross_entropy(zs, qs):
    return mean([sum(map(less_log, q, softmax(z))) for z, q in zip(zs, qs, strict=True)])


def cross_entropy_by_class(zs, qs, classes):
    pairs = list(zip(zs, qs, strict=True))
    return [
        share([less_log(q[c], softmax(z)[c]) for z, q in pairs], len(pairs)) for c in range(classes)
    ]


def sigmoid_terms(zs, qs, c):
    for z, q in zip(zs, qs, strict=True):
        p = 1 / (1 + math.exp(z[0] - z[c]))
        yield less_log(q[c], p) + less_log(1 - q[c], 1 - p)


def binary_cross_entropy(zs, qs):
    classes = len(zs[0]) if zs else 1
    return mean([term for c in range(1, classes) for term in sigmoid_terms(zs, qs, c)])


def binary_cross_entropy_by_class(zs, qs, classes):
    each = len(zs) * (classes - 1)
    return [0.0] + [share(sigmoid_terms(zs, qs, c), each) for c in range(1, classes)]


def dice_term(zs, qs, c):
    """One less the overlap as the paper writes it."""
    p, q = [softmax(z)[c] for z in zs], [row[c] for row in qs]
    if not any(q):
        return mean(p)
    apart = sum(abs(a - b) for a, b in zip(p, q, strict=True))
    return 1 - (sum(p) + sum(q) - apart) / (sum(p) + sum(q))


def dice(zs, qs):
    return mean([dice_term(zs, qs, c) for c in range(1, len(zs[0]))]) if zs else 0.0


def dice_by_class(zs, qs, classes):
    return [0.0] + [dice_term(zs, qs, c) / (classes - 1) for c in range(1, classes)]


def dice_ce(zs, qs):
    return dice(zs, qs) + cross_entropy(zs, qs)


def dice_ce_by_class(zs, qs, classes):
    overlap, entropy = dice_by_class(zs, qs, classes), cross_entropy_by_class(zs, qs, classes)
    return [a + b for a, b in zip(overlap, entropy, strict=True)]


def differences(zs, qs, c):
    return [softmax(z)[c] - q[c] for z, q in zip(zs, qs, strict=True)]


def l1_by_class(zs, qs, classes):
    each = len(zs) * classes
    return [share([abs(d) for d in differences(zs, qs, c)], each) for c in range(classes)]


def l2_by_class(zs, qs, classes):
    each = len(zs) * classes
    return [share([d * d for d in differences(zs, qs, c)], each) for c in range(classes)]


def l1(zs, qs):
    return mean([abs(d) for c in range(len(zs[0])) for d in differences(zs, qs, c)]) if zs else 0.0


def l2(zs, qs):
    return mean([d * d for c in range(len(zs[0])) for d in differences(zs, qs, c)]) if zs else 0.0
