"""Reading between positions: ties, borders, what is not known, derivatives."""

import pytest
import torch

from labelmend.alignment.interpolation import MODES, Claims, at, back_by, look_up, read
from labelmend.errors import SettingsError

EVERY = torch.ones(1, 3, dtype=torch.bool)


def test_a_half_always_goes_up_so_no_position_is_read_twice():
    label = torch.tensor([[3, 4, 5, 6]])
    places = at([torch.tensor([[-0.5, 0.5, 1.5, 2.5]])], [4])
    moved, known = read(label, torch.ones_like(label) > 0, places)
    assert moved.tolist() == [[3, 4, 5, 6]] and known.all()


def test_a_half_beyond_the_last_position_is_outside():
    _, known = read(torch.tensor([[3, 4, 5]]), EVERY, at([torch.tensor([[2.5, 2.49, -0.51]])], [3]))
    assert known.tolist() == [[False, True, False]]


@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_loses_no_border_and_makes_no_tie(size, dtype):
    eps = torch.finfo(dtype).eps
    wanted = torch.tensor([[0.0, 0.5, size - 1]], dtype=dtype)
    for sign in (-1, 1):
        places = at([wanted + sign * 2 * eps * size], [size])
        assert places.low[0].tolist() == [[0, 0, size - 1]]
        assert places.share[0].tolist() == [[0.0, 0.5, 0.0]]


def test_what_is_clearly_between_positions_stays_there():
    for dtype, off in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        places = at([torch.tensor([[1 + off]], dtype=dtype)], [3])
        assert float(places.share[0]) == pytest.approx(off, rel=0.05)


def test_half_precision_is_raised_before_it_is_divided():
    places = at([torch.tensor([[1000.5]]).half()], [2000])
    assert places.share[0].dtype == torch.float32 and places.share[0].item() == 0.5


def test_slack_is_bounded_however_long_an_axis_is():
    places = at([torch.tensor([[0.002, 0.25]])], [10**7])
    assert places.share[0].tolist() == [[pytest.approx(0.002), 0.25]]


def test_displacements_keep_their_digits_on_a_long_recording():
    size = 3_000_000
    places = back_by([torch.tensor([[0.1]])], [size])
    assert float(places.share[0]) == pytest.approx(0.9)
    assert places.low[0][0, -1] == size - 2


@pytest.mark.parametrize("size", [1, 7, 300, 100_000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_nearest_positions_are_those_that_reading_takes(size, dtype):
    torch.manual_seed(size)
    drawn = (size + 6) * torch.rand(1, 2000, dtype=torch.float64) - 3
    halves = (2 * drawn).round() / 2
    off = torch.finfo(torch.float32 if dtype == torch.float16 else dtype).eps * size
    few = [halves, halves + 3 * off, halves - 3 * off, drawn, torch.tensor([[1e30, -1e30]])]
    label, valid = torch.arange(1, size + 1)[None], torch.rand(1, size) < 0.8
    for positions in few:
        where = [positions.to(dtype)]
        wanted = read(label, valid, at(where, [size]), "nearest")
        found = Claims.of(label, valid).nearest(where)
        assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])


def test_a_position_that_is_no_number_is_outside():
    label, valid = torch.ones(1, 3, 3, dtype=torch.int64), torch.ones(1, 3, 3).bool()
    where = torch.tensor([[1.0, torch.nan, torch.inf, -torch.inf]])
    for one, other in ((where, torch.ones(1, 4)), (torch.ones(1, 4), where)):
        said, known = Claims.of(label, valid).nearest([one, other])
        assert said.tolist() == [[1, 0, 0, 0]] and known.tolist() == [[True, False, False, False]]


def test_labels_that_were_made_ready_are_looked_up_as_often_as_one_likes():
    label, valid = torch.arange(24).view(2, 3, 4), torch.arange(24).view(2, 3, 4) % 5 > 0
    before = label.clone()
    claims = Claims.of(label, valid)
    for one in (0, 2, 5, -7):
        low = [torch.full((1, 1, 1), one), torch.arange(-2, 4).view(1, 1, 6)]
        wanted = look_up(label, valid, [t.expand(2, 1, 6) for t in low])
        found = claims.look_up([t.expand(1, 1, 6) for t in low])  # the same for all samples
        assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])
    assert torch.equal(label, before)


@pytest.mark.parametrize("far", [1e30, -1e30, 3e38, 2.0**40])
def test_far_away_is_outside(far):
    label = torch.tensor([[1, 2, 3]])
    for places in (at([torch.full((1, 3), far)], [3]), back_by([torch.full((1, 3), far)], [3])):
        for mode in MODES:
            moved, known = read(label, EVERY, places, mode)
            assert not known.any() and not moved.any()


def test_the_class_with_most_weight_wins_though_it_is_nowhere_nearest():
    # The nearest corner has 0.36 of the weight, class 7 the rest.
    label = torch.tensor([[[5, 7], [7, 7]]])
    places = at([torch.tensor([[[0.4]]]), torch.tensor([[[0.4]]])], [2, 2])
    valid = torch.ones_like(label) > 0
    assert read(label, valid, places, "linear")[0].item() == 7
    assert read(label, valid, places, "nearest")[0].item() == 5


def test_in_a_tie_the_nearest_position_wins():
    label = torch.tensor([[1, 9], [9, 1]])
    valid = torch.ones_like(label) > 0
    moved, _ = read(label, valid, at([torch.full((2, 1), 0.5)], [2]), "linear")
    assert moved.tolist() == [[9], [1]]


def test_classes_as_far_out_as_numbers_go_are_only_numbers():
    far = 2**63 - 1
    label = torch.tensor([[far, -far, -far]])
    for mode in MODES:
        moved, known = read(label, EVERY, at([torch.tensor([[0.2, 1.0, 1.6]])], [3]), mode)
        assert moved.tolist() == [[far, -far, -far]] and known.all()


def test_channels_can_be_read_by_nearest_too():
    label = torch.tensor([[[1.0, 5.0, 9.0]]])
    moved, known = read(label, EVERY, at([torch.tensor([[0.4, 0.6, 2.2]])], [3]), "nearest")
    assert moved.tolist() == [[[1.0, 5.0, 9.0]]] and known.all()


def test_a_position_that_does_not_count_need_not_be_valid():
    valid = torch.tensor([[True, False, True]])
    label = torch.tensor([[[1.0, torch.nan, 3.0]]])
    moved, known = read(label, valid, at([torch.tensor([[0.0, 0.5, 2.0]])], [3]))
    assert moved.tolist() == [[[1.0, 0.0, 3.0]]]
    assert known.tolist() == [[True, False, True]]


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(SettingsError, match="did you mean 'linear'"):
        read(torch.tensor([[1]]), EVERY[:, :1], at([torch.zeros(1, 1)], [1]), "linaer")


def test_a_neighbour_that_is_not_known_pulls_neither_way():
    label = torch.tensor([[[2.0, 5.0, 9.0]]], dtype=torch.float64)
    valid = torch.tensor([[True, True, False]])
    where = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    moved, known = read(label, valid, at([where], [3]))
    assert known.all()
    moved.sum().backward()
    assert where.grad.tolist() == [[3.0, 0.0, 0.0]]  # towards the higher position, where known


def test_nothing_that_is_not_known_reaches_a_derivative():
    label = torch.tensor([[[2.0, torch.nan, torch.inf, 1.0]]], dtype=torch.float64)
    label.requires_grad_()
    valid = torch.tensor([[True, False, False, True]])
    where = torch.tensor([[0.0, 0.5, 1.5, 3.0]], dtype=torch.float64, requires_grad=True)
    moved, _ = read(label, valid, at([where], [4]))
    moved.sum().backward()
    assert where.grad.isfinite().all() and label.grad.tolist() == [[[1.0, 0.0, 0.0, 1.0]]]


def test_a_constant_stays_one():
    label = torch.full((1, 1, 5, 5), 0.1)
    where = [torch.rand(1, 5, 5) * 4 for _ in range(2)]
    moved, known = read(label, torch.ones(1, 5, 5, dtype=torch.bool), at(where, [5, 5]))
    assert known.all() and (moved == label).all()


def test_to_look_up_is_not_to_compute():
    label = torch.tensor([[[torch.inf, -0.0, torch.nan]]])
    moved, known = look_up(label, EVERY, [torch.tensor([[2, 1, 0]])])
    assert known.all() and moved[0, 0, 0].isnan() and moved[0, 0, 2] == torch.inf
    assert torch.signbit(moved[0, 0, 1])
