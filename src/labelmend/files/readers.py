"""The one door to files: open an image, recording, spectrum or label, or a region of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from labelmend.errors import DataError
from labelmend.files.formats import (
    DECODED_LIMIT,
    Content,
    Raw,
    check_first_bytes,
    damaged,
    kind_of,
    naming,
)
from labelmend.files.images import decode_jpeg, decode_png, one_label_channel
from labelmend.files.signals import decode_audio, decode_events, decode_table, is_event_list
from labelmend.files.sources import hash_file, load_verified, open_mapped, read_bytes
from labelmend.files.tiffs import decode_tiff
from labelmend.files.values import to_indices, whole_numbers
from labelmend.files.volumes import decode_nifti, decode_npy, decode_npz
from labelmend.files.writers import write_label
from labelmend.labels.events import Event, rasterise
from labelmend.types import ChannelAxis, DataSpec, Raster, Region

__all__ = [
    "decode",
    "hash_file",
    "load_verified",
    "read_as",
    "read_bytes",
    "read_image",
    "read_label",
    "read_region",
    "write_label",
]

_AFFINE_TOLERANCE = 1e-3
_MAPPED = frozenset({"npy", "NIfTI", "TIFF"})


def read_image(
    path: Path,
    *,
    content: bytes | None = None,
    dims: int | None = None,
    channel_axis: ChannelAxis | None = None,
    limit: int = DECODED_LIMIT,
) -> Raster:
    """An image, volume, recording or spectrum: ``(channels, *space)`` in the file's number type.

    Args:
        path: the file; its suffix says the format.
        content: its bytes, if they have been read already.
        dims: number of space axes; by default every axis that is not known to be channels.
        channel_axis: where arrays, page stacks and volumes keep channels; files that say so
            themselves (colours, recordings, OME-TIFF) ignore it.
        limit: most bytes it may take in memory.

    A trap: without ``dims`` a ``(3, 64, 64)`` array is a volume of three slices, not an image of
    three channels.

    Raises:
        DataError: when it is missing, damaged, of another kind, or holds NaN; naming the file.
    """
    data = read_bytes(path, limit) if content is None else content
    raw = decode(path, data, limit=limit)
    with naming(path):
        return as_raster(raw, dims, channel_axis)


def read_as(path: Path, spec: DataSpec, *, content: bytes | None = None) -> Raster:
    """:func:`read_image` with the axes and the spacing that a data set's files share.

    What ``data.toml`` says of the spacing goes over what the file says.

    Raises:
        DataError: as :func:`read_image`.
    """
    raster = read_image(path, content=content, dims=spec.dims, channel_axis=spec.channel_axis)
    return raster if spec.spacing is None else replace(raster, spacing=spec.spacing)


def read_region(
    path: Path,
    region: Region,
    *,
    dims: int | None = None,
    channel_axis: ChannelAxis | None = None,
    limit: int = DECODED_LIMIT,
) -> Raster:
    """Only a box of positions of a file; equal to cutting it from :func:`read_image`.

    Uncompressed ``.npy``, NIfTI and TIFF files are mapped, recordings are read from the right
    place; of all others everything is decoded first.

    Raises:
        DataError: as :func:`read_image`, and when the box reaches outside.
    """
    with naming(path):
        kind = kind_of(path.name)
    if kind in ("WAV", "FLAC"):
        return _read_span(path, region, limit)
    raw = decode(path, open_mapped(path, limit) if kind in _MAPPED else read_bytes(path, limit))
    with naming(path):
        array = _channels_first(raw, dims, channel_axis)
        ends = [a + n for a, n in zip(region.start, region.size, strict=False)]
        inside = all(a >= 0 for a in region.start) and all(
            e <= n for e, n in zip(ends, array.shape[1:], strict=False)
        )
        if len(region.start) != array.ndim - 1 or not inside:
            raise _outside(region, array.shape[1:])
        cut = np.array(array[(slice(None), *region.slices)], order="C")
        check_numbers(cut)
        return Raster(cut, _spacing_of(raw, array.ndim - 1), raw.affine)


def read_label(
    path: Path, spec: DataSpec, image: Raster, *, content: bytes | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A label as class indices int64 ``(*space)``, and where it is known, bool ``(*space)``.

    For regression float32 ``(channels, *space)``; a position is unknown where every channel holds
    ``spec.ignore``. Lists of events are laid on the image's grid by class name.

    Raises:
        DataError: when it does not belong to the image (size, affine), or holds a value that is
            neither a class nor the ignore value; naming the file.
    """
    data = read_bytes(path) if content is None else content
    found = decode_label(path, data, spec.task)
    with naming(path):
        size = image.array.shape[1:]
        if isinstance(found, tuple):
            return rasterise(found, spec.classes, *events_grid(spec.spacing or image.spacing, size))
        check_affines(found.affine, image.affine)
        if spec.task == "regression":
            raster = as_raster(found, spec.dims, spec.channel_axis)
            check_sizes(raster.array.shape[1:], size)
            values = raster.array.astype(np.float32)
            unknown = (
                np.zeros(size, bool) if spec.ignore is None else (values == spec.ignore).all(0)
            )
            return np.where(unknown, np.float32(0), values), ~unknown
        check_sizes(found.array.shape, size)
        return to_indices(found.array, spec)


def decode(path: Path, content: Content, *, label: bool = False, limit: int = DECODED_LIMIT) -> Raw:
    """What a file holds, its axes as stored. The lower door, for surveys of whole data sets.

    Raises:
        DataError: naming the file, whatever the library below raised.
    """
    with naming(path):
        kind = kind_of(path.name)
        check_first_bytes(content, kind)
        try:
            raw = _decoded(kind, content, label, limit)
        except DataError:
            raise
        except Exception as error:  # decoders raise some 18 types for damaged files
            raise damaged(kind) from error
        return _as_numbers(raw)


def decode_label(path: Path, content: bytes, task: str) -> Raw | tuple[Event, ...]:
    """What a label file holds: events, or an array that is int64 ``(*space)`` for class labels."""
    if path.name.lower().endswith(".csv") and is_event_list(content):
        with naming(path):
            try:
                return decode_events(content)
            except DataError:
                raise
            except Exception as error:
                raise damaged("CSV") from error
    raw = decode(path, content, label=True)
    if task == "regression":
        return raw
    with naming(path):
        array = raw.array
        if raw.channel == "last":
            array = one_label_channel(array)
        return Raw(whole_numbers(array), "none", raw.spacing, raw.affine)


def as_raster(raw: Raw, dims: int | None, channel_axis: ChannelAxis | None) -> Raster:
    """``(channels, *space)``, every number finite."""
    array = np.ascontiguousarray(_channels_first(raw, dims, channel_axis))
    check_numbers(array)
    return Raster(array, _spacing_of(raw, array.ndim - 1), raw.affine, raw.georeference)


def check_numbers(array: np.ndarray) -> None:
    """Refuse NaN and infinity, saying how many and where the first is."""
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"is NaN or infinite in {int(bad.sum()):,} of {bad.size:,} places, the first at "
            f"{first}; replace them"
        )


def check_sizes(label: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Refuse a label whose size is not exactly its image's."""
    if tuple(label) == tuple(image):
        return
    turned = sorted(label) == sorted(image)
    way = "turn it" if turned else "export it on the image's own grid"
    raise DataError(
        f"the label's size is {_size(label)} but its image's is {_size(image)}; "
        f"{way}, or check that they belong together"
    )


def check_affines(label: np.ndarray | None, image: np.ndarray | None) -> None:
    """Refuse a label that its affine places elsewhere than its image."""
    if label is None or image is None:
        return
    apart = float(np.abs(label - image).max())
    if apart > _AFFINE_TOLERANCE:
        raise DataError(
            f"the affines of label and image differ by up to {apart:.3g}; "
            "resample the label onto the image's grid, or correct its affine"
        )


def events_grid(spacing: tuple[float, ...] | None, size: tuple[int, ...]) -> tuple[int, float]:
    """Length and spacing of the grid that events are laid on."""
    if len(size) != 1 or spacing is None:
        raise DataError(
            "events need a recording with a sampling rate; use WAV or FLAC, "
            "or store one class per position"
        )
    return size[0], spacing[0]


def _decoded(kind: str, content: Content, label: bool, limit: int) -> Raw:
    if kind == "TIFF":
        return decode_tiff(content, limit, label=label)
    if kind == "npy":
        return decode_npy(content, limit)
    if kind in ("NIfTI", "gzip"):
        return decode_nifti(content, limit, zipped=kind == "gzip")
    if kind in ("WAV", "FLAC"):
        return decode_audio(content, limit)
    data = bytes(content)
    if kind == "CSV":
        return decode_table(data, limit)
    pictures = {"PNG": decode_png, "JPEG": decode_jpeg, "npz": decode_npz}
    return pictures[kind](data, limit, label=label)


def _as_numbers(raw: Raw) -> Raw:
    array = raw.array
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise DataError(f"holds {array.dtype.name} values; save it as numbers of at most 64 bits")
    if array.size == 0:
        raise DataError(f"holds no positions: its size is {_size(array.shape)}; export it again")
    if array.dtype == bool:
        array = array.view(np.uint8)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return replace(raw, array=array)


def _channels_first(raw: Raw, dims: int | None, channel_axis: ChannelAxis | None) -> np.ndarray:
    axis = raw.channel
    space = raw.array.ndim - (axis in ("first", "last"))
    if axis is None:
        chosen = channel_axis in ("first", "last")
        wanted = dims if dims is not None else raw.array.ndim - chosen
        if raw.array.ndim == wanted + 1 and chosen:
            axis, space = channel_axis, wanted
    if not 1 <= space <= 3 or (dims is not None and space != dims):
        raise _wrong_axes(raw, dims)
    if axis in ("first", "last"):
        return raw.array if axis == "first" else np.moveaxis(raw.array, -1, 0)
    return raw.array[np.newaxis]


def _wrong_axes(raw: Raw, dims: int | None) -> DataError:
    wanted = "at most 3" if dims is None else str(dims)
    ask = raw.channel is None and (dims is None or raw.array.ndim == dims + 1)
    way = "say in data.toml whether channels = 'first' or 'last'" if ask else "split or convert it"
    return DataError(
        f"has {raw.array.ndim} axes ({_size(raw.array.shape)}) where {wanted} are of space; {way}"
    )


def _spacing_of(raw: Raw, dims: int) -> tuple[float, ...] | None:
    return raw.spacing if raw.spacing is not None and len(raw.spacing) == dims else None


def _read_span(path: Path, region: Region, limit: int) -> Raster:
    with naming(path):
        content = open_mapped(path, limit)
        check_first_bytes(content, kind_of(path.name))
        if len(region.start) != 1:
            raise _outside(region, ("frames",))
        span = slice(region.start[0], region.start[0] + region.size[0])
        try:
            raw = decode_audio(content, limit, span)
        except DataError:
            raise
        except Exception as error:
            raise damaged(kind_of(path.name)) from error
        return as_raster(raw, 1, None)


def _outside(region: Region, size: tuple[int | str, ...]) -> DataError:
    return DataError(
        f"the region at {region.start} of size {region.size} does not lie inside ({_size(size)})"
    )


def _size(shape: tuple[int | str, ...]) -> str:
    return " x ".join(str(n) for n in shape)
