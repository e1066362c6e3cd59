"""Pascal VOC's lists of the splits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from labelmend.errors import DataError

from . import handmade as made
from .handmade import read


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    made.voc(tmp_path)
    for kind, folder in (("c", "JPEGImages"), ("c", "SegmentationClass")):
        shutil.copy(tmp_path / folder / "a.png", tmp_path / folder / f"{kind}.png")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    return tmp_path / "ImageSets/Segmentation"


def test_lists_say_the_split(lists: Path, tmp_path: Path) -> None:
    assert {item.split for item in read("voc", tmp_path).items} == {None}
    (lists / "train.txt").write_text("a\n\n")
    (lists / "val.txt").write_text("b\r\nnowhere\r\n")
    (lists / "trainval.txt").write_text("a\nb\n")
    found = read("voc", tmp_path)
    assert {item.image: item.split for item in found.items} == {
        "a.png": "train",
        "b.png": "val",
        "c.png": None,
    }
    assert found.notes == ("Labels in no list of ImageSets/Segmentation: 1 (c).",)
    (lists / "test.txt").write_text("c\n")
    assert read("voc", tmp_path).notes == ()


def test_a_label_in_two_lists_is_an_error(lists: Path, tmp_path: Path) -> None:
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "test.txt").write_text("b\n")
    with pytest.raises(DataError, match=r"test.txt: 'b' is also in train.txt"):
        read("voc", tmp_path)
