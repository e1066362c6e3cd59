"""The figures of a step: sums over parts and processes, divided once."""

from __future__ import annotations

import pytest
import torch

from labelmend.training.meters import step_figures
from labelmend.training.objective import Parcel, Terms
from labelmend.types import Batch


class Alone:
    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


class Beside(Alone):
    """One of two processes: the other one's sums are handed in."""

    def __init__(self, others: torch.Tensor) -> None:
        self.others = others

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + self.others


class Asking(Alone):
    """Keeps what a process would send."""

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sent = tensor.clone()
        return tensor


def part(
    losses: list[float],
    strong: list[bool],
    total: float,
    kind: torch.dtype = torch.float32,
    **meters: tuple[float, float],
) -> tuple[Parcel, Terms]:
    size = len(losses)
    label = torch.zeros(size, 2, dtype=torch.int64)
    batch = Batch(torch.zeros(size, 1, 2), label, label < 1, torch.arange(size))
    parcel = Parcel(batch, torch.ones(size), torch.ones(size), 0, torch.tensor(strong))
    return parcel, Terms(
        torch.tensor(total, dtype=kind, requires_grad=True),
        torch.tensor(losses, dtype=kind),
        {name: torch.tensor(value) for name, value in meters.items()},
    )


ONE = part([1.0, 2.0, 4.0], [True, False, False], 3.0, gain=(-1, 4), gated=(3, 12))
TWO = part([8.0, 16.0], [False, True], 5.0, gain=(2, 4), gated=(0, 8))
COUNTS = {"strong": 2, "weak": 3}
WANTED = {"loss": 8.0, "loss_strong": 17 / 2, "loss_weak": 14 / 3, "gain": 1 / 8, "gated": 3 / 20}


def test_parts_are_added_up_before_anything_is_divided() -> None:
    assert step_figures([ONE, TWO], COUNTS, Alone()) == pytest.approx(WANTED)
    assert step_figures([TWO, ONE], COUNTS, Alone()) == pytest.approx(WANTED)


def test_so_are_processes() -> None:
    asking = Asking()
    step_figures([TWO], COUNTS, asking)
    assert step_figures([ONE], COUNTS, Beside(asking.sent)) == pytest.approx(WANTED)


def test_samples_drawn_all_alike_have_one_mean_alone() -> None:
    figures = step_figures([ONE], {"all": 3}, Alone())
    assert figures.keys() == {"loss", "gain", "gated"}


def test_a_kind_without_samples_has_no_figure() -> None:
    only = part([1.0, 3.0], [True, True], 2.0)
    for counts in ({"strong": 2}, {"strong": 2, "weak": 0}):
        assert step_figures([only], counts, Alone()) == {"loss": 2.0, "loss_strong": 2.0}


def test_a_quotient_of_nothing_is_no_figure_and_one_of_nothing_in_a_part_is() -> None:
    none = part([1.0], [True], 1.0, gain=(0, 0), gated=(0, 4))
    assert "gain" not in step_figures([none], {"strong": 1}, Alone())
    assert step_figures([none], {"strong": 1}, Alone())["gated"] == 0.0
    assert step_figures([none, ONE], COUNTS, Alone())["gain"] == -1 / 4


def test_a_quotient_of_one_is_a_figure() -> None:
    one = part([1.0], [True], 1.0, gain=(-1, 1))
    assert step_figures([one], {"strong": 1}, Alone())["gain"] == -1.0


def test_figures_are_plain_numbers_of_double_precision() -> None:
    parts = [part([0.0], [True], 2.0**24 if n == 0 else 1.0) for n in range(5)]
    figures = step_figures(parts, {"strong": 5}, Alone())
    assert figures["loss"] == 2**24 + 4  # in float32 the ones would be lost
    assert all(type(value) is float for value in figures.values())


def test_half_precision_adds_up_as_well() -> None:
    halves = [part([1.0], [True], 2048.0, torch.bfloat16), part([1.0], [True], 1.0, torch.bfloat16)]
    assert step_figures(halves, {"strong": 2}, Alone()) == {"loss": 2049.0, "loss_strong": 1.0}
