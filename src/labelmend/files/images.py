"""Decode PNG and JPEG into the values that the file holds."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np

from labelmend.errors import DataError
from labelmend.files.formats import Raw, check_decoded

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_HEADER = 33
_ORIENTATION = 0x0112


def decode_png(content: bytes, limit: int, *, label: bool) -> Raw:
    """The values of a PNG: ``(rows, columns)``, colours on a last axis.

    A palette is expanded for images; a label keeps its indices. An alpha channel that is opaque
    throughout is dropped. One-bit files hold 0 and 1, 2- and 4-bit ones 0 to 3 and 0 to 15.
    A trap: Pillow alone would cut 16-bit colours to 8 bits and stretch 2- and 4-bit greys.
    """
    from PIL import PngImagePlugin  # decoders are imported on first use: the command line is quick

    if len(content) < _PNG_HEADER:
        raise DataError("is cut short: it ends within the PNG header; copy or export it again")
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    channels = _PNG_CHANNELS.get(colour, 4)
    size = width * height * (3 if colour == 3 else channels) * (2 if depth == 16 else 1)
    check_decoded(size, limit, stored=len(content), ratio=1100 * 8 // min(8, max(1, depth)) * 3)
    PngImagePlugin.PngImageFile(BytesIO(content)).verify()  # every chunk's checksum
    image = PngImagePlugin.PngImageFile(BytesIO(content))
    _refuse_animation(image)
    image.load()  # also reads what comes after the pixels, such as EXIF
    _refuse_turned(image)
    if depth == 16 and channels > 1:
        return _without_alpha(_deep_colours(content), colour in (4, 6))
    return _from_mode(image, depth, label=label)


def decode_jpeg(content: bytes, limit: int, *, label: bool) -> Raw:
    """The values of a JPEG: ``(rows, columns)``, colours on a last axis; never a label."""
    from PIL import JpegImagePlugin

    if label:
        raise DataError(
            "a label cannot be a JPEG: it does not keep values; store labels as PNG, TIFF or NIfTI"
        )
    image = JpegImagePlugin.JpegImageFile(BytesIO(content))
    bands = len(image.getbands())
    check_decoded(image.width * image.height * bands, limit, stored=len(content))
    if image.mode not in ("L", "RGB"):
        raise DataError(f"a JPEG in {image.mode} is not read; convert it to RGB or grey")
    if "mpoffset" in image.info:
        raise DataError("holds several pictures (MPO); save the wanted one alone")
    image.load()
    _refuse_turned(image)
    array = np.asarray(image)
    return Raw(array, "none" if array.ndim == 2 else "last")


def one_label_channel(array: np.ndarray) -> np.ndarray:
    """A colour label whose channels are all equal, as one channel; nothing is lost.

    Args:
        array: ``(*space, channels)``.
    """
    first = array[..., 0]
    if any(not np.array_equal(first, array[..., i]) for i in range(1, array.shape[-1])):
        raise DataError(
            "is a colour picture, not a label: its channels differ; "
            "store one number per position, as grey or palette"
        )
    return first


def drop_opaque(array: np.ndarray, top: float) -> np.ndarray:
    """``(*space, channels)`` without its last channel, an alpha that must be ``top`` throughout."""
    if not (array[..., -1] == top).all():
        raise DataError(
            "has an alpha channel that is not opaque throughout; "
            "flatten it onto a background, or store the channels that matter"
        )
    return array[..., :-1]


def import_codecs(what_needs: str, otherwise: str) -> Any:
    """The package ``imagecodecs``, which not every installation has.

    Args:
        what_needs: what cannot be read without it, and the verb.
        otherwise: the other way out.

    Raises:
        DataError: when it is missing, saying how to install it.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise DataError(
            f"{what_needs} one more package: pip install 'labelmend[tiff]', or {otherwise}"
        ) from error
    return imagecodecs


def refuse_orientation(orientation: object) -> None:
    """Refuse a file that asks viewers to turn it: its label would not turn with it."""
    if orientation not in (None, 1):
        raise DataError(
            f"asks to be turned when shown (orientation {orientation!r}), which its label does "
            "not; save it upright, with orientation 1, and check that the label still fits"
        )


def _refuse_turned(image: Any) -> None:
    refuse_orientation(image.getexif().get(_ORIENTATION))


def _refuse_animation(image: Any) -> None:
    if getattr(image, "is_animated", False) or getattr(image, "n_frames", 1) > 1:
        raise DataError("is an animation; save the wanted frame alone, or all as pages of a TIFF")


def _from_mode(image: Any, depth: int, *, label: bool) -> Raw:
    if image.mode == "P":
        return _from_palette(image, label=label)
    array = np.asarray(image)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if depth in (2, 4) and array.ndim == 2:
        array = array // np.uint8(255 // (2**depth - 1))
    if depth == 16:
        array = array.astype(np.uint16)
    key = image.info.get("transparency")
    if key is not None and not label:
        clear = (array == np.asarray(key)).reshape(*array.shape[:2], -1).all(axis=-1)
        _refuse_transparent(clear)
    return _without_alpha(array, image.mode in ("LA", "RGBA"))


def _from_palette(image: Any, *, label: bool) -> Raw:
    indices = np.asarray(image)
    if label:
        return Raw(indices, "none")
    key = image.info.get("transparency")
    alpha = np.full(256, 255, np.uint8)
    if isinstance(key, bytes):
        alpha[: len(key)] = np.frombuffer(key, np.uint8)
    elif key is not None:
        alpha[key] = 0
    _refuse_transparent(alpha[indices] != 255)
    return Raw(np.asarray(image.convert("RGB")), "last")


def _refuse_transparent(clear: np.ndarray) -> None:
    if clear.any():
        raise DataError("has transparent positions; give them a value of their own and no alpha")


def _deep_colours(content: bytes) -> np.ndarray:
    codecs = import_codecs("16-bit colours in a PNG need", "save it as TIFF")
    return np.asarray(codecs.png_decode(content))


def _without_alpha(array: np.ndarray, alpha: bool) -> Raw:
    if alpha:
        array = drop_opaque(array, np.iinfo(array.dtype).max)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return Raw(array, "none" if array.ndim == 2 else "last")
