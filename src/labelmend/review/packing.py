"""Labels as small bytes, and one number that stands for a whole label."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Sequence

import numpy as np

from labelmend.errors import DamagedError

BLOCK = 2**16
"""Positions per block that is hashed by itself."""

_KINDS = {b"1": "<i1", b"2": "<i2"}


def pack(label: np.ndarray) -> bytes:
    """Class indices, with their shape, in as few bytes as zlib makes of them.

    >>> unpack(pack(np.array([[0, -1], [1, 300]], np.int16)))
    array([[  0,  -1],
           [  1, 300]], dtype=int16)
    """
    narrow = label.size == 0 or (label.min() >= -128 and label.max() <= 127)
    kind = b"1" if narrow else b"2"
    shape = ",".join(str(n) for n in label.shape).encode()
    values = np.ascontiguousarray(label, dtype=_KINDS[kind])
    return kind + shape + b"\n" + zlib.compress(values.data, 1)


def unpack(data: bytes) -> np.ndarray:
    """What :func:`pack` packed, as a new int16 array.

    Raises:
        DamagedError: for other bytes; never unpacks more than the shape says.
    """
    try:
        return _unpack(data)
    except (ValueError, KeyError, OverflowError, zlib.error) as error:
        raise DamagedError(
            f"a packed label cannot be unpacked ({error}); restore the review's file from a copy"
        ) from error


def _unpack(data: bytes) -> np.ndarray:
    head, _, body = data.partition(b"\n")
    shape = tuple(int(n) for n in head[1:].split(b",")) if len(head) > 1 else ()
    kind = np.dtype(_KINDS[head[:1]])
    size = math.prod(shape) * kind.itemsize
    if min(shape, default=0) < 0:
        raise ValueError("a negative side")
    values = zlib.decompressobj().decompress(body, size + 1)
    if len(values) != size:
        raise ValueError("another size")
    return np.frombuffer(values, kind).reshape(shape).astype(np.int16)


class Fingerprint:
    """A SHA-256 of a label that is quickly computed again after a change of a part.

    It is the SHA-256 over the shape and the SHA-256 of every block of 65,536 positions in C
    order, as little-endian int16; so a stroke in a large volume hashes a few blocks only.

    >>> label = np.zeros((3, 4), np.int16)
    >>> mark = Fingerprint(label); label[1, 2] = 1
    >>> mark.renew(label, (slice(1, 2), slice(2, 3)))
    >>> mark.text == fingerprint(label)
    True
    """

    def __init__(self, label: np.ndarray) -> None:
        self._shape = label.shape
        self._digests: dict[int, bytes] = {}
        self._hash_blocks(label, 0, label.size)

    @property
    def text(self) -> str:
        """The SHA-256 in hexadecimal."""
        head = f"label {','.join(str(n) for n in self._shape)}\n".encode()
        blocks = (self._digests[place] for place in sorted(self._digests))
        return hashlib.sha256(head + b"".join(blocks)).hexdigest()

    def renew(self, label: np.ndarray, region: Sequence[slice]) -> None:
        """Hash again what may have changed, in a region that is not empty."""
        first = np.ravel_multi_index(tuple(s.start for s in region), self._shape)
        last = np.ravel_multi_index(tuple(s.stop - 1 for s in region), self._shape)
        self._hash_blocks(label, int(first), int(last) + 1)

    def _hash_blocks(self, label: np.ndarray, start: int, stop: int) -> None:
        flat = np.ascontiguousarray(label, dtype="<i2").reshape(-1)
        for place in range(start // BLOCK, -(-stop // BLOCK)):
            block = flat[place * BLOCK : (place + 1) * BLOCK]
            self._digests[place] = hashlib.sha256(block.data).digest()


def fingerprint(label: np.ndarray) -> str:
    """The SHA-256 of a label's class indices and shape, as :class:`Fingerprint` has it."""
    return Fingerprint(label).text
