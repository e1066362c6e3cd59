"""The order of an audit against the sums of the docs; its laws are in tests/laws/test_audit.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelmend.audit.evidence import Evidence
from labelmend.audit.ranking import rank
from labelmend.types import Sample

from . import oracle_ranking as oracle


def labels(seed: int, many: int) -> list[Evidence]:
    """Labels of every quality, split and annotator, of which more or less is known."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(many):
        quality = str(rng.choice(["weak", "weak", "strong"]))
        split = str(rng.choice(["train", "train", "val", "test"]))
        who = str(rng.choice(["", "ann", "bob"]))
        sample = Sample("i", f"{number}", quality, split, "g", who)
        one, half = Evidence(sample, highest=2.0), rng.random(5) < 0.5
        if half[0]:
            one = replace(one, disagreement=float(rng.random()))
        elif half[1]:
            one = replace(one, remark="nothing")
        if half[2]:
            one = replace(one, others=float(rng.random()), fellows=int(rng.integers(1, 4)))
        if half[3] and quality == "weak" and split == "train":
            weight, average = 2 * rng.random(2)
            one = replace(one, weight=float(weight), average=float(average))
        if half[4]:
            there, sure = (float(rng.integers(-1, 2)), 0.0), float(rng.random())
            one = replace(one, displacement=there, confidence=sure, explained=float(rng.random()))
        found.append(one)
    return found


@pytest.mark.parametrize("many", [1, 4, 9, 30, 60])
@pytest.mark.parametrize("seed", range(4))
def test_chances_and_scores_are_those_of_the_docs(seed: int, many: int) -> None:
    known = labels(seed, many)
    wrong = oracle.chances(known)
    scores = [a * b for a, b in zip(wrong, oracle.worths(known), strict=True)]
    for one in rank(known):
        assert one.wrong == pytest.approx(wrong[one.index])
        assert one.score == pytest.approx(scores[one.index])
    assert [one.score for one in rank(known)] == pytest.approx(sorted(scores, reverse=True))
    assert [one.wrong for one in rank(known, order="wrong")] == pytest.approx(sorted(wrong)[::-1])


def test_what_is_not_known_adds_nothing() -> None:
    """Nor does it take anything off: a label that says nothing is no better than others."""
    fine = [Evidence(Sample("i", f"{n}", "weak", "train", "g"), 0.4) for n in range(9)]
    blank = Evidence(Sample("i", "blank", "weak", "train", "g"), remark="unsaid")
    standing = next(one for one in rank([*fine, blank]) if one.index == 9)
    assert sum(standing.terms.values()) == standing.terms["prior"]


def test_a_place_that_fits_worse_says_nothing_for_a_label() -> None:
    moved = {"displacement": (1.0,), "confidence": 1.0, "explained": -0.5}
    (found,) = rank([Evidence(Sample("i", "a", "weak", "train", "g"), 0.5, **moved)])
    assert found.terms["displacement"] == 0


def test_of_labels_that_score_alike_the_larger_loss_comes_first() -> None:
    one = Evidence(Sample("i", "a", "weak", "train", "g"), 0.5)
    known = [replace(one, loss=loss) for loss in (0.5, 2.0, None, 1.0)]
    assert [each.index for each in rank(known)] == [1, 3, 0, 2]


def test_a_label_is_like_the_first_of_those_before_it() -> None:
    known = [Evidence(Sample("i", f"{n}", "weak", "train", "g"), 0.9 - n / 10) for n in range(4)]
    found = rank(known, {3: {0, 1}, 0: {3}, 1: {3}})
    assert [(one.index, one.like) for one in found] == [(0, None), (1, None), (2, None), (3, 0)]
    # Never above those that come before it, whatever it would score by itself.
    twin = rank(known, {0: {1}, 1: {0}})
    assert [(one.index, one.like) for one in twin] == [(0, None), (2, None), (3, None), (1, 0)]
    assert twin[3].score == pytest.approx(twin[2].score * twin[3].wrong)
