from __future__ import annotations

import gc
import gzip
import hashlib
import io
import random
import re
import signal
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import soundfile
import tifffile
from PIL import Image

from labelmend.errors import ChangedDataError, DataError
from labelmend.files.readers import (
    decode_label,
    hash_file,
    load_verified,
    read_image,
    read_label,
    read_region,
    write_label,
)
from labelmend.types import ChannelAxis, DataSpec, Raster, Region

SPEC = DataSpec("segmentation", ("bg", "a", "b"), (0, 1, 2), None, 2, 1, "none", ".png")


def noise(*size: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    top = 250 if dtype == np.uint8 else 60000
    return np.random.default_rng(seed).integers(0, top, size).astype(dtype)


def image_like(size: tuple[int, ...], **about: object) -> Raster:
    return Raster(np.zeros((1, *size), np.uint8), **about)


# --- images: values are those of the file ---------------------------------------------------------


def test_grey_png_of_every_depth_keeps_its_values(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        array = noise(9, 7, dtype=dtype)
        Image.fromarray(array).save(tmp_path / "a.png")
        read = read_image(tmp_path / "a.png")
        assert read.array.dtype == dtype and read.array.shape == (1, 9, 7)
        np.testing.assert_array_equal(read.array[0], array)


def test_png_of_1_2_and_4_bits_holds_small_numbers(tmp_path: Path) -> None:
    import zlib

    for depth in (1, 2, 4):
        values = np.arange(16).reshape(2, 8) % 2**depth
        bits = ((values[..., None] >> np.arange(depth)[::-1]) & 1).reshape(2, -1)
        rows = b"".join(b"\0" + np.packbits(row.astype(np.uint8)).tobytes() for row in bits)
        parts = [(b"IHDR", struct.pack(">IIBBBBB", 8, 2, depth, 0, 0, 0, 0))]
        parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        body = b"".join(
            struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
            for n, d in parts
        )
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        for read in (
            read_image(tmp_path / "a.png").array[0],
            decode_label(
                tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), "segmentation"
            ).array,
        ):
            np.testing.assert_array_equal(read, values)


def test_palette_is_colour_for_images_and_index_for_labels(tmp_path: Path) -> None:
    indices = np.arange(21, dtype=np.uint8).reshape(3, 7)
    colours = noise(21, 3)
    picture = Image.new("P", (7, 3))
    picture.putdata(indices.ravel().tolist())
    picture.putpalette(colours.ravel().tolist())
    picture.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read.array, np.moveaxis(colours[indices], -1, 0))
    spec = replace(SPEC, classes=tuple(f"c{i}" for i in range(21)), values=tuple(range(21)))
    index, _ = read_label(tmp_path / "a.png", spec, image_like((3, 7)))
    np.testing.assert_array_equal(index, indices)


def test_opaque_alpha_is_dropped_and_colours_come_first(tmp_path: Path) -> None:
    array = noise(6, 5, 4)
    array[..., 3] = 255
    Image.fromarray(array).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png").array, np.moveaxis(array[..., :3], -1, 0)
    )


def test_16_bit_colours_are_not_cut(tmp_path: Path) -> None:
    codecs = pytest.importorskip("imagecodecs")
    array = noise(6, 5, 3, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(codecs.png_encode(array))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("kind", ["png", "assocalpha", "unassalpha"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_alpha_is_dropped_where_it_is_opaque_and_refused_elsewhere(
    kind: str, channels: int, dtype: type, top: int, tmp_path: Path
) -> None:
    array = noise(6, 5, channels + 1).astype(dtype)
    for alpha in (top, top - top / 255):
        array[..., -1] = top
        array[3, 2, -1] = alpha
        if kind != "png":
            colours = "rgb" if channels == 3 else "minisblack"
            about = {"photometric": colours, "extrasamples": [kind], "planarconfig": "contig"}
            path = tmp_path / "a.tif"
            tifffile.imwrite(path, array, **about)
        elif dtype is np.float32:
            pytest.skip("a PNG holds whole numbers")
        else:
            path = tmp_path / "a.png"
            path.write_bytes(pytest.importorskip("imagecodecs").png_encode(array))
        if alpha == top:
            wanted = np.moveaxis(array[..., :channels], -1, 0)
            np.testing.assert_array_equal(read_image(path).array, wanted)
        else:
            with pytest.raises(DataError, match="alpha channel that is not opaque"):
                read_image(path)


def test_grey_label_stored_as_equal_colours_is_one_channel(tmp_path: Path) -> None:
    label = noise(6, 5) % 3
    Image.fromarray(np.repeat(label[..., None], 3, -1)).save(tmp_path / "a.png")
    index, _ = read_label(tmp_path / "a.png", SPEC, image_like((6, 5)))
    np.testing.assert_array_equal(index, label)


@pytest.mark.parametrize(
    ("axes", "shape", "kept"),
    [
        ("YX", (6, 5), (1, 6, 5)),
        ("ZYX", (4, 6, 5), (1, 4, 6, 5)),
        ("CYX", (3, 6, 5), (3, 6, 5)),
        ("ZCYX", (4, 2, 6, 5), (2, 4, 6, 5)),
        ("CZYX", (2, 4, 6, 5), (2, 4, 6, 5)),
    ],
)
def test_ome_axes_are_respected(
    tmp_path: Path, axes: str, shape: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    array = noise(*shape, dtype=np.uint16)
    about = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata=about, photometric="minisblack")
    read = read_image(tmp_path / "a.ome.tif")
    assert read.array.shape == kept
    np.testing.assert_array_equal(
        read.array, array[None] if "C" not in axes else np.moveaxis(array, axes.index("C"), 0)
    )
    assert read.spacing == pytest.approx([0.002, 0.00025, 0.0005][-(len(kept) - 1) :])


def test_pages_are_space_or_channels_as_asked(tmp_path: Path) -> None:
    array = noise(4, 6, 5)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=None)
    assert read_image(tmp_path / "a.tif").array.shape == (1, 4, 6, 5)
    read = read_image(tmp_path / "a.tif", dims=2, channel_axis="first")
    np.testing.assert_array_equal(read.array, array)
    with pytest.raises(DataError, match=r"a\.tif: .* channels = 'first' or 'last'"):
        read_image(tmp_path / "a.tif", dims=2)


def test_float_tiff_and_its_resolution(tmp_path: Path) -> None:
    array = noise(6, 5).astype(np.float32) / 7
    how = {"resolution": (20.0, 40.0), "resolutionunit": "CENTIMETER", "compression": "zlib"}
    tifffile.imwrite(tmp_path / "a.tif", array, **how)
    read = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.array[0], array)
    assert read.spacing == pytest.approx((0.25, 0.5))


def test_distances_of_pages_have_the_unit_of_the_others(tmp_path: Path) -> None:
    how = {"imagej": True, "resolution": (4.0, 2.0), "photometric": "minisblack"}
    how |= {"metadata": {"axes": "ZYX", "spacing": 3.0, "unit": "um"}}
    tifffile.imwrite(tmp_path / "a.tif", noise(4, 6, 5), **how)
    assert read_image(tmp_path / "a.tif").spacing == pytest.approx((3e-3, 5e-4, 2.5e-4))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_keeps_type_affine_and_spacing(tmp_path: Path, suffix: str) -> None:
    array = noise(5, 6, 7, dtype=np.uint16).astype(np.int16)
    affine = np.diag([2.0, 1.5, -3.0, 1.0])
    affine[:3, 3] = 4, 5, 6
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / f"a{suffix}")
    read = read_image(tmp_path / f"a{suffix}", dims=3)
    assert read.array.dtype == np.int16 and read.spacing == (2.0, 1.5, 3.0)
    np.testing.assert_array_equal(read.array[0], array)
    np.testing.assert_allclose(read.affine, affine)


def test_nifti_scaling_is_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(noise(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(image, tmp_path / "a.nii")
    read = read_image(tmp_path / "a.nii")
    np.testing.assert_allclose(read.array[0], nibabel.load(tmp_path / "a.nii").get_fdata())


def test_nifti_channels_are_last(tmp_path: Path) -> None:
    array = noise(3, 4, 5, 2)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f4", "<i8", "?", "<u2", "<f2"])
def test_npy_of_any_number_type_and_order(tmp_path: Path, order: str, dtype: str) -> None:
    array = np.asarray(noise(4, 6, 5) % 2, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    read = read_image(tmp_path / "a.npy", dims=2, channel_axis="last")
    np.testing.assert_array_equal(read.array, np.moveaxis(array, -1, 0))
    assert read.array.dtype.isnative


def test_npz_takes_the_only_array_or_the_named_one(tmp_path: Path) -> None:
    one, two = noise(4, 5), noise(4, 5, seed=1) % 2
    np.savez(tmp_path / "a.npz", image=one, label=two)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npz").array[0], one)
    np.testing.assert_array_equal(read_label(tmp_path / "a.npz", SPEC, image_like((4, 5)))[0], two)
    np.savez_compressed(tmp_path / "b.npz", anything=one)
    np.testing.assert_array_equal(read_image(tmp_path / "b.npz").array[0], one)


@pytest.mark.parametrize(
    ("suffix", "subtype", "dtype"),
    [
        (".wav", "PCM_U8", np.int8),
        (".wav", "PCM_16", np.int16),
        (".wav", "PCM_24", np.int32),
        (".wav", "PCM_32", np.int32),
        (".wav", "FLOAT", np.float32),
        (".wav", "DOUBLE", np.float64),
        (".flac", "PCM_16", np.int16),
        (".flac", "PCM_24", np.int32),
    ],
)
def test_sound_keeps_its_samples(tmp_path: Path, suffix: str, subtype: str, dtype: type) -> None:
    bits = {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}.get(subtype)
    rng = np.random.default_rng(0)
    if bits is None:
        wanted = written = rng.normal(0, 0.1, (300, 2)).astype(dtype)
    else:
        wanted = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (300, 2))
        written = (wanted << (32 - bits)).astype(np.int32)
    soundfile.write(tmp_path / f"a{suffix}", written, 500, subtype=subtype)
    read = read_image(tmp_path / f"a{suffix}")
    assert read.array.dtype == dtype and read.spacing == (0.002,)
    np.testing.assert_array_equal(read.array, wanted.T)


def test_spectra_by_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1\n2\n4\n")
    assert read_image(path).array.tolist() == [[1, 2, 4]]
    path.write_text("wavenumber;a;b\n900;1;2\n898;3;4\n896;5;6\n")
    read = read_image(path)
    assert read.array.tolist() == [[1, 3, 5], [2, 4, 6]] and read.spacing == (2.0,)
    path.write_text("a,b\n1,2\n3,4\n")
    assert read_image(path).array.tolist() == [[1, 3], [2, 4]]
    path.write_text("position,v\n0,1\n1,2\n9,3\n")
    assert read_image(path).spacing is None


def _leads(path: Path, name: str, first: np.ndarray, comma: str = ",") -> np.ndarray:
    """Writes a first column and two leads; returns the leads ``(2, n)``."""
    leads = np.random.default_rng(len(first)).normal(size=(2, len(first))).round(4)
    rows = (comma.join(f"{value:.9g}" for value in row) for row in zip(first, *leads, strict=True))
    path.write_text("\n".join([comma.join([name, "I", "II"]), *rows]) + "\n")
    return leads


@pytest.mark.parametrize("comma", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *[(name, 1.0) for name in ("time", "Time", "time_s", "Time (s)", "time [sec]", "t_s")],
        *[(name, 1e-3) for name in ("time_ms", "Time (ms)", "time [ms]", "timestamp_ms", "t ms")],
        ("time_us", 1e-6),
        *[(name, 1.0) for name in ("Wavenumber (cm-1)", "wavelength_nm", "position [mm]", "m/z")],
    ],
)
def test_a_column_of_positions_is_known_by_its_name_and_unit_and_is_no_lead(
    tmp_path: Path, name: str, unit: float, comma: str
) -> None:
    leads = _leads(tmp_path / "a.csv", name, 4.0 * np.arange(50), comma)
    read = read_image(tmp_path / "a.csv")
    np.testing.assert_array_equal(read.array, leads)
    assert read.spacing == (4.0 * unit,)


@pytest.mark.parametrize("name", ["t", "index", "Elapsed", "time (weeks)", "clock", "sample"])
@pytest.mark.parametrize("turned", [1, -1])
def test_what_may_be_positions_is_never_taken_for_a_lead(
    tmp_path: Path, name: str, turned: int
) -> None:
    first = turned * np.cumsum(np.random.default_rng(1).uniform(0.1, 1, 50))
    _leads(tmp_path / "a.csv", name, first)
    with pytest.raises(DataError, match=f"'{re.escape(name)}', only rises.*call it time_s"):
        read_image(tmp_path / "a.csv")
    first[30] = first[29]  # that stands still for once: values
    leads = _leads(tmp_path / "a.csv", name, first)
    assert read_image(tmp_path / "a.csv").array.shape == (3, leads.shape[1])


# --- regions --------------------------------------------------------------------------------------


def _write_volume(path: Path, array: np.ndarray) -> None:
    if path.name.endswith(".npy"):
        np.save(path, array)
    elif ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    else:
        how = {"compression": "zlib"} if path.name.startswith("z") else {}
        tifffile.imwrite(path, array, photometric="minisblack", byteorder=">", **how)


@pytest.mark.parametrize("name", ["a.npy", "a.nii", "a.nii.gz", "a.tif", "z.tif"])
def test_a_region_equals_the_same_part_of_the_whole(tmp_path: Path, name: str) -> None:
    _write_volume(tmp_path / name, noise(9, 8, 7, dtype=np.uint16))
    whole = read_image(tmp_path / name, dims=3)
    region = Region((2, 1, 0), (4, 5, 7))
    part = read_region(tmp_path / name, region, dims=3)
    np.testing.assert_array_equal(part.array, whole.array[(slice(None), *region.slices)])
    assert part.array.dtype == whole.array.dtype and part.array.dtype.isnative
    for outside in (
        Region((6, 0, 0), (4, 1, 1)),
        Region((-1, 0, 0), (2, 1, 1)),
        Region((0,), (1,)),
    ):
        with pytest.raises(DataError, match=f"{name}: the region"):
            read_region(tmp_path / name, outside, dims=3)


def test_a_region_of_a_picture_and_of_a_recording(tmp_path: Path) -> None:
    array = noise(9, 8, 3)
    Image.fromarray(array).save(tmp_path / "a.png")
    part = read_region(tmp_path / "a.png", Region((2, 3), (4, 5)))
    np.testing.assert_array_equal(part.array, np.moveaxis(array[2:6, 3:8], -1, 0))
    sound = noise(500, 2).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", sound, 100)
    part = read_region(tmp_path / "a.wav", Region((100,), (50,)))
    np.testing.assert_array_equal(part.array, sound[100:150].T)
    with pytest.raises(DataError, match=r"a\.wav: the region"):
        read_region(tmp_path / "a.wav", Region((480,), (50,)))


def test_a_region_of_a_huge_sparse_array_touches_only_it(tmp_path: Path) -> None:
    shape = (1, 40000, 40000)
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    with (tmp_path / "a.npy").open("wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + 4 * 40000 * 40000)
    part = read_region(
        tmp_path / "a.npy", Region((20000, 10), (3, 4)), dims=2, channel_axis="first"
    )
    assert part.array.shape == (1, 3, 4) and not part.array.any()


# --- labels ---------------------------------------------------------------------------------------


def test_ignored_positions_are_not_known(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 255, 2]]))
    index, valid = read_label(tmp_path / "a.npy", replace(SPEC, ignore=255), image_like((1, 3)))
    assert index.dtype == np.int64 and valid.dtype == bool
    assert index.tolist() == [[0, 0, 2]] and valid.tolist() == [[True, False, True]]


def test_instances_become_one_class(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 60000, 65535]], np.uint16)).save(tmp_path / "a.png")
    spec = replace(SPEC, classes=("bg", "cell"), values=(0, 1), instances=True, ignore=65535)
    index, valid = read_label(tmp_path / "a.png", spec, image_like((1, 4)))
    assert index.tolist() == [[0, 1, 1, 0]] and valid.tolist() == [[True, True, True, False]]


def test_regression_label_is_float_with_channels(tmp_path: Path) -> None:
    label = noise(2, 4, 5).astype(np.float64)
    label[:, 1, 1] = -1
    np.save(tmp_path / "a.npy", label)
    spec = DataSpec("regression", ("p", "q"), (), -1, 2, 1, "first", ".npy")
    values, valid = read_label(tmp_path / "a.npy", spec, image_like((4, 5)))
    assert values.dtype == np.float32 and values.shape == (2, 4, 5)
    assert valid.sum() == 19 and not valid[1, 1] and (values[:, 1, 1] == 0).all()
    np.testing.assert_array_equal(values[:, valid], label[:, valid])


def test_regression_is_written_and_read_alike(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    for suffix in (".npy", ".tif", ".ome.tif"):
        spec = DataSpec("regression", ("p", "q"), (), None, 2, 1, "first", suffix)
        write_label(tmp_path / f"a{suffix}", values, spec, image_like((4, 5)))
        read, valid = read_label(tmp_path / f"a{suffix}", spec, image_like((4, 5)))
        np.testing.assert_array_equal(read, values)
        assert valid.all()


@pytest.mark.parametrize("name", ["a, b", '"a"', 'say "a"', '"', "a\nb", "a;b", "ä"])
def test_events_of_any_name_are_written_and_read_alike(name: str, tmp_path: Path) -> None:
    spec = replace(SPEC, classes=("none", name, "z"), dims=1, suffix=".csv")
    like, index = image_like((8,), spacing=(0.1,)), np.array([0, 1, 1, 0, 2, 2, 1, 0])
    write_label(tmp_path / "a.csv", index, spec, like)
    assert read_label(tmp_path / "a.csv", spec, like)[0].tolist() == index.tolist()


@pytest.mark.parametrize("suffix", [".nii.gz", ".npy", ".ome.tif"])
@pytest.mark.parametrize("axis", ["none", "first", "last"])
def test_values_of_volumes_are_written_and_read_alike(
    axis: ChannelAxis, suffix: str, tmp_path: Path
) -> None:
    if (suffix, axis) == (".nii.gz", "first"):
        pytest.skip("channels of a NIfTI file are last")
    names = ("p",) if axis == "none" else ("p", "q")
    values = np.random.default_rng(0).normal(size=(len(names), 3, 4, 5)).astype(np.float32)
    spec, like = DataSpec("regression", names, (), None, 3, 1, axis, suffix), image_like((3, 4, 5))
    write_label(tmp_path / f"a{suffix}", values, spec, like)
    np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}", spec, like)[0], values)


def test_events_are_laid_on_the_recording_and_written_back(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('label,onset_s,offset_s\n"b, or so",0.1,0.3\na,0.5,0.6\n')
    spec = replace(SPEC, classes=("none", "a", "b, or so"), dims=1, suffix=".csv")
    image = image_like((10,), spacing=(0.1,))
    index, valid = read_label(path, spec, image)
    assert index.tolist() == [0, 2, 2, 0, 0, 1, 0, 0, 0, 0] and valid.all()
    write_label(path, index, spec, image)
    assert read_label(path, spec, image)[0].tolist() == index.tolist()


def test_written_volume_lies_where_its_image_lies(tmp_path: Path) -> None:
    affine = np.array([[0, 2.0, 0, 5], [3.0, 0, 0, 6], [0, 0, 4.0, 7], [0, 0, 0, 1]])
    label = noise(3, 4, 5).astype(np.int64) % 3
    spec = replace(SPEC, values=(0, 300, 70000), dims=3)
    like = image_like((3, 4, 5), affine=affine)
    write_label(tmp_path / "a.nii.gz", label, spec, like)
    read = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read.affine, affine)
    assert read.array.dtype.kind in "iu" and set(np.unique(read.array)) == {0, 300, 70000}
    np.testing.assert_array_equal(read_label(tmp_path / "a.nii.gz", spec, like)[0], label)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("micron", 1e-3), ("meter", 1e3)])
@pytest.mark.parametrize("flip", [1, -1])
def test_a_written_volume_is_as_large_as_its_image_whatever_the_unit(
    tmp_path: Path, unit: str, mm: float, flip: int
) -> None:
    affine = np.array([[0, flip * 2.0, 0, 5], [3.0, 0, 0, 6], [0, 0, 4.0, 7], [0, 0, 0, mm]]) / mm
    image = nibabel.Nifti1Image(noise(3, 4, 5), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "image.nii")
    like = read_image(tmp_path / "image.nii")
    assert like.spacing == pytest.approx((3, 2, 4))
    write_label(tmp_path / "a.nii", np.zeros((3, 4, 5), int), replace(SPEC, dims=3), like)
    written = nibabel.load(tmp_path / "a.nii")
    assert written.header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(written.affine, image.affine)
    assert read_image(tmp_path / "a.nii").spacing == pytest.approx(like.spacing)


def test_a_volume_without_a_place_keeps_its_spacing(tmp_path: Path) -> None:
    like = image_like((3, 4, 5), spacing=(2.0, 0.25, 0.5))
    write_label(tmp_path / "a.nii", np.zeros((3, 4, 5), int), replace(SPEC, dims=3), like)
    assert read_image(tmp_path / "a.nii").spacing == pytest.approx((2.0, 0.25, 0.5))


def test_written_tiff_keeps_the_spacing(tmp_path: Path) -> None:
    like = image_like((4, 5), spacing=(0.25, 0.5))
    write_label(tmp_path / "a.tif", np.zeros((4, 5), int), SPEC, like)
    assert read_image(tmp_path / "a.tif").spacing == pytest.approx((0.25, 0.5))
    like = image_like((3, 4, 5), spacing=(2.0, 0.25, 0.5))
    write_label(tmp_path / "a.ome.tif", np.zeros((3, 4, 5), int), replace(SPEC, dims=3), like)
    assert read_image(tmp_path / "a.ome.tif").spacing == pytest.approx((2.0, 0.25, 0.5))


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("a.png", np.zeros((4, 5), int), (0, 1, 70000)),
        ("a.png", np.zeros((4, 5), int), (-1, 0, 1)),
        ("a.png", np.full((4, 5), 3), (0, 1, 2)),
        ("a.png", np.zeros((5, 4), int), (0, 1, 2)),
        ("a.jpg", np.zeros((4, 5), int), (0, 1, 2)),
        ("a.csv", np.zeros((4, 5), int), (0, 1, 2)),
        ("a.xyz", np.zeros((4, 5), int), (0, 1, 2)),
    ],
)
def test_what_cannot_be_written_is_refused_and_the_old_file_stays(
    tmp_path: Path, name: str, label: np.ndarray, values: tuple[int, ...]
) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(DataError, match=name):
        write_label(tmp_path / name, label, replace(SPEC, values=values), image_like((4, 5)))
    assert (tmp_path / name).read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_arguments_are_not_changed(tmp_path: Path) -> None:
    label = np.ones((4, 5), int)
    label.flags.writeable = False
    for suffix in (".png", ".tif", ".npy", ".nii.gz"):
        write_label(tmp_path / f"a{suffix}", label, SPEC, image_like((4, 5)))
    content = (tmp_path / "a.npy").read_bytes()
    read = read_image(tmp_path / "a.npy", content=content)
    assert read.array.shape == (1, 4, 5)


# --- hashes, limits, damage -----------------------------------------------------------------------


def test_a_changed_file_is_noticed_at_the_same_size_and_time(tmp_path: Path) -> None:
    import os

    path = tmp_path / "a.npy"
    np.save(path, np.zeros((50, 50), np.uint8))
    before, about = hash_file(path), path.stat()
    assert before == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_verified(path, before) == path.read_bytes()
    for place in range(128, len(path.read_bytes()), 97):
        changed = bytearray(path.read_bytes())
        changed[place] ^= 1
        path.write_bytes(changed)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert path.stat().st_size == about.st_size
        with pytest.raises(ChangedDataError, match=r"a\.npy"):
            load_verified(path, before)
        changed[place] ^= 1
        path.write_bytes(changed)
    assert load_verified(path, before)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.nii", "a.nii.gz", "a.npy", "a.npz"])
def test_what_is_over_the_limit_is_refused_from_the_header(tmp_path: Path, name: str) -> None:
    array = np.zeros((64, 64), np.uint8)
    path = tmp_path / name
    if name == "a.png":
        Image.fromarray(array).save(path)
    elif name == "a.tif":
        tifffile.imwrite(path, array, compression="zlib")
    elif name == "a.npz":
        np.savez_compressed(path, array)
    else:
        _write_volume(path, array)
    assert read_image(path, limit=10_000).array.shape == (1, 64, 64)
    with pytest.raises(DataError, match=f"{name}: .*more than the limit of 4,095"):
        read_image(path, limit=4095)


@pytest.mark.parametrize("missing", ["gone.png", "folder", "folder/gone.npy"])
def test_missing_files_and_folders_are_named(tmp_path: Path, missing: str) -> None:
    (tmp_path / "folder").mkdir()
    for read in (read_image, hash_file, lambda path: read_label(path, SPEC, image_like((1, 1)))):
        with pytest.raises(DataError, match=missing):
            read(tmp_path / missing)


def test_a_tiff_whose_pages_run_in_a_circle_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, noise(2, 6, 5), photometric="minisblack", metadata=None)
    content = bytearray(stream.getvalue())
    (first,) = struct.unpack("<I", content[4:8])
    (tags,) = struct.unpack("<H", content[first : first + 2])
    place = first + 2 + 12 * tags
    content[place : place + 4] = struct.pack("<I", first)
    with pytest.raises(DataError, match="damaged"):
        read_image(tmp_path / "a.tif", content=bytes(content))


class Finalised:
    """Is only ever freed by the garbage collector, which then runs Python code in any thread."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        sum(range(30))


def test_good_files_read_by_many_threads_are_never_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, noise(4, 4))

    def read(_: int) -> None:
        for _ in range(100):
            made = [Finalised() for _ in range(5)]
            assert read_image(path, dims=2).array.shape == (1, 4, 4)
            del made

    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(50, 2, 2)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(read, range(40)))
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)


def test_nothing_is_said_by_the_libraries(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    header = nibabel.Nifti1Header()
    header["magic"], header["pixdim"][1:4] = b"n+1", -1
    header.set_data_shape((2, 2, 2))
    content = gzip.compress(header.binaryblock + bytes(40))
    read_image(tmp_path / "a.nii.gz", content=content)
    with pytest.raises(DataError):
        read_image(tmp_path / "a.tif", content=b"II*\0" + bytes([8, 0, 0, 0]) + bytes(range(90)))
    assert capfd.readouterr() == ("", "")


def test_readers_need_no_torch() -> None:
    code = "import sys, labelmend.catalogue.check; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- mutated files --------------------------------------------------------------------------------


def _specimens(folder: Path) -> dict[Path, bytes]:
    grey, colour, volume = noise(20, 15), noise(20, 15, 3), noise(4, 20, 15)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(colour).quantize(16).save(folder / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 1
    Image.fromarray(colour).save(folder / "a.jpg", exif=exif)
    Image.fromarray(colour).save(folder / "b.jpg", progressive=True)
    tifffile.imwrite(folder / "plain.tif", grey)
    tifffile.imwrite(folder / "zlib.tif", volume, compression="zlib", photometric="minisblack")
    tifffile.imwrite(folder / "tiles.tif", noise(64, 64), tile=(16, 16), compression="zlib")
    tifffile.imwrite(folder / "a.ome.tif", volume, photometric="minisblack")
    _write_volume(folder / "a.nii", volume)
    _write_volume(folder / "a.nii.gz", volume)
    np.save(folder / "a.npy", grey.astype(np.float32))
    np.savez_compressed(folder / "a.npz", image=grey)
    soundfile.write(folder / "a.wav", np.arange(500, dtype=np.int16), 1000)
    soundfile.write(folder / "a.flac", np.arange(500, dtype=np.int16), 1000)
    (folder / "spectrum.csv").write_text("position,v\n" + "".join(f"{i},{i}\n" for i in range(40)))
    (folder / "events.csv").write_text("onset_s,offset_s,label\n0.1,0.2,a\n0.3,0.4,b\n")
    return {path: path.read_bytes() for path in sorted(folder.iterdir())}


def _mutated(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        if not data:
            break
        place = rng.randrange(min(len(data), rng.choice([400, len(data)])))
        change = rng.randrange(6)
        if change == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif change == 1:
            data[place] = rng.choice([0, 1, 127, 128, 255])
        elif change == 2:
            del data[place:]
        elif change == 3:
            del data[place : place + rng.randrange(1, 9)]
        elif change == 4:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        else:
            extremes = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
            data[place : place + 4] = rng.choice(extremes)
    return bytes(data)


class Hung(BaseException):
    """Not to be caught by what catches every exception."""


def _stop(*_: object) -> None:
    raise Hung


def _fuzz(folder: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    specimens = _specimens(folder)
    before = signal.signal(signal.SIGALRM, _stop)
    try:
        for number in range(count):
            path = list(specimens)[number % len(specimens)]
            content = _mutated(specimens[path], rng)
            signal.setitimer(signal.ITIMER_REAL, 30)
            for read in (
                lambda p=path, c=content: read_image(p, content=c, limit=2**28),
                lambda p=path, c=content: decode_label(p, c, "segmentation"),
            ):
                try:
                    read()
                except DataError as error:
                    assert path.name in str(error) and "\n" not in str(error)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    _fuzz(tmp_path, 340, seed=7)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    _fuzz(tmp_path, 10_000 * 17, seed=11)
