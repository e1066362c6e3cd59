"""The page of a run, for every kind of data, without any training: records made up here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from labelmend.catalogue.scan import open_data
from labelmend.config import Settings
from labelmend.data.prepare import Preparation
from labelmend.errors import RunError
from labelmend.files.formats import Problem
from labelmend.networks.build import build_network
from labelmend.progress import Silent
from labelmend.report import write_report
from labelmend.report.gather import gather
from labelmend.runs import Checkpoint, Run
from labelmend.training.assembly import mixing, weighing
from labelmend.training.assembly.examples import mixed_examples

VOID = {"img", "input", "meta"}
STEPS = 60


# ---------------------------------------------------------------------- runs made up


Pair = tuple[np.ndarray, np.ndarray]


def flat(rng: np.random.Generator) -> Pair:
    label = np.zeros((24, 32), np.uint8)
    label[4:12, 6:20] = 1
    label[14:18, 6:20] = 2
    return (label * 60 + rng.integers(0, 60, label.shape)).astype(np.uint8), label


def binary(rng: np.random.Generator) -> Pair:
    image, label = flat(rng)
    return image, (label > 0).astype(np.uint8)


def deep(rng: np.random.Generator) -> Pair:
    label = np.zeros((12, 16, 12), np.uint8)
    label[3:8, 4:10, 6:9] = 1
    return (label + rng.normal(0, 0.3, label.shape)).astype(np.float32), label


def line(rng: np.random.Generator) -> Pair:
    label = np.zeros(256, np.uint8)
    label[40:90], label[120:150], label[200:] = 1, 2, 255
    return (label % 255 + rng.normal(0, 0.2, 256)).astype(np.float32), label


def gapped(rng: np.random.Generator) -> Pair:
    image, label = line(rng)
    label[::8] = 255  # some in every patch
    return image, label


def tone(rng: np.random.Generator) -> Pair:
    label = np.zeros(2048, np.uint8)
    label[500:900] = 1
    return (0.2 * label * np.sin(np.arange(2048)) + rng.normal(0, 0.01, 2048)), label


def stain(rng: np.random.Generator) -> Pair:
    image = rng.normal(size=(24, 32)).astype(np.float32)
    return image, np.tanh(image)


def curve(rng: np.random.Generator) -> Pair:
    image = rng.normal(size=256).astype(np.float32)
    return image, np.tanh(image)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".wav":
        soundfile.write(path, array, 8000)
    elif path.suffix == ".gz":
        nib.save(nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), path)
    else:
        np.save(path, array)


@dataclass
class Kind:
    make: Callable[[np.random.Generator], Pair]
    image: str = ".npy"
    label: str = ".npy"
    toml: str = ""
    input: dict[str, object] = field(default_factory=dict)
    annotators: tuple[str, ...] = ("",)
    name: str = "s{}"
    loss: str = "dice_ce"


IGNORED = "ignore = 255\n[classes]\nrest = 0\nwave = 1\nbeat = 2\n"
KINDS = {
    "2-D": Kind(flat, annotators=("ann", "bob")),
    "2-D, one class": Kind(binary),
    "3-D": Kind(deep, image=".nii.gz", label=".nii.gz"),
    "1-D": Kind(line, toml=IGNORED),
    "1-D with gaps": Kind(gapped, toml=IGNORED),
    "spectrogram": Kind(tone, image=".wav", input={"spectrogram": True, "window": 64, "hop": 32}),
    "regression": Kind(stain, toml='task = "regression"\n', loss="l1"),
    "1-D regression": Kind(curve, toml='task = "regression"\ndims = 1\n', loss="l1"),
}


def make_data(root: Path, kind: Kind, *, strong: int = 5, weak: int = 5) -> Path:
    rng = np.random.default_rng(0)
    for number in range(strong + weak):
        image, label = kind.make(rng)
        name = kind.name.format(number)
        save(root / f"images/{name}{kind.image}", image)
        folders = ["strong"] if number < strong else [f"weak/{a}" for a in kind.annotators]
        for folder in folders:
            save(root / "labels" / folder / f"{name}{kind.label}", label)
    if kind.toml:
        (root / "data.toml").write_text(kind.toml)
    return root


def make_run(
    folder: Path,
    kind: Kind,
    *,
    val_share: float = 0.5,
    records: bool = True,
    given: bool = False,
    weighing: dict[str, object] | None = None,
    **changes: object,
) -> Run:
    """A run folder as a training leaves it, with a network that never learned anything."""
    small = {"network": {"width": 4, "depth": 2}, "steps": STEPS, "loss": kind.loss}
    settings = Settings.make(small, {"input": kind.input}, changes)
    data, _ = open_data(folder / "data", val_share=val_share)
    names = ("normalise", "spectrogram", "window", "hop")
    preparation = Preparation(**{name: getattr(settings.input, name) for name in names})
    channels = (preparation.channels(data.spec.channels), len(data.spec.classes))
    facts = {
        "in_channels": channels[0],
        "out_channels": channels[1],
        "patch": [16] * data.spec.dims,
        "multiple": 4,
        "preparation": asdict(preparation),
    }
    if given:
        weak = data.of("train", "weak")
        facts["given_weights"] = {each.id: i / len(weak) for i, each in enumerate(weak)}
    if weighing is not None:
        facts["weighing"] = weighing
    problem = Problem("images/<b>bad.npy", "is empty & cannot be read")
    run = Run.create(folder / "run", settings, data, facts, problems=[problem])
    if records:
        log(run)
        network = build_network("unet", data.spec.dims, *channels, width=4, depth=2, seed=0)
        run.save(Checkpoint(STEPS, {"main": network.state_dict()}))
    return run


def log(run: Run) -> None:
    rng = np.random.default_rng(1)
    metric = "dice" if run.data.spec.task == "segmentation" else "psnr"
    weights = np.full(len(run.weak), 0.5)
    for step in range(1, STEPS + 1):
        losses = {f"loss_{name}": 1 / step + rng.random() / 9 for name in ("strong", "weak")}
        figures = {"loss": 1.0, **losses, "learning_rate": 1e-3, "seconds": 0.1}
        run.log({"step": step, "kind": "train", **figures})
        if step % 20 == 0:
            weights = np.clip(weights + rng.normal(0, 0.2, len(weights)), 0, 1)
            run.log_weights(step, judged(run, weights))
            run.log({"step": step, "kind": "weights", **said(run, step)})
            run.log({"step": step, "kind": "val", metric: 0.3 + step / 100})


def judged(run: Run, weights: np.ndarray) -> dict[str, list[float | None]]:
    """The columns of a weight step; where weights are shared, half of the labels were judged."""
    chosen = run.settings.weighting
    columns: dict[str, list[float | None]] = {}
    columns |= dict.fromkeys(("weight", "similarity", "loss"), weights.tolist())
    if chosen.signal in ("fit", "loss"):
        columns["similarity"] = [None] * len(weights)
    if chosen.per == "class":
        for place, name in enumerate(run.data.spec.classes):
            columns[f"weight_{name}"] = (weights * place / len(run.data.spec.classes)).tolist()
    if chosen.per == "annotator":
        owners = sorted({sample.annotator for sample in run.weak})
        columns["weight"] = [float(weights[owners.index(s.annotator)]) for s in run.weak]
        columns["loss"] = [v if i % 2 else None for i, v in enumerate(weights.tolist())]
    return columns


def said(run: Run, step: int) -> dict[str, object]:
    """What a weight step says of itself."""
    figures: dict[str, object] = {"mean_weight": 0.5}
    if run.settings.weighting.signal in ("fit", "loss"):
        return figures
    return figures | {"mean_similarity": 0.1, "agreement": 10 / step, "note": "slower <way>"}


# ---------------------------------------------------------------------- reading the page


class Page(HTMLParser):
    """Refuses what is not well-formed and remembers what is there."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.source = path.read_text(encoding="utf-8")
        self.text = ""
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute is there twice: {attrs}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str, style: str = "") -> list[dict[str, str | None]]:
        found = [attrs for name, attrs in self.tags if name == tag]
        return [a for a in found if not style or style in (a.get("class") or "").split()]


def check_sound(page: Page) -> None:
    """What holds for every page."""
    outside = [a.get("src") or a.get("href") or "" for _, a in page.tags]
    assert all(place == "" or place.startswith(("data:image/", "#")) for place in outside)
    plain = re.sub(r"base64,[\w+/=\n]*", "", page.source)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", plain)
    assert not page.all("script")
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in page.all("a")]
    assert {link.removeprefix("#") for link in links if link} <= set(ids)
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("loading") == "lazy" for a in page.all("img"))
    assert all(a.get("aria-label") for _, a in page.tags if a.get("role") == "img")
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert len(page.all("figure")) == len(page.all("figcaption"))
    assert len(page.source) < 1_500_000


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_run_has_every_part(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    make_data(tmp_path / "data", kind)
    run = make_run(tmp_path, kind)
    page = Page(write_report(run.path))
    check_sound(page)
    parts = ["verdict", "training", "weights", "labels", "predictions", "evaluation", "settings"]
    assert [a["id"] for a in page.all("section")] == parts
    weak, held_out = 5 * len(kind.annotators), len(run.data.of("val", "strong"))
    assert held_out >= 1
    assert len(page.all("figure", "tile")) == weak + held_out
    assert not page.all("p", "missing")
    charts = 6 if len(kind.annotators) > 1 else 5
    assert len(page.all("svg")) >= charts
    assert len(page.all("figure", "chart")) == charts
    assert "Trained for 60 steps in 6 s" in page.text
    assert "images/<b>bad.npy" in page.text
    assert all(sample.label in page.text for sample in run.weak)
    assert f"split, predicted at step {STEPS}" in page.text
    assert page.text.count("[weighting]") == 1
    assert "torch" in page.text


def _page(tmp_path: Path, name: str, **options: object) -> Page:
    make_data(tmp_path / "data", KINDS[name])
    return Page(write_report(make_run(tmp_path, KINDS[name], **options).path))


def test_labels_are_solid_and_predictions_have_a_style_of_their_own(tmp_path: Path) -> None:
    page = _page(tmp_path, "2-D")
    labels = [a for a in page.all("path", "label") if "plain" not in a["class"].split()]
    assert {style for a in labels for style in a["class"].split()} == {"label", "k1", "k2"}
    assert page.all("path", "prediction")
    assert "class 1" in page.text
    assert "class 2" in page.text


def test_a_slice_of_a_volume_says_which(tmp_path: Path) -> None:
    assert "slice 7 of 12 along the third axis" in _page(tmp_path, "3-D").text


def test_recordings_show_spans_and_what_was_not_said(tmp_path: Path) -> None:
    page = _page(tmp_path, "1-D")
    assert page.all("rect", "band")
    assert page.all("path", "signal")
    ignored = [a for a in page.all("rect", "ignored") if a["height"] == "100"]
    assert {(a["x"], a["width"]) for a in ignored} == {("781.25", "218.75")}
    assert "not said (ignored)" in page.text
    assert "256 positions" in page.text


def test_spectrograms_are_pictures(tmp_path: Path) -> None:
    page = _page(tmp_path, "spectrogram")
    assert len(page.all("img")) == len(page.all("figure", "tile"))
    assert "0.256 s" in page.text


def test_regression_shows_image_label_and_prediction(tmp_path: Path) -> None:
    page = _page(tmp_path, "regression")
    held_out = len(page.all("div", "of3"))
    assert held_out == 2
    assert len(page.all("img")) == 3 * held_out + 2 * len(page.all("div", "of2"))
    assert "PSNR" in page.text
    assert "outlines" not in page.text


# ---------------------------------------------------------------------- how weights were learned

FACTS = {"start": 20, "every": 20, "judged": 3, "rate": 0.25, "cost": 0.125}


def learned(
    tmp_path: Path, *, weighing: dict[str, object] | None = FACTS, **options: object
) -> Page:
    chosen = {name: options.pop(name) for name in tuple(options) if name != "given"}
    page = _page(tmp_path, "2-D", weighing=weighing, weighting=chosen, **options)
    check_sound(page)
    return page


def test_how_weights_were_learned_is_told(tmp_path: Path) -> None:
    page = learned(tmp_path)
    assert "(weighting.signal = alike)" in page.text
    assert "looked at 3 times: from step 20 on, every 20 steps, 3 of 10" in page.text
    assert "about 12% more time than training alone" in page.text
    assert page.text.count("slower <way>") == 1
    assert "agreement of the strong labels" in page.text
    assert "start 20, every 20, judged 3, rate 0.25, cost 0.125" in page.text


def test_a_run_from_before_says_what_it_knows(tmp_path: Path) -> None:
    page = learned(tmp_path, weighing=None)
    assert "weighting.signal =" not in page.text
    assert "more time" not in page.text
    assert "Each weak label was looked at 3 times." in page.text


def test_weights_by_class_have_a_chart_each(tmp_path: Path) -> None:
    page = learned(tmp_path, per="class")
    assert "Weights by class in figures" in page.text
    assert "Mean weight by class, rising: background 0.00, class 1 " in page.text
    assert "background 0.00, class 1 0." in page.text
    assert "mean over classes" in page.text.lower()


def test_shared_weights_are_told_from_those_of_single_labels(tmp_path: Path) -> None:
    page = learned(tmp_path, per="annotator")
    assert "The weights of 2 annotators" in page.text
    assert "A line per annotator" in page.text
    assert "The weight that all labels of each annotator share" in page.text
    assert "5 weak labels were never judged; 5 of them moved with the others." in page.text
    assert "Weights by annotator in figures" not in page.text
    assert len(page.all("span", "bar")) == 10


def test_a_shuffled_run_warns_beside_the_weights_too(tmp_path: Path) -> None:
    page = learned(tmp_path, shuffled=True)
    assert "A sanity run" in page.text
    assert "training used them for other labels" in page.text
    assert page.all("span", "warned")


def test_signals_without_gradients_have_no_agreement(tmp_path: Path) -> None:
    page = learned(tmp_path, signal="fit")
    assert "overlap less than is usual" in page.text
    assert "agreement" not in page.text
    assert "Two halves" not in page.text


def test_weights_up_to_2_fill_their_bars(tmp_path: Path) -> None:
    page = learned(tmp_path, highest=2.0)
    shown = re.findall(r"weight (\d\.\d\d) of 2", page.text)
    widths = re.findall(r'<span style="width: ([\d.]+)%', page.source)
    assert len(shown) == len(widths) == 10
    assert np.allclose([float(w) for w in widths], [50 * float(w) for w in shown], atol=0.3)
    assert "near 2" in page.text
    assert "near 1" not in page.text


def test_given_weights_are_where_the_history_begins(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D"])
    run = make_run(tmp_path, KINDS["2-D"], given=True)
    found = gather(run)
    assert found.paths.weights[0] == tuple(i / 10 for i in range(10))
    assert found.story.weighing.began == found.paths.weights[0]
    page = Page(write_report(run.path))
    assert "at first 0.45 on average, as given, from 0.00 to 0.90" in page.text
    assert "of 10 labels" in page.text


def test_shared_and_held_weights_begin_where_training_had_them(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D"])
    settings = {"per": "annotator", "mean": (0.7, 0.8)}
    run = make_run(tmp_path, KINDS["2-D"], given=True, records=False, weighting=settings)
    began = {row.sample.id: row.began for row in gather(run).rows}
    assert len(set(began.values())) == 2
    assert np.isclose(np.mean(list(began.values())), 0.7)


def test_given_weights_are_drawn_without_learning(tmp_path: Path) -> None:
    settings = {"method": "constant"}
    page = _page(tmp_path, "2-D", weighting=settings, records=False, given=True)
    assert "weak labels counted with 0.45 on average, as given" in page.text
    assert "Weights given to 10 weak labels; they did not change." in page.text
    assert "No weights were learned in this run" not in page.text


def test_a_label_that_nobody_judged_did_not_move(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D"])
    run = make_run(tmp_path, KINDS["2-D"], records=False)
    first = [0.9, *[None] * (len(run.weak) - 1)]
    run.log_weights(20, dict.fromkeys(("weight", "similarity", "loss"), first))
    found = gather(run)
    assert [row.looks for row in found.rows] == [1] + [0] * 9
    assert [row.moved for row in found.rows] == [True] + [False] * 9
    assert found.paths.weights == ((0.5,) * 10, (0.9, *(0.5,) * 9))


# ---------------------------------------------------------------------- what can go wrong


def test_names_from_disk_are_never_markup(tmp_path: Path) -> None:
    bad = '<script>alert("1")<:script>&"$x$'
    kind = Kind(binary, name=bad + "{}", annotators=("<i>ann", '"bob&'))
    make_data(tmp_path / "data", kind)
    page = Page(write_report(make_run(tmp_path, kind).path))
    check_sound(page)
    assert f"labels/weak/<i>ann/{bad}5.npy" in page.text
    assert not page.all("i")
    assert not page.all("b", "bad.npy")


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_without_a_checkpoint_the_rest_is_there_and_it_is_said(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D"])
    told = Told()
    page = Page(write_report(make_run(tmp_path, KINDS["2-D"], records=False).path, watcher=told))
    check_sound(page)
    assert "They cannot be shown" in page.text
    assert "has no checkpoint yet" in page.text
    assert "No step has been recorded yet." in page.text
    assert any("checkpoint" in line for line in told.lines)


def test_a_network_of_ones_own_is_not_imported_unnamed(tmp_path: Path) -> None:
    page = _page(tmp_path, "2-D", network={"name": "labelmend_no_such:Network"})
    assert "They cannot be shown" in page.text
    assert "--network labelmend_no_such:Network" in page.text


def test_a_file_that_changed_is_not_shown_and_it_is_said(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D, one class"])
    run = make_run(tmp_path, KINDS["2-D, one class"])
    sample = run.weak[0]
    path = tmp_path / "data" / sample.label
    label = np.load(path)
    label[0, 0] = 1 - label[0, 0]
    np.save(path, label)
    told = Told()
    page = Page(write_report(run.path, watcher=told))
    check_sound(page)
    assert len(page.all("p", "missing")) == 1
    assert [sample.label in line for line in told.lines] == [True]


def test_one_held_out_file_that_changed_does_not_hide_the_others(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D, one class"])
    run = make_run(tmp_path, KINDS["2-D, one class"])
    held_out = run.data.of("val", "strong")
    (tmp_path / "data" / held_out[0].image).write_bytes(b"")
    told = Told()
    page = Page(write_report(run.path, watcher=told))
    assert "; 1 could not be predicted" in page.text
    assert len(page.all("figure", "tile")) == len(run.weak) + len(held_out) - 1
    assert any(held_out[0].image in line for line in told.lines)


def test_a_data_set_that_is_gone_leaves_the_records(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D, one class"])
    run = make_run(tmp_path, KINDS["2-D, one class"])
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    page = Page(write_report(run.path))
    check_sound(page)
    assert len(page.all("p", "missing")) == len(run.weak)
    assert "They cannot be shown" in page.text
    assert page.all("figure", "chart")


def test_without_held_out_labels_nothing_is_compared(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D, one class"])
    run = make_run(tmp_path, KINDS["2-D, one class"], val_share=0.0)
    page = Page(write_report(run.path))
    assert "No strong label was held out to compare predictions with." in page.text
    assert "No strong label was held out for validation" in page.text


def test_constant_weights_are_not_drawn(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D, one class"])
    run = make_run(
        tmp_path, KINDS["2-D, one class"], records=False, weighting={"method": "constant"}
    )
    page = Page(write_report(run.path))
    assert "No weights were learned in this run" in page.text
    assert "No weak label was judged in this run" in page.text


def test_evaluations_are_shown_and_chosen_from(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D, one class"])
    run = make_run(tmp_path, KINDS["2-D, one class"])
    held_out = run.data.of("val", "strong")
    (name,) = run.data.spec.classes[1:]
    mean = {"dice": 0.1234, "iou": None}
    found = {"split": "val", "step": STEPS, "samples": len(held_out), "mean": mean}
    folder = run.folder("evaluation")
    found["per_class"] = {name: mean}
    found["shift_tolerant"] = {"said": "shift-tolerant, each label at its best place: dice 0.2"}
    found["offset"] = {"said": "all predictions lie (+3, 0) positions off <their> labels"}
    (folder / "val.json").write_text(json.dumps(found))
    lines = [f"{s.label},{s.image},{s.group},{name},0.{n}" for n, s in enumerate(held_out, 1)]
    (folder / "val.csv").write_text("\n".join(["label,image,group,class,dice", *lines]) + "\n")
    page = Page(write_report(run.path))
    check_sound(page)
    assert f"val: {len(held_out)} strong labels, step {STEPS}" in page.text
    assert "0.123" in page.text
    assert "Dice 0.100worst" in page.text
    assert "Not evaluated per class yet" not in page.text
    after = page.text.index("0.123")
    moved = "Shift-tolerant, each label at its best place: dice 0.2."
    offset = "All predictions lie (+3, 0) positions off <their> labels."
    assert after < page.text.index(moved) < page.text.index(offset)
    # Files of evaluations that moved nothing, and of older versions.
    for more in ({"shift_tolerant": None, "offset": None}, {}):
        kept = {key: found[key] for key in ("split", "step", "samples", "mean", "per_class")}
        (folder / "val.json").write_text(json.dumps({**kept, **more}))
        page = Page(write_report(run.path))
        assert "0.123" in page.text and "positions off" not in page.text


def test_the_page_goes_where_it_is_wanted(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D, one class"])
    run = make_run(tmp_path, KINDS["2-D, one class"])
    out = tmp_path / "new" / "page.html"
    assert write_report(run.path, out) == out
    assert Page(out).all("h1")
    assert not (run.path / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in"):
        write_report(tmp_path)


# ---------------------------------------------------------------------- mixed images


def mixed_run(tmp_path: Path, name: str, **changes: object) -> Run:
    """A run on mixed images as a training leaves it, of networks that never learned anything."""
    make_data(tmp_path / "data", KINDS[name])
    chosen = {"mixing": {"use": True, "gate": 0.6}, "dual": {"use": True}, **changes}
    run = make_run(tmp_path, KINDS[name], records=False, **chosen)
    log(run)
    for step in range(1, STEPS + 1):
        meters = {"mixed_loss": 1 / step, "gated": 0.25, "gain": 0.5, "disagreement": 0.004}
        run.log({"step": step, "kind": "train", "loss": 1.0, **meters})
    network = (run.data.spec.dims, run.facts["in_channels"], run.facts["out_channels"])
    tensors = {
        name: build_network("unet", *network, width=4, depth=2, seed=seed).state_dict()
        for seed, name in enumerate(mixing.networks(run.settings, lambda _: nn.Identity()))
    }
    table = weighing.table(run.settings, run.data, run.facts).state()
    run.save(Checkpoint(STEPS, {**tensors, "weights": table}))
    return run


def mixing_of(page: Page) -> str:
    """The source of the section about mixed images."""
    return page.source.split('<section id="mixing"')[1].split("</section>")[0]


@pytest.mark.parametrize("name", ["2-D", "2-D, one class", "3-D", "1-D", "spectrogram"])
def test_mixed_images_are_shown_in_every_dimension(name: str, tmp_path: Path) -> None:
    page = Page(write_report(mixed_run(tmp_path, name).path))
    check_sound(page)
    ids = [a["id"] for a in page.all("section")]
    assert ids.index("weights") + 1 == ids.index("mixing") == ids.index("labels") - 1
    assert "#mixing" in [a["href"] for a in page.all("a")]
    part = mixing_of(page)
    assert part.count('class="tile"') == 3
    assert len(re.findall(r"weight\xa0γ\xa0[01]\.\d\d\)", part)) == 6
    assert len(re.findall("the two models differ over|neither model sees", part)) == 3
    assert part.count("the gate leaves out") == 3
    assert "Pairs that training would take next after 60 steps" in part
    seen = ["first image", "second image", "mixed image", "pseudo-label", "main model"]
    assert all(part.count(f"<span>{kind}</span>") == 3 for kind in (*seen, "auxiliary model"))
    charts = ["disagreement of the two models", "share that the gate left out"]
    assert all(text in part for text in (*charts, "gain of pseudo-labels", "loss of mixed images"))
    assert part.count('class="chart"') == 4
    assert ("slice" in part) == (name == "3-D")


def test_runs_without_mixed_images_say_nothing_of_them(tmp_path: Path) -> None:
    page = _page(tmp_path, "2-D, one class")
    assert "#mixing" not in [a["href"] for a in page.all("a")]
    assert "Mixed images" not in page.text


def test_one_network_with_labels_has_a_mixed_label_and_one_chart(tmp_path: Path) -> None:
    run = mixed_run(tmp_path, "1-D with gaps", mixing={"use": True}, dual={"use": False})
    page = Page(write_report(run.path))
    check_sound(page)
    part = mixing_of(page)
    assert part.count("<span>mixed label</span>") == part.count("<span>the model</span>") == 3
    assert "What a mixed image teaches are the labels of both" in part
    assert "not said by any label: teaches nothing" in part
    assert "gate" not in part
    assert "differ over" not in part


def test_an_idle_second_model_is_told_in_both_places(tmp_path: Path) -> None:
    page = Page(write_report(mixed_run(tmp_path, "2-D, one class").path))
    assert page.text.count("The second model was idle: over the last 50 steps") == 2
    assert mixing_of(page).count("The second model was idle") == 1


def test_a_mixed_image_that_changed_is_not_shown_and_it_is_said(tmp_path: Path) -> None:
    run = mixed_run(tmp_path, "2-D, one class")
    (first,) = mixed_examples(run, 1, torch.device("cpu"))
    image = next(sample.image for sample in run.data.samples if sample.id == first.samples[0])
    (tmp_path / "data" / image).write_bytes(b"")
    told = Told()
    page = Page(write_report(run.path, watcher=told))
    check_sound(page)
    part = mixing_of(page)
    assert "They cannot be shown" in part
    assert image in part
    assert 'class="tile"' not in part
    assert part.count('class="chart"') == 4
    assert any(line.startswith("mixed images cannot be shown") for line in told.lines)


def test_mixed_images_need_a_checkpoint_and_the_name_of_a_network(tmp_path: Path) -> None:
    make_data(tmp_path / "data", KINDS["2-D"])
    mixed = {"use": True}
    run = make_run(tmp_path, KINDS["2-D"], records=False, mixing=mixed)
    part = mixing_of(Page(write_report(run.path)))
    assert "has no checkpoint yet" in part
    assert "No mixed image has been trained on yet." in part
    own = {"name": "labelmend_no_such:Network"}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "data").symlink_to(tmp_path / "data")
    run = make_run(tmp_path / "own", KINDS["2-D"], mixing=mixed, network=own)
    assert "--network labelmend_no_such:Network" in mixing_of(Page(write_report(run.path)))
