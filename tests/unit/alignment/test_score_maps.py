import pytest
import torch

from labelmend.alignment.score_maps import Shifts, best_shift, pooled, subpixel
from labelmend.errors import ShapeError

INF = float("inf")


def maps(values, window):
    score = torch.tensor(values)
    return Shifts(score, torch.ones(score.shape, dtype=torch.int64), window)


def test_the_largest_score_wins_and_its_index_is_a_displacement():
    score = torch.zeros(2, 3, 7)
    score[0, 0, 6], score[1, 2, 1] = 2, 3
    displacement, value = best_shift(Shifts(score, score.long(), (1, 3)))
    assert displacement.dtype == torch.int64
    assert displacement.tolist() == [[-1, 3], [1, -2]]
    assert value.tolist() == [2, 3]


def test_of_ties_the_shortest_wins_then_the_first():
    score = torch.zeros(1, 5, 5)
    for place, winner in [
        ((0, 0), (-2, -2)),
        ((4, 2), (2, 0)),
        ((2, 4), (0, 2)),
        ((0, 2), (-2, 0)),
        ((2, 3), (0, 1)),
        ((1, 2), (-1, 0)),
        ((2, 2), (0, 0)),
    ]:
        score[0][place] = 1
        displacement, value = best_shift(Shifts(score, score.long(), (2, 2)))
        assert tuple(displacement[0].tolist()) == winner
        assert value == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-6, 1.0, -1e6])
def test_what_differs_by_rounding_is_a_tie(size, dtype):
    eps = torch.finfo(dtype).eps
    score = size * torch.ones(1, 9, dtype=dtype)
    score[0, 7] += 8 * eps * abs(size)
    assert best_shift(Shifts(score, score.long(), (4,)))[0].item() == 0
    score[0, 7] += 24 * eps * abs(size)
    assert best_shift(Shifts(score, score.long(), (4,)))[0].item() == 3


@pytest.mark.parametrize("value", [0.0, -3.5, -INF, INF, float("nan")])
def test_a_flat_map_gives_no_move(value):
    displacement, score = best_shift(maps([[[value] * 5] * 3], (1, 2)), prior=0.1)
    assert displacement.tolist() == [[0, 0]]
    assert not score.isnan()


def test_places_without_a_score_are_never_taken():
    displacement, value = best_shift(maps([[-INF, -7.0, -INF], [float("nan"), -INF, -9.0]], (1,)))
    assert displacement.tolist() == [[0], [1]]
    assert value.tolist() == [-7, -9]


def test_the_prior_makes_every_move_cost_its_length_squared():
    shifts = maps([[1.0, 0.0, 0.5, 0.2, 0.0]], (2,))
    assert best_shift(shifts)[0].item() == -2
    displacement, value = best_shift(shifts, prior=0.1)
    assert displacement.item() == -2 and value.item() == pytest.approx(0.6)
    displacement, value = best_shift(shifts, prior=0.2)
    assert displacement.item() == 0 and value.item() == pytest.approx(0.5)
    both = maps([[[0.0, 0.0, 1.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.0]]], (1, 1))
    assert best_shift(both, prior=0.34)[0].tolist() == [[-1, 1]]  # |d|² = 2, over both axes
    assert best_shift(both, prior=0.36)[0].tolist() == [[0, 0]]


def test_a_parabola_is_found_exactly():
    at = torch.arange(-4, 5.0)
    for top in (-2.5, -1.2, 0.0, 0.4, 1.49):
        for other in (-0.3, 0.0, 0.2):
            score = -((at[:, None] - top) ** 2) - 3 * (at - other) ** 2
            shifts = Shifts(score[None], torch.ones(1, 9, 9).long(), (4, 4))
            displacement, _ = best_shift(shifts)
            found = subpixel(shifts, displacement)
            torch.testing.assert_close(found, torch.tensor([[top, other]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("row", "start"),
    [
        ([0.0, 1.0, 2.0, 3.0, 4.0], 2),  # the border of the window
        ([4.0, 3.0, 2.0, 1.0, 0.0], -2),
        ([0.0, -INF, 2.0, 1.0, 0.0], 0),  # no score beside it
        ([0.0, 1.0, 2.0, -INF, 0.0], 0),
        ([0.0, 1.0, 2.0, 3.0, 0.0], 0),  # no maximum
        ([0.0, 5.0, 4.0, 0.0, 0.0], 0),  # no maximum, though it bends like one
        ([0.0, 0.0, 4.0, 5.0, 0.0], 0),
        ([1.0, 1.0, 1.0, 1.0, 1.0], 0),  # flat
        ([-INF] * 5, 0),
        ([0.0, 3.0, -1.0, 3.0, 0.0], 0),  # a minimum
    ],
)
def test_where_there_is_no_parabola_nothing_moves(row, start):
    found = subpixel(maps([row], (2,)), torch.tensor([[start]]))
    assert found.tolist() == [[start]]


def test_half_a_position_is_the_most():
    found = subpixel(maps([[0.0, 5.0, 5.0, 0.0, 0.0]], (2,)), torch.tensor([[0]]))
    assert found.tolist() == [[-0.5]]


def test_axes_are_refined_one_by_one():
    score = torch.full((1, 3, 5), -INF)
    score[0, 1] = torch.tensor([0.0, 1.0, 4.0, 3.0, 0.0])
    found = subpixel(Shifts(score, score.isfinite().long(), (1, 2)), torch.tensor([[0, 0]]))
    assert found[0, 0] == 0 and found[0, 1] == pytest.approx(0.25)


def test_members_share_the_mean_of_those_that_have_a_score():
    shifts = maps([[1.0, -INF, 0.0], [3.0, -INF, -INF], [9.0, 8.0, 7.0]], (1,))
    found = pooled(shifts, torch.tensor([4, 4, -1]))
    expected = torch.tensor([[2.0, -INF, 0.0], [2.0, -INF, 0.0], [9.0, 8.0, 7.0]])
    assert torch.equal(found.score, expected)
    assert found.overlap.tolist() == [[2, 2, 2], [2, 2, 2], [1, 1, 1]]
    assert found.window == (1,)


def test_a_group_of_one_is_itself_and_equal_maps_keep_every_digit():
    score = torch.rand(5, 3, 3)
    shifts = Shifts(score, score.long(), (1, 1))
    assert torch.equal(pooled(shifts, torch.arange(5)).score, score)
    same = Shifts(score[:1].expand(7, 3, 3), torch.ones(7, 3, 3).long(), (1, 1))
    assert torch.equal(pooled(same, torch.zeros(7, dtype=torch.int64)).score, same.score)


def test_many_poor_maps_find_what_none_finds_alone():
    generator = torch.Generator().manual_seed(0)
    score = 4 * torch.randn(200, 21, generator=generator)
    score[:, 13] += 2
    shifts = Shifts(score, torch.ones(200, 21).long(), (10,))
    alone = (best_shift(shifts)[0] == 3).float().mean()
    together = best_shift(pooled(shifts, torch.zeros(200, dtype=torch.int64)))[0]
    assert alone < 0.3 and (together == 3).all()


def test_nothing_is_pooled_from_nothing():
    none = Shifts(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), (1,))
    assert pooled(none, torch.zeros(0, dtype=torch.int64)).score.shape == (0, 3)
    displacement, value = best_shift(none)
    assert displacement.shape == (0, 1) and value.shape == (0,)
    assert subpixel(none, displacement).shape == (0, 1)


def test_what_does_not_fit_is_refused():
    shifts = maps([[0.0, 1.0, 2.0]], (1,))
    with pytest.raises(ShapeError, match=r"score must be \(1, 5\) for the window \(2,\), not"):
        best_shift(maps([[0.0, 1.0, 2.0]], (2,)))
    with pytest.raises(ShapeError, match=r"overlap must be \(1, 3\)"):
        best_shift(Shifts(shifts.score, shifts.overlap[:, 1:], (1,)))
    with pytest.raises(ShapeError, match=r"displacement must be int64 \(1, 1\), not float32"):
        subpixel(shifts, torch.zeros(1, 1))
    with pytest.raises(ShapeError, match="a displacement must lie in the window"):
        subpixel(shifts, torch.tensor([[2]]))
    with pytest.raises(ShapeError, match=r"group must be int64 \(1,\), not int64 \(2,\)"):
        pooled(shifts, torch.zeros(2, dtype=torch.int64))
