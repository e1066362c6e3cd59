"""The disk: the few operations that change it, in one place where tests can break them."""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """Every operation by which a run changes the disk, and nothing else.

    All writing goes through these few, so that tests can fail or kill at each one in turn.
    """

    @staticmethod
    def create(path: Path) -> int:
        """Open a file that does not exist yet, for writing."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    @staticmethod
    def extend(path: Path) -> int:
        """Open a file, made if need be, so that every write lands at its end."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    @staticmethod
    def write(file: int, data: memoryview) -> int:
        """Write some of the bytes; how many."""
        return os.write(file, data)

    @staticmethod
    def truncate(file: int, size: int) -> None:
        """Cut an open file to a size."""
        os.ftruncate(file, size)

    @staticmethod
    def sync(file: int) -> None:
        """Wait until an open file or folder has reached the disk."""
        os.fsync(file)

    @staticmethod
    def close(file: int) -> None:
        """Close an open file; network disks report a full quota only here."""
        os.close(file)

    @staticmethod
    def rename(old: Path, new: Path) -> None:
        """Give a file or folder a new name in one step, over a file or an empty folder."""
        os.replace(old, new)  # noqa: PTH105 - one family of calls reads better

    @staticmethod
    def mkdir(path: Path) -> None:
        """Make a folder."""
        path.mkdir()

    @staticmethod
    def unlink(path: Path) -> None:
        """Remove a file."""
        path.unlink()

    @staticmethod
    def rmdir(path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()
