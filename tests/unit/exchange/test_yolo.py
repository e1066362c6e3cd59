"""YOLO's neighbours: poses, and the files of LabelImg."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelmend.errors import DataError

from . import handmade as made
from .handmade import read


def test_poses_are_refused(tmp_path: Path) -> None:
    path = made.yolo(tmp_path) / "data.yaml"
    text = path.read_text()
    path.write_text(f"# kpt_shape: is not used here\n{text}")
    assert len(read("yolo", tmp_path).items) == 2
    path.write_text(f"{text}kpt_shape: [17, 3]\n")
    with pytest.raises(DataError, match=r"data.yaml: .* poses \(kpt_shape\).* export"):
        read("yolo", tmp_path)


def test_the_list_of_labelimg_is_no_label(tmp_path: Path) -> None:
    made.yolo(tmp_path)
    (tmp_path / "labels/train/classes.txt").write_text("polygon\nnothing\nbox\n")
    assert [len(item.things) for item in read("yolo", tmp_path).items] == [2, 0]
    made.picture(tmp_path / "images/train/classes.png")
    with pytest.raises(DataError, match=r"classes.txt: line 1: begins with 'polygon'"):
        read("yolo", tmp_path)
