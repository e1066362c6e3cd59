"""Losses that do not depend on units."""

from __future__ import annotations

import pytest
import torch

from labelmend.errors import ShapeError
from labelmend.losses import make_loss
from labelmend.losses.units import in_deviations

UNITS = torch.tensor([256.0, 0.125])


def batch(space: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    z, label = (torch.randn(4, 2, *space, generator=generator) for _ in range(2))
    return z, label, torch.rand(4, *space, generator=generator) < 0.7


@pytest.mark.parametrize("space", [(9,), (4, 5), (2, 3, 4)])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_other_units_are_the_same_loss_to_the_bit(name, by_class, space) -> None:
    loss = make_loss(name, "regression", by_class=by_class)
    z, label, valid = batch(space)
    units = UNITS.view(-1, *[1] * len(space))
    found = in_deviations(loss, UNITS.tolist())(z * units, label * units, valid)
    assert torch.equal(found, loss(z, label, valid))


def test_what_is_not_valid_may_hold_anything() -> None:
    z, label, valid = batch((9,))
    label = torch.where(valid.unsqueeze(1), label, torch.nan)
    assert in_deviations(make_loss("l1"), [2.0, 0.0])(z, label, valid).isfinite().all()


def test_what_does_not_fit_is_refused_as_by_the_loss_itself() -> None:
    with pytest.raises(ShapeError, match="logits must be floating"):
        in_deviations(make_loss("l1"), [1.0])(torch.ones(3), torch.ones(3), torch.ones(3))
