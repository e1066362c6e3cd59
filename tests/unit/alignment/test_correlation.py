import pytest
import torch

from labelmend.alignment.correlation import (
    Field,
    Frame,
    correlate,
    each,
    fast_size,
    inverted,
    make_frame,
    outer,
    total,
)
from labelmend.errors import SettingsError, ShapeError

from . import oracle_scores as oracle

CASES = [
    ((1,), (0,)),
    ((1,), (2,)),
    ((9,), (3,)),
    ((5,), (9,)),
    ((6, 7), (2, 3)),
    ((4, 3), (6, 0)),
    ((1, 8), (1, 7)),
    ((4, 3, 5), (1, 4, 2)),
]
WAYS = ("fft", "direct", "auto")


def draw(space, batch=2, channels=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, *space)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("space", "window"), CASES)
def test_it_is_a_loop_over_moved_fields(space, window, way):
    one, other = draw(space)
    found = correlate(one, other, window, way=way)
    assert found.shape == (2, 3, *(2 * w + 1 for w in window))
    torch.testing.assert_close(found, oracle.correlate(one, other, window), rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_it_moves_the_second_by_plus_d_along_each_axis(way):
    one, other = torch.zeros(2, 1, 1, 5, 6)
    one[..., 4, 1] = 2
    other[..., 2, 2] = 3
    expected = torch.zeros(1, 1, 7, 5)
    expected[..., 2 + 3, -1 + 2] = 6
    found = correlate(one, other, (3, 2), way=way)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [7, 8, 14])
def test_opposite_borders_never_meet(size, way):
    # 14 and 7 + 7 are fast sizes themselves, so that there is no room to spare
    one, other = torch.zeros(2, 1, 1, size)
    one[..., 0], other[..., -1] = 1, 1
    found = correlate(one, other, size - 1, way=way)[0, 0]
    expected = torch.zeros(2 * size - 1)
    expected[0] = 1  # only the move by −(size − 1) brings them together
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised(dtype, way):
    one, other = draw((10, 11), dtype=torch.float32)
    one, other = one.to(dtype), other.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = correlate(one, other, 3, way=way)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, oracle.correlate(one.float(), other.float(), (3, 3)), rtol=0, atol=1e-4
    )


def test_one_of_double_precision_makes_it_double():
    one, other = draw((8,))
    assert correlate(one, other.half(), 1).dtype == torch.float64


def test_single_precision_is_enough_at_full_size():
    one, other = draw((256, 256), batch=1, channels=1)
    found = correlate(one.float(), other.float(), 8, way="fft")
    assert found.dtype == torch.float32
    true = correlate(one, other, 8, way="direct")
    assert (found - true).abs().max() / (one.norm() * other.norm()) < 1e-7


@pytest.mark.parametrize("way", ["fft", "direct"])
def test_it_can_be_differentiated(way):
    one, other = draw((5, 4), batch=1, channels=2)
    towards = torch.randn(1, 2, 3, 5, dtype=torch.float64)
    slopes = []
    for function in (lambda a, b: correlate(a, b, (1, 2), way=way), None):
        a, b = one.clone().requires_grad_(), other.clone().requires_grad_()
        maps = function(a, b) if function else oracle.correlate(a, b, (1, 2))
        slopes.append(torch.autograd.grad((towards * maps).sum(), (a, b)))
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["fft", "direct"])
def test_inputs_stay_as_they_are(way):
    one, other = draw((5, 4))
    copies = one.clone(), other.clone()
    correlate(one, other, 2, way=way)
    assert torch.equal(one, copies[0]) and torch.equal(other, copies[1])


@pytest.mark.parametrize("way", ["fft", "direct"])
def test_strides_do_not_matter(way):
    one, other = draw((5, 6))
    other_way_round = one.transpose(2, 3).contiguous().transpose(2, 3)
    found = correlate(other_way_round, other, 2, way=way)
    torch.testing.assert_close(found, correlate(one, other, 2, way=way), rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize(("space", "window"), CASES)
def test_a_field_of_ones_is_one_that_says_nothing(space, window, way):
    frame = make_frame(space, window, way=way)
    some, ones = Field(draw(space)[0], frame), Field(torch.ones(2, 3, *space).double(), frame)
    silent = Field(None, frame)
    for found, expected in (
        (each(some, silent), each(some, ones)),
        (each(silent, some), each(ones, some)),
        (each(silent, silent).expand(2, 3, *frame.shifts), each(ones, ones)),
        (total([(some, silent)]), each(some, ones).sum(1)),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_sums_over_ones_lose_no_digits_to_what_is_outside():
    values = torch.full((1, 1, 64), 1e-3)
    values[..., :32] = 1e6
    frame = make_frame((64,), 63)
    found = each(Field(values, frame), Field(None, frame))[0, 0, 63 + 40]
    torch.testing.assert_close(found, torch.tensor(24e-3), rtol=1e-6, atol=0)


@pytest.mark.parametrize("way", ["fft", "direct"])
def test_sums_and_tables_are_made_of_single_correlations(way):
    frame = make_frame((5, 6), (2, 1), way=way)
    a, b = (Field(v, frame) for v in draw((5, 6)))
    c, d = (Field(v, frame) for v in draw((5, 6), channels=1, seed=1))
    silent = Field(None, frame)
    expected = each(a, b).sum(1) + each(c, d)[:, 0] + each(silent, a).sum(1)
    torch.testing.assert_close(total([(a, b), (c, d), (silent, a)]), expected, rtol=0, atol=1e-11)
    table = outer(a, b)
    assert table.shape == (2, 3, 3, 5, 3)
    for i in range(3):
        torch.testing.assert_close(table[:, i, i], each(a, b)[:, i], rtol=0, atol=1e-11)
        row = each(Field(a.given[:, i : i + 1], frame), b)
        torch.testing.assert_close(table[:, i], row, rtol=0, atol=1e-11)


def test_a_field_of_one_channel_or_sample_goes_with_all():
    frame = make_frame((5,), 2)
    (a, b), (one, _) = draw((5,)), draw((5,), batch=1, channels=1, seed=1)
    expected = each(Field(a, frame), Field(one.expand_as(b).contiguous(), frame))
    torch.testing.assert_close(
        each(Field(a, frame), Field(one, frame)), expected, rtol=0, atol=1e-12
    )


def test_a_spectrum_and_its_inverse_are_a_correlation():
    frame = make_frame((5, 4), (2, 7), way="fft")
    one, other = (Field(v, frame) for v in draw((5, 4)))
    assert inverted(one.spectrum * other.conjugate, frame).shape == (2, 3, 5, 15)
    torch.testing.assert_close(other.conjugate, other.spectrum.conj().resolve_conj())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(0, 2, 5), (2, 0, 5)])
def test_no_fields_have_no_correlation(shape, way):
    none = torch.ones(shape)
    assert correlate(none, none, 1, way=way).shape == (*shape[:2], 3)


def test_a_field_of_ones_has_no_spectrum():
    with pytest.raises(ValueError, match="no spectrum"):
        _ = Field(None, make_frame((5,), 1)).spectrum


def test_fast_sizes_are_the_next_with_small_factors():
    small = sorted(
        2**a * 3**b * 5**c * 7**d
        for a in range(10)
        for b in range(7)
        for c in range(5)
        for d in range(4)
    )
    for least in range(1, 400):
        assert fast_size(least) == next(s for s in small if s >= least)


def test_a_transform_leaves_room_for_the_window_and_no_more_than_that():
    assert Frame((256, 100), (32, 500), direct=False).padded == (288, 200)


@pytest.mark.parametrize(
    ("window", "space"), [((1,), (4, 4)), ((1, 1, 1), (4, 4)), ((-1, 2), (4, 4)), (-1, (4,))]
)
def test_a_window_that_does_not_fit_is_refused(window, space):
    one, other = draw(space)
    with pytest.raises(ShapeError, match="window must be one whole number of 0 or more per axis"):
        correlate(one, other, window)


def test_fields_that_do_not_fit_are_refused():
    one, other = draw((4, 4))
    with pytest.raises(ShapeError, match=r"not \(2, 3, 4, 4\) and \(2, 3, 3, 4\)"):
        correlate(one, other[:, :, 1:], 1)
    with pytest.raises(ShapeError, match="two fields must both be"):
        correlate(one[0, 0], other[0, 0], 1)


def test_an_empty_space_is_refused():
    with pytest.raises(ShapeError, match=r"at least, unlike \(3, 0\)"):
        correlate(torch.ones(1, 1, 3, 0), torch.ones(1, 1, 3, 0), 1)


def test_an_unknown_way_is_refused():
    with pytest.raises(SettingsError, match="unknown way 'slow'; use one of auto, fft, direct"):
        correlate(*draw((4,)), 1, way="slow")
