"""Uncertainty beside labels: what is in the map, in the tables and in rules; strips as memory."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

import labelmend
from labelmend.errors import SettingsError
from labelmend.files.readers import read_as
from labelmend.inference.beside import Beside
from labelmend.inference.ensemble import Both, Ensemble
from labelmend.inference.files import Outcome, Way, predict_all
from labelmend.inference.large import memory_in_one, memory_in_strips
from labelmend.inference.predictor import Model, Predictor
from labelmend.inference.probabilities import disagreement, entropy, softmax
from labelmend.inference.reliability import Reliability
from labelmend.inference.temperature import Calibration
from labelmend.inference.way import as_wished
from labelmend.runs import Run

Trained = Callable[[str], Any]
MODELS: tuple[Model, ...] = ("main", "auxiliary", "ensemble")
NOTHING = Reliability(0.0, 0.0, 0.0, ())


@pytest.fixture(scope="module")
def run(data: Path, small_settings: dict[str, Any], tmp_path_factory: Any) -> Run:
    """Two networks after three steps."""
    out = tmp_path_factory.mktemp("dual") / "run"
    two = {"dual": {"use": True}, "mixing": {"use": True}}
    return labelmend.fit(data, out, steps=3, **two, **small_settings)


def calibrated(predictor: Predictor, temperature: float) -> Predictor:
    about = (predictor.model, predictor.step, "", temperature, "val", 2, 2, 2, 0, "groups", 2)
    found = Calibration(*about, NOTHING, NOTHING, (1, 1))
    return dataclasses.replace(predictor, calibration=found)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def predicted(predictor: Predictor, image: Path, out: Path, **more: Any) -> Outcome:
    beside = Beside(
        out / "conclusions", probabilities=True, uncertainty=True, **more.pop("with", {})
    )
    found = predict_all(predictor, [image], out, Way(beside=beside, **more))
    assert not found.failed
    return found


@pytest.fixture
def image(data: Path) -> Path:
    return data / "images/s1.npy"


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_both_networks_are_heard_and_the_label_is_the_same(
    run: Run, image: Path, model: Model, flips: bool, tmp_path: Path
) -> None:
    loaded = labelmend.load(run, model=model, device="cpu")
    plain = predict_all(loaded, [image], tmp_path / "plain", Way(flips=flips))
    found = predicted(loaded, image, tmp_path / "out", flips=flips)
    assert plain.written[0].read_bytes() == found.written[0].read_bytes()
    alone = [labelmend.load(run, model=m, device="cpu") for m in ("main", "auxiliary")]
    raster = read_as(image, loaded.spec)
    shares = [softmax(as_wished(one, Way(flips=flips)).scores(raster)) for one in alone]
    kept = np.load(tmp_path / "out/uncertainty/s1.npy.npy")
    assert kept.shape == (2, 32, 32) and kept.dtype == np.float16
    own = softmax(as_wished(loaded, Way(flips=flips)).scores(raster))
    assert np.array_equal(kept[0], entropy(own).astype(np.float16))
    assert np.array_equal(kept[1], disagreement(*shares).astype(np.float16))
    assert kept[1].max() > 0.001
    predicted(calibrated(loaded, 3.0), image, tmp_path / "cold", flips=flips)
    cold = np.load(tmp_path / "cold/uncertainty/s1.npy.npy")
    assert np.array_equal(cold[1], kept[1]) and (cold[0] > kept[0]).mean() > 0.9


@pytest.mark.parametrize("model", MODELS)
def test_scores_of_the_one_that_predicts_come_first_to_the_last_bit(run: Run, model: Model) -> None:
    main, auxiliary = labelmend.load(run, model="ensemble", device="cpu").network.networks
    ensemble = Ensemble([main, auxiliary], "segmentation")
    alone = {"main": main, "auxiliary": auxiliary, "ensemble": ensemble}
    given = torch.randn(2, 1, 16, 16)
    both = Both(main, auxiliary, model).eval()
    with torch.inference_mode():
        found = both(given)
        assert found.shape[1] == 2 * both.parts
        assert torch.equal(found[:, :2], alone[model](given))
        for one in (main, auxiliary):
            there = [
                torch.equal(found[:, n : n + 2], one(given)) for n in range(0, 2 * both.parts, 2)
            ]
            assert sum(there) == 1


def test_with_one_network_it_is_how_undecided_that_is(trained: Trained, tmp_path: Path) -> None:
    loaded = calibrated(labelmend.load(trained("gray").run, device="cpu"), 2.5)
    image = trained("gray").data / "images/s0.png"
    predicted(loaded, image, tmp_path)
    shares = np.load(tmp_path / "probabilities/s0.png.npy").astype(np.float32)
    kept = np.load(tmp_path / "uncertainty/s0.png.npy")
    assert kept.shape == (1, *shares.shape[1:])
    assert np.allclose(kept[0], entropy(shares), atol=2e-3)
    scores = loaded.scores(read_as(image, loaded.spec))
    assert np.allclose(shares, softmax(scores / 2.5), atol=1e-3)
    assert not np.allclose(shares, softmax(scores), atol=1e-3)


def test_tables_and_rules_have_the_means(run: Run, image: Path, tmp_path: Path) -> None:
    loaded = labelmend.load(run, model="ensemble", device="cpu")
    rules = tmp_path / "rules.csv"
    rules.write_text(
        "name,where\nunsure,uncertainty > 0.0001\nnever,disagreement > 1\n"
        'object,"""class 1"".uncertainty.mean > 0 and ""class 1"".disagreement.max > 0"\n'
    )
    found = predicted(loaded, image, tmp_path / "out", **{"with": {"rules": rules}})
    label, kept = np.load(found.written[0]), np.load(tmp_path / "out/uncertainty/s1.npy.npy")
    (file,) = rows(tmp_path / "out/conclusions/files.csv")
    for place, name in enumerate(("uncertainty", "disagreement")):
        assert float(file[name]) == pytest.approx(kept[place].astype(float).mean(), abs=1e-3)
    objects = rows(tmp_path / "out/conclusions/objects.csv")
    if objects:
        inside = sum(float(row["uncertainty"]) * int(row["area"]) for row in objects)
        assert inside == pytest.approx(float(kept[0][label > 0].astype(float).sum()), rel=2e-3)
        assert list(objects[0])[-1] == "disagreement" or "disagreement" in objects[0]
    assert "never" not in file["flags"] and "unsure" in file["flags"]
    assert ("object" in file["flags"].split()) == bool(objects)


def test_without_it_nothing_is_there_and_rules_say_what_to_add(
    run: Run, image: Path, tmp_path: Path
) -> None:
    loaded = labelmend.load(run, device="cpu")
    predict_all(loaded, [image], tmp_path, Way(beside=Beside(tmp_path / "c")))
    assert "uncertainty" not in (tmp_path / "c/files.csv").read_text()
    assert not (tmp_path / "uncertainty").exists()
    rules = tmp_path / "rules.csv"
    rules.write_text("name,where\nunsure,disagreement > 0.5\n")
    with pytest.raises(SettingsError, match="asks for disagreement; add --uncertainty"):
        predict_all(loaded, [image], tmp_path, Way(beside=Beside(tmp_path / "c", rules=rules)))


def test_one_network_disagrees_with_none(trained: Trained, tmp_path: Path) -> None:
    loaded = labelmend.load(trained("gray").run, device="cpu")
    rules = tmp_path / "rules.csv"
    rules.write_text("name,where\nunsure,disagreement > 0.5\n")
    beside = Beside(tmp_path / "c", rules=rules, uncertainty=True)
    with pytest.raises(SettingsError, match="unknown figure 'disagreement'"):
        predict_all(loaded, [trained("gray").data / "images"], tmp_path / "o", Way(beside=beside))


def test_numbers_are_not_uncertain(trained: Trained, tmp_path: Path) -> None:
    loaded = labelmend.load(trained("continuous").run, device="cpu")
    way = Way(beside=Beside(uncertainty=True))
    with pytest.raises(SettingsError, match="--uncertainty is for classes"):
        predict_all(loaded, [trained("continuous").data / "images"], tmp_path, way)


def test_strip_by_strip_is_what_memory_gives(run: Run, tmp_path: Path) -> None:
    loaded = calibrated(labelmend.load(run, device="cpu"), 1.7)
    loaded = dataclasses.replace(loaded, patch=(16, 16))
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(70, 40)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", noise, tile=(16, 16))
    predicted(loaded, tmp_path / "a.tif", tmp_path / "whole")
    predicted(loaded, tmp_path / "a.tif", tmp_path / "strips", memory=6e-5)
    one, other = (np.load(tmp_path / way / "uncertainty/a.tif.npy") for way in ("whole", "strips"))
    assert one.shape == (2, 70, 40) and np.allclose(one, other, atol=1e-3)
    with tifffile.TiffFile(tmp_path / "strips/a.tif") as tiff:
        assert tiff.pages[0].is_tiled
    for name in ("files.csv", "objects.csv"):
        ours, theirs = (rows(tmp_path / way / "conclusions" / name) for way in ("whole", "strips"))
        assert len(ours) == len(theirs) > 0
        for mine, yours in zip(ours, theirs, strict=True):
            for key in ("uncertainty", "disagreement"):
                assert float(mine[key]) == pytest.approx(float(yours[key]), rel=1e-4)


def test_two_networks_take_the_memory_of_two(run: Run) -> None:
    loaded = labelmend.load(run, device="cpu")
    unsure = Way(beside=Beside(uncertainty=True))
    assert [as_wished(loaded, way).outputs for way in (Way(), unsure)] == [2, 4]
    for memory, more in ((memory_in_one, 4), (memory_in_strips, 8)):
        with_two, alone = (
            memory(one, (1, 9, 10), 1) for one in (as_wished(loaded, unsure), loaded)
        )
        assert with_two - alone == 9 * 10 * 2 * more
    both = labelmend.load(run, model="ensemble", device="cpu")
    assert [as_wished(both, way).outputs for way in (Way(), unsure)] == [2, 6]


def test_a_resumed_folder_is_made_again_by_another_temperature(
    run: Run, image: Path, tmp_path: Path
) -> None:
    loaded = labelmend.load(run, device="cpu")
    again = {"resume": True}
    predicted(loaded, image, tmp_path, **again)
    assert predicted(loaded, image, tmp_path, **again).kept
    assert predicted(calibrated(loaded, 2.0), image, tmp_path, **again).written
    plain = Way(resume=True)
    predict_all(loaded, [image], tmp_path / "plain", plain)  # a label knows no temperature
    assert predict_all(calibrated(loaded, 2.0), [image], tmp_path / "plain", plain).kept
