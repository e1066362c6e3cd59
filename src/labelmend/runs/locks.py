"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
import socket
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelmend.errors import RunError
from labelmend.runs.disk import Disk

if sys.platform != "win32":
    import fcntl

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class Lock:
    """The right to write in a folder; one process at a time has it.

    The system takes it back when the process ends, also by SIGKILL. A forked child (a loading
    process, say) does not share it, or it would outlive its parent with the lock in hand.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has it, through this object."""
        return self._file is not None

    def acquire(self) -> None:
        """Take it at once or not at all.

        Raises:
            RunError: when another process, or another object of this one, has it.
            OSError: when the lock's file cannot be written.
        """
        file = Disk.extend(self.path)
        try:
            taken = _take(file)
            owner = "" if taken else os.read(file, 200).decode(errors="replace").strip()
            if taken:
                Disk.truncate(file, 0)
                Disk.write(file, memoryview(_owner()))
        except BaseException:
            os.close(file)
            raise
        if not taken:
            os.close(file)
            raise RunError(
                f"{self.path.parent} is in use by {owner or 'another process'}; "
                "wait until that ends or stop it"
            )
        self._file = file
        _held.add(self)

    def release(self) -> None:
        """Give it back; nothing happens where it is not held."""
        if self._file is not None:
            if sys.platform != "win32":
                # a child that was forked past Python's hooks may share the open file
                fcntl.flock(self._file, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Close the file without giving back a lock that belongs to the parent process."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _owner() -> bytes:
    return f"process {os.getpid()} on {socket.gethostname()}\n".encode()


def _forget_all() -> None:
    for lock in list(_held):
        with suppress(OSError):
            lock.forget()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_all)


@contextmanager
def lock_folder(path: Path) -> Iterator[bool]:
    """Lock a temporary folder while it is filled or removed; yields whether it could be locked."""
    if sys.platform == "win32":  # folders cannot be opened there
        yield True
        return
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # removed by another process in the meantime
        yield False
        return
    try:
        yield _take(file)
    finally:
        os.close(file)


def _take(file: int) -> bool:
    if sys.platform == "win32":
        import msvcrt  # exists only there

        with suppress(PermissionError):
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            return True
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Some cluster disks are mounted without locks. Better no lock there than no training.
        if error.errno not in _NO_LOCKS:
            raise
    return True
