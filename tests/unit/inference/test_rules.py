"""Rules are read by a parser of our own: what they mean, and what they say when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelmend.errors import DataError, LabelmendError, SettingsError
from labelmend.inference.rules import combine, parse_rule, read_rules

FIGURES = {"a.count": 3.0, "b.count": 0.0, "burden.a": 0.25, "my class.area.max": 4.0}


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("a.count > 2", True),
        ("a.count > 3", False),
        ("a.count >= 3", True),
        ("a.count<=2.9", False),
        ("a.count == 3", True),
        ("a.count != 3", False),
        ("2 < a.count", True),
        ("a.count > b.count", True),
        ("b.count > -1", True),
        ("burden.a < 2.5e-1", False),
        ("burden.a < .26", True),
        ('"my class".area.max >= 4', True),
        ("my class.area.max >= 4", None),
        ("a.count > 9 or b.count == 0 and burden.a > 1", False),
        ("(a.count > 9 or b.count == 0) and burden.a > 0.2", True),
        ("a.count > 1 or b.count > 1 and a.count > 9", True),
        ("not a.count > 9", True),
        ("not not a.count > 9", False),
        ("not (a.count > 1 and b.count > 1)", True),
        ("a . count > 2", True),
    ],
)
def test_what_a_condition_means(where: str, holds: bool | None) -> None:
    if holds is None:
        with pytest.raises(SettingsError):
            parse_rule("r", where)
        return
    assert parse_rule("r", where).holds(FIGURES) is holds


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("", "a number or a name such as cell.count is wanted at the end"),
        ("a.count", "one of < <= > >= == != is wanted at the end"),
        ("a.count >", "a number or a name such as cell.count is wanted at the end"),
        ("a.count > 1 b.count > 2", "and, or, or the end is wanted at 'b.count'"),
        ("(a.count > 1", "a closing parenthesis is wanted at the end"),
        ("a.count > 1)", "and, or, or the end is wanted at ')'"),
        ("a.count = 1", "cannot be read from '= 1' on"),
        ("a.count > 1; import os", "cannot be read from '; import os' on"),
        ("a.count > and", "a number or a name such as cell.count is wanted at 'and'"),
        ("1 < 2 < 3", "and, or, or the end is wanted at '<'"),
        ("a.count > -b.count", "a number or a name"),
        ("__import__('os')", "cannot be read from \"'os')\" on"),
        ("(" * 60 + "1 < 2" + ")" * 60, "nested too deeply"),
        ("not " * 60 + "1 < 2", "nested too deeply"),
        (" and ".join(["1 < 2"] * 300), "words, more than 500"),
    ],
)
def test_what_a_wrong_condition_says(where: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_rule("r", where)
    assert said in str(refused.value)


@given(st.text(alphabet='ab.count<>=!()-+ 0123456789e"_andornot\n', max_size=60))
def test_any_text_is_a_rule_or_refused(where: str) -> None:
    try:
        rule = parse_rule("r", where)
    except LabelmendError:
        return
    assert rule.holds(dict.fromkeys(rule.asks_for, 1.0)) in (True, False)


def test_a_figure_that_is_not_known_is_said() -> None:
    rule = parse_rule("large", "a.area_mm2.max > 1")
    with pytest.raises(DataError, match=r"asks for a.area_mm2.max, which is not known"):
        rule.holds({"a.area_mm2.max": None})


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_nothing_holds_of_the_largest_of_none(sign: str) -> None:
    figures = {"a.area.max": combine([], "max")}
    assert parse_rule("r", f"a.area.max {sign} 1").holds(figures) is False


def test_figures_of_several() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    assert [combine(values, way) for way in ("min", "max", "mean", "median", "sum")] == [
        1.0,
        10.0,
        4.0,
        2.5,
        16.0,
    ]


def test_a_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.csv"
    path.write_text('\ufeffname,where,verdict\nmany,a.count > 2,"one, two"\nfew, b.count < 1 ,\n')
    first, second = read_rules(path, list(FIGURES))
    assert (first.name, first.where, first.verdict) == ("many", "a.count > 2", "one, two")
    assert (second.name, second.verdict) == ("few", "few")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,where\nx,a.cuont > 2\n", r"rules.csv, line 2: unknown figure 'a.cuont'; did you"),
        ("name,where\nx,a.count > 2\nx,a.count > 3\n", "line 3: there is a rule 'x' already"),
        ("name,where\nx,a.count >\n", "line 2: 'a.count >': a number"),
        ("name,where\n,a.count > 2\n", "line 2: a rule is a name, a condition"),
        ("name,where,verdict\nx,a.count > 2,one,two\n", "line 2: .*fields with commas"),
        ("name,when\nx,a.count > 2\n", "has the columns name, when; wanted are name, where"),
        ("", "has the columns"),
    ],
)
def test_a_wrong_table_names_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.csv"
    path.write_text(text)
    with pytest.raises(LabelmendError, match=said) as refused:
        read_rules(path, list(FIGURES))
    assert "rules.csv" in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_no_text_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "rules.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"rules.csv: is no table"):
        read_rules(tmp_path / "rules.csv", [])
    with pytest.raises(DataError, match=r"no.csv: does not exist"):
        read_rules(tmp_path / "no.csv", [])
