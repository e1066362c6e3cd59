"""Nearly identical cases are found, and nothing else is taken for one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from labelmend.audit.alike import Print, find_alike, same_label, shrink, take_print
from labelmend.types import DataSpec

SPEC = DataSpec("segmentation", ("rest", "cell", "rim"), (0, 1, 2), None, 2, 1, "none", ".png")
VALUES = DataSpec("regression", ("height",), (), None, 2, 1, "none", ".tif")
SIZE = (60, 50)
RNG = np.random.default_rng


def picture(number: int) -> np.ndarray:
    return RNG(number).normal(100, 20, (1, *SIZE)).astype(np.float32)


def box(top: int, left: int, index: int = 1) -> np.ndarray:
    label = np.zeros(SIZE, np.int64)
    label[top : top + 20, left : left + 20] = index
    return label


def taken(image: np.ndarray, label: np.ndarray, content: str = "", spec: DataSpec = SPEC) -> Print:
    return take_print(
        content or str(hash(image.tobytes())), image, label, np.ones(label.shape[-2:], bool), spec
    )


def test_the_same_image_with_the_same_label_is_alike() -> None:
    prints = [taken(picture(0), box(5, 5)), taken(picture(1), box(5, 5))]
    assert find_alike(prints) == {}
    assert find_alike([*prints, taken(picture(1), box(5, 5))]) == {1: {2}, 2: {1}}


def test_small_changes_do_not_matter() -> None:
    noisy = picture(0) * 1.5 + RNG(9).normal(0, 1, (1, *SIZE)).astype(np.float32)
    nearly = box(5, 5)
    nearly[5, 5:15] = 0
    prints = [taken(picture(0), box(5, 5)), taken(noisy, nearly)]
    assert find_alike(prints) == {0: {1}, 1: {0}}


@pytest.mark.parametrize(
    "label", [box(5, 9), box(7, 5), box(5, 5, 2), np.zeros(SIZE, np.int64)], ids=str
)
def test_the_same_image_with_another_label_is_another_case(label: np.ndarray) -> None:
    assert find_alike([taken(picture(0), box(5, 5)), taken(picture(0), label)]) == {}


def test_another_image_with_the_same_label_is_another_case() -> None:
    softer = picture(0) + 0.3 * picture(1)
    assert find_alike([taken(picture(0), box(5, 5)), taken(softer, box(5, 5))]) == {}


def test_empty_labels_of_one_image_are_alike() -> None:
    empty = np.zeros(SIZE, np.int64)
    assert find_alike([taken(picture(0), empty)] * 2) == {0: {1}, 1: {0}}
    assert find_alike([taken(picture(0), empty), taken(picture(3), empty)]) == {}


def test_flat_images_are_alike_only_as_files() -> None:
    flat = np.full((1, *SIZE), 7.3, np.float32)
    other = np.full((1, *SIZE), 9.1, np.float32)
    prints = [taken(flat, box(5, 5)), taken(other, box(5, 5)), taken(flat, box(5, 5))]
    assert find_alike(prints) == {0: {2}, 2: {0}}
    assert not prints[0].image.any()


def test_images_of_other_sizes_are_other_cases() -> None:
    small = RNG(0).normal(100, 20, (1, 64, 64))
    label = np.zeros((64, 64), np.int64)
    label[:32] = 1
    prints = [taken(small, label), taken(small.repeat(2, 1), label.repeat(2, 0))]
    np.testing.assert_allclose(prints[0].image, prints[1].image, rtol=1e-5)
    assert find_alike(prints) == {}


def test_what_is_ignored_does_not_count() -> None:
    label = box(5, 5)
    label[40:] = 2
    valid = np.ones(SIZE, bool)
    valid[40:] = False
    prints = [take_print("a", picture(0), each, valid, SPEC) for each in (label, box(5, 5))]
    assert find_alike(prints) == {0: {1}, 1: {0}}


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_how_many_are_compared_at_once_changes_nothing(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prints = [taken(picture(n % 4), box(5, 5), f"{n}") for n in range(8)]
    monkeypatch.setattr("labelmend.audit.alike._AT_ONCE", at_once)
    assert find_alike(prints) == {n: {(n + 4) % 8} for n in range(8)}


def test_continuous_labels_are_alike_where_they_differ_little() -> None:
    values = picture(5)
    near = values + np.float32(0.3)
    far = values + np.float32(20)
    prints = [taken(picture(0), each, spec=VALUES) for each in (values, near, far)]
    assert find_alike(prints) == {0: {1}, 1: {0}}
    part, blank = np.arange(60)[:, None] < np.full(50, 40), values.copy()
    blank[:, 40:] = 9999  # what is ignored may hold anything
    prints = [take_print("a", picture(0), each, part, VALUES) for each in (values, blank)]
    assert find_alike(prints) == {0: {1}, 1: {0}}
    constant = np.full((1, *SIZE), 3.0, np.float32)
    assert find_alike([taken(picture(0), constant, spec=VALUES)] * 2) == {0: {1}, 1: {0}}


@pytest.mark.parametrize("shape", [(5000,), (70, 33), (11, 9, 25), (1,), (1, 1)])
def test_small_copies_keep_the_mean_of_what_divides_evenly(shape: tuple[int, ...]) -> None:
    array = RNG(2).normal(size=shape)
    small = shrink(array)
    assert small.shape == tuple(min(n, {1: 1024, 2: 32, 3: 10}[len(shape)]) for n in shape)
    slow = array
    for axis, cells in enumerate(small.shape):
        edges = [
            axis_length * i // cells for i in range(cells + 1) for axis_length in [shape[axis]]
        ]
        parts = [
            slow.take(range(a, b), axis=axis).mean(axis, keepdims=True)
            for a, b in itertools.pairwise(edges)
        ]
        slow = np.concatenate(parts, axis)
    np.testing.assert_allclose(small, slow, rtol=1e-9, atol=1e-12)


def test_the_bar_for_labels_is_where_it_is_said_to_be() -> None:
    """Dice of 0.95 exactly is enough."""
    full = np.full((1, 100), 255, np.uint8)
    part = full.copy()
    part[0, :9] = 0
    assert same_label(full, part) is (2 * 91 / 191 >= 0.95)
    part[0, 9] = 0
    assert not same_label(full, part)
