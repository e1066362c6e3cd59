"""Which classes there are, in which order, and what the background is called."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from labelmend.errors import DataError, SettingsError
from labelmend.exchange.annotated import UNKNOWN, Annotated, Source, names_of, within
from labelmend.exchange.documents import shown
from labelmend.files.formats import nearest
from labelmend.files.sources import read_bytes

BACKGROUND = "background"
TABLE = "classes.csv"
"""``value,name`` of every class, the background with the lowest value: written beside labels."""
LIST = "classes.txt"
"""One class name per line, with or without the background: read where there is no table."""
_LONGEST = 1 << 20
_SHOWN = 60


def is_background(name: str) -> bool:
    """Whether a class of this name is what lies behind all others.

    >>> is_background("_background_"), is_background("back")
    (True, False)
    """
    return name.strip("_").casefold() == BACKGROUND


def is_ignored(name: str) -> bool:
    """Whether a class of this name says that nobody knows what is there.

    >>> is_ignored("__ignore__"), is_ignored("Ignore*"), is_ignored("ignored")
    (True, True, False)
    """
    return name.strip("_*").casefold() == "ignore"


def settle_classes(
    source: Source, listed: Sequence[str], items: Sequence[Annotated], *, behind: str = ""
) -> tuple[str, ...]:
    """The names of all classes, the background first.

    They are the wanted ones, else those that the files list, else all that objects have, sorted.

    Args:
        source: says which are wanted.
        listed: what the files list.
        items: all objects.
        behind: what the files say that the background is called, however that sounds.

    Raises:
        DataError: when an object has another class, naming file and object, or there is none.

    >>> settle_classes(Source(Path()), ("car", "_background_", "bus", "__ignore__"), ())
    ('background', 'car', 'bus')
    """
    named = dict.fromkeys(source.classes or listed or sorted(names_of(items)))
    behind = "" if source.classes else behind
    first = behind or next((n.strip("_") for n in named if is_background(n)), BACKGROUND)
    others = (n for n in named if n != behind and not is_background(n) and not is_ignored(n))
    classes = (first, *others)
    known = class_numbers(classes)
    for item in items:
        for thing in item.things:
            if number_of(known, thing.name) is None:
                raise DataError(
                    f"{item.source}: {thing.where}: has the class {shown(thing.name)}, which is "
                    f"not {'one of --classes' if source.classes else 'listed'}"
                    f"{nearest(thing.name[:_SHOWN], classes)}"
                )
    if len(classes) < 2:
        raise DataError(f"{source.path}: names no class; name the classes with --classes")
    return classes


def class_numbers(classes: Sequence[str]) -> dict[str, int]:
    """Class name → class index."""
    return {name: index for index, name in enumerate(classes)}


def number_of(known: Mapping[str, int], name: str) -> int | None:
    """The class index of a name as files have it; None where there is none."""
    if name in known:
        return known[name]
    return 0 if is_background(name) else UNKNOWN if is_ignored(name) else None


def all_numbers(classes: Sequence[str], items: Sequence[Annotated]) -> dict[str, int]:
    """The class index of every name that occurs, after :func:`settle_classes`."""
    known = class_numbers(classes)
    found = {name: number_of(known, name) for name in names_of(items)}
    return {name: UNKNOWN if number is None else number for name, number in found.items()}


def check_wanted(names: Sequence[str]) -> tuple[str, ...]:
    """Class names as given on the command line.

    Raises:
        SettingsError: for an empty or a repeated name.

    >>> check_wanted(["car ", "bus"])
    ('car', 'bus')
    """
    stripped = [name.strip() for name in names]
    if any(not name for name in stripped) or len(set(stripped)) < len(stripped):
        raise SettingsError(
            f"--classes wants different names separated by commas, not {','.join(names)!r}"
        )
    return tuple(stripped)


def classes_beside(folder: Path) -> dict[int, str]:
    """Value → class name, as a table or a list in a folder says; empty where there is neither.

    The first one of a list is 0 if it is called background, else 1 and that is 0.

    Raises:
        DataError: when the file is no table or no text.
    """
    if (folder / TABLE).is_file():
        return _read_table(folder / TABLE)
    return numbered(read_list(folder / LIST))


def numbered(names: Sequence[str]) -> dict[int, str]:
    """Value → class name for names in order, the background put first where it is missing.

    >>> numbered(["car"]), numbered([])
    ({0: 'background', 1: 'car'}, {})
    """
    missing = bool(names) and not any(is_background(name) for name in names)
    return dict(enumerate([BACKGROUND, *names] if missing else names))


def class_file(folder: Path) -> Path:
    """The file that :func:`classes_beside` reads: the table, or the list where there is none."""
    return folder / (TABLE if (folder / TABLE).is_file() else LIST)


def choose_classes(source: Source, listed: Mapping[int, str], where: Path) -> dict[int, str]:
    """Value → class name of the wanted classes, in the wanted order, as files name the values.

    The background and what is ignored stay. Where nothing is wanted, it is all of them.

    Args:
        source: says which are wanted.
        listed: value → name, as a file says.
        where: that file, for messages.

    Raises:
        DataError: for a wanted class that the file does not name.

    >>> found = {0: "background", 1: "cat", 2: "dog"}
    >>> choose_classes(Source(Path(), classes=("dog", "cat")), found, Path("labelmap.txt"))
    {0: 'background', 2: 'dog', 1: 'cat'}
    """
    if not source.classes:
        return dict(listed)
    values = {name: value for value, name in listed.items()}
    wrong = next((n for n in source.classes if n not in values and not is_background(n)), None)
    if wrong is not None:
        raise DataError(
            f"{where}: names no class {shown(wrong)}; --classes chooses and orders those that it "
            f"names: {', '.join(values)}"
        )
    behind = [v for v, name in listed.items() if is_background(name)] or [min(listed)]
    wanted = [values[name] for name in source.classes if name in values]
    ignored = [value for value, name in listed.items() if is_ignored(name)]
    return {value: listed[value] for value in (*behind, *wanted, *ignored)}


def class_table(classes: Sequence[str]) -> bytes:
    """Classes as the table that :func:`classes_beside` reads."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerows([("value", "name"), *enumerate(classes)])
    return stream.getvalue().encode()


def _read_table(path: Path) -> dict[int, str]:
    content = read_bytes(path, _LONGEST)
    with within(path):
        try:
            rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError("is not a CSV in UTF-8; save it again") from error
        if not rows or rows[0] != ["value", "name"]:
            raise DataError("should begin with the line value,name; correct it")
        found: dict[int, str] = {}
        for line, row in enumerate(rows[1:], 2):
            fits = len(row) == 2 and re.fullmatch("[0-9]{1,9}", row[0]) and row[1].strip()
            if not fits or int(row[0]) in found or row[1].strip() in found.values():
                raise DataError(f"line {line}: should be a new value and a new name; correct it")
            found[int(row[0])] = row[1].strip()
        if len(found) < 2:
            raise DataError("should name at least two classes; add them")
        return dict(sorted(found.items()))


def read_list(path: Path) -> tuple[str, ...]:
    """The class names in a text file, one per line; empty where there is no such file.

    Raises:
        DataError: when it is not text.
    """
    if not path.is_file():
        return ()
    with within(path):
        try:
            text = read_bytes(path, _LONGEST).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError("is not text in UTF-8; save it again") from error
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def check_names(classes: Sequence[str]) -> None:
    """Refuse class names that would not come back from another tool's file.

    Raises:
        DataError: naming the class.
    """
    for index, name in enumerate(classes):
        if is_ignored(name) or (index and is_background(name)):
            raise DataError(
                f"the class {name!r} would be taken for {'ignored' if is_ignored(name) else 'the'} "
                "background or unknown positions elsewhere; rename it in data.toml"
            )
        if name != name.strip() or not name.isprintable():
            raise DataError(
                f"the class name {name!r} has blanks at its ends or signs that cannot be printed; "
                "rename it in data.toml"
            )
