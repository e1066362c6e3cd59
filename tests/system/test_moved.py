"""Runs and data that were moved or copied find each other, or say how they can."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from labelmend.catalogue.attached import attach
from labelmend.errors import ChangedDataError, DamagedError, DataError
from labelmend.runs import Run
from labelmend.runs.whereabouts import NOTE, find_data, way_to
from labelmend.training.assembly import resume

from ..command import command
from ..conftest import Trained


@pytest.fixture
def project(trained: Callable[[str], Trained], tmp_path: Path) -> Path:
    """A folder with data and a run of its own."""
    here = tmp_path / "here"
    shutil.copytree(trained("gray").data, here / "data")
    out = here / "runs" / "one"
    done = command("train", here / "data", "--out", out, "--steps", 3, "--set", "network.width=4")
    assert done.status == 0, done
    return here


def test_what_is_moved_together_goes_on_together(project: Path, tmp_path: Path) -> None:
    before = command("evaluate", project / "runs" / "one", "--json")
    there = tmp_path / "elsewhere" / "deep"
    there.parent.mkdir()
    project.rename(there)
    run = there / "runs" / "one"
    after = command("evaluate", run, "--json")
    assert (after.status, after.out) == (0, before.out)
    assert Run.open(run).data.root == str(there / "data")
    assert resume(run).path == run


def test_data_that_were_moved_alone_are_attached(project: Path, tmp_path: Path) -> None:
    run, there = project / "runs" / "one", tmp_path / "archive"
    (project / "data").rename(there)
    gone = command("evaluate", run)
    assert gone.status != 0 and f"labelmend attach {run} DATA" in gone.err
    said = command("attach", run, there)
    assert said.status == 0 and f"its data lie in {there} from now on" in said.out
    for words in (("evaluate", run), ("audit", run), ("train", "--resume", run)):
        assert command(*words).status == 0
    # And where both exist, what was said last holds.
    shutil.copytree(there, project / "data")
    assert Run.open(run).data_folder() == there
    assert attach(Run.open(run), project / "data").data_folder() == project / "data"


LOOKING = ("evaluate", "audit", "verdict", "calibrate", "review", "fix", "train")


def test_whoever_needs_the_data_says_how_to_find_them(project: Path) -> None:
    run = project / "runs" / "one"
    shutil.rmtree(project / "data")
    more = {"train": ("--resume", run), "fix": (run, "--out", project / "fixed")}
    for name in LOOKING:
        gone = command(name, *more.get(name, (run,)))
        assert gone.status == 1 and f"labelmend attach {run} DATA" in gone.err, (name, gone)


def test_another_data_set_is_not_attached(project: Path, tmp_path: Path) -> None:
    run, other = Run.open(project / "runs" / "one"), tmp_path / "other"
    with pytest.raises(DataError, match="is not a folder; name the one that holds images/"):
        attach(run, other)
    shutil.copytree(project / "data", other)
    label = other / run.data.samples[0].label
    label.write_bytes(label.read_bytes() + b" ")
    with pytest.raises(ChangedDataError, match=f"{label.name} is not the file that"):
        attach(run, other)
    label.unlink()
    with pytest.raises(ChangedDataError, match=f"{label.name} does not exist; it was a file that"):
        attach(run, other)
    shutil.rmtree(other)
    other.mkdir()
    with pytest.raises(ChangedDataError, match=r"\(and \d+ more\)"):
        attach(run, other)
    assert not (run.path / NOTE).exists()
    assert Run.open(run.path).data.root == str(project / "data")


def test_attaching_counts_every_file_once(project: Path) -> None:
    run, heard = Run.open(project / "runs" / "one"), list[tuple[int, int]]()
    attach(run, project / "data", lambda done, total: heard.append((done, total)))
    files = {path for s in run.data.samples for path in (s.image, s.label)}
    assert heard == [(n + 1, len(files)) for n in range(len(files))]


# --- where to look --------------------------------------------------------------------------------


def test_where_data_are_looked_for(tmp_path: Path) -> None:
    run, lay, beside = tmp_path / "p" / "run", tmp_path / "old", tmp_path / "p" / "data"
    run.mkdir(parents=True)
    recorded, way = str(lay), "../data"
    assert find_data(run, recorded, way) == recorded  # nowhere: the error names where they lay
    beside.mkdir()
    assert find_data(run, recorded, way) == str(beside)
    assert find_data(run, recorded, "") == recorded  # a run of an earlier version
    lay.mkdir()
    assert find_data(run, recorded, way) == recorded  # where both are: where they lay
    (run / NOTE).write_text(f"{tmp_path / 'said'}\n")
    assert find_data(run, recorded, way) == str(tmp_path / "said")


def test_a_note_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / NOTE).mkdir()
    with pytest.raises(DamagedError, match=rf"{NOTE} cannot be read: .*; remove it"):
        find_data(tmp_path, "/data", "")


def test_no_way_leads_to_another_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, start: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", refuse)
    assert way_to(Path("/runs/one"), "/data") == ""
