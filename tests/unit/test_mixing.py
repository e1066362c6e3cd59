"""Cutting images into one another: examples, edges of labels, and what is refused."""

import pytest
import torch

from labelmend.errors import SettingsError, ShapeError
from labelmend.mixing import NO_CLASS, class_mask, draw_class, mix, soften

SPACES = [(6,), (3, 4), (2, 3, 2)]


def known(label):
    return torch.ones_like(label, dtype=torch.bool)


# ---------------------------------------------------------------- what is drawn and cut out


def test_two_classes_share_the_numbers_between_them():
    label = torch.tensor([[0, 2, 5, 5]]).expand(4, 4)
    uniform = torch.tensor([0.0, 0.49, 0.5, 0.99])
    assert draw_class(label, known(label), 6, uniform).tolist() == [2, 2, 5, 5]
    drawn = draw_class(label, known(label), 6, uniform, background=True)
    assert drawn.tolist() == [0, 2, 2, 5]


@pytest.mark.parametrize("space", SPACES)
def test_the_edges_of_labels(space):
    background = torch.zeros(1, *space, dtype=torch.int64)
    half, last = torch.tensor([0.5]), torch.tensor([1 - 2**-24])
    valid = known(background)
    for uniform in (half, last):
        assert draw_class(background, valid, 3, uniform).tolist() == [NO_CLASS]
        drawn = draw_class(background, valid, 3, uniform, background=True)
        assert drawn.tolist() == [0]
        # nothing valid: nothing to draw, even with the background
        nothing = draw_class(background + 1, ~valid, 3, uniform, background=True)
        assert nothing.tolist() == [NO_CLASS]
        assert draw_class(background + 2, valid, 3, uniform).tolist() == [2]
    image, other = torch.ones(2, 1, 3, *space).unbind()
    assert not class_mask(background, valid, NO_CLASS).any()
    assert not class_mask(background, valid, 1).any()  # a class that is not there
    assert not class_mask(background + 1, ~valid, 1).any()
    empty, full = class_mask(background, valid, 1), class_mask(background + 1, valid, 1)
    assert full.all()
    assert torch.equal(mix(image, 2 * other, empty), 2 * other)
    assert torch.equal(mix(image, 2 * other, full), image)


def test_an_ignored_object_is_not_cut_out():
    label = torch.tensor([[1, 1, 2, 255, -7]])
    valid = torch.tensor([[False, False, True, False, False]])
    assert draw_class(label, valid, 3, torch.tensor([0.0])).tolist() == [2]
    assert class_mask(label, valid, 1).tolist() == [[False] * 5]
    assert class_mask(label, valid, torch.tensor([-7])).tolist() == [[False] * 5]


def test_image_label_valid_and_weight_are_cut_by_one_mask():
    label = torch.tensor([[0, 1, 1, 0], [2, 2, 0, 0]])
    mask = class_mask(label, known(label), torch.tensor([1, 2]))
    image = torch.tensor([[[1.0, 2.0, 3.0, 4.0]], [[5.0, 6.0, 7.0, 8.0]]])
    assert mix(image, -image, mask).tolist() == [[[-1, 2, 3, -4]], [[5, 6, -7, -8]]]
    assert mix(label, label + 5, mask).tolist() == [[5, 1, 1, 5], [2, 2, 5, 5]]
    assert mix(mask, mask, mask).tolist() == mask.tolist()
    weight = mix(torch.tensor([1.0, 0.5]), torch.tensor([0.25, 0.0]), mask)
    assert weight.tolist() == [[0.25, 1, 1, 0.25], [0.5, 0.5, 0, 0]]
    trusted = mix(torch.tensor([True, False]), torch.tensor([False, True]), mask)
    assert trusted.tolist() == [[False, True, True, False], [False, False, True, True]]


@pytest.mark.parametrize("space", SPACES)
def test_weights_per_sample_become_weights_per_position(space):
    mask = torch.rand(2, *space, generator=torch.Generator().manual_seed(0)) < 0.5
    mixed = mix(torch.tensor([1.0, 0.5]), torch.tensor([0.25, 0.0]), mask)
    assert mixed.shape == mask.shape
    for k, (one, other) in enumerate(((1.0, 0.25), (0.5, 0.0))):
        assert (mixed[k][mask[k]] == one).all() and (mixed[k][~mask[k]] == other).all()


def test_neither_input_is_changed():
    one, other = torch.rand(2, 2, 1, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, False, True, False]]).expand(2, 4)
    label = torch.tensor([[1, 2, 0, 9]]).expand(2, 4).clone()
    before = [tensor.clone() for tensor in (one, other, mask, label)]
    mix(one, other, mask)
    mix(one, other, soften(mask, 1.0))
    class_mask(label, mask, 1)
    draw_class(label, label < 9, 3, torch.tensor([0.1, 0.2]))
    assert all(map(torch.equal, before, (one, other, mask, label)))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_stays_and_keeps_what_is_left_out_away(kind):
    one = torch.tensor([[1.0, torch.nan, 6e4, 4.0]], dtype=kind)
    other = torch.tensor([[torch.inf, 3.0, torch.nan, 8.0]], dtype=kind)
    mask = torch.tensor([[True, False, True, False]])
    for share in (mask, mask.half(), mask.float(), mask.double()):
        mixed = mix(one, other, share)
        assert mixed.dtype == kind
        assert torch.equal(mixed, torch.tensor([[1.0, 3.0, 6e4, 8.0]], dtype=kind))
    blended = mix(one, other, torch.tensor([[1.0, 0.0, 1.0, 0.25]]))
    assert torch.equal(blended, torch.tensor([[1.0, 3.0, 6e4, 7.0]], dtype=kind))


@pytest.mark.parametrize(
    ("layout", "space"), [(torch.channels_last, (4, 6)), (torch.channels_last_3d, (2, 4, 3))]
)
@pytest.mark.parametrize("border", [0.0, 1.0])
def test_memory_that_lies_otherwise_changes_no_number(layout, space, border):
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 3, 5, *space, generator=generator)
    mask = torch.rand(3, *space, generator=generator) < 0.5
    mask = soften(mask, border) if border else mask
    wanted = mix(one, other, mask)
    mixed = mix(*(image.to(memory_format=layout) for image in (one, other)), mask)
    assert torch.equal(mixed, wanted)
    assert mixed.is_contiguous(memory_format=layout)


def test_gradients_go_where_positions_come_from():
    one, other = (torch.ones(1, 2, 3, requires_grad=True) for _ in range(2))
    mask = torch.tensor([[True, False, True]])
    mix(one, other, mask).sum().backward()
    assert torch.equal(one.grad, mask.float().expand(1, 2, 3))
    assert torch.equal(other.grad, (~mask).float().expand(1, 2, 3))


def test_a_softened_border_is_the_bell_curve_added_up():
    mask = torch.arange(40).reshape(1, -1) >= 20
    distance = torch.arange(40) - 19.5
    wanted = 0.5 * (1 + torch.erf(distance / 2 / 2**0.5))
    inside = slice(9, 31)  # the rest lies within 4 deviations of an end
    torch.testing.assert_close(soften(mask, 2.0)[0, inside], wanted[inside], rtol=0, atol=2e-4)


def test_a_mask_larger_than_its_image_can_be_softened():
    for space in SPACES:
        mask = torch.zeros(2, *space, dtype=torch.bool)
        mask[0] = True
        assert torch.equal(soften(mask, 50.0), mask.float())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("uniform", "said"),
    [
        (torch.rand(3), r"one random number per label is wanted, 2 in all, got shape \(3,\)"),
        (torch.rand(2, 1), r"got shape \(2, 1\)"),
        (torch.tensor(0.5), r"got shape \(\)"),
    ],
)
def test_random_numbers_that_do_not_fit_are_refused(uniform, said):
    label = torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ShapeError, match=said) as caught:
        draw_class(label, known(label), 3, uniform)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [1.0, -1e-9, 7.5, float("nan")])
def test_random_numbers_out_of_range_are_refused(number):
    label = torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ShapeError, match=rf"in \[0, 1\) are wanted, got {number:g}$"):
        draw_class(label, known(label), 3, torch.tensor([0.5, number]))


def test_labels_that_do_not_fit_are_refused():
    label, half = torch.zeros(2, 4, dtype=torch.int64), torch.tensor([0.5, 0.5])
    with pytest.raises(ShapeError, match="class indices must be int64"):
        draw_class(label.int(), known(label), 3, half)
    with pytest.raises(ShapeError, match="valid must be bool"):
        draw_class(label, known(label).float(), 3, half)
    with pytest.raises(ShapeError, match=r"got \(2, 4\), \(2, 3\) and \(\)"):
        class_mask(label, known(label)[:, :3], 1)
    with pytest.raises(ShapeError, match=r"or one per label.*and \(3,\)"):
        class_mask(label, known(label), torch.tensor([1, 2, 3]))
    with pytest.raises(ShapeError, match=r"got \(2,\), \(2,\) and \(\)"):
        class_mask(label[:, 0], known(label)[:, 0], 1)


@pytest.mark.parametrize(
    ("one", "other", "mask", "said"),
    [
        ((2, 3, 4), (2, 3, 5), (2, 4), r"alike, not torch.float32 \(2, 3, 4\) and .* \(2, 3, 5\)"),
        ((2, 3, 4), (2, 3, 4), (2, 5), r"fits what is mixed, \(2, 3, 4\), not torch.bool \(2, 5\)"),
        ((2, 3, 4), (2, 3, 4), (1, 4), r"not torch.bool \(1, 4\)"),
        ((2, 4), (2, 4), (2, 5), r"not torch.bool \(2, 5\)"),
        ((2, 4), (2, 4), (2,), r"mask \(batch, \*space\) is wanted .* not torch.bool \(2,\)"),
        ((2,), (2,), (2,), r"not torch.bool \(2,\)"),
        ((3,), (3,), (2, 4), r"\(3,\), not torch.bool \(2, 4\)"),
        ((2,), (3,), (2, 4), "alike"),
        ((2, 3, 4, 5, 6), (2, 3, 4, 5, 6), (2, 5), r"not torch.bool \(2, 5\)"),
        ((2,), (1, 2), (2, 4), "alike"),
        ((2,), (2, 1), (2, 4), "alike"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(one, other, mask, said):
    with pytest.raises(ShapeError, match=said) as caught:
        mix(torch.zeros(one), torch.zeros(other), torch.zeros(mask, dtype=torch.bool))
    assert "\n" not in str(caught.value)


def test_types_that_do_not_fit_are_refused():
    mask = torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"torch.float32 \(1, 4\) and torch.float64 \(1, 4\)"):
        mix(torch.zeros(1, 4), torch.zeros(1, 4).double(), mask)


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8])
def test_a_mask_of_whole_numbers_is_refused(kind):
    name = str(kind)
    with pytest.raises(ShapeError, match=rf"a bool or float mask .* not {name} \(1, 4\)"):
        mix(torch.zeros(1, 4), torch.ones(1, 4), torch.ones(1, 4, dtype=kind))


def test_a_negative_deviation_is_refused():
    mask = torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(SettingsError, match="at least 0, not -0.5"):
        soften(mask, -0.5)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_a_mask_is_only_made_of_what_is_known_as_bools(kind):
    """Else it came back as numbers, which could not be mixed by, or torch's own words did."""
    label = torch.tensor([[0, 1]])
    with pytest.raises(ShapeError, match=r"valid must be bool \(batch, \*space\), not"):
        class_mask(label, known(label).to(kind), 1)


def test_what_is_no_tensor_is_refused_in_one_line():
    label = torch.tensor([[0, 1]])
    with pytest.raises(ShapeError, match="valid must be a tensor, not a NoneType; where all is"):
        class_mask(label, None, 1)
    with pytest.raises(ShapeError, match="first must be a tensor, not a ndarray; torch.as_tensor"):
        mix(label.numpy(), label, known(label))
