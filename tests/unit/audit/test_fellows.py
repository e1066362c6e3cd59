"""Labels of one image are compared with each other, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labelmend.audit.fellows import Fellows, distance
from labelmend.metrics import segmentation_metrics, summarise
from labelmend.types import DataSpec, Sample

SPEC = DataSpec("segmentation", ("rest", "cell"), (0, 1), None, 1, 1, "none", ".npy")
VALUES = DataSpec("regression", ("height",), (), None, 1, 1, "none", ".npy")

LABELS = {"a": [1, 1, 0, 0], "b": [1, 1, 0, 0], "c": [0, 1, 1, 0]}


def told(*given: tuple[str, str, Any, Any], spec: DataSpec = SPEC) -> dict[str, Any]:
    """What is found of labels ``(image, name, values, quality)``."""
    fellows = Fellows(spec)
    for image, name, values, quality in given:
        label = np.array(values)
        valid = (label >= 0).reshape(-1, 4)[0]
        sample = Sample(image, name, quality, "train", image)
        fellows.add(sample, np.maximum(label, 0) if spec is SPEC else label, valid)
    return fellows.found()


def test_the_median_over_all_others() -> None:
    four = {**LABELS, "d": [0, 0, 1, 1]}
    found = told(*(("i", name, values, "weak") for name, values in four.items()))
    assert found["a"] == (0.5, 3) and found["c"] == (0.5, 3) and found["d"] == (1.0, 3)
    most = [("i", name, [1, 1, 0, 0], "weak") for name in "abc"]
    found = told(*most, ("i", "d", [0, 0, 1, 1], "weak"))
    assert found == {**dict.fromkeys("abc", (0.0, 3)), "d": (1.0, 3)}


def test_two_of_three_that_agree_are_as_right_as_if_they_were_alone() -> None:
    found = told(*(("i", name, values, "weak") for name, values in LABELS.items()))
    assert found == {"a": (0.0, 2), "b": (0.0, 2), "c": (0.5, 2)}


def test_labels_of_other_images_do_not_count() -> None:
    given = [("i", "a", [1, 1, 0, 0], "weak"), ("j", "b", [0, 0, 1, 1], "weak")]
    assert told(*given) == {}
    assert told(*given, ("j", "c", [0, 0, 1, 1], "weak")) == {"b": (0.0, 1), "c": (0.0, 1)}


def test_strong_labels_speak_alone() -> None:
    given = [("i", name, values, "weak") for name, values in LABELS.items()]
    found = told(*given, ("i", "s", [0, 1, 1, 0], "strong"))
    assert found == {"a": (0.5, 1), "b": (0.5, 1), "c": (0.0, 1)}
    both = told(*given[:1], ("i", "s", [0, 1, 1, 0], "strong"), ("i", "t", [0, 1, 0, 0], "strong"))
    assert both["s"] == pytest.approx((1 / 3, 1)) and both["t"] == pytest.approx((1 / 3, 1))


def test_empty_labels_agree() -> None:
    none = [0, 0, 0, 0]
    assert told(("i", "a", none, "weak"), ("i", "b", none, "weak"))["a"] == (0.0, 1)
    assert told(("i", "a", none, "weak"), ("i", "b", [1, 0, 0, 0], "weak"))["a"] == (1.0, 1)


def test_only_what_both_say_is_compared() -> None:
    one, other = [1, 1, -1, -1], [1, 1, 1, 1]
    assert told(("i", "a", one, "weak"), ("i", "b", other, "weak"))["a"] == (0.0, 1)
    nothing = [-1, -1, -1, -1]
    assert told(("i", "a", nothing, "weak"), ("i", "b", other, "weak")) == {}


def test_continuous_labels_are_told_by_their_error() -> None:
    given = [("i", "a", [[0.0, 1, 2, 3]], "weak"), ("i", "b", [[1.0, 2, 3, 4]], "weak")]
    assert told(*given, spec=VALUES) == {"a": (1.0, 1), "b": (1.0, 1)}


@pytest.mark.parametrize("number", range(8))
def test_the_distance_is_one_minus_the_mean_dice_of_the_metrics(number: int) -> None:
    rng = np.random.default_rng(number)
    spec = replace(SPEC, classes=("rest", "a", "b", "c", "d"), dims=2)
    one, other = (rng.choice([0, 1, 2, 3], (9, 7), p=[0.6, 0.2, 0.15, 0.05]) for _ in range(2))
    valid = rng.random((9, 7)) < 0.7
    row = segmentation_metrics(one, other, valid, spec.classes)
    assert distance(one, other, valid, spec) == pytest.approx(1 - summarise([row])["mean"]["dice"])
