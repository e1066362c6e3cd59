"""What became of labels that were put in place: the table, the order and the words."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelmend.inference.fixed import DRIFT, FIRST, Fixed, Fixing, drift
from labelmend.inference.places import Place
from labelmend.types import EMPTY, FLAT, IN_PLACE, MOVED, PARTLY, UNSURE, Sample

NAN = math.nan


def one(name: str, code: int = IN_PLACE, sure: float = 0.5, **more: Any) -> Fixed:
    """A label of that name; moved by (3, 4) where that is the reason."""
    there = np.array([3.0, 4.0]) if code in (MOVED, PARTLY) else np.zeros(2)
    place = Place(there, sure, more.pop("gain", 1.0), code, more.pop("matrix", None))
    figures = {"metric": "dice", "before": 0.5, "after": 0.75, "unknown": 0, "written": name}
    return Fixed(Sample("i", name, "weak", "train", "g"), place=place, **figures | more)


def text_of(*rows: Fixed, **more: Any) -> str:
    return Fixing(Path("out"), rows, "background", **more).to_text()


def test_every_figure_stands_in_its_column() -> None:
    matrix = np.array([[0.0, -2.0, 1.0], [2.0, 0.0, 5.0]])
    bent = Place(np.array([1.5, -2.25]), 0.9875, 12.5, MOVED, matrix, bent_by=0.625)
    sample = Sample("images/i", "labels/l", "weak", "val", "group", "annotator")
    rows = (
        Fixed(sample, "labels/l.png", bent, "psnr", 20.5, 21.25, 17),
        one("plain", UNSURE, metric="psnr", before=NAN, after=NAN),
    )
    last, first = csv.DictReader(Fixing(Path("out"), rows, "").to_csv().splitlines())
    assert first == {
        "label": "labels/l",
        "image": "images/i",
        "split": "val",
        "group": "group",
        "annotator": "annotator",
        "written": "labels/l.png",
        "moved": "yes",
        "displacement_0": "1.5",
        "displacement_1": "-2.25",
        "angle": "90.0",
        "scale": "2.0",
        "bent_by": "0.625",
        "confidence": "0.9875",
        "gain": "12.5",
        "psnr_before": "20.5",
        "psnr_after": "21.25",
        "unknown": "17",
        "reason": "moved",
    }
    assert last["moved"] == "no"
    assert (last["angle"], last["scale"], last["bent_by"]) == ("0.0", "1.0", "0.0")
    assert (last["psnr_before"], last["psnr_after"], last["unknown"]) == ("", "", "0")


def test_what_fits_worse_than_before_is_looked_at_first_then_what_is_unclear() -> None:
    wanted = (
        one("lost most", MOVED, before=0.9, after=0.5),
        one("lost", MOVED, before=0.9, after=0.8),
        one("unclear, bad", UNSURE, before=0.2),
        one("unclear", UNSURE, before=0.8),
        one("unclear, nothing to compare", UNSURE, before=NAN),
        one("moved, less sure", MOVED, 0.91),
        one("moved", PARTLY, 0.95),
        one("moved, fits as before", MOVED, 0.97, after=0.5),
        one("empty", EMPTY, before=0.3),
        one("in place, bad", IN_PLACE, before=0.4),
        one("flat", FLAT, before=0.6),
        one("in place", IN_PLACE, before=0.9),
    )
    for rows in (wanted, wanted[::-1]):
        assert Fixing(Path("out"), rows, "").first() == [*wanted]


def test_as_many_as_said_are_named_and_none_that_needs_no_look() -> None:
    moved = [one(f"moved {n}", MOVED, 0.9 + n / 100) for n in range(FIRST + 1)]
    named = [line for line in text_of(*moved).splitlines() if line.startswith("  ")]
    assert len(named) == FIRST == 5 and named[0].startswith("  moved 0: ")
    assert "look at these first" not in text_of(one("settled"), one("empty", EMPTY))
    text = text_of(one("settled"), one("moved", MOVED))
    assert text.endswith("look at these first:\n  moved: moved by (+3, +4), 50 % sure, "
                         "dice 0.500 → 0.750")  # fmt: skip


def test_nobody_is_told_to_be_surer_than_it_is() -> None:
    assert "99 % sure" in one("a", MOVED, 0.9999).said()


def test_what_came_from_outside_and_other_formats_are_counted() -> None:
    rows = (
        one("a.jpg", MOVED, unknown=3, written="a.png"),
        one("b.png", MOVED, unknown=40),
        one("c.png"),
    )
    text = text_of(*rows)
    assert "43 positions of 2 labels came from outside the image; written there: background" in text
    assert "1 label written as .png, for the format they had" in text
    assert "outside" not in text_of(rows[2]) and "written as ." not in text_of(rows[1])


def test_a_drift_is_the_mean_at_the_end_of_training() -> None:
    none, far = {"drift_0": 0.0, "drift_1": 0.0}, {"drift_0": 2 * DRIFT, "drift_1": 0.0}
    records = [{"step": 0}, *[far] * 30, *[none] * 10, {"step": 41}]
    assert drift(records) == pytest.approx([DRIFT, 0])
    assert "warning" not in text_of(one("a"), records=records)
    assert "warning: the network would rather" in text_of(one("a"), records=records[:-2])


def test_a_drift_is_as_far_as_its_axes_together() -> None:
    both = [{"drift_0": 0.8 * DRIFT, "drift_1": -0.8 * DRIFT}]
    assert "moved by (+0.4, -0.4)" in text_of(one("a"), records=both)
