"""Weights that somebody brought along: an earlier run's, or what they know of their labels."""

from __future__ import annotations

import math
from pathlib import Path

from labelmend.errors import DamagedError, DataError
from labelmend.files.sources import read_bytes
from labelmend.runs.records import from_table
from labelmend.types import DataSet


def read_weights(path: Path, highest: float, data: DataSet) -> dict[str, float]:
    """Initial weights of all weak training labels from a CSV file, by label.

    An earlier run's ``weights.csv`` will do, whose first column is called ``id``.

    Raises:
        DataError: when the file cannot be read as that, a label is unknown or missing, or a
            weight is out of range, naming file and label.
    """
    rows = _rows(path)
    column = "label" if rows and "label" in rows[0] else "id"
    if not rows or not {column, "weight"} <= rows[0].keys():
        raise DataError(f"{path} needs the columns label and weight, and a row for every label")
    given = {row[column]: row["weight"] for row in rows}
    if len(given) < len(rows):
        names = [row[column] for row in rows]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} has {twice} in several rows; leave one")
    known = {s.id for s in data.samples}
    wanted = [s.id for s in data.of("train", "weak")]
    if wanted and (strange := sorted(given.keys() - known)):
        raise DataError(
            f"{path}: {strange[0]} is no label of {data.root}; weak ones are like {min(wanted)}"
        )
    if missing := [name for name in wanted if name not in given]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{path} has no weight for the weak label {missing[0]}{more}; add a row")
    # Of weak labels only: an earlier run's strong ones weigh 1, whatever is the highest here.
    return {name: _weight(given[name], name, path, highest) for name in wanted}


def _rows(path: Path) -> list[dict[str, str]]:
    content = read_bytes(path)
    try:
        return from_table(content.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n"), str(path))
    except DamagedError as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 with rows of one length") from error


def _weight(text: str, name: str, path: Path, highest: float) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= highest:
        raise DataError(
            f"{path}: the weight of {name} must be a number from 0 to {highest:g}, not {text!r}"
        )
    return weight
