"""What the page says and shows of labels that are bent: of a made-up run whose field is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelmend.inference import search as searching
from labelmend.inference.places import Place, moved_arrays
from labelmend.inference.predictor import Predictor
from labelmend.inference.search import make_search
from labelmend.report import place_section, warp_section
from labelmend.report.markup import join
from labelmend.report.pictures import Painter
from labelmend.report.place_charts import draw_bent, draw_removed
from labelmend.report.place_section import in_words as words_of_places
from labelmend.report.place_section import make_example, make_places, offset_of
from labelmend.report.places import Bending, gather_places
from labelmend.report.story import Curve
from labelmend.report.warp_section import in_words, look, make_bending, warn
from labelmend.runs import Checkpoint
from labelmend.training.warping import MOST, WINDOW
from labelmend.types import IN_PLACE, MOVED, REASONS

from ..inference import test_fix as made
from ..inference import test_fix_bent as bent

STEPS = tuple(range(1, 2 * WINDOW + 1))


def course(*parts: float) -> Curve:
    """A curve that has each value for as many steps as are averaged."""
    return Curve(STEPS[: len(parts) * WINDOW], tuple(v for v in parts for _ in range(WINDOW)))


GOOD = Bending("shift", 40, 8.0, course(0.5), course(1.3), course(0.95, 0.4), course(0.9, 0.02))


def bent_run(root: Path, monkeypatch: pytest.MonkeyPatch, **warp: Any) -> Predictor:
    """A run with records, whose labels are off by a smooth field that its network undoes."""
    monkeypatch.setattr(searching, "build_field_network", lambda **_: bent.Waves())
    truth = made.make_data(root, places=dict.fromkeys("abcd", (0, 0)))
    field = bent.still(root, bent.Waves(-2.0))
    made.put_aside(root)
    for name in "abc":  # the last one stays in place
        place = (truth[name] > 0).astype(np.int64)
        there = Place(np.zeros(2), 1, 9, MOVED).bent(field, 1, 1)
        label = moved_arrays(place, place >= 0, there)[0]
        made.png(root / f"data/labels/weak/ann/{name}.png", (255 * label).astype(np.uint8))
    predictor = bent.trained(root, bent.Waves(2.0), warp=warp)
    rows = []
    for place_, sample in enumerate(predictor.run.weak):
        found = {"displacement_0": 0.0, "displacement_1": 0.0, "confidence": 0.9, "gain": 0.0}
        rows.append({"id": sample.id, **found, "reason": REASONS[IN_PLACE]})
        figures = {"moved": 0.0, "unclear": 0.0, "bent": 0.5, "bent_by": 1.5, "removed": 0.4}
        drift = {"drift_0": 0.0, "drift_1": 0.0, "removed_strong": 0.03}
        record = {"step": place_ + 1, "kind": "train", **figures, **drift}
        predictor.run.log(record)
    predictor.run.write_places(rows)
    monkeypatch.setattr(place_section, "load", lambda run, network: predictor)
    return predictor


# --- words ----------------------------------------------------------------------------------------


def test_words_are_of_the_last_steps() -> None:
    text = in_words(GOOD)
    assert text.startswith(
        "Over the last 100 steps that tell of it, bending explained 40 % of what weak labels and "
        "predictions differ by, and 2 % of what strong labels and predictions do. "
    )
    assert text.endswith(
        "50 % of the weak labels of a step were bent; the fields proposed for them move by 1.3 "
        "positions about their means."
    )
    worse = dataclasses.replace(GOOD, removed=course(-0.1), removed_strong=Curve())
    assert "bending explained nothing of what weak labels" in in_words(worse)
    assert "trong labels and predictions" not in in_words(worse)


@pytest.mark.parametrize(
    ("changes", "tone", "words"),
    [
        ({}, "good", "that would be 90 % of what weak labels, or 50 % of what strong labels"),
        ({"removed": course(0.2, MOST["removed"])}, "warning", "90 % of what weak labels and pre"),
        ({"removed_strong": course(0.0, 0.5)}, "warning", "50 % of what strong labels, which are"),
        (
            {"removed": course(0.95), "removed_strong": course(0.7)},
            "warning",
            "differ by (90 % is too much) and 70 % of what strong",
        ),
        ({"removed_strong": Curve()}, "unknown", "compare with --align shift"),
        ({"removed": course(0.99), "removed_strong": Curve()}, "warning", "align.warp.smooth"),
    ],
)
def test_what_explains_everything_away_is_warned_of(
    changes: dict[str, Curve], tone: str, words: str
) -> None:
    html = warn(dataclasses.replace(GOOD, **changes))  # type: ignore[arg-type]
    assert f'class="note {tone} ' in html and words in html
    assert ("explains everything away: " in html) == (tone == "warning")


def test_a_run_that_bent_nothing_yet_says_when_it_will() -> None:
    html = join(*make_bending(Bending("shift", 40, 8.0)))
    assert "that begins at step 40" in html and "<svg" not in html


def test_the_charts_hold_both_shares_and_what_is_too_much() -> None:
    html = draw_removed(GOOD, MOST)
    assert "weak" in html and "strong" in html and "100 %" in html
    alone = draw_removed(dataclasses.replace(GOOD, removed_strong=Curve()), MOST)
    assert [chart.count("stroke-dasharray: 4") for chart in (html, alone)] == [2, 1]
    assert "strong" in html and ">strong<" not in alone
    assert "positions" in draw_bent(GOOD) and "weak labels bent" in draw_bent(GOOD)


# --- the section ----------------------------------------------------------------------------------


def test_the_section_shows_labels_that_are_bent_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = bent_run(tmp_path, monkeypatch, after="shift")
    found = gather_places(predictor.run)
    assert found is not None and found.bending is not None
    assert found.bending.removed.values == (0.4,) * 4 and found.bending.reach == bent.REACH
    predictor.run.save(Checkpoint(4, {"main": {}}))  # the network of its own step bends
    told: list[str] = []
    html = join(*make_places(predictor.run, found, Painter(predictor.spec), None, told.append))
    assert not told and "annot be shown" not in html
    assert html.count('class="row of3 fields"') == 3
    assert "Of 4 weak labels looked at with the networks of step 3, 3 were bent, by 2.0" in html
    assert html.count("<b>bent by 2.0 positions</b>") == 3
    sides = [f'class="below">positions {way}</text>' for way in ("down", "to the right")]
    assert [html.count(side) for side in sides] == [9, 9]
    for words in ("explained by bending", "how far fields bend", "grid, bent as the label is"):
        assert words in html
    assert "bending explained 40 % of what weak labels" in html and "No drift" in html
    assert "and is bent by 2" in html  # beside the fit at every shift
    assert "0 moved as a whole; every place" in html


def test_what_nothing_moves_as_a_whole_has_no_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = bent_run(tmp_path, monkeypatch, after="none")
    found = gather_places(predictor.run)
    assert found is not None
    html = join(*make_places(predictor.run, found, Painter(predictor.spec), None, print))
    assert "nothing moves them as a whole, they are bent" in html
    assert html.count('class="row of3 fields"') == 3
    assert "drift" not in html.lower() and "fit at every shift" not in html


def test_nothing_is_shown_where_nothing_is_bent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = bent_run(tmp_path, monkeypatch)
    search = make_search(predictor.run, None, bent.CPU)
    assert search.bends is not None
    never = dataclasses.replace(search, bends=dataclasses.replace(search.bends, margin=1e9))
    painter = Painter(predictor.spec)
    html = join(*warp_section.make_bends(predictor, never, None, painter, print))
    assert "Of 4 weak labels looked at, none is clearly better bent." in html and "<svg" not in html
    told: list[str] = []
    for path in (tmp_path / "data/images").iterdir():
        path.unlink()
    assert warp_section.make_bends(predictor, never, None, painter, told.append) == []
    assert len(told) == 4 and "cannot be looked at" in told[0]


def test_the_most_bent_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = bent_run(tmp_path, monkeypatch)
    sizes = iter([1.0, 3.0, 2.0, 4.0])
    real = searching.Search.find

    def find(self: searching.Search, *given: np.ndarray) -> Place:
        return dataclasses.replace(real(self, *given), field=next(sizes) * np.float32(SLOPE))

    monkeypatch.setattr(searching.Search, "find", find)
    search = make_search(predictor.run, None, bent.CPU)
    found = look(predictor, search, None, print)
    order = [Path(sample.label).stem for sample, _ in found.most]
    assert order == ["d", "b", "c"] and found.looked == len(found.bent_by) == 4
    far = [bend.place.bent_by for _, bend in found.most]
    assert far == sorted(far, reverse=True)


SLOPE = np.stack([np.linspace(-1, 1, 64)[:, None] * np.ones(64)] * 2)


# --- what is held at zero -------------------------------------------------------------------------


def test_the_mean_that_is_held_is_taken_off_what_is_shown(tmp_path: Path) -> None:
    places = {"a": (2, 4), "b": (2, 0), "c": (2, -4)}
    made.make_data(tmp_path, places=places)
    align = {"transform": "shift", "centred": True}
    predictor = made.make_predictor(tmp_path, made.Bright(), {"align": align})
    rows = []
    for sample in predictor.run.weak:
        down, right = places[Path(sample.label).stem]
        found = {"displacement_0": -float(down), "displacement_1": -float(right)}
        more = {"confidence": 0.9, "gain": 5.0, "reason": REASONS[MOVED]}
        rows.append({"id": sample.id, **found, **more})
    predictor.run.write_places(rows)
    found_ = gather_places(predictor.run)
    assert found_ is not None and found_.bending is None
    search = make_search(predictor.run, None, bent.CPU)
    offset = offset_of(search, found_.rows)
    assert offset is not None and offset.tolist() == [-2, 0]
    shown = [make_example(predictor, search, row, offset).place for row in found_.rows]
    assert [place.displacement.tolist() for place in shown] == [[0, -4], [0, 0], [0, 4]]
    assert offset_of(dataclasses.replace(search, centred=False), found_.rows) is None
    assert "as a whole" not in words_of_places(found_)
