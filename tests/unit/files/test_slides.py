"""Whole-slide images through OpenSlide: the same numbers as the TIFF that they are stored as."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from labelmend.errors import DataError, SettingsError
from labelmend.files import slides
from labelmend.files.slides import is_slide, open_slide

openslide = pytest.importorskip("openslide")
RNG = np.random.default_rng(0)
MPP = 0.25


def halved(image: np.ndarray) -> np.ndarray:
    rows, columns = (n // 2 * 2 for n in image.shape[:2])
    cells = image[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2, 3)
    return cells.mean((1, 3)).astype(np.uint8)


def pyramid(path: Path, size: tuple[int, int] = (256, 192), **options: Any) -> list[np.ndarray]:
    """A tiled TIFF of three pictures, each half of the one before; 0.5 and 0.25 micrometres."""
    pictures = [RNG.integers(0, 256, (*size, 3), dtype=np.uint8)]
    for _ in range(2):
        pictures.append(halved(pictures[-1]))
    about = {"resolution": (40000, 20000), "resolutionunit": "CENTIMETER"} | options
    with tifffile.TiffWriter(path) as tiff:
        for number, picture in enumerate(pictures):
            tiff.write(
                picture,
                tile=(64, 64),
                photometric="rgb",
                compression="zlib",
                subfiletype=int(number > 0),
                metadata=None,
                **about,
            )
    return pictures


def like_aperio(path: Path, size: tuple[int, int] = (256, 192)) -> list[np.ndarray]:
    """What Aperio's scanners write: JPEG tiles, a thumbnail, a half, and a text that says MPP."""
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    text = f"Aperio Image Library v11.2.1\r\n{size[1]}x{size[0]} [0,0] JPEG/RGB Q=70|MPP = {MPP}"
    options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, tile=(64, 64), description=text, **options)
        tiff.write(image[::4, ::4].copy(), description=text, **options)
        tiff.write(image[::2, ::2].copy(), tile=(64, 64), description=text, **options)
    return [tifffile.imread(path, key=0), tifffile.imread(path, key=2)]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_picture_is_the_tiff_of_that_size(tmp_path: Path, level: int) -> None:
    told = np.moveaxis(pyramid(tmp_path / "a.tif")[level], -1, 0)
    with open_slide(tmp_path / "a.tif", level) as image:
        assert image.shape == told.shape and image.dtype == np.uint8
        assert image.spacing == pytest.approx((0.0005 * 2**level, 0.00025 * 2**level))
        for height in (1, 7, 64, 1000):
            starts = range(0, image.shape[1], height)
            parts = [image.read(s, min(s + height, image.shape[1])) for s in starts]
            assert np.array_equal(np.concatenate(parts, 1), told)
        assert np.array_equal(image.read(30, 40), told[:, 30:40])  # back again, too


def test_sides_that_are_no_exact_half_are_off_by_less_than_a_position(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 501).astype(np.uint8)[:, None, None]
    image = np.broadcast_to(ramp, (501, 333, 3)).copy()
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for number, picture in enumerate((image, halved(image))):
            tiff.write(
                picture,
                tile=(64, 64),
                photometric="rgb",
                subfiletype=int(number > 0),
                metadata=None,
            )
    told = np.moveaxis(halved(image), -1, 0).astype(int)
    with open_slide(tmp_path / "a.tif", 1) as slide:
        found = slide.read(0, 250).astype(int)
        assert found.shape == told.shape and np.abs(found - told)[:, :, :-1].max() <= 1
        rows = np.concatenate([slide.read(n, n + 1) for n in range(250)], 1)
    assert np.array_equal(rows, found)  # however it is divided


def test_an_aperio_like_file_says_its_spacing_and_has_its_pictures(tmp_path: Path) -> None:
    told = like_aperio(tmp_path / "a.svs")
    for level, picture in enumerate(told):
        with open_slide(tmp_path / "a.svs", level) as image:
            assert np.array_equal(np.moveaxis(image.read(0, image.shape[1]), 0, -1), picture)
            assert image.spacing == pytest.approx((MPP * 2**level / 1000,) * 2)


@pytest.mark.parametrize(
    ("wanted", "level"),
    [(None, 0), ((0.00025, 0.00025), 0), ((0.0006, 0.0006), 1), ((0.0004, 0.0004), 1)],
)
def test_the_picture_nearest_to_the_wanted_spacing_is_taken(
    tmp_path: Path, wanted: tuple[float, float] | None, level: int
) -> None:
    like_aperio(tmp_path / "a.svs")
    with open_slide(tmp_path / "a.svs", None, wanted) as image:
        assert image.spacing == pytest.approx((MPP * 2**level / 1000,) * 2)


def test_no_picture_near_the_wanted_spacing_is_refused(tmp_path: Path) -> None:
    like_aperio(tmp_path / "a.svs")
    with pytest.raises(
        DataError, match=r"a\.svs: its pictures have a spacing of 0\.00025, 0\.0005"
    ):
        open_slide(tmp_path / "a.svs", None, (0.004, 0.004))
    open_slide(tmp_path / "a.svs", 1, (0.004, 0.004)).close()


def test_without_a_spacing_the_largest_is_taken(tmp_path: Path) -> None:
    pyramid(tmp_path / "a.tif", resolution=(1, 1), resolutionunit="NONE")
    with open_slide(tmp_path / "a.tif", None, (0.004, 0.004)) as image:
        assert image.spacing is None and image.shape == (3, 256, 192)


def test_what_was_not_scanned_has_the_colour_of_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid(tmp_path / "a.tif")

    class Partly(openslide.OpenSlide):
        def read_region(self, place: Any, level: int, size: Any) -> Any:
            found = super().read_region(place, level, size)
            found.putalpha(found.getchannel("A").point(lambda _: 0))
            return found

    monkeypatch.setattr(openslide, "OpenSlide", Partly)
    with open_slide(tmp_path / "a.tif", 0) as image:
        assert image.read(0, 5).min() == 255


def test_a_level_that_is_not_there_is_refused(tmp_path: Path) -> None:
    pyramid(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: has 3 pictures, so --level is at most 2, not 3"):
        open_slide(tmp_path / "a.tif", 3)


@pytest.mark.parametrize("content", [b"", b"II*\0", b"nothing at all" * 50])
def test_a_file_that_is_none_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.svs").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.svs: is no whole-slide image that OpenSlide reads"):
        open_slide(tmp_path / "a.svs")
    with pytest.raises(DataError, match=r"b\.svs: does not exist"):
        open_slide(tmp_path / "b.svs")
    (tmp_path / "c.svs").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        open_slide(tmp_path / "c.svs")


def test_a_file_cut_short_is_named_when_it_is_read(tmp_path: Path) -> None:
    like_aperio(tmp_path / "a.svs", (512, 512))
    whole = (tmp_path / "a.svs").read_bytes()
    damaged = bytearray(whole)
    damaged[2000:60000] = bytes(58000)
    (tmp_path / "a.svs").write_bytes(bytes(damaged))
    said = r"a\.svs: is damaged or cut short: it cannot be decoded as whole-slide image"
    with open_slide(tmp_path / "a.svs", 0) as image, pytest.raises(DataError, match=said):
        image.read(0, 512)


def test_a_missing_library_names_the_file_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like_aperio(tmp_path / "a.svs")
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(SettingsError, match=r"a\.svs: .*pip install 'labelmend\[slides\]'"):
        open_slide(tmp_path / "a.svs")


def test_which_files_are_slides() -> None:
    assert all(is_slide(f"A{suffix.upper()}") for suffix in slides.SLIDES)
    assert not is_slide("a.tif") and is_slide("a.tiff", 0) and not is_slide("a.ome.tif", 0)
    assert "openslide" not in dir(importlib.reload(slides))
