"""The section on calibration: when it is there, what it says, what it draws."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import labelmend
from labelmend.inference.reliability import Answers, measure
from labelmend.inference.temperature import NAME, Calibration, keep_calibration
from labelmend.report import write_report
from labelmend.report.reliability import draw_reliability, in_words, make_reliability
from labelmend.runs import Run

Trained = Callable[[str], Any]


def answers() -> Answers:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (2, 40000))
    return Answers(3 * scores, (scores + rng.gumbel(size=scores.shape)).argmax(0))


def found(**changes: Any) -> Calibration:
    told = [answers()]
    before, after = (measure(told, [t]) for t in (1.0, 3.0))
    one = Calibration(
        "main", 3, "", 3.0, "val", 4, 4, 40000, 0, "groups", 4, before, after, (2.9, 3.1)
    )
    return dataclasses.replace(one, **changes)


@pytest.fixture
def run(trained: Trained) -> Run:
    opened = Run.open(trained("gray").run)
    (opened.path / NAME).unlink(missing_ok=True)
    return opened


def test_words_say_what_was_found() -> None:
    text = in_words(found())
    assert "4 strong labels of val, each by the temperature of the other groups" in text
    assert "it is too sure" in text and "temperature 3.00" in text and "stays the same" in text
    one = found()
    shy = dataclasses.replace(one, before=measure([answers()], [9.0]))
    assert "not sure enough" in in_words(shy)
    assert "which is alike" in in_words(dataclasses.replace(one, before=one.after))
    sure = sum(b.share * b.confidence for b in one.before.bins)
    assert f"a probability of {sure:.3f}" in text


def test_charts_are_whole_and_of_their_own() -> None:
    one = found()
    drawn = [draw_reliability(s, n, "x") for n, s in (("a", one.before), ("b", one.after))]
    for text in drawn:
        ET.fromstring(text)
        assert "var(--" in text and not re.search(r"#[0-9a-f]{6}(?![0-9a-f])", text)
    names = re.findall(r'\sid="([^"]+)"', "".join(drawn))
    assert len(names) == len(set(names))
    assert f"ECE {one.before.ece:.4f}" in drawn[0] and f"ECE {one.after.ece:.4f}" in drawn[1]


def test_a_single_stretch_is_drawn() -> None:
    sure = measure([Answers(np.array([[9.0], [0.0]]), np.array([0]))], [1.0])
    ET.fromstring(draw_reliability(sure, "a", "x"))
    assert not in_words(found(before=sure, after=sure)).startswith("nan")


def test_a_run_without_a_calibration_has_no_section(run: Run, tmp_path: Path) -> None:
    assert make_reliability(run) == []
    page = write_report(run.path, tmp_path / "report.html").read_text("utf-8")
    assert 'id="reliability"' not in page and "How sure it is" not in page


def test_the_network_that_predicts_by_default_is_told_of_first(run: Run) -> None:
    keep_calibration(run.path, found())
    keep_calibration(run.path, found(model="ensemble", step=9, temperature=2.0))
    text = str(make_reliability(run)[0])
    assert "Divided by the temperature 3.00" in text and "ensemble, step 9" in text


def test_the_page_has_the_section_and_a_link(run: Run, tmp_path: Path) -> None:
    keep_calibration(run.path, found())
    keep_calibration(run.path, found(model="ensemble", temperature=2.0, judged="same"))
    page = write_report(run.path, tmp_path / "report.html").read_text("utf-8")
    assert 'href="#reliability"' in page and 'id="reliability"' in page
    assert page.count("share right against confidence") == 2
    assert all(f"ECE {one.ece:.4f}" in page for one in (found().before, found().after))
    assert "ensemble, step 3" in page and "3.000 (2.90 to 3.10)" in page
    assert "This was measured at step" not in page
    one, two = found().before, found().after
    for name in ("ece", "nll", "brier"):
        assert f">{getattr(one, name):.4f} → {getattr(two, name):.4f}<" in page
    worst = max(one.bins, key=lambda each: each.share * abs(each.confidence - each.right))
    assert f"confidence {worst.confidence:.3f}, right {worst.right:.3f}." in page
    (run.path / NAME).unlink()


def test_what_is_of_another_step_is_said(run: Run) -> None:
    keep_calibration(run.path, found(step=2, after=found().before, before=found().after))
    (section,) = make_reliability(run)
    assert "measured at step 2, and the run is at step 3" in section
    assert "Confidence is further from the share right than without a temperature." in section
    (run.path / NAME).unlink()


def test_a_damaged_file_is_said(run: Run) -> None:
    (run.path / NAME).write_text("{")
    (section,) = make_reliability(run)
    assert "cannot be read" in section and "labelmend calibrate" in section
    (run.path / NAME).unlink()
    assert labelmend.load(run).notes == ()
