"""Images larger than memory, read strip by strip along their first axis."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np

from labelmend.errors import DataError
from labelmend.files import tiffs
from labelmend.files.formats import check_first_bytes, damaged, kind_of, naming
from labelmend.files.images import drop_opaque
from labelmend.files.readers import check_numbers
from labelmend.files.sources import open_mapped
from labelmend.files.volumes import decode_npy
from labelmend.types import DataSpec, Georeference

_NO_LIMIT = 2**62
_LARGEST_SEGMENT = 2**28
"""Bytes of a compressed tile or strip; it is decoded as a whole."""

_JPEG = (6, 7, 33007, 34892)

ReadRows = Callable[[int, int], np.ndarray]
"""From where to where along one axis → those positions, all of the others, axes as stored."""


class Closed(Protocol):
    """What is open and has to be closed."""

    def close(self) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class StripImage:
    """An open image that gives strips of its first space axis; a context manager that closes it.

    ``shape`` is ``(channels, *space)`` as :func:`~labelmend.files.readers.read_image` would give
    it, and ``dtype``, ``spacing`` and ``georeference`` are those it would have. Made by
    :func:`open_strips` or, of whole-slide images, :func:`~labelmend.files.slides.open_slide`.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    spacing: tuple[float, ...] | None
    _read: ReadRows
    _stream: Closed
    georeference: Georeference = ()

    def read(self, start: int, stop: int) -> np.ndarray:
        """The positions from ``start`` up to ``stop`` of the first axis, ``(channels, n, *rest)``.

        Cheapest when ``start`` never goes back: what was decoded is kept while it is touched.

        Raises:
            DataError: when the file is damaged there or holds NaN; naming it.
        """
        with naming(self.path):
            try:
                array = self._read(start, stop)
            except DataError:
                raise
            except Exception as error:  # decoders raise some 18 types for damaged files
                raise damaged(kind_of(self.path.name)) from error
            try:
                check_numbers(array)
            except DataError as error:
                raise DataError(f"from position {start} of its first axis on: {error}") from None
        return array

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> StripImage:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def open_strips(path: Path, spec: DataSpec) -> StripImage | None:
    """An image whose strips can be read without the rest, or None where that cannot be done.

    It can for TIFF, OME-TIFF and BigTIFF, tiled, in strips or uncompressed, and for ``.npy`` in C
    order. A trap: a TIFF compressed in one piece of more than 256 MiB must be decoded as a whole.

    Raises:
        DataError: when the file is missing, damaged or of another kind; naming it.
    """
    with naming(path):
        kind = kind_of(path.name)
        if kind not in ("TIFF", "npy"):
            return None
        content = open_mapped(path, _NO_LIMIT)
        check_first_bytes(content, kind)
        stream = path.open("rb")
        try:
            find = _in_tiff if kind == "TIFF" else _in_npy
            layout = find(stream, content)
            found = None if layout is None else _image(path, spec, layout, stream)
        except DataError:
            stream.close()
            raise
        except Exception as error:
            stream.close()
            raise damaged(kind) from error
        if found is None:
            stream.close()
        return found


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file is stored: its axes by letters, and who reads rows of one of them.

    ``axes`` has S and C for channels, I and Q for what nobody named, ? in formats without names.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    reader: Callable[[int], ReadRows]
    spacing: tuple[float, ...] | None = None
    alpha: bool = False
    georeference: Georeference = ()


def _image(path: Path, spec: DataSpec, layout: _Layout, stream: BinaryIO) -> StripImage | None:
    """The file as an image, where its axes are those of the data set."""
    kept = [
        i for i, (a, n) in enumerate(zip(layout.axes, layout.shape, strict=True)) if _told(a, n)
    ]
    channels = [i for i in kept if layout.axes[i] in "SC"]
    loose = any(layout.axes[i] in "IQ?" for i in kept)
    if not channels and loose and len(kept) == spec.dims + 1 and spec.channel_axis != "none":
        channels = [kept[0] if spec.channel_axis == "first" else kept[-1]]
    space = [i for i in kept if i not in channels]
    if len(channels) > 1 or len(space) != spec.dims or layout.dtype.kind not in "buif":
        return None
    alpha = layout.alpha and bool(channels) and layout.axes[channels[0]] == "S"
    count = (layout.shape[channels[0]] if channels else 1) - alpha
    read = layout.reader(space[0])
    order = channels + space
    gone = tuple(i for i in range(len(layout.axes)) if i not in order)

    def strip(start: int, stop: int) -> np.ndarray:
        rows = read(start, stop).transpose(*gone, *order)[(0,) * len(gone)]
        rows = rows if channels else rows[np.newaxis]
        if alpha:
            full = np.iinfo(rows.dtype).max if rows.dtype.kind in "ui" else 1.0
            rows = np.moveaxis(drop_opaque(np.moveaxis(rows, 0, -1), full), -1, 0)
        return np.ascontiguousarray(rows.view(np.uint8) if rows.dtype == bool else rows)

    dtype = np.dtype(np.uint8) if layout.dtype == bool else layout.dtype.newbyteorder("=")
    spacing = layout.spacing if layout.spacing and len(layout.spacing) == spec.dims else None
    shape = (count, *(layout.shape[i] for i in space))
    spacing = spec.spacing or spacing
    return StripImage(path, shape, dtype, spacing, strip, stream, layout.georeference)


def _told(axis: str, length: int) -> bool:
    return length > 1 or axis in "YXZ?"


# ---------------------------------------------------------------- one array, as it lies


def _in_npy(stream: BinaryIO, content: bytes | mmap.mmap) -> _Layout | None:
    array = decode_npy(content, _NO_LIMIT).array
    if not array.flags.c_contiguous:
        return None
    offset = len(content) - array.nbytes
    return _contiguous(stream, "?" * array.ndim, array.shape, array.dtype, offset)


def _contiguous(
    stream: BinaryIO, axes: str, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int
) -> _Layout:
    def reader(axis: int) -> ReadRows:
        outer, inner = shape[:axis], prod(shape[axis + 1 :])

        def read(start: int, stop: int) -> np.ndarray:
            out = np.empty((*outer, stop - start, *shape[axis + 1 :]), dtype)
            for number, place in enumerate(np.ndindex(outer)):
                stream.seek(offset + (number * shape[axis] + start) * inner * dtype.itemsize)
                data = stream.read((stop - start) * inner * dtype.itemsize)
                out[place] = np.frombuffer(data, dtype).reshape(out.shape[axis:])
            return out.astype(dtype.newbyteorder("="), copy=False)

        return read

    return _Layout(axes, shape, dtype, reader)


# ---------------------------------------------------------------- pages of tiles or strips


def _in_tiff(stream: BinaryIO, content: bytes | mmap.mmap) -> _Layout | None:
    import tifffile

    tiffs.check_chain(content)
    with tiffs.quiet():
        tiff = tifffile.TiffFile(stream, _multifile=False)
        series = tiffs.only_series(tiff)
        page = series.keyframe
        tiffs.check_kind(page, label=False)
        tiffs.check_stored(series, len(content), _NO_LIMIT)
        axes, shape = str(series.axes), tuple(int(n) for n in series.shape)
        space = "".join(a for a, n in zip(axes, shape, strict=True) if _told(a, n))
        spacing = tiffs.read_spacing(tiff, page, space)
        place = tiffs.georeference(page)
    alpha = page.extrasamples[-1:] in ((1,), (2,))
    if series.dataoffset is not None and page.is_memmappable:
        dtype = series.dtype.newbyteorder(tiff.byteorder)
        open_array = _contiguous(stream, axes, shape, dtype, series.dataoffset)
        return _Layout(axes, shape, dtype, open_array.reader, spacing, alpha, place)
    pages = _pages(series, axes, shape, stream)
    if pages is None:
        return None
    return _Layout(axes, shape, series.dtype, pages, spacing, alpha, place)


def _pages(
    series: Any, axes: str, shape: tuple[int, ...], stream: BinaryIO
) -> Callable[[int], ReadRows] | None:
    """Who reads rows of any axis, where pages are stored one after another and not too large."""
    page = series.keyframe
    lead = len(axes) - len(page.axes)
    one_by_one = axes[lead:] == page.axes and shape[lead:] == tuple(page.shape)
    if not one_by_one or prod(shape[:lead]) != len(series.pages) or page.shaped[1] != 1:
        return None
    if prod(page.chunks) * series.dtype.itemsize > _LARGEST_SEGMENT or "Y" not in page.axes:
        return None
    return lambda axis: _PagedRows(series, axis, lead, stream).read


@dataclass(slots=True)
class _PagedRows:
    """Reads rows of one axis of a series of pages; decoded segments are kept while touched."""

    series: Any
    axis: int
    lead: int
    stream: BinaryIO
    _first: np.ndarray = field(init=False)
    _last: np.ndarray = field(init=False)
    _kept: dict[tuple[int, int], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        page = self.series.keyframe
        places = [page.decode(None, i)[1:] for i in range(prod(page.chunked))]
        self._first = np.array([place[2] for place, _ in places])
        self._last = np.array([place[2] + size[1] for place, size in places])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Axes as in the series, cut along one of them."""
        shape = list(self.series.shape)
        shape[self.axis] = stop - start
        out = np.empty(shape, self.series.dtype.newbyteorder("="))
        within = self.axis >= self.lead
        rows = (start, stop) if within else (0, self.series.keyframe.shaped[2])
        touched: set[tuple[int, int]] = set()
        for place in np.ndindex(tuple(shape[: self.lead])):
            moved = list(place)
            if not within:
                moved[self.axis] += start
            lead = tuple(self.series.shape[: self.lead])
            number = int(np.ravel_multi_index(moved, lead)) if lead else 0
            page = self._page(number, rows[0], rows[1], touched)
            out[place] = page.reshape(out.shape[self.lead :])
        self._kept = {key: kept for key, kept in self._kept.items() if key in touched}
        return out

    def _page(
        self, number: int, start: int, stop: int, touched: set[tuple[int, int]]
    ) -> np.ndarray:
        """Rows of a page: ``(planes, rows, columns, samples)``."""
        planes, _, _, width, samples = self.series.keyframe.shaped
        out = np.empty((planes, stop - start, width, samples), self.series.dtype.newbyteorder("="))
        for segment in np.flatnonzero((self._first < stop) & (self._last > start)).tolist():
            touched.add((number, segment))
            data, (plane, _, row, column, _), size = self._segment(number, segment)
            begin, end = max(row, start), min(row + size[1], stop)
            place = slice(begin - start, end - start), slice(column, column + size[2])
            # the last tiles reach beyond the page
            out[plane][place] = data[0, begin - row : end - row, : width - column]
        return out

    def _segment(self, number: int, segment: int) -> Any:
        key = (number, segment)
        if key not in self._kept:
            self._kept[key] = self._decoded(number, segment)
        return self._kept[key]

    def _decoded(self, number: int, segment: int) -> Any:
        page, keyframe = self.series.pages[number], self.series.keyframe
        self.stream.seek(page.dataoffsets[segment])
        data = self.stream.read(page.databytecounts[segment])
        options: dict[str, Any] = {}
        if int(keyframe.compression) in _JPEG:
            options = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
        with tiffs.quiet():
            return keyframe.decode(data, segment, **options)
