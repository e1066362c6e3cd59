"""The legend names everything that is drawn, and nothing else."""

from __future__ import annotations

import re

from labelmend.report.legend import COLOURS, is_paired, make_legend
from labelmend.types import DataSpec

BOTH = ("label", "prediction")


def spec(
    dims: int, *classes: str, task: str = "segmentation", ignore: int | None = None
) -> DataSpec:
    names = classes or ("background", "cell")
    values = tuple(range(len(names))) if task == "segmentation" else ()
    return DataSpec(task, names, values, ignore, dims, 1, "none", ".npy")


def words(spec: DataSpec, kinds: tuple[str, ...] = BOTH) -> list[str]:
    return [re.sub("<[^>]*>", "", item) for item in make_legend(spec, kinds)]


def test_one_class_has_lines_only() -> None:
    assert words(spec(2)) == ["label", "prediction"]
    assert words(spec(2), ("label",)) == ["label"]
    assert is_paired(spec(2))


def test_several_classes_have_a_colour_each() -> None:
    many = spec(3, "none", "a<b", "c", ignore=255)
    assert words(many) == ["a&lt;b", "c", "label", "prediction", "not said (ignored)"]
    assert not is_paired(many)


def test_recordings_say_where_is_what() -> None:
    assert words(spec(1)) == ["cell", "label above the signal", "prediction below it"]


def test_repeated_colours_are_admitted() -> None:
    names = [str(i) for i in range(COLOURS + 2)]
    assert f"(colours repeat after {COLOURS} classes)" in words(spec(2, *names))
    assert f"(colours repeat after {COLOURS} classes)" not in words(spec(2, *names[:-1]))


def test_regression_needs_one_only_for_lines() -> None:
    assert words(spec(2, "stain", task="regression")) == []
    lines = words(spec(1, "stain", task="regression"))
    assert lines == ["label, below the image", "prediction, below the image"]
