"""Augmentation: alike for image and label, reproducible, and nothing at zeros."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelmend.data.augment import Augmentation, augment
from labelmend.errors import SettingsError, ShapeError


def sample(space, channels=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, space, generator=generator)
    valid = torch.rand(space, generator=generator) > 0.2
    image = torch.stack([label.float() * (c + 1) for c in range(channels)])
    return image, label, valid


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 2**16), st.booleans())
def test_an_image_that_shows_its_label_still_does(space, seed, turns):
    image, label, valid = sample(tuple(space), seed=seed)
    marked = torch.cat([image, valid[None].float()])
    moved, claimed, known, _ = augment(
        marked, label, valid, seeded(seed), Augmentation(flip=0.5, quarter_turns=turns)
    )
    assert moved.shape == marked.shape and claimed.shape == label.shape
    assert torch.equal(moved[0], claimed.float()) and torch.equal(moved[1], 2 * claimed.float())
    assert torch.equal(moved[2].bool(), known)
    assert moved.is_contiguous() and claimed.is_contiguous() and known.is_contiguous()


def test_labels_of_several_channels_move_too():
    image, _, valid = sample((4, 4))
    moved, claimed, _, _ = augment(
        image, image * 3, valid, seeded(1), Augmentation(flip=0.5, quarter_turns=True)
    )
    assert torch.equal(moved * 3, claimed)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(0, 2**16))
def test_the_pose_is_what_becomes_of_displacements(dims, seed):
    _, label, _ = sample((5,) * dims, seed=seed)
    label = torch.zeros_like(label)
    start = torch.randint(1, 4, (dims,), generator=seeded(seed))
    step = torch.randint(-1, 2, (dims,), generator=seeded(seed + 1))
    label[tuple(start)], label[tuple(start + step)] = 1, 2  # they may be one place
    change = Augmentation(flip=0.5, quarter_turns=True)
    _, moved, _, pose = augment(label[None].float(), label, label >= 0, seeded(seed), change)
    if step.any():
        apart = (moved == 2).nonzero()[0] - (moved == 1).nonzero()[0]
        assert torch.equal(apart, pose @ step)
    assert torch.equal(pose.T @ pose, torch.eye(dims, dtype=torch.int64))


def test_every_orientation_of_a_square_comes_up_alike():
    label = torch.arange(9).reshape(3, 3)
    image, valid = label[None].float(), label >= 0
    generator, change = seeded(0), Augmentation(flip=0.5, quarter_turns=True)
    seen = {}
    for _ in range(1600):
        key = tuple(augment(image, label, valid, generator, change)[1].flatten().tolist())
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 8 and min(seen.values()) > 140


def test_axes_of_different_length_are_not_turned():
    label = torch.arange(6).reshape(2, 3)
    change = Augmentation(quarter_turns=True)
    for seed in range(20):
        out = augment(label[None].float(), label, label >= 0, seeded(seed), change)
        assert torch.equal(out[1], label)


def test_nothing_changes_at_zeros_and_no_number_is_drawn():
    image, label, valid = sample((5, 6))
    generator = seeded(3)
    before = generator.get_state()
    out = augment(image, label, valid, generator, Augmentation())
    upright = torch.eye(2, dtype=torch.int64)
    assert all(torch.equal(a, b) for a, b in zip(out, (image, label, valid, upright), strict=True))
    assert torch.equal(generator.get_state(), before)


def test_inputs_are_not_changed_and_equal_states_give_equal_results():
    image, label, valid = sample((8, 8))
    kept = [t.clone() for t in (image, label, valid)]
    change = Augmentation(1.0, quarter_turns=True, noise=0.3, contrast=0.3, brightness=0.3)
    first = augment(image, label, valid, seeded(5), change)
    assert all(torch.equal(a, b) for a, b in zip(kept, (image, label, valid), strict=True))
    second = augment(image, label, valid, seeded(5), change)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], augment(image, label, valid, seeded(6), change)[0])


def test_brightness_and_contrast_keep_to_their_bounds():
    image, label, valid = sample((6, 6))
    for seed in range(50):
        brighter = augment(image, label, valid, seeded(seed), Augmentation(brightness=0.2))[0]
        shift = brighter - image
        assert shift.max() - shift.min() < 1e-6 and shift.abs().max() <= 0.2 + 1e-6
        flatter = augment(image, label, valid, seeded(seed), Augmentation(contrast=0.4))[0]
        assert flatter.mean((1, 2)) == pytest.approx(image.mean((1, 2)), abs=1e-5)
        factor = flatter.std((1, 2)) / image.std((1, 2))
        assert 0.6 - 1e-5 <= factor[0] <= 1.4 + 1e-5 and factor[0] == pytest.approx(factor[1])


def test_noise_has_at_most_the_deviation_asked_for():
    image, label, valid = sample((64, 64))
    deviations = [
        float((augment(image, label, valid, seeded(s), Augmentation(noise=0.5))[0] - image).std())
        for s in range(30)
    ]
    assert max(deviations) < 0.52 and max(deviations) > 0.35 and min(deviations) < 0.15


def test_threads_change_nothing():
    image, label, valid = torch.rand(1, 512, 512), torch.zeros(512, 512), torch.ones(512, 512) > 0
    change = Augmentation(0.5, noise=0.3, contrast=0.3, brightness=0.3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = augment(image, label, valid, seeded(5), change)[0]
        torch.set_num_threads(2)
        two = augment(image, label, valid, seeded(5), change)[0]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    "wrong",
    [{"flip": 1.5}, {"noise": -1}, {"contrast": 1.0}, {"brightness": float("nan")}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=f"augment.{next(iter(wrong))}"):
        Augmentation(**wrong)


def test_samples_that_do_not_fit_are_refused():
    image, label, valid = sample((4, 5))
    with pytest.raises(ShapeError, match="same positions"):
        augment(image, label.T, valid, seeded(0), Augmentation())
