"""Which images are alike, and which are like no strong one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelmend.weighting import alike as module
from labelmend.weighting.alike import Likeness, appearances, likeness
from labelmend.weighting.appearance import appearance

from . import oracle_alike as oracle

seeds = st.integers(0, 2**31)


def numbers(seed, *shape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_every_image_of_a_batch_is_looked_at_alone_whatever_its_type() -> None:
    image = numbers(0, 4, 2, 6, 5).requires_grad_()
    found = appearances(image)
    assert found.dtype == torch.float64 and not found.requires_grad
    for row, one in zip(found, image.detach().numpy(), strict=True):
        assert torch.equal(row, torch.from_numpy(appearance(one)))
    torch.testing.assert_close(appearances(image.bfloat16()), found, rtol=0.02, atol=0.02)


# ---------------------------------------------------------------------- how alike, how strange


@given(seed=seeds, weak=st.integers(1, 9), strong=st.integers(1, 9), features=st.integers(1, 4))
def test_likeness_is_what_the_definition_says(seed, weak, strong, features) -> None:
    one, other = numbers(seed, weak, features), numbers(seed + 1, strong, features)
    found = likeness(one, other)
    own, strange = oracle.likeness(one.tolist(), other.tolist())
    own, strange = (torch.tensor(x, dtype=torch.float64) for x in (own, strange))
    torch.testing.assert_close(found.features, own, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.strange, strange)


@given(seed=seeds, factor=st.floats(1e-3, 1e3), plus=st.floats(-1e3, 1e3))
def test_images_in_other_units_are_as_alike(seed, factor, plus) -> None:
    image = numbers(seed, 9, 1, 6, 6)
    one, other = (
        likeness(*appearances(images).split([5, 4])) for images in (image, factor * image + plus)
    )
    torch.testing.assert_close(one.features, other.features, rtol=1e-6, atol=1e-6)


def test_an_image_that_a_strong_label_shows_is_not_strange_at_all() -> None:
    strong = numbers(0, 5, 3)
    assert likeness(strong[[2, 2, 0]], strong).strange.tolist() == [0, 0, 0]


def test_one_strong_image_cannot_say_what_is_strange_nor_can_copies_of_it() -> None:
    strong, weak = numbers(0, 1, 3), numbers(1, 6, 3)
    assert not likeness(weak, strong).strange.any()
    assert not likeness(weak, strong.expand(7, 3)).strange.any()


def test_copies_of_strong_images_make_nothing_stranger() -> None:
    strong, weak = numbers(0, 6, 2), numbers(1, 40, 2)
    once = likeness(weak, strong).strange * 7
    twice = likeness(weak, strong.repeat(2, 1)).strange * 13 / 2
    # The deviations that features are divided by are those of all, and copies count in them.
    assert (once - twice).abs().mean() < 0.5


def test_images_of_the_same_kind_are_as_strange_as_chance_makes_them() -> None:
    """The shares are spread about evenly, whatever the number of strong images."""
    for strong in (4, 16, 64):
        found = torch.stack(
            [likeness(numbers(s, 50, 3), numbers(s + 999, strong, 3)).strange for s in range(60)]
        )
        evenly = 0.5 * strong / (strong + 1)
        # A weak image has one strong neighbour more to be near to than a strong one has.
        assert 0.8 * evenly < found.mean() < 1.1 * evenly
        assert (found >= 0.9).double().mean() < 0.15


def test_what_no_strong_image_is_like_is_as_strange_as_can_be() -> None:
    found = likeness(numbers(0, 9, 3) + 30, numbers(1, 9, 3))
    assert found.strange.tolist() == [0.9] * 9


def test_what_is_the_same_in_all_images_says_nothing() -> None:
    weak, strong = numbers(0, 5, 2), numbers(1, 4, 2)
    still = [torch.cat([x, torch.full((len(x), 1), 7.0)], 1) for x in (weak, strong)]
    assert torch.equal(likeness(*still).strange, likeness(weak, strong).strange)


# ---------------------------------------------------------------------- the nearest


@given(seed=seeds, many=st.integers(1, 30), classes=st.sampled_from([None, 2]))
def test_the_median_of_the_nearest_is_that_of_plain_lists(seed, many, classes) -> None:
    features = numbers(seed, many, 2)
    values = numbers(seed + 1, *((many,) if classes is None else (many, classes)))
    found = Likeness(features, torch.zeros(many)).nearby(values)
    assert found.shape == values.shape
    for one in range(many):
        others = [k for k in range(many) if k != one] or [one]
        others.sort(key=lambda k: math.dist(features[k], features[one]))
        wanted = values[others[: module.NEIGHBOURS]].median(0).values
        assert torch.equal(found[one], wanted)


@given(seed=seeds)
def test_many_are_compared_a_part_at_a_time(seed) -> None:
    features, values = numbers(seed, 23, 2), numbers(seed + 1, 23)
    whole = Likeness(features, torch.zeros(23)).nearby(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", 5)
        # One that has not looked yet: which images are nearest is found once.
        assert torch.equal(Likeness(features, torch.zeros(23)).nearby(values), whole)


def test_what_is_not_known_of_neighbours_is_left_out() -> None:
    images = Likeness(torch.tensor([[0.0], [1.0], [2.0]]), torch.zeros(3))
    found = images.nearby(torch.tensor([5.0, math.nan, math.nan]))
    assert found.isnan().tolist() == [True, False, False] and found[1:].tolist() == [5, 5]


def test_images_that_are_the_same_are_neighbours_however_many_there_are() -> None:
    """By products of matrices, as distances are found of many, they would be apart."""
    features = (numbers(0, 40, 4) * 1e-6 + 1e4).repeat_interleave(10, 0)
    kind = torch.arange(40.0).repeat_interleave(10)
    assert torch.equal(Likeness(features, torch.zeros(400)).nearby(kind), kind)
