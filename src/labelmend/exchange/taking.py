"""Take labels in: a new data folder out of the files of another tool."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import tomli_w

from labelmend.catalogue.listing import IMAGES, MANIFEST, STRONG, WEAK
from labelmend.catalogue.toml import FILE as TOML
from labelmend.errors import DataError, SettingsError, unknown
from labelmend.exchange.annotated import (
    UNKNOWN,
    Annotated,
    Crowd,
    Found,
    Source,
    paint,
    within,
)
from labelmend.exchange.classes import all_numbers, check_wanted
from labelmend.exchange.documents import in_brief
from labelmend.exchange.formats import find_format
from labelmend.exchange.places import find_image, images_left_out, stem_of
from labelmend.files.formats import Raw
from labelmend.files.readers import as_raster, decode, read_bytes, write_label
from labelmend.files.values import distinct
from labelmend.labels.events import IGNORE
from labelmend.progress import Silent, Watcher
from labelmend.runs import write_atomically
from labelmend.runs.appearing import appearing, check_free
from labelmend.telling import Telling
from labelmend.types import ChannelAxis, DataSpec, Quality, Raster

_SUFFIXES = {1: ".csv", 2: ".png", 3: ".nii.gz"}
_MOST_CHANNELS = 4
_HEADER = ("image", "label", "quality", "split", "group", "annotator")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is known of labels that their files do not say.

    Attributes:
        images: the folder of the images; None where they lie with the labels.
        quality: how far the labels are trusted.
        annotator: who drew them.
        classes: the wanted classes in their order, with or without the background.
        band: positions at most so far from an object's border become unknown.
        crowd: what annotations of COCO with ``iscrowd`` 1 are; None where nobody knows.
    """

    images: Path | None = None
    quality: Quality = "strong"
    annotator: str = ""
    classes: tuple[str, ...] = ()
    band: float = 0.0
    crowd: Crowd | None = None


@dataclass(frozen=True, slots=True)
class Taken(Telling):
    """What was taken in.

    Attributes:
        out: the new data folder.
        format: the format that was read.
        labels: how many labels were written.
        images: how many images they are of.
        classes: their names, the background first.
        notes: sentences for a person.
    """

    out: Path
    format: str
    labels: int
    images: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    def to_text(self) -> str:
        """For people, in a few lines."""
        lines = [
            f"{self.labels} label{'s' * (self.labels != 1)} of {self.images} "
            f"image{'s' * (self.images != 1)} taken from {self.format} into {self.out}",
            f"classes: {', '.join(f'{n} = {i}' for i, n in enumerate(self.classes))}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def import_labels(
    source: Path,
    out: Path,
    *,
    format: str = "auto",
    wish: Wish | None = None,
    watcher: Watcher | None = None,
) -> Taken:
    """Make a data folder of what another tool wrote; images are copied byte for byte.

    ``out`` gets ``images/``, ``labels/``, a ``data.toml`` with classes and values, and a
    ``manifest.csv`` only where folders cannot say it. It appears when all is written.

    Args:
        source: the file or folder of the other tool; only read.
        out: a folder that does not exist or is empty.
        format: one of :data:`~labelmend.exchange.formats.FORMATS`, or ``auto``.
        wish: what the files do not say.
        watcher: sees one step per label.

    Raises:
        DataError: for anything wrong in the files, naming file and object; then there is no folder.
        SettingsError: for a format, class or name that cannot be.
        RunError: when ``out`` is occupied; StorageError: when the disk refuses.

    The trap: where an object is not drawn, the label says background. What nobody looked at must
    be drawn as ``ignore``, or left out.
    """
    wish, watcher = wish or Wish(), watcher or Silent()
    _check(wish)
    check_free(out)
    if not source.exists():
        raise DataError(f"{source}: does not exist; check the path")
    source, where = _straight(source), None if wish.images is None else _straight(wish.images)
    wanted = Source(source, where, check_wanted(wish.classes), wish.crowd)
    chosen = find_format(format, source)
    _check_crowd(wish, chosen.name)
    found = chosen.read(wanted)
    with appearing(out) as folder:
        taking = _Taking(folder, found, wanted.root, wish)
        watcher.start(len(found.items), 0)
        try:
            for number, item in enumerate(found.items, 1):
                taking.add(item)
                watcher.step(number, {})
        finally:
            watcher.finish()
        taking.conclude()
    images = len({row.image for row in taking.rows})
    notes = (*found.notes, *taking.notes)
    return Taken(out, chosen.name, len(taking.rows), images, found.classes, notes)


def _check(wish: Wish) -> None:
    _plain(wish.annotator, "--annotator")
    if not 0 <= wish.band < float("inf"):
        raise SettingsError(f"--band wants a width of 0 or more positions, not {wish.band}")
    if wish.images is not None and not wish.images.is_dir():
        raise DataError(f"{wish.images}: is not a folder; --images names that of the images")


def _straight(path: Path) -> Path:
    """A path without ``..``: what lies below it can then be told by comparing paths."""
    return path.resolve() if ".." in path.parts else path


def _check_crowd(wish: Wish, format: str) -> None:
    if wish.crowd not in (None, *get_args(Crowd)):
        raise unknown("crowd", str(wish.crowd), get_args(Crowd))
    if wish.crowd is not None and format != "coco":
        raise SettingsError(
            f"--crowd says what crowds of coco are, and {format} has none; leave it out"
        )


def _plain(name: str, what: str) -> None:
    """Refuse a name that cannot be one folder."""
    if name and (name[0] == "." or name != name.strip() or not name.isprintable()):
        raise SettingsError(f"{what}: {name!r} cannot be the name of a folder; choose another")
    if "/" in name or "\\" in name:
        raise SettingsError(f"{what}: {name!r} holds a slash; choose a name without")


@dataclass(frozen=True, slots=True)
class _Row:
    image: str
    label: str
    quality: Quality
    split: str
    annotator: str


@dataclass
class _Taking:
    """Writes one image and label after the other."""

    folder: Path
    found: Found
    root: Path
    wish: Wish
    rows: list[_Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unknown: int = 0

    def __post_init__(self) -> None:
        self._places = [
            find_image(item, self.found.folders, self.root) for item in self.found.items
        ]
        left = images_left_out(self._places, (item.source for item in self.found.items))
        if left:
            said = f"{len(left)} ({in_brief(left)})"
            self.notes.append(f"Images without a label, left out: {said}.")
        names = {name for _, name in self._places}
        self._shared = {stem for stem, count in Counter(map(_folded, names)).items() if count > 1}
        self._numbers = all_numbers(self.found.classes, self.found.items)
        self._spec = _spec_of(self.found)
        self._seen: set[str] = set()
        self._occurring: set[int] = set()

    def add(self, item: Annotated) -> None:
        """Copy an image and write its label."""
        path, name = self._places[len(self.rows)]
        row = self._row(item, name)
        if row.label in self._seen:
            raise DataError(
                f"{item.source}: the image {name!r} has a second label; remove one, or, if they "
                "are by several people, take them with --quality weak"
            )
        self._seen.add(row.label)
        content = read_bytes(path)
        raw = decode(path, content)
        with within(path):
            image = _raster_of(raw, self.found.dims, item.size)
        label = paint(item, image, self._numbers, band=self.wish.band)
        self.unknown += int((label == UNKNOWN).sum())
        self._occurring |= set(distinct(label.astype(np.int64)).tolist())
        target = self.folder / row.image
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            write_atomically(target, content)
        index = np.where(label == UNKNOWN, len(self.found.classes), label)
        write_label(self.folder / row.label, index, self._spec, image)
        self.rows.append(row)

    def _row(self, item: Annotated, name: str) -> _Row:
        who = item.annotator or self.wish.annotator
        with within(item.source):
            _plain(who, "the annotator")
        weak = self.wish.quality == "weak"
        folder = f"{WEAK}/{who}" if weak and who else WEAK if weak else STRONG
        stem = name if _folded(name) in self._shared else stem_of(name)
        label = f"{folder}/{stem}{_SUFFIXES[self.found.dims]}"
        return _Row(f"{IMAGES}/{name}", label, self.wish.quality, item.split or "", who)

    def conclude(self) -> None:
        """Write what all of them share."""
        classes = dict(zip(self.found.classes, range(len(self.found.classes)), strict=True))
        about: dict[str, object] = {"task": "segmentation", "dims": self.found.dims}
        if self.unknown and self.found.dims > 1:
            about["ignore"] = self._spec.values[-1]
        text = tomli_w.dumps(about | {"classes": classes})
        write_atomically(self.folder / TOML, text.encode())
        if self._needs_manifest():
            write_atomically(self.folder / MANIFEST, _manifest(self.rows))
        never = [n for i, n in enumerate(self.found.classes) if i and i not in self._occurring]
        if never:
            self.notes.append(f"Classes that occur in no label: {in_brief(never)}.")
        if self.unknown:
            self.notes.append(f"{self.unknown:,} positions are unknown and count nowhere.")

    def _needs_manifest(self) -> bool:
        names = [row.image.removeprefix(f"{IMAGES}/") for row in self.rows]
        return bool(self._shared) or any(
            "/" in name
            or name[0] == "."
            or row.split
            or (row.annotator and row.quality == "strong")
            for name, row in zip(names, self.rows, strict=True)
        )


def _folded(name: str) -> str:
    return stem_of(name).casefold()


def _spec_of(found: Found) -> DataSpec:
    """What is written: class indices, and after the last class the value of what is unknown."""
    count = len(found.classes)
    ignore = 255 if count <= 255 else 65535
    return DataSpec(
        "segmentation",
        (*found.classes, IGNORE),
        (*range(count), ignore),
        None,
        found.dims,
        1,
        "none",
        _SUFFIXES[found.dims],
    )


def _raster_of(raw: Raw, dims: int, size: tuple[int, ...] | None) -> Raster:
    """The image, its channels where its size or their small number shows them."""
    if raw.channel is not None or raw.array.ndim != dims + 1:
        return as_raster(raw, dims, None)
    shape = raw.array.shape
    fits: list[ChannelAxis] = []
    if size is not None:
        fits = [a for a, rest in (("first", shape[1:]), ("last", shape[:-1])) if rest == size]  # type: ignore[misc]
    elif (shape[0] <= _MOST_CHANNELS) != (shape[-1] <= _MOST_CHANNELS):
        fits = ["first" if shape[0] <= _MOST_CHANNELS else "last"]
    if len(fits) != 1:
        raise DataError(
            f"has {raw.array.ndim} axes, and which of them holds channels does not follow; save it "
            "as PNG or as TIFF with named axes"
        )
    return as_raster(raw, dims, fits[0])


def _manifest(rows: Sequence[_Row]) -> bytes:
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_HEADER)
    table.writerows((r.image, r.label, r.quality, r.split, "", r.annotator) for r in rows)
    return stream.getvalue().encode()
