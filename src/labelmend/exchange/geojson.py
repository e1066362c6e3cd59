"""GeoJSON as QuPath writes it: one file per image, features with a classification."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from labelmend.exchange.classes import TABLE, class_table, classes_beside, settle_classes
from labelmend.exchange.corners import dots_of, line_of, outward, polygon_of, polygons_of
from labelmend.exchange.documents import entry, load_json, pairs, shown
from labelmend.exchange.places import (
    ImagesByStem,
    image_folders,
    image_names,
    list_files,
    note_passed_over,
    stem_of,
)
from labelmend.labels.outlines import Outline, find_outlines
from labelmend.runs import write_atomically

IGNORED = "Ignore*"
"""What QuPath calls what is to be left out."""


def is_geojson(value: Any) -> bool:
    """Whether a JSON value looks like it."""
    if isinstance(value, dict) and value.get("type") == "FeatureCollection":
        return True
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and first.get("type") == "Feature"


def read_geojson(source: Source) -> Found:
    """The features of all GeoJSON files of a folder, each for the image of the same stem.

    Lines are ten positions wide and points have a radius of five. An empty list is an image
    without objects.

    Raises:
        DataError: naming file and feature.
    """
    if source.path.is_file():
        names = [source.path.name]
    else:
        names = list_files(source.path, [".geojson", ".json"])
    folders = image_folders(source)
    known = ImagesByStem(image_names(folders[0]))
    found = {name: _load(source.folder, name, known) for name in names}
    items = tuple(item for item in found.values() if item is not None)
    if not items:
        raise DataError(f"{source.path}: holds no GeoJSON file; name their folder")
    listed = tuple(classes_beside(source.folder).values())
    classes = settle_classes(source, listed[1:], items, behind="".join(listed[:1]))
    others = note_passed_over([name for name in names if not found[name]])
    return Found(items, classes, folders, notes=others)


def write_geojson(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """One file per image, a polygon with its holes for every connected part; and their table."""
    write_atomically(folder / TABLE, class_table(classes))
    for one in labels:
        features = [
            _feature(outline, name)
            for index, name in ((UNKNOWN, IGNORED), *enumerate(classes))
            if index
            for outline in find_outlines(one.label == index)
        ]
        path = folder / f"{one.stem}.geojson"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"type": "FeatureCollection", "features": features}
        write_atomically(path, json.dumps(document).encode())


# --- reading --------------------------------------------------------------------------------------


def _load(folder: Path, name: str, known: ImagesByStem) -> Annotated | None:
    """What a file says, or None where it is no GeoJSON."""
    path, stem = folder / name, stem_of(name)
    value = load_json(path)
    # an empty list may be anything, unless its name says what it is for
    nothing = value == [] and (path.suffix.lower() == ".geojson" or known.holds(stem))
    return _item(known.find(stem, path), path, value) if nothing or is_geojson(value) else None


def _item(image: str, path: Path, value: Any) -> Annotated:
    with within(path):
        if isinstance(value, dict) and value.get("type") == "FeatureCollection":
            value = entry(value, "features", list)
        features = value if isinstance(value, list) else [value]
        things = []
        for place, feature in enumerate(features, 1):
            where = f"feature {place}"
            with within(where):
                geometry = entry(feature, "geometry", dict)
                things.append(Thing(_class(feature), _covering(geometry), where))
    return Annotated(image, path, tuple(things))


def _class(feature: Any) -> str:
    about = entry(feature, "properties", dict).get("classification")
    if isinstance(about, dict):
        names = about.get("names")
        about = about.get("name")
        if about is None and isinstance(names, list) and all(isinstance(n, str) for n in names):
            about = ": ".join(names)
    if not isinstance(about, str) or not about.strip():
        raise DataError("has no classification; give it one")
    return about.strip()


def _covering(geometry: dict[str, Any]) -> Covering:
    kind = entry(geometry, "type", str)
    where = geometry.get("coordinates")
    if kind == "Polygon":
        return polygon_of(_rings(where))
    if kind == "MultiPolygon":
        if not isinstance(where, list) or not where:
            raise DataError(f"its coordinates should be polygons, not {shown(where)}")
        return polygons_of([_rings(part) for part in where])
    if kind == "LineString":
        return line_of(pairs(where, "the points of a line"))
    if kind == "MultiPoint":
        return dots_of(pairs(where, "its points"))
    if kind == "Point":
        return dots_of(pairs([where], "its point"))
    raise DataError(f"geometries of the type {shown(kind)} are not read; draw it as a polygon")


def _rings(value: Any) -> list[np.ndarray]:
    if not isinstance(value, list) or not value:
        raise DataError(f"its coordinates should be rings, not {shown(value)}; export it again")
    return [pairs(ring, "the points of a ring", 3) for ring in value]


# --- writing --------------------------------------------------------------------------------------


def _feature(outline: Outline, name: str) -> dict[str, Any]:
    rings = [outward(np.concatenate([ring, ring[:1]])).tolist() for ring in outline.rings]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }
