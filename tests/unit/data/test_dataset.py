"""Draws give the same bits always, patches lie where they should, and changed files are noticed."""

import hashlib
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from labelmend.data import dataset as module
from labelmend.data.augment import Augmentation
from labelmend.data.cache import SETTLED, Cache, Files
from labelmend.data.dataset import SampleDataset, collate, rasters
from labelmend.data.prepare import Preparation, measure
from labelmend.errors import ChangedDataError, DataError, NonFiniteError, SettingsError, ShapeError
from labelmend.types import DataSet, DataSpec, Draw, Sample

PLAIN = Preparation(normalise="none")


def write(root, name, array):
    path = Path(root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make(root, pairs, *, task="segmentation", spacing=None):
    """A data set of (image (H, W), label (H, W), ...) arrays; 255 is ignored."""
    samples = []
    for n, (image, label) in enumerate(pairs):
        names = f"images/{n}.npy", f"labels/strong/{n}.npy"
        hashes = [write(root, *pair) for pair in zip(names, (image, label), strict=True)]
        samples.append(Sample(*names, "strong", "train", str(n), "", *hashes))
    regression = task == "regression"
    spec = DataSpec(
        task,
        ("stain",) if regression else ("back", "a", "b"),
        () if regression else (0, 1, 2),
        None if regression else 255,
        pairs[0][0].ndim,
        1,
        "none",
        ".npy",
        spacing=spacing,
    )
    return DataSet(str(root), spec, tuple(samples))


def numbered(*space):
    """An image whose values say where they are."""
    return np.arange(np.prod(space), dtype=np.float32).reshape(space)


@pytest.fixture
def one(tmp_path):
    label = np.zeros((20, 30), np.uint8)
    label[4, 25], label[:, :3] = 1, 255
    return make(tmp_path, [(numbered(20, 30), label)])


def test_a_patch_is_cut_alike_from_image_label_and_valid(one):
    samples = SampleDataset(one, PLAIN, (8, 8), seed=0)
    for key in range(30):
        item = samples[Draw(0, key)]
        row, column = divmod(int(item.image[0, 0, 0]), 30)
        assert torch.equal(
            item.image[0], torch.from_numpy(numbered(20, 30))[row : row + 8, column : column + 8]
        )
        columns = torch.arange(column, column + 8)
        assert torch.equal(item.valid, (columns >= 3).expand(8, 8))
        assert item.label.sum() == int(row <= 4 < row + 8 and column <= 25 < column + 8)
        assert (item.image.dtype, item.label.dtype, item.valid.dtype) == (
            torch.float32,
            torch.int64,
            torch.bool,
        )


def test_the_key_and_the_seed_decide_and_nothing_else(one):
    change = Augmentation(0.5, noise=0.2, contrast=0.2, brightness=0.2)
    first = SampleDataset(one, PLAIN, (8, 8), change, seed=0)
    wanted = [first[Draw(0, key)] for key in range(6)]
    other = pickle.loads(pickle.dumps(first))
    uncached = SampleDataset(one, PLAIN, (8, 8), change, seed=0, cache_mb=0)
    torch.manual_seed(99)
    np.random.seed(99)
    for samples in (other, uncached):
        for key in (5, 3, 0, 1, 2, 4):
            item = samples[Draw(0, key)]
            assert torch.equal(item.image, wanted[key].image)
            assert torch.equal(item.label, wanted[key].label)
            assert torch.equal(item.valid, wanted[key].valid)
    seeded = SampleDataset(one, PLAIN, (8, 8), change, seed=1)
    assert not torch.equal(seeded[Draw(0, 0)].image, wanted[0].image)
    assert not torch.equal(wanted[1].image, wanted[0].image)


def test_without_augmentation_the_patch_is_the_same_and_only_the_changes_are_gone(one):
    bright = SampleDataset(one, PLAIN, (8, 8), Augmentation(brightness=0.5), seed=0)
    for key in range(5):
        changed, plain = bright[Draw(0, key)], bright[Draw(0, key, augment=False)]
        shift = changed.image - plain.image
        assert 0 < shift.abs().max() <= 0.51 and shift.max() - shift.min() < 1e-3
        assert torch.equal(plain.image, plain.image.round())


def test_foreground_is_centred_on_and_ignored_positions_are_none(tmp_path):
    label = np.zeros((20, 30), np.uint8)
    label[10, 17], label[0, 0] = 2, 255
    data = make(tmp_path, [(numbered(20, 30), label)])
    always = SampleDataset(data, PLAIN, (7, 7), seed=0, foreground=1.0)
    assert all(always[Draw(0, key)].label[3, 3] == 2 for key in range(20))
    never = SampleDataset(data, PLAIN, (7, 7), seed=0, foreground=0.0)
    corners = {int(never[Draw(0, key)].image[0, 0, 0]) for key in range(200)}
    assert len(corners) > 100
    assert {0, 13} <= {c // 30 for c in corners} and {0, 23} <= {c % 30 for c in corners}


def test_the_share_of_centred_patches_is_the_one_asked_for(tmp_path):
    label = np.zeros((200,), np.uint8)
    label[150] = 1
    samples = SampleDataset(
        make(tmp_path, [(numbered(200), label)]), PLAIN, (5,), seed=0, foreground=0.33
    )
    centred = sum(int(samples[Draw(0, key)].label[2] == 1) for key in range(1000))
    assert 280 < centred < 380


def test_foreground_at_the_border_stays_inside(tmp_path):
    label = np.zeros((20, 20), np.uint8)
    label[0, 19] = 1
    samples = SampleDataset(
        make(tmp_path, [(numbered(20, 20), label)]), PLAIN, (6, 6), seed=0, foreground=1.0
    )
    item = samples[Draw(0, 0)]
    assert item.valid.all() and item.label[0, 5] == 1


def test_a_small_image_is_padded_at_the_end(tmp_path):
    label = np.ones((3, 9), np.uint8)
    samples = SampleDataset(make(tmp_path, [(numbered(3, 9), label)]), PLAIN, (8, 4), seed=0)
    item = samples[Draw(0, 0)]
    assert item.image.shape == (1, 8, 4)
    assert torch.equal(item.image[0, 3:6], item.image[0, :3].flip(0))
    assert item.valid[:3].all() and not item.valid[3:].any()
    assert item.label[:3].all() and not item.label[3:].any()


def test_a_sample_without_foreground_or_anything_valid_gives_patches(tmp_path):
    pairs = [
        (numbered(9, 9), np.zeros((9, 9), np.uint8)),
        (numbered(9, 9), np.full((9, 9), 255, np.uint8)),
    ]
    samples = SampleDataset(make(tmp_path, pairs), PLAIN, (4, 4), seed=0, foreground=1.0)
    assert samples[Draw(0, 0)].valid.all() and not samples[Draw(1, 0)].valid.any()


@pytest.mark.parametrize("foreground", [0.0, 0.5])
def test_no_patch_is_drawn_where_nothing_is_known_if_anything_is(tmp_path, foreground):
    label = np.full((60, 80), 255, np.uint8)
    label[40:44, 10:15], label[41, 11] = 0, 1
    data = make(tmp_path, [(numbered(60, 80), label)])
    samples = SampleDataset(data, PLAIN, (8, 8), seed=0, foreground=foreground)
    items = [samples[Draw(0, key)] for key in range(100)]
    assert all(item.valid.any() for item in items)
    assert len({int(item.image[0, 0, 0]) for item in items}) > 10


def test_where_every_patch_holds_something_known_nothing_is_drawn_otherwise(tmp_path):
    label = np.zeros((40, 50), np.uint8)
    gaps = label.copy()
    gaps[::3, ::2] = 255
    full, some = (
        SampleDataset(make(tmp_path / name, [(numbered(40, 50), of)]), PLAIN, (8, 8), seed=0)
        for name, of in (("full", label), ("some", gaps))
    )
    for key in range(50):
        assert torch.equal(full[Draw(0, key)].image, some[Draw(0, key)].image)


def test_regression_labels_keep_their_numbers(tmp_path):
    data = make(tmp_path, [(numbered(9, 9), numbered(9, 9) / 7)], task="regression")
    item = SampleDataset(data, PLAIN, (4, 4), seed=0)[Draw(0, 3)]
    assert item.label.shape == (1, 4, 4) and item.label.dtype == torch.float32
    assert torch.allclose(item.label, item.image / 7)


def test_whole_gives_the_prepared_image_and_the_label_of_the_file(one):
    prepare = Preparation(normalise="none", size=(10, 15))
    image, label, valid, grid, raster = SampleDataset(one, prepare, (4, 4), seed=0).whole(0)
    assert image.shape == (1, 10, 15) and label.shape == valid.shape == (20, 30)
    assert label[4, 25] == 1 and not valid[:, :3].any() and valid[:, 3:].all()
    assert prepare.restore(image.numpy(), grid).shape == (1, 20, 30)
    assert np.array_equal(raster.array[0], numbered(20, 30))


def test_the_spacing_of_the_data_set_wins(tmp_path):
    data = make(tmp_path, [(numbered(8, 8), np.zeros((8, 8), np.uint8))], spacing=(2.0, 4.0))
    samples = SampleDataset(data, Preparation(spacing=(4.0, 4.0)), (4, 4), seed=0)
    whole = samples.whole(0)
    assert whole.grid.size == (4, 8) and whole.raster.spacing == (2.0, 4.0)
    assert next(rasters(data, data.samples)).spacing == (2.0, 4.0)


def test_every_image_is_measured_once(one):
    twice = DataSet(one.root, one.spec, one.samples * 2)
    assert len(list(rasters(twice, twice.samples))) == 1
    measured = measure(Preparation(normalise="set"), rasters(one, one.samples))
    assert measured.mean == pytest.approx((numbered(20, 30).mean(),))


def test_items_make_a_batch(one):
    samples = SampleDataset(one, PLAIN, (8, 8), seed=0)
    batch = collate([samples[Draw(0, key)] for key in range(3)])
    assert batch.image.shape == (3, 1, 8, 8) and batch.index.tolist() == [0, 0, 0]
    assert batch.label.shape == batch.valid.shape == (3, 8, 8) and len(batch) == 3
    small = SampleDataset(one, PLAIN, (4, 4), seed=0)[Draw(0, 0)]
    with pytest.raises(ShapeError, match="one shape"):
        collate([samples[Draw(0, 0)], small])


# ---------------------------------------------------------------- changed files (D3)


def change_one_value(path):
    """Change one value and keep size and modification time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def age(monkeypatch):
    """As if the files had been left alone for a while."""
    now = time.time()
    monkeypatch.setattr("labelmend.data.cache.time.time", lambda: now + 2 * SETTLED)


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("file", ["image", "label"])
def test_a_change_at_the_same_size_and_time_is_noticed(one, monkeypatch, file, settled):
    if settled:
        age(monkeypatch)
    samples = SampleDataset(one, PLAIN, (8, 8), seed=0)
    samples[Draw(0, 0)]
    samples[Draw(0, 1)]
    name = getattr(one.samples[0], file)
    if settled:
        time.sleep(0.05)  # more than the tick of a file system's clock
    change_one_value(Path(one.root) / name)
    for ask in (lambda: samples[Draw(0, 2)], lambda: samples.whole(0)):
        with pytest.raises(ChangedDataError, match=Path(name).name):
            ask()


def test_a_file_that_was_just_written_is_not_judged_by_its_times(one, monkeypatch):
    # a change within one tick of the file system's clock leaves every time as it was
    monkeypatch.setattr(Files, "_look", lambda self, file: ((0,), False))
    samples = SampleDataset(one, PLAIN, (8, 8), seed=0)
    samples[Draw(0, 0)]
    change_one_value(Path(one.root) / one.samples[0].label)
    with pytest.raises(ChangedDataError, match=r"0\.npy"):
        samples[Draw(0, 1)]


def test_a_file_replaced_by_another_is_noticed(one, monkeypatch):
    age(monkeypatch)
    samples = SampleDataset(one, PLAIN, (8, 8), seed=0)
    samples[Draw(0, 0)]
    path = Path(one.root) / one.samples[0].label
    other = path.with_name("other.npy")
    other.write_bytes(path.read_bytes()[:-1] + b"\1")
    other.replace(path)
    with pytest.raises(ChangedDataError, match=r"labels/strong/0\.npy"):
        samples[Draw(0, 1)]


def test_a_file_touched_but_equal_is_read_again_and_taken(one, monkeypatch):
    age(monkeypatch)
    samples = SampleDataset(one, PLAIN, (8, 8), seed=0)
    before = samples[Draw(0, 0)]
    os.utime(Path(one.root) / one.samples[0].image, ns=(1, 1))
    assert torch.equal(samples[Draw(0, 0)].image, before.image)


def test_a_file_that_is_gone_is_named(one):
    samples = SampleDataset(one, PLAIN, (8, 8), seed=0)
    samples[Draw(0, 0)]
    (Path(one.root) / one.samples[0].image).unlink()
    for ask in (lambda: samples[Draw(0, 2)], lambda: samples.whole(0)):
        with pytest.raises(DataError, match=r"images/0\.npy"):
            ask()


def test_a_sample_without_a_hash_is_refused(one):
    bare = Sample("images/0.npy", "labels/strong/0.npy", "strong", "train", "0")
    with pytest.raises(DataError, match=r"images/0\.npy: no hash"):
        SampleDataset(DataSet(one.root, one.spec, (bare,)), PLAIN, (8, 8), seed=0)[Draw(0, 0)]


# ---------------------------------------------------------------- the cache


def counting(monkeypatch):
    calls = []
    for name in ("read_as", "read_label"):
        real = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda path, *a, _real=real, **k: calls.append(path.name) or _real(path, *a, **k),
        )
    return calls


def test_files_are_decoded_once_while_they_fit(one, monkeypatch):
    calls = counting(monkeypatch)
    samples = SampleDataset(one, PLAIN, (8, 8), seed=0, cache_mb=1)
    for key in range(5):
        samples[Draw(0, key)]
    assert len(calls) == 2
    bare = SampleDataset(one, PLAIN, (8, 8), seed=0, cache_mb=0)
    for key in range(5):
        bare[Draw(0, key)]
    assert len(calls) == 12


def test_one_image_with_many_labels_is_decoded_once(tmp_path, monkeypatch):
    data = make(tmp_path, [(numbered(9, 9), np.full((9, 9), n, np.uint8)) for n in range(3)])
    first = data.samples[0]
    samples = tuple(
        Sample(first.image, s.label, "weak", "train", "0", "", first.image_sha256, s.label_sha256)
        for s in data.samples
    )
    calls = counting(monkeypatch)
    dataset = SampleDataset(DataSet(data.root, data.spec, samples), PLAIN, (4, 4), seed=0)
    assert [int(dataset[Draw(n, 0)].label.max()) for n in (0, 1, 2, 0)] == [0, 1, 2, 0]
    assert len(calls) == 4


def test_the_cache_keeps_to_its_limit_and_drops_the_oldest():
    cache: Cache[int] = Cache(100)
    for n in range(10):
        cache.put((str(n),), n, 30)
        cache.get(("0",))
    assert [cache.get((str(n),)) for n in range(10)] == [0, *[None] * 7, 8, 9]
    cache.put(("huge",), 1, 101)
    assert cache.get(("huge",)) is None and cache.get(("9",)) == 9
    for _ in range(10):
        cache.put(("9",), 9, 30)
    assert cache.get(("0",)) == 0


def test_what_is_handed_out_can_be_changed(one):
    samples = SampleDataset(one, PLAIN, (20, 30), seed=0)
    item = samples[Draw(0, 0)]
    kept = item.image.clone()
    item.image.zero_(), item.label.zero_(), item.valid.zero_()
    again = samples[Draw(0, 0)]
    assert torch.equal(again.image, kept) and again.valid.any() and again.label.any()


# ---------------------------------------------------------------- what is refused


def test_bad_numbers_name_the_file(tmp_path):
    huge = numbered(8, 8).astype(np.float64)
    huge[2, 3] = 1e300
    samples = SampleDataset(
        make(tmp_path, [(huge, np.zeros((8, 8), np.uint8))]), PLAIN, (4, 4), seed=0
    )
    for ask in (lambda: samples[Draw(0, 0)], lambda: samples.whole(0)):
        with pytest.raises(NonFiniteError, match=r"images/0\.npy.*\(2, 3\)") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_label_of_another_size_names_the_file(tmp_path):
    data = make(tmp_path, [(numbered(8, 8), np.zeros((8, 7), np.uint8))])
    with pytest.raises(DataError, match=r"labels/strong/0\.npy"):
        SampleDataset(data, PLAIN, (4, 4), seed=0)[Draw(0, 0)]


@pytest.mark.parametrize("wrong", [{"patch": (4,)}, {"patch": (4, 0)}, {"foreground": 1.5}])
def test_settings_that_cannot_be_used_are_refused(one, wrong):
    with pytest.raises(SettingsError, match=f"input.{next(iter(wrong))}"):
        SampleDataset(one, PLAIN, **({"patch": (4, 4), "seed": 0} | wrong))
