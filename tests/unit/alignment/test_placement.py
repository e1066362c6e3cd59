"""From scores to a decision: likelihoods, how sure, along which directions, and why not."""

import math

import numpy as np
import pytest
import torch

from labelmend.alignment.placement import belief, edge_length, place
from labelmend.alignment.score_maps import Shifts
from labelmend.alignment.scores import SCORES
from labelmend.errors import SettingsError, ShapeError
from labelmend.types import EMPTY, FLAT, IN_PLACE, MOVED, PARTLY, UNSURE

from . import oracle_placement as oracle

SPACES = [(9,), (5, 6), (4, 3, 5)]
WINDOWS = [(4,), (2, 3), (1, 2, 1)]
CODES = {
    "empty": EMPTY, "flat": FLAT, "in place": IN_PLACE,
    "moved": MOVED, "partly": PARTLY, "unsure": UNSURE,
}  # fmt: skip


def maps_of(score):
    window = tuple(n // 2 for n in score.shape[1:])
    return Shifts(score, torch.ones_like(score, dtype=torch.int64), window)


def random_of(seed):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- how much edge


@pytest.mark.parametrize("space", SPACES)
def test_edges_of_classes_are_counted(space):
    label = torch.randint(0, 3, (6, *space), generator=random_of(0))
    valid = torch.rand(6, *space, generator=random_of(1)) < 0.8
    label = torch.where(valid, label, 255)
    valid[0], valid[1] = True, False
    found = edge_length(label, valid)
    assert found.dtype == torch.float32
    expected = [oracle.edge_length(y.numpy(), v.numpy()) for y, v in zip(label, valid, strict=True)]
    assert found.tolist() == expected


@pytest.mark.parametrize("space", SPACES)
def test_edges_of_values_are_shares_of_their_range(space):
    label = torch.randn(6, 2, *space, generator=random_of(0), dtype=torch.float64)
    valid = torch.rand(6, *space, generator=random_of(1)) < 0.8
    label = torch.where(valid.unsqueeze(1), label, torch.nan)
    label[2, 1], valid[1] = 7.0, False
    found = edge_length(label, valid)
    expected = [oracle.edge_length(y.numpy(), v.numpy()) for y, v in zip(label, valid, strict=True)]
    torch.testing.assert_close(
        found.double(), torch.tensor(expected).double(), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(edge_length(5 * label - 3, valid), found, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- how likely


def scores_of(name, window, seed=0):
    score = torch.rand(5, *(2 * w + 1 for w in window), generator=random_of(seed)).double()
    if name in ("correlation", "normalised", "phase"):
        score = 2 * score - 1
    elif name != "mutual_information":
        score = -3 * score
    score[torch.rand(score.shape, generator=random_of(seed + 1)) < 0.2] = -torch.inf
    score[1] = -torch.inf
    score[2] = 0.0 if name not in ("normalised",) else 1.0
    return score


LIMITED = ("correlation", "mutual_information")
"""Scores that have no limit of their own; raw correlation cannot do without one."""
JUDGED = [(n, n in LIMITED) for n in SCORES] + [("mutual_information", False)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("name", "bounded"), JUDGED)
def test_likelihood_is_that_of_what_is_left_unexplained(name, bounded, window):
    score = scores_of(name, window)
    edges = torch.tensor([3.0, 4.0, 5.0, 0.0, 70.0])
    limit = torch.tensor([0.5, 2.0, 1.0, 1.0, 0.0]) if bounded else None
    found = belief(maps_of(score), name, edges, limit=limit, grain=2.5)
    for k in range(5):
        own = None if limit is None else float(limit[k])
        expected = oracle.belief(score[k].numpy(), name, float(edges[k]), own, 2.5)
        np.testing.assert_allclose(found.score[k].numpy(), expected, rtol=1e-6, atol=1e-9)
    assert not found.score.isnan().any() and found.window == window


def test_correlation_needs_its_limit():
    with pytest.raises(SettingsError, match="score_limit"):
        belief(maps_of(torch.zeros(1, 3)), "correlation", torch.ones(1))


@pytest.mark.parametrize("grain", [0.0, -1.0, math.nan])
def test_grain_must_be_above_0(grain):
    with pytest.raises(SettingsError, match="grain"):
        belief(maps_of(torch.zeros(1, 3)), "normalised", torch.ones(1), grain=grain)


def test_a_line_has_no_grain():
    score = torch.tensor([[0.1, 0.9, 0.3]])
    found = [belief(maps_of(score), "normalised", torch.ones(1), grain=g).score for g in (1.0, 9.0)]
    assert torch.equal(*found)


# ---------------------------------------------------------------- where


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("seed", range(12))
def test_it_is_a_loop_over_displacements(window, seed):
    shape = [2 * w + 1 for w in window]
    generator = random_of(seed)
    sharp = torch.tensor([0.0, 0.5, 2.0, 5.0, 20.0, 20.0, 20.0, 3.0, 8.0])
    likely = torch.randn(9, *shape, generator=generator, dtype=torch.float64)
    likely = likely * sharp.view(-1, *[1] * len(window))
    # ridges along the last axis, and places without any score
    likely[4] += 30 * torch.randn(shape[0], generator=generator).double().view(
        -1, *[1] * (len(shape) - 1)
    )
    likely[7, torch.rand(shape, generator=generator) < 0.3] = -torch.inf
    edges = torch.tensor([1.0] * 8 + [0.0])
    for prior, confidence, margin in ((2.0, 0.9, 3.0), (torch.inf, 0.6, 0.0), (8.0, 0.99, 1.0)):
        found = place(maps_of(likely), edges, prior=prior, confidence=confidence, margin=margin)
        for k in range(9):
            way, sure, gain, why = oracle.place(
                likely[k].numpy(), float(edges[k]), prior, confidence, margin
            )
            assert found.reason[k] == CODES[why], k
            assert tuple(found.displacement[k].tolist()) == way
            assert float(found.gain[k]) == pytest.approx(gain, rel=1e-6)
            if why != "flat":  # where nothing is said, nothing is said of how sure it is
                assert float(found.confidence[k]) == pytest.approx(sure, rel=1e-6, abs=1e-9)


def test_every_reason_was_seen_by_the_loop():
    """The cases above are of every kind, or they would prove less than they seem to."""
    seen = set()
    for seed in range(12):
        generator = random_of(seed)
        likely = 20 * torch.randn(9, 5, 7, generator=generator, dtype=torch.float64)
        likely[4] += 30 * torch.randn(5, generator=generator).double().view(-1, 1)
        likely[0] *= 0
        likely[1] *= 0.01
        likely[2, 2, 3] = 300
        found = place(maps_of(likely), torch.tensor([1.0] * 8 + [0.0]), prior=2.0)
        seen |= set(found.reason.tolist())
    assert seen >= {EMPTY, FLAT, IN_PLACE, MOVED, UNSURE}


def ridge(angle, sharp=40.0, window=8, at=(3.0, -2.0)):
    """Likelihoods of an edge along ``angle``: only what lies across it can be told."""
    ways = torch.stack(
        torch.meshgrid(*[torch.arange(-window, window + 1.0)] * 2, indexing="ij"), -1
    )
    across = torch.tensor([math.cos(angle), math.sin(angle)])
    off = ((ways - torch.tensor(at)) * across).sum(-1)
    return -sharp * off.square()[None], across


@pytest.mark.parametrize("degrees", [0, 15, 30, 45, 60, 90, 120, 160])
def test_a_ridge_moves_across_itself_only(degrees):
    likely, across = ridge(math.radians(degrees))
    found = place(maps_of(likely), torch.ones(1), prior=8.0)
    goal = (torch.tensor([3.0, -2.0]) * across).sum() * across
    if (goal.abs() < 0.5).all():
        assert not found.displacement.any()
    else:
        assert found.reason.item() == PARTLY
        # whole positions: as near to the foot of the perpendicular as they come
        assert (found.displacement[0] - goal).abs().max() <= 1
    assert found.confidence >= 0.9 or found.reason.item() != PARTLY


def test_a_map_with_two_far_peaks_moves_nothing():
    likely = torch.full((1, 17, 17), -100.0)
    likely[0, 2, 3] = likely[0, 14, 12] = 0.0
    found = place(maps_of(likely), torch.ones(1), prior=torch.inf)
    assert found.reason.item() == UNSURE and not found.displacement.any() and found.gain == 0


def test_the_prior_prefers_short_moves():
    likely = torch.full((1, 41), -1e6)
    likely[0, 0], likely[0, 24] = 2.0, 0.0  # −20 and 4
    assert place(maps_of(likely), torch.ones(1), confidence=0.5).displacement.item() == -20
    found = place(maps_of(likely), torch.ones(1), confidence=0.5, prior=4.0)
    assert found.displacement.item() == 4


def test_a_gain_below_the_margin_moves_nothing():
    likely = torch.tensor([[-99.0, -99.0, -99.0, 0.0, 2.9, -99.0, -99.0]])
    still = place(maps_of(likely), torch.ones(1), margin=3.0)
    assert not still.displacement.any() and still.reason.item() == IN_PLACE and still.gain == 0
    away = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.9]])
    away = place(maps_of(away), torch.ones(1), margin=3.0, confidence=0.5)
    assert not away.displacement.any() and away.reason.item() == UNSURE
    moved = place(maps_of(likely), torch.ones(1), margin=2.5)
    assert moved.displacement.item() == 1 and moved.gain.item() == pytest.approx(2.9)


def test_where_the_old_place_has_no_score_any_gain_is_enough():
    likely = torch.tensor([[-99.0, -99.0, -torch.inf, -99.0, 5.0]])
    found = place(maps_of(likely), torch.ones(1))
    assert found.displacement.item() == 2 and found.gain == torch.inf


def test_no_samples_are_no_places():
    found = place(maps_of(torch.zeros(0, 3, 5)), torch.zeros(0))
    assert found.displacement.shape == (0, 2) and found.confidence.shape == (0,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prior": 0.0}, "prior"),
        ({"prior": math.nan}, "prior"),
        ({"confidence": 0.0}, "confidence"),
        ({"confidence": 1.1}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
        ({"margin": -0.1}, "margin"),
        ({"margin": math.nan}, "margin"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(SettingsError, match=words):
        place(maps_of(torch.zeros(1, 3)), torch.ones(1), **options)


def test_edges_must_be_one_per_map():
    with pytest.raises(ShapeError, match="edges"):
        place(maps_of(torch.zeros(2, 3)), torch.ones(1))
