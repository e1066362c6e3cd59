"""Decode NIfTI volumes and numpy arrays; nothing in a file is ever run."""

from __future__ import annotations

import mmap
import os
import struct
import threading
import zipfile
from gzip import GzipFile
from io import BytesIO
from math import isfinite, prod
from typing import Any

import numpy as np

from labelmend.errors import DataError
from labelmend.files.formats import Content, Raw, check_decoded, damaged

MILLIMETRES = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}
"""What one unit of a NIfTI file's affine and spacing is."""
_EDGE = 1 << 16

_parsing = threading.Lock()
"""One header at a time: numpy parses it by the interpreter's ``ast``, whose count of nested nodes
is shared by all threads in Python 3.11; where a finaliser runs in between, another
thread's parse ends in a SystemError, and a good file would be called damaged."""


def decode_nifti(content: Content, limit: int, *, zipped: bool) -> Raw:
    """The values of a NIfTI file: ``(x, y, z)``, further values on a last axis.

    Slope and intercept are applied where the header has them. Spacing is in millimetres.
    A trap: trailing axes of length 1 beyond the third are dropped.
    """
    header, size = _header(_gunzipped(content, 540) if zipped else bytes(content[:540]))
    shape = _shape(header)
    dtype = header.get_data_dtype()
    if dtype.kind not in "uif":
        raise DataError(f"a NIfTI file of {_kind(dtype)} is not read; store one number per voxel")
    offset = int(header["vox_offset"]) or size + 4
    length = prod(shape) * dtype.itemsize
    check_decoded(length, limit, stored=len(content), ratio=1100 if zipped else 1)
    if zipped:
        content = _gunzipped(content, offset + length, whole=True)
    if offset < size or offset + length > len(content):
        raise damaged("NIfTI")
    array = np.frombuffer(content, dtype, prod(shape), offset).reshape(shape, order="F")
    array = _scaled(_without_single(array), *header.get_slope_inter())
    return _placed(array, header)


def decode_npy(content: Content, limit: int) -> Raw:
    """The array of a ``.npy`` file; pickled objects are refused."""
    stream: Any = content if isinstance(content, mmap.mmap) else BytesIO(content)
    if isinstance(content, mmap.mmap):
        stream.seek(0)
    shape, fortran, dtype = _npy_header(stream)
    length = prod(shape) * dtype.itemsize
    check_decoded(length, limit, stored=len(content), ratio=1)
    start = stream.tell()
    if start + length != len(content):
        raise damaged("npy")
    flat = np.frombuffer(content, dtype, prod(shape), start)
    return Raw(flat.reshape(shape, order="F" if fortran else "C"), None)


def decode_npz(content: bytes, limit: int, *, label: bool) -> Raw:
    """The only array of a ``.npz`` file, or the one called ``image`` or ``label``."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
        wanted = "label" if label else "image"
        if len(names) != 1 and wanted not in names:
            raise DataError(
                f"holds {len(names)} arrays; keep one, or call the right one {wanted!r}"
            )
        entry = names.get(wanted) or next(iter(names.values()))
        check_decoded(entry.file_size, limit, stored=len(content))
        with archive.open(entry) as stream:
            shape, fortran, dtype = _npy_header(stream)
            length = prod(shape) * dtype.itemsize
            check_decoded(length, limit, stored=len(content))
            data = stream.read(length)
            if len(data) != length or stream.read(1):  # the end also proves the checksum
                raise damaged("npz")
    return Raw(np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C"), None)


def _header(block: bytes) -> tuple[Any, int]:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if len(block) < 352:
        raise DataError("is cut short: it ends within the NIfTI header; copy or export it again")
    sizes = {struct.unpack(order + "i", block[:4])[0] for order in "<>"}
    kind, size = (Nifti2Header, 540) if 540 in sizes else (Nifti1Header, 348)
    if size not in sizes or len(block) < size:
        raise DataError("is not a NIfTI file: its header does not begin like one; export it again")
    header = kind(block[:size], check=False)
    magic = bytes(header["magic"])[:3]
    if magic in (b"ni1", b"ni2"):
        raise DataError("is only one half of a pair of NIfTI files; store both in one .nii file")
    if magic not in (b"n+1", b"n+2"):
        raise DataError("is not a NIfTI file: its header does not begin like one; export it again")
    return header, size


def _shape(header: Any) -> tuple[int, ...]:
    count = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : 1 + count])
    if not 1 <= count <= 7 or any(n < 1 for n in shape):
        raise damaged("NIfTI")
    return shape


def _without_single(array: np.ndarray) -> np.ndarray:
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 5 and array.shape[3] == 1:  # a vector per voxel is stored on the fifth axis
        array = array[:, :, :, 0]
    if array.ndim > 4:
        raise DataError(f"has {array.ndim} axes, of which at most 4 are read; split it")
    return array


def _scaled(array: np.ndarray, slope: float | None, inter: float | None) -> np.ndarray:
    if slope is None or (slope == 1 and inter == 0):
        return array
    kind = np.float32 if array.dtype.itemsize <= 2 else np.float64
    scaled: np.ndarray = np.multiply(array, kind(slope), dtype=kind) + kind(inter or 0.0)
    return scaled


def _placed(array: np.ndarray, header: Any) -> Raw:
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all():
        raise DataError("its affine is not finite: nobody can say where it lies; export it again")
    factor = MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    zooms = tuple(abs(float(zoom)) * factor for zoom in header.get_zooms()[: min(3, array.ndim)])
    spacing = zooms if all(isfinite(zoom) and zoom > 0 for zoom in zooms) else None
    return Raw(array, "last" if array.ndim == 4 else None, spacing, affine)


def orientation(affine: np.ndarray) -> str:
    """Which way the axes of a volume go: R right, A front, S top, and their opposites L, P, I.

    >>> orientation(np.diag([-1.0, 1.0, 2.0, 1.0]))
    'LAS'
    """
    from nibabel.orientations import aff2axcodes  # imported on first use: check is quick

    return "".join(code or "?" for code in aff2axcodes(affine))


def _kind(dtype: np.dtype[Any]) -> str:
    return "complex numbers" if dtype.kind == "c" else "colours"


def _gunzipped(content: Content, count: int, *, whole: bool = False) -> bytes:
    """The first bytes; with ``whole`` they must be all but a little, so the checksum is proved."""
    with GzipFile(fileobj=BytesIO(content)) as stream:
        data = stream.read(count)
        if whole and len(stream.read(_EDGE)) == _EDGE:
            raise DataError("holds more than its header says; export it again")
    return data


def _npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"a .npy file of version {version} is not read; save it again as numbers")
    with _parsing:
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.hasobject:
        raise DataError("holds Python objects, which are never loaded; save it as plain numbers")
    if dtype.kind not in "buif":
        raise DataError(f"holds {dtype.name} values, not real numbers; save it as numbers")
    if any(n < 0 for n in shape):
        raise damaged("npy")
    return shape, fortran, dtype


def _unlock_in_child() -> None:
    global _parsing  # noqa: PLW0603 - a forked child must not wait for a thread it does not have
    _parsing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)
