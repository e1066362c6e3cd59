"""What the page says and shows of labels put in place: of a made-up run whose network is right."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from labelmend.inference.predictor import Predictor
from labelmend.inference.search import make_search
from labelmend.report import place_pictures, place_section
from labelmend.report.markup import join
from labelmend.report.pictures import Painter
from labelmend.report.place_charts import draw_displacements, draw_drift, draw_shares
from labelmend.report.place_pictures import Arrow, draw_quiver
from labelmend.report.place_quiver import _largest, _middle, make_quiver, patch_arrows
from labelmend.report.place_section import choose, in_words, make_example, make_places
from labelmend.report.places import PlaceRow, Placings, gather_places
from labelmend.report.story import Curve
from labelmend.report.views import View
from labelmend.types import MOVED, REASONS, UNSURE, Sample

from ..inference import test_fix as made

CPU = torch.device("cpu")


def row(name: str, *by: float, sure: float = 0.95, code: int = MOVED) -> PlaceRow:
    sample = Sample(f"images/{name}", f"labels/weak/{name}", "weak", "train", name)
    reason = REASONS[code if code == UNSURE or any(by) else 0]
    return PlaceRow(sample, by, sure, reason)


ROWS = (
    row("far", 6.0, -8.0),
    row("near", 1.0, 0.0),
    row("middle", 3.0, 0.0),
    row("still", 0.0, 0.0, sure=0.99),
    row("lost", 0.0, 0.0, sure=0.2, code=UNSURE),
)
FOUND = Placings("shift", "sample", 10, 16, ROWS, drifted=(0.1, -0.2))


def make_predictor(root: Path, **places: tuple[int, int]) -> Predictor:
    """A run with a table of places; its network knows the answer."""
    made.make_data(root, places=places or made.PLACES)
    predictor = made.make_predictor(root, made.Bright(), {"align": {"transform": "shift"}})
    run, rows = predictor.run, []
    for place, sample in enumerate(run.weak):
        down, right = (places or made.PLACES)[Path(sample.label).stem]
        reason = REASONS[MOVED if down or right else 0]
        found = {"displacement_0": -float(down), "displacement_1": -float(right)}
        rows.append({"id": sample.id, **found, "confidence": 0.9, "gain": 5.0, "reason": reason})
        drift = {"drift_0": 1.5, "drift_1": 0.0} if place else {}
        run.log({"step": place + 1, "kind": "train", "moved": 0.5, "unclear": 0.25, **drift})
    run.write_places(rows)
    return predictor


# --- words ----------------------------------------------------------------------------------------


def test_words_count_what_moved() -> None:
    text = in_words(FOUND)
    assert text.startswith(
        "Of 5 weak labels that training looked at, 3 moved, by 3.0 positions in the median, "
        "10.0 at most; 1 was unclear when last looked at. "
    )
    assert "labelmend fix" in text and "share" not in text
    clear = dataclasses.replace(FOUND, rows=ROWS[:1], per="annotator")
    assert "every place was clear" in in_words(clear)
    assert "labels of one annotator share a displacement" in in_words(clear)
    assert "as far as was looked" not in text
    close = dataclasses.replace(FOUND, window=8)
    assert "10.0 at most; 1 label moved by 8 positions, as far as was looked" in in_words(close)


@pytest.mark.parametrize(
    ("drifted", "tone", "words"),
    [
        ((0.3, -0.4), "good", "0.3 down, −0.4 to the right in the mean"),
        ((0.6, 0.0), "warning", "+0.6 down, 0.0 to the right positions"),
        ((0.4, -0.4), "warning", "more strong labels, or a smaller align.window"),
        (None, "unknown", "No strong label was trained on beside them"),
    ],
)
def test_drift_is_warned_of_above_half_a_position(
    drifted: tuple[float, ...] | None, tone: str, words: str
) -> None:
    html = place_section.warn_of_drift(dataclasses.replace(FOUND, drifted=drifted))
    assert f'class="note {tone} ' in html and words in html


def test_a_run_that_has_not_begun_says_when_it_will() -> None:
    begun = dataclasses.replace(FOUND, rows=(), start=40)
    painter = Painter(made.SPEC)
    text = join(*make_places(None, begun, painter, None, print))  # type: ignore[arg-type]
    assert "begins at step 40" in text


def test_the_largest_move_the_least_sure_and_one_in_place_are_shown() -> None:
    shown = [(why, each.sample.label.rpartition("/")[2]) for why, each in choose(ROWS)]
    assert shown == [
        ("largest move", "far"),
        ("typical move", "middle"),
        ("least sure", "lost"),
        ("in place", "still"),
    ]
    # Where none is unclear the least far move is least sure; nobody is shown twice.
    assert [why for why, _ in choose(ROWS[:1])] == ["largest move"]
    assert choose(()) == []


# --- records --------------------------------------------------------------------------------------


def test_records_are_read(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path)
    found = gather_places(predictor.run)
    assert found is not None
    assert {r.sample.label: r.displacement for r in found.rows} == {
        f"labels/weak/ann/{name}.png": (-down, -right)
        for name, (down, right) in made.PLACES.items()
    }
    assert found.moved.values == (0.5,) * 4 and found.unclear.last == 0.25
    assert [curve.steps for curve in found.drift] == [(2, 3, 4)] * 2
    assert found.drifted == (1.5, 0.0) and found.window == 16
    made.put_aside(tmp_path)
    assert gather_places(made.make_predictor(tmp_path, made.Bright()).run) is None


# --- charts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_charts_have_something_of_every_axis(dims: int) -> None:
    rows = [row(f"s{n}", *[float(n - 3)] * dims) for n in range(7)]
    rows.append(row("lost", *[0.0] * dims, code=UNSURE))
    chart = draw_displacements(rows, 16)
    words = {1: ["along the signal"], 2: ["down", "to the right"], 3: ["first axis", "third axis"]}
    assert all(word in chart for word in words[dims])
    assert chart.count("var(--weak)") >= 1 and "var(--thin)" in chart
    assert draw_displacements(rows[:1], 16) and draw_displacements(rows[-1:], 16)
    drift = tuple(Curve(tuple(range(9)), (0.1 * axis,) * 9) for axis in range(dims))
    many = dataclasses.replace(FOUND, drift=drift, moved=drift[0], unclear=drift[0])
    assert all(word in draw_drift(many) for word in (words[dims] if dims > 1 else ["positions"]))
    assert "unclear" in draw_shares(many)


# --- pictures -------------------------------------------------------------------------------------


def test_an_example_shows_the_label_where_it_belongs(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path)
    search = make_search(predictor.run, None, CPU)
    found = gather_places(predictor.run)
    assert found is not None
    for each in found.rows:
        example = make_example(predictor, search, each)
        assert example.peak == tuple(each.displacement)
        assert example.place.displacement.tolist() == list(each.displacement)
        after = example.after
        assert np.array_equal(after.label[after.valid], example.prediction[after.valid])


def test_labels_that_move_together_go_where_training_had_them(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path)
    search = dataclasses.replace(make_search(predictor.run, None, CPU), per="set")
    found = gather_places(predictor.run)
    assert found is not None
    moved = dataclasses.replace(found.rows[0], displacement=(2.4, -1.6))
    assert make_example(predictor, search, moved).place.displacement.tolist() == [2, -2]


def test_the_section_holds_charts_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = make_predictor(tmp_path)
    monkeypatch.setattr(place_section, "load", lambda run, network: predictor)
    found = gather_places(predictor.run)
    assert found is not None
    told: list[str] = []
    parts = make_places(predictor.run, found, Painter(predictor.spec), None, told.append)
    html = join(*parts)
    assert not told and "Cannot be shown" not in html
    assert html.count('class="row of5"') == len(choose(found.rows)) == 4
    names = ["image", "prediction", "label before", "label after", "fit at every shift"]
    assert re.findall(r"<span>([a-z ]+)</span>", html)[:5] == names
    assert html.count('class="peak"') == html.count('class="origin"') == 4
    assert "moves by −6 down, −6 to the right" in html and "stays" in html
    assert "came from outside" in html and 'class="ignored"' in html
    assert "The network drifted" in html
    # The ring of the first one, the largest move, lies where the label goes: 16 is no shift.
    x, y = re.findall(r'<circle class="peak" cx="([\d.]+)" cy="([\d.]+)"', html)[0]
    assert (float(y), float(x)) == (16 - 6 + 0.5, 16 - 6 + 0.5)


def test_no_shift_is_ringed_where_all_fit_alike(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path)
    search = make_search(predictor.run, None, CPU)
    found = gather_places(predictor.run)
    assert found is not None
    example = make_example(predictor, search, found.rows[0])
    flat = dataclasses.replace(example, fit=np.zeros_like(example.fit))
    for each, rings in ((example, 1), (flat, 0)):
        drawn = place_pictures._map(View(), each, "")
        assert drawn.count('class="peak"') == rings and drawn.count('class="origin"') == 1


def test_what_cannot_be_shown_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = make_predictor(tmp_path)
    found = gather_places(predictor.run)
    assert found is not None
    painter, told = Painter(predictor.spec), []
    html = join(*make_places(predictor.run, found, painter, None, told.append))
    assert "They cannot be shown" in html and len(told) == 1  # there is no checkpoint
    (tmp_path / "data/images/a.png").unlink()
    monkeypatch.setattr(place_section, "load", lambda run, network: predictor)
    told.clear()
    html = join(*make_places(predictor.run, found, painter, None, told.append))
    assert html.count("Cannot be shown") == len(told) == 1 and "images/a.png" in told[0]


# --- arrows ---------------------------------------------------------------------------------------


def slide(root: Path, tall: int = 512) -> Predictor:
    """One large weak label whose left half is displaced one way and whose right half another."""
    places = {"a": (0, 0)}
    made.make_data(root, places=places)
    large = np.concatenate(
        [np.concatenate([made.blobs(8 * i + j) for j in range(8)], 1) for i in range(tall // 64)]
    )
    label = large.copy()
    label[:, :256] = ndimage.shift(large[:, :256].astype(int), (3, 0), order=0) > 0
    label[:, 256:] = ndimage.shift(large[:, 256:].astype(int), (0, -4), order=0) > 0
    label[:128, :128] = 0
    label[128:256, :128] = 0
    label[180:182, 40:42] = 1  # too little to be found by
    made.png(root / "data/images/a.png", (60 + 120 * large).astype(np.uint8))
    made.png(root / "data/labels/weak/ann/a.png", (label * 255).astype(np.uint8))
    return made.make_predictor(root, made.Bright(), {"align": {"transform": "shift"}})


def test_arrows_show_where_each_patch_belongs(tmp_path: Path) -> None:
    predictor = slide(tmp_path)
    search = make_search(predictor.run, None, CPU)
    opened = place_section.open_sample(predictor, predictor.run.weak[0])
    arrows = patch_arrows(predictor, search, opened, _middle((512, 512)))
    assert len(arrows) == 15  # one of 16 patches is empty
    assert [one.centre for one in arrows if not one.clear] == [(192, 64)]
    for one in (one for one in arrows if one.clear):
        assert one.displacement == ((-3, 0) if one.centre[1] < 256 else (0, 4))
    heading, text, tile = make_quiver(predictor, search)
    assert "Displacements over one image" in heading
    assert tile.count('class="arrow"') == 14 and tile.count('class="spot unclear"') == 1
    assert "15 patches with something in them, 1 unclear" in tile and "times as long" in tile
    assert "the middle" not in tile
    assert "−1.3 down, +2.3 to the right" in text


def test_small_images_have_no_arrows(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path)
    assert make_quiver(predictor, make_search(predictor.run, None, CPU)) == []
    assert _largest(predictor) is None
    assert _middle((3000, 640)) == (slice(732, 2268), slice(0, 640))


def test_arrows_point_where_labels_go() -> None:
    arrows = [
        Arrow((64.0, 192.0), (-8.0, 0.0), clear=True),
        Arrow((64.0, 64.0), (0.0, 0.0), clear=True),
        Arrow((192.0, 64.0), (4.0, 4.0), clear=False),
    ]
    html, larger = draw_quiver(np.zeros((1, 256, 256)), arrows, 128, "a slide")
    assert larger == pytest.approx(0.85 * 128 / 8)
    path = re.findall(r'class="arrow" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)M', html)
    ((x0, y0, x1, y1),) = [tuple(map(float, found)) for found in path]
    assert x0 == x1 == 192 and y0 - y1 == pytest.approx(0.85 * 128, abs=0.2) and y1 < 64 < y0
    assert html.count('class="spot"') == 1 and html.count('class="spot unclear"') == 1
    assert draw_quiver(np.zeros((1, 256, 256)), arrows[1:2], 128, "a")[1] == 1
