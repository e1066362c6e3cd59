"""Slow and obvious twins of the losses: plain Python loops over single positions."""

import math


def positions(logits, label, valid):
    """(logits, label) of every valid position of one sample, as plain numbers."""
    flat = logits.reshape(logits.shape[0], -1).tolist()
    places = [i for i, known in enumerate(valid.flatten().tolist()) if known]
    columns = [[row[i] for row in flat] for i in places]
    if label.is_floating_point():
        truth = label.reshape(label.shape[0], -1).tolist()
        return columns, [[row[i] for row in truth] for i in places]
    return columns, [label.flatten().tolist()[i] for i in places]


def softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def mean(values):
    return sum(values) / len(values) if values else 0.0


def cross_entropy(zs, ys):
    return mean([-math.log(softmax(z)[y]) for z, y in zip(zs, ys, strict=True)])


def binary_cross_entropy(zs, ys):
    terms = []
    for z, y in zip(zs, ys, strict=True):
        for c in range(1, len(z)):
            p = 1 / (1 + math.exp(z[0] - z[c]))
            terms.append(-math.log(p if y == c else 1 - p))
    return mean(terms)


def dice(zs, ys):
    if not zs:
        return 0.0
    terms = []
    for c in range(1, len(zs[0])):
        p = [softmax(z)[c] for z in zs]
        y = [float(v == c) for v in ys]
        both = sum(a * b for a, b in zip(p, y, strict=True))
        terms.append(1 - 2 * both / (sum(p) + sum(y)) if any(y) else mean(p))
    return mean(terms)


def dice_ce(zs, ys):
    return dice(zs, ys) + cross_entropy(zs, ys)


def focal(zs, ys):
    p = [softmax(z)[y] for z, y in zip(zs, ys, strict=True)]
    return mean([-((1 - v) ** 2) * math.log(v) for v in p])


def differences(zs, ys):
    for z, y in zip(zs, ys, strict=True):
        if isinstance(y, list):
            yield from (a - b for a, b in zip(z, y, strict=True))
        else:
            yield from (p - float(c == y) for c, p in enumerate(softmax(z)))


def l1(zs, ys):
    return mean([abs(d) for d in differences(zs, ys)])


def l2(zs, ys):
    return mean([d * d for d in differences(zs, ys)])


def share(values, of):
    return sum(values) / of if of else 0.0


def cross_entropy_by_class(zs, ys, classes):
    pairs = list(zip(zs, ys, strict=True))
    return [
        share([-math.log(softmax(z)[c]) for z, y in pairs if y == c], len(pairs))
        for c in range(classes)
    ]


def focal_by_class(zs, ys, classes):
    columns = [0.0] * classes
    for z, y in zip(zs, ys, strict=True):
        p = softmax(z)[y]
        columns[y] += -((1 - p) ** 2) * math.log(p) / len(ys)
    return columns


def binary_cross_entropy_by_class(zs, ys, classes):
    columns = [0.0] * classes
    for z, y in zip(zs, ys, strict=True):
        for c in range(1, classes):
            p = 1 / (1 + math.exp(z[0] - z[c]))
            columns[c] += -math.log(p if y == c else 1 - p) / (len(ys) * (classes - 1))
    return columns


def dice_by_class(zs, ys, classes):
    columns = [0.0] * classes
    for c in range(1, classes):
        p = [softmax(z)[c] for z in zs]
        size = sum(y == c for y in ys)
        inside = sum(a for a, y in zip(p, ys, strict=True) if y == c)
        term = 1 - 2 * inside / (sum(p) + size) if size else mean(p)
        columns[c] = term / (classes - 1)
    return columns


def dice_ce_by_class(zs, ys, classes):
    overlap, entropy = dice_by_class(zs, ys, classes), cross_entropy_by_class(zs, ys, classes)
    return [a + b for a, b in zip(overlap, entropy, strict=True)]


def differences_of(zs, ys, channel):
    for z, y in zip(zs, ys, strict=True):
        if isinstance(y, list):
            yield z[channel] - y[channel]
        else:
            yield softmax(z)[channel] - (1.0 if y == channel else 0.0)


def l1_by_class(zs, ys, classes):
    return [share(map(abs, differences_of(zs, ys, c)), len(zs) * classes) for c in range(classes)]


def l2_by_class(zs, ys, classes):
    return [
        share([d**2 for d in differences_of(zs, ys, c)], len(zs) * classes) for c in range(classes)
    ]


def present(label, valid, classes):
    """Of one sample with class indices."""
    pairs = list(zip(label.flatten().tolist(), valid.flatten().tolist(), strict=True))
    return [any(known and value == c for value, known in pairs) for c in range(classes)]
