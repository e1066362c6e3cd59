"""In whatever a label is worse than it was, all else alike, it is never looked at later; and in the
order by gain never earlier for counting less."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelmend.audit.evidence import Evidence
from labelmend.audit.ranking import Order, Standing, rank
from labelmend.types import Sample

share = st.floats(0, 1)
orders = pytest.mark.parametrize("order", ["gain", "wrong"])


@st.composite
def labels(draw: st.DrawFn, least: int = 1) -> list[Evidence]:
    """Labels of every quality, split and annotator, with or without figures."""
    found = []
    for number in range(draw(st.integers(least, 12))):
        quality = draw(st.sampled_from(["weak", "weak", "strong"]))
        split = draw(st.sampled_from(["train", "train", "val", "test"]))
        who = draw(st.sampled_from(["", "ann", "bob"])) if quality == "weak" else ""
        sample = Sample("images/i", f"labels/{number}", quality, split, "g", who)
        one = Evidence(sample, draw(st.none() | share))
        if quality == "weak" and split == "train" and draw(st.booleans()):
            one = replace(one, weight=draw(share), average=draw(share), loss=draw(st.floats(0, 9)))
        if draw(st.booleans()):
            one = replace(one, others=draw(share), fellows=draw(st.integers(1, 6)))
        if draw(st.booleans()):
            there = (draw(st.floats(-9, 9)), draw(st.floats(-9, 9)))
            one = replace(
                one, displacement=there, confidence=draw(share), explained=draw(st.floats(0, 1))
            )
        found.append(one)
    return found


@st.composite
def pairs(draw: st.DrawFn, many: int) -> dict[int, set[int]]:
    """Which of so many labels are nearly identical."""
    found: dict[int, set[int]] = {}
    for i in range(many):
        for j in range(i):
            if draw(st.integers(0, 5)) == 0:
                found.setdefault(i, set()).add(j)
                found.setdefault(j, set()).add(i)
    return found


def place(order: Sequence[Standing], index: int) -> int:
    return [one.index for one in order].index(index)


def later(order: Sequence[Standing], index: int) -> set[int]:
    """Those that are looked at after a label."""
    return {one.index for one in order[place(order, index) + 1 :]}


Worse = Callable[[Evidence, float], Evidence]

WORSE: dict[str, Worse] = {
    "disagreement": lambda one, by: replace(
        one, disagreement=(one.disagreement or 0) + by * (1 - (one.disagreement or 0))
    ),
    "others": lambda one, by: replace(one, others=(one.others or 0) + by * (1 - (one.others or 0))),
    "average": lambda one, by: replace(one, average=(one.average or 0) * (1 - by)),
    "explained": lambda one, by: replace(one, explained=one.explained + by),
    "confidence": lambda one, by: replace(
        one, confidence=(one.confidence or 0) + by * (1 - (one.confidence or 0))
    ),
    "loss": lambda one, by: replace(one, loss=(one.loss or 0) + by),
}
NEEDS = {"average": "weight", "explained": "displacement"}
NEEDS |= {
    "confidence": "displacement",
    "disagreement": "disagreement",
    "loss": "weight",
    "others": "others",
}


@orders
@pytest.mark.parametrize("name", WORSE)
@given(data=st.data())
def test_what_speaks_more_against_a_label_never_ranks_it_lower(
    name: str, order: Order, data: st.DataObject
) -> None:
    known = data.draw(labels())
    able = [i for i, one in enumerate(known) if getattr(one, NEEDS[name]) is not None]
    if not able:
        return
    index, alike = data.draw(st.sampled_from(able)), data.draw(pairs(len(known)))
    changed = [*known]
    changed[index] = WORSE[name](known[index], data.draw(share))
    before, after = rank(known, alike, order=order), rank(changed, alike, order=order)
    assert place(after, index) <= place(before, index)


@given(data=st.data())
def test_the_less_a_label_counts_the_later_it_is_worth_a_look(data: st.DataObject) -> None:
    known = data.draw(labels())
    able = [i for i, one in enumerate(known) if one.weight is not None]
    if not able:
        return
    index, alike = data.draw(st.sampled_from(able)), data.draw(pairs(len(known)))
    changed = [*known]
    changed[index] = replace(known[index], weight=(known[index].weight or 0) * data.draw(share))
    before, after = rank(known, alike), rank(changed, alike)
    assert place(after, index) >= place(before, index)
    assert rank(known, alike, order="wrong") == rank(changed, alike, order="wrong")


@given(known=labels())
def test_how_likely_a_label_is_wrong_is_the_same_in_both_orders(known: list[Evidence]) -> None:
    gain, wrong = (
        {one.index: one for one in rank(known, order=order)} for order in get_args(Order)
    )
    for index, one in gain.items():
        assert one.wrong == wrong[index].wrong == wrong[index].score >= one.score


TWO = Evidence(
    Sample("i", "a", "weak", "train", "g"),
    0.5,
    others=0.5,
    fellows=2,
    weight=0.5,
    average=0.5,
    loss=1.0,
    displacement=(3.0, 0.0),
    confidence=0.5,
    explained=0.25,
)
"""One of two labels that are alike but for one thing."""


@orders
@pytest.mark.parametrize("name", WORSE)
def test_what_speaks_clearly_more_against_a_label_ranks_it_first(name: str, order: Order) -> None:
    """Every input matters: of two labels that are alike but for it, the worse one comes first."""
    other = replace(TWO, sample=replace(TWO.sample, label="b"))
    found = rank([TWO, WORSE[name](other, 0.5)], order=order)
    assert [one.index for one in found] == [1, 0]


def test_of_two_labels_the_one_that_still_counts_is_worth_the_look() -> None:
    lost = replace(TWO, sample=replace(TWO.sample, label="b"), weight=0.0)
    assert [one.index for one in rank([lost, TWO])] == [1, 0]
    held = replace(TWO, sample=replace(TWO.sample, split="val"), weight=None, average=None)
    kept = replace(TWO, average=None)
    assert [one.index for one in rank([held, kept])] == [1, 0]


@given(known=labels(), by=share)
def test_one_who_makes_worse_labels_has_none_ranked_lower(known: list[Evidence], by: float) -> None:
    """All labels of one annotator but one get worse: that one passes nobody on the way down."""
    own = [i for i, one in enumerate(known) if one.sample.annotator == "ann"]
    if not own:
        return
    index, *others = own
    changed = [
        WORSE["explained"](replace(one, displacement=(1.0,), confidence=1.0), by)
        if i in others
        else one
        for i, one in enumerate(known)
    ]
    rest = set(range(len(known))) - set(own)
    before, after = rank(known), rank(changed)
    assert later(before, index) & rest <= later(after, index) & rest


@given(data=st.data())
def test_every_label_stands_once_and_scores_fall(data: st.DataObject) -> None:
    known = data.draw(labels())
    order = rank(known, data.draw(pairs(len(known))))
    assert sorted(one.index for one in order) == list(range(len(known)))
    scores = [one.score for one in order]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


@given(data=st.data())
def test_what_is_like_an_earlier_one_comes_behind_all_others(data: st.DataObject) -> None:
    known = data.draw(labels())
    alike = data.draw(pairs(len(known)))
    order = rank(known, alike)
    first = [one.index for one in order if one.like is None]
    behind = [one for one in order if one.like is not None]
    assert [one.index for one in order] == [*first, *(one.index for one in behind)]
    for one in behind:
        assert one.like in first and one.like in alike[one.index]
    # No two of those in front are like each other, so that no look is spent twice.
    assert not any(j in alike.get(i, ()) for i in first for j in first)


@given(known=labels(least=2))
def test_who_stands_where_does_not_hang_on_the_order_of_the_manifest(known: list[Evidence]) -> None:
    def scores(given: list[Evidence]) -> dict[str, float]:
        return {given[one.index].sample.label: one.score for one in rank(given)}

    there, back = scores(known), scores(known[::-1])
    assert all(math.isclose(there[name], back[name], rel_tol=1e-9) for name in there)


@given(known=labels(), by=share)
def test_a_strong_label_needs_more_to_stand_as_early(known: list[Evidence], by: float) -> None:
    weak = Evidence(Sample("i", "w", "weak", "train", "g"), by)
    strong = Evidence(Sample("i", "s", "strong", "train", "g"), by)
    order = rank([*known, strong, weak])
    assert place(order, len(known) + 1) < place(order, len(known))


@given(known=labels(), apart=st.floats(0.95, 1))
def test_a_strong_label_that_fits_nothing_stands_before_weak_ones_that_fit(
    known: list[Evidence], apart: float
) -> None:
    fit = [Evidence(Sample("i", f"w{n}", "weak", "train", "g"), 0.05) for n in range(20)]
    strong = Evidence(Sample("i", "s", "strong", "train", "g"), apart)
    order = rank([*known, *fit, strong])
    assert all(place(order, len(known) + n) > place(order, len(known) + 20) for n in range(20))
