"""Settings become what puts labels in place: who may move, together with whom, from when on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labelmend.config import Settings
from labelmend.training.assembly import placing as assembly
from labelmend.training.placing import Placing
from labelmend.types import DataSet, DataSpec, Quality, Sample, Split

SPEC = DataSpec("segmentation", ("a", "b"), (0, 1), None, 2, 1, "none", ".npy")
WHO: tuple[tuple[Quality, Split, str, str], ...] = (
    ("strong", "train", "g0", ""),
    ("weak", "train", "g0", "ann"),
    ("weak", "val", "g1", "ann"),
    ("weak", "train", "g2", "bob"),
    ("weak", "train", "g2", "ann"),
)
DATA = DataSet(
    "data",
    SPEC,
    tuple(
        Sample(f"images/{n}.npy", f"labels/{n}.npy", quality, split, group, annotator=person)
        for n, (quality, split, group, person) in enumerate(WHO)
    ),
)
FACTS = {"patch": [32, 24], "out_channels": 2}


def made(data: DataSet = DATA, **align: Any) -> Placing:
    settings = Settings.make({"align": {"transform": "shift", **align}})
    found = assembly.placing(settings, data, FACTS, steps=400)
    assert found is not None
    return found


def test_only_weak_labels_that_are_trained_on_may_move() -> None:
    assert made().learns.tolist() == [False, True, False, True, True]


@pytest.mark.parametrize(
    ("per", "alike"),
    [
        ("annotator", [{0}, {1, 2, 4}, {3}]),
        ("group", [{0, 1}, {2}, {3, 4}]),
        ("set", [{0, 1, 2, 3, 4}]),
    ],
)
def test_labels_move_together_with_those_that_were_asked_for(per: str, alike: list[set]) -> None:
    group = made(per=per).table.group
    assert group is not None
    numbers = group.tolist()
    found = [{n for n, one in enumerate(numbers) if one == number} for number in set(numbers)]
    assert sorted(found, key=min) == alike
    assert made().table.group is None


def test_labels_that_nobody_is_named_for_share_no_hand() -> None:
    nameless = [replace(s, annotator="" if n < 3 else "ann") for n, s in enumerate(DATA.samples)]
    group = made(replace(DATA, samples=tuple(nameless)), per="annotator").table.group
    assert group is not None
    assert len(set(group.tolist())) == 4 and group[3] == group[4]


def test_settings_reach_memory_and_beginning() -> None:
    usual, chosen = made(), made(keep=0.25, start=7)
    assert (usual.table.keep, usual.start) == (0.5, 50)  # an eighth of a short run
    assert (chosen.table.keep, chosen.start) == (0.25, 7)


def test_the_mean_is_held_where_no_strong_label_says_where_labels_belong() -> None:
    alone = DataSet("data", SPEC, DATA.samples[1:])
    asked = [made(), made(alone), made(alone, centred=False), made(centred=True)]
    assert [placing.centred for placing in asked] == [False, True, False, True]
