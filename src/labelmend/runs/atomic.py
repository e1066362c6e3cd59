"""Write a file or a folder so that a crash leaves the old one or the new one, never half of it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelmend.errors import StorageError
from labelmend.runs.disk import Disk
from labelmend.runs.locks import lock_folder
from labelmend.runs.sums import SUMS, make_sums

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.tmp", re.DOTALL)
_CHUNK = 1 << 24


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` in the file ``path``, in place of what was there, in one step.

    After a crash or power loss at any moment the file holds the old bytes or the new ones.
    A trap: a temporary file ``.NAME.*.tmp`` may stay beside it after a kill.

    Raises:
        StorageError: when the disk refuses; the old file is intact.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_atomically(path, b"one"); write_atomically(path, b"two"); path.read_bytes()
    b'two'
    """
    temporary = path.with_name(temporary_name(path.name))
    with keeping(path.name, path.parent, len(data)):
        try:
            write_file(temporary, data)
            Disk.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                Disk.unlink(temporary)
            raise
        sync_folder(path.parent)


def write_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Make the folder ``path`` of these files and their checksums, in one step.

    The folder must not exist or must be empty. Files are taken one at a time, so that
    a generator need not hold all of them in memory.

    Raises:
        OSError: when the disk refuses; what was written so far is removed if it can be.
    """
    temporary = path.with_name(temporary_name(path.name))
    Disk.mkdir(temporary)
    try:
        with lock_folder(temporary):
            hashes: dict[str, str] = {}
            for name, data in files:
                write_file(temporary / name, data)
                hashes[name] = hashlib.sha256(data).hexdigest()
            write_file(temporary / SUMS, make_sums(hashes))
            sync_folder(temporary)
            Disk.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            erase(temporary)
        raise
    sync_folder(path.parent)


def write_file(path: Path, data: bytes) -> None:
    """Make a new file and wait until it has reached the disk."""
    file = Disk.create(path)
    try:
        write_all(file, data)
        Disk.sync(file)
    except BaseException:
        os.close(file)
        raise
    Disk.close(file)


def write_all(file: int, data: bytes) -> None:
    """Write every byte, however many calls the system makes of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[Disk.write(file, rest[:_CHUNK]) :]


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder have reached the disk."""
    if os.name == "nt":  # Windows cannot open folders and needs no such call
        return
    file = os.open(path, os.O_RDONLY)
    try:
        Disk.sync(file)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have no such operation
            raise
    finally:
        os.close(file)


def discard(folder: Path) -> None:
    """Remove a folder so that a crash leaves it whole or gone: first the name, then the files."""
    grave = folder.with_name(temporary_name(folder.name))
    Disk.rename(folder, grave)
    erase(grave)


def erase(path: Path) -> None:
    """Remove a file, or a folder with all in it; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        Disk.unlink(path)
        return
    for entry in sorted(path.iterdir()):
        erase(entry)
    Disk.rmdir(path)


def temporary_name(name: str) -> str:
    """A new hidden name, of at most 255 bytes, that :func:`sweep` will know again."""
    short = os.fsencode(name)[:200].decode(errors="ignore")
    return f".{short}.{secrets.token_hex(6)}.tmp"


def sweep(folder: Path, names: frozenset[str] | None = None) -> None:
    """Remove what a killed process left half-written in a folder.

    Only temporaries of the given names, or all; never one that a living process is filling.
    """
    for entry in sorted(folder.iterdir()):
        match = _TEMPORARY.fullmatch(entry.name)
        if match is None or (names is not None and match["name"] not in names):
            continue
        if not entry.is_dir():
            erase(entry)
            continue
        with lock_folder(entry) as ours:
            if ours:
                erase(entry)


@contextmanager
def keeping(what: str, where: Path, needed: int) -> Iterator[None]:
    """Turn a disk's refusal into an error that says what was to be kept, and the room for it.

    Raises:
        StorageError: in place of any ``OSError`` from the body.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        room = f"it needs {_size(needed)} and {_free(where)} is free there"
        out = f"{_way_out(error.errno)}; what was there before is intact"
        refusal = StorageError(f"{what} could not be kept in {where}: {reason}; {room}; {out}")
        refusal.errno = error.errno
        raise refusal from error


def _way_out(number: int | None) -> str:
    if number == errno.ENOSPC:
        return "make room or choose another disk"
    if number == errno.EDQUOT:
        return "your quota is used up, whatever is free: make room or ask for more"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "make the folder writable or choose another"
    return "check the disk or choose another"


def _free(where: Path) -> str:
    for folder in (where, *where.parents):
        with suppress(OSError):
            return _size(shutil.disk_usage(folder).free)
    return "an unknown amount"


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
