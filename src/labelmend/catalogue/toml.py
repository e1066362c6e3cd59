"""What a ``data.toml`` says of a data set."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelmend.errors import DataError
from labelmend.files.formats import SUFFIXES, naming, nearest
from labelmend.files.sources import read_bytes
from labelmend.types import ChannelAxis, Task

FILE = "data.toml"
_WRITABLE = tuple(s for s in SUFFIXES if s not in (".jpg", ".jpeg", ".npz", ".wav", ".flac"))


@dataclass(frozen=True, slots=True)
class Description:
    """What is said; ``None`` and empty where nothing is, to be inferred from the files."""

    task: Task = "segmentation"
    classes: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    ignore: int | None = None
    dims: int | None = None
    channels: ChannelAxis | None = None
    instances: bool = False
    spacing: tuple[float, ...] | None = None
    group: re.Pattern[str] | None = None
    suffix: str | None = None


def read_description(root: Path) -> Description:
    """The data set's ``data.toml``, or an empty description where there is none.

    Raises:
        DataError: when it is not TOML, or a key or value cannot be used; naming the file and key.
    """
    path = root / FILE
    if not path.exists():
        return Description()
    content = read_bytes(path)
    with naming(Path(FILE)):
        try:
            said = tomllib.loads(content.decode("utf-8-sig"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            where = f" ({error})" if isinstance(error, tomllib.TOMLDecodeError) else ""
            raise DataError(f"is not TOML{where}; correct it") from error
        return describe(said)


def describe(said: dict[str, Any]) -> Description:
    """A description from the parsed keys of a ``data.toml``.

    Raises:
        DataError: for an unknown key or a value that cannot be used, naming the key.

    >>> describe({"classes": {"background": 0, "cell": 255}}).values
    (0, 255)
    """
    known = [name for name in Description.__slots__ if name != "values"]
    for key in said:
        if key not in known:
            raise DataError(f"unknown key {key!r}{nearest(key, known)}")
    found = {key: _CHECKS[key](said[key]) for key in said if key != "classes"}
    if "classes" in said:
        names, values = _classes(said["classes"], said)
        found |= {"classes": names, "values": values}
    described = Description(**found)
    _check_together(described)
    return described


def _check_together(said: Description) -> None:
    if said.ignore is not None and said.ignore in said.values:
        raise DataError(f"ignore = {said.ignore} is also the value of a class; choose one")
    if said.spacing and said.dims and len(said.spacing) != said.dims:
        raise DataError(f"spacing has {len(said.spacing)} numbers but dims = {said.dims}")
    if said.instances and said.task == "regression":
        raise DataError("instances = true goes with task = 'segmentation'; remove one")


def _classes(value: Any, said: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if said.get("task") == "regression":
        if not _is_list(value, str) or not value:
            raise DataError("classes: for regression this is a list of the label's channel names")
        return tuple(value), ()
    if not isinstance(value, dict) or not all(_is_whole(v) for v in value.values()):
        raise DataError(
            "classes is a table of names and their whole numbers in label files, the background "
            "first, as in [classes] background = 0, lesion = 1"
        )
    if len(value) < 2 or len(set(value.values())) < len(value):
        raise DataError("classes needs at least two names, each with a value of its own")
    if said.get("instances") and (len(value) != 2 or next(iter(value.values())) != 0):
        raise DataError("classes: with instances = true there are two, the first with the value 0")
    return tuple(value), (0, 1) if said.get("instances") else tuple(value.values())


def _choice(name: str, *known: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in known:
            raise DataError(f"{name} = {value!r} is not known{nearest(str(value), known)}")
        return value

    return check


def _ignore(value: Any) -> int:
    if not _is_whole(value):
        raise DataError(f"ignore is a whole number that occurs in label files, not {value!r}")
    return int(value)


def _dims(value: Any) -> int:
    if not _is_whole(value) or value not in (1, 2, 3):
        raise DataError(f"dims is 1, 2 or 3, the number of space axes, not {value!r}")
    return int(value)


def _instances(value: Any) -> bool:
    if not isinstance(value, bool):
        raise DataError(f"instances is true or false, not {value!r}")
    return value


def _spacing(value: Any) -> tuple[float, ...]:
    if not _is_list(value, (int, float)) or not 1 <= len(value) <= 3:
        raise DataError(f"spacing is a list of one number per space axis, not {value!r}")
    if not all(0 < step < float("inf") for step in value):
        raise DataError(f"spacing wants numbers above 0, not {value!r}")
    return tuple(float(step) for step in value)


def _group(value: Any) -> re.Pattern[str]:
    try:
        pattern = re.compile(value)
    except (re.error, TypeError) as error:
        raise DataError(f"group = {value!r} is not a regular expression; correct it") from error
    if pattern.groups != 1:
        raise DataError(f"group = {value!r} needs exactly one part in brackets, as in '^(p[0-9]+)'")
    return pattern


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, kind) and not isinstance(v, bool) for v in value
    )


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "task": _choice("task", "segmentation", "regression"),
    "ignore": _ignore,
    "dims": _dims,
    "channels": _choice("channels", "first", "last", "none"),
    "instances": _instances,
    "spacing": _spacing,
    "group": _group,
    "suffix": _choice("suffix", *_WRITABLE),
}
