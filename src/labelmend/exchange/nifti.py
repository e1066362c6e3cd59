"""NIfTI: pairs of volumes in two folders, with the names of classes in ``dataset.json``."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import UNKNOWN, Annotated, Found, Labelled, Source, within
from labelmend.exchange.documents import entry, load_json, shown
from labelmend.exchange.places import (
    ImagesByStem,
    image_folders,
    image_names,
    list_files,
    note_passed_over,
    other_files,
    stem_of,
)
from labelmend.exchange.png import label_folder
from labelmend.exchange.stored import (
    Naming,
    plain_values,
    settle_codes,
    stored_label,
)
from labelmend.files.writers import unit_of
from labelmend.labels.events import IGNORE
from labelmend.runs import write_atomically

SUFFIXES = (".nii", ".nii.gz")
FILE = "dataset.json"


def is_nifti(folder: Path) -> bool:
    """Whether a folder looks like it."""
    labels = label_folder(folder)
    return labels is not None and next(iter(list_files(labels, SUFFIXES)), None) is not None


def read_nifti(source: Source) -> Found:
    """Volumes in ``labels``, each for the image of the same stem, or with ``_0000`` after it.

    Names are those of ``labels`` in ``dataset.json``, value to name or name to value, of which
    ``--classes`` chooses; or those of ``--classes`` alone. A trap: several files of one image are
    not put together, but refused; store its channels in one.

    Raises:
        DataError: naming the file.
    """
    labels = label_folder(source.folder) or source.folder
    names = list_files(labels, SUFFIXES)
    if not names:
        raise DataError(f"{source.path}: holds no NIfTI label; name the folder above 'labels'")
    folders = image_folders(source)
    known = ImagesByStem(image_names(folders[0]))
    paths = [labels / name for name in names]
    images = [known.find(stem_of(name), labels / name) for name in names]
    naming = Naming(_listed(source.folder / FILE), source.folder / FILE)
    classes, codes, notes = settle_codes(source, naming, paths, plain_values)
    items = tuple(
        Annotated(image, path, stored=stored_label(path, codes))
        for image, path in zip(images, paths, strict=True)
    )
    passed = other_files(labels, SUFFIXES) if labels != source.folder else []
    return Found(items, classes, folders, dims=3, notes=(*notes, *note_passed_over(passed)))


def write_nifti(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """``labels/NAME.nii.gz`` with class indices, unknown as one more; and ``dataset.json``.

    Raises:
        DataError: for an image that is not a NIfTI file: its axes would not be known elsewhere.
    """
    values = {name: index for index, name in enumerate(classes)} | {IGNORE: len(classes)}
    kind = np.uint8 if len(classes) <= np.iinfo(np.uint8).max else np.uint16
    for one in labels:
        if one.like.affine is None:
            raise DataError(
                f"{one.name}: nifti holds labels of NIfTI images only; convert the image first"
            )
        array = np.where(one.label == UNKNOWN, len(classes), one.label).astype(kind)
        volume = nibabel.Nifti1Image(array, one.like.affine)
        volume.header.set_xyzt_units(unit_of(one.like.affine, one.like.spacing))
        path = folder / "labels" / f"{one.stem}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, gzip.compress(volume.to_bytes(), mtime=0))
    about = json.dumps({"labels": values, "file_ending": ".nii.gz"}, indent=2)
    write_atomically(folder / FILE, about.encode())


def _listed(path: Path) -> dict[int, str]:
    """Value → name, where there is such a file."""
    if not path.is_file():
        return {}
    document = load_json(path)
    with within(path):
        found: dict[int, str] = {}
        for key, value in entry(document, "labels", dict).items():
            name, place = (key, value) if isinstance(value, int) else (value, key)
            found[_value(place)] = str(name).strip()
        if len(found) < 2 or not all(found.values()):
            raise DataError("its labels should be at least two names with their values; correct it")
        return found


def _value(text: Any) -> int:
    digits = str(text) if isinstance(text, int | str) and not isinstance(text, bool) else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise DataError(f"its labels name the value {shown(text)}; one whole number per name")
    return int(digits)
