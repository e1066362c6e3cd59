"""Files that are proved to be the right ones, and what was made of them, kept in bounded memory."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import Generic, TypeVar

from labelmend.errors import DataError
from labelmend.files.readers import load_verified

SETTLED = 2.0
"""Seconds a file must have been left alone before its times are trusted to show a change."""

Value = TypeVar("Value")


class Files:
    """Which files were found to be the right ones, and what they looked like then."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self._seen: dict[tuple[str, str], tuple[int, ...]] = {}

    def load(self, file: str, sha256: str) -> bytes:
        """The content of the file, which is the one of that hash.

        Raises:
            ChangedDataError: when it is another.
        """
        if not sha256:
            raise DataError(f"{file}: no hash is recorded; open the data set with open_data()")
        # looked at before reading: a change in between then shows in the next look
        look, settled = self._look(file)
        content = load_verified(self.root / file, sha256)
        self._seen.pop((file, sha256), None)
        if settled:
            self._seen[file, sha256] = look
        return content

    def changed(self, file: str, sha256: str) -> bytes | None:
        """None while the file looks as it did when it was verified, else its content, verified."""
        if self._seen.get((file, sha256)) == self._look(file)[0]:
            return None
        return self.load(file, sha256)

    def _look(self, file: str) -> tuple[tuple[int, ...], bool]:
        try:
            stat = os.stat(self.root / file)  # noqa: PTH116 (a Path is made already)
        except OSError as error:
            raise DataError(f"{file}: the file cannot be read: {error.strerror}") from None
        look = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        # times are coarse: a file changed just now could change again and look the same
        settled = time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED
        return look, settled


class Cache(Generic[Value]):
    """What was used last, up to a number of bytes."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, ...], tuple[Value, int]] = OrderedDict()
        self._size = 0

    def get(self, key: tuple[str, ...]) -> Value | None:
        """What is held for ``key``, which makes it the latest used."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: tuple[str, ...], value: Value, size: int) -> None:
        """Hold ``value`` of ``size`` bytes and let go of what was used longest ago.

        What is larger than the whole limit is not held.
        """
        if size > self._limit:
            return
        self._size += size - self._held.pop(key, (value, 0))[1]
        self._held[key] = (value, size)
        while self._size > self._limit:
            self._size -= self._held.popitem(last=False)[1][1]
