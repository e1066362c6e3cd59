"""What a request asks for: which kind of file it sends, and what it wants back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import PurePosixPath
from typing import Literal, get_args

from fastapi import HTTPException

from labelmend.errors import DataError
from labelmend.files.formats import SUFFIXES, kind_of, split_name
from labelmend.types import ChannelAxis

Wanted = Literal["file", "png", "tiff", "nifti", "npy", "csv", "overlay", "rle", "json"]
"""What comes back; see :class:`Question`."""

SUFFIX_OF: dict[Wanted, str] = {
    "png": ".png",
    "tiff": ".tif",
    "nifti": ".nii.gz",
    "npy": ".npy",
    "csv": ".csv",
}
"""The formats of labels that can be asked for by name."""

_TYPES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/tiff": ".tif",
    "application/gzip": ".nii.gz",
    "application/x-gzip": ".nii.gz",
    "application/x-nifti": ".nii",
    "application/x-npy": ".npy",
    "audio/wav": ".wav",
    "audio/wave": ".wav",
    "audio/x-wav": ".wav",
    "audio/vnd.wave": ".wav",
    "audio/flac": ".flac",
    "text/csv": ".csv",
}
TYPES = tuple(_TYPES)
"""Content types that say enough by themselves."""

_LONGEST_NAME = 150
_UNNAMED = "image"


@dataclass(frozen=True, slots=True)
class Question:
    """A request for a prediction.

    Attributes:
        name: what the sent file is called: its suffix says the format, the rest is only shown.
        answer: ``file``: the label as ``labelmend predict`` would write it; ``png``, ``tiff``,
            ``nifti``, ``npy``, ``csv``: in this format; ``overlay``: a picture of outlines over the
            image; ``rle``: runs of positions per class; ``json``: the file, encoded, in an object.
        conclusions: whether to measure objects; with ``rle`` or ``json``.
        smallest: objects of fewer positions are left out.
        flips: whether mirror images are predicted too and the mean is taken.
        look: whether image and label are kept for some minutes, to be looked at; with ``json``.
        channels: where arrays, page stacks and volumes keep channels; None: as the data set.
    """

    name: str
    answer: Wanted = "file"
    conclusions: bool = False
    smallest: int = 1
    flips: bool = False
    look: bool = False
    channels: ChannelAxis | None = None

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            HTTPException: 422.
        """
        if self.conclusions and self.answer not in ("rle", "json"):
            raise HTTPException(422, "conclusions: go with answer=json or answer=rle")
        if self.look and self.answer != "json":
            raise HTTPException(422, "look: goes with answer=json")
        if self.smallest != 1 and not self.conclusions:
            raise HTTPException(422, "smallest: goes with conclusions=true")


KNOWN = ("name", "answer", "conclusions", "smallest", "flips", "look", "channels")


def check_query(given: Iterable[str]) -> None:
    """Refuse what nobody would look at, and what is there twice.

    Raises:
        HTTPException: 422.
    """
    seen: set[str] = set()
    for name in given:
        if name not in KNOWN:
            raise HTTPException(422, f"{name[:40]}: is not known; known are {', '.join(KNOWN)}")
        if name in seen:
            raise HTTPException(422, f"{name}: is there twice")
        seen.add(name)


def name_of(given: str | None, headers: Mapping[str, str]) -> str:
    """What the sent file is called, without any folder.

    By the query, by ``Content-Disposition: attachment; filename=…``, or ``image`` with the suffix
    of its ``Content-Type``. Nothing is ever read from or written to a path of this name.

    Raises:
        HTTPException: 415 where none of them says the format.

    >>> name_of("../a/Scan.PNG", {}), name_of(None, {"content-type": "audio/wav"})
    ('Scan.png', 'image.wav')
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        text = "send the file itself as the body, and its name as ?name=scan.png; no form"
        raise HTTPException(415, text)
    told = given or _filename(headers.get("content-disposition"))
    if told is None:
        if kind not in _TYPES:
            text = (
                f"say what is sent, as ?name=scan.png, or in Content-Type; read are {_suffixes()}"
            )
            raise HTTPException(415, text)
        return _UNNAMED + _TYPES[kind]
    name = _plain(told)
    try:
        kind_of(name)
    except DataError as error:
        raise HTTPException(415, str(error)) from error
    return name


def _filename(disposition: str | None) -> str | None:
    if not disposition:
        return None
    message = Message()
    message["content-disposition"] = " ".join(disposition.split())
    try:
        return message.get_filename() or None
    except (ValueError, LookupError, TypeError):  # nonsense in its parameters
        return None


def _plain(told: str) -> str:
    """The last part of a path, its letters shown and short; its suffix as it was."""
    last = PurePosixPath(told.replace("\\", "/")).name
    stem, suffix = split_name("".join(c if c.isprintable() else "_" for c in last))
    return stem[:_LONGEST_NAME] + suffix[:20]


def _suffixes() -> str:
    return " ".join(SUFFIXES)


if set(SUFFIX_OF) - set(get_args(Wanted)):
    raise AssertionError("a format that nobody can ask for")
