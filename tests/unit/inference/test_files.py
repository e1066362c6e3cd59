"""Which files are predicted, what their labels are called, and what is never overwritten."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor, nn

import labelmend
from labelmend.errors import DataError, RunError, StorageError
from labelmend.files import writers
from labelmend.inference import working
from labelmend.inference.files import Way, label_name, predict_all, predict_files
from labelmend.inference.predictor import Predictor
from labelmend.types import DataSet, DataSpec, Sample

Trained = Callable[[str], Any]


class Brighter(nn.Module):
    """Class 1 where the image, as prepared, is above 0."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([-image, image], 1)


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    """Finds what is bright."""
    return dataclasses.replace(labelmend.load(trained("gray").run), network=Brighter())


def picture(path: Path, size: tuple[int, int] = (9, 12)) -> np.ndarray:
    """Writes a grey image; returns where it is bright."""
    bright = np.zeros(size, bool)
    bright[2:5, 3:9] = True
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (20 + 180 * bright).astype(np.uint8)
    if path.suffix == ".tif":
        tifffile.imwrite(path, image)
    elif path.suffix == ".npy":
        np.save(path, image)
    else:
        Image.fromarray(image).save(path)
    return bright


def described(image: str, suffix: str, **spec: Any) -> DataSet:
    """A data set whose images and labels are of these kinds."""
    plain = {"task": "segmentation", "values": (0, 1), "dims": 2} | spec
    full = DataSpec(
        classes=("none", "one"),
        ignore=None,
        channels=1,
        channel_axis="none",
        suffix=suffix,
        **plain,
    )
    return DataSet("", full, (Sample(f"images/a{image}", f"a{suffix}", "strong", "train", "a"),))


# --- names ----------------------------------------------------------------------------------------

SAME = [".png", ".tif", ".tiff", ".ome.tif", ".nii", ".nii.gz", ".npy"]


@pytest.mark.parametrize("suffix", SAME)
def test_labels_are_of_the_family_of_the_images(suffix: str) -> None:
    assert label_name(f"a.b{suffix}", described(suffix, suffix)) == f"a.b{suffix}"
    assert label_name(f"a{suffix.upper()}", described(suffix, suffix)) == f"a{suffix}"


@pytest.mark.parametrize(
    ("image", "data", "name"),
    [
        ("a.jpg", described(".jpg", ".png"), "a.png"),
        ("a.JPEG", described(".png", ".png"), "a.png"),
        ("a.png", described(".png", ".tif"), "a.tif"),
        ("a.tif", described(".png", ".png"), "a.tif"),
        ("a.nii", described(".nii.gz", ".nii.gz", dims=3), "a.nii"),
        ("a.npz", described(".npy", ".npy"), "a.npy"),
        ("a.wav", described(".wav", ".csv", dims=1), "a.csv"),
        ("a.flac", described(".wav", ".csv", dims=1), "a.csv"),
        ("a.wav", described(".wav", ".npy", dims=1), "a.npy"),
        ("a.flac", described(".wav", ".npy", dims=1), "a.npy"),
        ("a.npy", described(".npy", ".csv", dims=1), "a.csv"),
        ("a.csv", described(".csv", ".npy", dims=1), "a.npy"),
        ("a.csv", described(".npy", ".npy", dims=1), "a.npy"),
        ("a.tif", described(".npy", ".npy", dims=1), "a.npy"),
        ("a.png", described(".tif", ".tif", task="regression", values=()), "a.tif"),
        ("a.png", described(".tif", ".tif", values=(0, 70000)), "a.tif"),
        ("a.png", described(".tif", ".tif", values=(-1, 4)), "a.tif"),
        ("a.png", described(".tif", ".tif", values=(0, 65535)), "a.png"),
    ],
)
def test_a_label_is_named_after_what_can_hold_it(image: str, data: DataSet, name: str) -> None:
    assert label_name(image, data) == name


# --- which files ----------------------------------------------------------------------------------


def test_values_and_places_are_those_of_the_data_set(predictor: Predictor, tmp_path: Path) -> None:
    bright = picture(tmp_path / "new/a.png")
    assert np.array_equal(picture(tmp_path / "new/sub/b.tif"), bright)
    np.save(tmp_path / "new/c.npy", 10 * bright)
    written, failed = predict_files(predictor, [tmp_path / "new"], tmp_path / "out")
    assert not failed
    out = tmp_path / "out"
    assert written == [out / "a.png", out / "c.npy", out / "sub/b.tif"]
    wanted = bright * np.uint8(255)
    assert np.array_equal(np.asarray(Image.open(out / "a.png")), wanted)
    assert np.array_equal(tifffile.imread(out / "sub/b.tif"), wanted)
    assert np.array_equal(np.load(out / "c.npy"), wanted)


def test_files_and_folders_in_any_number(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("a.png", "in/b.png", "in/c.png"):
        picture(tmp_path / name)
    inputs = [tmp_path / "a.png", tmp_path / "in", tmp_path / "in/b.png", tmp_path / "a.png"]
    written, failed = predict_files(predictor, inputs, tmp_path / "out")
    assert sorted(p.name for p in written) == ["a.png", "b.png", "c.png"] and not failed


def test_tables_beside_recordings_are_no_inputs_unless_named(
    trained: Trained, tmp_path: Path
) -> None:
    predictor = labelmend.load(trained("recording").run)
    shutil.copytree(trained("recording").data / "images", tmp_path / "new")
    (tmp_path / "new/r0.csv").write_text("onset_s,offset_s,label\n0.1,0.2,tone\n")
    written, failed = predict_files(predictor, [tmp_path / "new"], tmp_path / "out")
    assert len(written) == 8 and not failed
    _, failed = predict_files(predictor, [tmp_path / "new/r0.csv"], tmp_path / "out2")
    assert len(failed) == 1 and "r0.csv" in failed[0]


def test_labels_of_an_earlier_time_are_replaced(predictor: Predictor, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"old")
    (tmp_path / "out/other.png").write_bytes(b"kept")
    predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out")
    assert Image.open(tmp_path / "out/a.png").size == (12, 9)
    assert (tmp_path / "out/other.png").read_bytes() == b"kept"


# --- what is never overwritten --------------------------------------------------------------------


def test_an_input_is_never_replaced(predictor: Predictor, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(DataError, match="a prediction would replace it; choose another --out"):
        predict_files(predictor, [tmp_path], tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="a prediction would replace it"):
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "link")
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_label_of_the_data_set_is_never_replaced(
    trained: Trained, predictor: Predictor, tmp_path: Path
) -> None:
    data = trained("gray").data
    for name in ("labels/strong", "labels/weak/ann"):
        with pytest.raises(DataError, match=r"belongs to the data set"):
            predict_files(predictor, [data / "images"], data / name)
    shutil.copy(data / "images/s0.png", tmp_path / "s0.png")
    with pytest.raises(DataError, match=r"belongs to the data set"):
        predict_files(predictor, [tmp_path / "s0.png"], data / "labels/strong")


def test_a_clash_is_refused_before_anything_is_written(
    predictor: Predictor, tmp_path: Path
) -> None:
    picture(tmp_path / "a/x.png")
    picture(tmp_path / "b/x.png")
    with pytest.raises(DataError, match=r"a/x.png and .*b/x.png would both be written to .*x.png"):
        predict_files(predictor, [tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- what goes wrong ------------------------------------------------------------------------------


def test_one_bad_file_is_named_and_the_others_written(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        picture(tmp_path / "new" / name)
    Image.new("RGB", (5, 5)).save(tmp_path / "new/b.png")
    np.save(tmp_path / "new/d.npy", np.full((4, 4), np.nan))
    written, failed = predict_files(predictor, [tmp_path / "new"], tmp_path / "out")
    assert [p.name for p in written] == ["a.png", "c.png"]
    first, second = failed
    assert str(tmp_path / "new/b.png") in first and "has 3 channels" in first
    assert str(tmp_path / "new/d.npy") in second and "NaN" in second


def test_a_level_is_refused_of_files_that_hold_one_picture(
    predictor: Predictor, tmp_path: Path
) -> None:
    picture(tmp_path / "in" / "a.png")
    done = predict_all(predictor, [tmp_path / "in"], tmp_path / "largest", Way(level=0))
    assert [path.name for path in done.written] == ["a.png"]
    refused = predict_all(predictor, [tmp_path / "in"], tmp_path / "smaller", Way(level=1))
    assert refused.written == []
    (said,) = refused.failed
    assert "a.png" in said
    assert "--level 1" in said
    assert "without --level" in said


def test_a_disk_that_refuses_stops_at_once(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "new" / name)
    asked: list[Path] = []

    def full(path: Path, *_: object) -> None:
        asked.append(path)
        raise StorageError("no room; make some")

    monkeypatch.setattr(working, "write_label", full)
    with pytest.raises(StorageError, match="no room"):
        predict_files(predictor, [tmp_path / "new"], tmp_path / "out")
    assert len(asked) == 1


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written(predictor: Predictor, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="make the folder writable"):
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "shut/out")


def test_a_folder_that_cannot_be_made(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"the labels could not be kept .* make the folder"):
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out")


def test_a_file_where_a_folder_is_wanted(predictor: Predictor, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for out in (tmp_path / "a.png", tmp_path / "a.png/deeper"):
        with pytest.raises(RunError, match=r"a.png is a file; name a folder"):
            predict_files(predictor, [tmp_path / "a.png"], out)


@pytest.mark.parametrize("name", ["missing", "missing.png"])
def test_no_such_input(name: str, predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"there is no file or folder .*{name}"):
        predict_files(predictor, [tmp_path / name], tmp_path / "out")


def test_progress_counts_every_file(predictor: Predictor, tmp_path: Path) -> None:
    picture(tmp_path / "new/a.png")
    (tmp_path / "new/b.png").write_bytes(b"")

    class Told:
        def __init__(self) -> None:
            self.calls: list[object] = []

        def start(self, total: int, done: int) -> None:
            self.calls.append((total, done))

        def step(self, step: int, figures: object) -> None:
            self.calls.append(step)

        def say(self, text: str) -> None:
            self.calls.append(text)

        def finish(self) -> None:
            self.calls.append("finish")

    told = Told()
    predict_files(predictor, [tmp_path / "new"], tmp_path / "out", watcher=told)
    assert told.calls == [(2, 0), 1, 2, "finish"]


def test_labels_are_written_by_the_one_writer() -> None:
    assert working.write_label is writers.write_label
