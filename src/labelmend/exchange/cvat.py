"""CVAT: its XML 1.1 for images, with polygons, boxes, ellipses, lines, points and masks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

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
from labelmend.exchange.classes import settle_classes
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
from labelmend.exchange.documents import (
    attribute,
    load_xml,
    numeral,
    only_document,
    shown,
    whole,
)
from labelmend.exchange.places import image_folders
from labelmend.exchange.runs_of_values import mask_of_runs, runs_of_mask
from labelmend.labels.events import IGNORE
from labelmend.labels.outlines import Outline, find_outlines
from labelmend.runs import write_atomically
from labelmend.types import Raster, Split

FILE = "annotations.xml"

_SPLITS: dict[str, Split] = {
    "train": "train",
    "validation": "val",
    "val": "val",
    "test": "test",
}
_LEAST = {"polygon": 3, "polyline": 1, "points": 1}


def is_cvat(root: Element) -> bool:
    """Whether an XML file looks like it."""
    return root.tag == "annotations"


def read_cvat(source: Source) -> Found:
    """The shapes of all images; of overlapping ones those with the higher ``z_order`` lie on top.

    Lines are ten positions wide and points have a radius of five.

    Raises:
        DataError: naming file, image and shape.
    """
    path = only_document(source, (".xml",), lambda p: is_cvat(load_xml(p)), "CVAT file")
    root = load_xml(path)
    with within(path):
        if not is_cvat(root):
            raise DataError(f"begins with <{root.tag}>; export as 'CVAT for images 1.1'")
        if root.find("track") is not None:
            raise DataError("is for videos; export as 'CVAT for images 1.1'")
        items = tuple(_item(element, path) for element in root.iter("image"))
    if not items:
        raise DataError(f"{path}: holds no image; export as 'CVAT for images 1.1'")
    listed = [(e.findtext("name") or "").strip() for e in root.iterfind("meta//labels/label")]
    classes = settle_classes(source, [name for name in listed if name], items)
    tags = sum(1 for _ in root.iterfind("image/tag"))
    empty = sum(not item.things for item in items)
    notes = [f"Tags of whole images, passed over: {tags}."] if tags else []
    notes += [f"Images without a shape, background throughout: {empty}."] if empty else []
    folders = image_folders(source, *([path.parent] if path.parent != source.folder else []))
    return Found(items, classes, folders, notes=tuple(notes))


def write_cvat(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """One XML: a polygon per connected part, or a mask where it has holes."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    listed = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name in (*classes[1:], IGNORE):
        SubElement(SubElement(listed, "label"), "name").text = name
    for place, one in enumerate(labels):
        rows, columns = one.size
        about = {"id": place, "name": one.name, "width": columns, "height": rows}
        image = SubElement(root, "image", {key: str(value) for key, value in about.items()})
        for index, name in ((UNKNOWN, IGNORE), *enumerate(classes)):
            for outline in find_outlines(one.label == index) if index else ():
                _add_shape(image, name, outline)
    indent(root)
    write_atomically(folder / FILE, tostring(root, "utf-8", xml_declaration=True))


# --- reading --------------------------------------------------------------------------------------


def _item(element: Element, path: Path) -> Annotated:
    name = attribute(element, "name")
    with within(f"image {shown(name)}"):
        sides = [numeral(attribute(element, key), key) for key in ("height", "width")]
        rows, columns = (whole(side, "its size", 1) for side in sides)
        drawn: list[tuple[int, Thing]] = []
        for place, shape in enumerate(element, 1):
            if shape.tag == "tag":
                continue
            where = f"image {shown(name)}, shape {place}"
            with within(f"shape {place}"):
                label = attribute(shape, "label").strip()
                order = numeral(shape.get("z_order", "0"), "z_order")
                drawn.append((int(order), Thing(label, _covering(shape), where)))
    drawn.sort(key=lambda pair: pair[0])  # keeps the order of the file among equal ones
    things = tuple(thing for _, thing in drawn)
    split = _SPLITS.get(element.get("subset", "").casefold())
    return Annotated(name, path, things, (rows, columns), split=split)


def _covering(shape: Element) -> Covering:
    if shape.tag in _LEAST:
        points = _points(attribute(shape, "points"))
        if len(points) < _LEAST[shape.tag]:
            raise DataError(f"a {shape.tag} needs {_LEAST[shape.tag]} points; remove or redraw it")
        return {"polygon": lambda p: polygon_of([p]), "polyline": line_of, "points": dots_of}[
            shape.tag
        ](points)
    turn = numeral(shape.get("rotation", "0"), "rotation")
    if shape.tag == "box":
        left, top, right, bottom = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
        if right < left or bottom < top:
            raise DataError("its right or lower side lies before its left or upper one; correct it")
        return box_of(left, top, right - left, bottom - top, turn)
    if shape.tag == "ellipse":
        x, y, wide, high = _numbers(shape, "cx", "cy", "rx", "ry")
        return ellipse_of((x, y), wide, high, turn)
    if shape.tag == "mask":
        return _mask(shape)
    raise DataError(f"shapes of the type {shape.tag!r} are not read; draw it as a polygon")


def _mask(shape: Element) -> Covering:
    sides = _numbers(shape, "left", "top", "width", "height")
    left, top = (whole(abs(side), "left or top") * (-1 if side < 0 else 1) for side in sides[:2])
    width, height = (whole(side, "its size", 1) for side in sides[2:])
    runs = [_run(text) for text in attribute(shape, "rle").split(",")]
    return partial(_decoded, runs, (height, width), top, left)


def _decoded(
    runs: list[int], size: tuple[int, int], top: int, left: int, image: Raster
) -> np.ndarray | Part:
    rows, columns = image.array.shape[1:]
    if size[0] > rows or size[1] > columns:
        raise DataError(
            f"its mask is {size[0]} x {size[1]}, larger than its image; export it again"
        )
    return patch_of(mask_of_runs(runs, size, "C"), top, left)(image)


def _run(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise DataError(f"the runs of its mask hold {shown(digits)}; export it again")
    return int(digits)


def _points(text: str) -> np.ndarray:
    found = []
    for pair in text.split(";"):
        numbers = [numeral(part, "a coordinate") for part in pair.split(",")]
        if len(numbers) != 2:
            raise DataError(f"its points hold {shown(pair)}; export it again")
        found.append(numbers)
    return np.array(found)


def _numbers(shape: Element, *keys: str) -> list[float]:
    return [numeral(attribute(shape, key), key) for key in keys]


# --- writing --------------------------------------------------------------------------------------


def _add_shape(image: Element, name: str, outline: Outline) -> None:
    about = {"label": name, "source": "manual", "occluded": "0", "z_order": "0"}
    if not outline.holes:
        points = ";".join(f"{x:.1f},{y:.1f}" for x, y in outward(outline.exterior))
        SubElement(image, "polygon", about | {"points": points})
        return
    part, top, left = cut_out(outline)
    place = {"left": left, "top": top, "width": part.shape[1], "height": part.shape[0]}
    runs = ", ".join(str(length) for length in runs_of_mask(part))
    SubElement(image, "mask", about | {"rle": runs} | {k: str(v) for k, v in place.items()})
