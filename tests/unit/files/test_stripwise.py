"""Files written strip by strip are whole, and hold what one writing would have written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from labelmend.errors import DataError, StorageError
from labelmend.files import stripwise
from labelmend.files.readers import read_image, read_label
from labelmend.files.stripwise import replacing, scores_file, write_label_strips
from labelmend.files.tiled import open_strips
from labelmend.files.writers import write_label
from labelmend.types import DataSpec, Raster

RNG = np.random.default_rng(0)
SPEC = DataSpec("segmentation", ("a", "b", "c"), (0, 300, 7), None, 2, 1, "none", ".tif")


def strips(array: np.ndarray, *heights: int) -> Iterator[np.ndarray]:
    start = 0
    for height in (*heights, len(array)):
        yield array[start : start + height]
        start += height


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.npy"])
@pytest.mark.parametrize("size", [(700, 530), (12, 9), (600, 1), (3, 20, 530)])
def test_it_is_the_file_that_one_writing_makes(
    name: str, size: tuple[int, ...], tmp_path: Path
) -> None:
    label = RNG.integers(0, 3, size)
    spacing = (0.5, 0.25, 0.125)[-len(size) :]
    like = Raster(np.zeros((1, *size)), spacing)
    write_label(tmp_path / f"whole-{name}", label, SPEC, like)
    given = strips(label, 1, 0, 2) if len(size) == 3 else strips(label, 5, 513, 1, 0)
    write_label_strips(tmp_path / name, given, SPEC, size=size, spacing=spacing)
    whole, found = (read_image(tmp_path / each, dims=len(size)) for each in (f"whole-{name}", name))
    assert np.array_equal(found.array, whole.array) and found.array.dtype == whole.array.dtype
    assert found.spacing == whole.spacing
    assert np.array_equal(read_label(tmp_path / name, SPEC, like)[0], label)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"whole-{name}"])
    if name != "a.npy":
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert tiff.pages[0].is_tiled and not tiff.is_bigtiff


def test_what_is_too_large_for_a_tiff_becomes_a_bigtiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = RNG.integers(0, 3, (30, 20))
    monkeypatch.setattr(stripwise, "_CLASSIC", 30 * 20 * 2 - 1)
    write_label_strips(tmp_path / "a.tif", strips(label, 4), SPEC, size=(30, 20))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_bigtiff
        assert np.array_equal(tiff.asarray(), np.array([0, 300, 7])[label])


def test_regression_of_one_channel(tmp_path: Path) -> None:
    about = DataSpec("regression", ("height",), (), None, 2, 1, "none", ".tif")
    values = RNG.normal(size=(1, 30, 20)).astype(np.float32)
    given = (values[:, a : a + 7] for a in range(0, 30, 7))
    write_label_strips(tmp_path / "a.tif", given, about, size=(30, 20))
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), values[0])


def test_other_formats_are_refused(tmp_path: Path) -> None:
    for name, size in (("a.png", (3, 4)), ("a.nii.gz", (3, 4, 5)), ("a.tif", (9,))):
        with pytest.raises(DataError, match=r"not written strip by strip .* choose .tif"):
            write_label_strips(tmp_path / name, iter(()), SPEC, size=size)


def test_an_error_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros((600, 20), int)
        raise DataError("the image is damaged")

    for name in ("a.tif", "a.npy"):
        (tmp_path / name).write_bytes(b"old")
        with pytest.raises(DataError, match="the image is damaged"):
            write_label_strips(tmp_path / name, broken(), SPEC, size=(900, 20))
        assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.tif"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".a.txt.0123456789ab.tmp"
    other = tmp_path / ".b.txt.0123456789ab.tmp"
    for path in (left, other):
        path.write_text("half")
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert not left.exists() and other.exists() and (tmp_path / "a.txt").read_text() == "whole"


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    refused = pytest.raises(StorageError, match=r"a.txt could not be kept")
    with refused, replacing(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")


def test_scores_lie_channel_after_channel(tmp_path: Path) -> None:
    scores = RNG.random((3, 11, 4)).astype(np.float32)
    with scores_file(tmp_path / "deep/a.npy", scores.shape) as file:
        for start in (0, 5, 10):
            file.write(start, scores[:, start : start + 5])
        assert not (tmp_path / "deep/a.npy").exists()
    found = np.load(tmp_path / "deep/a.npy")
    assert found.dtype == np.float16 and np.array_equal(found, scores.astype(np.float16))


# ---------------------------------------------------------------- on the map

GEOTIFF = [
    (33550, 12, 3, (0.5, 0.5, 0.0)),
    (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0)),
    (34735, 3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32611)),
    (34736, 12, 1, 6378137.0),
    (34737, 2, 8, "WGS 84|"),
]
"""Half a metre a position, UTM zone 11 north: as GDAL writes it."""


def on_the_map(path: Path) -> dict[str, object]:
    with tifffile.TiffFile(path) as tiff:
        return tiff.geotiff_metadata


@pytest.mark.parametrize(
    "how", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}]
)
def test_a_label_lies_where_its_image_lies(how: dict[str, object], tmp_path: Path) -> None:
    image = RNG.integers(0, 255, (40, 30), np.uint8)
    tags = [(*tag, True) for tag in GEOTIFF]
    tifffile.imwrite(tmp_path / "image.tif", image, extratags=tags, metadata=None, **how)
    there = on_the_map(tmp_path / "image.tif")
    assert (there["ProjectedCSTypeGeoKey"], there["ModelPixelScale"]) == (32611, [0.5, 0.5, 0.0])
    raster, label = read_image(tmp_path / "image.tif"), RNG.integers(0, 3, (40, 30))
    assert len(raster.georeference) == len(GEOTIFF)
    write_label(tmp_path / "whole.tif", label, SPEC, raster)
    with open_strips(tmp_path / "image.tif", SPEC) as opened:
        place = opened.georeference
    given = strips(label, 7, 20)
    write_label_strips(tmp_path / "a.tif", given, SPEC, size=(40, 30), georeference=place)
    assert on_the_map(tmp_path / "whole.tif") == on_the_map(tmp_path / "a.tif") == there
    assert np.array_equal(read_label(tmp_path / "a.tif", SPEC, raster)[0], label)


@pytest.mark.parametrize("text", ["Übersee|".encode(), "Übersee|".encode("latin1"), b"", b"a|\0b"])
@pytest.mark.parametrize("byteorder", "<>")
def test_names_on_the_map_keep_their_bytes(text: bytes, byteorder: str, tmp_path: Path) -> None:
    tags, path = [(34737, 2, None, text, True)], tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8), extratags=tags, byteorder=byteorder)
    raster = read_image(path)
    write_label(tmp_path / "a.tif", np.zeros((4, 5), int), SPEC, raster)
    assert raster.georeference == read_image(tmp_path / "a.tif").georeference
    assert raster.georeference[0][3].rstrip(b"\0") == text


def test_an_image_that_is_on_no_map_puts_its_label_on_none(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((4, 5), np.uint8))
    raster = read_image(tmp_path / "image.tif")
    assert raster.georeference == ()
    write_label(tmp_path / "a.tif", np.zeros((4, 5), int), SPEC, raster)
    assert on_the_map(tmp_path / "a.tif") is None
