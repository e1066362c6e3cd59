"""What the store keeps of a case and of each thing a person did to it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Base:
    """What a case began with: the SHA-256 of the label's file and of its class indices."""

    file_sha256: str
    label_sha256: str


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a person did, and what the case was after it.

    ``id`` is made by the page, new for each event; ``op`` the JSON text of the operation;
    ``blob`` the packed label that a ``take`` took; ``after`` the SHA-256 of the label after it,
    as :func:`labelmend.review.packing.fingerprint`. ``quality`` is ``None`` until a person set
    it. ``edited``: the label then differed from its file. ``time`` is ISO 8601, UTC.
    """

    id: str
    kind: str
    op: str
    person: str
    time: str
    after: str
    verdict: str
    quality: str | None
    comment: str
    edited: bool
    blob: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An event on disk: its number among all events, its case, the case's version after it."""

    number: int
    label: str
    version: int
    event: Event


@dataclass(frozen=True, slots=True)
class Stale:
    """Nothing was kept: the case has another version than the one that was expected."""

    version: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A case in short, as its last event left it, without its label.

    ``number`` and ``id`` are those of that event.
    """

    version: int = 0
    verdict: str = "open"
    quality: str | None = None
    comment: str = ""
    edited: bool = False
    number: int = 0
    id: str = ""


def clean_name(text: str) -> str:
    r"""A person's name as it is kept: no control characters, one line, at most 80 characters.

    >>> clean_name("  Ada\n Lovelace ")
    'Ada Lovelace'
    """
    plain = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join(plain.split())[:LONGEST_NAME].strip()
