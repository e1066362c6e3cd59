"""Files as other tools write them, put down by hand: one object of every kind in each."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import soundfile
from PIL import Image

from labelmend.exchange.annotated import Found, Source, paint
from labelmend.exchange.classes import all_numbers
from labelmend.exchange.formats import find_format
from labelmend.exchange.places import find_image
from labelmend.files.readers import read_image

ROWS, COLUMNS = 40, 60
SIZE = (ROWS, COLUMNS)
TRIANGLE = [[2.0, 3.0], [12.3, 4.1], [6.5, 13.7]]
HOLE = [[5.0, 5.0], [8.0, 5.5], [6.5, 8.0]]


def centres() -> tuple[np.ndarray, np.ndarray]:
    """x and y of the centre of every position, counted from the corner of the image."""
    y, x = np.mgrid[:ROWS, :COLUMNS] + 0.5
    return x, y


def in_box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    x, y = centres()
    return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)


def turned(cx: float, cy: float, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Every centre, seen from a shape at (cx, cy) that was turned clockwise on the screen."""
    x, y = centres()
    turn = np.deg2rad(degrees)
    right, down = x - cx, y - cy
    return right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)


def in_polygon(points: list[list[float]]) -> np.ndarray:
    """Even-odd by counting crossings to the left, position by position."""
    found = np.zeros(SIZE, bool)
    for row in range(ROWS):
        for column in range(COLUMNS):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
                if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x:
                    inside = not inside
            found[row, column] = inside
    return found


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def read(name: str, source: Path, *classes: str, images: Path | None = None) -> Found:
    asked = Source(source, images, classes)
    return find_format(name, source).read(asked)


def labels(name: str, source: Path, *classes: str, band: float = 0.0) -> dict[str, np.ndarray]:
    """Image → its label, each class as its number."""
    found = read(name, source, *classes)
    numbers = all_numbers(found.classes, found.items)
    result = {}
    for item in found.items:
        root = source if source.is_dir() else source.parent
        path, shown = find_image(item, found.folders, root)
        result[shown] = paint(item, read_image(path, dims=found.dims), numbers, band=band)
    return result


def by_class(name: str, source: Path) -> dict[str, np.ndarray]:
    """Class → its positions, in the only image; ``ignore`` are the unknown ones."""
    found = read(name, source)
    [label] = labels(name, source).values()
    names = dict(enumerate(found.classes)) | {-1: "ignore"}
    return {names[index]: label == index for index in np.unique(label).tolist()}


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


# --- one folder per tool --------------------------------------------------------------------------


def coco(folder: Path) -> Path:
    picture(folder / "images/a.png")
    runs = [30 * ROWS + 2, 5, ROWS - 5, 5, (COLUMNS - 30) * ROWS - 2 - 5 - (ROWS - 5) - 5]
    names = ("polygon", "parts", "runs", "packed", "box")
    polygons = [
        [number for point in TRIANGLE for number in point],
        [40.0, 20, 44, 20, 44, 25, 40, 25],
    ]
    common = {"image_id": 7, "iscrowd": 0}
    annotations = [
        {"id": 1, "category_id": 1, "segmentation": polygons[:1]},
        {"id": 2, "category_id": 2, "segmentation": [polygons[1], [43.0, 24, 46, 24, 46, 28]]},
        {"id": 3, "category_id": 3, "segmentation": {"size": [40, 60], "counts": runs}},
        {"id": 4, "category_id": 4, "segmentation": {"size": [40, 60], "counts": "je11V3N`N"}},
        {"id": 5, "category_id": 5, "segmentation": [], "bbox": [50.0, 30, 4, 3]},
        {"id": 6, "category_id": 1, "segmentation": [[20.0, 30, 24, 30, 24, 33, 20, 33]]},
    ]
    annotations[3]["segmentation"]["counts"] = packed_runs()
    annotations = [common | annotation for annotation in annotations]
    annotations[5]["iscrowd"] = 1
    document = {
        "info": {},
        "licenses": [],
        "images": [{"id": 7, "file_name": "a.png", "height": ROWS, "width": COLUMNS}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
        "annotations": annotations,
    }
    (folder / "annotations").mkdir()
    write_json(folder / "annotations/instances.json", document)
    return folder


def packed_runs() -> str:
    from pycocotools import mask

    mask_ = np.asfortranarray(in_box(10, 20, 13, 24), dtype=np.uint8)
    return mask.encode(mask_)["counts"].decode()


def labelme(folder: Path) -> Path:
    picture(folder / "a.png")
    stream = io.BytesIO()
    Image.fromarray(np.eye(4, 5, dtype=np.uint8) * 255).convert("1").save(stream, "PNG")
    mask = base64.b64encode(stream.getvalue()).decode()
    kinds = {
        "polygon": TRIANGLE,
        "rectangle": [[24.0, 9.0], [20.0, 4.0]],
        "circle": [[40.0, 10.0], [43.0, 14.0]],
        "linestrip": [[5.0, 25.0], [15.0, 25.0]],
        "point": [[30.0, 30.0]],
        "mask": [[50, 30], [54, 33]],
    }
    shapes = [
        {"label": f"a {kind}", "points": points, "shape_type": kind, "group_id": None, "flags": {}}
        for kind, points in kinds.items()
    ]
    shapes[-1]["mask"] = mask
    document = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": ROWS,
        "imageWidth": COLUMNS,
    }
    write_json(folder / "a.json", document)
    return folder


def label_studio(folder: Path) -> Path:
    picture(folder / "images/a b.png")
    percent = [[100 * x / COLUMNS, 100 * y / ROWS] for x, y in TRIANGLE]
    values = [
        ("polygonlabels", {"points": percent, "closed": True}),
        ("rectanglelabels", {"x": 50, "y": 10, "width": 20, "height": 10, "rotation": 30}),
        ("ellipselabels", {"x": 75, "y": 70, "radiusX": 12, "radiusY": 8, "rotation": 40}),
        ("keypointlabels", {"x": 10, "y": 80, "width": 5}),
        ("brushlabels", {"format": "rle", "rle": brushed_by_hand()}),
    ]
    result = [
        {
            "id": f"r{i}",
            "type": kind,
            "from_name": "tag",
            "to_name": "image",
            "original_width": COLUMNS,
            "original_height": ROWS,
            "image_rotation": 0,
            "value": value | {kind: [f"a {kind[:-6]}"]},
        }
        for i, (kind, value) in enumerate(values)
    ]
    task = {
        "id": 12,
        "file_upload": "0a1b2c3d-a_b.png",
        "data": {"image": "/data/upload/1/0a1b2c3d-a%20b.png"},
        "annotations": [{"id": 3, "completed_by": 1, "was_cancelled": False, "result": result}],
        "predictions": [],
    }
    write_json(folder / "project.json", [task])
    return folder


def brushed_by_hand() -> list[int]:
    """Six columns of the last row, as bits written down one after the other."""
    count = ROWS * COLUMNS * 4
    before, inside = count - 24, 24
    bits = f"{count:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "1" + "11" + f"{before - 1:016b}" + "00000000"
    bits += "0" + "10" + f"{inside - 1:08b}" + "11111111" * inside  # one by one, not as a run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def cvat(folder: Path) -> Path:
    picture(folder / "images/a.png")
    triangle = ";".join(f"{x},{y}" for x, y in TRIANGLE)
    (folder / "annotations.xml").write_text(
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels>
    <label><name>polygon</name></label><label><name>box</name></label>
    <label><name>ellipse</name></label><label><name>mask</name></label>
    <label><name>line</name></label><label><name>point</name></label>
  </labels></task></meta>
  <image id="0" name="a.png" width="{COLUMNS}" height="{ROWS}">
    <tag label="polygon" source="manual"></tag>
    <polygon label="polygon" source="manual" occluded="0" points="{triangle}" z_order="0"/>
    <box label="box" xtl="30.0" ytl="4.0" xbr="42.0" ybr="10.0" rotation="30.0" z_order="0"/>
    <ellipse label="ellipse" cx="45" cy="28" rx="7.2" ry="3.2" rotation="40" z_order="0"/>
    <mask label="mask" rle="1, 3, 2, 2" left="20" top="30" width="4" height="2" z_order="0"/>
    <polyline label="line" points="5.0,25.0;15.0,25.0" z_order="1"/>
    <points label="point" points="30.0,20.0" z_order="0"/>
  </image>
</annotations>
"""
    )
    return folder


def geojson(folder: Path) -> Path:
    picture(folder / "images/a.png")
    closed = [*TRIANGLE, TRIANGLE[0]]
    geometries = [
        ("polygon", "Polygon", [closed, [*HOLE, HOLE[0]]]),
        ("parts", "MultiPolygon", [[square(20, 20)], [square(26, 20)]]),
        ("line", "LineString", [[5, 30], [15, 30]]),
        ("point", "Point", [30.0, 30.0]),
        ("points", "MultiPoint", [[45.0, 30.0], [52.0, 30.0]]),
        ("Ignore*", "Polygon", [square(40, 5)]),
    ]
    features = [
        {
            "type": "Feature",
            "id": f"{i}",
            "geometry": {"type": kind, "coordinates": where},
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for i, (name, kind, where) in enumerate(geometries)
    ]
    write_json(folder / "a.geojson", {"type": "FeatureCollection", "features": features})
    return folder


def square(x: int, y: int, side: int = 4) -> list[list[int]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def yolo(folder: Path) -> Path:
    picture(folder / "images/train/a.png")
    picture(folder / "images/val/b.png")
    (folder / "labels/train").mkdir(parents=True)
    triangle = " ".join(f"{x / COLUMNS!r} {y / ROWS!r}" for x, y in TRIANGLE)
    (folder / "labels/train/a.txt").write_text(f"0 {triangle}\n2 0.5 0.5 0.1 0.2\n\n")
    (folder / "data.yaml").write_text(
        "# made by hand\npath: ../datasets\ntrain: images/train\nval: images/val\nnc: 3\n"
        "names: ['polygon', \"nothing\", box]  # three\n"
    )
    return folder


def voc(folder: Path) -> Path:
    picture(folder / "JPEGImages/a.png")
    picture(folder / "JPEGImages/b.png")
    (folder / "SegmentationClass").mkdir()
    values = np.where(in_box(3, 3, 9, 8), 2, 0) + np.where(in_box(20, 3, 29, 8), 255, 0)
    image = Image.fromarray(values.astype(np.uint8), "L")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 759)
    image.save(folder / "SegmentationClass/a.png")
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[in_box(3, 3, 9, 8)] = (10, 20, 30)
    colours[in_box(30, 3, 39, 8)] = (250, 0, 1)
    Image.fromarray(colours).save(folder / "SegmentationClass/b.png")
    (folder / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:250,0,1::\nbus:10,20,30::\n"
    )
    return folder


def png(folder: Path) -> Path:
    picture(folder / "images/a.png")
    (folder / "masks").mkdir()
    values = in_box(3, 3, 9, 8).astype(np.uint8) * 255
    Image.fromarray(values).save(folder / "masks/a_mask.png")
    return folder


AFFINE = np.diag([1.5, 0.7, 2.0, 1.0])


def nifti(folder: Path) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    label = np.zeros((6, 7, 8), np.uint8)
    label[1:3, 2:5, 3:6], label[4, 4, 4] = 1, 3
    volume = np.random.default_rng(0).normal(size=label.shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, AFFINE), folder / "imagesTr/a_0000.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label, AFFINE), folder / "labelsTr/a.nii.gz")
    names = {"background": 0, "anterior": 1, "posterior": 2, "ignore": 3}
    write_json(folder / "dataset.json", {"labels": names, "channel_names": {"0": "MRI"}})
    return folder


def events(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in "abc":
        soundfile.write(folder / f"{name}.wav", np.arange(100, dtype=np.int16), 100)
    (folder / "a.csv").write_text(
        "Start;Duration;Label;who\n0.10;0.20;call;x\n0.25;0.10;song;\n\n0.90;0.10;ignore;\n"
    )
    (folder / "b.txt").write_text("0.100000\t0.300000\tcall\n\\\t100.0\t900.0\n0.5\t0.6\tsong\n")
    (folder / "c.Table.1.selections.txt").write_text(
        "Selection\tView\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\tWaveform 1\t0.2\t0.4\tsong\n"
    )
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "coco": coco,
    "labelme": labelme,
    "label-studio": label_studio,
    "cvat": cvat,
    "geojson": geojson,
    "yolo": yolo,
    "voc": voc,
    "png": png,
    "nifti": nifti,
    "events": events,
}
