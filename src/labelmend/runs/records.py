"""Records as plain text: lines of JSON that only grow, and tables of comma-separated values."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from labelmend.errors import DamagedError, NonFiniteError, RunError
from labelmend.runs.atomic import keeping, sync_folder, write_all, write_atomically
from labelmend.runs.disk import Disk
from labelmend.runs.sums import read_bytes

_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_REAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?")


class Lines:
    """A file with one JSON object per line, each with the ``step`` it was written at.

    A kill can tear the last line only. A torn one was never acknowledged: readers pass over it
    and the next append removes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, object]) -> None:
        """Add one line by one write; a refused write leaves the file as it was.

        Raises:
            NonFiniteError: for NaN or infinity, naming its place.
            StorageError: when the disk refuses.
        """
        step = record.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise RunError(f"a record needs the 'step' it belongs to, 0 or more, not {step!r}")
        line = to_json(record, f"record of step {step}") + b"\n"
        with keeping(self.path.name, self.path.parent, len(line)):
            file = Disk.extend(self.path)
            try:
                _append(file, line)
            finally:
                os.close(file)

    def read(self) -> list[dict[str, Any]]:
        """All records in order; none where there is no file yet.

        Raises:
            DamagedError: for a line that is not a record, naming file and line.
        """
        if not self.path.exists():
            return []
        return [record for _, record in self._records()]

    def rewind(self, step: int) -> None:
        """Drop the records of later steps, in one step that a crash cannot divide."""
        if not self.path.exists():
            return
        before = read_bytes(self.path)
        after = b"".join(line for line, record in self._records() if record["step"] <= step)
        if after != before:
            write_atomically(self.path, after)

    def sync(self) -> None:
        """Wait until what was appended has reached the disk."""
        if self.path.exists():
            file = Disk.extend(self.path)
            try:
                Disk.sync(file)
            finally:
                os.close(file)

    def _records(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        *lines, _torn = read_bytes(self.path).split(b"\n")
        for number, line in enumerate(lines, start=1):
            where = f"line {number} of {self.path}"
            record = from_json(line, where)
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                raise DamagedError(f"{where} is not a record with a step; restore the file")
            yield line + b"\n", record


def _append(file: int, line: bytes) -> None:
    size = _end_of_whole_lines(file)
    try:
        write_all(file, line)
    except OSError:
        with suppress(OSError):
            Disk.truncate(file, size)
        raise


def _end_of_whole_lines(file: int) -> int:
    end = os.lseek(file, 0, os.SEEK_END)
    if end == 0:
        return 0
    os.lseek(file, end - 1, os.SEEK_SET)
    if os.read(file, 1) == b"\n":
        return end
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb", closefd=False) as stream:
        whole = stream.read().rfind(b"\n") + 1
    Disk.truncate(file, whole)
    return whole


def to_json(value: object, where: str) -> bytes:
    """JSON from which equal values come back; tuples and arrays come back as lists.

    Raises:
        NonFiniteError: for NaN or infinity, which JSON has no word for; ``None`` has one.
        RunError: for what is not a number, text, list or dict, naming its place.
    """
    return json.dumps(plain(value, where), allow_nan=False).encode()


def from_json(data: bytes, where: str) -> Any:
    """The values that :func:`to_json` wrote.

    Raises:
        DamagedError: for anything else, naming ``where`` it stood.
    """
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where} is not valid JSON; restore the file from a copy") from error


def plain(value: object, where: str) -> Any:
    """Numbers, texts, lists and dicts only, as equal values; arrays become lists.

    >>> plain({"size": (2, 3)}, "facts")
    {'size': [2, 3]}
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise NonFiniteError(f"{where} is {value}; a record holds finite numbers, or None")
    if isinstance(value, (int, float)):
        return float(value) if isinstance(value, float) else int(value)
    if isinstance(value, Mapping):
        return {_key(key, where): plain(item, f"{where}, {key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}, place {place}") for place, item in enumerate(value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), where)
    raise RunError(
        f"{where} is a {type(value).__name__}, which cannot be kept as JSON; "
        "give numbers, texts, lists or dicts of them"
    )


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise RunError(f"{where} has the key {key!r}, which is not a text; JSON keys are texts")
    return key


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def to_table(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> bytes:
    """Comma-separated values with a header; ``None`` becomes an empty field.

    Any text comes back as it was: quotes, commas, line ends, unpaired surrogates.
    """
    text = io.StringIO(newline="")
    # \r\n as RFC 4180 has it: only then does every Python quote both characters in a field
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_field(row.get(column)) for column in columns])
    return text.getvalue().encode("utf-8", "surrogatepass")


def from_table(data: bytes, where: str) -> list[dict[str, str]]:
    """The rows that :func:`to_table` wrote, every field a text.

    Raises:
        DamagedError: when rows are not as long as the header.
    """
    try:
        text = io.StringIO(data.decode("utf-8", "surrogatepass"), newline="")
        header, *rows = list(csv.reader(text, strict=True))
        return [dict(zip(header, row, strict=True)) for row in rows]
    except (ValueError, csv.Error) as error:
        raise DamagedError(f"{where} is not the table that was written: {error}") from error


def read_field(text: str) -> float | int | str | None:
    """A number where the field is one, ``None`` where it is empty, else the text.

    >>> [read_field(text) for text in ("0.25", "3", "", "a")]
    [0.25, 3, None, 'a']
    """
    if text == "":
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _REAL.fullmatch(text) else text


def _field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)


def sync_lines(*files: Lines) -> None:
    """Wait until records, and the names of their files, have reached the disk."""
    for file in files:
        file.sync()
    sync_folder(files[0].path.parent)
