"""Every sentence about weights, on made-up histories where it is true and where it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labelmend.report.story import Curve, Data, Method, Weighing
from labelmend.report.weight_words import tell_weights

DATA = Data(strong=8, weak=40, groups=20, annotators=(), held_out={"val": 6, "test": 0})
SPREAD = tuple(i / 39 for i in range(40))
METHOD = Method(signal="both", start=20, every=25, judged=10, cost=0.24)
WEIGHING = Weighing(
    METHOD,
    used=True,
    rounds=5,
    began=(0.5,) * 40,
    weights=SPREAD,
    looks=(5,) * 40,
    moved=(True,) * 40,
)


def said(weighing: Weighing, tone: str | None = None, *, lead: bool | None = None) -> str:
    return " ".join(
        one.text
        for one in tell_weights(DATA, weighing)
        if tone in (None, one.tone) and lead in (None, one.lead)
    )


def with_weighing(**changes: object) -> Weighing:
    return replace(WEIGHING, **changes)


def with_method(weighing: Weighing = WEIGHING, **changes: object) -> Weighing:
    return replace(weighing, method=replace(weighing.method, **changes))


UNLEARNED = with_weighing(rounds=0, weights=(0.5,) * 40, looks=(0,) * 40, moved=(False,) * 40)


def test_sound_weights_have_no_warning() -> None:
    assert said(WEIGHING, "warning") == ""
    text = "After 5 weight steps the weak labels count with 0.50 on average (at first 0.5): "
    assert f"{text}2 of 40 near 0, 2 near 1." in said(WEIGHING, lead=True)


def test_no_weak_labels() -> None:
    (one,) = tell_weights(replace(DATA, weak=0), WEIGHING)
    assert "no weak labels to weigh" in one.text


def test_weak_labels_left_aside() -> None:
    text = said(with_method(with_weighing(used=False), shuffled=True))
    assert "trained on strong ones only" in text
    assert "sanity" not in text


def test_constant_weights() -> None:
    text = said(with_method(replace(UNLEARNED, began=(1.0,) * 40), learned=False))
    assert text == "Weights were not learned: every weak label counted with 1."


def test_constant_weights_that_were_given() -> None:
    given = replace(UNLEARNED, began=SPREAD, weights=SPREAD)
    text = said(with_method(given, learned=False, given=True))
    assert "weak labels counted with 0.50 on average, as given, from 0.00 to 1.00." in text
    assert "sampler" not in text


def test_no_weight_step() -> None:
    text = said(UNLEARNED, "warning")
    assert "No weight step was taken: the first was to come at step 20" in text
    assert "step" not in said(with_method(UNLEARNED, start=None)).replace("weight step", "")


def test_weights_that_never_moved() -> None:
    still = with_weighing(weights=(0.5,) * 40, moved=(False,) * 40)
    text = said(still, "warning")
    assert "never moved from 0.5 in 5 weight steps" in text
    assert "collapsed" not in text
    assert "A low weight" not in said(still)


def test_weights_that_collapsed_to_one_value() -> None:
    text = said(with_weighing(weights=tuple(0.6 + 0.0001 * i for i in range(40))), "warning")
    assert "collapsed to one value" in text
    assert "towards 0" not in text


def test_weights_that_collapsed_towards_0() -> None:
    low = with_weighing(weights=(0.0,) * 38 + (0.6, 0.7))
    text = said(low, "warning")
    assert "collapsed towards 0 (mean 0.03): the weak labels hardly count" in text
    assert "weighting.strong_samples" in text
    assert "one value" not in text
    assert "strong_samples" not in said(with_method(low, signal="fit"))


def test_weights_that_are_all_1() -> None:
    text = said(with_weighing(weights=(1.0,) * 39 + (0.9,)), "warning")
    assert "close to pooling all labels" in text


# ---------------------------------------------------------------------- up to 2


def test_near_the_highest_is_near_2_where_that_is_the_highest() -> None:
    twice = with_method(with_weighing(weights=tuple(2 * w for w in SPREAD)), highest=2.0)
    text = said(twice)
    assert "2 of 40 near 0, 2 near 2." in text
    assert "near 1" not in text
    assert said(twice, "warning") == ""


def test_weights_around_1_are_no_pooling_where_2_is_the_highest() -> None:
    around = tuple(0.8 + 0.01 * i for i in range(40))
    assert said(with_method(with_weighing(weights=around), highest=2.0), "warning") == ""
    text = said(with_method(with_weighing(weights=(2.0,) * 39 + (1.8,)), highest=2.0), "warning")
    assert "all weak labels count alike, 2 times" in text
    assert "pooling" not in text


def test_collapse_is_measured_by_the_highest() -> None:
    narrow = tuple(0.6 + 0.002 * i for i in range(40))
    assert "one value" not in said(with_weighing(weights=narrow), "warning")
    assert "one value" in said(with_method(with_weighing(weights=narrow), highest=2.0), "warning")
    small = tuple(0.002 * i for i in range(40))
    assert "towards 0" in said(with_weighing(weights=small), "warning")
    assert "towards 0" not in said(with_method(with_weighing(weights=small), highest=0.1))


# ---------------------------------------------------------------------- where weights count


def test_a_shuffled_run_says_so_in_the_first_paragraph() -> None:
    shuffled = with_method(shuffled=True)
    assert "A sanity run (weighting.shuffled)" in said(shuffled, "warning", lead=True)
    assert "count with" not in said(shuffled)
    assert "sanity" not in said(WEIGHING)
    # Equal weights are the same in any order.
    assert "sanity" not in said(with_method(UNLEARNED, shuffled=True, learned=False))
    given = with_method(replace(UNLEARNED, began=SPREAD), shuffled=True, given=True, learned=False)
    assert "A sanity run" in said(given, "warning", lead=True)


def test_weights_that_draw_and_do_not_scale() -> None:
    drawn = said(with_method(use="sampler"))
    assert "how often a weak label was drawn, and did not scale its loss" in drawn
    assert "count with" not in drawn
    assert "they counted twice" in said(with_method(use="both"))
    assert "drawn" not in said(WEIGHING)


def test_low_weights_that_draw_do_not_make_weak_labels_rare() -> None:
    low = with_weighing(weights=(0.0,) * 38 + (0.6, 0.7))
    text = said(with_method(low, use="sampler"), "warning")
    assert "went mostly to the 2 of 40 that are not near 0" in text
    assert "hardly count" not in text
    assert "hardly count" in said(with_method(low, use="sampler", apart=False), "warning")
    assert "hardly count" in said(with_method(low, use="both"), "warning")
    none = with_method(with_weighing(weights=(0.0,) * 40), use="sampler")
    assert "strong labels were drawn in the places of weak ones" in said(none, "warning")


def test_weights_that_began_as_given() -> None:
    text = said(with_method(with_weighing(began=SPREAD), given=True))
    assert "(at first 0.50 on average, as given, from 0.00 to 1.00)" in text


# ---------------------------------------------------------------------- how they were learned


@pytest.mark.parametrize(
    ("signal", "text", "low"),
    [
        ("both", "a fit to the prediction", "finds a label unusual, or that"),
        ("fit", "a fit to the prediction", "overlap less than is usual"),
        ("loss", "a loss that is usual", "loss is unusually large"),
        ("similarity", "a gradient that helps", "does not help with the strong ones"),
    ],
)
def test_what_spoke_for_a_label(signal: str, text: str, low: str) -> None:
    whole = said(with_method(signal=signal))
    assert f"What speaks for a label is {text}" in whole
    assert f"(weighting.signal = {signal})" in whole
    assert low in whole
    assert "not a proof that it is wrong" in whole


def test_an_older_run_says_nothing_that_it_does_not_know() -> None:
    old = with_method(signal="", every=None, judged=None, cost=None)
    text = said(old)
    assert "What speaks" not in text
    assert "more time" not in text
    assert "Each weak label was looked at 5 times." in text
    assert "finds a label unusual" in text


def test_how_often_labels_were_looked_at_and_what_that_cost() -> None:
    text = said(with_weighing(looks=(2,) * 20 + (3,) * 20))
    assert "looked at 2 to 3 times: from step 20 on, every 25 steps, 10 of 40." in text
    assert "about 24% more time than training alone" in text
    assert "looked at once" in said(with_weighing(looks=(1,) * 40))
    assert "looked at at most twice" in said(with_weighing(looks=(0,) + (2,) * 39))
    assert "every step, all." in said(with_method(judged=40, every=1))


def test_labels_that_were_never_judged() -> None:
    looks, moved = (0,) * 3 + (1,) * 37, (False,) * 3 + (True,) * 37
    text = said(with_weighing(looks=looks, moved=moved), "warning")
    assert "3 weak labels were never judged: still at the start weight." in text


def test_labels_that_moved_with_others() -> None:
    looks = (0,) * 3 + (1,) * 37
    moved = with_weighing(looks=looks)
    assert said(moved, "warning") == ""
    assert "3 weak labels were never judged; 3 of them moved with the others." in said(moved)


def test_strong_labels_and_means_that_were_held() -> None:
    text = said(with_method(held_out=2, band=(0.4, 0.6)))
    assert "2 strong labels served the weight steps alone; training did not see them" in text
    assert "held within 0.4 and 0.6 (weighting.mean)" in text
    assert "held" not in said(WEIGHING)


def test_notes_are_told_and_of_many_the_first() -> None:
    assert "say of themselves: exact mode in place." in said(
        with_weighing(notes=("exact mode in place",))
    )
    text = said(with_weighing(notes=tuple(f"n{i}" for i in range(5))))
    assert text.count("say of themselves") == 3
    assert "2 further notes" in text


def test_agreement_of_the_strong_labels() -> None:
    falling = Curve(tuple(range(8)), (0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.01))
    text = said(with_weighing(agreement=falling))
    assert "with 0.70 in the first quarter of weight steps and 0.06 in the last" in text
    assert "a third at least, and the fit the rest" in text
    alone = with_method(with_weighing(agreement=falling), signal="similarity")
    assert "says little" in said(alone, "warning")
    level = with_method(with_weighing(agreement=Curve((1, 2), (0.5, 0.7))), signal="similarity")
    assert said(level, "warning") == ""
    assert "with 0.60 on average" in said(level)
    assert "Two halves" not in said(WEIGHING)


# ---------------------------------------------------------------------- per what


def test_weights_by_class() -> None:
    by_class = {"rest": (1.0,) * 40, "beat": (0.0,) * 40}
    split = with_weighing(weights=(0.5,) * 40, by_class=by_class)
    text = said(with_method(split, per="class"))
    assert "0.50 on average, the mean over its classes for each" in text
    assert "Mean weight by class, rising: beat 0.00, rest 1.00." in text
    assert "Every class of a label is judged by itself" in text
    # Labels are alike, and yet these weights tell something apart.
    assert "collapsed" not in text
    many = {f"c{i:02}": (i / 20,) * 40 for i in range(20)}
    assert "c03 0.15, …, c16 0.80" in said(with_method(replace(split, by_class=many), per="class"))


def test_annotators_that_differ_and_that_may_not() -> None:
    def by(**parts: tuple[float, ...]) -> str:
        return said(with_weighing(by="annotator", parts=parts))

    text = by(ann=(0.1, 0.12, 0.11, 0.1), bob=(0.8, 0.82, 0.81, 0.8))
    assert "from 0.11 (ann, 4 labels) to 0.81 (bob, 4 labels)" in text
    assert "chance" not in text
    assert "chance alone" in by(ann=(0.1, 0.9), bob=(0.2, 0.9))
    assert "chance alone" in by(ann=(0.1,), bob=(0.9,))
    assert "by annotator" not in by(ann=(0.1, 0.9))


def shared(**parts: tuple[float, ...]) -> Weighing:
    weights = tuple(weight for values in parts.values() for weight in values)
    rest = (1.0,) * (40 - len(weights))
    whole = with_weighing(by="annotator", parts=parts, weights=weights + rest)
    return with_method(whole, per="annotator")


def test_annotators_that_share_a_weight_each() -> None:
    text = said(shared(ann=(0.2,) * 30, bob=(0.9,) * 8))
    assert "The weights of 2 annotators: from 0.20 (ann, 30 labels) to 0.90 (bob, 8 labels)" in text
    assert "2 labels without annotator have a weight each" in text
    assert "All labels of an annotator are judged together" in text
    assert "perhaps not for all that share it" in text
    assert "chance" not in text
    assert "Mean weight by" not in text


def test_one_shared_weight_is_no_collapse() -> None:
    text = said(shared(ann=(0.6,) * 40))
    assert "All labels that name an annotator have one weight: 0.60 (ann, 40 labels)." in text
    assert "collapsed" not in text
    assert "do not tell annotators apart" in said(shared(ann=(0.6,) * 20, bob=(0.61,) * 20))
    assert "No weak label names its annotator" in said(shared())
