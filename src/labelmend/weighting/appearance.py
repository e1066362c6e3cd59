"""What an image looks like in a few numbers, which say what images are alike."""

from __future__ import annotations

import math

import numpy as np

LEVELS = tuple(n / 100 for n in range(2, 99, 8))
"""Quantiles that describe the values of a channel."""

POSITIONS = 4096
"""About so many positions of an image are looked at for them: those of more are nearly the same."""

_ROUNDED = 1e-12


def appearance(image: np.ndarray) -> np.ndarray:
    """What an image looks like, ``(features,)`` float64.

    Quantiles of the values of every channel, then how much neighbouring positions of it differ on
    average, added up over axes; all at so many positions of a grid at most.

    Args:
        image: ``(channels, *space)``.

    The trap: two images with the same values in other places look alike, but for how rough they
    are; it knows no objects.

    >>> appearance(np.array([[0.0, 2.0, 0.0, 2.0]])).round(2).tolist()[-3:]
    [2.0, 2.0, 2.0]
    """
    space = image.shape[1:]
    every = max(1, round((math.prod(space) / POSITIONS) ** (1 / len(space))))
    some = [np.arange(0, size, every) for size in space]
    channels = np.arange(len(image))
    few = image[np.ix_(channels, *some)].astype(np.float64)
    levels = np.quantile(few.reshape(len(few), -1), LEVELS, axis=1)
    rough = np.zeros(len(image))
    for axis, size in enumerate(space):
        before = some[axis][some[axis] < size - 1]
        if len(before):
            next_ = [*some[:axis], before + 1, *some[axis + 1 :]]
            there = few.take(np.arange(len(before)), axis + 1)
            apart = np.abs(image[np.ix_(channels, *next_)] - there)
            rough += apart.reshape(len(image), -1).mean(1)
    return np.concatenate([levels.ravel(), rough])


def standardised(*parts: np.ndarray) -> list[np.ndarray]:
    """Features ``(images, features)`` less their mean over all parts, in their deviations.

    So images times a number, or plus one, are as far from each other as they were. What is the same
    in all of them is 0.

    >>> standardised(np.array([[1.0], [3.0]]), np.array([[2.0]]))[1].tolist()
    [[0.0]]
    """
    whole = np.concatenate(parts)
    middle, spread = whole.mean(0), whole.std(0)
    # A mean is rounded, so what is the same everywhere may seem to deviate from it.
    differs = spread > _ROUNDED * np.abs(whole).max(0)
    return [(part - middle) / np.where(differs, spread, np.inf) for part in parts]
