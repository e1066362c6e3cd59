"""Weak labels are put in place, strong ones stay, and memory holds in turned patches too."""

from __future__ import annotations

import pytest
import torch

from labelmend.alignment.aligner import ShiftAligner
from labelmend.training.places import PlaceTable
from labelmend.training.placing import Placing, turned, upright
from labelmend.types import IN_PLACE, MOVED, UNSURE, Alignment, Batch

SIDE = 24
ALIGNER = ShiftAligner(window=4)


def scene(shifts, *, seed: int = 0, pose=None) -> tuple[torch.Tensor, Batch]:
    """Logits that show the truth, and labels that lie off it by these shifts."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(len(shifts), SIDE, SIDE, dtype=torch.int64)
    for place in range(len(shifts)):
        for _ in range(3):
            row, column, high, wide = torch.randint(5, 9, (4,), generator=generator).tolist()
            truth[place, row : row + high, column : column + wide] = 1
    logits = 8.0 * torch.nn.functional.one_hot(truth, 2).movedim(-1, 1).float()
    label = torch.stack([t.roll(s, (0, 1)) for t, s in zip(truth, shifts, strict=True)])
    index = torch.arange(len(shifts))
    return logits, Batch(torch.zeros(len(shifts), 1, SIDE, SIDE), label, label >= 0, index, pose)


def placing(samples: int, **over) -> Placing:
    learns = torch.ones(samples, dtype=torch.bool)
    table = PlaceTable.fresh(samples, 2, keep=0.5)
    given = {"search": ALIGNER, "table": table, "learns": learns, "start": 0, "centred": False}
    return Placing(**{**given, **over})


def test_labels_go_to_where_they_are_seen_and_strong_ones_do_not() -> None:
    logits, batch = scene([(2, -1), (2, -1), (0, 0)])
    place = placing(3, learns=torch.tensor([True, False, True]))
    placed = place(logits, batch, 0)
    truth = logits.argmax(1)
    at = placed.valid
    assert torch.equal(placed.label[0][at[0]], truth[0][at[0]]) and not at[0].all()
    assert torch.equal(placed.label[1], batch.label[1]) and at[1].all()
    assert torch.equal(placed.label[2], batch.label[2])
    assert placed.found.index.tolist() == [0, 2]
    assert placed.found.displacement.tolist() == [[-2, 1], [0, 0]]
    assert placed.found.reason.tolist() == [MOVED, IN_PLACE]
    meters = {name: (m[0] / m[1]).item() for name, m in placed.meters.items()}
    assert meters["moved"] == 0.5 and meters["unclear"] == 0
    assert meters["moved_by"] == pytest.approx(5**0.5)
    assert (meters["drift_0"], meters["drift_1"]) == (-2, 1)


def test_nothing_moves_before_the_start_but_may_be_judged() -> None:
    logits, batch = scene([(2, 2)])
    place = placing(1, start=10)
    early = place(logits, batch, 9)
    assert torch.equal(early.label, batch.label) and early.found is None and not early.meters
    for later in (place(logits, batch, 10), place(logits, batch)):
        assert later.found.displacement.tolist() == [[-2, -2]]


def test_what_is_remembered_smooths_and_stands_in() -> None:
    logits, batch = scene([(2, 0)])
    place = placing(1)
    place.table.update(place(logits, batch, 0).found)
    _, off = scene([(0, 0)])  # the same truth, where it is: half way is found
    seen = place(logits, off, 1)
    assert seen.found.displacement.tolist() == [[0, 0]]
    assert torch.equal(seen.label[seen.valid], off.label.roll(-1, 1)[seen.valid])
    blind = torch.zeros_like(logits)
    kept = place(blind, batch, 1)
    assert kept.found.reason.tolist() != [MOVED]
    truth = logits.argmax(1)
    assert torch.equal(kept.label[kept.valid], truth[kept.valid])
    recalled = place.recalled(batch)
    assert torch.equal(recalled.label, kept.label) and torch.equal(recalled.valid, kept.valid)


POSES = [
    torch.tensor([[1, 0], [0, 1]]),
    torch.tensor([[-1, 0], [0, 1]]),
    torch.tensor([[0, -1], [1, 0]]),
    torch.tensor([[0, 1], [1, 0]]),
]


@pytest.mark.parametrize("pose", POSES)
def test_a_displacement_is_of_the_image_whichever_way_its_patch_is_turned(pose) -> None:
    shown = torch.tensor([[2, 1]])  # in the image; the label lies off by it
    in_patch = turned(shown, pose[None])
    logits, batch = scene([tuple(in_patch[0].tolist())], pose=pose[None])
    place = placing(1)
    placed = place(logits, batch, 0)
    assert placed.found.displacement.tolist() == [[-2, -1]]
    place.table.update(placed.found)
    upright_again = turned(-shown, pose[None])
    moved = place.recalled(batch)
    label = batch.label.roll(tuple(upright_again[0].tolist()), (1, 2))
    assert torch.equal(moved.label[moved.valid], label[moved.valid])
    assert torch.equal(turned(turned(shown, pose[None]), pose[None], back=True), shown)


@pytest.mark.parametrize("pose", POSES)
def test_what_an_aligner_of_ones_own_finds_is_of_the_image_too(pose) -> None:
    shown = torch.tensor([[2.0, 1.0]])

    def own(prediction, label, valid) -> Alignment:
        return Alignment(label, valid, turned(shown, pose[None]), torch.ones(1))

    logits, batch = scene([(0, 0)], pose=pose[None])
    assert torch.equal(placing(1, search=own)(logits, batch, 0).found.displacement, shown.double())


def test_maps_are_turned_as_displacements_are() -> None:
    maps = torch.rand(4, 5, 5, generator=torch.Generator().manual_seed(1))
    pose = torch.stack(POSES)
    back = upright(maps, (2, 2), pose)
    for sample in range(4):
        for row in range(-2, 3):
            for column in range(-2, 3):
                there = pose[sample] @ torch.tensor([row, column]) + 2
                assert back[sample, row + 2, column + 2] == maps[sample, there[0], there[1]]


def test_a_group_finds_together_what_none_finds_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, batch = scene([(3, 1)] * 12, seed=5)
    noisy = 0.1 * logits + torch.randn(logits.shape, generator=generator)
    alone = placing(12)(noisy, batch, 0)
    found = alone.found.displacement.eq(torch.tensor([-3.0, -1.0])).all(1)
    group = torch.zeros(12, dtype=torch.int64)
    table = PlaceTable.fresh(12, 2, 0.5, group, window=4)
    place = placing(12, table=table)
    for _ in range(3):
        step = place(noisy, batch, 0)
        table.update(step.found)
    together = step.found.displacement.eq(torch.tensor([-3.0, -1.0])).all(1)
    assert together.all() and not found.all()


def test_the_mean_shift_can_be_held_at_zero() -> None:
    logits, batch = scene([(4, 0), (2, 0)])
    place = placing(2, centred=True)
    place.table.update(place(logits, batch, 0).found)
    placed = place(logits, batch, 1)  # found −4 and −2, less their mean
    wanted = torch.stack([batch.label[0].roll(-1, 0), batch.label[1].roll(1, 0)])
    assert torch.equal(placed.label[placed.valid], wanted[placed.valid])


def test_a_label_that_lies_right_takes_part_when_the_mean_is_held_at_zero() -> None:
    logits, batch = scene([(4, 0), (0, 0)])
    place = placing(2, centred=True)
    place.table.update(place(logits, batch, 0).found)  # found −4 and 0, less their mean
    wanted = torch.stack([batch.label[0].roll(-2, 0), batch.label[1].roll(2, 0)])
    recalled = place.recalled(batch)
    assert torch.equal(recalled.label[recalled.valid], wanted[recalled.valid])
    now = place(torch.zeros_like(logits), batch, 1)  # nobody can tell any more
    for placed in (place(logits, batch, 1), now):
        assert torch.equal(placed.label, recalled.label)
        assert torch.equal(placed.valid, recalled.valid)


def test_half_precision_and_gradients_make_no_difference() -> None:
    logits, batch = scene([(1, 1), (0, 2)])
    whole = placing(2)(logits.requires_grad_(), batch, 0)
    half = placing(2)(logits.half(), batch, 0)
    assert torch.equal(whole.label, half.label) and not whole.meters["moved"].requires_grad


def test_an_aligner_of_ones_own_may_say_as_little_as_it_likes() -> None:
    logits, batch = scene([(1, 0), (0, 0)])

    def own(prediction, label, valid) -> Alignment:
        displacement = torch.tensor([[-1.0, 0.0], [0.0, 0.0]])
        return Alignment(label.roll(-1, 1), valid, displacement, torch.ones(2))

    placed = placing(2, search=own, learns=torch.tensor([True, False]))(logits, batch, 0)
    assert torch.equal(placed.label[1], batch.label[1])
    assert placed.found.reason.tolist() == [MOVED] and UNSURE not in placed.found.reason


def test_no_gradient_of_the_prediction_reaches_an_aligner_of_ones_own() -> None:
    logits, batch = scene([(1, 0)])

    def own(prediction, label, valid) -> Alignment:
        assert not prediction.requires_grad
        return Alignment(label, valid, torch.zeros(1, 2), torch.ones(1))

    placing(1, search=own)(logits.requires_grad_(), batch, 0)
