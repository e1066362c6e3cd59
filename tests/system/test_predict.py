"""Predictions of whole folders and of files larger than memory, from the command line."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import labelmend

from ..command import command

Trained = Callable[[str], Any]
TINY = 1e-5
"""GiB, less than any of these pictures takes in memory, more than a strip of it."""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def large_tif(path: Path, size: tuple[int, int] = (130, 30)) -> np.ndarray:
    """A tiled, compressed 16-bit image with a spacing, and a place on the map."""
    rng = np.random.default_rng(3)
    image = (20000 + 9000 * rng.random(size)).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"resolution": (400.0, 200.0), "resolutionunit": "CENTIMETER"}
    about["extratags"] = [
        (33550, 12, 3, (0.5, 0.25, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0), True),
        (34735, 3, 8, (1, 1, 0, 1, 3072, 0, 1, 32611), True),
    ]
    tifffile.imwrite(path, image, tile=(32, 16), compression="zlib", **about)
    return image


def test_strip_by_strip_is_what_memory_gives(trained: Trained, tmp_path: Path) -> None:
    run = trained("sixteen").run
    for name in ("a.tif", "b.ome.tif"):
        large_tif(tmp_path / "in" / name)
    np.save(tmp_path / "in/c.npy", large_tif(tmp_path / "d.tif"))
    options = ["--overlays", "--probabilities", "--conclusions"]
    for name, more in (("whole", []), ("strips", ["--memory", "0.0001"])):
        said = command("predict", run, tmp_path / "in", "--out", tmp_path / name, *options, *more)
        assert said.status == 0, said.err
        assert said.err.count("is predicted strip by strip") == (3 if more else 0)
    for name in ("a.tif", "b.ome.tif"):
        whole, strips = (tifffile.TiffFile(tmp_path / way / name) for way in ("whole", "strips"))
        with whole, strips:
            assert np.array_equal(whole.asarray(), strips.asarray())
            assert strips.pages[0].is_tiled and not whole.pages[0].is_tiled
            assert strips.pages[0].resolution == whole.pages[0].resolution
            assert name != "a.tif" or strips.pages[0].resolution == (400.0, 200.0)
            assert strips.geotiff_metadata == whole.geotiff_metadata
            assert strips.geotiff_metadata["ModelPixelScale"] == [0.5, 0.25, 0.0]
            assert strips.geotiff_metadata["ProjectedCSTypeGeoKey"] == 32611
    assert np.array_equal(np.load(tmp_path / "whole/c.npy"), np.load(tmp_path / "strips/c.npy"))
    for place in ("overlays/a.tif.png", "overlays/c.npy.png"):
        one, other = (np.asarray(Image.open(tmp_path / w / place)) for w in ("whole", "strips"))
        assert one.shape == (130, 30, 3) and np.array_equal(one, other)
    one, other = (np.load(tmp_path / w / "probabilities/a.tif.npy") for w in ("whole", "strips"))
    assert one.shape == (3, 130, 30) and one.dtype == np.float16
    assert np.allclose(one, other, atol=1e-3)
    for name in ("objects.csv", "files.csv"):
        ours, theirs = (rows(tmp_path / w / "conclusions" / name) for w in ("whole", "strips"))
        assert len(ours) == len(theirs) > 0
        for mine, yours in zip(ours, theirs, strict=True):
            for key, value in mine.items():
                assert value == yours[key] or float(value) == pytest.approx(float(yours[key]))


def test_labels_among_those_of_the_data_set_are_not_made_in_silence(
    trained: Trained, tmp_path: Path
) -> None:
    made = trained("sixteen")
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(made.data, data)
    shutil.copytree(made.run, run)
    assert command("attach", run, data).status == 0
    large_tif(tmp_path / "new.tif")
    said = command("predict", run, tmp_path / "new.tif", "--out", data / "labels/weak")
    assert said.status == 0 and "the next training takes these predictions" in said.out
    said = command("predict", run, tmp_path / "new.tif", "--out", tmp_path / "labels")
    assert said.status == 0 and "note:" not in said.out


def test_what_cannot_be_divided_is_refused_with_the_way_out(
    trained: Trained, tmp_path: Path
) -> None:
    image = trained("gray").data / "images/s0.png"
    run = trained("gray").run
    said = command("predict", run, image, "--out", tmp_path / "out", "--memory", TINY)
    assert said.status == 1 and "s0.png: takes about" in said.err
    assert "save it as tiled TIFF, or give --memory 0.1" in said.err
    said = command("predict", run, image, "--out", tmp_path / "out", "--memory", 0)
    assert said.status == 1 and "--memory is a number of GiB above 0" in said.err


def test_a_stopped_folder_goes_on(trained: Trained, tmp_path: Path) -> None:
    run, new, out = trained("gray").run, tmp_path / "new", tmp_path / "out"
    shutil.copytree(trained("gray").data / "images", new)
    again = ["predict", run, new, "--out", out, "--resume"]
    assert command(*again).out == f"8 labels written to {out}\n"
    made = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert command(*again).out == f"0 labels written to {out}, 8 kept from before\n"
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.png")} == made
    shutil.copy(new / "s1.png", new / "s0.png")  # another image
    (out / "s2.png").unlink()  # a label that is gone
    assert command(*again).out == f"2 labels written to {out}, 6 kept from before\n"
    assert (out / "s0.png").read_bytes() == (out / "s1.png").read_bytes()
    assert command(*again, "--flips").out == f"8 labels written to {out}\n"
    said = command(*again, "--flips", "--conclusions")
    assert said.out.startswith(f"8 labels written to {out}\n")
    said = command(*again, "--flips", "--conclusions")
    assert said.out.startswith(f"0 labels written to {out}, 8 kept from before\n")
    assert len(rows(out / "conclusions/files.csv")) == 8
    said = command("predict", run, new, "--out", out)
    assert said.out == f"8 labels written to {out}\n"
    assert "8 labels of a prediction that was stopped are made again; --resume" in said.err
    assert not (out / "predictions.jsonl").exists()


def test_a_killed_prediction_is_resumed(
    trained: Trained, tmp_path: Path, in_child: Callable[..., int]
) -> None:
    run, new, out = trained("gray").run, tmp_path / "new", tmp_path / "out"
    shutil.copytree(trained("gray").data / "images", new)

    def killed() -> None:
        import os
        import signal

        from labelmend.inference import working

        write, left = working.write_label, [5]

        def die(*arguments: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            write(*arguments)

        working.write_label = die
        command("predict", run, new, "--out", out)

    assert in_child(killed) == 128 + 9
    assert sorted(p.name for p in out.glob("*.png")) == ["s0.png", "s1.png", "s2.png", "s3.png"]
    said = command("predict", run, new, "--out", out, "--resume")
    assert said.out == f"4 labels written to {out}, 4 kept from before\n"


def test_patterns_in_quotes(trained: Trained, tmp_path: Path) -> None:
    images = trained("gray").data / "images"
    run = trained("gray").run
    said = command("predict", run, images / "s[0-2].png", "--out", tmp_path / "out")
    assert said.out == f"3 labels written to {tmp_path / 'out'}\n"
    for place in ("x/one/a.png", "x/two/a.png", "x/two/a.txt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images / "s0.png", tmp_path / place)
    said = command("predict", run, tmp_path / "x/*/*", "--out", tmp_path / "deep")
    made = sorted(
        p.relative_to(tmp_path / "deep").as_posix() for p in (tmp_path / "deep").rglob("*.*")
    )
    assert said.status == 0 and made == ["one/a.png", "two/a.png"]
    said = command("predict", run, tmp_path / "x/*/*.tif", "--out", tmp_path / "none")
    assert said.status == 1 and "nothing matches" in said.err


def test_rules_flag_files(trained: Trained, tmp_path: Path) -> None:
    run, images, out = trained("gray").run, trained("gray").data / "images", tmp_path / "out"
    table = tmp_path / "rules.csv"
    names = labelmend.load(run).spec.classes
    table.write_text(
        f'name,where,verdict\nany,"""{names[1]}"".count >= 0","look, please"\n'
        f'never,"burden.""{names[1]}"" > 1",\n'
    )
    said = command(
        "predict", run, images, "--out", out, "--conclusions", "--rules", table, "--smallest", 3
    )
    assert said.status == 0, said.err
    assert said.out.count("flagged: ") == 8 and "s0.png: look, please\n" in said.out
    assert {row["flags"] for row in rows(out / "conclusions/files.csv")} == {"any"}
    found = json.loads((out / "conclusions/conclusions.json").read_text())
    assert found["classes"] == list(names) and len(found["files"]) == 8
    table.write_text(f'name,where\nlarge,"""{names[1]}"".area_mm2.max > 4"\n')
    said = command("predict", run, images, "--out", out, "--conclusions", "--rules", table)
    assert said.status == 1 and "the rule 'large' asks for" in said.err
    assert len(list(out.glob("*.png"))) == 8
    table.write_text("name,where\nlarge,cell.cuont > 4\n")
    said = command(
        "predict", run, images, "--out", tmp_path / "no", "--conclusions", "--rules", table
    )
    assert said.status == 1 and "rules.csv, line 2: unknown figure 'cell.cuont'" in said.err
    assert not (tmp_path / "no").exists()


def test_events_of_recordings(trained: Trained, tmp_path: Path) -> None:
    run, images = trained("recording").run, trained("recording").data / "images"
    said = command("predict", run, images, "--out", tmp_path, "--conclusions")
    assert said.status == 0, said.err
    objects = rows(tmp_path / "conclusions/objects.csv")
    found = [row for row in objects if row["file"].endswith("r0.wav")]
    events = rows(tmp_path / "r0.csv")
    times = ("onset_s", "offset_s")
    assert [[row[key] for key in times] for row in found] == [
        [row[key] for key in times] for row in events
    ]


@pytest.mark.parametrize(
    ("kind", "option", "said"),
    [
        ("continuous", "--conclusions", "--conclusions is for classes"),
        ("continuous", "--probabilities", "--probabilities is for classes"),
        ("recording", "--overlays", "--overlays is for images and volumes"),
        ("gray", "--parquet", "go with --conclusions; add it"),
    ],
)
def test_what_cannot_be_had_is_said_first(
    kind: str, option: str, said: str, trained: Trained, tmp_path: Path
) -> None:
    done = trained(kind)
    found = command("predict", done.run, done.data / "images", "--out", tmp_path / "o", option)
    assert found.status == 1 and said in found.err and not (tmp_path / "o").exists()


# ---------------------------------------------------------------- larger than memory

LARGE = """
import dataclasses, json, resource, sys, time
from pathlib import Path
import numpy as np, tifffile, torch
import labelmend
from labelmend.inference.files import Way, predict_all
from labelmend.inference.statistics import fix_statistics

run, folder, side = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)

def tiles():
    for number in range((-(-side // 512)) ** 2):
        noise = np.random.default_rng(number).integers(0, 256, (512, 512), dtype=np.uint8)
        noise[100:300, 50:400] //= 2
        yield noise

if not (folder / "a.tif").exists():
    tifffile.imwrite(folder / "a.tif", tiles(), shape=(side, side), dtype=np.uint8,
                     tile=(512, 512), compression="zlib", maxworkers=1)

class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 2, 5, padding=2)

    def forward(self, image):
        return self.conv(image)

predictor = dataclasses.replace(
    labelmend.load(run), network=Tiny(), patch=(512, 512), multiple=1
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.perf_counter()
outcome = predict_all(predictor, [folder / "a.tif"], folder / "out", Way())
assert not outcome.failed, outcome.failed
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "before": before * 1024, "peak": peak * 1024}))
"""


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_thousand_by_twenty_thousand(trained: Trained, tmp_path: Path) -> None:
    import dataclasses

    import torch

    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(trained("gray").run), str(tmp_path), "20000"],
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["peak"] <= 2 * 2**30
    with tifffile.TiffFile(tmp_path / "out/a.tif") as tiff:
        assert tiff.pages[0].shape == (20000, 20000) and tiff.pages[0].is_tiled
    whole = tifffile.imread(tmp_path / "out/a.tif")
    image = tifffile.imread(tmp_path / "a.tif")
    counts = np.bincount(image.ravel(), minlength=256) / image.size
    mean = float(counts @ np.arange(256))
    deviation = float(np.sqrt(counts @ (np.arange(256) - mean) ** 2))

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = torch.nn.Conv2d(1, 2, 5, padding=2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(image)

    loaded = labelmend.load(trained("gray").run)
    preparation = dataclasses.replace(
        loaded.preparation, normalise="set", mean=(mean,), deviation=(deviation,)
    )
    predictor = dataclasses.replace(
        loaded, network=Tiny(), patch=(512, 512), multiple=1, preparation=preparation
    )
    inside = predictor.predict(image[:2048, :2048])  # its windows lie where the large image's do
    values = np.asarray(predictor.spec.values)
    assert np.array_equal(values[inside[:1792, :1792]], whole[:1792, :1792])
    assert 0.02 < inside.mean() < 0.98
