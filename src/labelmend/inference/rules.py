"""Rules of a user's own, such as ``lesion.count > 10``: read from a table, judged for a file."""

from __future__ import annotations

import csv
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelmend.errors import DataError, SettingsError, unknown
from labelmend.files.sources import read_bytes

Figures = Mapping[str, float | None]
"""Every number that a rule can ask for, by name; None where it is not known for this file."""

_COLUMNS = ("name", "where", "verdict")
_LONGEST = 2**20
_DEEPEST, _LONGEST_RULE = 50, 500
_WORD = r'(?:[^\W\d]\w*|"[^"]*")'
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
    rf"|(?P<name>{_WORD}(?:\s*\.\s*{_WORD})*)|(?P<sign><=|>=|==|!=|<|>|\(|\)|-))"
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}

_COMBINE: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "max": max,
    "mean": lambda values: math.fsum(values) / len(values),
    "median": lambda values: float(np.median(values)),
    "sum": math.fsum,
}
WAYS = tuple(_COMBINE)
"""How the figures of many objects become one."""


def combine(values: Sequence[float], way: str) -> float:
    """One figure of many; the sum of none is 0, the others of none are NaN.

    >>> combine([1.0, 2.0, 6.0], "mean"), combine([], "sum")
    (3.0, 0.0)
    """
    return _COMBINE[way](values) if values or way == "sum" else math.nan


@dataclass(frozen=True, slots=True)
class Rule:
    """A name, a condition and what it means when it holds. Made by :func:`read_rules`.

    The condition compares numbers: ``lesion.count > 10``, ``lesion.area_mm2.max >= 4``,
    ``burden.lesion > 0.2 and not cell.count == 0``. There are ``and``, ``or``, ``not``,
    parentheses and ``< <= > >= == !=``; names that are not of letters stand in double quotes.
    """

    name: str
    where: str
    verdict: str
    _tree: Tree

    @property
    def asks_for(self) -> frozenset[str]:
        """The names of the figures in the condition."""
        return frozenset(_names(self._tree))

    def holds(self, figures: Figures) -> bool:
        """Whether the condition is true. A comparison with NaN, as of no objects, is false.

        Raises:
            DataError: when a figure is not known for this file.
        """
        return bool(_value(self._tree, figures))


Tree = tuple[str, "Tree", "Tree"] | tuple[str, "Tree"] | float | str
"""A condition: a comparison, a connection, a number or a name."""


def parse_rule(name: str, where: str, verdict: str = "") -> Rule:
    """A rule from its texts.

    Raises:
        SettingsError: for a condition that cannot be read, saying where it stops making sense.

    >>> rule = parse_rule("many", "cell.count > 10 or burden.cell >= 0.5")
    >>> rule.holds({"cell.count": 3, "burden.cell": 0.75})
    True
    >>> sorted(rule.asks_for)
    ['burden.cell', 'cell.count']
    """
    return Rule(name, where, verdict or name, _Parser(where).condition())


def read_rules(path: Path, known: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of a table with the columns ``name``, ``where`` and, if you like, ``verdict``.

    Args:
        path: a ``.csv`` file.
        known: the names that a condition may ask for.

    Raises:
        DataError: for a file that is no such table.
        SettingsError: for a condition that cannot be read or asks for an unknown name; both name
            file and line.
    """
    try:
        text = read_bytes(path, _LONGEST).decode("utf-8-sig")
        reader = csv.DictReader(text.splitlines(), strict=True, skipinitialspace=True)
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no table of text: {error}; save it as CSV in UTF-8") from error
    columns = tuple(reader.fieldnames or ())
    if not {"name", "where"} <= set(columns) or not set(columns) <= set(_COLUMNS):
        wanted = ", ".join(_COLUMNS)
        raise DataError(f"{path}: has the columns {', '.join(columns)}; wanted are {wanted}")
    rules: list[Rule] = []
    for line, row in rows:
        try:
            rules.append(_rule(row, known, [rule.name for rule in rules]))
        except SettingsError as error:
            raise SettingsError(f"{path}, line {line}: {error}") from error
    return tuple(rules)


def _rule(row: Mapping[str, str | None], known: Sequence[str], taken: Sequence[str]) -> Rule:
    name, where = (str(row.get(key) or "").strip() for key in ("name", "where"))
    if not name or not where or None in row:
        raise SettingsError(
            "a rule is a name, a condition and a verdict; fields with commas stand in quotes"
        )
    if name in taken:
        raise SettingsError(f"there is a rule {name!r} already; give each its own name")
    rule = parse_rule(name, where, str(row.get("verdict") or "").strip())
    for asked in sorted(rule.asks_for - set(known)):
        raise unknown("figure", asked, known)
    return rule


class _Parser:
    """Reads a condition from left to right; nothing of it is ever run."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        if len(self._tokens) > _LONGEST_RULE:
            raise SettingsError(
                f"{text[:20]!r}… has {len(self._tokens)} words, more than {_LONGEST_RULE}; "
                "divide the rule"
            )
        self._place = 0
        self._depth = 0

    def condition(self) -> Tree:
        tree = self._or()
        if self._place < len(self._tokens):
            raise self._wrong("and, or, or the end")
        return tree

    def _split(self) -> Iterator[tuple[str, str]]:
        place, end = 0, len(self._text.rstrip())
        while place < end:
            found = _TOKEN.match(self._text, place)
            if found is None:
                rest = self._text[place:].strip()
                raise SettingsError(f"{self._text!r} cannot be read from {rest[:20]!r} on")
            place = found.end()
            kind = str(found.lastgroup)
            yield kind, found[kind]

    def _or(self) -> Tree:
        tree = self._and()
        while self._take("name", "or"):
            tree = ("or", tree, self._and())
        return tree

    def _and(self) -> Tree:
        tree = self._not()
        while self._take("name", "and"):
            tree = ("and", tree, self._not())
        return tree

    def _not(self) -> Tree:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise SettingsError(f"{self._text[:20]!r}… is nested too deeply; divide the rule")
        try:
            if self._take("name", "not"):
                return ("not", self._not())
            if self._take("sign", "("):
                tree = self._or()
                if not self._take("sign", ")"):
                    raise self._wrong("a closing parenthesis")
                return tree
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Tree:
        left = self._operand()
        for sign in _COMPARE:
            if self._take("sign", sign):
                return (sign, left, self._operand())
        raise self._wrong("one of < <= > >= == !=")

    def _operand(self) -> Tree:
        factor = -1.0 if self._take("sign", "-") else 1.0
        kind, text = self._next()
        if kind == "number":
            self._place += 1
            return factor * float(text)
        if kind == "name" and text not in ("and", "or", "not") and factor > 0:
            self._place += 1
            return ".".join(part.strip('"') for part in re.findall(_WORD, text))
        raise self._wrong("a number or a name such as cell.count")

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("", "")

    def _take(self, kind: str, text: str) -> bool:
        taken = self._next() == (kind, text)
        self._place += taken
        return taken

    def _wrong(self, wanted: str) -> SettingsError:
        found = self._next()[1]
        place = f"at {found!r}" if found else "at the end"
        return SettingsError(f"{self._text!r}: {wanted} is wanted {place}")


def _names(tree: Tree) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, tuple):
        for part in tree[1:]:
            yield from _names(part)


def _value(tree: Tree, figures: Figures) -> float:
    if isinstance(tree, float):
        return tree
    if isinstance(tree, str):
        found = figures[tree]
        if found is None:
            raise DataError(
                f"asks for {tree}, which is not known for this file: it says no spacing, or has an "
                "object too large to be outlined; say the spacing in data.toml, or change the rule"
            )
        return found
    sign, *parts = tree
    if sign == "not":
        return not _value(parts[0], figures)
    left = _value(parts[0], figures)
    if sign in ("and", "or"):
        done = bool(left) == (sign == "or")
        return left if done else _value(parts[1], figures)
    right = _value(parts[1], figures)
    return not math.isnan(left + right) and _COMPARE[sign](left, right)
