"""Decode recordings, spectra and lists of events."""

from __future__ import annotations

import csv
import mmap
import re
import struct
from io import BytesIO, StringIO
from itertools import pairwise
from typing import Any

import numpy as np

from labelmend.errors import DataError
from labelmend.files.formats import Content, Raw, check_decoded, damaged, nearest
from labelmend.labels.events import Event

EVENT_COLUMNS = ("onset_s", "offset_s", "label")
POSITION_NAMES = frozenset(
    {"position", "x", "time", "timestamp", "seconds", "wavenumber", "wavelength", "frequency"}
    | {"energy", "shift", "mz", "m/z"}
)
"""Names of a first column that holds positions, not values; a unit may follow them."""

_SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6}
_TIME = re.compile(rf"(?:time|timestamp|t)(?:[ _]*[(\[]|[ _]+)({'|'.join(_SECONDS)})[)\]]?")
_WITH_UNIT = re.compile(r"(.+?)\s*(?:[(\[].*[)\]]|_(?:nm|um|mm|cm|ev|kev|hz|khz))")

_SAMPLE_BYTES = {
    "PCM_U8": ("int16", 8, np.int8),
    "PCM_S8": ("int16", 8, np.int8),
    "PCM_16": ("int16", 0, np.int16),
    "PCM_24": ("int32", 8, np.int32),
    "PCM_32": ("int32", 0, np.int32),
    "FLOAT": ("float32", 0, np.float32),
    "DOUBLE": ("float64", 0, np.float64),
}
_UNEVEN = 1e-3
_A_RISE = 8
"""So many values that only rise, or only fall, are positions rather than chance."""


def decode_audio(content: Content, limit: int, span: slice | None = None) -> Raw:
    """The samples of a WAV or FLAC file: ``(frames, channels)``, or ``(frames,)`` where mono.

    Whole numbers are kept; 8-bit samples are centred on 0. ``span`` reads only those frames.
    """
    import soundfile

    _check_riff(content)
    stream: Any = content if isinstance(content, mmap.mmap) else BytesIO(content)
    with soundfile.SoundFile(stream) as sound:
        if sound.subtype not in _SAMPLE_BYTES:
            raise DataError(
                f"samples stored as {sound.subtype} are not read; save them as 16- or 24-bit PCM"
            )
        dtype, shift, kept = _SAMPLE_BYTES[sound.subtype]
        check_decoded(sound.frames * sound.channels * np.dtype(dtype).itemsize, limit)
        start, stop = (0, sound.frames) if span is None else (span.start, span.stop)
        if not 0 <= start <= stop <= sound.frames:
            raise DataError(f"the region {start} to {stop} does not lie inside its {sound.frames}")
        sound.seek(start)
        array = sound.read(stop - start, dtype=dtype)
        if len(array) != stop - start:
            raise damaged("sound")
        rate = sound.samplerate
    values = (array >> shift).astype(kept) if shift else array
    return Raw(values, "none" if values.ndim == 1 else "last", (1.0 / rate,))


def decode_table(content: bytes, limit: int) -> Raw:
    """The numbers of a spectrum as CSV: ``(positions,)``, or ``(positions, channels)``.

    One column holds values. With several, the header decides: a first column that is called
    ``position``, ``wavenumber``, ``time_s``, ``Time (ms)`` or the like holds positions and gives
    the spacing if they are even; all other columns are channels. A first column of another name
    that only rises or only falls is refused. Separators are comma, semicolon or tab.
    """
    check_decoded(8 * len(content), limit)
    text = content.decode("utf-8-sig").strip("\r\n")
    first, _, rest = text.partition("\n")
    comma = next((mark for mark in "\t;" if mark in first), ",")
    names = [name.strip().strip('"') for name in first.split(comma)]
    header = not all(_is_number(name) for name in names)
    if len(names) > 1 and not header:
        raise DataError(
            f"has {len(names)} columns and no header, so nobody can say which holds positions; "
            "name them in a first line, for example position,intensity"
        )
    numbers = _numbers(rest if header else text, comma, len(names), 2 if header else 1)
    spacing = None
    if len(names) > 1:
        unit = position_unit(names[0])
        if unit is None:
            _refuse_unnamed_positions(names[0], numbers[:, 0])
        else:
            spacing = _even(names[0], numbers[:, 0], unit)
            numbers = numbers[:, 1:]
    if numbers.shape[1] == 1:
        return Raw(numbers[:, 0], "none", spacing)
    return Raw(numbers, "last", spacing)


def position_unit(name: str) -> float | None:
    """What one step of a column of this name is in the unit of its spacing.

    None where the name is none of positions; times are in seconds unless the name says otherwise.

    >>> position_unit("Time (ms)"), position_unit("Wavelength [nm]"), position_unit("lead I")
    (0.001, 1.0, None)
    """
    lower = name.strip().lower()
    time = _TIME.fullmatch(lower)
    if time:
        return _SECONDS[time[1]]
    unit = _WITH_UNIT.fullmatch(lower)
    bare = unit[1] if unit else lower
    known = bare in POSITION_NAMES and not (unit and bare in ("time", "timestamp"))
    return 1.0 if known else None


def is_event_list(content: Content) -> bool:
    """Whether a CSV's header names an onset or an offset."""
    first = bytes(content[:4096]).split(b"\n", 1)[0].lower()
    return b"onset" in first or b"offset" in first


def decode_events(content: bytes) -> tuple[Event, ...]:
    """The rows of a CSV with the columns ``onset_s``, ``offset_s`` and ``label``."""
    rows = csv.reader(StringIO(content.decode("utf-8-sig"), newline=""))
    names = [name.strip() for name in next(rows)]
    for name in names:
        if name not in EVENT_COLUMNS:
            raise DataError(f"unknown column {name!r}{nearest(name, EVENT_COLUMNS)}")
    missing = [name for name in EVENT_COLUMNS if name not in names]
    if missing or len(names) != len(EVENT_COLUMNS):
        raise DataError(f"needs the columns {','.join(EVENT_COLUMNS)}, not {','.join(names)}")
    places = [names.index(name) for name in EVENT_COLUMNS]
    return tuple(_event(row, places, rows.line_num) for row in rows if row)


def _event(row: list[str], places: list[int], line: int) -> Event:
    if len(row) != len(places):
        raise DataError(f"line {line} should have {len(places)} cells, not {len(row)}")
    onset, offset, name = (row[i].strip() for i in places)
    for text in (onset, offset):
        if not _is_number(text):
            raise DataError(f"line {line}: {text!r} is not a number of seconds; correct it")
    if not name:
        raise DataError(f"line {line} has no label; name the event or remove the line")
    return Event(float(onset), float(offset), name)


def _check_riff(content: Content) -> None:
    """Refuse a WAV whose chunks end beyond the file: libsndfile would read what is left."""
    if bytes(content[:4]) != b"RIFF":
        return
    place = 12
    while place + 8 <= len(content):
        name, size = struct.unpack("<4sI", content[place : place + 8])
        place += 8 + size + size % 2
        if name == b"data":
            if place - size % 2 > len(content):
                raise damaged("WAV")
            return
    raise damaged("WAV")


def _numbers(text: str, comma: str, columns: int, line: int) -> np.ndarray:
    if not text.strip():
        return np.empty((0, columns))
    try:
        numbers = np.loadtxt(StringIO(text), delimiter=comma, ndmin=2, comments=None)
    except ValueError as error:
        raise _wrong_row(text, comma, columns, line) from error
    if numbers.shape[1] != columns:
        raise DataError(f"line {line} has {numbers.shape[1]} cells, the first line {columns}")
    return numbers


def _wrong_row(text: str, comma: str, columns: int, line: int) -> DataError:
    for number, row in enumerate(text.splitlines(), line):
        cells = row.split(comma)
        wrong = next((cell for cell in cells if not _is_number(cell)), None)
        if row and wrong is not None:
            return DataError(f"line {number}: {wrong.strip()!r} is not a number; correct it")
        if row and len(cells) != columns:
            return DataError(f"line {number} should have {columns} cells, not {len(cells)}")
    return DataError("is not a table of numbers; export it again")


def _refuse_unnamed_positions(name: str, values: np.ndarray) -> None:
    """Times and wavenumbers look like one more channel, and a network would learn from them."""
    if len(values) >= _A_RISE and _turn(values) is None:
        raise DataError(
            f"its first column, {name!r}, only rises or only falls, as positions do, and its name "
            "does not say whether it holds them; call it time_s, time_ms or position if it does, "
            "else put another column first"
        )


def _even(name: str, positions: np.ndarray, unit: float) -> tuple[float, ...] | None:
    bad = _turn(positions)
    if bad is not None:
        raise DataError(
            f"its first column, {name!r}, is taken for positions, which neither rise nor fall "
            f"throughout (at {positions[bad]:g}); sort them, or call the column otherwise if it "
            "holds values"
        )
    steps = np.diff(positions)
    if not len(steps) or np.ptp(steps) > _UNEVEN * abs(float(steps.mean())):
        return None
    return (abs(float(steps.mean())) * unit,)


def _turn(positions: np.ndarray) -> int | None:
    """The first place from which they go another way, or stand still; None without one."""
    steps = np.diff(positions)
    if (steps > 0).all() or (steps < 0).all():
        return None
    return next(i for i, (a, b) in enumerate(pairwise([steps[0], *steps])) if not a * b > 0)


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
