import numpy as np
import pytest
import torch

from labelmend.alignment.limits import score_limit
from labelmend.alignment.scores import SCORES, score_shifts

from . import oracle_placement as oracle

SPACES = [(11,), (6, 7), (4, 3, 5)]
LIMITED = ("correlation", "mutual_information")


def draw(space, continuous, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(5, 3, *space, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 3, (5, *space), generator=generator)
    if continuous:
        label = torch.randn(5, 3, *space, generator=generator, dtype=torch.float64)
    valid = torch.rand(5, *space, generator=generator) < 0.7
    known = torch.rand(5, *space, generator=generator) < 0.8
    valid[1] = False
    if not continuous:
        label[2][label[2] == 1] = 0  # a class that the label does not have
        label = torch.where(valid, label, 255)
    else:
        label = torch.where(valid.unsqueeze(1), label, torch.nan)
    return z, label, valid, known


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("name", "continuous"),
    [("correlation", False), ("correlation", True), ("mutual_information", False)],
)
def test_it_is_what_a_loop_finds(name, continuous, space):
    z, label, valid, known = draw(space, continuous)
    z = torch.where(known.unsqueeze(1), z, torch.nan)
    found = score_limit(z, label, valid, name, known)
    values = z if continuous else z.softmax(1)
    for k in range(5):
        one = (t[k].numpy() for t in (values, label, valid))
        expected = oracle.score_limit(*one, name, known[k].numpy())
        np.testing.assert_allclose(found[k], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LIMITED)
@pytest.mark.parametrize("seed", range(5))
def test_no_score_exceeds_it(name, seed):
    z, label, valid, _ = draw((6, 7), False, seed)
    limit = score_limit(z, label, valid, name)
    found = score_shifts(z, label, valid, name, 3, least_overlap=1.0).score
    # mutual information is bounded by what is shared; all is, without displacement
    at = found[:, 3, 3] if name == "mutual_information" else found.flatten(1).amax(1)
    assert (at <= limit + 1e-6).all()


@pytest.mark.parametrize("name", LIMITED)
def test_a_perfect_prediction_reaches_it(name):
    label = torch.randint(0, 3, (2, 9, 9), generator=torch.Generator().manual_seed(0))
    z = 60 * torch.nn.functional.one_hot(label, 3).movedim(-1, 1).double()
    valid = torch.ones_like(label) > 0
    limit = score_limit(z, label, valid, name)
    score = score_shifts(z, label, valid, name, 0).score.flatten()
    torch.testing.assert_close(score, limit.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SCORES)
def test_who_needs_one(name):
    z, label, valid, _ = draw((6, 7), False)
    assert (score_limit(z, label, valid, name) is not None) == (name in LIMITED)
    z, label, valid, _ = draw((6, 7), True)
    assert (score_limit(z, label, valid, name) is not None) == (name == "correlation")


def test_a_label_that_holds_nothing_has_none():
    z, label = torch.zeros(2, 2, 5), torch.zeros(2, 5, dtype=torch.int64)
    valid = torch.tensor([[True] * 5, [False] * 5])
    for name in LIMITED:
        assert score_limit(z, label, valid, name).tolist() == [0.0, 0.0]
