"""LabelMe: one JSON per image, with polygons, rectangles, circles, lines, points and masks."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import partial
from io import BytesIO
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
    Part,
    Source,
    Thing,
    within,
)
from labelmend.exchange.classes import read_list, settle_classes
from labelmend.exchange.corners import (
    box_of,
    cut_out,
    dots_of,
    ellipse_of,
    line_of,
    outward,
    patch_of,
    polygon_of,
)
from labelmend.exchange.documents import entry, load_json, pairs, shown, whole
from labelmend.exchange.places import image_folders, list_files, note_passed_over
from labelmend.files.formats import check_first_bytes, damaged
from labelmend.files.images import decode_png
from labelmend.labels.outlines import Outline, find_outlines
from labelmend.runs import write_atomically
from labelmend.types import Raster

LIST = "labels.txt"
"""LabelMe's own list of class names: ``__ignore__``, ``_background_``, then all others."""

_MOST_BYTES = 4
"""Of one position of a mask; what promises more than its image has is refused."""
_LEAST = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}


def is_labelme(value: Any) -> bool:
    """Whether a JSON value looks like it."""
    return isinstance(value, dict) and "shapes" in value and "imagePath" in value


def read_labelme(source: Source) -> Found:
    """The shapes of all LabelMe files of a folder, and of those below it.

    Lines are ten positions wide and points have a radius of five, as LabelMe draws them.

    Raises:
        DataError: naming file and shape.
    """
    if source.path.is_file():
        paths = [source.path]
    else:
        paths = [source.path / name for name in list_files(source.path, [".json"])]
    found = {path: _load(source, path) for path in paths}  # one at a time: they hold images
    items = tuple(item for item in found.values() if item is not None)
    if not items:
        raise DataError(f"{source.path}: holds no LabelMe file; name their folder")
    lists = [read_list(folder / LIST) for folder in (source.folder, *_parents(items))]
    listed = next((names for names in lists if names), ())
    others = [path.relative_to(source.folder).as_posix() for path in paths if not found[path]]
    classes = settle_classes(source, listed, items)
    return Found(items, classes, image_folders(source), notes=note_passed_over(others))


def write_labelme(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """One JSON per image: polygons, or masks where a part has holes."""
    names = ("__ignore__", "_background_", *classes[1:])
    write_atomically(folder / LIST, "".join(f"{name}\n" for name in names).encode())
    for one in labels:
        path = folder / f"{one.stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        depth = len(Path(one.stem).parts) - 1
        rows, columns = one.size
        shapes = [
            _shape(name, outline)
            for index, name in ((UNKNOWN, "__ignore__"), *enumerate(classes))
            if index
            for outline in find_outlines(one.label == index)
        ]
        document: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": "../" * depth + one.name,
            "imageData": None,
            "imageHeight": rows,
            "imageWidth": columns,
        }
        write_atomically(path, json.dumps(document).encode())


# --- reading --------------------------------------------------------------------------------------


def _parents(items: tuple[Annotated, ...]) -> list[Path]:
    return list(dict.fromkeys(item.source.parent for item in items))


def _load(source: Source, path: Path) -> Annotated | None:
    value = load_json(path)
    return _item(source, path, value) if is_labelme(value) else None


def _item(source: Source, path: Path, value: Any) -> Annotated:
    with within(path):
        size = None
        if value.get("imageHeight") is not None:
            size = (
                whole(value["imageHeight"], "imageHeight", 1),
                whole(value.get("imageWidth"), "imageWidth", 1),
            )
        name = entry(value, "imagePath", str).replace("\\", "/")
        things = []
        for place, shape in enumerate(entry(value, "shapes", list), 1):
            with within(f"shape {place}"):
                label = entry(shape, "label", str).strip()
                things.append(Thing(label, _covering(shape), f"shape {place}"))
        if source.images is None and path.parent != source.folder:
            name = f"{path.parent.relative_to(source.folder).as_posix()}/{name}"
    return Annotated(name, path, tuple(things), size)


def _covering(shape: Any) -> Covering:
    kind = shape.get("shape_type") or "polygon"
    if kind in ("point", "points"):
        return dots_of(pairs(shape.get("points"), "its points"))
    if not isinstance(kind, str) or kind not in _LEAST:
        raise DataError(f"shapes of the type {shown(kind)} are not read; draw it as a polygon")
    points = pairs(shape.get("points"), f"the points of a {kind}", _LEAST[kind])
    if kind == "polygon":
        return polygon_of([points])
    if kind in ("line", "linestrip"):
        return line_of(points)
    if len(points) != 2:
        raise DataError(f"a {kind} has 2 points, not {len(points)}; draw it again")
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        return ellipse_of((float(points[0, 0]), float(points[0, 1])), radius, radius)
    low, high = points.min(axis=0), points.max(axis=0)
    if kind == "rectangle":
        return box_of(*low.tolist(), *(high - low).tolist())
    return _mask(entry(shape, "mask", str), low, high)


def _mask(text: str, low: np.ndarray, high: np.ndarray) -> Covering:
    """A PNG between two positions, both of them belonging to it."""
    try:
        content = b64decode(text, validate=True)
    except ValueError as error:
        raise DataError("its mask is not base64; export it again") from error
    left, top = (int(v) for v in low)
    size = int(high[1]) - top + 1, int(high[0]) - left + 1
    return partial(_decoded, content, size, top, left)


def _decoded(
    content: bytes, size: tuple[int, int], top: int, left: int, image: Raster
) -> np.ndarray | Part:
    check_first_bytes(content, "PNG")
    limit = _MOST_BYTES * image.array[0].size
    try:
        mask = decode_png(content, limit, label=True).array
    except DataError:
        raise
    except Exception as error:  # decoders raise some 18 types for damaged files
        raise damaged("PNG") from error
    if mask.shape != size:
        raise DataError(
            f"its mask is {shown(mask.shape)}, but its points are corners of {size}; draw it again"
        )
    return patch_of(mask != 0, top, left)(image)


# --- writing --------------------------------------------------------------------------------------


def _shape(name: str, outline: Outline) -> dict[str, Any]:
    about: dict[str, Any] = {"label": name, "group_id": None, "description": "", "flags": {}}
    if not outline.holes:
        points = outward(outline.exterior).tolist()
        return about | {"shape_type": "polygon", "points": points, "mask": None}
    part, top, left = cut_out(outline)
    corners = [[left, top], [left + part.shape[1] - 1, top + part.shape[0] - 1]]
    return about | {"shape_type": "mask", "points": corners, "mask": _png(part)}


def _png(mask: np.ndarray) -> str:
    from PIL import Image  # late: only who writes masks needs it

    stream = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(stream, "PNG")
    return b64encode(stream.getvalue()).decode()
