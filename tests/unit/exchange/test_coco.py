"""COCO as others write it: crowds that are objects, and the folders of CVAT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelmend.cli import exchange as commands
from labelmend.errors import DataError, SettingsError
from labelmend.exchange.giving import export_labels
from labelmend.exchange.taking import Taken, Wish, import_labels

from . import handmade as made
from .handmade import in_box


def change(folder: Path, **about: Any) -> Path:
    """Gives all annotations the same property."""
    path = folder / "annotations/instances.json"
    document = json.loads(path.read_text())
    document["annotations"] = [each | about for each in document["annotations"]]
    made.write_json(path, document)
    return folder


def value_at(taken: Taken, row: int, column: int) -> int:
    return int(np.asarray(Image.open(taken.out / "labels/strong/a.png"))[row, column])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return made.coco(tmp_path / "source")


def test_crowds_become_unknown_and_it_is_said(source: Path, tmp_path: Path) -> None:
    taken = import_labels(source, tmp_path / "out")
    [note] = [note for note in taken.notes if "iscrowd" in note]
    assert "1 of 6" in note and "--crowd object" in note
    assert value_at(taken, 31, 21) == 255


def test_crowds_may_be_objects(source: Path, tmp_path: Path) -> None:
    taken = import_labels(source, tmp_path / "out", wish=Wish(crowd="object"))
    assert value_at(taken, 31, 21) == taken.classes.index("polygon")
    assert not any("iscrowd" in note for note in taken.notes)


def test_where_all_are_crowds_it_is_asked(source: Path, tmp_path: Path) -> None:
    change(source, iscrowd=1)
    with pytest.raises(DataError, match=r"every annotation \(6\) .* --crowd object or --crowd unk"):
        import_labels(source, tmp_path / "out")
    assert value_at(import_labels(source, tmp_path / "o", wish=Wish(crowd="object")), 31, 21) == 1
    taken = import_labels(source, tmp_path / "u", wish=Wish(crowd="unknown"))
    assert value_at(taken, 31, 21) == 255


def test_the_command_takes_crowds(source: Path, tmp_path: Path) -> None:
    assert commands.import_(source, out=tmp_path / "out", crowd="object", quiet=True) == 0
    assert "ignore" not in (tmp_path / "out/data.toml").read_text()


def test_crowds_are_those_of_coco_alone(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = made.geojson(tmp_path / "source")
    with pytest.raises(SettingsError, match=r"--crowd .* coco.* geojson"):
        import_labels(source, tmp_path / "out", wish=Wish(crowd="object"))
    with pytest.raises(SettingsError, match="unknown crowd 'both'"):
        import_labels(source, tmp_path / "out", wish=Wish(crowd="both"))  # type: ignore[arg-type]


def test_what_we_wrote_comes_back_where_nothing_else_is_known(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made.picture(data / "images/a.png")
    (data / "labels/strong").mkdir(parents=True)
    values = np.where(in_box(3, 3, 9, 8), 255, 0).astype(np.uint8)
    Image.fromarray(values).save(data / "labels/strong/a.png")
    (data / "data.toml").write_text("ignore = 255\n[classes]\nbackground = 0\ncell = 1\n")
    export_labels(data, tmp_path / "coco", "coco", copy_images=True)
    taken = import_labels(tmp_path / "coco", tmp_path / "back")
    written = np.asarray(Image.open(tmp_path / "back/labels/strong/a.png"))
    np.testing.assert_array_equal(written, values)
    assert not any("--crowd" in note for note in taken.notes)


@pytest.mark.parametrize(
    ("file", "folder"),
    [("instances_default.json", "images/default"), ("instances_train2017.json", "train2017")],
)
def test_images_are_found_where_cvat_and_coco_put_them(
    file: str, folder: str, source: Path, tmp_path: Path
) -> None:
    (source / "annotations/instances.json").rename(source / "annotations" / file)
    (source / folder).mkdir(parents=True)
    (source / "images/a.png").rename(source / folder / "a.png")
    import_labels(source, tmp_path / "out")
    assert (tmp_path / "out/images/a.png").is_file()
