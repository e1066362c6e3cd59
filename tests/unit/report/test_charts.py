"""Charts can stand on one page together, follow its colours and show what they are given."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np

from labelmend.report import charts, weight_charts
from labelmend.report.gather import Paths
from labelmend.report.story import Course, Curve

STEPS = tuple(range(1, 101))
FALLING = Curve(STEPS, tuple(2 - s / 100 for s in STEPS))
COURSE = Course(
    100,
    100,
    1.0,
    "dice",
    loss=FALLING,
    loss_strong=FALLING,
    loss_weak=FALLING,
    held=Curve((50, 100), (0.5, 0.75)),
    rate=FALLING,
)


PARTS = {"<ann>": [0.1, 0.2], "$b$": [0.9]}


def drawn() -> dict[str, str]:
    weights = np.random.default_rng(0).random((4, 30))
    paths = Paths((0, 10, 20, 30), tuple(tuple(row) for row in weights.tolist()))
    return {
        "losses": charts.draw_losses(COURSE, 10),
        "held": charts.draw_held_out(COURSE),
        "histogram": weight_charts.draw_histogram(weights[-1].tolist(), [0.5] * 30, 1.0),
        "classes": weight_charts.draw_classes({"<a>": [0.1, 0.2], "b": [0.9, 2.0]}, 2.0),
        "paths": weight_charts.draw_paths(paths, 1.0),
        "parts": weight_charts.draw_parts(PARTS, "annotator", 1.0),
        "shared": weight_charts.draw_shared(PARTS, "annotator", 1.0),
        "disagreement": charts.draw_figure(FALLING, "apart", "apart", (0, 0.05), percent=True),
        "gain": charts.draw_figure(FALLING, "gain", "gain", (-1, 1)),
        "agreement": weight_charts.draw_agreement(FALLING),
    }


def test_charts_are_whole_and_need_nothing_from_outside() -> None:
    for name, text in drawn().items():
        ET.fromstring(text)
        assert "://" not in text, name
        assert "<style" not in text
        assert not re.search(r"#[0-9a-f]{6}(?![0-9a-f])", text), name
        assert "var(--" in text


def test_no_name_is_used_twice_on_a_page() -> None:
    names = re.findall(r'\sid="([^"]+)"', "".join(drawn().values()))
    assert names
    assert len(names) == len(set(names))


def test_every_reference_has_its_target() -> None:
    text = "".join(drawn().values())
    wanted = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    assert wanted <= set(re.findall(r'\sid="([^"]+)"', text))


def test_names_are_text_not_markup_or_formulas() -> None:
    for name in ("parts", "shared"):
        text = drawn()[name]
        assert "&lt;ann&gt;" in text
        assert "$b$" in text
    assert "&lt;a&gt;" in drawn()["classes"]


def test_the_same_run_draws_the_same_chart() -> None:
    assert drawn() == drawn()


def test_smoothing_keeps_a_line_and_calms_noise() -> None:
    steps, line = charts.smoothed(FALLING)
    assert np.allclose(line, 2 - steps / 100)
    noise = np.random.default_rng(0).normal(size=1000)
    rough = Curve(tuple(range(1000)), tuple(noise.tolist()))
    assert charts.smoothed(rough)[1].std() < 0.3 * noise.std()


def test_a_pooled_run_and_a_single_validation_can_be_drawn() -> None:
    course = Course(1, 1, None, "psnr", loss=Curve((1,), (0.5,)), held=Curve((1,), (20.0,)))
    assert "<svg" in charts.draw_losses(course, None)
    assert "best 20" in charts.draw_held_out(course)
