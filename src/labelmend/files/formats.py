"""What a file's name and first bytes promise, and what a decoder hands on."""

from __future__ import annotations

import difflib
import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelmend.errors import DataError
from labelmend.types import ChannelAxis, Georeference

Content = bytes | mmap.mmap

DECODED_LIMIT = 8 * 2**30
"""Most bytes that one file may take in memory; what promises more is refused from its header."""

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ome.tif": "TIFF",
    ".ome.tiff": "TIFF",
    ".nii": "NIfTI",
    ".nii.gz": "gzip",
    ".npy": "npy",
    ".npz": "npz",
    ".wav": "WAV",
    ".flac": "FLAC",
    ".csv": "CSV",
}
"""Every suffix that is read, and the kind of file that it promises."""

_FIRST_BYTES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"RIFF": "WAV",
    b"RF64": "WAV",
    b"fLaC": "FLAC",
    b"\x1f\x8b": "gzip",
    b"GIF8": "GIF",
    b"BM": "BMP",
}
_WITH_FIRST_BYTES = frozenset(_FIRST_BYTES.values())


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a data set: in which file, and in one line what and the way out.

    ``file`` is relative to the data root, with forward slashes.
    """

    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class Raw:
    """What a file holds, its axes in the file's own order.

    ``channel`` says where the channel axis is, ``None`` where the format does not know;
    ``no_data`` is the value by which the file says that nothing was recorded, if it does;
    ``georeference`` is that of :class:`~labelmend.types.Raster`.
    """

    array: np.ndarray
    channel: ChannelAxis | None
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    no_data: float | None = None
    georeference: Georeference = ()


def split_name(name: str) -> tuple[str, str]:
    """A file name's stem and its suffix in lower case, double suffixes kept whole.

    >>> split_name("scan.v2.NII.gz"), split_name("notes.txt")
    (('scan.v2', '.nii.gz'), ('notes', '.txt'))
    """
    lower = name.lower()
    for suffix in (".nii.gz", ".ome.tif", ".ome.tiff"):
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return name[: -len(suffix)], suffix
    dot = name.rfind(".")
    return (name, "") if dot <= 0 else (name[:dot], lower[dot:])


def kind_of(name: str) -> str:
    """The kind of file that a name promises.

    Raises:
        DataError: when its suffix is not one that is read.

    >>> kind_of("a.ome.tif")
    'TIFF'
    """
    _, suffix = split_name(name)
    if suffix not in SUFFIXES:
        known = " ".join(SUFFIXES)
        shown = f"{suffix} files are" if suffix else "a file without a suffix is"
        raise DataError(f"{shown} not read; convert it to one of {known}, or move it elsewhere")
    return SUFFIXES[suffix]


def check_first_bytes(content: Content, kind: str) -> None:
    """Refuse a file that holds another format than its name promises."""
    if len(content) == 0:
        raise DataError("the file is empty (0 bytes); copy or export it again")
    start = bytes(content[:8])
    found = next((k for first, k in _FIRST_BYTES.items() if start.startswith(first)), None)
    if found == kind or (found is None and kind not in _WITH_FIRST_BYTES):
        return
    if found == "BMP" and kind not in _WITH_FIRST_BYTES:
        return  # two letters prove nothing in a format of text or without first bytes
    holds = f"holds a {found} file" if found else "does not begin like one"
    raise DataError(f"is named as {_named(kind)} but {holds}; export it again or correct the name")


def _named(kind: str) -> str:
    return "gzipped NIfTI" if kind == "gzip" else kind


def check_decoded(size: int, limit: int, *, stored: int | None = None, ratio: int = 1100) -> None:
    """Refuse, from the header alone, what would not fit or cannot be true.

    ``stored`` is the file's size in bytes and ``ratio`` the most that its compression can gain
    (deflate: 1032, JPEG: 1024).
    """
    if size > limit:
        raise DataError(
            f"its header promises {size:,} bytes, more than the limit of {limit:,}; "
            "cut it into parts, or check that it is what it should be"
        )
    if stored is not None and size > ratio * stored + 65536:
        raise DataError(
            f"is damaged or cut short: its header promises {size:,} bytes, "
            f"which {stored:,} bytes cannot hold; copy or export it again"
        )


def damaged(kind: str) -> DataError:
    """The error for a file that begins as its kind should and then does not go on so."""
    return DataError(
        f"is damaged or cut short: it cannot be decoded as {_named(kind)}; copy or export it again"
    )


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The words that offer the known name nearest to a wrong one.

    >>> nearest("stong", ["strong", "weak"])
    "; did you mean 'strong'?"
    """
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's name before the text of every data error from within."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error.__cause__
