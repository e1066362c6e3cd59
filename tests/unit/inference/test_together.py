"""Small files predicted together: the labels of one at a time, and one bad file harms no other."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labelmend
from labelmend.data.prepare import Preparation
from labelmend.errors import NonFiniteError, SettingsError, StorageError
from labelmend.inference import working
from labelmend.inference.ahead import ahead
from labelmend.inference.beside import Beside
from labelmend.inference.files import Way, predict_all
from labelmend.inference.predictor import Predictor
from labelmend.inference.together import Together, patches_of
from labelmend.types import Raster

Trained = Callable[[str], Any]
RNG = np.random.default_rng(5)


class Counted(nn.Module):
    """A network of exact sums, which do not depend on the batch; it remembers its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.batches.append((len(image), *image.shape[2:]))
        near = image + image.roll(1, -1)
        return torch.cat([-near, near], 1)


@pytest.fixture
def predictor(trained: Trained) -> Predictor:
    loaded = labelmend.load(trained("gray").run, device="cpu")
    return dataclasses.replace(loaded, network=Counted(), patch=(16, 12), multiple=8)


def raster(*size: int) -> Raster:
    return Raster(RNG.integers(0, 256, (1, *size)).astype(np.uint8))


def images(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number}.npy" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        np.save(path, RNG.integers(0, 256, size).astype(np.uint8))
    return paths


@pytest.mark.parametrize(
    "preparation",
    [Preparation("none"), Preparation("zscore"), Preparation("percentile", size=(11, 13))],
    ids=["none", "zscore", "resized"],
)
@pytest.mark.parametrize("batch", [1, 3, 50])
def test_scores_are_those_of_one_at_a_time(
    predictor: Predictor, preparation: Preparation, batch: int
) -> None:
    chosen = dataclasses.replace(predictor, preparation=preparation)
    given = [raster(9, 7), raster(16, 12), raster(30, 25), raster(3, 40), raster(9, 7)]
    found = Together(chosen, batch).scores(given)
    for one, scores in zip(given, found, strict=True):
        assert isinstance(scores, np.ndarray) and np.array_equal(scores, chosen.scores(one))


def test_patches_of_one_size_share_batches_whatever_image_they_are_of(predictor: Predictor) -> None:
    given = [raster(16, 12), raster(16, 11), raster(9, 9), raster(24, 12), raster(3, 3)]
    assert [patches_of(predictor, one) for one in given] == [1, 1, 1, 2, 1]
    Together(predictor, 4).scores(given)
    assert predictor.network.batches == [(4, 16, 16), (1, 16, 16), (1, 8, 8)]


def test_a_real_network_agrees_to_rounding(trained: Trained) -> None:
    loaded = labelmend.load(trained("gray").run, device="cpu")
    given = [raster(20, 24) for _ in range(5)]
    for one, found in zip(given, Together(loaded, 4).scores(given), strict=True):
        told = loaded.scores(one)
        assert isinstance(found, np.ndarray) and np.allclose(found, told, atol=1e-5, rtol=1e-5)
        near = np.abs(told[0] - told[1]) < 1e-4
        assert (near | (found.argmax(0) == told.argmax(0))).all()


class Company(nn.Module):
    """A network whose last bits depend on how many patches it is given."""

    def __init__(self, from_many: int) -> None:
        super().__init__()
        self.from_many = from_many
        self.batches: list[int] = []

    def forward(self, image: Tensor) -> Tensor:
        self.batches.append(len(image))
        more = 1e-6 * (len(image) >= self.from_many)
        return torch.cat([-image, image + more], 1)


@pytest.mark.parametrize("from_many", [2, 4, 9])
def test_where_company_changes_a_bit_each_goes_alone(predictor: Predictor, from_many: int) -> None:
    chosen = dataclasses.replace(predictor, network=Company(from_many))
    together = Together(chosen, 4, exact=True)
    assert [together.suits(n) for n in (0, 1, 2)] == [False, True, False]
    given = [raster(16, 12) for _ in range(11)]
    told = [chosen.scores(one) for one in given]
    chosen.network.batches.clear()
    for one, scores in zip(told, together.scores(given), strict=True):
        assert isinstance(scores, np.ndarray) and np.array_equal(one, scores)
    four = [1, 1, 1, 1, 4] + ([4] if from_many > 4 else [1, 1, 1, 1])
    assert chosen.network.batches == [*four, 1, 1, 1, 3]
    chosen.network.batches.clear()
    together.scores(given[:7])
    three = [1, 1, 1] if from_many == 2 else [3]
    assert chosen.network.batches == [*([4] if from_many > 4 else [1] * 4), *three]


def test_by_default_a_folder_has_the_bits_of_its_files(trained: Trained, tmp_path: Path) -> None:
    folder = trained("continuous").data / "images"
    loaded = labelmend.load(trained("continuous").run, device="cpu")
    found = predict_all(loaded, [folder], tmp_path / "all")
    assert len(found.written) > 4
    for path, image in zip(found.written, sorted(folder.iterdir()), strict=True):
        one = predict_all(loaded, [image], tmp_path / "one").written[0]
        assert one.read_bytes() == path.read_bytes()


def test_a_bad_image_gets_its_error_and_harms_no_other(predictor: Predictor) -> None:
    class Infinite(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image / (image < 9), image], 1)

    bare = dataclasses.replace(predictor, network=Infinite(), preparation=Preparation("none"))
    wrong = Raster(np.full((1, 5, 5), np.nan, np.float32))
    large = Raster(np.full((1, 5, 5), 9, np.uint8))
    fine = Raster(np.ones((1, 5, 5), np.uint8))
    found = Together(bare, 8).scores([fine, wrong, large, fine])
    assert np.array_equal(found[0], bare.scores(fine)) and np.array_equal(found[3], found[0])
    assert isinstance(found[1], NonFiniteError) and "position" in str(found[1])
    assert isinstance(found[2], NonFiniteError) and "yields NaN or infinity" in str(found[2])


# ---------------------------------------------------------------------- files


def test_labels_records_and_order_are_those_of_one_at_a_time(
    predictor: Predictor, tmp_path: Path
) -> None:
    sizes = [(9, 7), (16, 12), (60, 50), (12, 12), (5, 5), (16, 12), (16, 12)]
    images(tmp_path / "new", *sizes)
    (tmp_path / "new/3b.npy").write_bytes(b"nothing")
    beside = Beside(None, probabilities=True)
    single = predict_all(
        predictor, [tmp_path / "new"], tmp_path / "one", Way(batch=1, resume=True, beside=beside)
    )
    predictor.network.batches.clear()
    found = predict_all(
        predictor, [tmp_path / "new"], tmp_path / "many", Way(batch=3, resume=True, beside=beside)
    )
    assert [p.name for p in found.written] == [p.name for p in single.written]
    assert len(found.written) == 7 and len(found.failed) == 1 and "3b.npy" in found.failed[0]
    for path in found.written:
        for name in (path.name, f"probabilities/{path.name}.npy"):
            one, other = tmp_path / "one" / name, tmp_path / "many" / name
            assert one.read_bytes() == other.read_bytes()
    assert max(batch[0] for batch in predictor.network.batches) == 4  # the large file by itself
    lines = [
        [
            json.loads(line)
            for line in (tmp_path / out / "predictions.jsonl").read_text().split("\n")[:-1]
        ]
        for out in ("one", "many")
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 7
    again = predict_all(
        predictor, [tmp_path / "new"], tmp_path / "many", Way(batch=3, resume=True, beside=beside)
    )
    assert len(again.kept) == 7 and not again.written


def test_a_group_is_no_larger_than_memory_allows(predictor: Predictor, tmp_path: Path) -> None:
    images(tmp_path / "new", *[(16, 12)] * 6)
    need = 16 * 12 * (1 * (1 + 8) + 8 + 8)
    way = Way(memory=2.5 * need / 2**30, batch=6)
    predict_all(predictor, [tmp_path / "new"], tmp_path / "out", way)
    assert [batch[0] for batch in predictor.network.batches] == [2, 2, 2]
    predictor.network.batches.clear()
    predict_all(predictor, [tmp_path / "new"], tmp_path / "out", Way(batch=4))
    assert [batch[0] for batch in predictor.network.batches] == [4, 2]
    predictor.network.batches.clear()
    predict_all(predictor, [tmp_path / "new"], tmp_path / "out")
    assert [batch[0] for batch in predictor.network.batches] == [1, 1, 1, 1, 4, 1, 1, 2]


def test_progress_is_told_file_by_file(predictor: Predictor, tmp_path: Path) -> None:
    images(tmp_path / "new", *[(16, 12)] * 6)
    steps: list[int] = []

    class Watching(labelmend.progress.Silent):
        def step(self, step: int, figures: Any) -> None:
            steps.append(step)

    predict_all(predictor, [tmp_path / "new"], tmp_path / "out", watcher=Watching())
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_disk_that_refuses_ends_the_group(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path / "new", *[(16, 12)] * 6)
    written: list[Path] = []
    inner = working.write_label

    def refuse(path: Path, *rest: Any) -> None:
        if len(written) == 2:
            raise StorageError("no room; make some")
        written.append(path)
        inner(path, *rest)

    monkeypatch.setattr(working, "write_label", refuse)
    with pytest.raises(StorageError):
        predict_all(predictor, [tmp_path / "new"], tmp_path / "out", Way(resume=True))
    monkeypatch.undo()
    found = predict_all(predictor, [tmp_path / "new"], tmp_path / "out", Way(resume=True))
    assert (len(found.kept), len(found.written)) == (2, 4)
    assert not [t for t in threading.enumerate() if t.name.startswith("labelmend-ahead")]


def test_a_batch_is_at_least_one(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--batch is at least 1 patch, not 0"):
        predict_all(predictor, images(tmp_path / "a", (5, 5)), tmp_path / "out", Way(batch=0))


def test_a_file_that_is_no_longer_there_is_named(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path / "new", (5, 5), (5, 5), (5, 5))
    inner = working.hash_image

    def gone(path: Path) -> str:
        if path == paths[1]:
            path.unlink(missing_ok=True)
        return inner(path)

    monkeypatch.setattr(working, "hash_image", gone)
    found = predict_all(predictor, [tmp_path / "new"], tmp_path / "out")
    assert [p.name for p in found.written] == ["0.npy", "2.npy"]
    assert len(found.failed) == 1 and "1.npy: does not exist" in found.failed[0]


# ---------------------------------------------------------------------- reading ahead


def test_the_next_ones_are_done_while_one_is_used() -> None:
    begun, may = [], threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 2:
            may.wait(10)
        return number * number

    found = ahead(work, range(6), 3)
    assert next(found) == 0
    while len(begun) < 3:
        pass
    assert begun == [0, 1, 2]
    may.set()
    assert list(found) == [1, 4, 9, 16, 25]


def test_an_error_comes_in_its_turn_and_nothing_is_left_behind() -> None:
    found = ahead(lambda n: 1 // n, [1, 0, 2, 3], 2)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
    done: list[int] = []
    early = ahead(done.append, range(1000), 2)
    next(early)
    early.close()
    assert len(done) <= 4
    assert not [t for t in threading.enumerate() if t.name.startswith("labelmend-ahead")]
