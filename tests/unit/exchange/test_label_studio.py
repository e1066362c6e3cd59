"""Label Studio's results that are more than one region with its class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelmend.errors import DataError
from labelmend.exchange.taking import Wish, import_labels

from . import handmade as made
from .handmade import by_class, in_box, labels, read

BOX = {"x": 50, "y": 10, "width": 20, "height": 10, "rotation": 0}
COMMON = {
    "id": "k1",
    "from_name": "x",
    "to_name": "image",
    "original_width": made.COLUMNS,
    "original_height": made.ROWS,
    "image_rotation": 0,
}


def result(folder: Path, *results: dict[str, Any]) -> Path:
    path = made.label_studio(folder) / "project.json"
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][0]["result"] = [COMMON | each for each in results]
    made.write_json(path, tasks)
    return folder


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("kind", "place"), [(0, "polygon"), (1, "rectangle"), (2, "ellipse"), (4, "brush")]
)
def test_a_shape_and_its_label_are_joined(
    kind: int, place: str, turned: bool, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    one.mkdir()
    path = made.label_studio(one) / "project.json"
    whole = json.loads(path.read_text())[0]["annotations"][0]["result"][kind]
    value = {key: v for key, v in whole["value"].items() if key != whole["type"]}
    name = f"a {place}"
    parts = [
        {"type": place, "value": value},
        {"type": "labels", "value": value | {"labels": [name]}},
        {"type": "choices", "value": value | {"choices": ["blurred"]}},
    ]
    (tmp_path / "two").mkdir()
    two = result(tmp_path / "two", *(parts[::-1] if turned else parts))
    found = by_class("label-studio", two)[name]
    assert found.any()
    np.testing.assert_array_equal(found, by_class("label-studio", one)[name])
    assert read("label-studio", two).notes == (
        "Results that are no region of an image, passed over: 1.",
    )


@pytest.mark.parametrize("kind", ["textarea", "rating", "relation", "taxonomy", "pairwise"])
def test_what_is_no_region_is_passed_over(kind: str, tmp_path: Path) -> None:
    named = {"type": "rectanglelabels", "value": BOX | {"rectanglelabels": ["cell"]}}
    result(tmp_path, named, {"type": kind, "value": BOX | {kind: ["x"]}})
    [label] = labels("label-studio", tmp_path).values()
    np.testing.assert_array_equal(label, in_box(30, 4, 42, 8))


@pytest.mark.parametrize(
    ("each", "said"),
    [
        ({"type": "rectangle", "value": BOX}, "region 1: has no label"),
        (
            {"type": "bitmasklabels", "value": {"imageDataURL": "x", "bitmasklabels": ["a"]}},
            "region 1: regions of the type 'bitmasklabels' are not read",
        ),
        (
            {"type": "vectorlabels", "value": {"vertices": [], "vectorlabels": ["a"]}},
            "regions of the type 'vectorlabels' are not read",
        ),
        ({"type": "labels", "value": BOX | {"labels": ["a"]}}, "region 1: .* no shape"),
    ],
)
def test_a_region_that_cannot_be_read_is_an_error(
    each: dict[str, Any], said: str, tmp_path: Path
) -> None:
    result(tmp_path, each)
    with pytest.raises(DataError, match=rf"project.json: task 12: {said}|{said}"):
        read("label-studio", tmp_path)


def test_a_result_of_text_is_no_region(tmp_path: Path) -> None:
    path = made.label_studio(tmp_path) / "project.json"
    tasks = json.loads(path.read_text())
    spoken = {"id": "t", "type": "labels", "value": {"start": 1, "end": 2, "labels": ["a"]}}
    tasks[0]["annotations"][0]["result"].append(spoken)
    made.write_json(path, tasks)
    found = read("label-studio", tmp_path)
    assert len(found.items[0].things) == 5
    assert found.notes == ("Results that are no region of an image, passed over: 1.",)


def test_who_made_the_only_annotation_is_kept(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    path = made.label_studio(tmp_path / "source") / "project.json"
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][0]["completed_by"] = {"id": 3, "email": "ann@example.com"}
    made.write_json(path, tasks)
    import_labels(tmp_path / "source", tmp_path / "out", wish=Wish(quality="weak"))
    assert (tmp_path / "out/labels/weak/ann@example.com/a b.png").is_file()
    del tasks[0]["annotations"][0]["completed_by"]
    made.write_json(path, tasks)
    import_labels(tmp_path / "source", tmp_path / "nobody", wish=Wish(quality="weak"))
    assert (tmp_path / "nobody/labels/weak/a b.png").is_file()
