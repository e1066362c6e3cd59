"""Labels bent by a network that training left: when they follow it, and what is written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from labelmend.alignment.affine import rotation_matrix
from labelmend.alignment.choice import field_network_options
from labelmend.config import Settings
from labelmend.data.grid import Grid
from labelmend.errors import RunError, SettingsError
from labelmend.files.readers import read_label
from labelmend.inference import fix as fixing
from labelmend.inference import search as searching
from labelmend.inference.fix import fix, open_sample
from labelmend.inference.moved_labels import _bent_course, write_moved
from labelmend.inference.places import Place, moved_arrays
from labelmend.inference.predictor import Predictor
from labelmend.inference.search import make_search
from labelmend.networks.field import build_field_network
from labelmend.runs import Checkpoint
from labelmend.training.assembly.placing import networks
from labelmend.types import IN_PLACE, MOVED, UNSURE, Raster

from . import test_fix as made

CPU, SIZE, REACH = torch.device("cpu"), made.SIZE, 8.0
SMALL = {"width": 4, "depth": 1}


def constant(by: Sequence[float], dims: int = 2, channels: int = 3) -> nn.Module:
    """A field network as training makes it whose parameters say the same move everywhere."""
    network = build_field_network(dims, channels, **SMALL, seed=0)
    named = dict(network.named_parameters())
    # What is normalised is thrown away, and 1 is put in its place.
    with torch.no_grad():
        named["network.bottom_block.adn.N.weight"].zero_()
        named["network.bottom_block.adn.N.bias"].fill_(1.0)
        last = named["network.output_block.layers.1.conv.weight"]
        for axis, far in enumerate(by):
            last[(axis, 0, *[1] * dims)] = 2 * math.atanh(far / REACH)
        said = network(torch.randn(1, channels, *[24] * dims))[0].flatten(1)
    wanted = [math.atanh(far / REACH) for far in by]
    assert torch.allclose(said, torch.tensor(wanted).unsqueeze(1).expand_as(said), atol=1e-4)
    return network


class Waves(nn.Module):
    """The same smooth velocity whatever it sees, as large as a parameter says, in positions."""

    def __init__(self, size: float = 0.0) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(float(size)))

    def forward(self, seen: Tensor) -> Tensor:
        along = [torch.linspace(0, 2 * math.pi, n) for n in seen.shape[2:]]
        places = torch.meshgrid(*along, indexing="ij")
        waves = [torch.sin(p + axis) for axis, p in enumerate(places[::-1])]
        return self.size / REACH * torch.stack(waves).expand(len(seen), -1, *seen.shape[2:])


def trained(root: Path, network: nn.Module, **changes: Any) -> Predictor:
    """A run of the data in ``root/data`` with that field network beside one that is right."""
    align: dict[str, Any] = {
        "transform": "warp",
        "warp": {"after": "none", "reach": REACH, **SMALL},
    }
    align["warp"] |= changes.pop("warp", {})
    values = changes.pop("values", False)
    settings = {"align": {**align, **changes.pop("align", {})}, **changes}
    predictor = made.make_predictor(root, made.Bright(values), settings)
    predictor.run.save(Checkpoint(3, {"main": {}, "warp": network.state_dict()}))
    return predictor


def written(out: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(out / f"labels/weak/ann/{name}.png"))


# --- a whole data set -----------------------------------------------------------------------------


def test_labels_are_bent_only_where_that_is_clearly_better(tmp_path: Path) -> None:
    places = {"a": (3, -5), "b": (0, 0), "c": (-3, 5), "d": (2, -4)}
    truth = made.make_data(tmp_path, places=places)
    predictor = trained(tmp_path, constant((-3, 5)))
    out = tmp_path / "out"
    found = fix(predictor, out)
    table = made.rows_of(out)
    assert {name for name, row in table.items() if row["moved"] == "yes"} == {"a", "d"}
    known = made.known_after((3, -5))
    assert np.array_equal(written(out, "a")[known], truth["a"][known])
    assert (written(out, "a")[~known] == 0).all() and int(table["a"]["unknown"]) == (~known).sum()
    for name in "bc":
        same = f"labels/weak/ann/{name}.png"
        assert (out / same).read_bytes() == (tmp_path / "data" / same).read_bytes()
        assert float(table[name]["gain"]) == 0 and table[name]["reason"] == "in place already"
    row = table["a"]
    assert [float(row[f"displacement_{axis}"]) for axis in (0, 1)] == pytest.approx(
        [-3, 5], abs=0.01
    )
    assert float(row["dice_after"]) == 1 > float(row["dice_before"]) and float(row["gain"]) > 3
    # What moves all of a label alike does not bend it.
    assert all(float(row["bent_by"] or 0) < 0.01 for row in table.values())
    assert "2 of 4 weak labels moved" in found.to_text()
    assert all(row.place.field is None for row in found.rows)


def test_a_margin_that_none_reaches_leaves_all_where_they_are(tmp_path: Path) -> None:
    made.make_data(tmp_path, places={"a": (3, -5)})
    predictor = trained(tmp_path, constant((-3, 5)), align={"margin": 1e9})
    assert not fix(predictor, tmp_path / "out").moved
    assert "bent_by" not in (tmp_path / "out/fixed.csv").read_text()


def test_the_search_comes_first_and_then_the_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shift that the field cannot reach, and a deformation that the search does not know."""
    monkeypatch.setattr(searching, "build_field_network", lambda **_: Waves())
    truth = made.make_data(tmp_path, places={"a": (0, 0)})
    back = still(tmp_path, Waves(-1.5))
    place = (truth["a"] > 0).astype(np.int64)
    bent = Place(np.zeros(2), 1, 9, MOVED).bent(back, 1, 1)
    label = made.shifted(moved_arrays(place, place >= 0, bent)[0], (-9, 9))
    made.png(tmp_path / "data/labels/weak/ann/a.png", (255 * label).astype(np.uint8))
    made.put_aside(tmp_path)
    predictor = trained(tmp_path, Waves(1.5), warp={"after": "shift"}, align={"confidence": 0.8})
    found = fix(predictor, tmp_path / "out")
    row = made.rows_of(tmp_path / "out")["a"]
    moved = [float(row[f"displacement_{axis}"]) for axis in (0, 1)]
    assert moved == pytest.approx([9, -9], abs=0.1)
    assert float(row["bent_by"]) == pytest.approx(bent.bent_by, rel=0.05)
    assert float(row["dice_after"]) > 0.97 > float(row["dice_before"]) + 0.5
    assert "1 of them bent, by" in found.to_text() and "and bent by" in found.to_text()
    fix(predictor, tmp_path / "shifted", align="shift")
    alone = made.rows_of(tmp_path / "shifted")["a"]
    assert "bent_by" not in alone
    assert float(alone["dice_after"]) < float(row["dice_after"]) - 0.05


def still(root: Path, network: nn.Module) -> np.ndarray:
    """The field that a network proposes for a label, whatever it explains."""
    predictor = trained(root, network)
    aligner = make_search(predictor.run, None, CPU).bends
    assert aligner is not None
    nothing = torch.zeros(1, 2, SIZE, SIZE)
    label = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
    field = aligner.propose(nothing, label, label == 0).field
    return field[0].detach().numpy()


def test_a_network_that_bends_predictions_bends_labels_the_other_way(tmp_path: Path) -> None:
    made.make_data(tmp_path, places={"a": (3, -5)})
    predictor = trained(tmp_path, constant((-3, 5)), warp={"moves": "prediction"})
    fix(predictor, tmp_path / "out")
    assert float(made.rows_of(tmp_path / "out")["a"]["dice_after"]) == 1


def test_fields_that_are_not_kept_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.make_data(tmp_path, places={"a": (3, -5), "b": (0, 0), "d": (2, -4)})
    predictor = trained(tmp_path, constant((-3, 5)))
    opened, bent = (
        counted(monkeypatch, fixing, "open_sample"),
        counted(monkeypatch, searching, "_bent"),
    )
    fix(predictor, tmp_path / "kept")
    assert (len(opened), len(bent)) == (3, 3)
    monkeypatch.setattr(fixing, "MOST_KEPT", 0)
    fix(predictor, tmp_path / "again")
    assert (len(opened), len(bent)) == (3 + 5, 3 + 5)  # those two that are bent, once more
    assert made.hashes(tmp_path / "kept") == made.hashes(tmp_path / "again")


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[None]:
    """One for every time that a function is called from now on."""
    calls: list[None] = []
    real = getattr(module, name)

    def count(*given: Any) -> Any:
        calls.append(None)
        return real(*given)

    monkeypatch.setattr(module, name, count)
    return calls


def test_without_an_anchor_the_mean_is_taken_off_fields_too(tmp_path: Path) -> None:
    made.make_data(tmp_path, places={"a": (3, -5), "d": (3, -5)})
    # Who thinks that labels are hardly off never shifts them: it is the field that moves both.
    changes = {"warp": {"after": "shift"}, "align": {"centred": True, "prior": 0.05}}
    predictor = trained(tmp_path, constant((-3, 5)), **changes)
    fix(predictor, tmp_path / "out")
    for row in made.rows_of(tmp_path / "out").values():
        moved = [float(row[f"displacement_{axis}"]) for axis in (0, 1)]
        assert moved == pytest.approx([0, 0], abs=0.01) and row["gain"] != "0.0"


def test_continuous_labels_are_read_between_positions(tmp_path: Path) -> None:
    def value(place: np.ndarray) -> np.ndarray:
        return (ndimage.gaussian_filter(place * 2.5, 2) - 1).astype(np.float32)

    toml = 'task = "regression"\nclasses = ["height"]\n'
    made.make_data(tmp_path, tifffile.imwrite, ".tif", value, toml, places={"a": (3, -5)})
    channels = constant((-2.5, 4.5), channels=3)
    predictor = trained(tmp_path, channels, values=True, loss="l2")
    fix(predictor, tmp_path / "out")
    row = made.rows_of(tmp_path / "out")["a"]
    assert float(row["displacement_0"]) == pytest.approx(-2.5, abs=0.01)
    before = tifffile.imread(tmp_path / "data/labels/weak/ann/a.tif")
    there = np.mgrid[:SIZE, :SIZE] - np.array([-2.5, 4.5]).reshape(2, 1, 1)
    inside = (there >= 0).all(0) & (there <= SIZE - 1).all(0)
    after = tifffile.imread(tmp_path / "out/labels/weak/ann/a.tif")
    expected = ndimage.map_coordinates(before, there, order=1)
    assert np.allclose(after[inside], expected[inside], atol=0.02)
    assert np.isfinite(after).all()


# --- what must not happen -------------------------------------------------------------------------


def test_bending_that_was_not_trained_is_refused(tmp_path: Path) -> None:
    made.make_data(tmp_path, places={"a": (3, -5)})
    words = r"trained no network that bends labels.*take --align affine, or train with --align warp"
    with pytest.raises(SettingsError, match=words):
        fix(made.make_predictor(tmp_path, made.Bright()), tmp_path / "out", align="warp")
    made.put_aside(tmp_path)
    predictor = trained(tmp_path, constant((-3, 5)))
    run = predictor.run
    run.save(Checkpoint(4, {"main": {}}))
    with pytest.raises(SettingsError, match=words):
        make_search(run, None, CPU)  # of the last checkpoint
    assert make_search(run, None, CPU, step=3).bends is not None
    assert fix(predictor, tmp_path / "of its own step").moved
    run.save(Checkpoint(5, {"main": {}, "warp": {"size": torch.zeros(1)}}))
    with pytest.raises(RunError, match="step 5: the checkpoint is not one of the network"):
        make_search(run, None, CPU)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_training_and_fixing_build_the_same_network(dims: int, tmp_path: Path) -> None:
    made.make_data(tmp_path, places={"a": (3, -5)})
    chosen = {"transform": "warp", "warp": SMALL}
    predictor = made.make_predictor(tmp_path, made.Bright(), {"align": chosen})
    run = predictor.run
    built = networks(run.settings, run.data, run.facts)
    assert list(built) == [searching.WARP]
    run.save(Checkpoint(3, {name: one.state_dict() for name, one in built.items()}))
    aligner = make_search(run, None, CPU).bends
    assert aligner is not None and aligner.first is not None
    wanted, found = built["warp"].state_dict(), aligner.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    options = Settings.make({"align": chosen}).align.warp.model_dump()
    given = field_network_options(dims, 4, options, classes=True)
    assert given == {"dims": dims, "channels": 7, **SMALL}


# --- places ---------------------------------------------------------------------------------------


def wavy(space: Sequence[int], size: float = 1.5) -> np.ndarray:
    waves = Waves(size)(torch.zeros(1, 1, *space))[0].detach().numpy()
    return np.asarray(waves + 0.25, np.float32)


def test_a_field_is_split_into_a_move_and_a_bend() -> None:
    field, valid = wavy((20, 24)), np.ones((20, 24), bool)
    rng = made.RNG(0)
    noise = rng.normal(size=(1, 20, 24)).astype(np.float32)
    label = ndimage.gaussian_filter(noise, (0, 3, 3))  # so that reading it twice blurs little
    matrix = rotation_matrix(torch.tensor([0.1], dtype=torch.float64), (20, 24))[0].numpy()
    for place in (
        Place(np.array([2.0, -1.0]), 0.9, 5.0, UNSURE),
        Place(np.array([2.0, -1.0]), 0.9, 5.0, MOVED, matrix),
    ):
        bent = place.bent(field, 0.99, 4.0)
        assert bent.field is not None and np.abs(bent.field.mean((1, 2))).max() < 1e-6
        assert bent.reason == MOVED and bent.gain == 9 and bent.confidence == 0.99
        assert bent.displacement == pytest.approx(place.displacement + field.mean((1, 2)))
        uneven = field - field.mean((1, 2), keepdims=True)
        assert bent.bent_by == pytest.approx(np.sqrt((uneven**2).sum(0).mean()))
        # As one move it is the first, then the field as it was.
        alone = Place(np.zeros(2), 1, 1, MOVED).bent(field, 1, 1)
        once, known = moved_arrays(label, valid, bent)
        twice, there = moved_arrays(*moved_arrays(label, valid, place), alone)
        both = known & there
        assert both.mean() > 0.5 and np.abs(once - twice)[:, both].max() < 0.03


def test_in_file_of_the_same_grid_is_the_same_to_the_bit() -> None:
    field = wavy((20, 24))
    place = Place(np.array([2.5, -1.0]), 0.9, 5.0, MOVED).bent(field, 0.99, 4.0)
    same = place.in_file(Grid((20, 24), (20, 24), (0.0, 0.0), (1.0, 1.0)))
    assert same.field is not None and place.field is not None
    assert np.array_equal(same.field, place.field) and same.field.dtype == np.float32
    assert np.array_equal(same.displacement, place.displacement)
    assert same.bent_by == place.bent_by


def test_in_file_means_the_same_on_a_coarser_grid() -> None:
    """A field that is linear is known exactly at the file's positions."""
    grid = Grid((40, 60), (20, 20), (0.5, 1.0), (2.0, 3.0))
    rows, columns = np.mgrid[:20, :20]
    field = np.stack([0.05 * rows - 0.02 * columns, 0.03 * columns]).astype(np.float32)
    place = Place(np.array([1.5, -0.5]), 1, 9, MOVED).bent(field, 1, 1)
    there = place.in_file(grid)
    step, origin = np.array(grid.step), np.array(grid.origin)
    inside = (slice(2, -2), slice(2, -2))  # between centres of the outermost cells
    points = np.stack(np.mgrid[:40, :60].astype(float))
    at = (points - origin.reshape(2, 1, 1)) / step.reshape(2, 1, 1)
    expected = np.stack([0.05 * at[0] - 0.02 * at[1] + 1.5, 0.03 * at[1] - 0.5])
    expected *= step.reshape(2, 1, 1)
    every = (slice(None), *inside)
    assert np.allclose(there.total()[every], expected[every], atol=1e-5)
    # Shifts of what is bent are no whole positions: it is read between them anyhow.
    assert there.displacement == pytest.approx((np.array([1.5, -0.5]) + field.mean((1, 2))) * step)
    finer = Grid((10, 10), (20, 20), (-0.25, -0.25), (0.5, 0.5))
    halved = place.in_file(finer)
    assert halved.field is not None and halved.field.shape == (2, 10, 10)
    assert halved.bent_by == pytest.approx(place.bent_by / 2, rel=0.05)


def test_only_what_keeps_its_field_can_be_moved() -> None:
    place = Place(np.zeros(1), 1, 9, MOVED).bent(np.float32([[0.0, 1.0, 2.0]]), 1, 1)
    label, valid = np.array([1, 2, 3]), np.ones(3, bool)
    told, whole = place.told(), place.whole()
    assert told.moves and told.field is None and told.bent_by == place.bent_by
    with pytest.raises(AssertionError, match="moved by its field"):
        moved_arrays(label, valid, told)
    assert moved_arrays(label, valid, whole)[0].tolist() == [0, 1, 2]  # by the mean, which is 1
    with pytest.raises(AssertionError, match="only a label that is bent"):
        whole.total()
    assert Place(np.zeros(1), 0, 0, IN_PLACE).bent(np.zeros((1, 3), np.float32), 1, 4).moves


# --- lists of events ------------------------------------------------------------------------------


def test_events_are_bent_as_their_positions_are(tmp_path: Path) -> None:
    recording = Raster(np.zeros((1, 120), np.float32), (0.5,))
    content = b"onset_s,offset_s,label\n5,12.5,b\n20,35,a\n45,50,ignore\n55,60,b\n"
    before = read_label(tmp_path / "a.csv", made.SPEC, recording, content=content)
    field = (3 * np.sin(np.arange(120) / 19)[None] + 2).astype(np.float32)
    place = Place(np.array([1.0]), 1, 9, MOVED).bent(field, 1, 1)
    target = tmp_path / "b.csv"
    many = write_moved(target, tmp_path / "a.csv", content, place, made.SPEC, recording)
    label, valid = read_label(target, made.SPEC, recording)
    there, known = moved_arrays(*before, place)
    # Times are rounded to positions once more when they are read.
    assert (label == there)[known & valid].mean() > 0.97
    assert (valid == known).mean() > 0.97
    assert many == pytest.approx(3, abs=1)  # 1 and the 2 of the field at the beginning


@pytest.mark.parametrize("by", [-3, 0, 2])
def test_events_that_are_moved_evenly_by_a_field_are_shifted(by: int, tmp_path: Path) -> None:
    """Up to the last moment of the recording, where a field has no position any more."""
    recording = Raster(np.zeros((1, 12), np.float32), (0.5,))
    content = b"onset_s,offset_s,label\n0,1.25,b\n2,3.5,a\n4,6,b\n"
    shift, field = Place(np.array([float(by)]), 1, 9, MOVED), np.zeros((1, 12), np.float32)
    for name, place in (("s", shift), ("f", dataclasses.replace(shift, field=field, bent_by=1.0))):
        target = tmp_path / f"{name}.csv"
        write_moved(target, tmp_path / "a.csv", content, place, made.SPEC, recording)
    shifted, bent = ((tmp_path / f"{name}.csv").read_text() for name in "sf")
    assert bent == shifted


@pytest.mark.parametrize("seed", range(2))
def test_time_never_goes_back_where_a_field_folds(seed: int) -> None:
    go = _bent_course(made.RNG(seed).normal(0, 3, 40), 0.5)
    there = [go(time) for time in np.linspace(-2, 22, 200)]
    assert there == sorted(there)


def test_what_is_looked_at_is_the_whole_image(tmp_path: Path) -> None:
    """Whose sides need be no multiple of anything; a coarser grid is scaled to the file."""
    truth = made.make_data(tmp_path, places={"a": (4, -6)})
    predictor = trained(tmp_path, constant((-2, 3)), input={"size": [32, 32]})
    opened = open_sample(predictor, predictor.run.weak[0])
    place = make_search(predictor.run, None, CPU).find(*opened.compared(predictor))
    assert place.displacement == pytest.approx([-2, 3], abs=0.01)
    fix(predictor, tmp_path / "out")
    known = made.known_after((4, -6))
    assert np.array_equal(written(tmp_path / "out", "a")[known], truth["a"][known])
