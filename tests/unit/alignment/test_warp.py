"""A network bends labels to predictions: nothing at first, what was planted in the end, once."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from labelmend.alignment.affine import rotation_matrix, warp_affine
from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.criterion import AlignedLoss
from labelmend.alignment.fields import (
    compose_fields,
    field_of,
    jacobian_determinant,
    warp_field,
)
from labelmend.alignment.parts import ClassAligner, PatchAligner
from labelmend.alignment.placement import edge_length
from labelmend.alignment.shifts import shift
from labelmend.alignment.smoothness import (
    bending_energy,
    folding,
    gradient_energy,
    mean_displacement,
    size_energy,
)
from labelmend.alignment.transform_search import TransformAligner
from labelmend.alignment.velocity import integrate
from labelmend.alignment.warp import WarpAligner, misfit, readings
from labelmend.errors import SettingsError, ShapeError
from labelmend.types import MOVED, Alignment

from . import oracle_warp as oracle
from .warp_scenes import Says, bent_scene, field_network, learn, shifted_scene, stirred

SPACES = [(60,), (24, 28), (12, 13, 14)]
NEAR = ShiftAligner(window=4, confidence=0.5)
FIELDS = ("label", "valid", "confidence", "gain", "reason")


def plain(space, *, continuous=False, batch=3, channels=None, seed=0, noise=0.5):
    """Labels off by shifts, and predictions that show where they belong."""
    generator = torch.Generator().manual_seed(seed)
    channels = channels or 2
    if continuous:
        label = torch.randn(batch, channels, *space, generator=generator)
        seen = 2 * label.roll(2, -1) + 3
    else:
        label = torch.randint(0, channels, (batch, *space), generator=generator)
        seen = 6 * one_hot(label.roll(2, -1), channels).movedim(-1, 1).float()
    seen = seen + noise * torch.randn(seen.shape, generator=generator)
    valid = torch.rand(batch, *space, generator=generator) < 0.95
    return seen, label, valid


class Answers(nn.Module):
    """A network that answers with a tensor, which keeps its derivative."""

    def __init__(self, field: torch.Tensor) -> None:
        super().__init__()
        self.forward = lambda images: field


def flow_of(*values, space):
    """One velocity everywhere, to be said by a network."""
    return torch.tensor(values).view(1, len(values), *[1] * len(space)).float()


# ---------------------------------------------------------------- at the start


@pytest.mark.parametrize("moves", ["label", "prediction"])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_at_first_labels_are_where_the_search_puts_them_to_the_bit(space, continuous, moves, noise):
    given = plain(space, continuous=continuous, channels=3, noise=noise)
    found = NEAR(*given)
    assert (found.displacement != 0).any()
    network = field_network(len(space), continuous=continuous, channels=3)
    # Without a margin, so that the least rounding would show.
    moved = WarpAligner(network, NEAR, margin=0.0, moves=moves)(*given)
    for name in FIELDS:
        assert torch.equal(getattr(moved, name), getattr(found, name)), name
    if moves == "prediction":
        assert torch.equal(moved.displacement, found.displacement) and not moved.carry.any()
    else:
        by = found.displacement.view(3, -1, *[1] * len(space))
        assert torch.equal(moved.displacement, by.expand(-1, -1, *space)) and moved.carry is None


def test_at_first_labels_that_were_turned_are_as_the_search_turned_them():
    label = torch.zeros(1, 48, 48, dtype=torch.int64)
    label[0, 15:25, 26:34], label[0, 25:30, 20:40] = 1, 1
    valid = label >= 0
    there, _ = warp_affine(label, valid, rotation_matrix(torch.tensor([0.12]), (48, 48)))
    seen = 6.0 * one_hot(there, 2).movedim(-1, 1)
    search = TransformAligner("rigid", window=4)
    found = search(seen, label, valid)
    assert found.matrix[0, 1, 0] > 0.08
    moved = WarpAligner(field_network(2), search)(seen, label, valid)
    for name in (*FIELDS, "matrix"):
        assert torch.equal(getattr(moved, name), getattr(found, name)), name
    torch.testing.assert_close(moved.displacement, field_of(found.matrix, (48, 48)))


def test_values_that_were_turned_are_not_interpolated_anew():
    matrix = rotation_matrix(torch.tensor([0.12, -0.3, 0.5]), (24, 28))

    def search(prediction, label, valid, *, known=None, group=None):
        to, there = warp_affine(label, valid, matrix)
        none = torch.zeros(3)
        return Alignment(to, there, torch.zeros(3, 2), none, none, none.to(torch.uint8), matrix)

    given = plain((24, 28), continuous=True)
    network = field_network(2, continuous=True, channels=2)
    found, moved = search(*given), WarpAligner(network, search)(*given)
    assert torch.equal(moved.label, found.label) and torch.equal(moved.valid, found.valid)
    # Read by the field it would be the same but for rounding.
    to, there = warp_field(given[1], given[2], moved.displacement)
    both = (moved.valid & there).unsqueeze(1).expand_as(to)
    torch.testing.assert_close(to[both], moved.label[both], rtol=1e-3, atol=1e-3)
    assert not torch.equal(to[both], moved.label[both])


def test_without_a_search_labels_stay_at_first():
    seen, label, valid = plain((24, 28))
    label[~valid] = 255
    moved = WarpAligner(field_network(2), first=None)(seen, label, valid)
    expected = shift(label, valid, torch.zeros(3, 2, dtype=torch.int64))
    assert torch.equal(moved.label, expected[0]) and torch.equal(moved.valid, expected[1])
    assert not moved.displacement.any() and not moved.gain.any()


# ---------------------------------------------------------------- what was planted is found

PLANTED = {
    "1-D": (bent_scene, {"space": (96,), "batch": 6, "most": 2.0}, 80),
    "2-D": (bent_scene, {"space": (48, 48), "batch": 2}, 60),
    "2-D values": (bent_scene, {"space": (40, 40), "batch": 2, "continuous": True}, 60),
    "3-D": (bent_scene, {"space": (20, 20, 20), "batch": 1, "size": 7}, 80),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_a_planted_deformation_is_found(name, moves):
    make, about, steps = PLANTED[name]
    scene, continuous = make(**about), about.get("continuous", False)
    network = field_network(len(about["space"]), continuous=continuous)
    aligner = WarpAligner(network, None, reach=6.0, grid=2, smooth=0.3, moves=moves)
    costs = learn(aligner, scene, steps)
    assert costs[-1] < 0.5 * costs[0]
    with torch.no_grad():
        proposal = aligner.propose(*scene.given)
    found = aligner(*scene.given)
    none = scene.off(0 * proposal.field, moves)
    assert none > 1.0 and scene.off(proposal.field, moves) < 0.5 * none
    assert jacobian_determinant(proposal.field).min() > 0
    assert (proposal.gain > aligner.margin).all() and (found.reason == MOVED).all()
    if moves == "prediction":
        assert torch.equal(found.carry, proposal.field) and torch.equal(found.label, scene.label)
        return
    assert torch.equal(found.displacement, proposal.field)
    if continuous:
        before, after = (
            (label - scene.truth).square().mean(1)[valid].mean()
            for label, valid in ((scene.label, scene.valid), (found.label, found.valid))
        )
        assert after < 0.3 * before
    else:
        before = oracle.dice(scene.label, scene.truth, scene.valid)
        after = oracle.dice(found.label, scene.truth, found.valid)
        assert before < 0.9 and after > before + 0.6 * (1 - before)


@pytest.mark.soak
def test_what_was_learned_of_some_labels_bends_others_too():
    aligner = WarpAligner(field_network(2, width=8), None, reach=6.0, grid=2)
    optimiser = torch.optim.Adam(aligner.network.parameters(), 3e-3)
    for seed in range(400):
        optimiser.zero_grad()
        aligner.cost(*bent_scene((40, 40), 4, seed).given).mean().backward()
        optimiser.step()
    new = bent_scene((40, 40), 8, seed=1000)
    assert new.off(aligner.propose(*new.given).field.detach()) < 0.75 * new.off(0 * new.back)


def test_of_a_shift_it_makes_nearly_a_shift():
    shifts = [(2.0, -1.0), (-1.0, 2.0)]
    scene = shifted_scene((40, 40), shifts)
    aligner = WarpAligner(field_network(2), None, reach=4.0, grid=2)
    learn(aligner, scene, 80)
    field = aligner.propose(*scene.given).field.detach()
    near = scene.edges & scene.valid
    for one, at, by in zip(field, near, shifts, strict=True):
        there = one[:, at]
        assert (there.mean(1) + torch.tensor(by)).abs().max() < 0.3
        assert there.std(1).max() < 0.4
    assert scene.off(field) < 0.2 * scene.off(0 * field)


def test_a_field_that_may_fold_unfolds_for_what_folds_cost():
    scene = bent_scene((24, 24), 1)
    rough = 2 * torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    left = []
    for folds in (0.0, 10.0):
        options = {"smooth": 0.0, "bend": 0.0, "small": 0.0, "folds": folds}
        aligner = WarpAligner(Says(rough), None, grid=2, diffeomorphic=False, **options)
        before = folding(aligner.propose(*scene.given).field)
        learn(aligner, scene, 100, rate=2e-2)
        left.append(folding(aligner.propose(*scene.given).field) / before)
    assert before > 0.1 and left[0] > 0.5 and left[1] < 0.1


@pytest.mark.parametrize("diffeomorphic", [True, False])
def test_velocities_are_integrated_and_displacements_are_not(diffeomorphic):
    scene = bent_scene((24, 24), 1)
    said = 3 * torch.randn(1, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    aligner = WarpAligner(Says(said, 5.0), None, grid=1, reach=5.0, diffeomorphic=diffeomorphic)
    held = 5.0 * torch.tanh(said / 5.0)
    expected = integrate(held) if diffeomorphic else held
    torch.testing.assert_close(aligner.propose(*scene.given).field, expected)
    assert jacobian_determinant(held).min() < 0


def test_bending_the_prediction_is_the_way_back():
    scene = bent_scene((24, 24), 1)
    said = torch.nn.functional.avg_pool2d(
        12 * torch.randn(1, 2, 34, 34, generator=torch.Generator().manual_seed(0)), 11, 1
    )
    there, back = (
        WarpAligner(Says(said), None, grid=1, moves=moves).propose(*scene.given).field
        for moves in ("label", "prediction")
    )
    assert there.abs().max() > 1
    inside = compose_fields(there, back)[..., 4:-4, 4:-4]
    assert inside.abs().mean() < 0.15 * there.abs().mean()


# ---------------------------------------------------------------- labels, once they are bent


def test_a_bent_label_is_read_once_from_where_it_was():
    label = torch.zeros(1, 48, 48, dtype=torch.int64)
    label[0, 15:25, 26:34], label[0, 25:30, 20:40] = 1, 1
    valid = label >= 0
    valid[0, :12, :12] = False
    there, _ = warp_affine(label, valid, rotation_matrix(torch.tensor([0.12]), (48, 48)))
    seen = 6.0 * one_hot(there.roll(1, 2), 2).movedim(-1, 1)
    search = TransformAligner("rigid", window=2)
    aligner = WarpAligner(Says(flow_of(0.0, 0.9, space=(48, 48))), search, margin=0.0, grid=2)
    found = search(seen, label, valid)
    proposal = aligner.propose(seen, found.label, found.valid)
    # Whatever the network has to say of it: bent, and by both moves in one.
    moved = aligner.settled(replace(proposal, gain=torch.tensor([1.0])), found, label, valid)
    by = field_of(found.matrix, (48, 48)) + torch.einsum(
        "bij,bjyx->biyx", torch.linalg.inv(found.matrix[:, :, :2]), proposal.field
    )
    torch.testing.assert_close(moved.displacement, by)
    to, known = warp_field(label, valid, moved.displacement)
    assert torch.equal(moved.label, to) and torch.equal(moved.valid, known)
    assert not torch.equal(to, warp_field(found.label, found.valid, proposal.field)[0])


def test_only_labels_that_gain_enough_are_bent():
    scene = bent_scene((32, 32), 3)
    aligner = WarpAligner(stirred(field_network(2), 0.1), NEAR, grid=2)
    found = aligner.searched(*scene.given)
    proposal = aligner.propose(scene.seen, found.label, found.valid)
    proposal = replace(proposal, gain=torch.tensor([2.9, 3.0, -1.0]))
    moved = aligner.settled(proposal, found, scene.label, scene.valid)
    for name in FIELDS:
        one, other = getattr(moved, name), getattr(found, name)
        assert torch.equal(one[[0, 2]], other[[0, 2]]), name
    assert not torch.equal(moved.label[1], found.label[1]) and moved.reason[1] == MOVED
    by = found.displacement[:, :, None, None].expand(-1, -1, 32, 32)
    assert torch.equal(moved.displacement[[0, 2]], by[[0, 2]])
    torch.testing.assert_close(moved.displacement[1], by[1] + proposal.field[1])
    assert moved.gain[1] == found.gain[1] + 3.0
    assert moved.confidence[1] == torch.sigmoid(torch.tensor(3.0))
    carried = replace(aligner, moves="prediction")
    moved = carried.settled(proposal, found, scene.label, scene.valid)
    assert not moved.carry[[0, 2]].any() and torch.equal(moved.carry[1], proposal.field[1])
    assert torch.equal(moved.displacement, found.displacement)
    for name in ("label", "valid"):
        assert torch.equal(getattr(moved, name), getattr(found, name))


def test_a_margin_that_nothing_reaches_leaves_all_to_the_search():
    scene = bent_scene((32, 32), 2)
    network = stirred(field_network(2), 0.1)
    found = NEAR(*scene.given)
    moved = WarpAligner(network, NEAR, grid=2, margin=1e9)(*scene.given)
    for name in FIELDS:
        assert torch.equal(getattr(moved, name), getattr(found, name)), name


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_what_is_as_good_as_perfect_is_not_bent_for_rounding(moves):
    label = torch.randint(0, 3, (2, 128, 128), generator=torch.Generator().manual_seed(0))
    seen = 12.0 * one_hot(label, 3).movedim(-1, 1)
    for by in (0.0, 1e-4, 1e-3):
        flow = Says(flow_of(by, by, space=(1, 1)))
        proposal = WarpAligner(flow, None, moves=moves).propose(seen, label, label >= 0)
        assert proposal.gain.abs().max() < 0.1


def test_without_a_margin_what_gains_nothing_is_not_called_moved():
    seen, label, valid = plain((24, 28))
    moved = WarpAligner(field_network(2), None, margin=0.0)(seen, label, valid)
    assert not moved.reason.any() and not moved.confidence.any()


def test_what_came_from_outside_is_not_valid():
    label = torch.zeros(1, 40, dtype=torch.int64)
    label[0, 12:22] = 1
    seen = 8.0 * one_hot(label.roll(3, 1), 2).movedim(-1, 1)
    aligner = WarpAligner(Says(flow_of(3.0, space=(40,)), 1e6), None, reach=1e6, margin=0.0)
    moved = aligner(seen, label, torch.ones(1, 40).bool())
    expected = shift(label, torch.ones(1, 40).bool(), torch.tensor([[3]]))
    assert torch.equal(moved.label, expected[0]) and torch.equal(moved.valid, expected[1])
    assert not moved.valid[0, :3].any()


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_only_what_is_known_of_both_is_compared(moves):
    """A field may not hide a misfit by moving it out of sight: the gain is of what is shared."""
    scene = bent_scene((24, 24), 2, seed=3)
    known = torch.rand(scene.valid.shape, generator=torch.Generator().manual_seed(1)) < 0.9
    flow = flow_of(1.25, -0.5, space=(24, 24))
    aligner = WarpAligner(Says(flow, 1e6), None, reach=1e6, grid=2, moves=moves)
    proposal = aligner.propose(*scene.given, known=known)
    by = (flow if moves == "label" else -flow).expand(2, -1, 24, 24)
    torch.testing.assert_close(proposal.field, by)
    seen, claim = readings(*scene.given)
    places = scene.valid & known
    before, whole = oracle.misfit(seen, claim, places)
    if moves == "label":
        claim, sure = warp_field(claim, scene.valid, by, mode="linear")
    else:
        seen, sure = warp_field(seen, places, by, mode="linear")
    after, _ = oracle.misfit(seen.detach(), claim.detach(), sure & places)
    edges = edge_length(scene.label, scene.valid).numpy()
    for ours, twin in (
        (proposal.before, before * whole / edges),
        (proposal.after, after * whole / edges),
        (proposal.gain, edges / 10 * torch.tensor(before / after).log().numpy()),
    ):
        torch.testing.assert_close(ours.detach().double().numpy(), twin, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- what it costs


def test_a_cost_is_the_sum_of_its_parts():
    scene = bent_scene((24, 24), 2)
    rough = 3 * torch.randn(2, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    weights = {"smooth": 0.7, "bend": 1.3, "small": 0.2, "folds": 5.0}
    aligner = WarpAligner(Answers(rough), None, grid=2, diffeomorphic=False, **weights)
    proposal = aligner.propose(*scene.given)
    field = proposal.field
    parts = {
        "after": proposal.after,
        "smooth": gradient_energy(field),
        "bend": bending_energy(field),
        "small": size_energy(field, 0.0),
        "folds": folding(field),
    }
    assert all((part > 0).all() for part in parts.values())
    total = sum(weights.get(name, 1.0) * part for name, part in parts.items())
    torch.testing.assert_close(aligner.price(proposal), total)
    torch.testing.assert_close(aligner.cost(*scene.given), total)
    flowing = replace(aligner, diffeomorphic=True)  # need not pay, for it hardly can
    torch.testing.assert_close(flowing.price(proposal), total - 5.0 * parts["folds"])
    centred = replace(aligner, centred=True).price(proposal)
    torch.testing.assert_close(centred, total + mean_displacement(field).square().sum(1))


def test_the_cost_is_of_labels_where_the_search_puts_them():
    seen, label, valid = plain((24, 28))
    network = stirred(field_network(2), 0.1)
    found = NEAR(seen, label, valid)
    assert found.displacement.any()
    after = WarpAligner(network, NEAR).cost(seen, label, valid)
    there = WarpAligner(network, None).cost(seen, found.label, found.valid)
    torch.testing.assert_close(after, there, rtol=0, atol=0)


def test_of_strong_labels_any_move_costs_and_nothing_else():
    scene = bent_scene((24, 24), 2)
    aligner = WarpAligner(stirred(field_network(2), 0.2), None, grid=2, centred=True)
    proposal = aligner.propose(*scene.given)
    strong = torch.tensor([False, True])
    cost = aligner.cost(*scene.given, strong=strong)
    torch.testing.assert_close(cost[0], aligner.price(proposal)[0])
    torch.testing.assert_close(cost[1], size_energy(proposal.field, 0.0)[1])
    aligner = WarpAligner(field_network(2), None, grid=2)
    learn(aligner, scene, 25, strong=strong)
    by = aligner.propose(*scene.given).field.detach().square().sum(1).flatten(1).mean(1).sqrt()
    assert by[1] < 0.5 * by[0]


# ---------------------------------------------------------------- derivatives


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_gradients_reach_the_network_and_nothing_else(moves):
    scene = bent_scene((24, 24), 2, continuous=True)
    seen, label = scene.seen.clone().requires_grad_(), scene.label.clone().requires_grad_()
    network = stirred(field_network(2, continuous=True), 0.1)
    aligner = WarpAligner(network, NEAR, grid=2, moves=moves, margin=0.0)
    aligner.cost(seen, label, scene.valid).sum().backward()
    assert seen.grad is None and all(p.grad is not None for p in network.parameters())
    assert any(p.grad.any() for p in network.parameters())
    moved = aligner(seen, label, scene.valid)
    made = (moved.label, moved.displacement, moved.confidence, moved.gain, moved.carry)
    assert not any(t.requires_grad for t in made if t is not None)
    with torch.enable_grad():
        proposal = aligner.propose(seen, label.detach(), scene.valid)
        moved = aligner.settled(proposal, aligner.searched(*scene.given), scene.label, scene.valid)
    assert proposal.after.requires_grad and not proposal.before.requires_grad
    for made in (moved.label, moved.displacement, moved.carry):
        assert made is None or not made.requires_grad


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_the_derivative_is_right(moves):
    scene = bent_scene((8, 8), 2, seed=2, most=1.0, continuous=True)
    seen, label = scene.seen.double(), scene.label.double()
    said = 0.9 * torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(4)).double()
    for flowing in (True, False):

        def cost(field, flowing=flowing):
            options = {"grid": 2, "diffeomorphic": flowing, "moves": moves, "centred": True}
            aligner = WarpAligner(Answers(field), None, **options)
            return aligner.cost(seen, label, scene.valid)

        assert torch.autograd.gradcheck(cost, (said.requires_grad_(),))


# ---------------------------------------------------------------- nothing to go by


@pytest.mark.parametrize("moves", ["label", "prediction"])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("space", [(1,), (7,), (12, 9), (1, 6), (5, 6, 4)])
def test_where_there_is_nothing_to_go_by_nothing_happens(space, continuous, moves):
    seen, label, valid = plain(space, continuous=continuous, batch=6, seed=5)
    label[0], valid[0] = 0, True  # empty
    label[1] = 1  # full
    seen[2] = 0.25  # a flat prediction
    seen[3], label[3] = 3.0, 1
    valid[4] = False  # nobody said anything
    valid[5] = False
    valid[(5, *[0] * len(space))] = True
    network = stirred(field_network(len(space), continuous=continuous, channels=2), 0.5)
    aligner = WarpAligner(network, NEAR, grid=2, moves=moves)
    moved = aligner(seen, label, valid)
    for made in (moved.displacement, moved.confidence, moved.gain, moved.carry):
        assert made is None or made.isfinite().all()
    carried = moved.displacement if moves == "label" else moved.carry
    assert not carried.any() and not moved.gain.any()
    over = valid.unsqueeze(1) if continuous else valid
    assert torch.equal(torch.where(over, moved.label, 0), torch.where(over, label, 0))
    assert torch.equal(moved.valid, valid)
    cost = aligner.cost(seen, label, valid)
    cost.sum().backward()
    assert cost.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_no_samples_are_no_trouble():
    seen, label, valid = (t[:0] for t in plain((12, 9)))
    aligner = WarpAligner(field_network(2), NEAR)
    assert aligner(seen, label, valid).displacement.shape == (0, 2, 12, 9)
    assert aligner.cost(seen, label, valid).shape == (0,)


@pytest.mark.parametrize("moves", ["label", "prediction"])
@pytest.mark.parametrize("continuous", [False, True])
def test_what_is_not_known_never_matters(continuous, moves):
    seen, label, valid = plain((16, 20), continuous=continuous, channels=3)
    generator = torch.Generator().manual_seed(9)
    valid = torch.rand(valid.shape, generator=generator) < 0.8
    known = torch.rand(valid.shape, generator=generator) < 0.8
    made = []
    for number, garbage in ((0, 0), (torch.nan, 255), (torch.inf, -7)):
        network = stirred(field_network(2, continuous=continuous, channels=3), 0.1)
        aligner = WarpAligner(network, None, grid=2, moves=moves, margin=0.0)
        over = valid.unsqueeze(1) if continuous else valid
        z = torch.where((known & valid).unsqueeze(1), seen, number)
        said = torch.where(over, label, number if continuous else garbage)
        cost = aligner.cost(z, said, valid, known=known)
        cost.sum().backward()
        proposal = aligner.propose(z, said, valid, known=known)
        made.append(
            [cost, proposal.field, proposal.before, proposal.after, proposal.gain]
            + [p.grad for p in network.parameters()]
        )
    for other in made[1:]:
        for ours, theirs in zip(made[0], other, strict=True):
            assert ours.isfinite().all() and torch.equal(ours, theirs)


# ---------------------------------------------------------------- numbers


def test_half_precision_is_computed_in_single():
    scene = bent_scene((24, 24), 2)
    network = stirred(field_network(2), 0.2)
    aligner = WarpAligner(network, NEAR, grid=2, margin=0.0)
    half = scene.seen.bfloat16()
    expected, cost = aligner(half.float(), *scene.given[1:]), aligner.cost(half, *scene.given[1:])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        proposal = aligner.propose(half, *scene.given[1:])
        assert torch.equal(aligner.cost(half, *scene.given[1:]), cost)
        moved = aligner(half, *scene.given[1:])
    for made in (proposal.field, proposal.before, proposal.after, proposal.gain, cost):
        assert made.dtype == torch.float32
    for name in (*FIELDS, "displacement"):
        assert torch.equal(getattr(moved, name), getattr(expected, name)), name


def test_double_precision_stays():
    scene = bent_scene((24, 24), 2)
    network = stirred(field_network(2), 0.2).double()
    proposal = WarpAligner(network, None, grid=2).propose(scene.seen.double(), *scene.given[1:])
    assert proposal.field.dtype == proposal.after.dtype == torch.float64


def test_inputs_and_networks_are_left_alone():
    scene = bent_scene((24, 24), 2)
    known = scene.edges.clone()
    network = stirred(field_network(2), 0.2)
    aligner = WarpAligner(network, NEAR, grid=2, margin=0.0)
    kept = [t.clone() for t in (*scene.given, known)]
    state, mode = copy.deepcopy(network.state_dict()), network.training
    aligner(*scene.given, known=known)
    aligner.cost(*scene.given, known=known, strong=torch.tensor([True, False]))
    for one, other in zip(kept, (*scene.given, known), strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert network.training == mode


# ---------------------------------------------------------------- what is compared


def test_classes_are_read_as_probabilities_without_the_background():
    seen, label, valid = plain((9, 8), channels=3)
    label[~valid] = 255
    ours, claim = readings(seen.half(), label, valid)
    expected = seen.half().float().exp()
    expected = (expected / expected.sum(1, keepdim=True))[:, 1:]
    torch.testing.assert_close(ours, expected)
    for c in (1, 2):
        assert torch.equal(claim[:, c - 1], ((label == c) & valid).float())
    assert ours.dtype == claim.dtype == torch.float32


def test_values_are_read_in_deviations_of_the_label():
    seen, label, valid = plain((9, 8), continuous=True, channels=2)
    label = 40 * label + torch.tensor([-1000.0, 3.0]).view(1, 2, 1, 1)
    ours, claim = readings(seen, label, valid)
    for k in range(len(label)):
        for c in range(2):
            there = label[k, c][valid[k]]
            expected = (label[k, c] - there.mean()) / there.std(correction=0)
            at = valid[k]
            torch.testing.assert_close(claim[k, c][at], expected[at], rtol=1e-4, atol=1e-4)
            assert not claim[k, c][~at].any()
            shown = (seen[k, c] - there.mean()) / there.std(correction=0)
            torch.testing.assert_close(ours[k, c][at], shown[at], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_misfit_is_what_least_squares_leave(channels):
    generator = torch.Generator().manual_seed(channels)
    claim = torch.randn(12, channels, 5, 6, generator=generator).double()
    noise = torch.randn(claim.shape, generator=generator).double()
    share = torch.linspace(-1, 1, 12).view(-1, 1, 1, 1).double()
    seen = share * claim + (1 - share.abs()) * noise + 3
    places = torch.rand(12, 5, 6, generator=generator) < 0.7
    places[3] = False
    claim[4], seen[5] = 2.0, 1.0
    claim[6, 0] = 0
    bad = torch.where(places.unsqueeze(1), seen, torch.nan)
    left, whole = misfit(bad, torch.where(places.unsqueeze(1), claim, torch.inf), places)
    expected, total = oracle.misfit(seen, claim, places)
    torch.testing.assert_close(left.numpy(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole.numpy(), total, rtol=1e-9, atol=1e-9)
    assert left[3] == 1 and left.min() < 0.1 and left.max() > 1.9


def test_how_large_a_gain_is_hangs_on_the_edges():
    scene = bent_scene((24, 24), 2)
    aligner = WarpAligner(stirred(field_network(2), 0.1), None, grid=2)
    gain = aligner.propose(*scene.given).gain
    coarser = replace(aligner, grain=20.0).propose(*scene.given).gain
    torch.testing.assert_close(coarser, gain / 2)
    assert (gain != 0).all()


# ---------------------------------------------------------------- in a loop of one's own


def test_a_plain_loop_trains_both_networks():
    generator = torch.Generator().manual_seed(0)
    scene = bent_scene((32, 32), 8, most=2.0)
    strong = torch.arange(8) < 3  # without them, both would drift off together
    over = strong.view(-1, 1, 1)
    given = torch.where(over, scene.truth, scene.label), scene.valid | over
    image = scene.truth.unsqueeze(1) + 0.3 * torch.randn(8, 1, 32, 32, generator=generator)
    torch.manual_seed(0)
    predictor = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1)
    )
    aligner = WarpAligner(field_network(2), ShiftAligner(window=2), reach=4.0, grid=2, smooth=0.3)
    criterion = AlignedLoss(nn.CrossEntropyLoss(reduction="none"), aligner)
    optimiser = torch.optim.Adam(predictor.parameters(), 1e-2)
    for step in range(80):
        if step == 20:  # first it must show where things are
            optimiser.add_param_group({"params": [*aligner.network.parameters()]})
        optimiser.zero_grad()
        prediction = predictor(image)
        loss = criterion(prediction, *given, strong=strong)
        cost = aligner.cost(prediction, *given, strong=strong).mean()
        (loss + cost).backward()
        optimiser.step()
    found = criterion.align(predictor(image), *given, strong=strong)
    assert torch.equal(found.label[strong], scene.truth[strong])
    before = oracle.dice(scene.label[~strong], scene.truth[~strong], scene.valid[~strong])
    bent = oracle.dice(found.label[~strong], scene.truth[~strong], found.valid[~strong])
    shown = oracle.dice(predictor(image).argmax(1), scene.truth, scene.valid & ~over)
    assert bent > before + 0.6 * (1 - before) and shown > before + 0.6 * (1 - before)


def test_groups_are_the_business_of_the_search():
    seen, label, valid = plain((24, 28))
    group = torch.zeros(3, dtype=torch.int64)
    aligner = WarpAligner(field_network(2), NEAR)
    moved = aligner(seen, label, valid, group=group)
    found = NEAR(seen, label, valid, group=group)
    assert torch.equal(moved.displacement[:, :, 0, 0], found.displacement)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"moves": "labels"}, "'label'"),
        ({"reach": 0.0}, "reach must be above 0"),
        ({"reach": math.nan}, "reach must be above 0"),
        ({"grid": 0}, "grid must be at least 1"),
        ({"margin": -1.0}, "margin must be at least 0"),
        ({"smooth": -1.0}, "smooth"),
        ({"bend": math.nan}, "bend"),
        ({"small": -0.1}, "small"),
        ({"folds": -0.1}, "folds"),
        ({"grain": 0.0}, "grain"),
        ({"first": ClassAligner()}, "as wholes, .* not ClassAligner"),
        ({"first": PatchAligner(8)}, "as wholes, .* not PatchAligner"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    with pytest.raises(SettingsError, match=words) as caught:
        WarpAligner(nn.Identity(), **options)
    assert "\n" not in str(caught.value)


def test_shapes_that_do_not_fit_are_refused():
    seen, label, valid = plain((12, 9))
    aligner = WarpAligner(field_network(2), NEAR)
    for given in (
        (seen, label[:, :5], valid),
        (seen, label, valid[:2]),
        (seen[:, :1], label, valid),
    ):
        with pytest.raises(ShapeError):
            aligner(*given)
        with pytest.raises(ShapeError):
            aligner.cost(*given)


def test_predictions_of_double_precision_and_labels_out_of_range():
    seen, label, valid = plain((24, 28))
    aligner = WarpAligner(stirred(field_network(2), 0.1), first=None)
    double = aligner(seen.double(), label, valid)
    assert torch.equal(double.label, aligner(seen, label, valid).label)
    label[0, 0, 0], valid[0, 0, 0] = 255, True
    with pytest.raises(ShapeError, match="classes 0 to 1"):
        aligner(seen, label, valid)
    with pytest.raises(ShapeError, match="classes 0 to 1"):
        aligner.cost(seen, label, valid)
