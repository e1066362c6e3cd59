"""What predictions mean, in numbers: per object, per file, and by rules of a user's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from labelmend.errors import DataError, SettingsError
from labelmend.files.stripwise import replacing
from labelmend.inference.objects import Object
from labelmend.inference.rules import WAYS, Rule, combine
from labelmend.labels.events import seconds
from labelmend.runs import write_atomically
from labelmend.runs.atomic import keeping
from labelmend.runs.records import from_json, to_json, to_table
from labelmend.types import DataSpec

UNITS = {1: ("length", "s", "s"), 2: ("area", "mm", "mm2"), 3: ("volume", "mm", "mm3")}
"""Per number of axes: what a size is called, the unit of a distance, and that of a size."""

_PER_AXIS = ("size", "spacing")

UNSURE = ("uncertainty", "disagreement")
"""The columns that are there where somebody asked; the second where two networks were trained."""

Row = dict[str, Any]
"""One line of a table: texts and numbers, None where something is not known."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What one file's prediction comes to.

    Attributes:
        file: the image.
        label: the label, below the folder of all labels.
        size: positions per axis.
        spacing: the distance between positions per axis, None where nobody said it.
        counts: positions per class index.
        objects: a row per object, numbered within its class from 1.
        flags: the names of the rules that hold.
        uncertainty: mean over all positions, where it was asked for.
        disagreement: of two networks, likewise.
    """

    file: str
    label: str
    size: tuple[int, ...]
    spacing: tuple[float, ...] | None
    counts: tuple[int, ...]
    objects: tuple[Row, ...]
    flags: tuple[str, ...] = ()
    uncertainty: float | None = None
    disagreement: float | None = None

    def to_json(self) -> Row:
        """As plain values; :meth:`from_json` undoes it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Conclusion:
        """From the plain values of :meth:`to_json`."""
        plain: Row = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def conclude(
    names: tuple[str, str],
    size: Sequence[int],
    spacing: Sequence[float] | None,
    found: tuple[Sequence[int], Sequence[Object]],
    spec: DataSpec,
    unsure: Sequence[float] = (),
) -> Conclusion:
    """A file's conclusion from what was found in its label.

    Args:
        names: the image's and the label's.
        size: positions per axis.
        spacing: distance between positions per axis: millimetres, for recordings seconds.
        found: positions per class index, and the objects in order.
        spec: names the classes.
        unsure: the means of :data:`UNSURE` over all positions, as far as they are known.

    >>> spec = DataSpec("segmentation", ("none", "cell"), (0, 1), None, 2, 1, "none", ".png")
    >>> cell = Object(1, 6, (2.0, 1.5), (1, 1), (4, 3), (90.0,), 0.75)
    >>> found = conclude(("a.png", "a.png"), (10, 10), (0.5, 0.5), ((94, 6), [cell]), spec)
    >>> row = found.objects[0]
    >>> row["class"], row["number"], row["area"], row["area_mm2"], row["centroid_0_mm"]
    ('cell', 1, 6, 1.5, 1.0)
    """
    counts, objects = found
    full = (*counts, *([0] * (len(spec.classes) - len(counts))))
    step = None if spacing is None else tuple(spacing)
    rows: list[Row] = []
    numbers = [0] * len(spec.classes)
    for each in objects:
        numbers[each.index] += 1
        rows.append(_row(each, numbers[each.index], step, spec))
    told = (tuple(int(n) for n in full), tuple(rows))
    means: dict[str, Any] = dict(zip(UNSURE, unsure, strict=False))
    return replace(Conclusion(*names, tuple(size), step, *told), **means)


def _row(each: Object, number: int, spacing: tuple[float, ...] | None, spec: DataSpec) -> Row:
    measure, unit, power = UNITS[spec.dims]
    row: Row = {"class": spec.classes[each.index], "number": number, measure: each.size}
    row[f"{measure}_{power}"] = None if spacing is None else each.size * math.prod(spacing)
    for axis, place in enumerate(each.centroid):
        row[f"centroid_{axis}"] = place
        row[f"centroid_{axis}_{unit}"] = None if spacing is None else place * spacing[axis]
    for axis, (begin, end) in enumerate(zip(each.begin, each.end, strict=True)):
        row |= {f"begin_{axis}": begin, f"end_{axis}": end}
    if spec.dims == 1:
        row["onset_s"] = None if spacing is None else seconds(each.begin[0], spacing[0])
        row["offset_s"] = None if spacing is None else seconds(each.end[0], spacing[0])
    row |= {f"mean_{channel}": mean for channel, mean in enumerate(each.means)}
    row["confidence"] = each.confidence
    row |= _unsure(each)
    if spec.dims > 1:
        row["extent"] = each.extent
    if spec.dims == 2:
        row |= {name: getattr(each, name) for name in ("perimeter", "eccentricity", "solidity")}
    return row


# ---------------------------------------------------------------- figures of a file


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures that a rule can ask for, for data of one kind.

    These are all columns of the table of files that hold numbers, and of that of objects how they
    come together in a file, per class.

    >>> spec = DataSpec("segmentation", ("none", "cell"), (0, 1), None, 2, 1, "none", ".png")
    >>> [name for name in Figures(spec).names if "." in name][:3]
    ['cell.count', 'cell.burden', 'burden.cell']
    >>> {"size_0", "cell.area_mm2.max", "cell.centroid_0.mean"} <= set(Figures(spec).names)
    True
    """

    spec: DataSpec
    unsure: tuple[str, ...] = ()
    """Which of :data:`UNSURE` are known, too."""
    _table: dict[str, tuple[int, str, str]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_table", self._made())

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._table)

    def of(self, conclusion: Conclusion, name: str) -> float | None:
        """One figure of one file, None where it needs a spacing and there is none."""
        index, column, way = self._table[name]
        if column in UNSURE and not way:
            found: float | None = getattr(conclusion, name)
            return found
        if column in _PER_AXIS:
            along = getattr(conclusion, column)
            return None if along is None else float(along[index])
        if way:
            wanted = self.spec.classes[index]
            values = [row[column] for row in conclusion.objects if row["class"] == wanted]
            if any(value is None for value in values):
                return None
            return combine(values, way)
        return self.summary(conclusion)[self.spec.classes[index]][column]

    def summary(self, conclusion: Conclusion) -> dict[str, dict[str, float | None]]:
        """Count, burden, size and rate per class: what stands in the table of files."""
        measure, _, power = UNITS[self.spec.dims]
        unit = None if conclusion.spacing is None else math.prod(conclusion.spacing)
        total = math.prod(conclusion.size)
        every: dict[str, dict[str, float | None]] = {}
        for index, name in enumerate(self.spec.classes[1:], 1):
            count = sum(row["class"] == name for row in conclusion.objects)
            size = conclusion.counts[index]
            every[name] = {
                "count": count,
                "burden": size / total,
                measure: size,
                f"{measure}_{power}": None if unit is None else size * unit,
                f"rate_per_{power}": None if unit is None else count / (total * unit),
            }
        return every

    def judge(self, conclusion: Conclusion, rule: Rule) -> Conclusion:
        """The conclusion, with the name of a rule among its flags where that holds.

        Raises:
            DataError: when the rule asks for what is not known of this file, naming both.
        """
        asked = {name: self.of(conclusion, name) for name in rule.asks_for}
        try:
            holds = rule.holds(asked)
        except DataError as error:
            raise DataError(f"{conclusion.file}: the rule {rule.name!r} {error}") from error
        return replace(conclusion, flags=(*conclusion.flags, rule.name)) if holds else conclusion

    def _made(self) -> dict[str, tuple[int, str, str]]:
        measure, _, power = UNITS[self.spec.dims]
        own = (measure, f"{measure}_{power}")
        per_object = [
            *(column for column in _columns(self.spec) if column != "class"),
            *self.unsure,
        ]
        table: dict[str, tuple[int, str, str]] = {}
        table |= {name: (0, name, "") for name in self.unsure}
        for axis in range(self.spec.dims):
            table |= {f"{name}_{axis}": (axis, name, "") for name in _PER_AXIS}
        for index, name in enumerate(self.spec.classes[1:], 1):
            table[f"{name}.count"] = (index, "count", "")
            table[f"{name}.burden"] = table[f"burden.{name}"] = (index, "burden", "")
            for column in (*own, f"rate_per_{power}"):
                table[f"{name}.{column}"] = (index, column, "")
            for column in per_object:
                table |= {f"{name}.{column}.{way}": (index, column, way) for way in WAYS}
        return table


# ---------------------------------------------------------------- files


def write_part(path: Path, conclusion: Conclusion) -> None:
    """Keep one file's conclusion, so that a prediction that is resumed need not make it again."""
    with keeping("the conclusions", path.parent, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, to_json(conclusion.to_json(), f"the conclusion for {conclusion.file}"))


def read_part(path: Path) -> Conclusion:
    """What :func:`write_part` kept.

    Raises:
        DamagedError: when the file is not whole.
    """
    return Conclusion.from_json(from_json(path.read_bytes(), str(path)))


def write_conclusions(
    folder: Path, conclusions: Sequence[Conclusion], spec: DataSpec, *, parquet: bool = False
) -> None:
    """Write ``objects.csv``, ``files.csv`` and ``conclusions.json`` with all of both.

    Args:
        folder: made if missing; files of an earlier time are replaced.
        conclusions: one per file, judged by the rules already.
        spec: names the classes.
        parquet: whether to write ``objects.parquet`` and ``files.parquet`` too.

    Raises:
        SettingsError: for Parquet without pyarrow; StorageError: when the disk refuses.
    """
    figures = Figures(spec)
    objects = [{"file": each.file, **row} for each in conclusions for row in each.objects]
    files = [_file_row(each, figures) for each in conclusions]
    tables = {"objects": objects, "files": files}
    empty = {"objects": _object_columns(spec, conclusions), "files": ["file", "label", "flags"]}
    with keeping("the conclusions", folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        columns = list(rows[0]) if rows else empty[name]
        write_atomically(folder / f"{name}.csv", to_table(rows, columns))
        if parquet:
            _write_parquet(folder / f"{name}.parquet", rows, columns)
    everything = {
        "classes": spec.classes,
        "files": [{**each.to_json(), "classes": figures.summary(each)} for each in conclusions],
    }
    write_atomically(folder / "conclusions.json", to_json(everything, "conclusions"))


def check_parquet() -> None:
    """Refuse Parquet before anything is done, where the library for it is missing.

    Raises:
        SettingsError: naming what to install.
    """
    try:
        import_module("pyarrow.parquet")
    except ImportError as error:
        raise SettingsError(
            "Parquet needs one more package: pip install pyarrow; the CSV tables hold the same"
        ) from error


def _file_row(each: Conclusion, figures: Figures) -> Row:
    row: Row = {"file": each.file, "label": each.label}
    for axis, n in enumerate(each.size):
        row[f"size_{axis}"] = n
        row[f"spacing_{axis}"] = None if each.spacing is None else each.spacing[axis]
    for name, summary in figures.summary(each).items():
        row |= {f"{name}.{column}": value for column, value in summary.items()}
    return row | _unsure(each) | {"flags": " ".join(each.flags)}


def _unsure(each: Object | Conclusion) -> Row:
    """The columns of :data:`UNSURE` that are known."""
    found = {name: getattr(each, name) for name in UNSURE}
    return {name: value for name, value in found.items() if value is not None}


def _columns(spec: DataSpec, **unsure: Any) -> list[str]:
    """The columns of an object's row; those of :data:`UNSURE` that are given, too."""
    nothing = (0.0,) * spec.dims
    one = Object(0, 1, nothing, (0,) * spec.dims, (1,) * spec.dims, (0.0,) * spec.channels, 1.0)
    return list(_row(replace(one, **unsure), 1, None, spec))


def _object_columns(spec: DataSpec, conclusions: Sequence[Conclusion]) -> list[str]:
    return ["file", *_columns(spec, **(_unsure(conclusions[0]) if conclusions else {}))]


def _write_parquet(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    table = pyarrow.table({name: [row[name] for row in rows] for name in columns})
    with replacing(path) as temporary:
        parquet.write_table(table, temporary)
