"""Shifts: against loops, exact cases, what is refused, derivatives."""

import pytest
import torch
from torch.autograd import forward_ad, gradcheck

from labelmend.alignment.shifts import shift, shift_subpixel
from labelmend.errors import NonFiniteError, SettingsError, ShapeError

from . import oracle_transforms as oracle

SPACES = [(7,), (4, 5), (3, 4, 3), (1, 6), (1, 1, 1)]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def made(space, seed=0, batch=3, channels=None, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(batch, *space, generator=generator) < 0.8
    if channels is None:
        return torch.randint(0, 4, (batch, *space), generator=generator), valid
    label = torch.randn(batch, channels, *space, generator=generator, dtype=torch.float64)
    return label.to(dtype), valid


def displacements(space, seed=0, batch=3, most=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, (batch, len(space)), generator=generator)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("channels", [None, 1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_whole_shifts_are_those_of_a_loop(space, channels, seed):
    label, valid = made(space, seed, channels=channels)
    d = displacements(space, seed)
    moved, known = shift(label, valid, d)
    expected, expected_known = oracle.moved(label, valid, oracle.by_displacement(d), "nearest")
    assert torch.equal(moved, expected) and torch.equal(known, expected_known)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("grain", [None, 4])
def test_subpixel_shifts_are_those_of_a_loop(space, channels, mode, grain):
    label, valid = made(space, 1, channels=channels)
    d = 4 * torch.rand(3, len(space), dtype=torch.float64) - 2
    if grain is not None:
        # Ties; among three classes or more they may be anyone's.
        d = (d * grain).round() / grain
        label = label if channels else label % 2
    moved, known = shift_subpixel(label, valid, d, mode=mode)
    expected, expected_known = oracle.moved(label, valid, oracle.by_displacement(d), mode)
    assert torch.equal(known, expected_known)
    if channels is None:
        assert torch.equal(moved, expected)
    else:
        torch.testing.assert_close(moved, expected, rtol=1e-12, atol=1e-12)


def test_content_moves_by_plus_the_displacement():
    label = torch.zeros(1, 4, 5, dtype=torch.int64)
    label[0, 1, 1] = 7
    moved, _ = shift(label, torch.ones_like(label) > 0, torch.tensor([[2, -1]]))
    assert moved.nonzero().tolist() == [[0, 3, 0]]


@pytest.mark.parametrize("far", [5, -5, 2**62, -(2**63), 2**63 - 1])
def test_everything_may_leave(far):
    label = torch.ones(2, 5, dtype=torch.int64)
    moved, known = shift(label, label > 0, torch.tensor([[far], [0]]))
    assert not known[0].any() and not moved[0].any() and known[1].all() and moved[1].all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_precision_comes_back_as_it_came(dtype):
    label, valid = made((5, 4), channels=2, dtype=dtype)
    moved, _ = shift_subpixel(label, valid, torch.tensor([[1.0, -1]] * 3))
    expected, _ = shift(label, valid, torch.tensor([[1, -1]] * 3))
    assert moved.dtype == expected.dtype == dtype and torch.equal(moved, expected)
    between, _ = shift_subpixel(label, valid, torch.tensor([[0.25, 0.5]] * 3).to(dtype))
    wide, _ = shift_subpixel(label.double(), valid, torch.tensor([[0.25, 0.5]] * 3))
    eps = torch.finfo(dtype).eps
    assert between.dtype == dtype
    torch.testing.assert_close(between.double(), wide, rtol=eps, atol=eps)


def test_autocast_changes_nothing():
    label, valid = made((300,), channels=1, dtype=torch.float32)
    d = torch.full((3, 1), 257.3)
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = shift_subpixel(label, valid, d)
    assert torch.equal(inside, shift_subpixel(label, valid, d)[0])


def test_an_empty_batch_is_one():
    label, valid = torch.zeros(0, 4, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.bool)
    assert shift(label, valid, torch.zeros(0, 1, dtype=torch.int64))[0].shape == (0, 4)
    assert shift_subpixel(label, valid, torch.zeros(0, 1), mode="linear")[0].shape == (0, 4)


def test_nothing_given_is_changed():
    label, valid = made((5, 4), channels=1)
    kept = label.clone(), valid.clone()
    d = torch.tensor([[1, 0]] * 3)
    moved, known = shift(label, valid, d)
    shift_subpixel(label, valid, d.double())
    moved += 1
    known |= True
    assert torch.equal(label, kept[0]) and torch.equal(valid, kept[1])


@pytest.mark.parametrize("space", [(6,), (4, 5), (3, 4, 3)])
def test_derivatives_of_subpixel_shifts(space):
    label, valid = made(space, channels=2, batch=2)
    d = (2 * torch.rand(2, len(space), dtype=torch.float64) - 1).requires_grad_()
    label.requires_grad_()
    for each in (label, d):  # once to each, so that a wrong one is named
        assert gradcheck(
            lambda moving, each=each: shift_subpixel(
                *((moving, valid, d) if each is label else (label, valid, moving))
            )[0],
            (each,),
            check_forward_ad=True,
        )


def test_forward_mode_at_a_whole_displacement_is_one_sided():
    label = torch.tensor([[[0.0, 1.0, 4.0, 9.0]]], dtype=torch.float64)
    valid = torch.ones(1, 4, dtype=torch.bool)
    with forward_ad.dual_level():
        d = forward_ad.make_dual(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
        slope = forward_ad.unpack_dual(shift_subpixel(label, valid, d)[0]).tangent
    assert slope.tolist() == [[[-1.0, -3.0, -5.0, 0.0]]]


LABEL, VALID = torch.zeros(2, 3, 4, dtype=torch.int64), torch.ones(2, 3, 4, dtype=torch.bool)
WHOLE = torch.zeros(2, 2, dtype=torch.int64)
WRONG = {
    "floating classes": (LABEL.float(), VALID, WHOLE, "label must be int64 \\(2, 3, 4\\)"),
    "small integers": (LABEL.int(), VALID, WHOLE, "not int32"),
    "a label of bools": (VALID, VALID, WHOLE, "not bool"),
    "classes with channels": (LABEL.unsqueeze(1), VALID, WHOLE, "label must be"),
    "another space": (LABEL[..., :3], VALID, WHOLE, "label must be"),
    "numbers for valid": (LABEL, VALID.float(), WHOLE, "valid must be bool"),
    "no space": (LABEL[:, 0, 0], VALID[:, 0, 0], WHOLE, "1, 2 or 3 space axes"),
    "four axes": (LABEL[:, None, None], VALID[:, None, None], WHOLE, "1, 2 or 3 space axes"),
    "too few axes": (LABEL, VALID, WHOLE[:, :1], "displacement must be"),
    "one for all": (LABEL, VALID, WHOLE[:1], "displacement must be"),
    "two devices": (LABEL.to("meta"), VALID, WHOLE, "one device"),
    "a displacement elsewhere": (LABEL, VALID, WHOLE.to("meta"), "on"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_does_not_fit_is_refused(case):
    label, valid, d, text = WRONG[case]
    with pytest.raises(ShapeError, match=text):
        shift(label, valid, d)
    with pytest.raises(ShapeError, match=text):
        shift_subpixel(label, valid, d.float())


def test_the_two_kinds_of_displacement_are_not_mixed_up():
    with pytest.raises(ShapeError, match="shift_subpixel takes floating"):
        shift(LABEL, VALID, WHOLE.float())
    with pytest.raises(ShapeError, match="must be floating"):
        shift_subpixel(LABEL, VALID, WHOLE)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_displacement_that_is_no_number_is_named(bad):
    with pytest.raises(NonFiniteError, match="sample 1 of the batch"):
        shift_subpixel(LABEL, VALID, torch.tensor([[0.0, 0], [0, bad]]))


def test_an_unknown_mode_is_refused():
    with pytest.raises(SettingsError, match="nearest"):
        shift_subpixel(LABEL, VALID, WHOLE.float(), mode="neares")
