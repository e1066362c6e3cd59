"""Every sentence of a report, on made-up histories where it is true and where it is not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from labelmend.report.phrases import count, duration, figure, metric_name
from labelmend.report.story import (
    Course,
    Curve,
    Data,
    Endings,
    Judgement,
    Method,
    Story,
    Weighing,
)
from labelmend.report.trends import trend
from labelmend.report.words import tell

DATA = Data(strong=8, weak=40, groups=20, annotators=(), held_out={"val": 6, "test": 0})


def curve(*values: float, every: int = 1) -> Curve:
    return Curve(tuple(every * (i + 1) for i in range(len(values))), values)


LEVEL = curve(*([1.0 - 0.02 * i for i in range(40)] + [0.2] * 120))
COURSE = Course(
    steps=160,
    planned=160,
    seconds=75.0,
    metric="dice",
    loss=LEVEL,
    loss_strong=LEVEL,
    loss_weak=LEVEL,
    held=curve(0.4, 0.6, 0.7, 0.72, every=40),
)
SPREAD = tuple(i / 39 for i in range(40))
WEIGHING = Weighing(
    Method(),
    used=True,
    rounds=5,
    began=(0.5,) * 40,
    weights=SPREAD,
    looks=(5,) * 40,
    moved=(True,) * 40,
)
STORY = Story(DATA, COURSE, WEIGHING)


def said(story: Story, tone: str | None = None) -> str:
    return " ".join(s.text for s in tell(story) if tone in (None, s.tone))


def with_data(**changes: object) -> Story:
    return replace(STORY, data=replace(DATA, **changes))


def with_course(**changes: object) -> Story:
    return replace(STORY, course=replace(COURSE, **changes))


def test_a_sound_run_has_no_warning() -> None:
    assert said(STORY, "warning") == ""
    assert "level over the last half" in said(STORY, "good")


def test_the_first_paragraph_has_the_figures() -> None:
    lead = " ".join(s.text for s in tell(STORY) if s.lead)
    assert "160 steps in 1 min 15 s on 8 strong labels and 40 weak labels from 20 groups" in lead
    assert "Dice on 6 held-out strong labels went from 0.400 (step 40) to 0.720 (step 160)" in lead
    assert "count with 0.50 on average (at first 0.5): 2 of 40 near 0, 2 near 1" in lead


@pytest.mark.parametrize(
    ("tried", "text"),
    [
        (
            Endings(40, 60, 0.7, 0.72, "strong"),
            "Two endings of 60 steps each were tried from step 40 on: Dice on held-out labels "
            "0.700 with weak labels, 0.720 on strong labels alone. The latter is kept",
        ),
        (Endings(40, 60, 0.7, 0.6, "as_is"), "0.600 on strong labels alone. The former is kept"),
        (Endings(40, 60, None, 0.6, "as_is"), "could not tell them apart, so the one with weak"),
        (
            Endings(40, 60, 0.7, 0.695, "strong", 0.1),
            "The latter is kept, and told of here. So small a difference may be chance; that weak "
            "labels count 0.10 in the mean decided.",
        ),
    ],
)
def test_endings_are_told_apart(tried, text) -> None:
    assert text in said(with_course(endings=tried))
    assert "ending" not in said(STORY)


def test_what_weak_labels_count_is_no_reason_where_figures_differ() -> None:
    assert "chance" not in said(with_course(endings=Endings(40, 60, 0.7, 0.72, "strong", 0.1)))


def test_annotators_are_counted() -> None:
    text = said(with_data(annotators=("ann", "bob", "cy")))
    assert "weak ones by 3 annotators" in text
    assert "annotator" not in said(STORY)


def test_files_left_out_are_a_warning() -> None:
    assert "1 file could not be used and was left out" in said(with_data(left_out=1), "warning")
    assert "3 files could not be used and were left out" in said(with_data(left_out=3), "warning")


def test_notes_are_passed_on() -> None:
    assert "Labels have 2 axes. Nothing else." in said(
        with_data(notes=("Labels have 2 axes", "Nothing else."))
    )


def test_no_strong_label_is_a_warning() -> None:
    assert "no label in this run is known to be exact" in said(with_data(strong=0), "warning")


# ---------------------------------------------------------------------- held-out


def test_without_held_out_labels_nothing_is_claimed() -> None:
    story = replace(with_course(held=Curve()), data=replace(DATA, held_out={"val": 0, "test": 0}))
    assert "No strong label was held out for validation" in said(story, "unknown")
    assert "Dice" not in said(story)


def test_held_out_but_not_validated_yet() -> None:
    story = with_course(held=Curve())
    assert "6 strong labels held out, but not validated on yet" in said(story, "unknown")


def test_one_validation_is_no_course() -> None:
    text = said(with_course(held=curve(0.5, every=40)))
    assert "0.500, measured once" in text
    assert "went from" not in text


def test_the_best_is_named_where_it_is_not_the_last() -> None:
    text = said(with_course(held=curve(0.4, 0.71, 0.7, every=40)))
    assert "to 0.700 (step 120); best 0.710 at step 80" in text
    assert "its best" in said(STORY)


def test_few_held_out_labels_make_rough_figures() -> None:
    assert "With 4 held-out labels the Dice is a rough figure" in said(
        with_data(held_out={"val": 4, "test": 0}), "unknown"
    )
    assert "rough" not in said(STORY)


def test_a_fall_after_an_early_best_is_over_fitting_only_with_a_falling_loss() -> None:
    held = curve(0.5, 0.7, 0.66, 0.62, every=40)
    falling = curve(*[1 - i / 200 for i in range(160)])
    fits = with_course(held=held, loss_strong=falling)
    assert "it over-fits" in said(fits, "warning")
    assert "fell by 0.080 after step 80" in said(fits, "warning")
    level = with_course(held=held, loss_strong=curve(*[0.5] * 160))
    assert "fell by 0.080 after step 80" in said(level, "warning")
    assert "over-fits" not in said(level)


def test_a_small_or_late_fall_is_not_mentioned() -> None:
    small = with_course(held=curve(0.5, 0.7, 0.695, 0.69, every=40))
    late = with_course(held=curve(0.5, 0.6, 0.7, 0.72, 0.6, every=32))
    assert "fell by" not in said(small)
    assert "fell by" not in said(late)


def test_evaluations_are_told() -> None:
    test = Judgement("test", 160, 12, {"dice": 0.66}, {})
    story = replace(with_data(held_out={"val": 6, "test": 12}), judgements=(test,))
    text = "Evaluated on 12 strong labels of the test split at step 160: Dice 0.660."
    assert text in said(story)
    assert "not evaluated yet" not in said(story)
    assert "12 strong labels kept for testing, not evaluated yet" in said(
        with_data(held_out={"val": 6, "test": 12}), "unknown"
    )
    assert "No strong label was kept for testing" in said(STORY, "unknown")


def test_an_evaluation_without_a_figure_claims_none() -> None:
    blank = Judgement("val", 160, 1, {"dice": None}, {})
    assert "Evaluated" not in said(replace(STORY, judgements=(blank,)))


# ---------------------------------------------------------------------- training


def noisy(values: list[float], seed: int = 0) -> Curve:
    rng = random.Random(seed)
    return curve(*[v + rng.gauss(0, 0.1) for v in values])


def test_a_falling_loss_looks_unfinished() -> None:
    story = with_course(loss_strong=noisy([2 - i / 100 for i in range(160)]))
    assert "still falling at the end" in said(story, "warning")


def test_a_rising_loss_diverges() -> None:
    values = [1 - i / 100 for i in range(80)] + [0.2 + i / 40 for i in range(80)]
    story = with_course(loss_strong=noisy(values))
    assert "the training diverges" in said(story, "warning")


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_level(seed: int) -> None:
    assert trend(noisy([0.5] * 400, seed)) == "level"


def test_too_few_steps_say_nothing() -> None:
    few = curve(3.0, 2.0, 1.0)
    story = with_course(loss=few, loss_strong=few, loss_weak=few, steps=3, planned=3)
    assert "Too few steps (3) to say where the loss is going" in said(story, "unknown")


def test_a_pooled_run_has_one_loss() -> None:
    text = said(with_course(loss_strong=Curve(), loss_weak=Curve()))
    assert "The loss was level" in text


def test_a_run_that_stopped_early() -> None:
    text = said(with_course(planned=400), "warning")
    assert "Not finished: step 160 of 400. labelmend train --resume RUN" in text
    assert "Not finished" not in said(with_course(planned=None))


def test_a_run_that_ran_out_of_patience() -> None:
    held = curve(0.5, 0.7, 0.69, 0.695, every=40)
    text = said(with_course(planned=400, patience=2, held=held))
    assert "Ended early at step 160 of 400: no gain in 2 validations" in text
    assert "Not finished" not in text
    assert "Not finished" in said(with_course(planned=400, patience=3, held=held))


# ---------------------------------------------------------------------- numbers


def test_numbers_are_written_for_people() -> None:
    assert [count(0, "step"), count(1, "step"), count(2000, "step")] == [
        "0 steps",
        "1 step",
        "2,000 steps",
    ]
    assert [duration(0.1), duration(59.6), duration(3599.6)] == ["1 s", "1 min 0 s", "1 h 0 min"]
    assert [figure("dice", 0.12345), figure("psnr", 23.44)] == ["0.123", "23.4 dB"]
    assert [metric_name("event_f1"), metric_name("my_metric")] == ["event F1", "my metric"]
