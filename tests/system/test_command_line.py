"""The commands from end to end, on every kind of file, as a new user would type them."""

from __future__ import annotations

import csv
import itertools
import json
import math
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import soundfile
import tifffile
import torch
from PIL import Image

import labelmend
from labelmend.runs import Checkpoint

from .. import made_data
from ..command import command


def _png(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _nifti(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


@dataclass(frozen=True)
class Kind:
    """What must come out for a kind of data, and a way to read it that is not ours."""

    suffix: str
    read: Callable[[Path], np.ndarray]
    dtype: type
    values: tuple[int, ...]
    metrics: set[str]
    classes: tuple[str, ...]
    strong: tuple[int, int, int] = (5, 1, 0)


OVERLAP = {"dice", "iou"}
SURFACE = OVERLAP | {"surface_distance", "hausdorff95"}
EVENTS = OVERLAP | {"event_f1", "onset_error", "offset_error"}
KINDS = {
    "gray": Kind(".png", _png, np.uint8, (0, 255), SURFACE, ("foreground",)),
    "colour": Kind(".png", _png, np.uint8, (0, 255), SURFACE, ("foreground",), (4, 1, 1)),
    "volume": Kind(".nii.gz", _nifti, np.uint8, (0, 1), SURFACE, ("class 1",)),
    "signal": Kind(".npy", np.load, np.uint8, (0, 1, 2), EVENTS, ("beat", "pause")),
    "sixteen": Kind(".tif", tifffile.imread, np.uint16, (0, 300, 40000), SURFACE, ("rim", "core")),
    "continuous": Kind(
        ".tif", tifffile.imread, np.float32, (), {"mae", "psnr", "ssim"}, ("height",)
    ),
    "recording": Kind(".csv", np.load, np.uint8, (), EVENTS, ("tone",)),
}
PLACED = [name for name in KINDS if name != "recording"]
"""Kinds whose predictions have a value at every position."""

every_kind = pytest.mark.parametrize("name", KINDS)
Trained = Callable[[str], Any]


def _array(path: Path) -> np.ndarray:
    """An image as ``predict`` takes it, ``(channels, *space)``, read without our readers."""
    if path.suffix == ".png":
        array = _png(path)
        return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    if path.suffix == ".tif":
        return tifffile.imread(path)[None]
    if path.suffix == ".wav":
        return soundfile.read(path, dtype="float32")[0][None]
    if path.suffix == ".npy":
        return np.load(path).T
    return _nifti(path)[None]


@pytest.fixture(scope="module")
def predicted(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[Path, Path]]:
    """Predicts all images of a kind once: image → label."""
    done: dict[str, dict[Path, Path]] = {}

    def predict(name: str) -> dict[Path, Path]:
        if name not in done:
            images = trained(name).data / "images"
            out = tmp_path_factory.mktemp(f"predicted-{name}")
            said = command("predict", trained(name).run, images, "--out", out)
            assert (said.status, said.err) == (0, "")
            assert said.out == f"{made_data.IMAGES} labels written to {out}\n"
            labels = sorted(out.rglob("*"))
            done[name] = dict(zip(sorted(images.iterdir()), labels, strict=True))
        return done[name]

    return predict


# --- check ----------------------------------------------------------------------------------------


@every_kind
def test_check_says_what_is_there(name: str, trained: Trained) -> None:
    kind, data = KINDS[name], trained(name).data
    said = command("check", data, "--json")
    assert (said.status, said.err) == (0, "")
    found = said.json()
    assert found["ok"] is True and found["problems"] == []
    assert tuple(found["samples"]["strong"].values()) == kind.strong
    assert tuple(found["spec"]["classes"][-len(kind.classes) :]) == kind.classes
    said = command("check", data)
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[-2:] == [
        "no problems",
        f"next: labelmend train {data} --out RUN",
    ]


def test_check_with_problems_prints_all_and_complains_once(
    trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(trained("gray").data, tmp_path / "data")
    for name in ("s0.png", "s1.png"):
        (tmp_path / "data/images" / name).write_bytes(b"")
    said = command("check", tmp_path / "data")
    assert said.status == 1 and said.out.count("problem: images/") == 2
    assert said.err.count("\n") == 1 and "2 problems, the first: images/s0.png: " in said.err
    said = command("check", tmp_path / "data", "--json")
    assert said.status == 1 and said.err.count("\n") == 1
    assert [p["file"] for p in said.json()["problems"]] == ["images/s0.png", "images/s1.png"]


def test_annotators_are_counted(trained: Trained) -> None:
    assert "; by ann 8, bob 8\n" in command("check", trained("gray").data).out


# --- train ----------------------------------------------------------------------------------------


@every_kind
def test_training_says_what_it_does_and_what_comes_next(name: str, trained: Trained) -> None:
    done = trained(name)
    assert done.said.status == 0
    first, *rest = done.said.out.splitlines()
    assert first.startswith(f"trained: {done.run}, 3 steps; best held-out ")
    assert [line.split()[2] for line in rest] == ["evaluate", "report", "audit", "predict"]
    strong = KINDS[name].strong[0]
    assert f"training on {strong} strong and " in done.said.err
    assert " parameters; 3 steps on " in done.said.err
    assert "nan" not in done.said.err


def test_two_annotators_are_said(trained: Trained) -> None:
    assert "14 weak labels (from 2 annotators), 1 held out; patch 20 × 24; network unet, " in (
        trained("gray").said.err
    )


def test_quiet_training_says_nothing(trained: Trained, tmp_path: Path) -> None:
    options = ["--steps", "1", "--quiet", *made_data.settings_of("gray")]
    said = command("train", trained("gray").data, "--out", tmp_path / "run", *options)
    assert tuple(said) == (0, "", "")
    said = command("train", "--resume", tmp_path / "run", "--quiet")
    assert tuple(said) == (0, "", "")


def test_resume_ends_where_the_uninterrupted_run_did(trained: Trained, tmp_path: Path) -> None:
    whole = trained("gray").run
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000003")
    said = command("train", "--resume", tmp_path / "run")
    assert said.status == 0 and "going on after step 2" in said.err
    for name in ("main", "optimiser", "weights"):
        path = Path("checkpoints/step-00000003") / f"{name}.safetensors"
        assert (whole / path).read_bytes() == (tmp_path / "run" / path).read_bytes()


def test_resume_of_a_finished_run_mends_its_table_of_weights(
    trained: Trained, tmp_path: Path
) -> None:
    whole, run = trained("gray").run, tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "weights.csv").write_text("id,weight\n")
    said = command("train", "--resume", run)
    assert said.status == 0 and "going on after step 3" in said.err
    assert (run / "weights.csv").read_bytes() == (whole / "weights.csv").read_bytes()


def test_settings_are_printed_saved_and_used(trained: Trained, tmp_path: Path) -> None:
    said = command("settings", "--preset", "pooled")
    assert (said.status, said.err) == (0, "")
    assert tomllib.loads(said.out)["batch"]["strong_share"] == "none"
    file = tmp_path / "my.toml"
    file.write_text(said.out.replace("seed = 0", "seed = 7").replace("width = 16", "width = 4"))
    data, run = trained("gray").data, tmp_path / "run"
    given = ["--config", file, "--set", "network.depth=2", "--steps", "2", "--seed", "9"]
    assert command("train", data, "--out", run, *given, "--quiet").status == 0
    kept = tomllib.loads((run / "settings.toml").read_text())
    assert (kept["seed"], kept["network"]["width"], kept["network"]["depth"]) == (9, 4, 2)
    assert kept["weighting"]["method"] == "constant" and kept["steps"] == 2


def test_strong_labels_alone_are_enough(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained("gray").data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/labels/weak")
    options = ["--steps", "2", *made_data.settings_of("gray")]
    said = command("train", tmp_path / "data", "--out", tmp_path / "run", *options)
    assert said.status == 0 and "training on 5 strong and 0 weak labels" in said.err


def test_weak_labels_alone_can_be_pooled(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained("gray").data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/labels/strong")
    (tmp_path / "data/splits.csv").unlink()
    options = ["--steps", "2", "--preset", "pooled", *made_data.settings_of("gray")]
    said = command("train", tmp_path / "data", "--out", tmp_path / "run", *options)
    assert said.status == 0 and "0 strong and 16 weak labels" in said.err
    assert "none held out" in said.err and "best" not in said.out


def test_what_is_left_out_is_said(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained("gray").data, tmp_path / "data")
    (tmp_path / "data/labels/weak/ann/s7.png").write_bytes(b"")
    options = ["--steps", "1", "--allow-bad", "1", *made_data.settings_of("gray")]
    said = command("train", tmp_path / "data", "--out", tmp_path / "run", *options)
    assert said.status == 0
    assert "left out: labels/weak/ann/s7.png: the file is empty" in said.err


def test_a_run_begun_with_relative_paths_is_used_from_anywhere(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained("gray").data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    options = ["--steps", "1", *made_data.settings_of("gray")]
    said = command("train", "data", "--out", "run", *options)
    assert "next:    labelmend evaluate run\n" in said.out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command("evaluate", "../run", "--json").status == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_by_name(trained: Trained, tmp_path: Path) -> None:
    done = trained("gray")
    new, images = tmp_path / "new", done.data / "images"
    for typed in (
        ["train", done.data, "--out", new],
        ["evaluate", done.run],
        ["predict", done.run, images, "--out", new],
    ):
        said = command(*typed, "--device", "cuda")
        assert said.status == 1 and said.err.count("\n") == 1, said.err
        assert "device 'cuda'" in said.err and "cpu" in said.err
        assert not new.exists()


# --- evaluate -------------------------------------------------------------------------------------


@every_kind
def test_evaluation_for_programs(name: str, trained: Trained) -> None:
    kind, run = KINDS[name], trained(name).run
    said = command("evaluate", run, "--json")
    assert (said.status, said.err) == (0, "")
    found = said.json()
    split = "test" if kind.strong[2] else "val"
    assert (found["split"], found["step"], found["samples"]) == (split, 3, 1)
    assert set(found["mean"]) == kind.metrics and tuple(found["per_class"]) == kind.classes
    figures = [
        *found["mean"].values(),
        *(v for r in found["per_class"].values() for v in r.values()),
    ]
    assert all(v is None or (isinstance(v, float) and math.isfinite(v)) for v in figures)
    sure = "mae" if name == "continuous" else "dice"
    assert found["mean"][sure] is not None
    assert json.loads((run / f"evaluation/{split}.json").read_text()) == found
    with (run / f"evaluation/{split}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(kind.classes)
    moved = {f"tolerant_{metric}" for metric in found["shift_tolerant"]["mean"]} | {"displacement"}
    assert set(rows[0]) == {"label", "image", "group", "class"} | kind.metrics | moved
    assert kind.metrics - set(found["shift_tolerant"]["mean"]) <= {
        "surface_distance", "hausdorff95"
    }  # fmt: skip
    assert float(rows[0][sure]) == found["per_class"][kind.classes[0]][sure]


@every_kind
def test_evaluation_for_people_fits_a_terminal(name: str, trained: Trained) -> None:
    run = trained(name).run
    said = command("evaluate", run, "--split", "train")
    assert (said.status, said.err) == (0, "")
    *table, path = said.out.splitlines()
    assert max(map(len, table)) <= 80
    assert table[0] == f"train: {KINDS[name].strong[0]} strong labels, step 3"
    rows = [line for line in table if line.startswith((*KINDS[name].classes, "mean"))]
    assert len({len(row) for row in rows}) == 1 and len(rows) == len(KINDS[name].classes) + 1
    assert path == f"per sample: {run}/evaluation/train.csv"
    assert Path(path.removeprefix("per sample: ")).exists()


def test_the_best_checkpoint_is_judged_on_request(trained: Trained) -> None:
    run = labelmend.Run.open(trained("gray").run)
    dice = {record["step"]: record["dice"] for record in run.metrics("val")}
    best = max(dice, key=lambda step: dice[step])
    found = command("evaluate", run.path, "--checkpoint", "best", "--split", "val", "--json").json()
    assert found["step"] == best
    assert found["mean"]["dice"] == pytest.approx(dice[best], abs=1e-12)


@pytest.mark.parametrize("model", ["auxiliary", "ensemble"])
def test_another_network_is_judged_and_predicts_on_request(
    model: str, trained: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(trained("gray").run, path, ignore=shutil.ignore_patterns("evaluation"))
    run = labelmend.Run.open(path)
    saved = run.load("last")
    other = {name: -tensor for name, tensor in saved.tensors["main"].items()}
    run.save(Checkpoint(saved.step, {**saved.tensors, "auxiliary": other}, saved.state))
    said = command("evaluate", path, "--split", "train", "--model", model)
    title, *_, last = said.out.splitlines()
    assert said.status == 0 and title.endswith(f"step 3, model {model}")
    assert last == f"per sample: {path}/evaluation-{model}/train.csv"
    assert Path(last.removeprefix("per sample: ")).exists()
    found = command("evaluate", path, "--split", "train", "--model", model, "--json").json()
    assert found == json.loads((path / f"evaluation-{model}/train.json").read_text())
    assert not (path / "evaluation").exists()
    image = trained("gray").data / "images/s0.png"
    said = command("predict", path, image, "--model", model)
    assert (said.status, said.out) == (0, f"1 label written to {path}/predictions-{model}\n")
    written = np.asarray(Image.open(path / f"predictions-{model}/s0.png"))
    label = labelmend.load(path, model=model).predict(np.asarray(Image.open(image)))  # type: ignore[arg-type]
    assert np.array_equal(written == 255, label == 1)


def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(
    trained: Trained, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("gray").run, run)
    path = run / "checkpoints/step-00000003/main.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    said = command("evaluate", run, "--json")
    assert said.status == 0 and said.json()["step"] == 2
    notes = said.err.splitlines()
    assert all(line.startswith("note: ") for line in notes)
    assert str(path) in notes[0] and "went back to step 2" in notes[-1]


# --- predict --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLACED)
def test_labels_have_the_names_sizes_and_values_of_the_data_set(
    name: str, trained: Trained, predicted: Callable[[str], dict[Path, Path]]
) -> None:
    kind = KINDS[name]
    for image, label in predicted(name).items():
        assert label.name == image.name.split(".")[0] + kind.suffix
        found = kind.read(label)
        assert found.dtype == kind.dtype
        assert found.shape == _array(image).shape[1:]
        if kind.values:
            assert set(np.unique(found).tolist()) <= set(kind.values)
    assert len(predicted(name)) == made_data.IMAGES


@pytest.mark.parametrize("name", PLACED)
def test_a_file_is_predicted_as_its_array_is(
    name: str, trained: Trained, predicted: Callable[[str], dict[Path, Path]]
) -> None:
    predictor = labelmend.load(trained(name).run)
    image, label = next(iter(predicted(name).items()))
    found = predictor.predict(_array(image))
    values = KINDS[name].values
    expected = np.asarray(values)[found] if values else found[0]
    assert np.array_equal(KINDS[name].read(label), expected)


@every_kind
def test_the_same_file_gives_the_same_bytes(
    name: str, trained: Trained, predicted: Callable[[str], dict[Path, Path]], tmp_path: Path
) -> None:
    for image, label in itertools.islice(predicted(name).items(), 2):
        said = command("predict", trained(name).run, image, "--out", tmp_path)
        assert said.status == 0 and said.out == f"1 label written to {tmp_path}\n"
        assert (tmp_path / label.name).read_bytes() == label.read_bytes()


def test_volumes_keep_their_place_in_the_world(
    predicted: Callable[[str], dict[Path, Path]],
) -> None:
    for image, label in predicted("volume").items():
        given, made = nibabel.load(image), nibabel.load(label)
        assert np.array_equal(made.affine, given.affine)
        assert np.array_equal(made.affine, made_data.AFFINE)
        assert made.header.get_zooms() == given.header.get_zooms() == (1.5, 1.5, 2.5)


def test_recordings_become_lists_of_events(
    trained: Trained, predicted: Callable[[str], dict[Path, Path]]
) -> None:
    predictor = labelmend.load(trained("recording").run)
    for image, label in predicted("recording").items():
        with label.open(newline="") as file:
            events = list(csv.DictReader(file))
        assert label.read_text().startswith("onset_s,offset_s,label\n")
        place = np.zeros(made_data.RATE, np.int64)
        for event in events:
            begin, end = (
                round(float(event[key]) * made_data.RATE) for key in ("onset_s", "offset_s")
            )
            assert event["label"] == "tone" and 0 <= begin < end <= made_data.RATE
            place[begin:end] = 1
        spacing = (1 / made_data.RATE,)
        assert np.array_equal(predictor.predict(_array(image), spacing=spacing), place)


@pytest.mark.parametrize("size", [(5, 3), (1, 24), (20, 1), (1, 2), (61, 47), (33, 200)])
def test_images_of_any_size(size: tuple[int, int], trained: Trained, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "new.png")
    said = command("predict", trained("gray").run, tmp_path / "new.png", "--out", tmp_path / "out")
    assert said.status == 0, said.err
    assert _png(tmp_path / "out/new.png").shape == size


@pytest.mark.parametrize("length", [1, 7, 61, 500])
def test_signals_of_any_length(length: int, trained: Trained, tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", np.random.default_rng(0).normal(size=(length, 3)))
    said = command(
        "predict", trained("signal").run, tmp_path / "new.npy", "--out", tmp_path / "out"
    )
    assert said.status == 0, said.err
    assert np.load(tmp_path / "out/new.npy").shape == (length,)


@pytest.mark.parametrize("length", [3, 50, 2000])
def test_recordings_of_any_length(length: int, trained: Trained, tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, length)
    soundfile.write(tmp_path / "new.wav", sound, made_data.RATE)
    said = command(
        "predict", trained("recording").run, tmp_path / "new.wav", "--out", tmp_path / "out"
    )
    assert said.status == 0, said.err
    ends = [
        float(line.split(",")[1])
        for line in (tmp_path / "out/new.csv").open()
        if line[0] in "0123456789"
    ]
    assert all(end <= length / made_data.RATE for end in ends)


def test_folders_are_kept_and_what_is_no_image_is_not_taken(
    trained: Trained, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    source = trained("gray").data / "images/s0.png"
    for place in ("a.png", "ward/a.png", "ward/deep er/ü.png", ".hidden.png", ".git/x/b.png"):
        (new / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, new / place)
    (new / "notes.txt").write_text("words")
    (new / "list.csv").write_text("a,b\n1,2\n")
    said = command("predict", trained("gray").run, new, "--out", tmp_path / "out")
    assert said.status == 0, said.err
    made = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert made == {"a.png", "ward/a.png", "ward/deep er/ü.png"}


def test_a_broken_file_stops_no_other(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained("gray").data / "images", tmp_path / "new")
    (tmp_path / "new/s2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "new/s4.png").write_bytes(b"")
    said = command("predict", trained("gray").run, tmp_path / "new", "--out", tmp_path / "out")
    assert said.status == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"s{i}.png" for i in (0, 1, 3, 5, 6, 7)
    ]
    assert said.err.count("\n") == 1 and str(tmp_path / "new/s2.png") in said.err
    failed = [line for line in said.out.splitlines() if line.startswith("failed: ")]
    assert [str(tmp_path / f"new/s{i}.png") in line for i, line in zip((2, 4), failed, strict=True)]
    assert said.out.splitlines()[-1] == f"6 labels written to {tmp_path / 'out'}"


def test_quiet_prediction_says_only_what_went_wrong(trained: Trained, tmp_path: Path) -> None:
    image = trained("gray").data / "images/s0.png"
    said = command("predict", trained("gray").run, image, "--out", tmp_path / "out", "--quiet")
    assert tuple(said) == (0, "", "")
    (tmp_path / "x.png").write_bytes(b"")
    said = command(
        "predict", trained("gray").run, tmp_path / "x.png", "--out", tmp_path / "out", "--quiet"
    )
    assert said.status == 1 and said.out.startswith("failed: ") and said.err.count("\n") == 1


def test_nothing_is_written_when_names_clash(trained: Trained, tmp_path: Path) -> None:
    image = trained("gray").data / "images/s0.png"
    for name in ("a.png", "b.png"):
        shutil.copy(image, tmp_path / name)
    Image.open(image).save(tmp_path / "b.jpg")
    said = command("predict", trained("gray").run, tmp_path, "--out", tmp_path / "out")
    assert said.status == 1 and not (tmp_path / "out").exists()
    assert "b.jpg" in said.err and "b.png" in said.err


# --- fix ------------------------------------------------------------------------------------------


@every_kind
def test_all_weak_labels_are_written_and_said(name: str, trained: Trained, tmp_path: Path) -> None:
    done, out = trained(name), tmp_path / "out"
    said = command("fix", done.run, "--out", out)
    assert (said.status, said.err) == (0, "")
    weak = labelmend.Run.open(done.run).weak
    first, *_, last = said.out.splitlines()
    moved, total = first.split(" weak labels moved")[0].split(" of ")
    assert int(total) == len(weak) and last == f"per label: {out}/fixed.csv"
    with (out / "fixed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {sample.label for sample in weak}
    assert sum(row["moved"] == "yes" for row in rows) == int(moved)
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {row["written"] for row in rows} | {"fixed.csv"}
    for row in rows:
        if row["moved"] == "no":
            same = [(folder / row["label"]).read_bytes() for folder in (out, done.data)]
            assert same[0] == same[1]
    shutil.copytree(done.data, tmp_path / "data")
    shutil.copytree(out / "labels", tmp_path / "data/labels", dirs_exist_ok=True)
    assert command("check", tmp_path / "data").status == 0


def test_labels_are_turned_too_on_request_and_quietly(trained: Trained, tmp_path: Path) -> None:
    options = ["--align", "similarity", "--quiet"]
    said = command("fix", trained("gray").run, "--out", tmp_path / "out", *options)
    assert tuple(said) == (0, "", "")
    assert (tmp_path / "out/fixed.csv").exists()


# --- the process itself ---------------------------------------------------------------------------


def test_help_answers_in_a_process_of_its_own_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "labelmend", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    for name in ("check", "train", "evaluate", "predict", "fix", "report", "demo", "settings"):
        assert f" {name} " in done.stdout
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert "labelmend" in imported
    assert not imported & {"torch", "monai", "lightning_fabric", "scipy", "PIL", "nibabel"}


def test_a_failing_process_ends_with_its_status_and_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labelmend", "check", str(tmp_path / "no\udce4where")],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"labelmend: ") and done.stderr.count(b"\n") == 1
    assert b"is not a folder" in done.stderr and b"problem: " in done.stdout


def test_predictions_go_into_the_run_where_nothing_else_is_said(
    trained: Trained, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("gray").run, run)
    image = next(iter(sorted((trained("gray").data / "images").iterdir())))
    assert command("predict", run, image).status == 0
    assert [path.name for path in (run / "predictions").iterdir()] == [f"{image.stem}.png"]
