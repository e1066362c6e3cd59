"""Read JSON and XML that cannot be trusted, and take from it only what is of the right kind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import Source, within
from labelmend.files.sources import read_bytes

LARGEST = 2**30
"""Most bytes of one JSON or XML file."""

_DEEPEST = 64
_LARGEST_WHOLE = 2**53
_FARTHEST = 1e16
_KINDS: dict[type, str] = {list: "a list", dict: "an object", str: "text"}


def load_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: when it is no JSON, too deeply nested, or holds NaN; naming the file.
    """
    content = read_bytes(path, LARGEST)
    with within(path):
        try:
            return json.loads(content.decode("utf-8-sig"), parse_constant=_no_number)
        except RecursionError as error:
            raise DataError("is nested too deeply to be what it should be") from error
        except UnicodeDecodeError as error:
            raise DataError("is not text in UTF-8; export it again") from error
        except json.JSONDecodeError as error:
            raise DataError(
                f"is damaged or cut short: line {error.lineno} is not JSON; export it again"
            ) from error
        except DataError:
            raise
        except ValueError as error:  # a whole number of thousands of digits
            raise DataError("holds a number that is too long; export it again") from error


def load_xml(path: Path) -> Element:
    """The root of an XML file; one with a document type, which could hold a bomb, is refused.

    Raises:
        DataError: when it is no XML, has a document type or is nested deeply; naming the file.
    """
    content = read_bytes(path, LARGEST)
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise DataError("is nested too deeply to be what it should be")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _no_doctype
    with within(path):
        try:
            parser.Parse(content, True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            if isinstance(error, DataError):
                raise
            line = getattr(error, "lineno", 1)
            raise DataError(
                f"is damaged or cut short: line {line} is not XML; export it again"
            ) from error
        return builder.close()


def only_document(
    source: Source, suffixes: tuple[str, ...], fits: Callable[[Path], bool], what: str
) -> Path:
    """The one file of a kind that a source is, or that lies in its folder or one level below.

    Raises:
        DataError: when there is none, or more than one.
    """
    if source.path.is_file():
        return source.path
    found = [path for path in documents_in(source.path, suffixes) if fits(path)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"{source.path}: holds no {what}; name the file itself")
    raise DataError(
        f"{source.path}: holds {len(found)} of what may be the {what} ({found[0].name}, "
        f"{found[1].name}{', …' if found[2:] else ''}); name one of them"
    )


def documents_in(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files with one of some suffixes in a folder and in those directly below it, sorted."""
    here = sorted(folder.iterdir())
    below = [sorted(entry.iterdir()) for entry in here if entry.is_dir() and not entry.is_symlink()]
    for entry in (*here, *(path for paths in below for path in paths)):
        if entry.suffix.lower() in suffixes and entry.is_file() and entry.name[0] != ".":
            yield entry


# --- taking only what is of the right kind --------------------------------------------------------


def entry(of: Any, key: str, kind: type) -> Any:
    """The value of a key of a JSON object, if it is a list, an object or text, as wanted.

    Raises:
        DataError: when ``of`` is no object, or has no such value.

    >>> entry({"images": []}, "images", list)
    []
    """
    if not isinstance(of, dict):
        raise DataError(f"should be an object with {key!r}, not {shown(of)}; export it again")
    value = of.get(key)
    if not isinstance(value, kind):
        got = shown(value) if key in of else "nothing"
        raise DataError(f"needs {key!r}, {_KINDS[kind]}, and has {got}; export it again")
    return value


def number(value: Any, what: str) -> float:
    """A number, from -10¹⁶ to 10¹⁶.

    Raises:
        DataError: for anything else, naming ``what`` it should be.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if abs(found) <= _FARTHEST:
            return found
    raise DataError(f"{what} should be a usual number, not {shown(value)}; correct it")


def whole(value: Any, what: str, least: int = 0) -> int:
    """A whole number of at least ``least``."""
    found = number(value, what)
    if found != int(found) or not least <= found <= _LARGEST_WHOLE:
        raise DataError(
            f"{what} should be a whole number from {least} on, not {shown(value)}; correct it"
        )
    return int(found)


def pairs(value: Any, what: str, least: int = 1) -> np.ndarray:
    """Points ``(n, 2)`` float64 from a list of pairs, or from a flat list of their numbers.

    Raises:
        DataError: when it holds anything but numbers, or fewer than ``least`` points.

    >>> pairs([0, 1, 2, 3], "the points").tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    if not isinstance(value, list):
        raise DataError(f"{what} should be a list, not {shown(value)}; export it again")
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError):
        found = np.empty(0, dtype=object)
    flat = found.ndim == 1 and len(found) % 2 == 0
    if found.dtype.kind not in "iuf" or not (flat or (found.ndim == 2 and found.shape[1] == 2)):
        if len(value) == 0 and least == 0:
            return np.empty((0, 2))
        raise DataError(f"{what} should be pairs of numbers, not {shown(value)}; export it again")
    points = found.reshape(-1, 2).astype(np.float64)
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > _FARTHEST:
        raise DataError(f"{what} should be finite numbers, not {shown(value)}; correct them")
    if len(points) < least:
        raise DataError(f"{what} should be at least {least}, not {len(points)}; remove the object")
    return points


def attribute(of: Element, key: str) -> str:
    """An attribute that an XML element must have."""
    value = of.get(key)
    if value is None:
        raise DataError(f"<{of.tag}> needs {key!r}; export it again")
    return value


def numeral(text: str, what: str) -> float:
    """A number, from -10¹⁶ to 10¹⁶, that is written as text."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not abs(found) <= _FARTHEST:
        raise DataError(f"{what} should be a usual number, not {shown(text)}; correct it")
    return found


def shown(value: Any) -> str:
    """A value as messages show it: short, and in one line."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**40:
        return "a number of very many digits"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def in_brief(names: Sequence[str], most: int = 5) -> str:
    """The first few of some names, as notes show them.

    >>> in_brief(["a", "b", "c"], 2)
    'a, b, …'
    """
    return ", ".join([*names[:most], *(["…"] if names[most:] else [])])


def _no_number(name: str) -> NoReturn:
    raise DataError(f"holds {name}, which is not a number; correct it")


def _no_doctype(*_: object) -> NoReturn:
    raise DataError(
        "declares a document type, through which a small file can become a huge one; remove it"
    )
