"""An export is whole and proved, or there is nothing: and it says what it was made of."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labelmend
from labelmend.data.prepare import Preparation
from labelmend.errors import RunError, SettingsError, StorageError
from labelmend.inference.export import to_monai, to_torch
from labelmend.inference.export.card import write_card
from labelmend.inference.export.exporting import Exported, export
from labelmend.inference.export.processing import describe_processing
from labelmend.inference.export.proof import Proof
from labelmend.inference.predictor import Predictor
from labelmend.runs.disk import Disk

Trained = Callable[[str], Any]
PROOF = Proof(3, 1, ((2, 2), (4, 4)), 40, 1e-6, 1.0, 1e-5)


@pytest.fixture(scope="module")
def predictor(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    run = tmp_path_factory.mktemp("own") / "run"  # others may evaluate the shared one
    left = shutil.ignore_patterns("evaluation*")
    shutil.copytree(trained("colour").run, run, ignore=left)
    return labelmend.load(run, device="cpu")


@pytest.fixture(scope="module")
def exported(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(predictor, tmp_path_factory.mktemp("new") / "deep" / "out", "torch")


def test_the_folder_holds_what_was_promised_and_right_checksums(exported: Exported) -> None:
    names = {p.name for p in exported.path.iterdir()}
    wanted = {"model.pt2", "processing.json", "MODEL_CARD.md", "proof.json", "SHA256SUMS"}
    assert names == wanted == set(exported.files)
    sums = (exported.path / "SHA256SUMS").read_text().splitlines()[:-1]
    assert len(sums) == 4
    for line in sums:
        digest, name = line.split("  ")
        assert hashlib.sha256((exported.path / name).read_bytes()).hexdigest() == digest


def test_what_is_printed_is_what_is_kept(exported: Exported) -> None:
    kept = json.loads((exported.path / "proof.json").read_text())
    assert kept == exported.proof.to_json()
    assert kept["real_inputs"] == 12 and kept["inputs"] == 24 and len(kept["sizes"]) == 4
    assert "scores differ by at most 0.0e+00, same class at 100 %" in exported.to_text()
    assert str(exported.path) in exported.to_text()


def test_the_network_is_left_as_it_was(predictor: Predictor, exported: Exported) -> None:
    image = np.random.default_rng(0).normal(size=(1, 3, 20, 24)).astype(np.float32)
    run = to_torch.open_model((exported.path / "model.pt2").read_bytes())
    with torch.inference_mode():
        assert np.array_equal(run(image), predictor.network(torch.from_numpy(image)).numpy())
    assert not predictor.network.training


def test_a_folder_with_something_in_it_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(RunError, match="is not empty"):
        export(predictor, tmp_path, "torch")
    with pytest.raises(RunError, match=r"mine is a file"):
        export(predictor, tmp_path / "mine" / "out", "torch")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_an_unknown_target_or_tolerance_is_answered(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'onnx'"):
        export(predictor, tmp_path / "a", "onix")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="tolerance"):
        export(predictor, tmp_path / "a", "torch", tolerance=float("nan"))


def test_a_model_that_is_not_equal_is_not_written(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = to_torch.open_model

    def off(content: bytes) -> Any:
        run = true(content)
        return lambda images: run(images) + np.float32(3e-5)

    monkeypatch.setattr(to_torch, "open_model", off)
    with pytest.raises(RunError, match=r"not equal.*3\.\de-05.*64 bits.*nothing was written"):
        export(predictor, tmp_path / "out", "torch")
    assert not list(tmp_path.iterdir())
    assert export(predictor, tmp_path / "out", "torch", tolerance=1e-4).proof.worst > 1e-5


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename"])
def test_a_full_disk_leaves_nothing(
    operation: str, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("labelmend.inference.export.exporting._encode", lambda *_: _Nothing())
    monkeypatch.setattr("labelmend.inference.export.exporting._prove", lambda *_: PROOF)
    monkeypatch.setattr(Disk, operation, staticmethod(full))
    with pytest.raises(StorageError, match="the model could not be kept"):
        export(predictor, tmp_path / "out", "torch")
    assert not list(tmp_path.iterdir())


class _Nothing:
    content = b"model"
    run = None


class _Median(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image[:, :2] if image.median() > 0 else image[:, 1:]


def test_a_network_that_cannot_be_exported_leaves_nothing(
    predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"the network of .* depends on the values"):
        export(dataclasses.replace(predictor, network=_Median()), tmp_path / "out", "torch")
    assert not list(tmp_path.iterdir())


# --- processing.json ------------------------------------------------------------------------------


def test_processing_says_what_the_run_does(predictor: Predictor, exported: Exported) -> None:
    told = json.loads((exported.path / "processing.json").read_text())
    assert told["model"]["input"] == {
        "name": "image",
        "type": "float32",
        "shape": ["batch", 3, "rows", "columns"],
        "multiple": predictor.multiple,
        "smallest": [2, 2],
    }
    assert told["model"]["output"]["shape"][1] == 2 and told["temperature"] is None
    assert told["classes"] == [
        {"index": 0, "name": "background", "value": 0},
        {"index": 1, "name": "foreground", "value": 255},
    ]
    assert told["windows"]["patch"] == list(predictor.patch)
    assert told["windows"]["overlap"] == predictor.run.settings.input.overlap
    assert [step["step"] for step in told["before"]] == ["normalise"]
    assert [step["step"] for step in told["after"]] == ["join", "argmax", "values"]


@pytest.mark.parametrize(
    ("preparation", "steps"),
    [
        (Preparation(denoise="median", denoise_size=2.0), ["denoise", "normalise"]),
        (Preparation(spacing=(2.0, 1.0)), ["resample", "normalise"]),
        (Preparation(normalise="set", mean=(1.0,), deviation=(2.0,)), ["normalise"]),
        (
            Preparation(spectrogram=True, window=64, hop=16, normalise="percentile"),
            ["spectrogram", "normalise"],
        ),
    ],
)
def test_every_step_and_constant_of_a_preparation_is_told(
    preparation: Preparation, steps: list[str], predictor: Predictor
) -> None:
    other = dataclasses.replace(predictor, preparation=preparation)
    told = describe_processing(other, "model.onnx", smallest=(2, 2), temperature=1.5)
    assert [step["step"] for step in told["before"]] == steps
    text = json.dumps(told)
    default = Preparation()
    for field in dataclasses.fields(preparation):
        value = getattr(preparation, field.name)
        if value != getattr(default, field.name) and field.name not in ("spectrogram",):
            shown = 5 if field.name == "denoise_size" else value  # as the width of the median
            assert json.dumps(shown) in text, field.name
    assert told["temperature"] == 1.5 and "temperature" in [s["step"] for s in told["after"]]


def test_a_temperature_is_above_0(predictor: Predictor) -> None:
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="temperature"):
            describe_processing(predictor, "m", smallest=(2, 2), temperature=wrong)


# --- the card -------------------------------------------------------------------------------------


def test_the_card_counts_labels_and_warns(predictor: Predictor, exported: Exported) -> None:
    card = (exported.path / "MODEL_CARD.md").read_text()
    assert "| train | 6 | 4 | 6 | 6 |" in card and "| test | 1 | 1 | 1 | 1 |" in card
    assert "It was not evaluated before it was exported" in card
    assert "Strong labels to test it: only 1" in card and "no medical device" in card
    assert "6 weak labels: mean weight" in card and "step 3, network main" in card
    digest = hashlib.sha256((exported.path / "model.pt2").read_bytes()).hexdigest()
    assert digest in card
    assert str(predictor.run.data.root) not in card  # whose machine it was is nobody's business


def test_figures_of_an_evaluation_stand_on_the_card_with_their_step(predictor: Predictor) -> None:
    folder = predictor.run.folder("evaluation")
    row = {"dice": 0.876, "iou": None}
    found = {"split": "test", "step": 2, "model": "main", "samples": 7, "mean": row}
    path = folder / "test.json"
    path.write_text(json.dumps({**found, "per_class": {"foreground": row}}))
    try:
        card = write_card(predictor, "model.onnx", b"", PROOF)
    finally:
        path.unlink()
        folder.rmdir()
    assert "| foreground | 0.876 |  |" in card
    assert "7 strong labels, step 2, which is not this model: it is of step 3" in card


# --- bundles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preparation", "named"),
    [
        (Preparation(denoise="median"), "input.denoise = 'median'"),
        (Preparation(spacing=(1.0, 1.0)), "input.spacing"),
        (Preparation(size=(8, 8)), "input.size"),
        (Preparation(spectrogram=True), "input.spectrogram"),
    ],
)
def test_what_monai_does_not_do_alike_is_refused(
    preparation: Preparation, named: str, predictor: Predictor, tmp_path: Path
) -> None:
    other = dataclasses.replace(predictor, preparation=preparation)
    with pytest.raises(SettingsError, match=named):
        export(other, tmp_path / "out", "monai")
    to_monai.check_expressible(predictor)
