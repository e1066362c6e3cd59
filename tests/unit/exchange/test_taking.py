"""What import says of files that it leaves out, and of names and paths that are unusual."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from labelmend.errors import DataError
from labelmend.exchange.taking import Taken, Wish, import_labels

from . import handmade as made
from .handmade import in_box

MASK = in_box(3, 3, 9, 8).astype(np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def take(source: Path, format: str = "auto") -> Taken:
    return import_labels(source, source.parent / "out", format=format)


def label_names(taken: Taken) -> list[str]:
    return sorted(path.name for path in (taken.out / "labels/strong").iterdir())


# --- images without a label -----------------------------------------------------------------------

_BESIDE = {
    "coco": "images/z.png",
    "labelme": "z.png",
    "label-studio": "images/z.png",
    "cvat": "images/z.png",
    "geojson": "images/z.png",
    "voc": "JPEGImages/z.png",
    "png": "images/z.jpg",
    "nifti": "imagesTr/z.nii.gz",
    "events": "z.wav",
}


@pytest.mark.parametrize("tool", sorted(_BESIDE))
def test_images_without_a_label_are_counted(tool: str, source: Path) -> None:
    made.MAKERS[tool](source)
    assert not any("without a label" in note for note in take(source).notes)
    other = source / _BESIDE[tool]
    other.write_bytes(b"not looked at")
    taken = import_labels(source, source.parent / "again")
    assert f"Images without a label, left out: 1 ({other.name})." in taken.notes


def test_many_images_without_a_label_are_one_note(source: Path) -> None:
    made.labelme(source)
    for place in range(7):
        (source / f"z{place}.png").write_bytes(b"")
    [note] = [note for note in take(source).notes if "without a label" in note]
    assert note == (
        "Images without a label, left out: 7 (z0.png, z1.png, z2.png, z3.png, z4.png, …)."
    )


def test_a_link_that_nobody_asks_for_does_no_harm(source: Path) -> None:
    made.coco(source)
    outside = made.picture(source.parent / "outside/z.png")
    (source / "images/z.png").symlink_to(outside)
    assert take(source).images == 1


# --- label files that are not read ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ("labelme", "notes.json"),
        ("geojson", "notes.json"),
        ("events", "readme.txt"),
        ("png", "masks/b.bmp"),
        ("voc", "SegmentationClass/c.tif"),
        ("nifti", "labelsTr/b.mha"),
        ("yolo", "labels/train/c.json"),
        ("yolo", "labels/classes.txt"),
    ],
)
def test_label_files_that_are_passed_over_are_named(tool: str, name: str, source: Path) -> None:
    made.MAKERS[tool](source)
    assert not any("passed over" in note for note in take(source).notes)
    (source / name).write_text("{}")
    shown = Path(name).name if tool in ("png", "voc", "nifti") else name
    taken = import_labels(source, source.parent / "again", format=tool)
    assert f"Files that are no labels of this format, passed over: 1 ({shown})." in taken.notes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "onset,offset,label_\n0.1,0.2,call\n"),
        ("a.txt", "0,1\t0,2\tcall\n"),
        ("a.selections.txt", "Selection\tBegin\n1\t2\n"),
        ("a.tsv", ""),
    ],
)
def test_a_list_of_events_that_cannot_be_read_is_an_error(
    name: str, text: str, source: Path
) -> None:
    made.events(source)
    (source / "a.csv").unlink()
    (source / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}: .*a\.wav.* is no list of events"):
        take(source)


@pytest.mark.parametrize("name", ["b.geojson", "b.json"])
def test_an_empty_list_is_an_image_without_objects(name: str, source: Path) -> None:
    made.geojson(source)
    made.picture(source / "images/b.png")
    (source / name).write_text("[]")
    taken = take(source)
    assert label_names(taken) == ["a.png", "b.png"]
    assert not np.asarray(Image.open(taken.out / "labels/strong/b.png")).any()
    (source / name).unlink()
    (source / "settings.json").write_text("[]")
    assert import_labels(source, source.parent / "again").labels == 1


@pytest.mark.parametrize("name", ["b.ome.tif", "b.ome.tiff", "b.tiff"])
def test_labels_as_ome_tiff_are_read(name: str, source: Path) -> None:
    made.picture(source / "images/b.png")
    (source / "labels").mkdir()
    tifffile.imwrite(source / "labels" / name, MASK)
    assert label_names(take(source)) == ["b.png"]


# --- names and paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["at 3.04.05\u202fPM.png", "画像\u30001.png", "a\xa0b.png"])
def test_names_with_other_blanks_are_names(name: str, source: Path) -> None:
    made.labelme(source)
    (source / "a.png").rename(source / name)
    document = json.loads((source / "a.json").read_text()) | {"imagePath": name}
    made.write_json(source / "a.json", document)
    assert (take(source).out / "images" / name).is_file()


def test_a_source_may_be_named_by_a_way_round(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.labelme(source)
    monkeypatch.chdir(source.parent)
    Path("elsewhere/deep").mkdir(parents=True)
    Path("link").symlink_to("elsewhere/deep")
    assert import_labels(Path("elsewhere/../source"), Path("a")).labels == 1
    assert import_labels(Path("link/../../source"), Path("b")).labels == 1
    wish = Wish(images=Path("elsewhere/../source"))
    assert import_labels(source, Path("c"), wish=wish).labels == 1
