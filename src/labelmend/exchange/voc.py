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
from labelmend.exchange.documents import shown
from labelmend.exchange.places import (
    ImagesByStem,
    image_folders,
    image_names,
    list_files,
    stem_of,
)
from labelmend.exchange.stored import (
    USUAL_IGNORE,
    codes_from_files,
    codes_of_values,
    stored_label,
)
from labelmend.files.readers import decode, read_bytes
from labelmend.files.values import distinct, whole_numbers
from labelmend.runs import write_atomically

FOLDER = "SegmentationClass"
MAP = "labelmap.txt"

_NAME_LISTS = ("class_names.txt", "labels.txt", "classes.txt")

Colours = Mapping[int, int]
"""Colour as one number, red first → value."""


def is_voc(folder: Path) -> bool:
    """Whether a folder looks like it."""
    return (folder / FOLDER).is_dir()


def read_voc(source: Source) -> Found:
    """The labels of ``SegmentationClass``, by palette index or by colour; 255 is ignored.

    Names and colours are those of ``labelmap.txt``; without it, colours are those of VOC.

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
    lists = (numbered(read_list(source.folder / name)) for name in _NAME_LISTS)
    given = numbered(source.classes) or dict(enumerate(mapped))
    listed = given or next((found for found in lists if found), {})
    colours = {colour: value for value, colour in enumerate(mapped.values())} or _voc_colours()
    read = partial(_values, colours)
    paths = [labels / name for name in names]
    images = [known.find(stem_of(name), labels / name) for name in names]
    if listed:
        classes, codes = codes_of_values(listed)
    else:
        classes, codes = codes_from_files(paths, read, ignore=USUAL_IGNORE)
    items = tuple(
        Annotated(image, path, stored=stored_label(path, codes, read))
        for image, path in zip(images, paths, strict=True)
    )
    return Found(items, classes, folders)


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
    lists = folder / "ImageSets" / "Segmentation"
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
