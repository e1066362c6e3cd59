"""The weight step inside a training: every option works, survives a stop, and says what it did."""

from __future__ import annotations

import csv
import math
import shutil
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelmend.data.dataset import SampleDataset
from labelmend.errors import DataError, SettingsError, Stopped
from labelmend.progress import Silent
from labelmend.runs import Run
from labelmend.training.assembly import fit, parts, resume, weighing
from labelmend.training.judge import Judge
from labelmend.training.objective import Objective
from labelmend.training.reweigh import Reweigher
from labelmend.training.validation import Validator

from .test_resume import assert_same, remembered
from .test_stopping import sending

CURVATURES = ("identity", "adam", "fisher", "gauss_newton", "hessian", "neumann")
PARAMETERS = ("all", "decoder", "last", ["bias", "0"])


@pytest.fixture(scope="module")
def crowd(data, tmp_path_factory) -> Path:
    """The small data set, two samples to a group, its weak labels by two annotators."""
    root = tmp_path_factory.mktemp("crowd") / "data"
    shutil.copytree(data, root)
    head, *rows = (root / "manifest.csv").read_text().splitlines()
    told = [f"{head},annotator"]
    for number, row in enumerate(rows):
        who = ("ann" if number < 10 else "bob") if ",weak," in row else ""
        told.append(f"{row.rpartition(',')[0]},g{number // 2},{who}")
    (root / "manifest.csv").write_text("\n".join(told) + "\n")
    return root


@pytest.fixture
def train(crowd, tmp_path, small) -> Callable[..., Run]:
    """Trains for a few steps, two of them weight steps, with these settings for weighting."""

    def go(name: str = "run", steps: int = 4, data: Path = crowd, **over: Any) -> Run:
        watcher = over.pop("watcher", None)
        whole = {key: over.pop(key) for key in ("network", "batch", "input") if key in over}
        settings = {**small, **whole, "weighting": {**small["weighting"], "iterations": 3, **over}}
        return fit(data, tmp_path / name, steps=steps, watcher=watcher, **settings)

    return go


def number(name: str) -> int:
    """0 to 5 are strong, 6 to 13 weak, 14 and 15 held out."""
    return int(Path(name).stem[1:])


def first_similarities(run: Run) -> np.ndarray:
    return np.array([v for v in run.weight_history()[0]["columns"]["similarity"] if v is not None])


class Heard(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)

    def notes(self) -> list[str]:
        return [text for text in self.texts if text.startswith("weights: ")][1:]


# ------------------------------------------------------------------ how similarities are found


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_every_curvature_trains_and_both_modes_find_the_same(train, parameters) -> None:
    plain = None
    for curvature in CURVATURES:
        found = {}
        for mode in ("exact", "central"):
            chosen = {"curvature": curvature, "parameters": parameters, "mode": mode}
            run = train(f"{curvature}-{mode}", every=4, steps=6, **chosen)
            figures = run.metrics("weights")
            assert len(figures) == 2
            assert all(0 <= each["agreement"] <= 1 for each in figures)
            found[mode] = first_similarities(run)
            known = ("relative step", "the loss bends downwards")  # what may be said in passing
            notes = [each["note"] for each in figures if "note" in each]
            assert all(note.startswith(known) for note in notes), notes
            assert all(row["weight"] != 0.5 for row in run.weights() if row["quality"] == "weak")
        size = np.abs(found["exact"]).max()
        assert size > 0
        assert np.abs(found["central"] - found["exact"]).max() < 0.05 * size
        plain = found["exact"] if plain is None else plain
        bent = np.abs(found["exact"] / size - plain / np.abs(plain).max()).max()
        said = "bends downwards" in figures[0].get("note", "")
        assert not said or curvature in ("hessian", "neumann")
        assert (bent < 1e-3) == (said or curvature == "identity"), "of no effect, and nothing said"


NETS = """
import torch
from torch import nn

class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, slope):
        return slope * 2

class Own(nn.Module):
    def forward(self, x):
        return Twice.apply(x)

class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)
    def forward(self, x):
        rows = x.permute(0, 2, 3, 1)
        return self.lstm(rows.flatten(0, 1))[0].reshape(rows.shape).permute(0, 3, 1, 2)

class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1, dtype=torch.bfloat16))
    def forward(self, x):
        return x * self.scale.float()

MIDDLES = {
    "own": Own, "rows": Rows, "half": Half,
    "norm": lambda: nn.BatchNorm2d(4),
    "coupled": lambda: nn.BatchNorm2d(4, track_running_stats=False),
}

class Net(nn.Module):
    def __init__(self, dims, in_channels, out_channels, middle):
        super().__init__()
        self.first = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.middle = MIDDLES[middle]()
        self.last = nn.Conv2d(4, out_channels, 1)
    def forward(self, x):
        return self.last(self.middle(self.first(x)).relu())
"""


@pytest.fixture
def net(tmp_path, monkeypatch) -> Callable[[str], dict[str, Any]]:
    """Settings for a network of one's own with a peculiar layer in the middle."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "weighed_nets.py").write_text(NETS)
    return lambda middle: {"name": "weighed_nets:Net", "arguments": {"middle": middle}}


@pytest.mark.parametrize("curvature", ["identity", "gauss_newton"])
@pytest.mark.parametrize("middle", ["own", "rows"])
def test_an_operation_without_a_forward_rule_is_gone_around_and_that_is_said(
    train, net, middle, curvature
) -> None:
    heard = Heard()
    chosen = {"network": net(middle), "parameters": "all", "curvature": curvature}
    run = train(watcher=heard, **chosen)
    for record in run.metrics("weights"):
        assert record["note"].startswith("backward passes in place of one forward-mode pass: ")
    assert len(heard.notes()) == 1
    # A difference of two forward passes needs no rule: the same, and nothing to be said.
    other = train("central", mode="central", **chosen)
    assert "forward-mode" not in str(other.metrics("weights"))
    found, same = first_similarities(run), first_similarities(other)
    assert np.abs(found - same).max() < 0.05 * np.abs(found).max()


def unsteady(make: Callable[..., Any]) -> Callable[..., Any]:
    """Losses that come out a little different every time; their gradient is as before."""

    def made(*args, **options):
        loss = make(*args, **options)

        def of(logits, label, valid):
            losses = loss(logits, label, valid)
            return losses + 0.2 * torch.rand(losses.shape)

        return of

    return made


@pytest.mark.parametrize("middle", ["norm", "half"])
def test_a_difference_that_misses_is_replaced_and_that_is_said_once(
    train, net, monkeypatch, middle
) -> None:
    heard = Heard()
    if middle == "norm":
        monkeypatch.setattr(weighing, "make_loss", unsteady(weighing.make_loss))
    chosen = {"network": net(middle), "parameters": "all", "curvature": "identity"}
    run = train("central", mode="central", watcher=heard, **chosen)
    why = "is bfloat16" if middle == "half" else "slope"
    for record in run.metrics("weights"):
        assert record["note"].startswith("exact mode in place of the central difference: ")
        assert why in record["note"]
    assert len(heard.notes()) == 1
    exact = train("exact", **chosen)
    np.testing.assert_array_equal(first_similarities(run), first_similarities(exact))


def test_batch_statistics_are_refused_and_running_averages_left_alone(
    train, net, tmp_path, monkeypatch
) -> None:
    with pytest.raises(SettingsError, match=r"'middle' \(BatchNorm2d\) mixes the samples"):
        train("refused", network=net("coupled"))
    assert not (tmp_path / "refused").exists()
    call, changed = Reweigher.__call__, []

    def watched(self, *args):
        network = self.judges[0].network
        before = {name: value.clone() for name, value in network.state_dict().items()}
        done = call(self, *args)
        changed.extend(n for n, v in network.state_dict().items() if not v.equal(before[n]))
        assert network.training
        return done

    monkeypatch.setattr(Reweigher, "__call__", watched)
    for mode in ("exact", "central"):
        for curvature in ("gauss_newton", "fisher"):
            run = train(f"{mode}-{curvature}", network=net("norm"), mode=mode, curvature=curvature)
            assert len(run.metrics("weights")) == 2
    assert changed == []
    assert run.load("last").tensors["main"]["middle.num_batches_tracked"] == 4


@pytest.mark.parametrize("per", ["sample", "class"])
def test_a_cosine_is_the_similarity_without_its_size(train, per) -> None:
    chosen = {"per": per, "signal": "similarity", "curvature": "identity", "parameters": "all"}
    cosine = train("cosine", update="cosine", rate=0.25, **chosen)
    plain = train("plain", update="plain", **chosen)
    found, product = first_similarities(cosine), first_similarities(plain)
    assert np.abs(found).max() <= (1 if per == "sample" else 2)
    if per == "sample":
        np.testing.assert_array_equal(np.sign(found), np.sign(product))
        moved = [w for w in cosine.weight_history()[0]["columns"]["weight"] if w is not None]
        np.testing.assert_allclose(moved, 0.5 + 0.25 * found, atol=1e-12)
    assert not np.allclose(found / np.abs(found).max(), product / np.abs(product).max())


# ------------------------------------------------------------------ what moves, and within what


@pytest.mark.parametrize("per", ["sample", "class", "annotator", "group"])
def test_every_signal_moves_what_has_a_weight_of_its_own(train, per) -> None:
    paths = set()
    for name in ("both", "fit", "loss", "similarity"):
        run = train(name, signal=name, per=per, rate=0.05)
        rows = [row for row in run.weights() if row["quality"] == "weak"]
        assert all(0 <= row["weight"] <= 1 for row in rows)
        assert len(run.metrics("weights")) == 2
        asked = name in ("both", "similarity")
        assert all((row["similarity"] is not None) == asked for row in rows)
        if per in ("annotator", "group"):
            shared = defaultdict(set)
            for row in rows:
                shared[row[per]].add(row["weight"])
            assert all(len(weights) == 1 for weights in shared.values())
            assert len(shared) == {"annotator": 2, "group": 4}[per]
        if per == "class":
            apart = [column for column in rows[0] if column.startswith("weight_")]
            assert len(apart) == 2
            for row in rows:
                assert row["weight"] == pytest.approx(sum(row[column] for column in apart) / 2)
        paths.add(tuple(row["weight"] for row in rows))
    assert len(paths) == 4


@pytest.mark.parametrize("update", ["plain", "normalised", "centred", "adam"])
def test_weights_stay_within_their_limits(train, update) -> None:
    run = train(update=update, highest=2.0, mean=(1.2, 1.3), initial=1.0, rate=0.5, steps=8)
    assert len(run.metrics("weights")) == 4
    for record in run.metrics("weights"):
        assert 1.2 - 1e-9 <= record["mean_weight"] <= 1.3 + 1e-9
    weights = [row["weight"] for row in run.weights() if row["quality"] == "weak"]
    assert 0 <= min(weights) < max(weights) <= 2
    assert max(weights) > 1


def test_labels_that_are_not_trained_on_have_no_part_in_the_figures(
    crowd, train, tmp_path, monkeypatch
) -> None:
    data, one, judged = tmp_path / "data", Validator._one, set()

    def watched(self, network, index):
        judged.add(self.samples.data.samples[index])
        return one(self, network, index)

    monkeypatch.setattr(Validator, "_one", watched)
    shutil.copytree(crowd, data)
    text = (data / "manifest.csv").read_text()
    (data / "manifest.csv").write_text(text.replace("weak,train,g6", "weak,val,g6"))
    run = train(data=data, mean=(0.5, 0.5))
    rows = {row["id"]: row["weight"] for row in run.weights() if row["quality"] == "weak"}
    assert len(rows) == 6
    assert {(sample.split, sample.quality) for sample in judged} == {("val", "strong")}
    assert run.metrics("weights")[-1]["mean_weight"] == pytest.approx(0.5)
    assert np.mean(list(rows.values())) == pytest.approx(0.5)
    looked = run.weight_history()[0]["columns"]["loss"]
    assert [v is None for v in looked] == [number(each.id) > 11 for each in run.weak]


def test_every_weak_label_is_looked_at_within_the_announced_wait(train) -> None:
    heard = Heard()
    run = train(steps=16, weak_samples=3, every=2, watcher=heard)
    assert any("3 of 8 weak labels, so each once in 6 steps" in text for text in heard.texts)
    seen: dict[int, int] = dict.fromkeys(range(8), 0)
    for record in run.weight_history():
        looked = [i for i, loss in enumerate(record["columns"]["loss"]) if loss is not None]
        assert len(looked) == 3
        seen.update(dict.fromkeys(looked, record["step"]))
        assert min(seen.values()) >= record["step"] - 6


# ------------------------------------------------------------------ where weights reach


@pytest.fixture
def watched(monkeypatch) -> list[tuple[Any, Any]]:
    """Every parcel that was trained on, with what the objective made of it."""
    seen: list[tuple[Any, Any]] = []
    call = Objective.__call__

    def watch(self, networks, parcel):
        terms = call(self, networks, parcel)
        seen.append((parcel, terms))
        return terms

    monkeypatch.setattr(Objective, "__call__", watch)
    return seen


@pytest.fixture
def drawn(monkeypatch) -> dict[bool, set[int]]:
    """Numbers of the samples that training drew (True) and that weight steps looked at (False)."""
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    get = SampleDataset.__getitem__

    def watch(self, draw):
        seen[draw.augment].add(number(self.name(draw.index)))
        return get(self, draw)

    monkeypatch.setattr(SampleDataset, "__getitem__", watch)
    return seen


def give(path: Path, weights: dict[int, float], column: str = "label") -> str:
    rows = [f"labels/weak/s{number}.npy,{weight}" for number, weight in weights.items()]
    path.write_text("\n".join([f"{column},weight", *rows]) + "\n")
    return str(path)


ORACLE = {number: 0.1 * (number - 5) for number in range(6, 14)}


@pytest.mark.parametrize("use", ["loss", "sampler", "both"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_given_weights_reach_the_loss_or_the_sampler(
    train, tmp_path, watched, use, shuffled
) -> None:
    """Switches for comparisons: constant, of an oracle, and shuffled, in the place of learned."""
    given = give(tmp_path / "given.csv", ORACLE)
    run = train(method="constant", given=given, use=use, shuffled=shuffled, steps=16)
    numbers = [number(sample.id) for sample in run.data.samples]
    counted: dict[int, set[float]] = defaultdict(set)
    times: dict[int, int] = dict.fromkeys(range(16), 0)
    for parcel, _ in watched:
        for place, weight in zip(parcel.batch.index.tolist(), parcel.weight.tolist(), strict=True):
            counted[numbers[place]].add(weight)
            times[numbers[place]] += 1
    assert all(counted[place] == {1.0} for place in range(6))
    assert all(len(counted[place]) <= 1 for place in range(6, 14))
    if use == "sampler":
        assert set.union(*counted.values()) == {1.0}
    else:
        used = {place: counted[place].pop() for place in range(6, 14) if counted[place]}
        same = [place for place, weight in used.items() if weight == ORACLE[place]]
        assert (len(same) < 4) if shuffled else (len(same) == len(used) >= 7)
        assert set(used.values()) <= set(ORACLE.values())
    # In 32 weak draws each label comes 4 times, or in proportion to its weight (1 to 8, of 36).
    expected = {place: 32 * 10 * weight / 36 for place, weight in ORACLE.items()}
    spread = sum(abs(times[place] - expected[place]) for place in expected)
    assert (spread < 6) == (use != "loss" and not shuffled)
    if use == "loss":
        assert {times[place] for place in range(6, 14)} == {4}


def test_a_label_of_no_weight_is_never_drawn(train, tmp_path, drawn, watched) -> None:
    given = give(tmp_path / "given.csv", {**ORACLE, 6: 0, 9: 0})
    run = train(method="constant", given=given, use="sampler", steps=12)
    assert drawn[True] == {*range(14)} - {6, 9}
    assert run.weight_history() == []


def test_without_any_weight_training_goes_on_with_strong_labels(
    train, tmp_path, drawn, watched
) -> None:
    given = give(tmp_path / "given.csv", dict.fromkeys(ORACLE, 0))
    run = train(method="constant", given=given, use="sampler")
    assert drawn[True] == {*range(6)}
    for record, (_, terms) in zip(run.metrics("train"), watched, strict=True):
        assert "loss_weak" not in record
        assert len(terms.losses) == 4
        assert record["loss"] == pytest.approx(terms.losses.mean().item(), rel=1e-6)
        assert record["loss_strong"] == pytest.approx(record["loss"], rel=1e-6)
    batch = {"size": 4, "strong_share": 0.0}
    with pytest.raises(SettingsError, match="a weight above 0 is wanted"):
        train("none", method="constant", given=given, use="sampler", batch=batch)
    assert not (tmp_path / "none").exists()


def test_learned_weights_that_draw_are_those_before_the_latest_weight_step(
    train, watched, monkeypatch
) -> None:
    """One weight step late, so that any number of loading processes draws the same."""
    tables: list[torch.Tensor] = []
    call = Reweigher.__call__

    def watch(self, table, *args):
        tables.append(table.overall.clone())
        return call(self, table, *args)

    monkeypatch.setattr(Reweigher, "__call__", watch)
    run = train(use="sampler", steps=12, rate=1.0, update="centred")
    assert len(tables) == 6
    plan = parts.plan_of(run.settings, run.data)
    for step, (parcel, _) in enumerate(watched):
        due = plan.batch(step, tables[max(step // 2 - 1, 0)])
        assert parcel.batch.index.tolist() == [draw.index for draw in due]
    assert min(run.weight_history()[-1]["columns"]["weight"]) == 0


def test_drawing_further_ahead_than_weights_are_known_is_refused(train, tmp_path) -> None:
    for use in ("sampler", "both"):
        with pytest.raises(SettingsError, match=r"workers = 2 draw 3 steps ahead.*not 2"):
            train(use=use, input={"workers": 2})
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------ stopping and going on

STATEFUL = {
    "average": {"average": 0.5},
    "adam": {"update": "adam"},
    "class": {"per": "class", "update": "adam"},
    "annotator": {"per": "annotator"},
    "sampler": {"use": "sampler"},
    "both": {"use": "both", "per": "class"},
    "shuffled": {"shuffled": True, "use": "both"},
    "held out": {"held_out": 0.4, "average": 0.9, "mode": "central"},
    "given": {"given": "FILE", "curvature": "adam", "mean": (0.4, 0.6)},
}


@pytest.mark.parametrize("option", STATEFUL)
def test_a_training_stopped_within_weight_steps_ends_with_the_same_bits(
    train, tmp_path, in_child, monkeypatch, option
) -> None:
    chosen = dict(STATEFUL[option])
    if "given" in chosen:
        chosen["given"] = give(tmp_path / "given.csv", ORACLE)
    whole = train("whole", steps=8, weak_samples=5, **chosen)

    def killed() -> None:
        answers = sending(Judge._answers, signal.SIGKILL, after=4)
        monkeypatch.setattr(Judge, "_answers", answers)
        train("run", steps=8, weak_samples=5, **chosen)

    # Two batches to a weight step: the second step ends at its second one, the third at its first.
    assert in_child(killed) == 128 + signal.SIGKILL
    run = Run.open(tmp_path / "run")
    assert run.steps() == [3]
    (tmp_path / "given.csv").unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(Judge, "_answers", sending(Judge._answers, signal.SIGTERM, after=3))
        with pytest.raises(Stopped):
            resume(run.path)
    assert run.load("last").step == 6
    assert run.load("last").state["pending"] == ["weigh", "save"]
    resume(run.path)
    assert_same(remembered(run.path), remembered(whole.path))


def test_loading_processes_draw_by_the_same_weights(train) -> None:
    chosen = {"use": "both", "update": "centred", "rate": 0.5, "steps": 8}
    alone = train("alone", **chosen)
    helped = train("helped", input={"workers": 1}, **chosen)
    assert_same(remembered(helped.path), remembered(alone.path))


# ------------------------------------------------------------------ given weights, held-out samples


def test_an_earlier_runs_weights_begin_where_it_ended(train) -> None:
    first = train("first", steps=4)
    ended = {row["id"]: row["weight"] for row in first.weights() if row["quality"] == "weak"}
    given = str(first.path / "weights.csv")
    second = train("second", given=given, method="constant")
    assert ended == {r["id"]: r["weight"] for r in second.weights() if r["quality"] == "weak"}
    # Its strong labels weigh 1, which is no weight of a weak label here.
    half = Path(given).with_name("half.csv")
    with Path(given).open(newline="") as file, half.open("w", newline="") as out:
        rows = list(csv.DictReader(file))
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        for row in rows:
            by = 0.5 if row["quality"] == "weak" else 1
            writer.writerow({**row, "weight": float(row["weight"]) * by})
    third = train("third", given=str(half), method="constant", highest=0.5, initial=0.1)
    found = {r["id"]: 2 * r["weight"] for r in third.weights() if r["quality"] == "weak"}
    assert found == ended


def test_held_out_strong_groups_are_seen_by_weight_steps_alone(train, drawn) -> None:
    train(held_out=0.4, steps=8)
    looked = {place for place in drawn[False] if place < 6}
    assert len(looked) == 2
    assert len({place // 2 for place in looked}) == 1
    assert drawn[True] == {*range(14)} - looked


def test_nothing_is_held_out_for_weights_that_are_not_learned(train, drawn) -> None:
    train(held_out=0.4, method="constant", steps=8)
    assert drawn == {True: {*range(14)}, False: set()}


def test_too_few_groups_to_hold_out_are_refused(train, make_data, tmp_path) -> None:
    data = make_data(tmp_path / "data", strong=1)
    with pytest.raises(SettingsError, match=r"held_out = 0\.5 of 1 strong groups leaves none"):
        train(data=data, held_out=0.5)
    assert not (tmp_path / "run").exists()


def test_one_strong_sample_agrees_with_nobody(train, make_data, tmp_path) -> None:
    run = train(data=make_data(tmp_path / "data", strong=1))
    assert [record["agreement"] for record in run.metrics("weights")] == [0, 0]
    assert all(record["mean_similarity"] != 0 for record in run.metrics("weights"))


def test_a_spoilt_weak_label_stops_the_weight_step_by_name(train, crowd, tmp_path) -> None:
    data = tmp_path / "data"
    shutil.copytree(crowd, data)

    class Spoil(Silent):
        def step(self, step, figures):
            for label in (data / "labels/weak").glob("*.npy"):
                content = bytearray(label.read_bytes())
                content[-1] ^= 1
                label.write_bytes(content)

    with pytest.raises(DataError, match=r"labels/weak/s\d+\.npy"):
        train(data=data, watcher=Spoil(), start=1, batch={"size": 4, "strong_share": 0.75})


@pytest.mark.parametrize("kind", ["signal", "volume", "continuous", "recording"])
def test_the_defaults_suit_lines_volumes_and_real_numbers(trained, kind) -> None:
    done = trained(kind)
    assert done.said.status == 0, done.said.err
    run = Run.open(done.run)
    figures = run.metrics("weights")
    assert len(figures) == 3
    assert not any("note" in record for record in figures)
    assert all(math.isfinite(record["mean_similarity"]) for record in figures)
    assert all(row["weight"] != 0.5 for row in run.weights() if row["quality"] == "weak")
