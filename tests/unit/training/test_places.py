"""What is remembered of where labels belong, whatever the order and number of processes."""

from __future__ import annotations

import pytest
import torch

from labelmend.training.places import NEVER, Found, PlaceTable, joined, remember
from labelmend.types import IN_PLACE, MOVED, PARTLY, UNSURE, Sample


def found(*rows: tuple[int, tuple[float, ...], int], likely=None) -> Found:
    index, displacement, reason = zip(*rows, strict=True)
    gain = torch.arange(len(rows)).double()
    return Found(
        torch.tensor(index),
        torch.tensor(displacement).double(),
        torch.full((len(rows),), 0.95),
        gain,
        torch.tensor(reason, dtype=torch.uint8),
        likely,
    )


def test_a_first_clear_look_is_taken_as_it_is_and_later_ones_are_smoothed() -> None:
    table = PlaceTable.fresh(3, 2, keep=0.75)
    table.update(found((1, (4.0, -2.0), MOVED)))
    assert table.displacement[1].tolist() == [4, -2] and table.clear.tolist() == [0, 1, 0]
    table.update(found((1, (0.0, 2.0), MOVED)))
    assert table.displacement[1].tolist() == [3, -1]
    assert table.displacement[[0, 2]].eq(0).all() and (table.reason[[0, 2]] == NEVER).all()


def test_a_look_that_is_not_clear_leaves_what_is_remembered() -> None:
    table = PlaceTable.fresh(2, 1, keep=0.5)
    table.update(found((0, (6.0,), MOVED), (1, (0.0,), UNSURE)))
    table.update(found((0, (0.0,), UNSURE), (1, (0.0,), UNSURE)))
    assert table.displacement.flatten().tolist() == [6, 0]
    assert table.clear.tolist() == [1, 0] and table.reason.tolist() == [UNSURE, UNSURE]
    none, unclear = torch.zeros(2, 1).double(), torch.tensor([False, False])
    assert table.blended(torch.tensor([0, 1]), none, unclear).flatten().tolist() == [6, 0]


def test_all_looks_of_a_step_count_in_an_order_of_their_own() -> None:
    parts = [found((2, (1.0,), MOVED), (0, (3.0,), PARTLY)), found((2, (5.0,), IN_PLACE))]
    parts[1] = Found(*[*[getattr(parts[1], n) for n in ("index", "displacement", "confidence")]],
                     parts[1].gain + 7, parts[1].reason)  # fmt: skip
    tables = []
    for order in (parts, parts[::-1]):
        table = PlaceTable.fresh(3, 1, keep=0.25)  # by halves, either order gives the same
        table.update(joined(order))
        tables.append(table)
    assert torch.equal(tables[0].displacement, tables[1].displacement)
    assert tables[0].displacement.flatten().tolist() == [3, 0, 4]


def test_the_mean_is_of_clear_labels_that_may_move() -> None:
    table = PlaceTable.fresh(4, 1, keep=0.0)
    table.update(found((0, (2.0,), MOVED), (1, (4.0,), MOVED), (2, (9.0,), MOVED)))
    assert table.offset(torch.tensor([True, True, False, True])).tolist() == [3]
    assert PlaceTable.fresh(2, 1, 0.5).offset(torch.ones(2).bool()).tolist() == [0]


def test_maps_of_a_group_fade_and_add_up() -> None:
    group = torch.tensor([0, 1, 0])
    table = PlaceTable.fresh(3, 1, 0.5, group, window=1)
    likely = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, -torch.inf]]).double()
    table.update(found((0, (0.0,), UNSURE), (2, (0.0,), UNSURE), likely=likely))
    assert table.likely.tolist() == [[0, 2, 2], [0, 0, 0]]
    table.update(found((1, (0.0,), UNSURE), likely=torch.tensor([[1.0, 1.0, 1.0]]).double()))
    assert table.likely.tolist() == [[0, 2, 2], [1, 1, 1]]
    table.update(found((0, (0.0,), UNSURE), likely=torch.tensor([[1.0, 0.0, 0.0]]).double()))
    torch.testing.assert_close(table.likely[0], torch.tensor([1.0, 1.8, 1.8]).double())


def test_a_state_comes_back_to_the_bit() -> None:
    table = PlaceTable.fresh(2, 1, 0.3, torch.tensor([0, 0]), window=1)
    likely = torch.tensor([[0.1, 0.2, 0.3]]).double()
    table.update(found((1, (0.7,), MOVED), likely=likely))
    other = PlaceTable.fresh(2, 1, 0.3, torch.tensor([0, 0]), window=1)
    other.restore(table.state())
    for name, values in table.state().items():
        assert torch.equal(values, other.state()[name])
    table.update(found((1, (0.1,), MOVED), likely=likely))
    assert not torch.equal(table.displacement, other.displacement)


def test_rows_are_of_training_labels_that_were_looked_at() -> None:
    samples = [
        Sample("i", f"labels/weak/{n}", "weak", split, "g")
        for n, split in enumerate(("train", "train", "val"))
    ]
    table = PlaceTable.fresh(3, 2, 0.5)
    table.update(found((0, (1.0, 2.0), MOVED), (2, (1.0, 1.0), MOVED)))
    (row,) = table.rows(samples)
    assert row["id"] == "labels/weak/0" and row["displacement_1"] == 2
    assert row["reason"] == "moved" and row["confidence"] == pytest.approx(0.95)


class TwoProcesses:
    """Stands for a process whose other one found something else."""

    def __init__(self, other: list[Found]) -> None:
        self.other = other

    def gather(self, mine):
        return [mine, self.other]


def test_what_another_process_found_is_remembered_too() -> None:
    one, other = found((0, (2.0,), MOVED)), found((1, (4.0,), MOVED))
    table = PlaceTable.fresh(2, 1, 0.5)
    remember(table, [one, None], TwoProcesses([other]))
    assert table.displacement.flatten().tolist() == [2, 4]
    remember(table, [None], TwoProcesses([]))
    assert table.clear.tolist() == [1, 1]
