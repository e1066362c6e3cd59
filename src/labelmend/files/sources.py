"""Bytes from disk: whole, verified, hashed or mapped; never from anything but a regular file."""

from __future__ import annotations

import csv
import hashlib
import mmap
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from labelmend.errors import ChangedDataError, DataError
from labelmend.files.formats import DECODED_LIMIT, Content, naming

_CHUNK = 1 << 22


def load_verified(path: Path, sha256: str) -> bytes:
    """A file's bytes, if they are those whose SHA-256 was recorded.

    Raises:
        ChangedDataError: when they are not; DataError: when it cannot be read.
    """
    data = read_bytes(path)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ChangedDataError(
            f"{path}: is not the file the run began with (SHA-256 {found[:12]}…, was "
            f"{sha256[:12]}…); put the old file back, or begin a new run"
        )
    return data


def hash_file(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, without holding all of it in memory."""
    check_regular(path)
    digest = hashlib.sha256()
    with _opening(path), path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_bytes(path: Path, limit: int = DECODED_LIMIT) -> bytes:
    """All bytes of a regular file.

    Raises:
        DataError: when it is missing, not a file, not readable or over the limit; naming it.
    """
    size = check_regular(path)
    if size > limit:
        raise DataError(f"{path}: has {size:,} bytes, more than the limit of {limit:,}; cut it")
    with _opening(path):
        return path.read_bytes()


def read_rows(path: Path, way_out: str) -> list[list[str]]:
    """The rows of a table of comma-separated values in UTF-8, its header among them.

    Raises:
        DataError: when it is none, with the way out; or as :func:`read_bytes`.
    """
    try:
        return list(csv.reader(StringIO(read_bytes(path).decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        with naming(Path(path.name)):
            raise DataError(f"is not a CSV in UTF-8; {way_out}") from error


def open_mapped(path: Path, limit: int) -> Content:
    """A file's bytes, read from the disk only where they are touched."""
    if check_regular(path) > limit:
        raise DataError(f"{path}: has more bytes than the limit of {limit:,}; cut it")
    with _opening(path), path.open("rb") as stream:
        if path.stat().st_size == 0:
            return b""
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def check_regular(path: Path) -> int:
    """The size of a file in bytes.

    Raises:
        DataError: when it is missing, may not be read, or is a folder or a device; naming it.
    """
    with _opening(path):
        about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "not a regular file"
        raise DataError(f"{path}: is {kind}; a file was wanted")
    return about.st_size


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: does not exist; check the path") from error
    except PermissionError as error:
        raise DataError(f"{path}: may not be read; change its permissions") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read from the disk; check path and disk") from error
