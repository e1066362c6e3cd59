"""Write labels with the values, number type and geometry of the family they belong to."""

from __future__ import annotations

import gzip
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from labelmend.errors import DataError
from labelmend.files.formats import kind_of, naming, split_name
from labelmend.files.values import to_values
from labelmend.files.volumes import MILLIMETRES
from labelmend.labels.events import find_events
from labelmend.runs import write_atomically
from labelmend.types import DataSpec, Georeference, Raster


def write_label(path: Path, label_indices: np.ndarray, spec: DataSpec, like: Raster) -> None:
    """Write a label with the data set's own values, in one step, never half of it.

    Args:
        path: the file to make or replace; its suffix says the format. Folders are made.
        label_indices: ``(*space)`` class indices, or ``(channels, *space)`` for regression.
        spec: says which value stands for which class.
        like: the image it belongs to; its affine, spacing and place on the map are kept where the
            format can.

    A trap: in a ``.csv`` touching events of one class become one.

    Raises:
        DataError: when size, values or format do not fit; StorageError: when the disk refuses.
    """
    with naming(path):
        data = _encoded(path.name, label_indices, spec, like)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def _encoded(name: str, indices: np.ndarray, spec: DataSpec, like: Raster) -> bytes:
    array = indices if spec.task == "regression" else to_values(indices, spec)
    size = array.shape[1:] if spec.task == "regression" else array.shape
    if size != like.array.shape[1:]:
        raise DataError(f"a label of size {size} is not one for {like.array.shape[1:]}")
    kind, suffix, array = kind_of(name), split_name(name)[1], narrow(array, spec)
    if kind == "CSV":
        return _event_list(indices, spec, like)
    if kind == "PNG":
        return _png(array)
    if kind == "TIFF":
        return _tiff(array, spec, like, ome=suffix.startswith(".ome"))
    if kind == "npy":
        return _npy(array, spec)
    if kind in ("NIfTI", "gzip"):
        data = _nifti(array, spec, like)
        return gzip.compress(data, mtime=0) if kind == "gzip" else data
    raise DataError(
        f"labels are not written as {suffix}; choose .png, .tif, .nii.gz, .npy or .csv (events)"
    )


def narrow(array: np.ndarray, spec: DataSpec) -> np.ndarray:
    """The smallest number type that holds every value that the data set can have."""
    if spec.task == "regression":
        return array.astype(np.float32)
    low, high = min(spec.values), max(spec.values)
    kinds = (np.uint8, np.uint16, np.int16, np.int32, np.int64)
    fits = next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    return array.astype(fits)


def _png(array: np.ndarray) -> bytes:
    from PIL import Image

    if array.ndim != 2 or array.dtype not in (np.uint8, np.uint16):
        raise DataError(
            "a PNG holds two axes of whole numbers from 0 to 65535; choose .tif, .nii.gz or .npy"
        )
    stream = BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def _tiff(array: np.ndarray, spec: DataSpec, like: Raster, *, ome: bool) -> bytes:
    import tifffile

    dims = like.array.ndim - 1
    if dims == 1:
        raise DataError("a TIFF holds two or three axes; choose .npy or .csv")
    axes = "ZYX"[-dims:]
    if spec.task == "regression":
        axes, array = ("C" + axes, array) if array.shape[0] > 1 else (axes, array[0])
    resolution, unit = None, None
    if like.spacing is not None:
        resolution, unit = tuple(10.0 / step for step in like.spacing[:-3:-1]), "CENTIMETER"
    about: dict[str, Any] = {"axes": axes}
    if ome and like.spacing is not None:
        for axis, step in zip("XYZ", like.spacing[::-1], strict=False):
            about |= {f"PhysicalSize{axis}": step, f"PhysicalSize{axis}Unit": "mm"}
    stream = BytesIO()
    tifffile.imwrite(
        stream,
        array,
        ome=ome,
        metadata=about,
        photometric="minisblack",
        compression="zlib",
        resolution=resolution,
        resolutionunit=unit,
        extratags=extra_tags(like.georeference),
    )
    return stream.getvalue()


def extra_tags(georeference: Georeference) -> list[tuple[Any, ...]]:
    """A place on the map as tifffile writes it: on the first page alone."""
    return [(*tag, True) for tag in georeference]


def _nifti(array: np.ndarray, spec: DataSpec, like: Raster) -> bytes:
    import nibabel

    if spec.task == "regression":
        array = np.moveaxis(array, 0, -1) if array.shape[0] > 1 else array[0]
    affine = like.affine
    if affine is None:
        steps = (*(like.spacing or ()), 1.0, 1.0, 1.0)[:3]
        affine = np.diag([*steps, 1.0])
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units(unit_of(affine, like.spacing))
    return bytes(image.to_bytes())


def unit_of(affine: np.ndarray, spacing: tuple[float, ...] | None) -> str:
    """The unit of an affine whose spacing in millimetres is known, as NIfTI calls it."""
    if spacing is None:
        return "unknown"
    steps = np.linalg.norm(affine[:3, :3], axis=0)[: len(spacing)]
    named = (u for u, mm in MILLIMETRES.items() if np.allclose(steps * mm, spacing, rtol=0.01))
    return next(named, "unknown")


def _npy(array: np.ndarray, spec: DataSpec) -> bytes:
    if spec.task == "regression" and spec.channel_axis == "none" and array.shape[0] == 1:
        array = array[0]
    elif spec.task == "regression" and spec.channel_axis == "last":
        array = np.moveaxis(array, 0, -1)
    stream = BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def _event_list(indices: np.ndarray, spec: DataSpec, like: Raster) -> bytes:
    spacing = spec.spacing or like.spacing
    if spec.task == "regression" or indices.ndim != 1 or spacing is None:
        raise DataError("a .csv holds the events of one recording; choose .npy")
    lines = ["onset_s,offset_s,label"]
    for event in find_events(indices, spec.classes, spacing[0]):
        name = event.name if not set(event.name) & set(',"\n\r') else _quoted(event.name)
        lines.append(f"{event.onset!r},{event.offset!r},{name}")
    return ("\n".join(lines) + "\n").encode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
