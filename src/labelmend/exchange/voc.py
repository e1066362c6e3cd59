"""Pascal VOC: ``SegmentationClass`` with a palette or colours, ``JPEGImages``, ``labelmap.txt``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import UNKNOWN, Annotated, Found, Labelled, Source, within
from labelmend.exchange.classes import numbered, read_list
from labelmend.exchange.documents import in_brief, shown
from labelmend.exchange.places import (
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
    settle_codes,
    stored_label,
)
from labelmend.files.readers import decode, read_bytes
from labelmend.files.values import distinct, whole_numbers
from labelmend.runs import write_atomically
from labelmend.types import Split

FOLDER = "SegmentationClass"
MAP = "labelmap.txt"
LISTS = "ImageSets/Segmentation"
"""Where lists of stems say the split; ``trainval.txt``, which repeats two of them, is not read."""

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_NAME_LISTS = ("class_names.txt", "labels.txt", "classes.txt")

Colours = Mapping[int, int]
"""Colour as one number, red first → value."""


def is_voc(folder: Path) -> bool:
    """Whether a folder looks like it."""
    return (folder / FOLDER).is_dir()


def read_voc(source: Source) -> Found:
    """The labels of ``SegmentationClass``, by palette index or by colour; 255 is ignored.

    Names and colours are those of ``labelmap.txt``; without it, colours are those of VOC. Splits
    are those of the lists in ``ImageSets/Segmentation``.

    Raises:
        DataError: naming the file.
    """
    labels = source.folder / FOLDER if is_voc(source.folder) else source.folder
    names = list_files(labels, [".png"])
    if not names:
        raise DataError(f"{source.path}: holds no PNG in {FOLDER}; name the folder above it")
    folders = image_folders(source)
    known = ImagesByStem(image_names(folders[0]))
    mapped = _read_map(source.folder / MAP)
    colours = {colour: value for value, colour in enumerate(mapped.values())} or _voc_colours()
    read = partial(_values, colours)
    paths = [labels / name for name in names]
    images = [known.find(stem_of(name), labels / name) for name in names]
    naming = _naming(source.folder, mapped)
    classes, codes, notes = settle_codes(source, naming, paths, read, ignore=USUAL_IGNORE)
    splits = _read_splits(source.folder / LISTS)
    items = tuple(
        Annotated(image, path, stored=stored_label(path, codes, read), split=splits.get(stem))
        for image, path, stem in zip(images, paths, map(stem_of, names), strict=True)
    )
    passed = other_files(labels, [".png"]) if labels != source.folder else []
    notes = (*notes, *_note_splits(names, splits), *note_passed_over(passed))
    return Found(items, classes, folders, notes=notes)


def write_voc(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """``SegmentationClass/NAME.png`` with VOC's palette, lists of the splits, ``labelmap.txt``.

    Raises:
        DataError: for more than 255 classes.
    """
    from PIL import Image  # late: the command line is quick

    if len(classes) > USUAL_IGNORE:
        raise DataError(f"voc holds at most 255 classes, not {len(classes)}; choose png")
    palette = voc_palette()
    rows = [
        f"{name}:{','.join(str(v) for v in palette[index])}::\n"
        for index, name in enumerate(classes)
    ]
    write_atomically(folder / MAP, "".join(rows).encode())
    splits: dict[str, list[str]] = {}
    for one in labels:
        values = np.where(one.label == UNKNOWN, USUAL_IGNORE, one.label).astype(np.uint8)
        image = Image.fromarray(values, "L")
        image.putpalette(palette.tobytes())
        stream = BytesIO()
        image.save(stream, "PNG")
        path = folder / FOLDER / f"{one.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, stream.getvalue())
        splits.setdefault(one.split, []).append(one.stem)
    lists = folder / LISTS
    lists.mkdir(parents=True)
    for split, stems in splits.items():
        write_atomically(lists / f"{split}.txt", "".join(f"{stem}\n" for stem in stems).encode())


def voc_palette() -> np.ndarray:
    """VOC's 256 colours ``(256, 3)`` uint8: bits of the index, dealt to red, green and blue.

    >>> voc_palette()[:3].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    index = np.arange(256)[:, None]
    bits = (index >> np.arange(8)) & 1
    weights = 1 << (7 - np.arange(8) // 3)
    dealt = [(bits[:, channel::3] * weights[channel::3]).sum(axis=1) for channel in range(3)]
    return np.stack(dealt, axis=1).astype(np.uint8)


def _voc_colours() -> dict[int, int]:
    return {int(r) << 16 | int(g) << 8 | int(b): i for i, (r, g, b) in enumerate(voc_palette())}


def _naming(folder: Path, mapped: Mapping[str, int]) -> Naming:
    """What values are called: by ``labelmap.txt``, else by the first list that is there."""
    if mapped:
        return Naming(dict(enumerate(mapped)), folder / MAP)
    for name in _NAME_LISTS:
        names = numbered(read_list(folder / name))
        if names:
            return Naming(names, folder / name, counted=True)
    return Naming({}, folder)


def _read_map(path: Path) -> dict[str, int]:
    """Name → colour, in the order of ``labelmap.txt``."""
    found: dict[str, int] = {}
    with within(path):
        for line in read_list(path):
            if line.startswith("#"):
                continue
            name, *rest = line.rsplit(":", 3)
            parts = rest[0].split(",") if len(rest) == 3 else []
            if len(parts) != 3 or not all(re.fullmatch(r"\s*[0-9]{1,3}\s*", p) for p in parts):
                raise DataError(f"the line {shown(line)} is not name:red,green,blue::")
            red, green, blue = (min(int(part), 255) for part in parts)
            found[name.strip()] = red << 16 | green << 8 | blue
    return found


def _read_splits(folder: Path) -> dict[str, Split]:
    """Stem → its split, as the lists say."""
    found: dict[str, Split] = {}
    for split in _SPLITS:
        path = folder / f"{split}.txt"
        for stem in read_list(path):
            if found.setdefault(stem, split) != split:
                raise DataError(
                    f"{path}: {shown(stem)} is also in {found[stem]}.txt; remove it from one of "
                    "the two"
                )
    return found


def _note_splits(names: list[str], splits: Mapping[str, Split]) -> tuple[str, ...]:
    alone = [stem for stem in map(stem_of, names) if stem not in splits]
    if not splits or not alone:
        return ()
    return (f"Labels in no list of {LISTS}: {len(alone)} ({in_brief(alone)}).",)


def _values(colours: Colours, path: Path) -> tuple[np.ndarray, None]:
    """The values of a label, colours changed into those that they stand for."""
    raw = decode(path, read_bytes(path), label=True)
    with within(path):
        if raw.channel != "last":
            return whole_numbers(raw.array), None
        if raw.array.dtype != np.uint8 or raw.array.shape[-1] != 3:
            raise DataError("is neither grey, palette nor 8-bit colour; export it again")
        channels = raw.array.astype(np.int64)
        joined = channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
        there = distinct(joined)
        wrong = [int(colour) for colour in there if int(colour) not in colours]
        if wrong:
            raise DataError(f"has the colour #{wrong[0]:06x}, which is not in {MAP}; add it")
        table = np.array([colours[int(colour)] for colour in there])
        return table[np.searchsorted(there, joined)], None
