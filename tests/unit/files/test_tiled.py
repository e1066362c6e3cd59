"""Strips of a file are what the whole file holds there, however it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from labelmend.errors import DataError
from labelmend.files import tiled
from labelmend.files.readers import read_as
from labelmend.files.tiled import open_strips
from labelmend.types import DataSpec

RNG = np.random.default_rng(0)
GREY = DataSpec("segmentation", ("none", "one"), (0, 1), None, 2, 1, "none", ".tif")


def spec(dims: int = 2, channels: int = 1, channel_axis: Any = "none") -> DataSpec:
    values = (0, 1)
    return DataSpec("segmentation", ("a", "b"), values, None, dims, channels, channel_axis, ".tif")


def noise(*shape: int, dtype: type = np.uint16) -> np.ndarray:
    return RNG.integers(0, 200, shape).astype(dtype)


OME = {"ome": True, "photometric": "minisblack"}
STORED: dict[str, tuple[DataSpec, np.ndarray, dict[str, Any]]] = {
    "plain": (spec(), noise(70, 45), {}),
    "plain float": (spec(), noise(70, 45, dtype=np.float32), {}),
    "big-endian": (spec(), noise(70, 45), {"byteorder": ">"}),
    "big": (spec(), noise(70, 45), {"bigtiff": True, "tile": (16, 16)}),
    "strips": (spec(), noise(70, 45), {"compression": "zlib", "rowsperstrip": 9}),
    "one strip": (spec(), noise(70, 45), {"compression": "zlib", "rowsperstrip": 70}),
    "tiles": (spec(), noise(70, 45), {"tile": (32, 16)}),
    "tiles, predicted": (
        spec(),
        noise(70, 45),
        {"tile": (32, 16), "compression": "zlib", "predictor": 2},
    ),
    "lzw": (spec(), noise(70, 45), {"tile": (32, 16), "compression": "lzw", "byteorder": ">"}),
    "bits": (spec(), noise(70, 45) > 90, {}),
    "colours": (
        spec(2, 3),
        noise(70, 45, 3, dtype=np.uint8),
        {"photometric": "rgb", "tile": (16, 32), "compression": "zlib"},
    ),
    "colours, plain": (spec(2, 3), noise(70, 45, 3, dtype=np.uint8), {"photometric": "rgb"}),
    "colours, apart": (
        spec(2, 3),
        noise(3, 70, 45, dtype=np.uint8),
        {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 32)},
    ),
    "opaque": (
        spec(2, 3),
        np.dstack([noise(70, 45, 3, dtype=np.uint8), np.full((70, 45), 255, np.uint8)]),
        {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (16, 16)},
    ),
    "jpeg": (
        spec(2, 3),
        noise(64, 48, 3, dtype=np.uint8),
        {"photometric": "rgb", "tile": (16, 16), "compression": "jpeg"},
    ),
    "pages": (spec(3), noise(9, 30, 20), {"photometric": "minisblack"}),
    "pages, tiles": (
        spec(3),
        noise(9, 30, 20),
        {"photometric": "minisblack", "tile": (16, 16), "compression": "zlib"},
    ),
    "pages as channels": (
        spec(2, 4, "first"),
        noise(4, 30, 20),
        {"photometric": "minisblack", "compression": "zlib", "rowsperstrip": 7},
    ),
    "ome": (
        spec(2, 2),
        noise(2, 70, 45),
        {
            **OME,
            "tile": (16, 16),
            "metadata": {
                "axes": "CYX",
                "PhysicalSizeX": 0.5,
                "PhysicalSizeY": 0.25,
            },
        },
    ),
    "ome volume": (
        spec(3, 2),
        noise(6, 2, 30, 20),
        {**OME, "compression": "zlib", "metadata": {"axes": "ZCYX"}},
    ),
    "ome volume, channels first": (
        spec(3, 2),
        noise(2, 6, 30, 20),
        {**OME, "metadata": {"axes": "CZYX"}},
    ),
    "centimetres": (
        spec(),
        noise(70, 45),
        {"tile": (16, 16), "resolution": (400.0, 200.0), "resolutionunit": "CENTIMETER"},
    ),
}


@pytest.fixture(params=sorted(STORED))
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, DataSpec]:
    about, array, options = STORED[request.param]
    path = tmp_path / ("a.ome.tif" if "ome" in options else "a.tif")
    tifffile.imwrite(path, array, **options)
    return path, about


def same_strips(path: Path, about: DataSpec) -> None:
    whole = read_as(path, about)
    image = open_strips(path, about)
    assert image is not None
    with image:
        assert image.shape == whole.array.shape
        assert image.dtype == whole.array.dtype
        assert image.spacing == whole.spacing
        length = image.shape[1]
        for start, stop in ((0, length), (0, 1), (length - 1, length), (2, 5), (1, 4), (3, length)):
            found = image.read(start, stop)
            assert found.dtype == image.dtype and found.flags.c_contiguous
            assert np.array_equal(found, whole.array[:, start:stop])


def test_a_strip_is_what_the_file_holds_there(stored: tuple[Path, DataSpec]) -> None:
    same_strips(*stored)


@pytest.mark.parametrize(
    ("about", "shape"),
    [
        (spec(), (30, 20)),
        (spec(), (30, 1)),
        (spec(), (6, 30)),
        (spec(3), (7, 8, 9)),
        (spec(1), (50,)),
        (spec(2, 3, "first"), (3, 30, 20)),
        (spec(2, 3, "last"), (30, 20, 3)),
        (spec(1, 2, "last"), (30, 2)),
    ],
)
def test_arrays_are_read_alike(about: DataSpec, shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(*shape).astype(">i2"))
    same_strips(tmp_path / "a.npy", about)


def test_what_cannot_be_read_in_strips_is_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(noise(6, 5)))
    assert open_strips(tmp_path / "a.npy", spec()) is None
    (tmp_path / "a.png").write_bytes(b"")
    assert open_strips(tmp_path / "a.png", spec()) is None
    np.save(tmp_path / "b.npy", noise(6, 5, 4))
    assert open_strips(tmp_path / "b.npy", spec()) is None


def test_one_large_piece_is_not_read_in_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(70, 45), compression="zlib", rowsperstrip=70)
    monkeypatch.setattr(tiled, "_LARGEST_SEGMENT", 70 * 45 * 2 - 1)
    assert open_strips(tmp_path / "a.tif", spec()) is None


def test_a_tile_is_decoded_once_while_rows_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(64, 48), tile=(32, 16), compression="zlib")
    decoded: list[int] = []
    inner = tiled._PagedRows._decoded

    def count(self: Any, number: int, segment: int) -> Any:
        decoded.append(segment)
        return inner(self, number, segment)

    monkeypatch.setattr(tiled._PagedRows, "_decoded", count)
    with open_strips(tmp_path / "a.tif", spec()) as image:  # type: ignore[union-attr]
        for start in range(0, 60, 4):
            image.read(start, start + 8)
    assert sorted(decoded) == [0, 1, 2, 3, 4, 5]


def test_damage_and_nan_are_named(tmp_path: Path) -> None:
    array = noise(64, 48, dtype=np.float32)
    array[40, 3] = np.nan
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, tile=(32, 16), compression="zlib")
    with open_strips(path, spec()) as image:  # type: ignore[union-attr]
        assert np.isfinite(image.read(0, 32)).all()
        with pytest.raises(DataError, match=r"a.tif: from position 32 .* NaN .* \(0, 8, 3\)"):
            image.read(32, 64)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[place : place + 20] = b"x" * 20
    path.write_bytes(data)
    damaged = pytest.raises(DataError, match=r"a.tif: is damaged or cut short")
    with open_strips(path, spec()) as image, damaged:  # type: ignore[union-attr]
        image.read(0, 5)
    path.write_bytes(b"II*\0" + b"\0" * 20)
    with pytest.raises(DataError, match=r"a.tif"):
        open_strips(path, spec())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no.tif: does not exist"):
        open_strips(tmp_path / "no.tif", spec())
