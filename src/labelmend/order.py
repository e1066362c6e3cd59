"""What a seed decides and nothing else: not the machine, nor the version of numpy."""

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


def uniform_of(*seed: int) -> float:
    """A number in [0, 1), another one for every sequence of so many whole numbers from 0 on.

    Of 24 bits, so that it stays below 1 in float32. The trap: zeros at the end do not count.

    >>> uniform_of(3, 8) == uniform_of(3, 8) != uniform_of(8, 3)
    True
    """
    bits = int(np.random.PCG64(np.random.SeedSequence(seed)).random_raw())
    return (bits >> 40) / 2**24
