import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch.nn.functional import one_hot, pad

from labelmend.alignment.correlation import correlate
from labelmend.alignment.score_maps import best_shift
from labelmend.alignment.scores import REGRESSION_SCORES, SCORES, score_shifts

CASES = [(name, False) for name in SCORES] + [(name, True) for name in REGRESSION_SCORES]
cases = st.sampled_from(CASES)
windowed = st.sampled_from([c for c in CASES if c[0] != "phase"])
seeds = st.integers(0, 2**31)
ways = st.sampled_from(["fft", "direct"])
spaces = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
windows = st.integers(0, 3)
planted = st.sampled_from([((64,), (6,)), ((20, 22), (3, 4)), ((11, 10, 12), (1, 2, 2))])


def draw(continuous, space, seed, batch=3, channels=3):
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(batch, channels, *space, generator=generator, dtype=torch.float64)
    label = torch.randint(0, channels, (batch, *space), generator=generator)
    if continuous:
        label = torch.randn(batch, channels, *space, generator=generator, dtype=torch.float64)
    share = torch.rand(batch, 1, generator=generator) * 1.5
    valid, known = (
        (torch.rand(batch, label[0, 0].numel() if continuous else label[0].numel(),
                    generator=generator) < share).view(batch, *space)
        for _ in range(2)
    )  # fmt: skip
    return z, label, valid, known


def same(found, expected, tolerance=1e-7):
    # Among few positions a variance can be close to 0, and what is divided by it loses digits.
    assert torch.equal(found.isfinite(), expected.isfinite())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=300)
@given(cases, planted, st.data(), seeds)
def test_a_planted_shift_is_found(case, planted, data, seed):
    (name, continuous), (space, window) = case, planted
    # The plain sum of products prefers much overlap, so a far place may be out of its reach.
    far = (1,) * len(window) if name == "correlation" else window
    shift = tuple(data.draw(st.integers(-w, w)) for w in far)
    generator = torch.Generator().manual_seed(seed)
    wide = [n + 2 * w for n, w in zip(space, window, strict=True)]
    # one long scene; the label was cut out of it at another place than the image
    if continuous:
        scene = torch.randn(2, 2, *wide, generator=generator)
        z = scene + 0.3 * torch.randn(scene.shape, generator=generator)
    else:
        scene = torch.randint(0, 3, (2, *wide), generator=generator)
        z = 4 * one_hot(scene, 3).movedim(-1, 1).float()
        z = z + torch.randn(z.shape, generator=generator)
    for axis, (n, w, d) in enumerate(zip(space, window, shift, strict=True), start=-len(space)):
        z = z.narrow(axis, w, n)
        scene = scene.narrow(axis, w + d, n)  # label(p − d) is what stands at p
    valid = torch.ones(2, *space, dtype=torch.bool)
    found = score_shifts(z, scene, valid, name, window, bins=4)
    assert best_shift(found)[0].tolist() == [list(shift)] * 2


@settings(max_examples=200)
@given(cases, st.integers(1, 3), st.integers(0, 2), st.data(), seeds, ways)
def test_a_label_that_moves_moves_its_map(case, dims, window, data, seed, way):
    name, continuous = case
    move = tuple(data.draw(st.integers(-2, 2)) for _ in range(dims))
    size = 3 if dims == 3 else 5
    z, _, _, known = draw(continuous, (size + 4,) * dims, seed)
    _, label, valid, _ = draw(continuous, (size,) * dims, seed + 1)
    label, valid = (pad(t, (2, 2) * dims) for t in (label, valid))  # room for the move
    there = [torch.roll(t, move, tuple(range(-dims, 0))) for t in (label, valid)]
    before, after = (
        score_shifts(z, *it, name, window + 2, known=known, least_overlap=0.2, way=way)
        for it in ((label, valid), there)
    )
    # Both maps, over the displacements of the moved label that lie in both windows.
    here = (..., *(slice(2, 2 * window + 3) for _ in move))
    shifted = (..., *(slice(2 + m, 2 * window + 3 + m) for m in move))
    same(after.score[here], before.score[shifted])
    assert torch.equal(after.overlap[here], before.overlap[shifted])


@given(windowed, spaces, windows, st.data(), seeds, ways)
def test_what_is_unknown_around_changes_nothing(case, space, window, data, seed, way):
    name, continuous = case
    z, label, valid, known = draw(continuous, space, seed)
    expected = score_shifts(z, label, valid, name, window, known=known, way=way)
    more = [data.draw(st.integers(0, 3)) for _ in range(2 * len(space))]
    z, label = pad(z, more, value=float("nan")), pad(label, more, value=255)
    valid, known = pad(valid, more), pad(known, more)
    found = score_shifts(z, label, valid, name, window, known=known, way=way)
    same(found.score, expected.score)
    assert torch.equal(found.overlap, expected.overlap)


@given(cases, spaces, windows, st.permutations(range(3)), seeds, ways)
def test_permuting_the_batch_permutes_the_maps(case, space, window, order, seed, way):
    name, continuous = case
    inputs = draw(continuous, space, seed)
    z, label, valid, known = inputs
    expected = score_shifts(z, label, valid, name, window, known=known, way=way)
    z, label, valid, known = (t[list(order)] for t in inputs)
    found = score_shifts(z, label, valid, name, window, known=known, way=way)
    same(found.score, expected.score[list(order)])  # transforms round by place in memory
    assert torch.equal(found.overlap, expected.overlap[list(order)])
    alone = score_shifts(z[:1], label[:1], valid[:1], name, window, known=known[:1], way=way)
    same(alone.score, found.score[:1])


@settings(max_examples=200)
@given(windowed, spaces, windows, st.sampled_from([0.0, 0.5, 1.0]), seeds)
def test_both_ways_agree(case, space, window, least, seed):
    name, continuous = case
    z, label, valid, known = draw(continuous, space, seed)
    maps = [
        score_shifts(
            z, label, valid, name, window, known=known, least_overlap=least, way=way, bins=3
        )
        for way in ("fft", "direct")
    ]
    same(maps[0].score, maps[1].score)
    assert torch.equal(maps[0].overlap, maps[1].overlap)


@settings(max_examples=200)
@given(cases, spaces, windows, seeds, ways)
def test_bounds(case, space, window, seed, way):
    name, continuous = case
    z, label, valid, known = draw(continuous, space, seed)
    found = score_shifts(z, label, valid, name, window, known=known, way=way)
    score = found.score[found.score.isfinite()]
    assert not found.score.isnan().any() and not (found.score == torch.inf).any()
    assert (found.overlap >= 0).all()
    if name in ("normalised", "phase"):
        assert (score.abs() <= 1 + 1e-9).all()
    elif name == "mutual_information":
        assert (score >= 0).all()
    elif name != "correlation":
        assert (score <= 1e-9).all()


@given(st.sampled_from(["normalised", "phase"]), spaces, windows, seeds, ways)
def test_brightness_and_contrast_of_an_image_change_nothing(name, space, window, seed, way):
    z, label, valid, known = draw(True, space, seed)
    expected = score_shifts(z, label, valid, name, window, known=known, way=way)
    found = score_shifts(5 * z + 3, label / 4 - 1, valid, name, window, known=known, way=way)
    same(found.score, expected.score)


@given(st.sampled_from(REGRESSION_SCORES), spaces, windows, seeds, ways)
def test_exchanging_both_turns_the_map_round(name, space, window, seed, way):
    one, other, valid, known = draw(True, space, seed)
    found = score_shifts(one, other, valid, name, window, known=known, way=way)
    turned = score_shifts(other, one, known, name, window, known=valid, way=way)
    same(turned.score.flip(tuple(range(1, turned.score.ndim))), found.score)


@given(spaces, windows, st.floats(-3, 3), seeds, ways)
def test_a_correlation_is_linear(space, window, factor, seed, way):
    one, other, _, _ = draw(True, space, seed)
    third = draw(True, space, seed + 1)[0]
    found = correlate(one + factor * third, other, window, way=way)
    expected = correlate(one, other, window, way=way)
    expected = expected + factor * correlate(third, other, window, way=way)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
