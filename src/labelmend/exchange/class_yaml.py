"""The class names in the YAML file of a YOLO data set: the few lines of it that are needed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from labelmend.errors import DataError
from labelmend.exchange.annotated import within
from labelmend.exchange.documents import shown
from labelmend.files.sources import read_bytes

_LONGEST = 1 << 22
_NAMES = re.compile(r"names\s*:(.*)", re.DOTALL)
_POSES = re.compile(r"kpt_shape\s*:")
_ITEM = re.compile(r"\s*(?:-\s+|([0-9]{1,9})\s*:\s+)(.*)", re.DOTALL)
_QUOTED = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')\s*(?:#.*)?""")
_PART = re.compile(
    r"""\s*(?:([0-9]{1,9})\s*:\s+)?("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,\]}"']*)\s*"""
)


def read_names(path: Path) -> dict[int, str]:
    """Number → class name, as ``names`` of a YAML file says, in any of its four usual forms.

    Own code, for names are all that is needed: a list or a mapping, in one line or in several.

    Raises:
        DataError: when there are no names, they are written otherwise, or the data are poses.
    """
    content = read_bytes(path, _LONGEST)
    with within(path):
        try:
            lines = content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError("is not text in UTF-8; save it again") from error
        if any(_POSES.match(line) for line in lines):
            raise DataError(
                "is for poses (kpt_shape), whose numbers are no outlines; export the data set for "
                "segmentation or detection"
            )
        for place, line in enumerate(lines):
            match = _NAMES.fullmatch(line)
            if match is not None:
                names = _names(match[1].split(" #")[0].strip(), lines[place + 1 :])
                if not names or len(set(names.values())) < len(names):
                    raise DataError("its names are empty or one is there twice; correct them")
                return names
    raise DataError(f"{path}: has no 'names'; list the class names there")


def names_as_yaml(names: Sequence[str]) -> str:
    """Class names as the lines below ``names:``.

    >>> print(names_as_yaml(["cell", "a: b"]), end="")
      0: "cell"
      1: "a: b"
    """
    return "".join(
        f"  {place}: {json.dumps(name, ensure_ascii=False)}\n" for place, name in enumerate(names)
    )


def _names(rest: str, below: list[str]) -> dict[int, str]:
    if rest:
        flow = rest
        for line in below:
            if flow.endswith(("]", "}")):
                break
            flow += " " + line.split(" #")[0].strip()
        return _in_one_line(flow)
    found: dict[int, str] = {}
    for line in below:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ITEM.fullmatch(line)
        if match is None:
            if line[0] in " \t-":
                raise _strange(line)
            break
        _put(found, match[1], _scalar(match[2]))
    return found


def _in_one_line(text: str) -> dict[int, str]:
    if not (text[0] == "[" and text[-1] == "]") and not (text[0] == "{" and text[-1] == "}"):
        raise _strange(text)
    found: dict[int, str] = {}
    rest = text[1:-1].strip().removesuffix(",")
    while rest:
        match = _PART.match(rest)
        if match is None or (rest[match.end() :] and rest[match.end()] != ","):
            raise _strange(text)
        _put(found, match[1], _scalar(match[2]))
        rest = rest[match.end() + 1 :]
    return found


def _put(found: dict[int, str], key: str | None, name: str) -> None:
    place = len(found) if key is None else int(key)
    if place in found or not name:
        raise DataError(f"its names are empty or the number {place} is there twice; correct them")
    found[place] = name


def _scalar(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        plain = text.split(" #", maxsplit=1)[0].strip()
        if plain[:1] in ("&", "*", "!", "|", ">", "{", "[", '"', "'", "%", "@", "`"):
            raise _strange(text)
        return plain
    if quoted[1][0] == "'":
        return quoted[1][1:-1].replace("''", "'").strip()
    try:
        return str(json.loads(quoted[1])).strip()
    except ValueError as error:
        raise _strange(text) from error


def _strange(text: str) -> DataError:
    return DataError(f"its names hold {shown(text)}; write them as a list, one '- name' per line")
