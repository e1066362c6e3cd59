from __future__ import annotations

import math

import pytest
import torch

from labelmend.training.ledger import weight_columns, weight_rows
from labelmend.types import Sample
from labelmend.weighting.rules import Limits, plain
from labelmend.weighting.weights import WeightTable

CLASSES = ("rest", "beat")
SAMPLES = [
    Sample(f"images/{n}.png", f"labels/{n}.png", quality, split, n)
    for n, quality, split in (
        ("a", "strong", "train"),
        ("b", "weak", "train"),
        ("c", "weak", "val"),
        ("d", "weak", "train"),
        ("e", "strong", "test"),
    )
]
# Whose weight does not move: strong samples, and weak ones that are not trained on.
FIXED = torch.tensor([s.quality == "strong" or s.split != "train" for s in SAMPLES])


def updated(table: WeightTable, index, evidence, step: int) -> WeightTable:
    evidence = torch.tensor(evidence, dtype=torch.float64)
    table.update(torch.tensor(index), evidence, plain, 0.25)
    table.note(torch.tensor(index), evidence, 2 * evidence.abs(), step)
    return table


def start(**options) -> WeightTable:
    return WeightTable.start(FIXED, 0.5, **options)


# ---------------------------------------------------------------------- the table as it stands


def test_every_training_sample_has_a_row() -> None:
    table = updated(start(), [3], [1.0], step=40)
    unseen = {"similarity": None, "loss": None, "updated": -1}
    assert weight_rows(table, SAMPLES, CLASSES) == [
        {"id": "labels/a.png", "weight": 1.0, "average": 1.0, **unseen},
        {"id": "labels/b.png", "weight": 0.5, "average": 0.5, **unseen},
        {
            "id": "labels/d.png",
            "weight": 0.75,
            "average": 0.75,
            "similarity": 1.0,
            "loss": 2.0,
            "updated": 40,
        },
    ]


def test_the_average_is_over_looks_and_parts_what_ended_alike() -> None:
    table = start()
    for evidence in ([4.0, -1.0], [4.0, 4.0]):
        table = updated(table, [1, 3], evidence, step=1)
    first, last = weight_rows(table, SAMPLES, CLASSES)[1:]
    assert first["weight"] == last["weight"] == 1.0
    assert (first["average"], last["average"]) == (1.0, 0.625)


def test_every_class_has_a_column_beside_the_mean() -> None:
    table = updated(start(classes=2), [1], [[1.0, -1.0]], step=7)
    _, row, other = weight_rows(table, SAMPLES, CLASSES)
    assert row == {
        "id": "labels/b.png",
        "weight": 0.5,
        "similarity": 0.0,
        "loss": 4.0,
        "weight_rest": 0.75,
        "weight_beat": 0.25,
        "average": 0.5,
        "updated": 7,
    }
    assert other["similarity"] is None and other["weight_beat"] == 0.5
    assert list(other) == list(row)


def test_what_nobody_asked_for_is_no_number() -> None:
    table = start()
    table.note(torch.tensor([1]), torch.tensor([math.nan]), torch.tensor([0.5]), step=3)
    row = weight_rows(table, SAMPLES, CLASSES)[1]
    assert row["similarity"] is None and row["loss"] == 0.5 and row["updated"] == 3


def test_rows_hold_plain_numbers() -> None:
    for table in (start(), start(classes=2)):
        for row in weight_rows(table, SAMPLES, CLASSES):
            assert {type(value) for value in row.values()} <= {str, float, int, type(None)}


# ---------------------------------------------------------------------- what a step changed


def test_a_step_has_a_value_for_every_weak_sample_of_any_split() -> None:
    table = updated(start(), [1], [0.5], step=4)
    table = updated(table, [3], [-1.0], step=5)
    assert weight_columns(table, SAMPLES, CLASSES, 5) == {
        "weight": [None, None, 0.25],
        "similarity": [None, None, -1.0],
        "loss": [None, None, 2.0],
    }


def test_a_judged_weight_is_told_though_it_stays() -> None:
    table = updated(start(), [1, 3], [0.0, 9.0], step=4)
    table = updated(table, [1, 3], [0.0, 9.0], step=5)
    assert weight_columns(table, SAMPLES, CLASSES, 5)["weight"] == [0.5, None, 1.0]


def test_by_class_whoever_was_judged_has_all_columns() -> None:
    table = updated(start(classes=2), [3], [[1.0, -1.0]], step=5)
    assert weight_columns(table, SAMPLES, CLASSES, 5) == {
        "weight": [None, None, 0.5],
        "similarity": [None, None, 0.0],
        "loss": [None, None, 4.0],
        "weight_rest": [None, None, 0.75],
        "weight_beat": [None, None, 0.25],
    }


@pytest.mark.parametrize("classes", [None, 2])
def test_a_pools_weight_is_told_of_members_that_were_not_judged(classes) -> None:
    table = start(classes=classes, pool=torch.tensor([0, 1, 2, 1, 4]))
    # By class one gains what the other loses: the mean stays, the weights do not.
    table = updated(table, [1], [1.0] if classes is None else [[1.0, -1.0]], step=5)
    found = weight_columns(table, SAMPLES, CLASSES, 5)
    names = ["weight"] if classes is None else ["weight", "weight_rest", "weight_beat"]
    for name in names:
        first, held_out, last = found[name]
        assert first == last is not None and held_out is None
    assert found["similarity"][1:] == found["loss"][1:] == [None, None]


def test_what_another_members_step_rested_on_is_not_told_again() -> None:
    table = updated(start(pool=torch.tensor([0, 1, 2, 1, 4])), [1], [1.0], step=4)
    found = weight_columns(updated(table, [3], [-0.5], step=5), SAMPLES, CLASSES, 5)
    assert found == {
        "weight": [0.625, None, 0.625],
        "similarity": [None, None, -0.5],
        "loss": [None, None, 1.0],
    }


def test_a_band_moves_weights_that_nobody_judged() -> None:
    table = updated(start(limits=Limits(1.0, (0.5, 0.5))), [1], [0.6], step=5)
    found = weight_columns(table, SAMPLES, CLASSES, 5)
    assert found["weight"] == pytest.approx([0.575, None, 0.425])
    assert found["similarity"] == [0.6, None, None]


def test_before_the_first_update_nothing_has_changed() -> None:
    assert weight_columns(start(), SAMPLES, CLASSES, 0)["weight"] == [None] * 3


@pytest.mark.parametrize("classes", [None, 2])
def test_rows_and_columns_agree(classes) -> None:
    evidence = torch.randn(2, *([] if classes is None else [2])).tolist()
    table = updated(start(classes=classes), [1, 3], evidence, step=9)
    columns = weight_columns(table, SAMPLES, CLASSES, 9)
    rows = {row["id"]: row for row in weight_rows(table, SAMPLES, CLASSES)}
    for place, sample in enumerate(s for s in SAMPLES if s.quality == "weak"):
        if sample.split == "train":
            told = {name: values[place] for name, values in columns.items()}
            average = rows[sample.id]["weight"]  # after one look
            assert rows[sample.id] == {
                "id": sample.id,
                **told,
                "average": average,
                "updated": 9,
            }
