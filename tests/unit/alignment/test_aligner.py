"""Labels put in place by whole positions: what moves, what does not, and why."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from labelmend.alignment.aligner import ShiftAligner, compared_edges, moved, says_nothing
from labelmend.alignment.placement import Placement, edge_length
from labelmend.alignment.score_maps import together
from labelmend.alignment.scores import REGRESSION_SCORES, SCORES
from labelmend.alignment.shifts import shift
from labelmend.errors import SettingsError, ShapeError
from labelmend.types import EMPTY, FLAT, IN_PLACE, MOVED, PARTLY, UNSURE

SPACES = [(96,), (40, 44), (20, 22, 21)]
NEAR = ShiftAligner(window=4)


def blobs(space, seed=0, batch=3):
    """Two boxes of different sizes well inside, somewhere else in every sample."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.zeros(batch, *space, dtype=torch.int64)
    for one in label:
        for size in (3, 5):
            start = [int(torch.randint(4, n - size - 4, (), generator=generator)) for n in space]
            one[tuple(slice(a, a + size + i) for i, a in enumerate(start))] = 1
    return label


def logits_of(label, classes=2, noise=1.0, seed=0):
    z = 6 * one_hot(label, classes).movedim(-1, 1).float()
    return z + noise * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))


def everywhere(label):
    return torch.ones_like(label, dtype=torch.bool)


def plane(space, normal, off):
    lines = [torch.arange(n) - (n - 1) / 2 for n in space]
    at = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).float() @ torch.tensor(normal)
    return (at > off).long().unsqueeze(0)


# ---------------------------------------------------------------- what moves


@pytest.mark.parametrize("space", SPACES)
def test_objects_are_put_in_place(space):
    true = blobs(space)
    ways = torch.tensor([[3] * len(space), [-2] * len(space), [0] * len(space)])
    label, valid = shift(true, everywhere(true), -ways)
    found = NEAR(logits_of(true), torch.where(valid, label, 255), valid)
    assert torch.equal(found.displacement, ways.float())
    assert found.reason.tolist() == [MOVED, MOVED, IN_PLACE]
    assert (found.confidence > 0.99).all() and (found.gain[:2] > 3).all() and found.gain[2] == 0
    expected = shift(label, valid, ways)
    assert torch.equal(found.label, expected[0]) and torch.equal(found.valid, expected[1])
    assert found.matrix is None


@pytest.mark.parametrize(
    ("score", "continuous"),
    [(s, False) for s in SCORES] + [(s, True) for s in REGRESSION_SCORES],
)
def test_every_score_puts_in_place(score, continuous):
    # phase and raw correlation want something everywhere
    true = torch.randint(0, 3, (2, 40, 44), generator=torch.Generator().manual_seed(0))
    ways = torch.tensor([[3, -1], [-2, 2]])
    label, valid = shift(true, everywhere(true), -ways)
    z = logits_of(true, 3)
    if continuous:
        label, z = one_hot(label, 3).movedim(-1, 1).float(), z / 6
    found = ShiftAligner(window=4, score=score)(z, label, valid)
    assert torch.equal(found.displacement, ways.float())


def test_a_window_may_differ_by_axis():
    true = blobs((40, 44))
    label, valid = shift(true, everywhere(true), torch.tensor([[-3, -3]] * 3))
    found = ShiftAligner(window=(4, 0))(logits_of(true), label, valid)
    assert not found.displacement[:, 1].any()


def test_a_group_adds_up():
    true = blobs((40, 44), batch=1).repeat(48, 1, 1)
    label, valid = shift(true, everywhere(true), torch.tensor([[-3, 2]] * 48))
    noise = torch.randn(48, 2, 40, 44, generator=torch.Generator().manual_seed(0))
    z = 2 * one_hot(true, 2).movedim(-1, 1) + 1.5 * noise
    alone = NEAR.find(z, label, valid)
    group = torch.tensor([7] * 24 + [2] * 24)
    both = NEAR.find(z, label, valid, group=group)
    right = torch.tensor([3, -2])
    assert (both.displacement == right).all()
    assert (alone.displacement == right).all(1).float().mean() < 0.5
    for part in (both.confidence, both.gain, both.reason):
        assert len(part[:24].unique()) == len(part[24:].unique()) == 1
    edges = edge_length(label, valid)
    likely = NEAR.likely(z, label, valid, edges).score
    total = torch.stack([likely[:24].sum(0), likely[24:].sum(0)])
    score, way = total.flatten(1), both.displacement[[0, 24]] + 4
    prior = 0.5 * right.square().sum() / 2.0**2
    gain = score.gather(1, (way[:, :1] * 9 + way[:, 1:])) - score[:, 40:41] - prior
    torch.testing.assert_close(gain[:, 0], both.gain[[0, 24]], rtol=1e-3, atol=1e-2)


def test_an_empty_label_goes_where_its_group_goes():
    label = blobs((40, 44), batch=1).repeat(2, 1, 1)
    z = logits_of(label.roll(3, 1))
    label[1] = 0
    found = NEAR(z, label, everywhere(label), group=torch.tensor([4, 4]))
    assert found.displacement.tolist() == [[3.0, 0.0]] * 2 and found.reasons == ("moved",) * 2
    assert not found.valid[1, :3].any() and found.valid[1, 3:].all()


# ---------------------------------------------------------------- the aperture


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 110, 135, 160])
def test_a_straight_edge_moves_across_itself_only(degrees):
    normal = [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]
    true, label = plane((64, 64), normal, 3.5), plane((64, 64), normal, 0.0)
    found = ShiftAligner(window=8)(logits_of(true), label, everywhere(label))
    assert found.reason.item() in (PARTLY, MOVED)
    goal = 3.5 * torch.tensor(normal)
    assert (found.displacement[0] - goal).abs().max() <= 1
    if degrees % 90 == 0:
        assert found.reason.item() == PARTLY
        along = 1 if degrees == 0 else 0
        assert found.displacement[0, along] == 0


@pytest.mark.parametrize("normal", [[1.0, 0, 0], [0, 0, 1.0], [0.6, 0.8, 0], [0.58, 0.58, 0.57]])
def test_a_plane_moves_across_itself_only(normal):
    true, label = plane((20, 22, 21), normal, 2.0), plane((20, 22, 21), normal, 0.0)
    found = NEAR(logits_of(true), label, everywhere(label))
    assert found.reason.item() == PARTLY
    assert (found.displacement[0] - 2 * torch.tensor(normal)).abs().max() <= 1
    assert 0.9 <= found.confidence.item() <= 1


def test_a_bar_through_a_volume_moves_along_two_axes():
    true = torch.zeros(1, 20, 22, 21, dtype=torch.int64)
    true[:, 8:14, :, 6:12] = 1
    label = true.roll((-2, 2), (1, 3))
    found = NEAR(logits_of(true), label, everywhere(label))
    assert found.displacement.tolist() == [[2.0, 0.0, -2.0]] and found.reason.item() == PARTLY


@pytest.mark.parametrize("period", [4, 6, 8])
@pytest.mark.parametrize("kind", ["line", "stripes", "checks"])
def test_a_pattern_that_repeats_does_not_move(kind, period):
    one = (torch.arange(96) // (period // 2)) % 2
    label = {
        "line": one[None],
        "stripes": one.expand(1, 96, 96),
        "checks": one[None, :, None] ^ one[None, None],
    }[kind]
    found = ShiftAligner(window=8)(
        logits_of(label.roll(period // 2, -1), noise=0.3), label, everywhere(label)
    )
    assert found.reason.item() == UNSURE and not found.displacement.any() and found.gain == 0
    assert torch.equal(found.label, label) and found.valid.all()


# ---------------------------------------------------------------- what does not, and why


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("space", SPACES)
def test_nothing_to_go_by_leaves_a_label_as_it_is(score, space):
    label = blobs(space, batch=6)
    label[0], label[1] = 0, 1
    valid = everywhere(label)
    valid[2] = False
    z = logits_of(label)
    z[3], z[4], z[5] = 0, torch.nan, torch.inf
    found = ShiftAligner(window=3, score=score)(z, label, valid)
    assert found.reason[:3].tolist() == [EMPTY] * 3
    assert found.reason[3:].tolist() == [FLAT] * 3
    assert not found.displacement.any() and not found.gain.any()
    assert torch.equal(found.label[3:], label[3:]) and torch.equal(found.valid, valid)
    for tensor in (found.displacement, found.confidence, found.gain):
        assert tensor.isfinite().all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


@pytest.mark.parametrize("score", SCORES)
def test_where_nothing_is_predicted_no_label_leaves_the_image(score):
    # a loss is less, the more of what was not predicted moves out of view
    label = torch.zeros(2, 40, 44, dtype=torch.int64)
    label[0, :8], label[1, :, -5:] = 1, 1
    z = torch.zeros(2, 2, 40, 44)
    z[:, 0] = 5 + torch.randn(2, 40, 44, generator=torch.Generator().manual_seed(0))
    z[:, 1] = z[:, 0] - 5  # the same of every position, but for rounding
    for own in (z, z.double()):
        found = ShiftAligner(window=8, score=score)(own, label, everywhere(label))
        assert found.reason.tolist() == [FLAT] * 2 and not found.displacement.any()
    known = everywhere(label)
    known[:, 30:] = False
    z[:, 1, 30:] = 9.0
    found = ShiftAligner(window=8, score=score)(z, label, everywhere(label), known=known)
    assert found.reason.tolist() == [FLAT] * 2


def test_a_flat_prediction_has_no_say_in_its_group():
    true = blobs((40, 44), batch=1).repeat(2, 1, 1)
    label, valid = shift(true, everywhere(true), torch.tensor([[-3, 2]] * 2))
    z = logits_of(true)
    z[1] = 0
    for score in ("normalised", "cross_entropy"):
        aligner = ShiftAligner(window=4, score=score)
        alone = aligner.find(z[:1], label[:1], valid[:1])
        both = aligner.find(z, label, valid, group=torch.tensor([1, 1]))
        assert both.displacement.tolist() == [[3, -2]] * 2
        torch.testing.assert_close(both.gain, alone.gain.repeat(2), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("classes", [True, False])
def test_what_says_nothing(classes):
    z = torch.zeros(5, 3, 7, 7)
    z[1] = torch.tensor([1e4, -3.0, 1e-4]).view(3, 1, 1)
    z[2, :, 2, 2] = 4.0
    z[3, 1, 0, 0] = 1e-3
    z[4, 0, 0, 0] = torch.nan
    known = torch.ones(5, 7, 7, dtype=torch.bool)
    assert says_nothing(z, None, classes=classes).tolist() == [True, True, classes, False, False]
    known[3:, 0, 0] = False
    known[2, 2, 2] = False
    assert says_nothing(z, known, classes=classes).all()


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@given(
    about=st.sampled_from([0.0, 1.0, -3.7, 1e6]),
    most=st.integers(0, 40),
    odd=st.dictionaries(st.integers(0, 799), st.sampled_from([1e3, -1e9, math.nan])),
)
def test_a_quick_look_says_nothing_else_than_a_long_one(classes, masked, about, most, odd):
    """Values that rounding may or may not explain, and others far larger or none, anywhere."""
    drawn = torch.Generator().manual_seed(most)
    steps = torch.randint(-most, most + 1, (800,), generator=drawn)
    z = about + torch.finfo(torch.float32).eps * abs(about) * steps
    for place, value in odd.items():
        z[place] = value
    z = z.view(2, 2, 200)
    known = torch.rand(2, 200, generator=drawn) < 0.5
    wanted = []
    for sample, over in zip(z, known, strict=True):
        values = sample[:, over] if masked else sample
        values = values[1:] - values[:1] if classes else values
        largest = 16 * torch.finfo(torch.float32).eps * values.abs().amax(1)
        wanted.append(bool((values.amax(1) - values.amin(1) <= largest).all()))
    assert says_nothing(z, known if masked else None, classes=classes).tolist() == wanted


def test_flat_continuous_labels_and_predictions():
    said = torch.randn(3, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    said[0] = 5.0
    seen = said.roll(2, 2)
    seen[1] = 7.0
    found = NEAR(seen, said, torch.ones(3, 20, 20) > 0)
    assert found.reason.tolist() == [EMPTY, FLAT, MOVED]


def test_noise_moves_nothing():
    label = blobs((40, 44), batch=32)
    z = torch.randn(32, 2, 40, 44, generator=torch.Generator().manual_seed(0))
    found = NEAR(z, label, everywhere(label))
    assert (found.reason == UNSURE).float().mean() > 0.9


# ---------------------------------------------------------------- smaller predictions


@pytest.mark.parametrize("space", SPACES)
def test_edges_are_counted_where_they_can_be_compared(space):
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 2, (4, *space), generator=generator)
    valid = torch.rand(4, *space, generator=generator) < 0.9
    known = torch.zeros_like(valid)
    known[(slice(None), *(slice(n // 3, 2 * n // 3) for n in space))] = True
    known[3] = False
    near = torch.zeros_like(valid)
    near[(slice(None), *(slice(max(n // 3 - 2, 0), 2 * n // 3 + 2) for n in space))] = True
    near[3] = False
    found = compared_edges(label, valid, known, 2)
    share = (valid & known).flatten(1).sum(1) / (valid & near).flatten(1).sum(1).clamp(min=1)
    torch.testing.assert_close(found, edge_length(label, valid & near) * share)
    whole = torch.ones_like(valid)
    assert torch.equal(compared_edges(label, valid, whole, 2), edge_length(label, valid))


def test_what_lies_beyond_reach_is_no_evidence():
    true = blobs((48, 48), batch=1)
    label = torch.zeros(1, 96, 96, dtype=torch.int64)
    label[:, 24:72, 24:72] = true
    known = torch.zeros(1, 96, 96, dtype=torch.bool)
    known[:, 24:72, 24:72] = True
    more = label.clone()
    more[:, :12] = torch.arange(96) % 2  # far from all that is known
    z = logits_of(label.roll((2, 1), (1, 2)))
    one, other = (NEAR(z, y, everywhere(y), known=known) for y in (label, more))
    assert torch.equal(one.displacement, torch.tensor([[2.0, 1.0]]))
    assert torch.equal(one.displacement, other.displacement)
    torch.testing.assert_close(one.gain, other.gain)


# ---------------------------------------------------------------- options and parts


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score": "normalized"}, "'normalised'"),
        ({"prior": -1.0}, "prior"),
        ({"confidence": 2.0}, "confidence"),
        ({"margin": -1.0}, "margin"),
        ({"grain": 0.0}, "grain"),
        ({"least_overlap": 1.5}, "least_overlap"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    label = blobs((40, 44))
    with pytest.raises(SettingsError, match=words):
        ShiftAligner(**options)(logits_of(label), label, everywhere(label))


@pytest.mark.parametrize("window", [-1, (1, 2, 3), (), 2.0, None])
def test_windows_that_do_not_fit_are_refused(window):
    label = blobs((40, 44))
    given = (logits_of(label), label, everywhere(label))
    for known in (None, everywhere(label)):
        with pytest.raises(ShapeError, match="window"):
            ShiftAligner(window=window)(*given, known=known)


def test_a_window_may_be_a_whole_number_of_numpy():
    label = blobs((40, 44))
    given = (logits_of(label), label, everywhere(label))
    found = ShiftAligner(window=np.int64(3))(*given, known=everywhere(label))
    assert torch.equal(found.label, ShiftAligner(window=3)(*given).label)


@pytest.mark.parametrize("known", [False, True])
def test_masks_of_another_shape_are_refused_before_anything_is_measured(known):
    label = blobs((40, 44))
    valid = everywhere(label)[:, 1:]
    with pytest.raises(ShapeError, match="valid must be"):
        ShiftAligner(3)(logits_of(label), label, valid, known=valid if known else None)


def test_groups_must_be_one_per_sample():
    label = blobs((40, 44))
    with pytest.raises(ShapeError, match="group"):
        NEAR(logits_of(label), label, everywhere(label), group=torch.tensor([1]))


def test_the_prior_is_half_the_window_unless_given():
    label = blobs((40, 44))
    true = label.roll(3, 1)
    given = (logits_of(true), label, everywhere(label))
    own, said = (ShiftAligner(window=6, prior=p).find(*given) for p in (None, 3.0))
    assert torch.equal(own.gain, said.gain)
    assert (ShiftAligner(window=6, prior=0.05).find(*given).gain < own.gain).all()


def test_sums_over_groups():
    edges = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert together(edges, torch.tensor([5, -1, 5, 0])).tolist() == [5.0, 2.0, 5.0, 8.0]


def test_moved_says_what_was_found():
    label = blobs((40, 44))
    found = Placement(
        torch.tensor([[1, 0], [0, 0], [-2, 5]]),
        torch.tensor([0.9, 0.1, 1.0]),
        torch.tensor([4.0, 0.0, 9.0]),
        torch.tensor([MOVED, UNSURE, MOVED], dtype=torch.uint8),
    )
    done = moved(label, everywhere(label), found)
    expected = shift(label, everywhere(label), found.displacement)
    assert torch.equal(done.label, expected[0]) and torch.equal(done.valid, expected[1])
    assert done.confidence is found.confidence and done.gain is found.gain
    assert done.reasons == ("moved", "no place is clearly the best", "moved")
    assert done.displacement.dtype == torch.float32


def test_no_samples_are_no_labels():
    label = blobs((40, 44))[:0]
    found = NEAR(torch.zeros(0, 2, 40, 44), label, everywhere(label), known=everywhere(label))
    assert found.label.shape == (0, 40, 44) and found.reasons == ()
