from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelmend.catalogue.repairs import TABLE, read_repairs
from labelmend.catalogue.scan import inspect
from labelmend.errors import ChangedDataError, DataError, RunError
from labelmend.files.readers import read_as, read_label
from labelmend.inference.moved_labels import write_values
from labelmend.review.desk import Desk, Done
from labelmend.review.repaired import can_ignore, export_repairs, read_bases
from labelmend.review.store import Store
from labelmend.runs import Run
from labelmend.training.assembly import fit

from ... import made_data

KINDS = ("gray", "volume", "recording", "signal", "sixteen")
SETTINGS = {
    "steps": 1,
    "device": "cpu",
    "network": {"width": 4, "depth": 2},
    "weighting": {"method": "constant"},
}


class Review:
    """A run, its desk, and a person at it."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.root, spec = run, Path(run.data.root), run.data.spec
        folder.mkdir(exist_ok=True)
        self.store = Store.open(folder / "review" / "review.sqlite")
        self.desk = Desk(
            self.store, read_bases(run), classes=len(spec.classes), ignore=can_ignore(spec)
        )

    def do(self, label: str, **op: Any) -> None:
        version, name = self.desk.state(label).version, str(uuid.uuid4())
        done = self.desk.do(label, version, name, op, "Eva", blobs=lambda _: np.zeros(0))
        assert isinstance(done, Done)

    def edit(self, label: str) -> None:
        """Draw something that the label does not have."""
        indices = self.desk.state(label).indices
        if indices.ndim == 1:
            self.do(label, kind="interval", **{"class": 1}, start=20, stop=25)
            self.do(label, kind="interval", **{"class": 0}, start=0, stop=4)
            return
        more = {"slice": {"axis": 2, "index": 3}} if indices.ndim == 3 else {}
        self.do(label, kind="brush", **{"class": 1}, radius=1.5, points=[[1, 1], [1, 4]], **more)

    def accept(self, label: str) -> None:
        self.do(label, kind="verdict", value="accepted")


@pytest.fixture(params=["gray"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A data set and a run of one step, by kind, to be copied."""
    done: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            data = made_data.KINDS[name](folder / "data")
            fit(data, folder / "run", **SETTINGS)  # type: ignore[arg-type]
            done[name] = folder
        return done[name]

    return make


@pytest.fixture
def review(made: Callable[[str], Path], kind: str, tmp_path: Path) -> Review:
    folder = tmp_path / "all"
    shutil.copytree(made(kind), folder)
    return Review(_moved_to(folder), tmp_path)


def _moved_to(folder: Path) -> Run:
    """The run of a copied folder, its data where the copy is."""
    import dataclasses

    run = Run.open(folder / "run")
    data = dataclasses.replace(run.data, root=str(folder / "data"))
    run._description = dataclasses.replace(run._description, data=data)
    return run


def first_weak(run: Run, number: int = 0) -> str:
    return run.weak[number].label


def snapshot(root: Path) -> dict[str, str]:
    """Every file that was there before a review, and its hash."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "repair" not in str(path.relative_to(root))
    }


def read(review: Review, label: str) -> np.ndarray:
    """A label file as class indices, by the readers that training uses."""
    spec, stem = review.run.data.spec, Path(label).name.split(".")[0]
    image = next(s.image for s in review.run.data.samples if Path(s.image).name.startswith(stem))
    raster = read_as(review.root / image, spec)
    indices, known = read_label(review.root / label, spec, raster)
    return np.where(known, indices, -1)


@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_a_repaired_label_is_a_file_that_training_reads_bit_for_bit(review: Review) -> None:
    before, label = snapshot(review.root), first_weak(review.run)
    review.edit(label)
    review.accept(label)
    result = export_repairs(review.run, review.desk)
    assert (result.accepted, result.written, result.rejected, result.open_edits) == (1, 1, 0, 0)
    repair = read_repairs(review.root)[label]
    assert (repair.person, repair.quality, repair.verdict) == ("Eva", "weak", "accepted")
    event = review.desk.events(label)[-1].event.id
    assert repair.event == event and f".{event[:8]}." in repair.repaired
    assert np.array_equal(read(review, repair.repaired), review.desk.state(label).indices)
    assert snapshot(review.root) == before  # originals untouched
    found = inspect(review.root)
    assert not found.problems and found.dataset is not None
    labels = {sample.label for sample in found.dataset.samples}
    assert repair.repaired in labels and label not in labels


def test_again_it_writes_the_same(review: Review) -> None:
    label = first_weak(review.run)
    review.edit(label)
    review.accept(label)
    export_repairs(review.run, review.desk)
    files = {p: p.read_bytes() for p in review.root.rglob("*") if p.is_file()}
    again = export_repairs(review.run, review.desk)
    assert {p: p.read_bytes() for p in review.root.rglob("*") if p.is_file()} == files
    assert (again.written, again.replaced) == (1, 0)


def test_what_is_right_needs_no_new_file(review: Review) -> None:
    label = first_weak(review.run)
    review.do(label, kind="quality", value="strong")
    review.accept(label)
    result = export_repairs(review.run, review.desk)
    assert (result.accepted, result.written, result.strong) == (1, 0, 1)
    repair = read_repairs(review.root)[label]
    assert (repair.repaired, repair.quality) == ("", "strong")
    found = inspect(review.root).dataset
    assert found is not None
    assert {s.label: s.quality for s in found.samples}[label] == "strong"


def test_edits_undone_are_no_repair(review: Review) -> None:
    label = first_weak(review.run)
    review.edit(label)
    review.do(label, kind="undo")
    review.accept(label)
    assert export_repairs(review.run, review.desk).written == 0


def test_what_is_not_accepted_stays_as_it_was_and_is_said(review: Review) -> None:
    label = first_weak(review.run)
    review.edit(label)
    result = export_repairs(review.run, review.desk)
    assert (result.accepted, result.open_edits) == (0, 1)
    assert "1 changed but not accepted: stays as before" in result.said()
    assert not (review.root / TABLE).exists()


def test_rejected_ones_are_left_out(review: Review) -> None:
    label = first_weak(review.run)
    review.edit(label)
    review.do(label, kind="verdict", value="rejected")
    result = export_repairs(review.run, review.desk)
    assert (result.rejected, result.written) == (1, 0)
    found = inspect(review.root).dataset
    assert found is not None and label not in {s.label for s in found.samples}


def test_a_verdict_taken_back_is_taken_back_here_too(review: Review) -> None:
    label = first_weak(review.run)
    review.accept(label)
    export_repairs(review.run, review.desk)
    review.do(label, kind="verdict", value="open")
    export_repairs(review.run, review.desk)
    assert read_repairs(review.root) == {}


def test_a_mark_without_a_verdict_is_said(review: Review) -> None:
    one, two = first_weak(review.run, 0), first_weak(review.run, 1)
    review.do(one, kind="quality", value="strong")
    review.do(two, kind="quality", value="weak")  # as it was
    result = export_repairs(review.run, review.desk)
    assert (result.accepted, result.strong, result.open_marks) == (0, 0, 1)
    assert "; 1 marked as strong or weak but not accepted: stays as before" in result.said()
    assert result.to_json()["open_marks"] == 1
    assert read_repairs(review.root) == {}


def test_two_reviews_of_different_labels_both_count(review: Review, tmp_path: Path) -> None:
    other = Review(review.run, tmp_path / "other")
    one, two = first_weak(review.run, 0), first_weak(review.run, 1)
    review.accept(one)
    other.accept(two)
    other.edit(first_weak(review.run, 2))
    export_repairs(review.run, review.desk)
    assert export_repairs(other.run, other.desk).replaced == 0
    assert set(read_repairs(review.root)) == {one, two}


def test_of_one_label_the_later_word_counts_and_that_is_said(
    review: Review, tmp_path: Path
) -> None:
    other, label = Review(review.run, tmp_path / "other"), first_weak(review.run)
    review.edit(label)
    review.accept(label)
    export_repairs(review.run, review.desk)
    other.do(label, kind="verdict", value="rejected")
    result = export_repairs(other.run, other.desk)
    assert result.replaced == 1 and "replaced what another review had said" in result.said()
    assert read_repairs(review.root)[label].verdict == "rejected"


def test_a_repaired_label_can_be_repaired_again(review: Review, tmp_path: Path) -> None:
    """Trained on repairs, reviewed once more: the table still has one line, for the original."""
    label = first_weak(review.run)
    review.edit(label)
    review.accept(label)
    export_repairs(review.run, review.desk)
    first = read_repairs(review.root)[label].repaired
    again = fit(review.root, tmp_path / "second", **SETTINGS)  # type: ignore[arg-type]
    assert first in {sample.label for sample in again.weak}
    second = Review(again, tmp_path / "again")
    second.do(first, kind="move", displacement=[0, 1], angle=0)
    second.accept(first)
    result = export_repairs(again, second.desk)
    assert (result.written, result.replaced) == (1, 0)
    (repair,) = read_repairs(review.root).values()
    assert repair.label == label and repair.repaired not in ("", first)
    assert np.array_equal(read(review, repair.repaired), second.desk.state(first).indices)
    assert (review.root / first).exists()


def test_a_repaired_label_accepted_as_it_is_stays(review: Review, tmp_path: Path) -> None:
    label = first_weak(review.run)
    review.edit(label)
    review.accept(label)
    export_repairs(review.run, review.desk)
    first = read_repairs(review.root)[label].repaired
    again = Review(fit(review.root, tmp_path / "second", **SETTINGS), tmp_path / "again")  # type: ignore[arg-type]
    again.do(first, kind="quality", value="strong")
    again.accept(first)
    result = export_repairs(again.run, again.desk)
    assert (result.strong, result.written) == (1, 0)
    assert read_repairs(review.root)[label].repaired == first


@pytest.mark.parametrize("redrawn", [False, True])
def test_a_verdict_of_a_second_review_taken_back_leaves_the_first_repair(
    review: Review, tmp_path: Path, redrawn: bool
) -> None:
    label = first_weak(review.run)
    review.edit(label)
    review.do(label, kind="quality", value="strong")
    review.accept(label)
    export_repairs(review.run, review.desk)
    table = (review.root / TABLE).read_bytes()
    first = read_repairs(review.root)[label].repaired
    again = Review(fit(review.root, tmp_path / "second", **SETTINGS), tmp_path / "again")  # type: ignore[arg-type]
    if redrawn:
        again.do(first, kind="move", displacement=[0, 1], angle=0)
    again.accept(first)
    for _ in range(2):
        result = export_repairs(again.run, again.desk)
        assert (result.written, result.strong, result.replaced) == (int(redrawn), 0, 0)
        assert list(read_repairs(review.root)) == [label]
        assert (review.root / TABLE).read_bytes() != table
    for _ in range(2):
        again.do(first, kind="verdict", value="open")
        export_repairs(again.run, again.desk)
        assert (review.root / TABLE).read_bytes() == table
    assert not inspect(review.root).problems


def test_what_another_review_said_comes_back_when_its_replacement_is_taken_back(
    review: Review, tmp_path: Path
) -> None:
    other, label = Review(review.run, tmp_path / "other"), first_weak(review.run)
    review.accept(label)
    export_repairs(review.run, review.desk)
    table = (review.root / TABLE).read_bytes()
    for value in ("rejected", "open"):
        other.do(label, kind="verdict", value=value)
        export_repairs(other.run, other.desk)
    assert (review.root / TABLE).read_bytes() == table


def test_a_label_that_changed_on_disk_is_refused(review: Review) -> None:
    label = first_weak(review.run)
    review.accept(label)
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(review.root / label)
    with pytest.raises(ChangedDataError, match="is not the file"):
        export_repairs(review.run, review.desk)
    assert not (review.root / TABLE).exists()


@pytest.mark.parametrize(("edited", "changed"), [(0, "original"), (1, "original"), (1, "repaired")])
def test_a_label_that_changed_after_the_export_is_not_learned_from(
    review: Review, edited: int, changed: str
) -> None:
    label = first_weak(review.run)
    if edited:
        review.edit(label)
    review.accept(label)
    export_repairs(review.run, review.desk)
    repair = read_repairs(review.root)[label]
    file = repair.repaired if changed == "repaired" else label
    values = np.asarray(Image.open(review.root / file))
    Image.fromarray(values[::-1].copy()).save(review.root / file)  # another one, and a label
    found = inspect(review.root)
    assert [problem.file for problem in found.problems] == [TABLE]
    assert file in found.problems[0].message and found.dataset is not None
    assert not {label, repair.repaired} & {sample.label for sample in found.dataset.samples}


def test_a_file_that_does_not_hold_what_was_drawn_is_no_repair(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(target: Path, values: np.ndarray, *rest: Any) -> None:
        write_values(target, np.zeros_like(values), *rest)

    label = first_weak(review.run)
    review.edit(label)
    review.accept(label)
    monkeypatch.setattr("labelmend.review.repaired.write_values", write)
    with pytest.raises(DataError, match="does not hold what was drawn"):
        export_repairs(review.run, review.desk)
    assert not (review.root / TABLE).exists()


def test_a_data_set_that_is_gone_is_named(review: Review) -> None:
    review.root.rename(review.root.with_name("elsewhere"))
    with pytest.raises(DataError, match="does not exist any more"):
        export_repairs(review.run, review.desk)


def test_a_review_of_another_run_is_refused(review: Review) -> None:
    with pytest.raises(RunError, match="belongs to another run"):
        read_bases(review.run)("labels/weak/none.png")


def _numbered(folder: Path, top: int, more: str = "") -> Review:
    """A review of labels with the objects 7 and ``top``."""
    root = made_data.folders(folder / "data", "ann")
    toml = f"{more}instances = true\n[classes]\nrest = 0\ncell = 1\n"
    (root / "data.toml").write_text(toml)
    for n in range(8):
        image, place = made_data.thing(n, (20, 24))
        label = place.astype(np.uint16 if top > 255 else np.uint8) * 7
        label[0, :3] = top
        if more:
            label[1, :] = 255
        Image.fromarray(np.clip(80 + 90 * image, 0, 255).astype(np.uint8)).save(
            root / f"images/c{n}.png"
        )
        kind = "strong" if n < 6 else "weak/ann"
        Image.fromarray(label).save(root / f"labels/{kind}/c{n}.png")
    return Review(fit(root, folder / "run", **SETTINGS), folder)  # type: ignore[arg-type]


def test_numbers_of_objects_are_kept(tmp_path: Path) -> None:
    """Where every value above 0 is one thing, what was not drawn on keeps its number."""
    review = _numbered(tmp_path, 900)
    root, label = review.root, first_weak(review.run)
    review.do(label, kind="brush", **{"class": 1}, radius=1, points=[[18, 2]])
    review.accept(label)
    export_repairs(review.run, review.desk)
    written = np.asarray(Image.open(root / read_repairs(root)[label].repaired))
    before = np.asarray(Image.open(root / label))
    assert set(np.unique(written)) == {0, 7, 900, 901}
    assert np.array_equal(written[before > 0], before[before > 0])
    assert (written == 901).sum() == 5


@pytest.mark.parametrize(("top", "new"), [(90, 91), (254, 256)])
def test_what_is_drawn_over_unknown_positions_is_a_new_object(
    tmp_path: Path, top: int, new: int
) -> None:
    review = _numbered(tmp_path, top, "ignore = 255\n")
    root, label = review.root, first_weak(review.run)
    review.do(label, kind="brush", **{"class": 1}, radius=1, points=[[1, 20]])
    review.accept(label)
    export_repairs(review.run, review.desk)
    written = np.asarray(Image.open(root / read_repairs(root)[label].repaired))
    before = np.asarray(Image.open(root / label))
    assert set(np.unique(written)) == {0, 7, top, new, 255}
    assert (written == new).sum() == 5
    assert np.array_equal(written[written != new], before[written != new])
