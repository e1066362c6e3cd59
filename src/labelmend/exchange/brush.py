"""Label Studio's brush strokes: runs of bytes of an RGBA picture, packed bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.documents import shown

_SIZES = (3, 4, 8, 16)
_WORD = 8
_HALF = 127


def unpack_brush(packed: Any, size: tuple[int, int]) -> np.ndarray:
    """The mask of a brush: ``(rows, columns)`` bool, True where it is at least half opaque.

    The list of bytes is one row of bits, the highest of each byte first: the number of values
    (32 bits), the bits of one value less 1 (5), four sizes of counts less 1 (4 each); then until
    all values are there: whether they are equal (1), which size their count has (2), the count
    less 1, and one value for all or one each. Four values are one position: red, green, blue,
    opacity.

    Args:
        packed: whole numbers from 0 to 255.
        size: rows and columns; nothing is allocated unless the list is for exactly that.

    Raises:
        DataError: when it is damaged, or for another size.

    Source: the description of the packages ``rle-pack`` and ``label-studio-converter``.
    """
    bits = _Bits(packed)
    count, word = bits.take(32), bits.take(5) + 1
    sizes = [bits.take(4) + 1 for _ in range(4)]
    wanted = size[0] * size[1] * 4
    if word != _WORD or count != wanted:
        raise DataError(
            f"its brush holds {count:,} values of {word} bits, but an image of {size[0]} x "
            f"{size[1]} has {wanted:,} of {_WORD}; export it again"
        )
    values = np.empty(count, dtype=np.uint8)
    place = 0
    while place < count:
        equal = bits.take(1)
        stop = place + bits.take(sizes[bits.take(2)]) + 1
        if stop > count:
            raise DataError("its brush holds more values than it says; export it again")
        values[place:stop] = bits.take(_WORD) if equal else bits.take_bytes(stop - place)
        place = stop
    opaque: np.ndarray = values.reshape(*size, 4)[..., 3] > _HALF
    return opaque


def pack_brush(mask: np.ndarray) -> list[int]:
    """A mask as the list of bytes that :func:`unpack_brush` takes.

    Raises:
        DataError: when there are too many positions to be counted in 32 bits.

    >>> unpack_brush(pack_brush(np.eye(2, dtype=bool)), (2, 2)).astype(int)
    array([[1, 0],
           [0, 1]])
    """
    flat = mask.ravel()
    if flat.size >= 1 << 30:
        raise DataError("a brush holds fewer than 2^30 positions; cut the image into parts")
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * 4
    parts = [f"{flat.size * 4:032b}{_WORD - 1:05b}", *(f"{n - 1:04b}" for n in _SIZES)]
    for length, inside in zip(lengths.tolist(), flat[starts].tolist(), strict=True):
        left = length
        while left > 0:
            piece = min(left, 1 << _SIZES[-1])
            which = next(i for i, n in enumerate(_SIZES) if piece <= 1 << n)
            parts.append(
                f"1{which:02b}{piece - 1:0{_SIZES[which]}b}{'1' * 8 if inside else '0' * 8}"
            )
            left -= piece
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8))


class _Bits:
    """A row of bits that is taken from the front."""

    def __init__(self, packed: Any) -> None:
        try:
            self._data = bytes(packed) if isinstance(packed, list) else None
        except (TypeError, ValueError):
            self._data = None
        if self._data is None:
            raise DataError(
                f"its brush should be a list of numbers from 0 to 255, not {shown(packed)}"
            )
        self._place = 0

    def take(self, count: int) -> int:
        """The next few bits as a number."""
        first, last = self._place >> 3, (self._place + count + 7) >> 3
        chunk = self._cut(first, last)
        after = (last << 3) - self._place - count
        self._place += count
        return int.from_bytes(chunk) >> after & ((1 << count) - 1)

    def take_bytes(self, count: int) -> np.ndarray:
        """The next bits as so many bytes."""
        first, last = self._place >> 3, (self._place + 8 * count + 7) >> 3
        bits = np.unpackbits(np.frombuffer(self._cut(first, last), np.uint8))
        skip = self._place & 7
        self._place += 8 * count
        return np.packbits(bits[skip : skip + 8 * count])

    def _cut(self, first: int, last: int) -> bytes:
        data = self._data or b""
        if last > len(data):
            raise DataError("its brush is cut short; export it again")
        return data[first:last]
