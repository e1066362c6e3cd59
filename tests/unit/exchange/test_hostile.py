"""Files that are wrong or mean harm: each is one clear error, before anything large is made."""

from __future__ import annotations

import base64
import json
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from labelmend.errors import DataError
from labelmend.exchange.taking import import_labels

from . import handmade as made

MOST_MEMORY = 200 * 10**6


@dataclass(frozen=True)
class Kind:
    """One way to spoil a good folder, and what is said of it."""

    title: str
    tool: str
    spoil: Callable[[Path], None]
    said: str


KINDS: list[Kind] = []


def kind(title: str, tool: str, said: str) -> Callable[[Callable[[Path], None]], None]:
    def keep(spoil: Callable[[Path], None]) -> None:
        KINDS.append(Kind(title, tool, spoil, said))

    return keep


def change(path: str, *way: Any) -> Callable[[Path], None]:
    """Puts a value (the last of ``way``) in a place of a JSON file."""

    def spoil(folder: Path) -> None:
        document = json.loads((folder / path).read_text())
        at = document
        for key in way[:-2]:
            at = at[key]
        at[way[-2]] = way[-1]
        made.write_json(folder / path, document)

    return spoil


def text(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Puts other words in a text file."""

    def spoil(folder: Path) -> None:
        content = (folder / path).read_text()
        assert old in content
        (folder / path).write_text(content.replace(old, new, 1))

    return spoil


COCO, LABELME, STUDIO = "annotations/instances.json", "a.json", "project.json"
CVAT, GEO, YOLO = "annotations.xml", "a.geojson", "labels/train/a.txt"

# --- JSON and XML that are none -------------------------------------------------------------------


@kind("JSON cut short", "coco", "instances.json: is damaged or cut short: line 1 is not JSON")
def _(folder: Path) -> None:
    path = folder / COCO
    path.write_bytes(path.read_bytes()[:-20])


kind("empty JSON", "labelme", "a.json: is damaged or cut short: line 1 is not JSON")(
    lambda folder: (folder / LABELME).write_bytes(b"") and None
)
kind("JSON that is not UTF-8", "labelme", "a.json: is not text in UTF-8")(
    lambda folder: (folder / LABELME).write_bytes(b'{"a": "\xff"}') and None
)
kind("NaN in JSON", "geojson", "a.geojson: holds NaN, which is not a number")(
    text(GEO, "30.0, 30.0", "NaN, 30.0")
)
kind("infinity in JSON", "geojson", "a.geojson: holds Infinity, which is not a number")(
    text(GEO, "30.0, 30.0", "Infinity, 30.0")
)
kind("number beyond all bounds", "geojson", "feature 4: its point should be finite numbers")(
    text(GEO, "30.0, 30.0", "1e400, 30.0")
)
kind("number of 5,000 digits", "geojson", "a.geojson: holds a number that is too long")(
    text(GEO, "30.0, 30.0", f"{'9' * 5000}, 30.0")
)


@kind("JSON nested 100,000 deep", "label-studio", "project.json: is nested too deeply")
def _(folder: Path) -> None:
    (folder / STUDIO).write_text("[" * 100_000 + "]" * 100_000)


@kind("XML cut short", "cvat", "annotations.xml: is damaged or cut short: line ")
def _(folder: Path) -> None:
    path = folder / CVAT
    path.write_text(path.read_text()[:-20])


@kind("XML bomb of entities", "cvat", "annotations.xml: declares a document type")
def _(folder: Path) -> None:
    names = "abcdefghij"
    entities = '<!ENTITY a "lol">' + "".join(
        f'<!ENTITY {here} "{f"&{before};" * 10}">' for before, here in pairwise(names)
    )
    old = (folder / CVAT).read_text().split("?>", 1)[1]
    (folder / CVAT).write_text(f"<!DOCTYPE x [{entities}]>{old.replace('polygon', '&j;', 1)}")


@kind("XML that reads another file", "cvat", "annotations.xml: declares a document type")
def _(folder: Path) -> None:
    old = (folder / CVAT).read_text().split("?>", 1)[1]
    entity = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    (folder / CVAT).write_text(entity + old.replace("<version>1.1", "<version>&a;", 1))


@kind("XML nested 100,000 deep", "cvat", "annotations.xml: is nested too deeply")
def _(folder: Path) -> None:
    (folder / CVAT).write_text("<annotations>" + "<a>" * 100_000)


kind("XML in an unknown encoding", "cvat", "annotations.xml: is damaged or cut short: line ")(
    text(CVAT, 'encoding="utf-8"', 'encoding="klingon"')
)

# --- wrong types, numbers and references ----------------------------------------------------------

kind("images that are no list", "coco", "needs 'images', a list, and has 3")(
    change(COCO, "images", 3)
)
kind("annotation that is no object", "coco", "annotation number 1: needs 'image_id'")(
    change(COCO, "annotations", 0, [])
)
kind("annotation of no image", "coco", "annotation 1: its image_id 9 is that of no image")(
    change(COCO, "annotations", 0, "image_id", 9)
)
kind("annotation of no category", "coco", "annotation 1: its category_id 9 is that of no category")(
    change(COCO, "annotations", 0, "category_id", 9)
)
kind("two images of one id", "coco", "image 7: another image has the same id")(
    lambda folder: change(
        COCO, "images", [json.loads((folder / COCO).read_text())["images"][0]] * 2
    )(folder)
)


@kind("one image listed twice", "coco", "the image 'a.png' has a second label")
def _(folder: Path) -> None:
    first = json.loads((folder / COCO).read_text())["images"][0]
    change(COCO, "images", [first, first | {"id": 8}])(folder)


kind("image without height", "coco", "image 7: its height should be a usual number, not null")(
    change(COCO, "images", 0, "height", None)
)
kind("image of negative height", "coco", "image 7: its height should be a whole number from 1 on")(
    change(COCO, "images", 0, "height", -40)
)
kind("odd number of coordinates", "coco", "annotation 1: the points of a polygon should be pairs")(
    change(COCO, "annotations", 0, "segmentation", [[1, 2, 3, 4, 5, 6, 7]])
)
kind("polygon of two points", "coco", "the points of a polygon should be at least 3, not 2")(
    change(COCO, "annotations", 0, "segmentation", [[1, 2, 3, 4]])
)
kind("coordinates that are words", "coco", "the points of a polygon should be pairs of numbers")(
    change(COCO, "annotations", 0, "segmentation", [["1", "2", "3", "4", "5", "6"]])
)
kind("box of negative width", "coco", "annotation 5: its bbox is -4 wide and 3 high")(
    change(COCO, "annotations", 4, "bbox", [50, 30, -4, 3])
)
kind("iscrowd that is neither", "coco", "annotation 1: its iscrowd should be 0 or 1, not 'yes'")(
    change(COCO, "annotations", 0, "iscrowd", "yes")
)
kind("circle of one point", "labelme", "shape 3: the points of a circle should be at least 2")(
    change(LABELME, "shapes", 2, "points", [[1, 2]])
)
kind("circle without a radius", "labelme", "shape 3: its radii should be above 0, not 0 and 0")(
    change(LABELME, "shapes", 2, "points", [[1, 2], [1, 2]])
)
kind("unknown type of shape", "labelme", "shape 1: shapes of the type 'blob' are not read")(
    change(LABELME, "shapes", 0, "shape_type", "blob")
)
kind("shape without a name", "labelme", "shape 1: needs 'label', text, and has null")(
    change(LABELME, "shapes", 0, "label", None)
)
kind("mask that is no base64", "labelme", "shape 6: its mask is not base64")(
    change(LABELME, "shapes", 5, "mask", "###")
)
kind("mask of another size than its points", "labelme", "shape 6: its mask is (4, 5), but")(
    change(LABELME, "shapes", 5, "points", [[50, 30], [55, 33]])
)
kind("region without a class", "label-studio", "task 12: region 1: should have one class")(
    change(STUDIO, 0, "annotations", 0, "result", 0, "value", "polygonlabels", [])
)
kind("image turned in the tool", "label-studio", "region 2: its image is turned in Label Studio")(
    change(STUDIO, 0, "annotations", 0, "result", 1, "image_rotation", 90)
)
kind("ellipse of negative radius", "label-studio", "region 3: its radii should be above 0")(
    change(STUDIO, 0, "annotations", 0, "result", 2, "value", "radiusX", -3)
)
kind("JSON-MIN instead of JSON", "label-studio", "holds no JSON export of Label Studio")(
    lambda folder: made.write_json(folder / STUDIO, [{"image": "a.png"}]) and None
)
kind(
    "points that are no numbers", "cvat", "shape 2: a coordinate should be a usual number, not 'x'"
)(text(CVAT, "12.3,", "x,"))
kind("box that ends before it begins", "cvat", "shape 3: its right or lower side lies before")(
    text(CVAT, 'xbr="42.0"', 'xbr="12.0"')
)
kind("shape without a label", "cvat", "shape 3: <box> needs 'label'")(
    text(CVAT, 'box label="box"', "box")
)
kind("video", "cvat", "annotations.xml: is for videos")(text(CVAT, "<meta>", "<track/><meta>"))
kind(
    "runs that do not fill the mask", "cvat", "its runs are 9 positions long, but 2 x 4 are to be"
)(text(CVAT, "1, 3, 2, 2", "1, 3, 3, 2"))
kind("feature without a class", "geojson", "a.geojson: feature 1: has no classification")(
    change(GEO, "features", 0, "properties", "classification", None)
)
kind("geometry that is not read", "geojson", "feature 1: geometries of the type 'GeometryColl")(
    change(GEO, "features", 0, "geometry", "type", "GeometryCollection")
)
kind("class of no name", "yolo", "a.txt: line 2: has the class 7, and names has none")(
    text(YOLO, "2 0.5", "7 0.5")
)
kind("coordinates in positions", "yolo", "a.txt: line 2: should be a class and x y pairs")(
    text(YOLO, "2 0.5", "2 30")
)
kind("NaN among shares", "yolo", "a.txt: line 2: a coordinate should be a usual number, not 'nan'")(
    text(YOLO, "2 0.5", "2 nan")
)
kind("YAML without names", "yolo", "data.yaml: its names hold '&x")(
    text("data.yaml", "names: [", "names: &x [")
)
kind("name that is there twice", "yolo", "data.yaml: its names are empty or one is there twice")(
    text("data.yaml", "box]", "polygon]")
)
kind("value of no class", "voc", "a.png: holds the value 2, which no class has")(
    text("labelmap.txt", "bus:10,20,30::\n", "")
)
kind("colour of no class", "voc", "b.png: has the colour #0a141e, which is not in labelmap.txt")(
    text("labelmap.txt", "10,20,30", "10,20,31")
)
kind(
    "map that is none", "voc", "labelmap.txt: the line 'bus:10,20::' is not name:red,green,blue::"
)(text("labelmap.txt", "10,20,30", "10,20"))
kind("dataset.json of one name", "nifti", "dataset.json: its labels should be at least two names")(
    change("dataset.json", "labels", {"background": 0})
)
kind("value that is no number", "nifti", "dataset.json: its labels name the value 'x'")(
    change("dataset.json", "labels", {"x": "background", "y": "z"})
)
kind("event that ends before it begins", "events", "a.csv: line 2: the event 'call' (0.1 to -0.1")(
    text("a.csv", "0.10;0.20", "0.10;-0.20")
)
kind(
    "event beyond the end", "events", "a.csv: line 2: the event 'call' (0.1 to 20.1 s) ends after"
)(text("a.csv", "0.10;0.20", "0.10;20"))
kind("onset that is no number", "events", "a.csv: line 2: its onset should be a usual number")(
    text("a.csv", "0.10;", "soon;")
)
kind("event without a name", "events", "a.csv: line 2: the event at 0.1 s has no name")(
    text("a.csv", "call", "")
)
kind("row too short", "events", "a.csv: line 2: has 2 cells, fewer than the header")(
    text("a.csv", "0.10;0.20;call;x", "0.10;0.20")
)


for _table, _said in (
    ("name,value\n0,a\n1,b\n", "classes.csv: should begin with the line value,name"),
    ("value,name\n0,a\n0,b\n", "classes.csv: line 3: should be a new value and a new name"),
    ("value,name\n0,a\n1,a\n", "classes.csv: line 3: should be a new value and a new name"),
    ("value,name\n0,a\n-1,b\n", "classes.csv: line 3: should be a new value and a new name"),
    ("value,name\n0,a\n", "classes.csv: should name at least two classes"),
    ("value,name\n0,\xff\n", "classes.csv: is not a CSV in UTF-8"),
):
    kind(f"table {_table!r}", "png", _said)(
        lambda folder, table=_table: (
            (folder / "classes.csv").write_bytes(table.encode("latin-1")) and None
        )
    )


@kind("labels of many values", "png", "a_mask.png: labels hold more than 64 values, as if every")
def _(folder: Path) -> None:
    values = np.arange(made.ROWS * made.COLUMNS, dtype=np.uint16).reshape(made.SIZE)
    Image.fromarray(values).save(folder / "masks/a_mask.png")


@kind("255 beside other values", "png", "a_mask.png: labels hold 0, 1, 255, which does not say")
def _(folder: Path) -> None:
    values = np.zeros(made.SIZE, np.uint8)
    values[0, :2] = 1, 255
    Image.fromarray(values).save(folder / "masks/a_mask.png")


@kind("label of another size than its image", "png", "a_mask.png: the label's size is 40 x 59")
def _(folder: Path) -> None:
    Image.fromarray(np.eye(40, 59, dtype=np.uint8)).save(folder / "masks/a_mask.png")


@kind("two images of one stem", "png", "a_mask.png: belongs to a.jpg or to a.png")
def _(folder: Path) -> None:
    Image.new("L", made.SIZE[::-1]).save(folder / "images/a.jpg")


@kind("label without an image", "png", "b.png: has no image of the same stem")
def _(folder: Path) -> None:
    made.picture(folder / "masks/b.png")


# --- images that are not what is said -------------------------------------------------------------

for _tool, _file, _said in (
    ("coco", "images/a.png", "instances.json: image a.png: the label's size is 40 x 60 but its"),
    ("labelme", "a.png", "a.json: image a.png: the label's size is 40 x 60 but its image's is"),
    ("cvat", "images/a.png", "annotations.xml: image a.png: the label's size is 40 x 60 but its"),
    ("label-studio", "images/a b.png", "project.json: image a b.png: the label's size is 40 x 60"),
):
    kind("image of another size", _tool, _said)(
        lambda folder, file=_file: made.picture(folder / file, (60, 40)) and None
    )
    kind("image that is missing", _tool, "--images")(
        lambda folder, file=_file: (folder / file).unlink()
    )
    kind("image that is damaged", _tool, "is damaged or cut short: it cannot be decoded as PNG")(
        lambda folder, file=_file: (
            (folder / file).write_bytes((folder / file).read_bytes()[:99]) and None
        )
    )


@kind("image that asks to be turned", "coco", "a.png: asks to be turned when shown (orientation 6)")
def _(folder: Path) -> None:
    about = Image.Exif()
    about[0x0112] = 6
    Image.new("L", made.SIZE[::-1]).save(folder / "images/a.png", exif=about)


@kind("volume that lies elsewhere", "nifti", "a.nii.gz: the affines of label and image differ by")
def _(folder: Path) -> None:
    path = folder / "labelsTr/a.nii.gz"
    array = np.asarray(nibabel.load(path).dataobj)
    nibabel.save(nibabel.Nifti1Image(array, made.AFFINE + np.eye(4, k=3)), path)


# --- paths that lead out --------------------------------------------------------------------------

for _name in ("../../etc/passwd", "/etc/passwd", "C:\\a.png", "..\\..\\a.png", "//host/a.png"):
    kind(f"path {_name}", "coco", "lies outside of")(change(COCO, "images", 0, "file_name", _name))
    kind(f"path {_name}", "labelme", "lies outside of")(change(LABELME, "imagePath", _name))
    kind(f"path {_name}", "cvat", "lies outside of")(text(CVAT, 'name="a.png"', f'name="{_name}"'))

for _name in ("", "a\0.png", "a\n.png", "images/"):
    kind(f"name {_name!r}", "coco", "is not the name of an image; correct it")(
        change(COCO, "images", 0, "file_name", _name)
    )
kind("address that leads out", "label-studio", "is not the name of an image|is missing|outside")(
    change(STUDIO, 0, "data", "image", "https://x/data/..%2f..%2fetc%2fpasswd")
)


@kind("link that leads out", "coco", "lies outside of")
def _(folder: Path) -> None:
    outside = made.picture(folder.parent / "outside/a.png")
    (folder / "images/a.png").unlink()
    (folder / "images/a.png").symlink_to(outside)


@kind("folder that is a link that leads out", "coco", "lies outside of")
def _(folder: Path) -> None:
    outside = made.picture(folder.parent / "outside/a.png")
    (folder / "images/b").symlink_to(outside.parent)
    change(COCO, "images", 0, "file_name", "b/a.png")(folder)


@kind("label that is a link that leads out", "png", "c.png: is a link that leads out of")
def _(folder: Path) -> None:
    (folder / "masks/c.png").symlink_to(made.picture(folder.parent / "outside/c.png"))


@kind("link to itself", "coco", "lies outside of|is missing")
def _(folder: Path) -> None:
    (folder / "images/a.png").unlink()
    (folder / "images/a.png").symlink_to(folder / "images/a.png")


# --- bombs ----------------------------------------------------------------------------------------

BOMBS = len(KINDS)
HUGE = 10**12

kind(
    "runs of 10^12 positions", "coco", "its runs are 1,000,000,000,000 positions long, but 40 x 60"
)(change(COCO, "annotations", 2, "segmentation", "counts", [0, HUGE]))
kind("packed runs beyond all bounds", "coco", "annotation 4: its compressed runs are damaged")(
    change(COCO, "annotations", 3, "segmentation", "counts", "o" * 40 + "0")
)
kind(
    "packed runs that are negative", "coco", "the lengths of its runs should be whole numbers, no"
)(change(COCO, "annotations", 3, "segmentation", "counts", "O"))
kind("runs that overflow", "coco", "its runs are far too many positions long")(
    change(COCO, "annotations", 2, "segmentation", "counts", [2**63, 2**63, 2400])
)
kind("runs for another size", "coco", "annotation 3: its runs are not for an image of 40 x 60")(
    change(COCO, "annotations", 2, "segmentation", "size", [HUGE, HUGE])
)


@kind(
    "image that claims 10^24 positions", "coco", "image a.png: the label's size is 1000000000000 x"
)
def _(folder: Path) -> None:
    change(COCO, "images", 0, "height", HUGE)(folder)
    change(COCO, "images", 0, "width", HUGE)(folder)
    change(COCO, "annotations", 2, "segmentation", "size", [HUGE, HUGE])(folder)
    change(COCO, "annotations", 3, "segmentation", "size", [HUGE, HUGE])(folder)


kind("mask of 10^12 positions", "cvat", "its mask is 1000000 x 1000000, larger than its image")(
    text(CVAT, 'width="4" height="2"', 'width="1000000" height="1000000"')
)
kind("brush of 2^32 values", "label-studio", "region 5: its brush holds 4,294,967,295 values")(
    change(
        STUDIO, 0, "annotations", 0, "result", 4, "value", "rle", [255, 255, 255, 255, 57, 27, 255]
    )
)
kind("brush that is cut short", "label-studio", "region 5: its brush is cut short")(
    change(STUDIO, 0, "annotations", 0, "result", 4, "value", "rle", made.brushed_by_hand()[:9])
)
kind(
    "brush of other numbers", "label-studio", "its brush should be a list of numbers from 0 to 255"
)(change(STUDIO, 0, "annotations", 0, "result", 4, "value", "rle", [1, 2, 256]))


@kind("mask whose PNG promises 10 GB", "labelme", "shape 6: its header promises")
def _(folder: Path) -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk
    mask = base64.b64encode(png).decode()
    change(LABELME, "shapes", 5, "mask", mask)(folder)


@kind("mask whose PNG really is 64 MB", "labelme", "shape 6: its header promises 64,000,000 bytes")
def _(folder: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        checked = name + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(8_001 * 100)) for _ in range(80)) + packer.flush()
    header = struct.pack(">IIBBBBB", 8_000, 8_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    change(LABELME, "shapes", 5, "mask", base64.b64encode(png).decode())(folder)


# --- the test -------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", KINDS, ids=lambda each: f"{each.tool}: {each.title}")
def test_it_is_one_clear_error(each: Kind, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    made.MAKERS[each.tool](source)
    each.spoil(source)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            import_labels(source, tmp_path / "out", format=each.tool)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert each.said in said or re.search(each.said, said), said
    assert "\n" not in said
    assert str(source) in said
    assert peak < MOST_MEMORY
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "outside") == ["source"]


@pytest.mark.parametrize("tool", sorted(made.MAKERS))
def test_nothing_is_wrong_before_it_is_spoilt(tool: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    import_labels(made.MAKERS[tool](tmp_path / "source"), tmp_path / "out")
    assert (tmp_path / "out/data.toml").is_file()
