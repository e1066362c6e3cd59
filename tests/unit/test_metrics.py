import math

import numpy as np
import pytest
import torch

from labelmend.errors import NonFiniteError, ShapeError
from labelmend.metrics import (
    event_metrics,
    regression_metrics,
    segmentation_metrics,
    summarise,
)

from . import oracle_metrics

CLASSES = ("background", "one", "two")


def draw(space, seed, classes=3, known=0.8):
    rng = np.random.default_rng(seed)
    # blocks, so that there are surfaces with something inside
    coarse = tuple(-(-n // 3) for n in space)
    maps = []
    for _ in range(2):
        block = rng.integers(0, classes, coarse)
        for axis in range(len(space)):
            block = block.repeat(3, axis)
        maps.append(block[tuple(slice(n) for n in space)])
    return *maps, rng.random(space) < known


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("space", [(40,), (9, 12), (5, 6, 7)])
def test_overlap_equals_counting_positions(space, seed):
    prediction, label, valid = draw(space, seed)
    row = segmentation_metrics(prediction, label, valid, CLASSES)
    assert list(row) == ["one", "two"]
    for index, name in ((1, "one"), (2, "two")):
        mask, truth = valid & (prediction == index), valid & (label == index)
        assert row[name]["dice"] == pytest.approx(oracle_metrics.dice(mask, truth), nan_ok=True)
        assert row[name]["iou"] == pytest.approx(oracle_metrics.iou(mask, truth), nan_ok=True)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("known", [0.9, 2.0])
@pytest.mark.parametrize(
    ("space", "spacing"), [((9, 12), (1.0, 2.5)), ((5, 6, 7), (3.0, 1.0, 0.5))]
)
def test_surface_distances_equal_all_pairs_of_points(space, spacing, known, seed):
    prediction, label, valid = draw(space, seed, known=known)
    row = segmentation_metrics(prediction, label, valid, CLASSES, spacing=spacing, surface=True)
    for index, name in ((1, "one"), (2, "two")):
        there, back = oracle_metrics.distances(prediction == index, label == index, valid, spacing)
        worst = max(np.percentile(there, 95), np.percentile(back, 95))
        assert row[name]["surface_distance"] == pytest.approx(np.mean(there + back), rel=1e-12)
        assert row[name]["hausdorff95"] == pytest.approx(worst, rel=1e-12)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("seed", range(3))
def test_surface_distances_equal_those_of_another_library(seed):
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    prediction, label, _ = draw((24, 18, 15), seed)
    valid, spacing = np.ones_like(label, bool), [2.0, 1.0, 0.5]
    row = segmentation_metrics(prediction, label, valid, CLASSES, spacing=spacing, surface=True)
    hot = [
        torch.nn.functional.one_hot(torch.from_numpy(a), 3).movedim(-1, 0)[None]
        for a in (prediction, label)
    ]
    mean = compute_average_surface_distance(*hot, symmetric=True, spacing=spacing)[0]
    worst = compute_hausdorff_distance(*hot, percentile=95, spacing=spacing)[0]
    for i, name in enumerate(CLASSES[1:]):
        assert row[name]["surface_distance"] == pytest.approx(float(mean[i]), rel=1e-5)
        assert row[name]["hausdorff95"] == pytest.approx(float(worst[i]), rel=1e-5)


def test_a_shifted_square_is_as_far_as_it_was_shifted():
    label, prediction = np.zeros((30, 30), int), np.zeros((30, 30), int)
    label[10:20, 5:15] = 1
    prediction[10:20, 8:18] = 1
    row = segmentation_metrics(
        prediction, label, np.ones_like(label, bool), ("b", "c"), spacing=(1, 2), surface=True
    )
    assert row["c"]["hausdorff95"] == pytest.approx(6)
    assert row["c"]["dice"] == pytest.approx(0.7)


def test_a_surface_towards_ignored_positions_is_not_counted():
    label, prediction = np.zeros((20, 20), int), np.zeros((20, 20), int)
    label[5:15, 5:15] = 1
    prediction[5:15, 5:18] = 1
    valid = np.ones((20, 20), bool)
    valid[:, 15:] = False
    row = segmentation_metrics(prediction, label, valid, ("b", "c"), surface=True)
    assert row["c"] == {"dice": 1.0, "iou": 1.0, "surface_distance": 0.0, "hausdorff95": 0.0}


def test_a_class_all_around_which_nothing_is_known():
    label = np.zeros((8, 8), int)
    label[3:5, 3:5] = 1
    row = segmentation_metrics(label, label, label == 1, ("b", "c"), surface=True)
    assert row["c"]["dice"] == 1 and row["c"]["surface_distance"] == 0


def test_absent_classes():
    nothing, something = np.zeros((4, 5), int), np.zeros((4, 5), int)
    something[1:3, 1:3] = 1
    valid = np.ones((4, 5), bool)

    def row(prediction, label):
        return segmentation_metrics(
            prediction, label, valid, ("b", "c"), spacing=(1, 1), surface=True
        )["c"]

    assert all(math.isnan(v) for v in row(nothing, nothing).values())
    for case in (row(nothing, something), row(something, nothing)):
        assert case["dice"] == case["iou"] == 0
        assert case["surface_distance"] == case["hausdorff95"] == pytest.approx(5.0)


def test_what_is_ignored_has_no_influence():
    prediction, label, valid = draw((9, 12), 3)
    lie, guess = label.copy(), prediction.copy()
    lie[~valid], guess[~valid] = 255, 7
    options = {"spacing": (1.0, 1.0), "surface": True}
    assert segmentation_metrics(guess, lie, valid, CLASSES, **options) == segmentation_metrics(
        prediction, label, valid, CLASSES, **options
    )


def test_takes_tensors_and_leaves_inputs_alone():
    prediction, label, valid = draw((9, 12), 3)
    before = prediction.copy(), label.copy(), valid.copy()
    row = segmentation_metrics(prediction, label, valid, CLASSES, surface=True)
    tensors = (torch.from_numpy(a) for a in (prediction, label, valid))
    assert segmentation_metrics(*tensors, CLASSES, surface=True) == row
    assert all(
        np.array_equal(a, b) for a, b in zip(before, (prediction, label, valid), strict=True)
    )


# ------------------------------------------------------------------------- continuous values


def images(space=(24, 30), seed=0):
    rng = np.random.default_rng(seed)
    label = rng.normal(size=(2, *space))
    return label + 0.2 * rng.normal(size=label.shape), label, np.ones(space, bool)


@pytest.mark.parametrize("space", [(60,), (24, 30), (12, 13, 14)])
def test_regression_by_its_formulas(space):
    prediction, label, valid = images(space)
    valid.flat[::7] = False
    row = regression_metrics(prediction, label, valid, ["a", "b"], data_range=4.0)
    for i, name in enumerate(("a", "b")):
        error = (prediction - label)[i][valid]
        assert row[name]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-12)
        assert row[name]["psnr"] == pytest.approx(10 * np.log10(16 / np.mean(error**2)), rel=1e-12)


def window_ssim(a, b, extent):
    """SSIM of one 11-wide window around the middle, straight from the paper."""
    axes = np.meshgrid(*[np.arange(-5, 6)] * a.ndim, indexing="ij")
    weight = np.exp(-sum(x**2 for x in axes) / (2 * 1.5**2))
    weight /= weight.sum()
    ma, mb = (weight * a).sum(), (weight * b).sum()
    va, vb = (weight * (a - ma) ** 2).sum(), (weight * (b - mb) ** 2).sum()
    both = (weight * (a - ma) * (b - mb)).sum()
    c1, c2 = (0.01 * extent) ** 2, (0.03 * extent) ** 2
    return (2 * ma * mb + c1) * (2 * both + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))


@pytest.mark.parametrize("space", [(14,), (13, 12), (11, 12, 11)])
def test_ssim_is_the_mean_over_windows_without_ignored_positions(space):
    prediction, label, valid = (np.asarray(a) for a in images(space))
    valid[(0,) * len(space)] = False
    windows = []
    for start in np.ndindex(*(n - 10 for n in space)):
        place = tuple(slice(s, s + 11) for s in start)
        if valid[place].all():
            windows.append(window_ssim(prediction[0][place], label[0][place], 4.0))
    row = regression_metrics(prediction, label, valid, ["a", "b"], data_range=4.0)
    if windows:
        assert row["a"]["ssim"] == pytest.approx(np.mean(windows), rel=1e-9)
    else:
        assert math.isnan(row["a"]["ssim"])
    assert windows or space == (11, 12, 11)


def test_regression_ignores_what_is_not_valid_even_nan():
    prediction, label, valid = images()
    valid[:, :4] = False
    clean = regression_metrics(prediction, label, valid, ["a", "b"])
    prediction[:, ~valid], label[:, ~valid] = np.inf, np.nan
    assert regression_metrics(prediction, label, valid, ["a", "b"]) == clean
    assert all(math.isfinite(v) for row in clean.values() for v in row.values())


def test_regression_at_its_ends():
    prediction, label, valid = images()
    exact = regression_metrics(label, label, valid, ["a", "b"])["a"]
    assert exact == pytest.approx({"mae": 0.0, "psnr": 100.0, "ssim": 1.0})
    flat = regression_metrics(prediction, label * 0, valid, ["a", "b"])["a"]
    assert flat["mae"] > 0 and math.isnan(flat["psnr"]) and math.isnan(flat["ssim"])
    unknown = regression_metrics(prediction, label, ~valid, ["a", "b"])["a"]
    assert all(math.isnan(v) for v in unknown.values())
    small = regression_metrics(prediction[:, :5], label[:, :5], valid[:5], ["a", "b"])["a"]
    assert math.isnan(small["ssim"]) and small["psnr"] > 0


@pytest.mark.parametrize("which", [0, 1])
def test_a_bad_number_is_not_hidden_in_a_mean(which):
    arrays = images()
    arrays[which][0, 3, 3] = np.nan
    with pytest.raises(NonFiniteError, match=["prediction", "label"][which]):
        regression_metrics(*arrays, ["a", "b"])


# ------------------------------------------------------------------------------------ events


def beats(*runs, length=100, index=1):
    out = np.zeros(length, int)
    for start, stop in runs:
        out[start:stop] = index
    return out


def score(prediction, label, valid=None, **options):
    valid = np.ones(len(label), bool) if valid is None else valid
    return event_metrics(prediction, label, valid, ("rest", "beat"), **options)["beat"]


def test_events_in_seconds():
    got = score(
        beats((11, 20), (40, 53), (80, 85)), beats((10, 20), (43, 50)), spacing=0.01, tolerance=0.03
    )
    assert got["event_f1"] == pytest.approx(4 / 5)
    assert got["onset_error"] == pytest.approx(0.02)
    assert got["offset_error"] == pytest.approx(0.015)


def test_an_event_outside_the_tolerance_is_not_found():
    label = beats((10, 20))
    assert score(beats((13, 20)), label, tolerance=3)["event_f1"] == 1
    late = score(beats((14, 20)), label, tolerance=3)
    assert late["event_f1"] == 0 and math.isnan(late["onset_error"])


def test_no_events():
    nothing = score(beats(), beats())
    assert all(math.isnan(v) for v in nothing.values())
    assert score(beats(), beats((3, 5)))["event_f1"] == 0
    assert score(beats((3, 5)), beats())["event_f1"] == 0


def test_events_of_another_class_do_not_match():
    row = event_metrics(
        beats((10, 20), index=2), beats((10, 20)), np.ones(100, bool), CLASSES, tolerance=5
    )
    assert row["one"]["event_f1"] == row["two"]["event_f1"] == 0


def test_an_onset_beside_ignored_positions_is_not_compared():
    label, prediction = beats((10, 20), (50, 60)), beats((2, 3), (16, 21), (50, 60))
    valid = np.ones(100, bool)
    valid[:15] = False
    got = score(prediction, label, valid, tolerance=2)
    assert got == {"event_f1": 1.0, "onset_error": 0.0, "offset_error": 0.5}
    lie = prediction.copy()
    lie[:15] = 1
    assert score(lie, label, valid, tolerance=2) == got


def test_an_offset_beside_ignored_positions_is_not_compared():
    label, prediction = beats((80, 90), (40, 50)), beats((79, 84), (40, 50))
    valid = np.ones(100, bool)
    valid[85:] = False
    got = score(prediction, label, valid, tolerance=2)
    assert got == {"event_f1": 1.0, "onset_error": 0.5, "offset_error": 0.0}


def test_a_hidden_edge_does_not_choose_the_pair():
    valid = np.arange(100) >= 15
    got = score(beats((12, 17), (19, 20)), beats((10, 20)), valid, tolerance=3)
    assert got["event_f1"] == pytest.approx(2 / 3) and got["offset_error"] == 0


def test_rounding_does_not_push_an_event_out_of_the_tolerance():
    assert score(beats((13, 20)), beats((10, 20)), spacing=0.1, tolerance=0.3)["event_f1"] == 1


def test_events_of_which_both_ends_are_hidden_must_overlap():
    label, prediction = beats((10, 20)), beats((60, 70))
    valid = np.ones(100, bool)
    valid[[9, 20, 59, 70]] = False
    assert score(prediction, label, valid, tolerance=2)["event_f1"] == 0
    assert score(label, label, valid, tolerance=2)["event_f1"] == 1


def test_events_at_the_ends_of_a_recording_have_known_edges():
    label = beats((0, 10), (90, 100))
    got = score(beats((1, 10), (90, 98)), label, tolerance=5)
    assert got == {"event_f1": 1.0, "onset_error": 0.5, "offset_error": 1.0}


# ------------------------------------------------------------------------------------- means


def test_summary_is_over_samples_first_then_over_classes():
    nan = math.nan
    rows = [
        {"a": {"dice": 1.0, "iou": 1.0}, "b": {"dice": nan, "iou": nan}},
        {"a": {"dice": 0.0, "iou": 0.0}, "b": {"dice": 0.2, "iou": 0.1}},
        {"a": {"dice": 0.5, "iou": nan}, "b": {"dice": nan, "iou": nan}, "c": {"dice": nan}},
    ]
    got = summarise(rows)
    assert got["per_class"]["a"] == {"dice": 0.5, "iou": 0.5}
    assert got["per_class"]["b"] == {"dice": 0.2, "iou": 0.1}
    assert math.isnan(got["per_class"]["c"]["dice"])
    assert got["mean"] == pytest.approx({"dice": 0.35, "iou": 0.3})
    assert got["counts"] == {
        "a": {"dice": 3, "iou": 2},
        "b": {"dice": 1, "iou": 1},
        "c": {"dice": 0},
    }
    assert got["samples"] == 3


def test_nothing_measured_is_nan_and_nothing_given_is_empty():
    got = summarise([{"a": {"dice": math.nan}}])
    assert math.isnan(got["mean"]["dice"]) and got["counts"]["a"]["dice"] == 0
    assert summarise([]) == {"mean": {}, "per_class": {}, "counts": {}, "samples": 0}


@pytest.mark.parametrize(
    "call",
    [
        lambda: segmentation_metrics([0, 1], [0], [True], CLASSES),
        lambda: segmentation_metrics([0, 1], [0, 1], [True, True], CLASSES, surface=True),
        lambda: segmentation_metrics([0, 1], [0, 1], [True] * 2, CLASSES, spacing=(1, 1)),
        lambda: regression_metrics(np.zeros((2, 4)), np.zeros((2, 4)), np.ones(4), ["a"]),
        lambda: regression_metrics(np.zeros((1, 4)), np.zeros((1, 5)), np.ones(4), ["a"]),
        lambda: event_metrics(np.zeros((2, 4)), np.zeros((2, 4)), np.ones((2, 4)), CLASSES),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ShapeError) as caught:
        call()
    assert "\n" not in str(caught.value)
