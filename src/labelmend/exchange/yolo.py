"""YOLO: one text file per image, polygons as shares of its size, names in a YAML file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import (
    Annotated,
    Covering,
    Found,
    Labelled,
    Part,
    Source,
    Thing,
    within,
)
from labelmend.exchange.class_yaml import names_as_yaml, read_names
from labelmend.exchange.classes import LIST, settle_classes
from labelmend.exchange.corners import box_of, outward, polygon_of
from labelmend.exchange.documents import LARGEST, numeral, shown
from labelmend.exchange.places import (
    ImagesByStem,
    image_names,
    list_files,
    note_passed_over,
    other_files,
    stem_of,
)
from labelmend.files.sources import read_bytes
from labelmend.labels.outlines import Outline, find_outlines
from labelmend.runs import write_atomically
from labelmend.types import Raster, Split

FILE = "data.yaml"

_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_FARTHEST = 2.0


def is_yolo(folder: Path) -> bool:
    """Whether a folder looks like it: a YAML file with names, and text files in ``labels``."""
    return _yaml_of(folder) is not None


def read_yolo(source: Source) -> Found:
    """The polygons and boxes of all text files below folders called ``labels``.

    An image without a text file is background throughout, as the format has it.

    Raises:
        DataError: naming file and line.
    """
    path = source.path if source.path.is_file() else _yaml_of(source.path)
    if path is None:
        raise DataError(f"{source.path}: holds no YAML file with names; name the file itself")
    names = read_names(path)
    root = source.images or path.parent
    images = [name for name in image_names(root) if source.images or _in(name, "images")]
    texts = _texts(path.parent, images, elsewhere=source.images is not None)
    items = tuple(_item(image, texts.get(image), path, names) for image in images)
    empty = len(images) - len(texts)
    read = {text.relative_to(path.parent).as_posix() for text in texts.values()}
    others = [n for n in other_files(path.parent, [".cache"]) if _in(n, "labels") and n not in read]
    notes = (f"Images without a text file, background throughout: {empty}.",) if empty else ()
    listed = [names[key] for key in sorted(names)]
    classes = settle_classes(source, listed, items)
    folders = (source.images,) if source.images else (path.parent / "images", path.parent)
    return Found(items, classes, folders, notes=(*notes, *note_passed_over(others)))


def write_yolo(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """One text file per image below ``labels``; holes are joined to their outline by a cut.

    Raises:
        DataError: never for a label without unknown positions.
    """
    splits: set[Split] = set()
    for one in labels:
        rows, columns = one.size
        lines = [
            _line(index - 1, outline, (rows, columns))
            for index in range(1, len(classes))
            for outline in find_outlines(one.label == index)
        ]
        path = folder / "labels" / one.split / f"{one.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(lines).encode())
        splits.add(one.split)
    places = "".join(f"{split}: images/{split}\n" for split in sorted(splits))
    text = f"{places}names:\n{names_as_yaml(classes[1:])}"
    write_atomically(folder / FILE, text.encode())


# --- reading --------------------------------------------------------------------------------------


def _yaml_of(folder: Path) -> Path | None:
    found = [path for path in sorted(folder.glob("*.y*ml")) if path.suffix in (".yaml", ".yml")]
    named = [path for path in found if path.is_file() and b"names" in read_bytes(path, LARGEST)]
    if len(named) > 1:
        raise DataError(f"{folder}: holds {len(named)} YAML files with names; name one of them")
    return named[0] if named else None


def _in(name: str, folder: str) -> bool:
    return folder in PurePosixPath(name).parts[:-1]


def _texts(folder: Path, images: list[str], *, elsewhere: bool) -> dict[str, Path]:
    """Image → its text file, which lies in ``labels`` where the image lies in ``images``."""
    known, given = ImagesByStem(images), set(map(stem_of, images))
    texts: dict[str, Path] = {}
    for name in list_files(folder, [".txt"]):
        if not _in(name, "labels"):
            continue
        parts = list(PurePosixPath(stem_of(name)).parts)
        place = len(parts) - 2 - parts[-2::-1].index("labels")
        stem = "/".join([*parts[:place], "images", *parts[place + 1 :]])
        if elsewhere:
            stem = "/".join(parts[place + 1 :])
            without = "/".join(parts[place + 2 :])
            if stem not in given and parts[place + 1] in _SPLITS and without:
                stem = without
        if name.endswith(f"/{LIST}") and not known.holds(stem):
            continue  # LabelImg lists the class names beside the labels
        image = known.find(stem, folder / name)
        if image in texts:
            raise DataError(f"{folder / name}: is for the same image as {texts[image]}; remove one")
        texts[image] = folder / name
    return texts


def _item(image: str, text: Path | None, source: Path, names: dict[int, str]) -> Annotated:
    places = (*PurePosixPath(image).parts[:-1], *(text.parts[-2:-1] if text else ()))
    split = next((_SPLITS[part] for part in places if part in _SPLITS), None)
    if text is None:
        return Annotated(image, source, split=split)
    content = read_bytes(text, LARGEST)
    with within(text):
        try:
            lines = content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError("is not text in UTF-8; export it again") from error
        things = []
        for place, line in enumerate(lines, 1):
            if line.strip():
                with within(f"line {place}"):
                    things.append(_thing(line.split(), names, place))
    return Annotated(image, text, tuple(things), split=split)


def _thing(words: list[str], names: dict[int, str], line: int) -> Thing:
    if not (words[0].isascii() and words[0].isdigit() and len(words[0]) < 10):
        raise DataError(f"begins with {shown(words[0])}, not with the number of a class")
    if int(words[0]) not in names:
        raise DataError(f"has the class {words[0]}, and names has none of that number; add it")
    numbers = np.array([numeral(word, "a coordinate") for word in words[1:]])
    if len(numbers) % 2 or len(numbers) < 4 or (np.abs(numbers) > _FARTHEST).any():
        raise DataError(
            "should be a class and x y pairs (or x y width height), as shares of the image's "
            "size from 0 to 1; export it again"
        )
    if len(numbers) == 4 and (numbers[2:] < 0).any():
        raise DataError(f"has a box {numbers[2]:g} wide and {numbers[3]:g} high; correct it")
    return Thing(names[int(words[0])], partial(_shared, numbers.reshape(-1, 2)), f"line {line}")


def _shared(numbers: np.ndarray, image: Raster) -> np.ndarray | Part:
    rows, columns = image.array.shape[1:]
    points = numbers * (columns, rows)
    if len(points) > 2:
        return polygon_of([points])(image)
    (x, y), (width, height) = points.tolist()
    covers: Covering = box_of(x - width / 2, y - height / 2, width, height)
    return covers(image)


# --- writing --------------------------------------------------------------------------------------


def _line(number: int, outline: Outline, size: tuple[int, int]) -> str:
    shares = outward(_one_ring(outline)) / (size[1], size[0])
    return f"{number} {' '.join(repr(value) for value in shares.ravel().tolist())}\n"


def _one_ring(outline: Outline) -> np.ndarray:
    """All rings as one: to every hole a cut leads, there and back.

    By the even-odd rule a way there and back changes nothing, whatever it crosses.
    """
    start = outline.exterior[:1]
    parts = [outline.exterior, start]
    for hole in outline.holes:
        parts += [hole, hole[:1], start]
    return np.concatenate(parts if outline.holes else parts[:1])
