"""COCO: one JSON of images, categories and annotations, as polygons or runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import (
    UNKNOWN,
    Annotated,
    Covering,
    Found,
    Labelled,
    Source,
    Thing,
    within,
)
from labelmend.exchange.classes import settle_classes
from labelmend.exchange.corners import box_of, cut_out, outward, polygons_of
from labelmend.exchange.documents import (
    entry,
    load_json,
    number,
    only_document,
    pairs,
    shown,
    whole,
)
from labelmend.exchange.places import image_folders
from labelmend.exchange.runs_of_values import mask_of_runs, unpack_runs
from labelmend.labels.events import IGNORE
from labelmend.labels.outlines import find_outlines
from labelmend.runs import write_atomically
from labelmend.types import Raster

FILE = "annotations.json"

_WRITER = "labelmend"
"""Who wrote a file, as its ``info`` says: in ours, crowds are unknown positions for certain."""


def is_coco(value: Any) -> bool:
    """Whether a JSON value looks like it."""
    return isinstance(value, dict) and "images" in value and "annotations" in value


def read_coco(source: Source) -> Found:
    """The annotations of a COCO file for instances.

    Parts of one segmentation are united, as COCO's own library does. An annotation with
    ``iscrowd`` 1 is unknown positions, or an object where ``source.crowd`` says so: CVAT writes 1
    for every mask. One without a segmentation is its box.

    Raises:
        DataError: naming file and annotation; also where all are crowds and nobody said which.
    """
    path = only_document(source, (".json",), lambda p: is_coco(load_json(p)), "COCO file")
    document = load_json(path)
    with within(path):
        categories = _categories(entry(document, "categories", list))
        images = _images(entry(document, "images", list))
        things: dict[Any, list[Thing]] = {key: [] for key in images}
        listed = entry(document, "annotations", list)
        boxes = 0
        for place, annotation in enumerate(listed):
            where = _where("annotation", annotation, place)
            with within(where):
                image, thing, boxed = _thing(annotation, categories, images, where)
                if annotation.get("iscrowd") and source.crowd != "object":
                    thing = replace(thing, name=IGNORE)
            things[image].append(thing)
            boxes += boxed
        crowds = _note_crowds(source, document, listed)
    items = tuple(
        Annotated(name, path, tuple(things[key]), size) for key, (name, size) in images.items()
    )
    classes = settle_classes(source, tuple(categories.values()), items)
    empty = sum(not found for found in things.values())
    notes = [*crowds, *([f"Annotations with only a box, taken whole: {boxes}."] * bool(boxes))]
    notes += [f"Images without an annotation, background throughout: {empty}."] if empty else []
    return Found(items, classes, image_folders(source, *_near(source, path)), notes=tuple(notes))


def write_coco(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """One annotation per connected part: a polygon, or runs where it has holes.

    Unknown positions are runs with ``iscrowd`` 1, of the first class, for COCO asks for one.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for place, one in enumerate(labels, 1):
        rows, columns = one.size
        images.append({"id": place, "file_name": one.name, "width": columns, "height": rows})
        for part in _annotations(one.label, len(classes)):
            about = {"id": len(annotations) + 1, "image_id": place}
            annotations.append(about | part)
    categories = [
        {"id": index, "name": name, "supercategory": ""}
        for index, name in enumerate(classes[1:], 1)
    ]
    document = {
        "info": {"contributor": _WRITER, "description": "iscrowd 1 are unknown positions"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    write_atomically(folder / FILE, json.dumps(document).encode())


# --- reading --------------------------------------------------------------------------------------


def _categories(listed: list[Any]) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for place, category in enumerate(listed):
        with within(f"category {place + 1}"):
            key, name = whole(_get(category, "id"), "its id"), entry(category, "name", str).strip()
            if key in found or not name:
                raise DataError("its id or name is there twice or empty; correct it")
            found[key] = name
    return found


def _images(listed: list[Any]) -> dict[Any, tuple[str, tuple[int, int]]]:
    found: dict[Any, tuple[str, tuple[int, int]]] = {}
    for place, image in enumerate(listed):
        with within(_where("image", image, place)):
            key = _key(_get(image, "id"))
            if key in found:
                raise DataError("another image has the same id; number them anew")
            height = whole(_get(image, "height"), "its height", 1)
            width = whole(_get(image, "width"), "its width", 1)
            found[key] = entry(image, "file_name", str), (height, width)
    return found


def _thing(
    annotation: Any,
    categories: dict[Any, str],
    images: dict[Any, tuple[str, tuple[int, int]]],
    where: str,
) -> tuple[Any, Thing, bool]:
    image, category = _key(_get(annotation, "image_id")), _key(_get(annotation, "category_id"))
    if image not in images:
        raise DataError(f"its image_id {shown(image)} is that of no image; correct it")
    if category not in categories:
        raise DataError(f"its category_id {shown(category)} is that of no category; correct it")
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise DataError(f"its iscrowd should be 0 or 1, not {shown(crowd)}; correct it")
    segmentation = annotation.get("segmentation")
    boxed = not segmentation and "bbox" in annotation
    covers = _box(annotation["bbox"]) if boxed else _segmentation(segmentation, images[image][1])
    return image, Thing(categories[category], covers, where), boxed


def _note_crowds(source: Source, document: Any, annotations: list[Any]) -> tuple[str, ...]:
    """What to say of crowds that become unknown positions without anybody having said so.

    Raises:
        DataError: when there is nothing else: then they are most likely the objects.
    """
    about = document.get("info")
    ours = isinstance(about, dict) and about.get("contributor") == _WRITER
    count, total = sum(bool(each.get("iscrowd")) for each in annotations), len(annotations)
    if not count or ours or source.crowd is not None:
        return ()
    if count == total:
        raise DataError(
            f"every annotation ({total}) has iscrowd 1, which marks crowds in COCO and masks of "
            "objects in CVAT; say which: --crowd object or --crowd unknown"
        )
    return (
        f"Annotations with iscrowd 1, now unknown positions: {count} of {total}; where they are "
        "objects, as masks of CVAT are, take --crowd object.",
    )


def _near(source: Source, path: Path) -> list[Path]:
    """Folders to look in first: for ``x_val.json`` these are ``images/val`` and ``val``."""
    if path.parent == source.folder:
        return []
    subset = path.stem.rpartition("_")[2]
    usual = [source.folder / "images" / subset, source.folder / subset]
    there = [folder for folder in usual if subset.strip(".") and folder.is_dir()]
    return [*there, path.parent]


def _segmentation(value: Any, size: tuple[int, int]) -> Covering:
    if isinstance(value, dict):
        if entry(value, "size", list) != list(size):
            raise DataError(f"its runs are not for an image of {size[0]} x {size[1]}; correct it")
        runs = value.get("counts")
        if not isinstance(runs, list | str):
            raise DataError(f"its counts should be a list or text, not {shown(runs)}")
        return partial(_runs, runs)
    if not isinstance(value, list) or not value:
        raise DataError(f"its segmentation should be polygons or runs, not {shown(value)}")
    rings = [pairs(ring, "the points of a polygon", 3) for ring in value]
    return polygons_of([[ring] for ring in rings])


def _runs(runs: list[Any] | str, image: Raster) -> np.ndarray:
    rows, columns = image.array.shape[1:]
    lengths = unpack_runs(runs) if isinstance(runs, str) else runs
    return mask_of_runs(lengths, (rows, columns), "F")


def _box(value: Any) -> Covering:
    if not isinstance(value, list) or len(value) != 4:
        raise DataError(f"its bbox should be four numbers, not {shown(value)}; correct it")
    left, top, width, height = (number(v, "a number of its bbox") for v in value)
    if width < 0 or height < 0:
        raise DataError(f"its bbox is {width:g} wide and {height:g} high; correct it")
    return box_of(left, top, width, height)


def _get(of: Any, key: str) -> Any:
    if not isinstance(of, dict) or key not in of:
        raise DataError(f"needs {key!r}; export it again")
    return of[key]


def _key(value: Any) -> int | str:
    return value if isinstance(value, str) else whole(value, "an id")


def _where(what: str, of: Any, place: int) -> str:
    key = of.get("id") if isinstance(of, dict) else None
    plain = isinstance(key, int | str) and not isinstance(key, bool)
    return f"{what} {shown(key)}" if plain else f"{what} number {place + 1}"


# --- writing --------------------------------------------------------------------------------------


def _annotations(label: np.ndarray, count: int) -> Iterator[dict[str, Any]]:
    for index in range(1, count):
        for outline in find_outlines(label == index):
            if outline.holes:
                mask = np.zeros(label.shape, dtype=np.uint8, order="F")
                part, top, left = cut_out(outline)
                mask[top : top + part.shape[0], left : left + part.shape[1]] = part
                yield _as_runs(mask, index, crowd=0)
            else:
                yield _as_polygon(outward(outline.exterior), index)
    if (label == UNKNOWN).any():
        yield _as_runs(np.asfortranarray(label == UNKNOWN, dtype=np.uint8), 1, crowd=1)


def _as_polygon(points: np.ndarray, index: int) -> dict[str, Any]:
    x, y = points.T
    left, top = float(x.min()), float(y.min())
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return {
        "category_id": index,
        "segmentation": [points.ravel().tolist()],
        "area": area,
        "bbox": [left, top, float(x.max()) - left, float(y.max()) - top],
        "iscrowd": 0,
    }


def _as_runs(mask: np.ndarray, index: int, *, crowd: int) -> dict[str, Any]:
    from pycocotools import mask as coco  # late: only who writes runs needs it

    runs = coco.encode(mask)
    return {
        "category_id": index,
        "segmentation": {"size": list(mask.shape), "counts": runs["counts"].decode()},
        "area": float(mask.sum()),
        "bbox": coco.toBbox(runs).tolist(),
        "iscrowd": crowd,
    }
