"""Which value of a label picture is which class: where names and values meet, and where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelmend.errors import DataError
from labelmend.exchange.annotated import Labelled, Source
from labelmend.exchange.nifti import read_nifti, write_nifti
from labelmend.exchange.png import read_png, write_png
from labelmend.exchange.stored import plain_values
from labelmend.exchange.taking import Wish, import_labels
from labelmend.types import Raster

from . import handmade as made
from .handmade import in_box, labels, read

MASK = in_box(3, 3, 9, 8)


def masks(folder: Path, *values: np.ndarray) -> Path:
    for place, value in enumerate(values):
        made.picture(folder / f"images/{place}.png")
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(value.astype(np.uint8)).save(folder / f"masks/{place}.png")
    return folder


def listed(folder: Path, *names: str) -> None:
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))


# --- 255 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["--classes", "classes.txt"])
def test_255_is_the_only_named_class_where_no_other_value_occurs(by: str, tmp_path: Path) -> None:
    masks(tmp_path, 0 * MASK, 255 * MASK)
    listed(tmp_path, "cell")
    names = ("cell",) if by == "--classes" else ()
    np.testing.assert_array_equal(labels("png", tmp_path, *names)["1.png"], MASK)
    found = read("png", tmp_path, *names)
    assert found.classes == ("background", "cell")
    [note] = found.notes
    assert "255" in note and "'cell'" in note


def test_255_stays_unknown_beside_another_value_a_second_class_or_a_table(tmp_path: Path) -> None:
    both = masks(tmp_path / "both", MASK, 255 * MASK)
    assert labels("png", both, "cell")["1.png"].min() == -1
    two = masks(tmp_path / "two", 255 * MASK)
    assert labels("png", two, "cell", "wall")["0.png"].min() == -1
    table = masks(tmp_path / "table", 255 * MASK)
    (table / "classes.csv").write_text("value,name\n0,background\n1,cell\n")
    assert labels("png", table)["0.png"].min() == -1
    assert read("png", table).notes == ()


def test_255_is_the_only_class_of_a_voc_folder_too(tmp_path: Path) -> None:
    made.picture(tmp_path / "JPEGImages/a.png")
    (tmp_path / "SegmentationClass").mkdir()
    Image.fromarray((255 * MASK).astype(np.uint8)).save(tmp_path / "SegmentationClass/a.png")
    np.testing.assert_array_equal(labels("voc", tmp_path, "cell")["a.png"], MASK)
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\ncell:128,0,0::\n")
    assert labels("voc", tmp_path)["a.png"].min() == -1


def test_classes_that_occur_nowhere_are_named(tmp_path: Path) -> None:
    source = masks(tmp_path / "source", 255 * MASK, MASK)
    taken = import_labels(source, tmp_path / "out", wish=Wish(classes=("cell", "wall", "gap")))
    assert "Classes that occur in no label: wall, gap." in taken.notes
    alike = import_labels(source, tmp_path / "other", wish=Wish(classes=("cell",)))
    assert not any("occur in no label" in note for note in alike.notes)


# --- files that name their classes, and --classes -------------------------------------------------


def test_wanted_classes_never_rename_those_of_a_label_map(tmp_path: Path) -> None:
    made.voc(tmp_path)
    assert read("voc", tmp_path, "bus", "car").classes == ("background", "bus", "car")
    found = labels("voc", tmp_path, "bus", "car")
    np.testing.assert_array_equal(found["a.png"] == 1, MASK)
    np.testing.assert_array_equal(found["b.png"] == 2, in_box(30, 3, 39, 8))
    with pytest.raises(DataError, match=r"labelmap.txt: .* 'zebra'.* background, car, bus"):
        read("voc", tmp_path, "zebra", "horse")


def test_a_class_that_is_not_wanted_may_not_occur(tmp_path: Path) -> None:
    made.voc(tmp_path)
    assert read("voc", tmp_path, "bus").classes == ("background", "bus")
    np.testing.assert_array_equal(labels_of("a", tmp_path, "bus") == 1, MASK)
    with pytest.raises(DataError, match=r"b.png: holds the value 1, which no class has"):
        labels("voc", tmp_path, "bus")


def labels_of(stem: str, folder: Path, *classes: str) -> np.ndarray:
    for path in (folder / "SegmentationClass").iterdir():
        if path.stem != stem:
            path.rename(folder / path.name)
    found = labels("voc", folder, *classes)[f"{stem}.png"]
    for path in folder.glob("*.png"):
        path.rename(folder / "SegmentationClass" / path.name)
    return found


def test_wanted_classes_never_rename_those_of_dataset_json(tmp_path: Path) -> None:
    made.nifti(tmp_path)
    wanted = ("posterior", "anterior")
    assert read("nifti", tmp_path, *wanted).classes == ("background", *wanted)
    [label] = labels("nifti", tmp_path, *wanted).values()
    assert (label == 2).sum() == 18
    assert label[4, 4, 4] == -1
    with pytest.raises(DataError, match=r"dataset.json: .* 'liver'.* anterior, posterior"):
        read("nifti", tmp_path, "liver")


def test_wanted_classes_never_rename_those_of_a_table_or_list(tmp_path: Path) -> None:
    source = masks(tmp_path, MASK + 2 * in_box(20, 3, 30, 9))
    listed(source, "cell", "wall")
    np.testing.assert_array_equal(labels("png", source, "wall", "cell")["0.png"] == 2, MASK)
    (source / "classes.csv").write_text("value,name\n0,none\n1,cell\n2,wall\n")
    found = read("png", source, "wall", "background", "cell")
    assert found.classes == ("none", "wall", "cell")
    with pytest.raises(DataError, match=r"classes.csv: .* 'wal'.* none, cell, wall"):
        read("png", source, "wal", "cell")


# --- many classes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["png", "nifti"])
@pytest.mark.parametrize("many", [2, 255, 256, 300])
def test_no_class_has_the_number_of_what_is_unknown(many: int, name: str, tmp_path: Path) -> None:
    """Numbers become 16 bits deep where 8 are not enough; none is cut, and none means two."""
    classes = tuple(f"class {n}" for n in range(many))
    label = np.resize(np.arange(-1, many), (20, 20, 2)[: 2 + (name == "nifti")])
    like = Raster(np.zeros((1, *label.shape), np.uint8), affine=np.eye(4))
    write, read, suffix = WAYS[name]
    write(tmp_path, iter([Labelled("a", "a", label, like, "strong", "", "train")]), classes)
    stored = plain_values(tmp_path / f"labels/a{suffix}")[0]
    assert len(np.unique(stored)) == many + 1 and np.array_equal(
        stored[label >= 0], label[label >= 0]
    )
    assert (stored.max() < 256) == (many < 256)
    (tmp_path / "images").mkdir()
    (tmp_path / f"images/a{suffix}").touch()
    found = read(Source(tmp_path))
    assert found.classes == classes
    assert np.array_equal(found.items[0].stored(like), label)


WAYS = {
    "png": (write_png, read_png, ".png"),
    "nifti": (write_nifti, read_nifti, ".nii.gz"),
}
