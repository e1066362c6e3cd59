"""Exported models, used as their pages say: by onnxruntime alone, by MONAI, by PyTorch alone."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import labelmend
from labelmend.cli.export import export as command
from labelmend.data.prepare import Preparation
from labelmend.errors import RunError, SettingsError
from labelmend.files.readers import decode, read_as
from labelmend.inference.export import to_monai
from labelmend.inference.export.exporting import export

from .. import made_data
from ..command import command as type_command

Trained = Callable[[str], Any]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-model-elsewhere.md"


def _example(first_line: str) -> str:
    """The block of Python of the page that begins so."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if block.startswith(first_line))


def _values(predictor: labelmend.Predictor, path: Path) -> np.ndarray:
    raster = read_as(path, predictor.spec)
    found = predictor.predict(raster.array, spacing=raster.spacing)
    return np.asarray(predictor.spec.values)[found] if predictor.spec.values else found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on grey images that trained two networks."""
    folder = tmp_path_factory.mktemp("two")
    data = made_data.gray(folder / "data")
    options = ["--dual", "--steps", "3", *made_data.settings_of("gray")]
    assert type_command("train", data, "--out", folder / "run", *options).status == 0
    return folder / "run"


@pytest.mark.parametrize("channels", [1, 3], ids=["grey, ensemble", "colour, main"])
def test_ten_lines_with_onnxruntime_give_the_label_that_predict_gives(
    channels: int, two: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    if channels == 1:
        predictor = labelmend.load(two, model="ensemble", device="cpu")
    else:
        predictor = labelmend.load(trained("colour").run, device="cpu")
    export(predictor, tmp_path / "exported", "onnx")
    monkeypatch.chdir(tmp_path)
    code = _example("import json\nimport numpy")
    assert "labelmend" not in code and "torch" not in code
    lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 10
    rng = np.random.default_rng(0)
    for rows, columns in ((20, 24), (19, 23), (7, 12)):
        shape = (rows, columns, 3)[: 2 + (channels == 3)]
        Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save("image.png")
        names: dict[str, Any] = {}
        exec(code, names)
        wanted = _values(predictor, tmp_path / "image.png")
        assert np.array_equal(names["label"], wanted)
        assert len(np.unique(wanted)) == 2  # else anything would do


def test_the_command_says_what_was_written_and_proved(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("volume").run
    assert command(run, to="torch", out=tmp_path / "out", json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["to"] == "torch" and told["proof"]["largest_difference"] <= 1e-5
    assert sorted(told["files"]) == sorted(p.name for p in (tmp_path / "out").iterdir())
    with pytest.raises(RunError, match="is not empty"):
        command(run, to="torch", out=tmp_path / "out")


def test_a_program_needs_nothing_of_this_package(trained: Trained, tmp_path: Path) -> None:
    export(labelmend.load(trained("colour").run, device="cpu"), tmp_path / "exported", "torch")
    code = "import sys; sys.modules['labelmend'] = sys.modules['monai'] = None\n"
    code += _example("import torch\n") + "print(tuple(scores.shape))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 2, 64, 96)\n"


def test_each_of_two_networks_and_both_together_are_exported(two: Path, tmp_path: Path) -> None:
    scores = {}
    image = np.random.default_rng(0).normal(0, 1, (1, 1, 20, 24)).astype(np.float32)
    from labelmend.inference.export import to_torch

    for model in ("main", "auxiliary", "ensemble"):
        predictor = labelmend.load(two, model=model, device="cpu")
        result = export(predictor, tmp_path / model, "torch", inputs=6)
        assert result.proof.worst == 0
        told = json.loads((tmp_path / model / "processing.json").read_text())
        assert told["model"]["network"] == model
        run = to_torch.open_model((tmp_path / model / "model.pt2").read_bytes())
        scores[model] = np.exp(run(image)) / np.exp(run(image)).sum(1, keepdims=True)
    mean = (scores["main"] + scores["auxiliary"]) / 2
    assert np.abs(scores["ensemble"] - mean).max() < 1e-6
    assert np.abs(scores["main"] - scores["auxiliary"]).max() > 1e-3


# --- MONAI ----------------------------------------------------------------------------------------


def _larger(kind: str, images: Path) -> None:
    """An image of several windows, no multiple of anything."""
    rng = np.random.default_rng(0)
    if kind == "colour":
        picture = rng.integers(0, 256, (51, 67, 3)).astype(np.uint8)
        Image.fromarray(picture).save(images / "large.png")
    if kind == "signal":
        np.save(images / "large.npy", rng.normal(0, 1, (151, 3)).astype(np.float32))


@pytest.mark.parametrize("kind", ["colour", "volume", "signal", "continuous"])
def test_monai_opens_a_bundle_and_predicts_files_as_we_do(
    kind: str, trained: Trained, tmp_path: Path
) -> None:
    from monai.bundle import ConfigWorkflow, verify_net_in_out

    predictor = labelmend.load(trained(kind).run, device="cpu")
    bundle, images, out = tmp_path / "bundle", tmp_path / "images", tmp_path / "out"
    export(predictor, bundle, "monai")
    configs = {"config_file": str(bundle / "configs" / "inference.json")}
    assert "labelmend." not in Path(configs["config_file"]).read_text()
    images.mkdir()
    for source in sorted((trained(kind).data / "images").iterdir())[:2]:
        (images / source.name).write_bytes(source.read_bytes())
    _larger(kind, images)
    places = {"bundle_root": str(bundle), "dataset_dir": str(images), "output_dir": str(out)}
    # what the evaluator is made of is checked below; making one needs pytorch-ignite
    stand_in = {"evaluator#_target_": "builtins.dict"}
    workflow = ConfigWorkflow(workflow_type="inference", **configs, **places, **stand_in)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    written = sorted(out.iterdir())
    assert len(written) == len(list(images.iterdir()))
    for path in written:
        source = next(
            p for p in images.iterdir() if p.name.split(".")[0] == path.name.split(".")[0]
        )
        found = decode(path, path.read_bytes()).array
        wanted = _values(predictor, source)
        if predictor.spec.task == "regression":
            assert np.abs(found - wanted[0]).max() < 1e-4
        else:
            assert found.shape == wanted.shape
            assert (found == wanted).mean() >= 0.999, path.name
    verify_net_in_out(
        "network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        n=3,
        any=8,
        device="cpu",
        bundle_root=str(bundle),
        **configs,
    )


def _line(text: str) -> str:
    """The Python of the documented ``python -c``, as a shell takes it."""
    found = re.search(r'^    python -c "(.*?)"$', text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].replace("\\\n", "")


def test_the_documented_line_predicts_every_picture_of_a_folder(
    trained: Trained, tmp_path: Path
) -> None:
    predictor = labelmend.load(trained("colour").run, device="cpu")
    bundle, images, out = tmp_path / "bundle", tmp_path / "images", tmp_path / "predictions"
    export(predictor, bundle, "monai", inputs=4)
    images.mkdir()
    rng = np.random.default_rng(0)
    names = ("a.png", "b.PNG", "c.Jpg", "d.tiff")
    for name in names:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(images / name)
    (images / "notes.txt").write_text("no picture")
    readme = _line((bundle / "docs" / "README.md").read_text())
    code = _line(PAGE.read_text(encoding="utf-8"))
    assert readme.replace("IMAGES", "../images").replace("PREDICTIONS", "../predictions") == code
    block = "import sys; sys.modules['labelmend'] = sys.modules['fire'] = None; "
    done = subprocess.run(
        [sys.executable, "-c", block + code],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [path.stem for path in sorted(out.iterdir())] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation("none"),
        Preparation("zscore"),
        Preparation("percentile", percentiles=(2.0, 98.0)),
        Preparation("set", mean=(90.0, 80.0, 3.0), deviation=(40.0, 0.0, 0.5)),
    ],
    ids=lambda each: each.normalise,
)
def test_a_bundle_prepares_images_that_hardly_vary_as_training_did(
    preparation: Preparation, trained: Trained, tmp_path: Path
) -> None:
    from monai.bundle import ConfigParser

    loaded = labelmend.load(trained("colour").run, device="cpu")
    predictor = dataclasses.replace(loaded, preparation=preparation)
    made = export(predictor, tmp_path / "bundle", "monai", inputs=4)
    assert made.proof.preparation == 0 and "prepared images by at most 0.0e+00" in made.to_text()
    parser = ConfigParser()
    parser.read_config(tmp_path / "bundle/configs/inference.json")
    parser.get_parsed_content("imports")
    prepare = parser.get_parsed_content("preprocessing")
    sparse = np.zeros((40, 50, 3), np.uint8)
    sparse[3:5, 7:9] = (200, 90, 7)  # fewer than 2 % of the positions
    for name, picture in (("sparse", sparse), ("blank", np.full_like(sparse, 37))):
        path = tmp_path / f"{name}.png"
        Image.fromarray(picture).save(path)
        wanted = predictor.preparation.image(read_as(path, predictor.spec))[0]
        found = prepare({"image": str(path)})["image"]
        assert np.array_equal(found.array, wanted)
        assert found.meta["filename_or_obj"] == str(path)  # what predictions are named by


def test_a_bundle_that_prepares_otherwise_is_not_written(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = labelmend.load(trained("colour").run, device="cpu")
    off = to_monai._MOMENTS.replace("c.mean(dtype='float64')", "c.mean(dtype='float64') + 0.5")
    monkeypatch.setattr(to_monai, "_MOMENTS", off)
    with pytest.raises(RunError, match=r"not equal to the network .*prepared images by"):
        export(predictor, tmp_path / "bundle", "monai", inputs=4)
    assert not list(tmp_path.iterdir())


def test_a_set_of_several_kinds_of_files_is_refused(trained: Trained, tmp_path: Path) -> None:
    predictor = labelmend.load(trained("colour").run, device="cpu")
    samples = list(predictor.run.data.samples)
    for suffix, refused in ((".JPG", False), (".npy", True)):
        other = dataclasses.replace(samples[1], image=f"images/other{suffix}")
        data = dataclasses.replace(predictor.run.data, samples=(samples[0], other))
        run = SimpleNamespace(path=predictor.run.path, data=data)
        mixed = dataclasses.replace(predictor, run=run)
        if refused:
            with pytest.raises(SettingsError, match=r"images in \.npy and \.png, which"):
                to_monai.check_expressible(mixed)
        else:
            to_monai.check_expressible(mixed)


def test_a_bundle_says_what_monai_wants_said(trained: Trained, tmp_path: Path) -> None:
    from monai.bundle import MetaProperties
    from monai.engines import SupervisedEvaluator

    predictor = labelmend.load(trained("colour").run, device="cpu")
    result = export(predictor, tmp_path / "bundle", "monai", inputs=4)
    told = json.loads((tmp_path / "bundle" / "configs" / "metadata.json").read_text())
    for found in MetaProperties.values():
        value: Any = told
        for part in found["id"].split("::")[1:]:
            value = value[part]
        assert value
    ends = told["network_data_format"]
    assert ends["inputs"]["image"]["num_channels"] == 3
    assert ends["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "foreground"}
    assert {"docs/README.md", "models/model.pt2", "processing.json"} <= set(result.files)
    assert all((tmp_path / "bundle" / name).is_file() for name in result.files)
    made = json.loads((tmp_path / "bundle" / "configs" / "inference.json").read_text())
    given = set(made["evaluator"]) - {"_target_"}
    assert given <= set(inspect.signature(SupervisedEvaluator.__init__).parameters)
