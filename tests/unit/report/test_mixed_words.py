"""What a report says about mixed images, and what it does not claim."""

from __future__ import annotations

import pytest

from labelmend.report.mixed_words import latest, tell_idle, tell_mixing
from labelmend.report.story import Curve, Mixing
from labelmend.training.idle import LEAST, WINDOW


def steady(value: float, steps: int = 2 * WINDOW) -> Curve:
    return Curve(tuple(range(1, steps + 1)), (value,) * steps)


LOSS = steady(0.5)


def texts(mixing: Mixing, tone: str = "") -> str:
    return " ".join(s.text for s in tell_mixing(mixing) if tone in ("", s.tone))


@pytest.mark.parametrize(
    ("mixing", "said"),
    [
        (Mixing(), "learned them with their labels, mixed alike."),
        (Mixing(predicted=True), "learned on them what it predicted for the two images."),
        (Mixing(predicted=True, averaged=True), "what its average predicted for the two"),
        (Mixing(two=True, predicted=True), "two networks taught each other"),
        (Mixing(two=True, predicted=True, averaged=True), "what the average of the other"),
    ],
)
def test_what_mixed_images_taught_is_said(mixing: Mixing, said: str) -> None:
    assert said in texts(mixing, "fact")
    assert "No mixed image has been trained on yet." in texts(mixing, "unknown")


def test_an_idle_second_model_is_said_to_have_added_nothing() -> None:
    mixing = Mixing(two=True, predicted=True, loss=LOSS, disagreement=steady(0.004))
    assert "was idle: over the last 50 steps both predicted the same but for 0.4%" in texts(mixing)
    assert "it added nothing there" in texts(mixing, "warning")
    assert tell_idle(mixing) in texts(mixing)


@pytest.mark.parametrize(
    "disagreement", [steady(LEAST), steady(0.0, WINDOW - 1), Curve(), steady(0.5)]
)
def test_a_model_that_differs_or_too_few_steps_are_not_called_idle(disagreement: Curve) -> None:
    mixing = Mixing(two=True, predicted=True, loss=LOSS, disagreement=disagreement)
    assert tell_idle(mixing) is None
    assert not texts(mixing, "warning")


def test_only_the_last_steps_decide() -> None:
    apart, alike = (0.5,) * 200, (0.0,) * WINDOW
    steps = tuple(range(250))
    assert tell_idle(Mixing(disagreement=Curve(steps, apart + alike))) is not None
    assert tell_idle(Mixing(disagreement=Curve(steps, alike + apart))) is None
    assert latest(Curve(steps, apart + alike)) == alike


def test_a_gate_that_leaves_out_nearly_all_is_warned_of() -> None:
    mixing = Mixing(predicted=True, gate=0.99, loss=LOSS, gated=steady(0.97))
    assert "left out 97.0% of positions over the last 50 steps" in texts(mixing, "warning")
    assert not texts(Mixing(loss=LOSS, gated=steady(0.5)), "warning")


def test_pseudo_labels_that_mislead_are_warned_of() -> None:
    assert "taught mistakes" in texts(Mixing(loss=LOSS, gain=steady(-0.2)), "warning")
    assert not texts(Mixing(loss=LOSS, gain=steady(0.0)), "warning")
    noise = Curve(tuple(range(100)), (-0.6, 0.5) * 50)
    assert not texts(Mixing(loss=LOSS, gain=noise), "warning")
