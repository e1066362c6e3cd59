"""A run's temperature: found on held-out labels, judged on others, kept for one checkpoint only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labelmend
from labelmend.errors import DamagedError, DataError, SettingsError
from labelmend.inference import calibration
from labelmend.inference.calibration import calibrate
from labelmend.inference.offsets import Case
from labelmend.inference.predictor import Predictor
from labelmend.inference.temperature import NAME, read_calibrations
from labelmend.runs import Checkpoint, Run
from labelmend.types import Sample

Trained = Callable[[str], Any]
Change = Callable[[Sample], Sample]


class TooSure(nn.Module):
    """Right about four in five positions, and always sure of it."""

    def forward(self, image: Tensor) -> Tensor:
        return 8 * torch.cat([0.5 - image, image - 0.5], 1)


@pytest.fixture(scope="module")
def run(data: Path, small_settings: dict[str, Any], tmp_path_factory: Any) -> Run:
    """Two networks, trained for three steps; two strong labels held out."""
    out = tmp_path_factory.mktemp("calibrated") / "run"
    return labelmend.fit(
        data, out, steps=3, dual={"use": True}, mixing={"use": True}, **small_settings
    )


@pytest.fixture
def loaded(run: Run) -> Predictor:
    """A predictor whose run has no calibration yet."""
    (run.path / NAME).unlink(missing_ok=True)
    return labelmend.load(run, device="cpu")


def divided(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """The run's samples as if its splits were others."""
    data = predictor.run.data
    samples = tuple(change(sample) for sample in data.samples)
    changed = dataclasses.replace(data, samples=samples)
    monkeypatch.setattr(type(predictor.run), "data", changed)


def all_held_out(split: str) -> Change:
    return lambda s: dataclasses.replace(s, split=split) if s.quality == "strong" else s


def test_probabilities_become_honest_and_labels_stay(loaded: Predictor) -> None:
    sure = dataclasses.replace(
        loaded,
        network=TooSure(),
        preparation=dataclasses.replace(loaded.preparation, normalise="none"),
    )
    found = calibrate(sure)
    assert (found.split, found.judged, found.samples, found.groups) == ("val", "groups", 2, 2)
    assert found.positions == 2 * 32 * 32 and found.spread[0] < found.temperature < found.spread[1]
    assert found.temperature > 1.5 and found.after.ece < found.before.ece / 2
    assert found.after.nll < found.before.nll
    again = dataclasses.replace(sure, calibration=found)
    image = np.load(Path(loaded.run.data.root) / "images/s0.npy")
    assert np.array_equal(again.predict(image), sure.predict(image))
    scores = sure.scores(labelmend.types.Raster(image[None]))
    assert np.allclose(again.probabilities(scores), sure.probabilities(scores / found.temperature))
    assert "judged on 2 strong labels of val, each by the temperature" in found.to_text()


def test_it_is_taken_for_exactly_these_parameters(run: Run, loaded: Predictor) -> None:
    assert loaded.calibration is None and loaded.temperature == 1 and not loaded.notes
    found = calibrate(loaded)
    again = labelmend.load(run, device="cpu")
    assert again.calibration == found and again.temperature == found.temperature
    other = labelmend.load(run, model="auxiliary", device="cpu")
    assert other.calibration is None and "is for main of step 3" in other.notes[0]
    both = labelmend.load(run, model="ensemble", device="cpu")
    assert calibrate(both).model == "ensemble"
    assert [one.model for one in read_calibrations(run.path)] == ["main", "ensemble"]
    assert labelmend.load(run, model="ensemble").calibration is not None
    assert calibrate(again) == dataclasses.replace(found)  # the same once more
    assert [one.model for one in read_calibrations(run.path)] == ["ensemble", "main"]


def test_other_parameters_of_the_same_step_are_not_taken_for_these(
    loaded: Predictor, tmp_path: Path
) -> None:
    calibrate(loaded)
    kept = (loaded.run.path / NAME).read_text()
    values = json.loads(kept)
    values["kept"][0]["parameters"] = "0" * 64
    (loaded.run.path / NAME).write_text(json.dumps(values))
    again = labelmend.load(loaded.run.path)
    assert again.calibration is None and "with other parameters" in again.notes[0]


def test_another_step_is_said_in_one_line(
    data: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    run = labelmend.fit(data, tmp_path / "run", steps=3, **small)
    calibrate(labelmend.load(run))
    last = run.load()
    run.save(Checkpoint(4, last.tensors, last.state))
    loaded = labelmend.load(run)
    assert loaded.step == 4 and loaded.calibration is None
    assert loaded.notes[0].endswith(
        "is for main of step 3, and this is main of step 4: probabilities are as the network "
        "gives them; labelmend calibrate makes a temperature for it"
    )


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"kept": [{"model": "main"}]}', b"\xff"])
def test_a_damaged_file_is_said_and_made_again(loaded: Predictor, content: bytes) -> None:
    path = loaded.run.path / NAME
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="make it again by labelmend calibrate"):
        read_calibrations(loaded.run.path)
    again = labelmend.load(loaded.run)
    assert again.calibration is None and "cannot be read" in again.notes[0]
    calibrate(again)
    assert labelmend.load(loaded.run).calibration is not None


def some_for_testing(sample: Sample) -> Sample:
    chosen = sample.quality == "strong" and sample.split == "train"
    return dataclasses.replace(sample, split="test") if chosen else sample


def test_a_test_split_judges(loaded: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    divided(loaded, monkeypatch, some_for_testing)
    found = calibrate(loaded)
    assert (found.judged, found.judged_samples, found.samples) == ("test", 6, 2)
    assert found.positions == 2 * 32 * 32
    assert found.spread == (found.temperature, found.temperature)
    other = calibrate(loaded, "test")
    assert (other.judged, other.samples, other.split) == ("groups", 6, "test")


def test_a_group_is_never_judged_by_its_own_temperature(
    loaded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided(loaded, monkeypatch, all_held_out("val"))
    fitted: list[int] = []
    inner = calibration.fit_temperature
    monkeypatch.setattr(
        calibration, "fit_temperature", lambda own: fitted.append(len(own)) or inner(own)
    )
    assert calibrate(loaded).groups == 8
    assert fitted == [8, *[7] * 8]
    monkeypatch.setattr(calibration, "FOLDS", 3)
    fitted.clear()
    calibrate(loaded)
    assert sorted(fitted) == [5, 5, 6, 8]


def test_each_is_judged_by_the_temperature_of_all_others(
    loaded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided(loaded, monkeypatch, all_held_out("val"))
    judged: list[tuple[Any, Any]] = []
    measured = calibration.measure
    monkeypatch.setattr(
        calibration, "measure", lambda told, t: judged.append((told, t)) or measured(told, t)
    )
    found = calibrate(loaded)
    (told, without), (_, by) = judged
    others = [calibration.fit_temperature([*told[:i], *told[i + 1 :]]) for i in range(len(told))]
    assert without == [1.0] * 8 and by == others and len(set(by)) == 8
    assert found.spread == (min(by), max(by))


def test_a_label_that_says_nothing_is_passed_over(
    loaded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided(loaded, monkeypatch, all_held_out("val"))
    inner, first = calibration.open_case, loaded.run.data.of("val", "strong")[0]

    def blank(predictor: Predictor, sample: Sample) -> Case:
        case = inner(predictor, sample)
        return dataclasses.replace(case, valid=case.valid & (sample != first))

    monkeypatch.setattr(calibration, "open_case", blank)
    found = calibrate(loaded)
    assert (found.samples, found.groups, found.judged_samples) == (7, 7, 7)


def test_one_group_flatters_and_says_so(loaded: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    divided(loaded, monkeypatch, lambda s: dataclasses.replace(s, group="one"))
    found = calibrate(loaded)
    assert found.judged == "same" and "which flatters" in found.to_text()


def test_too_few_are_refused_with_the_way_out(
    loaded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided(loaded, monkeypatch, all_held_out("test"))
    with pytest.raises(DataError, match=r"0 strong labels in val.*there are 8 in test \(--split"):
        calibrate(loaded)
    divided(loaded, monkeypatch, lambda s: dataclasses.replace(s, split="train"))
    with pytest.raises(DataError, match=r"wants at least 2; keep some apart in a new run"):
        calibrate(loaded)
    with pytest.raises(SettingsError, match="val or test, not to train"):
        calibrate(loaded, "train")  # type: ignore[arg-type]


def test_numbers_have_no_temperature(trained: Trained) -> None:
    with pytest.raises(SettingsError, match="predicts numbers"):
        calibrate(labelmend.load(trained("continuous").run))


def test_few_positions_of_each_are_looked_at(
    loaded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = calibrate(loaded)
    monkeypatch.setattr(calibration, "PER_SAMPLE", 300)
    found = calibrate(loaded)
    assert found.positions == 600 and found == calibrate(loaded)
    assert found.temperature == pytest.approx(whole.temperature, rel=0.5)
    assert calibrate(loaded, seed=1).temperature != found.temperature
    monkeypatch.setattr(calibration, "ALL_TOGETHER", 100)
    assert calibrate(loaded).positions == 100


def test_what_judges_takes_its_share_of_the_memory(
    loaded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided(loaded, monkeypatch, some_for_testing)
    looked: list[int] = []
    measured = calibration.measure
    monkeypatch.setattr(
        calibration, "measure", lambda told, t: looked.append(len(told)) or measured(told, t)
    )
    monkeypatch.setattr(calibration, "ALL_TOGETHER", 80)
    assert calibrate(loaded).positions == 20 and looked == [6, 6]


def test_what_is_ignored_is_not_looked_at(
    loaded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, inner = [], calibration.open_case

    def half(predictor: Predictor, sample: Sample) -> Case:
        case = inner(predictor, sample)
        known = np.zeros_like(case.valid)
        known[5:21] = True
        given.append(case.label[known])
        return dataclasses.replace(case, valid=known, label=np.where(known, case.label, 0))

    seen: list[np.ndarray] = []
    fitted = calibration.fit_temperature
    monkeypatch.setattr(calibration, "open_case", half)
    monkeypatch.setattr(
        calibration, "fit_temperature", lambda own: seen.extend(a.label for a in own) or fitted(own)
    )
    assert calibrate(loaded).positions == 2 * 16 * 32
    assert all(np.array_equal(a, b) for a, b in zip(seen, given, strict=False))


def test_the_largest_temperature_is_no_finding(loaded: Predictor) -> None:
    class Wrong(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return 8 * torch.cat([image - 0.5, 0.5 - image], 1)

    found = calibrate(dataclasses.replace(loaded, network=Wrong()))
    assert found.at_the_end and "most extreme temperature" in found.to_text()
