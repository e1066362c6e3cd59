"""Which images of a data set nobody labelled, and how labels of theirs would be written."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path, PurePosixPath

from labelmend.catalogue.links import leads_out, may_read
from labelmend.catalogue.listing import IMAGES, MANIFEST, Listing, list_pairs
from labelmend.catalogue.scan import open_data
from labelmend.catalogue.toml import FILE, Description, read_description
from labelmend.errors import DataError
from labelmend.files.formats import SUFFIXES, naming, split_name
from labelmend.files.readers import decode, read_bytes
from labelmend.types import DataSet, DataSpec, Sample

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".ome.tif", ".ome.tiff")
_RECORDINGS = (".wav", ".flac")
_FEW = 4
"""So many positions along the first or last axis could be channels."""


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Images of a data set that are to get labels.

    Attributes:
        root: the data set's folder.
        data: what its files share; without samples where nobody labelled anything yet.
        images: paths relative to ``root``, in order.
        targets: for each the path of its label below the folder of an annotator.
        notes: what nobody said and was inferred, in sentences.
    """

    root: Path
    data: DataSet
    images: tuple[str, ...]
    targets: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> DataSpec:
        """What the labels are to be like."""
        return self.data.spec


def find_unlabelled(
    root: Path,
    *,
    every: bool = False,
    object_name: str | None = None,
    like: DataSet | None = None,
    allow_bad: int = 0,
) -> Unlabelled:
    """The images of a data set without a label, or all of them.

    Args:
        root: the data folder, with ``images/`` or a ``manifest.csv``; labels need not exist.
        every: also the images that have labels.
        object_name: what the one class beside the background is called where nobody said.
        like: whose labels to write like where there is none and ``data.toml`` says nothing.
        allow_bad: problems of the labels that exist that are passed over.

    Raises:
        DataError: when the set cannot be used, every image has a label, or only a person can
            say what labels should be like.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; a data set is a folder with {IMAGES}/")
    with naming(root):
        listed = list_pairs(root)
    if listed.problems:
        raise DataError(
            f"{root}: {listed.problems[0]}; see all problems with: labelmend check {root}"
        )
    images = _images(root, listed, every=every)
    if not images:
        raise DataError(
            f"every image of {root} has a label; --all proposes further labels for all of them"
            if listed.entries
            else f"{root} holds no image; put images into {IMAGES}/"
        )
    notes: list[str] = []
    if listed.entries:
        data, _ = open_data(root, allow_bad=allow_bad, keep_splits=False, repairs=False)
    else:
        data = _bare(root, images, object_name, like, notes)
    return Unlabelled(root, data, images, _targets(images, data), tuple(notes))


def manifest_with(root: Path, labels: Sequence[tuple[str, str]], annotator: str) -> bytes:
    """The bytes of ``manifest.csv`` as they are, and a line for each (image, label) after them.

    A line takes split and group from another one of its image.

    Raises:
        DataError: when the manifest cannot be read.
    """
    content = read_bytes(root / MANIFEST)
    rows = _manifest_rows(content)
    names = [name.strip() for name in rows[0]]
    known: dict[str, dict[str, str]] = {}
    for row in rows[1:]:
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        before = known.setdefault(cells.get("image", ""), {})
        before.update({name: cell for name, cell in cells.items() if cell})
    end = "\r\n" if b"\r\n" in content else "\n"
    stream = StringIO()
    writer = csv.DictWriter(stream, names, restval="", extrasaction="ignore", lineterminator=end)
    for image, label in labels:
        kept = {name: known.get(image, {}).get(name, "") for name in ("split", "group")}
        added = {"image": image, "label": label, "quality": "weak", "annotator": annotator}
        writer.writerow(kept | added)
    missing = b"" if content.endswith((b"\n", b"\r")) else end.encode()
    return content + missing + stream.getvalue().encode()


def _images(root: Path, listed: Listing, *, every: bool) -> tuple[str, ...]:
    labelled = {entry.image for entry in listed.entries}
    if (root / MANIFEST).exists():
        rows = _manifest_rows(read_bytes(root / MANIFEST))
        at = [name.strip() for name in rows[0]].index("image")
        found = [row[at].strip() for row in rows[1:] if any(cell.strip() for cell in row)]
    else:  # what cannot be an image here was passed over as litter, or it would be a problem
        here = sorted(entry.name for entry in (root / IMAGES).iterdir())
        found = [f"{IMAGES}/{n}" for n in here if n[0] != "." and split_name(n)[1] in SUFFIXES]
    for image in found:
        pure = PurePosixPath(image)
        if pure.is_absolute() or ".." in pure.parts or not may_read(root, image):
            raise DataError(f"{root / MANIFEST}: image {image!r} {leads_out(image)}")
    return tuple(image for image in dict.fromkeys(found) if every or image not in labelled)


def _manifest_rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(StringIO(content.decode("utf-8-sig"), newline="")))


def _targets(images: Sequence[str], data: DataSet) -> tuple[str, ...]:
    """Each label's path: that of its image below ``images/``, in the family of such labels."""
    from labelmend.inference.files import label_name  # late: it brings torch

    taken: dict[str, str] = {}
    for image in images:
        path = PurePosixPath(image)
        inner = path.relative_to(IMAGES) if path.parts[0] == IMAGES else path
        target = str(inner.with_name(label_name(path.name, data)))
        if target in taken:
            raise DataError(
                f"{taken[target]} and {image} would both have the label {target}; rename one"
            )
        taken[target] = image
    return tuple(taken)


def _bare(
    root: Path,
    images: Sequence[str],
    object_name: str | None,
    like: DataSet | None,
    notes: list[str],
) -> DataSet:
    """What labels should be like where there is none yet."""
    said = read_description(root)
    if like is not None:
        spec = _said_over(like.spec, said)
    else:
        dims = said.dims or _dims(root, images, notes)
        spec = _said_over(_usual(images, dims, object_name), said)
    if said.suffix is None:
        return DataSet(str(root), spec, () if like is None else like.samples)
    samples = tuple(Sample(image, image, "weak", "train", image) for image in images)
    return DataSet(str(root), spec, samples)


def _usual(images: Sequence[str], dims: int, object_name: str | None) -> DataSpec:
    """Two classes; 0 and 255 in pictures, so that one can see them, and 0 and 1 elsewhere."""
    suffixes = {split_name(image)[1] for image in images}
    values = (0, 255) if dims == 2 and suffixes <= set(_PICTURES) else (0, 1)
    suffix = ".csv" if suffixes <= set(_RECORDINGS) else ".npy"
    classes = ("background", object_name or "object")
    return DataSpec("segmentation", classes, values, None, dims, 1, "none", suffix)


def _said_over(spec: DataSpec, said: Description) -> DataSpec:
    """A description with what ``data.toml`` says in place of it."""
    given = {
        name: value
        for name in ("ignore", "dims", "spacing", "suffix")
        if (value := getattr(said, name)) is not None
    }
    if said.channels is not None:
        given["channel_axis"] = said.channels
    if said.classes:
        given |= {"classes": said.classes, "values": said.values}
    if said.instances:
        given |= {"instances": True, "values": (0, 1)}
    return replace(spec, task=said.task, **given)


def _dims(root: Path, images: Sequence[str], notes: list[str]) -> int:
    path = root / images[0]
    raw = decode(path, read_bytes(path))
    dims = raw.array.ndim - (raw.channel in ("first", "last"))
    shape = raw.array.shape
    unclear = raw.channel is None and not path.name.lower().endswith((".nii", ".nii.gz"))
    if not 1 <= dims <= 3 or (unclear and dims > 1 and min(shape[0], shape[-1]) <= _FEW):
        raise DataError(
            f"{path}: its size is {' x '.join(map(str, shape))}, and without labels it does not "
            f"follow which axes are space; put dims, and channels = 'first' or 'last', into {FILE}"
        )
    notes.append(f"Images have {dims} space {'axis' if dims == 1 else 'axes'} (dims = {dims}).")
    return dims
