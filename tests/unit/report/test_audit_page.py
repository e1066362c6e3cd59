"""The page of an audit: one file that needs nothing else, in the order of the audit."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from labelmend.audit import Audit, run_audit
from labelmend.inference.predictor import Predictor
from labelmend.progress import Silent
from labelmend.report import audit_page
from labelmend.report.audit_page import write_audit_page
from labelmend.report.audit_pictures import draw_case, draw_gain
from labelmend.report.pictures import Painter
from labelmend.report.views import Loaded
from labelmend.types import DataSpec, Raster

from ..inference import test_fix as made

SPEC = DataSpec("segmentation", ("rest", "cell"), (0, 1), None, 2, 1, "none", ".png")
VOID = {"img", "input", "meta"}


class Tags(HTMLParser):
    """Checks that tags close each other, and collects addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class Told(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    made.make_data(tmp_path)
    return made.make_predictor(tmp_path, made.Bright())


def page_of(predictor: Predictor, audit: Audit | None = None) -> str:
    path = write_audit_page(predictor, audit or run_audit(predictor))
    assert path == predictor.run.path / "audit" / "audit.html"
    return path.read_text()


def test_the_page_is_whole_and_needs_nothing_else(predictor: Predictor) -> None:
    text, tags = page_of(predictor), Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.addresses and all(a.startswith(("data:image/", "#")) for a in tags.addresses)
    assert "http" not in re.sub(r"data:image/\S+", "", text).replace("http://www.w3.org", "")
    assert "<script" not in text and "prefers-color-scheme: dark" in text


def test_labels_stand_in_order_each_with_its_reason(predictor: Predictor) -> None:
    audit = run_audit(predictor)
    text = page_of(predictor, audit)
    places = [text.index(f"<code>{one.label}</code>") for one in audit.labels]
    assert places == sorted(places)
    for one in audit.labels:
        assert f'<span class="why">{one.reason}</span>' in text
    assert text.count('class="badge strong"') == 1


def test_a_displaced_label_is_also_drawn_where_it_belongs(predictor: Predictor) -> None:
    audit = run_audit(predictor)
    tiles = page_of(predictor, audit).split("<figure")[1:]
    drawn = {
        one.label: 'class="moved' in tile for one, tile in zip(audit.labels, tiles, strict=False)
    }
    assert drawn == {one.label: one.moves for one in audit.labels}
    assert sum(drawn.values()) == 3


def test_no_more_labels_are_shown_than_the_budget(predictor: Predictor) -> None:
    audit = run_audit(predictor).within(2)
    text = page_of(predictor, audit)
    assert text.count('class="tile"') == 2 and "3 labels more in audit.csv" in text
    assert "the best 2 labels to look at hold" in text and "the best 2</" in text


def test_labels_of_one_quality_are_shown_alone(predictor: Predictor) -> None:
    audit = run_audit(predictor).only("strong")
    text = page_of(predictor, audit)
    assert text.count('class="tile"') == text.count('class="badge strong"') == len(audit.named) == 1
    without = replace(audit, labels=tuple(one for one in audit.labels if one.quality == "weak"))
    assert "there is no label of that quality" in page_of(predictor, without)


def test_of_many_labels_the_first_are_shown(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_page, "MOST_SHOWN", 3)
    text = page_of(predictor)
    assert text.count('class="tile"') == 3 and "2 labels more in audit.csv" in text


def test_without_a_budget_only_labels_that_hold_something_are_shown(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_page, "LEAST_SHOWN", 1)
    audit = run_audit(predictor)
    scores = (0.5, 0.46, 0.03, 0.01, 0.0)
    labels = tuple(replace(o, score=s) for o, s in zip(audit.labels, scores, strict=True))
    assert page_of(predictor, replace(audit, labels=labels)).count('class="tile"') == 2


def test_bars_are_beside_the_first_and_the_page_says_what_scores_are(predictor: Predictor) -> None:
    audit = run_audit(predictor)
    labels = tuple(replace(o, score=0.1 / (n + 1)) for n, o in enumerate(audit.labels))
    text = page_of(predictor, replace(audit, labels=labels))
    assert "width: 100.0%" in text and "width: 50.0%" in text
    assert "how much it still counts in training" in text and "of the expected gain" in text
    other = page_of(predictor, replace(audit, order="wrong"))
    assert "how much it still counts" not in other and "of what is thought wrong" in other


def test_names_cannot_become_markup(predictor: Predictor) -> None:
    audit = run_audit(predictor)
    odd = [replace(one, reason="<script>x</script>", annotator="a<b>") for one in audit.labels]
    text = page_of(predictor, replace(audit, labels=tuple(odd), notes=("<i>",)))
    assert "<script" not in text and "a<b>" not in text and "&lt;i&gt;" in text


def test_what_cannot_be_shown_is_said_in_its_place(predictor: Predictor) -> None:
    audit, told = run_audit(predictor), Told()
    first = audit.labels[0].label
    (Path(predictor.run.data.root) / first).unlink()
    text = write_audit_page(predictor, audit, watcher=told).read_text()
    assert text.count("Cannot be shown: ") == 1 and text.count('class="picture') == 4
    assert len(told.said) == 1 and first in told.said[0]


def test_annotators_have_a_table_where_it_tells(predictor: Predictor) -> None:
    audit = run_audit(predictor)
    assert 'id="annotators"' not in page_of(predictor, audit)
    two = (
        replace(audit.annotators[0], name="bob", labels=8),
        replace(audit.annotators[0], labels=9),
    )
    text = page_of(predictor, replace(audit, annotators=two))
    assert 'id="annotators"' in text and ">bob<" in text and 'id="groups"' not in text


def test_another_model_has_a_page_of_its_own(predictor: Predictor) -> None:
    audit = replace(run_audit(predictor), model="ensemble")
    assert write_audit_page(predictor, audit).parent.name == "audit-ensemble"


# --- pictures -------------------------------------------------------------------------------------


def loaded(*size: int, image: np.ndarray | None = None) -> Loaded:
    label = np.zeros(size, np.int64)
    label[tuple(slice(n // 4, n // 2) for n in size)] = 1
    shown = np.random.default_rng(0).random((1, *size)) if image is None else image
    return Loaded(Raster(shown), label, np.ones(size, bool))


def test_a_recording_has_a_lane_for_the_moved_label() -> None:
    given = loaded(200)
    painter = Painter(replace(SPEC, dims=1))
    with_it, _ = draw_case(painter, given, given.label, (20.0,), "alt")
    without, _ = draw_case(painter, given, given.label, None, "alt")
    assert ">label moved<" in with_it and ">label moved<" not in without
    assert ">prediction<" in without


def test_of_a_volume_with_an_empty_label_the_slice_of_the_prediction_is_shown() -> None:
    given = loaded(16, 20, 20)
    prediction = np.zeros(given.label.shape, np.int64)
    prediction[11, 4:9, 4:9] = 1
    empty = Loaded(given.raster, np.zeros_like(given.label), given.valid)
    painter = Painter(replace(SPEC, dims=3))
    _, note = draw_case(painter, empty, prediction, None, "alt")
    assert note.startswith("slice 12 of 16")
    _, note = draw_case(painter, given, prediction, None, "alt")
    assert note.startswith("slice 5 of 16")


def test_continuous_labels_stand_beside_predictions() -> None:
    given = loaded(20, 20)
    values = Loaded(given.raster, np.random.default_rng(1).random((1, 20, 20)), given.valid)
    painter = Painter(replace(SPEC, task="regression", classes=("height",), values=()))
    drawing, _ = draw_case(painter, values, values.label, (2.0, 2.0), "alt")
    assert drawing.count("<img") == 3


def test_the_gain_begins_at_nothing_and_ends_at_all(predictor: Predictor) -> None:
    audit = run_audit(predictor)
    assert "the best 2" in draw_gain(audit.within(2)) and "the best" not in draw_gain(audit)
    assert "100 %" in draw_gain(audit)
