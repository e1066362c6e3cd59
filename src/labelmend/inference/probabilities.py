"""What scores say of themselves: probabilities, how sure they are, how far two of them differ."""

from __future__ import annotations

import math

import numpy as np


def softmax(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities ``(classes, *space)`` float32 of scores ``(classes, *space)``.

    Scores are divided by the temperature first: above 1 makes probabilities more alike, below 1
    less. The trap: of scores that are nearly equal, probabilities can be equal to the last bit;
    which class it is, the scores say.

    >>> softmax(np.array([[0.0, 1000.0], [0.0, 0.0]])).tolist()
    [[0.5, 1.0], [0.5, 0.0]]
    >>> softmax(np.array([[2.0], [0.0]]), 1e9).round(3).tolist()
    [[0.5], [0.5]]
    """
    shares = np.exp((scores - scores.max(0)) / temperature).astype(np.float32, copy=False)
    shares /= shares.sum(0)
    return np.asarray(shares)


def certainty(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The probability of the most probable class, ``(*space)``.

    >>> certainty(np.array([[0.0, 1000.0], [0.0, 0.0]])).tolist()
    [0.5, 1.0]
    """
    return np.asarray(1 / np.exp((scores - scores.max(0)) / temperature).sum(0))


def entropy(shares: np.ndarray) -> np.ndarray:
    """How undecided probabilities ``(classes, *space)`` are, ``(*space)`` float32 from 0 to 1.

    Shannon's entropy (1948) as a share of the most that so many classes can have: 0 where one
    class has all, 1 where all are alike.

    >>> [round(float(one), 3) for one in entropy(np.array([[1.0, 0.5, 0.9], [0.0, 0.5, 0.1]]))]
    [0.0, 1.0, 0.469]
    """
    most = math.log(max(2, len(shares)))
    return np.asarray(np.clip(_nats(shares) / most, 0, 1), np.float32)


def disagreement(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far two networks' probabilities ``(classes, *space)`` differ, ``(*space)``, 0 to 1.

    The Jensen–Shannon divergence in bits (Lin 1991): how much one would learn of which network it
    was by being told what it predicts. 0 where both say the same, however unsure they are, and 1
    where they are sure of different classes. The trap: two networks that are wrong in the same way
    agree.

    >>> sure, not_sure = np.array([[1.0], [0.0]]), np.array([[0.5], [0.5]])
    >>> disagreement(sure, sure[::-1]).tolist(), disagreement(not_sure, not_sure).tolist()
    ([1.0], [0.0])
    """
    apart = _nats((one + other) / 2) - (_nats(one) + _nats(other)) / 2
    return np.asarray(np.clip(apart / math.log(2), 0, 1), np.float32)


def _nats(shares: np.ndarray) -> np.ndarray:
    """``-sum p log p`` over the classes, 0 log 0 being 0."""
    total = np.zeros(shares.shape[1:], np.float32)
    for share in shares:  # one class at a time: no array as large as all of them
        total -= share * np.log(np.maximum(share, np.finfo(np.float32).tiny))
    return total
