"""The mixed images a report shows are those that training's next step would learn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

import labelmend
from labelmend.errors import ChangedDataError, RunError, SettingsError
from labelmend.progress import Silent
from labelmend.runs import Checkpoint, Run
from labelmend.training import mixed
from labelmend.training.assembly import assemble
from labelmend.training.assembly.examples import LOOKED, MixedExample, mixed_examples
from labelmend.training.dual import classes_of, confident, disagreement
from labelmend.training.dual import corrected as believe
from labelmend.training.objective import Networks, Parcel, Terms

CPU = torch.device("cpu")
STEPS = 6
MIX = {"use": True, "gate": 0.55}
MOVING = {
    "use": "both",
    "signal": "similarity",
    "update": "centred",
    "rate": 0.4,
    "start": 5,
    "every": 1,
    "weak_samples": 4,
}
"""Two weight steps, after each of which the next step would draw otherwise."""
WAYS = {
    "labels": {"mixing": {"use": True}},
    "dual": {"mixing": MIX, "dual": {"use": True, "both": False}},
    "both": {"mixing": MIX, "dual": {"use": True}},
    "averages": {"mixing": {**MIX, "average": 0.9, "soften": 1.0}, "dual": {"use": True}},
    "one, by itself": {"mixing": {**MIX, "target": "predictions", "hard": False}},
    "trusted": {"mixing": {**MIX, "target": "trusted"}, "dual": {"use": True}},
    "drawn by weight": {"mixing": MIX, "weighting": MOVING},
    "weights by class": {"mixing": {"use": True}, "weighting": {"per": "class"}},
    "strong first": {"mixing": {"use": True, "pairs": "strong_first", "background": True}},
}


def fit(data: Path, out: Path, small: dict, way: dict, **more: object) -> Run:
    chosen = {name: {**small.get(name, {}), **part} for name, part in way.items()}
    # Training drops units out, and what is shown is predicted as in use.
    network = {**small["network"], "dropout": 0.0}
    settings = {**small, **chosen, "network": network, "steps": STEPS, "device": "cpu", **more}
    return labelmend.fit(data, out, **settings)


class Recorder:
    """Remembers what a function returned, and the first of its arguments."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, first: Tensor, *others: object) -> Tensor:
        found = self.function(first, *others)
        self.calls.append((first.clone(), found.clone()))
        return found


@pytest.mark.parametrize("way", WAYS)
def test_what_is_shown_is_what_the_next_step_learns_from(
    way: str, data: Path, tmp_path: Path, small: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit(data, tmp_path / "run", small, WAYS[way])
    shown = mixed_examples(run, 2, CPU)
    assert len(shown) == 2

    trainer = assemble(Fabric(accelerator="cpu", devices=1), run, Silent())
    trainer.restore(run.load("last"))
    parcels: list[Parcel] = []
    goal = trainer.objective

    def objective(networks: Networks, parcel: Parcel) -> Terms:
        parcels.append(parcel)
        return goal(networks, parcel)

    trainer.objective = objective
    mixes, labels = Recorder(mixed.mix), Recorder(mixed.pseudo_label)
    monkeypatch.setattr(mixed, "mix", mixes)
    monkeypatch.setattr(mixed, "pseudo_label", labels)
    believed: list[Tensor] = []

    def corrected(*of: Tensor) -> Tensor:
        believed.append(of[2])
        labels.calls[-1] = of[0], believe(*of)
        return labels.calls[-1][1]

    monkeypatch.setattr(mixed, "corrected", corrected)
    predicted: dict[str, Tensor] = {}
    for name, network in trainer.plain.items():
        network.register_forward_hook(_keeping(predicted, name))
    trainer._take_step(STEPS, trainer._loaded(range(STEPS, STEPS + 1)))

    assert bool(believed) == (way == "trusted")
    (parcel,) = parcels
    half = len(parcel.batch) // 2
    names = [run.data.samples[i].id for i in parcel.batch.index.tolist()]
    pairs = list(zip(names[:half], names[half:], strict=True))
    images, together = mixes.calls[0]
    for one in shown:
        assert one.step == STEPS
        k = pairs.index(one.samples)
        same(one.images[0], images[k])
        same(one.images[1], parcel.batch.image[half + k])
        # A soft border is a sum, which is rounded by the size of a batch.
        assert np.allclose(one.mixed, together[k].numpy(), rtol=0, atol=1e-6)
        inside = parcel.batch.label[k][torch.from_numpy(one.mask)]
        assert one.mask.any() and (inside == one.cut).all()
        assert np.isclose(one.weights, parcel.weight[[k, half + k]].reshape(2, -1).mean(1)).all()
        _same_target(one, k, run, mixes, labels)
        if believed:
            assert one.teaches[believed[0][k].numpy()].all()
        last = {name: logits[len(logits) - half + k] for name, logits in predicted.items()}
        alike = {name: classes_of(logits[None])[0] for name, logits in last.items()}
        assert one.predicted.keys() == alike.keys() == trainer.plain.keys()
        for name, classes in alike.items():
            nearly(one.predicted[name], classes)
        if len(alike) > 1:
            apart, seen = disagreement(*map(torch.from_numpy, one.predicted.values())).tolist()
            assert one.differ == apart / seen
        else:
            assert one.differ is None


def _same_target(one: MixedExample, k: int, run: Run, mixes: Recorder, labels: Recorder) -> None:
    if not labels.calls:
        # What is mixed after the images: their labels, and where these are valid.
        same(one.target, mixes.calls[1][1][k])
        same(one.teaches, mixes.calls[2][1][k])
        return
    # The first pupil is the main network.
    probabilities = labels.calls[0][1]
    nearly(one.target, classes_of(probabilities)[k])
    # What is believed of a strong label is certain, and so passes any gate.
    nearly(one.teaches, confident(probabilities, run.settings.mixing.gate)[k])


def _keeping(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    """A hook that keeps what a network said last, which ends with the mixed images."""

    def keep(network: object, inputs: object, logits: Tensor) -> None:
        found[name] = logits.detach()

    return keep


def same(one: np.ndarray, other: Tensor) -> None:
    assert np.array_equal(one, other.numpy())


def nearly(one: np.ndarray, other: Tensor) -> None:
    """Alike but where a prediction stands on an edge: sums are rounded by the size of a batch."""
    assert one.shape == tuple(other.shape)
    assert (one != other.numpy()).mean() < 0.005


# ---------------------------------------------------------------------- what there is to show


@pytest.fixture(scope="module")
def dual(data: Path, tmp_path_factory: pytest.TempPathFactory, small_settings: dict) -> Run:
    return fit(data, tmp_path_factory.mktemp("dual") / "run", small_settings, WAYS["dual"])


def test_the_same_run_gives_the_same_examples(dual: Run) -> None:
    one, other = (mixed_examples(dual, 3, CPU) for _ in range(2))
    assert len(one) == 3
    for first, second in zip(one, other, strict=True):
        assert first.samples == second.samples
        assert np.array_equal(first.mixed, second.mixed)
        assert np.array_equal(first.predicted["auxiliary"], second.predicted["auxiliary"])


def test_two_different_images_are_mixed_and_something_is_cut_out(dual: Run) -> None:
    image = {sample.id: sample.image for sample in dual.data.samples}
    examples = mixed_examples(dual, 99, CPU)
    assert 3 < len(examples) < LOOKED * 2
    assert all(one.mask.any() for one in examples)
    assert all(image[one.samples[0]] != image[one.samples[1]] for one in examples)


def test_random_numbers_of_the_caller_go_on(dual: Run) -> None:
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    mixed_examples(dual, 1, CPU)
    assert torch.equal(torch.rand(3), wanted)


def test_labels_without_any_object_have_nothing_to_show(
    make_data: Callable[..., Path], tmp_path: Path, small: dict
) -> None:
    root = make_data(tmp_path / "data")
    for path in (root / "labels").rglob("*.npy"):
        label = np.load(path)
        keep = "s14" in path.name or "s15" in path.name  # held out: without a class is no data set
        np.save(path, label if keep else label * 0)
    assert mixed_examples(fit(root, tmp_path / "run", small, WAYS["dual"]), 3, CPU) == []


# ---------------------------------------------------------------------- what can go wrong


def test_a_run_without_mixed_images_is_refused(data: Path, tmp_path: Path, small: dict) -> None:
    run = fit(data, tmp_path / "run", small, {})
    with pytest.raises(RunError, match="trained on no mixed images"):
        mixed_examples(run, 3, CPU)


def test_a_file_that_changed_is_refused(
    make_data: Callable[..., Path], tmp_path: Path, small: dict
) -> None:
    root = make_data(tmp_path / "data")
    run = fit(root, tmp_path / "run", small, WAYS["labels"])
    (first, *_) = mixed_examples(run, 1, CPU)
    path = root / next(s.image for s in run.data.samples if s.id == first.samples[1])
    np.save(path, np.load(path) + 1)
    with pytest.raises(ChangedDataError, match=path.name):
        mixed_examples(run, 1, CPU)


def test_a_network_of_ones_own_is_not_imported_unnamed(dual: Run) -> None:
    with pytest.raises(SettingsError, match="leave --network out"):
        mixed_examples(dual, 1, CPU, network="mine:Net")


def test_a_checkpoint_of_one_network_is_no_training_of_two(dual: Run, tmp_path: Path) -> None:
    saved = dual.load("last")
    run = Run.create(tmp_path / "run", dual.settings, dual.data, dual.facts, problems=[])
    tensors = {name: group for name, group in saved.tensors.items() if name != "auxiliary"}
    run.save(Checkpoint(saved.step, tensors, saved.state))
    with pytest.raises(RunError, match="has no group 'auxiliary'"):
        mixed_examples(run, 1, CPU)
