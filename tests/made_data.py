"""Tiny data sets of every kind of file, made in milliseconds: a bright thing in noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import soundfile
import tifffile
from PIL import Image

STRONG = 6
"""Images with a strong label; every kind has as many, and weak labels for all images."""
IMAGES = 8

AFFINE = np.array(
    [[0.0, -1.5, 0.0, 7.0], [1.5, 0.0, 0.0, -3.0], [0.0, 0.0, 2.5, 11.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Turned, moved, and with slices further apart than rows: nothing that could come by chance."""

RATE = 400
"""Samples per second of the recordings."""


def thing(number: int, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture (or volume, or signal) of a box, and where the box is: float64, bool."""
    rng = np.random.default_rng(number)
    place = np.zeros(size, bool)
    place[tuple(slice(a, a + n // 2) for n in size for a in [rng.integers(0, n // 2)])] = True
    return place + rng.normal(0, 0.2, size), place


def moved(label: np.ndarray, by: int) -> np.ndarray:
    """The label, displaced along its first axis: what a hasty annotator would have drawn."""
    return np.roll(label, by, 0)


def folders(root: Path, *annotators: str) -> Path:
    """The folders of a data set."""
    for name in ("images", "labels/strong", *(f"labels/weak/{who}" for who in annotators)):
        (root / name).mkdir(parents=True)
    return root


def gray(root: Path) -> Path:
    """Grey PNG images, labels of 0 and 255, two annotators, no manifest."""
    folders(root, "ann", "bob")
    for i in range(IMAGES):
        image, place = thing(i, (20, 24))
        label = place * np.uint8(255)
        Image.fromarray(_bytes(image)).save(root / f"images/s{i}.png")
        if i < STRONG:
            Image.fromarray(label).save(root / f"labels/strong/s{i}.png")
        for by, who in ((2, "ann"), (3, "bob")):
            Image.fromarray(moved(label, by)).save(root / f"labels/weak/{who}/s{i}.png")
    return root


def colour(root: Path) -> Path:
    """RGB PNG images in a folder of their own, a manifest with all three splits."""
    folders(root, "ann")
    rows = ["image,label,quality,split,group,annotator"]
    splits = ("train", "train", "train", "train", "val", "test")
    for i in range(IMAGES):
        image, place = thing(i, (20, 24))
        label = place * np.uint8(255)
        grey = _bytes(image)
        Image.fromarray(np.stack([grey, 255 - grey, grey // 2], -1)).save(root / f"images/s{i}.png")
        Image.fromarray(moved(label, 2)).save(root / f"labels/weak/ann/w{i}.png")
        if i < STRONG:
            Image.fromarray(label).save(root / f"labels/strong/t{i}.png")
            rows.append(f"images/s{i}.png,labels/strong/t{i}.png,strong,{splits[i]},g{i},")
        split = splits[i] if i < STRONG else "train"
        rows.append(f"images/s{i}.png,labels/weak/ann/w{i}.png,weak,{split},g{i},ann")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def volume(root: Path) -> Path:
    """NIfTI volumes with an affine of their own."""
    folders(root, "ann")
    for i in range(IMAGES):
        image, place = thing(i, (9, 10, 7))
        _nifti(root / f"images/v{i}.nii.gz", image.astype(np.float32))
        if i < STRONG:
            _nifti(root / f"labels/strong/v{i}.nii.gz", place.astype(np.uint8))
        _nifti(root / f"labels/weak/ann/v{i}.nii.gz", moved(place, 1).astype(np.uint8))
    return root


def recording(root: Path) -> Path:
    """WAV recordings of a tone that comes and goes, and lists of events."""
    folders(root, "ann")
    (root / "data.toml").write_text("[classes]\nsilence = 0\ntone = 1\n")
    time = np.arange(RATE) / RATE
    for i in range(IMAGES):
        rng = np.random.default_rng(i)
        onset = 0.1 + 0.4 * rng.random()
        sounding = (time >= onset) & (time < onset + 0.3)
        sound = 0.4 * np.sin(2 * np.pi * 90 * time) * sounding + rng.normal(0, 0.02, RATE)
        soundfile.write(root / f"images/r{i}.wav", sound, RATE, subtype="PCM_16")
        if i < STRONG:
            _events(root / f"labels/strong/r{i}.csv", onset)
        _events(root / f"labels/weak/ann/r{i}.csv", onset + 0.05)
    return root


def signal(root: Path) -> Path:
    """Signals of three channels, last, in ``.npy`` files, with a value that means unknown."""
    folders(root, "ann")
    (root / "data.toml").write_text(
        "dims = 1\nignore = 9\nspacing = [0.02]\n[classes]\nrest = 0\nbeat = 1\npause = 2\n"
    )
    for i in range(IMAGES):
        image, place = thing(i, (60,))
        label = place.astype(np.uint8)
        label[-8:] = 2
        label[:3] = 9
        np.save(root / f"images/e{i}.npy", np.stack([image, -image, image * image], -1))
        if i < STRONG:
            np.save(root / f"labels/strong/e{i}.npy", label)
        np.save(root / f"labels/weak/ann/e{i}.npy", moved(label, 2))
    return root


def sixteen(root: Path) -> Path:
    """16-bit TIFF images, labels of 0, 300 and 40000."""
    folders(root, "ann")
    (root / "data.toml").write_text("[classes]\nnone = 0\nrim = 300\ncore = 40000\n")
    for i in range(IMAGES):
        image, place = thing(i, (20, 24))
        label = place * np.uint16(300)
        label[place & moved(place, 4)] = 40000
        tifffile.imwrite(root / f"images/t{i}.tif", (20000 + 9000 * image).astype(np.uint16))
        if i < STRONG:
            tifffile.imwrite(root / f"labels/strong/t{i}.tif", label)
        tifffile.imwrite(root / f"labels/weak/ann/t{i}.tif", moved(label, 2))
    return root


def continuous(root: Path) -> Path:
    """Regression: PNG images, TIFF labels of real numbers."""
    folders(root, "ann")
    (root / "data.toml").write_text('task = "regression"\nclasses = ["height"]\n')
    for i in range(IMAGES):
        image, place = thing(i, (20, 24))
        label = (place * 2.5 - 1).astype(np.float32)
        Image.fromarray(_bytes(image)).save(root / f"images/d{i}.png")
        if i < STRONG:
            tifffile.imwrite(root / f"labels/strong/d{i}.tif", label)
        tifffile.imwrite(root / f"labels/weak/ann/d{i}.tif", moved(label, 2))
    return root


KINDS: dict[str, Callable[[Path], Path]] = {
    each.__name__: each for each in (gray, colour, volume, recording, signal, sixteen, continuous)
}

TINY = ("device=cpu", "network.width=4", "network.depth=2", "batch.size=4", "weighting.start=1")
"""Settings for three steps that have every part of a training in them."""

OWN: dict[str, tuple[str, ...]] = {
    "recording": ("input.spectrogram=true", "input.window=32", "input.hop=8"),
    "continuous": ("loss=l2",),
}
"""What a kind of data needs to be told."""


def settings_of(kind: str) -> list[str]:
    """The options of ``train`` that suit a kind of data."""
    often = ("weighting.every=1", "weighting.overhead=10", "weighting.strong_samples=2")
    chosen = (*TINY, *often, *OWN.get(kind, ()))
    return [word for each in chosen for word in ("--set", each)]


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(80 + 90 * image, 0, 255).astype(np.uint8)


def _nifti(path: Path, array: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


def _events(path: Path, onset: float) -> None:
    path.write_text(f"onset_s,offset_s,label\n{onset:.4f},{onset + 0.3:.4f},tone\n")
