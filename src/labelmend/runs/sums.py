"""Checksums: what a folder's files must hash to, in a list that also guards itself."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from labelmend.errors import DamagedError

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n/]+)")


def make_sums(hashes: dict[str, str]) -> bytes:
    """The list as ``sha256sum --check`` reads it; its last line is the hash of those before.

    >>> print(make_sums({"a": 64 * "0"}).decode()[:67])
    0000000000000000000000000000000000000000000000000000000000000000  a
    """
    body = "".join(f"{digest}  {name}\n" for name, digest in hashes.items()).encode()
    return body + _seal(body)


def read_sums(folder: Path) -> dict[str, str]:
    """The hash of every file of a folder by its name.

    Raises:
        DamagedError: when the list is missing or is not as it was written.
    """
    path = folder / SUMS
    content = read_bytes(path)
    body, _, last = content.removesuffix(b"\n").rpartition(b"\n")
    body += b"\n"
    if _seal(body) != last + b"\n" or not content.endswith(b"\n"):
        raise damaged(path)
    matches = [_LINE.fullmatch(line) for line in body.decode(errors="replace").splitlines()]
    if None in matches:
        raise damaged(path)
    return {match[2]: match[1] for match in matches if match is not None}


def read_verified(folder: Path, hashes: dict[str, str], name: str) -> bytes:
    """The bytes of one file, which are the very ones that were hashed.

    Raises:
        DamagedError: when it is missing, cannot be read, or differs from its checksum.
    """
    content = read_bytes(folder / name)
    if hashlib.sha256(content).hexdigest() != hashes.get(name):
        raise damaged(folder / name)
    return content


def check_names(folder: Path, hashes: dict[str, str]) -> None:
    """Refuse a folder with a file too many or too few.

    Raises:
        DamagedError: naming the file.
    """
    try:
        found = set(os.listdir(folder))  # noqa: PTH208 - names are wanted, not paths
    except OSError as error:
        raise DamagedError(f"{folder} cannot be read: {error.strerror}") from error
    for name in sorted(hashes.keys() - found):
        raise DamagedError(f"{folder / name} is missing; restore it from a copy")
    for name in sorted(found - hashes.keys() - {SUMS}):
        raise DamagedError(f"{folder / name} does not belong there; move it away")


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        DamagedError: when it is missing or cannot be read, naming it.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; restore it from a copy") from None
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error


def damaged(path: Path) -> DamagedError:
    """The error for a file that is not as it was written."""
    return DamagedError(
        f"{path} does not match its checksum: it is not as it was written; restore it from a copy"
    )


def _seal(body: bytes) -> bytes:
    return b"# the lines above: " + hashlib.sha256(body).hexdigest().encode() + b"\n"
