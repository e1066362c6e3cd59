"""Write labels and scores larger than memory, strip by strip along their first axis."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from labelmend.errors import DataError
from labelmend.files.formats import kind_of, naming, split_name
from labelmend.files.values import to_values
from labelmend.files.writers import extra_tags, narrow
from labelmend.runs.atomic import keeping, sweep, sync_folder, temporary_name
from labelmend.runs.disk import Disk
from labelmend.types import DataSpec, Georeference

_TILE = 512
_CLASSIC = 2**32 - 2**25
"""Bytes that a TIFF of 32-bit places can hold; beyond it, and where it is near, BigTIFF."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden name to write to, which takes the place of ``path`` when the body is done.

    What a killed process left half-written for the same file is removed. A trap: the folder must
    be there already.

    Raises:
        StorageError: when the disk refuses; what was there before is intact.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_text("whole"), path.exists()
    >>> path.read_text()
    'whole'
    """
    temporary = path.with_name(temporary_name(path.name))
    with keeping(path.name, path.parent, 0):
        sweep(path.parent, frozenset([path.name]))
        try:
            yield temporary
            file = os.open(temporary, os.O_RDWR)
            try:
                Disk.sync(file)
            finally:
                os.close(file)
            Disk.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                Disk.unlink(temporary)
            raise
        sync_folder(path.parent)


def write_label_strips(
    path: Path,
    strips: Iterable[np.ndarray],
    spec: DataSpec,
    *,
    size: Sequence[int],
    spacing: Sequence[float] | None = None,
    georeference: Georeference = (),
) -> None:
    """Write a label whose strips come one after another, in one step, never half of it.

    A TIFF is tiled and compressed, with the image's geometry; an array is ``.npy``. Values and
    number type are those of :func:`~labelmend.files.writers.write_label`.

    Args:
        path: the file to make or replace: ``.tif``, ``.tiff``, ``.ome.tif`` or ``.npy``.
        strips: class indices ``(n, *rest)``, for regression ``(1, n, *rest)``, which together
            have ``size``. They are asked for one at a time.
        spec: says which value stands for which class.
        size: positions per space axis.
        spacing: distance between positions per axis.
        georeference: the image's place on the map.

    Raises:
        DataError: for another format or one axis as TIFF; StorageError: when the disk refuses.
    """
    size = tuple(size)
    with naming(path):
        kind = kind_of(path.name)
        if kind not in ("TIFF", "npy") or (kind == "TIFF" and len(size) == 1):
            raise DataError(
                f"a label of {len(size)} axes is not written strip by strip as "
                f"{split_name(path.name)[1]}; choose .tif for two or three axes, or .npy"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (_in_file(strip, spec) for strip in strips)
    with replacing(path) as temporary:
        if kind == "npy":
            _write_npy(temporary, values, size, spec)
        else:
            ome = split_name(path.name)[1].startswith(".ome")
            tiles = _Tiles(size, _in_type(spec), spacing, ome, georeference)
            _write_tiff(temporary, values, tiles)


@contextmanager
def scores_file(path: Path, shape: Sequence[int]) -> Iterator[ScoresFile]:
    """A ``.npy`` file ``(scores, *space)`` float16 to be filled strip by strip, in one step.

    Raises:
        StorageError: when the disk refuses; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("xb") as stream:
        _write_header(stream, tuple(shape), np.dtype(np.float16))
        yield ScoresFile(stream, tuple(shape), stream.tell())


@dataclass(frozen=True, slots=True)
class ScoresFile:
    """An open file of scores; made by :func:`scores_file`."""

    _stream: BinaryIO
    _shape: tuple[int, ...]
    _offset: int

    def write(self, start: int, scores: np.ndarray) -> None:
        """The scores ``(scores, n, *rest)`` of the positions from ``start`` of the first axis."""
        row = int(np.prod(self._shape[2:])) * 2
        for number, values in enumerate(scores):
            self._stream.seek(self._offset + (number * self._shape[1] + start) * row)
            self._stream.write(np.ascontiguousarray(values, dtype=np.float16).data)


def _in_type(spec: DataSpec) -> np.dtype[Any]:
    return narrow(np.zeros(0), spec).dtype


def _in_file(strip: np.ndarray, spec: DataSpec) -> np.ndarray:
    if spec.task == "regression":
        return np.asarray(strip[0], dtype=np.float32)
    return narrow(to_values(strip, spec), spec)


def _write_npy(
    path: Path, strips: Iterable[np.ndarray], size: tuple[int, ...], spec: DataSpec
) -> None:
    with path.open("xb") as stream:
        _write_header(stream, size, _in_type(spec))
        for strip in strips:
            stream.write(np.ascontiguousarray(strip).data)


def _write_header(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    about = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)


@dataclass(frozen=True, slots=True)
class _Tiles:
    """What a TIFF of tiles is made with."""

    size: tuple[int, ...]
    dtype: np.dtype[Any]
    spacing: Sequence[float] | None
    ome: bool
    georeference: Georeference

    @property
    def options(self) -> dict[str, Any]:
        """For tifffile."""
        about: dict[str, Any] = {"axes": "ZYX"[-len(self.size) :]}
        options: dict[str, Any] = {}
        if self.spacing is not None:
            per_centimetre = tuple(10.0 / step for step in self.spacing[:-3:-1])
            options = {"resolution": per_centimetre, "resolutionunit": "CENTIMETER"}
            for axis, step in zip("XYZ", self.spacing[::-1], strict=False):
                if self.ome:
                    about |= {f"PhysicalSize{axis}": step, f"PhysicalSize{axis}Unit": "mm"}
        weight = int(np.prod(self.size, dtype=np.int64)) * self.dtype.itemsize
        options["extratags"] = extra_tags(self.georeference)
        return options | {"metadata": about, "ome": self.ome, "bigtiff": weight > _CLASSIC}

    def cut(self, strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Whole tiles in the order in which a TIFF has them."""
        pages = strips if len(self.size) == 3 else _rows(strips)
        for page in pages:
            for plane in page if len(self.size) == 3 else (page,):
                yield from self._of_rows(plane)

    def _of_rows(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for row in range(0, len(rows), _TILE):
            for column in range(0, rows.shape[1], _TILE):
                tile = rows[row : row + _TILE, column : column + _TILE]
                whole = np.zeros((_TILE, _TILE), self.dtype)
                whole[: tile.shape[0], : tile.shape[1]] = tile
                yield whole


def _rows(strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Strips of any height as strips of a tile's height; the last may be lower."""
    waiting: list[np.ndarray] = []
    held = 0
    for strip in strips:
        waiting.append(strip)
        held += len(strip)
        if held >= _TILE:
            joined = np.concatenate(waiting)
            whole = held - held % _TILE
            yield joined[:whole]
            waiting, held = [joined[whole:].copy()], held - whole
    if held:
        yield np.concatenate(waiting)


def _write_tiff(path: Path, strips: Iterable[np.ndarray], tiles: _Tiles) -> None:
    import tifffile

    tifffile.imwrite(
        path,
        tiles.cut(strips),
        shape=tiles.size,
        dtype=tiles.dtype,
        tile=(_TILE, _TILE),
        photometric="minisblack",
        compression="zlib",
        maxworkers=1,
        **tiles.options,
    )
