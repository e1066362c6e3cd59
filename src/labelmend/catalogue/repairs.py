"""What people decided about labels after looking at them: a table beside the data."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from labelmend.catalogue.links import may_read
from labelmend.catalogue.listing import Entry, Listing
from labelmend.errors import DataError
from labelmend.files.formats import naming, nearest, split_name
from labelmend.files.sources import hash_file, read_rows
from labelmend.runs import write_atomically
from labelmend.types import Quality

TABLE = "repairs.csv"
FOLDER = "labels/repaired"
"""Where repaired labels lie, beside the originals."""

Verdict = Literal["accepted", "rejected"]


@dataclass(frozen=True, slots=True)
class Repair:
    """What one person decided about one label.

    Attributes:
        label: the original label's path, relative to the data root.
        verdict: rejected labels are left out.
        quality: what the label counts as from now on.
        repaired: the path of the repaired label; empty where the original is right as it is.
        event: which event of the review it comes from.
        person: who decided; may be empty.
        time: when, ISO 8601 in UTC.
        label_sha256: of the original when it was looked at.
        repaired_sha256: of the repaired label.
    """

    label: str
    verdict: Verdict
    quality: Quality
    repaired: str = ""
    event: str = ""
    person: str = ""
    time: str = ""
    label_sha256: str = ""
    repaired_sha256: str = ""


_COLUMNS = tuple(field.name for field in fields(Repair))
_CHOICES = {"verdict": get_args(Verdict), "quality": get_args(Quality)}


def read_repairs(root: Path) -> dict[str, Repair]:
    """The repairs of a data set by original label, in the order of the file; none without one.

    Raises:
        DataError: when the file cannot be used, naming it and the line.
    """
    if not (root / TABLE).exists():
        return {}
    rows = read_rows(root / TABLE, _WAY)
    found: dict[str, Repair] = {}
    with naming(Path(TABLE)):
        if not rows or tuple(rows[0]) != _COLUMNS:
            raise DataError(f"needs the columns {','.join(_COLUMNS)}; {_WAY}")
        for line, row in enumerate(rows[1:], 2):
            repair = _repair(row, line)
            if repair.label in found:
                raise DataError(f"line {line}: {repair.label} is in it twice; remove one")
            found[repair.label] = repair
    return found


_WAY = "write it anew with: labelmend review RUN --export"


def write_repairs(root: Path, repairs: Iterable[Repair]) -> None:
    """Replace the table, in one step; remove it where nothing is left to say.

    Raises:
        StorageError: when the disk refuses; then the old table is intact.
    """
    kept = sorted(repairs, key=lambda repair: repair.label)
    if not kept and not (root / TABLE).exists():
        return
    stream = StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(_COLUMNS)
    rows.writerows(astuple(repair) for repair in kept)
    write_atomically(root / TABLE, stream.getvalue().encode())


def apply_repairs(root: Path, found: Listing) -> None:
    """Put repaired labels in place of what they repair, and take rejected ones out of a listing.

    What does not fit (a label that is gone or changed since, a repaired file that is not the one
    that was written) becomes a problem of the listing, and its entry is left out.

    A trap: the sample's name, its label's path, is from now on that of the repaired file.

    Raises:
        DataError: when the table cannot be used.
    """
    repairs = read_repairs(root)
    if not repairs:
        return
    at = {entry.label: number for number, entry in enumerate(found.entries)}
    entries: list[Entry | None] = list(found.entries)
    good: list[Repair] = []
    for line, repair in enumerate(repairs.values(), 2):
        place = at.get(repair.label)
        problem = _misfit(root, repair, known=place is not None)
        if place is not None:
            entries[place] = None if problem else _repaired(found.entries[place], repair)
        if problem:
            found.refuse(TABLE, f"line {line}: {problem}")
        else:
            good.append(repair)
    found.entries = sorted((e for e in entries if e is not None), key=lambda e: e.label)
    if good:
        found.notes.append(_note(good))


def original_of(label: str, repairs: Mapping[str, Repair]) -> str:
    """The label that a path repairs, or the path itself where it is no repaired one.

    >>> repairs = {"a.png": Repair("a.png", "accepted", "weak", "labels/repaired/a.1.png")}
    >>> original_of("labels/repaired/a.1.png", repairs), original_of("b.png", repairs)
    ('a.png', 'b.png')
    """
    return next((r.label for r in repairs.values() if r.repaired == label), label)


def repaired_name(label: str, event: str) -> str:
    """Where the repaired label of an original goes, without the suffix of its format.

    >>> repaired_name("labels/weak/ann/scan.v2.png", "3f2a9c1b-77aa")
    'labels/repaired/weak/ann/scan.v2.3f2a9c1b'
    """
    path = PurePosixPath(label)
    parts = path.parts[1:-1] if path.parts[0] == "labels" else path.parts[:-1]
    stem = split_name(path.name)[0]
    return str(PurePosixPath(FOLDER, *parts, f"{stem}.{event.partition('-')[0]}"))


def _repair(row: Sequence[str], line: int) -> Repair:
    if len(row) != len(_COLUMNS):
        raise DataError(f"line {line} has {len(row)} cells, not {len(_COLUMNS)}; {_WAY}")
    cells = dict(zip(_COLUMNS, row, strict=True))
    for name, known in _CHOICES.items():
        if cells[name] not in known:
            raise DataError(
                f"line {line}: unknown {name} {cells[name]!r}{nearest(cells[name], known)}"
            )
    return Repair(**cells)  # type: ignore[arg-type]  # checked against the words just above


def _misfit(root: Path, repair: Repair, *, known: bool) -> str | None:
    """Why a repair cannot be used, in words, or None."""
    label = repair.label
    if not known:
        return f"{label} is no label of this data set any more; put it back, or remove the line"
    if repair.label_sha256 and hash_file(root / label) != repair.label_sha256:
        return f"{label} changed after it was looked at; review it again, or remove the line"
    return _misfit_of_file(root, repair) if repair.repaired else None


def _misfit_of_file(root: Path, repair: Repair) -> str | None:
    path = PurePosixPath(repair.repaired)
    if path.is_absolute() or ".." in path.parts or not may_read(root, repair.repaired):
        return f"{repair.repaired!r} leads out of the data folder; {_WAY}"
    if not (root / repair.repaired).is_file():
        return f"{repair.repaired} does not exist; {_WAY}"
    if repair.repaired_sha256 and hash_file(root / repair.repaired) != repair.repaired_sha256:
        return f"{repair.repaired} is not the file that was written; {_WAY}"
    return None


def _repaired(entry: Entry, repair: Repair) -> Entry | None:
    if repair.verdict == "rejected":
        return None
    label = repair.repaired or entry.label
    return replace(entry, label=label, quality=repair.quality, trusted_before=entry.quality)


def _note(repairs: Sequence[Repair]) -> str:
    redrawn = sum(bool(r.repaired) and r.verdict == "accepted" for r in repairs)
    rejected = sum(r.verdict == "rejected" for r in repairs)
    strong = sum(r.verdict == "accepted" and r.quality == "strong" for r in repairs)
    labels = f"{len(repairs)} label{'s' * (len(repairs) != 1)}"
    were = "were" if len(repairs) != 1 else "was"
    return (
        f"{labels} {were} looked at by people ({TABLE}): {redrawn} repaired, {rejected} rejected "
        f"and left out; {strong} count{'s' * (strong == 1)} as strong."
    )
