"""An order that a seed decides and nothing else: not the machine, nor the version of numpy."""

from __future__ import annotations

import numpy as np


def order_of(seed: int | tuple[int, ...], length: int) -> np.ndarray:
    """A permutation of ``range(length)``.

    Sorted raw bits, which numpy promises never to change; ``permutation`` has no such promise.

    >>> order_of(3, 8).tolist()
    [0, 4, 7, 1, 5, 6, 3, 2]
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(length)
    return np.argsort(bits, kind="stable")
