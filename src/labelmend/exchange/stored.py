"""Labels that are files of one value per position: which value is which class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import UNKNOWN, Reading, Source, within
from labelmend.exchange.classes import (
    BACKGROUND,
    choose_classes,
    is_background,
    is_ignored,
    numbered,
)
from labelmend.files.readers import check_affines, check_sizes, decode, read_bytes
from labelmend.files.values import distinct, whole_numbers
from labelmend.types import Raster

USUAL_IGNORE = 255

_MANY = 64

Codes = Mapping[int, int]
"""Value in files → class index, or :data:`UNKNOWN`."""

Decode = Callable[[Path], tuple[np.ndarray, np.ndarray | None]]
"""Label file → its values int64 ``(*space)``, and its affine where it has one."""


def plain_values(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of a label file in grey or with a palette, and its affine.

    Raises:
        DataError: when it cannot be read, or is a colour picture; naming it.
    """
    raw = decode(path, read_bytes(path), label=True)
    with within(path):
        if raw.channel == "last":
            first = raw.array[..., 0]
            if any(
                not np.array_equal(first, raw.array[..., i]) for i in range(raw.array.shape[-1])
            ):
                raise DataError("is a colour picture; store one number per position, or use voc")
            return whole_numbers(first), raw.affine
        return whole_numbers(raw.array), raw.affine


def stored_label(path: Path, codes: Codes, read: Decode = plain_values) -> Reading:
    """A reader of one label file, for when its image is there."""
    return partial(_coded, path, codes, read)


@dataclass(frozen=True, slots=True)
class Naming:
    """What a file says that values are called.

    Attributes:
        names: value → class name; empty where no file says it.
        where: the file, for messages.
        counted: whether it lists names only, the values being their places.
    """

    names: Mapping[int, str]
    where: Path
    counted: bool = False


def settle_codes(
    source: Source,
    naming: Naming,
    paths: Sequence[Path],
    read: Decode,
    *,
    ignore: int | None = None,
) -> tuple[tuple[str, ...], dict[int, int], tuple[str, ...]]:
    """Classes, the background first, codes, and notes for a person.

    Where a file names the values, ``--classes`` chooses among its names; else it names 1, 2, 3
    and so on. 255 is ignored, unless it has a name, or names are only counted, there is one, and
    no value but 0 and 255 occurs: then it is that class.

    Args:
        source: says which classes are wanted.
        naming: what a file says.
        paths: all label files; read only where values must tell what they mean.
        read: how.
        ignore: the value that the format ignores where nobody names classes.

    Raises:
        DataError: for a wanted class without a value, or values that do not say what they mean.
    """
    every = naming.names or numbered(source.classes)
    if not every:
        return *codes_from_files(paths, read, ignore=ignore), ()
    named = choose_classes(source, naming.names, naming.where) if naming.names else every
    classes, codes = codes_of_values(named)
    counted = naming.counted or not naming.names
    if counted and len(every) == len(classes) == 2 and _only_two_values(paths, read):
        note = f"Label files hold only 0 and {USUAL_IGNORE}, which is taken as {classes[1]!r}."
        return classes, codes | {USUAL_IGNORE: 1}, (note,)
    return classes, codes, ()


def codes_of_values(names: Mapping[int, str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Classes, the background first, and codes, where value → name is known.

    The background is the class called so, else that of the lowest value. Names for what is
    ignored take their value, and 255 is ignored where no name has it.

    >>> codes_of_values({0: "bg", 7: "cell"})
    (('bg', 'cell'), {0: 0, 7: 1, 255: -1})
    """
    behind = [value for value, name in names.items() if is_background(name)] or [min(names)]
    others = [v for v in names if v not in behind and not is_ignored(names[v])]
    order = [behind[0], *others]
    codes = {value: index for index, value in enumerate(order)}
    codes |= dict.fromkeys(behind, 0) | {v: UNKNOWN for v in names if is_ignored(names[v])}
    codes.setdefault(USUAL_IGNORE, UNKNOWN)
    first = names[order[0]]
    first = first.strip("_") if is_background(first) else first
    return (first, *(names[value] for value in order[1:])), codes


def codes_from_files(
    paths: Iterable[Path], read: Decode, *, ignore: int | None
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Classes and codes from the values that occur, where nobody says their names.

    Args:
        paths: all label files; each is read.
        read: how.
        ignore: the value that the format ignores, if there is one.

    Raises:
        DataError: when the values do not say what they mean.
    """
    values: set[int] = set()
    path = Path()
    for path in paths:
        values |= set(distinct(read(path)[0]).tolist())
        if len(values) > _MANY:
            raise DataError(
                f"{path}: labels hold more than {_MANY} values, as if every object had its own; "
                "name the classes with --classes, or put the files into a data folder with "
                "instances = true"
            )
    found = sorted(values - {ignore})
    if len(found) == 2 and found[0] == 0:
        return (BACKGROUND, "foreground"), {0: 0, found[1]: 1} | _ignored(ignore)
    if not found or found[0] != 0 or len(found) == 1 or USUAL_IGNORE in found:
        shown = ", ".join(map(str, sorted(values)[:12]))
        raise DataError(
            f"{path}: labels hold {shown}, which does not say what is what; name the classes of "
            "1, 2, … with --classes"
        )
    names = (BACKGROUND, *(f"class {value}" for value in found[1:]))
    return names, {value: index for index, value in enumerate(found)} | _ignored(ignore)


def _only_two_values(paths: Iterable[Path], read: Decode) -> bool:
    """Whether 255 occurs, and nothing but 0 beside it."""
    found: set[int] = set()
    for path in paths:
        found |= set(distinct(read(path)[0]).tolist())
        if not found <= {0, USUAL_IGNORE}:
            return False
    return USUAL_IGNORE in found


def _ignored(value: int | None) -> dict[int, int]:
    return {} if value is None else {value: UNKNOWN}


def _coded(path: Path, codes: Codes, read: Decode, image: Raster) -> np.ndarray:
    values, affine = read(path)
    check_affines(affine, image.affine)
    check_sizes(values.shape, image.array.shape[1:])
    found = distinct(values)
    wrong = [int(value) for value in found if int(value) not in codes]
    if wrong:
        known = ", ".join(str(value) for value in list(codes)[:12])
        raise DataError(
            f"holds the value {wrong[0]}, which no class has (known are {known}); name all "
            "classes, or correct it"
        )
    table = np.array([codes[int(value)] for value in found], dtype=np.int32)
    return table[np.searchsorted(found, values)]
