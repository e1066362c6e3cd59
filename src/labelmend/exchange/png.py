"""A folder of images and one of labels: index PNG or TIFF, one number per position."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import UNKNOWN, Annotated, Found, Labelled, Source
from labelmend.exchange.classes import LIST, TABLE, class_file, class_table, classes_beside
from labelmend.exchange.places import (
    IMAGE_FOLDERS,
    ImagesByStem,
    image_folders,
    image_names,
    list_files,
    note_passed_over,
    other_files,
    stem_of,
)
from labelmend.exchange.stored import (
    USUAL_IGNORE,
    Naming,
    plain_values,
    settle_codes,
    stored_label,
)
from labelmend.runs import write_atomically

SUFFIXES = (".png", ".tif", ".tiff", ".ome.tif", ".ome.tiff")
LABEL_FOLDERS = ("labels", "masks", "annotations", "label", "mask", "labelsTr")

_DEEP_IGNORE = 65535


def label_folder(folder: Path) -> Path | None:
    """The folder with labels below a folder, where one has a usual name."""
    return next((folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()), None)


def is_png(folder: Path) -> bool:
    """Whether a folder looks like it: folders of images and of labels, or labels alone."""
    labels = label_folder(folder)
    return labels is not None and next(iter(list_files(labels, SUFFIXES)), None) is not None


def read_png(source: Source) -> Found:
    """Labels in a folder of their own, each for the image of the same stem.

    Names are those of ``classes.csv`` or ``classes.txt``, of which ``--classes`` chooses, or of
    ``--classes`` alone; 255 is then ignored unless it is a class, or what the only class is drawn
    with. Without names, values must be 0 and one other, or 0, 1, 2 and so on.

    Raises:
        DataError: naming the file.
    """
    labels = label_folder(source.folder) or source.folder
    names = list_files(labels, SUFFIXES)
    folders = _folders(source, labels)
    if labels == source.folder and folders[0].is_relative_to(labels) and folders[0] != labels:
        below = f"{folders[0].relative_to(labels).as_posix()}/"
        names = [name for name in names if not name.startswith(below)]
    if not names:
        raise DataError(f"{source.path}: holds no label as PNG or TIFF; name their folder")
    known = ImagesByStem(image_names(folders[0]))
    paths = [labels / name for name in names]
    images = [known.find(stem_of(name), labels / name) for name in names]
    naming = _naming(source.folder, labels)
    classes, codes, notes = settle_codes(source, naming, paths, plain_values)
    if naming.names or source.classes:
        codes.setdefault(_DEEP_IGNORE, UNKNOWN)
    items = tuple(
        Annotated(image, path, stored=stored_label(path, codes))
        for image, path in zip(images, paths, strict=True)
    )
    passed = other_files(labels, SUFFIXES) if labels != source.folder else []
    return Found(items, classes, folders, notes=(*notes, *note_passed_over(passed)))


def write_png(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """``labels/NAME.png`` with class indices, 255 (or 65535) where unknown; and their table."""
    from PIL import Image  # late: the command line is quick

    ignore = USUAL_IGNORE if len(classes) <= USUAL_IGNORE else _DEEP_IGNORE
    kind = np.uint8 if ignore == USUAL_IGNORE else np.uint16
    write_atomically(folder / TABLE, class_table(classes))
    for one in labels:
        stream = BytesIO()
        values = np.where(one.label == UNKNOWN, ignore, one.label).astype(kind)
        Image.fromarray(values).save(stream, "PNG")
        path = folder / "labels" / f"{one.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, stream.getvalue())


def _naming(*folders: Path) -> Naming:
    """The names in the first folder that has some."""
    for folder in folders:
        names = classes_beside(folder)
        if names:
            return Naming(names, class_file(folder), class_file(folder).name == LIST)
    return Naming({}, folders[0])


def _folders(source: Source, labels: Path) -> tuple[Path, ...]:
    folders = image_folders(source)
    if folders[0] != labels or source.images is not None:
        return folders
    usual = " or ".join(IMAGE_FOLDERS[:2])
    raise DataError(
        f"{source.path}: holds labels but no folder {usual}; name that of the images with --images"
    )
