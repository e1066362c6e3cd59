"""One image in, one label of its size out: whatever it is handed, and from whichever checkpoint."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labelmend
from labelmend.errors import DamagedError, NonFiniteError, RunError, SettingsError, ShapeError
from labelmend.inference.predictor import Predictor
from labelmend.runs import Checkpoint
from labelmend.types import Raster

Trained = Callable[[str], Any]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    """Of grey images and two classes."""
    return labelmend.load(trained("gray").run, device="cpu")


@pytest.fixture(scope="module")
def colours(trained: Trained) -> Predictor:
    """Of images of three channels."""
    return labelmend.load(trained("colour").run)


class Brighter(nn.Module):
    """Class 1 where the first channel, as prepared, is above 0."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([-image[:, :1], image[:, :1]], 1)


class Broken(nn.Module):
    """A network that has gone astray in one place."""

    def forward(self, image: Tensor) -> Tensor:
        out = torch.cat([-image[:, :1], image[:, :1]], 1)
        out[..., 0, 0] = float("nan")
        return out


# --- arrays ---------------------------------------------------------------------------------------


def test_a_known_network_gives_the_known_label(predictor: Predictor) -> None:
    exact = dataclasses.replace(predictor, network=Brighter())
    bright = np.zeros((37, 50), np.uint8)
    bright[5:20, 7:33] = 200
    found = exact.predict(bright)
    assert found.dtype == np.int64 and np.array_equal(found, (bright > 0).astype(np.int64))


@pytest.mark.parametrize("size", [(20, 24), (1, 1), (3, 50), (41, 23)])
def test_the_label_is_as_large_as_the_image(predictor: Predictor, size: tuple[int, int]) -> None:
    image = RNG.normal(size=size)
    found = predictor.predict(image)
    assert found.shape == size and found.dtype == np.int64
    assert set(np.unique(found)) <= {0, 1}
    assert np.array_equal(found, predictor.predict(image[None]))


def test_channels_come_first(colours: Predictor) -> None:
    image = RNG.integers(0, 255, (3, 21, 30)).astype(np.uint8)
    assert colours.predict(image).shape == (21, 30)
    with pytest.raises(ShapeError, match=r"np.moveaxis\(image, -1, 0\)"):
        colours.predict(np.moveaxis(image, 0, -1))


@pytest.mark.parametrize(
    ("kind", "size"), [("volume", (1, 9, 8, 7)), ("signal", (3, 55)), ("recording", (1, 400))]
)
def test_other_numbers_of_axes(kind: str, size: tuple[int, ...], trained: Trained) -> None:
    found = labelmend.load(trained(kind).run).predict(RNG.normal(size=size))
    assert found.shape == size[1:] and found.dtype == np.int64


def test_regression_gives_the_scores(trained: Trained) -> None:
    predictor = labelmend.load(trained("continuous").run)
    image = RNG.normal(size=(1, 20, 31))
    found = predictor.predict(image)
    assert found.shape == (1, 20, 31) and found.dtype == np.float32
    assert np.array_equal(found, predictor.scores(Raster(image)))


def test_scores_decide_the_label(predictor: Predictor) -> None:
    image = RNG.normal(size=(1, 20, 24))
    scores = predictor.scores(Raster(image))
    assert scores.shape == (2, 20, 24) and scores.dtype == np.float32
    assert np.array_equal(predictor.decide(scores), scores[1] > scores[0])
    assert np.array_equal(predictor.decide(scores), predictor.predict(image))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float16, np.float64])
def test_any_real_numbers(predictor: Predictor, dtype: type) -> None:
    image = RNG.integers(0, 255, (20, 24)).astype(np.uint8)
    assert np.array_equal(predictor.predict(image.astype(dtype)), predictor.predict(image))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.float64])
def test_tensors_are_taken(predictor: Predictor, dtype: torch.dtype) -> None:
    image = torch.from_numpy(RNG.integers(0, 255, (1, 20, 24)))
    assert np.array_equal(predictor.predict(image.to(dtype)), predictor.predict(image.numpy()))


def test_a_tensor_with_a_gradient_is_taken(predictor: Predictor) -> None:
    image = torch.rand(1, 20, 24, requires_grad=True)
    assert np.array_equal(predictor.predict(image), predictor.predict(image.detach()))
    assert image.grad is None


def test_nothing_that_is_handed_in_changes(predictor: Predictor) -> None:
    image = RNG.normal(size=(1, 40, 33)).astype(np.float32)
    tensor = torch.from_numpy(image.copy())
    before = image.copy()
    image.setflags(write=False)
    parameters = [p.clone() for p in predictor.network.parameters()]
    predictor.predict(image)
    predictor.predict(tensor)
    assert np.array_equal(image, before) and np.array_equal(tensor.numpy(), before)
    assert all(
        torch.equal(a, b) for a, b in zip(parameters, predictor.network.parameters(), strict=True)
    )


def test_any_layout_in_memory(predictor: Predictor) -> None:
    image = RNG.normal(size=(24, 20))
    assert np.array_equal(
        predictor.predict(image.T), predictor.predict(np.ascontiguousarray(image.T))
    )
    assert np.array_equal(predictor.predict(image[::-1]), predictor.predict(image[::-1].copy()))


def test_twice_is_the_same_to_the_bit(predictor: Predictor) -> None:
    raster = Raster(RNG.normal(size=(1, 53, 47)))
    assert np.array_equal(predictor.scores(raster), predictor.scores(raster))


def test_patches_see_no_border_that_is_not_there(predictor: Predictor) -> None:
    """A network that looks at single positions yields the same, however patches are laid."""
    image = RNG.normal(size=(1, 53, 47))
    exact = dataclasses.replace(predictor, network=Brighter())
    small = dataclasses.replace(exact, patch=(8, 6))
    assert np.array_equal(exact.predict(image), small.predict(image))


@pytest.mark.parametrize(
    "size", [(24,), (2, 20, 24), (1, 1, 20, 24), (20, 24, 1), (0, 24), (1, 20, 0), ()]
)
def test_another_shape_is_refused(predictor: Predictor, size: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(channels, \*space\) with 1 channel and 2 space axes"):
        predictor.predict(np.zeros(size))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused(predictor: Predictor, bad: float) -> None:
    image = np.zeros((20, 24))
    image[3, 4] = bad
    with pytest.raises(NonFiniteError, match=r"position \(3, 4\)"):
        predictor.predict(image)


def test_a_network_gone_astray_is_not_hidden(predictor: Predictor) -> None:
    broken = dataclasses.replace(predictor, network=Broken())
    with pytest.raises(NonFiniteError, match=r"step 3\) yields NaN or infinity"):
        broken.predict(RNG.normal(size=(20, 24)))


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, np.nan), (1, 1, 1)])
def test_a_spacing_that_is_none_is_refused(predictor: Predictor, spacing: tuple) -> None:
    with pytest.raises(ShapeError, match="one distance above 0 per space axis, here 2"):
        predictor.predict(np.zeros((20, 24)), spacing=spacing)


def test_spacing_is_used_where_training_resampled(predictor: Predictor) -> None:
    coarse = dataclasses.replace(predictor.preparation, spacing=(2.0, 2.0))
    exact = dataclasses.replace(predictor, network=Brighter(), preparation=coarse)
    bright = np.zeros((20, 24))
    bright[4:12, 6:16] = 1
    assert np.array_equal(exact.predict(bright, spacing=[2, 2]), bright)
    found = exact.predict(bright, spacing=[1, 1])  # twice as fine as in training
    assert found.shape == (20, 24) and found[5:11, 7:15].all()
    found[3:13, 5:17] = 0
    assert not found.any() and not np.array_equal(found, bright)


# --- loading --------------------------------------------------------------------------------------


def test_a_run_is_named_in_any_way(trained: Trained) -> None:
    path = trained("gray").run
    opened = labelmend.Run.open(path)
    found = [labelmend.load(each) for each in (path, str(path), opened)]
    assert found[2].run is opened
    assert {each.run.path for each in found} == {path.resolve()}
    assert {each.step for each in found} == {3}


def test_a_predictor_knows_where_it_comes_from(predictor: Predictor) -> None:
    assert predictor.spec.classes == ("background", "foreground")
    assert predictor.spec.values == (0, 255)
    path = str(predictor.run.path)
    assert repr(predictor) == f"Predictor({path!r}, step=3, device='cpu')"
    assert (predictor.patch, predictor.multiple) == ((20, 24), 2)
    assert not predictor.network.training and predictor.notes == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        predictor.step = 4  # type: ignore[misc]


@pytest.mark.parametrize("which", ["last", "best", 2, 3])
def test_the_checkpoint_asked_for_is_loaded(which: Any, trained: Trained) -> None:
    run = labelmend.Run.open(trained("gray").run)
    saved = run.load(which)
    predictor = labelmend.load(run, checkpoint=which)
    assert predictor.step == saved.step
    found = predictor.network.state_dict()
    assert found.keys() == saved.tensors["main"].keys()
    assert all(torch.equal(found[name], saved.tensors["main"][name]) for name in found)


def test_a_step_that_was_not_kept_is_refused(trained: Trained) -> None:
    with pytest.raises(RunError, match="no checkpoint of step 7; it has 2, 3"):
        labelmend.load(trained("gray").run, checkpoint=7)


def test_a_damaged_step_is_not_replaced_and_the_last_is(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("gray").run, run)
    (run / "checkpoints/step-00000003/state.json").unlink()
    with pytest.raises(DamagedError, match="state.json"):
        labelmend.load(run, checkpoint=3)
    predictor = labelmend.load(run)
    assert predictor.step == 2 and "state.json" in predictor.notes[0]


def test_loading_leaves_the_callers_random_numbers_alone(trained: Trained) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    labelmend.load(trained("gray").run).predict(np.zeros((20, 24)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["cud", "tpu", "", "cpu:x", "cuda:99"])
def test_a_device_that_is_none_is_refused(name: str, trained: Trained) -> None:
    with pytest.raises(SettingsError, match=f"device {name!r}") as error:
        labelmend.load(trained("gray").run, device=name)
    assert "\n" not in str(error.value)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run in"):
        labelmend.load(tmp_path / "nowhere")


# --- two networks ---------------------------------------------------------------------------------


def twofold(source: Path, target: Path) -> Path:
    """A copy of a run with an auxiliary network, whose parameters are others."""
    shutil.copytree(source, target)
    run = labelmend.Run.open(target)
    saved = run.load("last")
    torch.manual_seed(1)
    other = {name: t + 0.3 * torch.randn_like(t) for name, t in saved.tensors["main"].items()}
    run.save(Checkpoint(saved.step + 1, {**saved.tensors, "auxiliary": other}, saved.state))
    return target


@pytest.mark.parametrize("kind", ["gray", "recording"])
def test_an_ensemble_gives_the_mean_of_both_probabilities(
    kind: str, trained: Trained, tmp_path: Path
) -> None:
    run = twofold(trained(kind).run, tmp_path / "run")
    size = (1, 20, 24) if kind == "gray" else (1, 400)
    raster = Raster(RNG.normal(size=size))
    found = {}
    for model in ("main", "auxiliary", "ensemble"):
        predictor = labelmend.load(run, model=model)
        assert predictor.model == model and predictor.step == 4
        assert not any(part.training for part in predictor.network.modules())
        # Of one patch; where patches are joined it is scores that are joined, as for one network.
        found[model] = predictor.network(
            torch.as_tensor(predictor.preparation.image(raster)[0])[None]
        ).softmax(1)
    assert not torch.allclose(found["main"], found["auxiliary"], atol=0.01)
    torch.testing.assert_close(found["ensemble"], (found["main"] + found["auxiliary"]) / 2)


def test_an_ensemble_gives_the_mean_of_both_outputs(trained: Trained, tmp_path: Path) -> None:
    run = twofold(trained("continuous").run, tmp_path / "run")
    image = RNG.normal(size=(1, 20, 31))
    main, auxiliary, both = (
        labelmend.load(run, model=model).predict(image)
        for model in ("main", "auxiliary", "ensemble")
    )
    assert not np.allclose(main, auxiliary, atol=0.01)
    np.testing.assert_allclose(both, (main + auxiliary) / 2, rtol=1e-5, atol=1e-5)


def test_each_network_is_filled_with_its_own_parameters(trained: Trained, tmp_path: Path) -> None:
    run = twofold(trained("gray").run, tmp_path / "run")
    saved = labelmend.Run.open(run).load("last").tensors
    for model in ("main", "auxiliary"):
        found = labelmend.load(run, model=model).network.state_dict()
        assert all(torch.equal(found[name], saved[model][name]) for name in saved[model])
    both = labelmend.load(run, model="ensemble").network.state_dict()
    assert len(both) == 2 * len(saved["main"])


def test_a_predictor_of_another_network_says_so_and_has_folders_of_its_own(
    trained: Trained, tmp_path: Path
) -> None:
    run = twofold(trained("gray").run, tmp_path / "run")
    predictor = labelmend.load(run, model="ensemble", device="cpu")
    assert repr(predictor).endswith("step=4, device='cpu', model='ensemble')")
    assert predictor.folder("predictions") == run.resolve() / "predictions-ensemble"
    assert predictor.folder("predictions").is_dir()
    assert labelmend.load(run).folder("predictions") == run.resolve() / "predictions"
    broken = dataclasses.replace(predictor, network=Broken())
    with pytest.raises(NonFiniteError, match=r"step 4, model ensemble\) yields NaN"):
        broken.predict(RNG.normal(size=(20, 24)))


@pytest.mark.parametrize("model", ["auxiliary", "ensemble"])
def test_a_second_network_that_was_not_trained_is_refused(model: Any, trained: Trained) -> None:
    with pytest.raises(RunError, match="trained one network.*--model main, or train with --dual"):
        labelmend.load(trained("gray").run, model=model)


def test_a_model_that_is_none_is_refused(trained: Trained) -> None:
    with pytest.raises(SettingsError, match="unknown model 'aux'; did you mean 'auxiliary'"):
        labelmend.load(trained("gray").run, model="aux")  # type: ignore[arg-type]


# --- what a loop of one's own has around it ----------------------------------------------------


def test_autocast_around_it_changes_no_bit(predictor: Predictor) -> None:
    raster = Raster(RNG.integers(0, 255, (1, 40, 48), dtype=np.uint8))
    plain = predictor.scores(raster)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(predictor.scores(raster), plain)


def test_a_device_may_be_given_as_torch_has_it(predictor: Predictor) -> None:
    assert labelmend.load(predictor.run, device=torch.device("cpu")).device.type == "cpu"


@pytest.mark.parametrize("which", ["latest", "20", None, 1.5])
def test_what_is_no_checkpoint_is_refused_and_not_taken_for_another(predictor, which) -> None:
    with pytest.raises(SettingsError, match="'last', 'best' or the number of a step, not"):
        labelmend.load(predictor.run, checkpoint=which)


def test_a_step_may_be_a_number_of_numpy(predictor: Predictor) -> None:
    found = labelmend.load(predictor.run, checkpoint=np.int64(predictor.step), device="cpu")
    assert found.step == predictor.step


def test_what_is_no_array_is_refused_with_the_way_to_one(predictor: Predictor) -> None:
    for image in ("new.png", Path("new.png"), Raster(np.zeros((1, 20, 24)))):
        with pytest.raises(ShapeError, match="an image is an array, not a .*; read a file first"):
            predictor.predict(image)
    with pytest.raises(ShapeError, match=r"one distance above 0 per space axis, here 2, not 1\.0"):
        predictor.predict(np.zeros((20, 24)), spacing=1.0)
    with pytest.raises(SettingsError, match=r"a Predictor, labelmend\.load\(run\), not a Run"):
        labelmend.evaluate(predictor.run)
