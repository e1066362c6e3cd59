"""An evaluation of a known network: its figures, its table, its files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import labelmend
from labelmend.errors import ChangedDataError, DataError, NonFiniteError, SettingsError
from labelmend.inference.evaluate import Evaluation, evaluate
from labelmend.inference.predictor import Predictor
from labelmend.metrics import summarise
from labelmend.runs import Checkpoint
from labelmend.types import Sample

Trained = Callable[[str], Any]


class Constant(nn.Module):
    """The same class everywhere."""

    def __init__(self, index: int, classes: int = 2) -> None:
        super().__init__()
        self.scores = torch.eye(classes)[index]

    def forward(self, image: Tensor) -> Tensor:
        size = (len(image), -1, *image.shape[2:])
        return self.scores.reshape(1, -1, *(1 for _ in image.shape[2:])).expand(size).clone()


class Displaced(nn.Module):
    """Finds what is bright, and puts it elsewhere: each image's by the next of some places."""

    def __init__(self, *places: tuple[int, int]) -> None:
        super().__init__()
        self.places, self.seen = places, 0

    def forward(self, image: Tensor) -> Tensor:
        sure = 4 * (image[:, :1] - image.mean()) / image.std()
        there = self.places[self.seen % len(self.places)]
        self.seen += 1
        sure = sure.roll(there, (2, 3))
        return torch.cat([-sure, sure], 1)


class Astray(Constant):
    """A network whose numbers are none any more."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) / 0


@pytest.fixture
def predictor(trained: Trained, tmp_path: Path) -> Predictor:
    """Of a run of its own, whose folder may be written."""
    without = shutil.ignore_patterns("evaluation")
    shutil.copytree(trained("gray").run, tmp_path / "run", ignore=without)
    return labelmend.load(tmp_path / "run", device="cpu")


def made(*dice: float, split: str = "test") -> Evaluation:
    """An evaluation of samples with these figures."""
    samples = [
        Sample(f"images/{i}", f"labels/{i}", "strong", "test", "g") for i in range(len(dice))
    ]
    rows = [{"cell": {"dice": d}, "other": {"dice": float("nan")}} for d in dice]
    summary = summarise(rows)
    return Evaluation(split, 7, tuple(samples), tuple(rows), summary["mean"], summary["per_class"])


def test_figures_of_a_known_network(predictor: Predictor) -> None:
    everywhere = dataclasses.replace(predictor, network=Constant(1))
    found = evaluate(everywhere, "train")
    # A box of half the height and half the width of the image is a quarter of it.
    assert found.mean["dice"] == pytest.approx(2 * 0.25 / 1.25)
    assert found.mean["iou"] == pytest.approx(0.25)
    assert found.per_class["foreground"] == found.mean
    assert len(found.rows) == len(found.samples) == 5 and found.step == 3
    nowhere = evaluate(dataclasses.replace(predictor, network=Constant(0)), "train")
    assert nowhere.mean["dice"] == 0


def test_the_test_split_is_judged_where_there_is_one(trained: Trained) -> None:
    assert evaluate(labelmend.load(trained("colour").run)).split == "test"
    assert evaluate(labelmend.load(trained("gray").run)).split == "val"
    with pytest.raises(DataError, match=r"no strong label in test .* 1 in val \(--split val\)"):
        evaluate(labelmend.load(trained("gray").run), "test")


def test_what_is_found_is_kept_in_the_run(predictor: Predictor) -> None:
    found = evaluate(predictor, "train")
    folder = predictor.run.path / "evaluation"
    assert json.loads((folder / "train.json").read_text()) == found.to_json()
    assert (folder / "train.csv").read_text() == found.to_csv()
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["label"] for row in rows] == [sample.label for sample in found.samples]
    for row, numbers in zip(rows, found.rows, strict=True):
        assert {k: float(row[k]) for k in numbers["foreground"]} == numbers["foreground"]


def test_what_two_networks_and_both_together_are_worth_is_kept_side_by_side(
    predictor: Predictor,
) -> None:
    run = predictor.run
    saved = run.load("last")
    other = {name: -tensor for name, tensor in saved.tensors["main"].items()}
    run.save(Checkpoint(saved.step, {**saved.tensors, "auxiliary": other}, saved.state))
    places = {
        "main": "evaluation", "auxiliary": "evaluation-auxiliary", "ensemble": "evaluation-ensemble"
    }  # fmt: skip
    found = {}
    for model in places:
        found[model] = evaluate(labelmend.load(run, model=model), "train")
        assert found[model].model == found[model].to_json()["model"] == model
        title = found[model].to_text().splitlines()[0]
        assert title == "train: 5 strong labels, step 3" + f", model {model}" * (model != "main")
    assert found["main"].rows != found["auxiliary"].rows
    for model, place in places.items():
        folder = run.path / place
        assert sorted(path.name for path in folder.iterdir()) == ["train.csv", "train.json"]
        assert json.loads((folder / "train.json").read_text()) == found[model].to_json()
        assert (folder / "train.csv").read_text() == found[model].to_csv()


def test_progress_is_told(predictor: Predictor) -> None:
    class Counts:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def start(self, total: int, done: int) -> None:
            self.seen.append(total)

        def step(self, step: int, figures: object) -> None:
            self.seen.append(step)

        def say(self, text: str) -> None: ...

        def finish(self) -> None:
            self.seen.append(-1)

    counts, once = Counts(), [5, 1, 2, 3, 4, 5, -1]
    evaluate(predictor, "train", tolerance=0, watcher=counts)
    assert counts.seen == once
    evaluate(dataclasses.replace(predictor, network=Displaced((2, 0))), "train", watcher=counts)
    assert counts.seen == 3 * once  # once more for the labels moved by what was found


def test_predictions_that_are_all_off_by_one_displacement(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = dataclasses.replace(predictor, network=Displaced((2, -1)))
    found = evaluate(off, "train", tolerance=3)
    assert found.offset is not None and found.tolerant is not None
    assert found.offset.displacement == (2, -1)
    assert found.tolerant.displacements == ((2, -1),) * 5
    assert found.mean["dice"] + 0.1 < found.tolerant.mean["dice"]
    assert found.offset.mean == found.tolerant.mean
    assert "surface_distance" in found.mean and "surface_distance" not in found.offset.mean
    text = found.to_json()
    assert text["offset"]["displacement"] == [2, -1] and text["tolerance"] == 3
    assert text["offset"]["mean"]["dice"] == text["shift_tolerant"]["mean"]["dice"]
    shown = " ".join(found.to_text().split())
    assert f"{found.sentences()[0]} all predictions lie (+2, -1) positions off their" in shown
    assert shown.index("surface_distance") < shown.index("shift-tolerant")
    assert max(map(len, found.to_text().splitlines())) <= 80
    again = evaluate(off, "train", tolerance=3)
    assert again == found
    # Images whose predictions were not kept are predicted once more.
    monkeypatch.setattr("labelmend.inference.evaluate.MOST_KEPT", 3 * 20 * 24 * 4 + 1)
    off.network.seen = 0
    assert evaluate(off, "train", tolerance=3) == found and off.network.seen > 5


def test_figures_without_tolerance_are_the_same(predictor: Predictor) -> None:
    off = dataclasses.replace(predictor, network=Displaced((2, -1)))
    raw, beside = evaluate(off, "train", tolerance=0), evaluate(off, "train", tolerance=3)
    assert (raw.rows, raw.mean, raw.per_class) == (beside.rows, beside.mean, beside.per_class)
    assert raw.tolerant is None and raw.offset is None and raw.sentences() == []
    assert beside.to_text().startswith(raw.to_text().split("\n\n")[0])
    nothing = {"tolerance": 0, "shift_tolerant": None, "offset": None}
    assert raw.to_json() == {**beside.to_json(), **nothing}
    lines = zip(raw.to_csv().splitlines(), beside.to_csv().splitlines(), strict=True)
    assert all(more.startswith(f"{line},") for line, more in lines)


def test_predictions_that_are_off_each_in_its_own_way(predictor: Predictor) -> None:
    ways = ((3, 0), (-3, 0), (0, 3), (0, -3), (0, 0))
    found = evaluate(dataclasses.replace(predictor, network=Displaced(*ways)), "train", tolerance=4)
    assert found.tolerant is not None and found.offset is not None
    assert found.tolerant.displacements == ways
    assert found.tolerant.mean["dice"] > found.mean["dice"] + 0.1
    assert not found.offset.found and "all predictions lie" not in found.to_text()
    for row, moved in zip(found.rows, found.tolerant.rows, strict=True):
        assert moved["foreground"]["dice"] >= row["foreground"]["dice"]
    lines = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [line["displacement"] for line in lines] == ["3 0", "-3 0", "0 3", "0 -3", "0 0"]
    for line, moved in zip(lines, found.tolerant.rows, strict=True):
        assert float(line["tolerant_dice"]) == moved["foreground"]["dice"]


def test_a_label_is_moved_only_where_that_is_better(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelmend.inference.evaluate.best", lambda *_: (3, 3))
    right = dataclasses.replace(predictor, network=Displaced((0, 0)))
    found = evaluate(right, "train", tolerance=3)
    assert found.tolerant is not None and found.tolerant.displacements == ((0, 0),) * 5
    assert found.tolerant.mean["dice"] == found.mean["dice"]


def test_a_flat_prediction_moves_nothing_and_knows_nothing(predictor: Predictor) -> None:
    found = evaluate(dataclasses.replace(predictor, network=Constant(1)), "train")
    assert found.tolerant is not None and found.tolerant.mean["dice"] == found.mean["dice"]
    assert found.tolerant.displacements == ((0, 0),) * 5
    assert "constant offset not known: 0 samples" in found.to_text()


@pytest.mark.parametrize("kind", ["signal", "volume", "continuous", "recording"])
def test_labels_are_moved_in_every_kind_of_data(kind: str, trained: Trained) -> None:
    predictor = labelmend.load(trained(kind).run, device="cpu")
    found = evaluate(predictor, "train", tolerance=2)
    assert found.tolerant is not None and found.offset is not None
    better = "psnr" if kind == "continuous" else "dice"
    assert found.tolerant.mean[better] >= found.mean[better]
    assert {len(d) for d in found.tolerant.displacements} == {predictor.spec.dims}
    assert all(abs(v) <= 2 for d in found.tolerant.displacements for v in d)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("tolerance", [-1, 10_000])
def test_a_tolerance_that_is_none_is_refused(predictor: Predictor, tolerance: int) -> None:
    with pytest.raises(SettingsError, match=f"not {tolerance}"):
        evaluate(predictor, "train", tolerance=tolerance)
    assert not (predictor.run.path / "evaluation").exists()


def test_a_network_gone_astray_names_the_image(predictor: Predictor) -> None:
    with pytest.raises(NonFiniteError, match=r"images/s\d.png: the network of .* NaN or infinity"):
        evaluate(dataclasses.replace(predictor, network=Astray(1)), "val")
    assert not (predictor.run.path / "evaluation").exists()


def test_changed_data_is_noticed(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained("gray").data, tmp_path / "data")
    small = {"network": {"width": 4, "depth": 2}, "batch": {"size": 4}}
    run = labelmend.fit(tmp_path / "data", tmp_path / "run", steps=1, **small)
    predictor = labelmend.load(run)
    label = tmp_path / "data" / run.data.of("val", "strong")[0].label
    label.write_bytes(label.read_bytes() + b"\0")
    with pytest.raises(ChangedDataError, match="is not the file the run began with"):
        evaluate(predictor)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match="data does not exist any more"):
        evaluate(predictor)


# --- the table ------------------------------------------------------------------------------------


def test_a_figure_that_does_not_exist_is_null_empty_and_a_dash() -> None:
    found = made(0.5, 1.0)
    assert found.to_json()["per_class"] == {"cell": {"dice": 0.75}, "other": {"dice": None}}
    assert found.to_json()["model"] == "main"
    assert found.to_json()["mean"] == {"dice": 0.75} and found.to_json()["samples"] == 2
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()
    assert found.to_csv().splitlines() == [
        "label,image,group,class,dice",
        "labels/0,images/0,g,cell,0.5",
        "labels/0,images/0,g,other,",
        "labels/1,images/1,g,cell,1.0",
        "labels/1,images/1,g,other,",
    ]
    assert found.to_text().split("\n") == [
        "test: 2 strong labels, step 7",
        "",
        "        dice",
        "cell   0.750",
        "other      –",
        "mean   0.750",
        "",
    ]


def test_the_lowest_are_named_where_there_are_many() -> None:
    found = made(0.9, 0.2, 0.8, float("nan"), 0.1, 0.7, 0.6)
    assert found.to_text().splitlines()[-3:] == [
        "lowest dice: 0.100 labels/4",
        "lowest dice: 0.200 labels/1",
        "lowest dice: 0.600 labels/6",
    ]
    assert "lowest" not in made(0.9, 0.2, 0.8, 0.1, 0.7).to_text()


@pytest.mark.parametrize(("split", "said"), [("val", "best checkpoint"), ("train", "trained on")])
def test_figures_that_are_no_test_figures_say_so(split: str, said: str) -> None:
    text = made(0.5, split=split).to_text()
    assert text.startswith(f"{split}: 1 strong label, step 7\n") and said in text
    assert said not in made(0.5).to_text()
