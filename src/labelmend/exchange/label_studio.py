"""Label Studio: its JSON export, with polygons, rectangles, ellipses, key points and brushes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr

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
from labelmend.exchange.brush import pack_brush, unpack_brush
from labelmend.exchange.classes import settle_classes
from labelmend.exchange.corners import box_of, dots_of, ellipse_of, polygon_of
from labelmend.exchange.documents import (
    entry,
    load_json,
    load_xml,
    number,
    only_document,
    pairs,
    shown,
    whole,
)
from labelmend.exchange.places import image_folders
from labelmend.labels.events import IGNORE
from labelmend.runs import write_atomically
from labelmend.types import Raster

FILE = "label-studio.json"
CONFIG = "label_config.xml"
"""The labelling interface, which also says the order of the classes."""

_UPLOADED = 9
_SHAPES = ("polygon", "rectangle", "ellipse", "keypoint", "brush")
"""Types of results: alone where ``labels`` is another result of the same id, else with it."""
_LABELS = "labels"
_NO_REGIONS = frozenset(
    {
        *("choices", "textarea", "rating", "relation", "taxonomy", "number", "datetime"),
        *("pairwise", "ranker"),
    }
)
"""Types of results that repeat the place of a region, but say something else of it."""
_PLACES = frozenset({"x", "y", "points", "rle", "width", "height"})
_NOBODY = ("strong", "weak")
"""What we write for labels that nobody signed: how far they are trusted."""
_HEX = frozenset("0123456789abcdef")


def is_label_studio(value: Any) -> bool:
    """Whether a JSON value looks like it."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and "data" in first and "annotations" in first


def read_label_studio(source: Source) -> Found:
    """The annotations of a JSON export (not JSON-MIN): several for one image are several labels.

    Raises:
        DataError: naming file, task and region.
    """
    what = "JSON export of Label Studio (JSON, not JSON-MIN)"
    path = only_document(source, (".json",), lambda p: is_label_studio(load_json(p)), what)
    document = load_json(path)
    if not is_label_studio(document):
        raise DataError(f"{path}: is no JSON export of Label Studio; choose JSON, not JSON-MIN")
    items: list[Annotated] = []
    skipped = empty = 0
    for place, task in enumerate(document, 1):
        with within(path), within(f"task {_id(task, place)}"):
            found, others = _of_task(task, path)
        items += found
        skipped += others
        empty += not found
    notes = [f"Tasks without an annotation, left out: {empty}."] if empty else []
    notes += [f"Results that are no region of an image, passed over: {skipped}."] if skipped else []
    listed = _listed(path.parent / CONFIG)
    classes = settle_classes(source, listed, items)
    folders = image_folders(source, *([path.parent] if path.parent != source.folder else []))
    return Found(tuple(items), classes, folders, notes=tuple(notes))


def write_label_studio(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """One task per image and one annotation per label, all of it brushes; and the interface."""
    tasks: dict[str, dict[str, Any]] = {}
    for one in labels:
        task = tasks.setdefault(
            one.name, {"id": len(tasks) + 1, "data": {"image": one.name}, "annotations": []}
        )
        results = [
            _brush(one.label == index, name)
            for index, name in ((UNKNOWN, IGNORE), *enumerate(classes))
            if index and (one.label == index).any()
        ]
        task["annotations"].append(
            {"completed_by": one.annotator or one.quality, "result": results}
        )
    names = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in (*classes[1:], IGNORE))
    config = (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{names}\n  </BrushLabels>\n</View>\n'
    )
    write_atomically(folder / CONFIG, config.encode())
    write_atomically(folder / FILE, json.dumps(list(tasks.values())).encode())


# --- reading --------------------------------------------------------------------------------------


def _listed(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    found = [element.get("value", "") for element in load_xml(path).iter("Label")]
    return tuple(name for name in dict.fromkeys(found) if name)


def _id(task: Any, place: int) -> str:
    key = task.get("id") if isinstance(task, dict) else None
    return shown(key) if isinstance(key, int | str) else f"number {place}"


def _of_task(task: Any, path: Path) -> tuple[list[Annotated], int]:
    given = [a for a in entry(task, "annotations", list) if not _is_cancelled(a)]
    items, others = [], 0
    for annotation in given:
        results = entry(annotation, "result", list)
        names = _names_by_id(results)
        things, size = [], None
        for place, result in enumerate(results, 1):
            with within(f"region {place}"):
                if _is_joined(result, names):
                    continue
                thing, claimed = _thing(result, names, place)
                others += thing is None
                things += [thing] if thing is not None else []
                if claimed is not None and size not in (None, claimed):
                    raise DataError("its image has another size than before; export it again")
                size = claimed or size
        who = _person(annotation.get("completed_by"), needed=len(given) > 1)
        items.append(Annotated(_image_of(task), path, tuple(things), size, annotator=who))
    return items, others


def _is_cancelled(annotation: Any) -> bool:
    return isinstance(annotation, dict) and annotation.get("was_cancelled") is True


def _person(value: Any, *, needed: bool) -> str:
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    known = isinstance(value, int | str) and not isinstance(value, bool) and value != ""
    if not needed and (not known or value in _NOBODY):
        return ""
    if not known:
        raise DataError("several annotations of a task need 'completed_by', who made each of them")
    return f"{value}"


def _image_of(task: Any) -> str:
    """The image's name: of a URL its last part, without the letters put before uploaded files."""
    data = entry(task, "data", dict)
    texts: list[str] = [
        data[key] for key in ("image", "img", "ocr", "url") if isinstance(data.get(key), str)
    ]
    texts += [value for value in data.values() if isinstance(value, str)]
    if not texts:
        raise DataError("its data names no image; export it again")
    try:
        parts = urlsplit(texts[0])
        local = parse_qs(parts.query).get("d", [])
    except ValueError as error:
        raise DataError(f"{shown(texts[0])} is not the address of an image") from error
    if not parts.scheme and not parts.path.startswith("/"):
        return texts[0]
    name = unquote(local[0] if local else parts.path).rsplit("/", 1)[-1]
    uploaded = len(name) > _UPLOADED and name[_UPLOADED - 1] == "-"
    return name[_UPLOADED:] if uploaded and set(name[: _UPLOADED - 1]) <= _HEX else name


def _names_by_id(results: list[Any]) -> dict[str, list[Any]]:
    """The id of every shape without a class of its own → its class, from another result."""
    about = [result for result in results if isinstance(result, dict)]
    names: dict[str, list[Any]] = {_key(e): [] for e in about if e.get("type") in _SHAPES}
    for each in about:
        value = each.get("value")
        if each.get("type") == _LABELS and _key(each) in names and isinstance(value, dict):
            names[_key(each)] += entry(value, _LABELS, list)
    return names


def _key(result: Any) -> str:
    return repr(result.get("id"))  # an id may be anything in a damaged file


def _is_joined(result: Any, names: dict[str, list[Any]]) -> bool:
    """Whether a result only says the class of a shape that is another result."""
    return isinstance(result, dict) and result.get("type") == _LABELS and _key(result) in names


def _is_no_region(result: Any, kind: str) -> bool:
    value = result.get("value")
    placed = isinstance(value, dict) and not _PLACES.isdisjoint(value)
    return kind in _NO_REGIONS or not (placed or "original_width" in result)


def _thing(
    result: Any, named: dict[str, list[Any]], place: int
) -> tuple[Thing | None, tuple[int, int] | None]:
    kind = entry(result, "type", str)
    shape = kind.removesuffix(_LABELS)
    if shape not in _SHAPES:
        if _is_no_region(result, kind):
            return None, None
        if kind == _LABELS:
            raise DataError("says a class, but there is no shape of its id; draw it again")
        raise DataError(
            f"regions of the type {shown(kind)} are not read; draw it as a polygon or brush, or "
            "remove it"
        )
    if number(result.get("image_rotation", 0), "image_rotation") % 360:
        raise DataError("its image is turned in Label Studio; turn it back and label it again")
    size = (
        whole(result.get("original_height"), "original_height", 1),
        whole(result.get("original_width"), "original_width", 1),
    )
    value = entry(result, "value", dict)
    names = entry(value, kind, list) if kind != shape else named[_key(result)]
    if kind == shape and not names:
        raise DataError("has no label; give it one in Label Studio, or remove it")
    if len(names) != 1 or not isinstance(names[0], str):
        raise DataError(f"should have one class, not {shown(names)}; correct it")
    return Thing(names[0].strip(), _covering(shape, value, size), f"region {place}"), size


def _covering(shape: str, value: dict[str, Any], size: tuple[int, int]) -> Covering:
    if shape == "brush":
        if value.get("format", "rle") != "rle":
            raise DataError(f"brushes as {shown(value['format'])} are not read; export as JSON")
        return partial(_brushed, value.get("rle"))
    high, wide = size[0] / 100, size[1] / 100
    if shape == "polygon":
        points = pairs(value.get("points"), "the points of a polygon", 3)
        return polygon_of([points * (wide, high)])
    x, y = number(value.get("x"), "x") * wide, number(value.get("y"), "y") * high
    turn = number(value.get("rotation", 0), "rotation")
    if shape == "ellipse":
        radius_x = number(value.get("radiusX"), "radiusX") * wide
        return ellipse_of((x, y), radius_x, number(value.get("radiusY"), "radiusY") * high, turn)
    width = number(value.get("width"), "width")
    if shape == "keypoint":
        if width < 0:
            raise DataError(f"width should not be below 0, not {width:g}; correct it")
        return dots_of(np.array([[x, y]]), max(0.5, width * wide / 2))
    height = number(value.get("height"), "height")
    if width < 0 or height < 0:
        raise DataError(f"is {width:g} % wide and {height:g} % high; correct it")
    return _turned_box((x, y), width * wide, height * high, turn)


def _turned_box(
    corner: tuple[float, float], width: float, height: float, degrees: float
) -> Covering:
    """A rectangle that is turned clockwise about its upper left corner."""
    turn = math.radians(degrees)
    along, across = width / 2, height / 2
    x = corner[0] + math.cos(turn) * along - math.sin(turn) * across
    y = corner[1] + math.sin(turn) * along + math.cos(turn) * across
    return box_of(x - along, y - across, width, height, degrees)


def _brushed(packed: Any, image: Raster) -> np.ndarray:
    rows, columns = image.array.shape[1:]
    return unpack_brush(packed, (rows, columns))


# --- writing --------------------------------------------------------------------------------------


def _brush(mask: np.ndarray, name: str) -> dict[str, Any]:
    return {
        "type": "brushlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "value": {"format": "rle", "rle": pack_brush(mask), "brushlabels": [name]},
    }
