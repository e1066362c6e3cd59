"""Hippocampus MRI (Medical Segmentation Decathlon 04), 3-D: weak labels made from the true ones.

``python benchmarks/prepare_hippocampus.py SOURCE OUT``. A weak label is rough in one of two ways,
drawn per volume: each class becomes the ellipsoid of its own second moments, or is dilated or
eroded by one or two voxels; then all of it is shifted by a normal deviate (``--shift`` voxels per
axis). A share (``--gross``) is plainly wrong: shifted by 5 to 9 voxels, or one class left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from data_folder import DataFolder, dice, divide, fail, generator, options

SPEC = {
    "task": "segmentation",
    "dims": 3,
    "suffix": ".nii.gz",
    "classes": {"background": 0, "anterior": 1, "posterior": 2},
}
Array = np.ndarray


def as_ellipsoid(mask: Array) -> Array:
    """The solid ellipsoid with the same centre and second moments as a mask."""
    points = np.argwhere(mask).astype(float)
    if len(points) < mask.ndim + 2:
        return mask
    spread = np.cov(points, rowvar=False) + 0.1 * np.eye(mask.ndim)
    offset = np.stack(np.indices(mask.shape), axis=-1) - points.mean(axis=0)
    # A solid ellipsoid of half-axes a has the covariance a^2 / (dims + 2).
    distance = np.einsum("...i,ij,...j->...", offset, np.linalg.inv(spread), offset)
    return distance <= mask.ndim + 2


def regrown(mask: Array, steps: int) -> Array:
    """A mask dilated by so many voxels, or eroded by as many below zero."""
    if steps < 0:
        smaller = ndimage.binary_erosion(mask, iterations=-steps)
        return smaller if smaller.any() else mask
    return ndimage.binary_dilation(mask, iterations=steps)


def moved(label: Array, shift: Array) -> Array:
    """A label shifted by whole voxels; what comes in from outside is background."""
    return ndimage.shift(label, np.rint(shift), order=0, mode="constant", cval=0)


def _roughen(truth: Array, random: np.random.Generator, deviation: float) -> Array:
    steps = int(random.choice([-1, 1, 2]))
    change: Callable[[Array], Array] = (
        as_ellipsoid if random.random() < 0.5 else lambda mask: regrown(mask, steps)
    )
    rough = np.zeros_like(truth)
    for value in (1, 2):
        if (truth == value).any():
            rough[change(truth == value)] = value
    return moved(rough, random.normal(0, deviation, truth.ndim))


def _spoil(label: Array, random: np.random.Generator) -> Array:
    if random.random() < 0.5:
        direction = random.normal(size=label.ndim)
        return moved(label, direction / np.linalg.norm(direction) * random.uniform(5, 9))
    return np.where(label == random.integers(1, 3), 0, label).astype(label.dtype)


def _read(path: Path) -> tuple[Array, nib.Nifti1Image]:
    volume = nib.load(path)
    values = np.asarray(volume.dataobj)
    label = values.astype(np.uint8)
    if not np.array_equal(label, values) or label.max() > 2:
        fail(f"{path} holds values that are no classes")
    return label, volume


def _write(label: Array, like: nib.Nifti1Image, path: Path) -> None:
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    nib.save(nib.Nifti1Image(label, like.affine, header), path)


def main() -> None:
    parser = options(__doc__.splitlines()[0], strong=0.1, val=0.25)
    parser.add_argument("--shift", type=float, default=0.7, help="deviation per axis, in voxels")
    parser.add_argument("--gross", type=float, default=0.25, help="share of gross errors")
    given = parser.parse_args()
    paths = {p.name.split(".")[0]: p for p in sorted((given.source / "images").glob("*.nii.gz"))}
    if not paths:
        fail(f"no .nii.gz volumes in {given.source / 'images'}")
    folder = DataFolder(given.out)
    parts = divide(dict.fromkeys(paths, ""), given)
    for name in sorted(parts):
        image = folder.copy(paths[name], f"images/{name}.nii.gz")
        truth, volume = _read(given.source / "labels" / f"{name}.nii.gz")
        quality = "weak" if parts[name] == "weak" else "strong"
        label = f"labels/{quality}/{name}.nii.gz"
        folder.add(image, label, parts[name], name)
        if quality == "strong":
            _write(truth, volume, folder.place(label))
            continue
        random = generator(given.seed, name)
        gross = bool(random.random() < given.gross)
        weak = _roughen(truth, random, given.shift)
        weak = _spoil(weak, random) if gross else weak
        _write(weak, volume, folder.place(label))
        _write(truth, volume, folder.place(f"truth/{name}.nii.gz"))
        folder.note_truth(label, f"truth/{name}.nii.gz", dice(weak, truth), gross)
    folder.finish(SPEC)


if __name__ == "__main__":
    main()
