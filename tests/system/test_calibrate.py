"""Calibrate, predict with uncertainty, export and slides, all from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import labelmend

from ..command import command

Trained = Callable[[str], Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_settings: dict[str, Any]) -> Path:
    """Forty steps on squares; four strong labels held out."""
    from ..conftest import write_data

    folder = tmp_path_factory.mktemp("calibrate")
    data = write_data(folder / "data", held_out=4)
    labelmend.fit(data, folder / "run", steps=40, **small_settings)
    return folder / "run"


def test_from_calibration_to_use(run: Path, tmp_path: Path) -> None:
    images = run.parent / "data/images"
    before = command("predict", run, images, "--out", tmp_path / "before", "--probabilities")
    assert before.status == 0 and not before.err
    raw = command("evaluate", run, "--json", "--split", "val").json()
    assert raw["temperature"] == 1

    said = command("calibrate", run)
    assert said.status == 0 and said.out.startswith("temperature ")
    assert "fitted to 4 strong labels of val (4 groups, 4,096 positions), step 40" in said.out
    assert said.out.endswith(f"kept for step 40: {run / 'calibration.json'}\n")
    found = command("calibrate", run, "--json").json()
    assert found["judged"] == "groups" and found["after"]["nll"] > 0

    told = command("evaluate", run, "--json", "--split", "val").json()
    assert told["temperature"] == found["temperature"]
    assert told["calibration_error"] != raw["calibration_error"]
    assert told["mean"] == raw["mean"]
    text = command("evaluate", run, "--split", "val").out
    assert f"(temperature {found['temperature']:.3f})" in text

    options = ("--probabilities", "--uncertainty", "--conclusions")
    after = command("predict", run, images, "--out", tmp_path / "after", *options)
    assert after.status == 0 and not after.err
    for path in sorted((tmp_path / "before").glob("*.npy")):
        assert (tmp_path / "after" / path.name).read_bytes() == path.read_bytes()
    one, other = (
        np.load(tmp_path / way / "probabilities/s0.npy.npy").astype(np.float64)
        for way in ("before", "after")
    )
    odds = [np.log(p[1] / p[0]) for p in (one + 1e-3, other + 1e-3)]
    larger = np.abs(odds[0]).mean() > np.abs(odds[1]).mean()
    assert larger == (found["temperature"] > 1)
    assert np.load(tmp_path / "after/uncertainty/s0.npy.npy").shape == (1, 32, 32)
    with (tmp_path / "after/conclusions/files.csv").open(newline="") as file:
        assert all(0 < float(row["uncertainty"]) < 1 for row in csv.DictReader(file))

    said = command("export", run, "--to", "torch", "--out", tmp_path / "exported")
    assert said.status == 0 and "labelmend calibrate" in said.out
    about = json.loads((tmp_path / "exported/processing.json").read_text())
    assert about["temperature"] == found["temperature"]
    card = (tmp_path / "exported/MODEL_CARD.md").read_text()
    assert f"{found['before']['ece']:.4f} | {found['after']['ece']:.4f} |" in card
    assert "Judged on 4 strong labels of val" in card and "are not calibrated" not in card


def test_too_few_held_out_labels_and_numbers_are_refused(trained: Trained) -> None:
    said = command("calibrate", trained("gray").run)
    assert (
        said.status == 1 and "1 strong label in val, and a temperature wants at least 2" in said.err
    )
    said = command("calibrate", trained("continuous").run)
    assert said.status == 1 and "predicts numbers" in said.err


# ---------------------------------------------------------------------- slides


def write_pyramid(path: Path) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    large = rng.integers(0, 256, (256, 160, 3), dtype=np.uint8)
    pictures = [large, large[::2, ::2].copy()]
    with tifffile.TiffWriter(path) as tiff:
        for number, picture in enumerate(pictures):
            tiff.write(
                picture,
                tile=(64, 64),
                photometric="rgb",
                compression="zlib",
                subfiletype=number,
                metadata=None,
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
            )
    return pictures


@pytest.mark.parametrize("level", [0, 1])
def test_a_picture_of_a_pyramid_is_predicted_as_the_plain_file(
    trained: Trained, tmp_path: Path, level: int
) -> None:
    pytest.importorskip("openslide")
    pictures = write_pyramid(tmp_path / "a.tif")
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, pictures[level], tile=(64, 64), photometric="rgb", compression="zlib")
    run = trained("colour").run
    options: tuple[str, ...] = ("--probabilities", "--memory", str(0.001 / 4**level))
    said = command("predict", run, plain, "--out", tmp_path / "told", *options)
    assert said.status == 0 and "strip by strip" in said.err
    options += ("--level", str(level))
    said = command("predict", run, tmp_path / "a.tif", "--out", tmp_path / "out", *options)
    assert said.status == 0, said.err
    with tifffile.TiffFile(tmp_path / "out/a.tif") as tiff:
        page = tiff.pages[0]
        assert page.is_tiled and page.shape == pictures[level].shape[:2]
        assert page.resolution == (20000 / 2**level, 20000 / 2**level)
        assert np.array_equal(tiff.asarray(), tifffile.imread(tmp_path / "told/plain.tif"))
    names = ("told/probabilities/plain.tif.npy", "out/probabilities/a.tif.npy")
    one, other = (np.load(tmp_path / name) for name in names)
    assert np.array_equal(one, other)


def test_slides_of_a_folder_are_found_and_failures_named(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    (tmp_path / "new").mkdir()
    write_pyramid(tmp_path / "new/a.tif").clear()
    (tmp_path / "new/a.tif").rename(tmp_path / "new/a.svs")
    (tmp_path / "new/b.svs").write_bytes(b"nothing")
    run = trained("colour").run
    said = command("predict", run, tmp_path / "new", "--out", tmp_path / "out")
    assert said.status == 1 and "1 of 2 inputs failed" in said.err
    assert "b.svs: is no whole-slide image that OpenSlide reads" in said.err
    with tifffile.TiffFile(tmp_path / "out/a.tif") as tiff:
        assert tiff.pages[0].is_tiled and tiff.pages[0].shape == (256, 160)
    for wrong, text in ((-1, "--level is 0, the largest"), (7, "--level is at most 1, not 7")):
        said = command("predict", run, tmp_path / "new/a.svs", "--level", wrong, "--out", tmp_path)
        assert said.status == 1 and text in said.err
