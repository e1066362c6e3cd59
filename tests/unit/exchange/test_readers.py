"""What every format's objects cover, against slow and obvious twins; files put down by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from labelmend.errors import DataError
from labelmend.exchange.formats import find_format

from . import handmade as made
from .handmade import by_class, in_box, in_polygon, labels, read, turned


def disc(x: float, y: float, radius: float) -> np.ndarray:
    right, down = made.centres()
    return (right - x) ** 2 + (down - y) ** 2 <= radius**2


def stroke(x0: float, x1: float, y: float, width: float = 10) -> np.ndarray:
    right, down = made.centres()
    away = np.maximum(np.maximum(x0 - right, right - x1), 0)
    return away**2 + (down - y) ** 2 <= (width / 2) ** 2


def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == {"background", *expected}
    for name, mask in expected.items():
        assert mask.any()
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


@pytest.mark.parametrize("name", sorted(made.MAKERS))
def test_the_format_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    assert find_format("auto", made.MAKERS[name](tmp_path)).name == name


def test_coco(tmp_path: Path) -> None:
    expected = {
        "polygon": in_polygon(made.TRIANGLE),
        "parts": in_box(40, 20, 44, 25) | in_polygon([[43, 24], [46, 24], [46, 28]]),
        "runs": in_box(30, 2, 32, 7),
        "packed": in_box(10, 20, 13, 24),
        "box": in_box(50, 30, 54, 33),
        "ignore": in_box(20, 30, 24, 33),
    }
    check(by_class("coco", made.coco(tmp_path)), expected)
    crowds, boxes = read("coco", tmp_path).notes
    assert "iscrowd 1, now unknown positions: 1 of 6" in crowds
    assert boxes == "Annotations with only a box, taken whole: 1."


def test_labelme(tmp_path: Path) -> None:
    mask = np.zeros(made.SIZE, bool)
    mask[30:34, 50:55] = np.eye(4, 5, dtype=bool)
    expected = {
        "a polygon": in_polygon(made.TRIANGLE),
        "a rectangle": in_box(20, 4, 24, 9),
        "a circle": disc(40, 10, 5),
        "a linestrip": stroke(5, 15, 25),
        "a point": disc(30, 30, 5),
        "a mask": mask,
    }
    check(by_class("labelme", made.labelme(tmp_path)), expected)


def test_label_studio(tmp_path: Path) -> None:
    corner_x, corner_y = 30.0, 4.0
    across, down = turned(corner_x, corner_y, 30)
    right, below = turned(45, 28, 40)
    brush = np.zeros(made.SIZE, bool)
    brush[-1, -6:] = True
    expected = {
        "a polygon": in_polygon(made.TRIANGLE),
        "a rectangle": (across >= 0) & (across < 12) & (down >= 0) & (down < 4),
        "a ellipse": (right / 7.2) ** 2 + (below / 3.2) ** 2 <= 1,
        "a keypoint": disc(6, 32, 1.5),
        "a brush": brush,
    }
    check(by_class("label-studio", made.label_studio(tmp_path)), expected)


def test_cvat(tmp_path: Path) -> None:
    across, down = turned(36, 7, 30)
    right, below = turned(45, 28, 40)
    mask = np.zeros(made.SIZE, bool)
    mask[30, 21:24] = mask[31, 22:24] = True
    line = stroke(5, 15, 25)
    expected = {
        "polygon": in_polygon(made.TRIANGLE),
        "box": (abs(across) < 6) & (abs(down) < 3),
        "ellipse": (right / 7.2) ** 2 + (below / 3.2) ** 2 <= 1,
        "mask": mask,
        "line": line,
        "point": disc(30, 20, 5),
    }
    check(by_class("cvat", made.cvat(tmp_path)), expected)
    assert read("cvat", tmp_path).notes == ("Tags of whole images, passed over: 1.",)


def test_geojson(tmp_path: Path) -> None:
    expected = {
        "polygon": in_polygon(made.TRIANGLE) & ~in_polygon(made.HOLE),
        "parts": in_box(20, 20, 24, 24) | in_box(26, 20, 30, 24),
        "line": stroke(5, 15, 30),
        "point": disc(30, 30, 5),
        "points": disc(45, 30, 5) | disc(52, 30, 5),
        "ignore": in_box(40, 5, 44, 9),
    }
    check(by_class("geojson", made.geojson(tmp_path)), expected)


def test_yolo(tmp_path: Path) -> None:
    found = labels("yolo", made.yolo(tmp_path))
    expected = np.where(in_polygon(made.TRIANGLE), 1, 0) + 3 * in_box(27, 16, 33, 24)
    np.testing.assert_array_equal(found["train/a.png"], expected)
    assert not found["val/b.png"].any()
    seen = read("yolo", tmp_path)
    assert seen.classes == ("background", "polygon", "nothing", "box")
    assert [item.split for item in seen.items] == ["train", "val"]
    assert seen.notes == ("Images without a text file, background throughout: 1.",)


def test_voc_by_index_and_by_colour(tmp_path: Path) -> None:
    found = labels("voc", made.voc(tmp_path))
    first = 2 * in_box(3, 3, 9, 8) - 1 * in_box(20, 3, 29, 8)
    np.testing.assert_array_equal(found["a.png"], first)
    second = 2 * in_box(3, 3, 9, 8) + 1 * in_box(30, 3, 39, 8)
    np.testing.assert_array_equal(found["b.png"], second)
    assert read("voc", tmp_path).classes == ("background", "car", "bus")


def test_voc_without_names_has_colours_of_its_own(tmp_path: Path) -> None:
    made.voc(tmp_path)
    (tmp_path / "labelmap.txt").unlink()
    with pytest.raises(DataError, match="b.png: has the colour #0a141e, which is not in"):
        labels("voc", tmp_path)
    (tmp_path / "SegmentationClass/b.png").unlink()
    assert read("voc", tmp_path).classes == ("background", "foreground")
    assert read("voc", tmp_path, "x", "y").classes == ("background", "x", "y")
    assert labels("voc", tmp_path, "x", "y")["a.png"].max() == 2


def test_png(tmp_path: Path) -> None:
    check(by_class("png", made.png(tmp_path)), {"foreground": in_box(3, 3, 9, 8)})


def test_nifti(tmp_path: Path) -> None:
    [(name, label)] = labels("nifti", made.nifti(tmp_path)).items()
    assert name == "a_0000.nii.gz"
    assert read("nifti", tmp_path).classes == ("background", "anterior", "posterior")
    assert (label == 1).sum() == 18
    assert label[4, 4, 4] == -1
    named = {"0": "background", "1": "one", "2": "two", "3": "three"}
    made.write_json(tmp_path / "dataset.json", {"labels": named})
    assert labels("nifti", tmp_path)[name][4, 4, 4] == 3


def test_events(tmp_path: Path) -> None:
    found = labels("events", made.events(tmp_path))
    expected = {name: np.zeros(100, int) for name in "abc"}
    expected["a"][10:30], expected["a"][25:35], expected["a"][90:] = 1, 2, -1
    expected["b"][10:30], expected["b"][50:60] = 1, 2
    expected["c"][20:40] = 2
    for name, label in expected.items():
        np.testing.assert_array_equal(found[f"{name}.wav"], label)


# --- what lies on top, and what is ignored --------------------------------------------------------


def two_squares(folder: Path, first: str, second: str) -> Path:
    made.picture(folder / "images/a.png")
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [made.square(x, 10, 8)]},
            "properties": {"classification": {"name": name}},
        }
        for x, name in ((10, first), (14, second))
    ]
    made.write_json(folder / "a.geojson", features)
    return folder


@pytest.mark.parametrize(("first", "second"), [("x", "y"), ("y", "x"), ("x", "ignore")])
def test_what_comes_later_lies_on_top(first: str, second: str, tmp_path: Path) -> None:
    found = by_class("geojson", two_squares(tmp_path, first, second))
    np.testing.assert_array_equal(found[second], in_box(14, 10, 22, 18))
    np.testing.assert_array_equal(found[first], in_box(10, 10, 14, 18))


def test_a_background_on_top_is_background(tmp_path: Path) -> None:
    found = by_class("geojson", two_squares(tmp_path, "x", "Background"))
    assert set(found) == {"Background", "x"}
    np.testing.assert_array_equal(found["x"], in_box(10, 10, 14, 18))


def test_of_cvat_what_has_the_higher_order_lies_on_top(tmp_path: Path) -> None:
    made.picture(tmp_path / "a.png")
    boxes = "".join(
        f'<box label="{name}" xtl="{x}" ytl="1" xbr="{x + 6}" ybr="9" z_order="{order}"/>'
        for name, x, order in (("x", 10, 2), ("y", 13, -1), ("z", 12, 2))
    )
    text = f'<image name="a.png" width="60" height="40">{boxes}</image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{text}</annotations>")
    found = by_class("cvat", tmp_path)
    np.testing.assert_array_equal(found["x"], in_box(10, 1, 12, 9))
    np.testing.assert_array_equal(found["z"], in_box(12, 1, 18, 9))
    np.testing.assert_array_equal(found["y"], in_box(18, 1, 19, 9))


def test_a_band_about_every_object_is_unknown(tmp_path: Path) -> None:
    two_squares(tmp_path, "x", "y")
    [label] = labels("geojson", tmp_path, band=2).values()
    here = label[14]
    assert here[8:12].tolist() == [-1] * 4  # two on either side of the first border
    assert here[12:16].tolist() == [-1] * 4  # the second begins at 14, over the first
    assert here[16:20].tolist() == [2] * 4
    assert here[20:24].tolist() == [-1] * 4
    assert here[24] == 0


def test_a_band_about_stored_labels_is_unknown_too(tmp_path: Path) -> None:
    [label] = labels("png", made.png(tmp_path), band=1).values()
    assert label[5].tolist()[:12] == [0, 0, -1, -1, 1, 1, 1, 1, -1, -1, 0, 0]


# --- classes --------------------------------------------------------------------------------------


def test_wanted_classes_say_the_order(tmp_path: Path) -> None:
    two_squares(tmp_path, "x", "y")
    assert read("geojson", tmp_path).classes == ("background", "x", "y")
    assert read("geojson", tmp_path, "y", "x").classes == ("background", "y", "x")
    assert read("geojson", tmp_path, "y", "_background_", "x").classes == ("background", "y", "x")
    with pytest.raises(DataError, match=r"a\.geojson: feature 1: has the class 'x', .* --classes"):
        read("geojson", tmp_path, "y", "z")


def test_a_list_of_classes_beside_the_labels_says_the_order(tmp_path: Path) -> None:
    two_squares(tmp_path, "x", "y")
    (tmp_path / "classes.txt").write_text("stroma\n\ny\n x \n")
    assert read("geojson", tmp_path).classes == ("background", "stroma", "y", "x")


def test_a_table_of_classes_says_what_the_background_is_called(tmp_path: Path) -> None:
    made.png(tmp_path)
    (tmp_path / "classes.csv").write_text('value,name\n255,"a, b"\n3,none\n7,c\n')
    assert read("png", tmp_path).classes == ("none", "c", "a, b")
    with pytest.raises(DataError, match="a_mask.png: holds the value 0, which no class has"):
        labels("png", tmp_path)
    (tmp_path / "classes.csv").write_text('value,name\n255,"a, b"\n0,none\n7,c\n')
    np.testing.assert_array_equal(labels("png", tmp_path)["a.png"], 2 * in_box(3, 3, 9, 8))


@pytest.mark.parametrize(
    "names",
    [
        "names: [a, 'b, c', \"d\"]",
        "names:\n- a\n- 'b, c'\n- d  # last\nnc: 3",
        "names:\n  0: a\n  1: 'b, c'\n\n  2: \"d\"\ntrain: x",
        "names: {0: a, 1: 'b, c', 2: d}",
        "names: [a,\n  'b, c',\n  d\n]\nnc: 3",
    ],
)
def test_names_of_yolo_in_all_their_forms(names: str, tmp_path: Path) -> None:
    made.yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(f"train: x\n{names}\n")
    assert read("yolo", tmp_path).classes == ("background", "a", "b, c", "d")


# --- labels by several people, and where images lie -----------------------------------------------


def test_several_annotations_of_a_task_are_labels_by_several_people(tmp_path: Path) -> None:
    path = made.label_studio(tmp_path) / "project.json"
    tasks = json.loads(path.read_text())
    other = json.loads(json.dumps(tasks[0]["annotations"][0]))
    other |= {"completed_by": {"id": 2, "email": "bob@example.com"}}
    other["result"] = [*other["result"][:1], {"type": "choices", "value": {"choices": ["x"]}}]
    gone = {"was_cancelled": True, "result": "whatever"}
    tasks[0]["annotations"] += [other, gone]
    tasks.append({"id": 13, "data": {"image": "b.png"}, "annotations": []})
    made.write_json(path, tasks)
    found = read("label-studio", tmp_path)
    assert [item.annotator for item in found.items] == ["1", "bob@example.com"]
    assert [len(item.things) for item in found.items] == [5, 1]
    assert found.notes == (
        "Tasks without an annotation, left out: 1.",
        "Results that are no region of an image, passed over: 1.",
    )


@pytest.mark.parametrize(
    "address",
    [
        "a b.png",
        "images/a b.png",
        "/data/local-files/?d=some/where/a%20b.png",
        "https://example.com/x/a%20b.png?token=1",
        "s3://bucket/0a1b2c3d-a%20b.png",
    ],
)
def test_addresses_of_label_studio_lead_to_the_image(address: str, tmp_path: Path) -> None:
    path = made.label_studio(tmp_path) / "project.json"
    tasks = json.loads(path.read_text())
    tasks[0]["data"]["image"] = address
    made.write_json(path, tasks)
    assert list(labels("label-studio", tmp_path)) == ["a b.png"]


@pytest.mark.parametrize("name", ["../pictures/a.png", "..\\pictures\\a.png"])
def test_labelme_may_point_to_a_folder_beside_its_own(name: str, tmp_path: Path) -> None:
    made.labelme(tmp_path)
    (tmp_path / "json").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "pictures/a.png")
    document = json.loads((tmp_path / "a.json").read_text()) | {"imagePath": name}
    (tmp_path / "a.json").unlink()
    made.write_json(tmp_path / "json/b.json", document)
    assert list(labels("labelme", tmp_path)) == ["pictures/a.png"]
