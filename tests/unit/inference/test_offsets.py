"""Labels at their best places: each by itself, all by one displacement, and when none is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from labelmend.data.whole import judge
from labelmend.errors import SettingsError
from labelmend.inference import offsets
from labelmend.inference.offsets import (
    Case,
    Offset,
    Pool,
    best,
    check_tolerance,
    fit,
    main_metric,
    place,
)
from labelmend.types import DataSpec, Task

TOLERANCE = 4
SIZES = {1: (200,), 2: (40, 48), 3: (18, 20, 16)}
PLANTED = {1: (3,), 2: (3, 0), 3: (-2, 0, 1)}


def spec_of(dims: int, task: Task = "segmentation", classes: int = 2) -> DataSpec:
    names = tuple("abcd"[:classes])
    return DataSpec(task, names, tuple(range(classes)), None, dims, 1, "none", ".npy")


def field(rng: np.random.Generator, size: Sequence[int]) -> np.ndarray:
    """Smooth noise, mean 0 and deviation 1."""
    smooth = ndimage.gaussian_filter(rng.normal(size=size), 2.5, mode="wrap")
    return (smooth - smooth.mean()) / smooth.std()


def pictured(
    seed: int, size: Sequence[int], displacement: Sequence[int], task: Task = "segmentation"
) -> Case:
    """A label, and a prediction that lies by a displacement off it, with some noise."""
    rng = np.random.default_rng(seed)
    truth, valid = field(rng, size), np.ones(size, bool)
    there = np.roll(truth, displacement, tuple(range(len(size))))
    noise = rng.normal(0, 0.2, (2, *size))
    if task == "regression":
        label = np.stack([truth, -truth]).astype(np.float32)
        return Case((np.stack([there, -there]) + noise).astype(np.float32), label, valid)
    sure = 4 * (there - 0.8)
    scores = (np.stack([-sure, sure]) + noise).astype(np.float32)
    return Case(scores, (truth > 0.8).astype(np.int64), valid)


def common(cases: Sequence[Case], spec: DataSpec, tolerance: int = TOLERANCE) -> Offset:
    pool = Pool(tolerance, spec.dims)
    for case in cases:
        pool.add(*fit(case, spec, tolerance))
    return pool.offset()


# --- one sample -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_a_label_finds_its_place(dims: int, task: Task) -> None:
    spec = spec_of(dims, task)
    case = pictured(0, SIZES[dims], PLANTED[dims], task)
    there = best(*fit(case, spec, TOLERANCE))
    assert there == PLANTED[dims]
    inner = tuple(slice(TOLERANCE, -TOLERANCE) for _ in range(dims))
    moved, metric = case.moved(there), "psnr" if task == "regression" else "dice"
    assert not moved.valid.all() and moved.valid[inner].all()
    label = np.roll(case.label, there, tuple(range(-dims, 0)))
    assert np.array_equal(moved.label[(..., *inner)], label[(..., *inner)])
    raw, found = (judge(c.scores, c.label, c.valid, spec) for c in (case, moved))
    assert found["b"][metric] > raw["b"][metric] + 0.05


def test_ignored_positions_have_no_say() -> None:
    spec, case = spec_of(2), pictured(1, SIZES[2], (2, -1))
    case.valid[:, 20:] = False
    seen = fit(case, spec, TOLERANCE)
    assert best(*seen) == (2, -1)
    case.label[~case.valid] = 1
    for one, other in zip(seen, fit(case, spec, TOLERANCE), strict=True):
        assert torch.equal(one, other)
    moved = case.moved((2, -1))
    assert not moved.valid[:2].any() and not moved.valid[:, 19:].any()
    assert moved.valid[2:, :19].all()


def flat(case: Case, what: str) -> Case:
    if what == "empty label":
        return Case(case.scores, np.zeros_like(case.label), case.valid)
    if what == "nothing known":
        return Case(case.scores, case.label, np.zeros_like(case.valid))
    return Case(np.ones_like(case.scores), case.label, case.valid)


@pytest.mark.parametrize("what", ["empty label", "nothing known", "flat prediction"])
def test_where_there_is_nothing_to_compare_nothing_moves(what: str) -> None:
    spec = spec_of(2)
    cases = [flat(pictured(i, SIZES[2], (3, 0)), what) for i in range(6)]
    score, scored = fit(cases[0], spec, TOLERANCE)
    assert not score.any() and best(score, scored) == (0, 0)
    found = common(cases, spec)
    assert found.displacement is None and found.samples == 0 and not found.found
    said = "constant offset not known: 0 samples with something to compare, and 3 are needed"
    assert found.said({"dice": 0.5}) == said


def test_a_large_image_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, case = spec_of(2), pictured(2, (120, 150), (-3, 2))
    whole = fit(case, spec, TOLERANCE)[0]
    seen: list[int] = []
    plain = offsets.score_shifts

    def noted(prediction: Tensor, *args: object) -> object:
        seen.append(prediction[0, 0].numel())
        return plain(prediction, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(offsets, "score_shifts", noted)
    monkeypatch.setattr(offsets, "AT_ONCE", 5000)
    score, scored = fit(case, spec, TOLERANCE)
    assert len(seen) == 4 and max(seen) <= 5000
    assert best(score, scored) == (-3, 2) and float((score - whole).abs().max()) < 0.1
    # A part in which nothing is known or nothing is labelled does not weaken the others.
    half = Case(case.scores, case.label.copy(), case.valid.copy())
    half.label[60:, :75], half.valid[60:, 75:] = 0, False
    top = tuple(t + TOLERANCE for t in (-3, 2))
    assert fit(half, spec, TOLERANCE)[0][top] == pytest.approx(float(score[top]), abs=0.1)


def test_a_prediction_kept_in_less_memory_is_judged_alike() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 30, 31)).astype(np.float32)
    case = Case(scores, rng.integers(0, 3, (30, 31)), rng.random((30, 31)) < 0.9, (0.5, 2.0))
    light, spec = case.decided(), spec_of(2, classes=3)
    assert light.size * 3 < case.size and light.label.dtype == np.uint8
    for one, other in ((case, light), (case.moved((1, -2)), light.moved((1, -2)))):
        assert judge(one.scores, one.label, one.valid, spec, spacing=one.spacing) == judge(
            other.scores, other.label, other.valid, spec, spacing=other.spacing
        )
    values = pictured(0, (30,), (1,), "regression")
    assert values.decided() is values


# --- what all have in common ----------------------------------------------------------------------


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_a_constant_offset_is_found_exactly(dims: int, task: Task) -> None:
    spec = spec_of(dims, task)
    cases = [pictured(i, SIZES[dims], PLANTED[dims], task) for i in range(6)]
    found = common(cases, spec)
    assert found.displacement == PLANTED[dims] and found.found and found.samples == 6
    assert found.refined is not None and found.within is not None
    assert max(abs(a - b) for a, b in zip(found.refined, PLANTED[dims], strict=True)) < 0.3
    assert max(found.within) <= 1 and not found.edge
    assert found == common(cases, spec)
    still = common([pictured(i, SIZES[dims], (0,) * dims, task) for i in range(6)], spec)
    assert still.displacement == (0,) * dims and not still.found
    assert still.said({}).startswith("no constant offset found within 4 positions")


def test_images_of_different_sizes_add_up() -> None:
    sizes = ((40, 48), (31, 64), (70, 26), (24, 24), (50, 50))
    found = common([pictured(i, size, (0, -3)) for i, size in enumerate(sizes)], spec_of(2))
    assert found.displacement == (0, -3)


def test_labels_that_are_off_each_in_its_own_way_have_nothing_in_common() -> None:
    every = [(d, e) for d in (-2, 0, 2) for e in (-2, 0, 2)]
    cases = [pictured(i, SIZES[2], d) for i, d in enumerate(2 * every)]
    assert [best(*fit(case, spec_of(2), 6)) for case in cases] == 2 * every
    found = common(cases, spec_of(2), 6)
    assert found.displacement == (0, 0)
    assert found.within is not None and 1 <= max(found.within) <= 3


@pytest.mark.parametrize("number", [5, 12])
def test_a_mean_that_is_off_by_chance_is_no_offset(number: int) -> None:
    known = []
    for trial in range(8):
        there = np.random.default_rng(trial).integers(-2, 3, (number, 2)).tolist()
        cases = [pictured(100 * trial + i, SIZES[2], d) for i, d in enumerate(there)]
        known.append(common(cases, spec_of(2), 6).displacement)
    assert sum(one not in (None, (0, 0)) for one in known) <= 1
    assert number < 12 or known.count((0, 0)) >= 6


def test_where_few_have_a_score_they_do_not_speak_for_all() -> None:
    def offset(wide: int) -> Offset:
        pool = Pool(2, 1)
        for i in range(6):
            more = 0.02 * (-1) ** i
            scored = torch.tensor([False, True, True, True, False]) | (i < wide)
            pool.add(torch.tensor([0.1, 0.5 - more, 0.5, 0.1, 0.1]), scored)
        return pool.offset()

    assert offset(3).displacement == (0,) and offset(3).within == (1,)
    assert offset(2).displacement is None and "1 position" in offset(2).reason


def test_a_few_that_disagree_do_not_make_an_offset() -> None:
    cases = [pictured(i, SIZES[2], d) for i, d in enumerate([(3, 0), (3, 0), (-3, 0), (0, 3)])]
    found = common(cases, spec_of(2))
    assert found.displacement is None and found.reason


@pytest.mark.parametrize("number", [1, 2])
def test_what_one_or_two_samples_have_in_common_is_not_known(number: int) -> None:
    found = common([pictured(i, SIZES[2], (3, 0)) for i in range(number)], spec_of(2))
    assert found.displacement is None and found.samples == number
    assert f"{number} sample" in found.reason and "3 are needed" in found.reason


@pytest.mark.parametrize("number", [4, 12])
def test_predictions_that_are_noise_have_no_known_offset(number: int) -> None:
    def noise(seed: int) -> Case:
        rng = np.random.default_rng(seed)
        label = field(rng, SIZES[2]) > 0.8
        scores = np.stack([-field(rng, SIZES[2]), field(rng, SIZES[2])]).astype(np.float32)
        return Case(scores, label.astype(np.int64), np.ones(SIZES[2], bool))

    known = [
        common([noise(100 * trial + i) for i in range(number)], spec_of(2)).displacement
        for trial in range(12)
    ]
    assert sum(one is not None for one in known) <= 1


def test_of_lines_only_the_displacement_across_is_known() -> None:
    def lines(seed: int) -> Case:
        case = pictured(seed, (48,), (2,))
        tall = np.ones((40, 1), np.float32)
        return Case(
            case.scores[:, None] * tall, case.label * tall.astype(np.int64), np.ones((40, 48), bool)
        )

    found = common([lines(i) for i in range(8)], spec_of(2))
    assert found.displacement == (0, 2)
    assert found.within is not None and found.within[0] == TOLERANCE and found.within[1] <= 1


def test_an_offset_at_the_end_of_the_search_may_be_more() -> None:
    cases = [pictured(i, SIZES[2], (3, 0)) for i in range(6)]
    found = common(cases, spec_of(2), 3)
    assert found.displacement == (3, 0) and found.edge
    said = found.judged({"dice": 0.9}, {"dice": 0.5}).said({"dice": 0.5})
    assert said.endswith("; it may be more than was searched: --tolerance 6")


# --- words ----------------------------------------------------------------------------------------


def test_an_offset_is_said_in_one_sentence() -> None:
    found = Offset(8, 12, (3, 0), (2.875, 0.1254), (1, 0))
    raw = {"dice": 0.5, "iou": 0.25}
    better = found.judged({"dice": 0.75, "iou": math.nan}, raw)
    assert better.said(raw) == (
        "all predictions lie (+3, 0) positions off their labels: "
        "with every label moved by that, mean dice is 0.750, not 0.500"
    )
    assert better.to_json(raw) == {
        "displacement": [3, 0], "refined": [2.875, 0.125], "within": [1, 0], "samples": 12,
        "mean": {"dice": 0.75, "iou": None}, "said": better.said(raw),
    }  # fmt: skip
    worse = found.judged({"dice": 0.5, "iou": 0.3}, raw)
    assert worse.displacement is None
    assert worse.said(raw) == (
        "constant offset not known: (+3, 0) fits best, but mean dice is no better there"
    )
    none = Offset(8, 12, (0, 0), (0.1, 0.0), (0, 0))
    assert none.said(raw) == "no constant offset found within 8 positions"
    assert none.to_json(raw)["mean"] is None
    assert Offset(8, 12, (0,), (0.1,), (2,)).said(raw) == (
        "no constant offset found within 8 positions; one of up to 2 positions could go unnoticed"
    )
    unknown = Offset(8, 1, reason="1 sample").to_json(raw)
    assert unknown["displacement"] is unknown["refined"] is unknown["within"] is None


def test_places_and_figures() -> None:
    assert place((-3,)) == "-3" and place((0,)) == "0" and place((0, 12)) == "(0, +12)"
    assert main_metric({"iou": 1.0, "dice": 1.0}) == "dice" and main_metric({"mae": 1.0}) == "psnr"


@pytest.mark.parametrize(("dims", "most"), [(1, 524287), (2, 511), (3, 50)])
def test_a_tolerance_is_bounded(dims: int, most: int) -> None:
    check_tolerance(0, dims)
    check_tolerance(most, dims)
    for wrong in (-1, most + 1):
        with pytest.raises(SettingsError, match=rf"0 \(off\) to {most} positions, not {wrong}"):
            check_tolerance(wrong, dims)
