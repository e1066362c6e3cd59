"""Images predicted strip by strip: what memory gives, what is refused, what is told on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor, nn

import labelmend
from labelmend.data.prepare import Preparation
from labelmend.errors import DataError, NonFiniteError
from labelmend.files.tiled import open_strips
from labelmend.inference import large
from labelmend.inference.beside import Beside
from labelmend.inference.files import Way, predict_all
from labelmend.inference.large import (
    GIB,
    memory_in_one,
    memory_in_strips,
    predict_in_strips,
    why_not,
    windows,
)
from labelmend.inference.predictor import Predictor
from labelmend.inference.record import Record, hash_model

from .test_uncertainty import calibrated

Trained = Callable[[str], Any]
RNG = np.random.default_rng(0)


class Blurred(nn.Module):
    """Depends on the neighbourhood and on the place in the patch: patches disagree."""

    def forward(self, image: Tensor) -> Tensor:
        ramp = torch.linspace(0, 0.1, image.shape[-1])
        near = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
        return torch.cat([-near, near + ramp], 1)


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    loaded = labelmend.load(trained("gray").run, device="cpu")
    return dataclasses.replace(loaded, network=Blurred(), patch=(16, 12), multiple=4)


def whole_and_strips(predictor: Predictor, path: Path) -> tuple[np.ndarray, np.ndarray]:
    found = labelmend.load(predictor.run)  # only to read the file as it would be
    from labelmend.files.readers import read_as

    raster = read_as(path, found.spec)
    with ExitStack() as stack:
        image, again = (open_strips(path, predictor.spec) for _ in range(2))
        assert image is not None and again is not None
        stack.enter_context(image)
        stack.enter_context(again)
        assert why_not(predictor, image) == ""
        strips = list(predict_in_strips(predictor, image, again))
    pieces = np.concatenate([strip.image for strip in strips], axis=1)
    assert np.array_equal(pieces, raster.array)
    assert [strip.start for strip in strips] == np.cumsum(
        [0, *(strip.scores.shape[1] for strip in strips)]
    )[:-1].tolist()
    return predictor.scores(raster), np.concatenate([s.scores for s in strips], axis=1)


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation("none"),
        Preparation("set", mean=(90.0,), deviation=(40.0,)),
        Preparation("percentile", percentiles=(2, 97)),
        Preparation("none", denoise="median", denoise_size=2),
        Preparation("none", denoise="gaussian", denoise_size=1.3),
        Preparation("percentile", denoise="gaussian", denoise_size=0.8),
    ],
    ids=str,
)
def test_strips_have_the_bits_of_the_whole(
    preparation: Preparation, predictor: Predictor, tmp_path: Path
) -> None:
    image = RNG.integers(0, 256, (75, 31)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(16, 16), compression="zlib")
    chosen = dataclasses.replace(predictor, preparation=preparation)
    whole, strips = whole_and_strips(chosen, tmp_path / "a.tif")
    assert np.array_equal(strips, whole)


@pytest.mark.parametrize("denoise", ["none", "median", "gaussian"])
def test_mean_and_deviation_are_those_of_the_whole(
    denoise: Any, predictor: Predictor, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", RNG.normal(300, 5, (75, 31)))
    chosen = dataclasses.replace(predictor, preparation=Preparation("zscore", denoise=denoise))
    whole, strips = whole_and_strips(chosen, tmp_path / "a.npy")
    assert np.allclose(strips, whole, rtol=0, atol=1e-6)
    assert np.array_equal(strips.argmax(0), whole.argmax(0))


def test_strips_with_flips(predictor: Predictor, tmp_path: Path) -> None:
    image = RNG.integers(0, 256, (75, 31)).astype(np.uint8)
    np.save(tmp_path / "a.npy", image)
    for name, memory in (("whole", None), ("strips", 3e-5)):
        way = Way(flips=True, memory=memory)
        assert not predict_all(predictor, [tmp_path / "a.npy"], tmp_path / name, way).failed
    whole, strips = (np.load(tmp_path / name / "a.npy") for name in ("whole", "strips"))
    assert np.array_equal(whole, strips) and 0 < whole.mean() < 255


def test_what_needs_the_whole_is_said(
    predictor: Predictor, trained: Trained, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((75, 31), np.uint8))
    with open_strips(tmp_path / "a.npy", predictor.spec) as image:  # type: ignore[union-attr]
        sized = dataclasses.replace(predictor, preparation=Preparation(size=(20, 20)))
        assert "another spacing or size" in why_not(sized, image)
        same = dataclasses.replace(predictor, preparation=Preparation(size=(75, 31)))
        assert why_not(same, image) == ""
        assert windows(predictor, image) == 9 * 5
    np.save(tmp_path / "b.npy", np.zeros(900))
    recorded = labelmend.load(trained("recording").run)
    heard = dataclasses.replace(recorded, preparation=Preparation(spectrogram=True))
    with open_strips(tmp_path / "b.npy", recorded.spec) as sound:  # type: ignore[union-attr]
        assert "spectrogram" in why_not(heard, sound)


def test_a_limit_that_cannot_be_held_is_said(predictor: Predictor, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((75, 31), np.uint8))
    sized = dataclasses.replace(predictor, preparation=Preparation(size=(20, 20)))
    for chosen, memory, said in (
        (sized, 2e-5, r"more than --memory 2e-05: the network sees images at another spacing"),
        (predictor, 1e-9, r"more than --memory 1e-09: strip by strip already, or give --memory"),
    ):
        found = predict_all(chosen, [tmp_path / "a.npy"], tmp_path / "out", Way(memory=memory))
        assert len(found.failed) == 1
        with pytest.raises(DataError, match=said):
            raise DataError(found.failed[0])
    found = predict_all(sized, [tmp_path / "a.npy"], tmp_path / "out")
    assert not found.failed  # nothing is refused where nobody asked


def test_what_the_network_sees_counts_for_memory(predictor: Predictor, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RNG.integers(0, 256, (40, 40)).astype(np.uint8))
    Image.fromarray(RNG.integers(0, 256, (40, 40)).astype(np.uint8)).save(tmp_path / "b.png")
    fine = {"size": (1500, 1500)}, {"spacing": (0.1, 0.1)}
    spec = dataclasses.replace(predictor.spec, spacing=(3.75, 3.75))
    data = dataclasses.replace(predictor.run.data, spec=spec)
    run = SimpleNamespace(data=data, path=predictor.run.path, settings=predictor.run.settings)
    for changes in fine:
        seen = Preparation(**changes)
        chosen = dataclasses.replace(predictor, run=run, preparation=seen, patch=(256, 256))
        sources = [tmp_path / "a.tif", tmp_path / "b.png"]
        found = predict_all(chosen, sources, tmp_path / "out", Way(memory=0.001))
        assert len(found.failed) == 2 and not found.written
        for text in found.failed:
            assert "more than --memory 0.001: the network sees images at another spacing" in text
        own = memory_in_one(predictor, (1, 40, 40), 1)
        on_grid = 1500 * 1500 * 4 * (1 + 1 + 2)  # as resampled, as normalised, two scores
        assert memory_in_one(chosen, (1, 40, 40), 1, (3.75, 3.75)) == own + on_grid


def test_the_frames_of_a_spectrogram_count_for_memory(trained: Trained) -> None:
    recorded = labelmend.load(trained("recording").run)
    plain = dataclasses.replace(recorded, preparation=Preparation())
    for hop, frames in ((16, 563), (1, 9000)):
        seen = Preparation(spectrogram=True, window=64, hop=hop)
        heard = dataclasses.replace(recorded, preparation=seen)
        more = memory_in_one(heard, (1, 9000), 4) - memory_in_one(plain, (1, 9000), 4)
        assert more == frames * 4 * (2 * 33 + recorded.outputs)


def test_large_images_are_divided_without_asking(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labelmend.inference import opening, working

    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (75, 31)).astype(np.uint8))
    whole = predict_all(predictor, [tmp_path / "a.npy"], tmp_path / "whole")
    monkeypatch.setattr(opening, "USUAL_MEMORY", 1e-6)
    asked = []
    inner = working.predict_in_strips
    monkeypatch.setattr(
        working, "predict_in_strips", lambda *a, **k: asked.append(1) or inner(*a, **k)
    )
    strips = predict_all(predictor, [tmp_path / "a.npy"], tmp_path / "strips")
    assert asked == [1]
    assert np.array_equal(np.load(whole.written[0]), np.load(strips.written[0]))


def test_a_label_that_would_be_a_png_becomes_a_tiff(trained: Trained, tmp_path: Path) -> None:
    loaded = labelmend.load(trained("gray").run)
    images = dataclasses.replace(loaded, network=Blurred(), patch=(16, 12))
    picture = RNG.integers(0, 256, (75, 31)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", picture)
    data = loaded.run.data
    sample = dataclasses.replace(data.samples[0], image="images/x.tif")
    run = loaded.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run), "data", dataclasses.replace(data, samples=(sample,)))
        whole = predict_all(images, [tmp_path / "a.tif"], tmp_path / "whole")
        strips = predict_all(images, [tmp_path / "a.tif"], tmp_path / "strips", Way(memory=4e-5))
        again = Way(memory=4e-5, resume=True)
        for kept in (0, 1):
            found = predict_all(images, [tmp_path / "a.tif"], tmp_path / "more", again)
            assert len(found.kept) == kept
    assert [path.name for path in whole.written] == ["a.png"]
    assert [path.name for path in strips.written] == ["a.tif"] and not strips.failed
    assert found.kept == [tmp_path / "more/a.tif"]


def test_progress_goes_through_one_file(predictor: Predictor, tmp_path: Path) -> None:
    told: list[Any] = []

    class Told:
        def start(self, total: int, done: int) -> None:
            told.append((total, done))

        def step(self, step: int, figures: object) -> None:
            told.append(step)

        def say(self, text: str) -> None:
            told.append(text)

        def finish(self) -> None:
            told.append("finish")

    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (75, 31)).astype(np.uint8))
    predict_all(predictor, [tmp_path / "a.npy"], tmp_path / "out", Way(memory=3e-5), watcher=Told())
    assert told[:2] == [(1, 0), "finish"] and "strip by strip" in told[2]
    assert told[3:] == [(45, 0), *range(4, 45, 4), 45, "finish", (1, 0), 1, "finish"]


def test_what_goes_wrong_is_named_and_leaves_nothing(predictor: Predictor, tmp_path: Path) -> None:
    class Astray(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image, image * float("nan")], 1)

    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (75, 31)).astype(np.uint8))
    broken = np.zeros((75, 31))
    broken[70, 3] = np.nan
    np.save(tmp_path / "b.npy", broken)
    astray = dataclasses.replace(predictor, network=Astray())
    found = predict_all(astray, [tmp_path / "a.npy"], tmp_path / "out", Way(memory=3e-5))
    assert "a.npy" in found.failed[0] and "yields NaN" in found.failed[0]
    found = predict_all(predictor, [tmp_path / "b.npy"], tmp_path / "out", Way(memory=5e-5))
    assert "b.npy: from position" in found.failed[0] and "NaN" in found.failed[0]
    assert not list((tmp_path / "out").iterdir())
    assert issubclass(NonFiniteError, ArithmeticError)


def test_estimates_grow_with_the_image(predictor: Predictor) -> None:
    assert memory_in_one(predictor, (1, 20000, 20000), 1) > 8 * GIB
    assert memory_in_strips(predictor, (1, 20000, 20000), 1) < GIB / 8
    wide = dataclasses.replace(predictor, preparation=Preparation(denoise="gaussian"))
    assert large._margin(wide) == 4


def test_a_label_is_finished_only_by_the_same_model(predictor: Predictor, tmp_path: Path) -> None:
    by = hash_model(predictor, {"flips": False})
    assert by == hash_model(predictor, {"flips": False}) != hash_model(predictor, {"flips": True})
    other = labelmend.load(predictor.run)
    assert by != hash_model(other, {"flips": False})
    with torch.no_grad():
        changed = hash_model(other, {})
        next(iter(other.network.parameters())).flatten()[0].add_(1e-3)
        assert changed != hash_model(other, {})
    record = Record(tmp_path, by, 3)
    target, part = tmp_path / "sub/a.png", tmp_path / "part"
    record.add(target, "hash", [target, part])
    assert not record.is_finished(target, "hash")
    target.parent.mkdir()
    target.touch()
    part.touch()
    assert record.is_finished(target, "hash") and not record.is_finished(target, "other")
    assert Record(tmp_path, by, 3).is_finished(target, "hash")
    assert not Record(tmp_path, "another", 3).is_finished(target, "hash")
    assert record.is_finished(target, "hash", [part])
    assert not record.is_finished(target, "hash", [part, tmp_path / "other"])
    part.unlink()
    assert not record.is_finished(target, "hash")
    record.forget()
    assert len(Record(tmp_path, by, 3)) == 0


def test_conclusions_that_are_wanted_elsewhere_are_made_there(
    predictor: Predictor, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (20, 20)).astype(np.uint8))
    kept = []
    for name in ("one", "two", "two"):
        way = Way(resume=True, beside=Beside(conclusions=tmp_path / name))
        found = predict_all(predictor, [tmp_path / "a.npy"], tmp_path / "out", way)
        assert not found.failed and len(found.conclusions) == 1
        assert (tmp_path / name / "objects.csv").exists()
        kept.append(len(found.kept))
    assert kept == [0, 0, 1]


@pytest.mark.parametrize("memory", [None, 3e-5])
def test_conclusions_are_of_the_image_and_of_the_scores(
    memory: float | None, predictor: Predictor, tmp_path: Path
) -> None:
    class Bright(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([0 * image, 2.0 * image.sign()], 1)

    picture = RNG.integers(0, 9, (75, 31)).astype(np.uint8)
    picture[20:50, 10:14] += 200
    np.save(tmp_path / "a.npy", picture)
    chosen = dataclasses.replace(
        predictor,
        network=Bright(),
        preparation=Preparation("set", mean=(100.0,), deviation=(50.0,)),
    )
    chosen = calibrated(chosen, 2.5)
    way = Way(memory=memory, beside=Beside(conclusions=tmp_path / "c", probabilities=True))
    found = predict_all(chosen, [tmp_path / "a.npy"], tmp_path / "out", way)
    (row,) = found.conclusions[0].objects
    assert (row["area"], row["begin_0"], row["end_0"]) == (120, 20, 50)
    assert row["mean_0"] == pytest.approx(picture[20:50, 10:14].mean())
    sure = 1 / (1 + np.exp(-2.0 / 2.5))  # by the temperature
    assert row["confidence"] == pytest.approx(sure, abs=1e-6)
    kept = np.load(tmp_path / "out/probabilities/a.npy.npy")
    assert kept[1, 30, 12] == pytest.approx(sure, abs=1e-3)
    assert np.allclose(kept.sum(0), 1, atol=1e-3)
