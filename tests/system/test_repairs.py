"""The circle closes: what people decide about labels of a run is what the next one trains on."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labelmend.catalogue.repairs import read_repairs
from labelmend.review.desk import Desk
from labelmend.review.repaired import can_ignore, read_bases
from labelmend.review.store import Store
from labelmend.runs import Run

from .. import made_data
from ..command import command


@pytest.fixture
def reviewed(tmp_path: Path) -> Path:
    """A data folder and a run of it, of whose labels three were looked at."""
    made_data.gray(tmp_path / "data")
    options = [*made_data.settings_of("gray"), "--steps", "2", "--quiet"]
    said = command("train", tmp_path / "data", "--out", tmp_path / "first", *options)
    assert said.status == 0, said.err
    run = Run.open(tmp_path / "first")
    with Store.open(run.path / "review" / "review.sqlite") as store:
        spec = run.data.spec
        desk = Desk(store, read_bases(run), classes=len(spec.classes), ignore=can_ignore(spec))
        redrawn, refused, started = (sample.label for sample in run.weak[:3])
        stroke = {"kind": "brush", "class": 1, "radius": 2, "points": [[3, 3], [3, 9]]}
        for label, op in (
            (redrawn, stroke),
            (redrawn, {"kind": "quality", "value": "strong"}),
            (redrawn, {"kind": "verdict", "value": "accepted"}),
            (refused, {"kind": "verdict", "value": "rejected"}),
            (started, stroke),
        ):
            version = desk.state(label).version
            desk.do(label, version, str(uuid.uuid4()), op, "Eva", blobs=lambda _: np.zeros(0))
    return tmp_path


def _train(folder: Path, *more: object) -> tuple[int, str, Run | None]:
    options = [*made_data.settings_of("gray"), "--steps", "2"]
    said = command("train", folder / "data", "--out", folder / "second", *options, *more)
    run = Run.open(folder / "second") if said.status == 0 else None
    return said.status, said.err, run


def test_the_next_training_uses_what_was_repaired(reviewed: Path) -> None:
    first = Run.open(reviewed / "first")
    status, told, second = _train(reviewed, "--with-reviews", reviewed / "first")
    assert status == 0 and second is not None
    assert "1 label accepted, 1 of them repaired, 1 now strong; 1 rejected and left out" in told
    assert "1 changed but not accepted: stays as before" in told
    before = {sample.label for sample in first.data.samples}
    after = {sample.label: sample for sample in second.data.samples}
    redrawn, refused, started = (sample.label for sample in first.weak[:3])
    assert before - set(after) == {redrawn, refused} and started in after
    (new,) = set(after) - before
    assert new.startswith("labels/repaired/weak/ann/") and after[new].quality == "strong"
    assert any("were looked at by people" in note for note in second.data.notes)


def test_later_trainings_and_check_find_the_repairs_by_themselves(reviewed: Path) -> None:
    assert _train(reviewed, "--with-reviews", reviewed / "first")[0] == 0
    said = command("check", reviewed / "data")
    assert said.status == 0 and "2 labels were looked at by people (repairs.csv)" in said.out
    status, _, _ = _train(reviewed, "--set", "input.repairs=false")
    assert status == 1  # the folder is taken
    said = command(
        *("train", reviewed / "data", "--out", reviewed / "third", "--steps", "2", "--quiet"),
        *(*made_data.settings_of("gray"), "--set", "input.repairs=false"),
    )
    assert said.status == 0
    samples = Run.open(reviewed / "third").data.samples
    assert {s.label for s in samples} == {
        s.label for s in Run.open(reviewed / "first").data.samples
    }


def test_repairs_are_written_without_serving_the_page(reviewed: Path) -> None:
    said = command("review", reviewed / "first", "--export")
    assert said.status == 0 and said.out.startswith("1 label accepted, 1 of them repaired")
    assert f"table: {reviewed / 'data' / 'repairs.csv'}" in said.out
    assert len(read_repairs(reviewed / "data")) == 2


def test_what_cannot_be_brought_in_is_refused_before_anything_is_written(
    reviewed: Path, data: Path, trained: Callable[[str], made_data.Path]
) -> None:
    out = reviewed / "other"
    said = command("train", data, "--out", out, "--with-reviews", reviewed / "first")
    assert said.status == 1 and "--with-reviews wants a run of" in said.err
    said = command("train", reviewed / "data", "--out", reviewed / "first", "--with-reviews", "x")
    assert said.status == 1 and "is not empty" in said.err
    run = trained("gray").run  # type: ignore[attr-defined]
    root = Run.open(run).data.root
    said = command("train", root, "--out", out, "--with-reviews", run)
    assert said.status == 1 and "nobody reviewed" in said.err
    said = command("train", "--resume", reviewed / "first", "--with-reviews", reviewed / "first")
    assert said.status == 1 and "--resume goes on with the run's own data" in said.err
    assert not out.exists() and not (reviewed / "data" / "repairs.csv").exists()
