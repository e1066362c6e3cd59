"""Every kind of bad input is one clear problem that names the file; the table is made from here."""

from __future__ import annotations

import gzip
import io
import os
import struct
import unicodedata
import wave
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import soundfile
import tifffile
from PIL import Image

from labelmend.catalogue.scan import inspect, open_data
from labelmend.errors import DataError

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "bad-input.md"
STEMS = "abcdef"


@dataclass(frozen=True)
class Kind:
    title: str
    base: Callable[[Path], None]
    spoil: Callable[[Path], str]


KINDS: list[Kind] = []


def kind(title: str, base: Callable[[Path], None] | None = None):
    def keep(spoil: Callable[[Path], str]) -> Callable[[Path], str]:
        KINDS.append(Kind(title, base or pictures, spoil))
        return spoil

    return keep


# --- good sets, each to be spoilt in one place ----------------------------------------------------


def grey(seed: int, size: tuple[int, ...] = (12, 10)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, size).astype(np.uint8)


def box(size: tuple[int, ...] = (12, 10), value: int = 1) -> np.ndarray:
    label = np.zeros(size, np.uint8)
    label[tuple(slice(2, 6) for _ in size)] = value
    return label


def folders(root: Path) -> None:
    for name in ("images", "labels/strong", "labels/weak/ann"):
        (root / name).mkdir(parents=True)


def pictures(root: Path) -> None:
    folders(root)
    for i, stem in enumerate(STEMS):
        Image.fromarray(grey(i)).save(root / f"images/{stem}.png")
        folder = "strong" if stem in "abcd" else "weak/ann"
        Image.fromarray(box()).save(root / f"labels/{folder}/{stem}.png")


def manifest(root: Path) -> None:
    pictures(root)
    rows = [f"images/{s}.png,labels/strong/{s}.png,strong,,{s}" for s in "abcd"]
    rows += [f"images/{s}.png,labels/weak/ann/{s}.png,weak,,{s}" for s in "ef"]
    (root / "manifest.csv").write_text("image,label,quality,split,group\n" + "\n".join(rows) + "\n")


def volumes(root: Path) -> None:
    folders(root)
    for i, stem in enumerate("abc"):
        nifti(root / f"images/{stem}.nii.gz", grey(i, (7, 8, 9)))
        nifti(root / f"labels/strong/{stem}.nii.gz", box((7, 8, 9)))


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def arrays(root: Path) -> None:
    folders(root)
    for i, stem in enumerate("abc"):
        np.save(root / f"images/{stem}.npy", grey(i, (3, 12, 10)).astype(np.float32))
        np.save(root / f"labels/strong/{stem}.npy", box().astype(np.int64))


def songs(root: Path) -> None:
    folders(root)
    for i, stem in enumerate("abc"):
        sound = np.random.default_rng(i).integers(-999, 999, 1000).astype(np.int16)
        soundfile.write(root / f"images/{stem}.wav", sound, 1000, subtype="PCM_16")
        events(root, stem, "0.1,0.2,song", "0.4,0.6,call")


def events(root: Path, stem: str, *rows: str, header: str = "onset_s,offset_s,label") -> str:
    (root / f"labels/strong/{stem}.csv").write_text("\n".join((header, *rows)) + "\n")
    return f"labels/strong/{stem}.csv"


def spectra(root: Path) -> None:
    folders(root)
    for i, stem in enumerate("abc"):
        rows = [f"{400 + n},{v}" for n, v in enumerate(grey(i, (20,)))]
        (root / f"images/{stem}.csv").write_text("wavelength,intensity\n" + "\n".join(rows) + "\n")
        np.save(root / f"labels/strong/{stem}.npy", box((20,)))


def said(root: Path, text: str) -> str:
    (root / "data.toml").write_text(text)
    return "data.toml"


def png(array: np.ndarray, mode: str | None = None, **how: object) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(stream, "PNG", **how)
    return stream.getvalue()


def put(root: Path, file: str, content: bytes) -> str:
    (root / file).write_bytes(content)
    return file


def move(root: Path, old: str, new: str) -> str:
    (root / old).rename(root / new)
    return new


# --- pictures ------------------------------------------------------------------------------------


@kind("empty image file")
def _(root: Path) -> str:
    return put(root, "images/c.png", b"")


@kind("empty label file")
def _(root: Path) -> str:
    return put(root, "labels/strong/c.png", b"")


@kind("truncated PNG image")
def _(root: Path) -> str:
    whole = (root / "images/c.png").read_bytes()
    return put(root, "images/c.png", whole[: len(whole) - 30])


@kind("PNG cut within its header")
def _(root: Path) -> str:
    return put(root, "images/c.png", (root / "images/c.png").read_bytes()[:20])


@kind("one flipped bit in the pixels of a PNG label")
def _(root: Path) -> str:
    whole = bytearray((root / "labels/strong/c.png").read_bytes())
    whole[whole.index(b"IDAT") + 8] ^= 4
    return put(root, "labels/strong/c.png", bytes(whole))


@kind("1 x 1 image")
def _(root: Path) -> str:
    put(root, "labels/strong/c.png", png(box((1, 1))))
    return put(root, "images/c.png", png(grey(0, (1, 1))))


@kind("alpha channel that is not opaque")
def _(root: Path) -> str:
    rgba = grey(0, (12, 10, 4))
    return put(root, "images/c.png", png(rgba))


@kind("transparent colour in a grey PNG")
def _(root: Path) -> str:
    return put(root, "images/c.png", png(box(), transparency=1))


@kind("transparent entry in a palette")
def _(root: Path) -> str:
    return put(root, "images/c.png", png(box(), "P", transparency=0))


@kind("animated PNG")
def _(root: Path) -> str:
    stream = io.BytesIO()
    frames = [Image.fromarray(grey(i)) for i in range(2)]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    return put(root, "images/c.png", stream.getvalue())


@kind("one colour image among grey ones")
def _(root: Path) -> str:
    return put(root, "images/c.png", png(grey(0, (12, 10, 3))))


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(grey(0)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


for _orientation in range(2, 9):

    @kind(f"JPEG with EXIF orientation {_orientation}")
    def _(root: Path, orientation: int = _orientation) -> str:
        (root / "images/c.png").unlink()
        return put(root, "images/c.jpg", _turned(orientation))


@kind("PNG with EXIF orientation 6")
def _(root: Path) -> str:
    exif = Image.Exif()
    exif[0x0112] = 6
    return put(root, "images/c.png", png(grey(0), exif=exif))


@kind("CMYK JPEG")
def _(root: Path) -> str:
    (root / "images/c.png").unlink()
    stream = io.BytesIO()
    Image.fromarray(grey(0, (12, 10, 4)), "CMYK").save(stream, "JPEG")
    return put(root, "images/c.jpg", stream.getvalue())


@kind("truncated JPEG")
def _(root: Path) -> str:
    (root / "images/c.png").unlink()
    stream = io.BytesIO()
    Image.fromarray(grey(0)).save(stream, "JPEG")
    return put(root, "images/c.jpg", stream.getvalue()[:-40])


@kind("JPEG as label")
def _(root: Path) -> str:
    (root / "labels/strong/c.png").unlink()
    stream = io.BytesIO()
    Image.fromarray(box()).save(stream, "JPEG")
    return put(root, "labels/strong/c.jpg", stream.getvalue())


@kind("PNG under the name of a JPEG")
def _(root: Path) -> str:
    return move(root, "images/c.png", "images/c.jpg")


@kind("GIF under the name of a PNG")
def _(root: Path) -> str:
    stream = io.BytesIO()
    Image.fromarray(grey(0)).save(stream, "GIF")
    return put(root, "images/c.png", stream.getvalue())


@kind("text under the name of a PNG")
def _(root: Path) -> str:
    return put(root, "images/c.png", b"<html>404 not found</html>")


@kind("image in a format that is not read")
def _(root: Path) -> str:
    return put(root, "images/g.bmp", b"BM")


@kind("image without a suffix")
def _(root: Path) -> str:
    return put(root, "images/g", b"?")


@kind("PNG that promises 10 GB")
def _(root: Path) -> str:
    whole = bytearray((root / "images/c.png").read_bytes())
    whole[16:24] = struct.pack(">II", 100_000, 100_000)
    return put(root, "images/c.png", bytes(whole))


@kind("PNG that promises more than it can hold")
def _(root: Path) -> str:
    whole = bytearray((root / "images/c.png").read_bytes())
    whole[16:24] = struct.pack(">II", 30_000, 30_000)
    return put(root, "images/c.png", bytes(whole))


@kind("colour picture as label")
def _(root: Path) -> str:
    return put(root, "labels/strong/c.png", png(grey(0, (12, 10, 3))))


@kind("label one row too small")
def _(root: Path) -> str:
    return put(root, "labels/strong/c.png", png(box((11, 10))))


@kind("label turned by 90 degrees")
def _(root: Path) -> str:
    return put(root, "labels/strong/c.png", png(box((10, 12))))


@kind("16-bit image that is one column too wide")
def _(root: Path) -> str:
    put(root, "images/c.png", png(grey(0, (12, 11)).astype(np.uint16) * 200))
    return "labels/strong/c.png"


# --- label values --------------------------------------------------------------------------------


@kind("255 beside other values, and nobody says what it is")
def _(root: Path) -> str:
    label = box()
    label[0] = 255
    return put(root, "labels/strong/c.png", png(label))


@kind("label values with a gap")
def _(root: Path) -> str:
    return put(root, "labels/strong/c.png", png(box(value=7)))


@kind("instances, and nobody says so")
def _(root: Path) -> str:
    many = np.arange(120, dtype=np.uint16).reshape(12, 10)
    return put(root, "labels/strong/c.png", png(many))


@kind("no label holds anything but background")
def _(root: Path) -> str:
    for file in (root / "labels").rglob("*.png"):
        file.write_bytes(png(np.zeros((12, 10), np.uint8)))
    return "labels/strong/a.png"


@kind("a value that is neither class nor ignore")
def _(root: Path) -> str:
    said(root, "ignore = 255\n[classes]\nbackground = 0\ncell = 1\n")
    return put(root, "labels/strong/c.png", png(box(value=3)))


@kind("several values that no class has")
def _(root: Path) -> str:
    said(root, "[classes]\nbackground = 0\ncell = 1\n")
    return put(root, "labels/strong/c.png", png(grey(0) % 9))


@kind("label that is all ignore")
def _(root: Path) -> str:
    said(root, "ignore = 255\n[classes]\nbackground = 0\ncell = 1\n")
    return put(root, "labels/strong/c.png", png(np.full((12, 10), 255, np.uint8)))


@kind("negative value in an instance label", arrays)
def _(root: Path) -> str:
    said(root, "instances = true\n")
    np.save(root / "labels/strong/c.npy", box().astype(np.int32) - 1)
    return "labels/strong/c.npy"


@kind("label of fractions", arrays)
def _(root: Path) -> str:
    np.save(root / "labels/strong/c.npy", box() * 0.5)
    return "labels/strong/c.npy"


@kind("label with NaN", arrays)
def _(root: Path) -> str:
    label = box().astype(np.float32)
    label[3, 3] = np.nan
    np.save(root / "labels/strong/c.npy", label)
    return "labels/strong/c.npy"


# --- TIFF ----------------------------------------------------------------------------------------


def tiff(root: Path, file: str, array: np.ndarray, **how: object) -> str:
    (root / file).with_suffix(".png").unlink(missing_ok=True)
    tifffile.imwrite(root / file, array, **how)
    return file


@kind("truncated TIFF")
def _(root: Path) -> str:
    tiff(root, "images/c.tif", grey(0, (12, 10)))
    return put(root, "images/c.tif", (root / "images/c.tif").read_bytes()[:-50])


@kind("TIFF with pages among single pictures")
def _(root: Path) -> str:
    return tiff(root, "images/c.tif", grey(0, (5, 12, 10)), photometric="minisblack")


@kind("TIFF with pages of different size")
def _(root: Path) -> str:
    tiff(root, "images/c.tif", grey(0), metadata=None)
    tifffile.imwrite(root / "images/c.tif", grey(1, (6, 6)), append=True, metadata=None)
    return "images/c.tif"


@kind("CMYK TIFF")
def _(root: Path) -> str:
    return tiff(root, "images/c.tif", grey(0, (12, 10, 4)), photometric="separated")


@kind("TIFF with a palette as image")
def _(root: Path) -> str:
    colours = np.zeros((3, 256), np.uint16)
    return tiff(root, "images/c.tif", grey(0), photometric="palette", colormap=colours)


@kind("TIFF with orientation 3")
def _(root: Path) -> str:
    return tiff(root, "images/c.tif", grey(0), extratags=[(274, "H", 1, 3, True)])


@kind("TIFF label with JPEG compression")
def _(root: Path) -> str:
    pytest.importorskip("imagecodecs")
    return tiff(root, "labels/strong/c.tif", box((16, 16)), compression="jpeg")


@kind("TIFF image with NaN")
def _(root: Path) -> str:
    image = grey(0).astype(np.float32)
    image[2, 4] = np.nan
    return tiff(root, "images/c.tif", image)


# --- volumes and arrays --------------------------------------------------------------------------


@kind("NIfTI label in another place than its image", volumes)
def _(root: Path) -> str:
    affine = np.eye(4)
    affine[0, 3] = 2.5
    nifti(root / "labels/strong/c.nii.gz", box((7, 8, 9)), affine)
    return "labels/strong/c.nii.gz"


@kind("truncated .nii.gz", volumes)
def _(root: Path) -> str:
    whole = (root / "images/c.nii.gz").read_bytes()
    return put(root, "images/c.nii.gz", whole[:-20])


@kind("NIfTI with a wrong checksum", volumes)
def _(root: Path) -> str:
    whole = bytearray((root / "images/c.nii.gz").read_bytes())
    whole[-6] ^= 1
    return put(root, "images/c.nii.gz", bytes(whole))


@kind("NIfTI of colours", volumes)
def _(root: Path) -> str:
    colours = np.zeros((7, 8, 9), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nifti(root / "images/c.nii.gz", colours)
    return "images/c.nii.gz"


@kind("NIfTI of complex numbers", volumes)
def _(root: Path) -> str:
    nifti(root / "images/c.nii.gz", np.zeros((7, 8, 9), np.complex64))
    return "images/c.nii.gz"


@kind("NIfTI label whose scaling makes fractions", volumes)
def _(root: Path) -> str:
    image = nibabel.Nifti1Image(box((7, 8, 9)), np.eye(4))
    image.header.set_slope_inter(0.3, 0.1)
    nibabel.save(image, root / "labels/strong/c.nii.gz")
    return "labels/strong/c.nii.gz"


@kind("gzip bomb under the name of a volume", volumes)
def _(root: Path) -> str:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30))
    header.set_data_dtype(np.uint8)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return put(root, "images/c.nii.gz", gzip.compress(header.binaryblock + bytes(10**6)))


@kind("NIfTI that is not gzipped under a gzip name", volumes)
def _(root: Path) -> str:
    whole = gzip.decompress((root / "images/c.nii.gz").read_bytes())
    return put(root, "images/c.nii.gz", whole)


@kind(".npy of Python objects", arrays)
def _(root: Path) -> str:
    np.save(root / "images/c.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    return "images/c.npy"


@kind(".npy of complex numbers", arrays)
def _(root: Path) -> str:
    np.save(root / "images/c.npy", np.zeros((3, 12, 10), complex))
    return "images/c.npy"


@kind("truncated .npy", arrays)
def _(root: Path) -> str:
    return put(root, "images/c.npy", (root / "images/c.npy").read_bytes()[:-8])


@kind(".npy without any position", arrays)
def _(root: Path) -> str:
    np.save(root / "images/c.npy", np.zeros((3, 0, 10)))
    return "images/c.npy"


@kind("image with infinity", arrays)
def _(root: Path) -> str:
    image = np.zeros((3, 12, 10))
    image[1, 2, 3] = np.inf
    np.save(root / "images/c.npy", image)
    return "images/c.npy"


@kind("image with another number of channels", arrays)
def _(root: Path) -> str:
    np.save(root / "images/c.npy", np.zeros((4, 12, 10)))
    return "images/c.npy"


@kind("array whose channel axis is last among others", arrays)
def _(root: Path) -> str:
    np.save(root / "images/c.npy", np.zeros((12, 10, 3)))
    return "images/c.npy"


@kind("arrays whose channel axis nobody can tell", arrays)
def _(root: Path) -> str:
    for stem in "abc":
        np.save(root / f"images/{stem}.npy", np.zeros((5, 5, 5)))
        np.save(root / f"labels/strong/{stem}.npy", box((5, 5)))
    return "images/a.npy"


@kind("image with too many axes", arrays)
def _(root: Path) -> str:
    np.save(root / "images/c.npy", np.zeros((2, 3, 12, 10)))
    return "images/c.npy"


@kind(".npz with several arrays", arrays)
def _(root: Path) -> str:
    (root / "images/c.npy").unlink()
    np.savez(root / "images/c.npz", left=np.zeros((3, 12, 10)), right=np.zeros(3))
    return "images/c.npz"


@kind("zip that holds no array", arrays)
def _(root: Path) -> str:
    (root / "images/c.npy").unlink()
    with zipfile.ZipFile(root / "images/c.npz", "w") as archive:
        archive.writestr("image.npy", b"not an array")
    return "images/c.npz"


# --- recordings and spectra ----------------------------------------------------------------------


@kind("truncated WAV", songs)
def _(root: Path) -> str:
    return put(root, "images/c.wav", (root / "images/c.wav").read_bytes()[:-100])


@kind("WAV without a sample", songs)
def _(root: Path) -> str:
    with wave.open(str(root / "images/c.wav"), "wb") as sound:
        sound.setparams((1, 2, 1000, 0, "NONE", ""))
    return "images/c.wav"


@kind("WAV in a lossy encoding", songs)
def _(root: Path) -> str:
    soundfile.write(root / "images/c.wav", np.zeros(1000), 1000, subtype="ULAW")
    return "images/c.wav"


@kind("stereo among mono", songs)
def _(root: Path) -> str:
    soundfile.write(root / "images/c.wav", np.zeros((1000, 2)), 1000)
    return "images/c.wav"


@kind("mono among stereo", songs)
def _(root: Path) -> str:
    for stem in STEMS:
        soundfile.write(root / f"images/{stem}.wav", np.zeros((1000, 2)), 1000)
    soundfile.write(root / "images/c.wav", np.zeros(1000), 1000)
    return "images/c.wav"


@kind("truncated FLAC", songs)
def _(root: Path) -> str:
    (root / "images/c.wav").unlink()
    noise = np.random.default_rng(0).integers(-9999, 9999, 20000).astype(np.int16)
    soundfile.write(root / "images/c.flac", noise, 1000)
    return put(root, "images/c.flac", (root / "images/c.flac").read_bytes()[:-15000])


@kind("event beyond the end of the recording", songs)
def _(root: Path) -> str:
    return events(root, "c", "0.9,1.3,song")


@kind("event that ends before it begins", songs)
def _(root: Path) -> str:
    return events(root, "c", "0.5,0.4,song")


@kind("overlapping events", songs)
def _(root: Path) -> str:
    return events(root, "c", "0.1,0.5,song", "0.4,0.6,call")


@kind("event of an unknown class", songs)
def _(root: Path) -> str:
    said(root, "[classes]\nbackground = 0\nsong = 1\ncall = 2\n")
    return events(root, "c", "0.1,0.5,sing")


@kind("events without the needed columns", songs)
def _(root: Path) -> str:
    return events(root, "c", "0.1,song", header="onset_s,label")


@kind("misspelt column of events", songs)
def _(root: Path) -> str:
    return events(root, "c", "0.1,0.2,song", header="onset,offset_s,label")


@kind("event whose onset is no number", songs)
def _(root: Path) -> str:
    return events(root, "c", "0.1,0.2,song", "soon,0.5,song")


@kind("word in a spectrum", spectra)
def _(root: Path) -> str:
    return put(root, "images/c.csv", b"wavelength,intensity\n400,1\n401,high\n402,3\n")


@kind("spectrum with a row too short", spectra)
def _(root: Path) -> str:
    return put(root, "images/c.csv", b"wavelength,intensity\n400,1\n401\n402,3\n")


@kind("spectrum with two columns and no header", spectra)
def _(root: Path) -> str:
    return put(root, "images/c.csv", b"400,1\n401,2\n")


@kind("spectrum whose positions turn back", spectra)
def _(root: Path) -> str:
    return put(root, "images/c.csv", b"wavelength,intensity\n400,1\n402,2\n401,3\n")


@kind("column that may hold times, and nobody says so", spectra)
def _(root: Path) -> str:
    rows = "".join(f"{n},{n % 3}\n" for n in range(20))
    return put(root, "images/c.csv", ("t,intensity\n" + rows).encode())


@kind("events for something without a sampling rate", spectra)
def _(root: Path) -> str:
    (root / "labels/strong/c.npy").unlink()
    (root / "images/c.csv").write_text("intensity\n" + "1\n" * 20)
    said(root, "[classes]\nbackground = 0\npeak = 1\n")
    return events(root, "c", "1,2,peak")


# --- folders and names ---------------------------------------------------------------------------


@kind("no images at all")
def _(root: Path) -> str:
    for file in (root / "images").iterdir():
        file.unlink()
    (root / "images").rmdir()
    return root.name


@kind("no labels at all")
def _(root: Path) -> str:
    for file in list((root / "labels").rglob("*.png")):
        file.unlink()
    return root.name


@kind("label without an image")
def _(root: Path) -> str:
    return put(root, "labels/strong/aa.png", png(box()))


@kind("two images of one stem")
def _(root: Path) -> str:
    tifffile.imwrite(root / "images/c.tif", grey(0))
    return "images/c.tif"


@kind("two labels of one stem")
def _(root: Path) -> str:
    tifffile.imwrite(root / "labels/strong/c.tif", box())
    return "labels/strong/c.tif"


@kind("stems that differ only in case")
def _(root: Path) -> str:
    move(root, "labels/strong/c.png", "labels/strong/C.png")
    return "labels/strong/C.png"


@kind("stems that differ only in unicode form")
def _(root: Path) -> str:
    move(root, "images/c.png", f"images/{unicodedata.normalize('NFC', 'é')}.png")
    name = f"labels/strong/{unicodedata.normalize('NFD', 'é')}.png"
    return move(root, "labels/strong/c.png", name)


@kind("name that is not valid UTF-8")
def _(root: Path) -> str:
    name = os.fsencode(root / "images") + b"/g\xff.png"
    with open(name, "wb") as file:  # noqa: PTH123 - a Path cannot say these bytes plainly
        file.write(png(grey(0)))
    return "images/g\\udcff.png"


@kind("label that is neither strong nor weak")
def _(root: Path) -> str:
    return move(root, "labels/strong/c.png", "labels/c.png")


@kind("misspelt folder of labels")
def _(root: Path) -> str:
    (root / "labels/stong").mkdir()
    return "labels/stong"


@kind("folder among the images")
def _(root: Path) -> str:
    (root / "images/more").mkdir()
    return "images/more"


@kind("folder under the name of an image")
def _(root: Path) -> str:
    (root / "images/c.png").unlink()
    (root / "images/c.png").mkdir()
    return "images/c.png"


@kind("link to an image outside the data folder")
def _(root: Path) -> str:
    (root / "images/c.png").rename(root.parent / "outside.png")
    (root / "images/c.png").symlink_to(root.parent / "outside.png")
    return "images/c.png"


@kind("link to nothing")
def _(root: Path) -> str:
    (root / "images/c.png").unlink()
    (root / "images/c.png").symlink_to(root / "images/gone.png")
    return "images/c.png"


@kind("named pipe among the images")
def _(root: Path) -> str:
    os.mkfifo(root / "images/g.png")
    return "images/g.png"


# --- manifest, data.toml, splits.csv -------------------------------------------------------------


def with_row(root: Path, row: str) -> str:
    with (root / "manifest.csv").open("a") as file:
        file.write(row + "\n")
    return "manifest.csv"


@kind("manifest without a needed column", manifest)
def _(root: Path) -> str:
    return put(root, "manifest.csv", b"image,quality\nimages/a.png,strong\n")


@kind("manifest with a misspelt column", manifest)
def _(root: Path) -> str:
    return put(root, "manifest.csv", b"image,label,qualty\nimages/a.png,labels/strong/a.png,x\n")


@kind("manifest with an unknown quality", manifest)
def _(root: Path) -> str:
    return with_row(root, "images/a.png,labels/weak/ann/e.png,stronk,,a")


@kind("manifest with an unknown split", manifest)
def _(root: Path) -> str:
    return with_row(root, "images/a.png,labels/weak/ann/e.png,weak,trian,a")


@kind("manifest that names a missing image", manifest)
def _(root: Path) -> str:
    return with_row(root, "images/z.png,labels/weak/ann/e.png,weak,,a")


@kind("manifest that names a label twice", manifest)
def _(root: Path) -> str:
    return with_row(root, "images/a.png,labels/strong/b.png,weak,,a")


@kind("manifest path with ..", manifest)
def _(root: Path) -> str:
    return with_row(root, "../a.png,labels/weak/ann/e.png,weak,,a")


@kind("manifest with an absolute path", manifest)
def _(root: Path) -> str:
    return with_row(root, "/etc/hostname,labels/weak/ann/e.png,weak,,a")


@kind("manifest row with too many cells", manifest)
def _(root: Path) -> str:
    return with_row(root, "images/a.png,labels/weak/ann/e.png,weak,,a,b")


@kind("manifest that is not UTF-8", manifest)
def _(root: Path) -> str:
    return put(root, "manifest.csv", "image,label\nimages/ü.png,x\n".encode("latin-1"))


@kind("one group in two splits", manifest)
def _(root: Path) -> str:
    text = (root / "manifest.csv").read_text()
    text = text.replace("strong,,a\n", "strong,train,p\n").replace("strong,,b\n", "strong,test,p\n")
    return put(root, "manifest.csv", text.encode())


@kind("one image in two groups", manifest)
def _(root: Path) -> str:
    put(root, "labels/weak/ann/a.png", png(box()))
    with_row(root, "images/a.png,labels/weak/ann/a.png,weak,,other")
    return "labels/weak/ann/a.png"


@kind("data.toml that is not TOML")
def _(root: Path) -> str:
    return said(root, "classes = {background: 0}\n")


@kind("misspelt key in data.toml")
def _(root: Path) -> str:
    return said(root, "ingore = 255\n")


@kind("unknown task in data.toml")
def _(root: Path) -> str:
    return said(root, "task = 'segmentatoin'\n")


@kind("two classes with one value in data.toml")
def _(root: Path) -> str:
    return said(root, "[classes]\nbackground = 0\na = 1\nb = 1\n")


@kind("ignore value that is also a class")
def _(root: Path) -> str:
    return said(root, "ignore = 1\n[classes]\nbackground = 0\na = 1\n")


@kind("spacing for another number of axes")
def _(root: Path) -> str:
    return said(root, "spacing = [1.0, 1.0, 2.0]\n")


@kind("group pattern without brackets")
def _(root: Path) -> str:
    return said(root, "group = '^[a-z]'\n")


@kind("image that the group pattern does not fit")
def _(root: Path) -> str:
    said(root, "group = '^([abdef])'\n")
    return "images/c.png"


@kind("splits.csv with an unknown split")
def _(root: Path) -> str:
    return put(root, "splits.csv", b"group,split\na,trian\n")


@kind("splits.csv that contradicts itself")
def _(root: Path) -> str:
    return put(root, "splits.csv", b"group,split\na,train\na,val\n")


@kind("splits.csv that contradicts the manifest", manifest)
def _(root: Path) -> str:
    text = (root / "manifest.csv").read_text().replace("strong,,a\n", "strong,test,a\n")
    put(root, "manifest.csv", text.encode())
    return put(root, "splits.csv", b"group,split\na,train\n")


# --- the tests -----------------------------------------------------------------------------------


def _names() -> list[str]:
    return [each.title for each in KINDS]


def test_every_good_set_has_no_problem(tmp_path: Path) -> None:
    bases = {each.base.__name__: each.base for each in KINDS}
    for name, base in bases.items():
        base(tmp_path / name)
        seen = inspect(tmp_path / name)
        assert seen.problems == () and seen.dataset is not None, name


@pytest.mark.parametrize("each", KINDS, ids=_names())
def test_one_clear_problem_names_the_file(each: Kind, tmp_path: Path) -> None:
    root = tmp_path / "data"
    each.base(root)
    file = each.spoil(root)
    seen = inspect(root)
    assert [problem.file for problem in seen.problems] == [file], seen.problems
    message = seen.problems[0].message
    assert "\n" not in message and str(tmp_path) not in message and " at 0x" not in message
    assert 20 < len(message) < 400
    with pytest.raises(DataError) as refused:
        open_data(root)
    assert message in str(refused.value) and str(refused.value).count(file) >= 1
    _rows()[each.title] = (file, message)


_ROWS: dict[str, tuple[str, str]] = {}


def _rows() -> dict[str, tuple[str, str]]:
    return _ROWS


def test_titles_are_many_and_differ() -> None:
    assert len(set(_names())) == len(KINDS) >= 60


def test_table_is_what_is_printed(tmp_path: Path) -> None:
    for number, each in enumerate(KINDS):
        if each.title in _rows():
            continue
        root = tmp_path / str(number) / "data"
        each.base(root)
        each.spoil(root)
        problem = inspect(root).problems[0]
        _rows()[each.title] = (problem.file, problem.message)
    text = _table()
    if os.environ.get("LABELMEND_UPDATE_DOCS") == "1":
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text(text, encoding="utf-8")
    hint = "make the table anew: LABELMEND_UPDATE_DOCS=1 pytest tests/system/test_bad_input.py"
    assert TABLE.read_text(encoding="utf-8") == text, hint


def _table() -> str:
    lines = [
        "# What bad input prints",
        "",
        "Made by `tests/system/test_bad_input.py`, which spoils a good data set in one place and",
        f"looks at what `labelmend check` finds: always one problem. {len(KINDS)} kinds.",
        "",
        "| what is wrong | file | what is said |",
        "|---|---|---|",
    ]
    for each in KINDS:
        file, message = (text.replace("|", "\\|") for text in _rows()[each.title])
        lines.append(f"| {each.title} | `{unicodedata.normalize('NFC', file)}` | {message} |")
    return "\n".join(lines) + "\n"
