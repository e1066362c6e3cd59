import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis.extra import numpy as hnp

from labelmend.metrics import event_metrics, segmentation_metrics, summarise

from ..unit import oracle_metrics

CLASSES = ("background", "one", "two")
spaces = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6)
seeds = st.integers(0, 2**31)


def draw(space, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, space), rng.integers(0, 3, space), rng.random(space) < 0.8


def same(a, b):
    return a == pytest.approx(b, nan_ok=True)


@given(spaces, seeds)
def test_overlap_is_symmetric_and_iou_follows_from_dice(space, seed):
    prediction, label, valid = draw(space, seed)
    row = segmentation_metrics(prediction, label, valid, CLASSES)
    swapped = segmentation_metrics(label, prediction, valid, CLASSES)
    for name in CLASSES[1:]:
        assert same(row[name], swapped[name])
        dice, iou = row[name]["dice"], row[name]["iou"]
        assert same(iou, dice / (2 - dice))
        assert math.isnan(dice) or 0 <= iou <= dice <= 1


@given(spaces, seeds)
def test_a_label_agrees_with_itself(space, seed):
    _, label, valid = draw(space, seed)
    surface = len(space) > 1
    row = segmentation_metrics(label, label, valid, CLASSES, surface=surface)
    for index, name in ((1, "one"), (2, "two")):
        present = (valid & (label == index)).any()
        for metric, value in row[name].items():
            assert same(value, (metric in ("dice", "iou")) * 1.0 if present else math.nan)


@settings(max_examples=40)
@given(hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=6), seeds, st.floats(0.1, 9))
def test_distances_scale_with_spacing_and_never_pass_the_diagonal(space, seed, scale):
    prediction, label, valid = draw(space, seed)
    plain = segmentation_metrics(prediction, label, valid, CLASSES, surface=True)
    spacing = [scale] * len(space)
    scaled = segmentation_metrics(prediction, label, valid, CLASSES, spacing=spacing, surface=True)
    diagonal = math.sqrt(sum((n - 1) ** 2 for n in space))
    for name in CLASSES[1:]:
        for metric in ("surface_distance", "hausdorff95"):
            value = plain[name][metric]
            assert scaled[name][metric] == pytest.approx(scale * value, rel=1e-5, nan_ok=True)
            assert math.isnan(value) or 0 <= value <= diagonal * (1 + 1e-6)


@given(seeds, st.integers(0, 12), st.integers(3, 40))
def test_events_are_paired_as_trying_every_way_would(seed, tolerance, length):
    rng = np.random.default_rng(seed)
    made = [(rng.random(length) < 0.5).repeat(rng.integers(1, 5, length)) for _ in range(2)]
    size = min(40, *map(len, made))
    prediction, label = (m[:size].astype(int) for m in made)
    ours, theirs = (oracle_metrics.events(m.tolist(), 1) for m in (prediction, label))
    assume(max(len(ours), len(theirs)) <= 4)
    pairs, error = oracle_metrics.best_pairs(ours, theirs, tolerance)
    row = event_metrics(
        prediction, label, np.ones(size, bool), ("rest", "beat"), tolerance=tolerance
    )["beat"]
    total = len(ours) + len(theirs)
    assert same(row["event_f1"], 2 * pairs / total if total else math.nan)
    if pairs == 1:
        assert row["onset_error"] + row["offset_error"] == error
    assert pairs == 0 or max(row["onset_error"], row["offset_error"]) <= tolerance


@given(st.lists(st.dictionaries(st.sampled_from("ab"), st.floats(0, 1) | st.just(math.nan))))
def test_the_order_of_samples_does_not_change_a_summary(numbers):
    rows = [{name: {"dice": value} for name, value in row.items()} for row in numbers]
    first, second = summarise(rows), summarise(rows[::-1])
    assert same(first["mean"], second["mean"])
    for name, metrics in first["per_class"].items():
        assert same(metrics, second["per_class"][name])
    assert first["counts"] == second["counts"]
