"""Reasons are specific, on one line, and true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labelmend.audit.evidence import Evidence
from labelmend.audit.ranking import rank
from labelmend.audit.reasons import explain
from labelmend.types import Sample


def label(name: str, who: str = "", quality: Any = "weak", **known: Any) -> Evidence:
    sample = Sample(f"images/{name}", f"labels/{quality}/{name}", quality, "train", name, who)
    return Evidence(sample, **known)


FIT = [label(f"fit{n}", disagreement=0.06, weight=1.0, average=0.9, began=0.5) for n in range(6)]


def reasons(*given: Evidence, regression: bool = False, **alike: Any) -> dict[str, str]:
    known = [*given, *FIT]
    order = rank(known, alike.get("alike"))
    texts = explain(known, order, regression)
    return {known[one.index].sample.name: text for one, text in zip(order, texts, strict=True)}


def reason(one: Evidence, **more: Any) -> str:
    return reasons(one, **more)[one.sample.name]


def test_a_low_overlap_and_a_fallen_weight() -> None:
    one = label("a", disagreement=0.69, weight=0.02, average=0.1, began=0.5)
    assert reason(one) == "prediction and label overlap by 31 %; weight fell to 0.02"


def test_a_weight_that_never_rose_did_not_fall() -> None:
    one = label("a", disagreement=0.69, weight=0.02, average=0.02, began=0.02)
    assert reason(one) == "prediction and label overlap by 31 %; weight 0.02"


def test_a_weight_that_is_shown_as_before_did_not_fall() -> None:
    one = label("a", disagreement=0.69, weight=0.498, average=0.1, began=0.5)
    assert reason(one).endswith("; weight 0.50")


def test_a_weight_that_came_back() -> None:
    one = label("a", disagreement=0.06, weight=0.55, average=0.05, began=0.5)
    assert reason(one).startswith("weight 0.55, but 0.05 on average")


def test_a_doubtful_label_that_still_counts_says_so() -> None:
    one = label("a", disagreement=0.8, weight=0.9, average=0.5, began=0.5)
    assert reason(one) == "prediction and label overlap by 20 %; still counts (weight 0.90)"
    two = replace(one, weight=1.5, average=1.0, highest=2.0)
    assert reason(two).endswith("still counts (weight 1.50 of 2)")
    assert "still counts" not in reason(replace(one, weight=0.4))
    assert "still counts" not in reason(replace(one, disagreement=0.06))


def test_weights_that_can_be_higher_say_so() -> None:
    one = label("a", disagreement=0.69, weight=0.1, average=0.1, began=0.5, highest=2.0)
    assert "weight fell to 0.10 of 2" in reason(one)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ((6.0, 1.0), "lies 6.1 positions off (move it down 6, right 1), 98 % sure"),
        ((-6.0, -1.0), "lies 6.1 positions off (move it up 6, left 1), 98 % sure"),
        ((0.0, 1.0), "lies 1 position off (move it right 1), 98 % sure"),
        ((5.0,), "lies 5 positions off (move it later 5), 98 % sure"),
        ((-5.0,), "lies 5 positions off (move it earlier 5), 98 % sure"),
        (
            (2.0, 0.0, -1.0),
            "lies 2.2 positions off (move it +2 along axis 0, -1 along axis 2), 98 % sure",
        ),
    ],
)
def test_a_displaced_label_says_where_to(there: tuple[float, ...], words: str) -> None:
    one = label("a", disagreement=0.3, displacement=there, confidence=0.989, explained=0.2)
    assert words in reason(one)


def test_what_can_be_checked_at_once_comes_first() -> None:
    one = label(
        "a",
        disagreement=0.96,
        weight=0.0,
        average=0.0,
        began=0.5,
        displacement=(3.0, 0.0),
        confidence=1.0,
        explained=0.9,
    )
    assert reason(one) == (
        "lies 3 positions off (move it down 3), 100 % sure; prediction and label overlap by 4 %; "
        "weight fell to 0.00"
    )


def test_what_says_little_is_not_said() -> None:
    one = label("a", disagreement=0.96, displacement=(1.0, 0.0), confidence=1.0, explained=0.01)
    assert reason(one) == "prediction and label overlap by 4 %"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"remark": "empty", "disagreement": 1.0}, "the label is empty, the prediction is not"),
        ({"remark": "missed", "disagreement": 1.0}, "nothing of the label is predicted"),
        ({"remark": "nothing"}, "label and prediction are both empty"),
        ({"remark": "unsaid"}, "the label says nothing about any position"),
        ({"disagreement": 1.0}, "prediction and label have nothing in common"),
        ({}, "nothing to compare it with"),
    ],
)
def test_what_no_figure_says_is_said(known: dict[str, Any], words: str) -> None:
    assert reason(label("a", **known)) == words


def test_continuous_labels_are_told_by_their_spread() -> None:
    text = reason(label("a", disagreement=0.6), regression=True)
    assert text == "prediction and label differ by 1.5 times the usual spread of labels"


def test_a_good_label_says_how_well_it_fits() -> None:
    assert reasons()["fit0"] == "prediction and label overlap by 94 %; weight 1.00"


def test_a_strong_label_says_that_it_is_one() -> None:
    text = reason(label("s", quality="strong", disagreement=0.9))
    assert text == "a strong label; prediction and label overlap by 10 %"
    assert not reason(label("s", quality="strong", disagreement=0.05)).startswith("a strong")


def test_one_that_is_unlike_the_others_of_its_image() -> None:
    usual = [replace(one, others=0.1, fellows=3) for one in FIT]
    known = [label("a", disagreement=0.06, others=0.6, fellows=3), *usual]
    order = rank(known)
    assert order[0].index == 0
    text = explain(known, order, False)[0]
    assert text.startswith("it overlaps with 3 other labels of this image by 40 %; prediction")


def test_an_annotator_is_named_with_how_many_others_are_doubtful() -> None:
    low = {"weight": 0.0, "average": 0.1, "began": 0.5, "disagreement": 0.8}
    known = [label(f"b{n}", "bob", **low) for n in range(8)]
    known += [label(f"b{n}", "bob", **vars_of(FIT[0])) for n in (8, 9)]
    known += [label(f"a{n}", "ann", **vars_of(FIT[0])) for n in range(12)]
    found = reasons(*known)
    assert "annotator bob: 7 of 9 other labels are doubtful" in found["b0"]
    assert "annotator bob: 8 of 9 other labels are doubtful" in found["b9"]
    assert "annotator" not in found["a0"]


def test_nobody_is_doubtful_by_company_alone() -> None:
    known = [label(f"b{n}", "bob", disagreement=0.9) for n in range(8)]
    known += [label("usual", "bob", disagreement=0.06)]
    known += [label(f"a{n}", "ann", disagreement=0.06) for n in range(12)]
    assert "annotator bob: 7 of 8 other labels are doubtful" in reasons(*known)["b0"]


def vars_of(one: Evidence) -> dict[str, Any]:
    names = ("disagreement", "weight", "average", "began")
    return {name: getattr(one, name) for name in names}


def test_what_is_like_another_names_it() -> None:
    one, two = label("a", disagreement=0.9), label("b", disagreement=0.8)
    found = reasons(one, two, alike={0: {1}, 1: {0}})
    assert found["b"].startswith("like labels/weak/a above it; prediction and label overlap")
    assert "like" not in found["a"]


def test_a_reason_is_one_line_whatever_files_are_called() -> None:
    one, two = label("a\nb", disagreement=0.9), label("c\rd", disagreement=0.8)
    assert all(len(text.splitlines()) == 1 for text in reasons(one, two, alike={1: {0}}).values())
