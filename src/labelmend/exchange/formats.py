"""Every format that labels are taken from and given to, and how to know one by its content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from labelmend.errors import DataError, unknown
from labelmend.exchange import (
    coco,
    cvat,
    events,
    geojson,
    label_studio,
    labelme,
    nifti,
    png,
    voc,
    yolo,
)
from labelmend.exchange.annotated import Found, Labelled, Source
from labelmend.exchange.documents import documents_in, load_json, load_xml

_LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class Format:
    """One format of other tools.

    Attributes:
        name: as on the command line.
        tool: where it comes from, for people.
        read: finds all that a source claims.
        write: fills a folder with labels; gets class names, the background first.
        dims: space axes of its images.
        unknown: whether it can say that nobody knows what is there.
        several: whether one image may have labels by several people.
        images: where a copy of an image lies beside the labels.
    """

    name: str
    tool: str
    read: Callable[[Source], Found]
    write: Callable[[Path, Iterator[Labelled], tuple[str, ...]], None]
    dims: int = 2
    unknown: bool = True
    several: bool = False
    images: str = "images/{name}"


_ALL = (
    Format("coco", "COCO JSON", coco.read_coco, coco.write_coco),
    Format("labelme", "LabelMe", labelme.read_labelme, labelme.write_labelme, images="{name}"),
    Format(
        "label-studio",
        "Label Studio JSON",
        label_studio.read_label_studio,
        label_studio.write_label_studio,
        several=True,
    ),
    Format("cvat", "CVAT XML for images", cvat.read_cvat, cvat.write_cvat),
    Format("geojson", "QuPath GeoJSON", geojson.read_geojson, geojson.write_geojson),
    Format(
        "yolo",
        "YOLO polygons",
        yolo.read_yolo,
        yolo.write_yolo,
        unknown=False,
        images="images/{split}/{name}",
    ),
    Format("voc", "Pascal VOC", voc.read_voc, voc.write_voc, images="JPEGImages/{name}"),
    Format("png", "index PNG or TIFF", png.read_png, png.write_png),
    Format("nifti", "NIfTI pairs", nifti.read_nifti, nifti.write_nifti, dims=3),
    Format("events", "CSV of events", events.read_events, events.write_events, 1, images="{name}"),
    Format(
        "audacity",
        "Audacity label tracks",
        events.read_events,
        events.write_audacity,
        1,
        images="{name}",
    ),
)

FORMATS = {each.name: each for each in _ALL}
"""All formats by name."""


def find_format(name: str, source: Path) -> Format:
    """The format of a name; for ``auto`` the one that a file or folder shows by its content.

    Raises:
        SettingsError: for an unknown name.
        DataError: when the content shows none, or more than one.
    """
    if name == "auto":
        return FORMATS[_detect(source)]
    if name not in FORMATS:
        raise unknown("format", name, ("auto", *FORMATS))
    return FORMATS[name]


def _detect(source: Path) -> str:
    if not source.exists():
        raise DataError(f"{source}: does not exist; check the path")
    if source.suffix.lower() in (".zip", ".gz", ".tar", ".7z"):
        raise DataError(f"{source}: is an archive; unpack it and name the folder")
    if (source / "labels" / "strong").is_dir() or (source / "data.toml").is_file():
        raise DataError(
            f"{source}: is a data folder already; use it as it is, with: labelmend check {source}"
        )
    found = _of_folder(source) if source.is_dir() else _of_file(source)
    if len(found) == 1:
        return found.pop()
    known = ", ".join(FORMATS)
    if not found:
        raise DataError(f"{source}: shows no format that is known ({known}); say which: --format")
    shown = " or ".join(sorted(found))
    raise DataError(f"{source}: may be {shown}; say which: --format {min(found)}")


def _of_folder(folder: Path) -> set[str]:
    if voc.is_voc(folder):
        return {"voc"}
    if yolo.is_yolo(folder):
        return {"yolo"}
    found: set[str] = set()
    suffixes = (".json", ".geojson", ".xml", *events.SUFFIXES)
    for path in islice(documents_in(folder, suffixes), _LOOKED_AT):
        found |= _of_file(path)
    if found:
        return found
    return {name for name, fits in (("png", png.is_png), ("nifti", nifti.is_nifti)) if fits(folder)}


def _of_file(path: Path) -> set[str]:
    suffix = path.suffix.lower()
    if suffix in (".json", ".geojson"):
        tests = {
            "coco": coco.is_coco,
            "labelme": labelme.is_labelme,
            "label-studio": label_studio.is_label_studio,
            "geojson": geojson.is_geojson,
        }
        value = load_json(path)
        return {name for name, fits in tests.items() if fits(value)}
    if suffix == ".xml":
        return {"cvat"} if cvat.is_cvat(load_xml(path)) else set()
    if suffix in (".yaml", ".yml"):
        return {"yolo"}
    if suffix in events.SUFFIXES:
        return {"events"} if events.is_event_file(path) else set()
    return set()
