"""What a training does between its first step and its last."""

from __future__ import annotations

import pytest
import torch

from labelmend.errors import DataError, SettingsError
from labelmend.progress import Silent
from labelmend.runs import Run
from labelmend.training import trainer
from labelmend.training.assembly import fit


def test_weak_labels_that_lie_elsewhere_lose_weight(make_data, tmp_path) -> None:
    data = make_data(tmp_path / "data", strong=12, weak=24)
    run = fit(
        data,
        tmp_path / "run",
        steps=60,
        network={"width": 8, "depth": 2},
        weighting={"start": 20, "every": 5, "strong_samples": 12, "weak_samples": 24},
        optimiser={"learning_rate": 3e-3},
        input={"foreground": 0.0},
    )
    weight = {row["id"]: row["weight"] for row in run.weights() if row["quality"] == "weak"}
    wrong = [w for name, w in weight.items() if int(name.split("/s")[1][:-4]) % 4 == 0]
    right = [w for name, w in weight.items() if int(name.split("/s")[1][:-4]) % 4]
    assert len(wrong) == 6
    assert max(wrong) < sum(right) / len(right)


def test_early_stop_ends_with_the_best_checkpoint_kept(data, tmp_path, small) -> None:
    small |= {"validate_every": 1, "save_every": 100, "keep": 1, "patience": 2}
    small["optimiser"] = {"learning_rate": 1e-9}
    run = fit(data, tmp_path / "run", steps=50, **small)
    figures = run.metrics("val")
    best = max(figures, key=lambda record: record["dice"])
    assert len(figures) == best["step"] + 2 < 50
    assert run.steps() == sorted({best["step"], best["step"] + 2})
    assert run.load("best").step == best["step"]
    assert run.load("last").state["done"]


def test_the_rate_rises_over_a_tenth_of_the_steps_and_then_falls(data, tmp_path, small) -> None:
    chosen = {**small, "weighting": {"method": "constant"}, "optimiser": {"learning_rate": 0.01}}
    run = fit(data, tmp_path / "run", steps=11, **chosen)
    rates = [record["learning_rate"] for record in run.metrics("train")]
    assert rates[:3] == pytest.approx([0.005, 0.01, 0.01])
    assert rates[3:] == sorted(rates[3:], reverse=True) and rates[-1] < 0.001


def test_the_callers_random_numbers_go_on_undisturbed(data, tmp_path, small) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(data, tmp_path / "run", steps=2, **small)
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_default_dtype() == torch.float32


def test_the_same_seed_gives_the_same_bits_and_another_does_not(data, tmp_path, small) -> None:
    def losses(name: str, seed: int) -> list[float]:
        run = fit(data, tmp_path / name, steps=3, seed=seed, **small)
        return [record["loss"] for record in run.metrics("train")]

    first = losses("a", 1)
    assert losses("b", 1) == first
    assert losses("c", 2) != first


def test_half_precision_trains_in_it_and_keeps_full_parameters(data, tmp_path, small) -> None:
    run = fit(data, tmp_path / "run", steps=4, precision="bf16-mixed", **small)
    exact = fit(data, tmp_path / "exact", steps=4, **small)
    assert {t.dtype for t in run.load().tensors["main"].values()} == {torch.float32}
    half, full = ([r["loss"] for r in r_.metrics("train")] for r_ in (run, exact))
    assert half != full
    assert half == pytest.approx(full, rel=0.05)


def test_tensorboard_gets_what_the_run_folder_gets(data, tmp_path, small) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = fit(data, tmp_path / "run", steps=4, tensorboard=True, **small)
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    shown = [event.value for event in events.Scalars("train/loss")]
    assert shown == pytest.approx([record["loss"] for record in run.metrics("train")])
    assert events.Tags()["scalars"].count("weights/mean_weight") == 1


@pytest.mark.parametrize("preset", ["strong_only", "pooled"])
def test_the_two_other_ways_learn_no_weights(data, tmp_path, small, preset) -> None:
    del small["weighting"], small["batch"]
    run = fit(data, tmp_path / "run", preset=preset, steps=2, **small)
    assert run.metrics("weights") == []
    assert run.weight_history() == []


def test_pooling_draws_from_all_alike(data, tmp_path, small) -> None:
    del small["weighting"]
    run = fit(data, tmp_path / "run", preset="pooled", steps=2, batch={"size": 4}, **{
        key: value for key, value in small.items() if key != "batch"
    })  # fmt: skip
    assert run.settings.batch.strong_share is None
    assert "loss_weak" not in run.metrics("train")[0]


def test_no_strong_label_is_refused_with_the_ways_out(make_data, tmp_path, small) -> None:
    data = make_data(tmp_path / "data", strong=0, held_out=0)
    with pytest.raises(DataError, match="no strong label.*--preset pooled"):
        fit(data, tmp_path / "run", steps=2, **small)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (
            {"name": "monai.networks.nets:BasicUNetPlusPlus", "arguments": {"features": [4] * 6}},
            "gave a list",
        ),
        ({"name": "torch.nn:Conv2d", "arguments": {"out_channels": 7, "kernel_size": 1}}, "1, 7,"),
        ({"name": "torch.nn:LazyConv2d", "arguments": {"kernel_size": 1}}, "lazy layers"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_there_is_a_run(
    data, tmp_path, small, network, says
) -> None:
    for method in ("gradient", "constant"):
        chosen = {**small, "network": network, "weighting": {"method": method}}
        with pytest.raises(SettingsError, match=says):
            fit(data, tmp_path / "run", steps=2, **chosen)
        assert not (tmp_path / "run").exists()


def test_a_watcher_sees_every_step_and_the_end(data, tmp_path, small) -> None:
    seen: list[object] = []

    class Watch(Silent):
        def start(self, total, done):
            seen.append(("start", total, done))

        def step(self, step, figures):
            if "loss" in figures:
                seen.append(step)

        def finish(self):
            seen.append("end")

    fit(data, tmp_path / "run", steps=3, watcher=Watch(), **small)
    assert seen == [("start", 3, 0), 1, 2, 3, "end"]


def test_the_loop_names_no_method() -> None:
    """What comes next (alignment, mixing, a second network) is handed in as functions."""
    source = trainer.__file__
    with open(source, encoding="utf-8") as file:  # noqa: PTH123 - a path as text
        text = file.read()
    for method in ("dice_", "align", "mixing", "curvature", "normalised"):
        assert method not in text.lower(), method


def test_frozen_parameters_are_left_alone_by_the_weight_step(
    data, tmp_path, small, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "frozen_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, dims, in_channels, out_channels):\n"
        "        super().__init__()\n"
        "        self.first = nn.Conv2d(in_channels, 4, 3, padding=1)\n"
        "        self.first.requires_grad_(False)\n"
        "        self.last = nn.Conv2d(4, out_channels, 3, padding=1)\n"
        "    def forward(self, x):\n"
        "        return self.last(self.first(x).relu())\n"
    )
    small["network"] = {"name": "frozen_net:Net"}
    run = fit(data, tmp_path / "run", steps=4, keep=9, **{**small, "save_every": 1})
    first, last = Run.open(run.path).load(1), Run.open(run.path).load(4)
    assert torch.equal(first.tensors["main"]["first.weight"], last.tensors["main"]["first.weight"])
    assert run.metrics("weights")
