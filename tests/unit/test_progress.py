"""A notebook's bar says how far it is, and is not redrawn for every step."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from labelmend import progress
from labelmend.progress import Notebook, go_through


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still but for what a test adds."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What came to be below the cell, one drawing after the other."""
    seen: list[str] = []

    def display(shown: Any, *, display_id: bool) -> SimpleNamespace:
        assert display_id  # or every drawing would be a new bar
        seen.append(_text(shown))
        return SimpleNamespace(update=lambda shown: seen.append(_text(shown)))

    monkeypatch.setattr("IPython.display.display", display)
    return seen


def _text(shown: Any) -> str:
    return " ".join(re.sub("<[^>]*>", " ", shown.data).replace("&ensp;", " ").split())


def test_a_bar_says_how_much_longer_it_will_take(clock: SimpleNamespace, drawn: list[str]) -> None:
    bar = Notebook()
    bar.start(100, 40)  # what was done before took none of this time
    for step in range(41, 61):
        clock.seconds += 3
        bar.step(step, {"loss": 0.25} if step > 41 else {})
    bar.finish()
    assert drawn[:3] == [
        "training 40 of 100, –",
        "training 41 of 100, 2:57 left",
        "training 42 of 100, 2:54 left loss 0.25",
    ]
    assert drawn[-1] == "training 60 of 100, 2:00 left loss 0.25"


def test_a_bar_that_came_to_its_end_says_how_long_it_took(
    clock: SimpleNamespace, drawn: list[str]
) -> None:
    def work(_: int) -> None:
        clock.seconds += 0.01

    go_through(range(1000), work, Notebook("looking"))
    assert drawn[-1] == "looking 1000 of 1000, 0:10"
    assert len(drawn) <= 2 + 10 / 0.25  # a message to the browser four times a second at most


def test_nothing_to_do_is_done(clock: SimpleNamespace, drawn: list[str]) -> None:
    go_through([], print, Notebook())
    assert drawn[-1] == "training 0 of 0, 0:00"


def test_lines_that_stay_are_printed(drawn: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Notebook().say("step 20: held-out dice 0.8")
    assert capsys.readouterr().out == "step 20: held-out dice 0.8\n" and not drawn
