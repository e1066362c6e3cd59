"""Decode TIFF and OME-TIFF, with pages, axes and micrometres as the file says."""

from __future__ import annotations

import logging
import mmap
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from math import prod
from typing import Any

import numpy as np

from labelmend.errors import DataError
from labelmend.files.formats import Content, Raw, check_decoded, damaged
from labelmend.files.images import drop_opaque, import_codecs, refuse_orientation
from labelmend.types import Georeference

_MILLIMETRES = {
    "mm": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "um": 1e-3,
    "µm": 1e-3,
    "μm": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "nm": 1e-6,
    "\\u00B5m": 1e-3,
}
_OPAQUE_KINDS = ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE", "YCBCR")
_GAIN = {
    "NONE": 1,
    "PACKBITS": 64,
    "LZW": 2800,
    "ADOBE_DEFLATE": 1100,
    "DEFLATE": 1100,
    "JPEG": 1100,
}
_UNAIDED = frozenset({"NONE", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA", "PIXTIFF"})
"""Compressions that tifffile reads alone."""
_GDAL_NODATA = 42113
_ON_THE_MAP = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
"""Tags that place an image on the map: scale, points and matrix (OGC GeoTIFF 1.1, ModelPixelScale,
ModelTiepoint, ModelTransformation), the directory of keys with its numbers and texts, and GDAL's
coefficients of a sensor's own geometry (RPC)."""
_ASCII = 2
"""The type of a tag that holds text."""
_UNKNOWN_AXES = frozenset("IQ")


def decode_tiff(content: Content, limit: int, *, label: bool) -> Raw:
    """The values of a TIFF: pages first, then rows and columns; samples or ``C`` are channels.

    Spacing comes from OME, ImageJ or a resolution per centimetre; dots per inch are a print size
    and are not taken. A trap: what a page axis is, space or channels, only the data set can say.
    """
    import tifffile

    check_chain(content)
    stream: Any = content if isinstance(content, mmap.mmap) else BytesIO(content)
    with quiet(), tifffile.TiffFile(stream) as tiff:
        series = only_series(tiff)
        page = series.keyframe
        check_kind(page, label=label)
        check_stored(series, len(content), limit)
        array = _pixels(series, content)
        axes, array = _without_single(series.axes, array)
        spacing = read_spacing(tiff, page, axes)
        alpha = page.extrasamples[-1:] in ((1,), (2,))
        raw = _arranged(axes, array, spacing, alpha=alpha)
        return replace(raw, no_data=_no_data(page), georeference=georeference(page))


def check_chain(content: Content) -> None:
    """Refuse a chain of pages that runs in a circle: tifffile would follow it for ever."""
    order = "<" if content[:2] == b"II" else ">"
    big = bytes(content[2:4]) in (b"+\0", b"\0+")
    number, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    width, head = struct.calcsize(number), struct.calcsize(count)
    (place,) = struct.unpack(order + number, content[width : 2 * width])
    seen: set[int] = set()
    while place:
        if place in seen:
            raise damaged("TIFF")
        seen.add(place)
        (tags,) = struct.unpack(order + count, content[place : place + head])
        end = place + head + tags * entry
        (place,) = struct.unpack(order + number, content[end : end + width])


def only_series(tiff: Any) -> Any:
    """The one picture of a file; DataError where it holds several."""
    if len(tiff.series) != 1:
        raise DataError(
            f"holds {len(tiff.series)} pictures of different size or kind; save the wanted one "
            "alone"
        )
    series = tiff.series[0]
    if any(page is None for page in series.pages):
        raise DataError("its pages are spread over other files; save them all in one")
    return series


def check_kind(page: Any, *, label: bool) -> None:
    """Refuse what pages of a kind cannot say without guessing, such as colours of a palette.

    Also what cannot be decompressed here: decoders do not tell that from damage.
    """
    photometric = getattr(page.photometric, "name", str(page.photometric))
    compression = getattr(page.compression, "name", str(page.compression))
    lossy = "JPEG" in compression or "WEBP" in compression
    if photometric not in _OPAQUE_KINDS or (photometric == "YCBCR" and "JPEG" not in compression):
        raise DataError(f"a TIFF in {photometric} colours is not read; convert it to RGB or grey")
    if photometric == "PALETTE" and not label:
        raise DataError("an image with a palette as TIFF is not read; save it as RGB or grey")
    if label and lossy:
        raise DataError(
            f"a label cannot be compressed with {compression}: it does not keep values; "
            "use deflate or none"
        )
    predictor = getattr(page.predictor, "name", "")
    if compression not in _UNAIDED or predictor == "FLOATINGPOINT":
        how = compression if compression not in _UNAIDED else "a predictor of floating-point values"
        import_codecs(f"a TIFF compressed with {how} needs", "save it with deflate or uncompressed")
    tag = page.tags.get(274)
    refuse_orientation(None if tag is None else int(tag.value))


def check_stored(series: Any, stored: int, limit: int) -> None:
    """Refuse a picture that promises more than its file can hold, or more than the limit."""
    page = series.keyframe
    size = prod(int(n) for n in series.shape) * series.dtype.itemsize
    ratio = _GAIN.get(getattr(page.compression, "name", ""))
    single = page.bitspersample if isinstance(page.bitspersample, int) else 8
    gain = None if ratio is None else ratio * (8 if single < 8 else 1)
    check_decoded(size, limit, stored=None if gain is None else stored, ratio=gain or 1)
    if page.is_tiled:
        tile = page.tilewidth * page.tilelength * page.tiledepth * page.samplesperpixel
        check_decoded(tile * series.dtype.itemsize, limit)
    for each in series.pages:
        offsets, counts = each.dataoffsets, each.databytecounts
        whole = len(offsets) == len(counts) > 0
        if not whole or any(
            o <= 0 or n <= 0 or o + n > stored for o, n in zip(offsets, counts, strict=True)
        ):
            raise DataError(
                "is damaged or cut short: some of its pixels lie outside the file; "
                "copy or export it again"
            )


def _pixels(series: Any, content: Content) -> np.ndarray:
    lies_open = series.dataoffset is not None and series.keyframe.is_memmappable
    if isinstance(content, mmap.mmap) and lies_open:
        dtype = series.dtype.newbyteorder(series.parent.byteorder)
        flat = np.frombuffer(content, dtype, prod(series.shape), series.dataoffset)
        return flat.reshape(series.shape)
    return np.asarray(series.asarray(maxworkers=1)).reshape(series.shape)


def _without_single(axes: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    gone = tuple(i for i, axis in enumerate(axes) if axis not in "YXZ" and array.shape[i] == 1)
    return "".join(a for i, a in enumerate(axes) if i not in gone), array.squeeze(gone)


def _arranged(
    axes: str, array: np.ndarray, spacing: tuple[float, ...] | None, *, alpha: bool
) -> Raw:
    channel_axes = [i for i, axis in enumerate(axes) if axis in "SC"]
    if len(channel_axes) > 1:
        raise DataError(f"has two channel axes ({axes}); save it with one")
    if not channel_axes:
        loose = bool(_UNKNOWN_AXES & set(axes))
        return Raw(array, None if loose else "none", spacing)
    array = np.moveaxis(array, channel_axes[0], -1)
    if alpha and axes[channel_axes[0]] == "S":
        full = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1.0
        array = drop_opaque(array, full)
    if array.shape[-1] == 1:
        return Raw(array[..., 0], "none", spacing)
    return Raw(array, "last", spacing)


def _no_data(page: Any) -> float | None:
    """The number in GDAL's tag for what was not recorded; None where there is none to read."""
    tag = page.tags.get(_GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip(" \0"))
    except ValueError:
        return None


def georeference(page: Any) -> Georeference:
    """What a page says of its place on the map, as tifffile takes it to write it again."""
    tags = [tag for code in _ON_THE_MAP if (tag := page.tags.get(code)) is not None]
    return tuple((tag.code, int(tag.dtype), tag.count, _as_stored(tag)) for tag in tags)


def _as_stored(tag: Any) -> Any:
    """The value of a tag; of a text its bytes, for keys point into them, in whatever encoding."""
    if int(tag.dtype) != _ASCII:
        return tag.value
    file = tag.parent.filehandle
    file.seek(tag.valueoffset)
    return file.read(tag.count)


def read_spacing(tiff: Any, page: Any, axes: str) -> tuple[float, ...] | None:
    """The distance between positions along the space axes in millimetres, or None."""
    space = [axis for axis in axes if axis not in "SC"]
    sizes = _ome_spacing(tiff) if tiff.is_ome else _plain_spacing(tiff, page)
    if sizes is None:
        return None
    known = [sizes.get(axis) for axis in space if axis not in _UNKNOWN_AXES]
    found = tuple(float(size) for size in known if size is not None and 0 < size < 1e9)
    return found if len(found) == len(known) else None


def _ome_spacing(tiff: Any) -> dict[str, float] | None:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(tiff.ome_metadata)
    pixels = next((e for e in root.iter() if e.tag.endswith("}Pixels") or e.tag == "Pixels"), None)
    if pixels is None:
        return None
    sizes = {}
    for axis in "XYZ":
        factor = _MILLIMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        value = pixels.get(f"PhysicalSize{axis}")
        if factor is not None and value is not None:
            sizes[axis] = float(value) * factor
    return sizes


def _plain_spacing(tiff: Any, page: Any) -> dict[str, float] | None:
    about = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
    per_centimetre = getattr(page.resolutionunit, "name", "") == "CENTIMETER"
    factor = _MILLIMETRES.get(str(about.get("unit", ""))) or (10.0 if per_centimetre else None)
    if factor is None or 0 in page.resolution:
        return None
    per_x, per_y = page.resolution
    sizes = {"X": factor / per_x, "Y": factor / per_y}
    if "spacing" in about:
        sizes["Z"] = abs(float(about["spacing"])) * factor
    return sizes


class _Hush(logging.Filter):
    """Drops what tifffile says while we read in this thread; others still hear it."""

    reading = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the signature is logging's
        return not getattr(self.reading, "on", False)


_HUSH = _Hush()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what tifffile logs of damaged files to ourselves: the error says it."""
    logging.getLogger("tifffile").addFilter(_HUSH)  # adding it twice changes nothing
    _HUSH.reading.on = True
    try:
        yield
    finally:
        _HUSH.reading.on = False
