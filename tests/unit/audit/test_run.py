"""A whole audit of small data whose network knows the answer; nothing is trained."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from labelmend.audit import Audit, Ranked, run_audit
from labelmend.audit.history import read_courses, read_places
from labelmend.audit.looking import compare, look
from labelmend.errors import ChangedDataError, DataError
from labelmend.inference.offsets import Case
from labelmend.inference.predictor import Predictor
from labelmend.progress import Silent
from labelmend.types import IN_PLACE, MOVED, REASONS, UNSURE, DataSpec

from ..inference import test_fix as made


def audit_of(root: Path, changes: Mapping[str, Any] | None = None, **more: Any) -> Audit:
    made.make_data(root, **more)
    return run_audit(made.make_predictor(root, made.Bright(), changes))


def by_name(audit: Audit) -> dict[str, Ranked]:
    return {Path(one.label).name.split(".")[0]: one for one in audit.labels}


def image_of(root: Path, name: str, copy: str, label: np.ndarray | None = None) -> None:
    """One more weak label, of an image that is a copy of another."""
    shutil.copy(root / f"data/images/{name}.png", root / f"data/images/{copy}.png")
    there = root / f"data/labels/weak/ann/{copy}.png"
    if label is None:
        shutil.copy(root / f"data/labels/weak/ann/{name}.png", there)
    else:
        made.png(there, label)


# --- figures --------------------------------------------------------------------------------------


def test_every_label_is_ranked_and_displaced_ones_come_first(tmp_path: Path) -> None:
    before = made.make_data(tmp_path) and made.hashes(tmp_path / "data")
    predictor = made.make_predictor(tmp_path, made.Bright())
    audit = run_audit(predictor)
    found = by_name(audit)
    assert sorted(found) == ["a", "b", "c", "d", "s"]
    for name, there in made.PLACES.items():
        assert found[name].displacement == tuple(-float(v) for v in there)
        assert found[name].confidence is not None and found[name].confidence > 0.9
    assert found["c"].disagreement == found["s"].disagreement == 0
    assert {Path(one.label).name[0] for one in audit.labels[:3]} == {"a", "b", "d"}
    assert audit.labels[-1].quality == "strong" and "weak" not in audit.labels[-1].label
    assert "lies 5.8 positions off (move it up 3, right 5)" in found["a"].reason
    assert found["c"].reason == "prediction and label overlap by 100 %"
    assert audit.step == 3 and audit.run == str(predictor.run.path) and audit.notes == ()
    assert made.hashes(tmp_path / "data") == before


def test_displacements_are_in_positions_of_the_file(tmp_path: Path) -> None:
    places = {"a": (6, -8), "b": (-4, 0), "c": (0, 0)}
    made.make_data(tmp_path, places=places)
    changes = {"input": {"size": [32, 32]}}
    found = by_name(run_audit(made.make_predictor(tmp_path, made.Bright(), changes)))
    for name, there in places.items():
        assert found[name].displacement == tuple(-float(v) for v in there)


def test_the_mean_that_is_held_is_that_of_weak_labels(tmp_path: Path) -> None:
    places, held = {"a": (4, 4), "b": (4, 0), "c": (4, -4)}, {"align": {"centred": True}}
    found = by_name(audit_of(tmp_path, held, places=places))
    assert [found[name].displacement for name in places] == [(0, -4), (0, 0), (0, 4)]


def test_disagreement_is_one_minus_dice(tmp_path: Path) -> None:
    truth = made.make_data(tmp_path)
    found = by_name(run_audit(made.make_predictor(tmp_path, made.Bright())))
    for name, there in made.PLACES.items():
        mask, label = truth[name] > 0, made.shifted(truth[name], there) > 0
        dice = 2 * (mask & label).sum() / (mask.sum() + label.sum())
        assert found[name].disagreement == pytest.approx(1 - dice)


def test_an_empty_label_is_no_move_and_says_so(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    image_of(tmp_path, "c", "e", np.zeros((made.SIZE, made.SIZE), np.uint8))
    found = by_name(run_audit(made.make_predictor(tmp_path, made.Bright())))["e"]
    assert (found.displacement, found.confidence, found.disagreement) == (None, None, 1.0)
    assert found.reason == "the label is empty, the prediction is not"


def test_where_both_are_empty_there_is_nothing_to_compare(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    empty = np.zeros((made.SIZE, made.SIZE), np.uint8)
    image_of(tmp_path, "c", "e", empty)
    made.png(tmp_path / "data/images/e.png", empty + 60)
    changes = {"input": {"normalise": "none"}}
    predictor = made.make_predictor(tmp_path, Level(), changes)
    found = by_name(run_audit(predictor))["e"]
    assert found.disagreement is None and found.reason == "label and prediction are both empty"


class Level(made.Bright):
    """Knows how bright is bright, also where nothing is."""

    def forward(self, image: Any) -> Any:
        return super().forward(image - 120)


def test_what_is_ignored_does_not_count(tmp_path: Path) -> None:
    def half(place: np.ndarray) -> np.ndarray:
        label = place.astype(np.uint8)
        label[:32] = 9
        return label

    made.make_data(tmp_path, label_of=half, toml="ignore = 9\n", places={"a": (0, 0)}, outside=9)
    found = by_name(run_audit(made.make_predictor(tmp_path, made.Bright())))
    assert found["a"].disagreement == 0


def test_a_label_that_says_nothing_has_no_figure() -> None:
    spec = DataSpec("segmentation", ("rest", "cell"), (0, 1), 9, 1, 1, "none", ".npy")
    label = np.zeros(4, np.int64)
    assert compare(Case(np.eye(2)[:, [0, 1, 0, 1]], label, label > 0), spec) == (None, 0, "unsaid")


def test_continuous_labels_are_told_by_their_error(tmp_path: Path) -> None:
    def values(place: np.ndarray) -> np.ndarray:
        return (place * 120.0 + 60).astype(np.float32)

    made.make_data(
        tmp_path,
        tifffile.imwrite,
        ".tif",
        values,
        'task = "regression"\nclasses = ["height"]\n',
        {"a": (0, 0), "b": (5, 5), "c": (0, 0)},
        60,
    )
    far = tifffile.imread(tmp_path / "data/labels/weak/ann/c.tif") + 400
    tifffile.imwrite(tmp_path / "data/labels/weak/ann/c.tif", far)
    predictor = made.make_predictor(
        tmp_path, made.Bright(values=True), {"input": {"normalise": "none"}}
    )
    audit = run_audit(predictor)
    found = by_name(audit)
    assert found["a"].disagreement == 0 and 0 < (found["b"].disagreement or 0) < 1
    assert (found["c"].disagreement or 0) > 0.8
    assert found["b"].displacement == (-5.0, -5.0)
    assert [Path(one.label).stem for one in audit.labels[:2]] == ["b", "c"]
    assert "times the usual spread of labels" in found["c"].reason


def test_errors_of_values_are_shares_of_themselves_and_the_usual_spread(tmp_path: Path) -> None:
    truth = made.make_data(
        tmp_path,
        tifffile.imwrite,
        ".tif",
        lambda place: (place * 120.0 + 60).astype(np.float32),
        'task = "regression"\nclasses = ["height"]\n',
        {"a": (0, 0), "b": (5, 5), "c": (0, 0), "d": (0, 0)},
        60,
    )
    for name, more in (("b", 30), ("c", 400)):
        path = tmp_path / f"data/labels/weak/ann/{name}.tif"
        tifffile.imwrite(path, tifffile.imread(path) + np.float32(more))
    path = tmp_path / "data/labels/weak/ann/d.tif"
    tifffile.imwrite(path, 9 * tifffile.imread(path))
    network, changes = made.Bright(values=True), {"input": {"normalise": "none"}}
    evidence, _, _ = look(made.make_predictor(tmp_path, network, changes), Silent())
    found = {Path(one.sample.label).stem: one for one in evidence}
    given = {name: tifffile.imread(next(tmp_path.glob(f"data/**/{name}.tif"))) for name in found}
    spread = np.median([np.abs(each - np.median(each)).mean() for each in given.values()])

    def share(error: float) -> float:
        return error / (error + float(spread))

    for name, one in found.items():
        error = float(np.abs(given[name] - truth[name]).mean())
        assert one.disagreement == pytest.approx(share(error))
    assert found["b"].displacement == (-5, -5)
    assert found["b"].explained == pytest.approx((found["b"].disagreement or 0) - share(30))


def test_where_a_search_does_not_go_with_the_labels_that_is_said(tmp_path: Path) -> None:
    made.make_data(
        tmp_path,
        tifffile.imwrite,
        ".tif",
        lambda place: (place * 120.0 + 60).astype(np.float32),
        'task = "regression"\nclasses = ["height"]\n',
        {"a": (0, 0)},
    )
    changes = {"input": {"normalise": "none"}, "align": {"score": "dice"}}
    audit = run_audit(made.make_predictor(tmp_path, made.Bright(values=True), changes))
    assert "where labels belong was not looked for" in audit.notes[0]
    assert "dice" in audit.notes[0] and audit.labels[0].displacement is None


# --- what belongs together ------------------------------------------------------------------------


def test_copies_go_behind_and_name_what_they_are_like(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    image_of(tmp_path, "d", "copy")
    image_of(tmp_path, "d", "other", made.blobs(50).astype(np.uint8) * 255)
    audit = run_audit(made.make_predictor(tmp_path, made.Bright()))
    found = by_name(audit)
    behind = audit.labels[-1]
    assert behind.like and {behind.label, behind.like} == {found["d"].label, found["copy"].label}
    assert behind.reason.startswith(f"like {behind.like} above it")
    assert [one.label for one in audit.labels if one.like] == [behind.label]


def test_labels_of_one_image_are_compared_and_the_odd_one_named(tmp_path: Path) -> None:
    made.make_data(tmp_path, places={"a": (0, 0), "b": (0, 0)})
    for who in ("bob", "cleo", "dora"):
        (tmp_path / f"data/labels/weak/{who}").mkdir()
        label = made.blobs(0).astype(np.uint8) * 255
        made.png(
            tmp_path / f"data/labels/weak/{who}/a.png",
            made.shifted(label, (9, 9)) if who == "dora" else made.shifted(label, (0, 1)),
        )
    audit = run_audit(made.make_predictor(tmp_path, made.Bright()))
    assert audit.labels[0].label == "labels/weak/dora/a.png"
    assert "it overlaps with 3 other labels of this image by" in audit.labels[0].reason
    assert {part.name: part.labels for part in audit.annotators}["dora"] == 1


# --- what the run recorded ------------------------------------------------------------------------


def test_weights_come_from_the_history(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    predictor = made.make_predictor(tmp_path, made.Bright())
    run = predictor.run
    names = [Path(sample.label).stem for sample in run.weak]
    run.log_weights(1, {"weight": [0.3, 0.5, None, 0.9], "loss": [1.0, 2.0, None, 3.0]})
    run.log_weights(2, {"weight": [0.1, None, None, 1.0], "loss": [1.5, None, None, 3.5]})
    courses = {Path(label).stem: one for label, one in read_courses(run).items()}
    assert names == ["a", "b", "c", "d"]
    assert courses["a"].weight == 0.1 and courses["a"].average == pytest.approx(0.2)
    assert courses["b"].weight == 0.5 and courses["b"].loss == 2.0
    assert courses["c"].average is None and courses["c"].weight == run.settings.weighting.initial
    found = by_name(run_audit(predictor))
    assert (found["a"].weight, found["d"].weight, found["s"].weight) == (0.1, 1.0, None)
    assert "weight fell to 0.10" in found["a"].reason


def test_given_weights_count_as_a_look(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    predictor = made.make_predictor(tmp_path, made.Bright())
    run = predictor.run
    run._description.facts["given_weights"] = {run.weak[0].label: 0.25}
    courses = read_courses(run)
    assert courses[run.weak[0].id].average == 0.25
    assert courses[run.weak[1].id].average is None


def test_places_of_training_are_taken_over(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    changes = {"align": {"transform": "shift"}}
    predictor = made.make_predictor(tmp_path, made.Bright(), changes)
    known = {"a": (7.0, 7.0, MOVED), "b": (0.0, 0.0, IN_PLACE), "c": (0.0, 0.0, UNSURE)}
    predictor.run.write_places(
        [
            {
                "id": f"labels/weak/ann/{name}.png",
                "displacement_0": down,
                "displacement_1": right,
                "confidence": 0.8,
                "gain": 4.0,
                "reason": REASONS[code],
            }
            for name, (down, right, code) in known.items()
        ]
    )
    assert set(read_places(predictor.run)) == {f"labels/weak/ann/{name}.png" for name in "abc"}
    found = by_name(run_audit(predictor))
    assert found["a"].displacement == (7.0, 7.0) and found["a"].confidence == 0.8
    assert found["b"].displacement == (0.0, 0.0)
    assert found["c"].displacement is None
    # Training did not look at this one, so the audit does.
    assert found["d"].displacement == (-6.0, -6.0)


def test_without_strong_labels_the_mean_of_all_shifts_is_held(tmp_path: Path) -> None:
    """Nobody says then which of two places is right, so that half the labels go each way."""
    made.make_data(tmp_path, places={"a": (6, 0), "b": (6, 0), "c": (0, 0), "d": (0, 0)})
    shutil.rmtree(tmp_path / "data/labels/strong")
    (tmp_path / "data/images/s.png").unlink()
    found = by_name(run_audit(made.make_predictor(tmp_path, made.Bright())))
    assert {name: one.displacement for name, one in found.items()} == {
        "a": (-3.0, 0.0),
        "b": (-3.0, 0.0),
        "c": (3.0, 0.0),
        "d": (3.0, 0.0),
    }


def test_evidence_is_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    shutil.copytree(tmp_path / "data/labels/weak/ann", tmp_path / "data/labels/weak/bob")
    predictor = made.make_predictor(tmp_path, made.Bright())
    evidence, prints, notes = look(predictor, Silent())
    samples = predictor.run.data.samples
    assert tuple(one.sample for one in evidence) == samples
    assert [one.content for one in prints] == [sample.image_sha256 for sample in samples]
    assert notes == []


# --- what cannot be read --------------------------------------------------------------------------


def test_a_changed_label_is_refused_by_name(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    predictor = made.make_predictor(tmp_path, made.Bright())
    made.png(tmp_path / "data/labels/weak/ann/b.png", np.zeros((made.SIZE, made.SIZE), np.uint8))
    with pytest.raises(ChangedDataError, match=r"labels/weak/ann/b\.png"):
        run_audit(predictor)


def test_data_that_is_gone_is_said(tmp_path: Path) -> None:
    made.make_data(tmp_path)
    predictor = made.make_predictor(tmp_path, made.Bright())
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match="does not exist any more"):
        run_audit(predictor)


def test_one_image_is_predicted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.make_data(tmp_path)
    for who in ("bob", "cleo"):
        shutil.copytree(tmp_path / "data/labels/weak/ann", tmp_path / f"data/labels/weak/{who}")
    seen = []
    before = Predictor.seen

    def count(self: Predictor, raster: Any) -> Any:
        seen.append(raster)
        return before(self, raster)

    monkeypatch.setattr(Predictor, "seen", count)
    audit = run_audit(made.make_predictor(tmp_path, made.Bright()), watcher=Silent())
    assert len(audit.labels) == 13 and len(seen) == 5
