"""Masks as the lengths of their runs, the first one of what is outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.documents import shown

_MOST_BITS = 60


def mask_of_runs(
    runs: Sequence[int], size: tuple[int, int], order: Literal["C", "F"]
) -> np.ndarray:
    """A mask ``(rows, columns)`` bool from the lengths of its runs.

    Args:
        runs: outside, inside, outside and so on.
        size: rows and columns; nothing is allocated unless the runs fill them exactly.
        order: "C" row by row, "F" column by column.

    Raises:
        DataError: when a length is no whole number from 0 on, or they do not fill the size.

    >>> mask_of_runs([1, 2, 1], (2, 2), "F").astype(int)
    array([[0, 1],
           [1, 0]])
    """
    total, wanted = 0, size[0] * size[1]
    for length in runs:
        if not isinstance(length, int) or isinstance(length, bool) or length < 0:
            raise DataError(
                f"the lengths of its runs should be whole numbers, not {shown(length)}; "
                "export it again"
            )
        total += length
    if total != wanted:
        raise DataError(
            f"its runs are {_long(total)} positions long, but {size[0]} x {size[1]} are to be "
            "filled; export it again"
        )
    inside = np.arange(len(runs)) % 2 == 1
    flat = np.repeat(inside, np.asarray(runs, dtype=np.int64))
    return flat.reshape(size, order=order)


def runs_of_mask(mask: np.ndarray) -> list[int]:
    """The lengths of the runs of a mask, row by row, the first one of what is outside.

    >>> runs_of_mask(np.array([[True, True], [False, True]]))
    [0, 2, 1, 1]
    """
    flat = np.concatenate([[False], mask.ravel(), [not mask.ravel()[-1]]])
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths: list[int] = np.diff(np.concatenate([[1], edges])).tolist()
    return lengths


def unpack_runs(text: str) -> list[int]:
    """The lengths of runs in COCO's compressed text.

    Every character holds five bits of a number, the lowest first, and one that says whether it
    goes on; from the fourth number on it is the difference from the last but one. Own code: what
    reads it in pycocotools trusts it.

    Raises:
        DataError: when it is no such text.

    >>> unpack_runs("353")
    [3, 5, 3]
    """
    runs: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits > _MOST_BITS:
            raise DataError("its compressed runs are damaged; export it again")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = bits = 0
    if bits:
        raise DataError("its compressed runs are cut short; export it again")
    return runs


def _long(total: int) -> Any:
    return f"{total:,}" if total < 10**18 else "far too many"
