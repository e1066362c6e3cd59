"""Pictures of fields: where lines and arrows go, what is written beside them, in 1-D to 3-D."""

from __future__ import annotations

import re

import numpy as np
import pytest

from labelmend.data.grid import Grid
from labelmend.inference.fix import Opened
from labelmend.inference.places import Place, moved_arrays
from labelmend.report.pictures import Painter
from labelmend.report.views import View
from labelmend.report.warp_axes import Axis, make_axes
from labelmend.report.warp_pictures import (
    Bend,
    Sheet,
    axes_of,
    draw_bend,
    make_arrows,
    make_grid,
    plane_field,
)
from labelmend.types import MOVED, DataSpec, Raster

SPACE = (60, 100)


def sheet(down: np.ndarray | float, right: np.ndarray | float) -> Sheet:
    nothing = np.zeros(SPACE)
    return Sheet.of(View(), np.stack([nothing + down, nothing + right]).astype(np.float32))


def bend(spec: DataSpec, space: tuple[int, ...], image: Raster | None = None) -> Bend:
    along = np.linspace(0, 2 * np.pi, space[-1])
    field = np.stack([3 * np.sin(along + axis) + np.zeros(space) for axis in range(len(space))])
    place = Place(np.ones(len(space)), 0.9, 9, MOVED).bent(field.astype(np.float32), 0.99, 9)
    label = np.zeros(space, np.int64)
    label[tuple(slice(n // 4, n // 2) for n in space)] = 1
    if spec.task == "regression":
        label = np.float32(label)[None]
    nothing, one = (0.0,) * len(space), (1.0,) * len(space)
    raster = image or Raster(np.zeros((1, *space), np.float32))
    opened = Opened(raster, label, np.ones(space, bool), label, Grid(space, space, nothing, one))
    return Bend(opened, label, place)


def lines_of(html: str, style: str) -> list[np.ndarray]:
    """The points ``(n, 2)``, across and down, of every line of a path."""
    path = re.findall(rf'class="{style}" d="([^"]*)"', html)
    parts = [part for each in path for part in each.split("M")[1:]]
    return [np.array([p.split() for p in part.split("L")], float) for part in parts]


def test_a_grid_that_is_not_bent_is_straight() -> None:
    flat = sheet(0, 0)
    assert flat.every == 10 and flat.scale == (3.2, 3.2) and flat.space == (192, 320)
    lines = lines_of(make_grid(flat), "lattice")
    assert len(lines) == 6 + 10
    for line in lines:
        assert (np.ptp(line, axis=0) < 1e-6).sum() == 1


def test_lines_go_where_what_they_were_drawn_on_goes() -> None:
    """A line over the label, moved as the label is, lies under the line of the grid."""
    along = np.linspace(0, 2 * np.pi, SPACE[1])
    field = np.stack([4 * np.sin(along) + np.zeros(SPACE), np.zeros(SPACE)]).astype(np.float32)
    label = np.zeros(SPACE, np.int64)
    label[31:] = 1  # its border lies between positions 30 and 31
    place = Place(np.zeros(2), 1, 9, MOVED).bent(field, 1, 1)
    moved, _ = moved_arrays(label, np.ones(SPACE, bool), place)
    border = np.argmax(moved == 1, axis=0)
    (line,) = (
        line
        for line in lines_of(make_grid(sheet(field[0], 0)), "lattice")
        if np.ptp(line[:, 0]) > 300 and abs(line[:, 1].mean() / 3.2 - 31) < 1
    )
    x, y = line[np.argsort(line[:, 0])].T / 3.2
    assert np.abs(np.interp(np.arange(1, 99) + 0.5, x, y) - border[1:99]).max() < 1.1


def test_a_large_plane_has_its_lines_in_the_same_places() -> None:
    along = np.linspace(0, 2 * np.pi, 900)
    field = np.stack([9 * np.sin(along) + np.zeros((600, 900)), np.zeros((600, 900))])
    large = Sheet.of(View(), field.astype(np.float32))
    lines = lines_of(make_grid(large), "lattice")
    assert len(lines) >= 15 and max(line[:, 0].max() for line in lines) > 0.99 * 320 - 2
    straight = [line for line in lines if np.ptp(line[:, 0]) < 1e-6]
    at = sorted(line[0, 0] / large.scale[1] for line in straight)
    assert at == pytest.approx(np.arange(len(at)) * large.every + 1, abs=0.2)


def test_arrows_point_where_labels_go_and_only_where_they_do() -> None:
    right = np.where(np.arange(SPACE[1]) < 50, 2.0, 0.0)
    half = sheet(-right, right)
    assert half.larger == pytest.approx(0.75 * 10 / np.hypot(2, 2))
    html = make_arrows(half)
    assert html.count('class="arrow"') == 12 * 10 and 'class="spot"' not in html
    for line in lines_of(html, "arrow")[::2]:
        (x, y), (to_x, to_y) = line[:2]
        assert to_x - x == pytest.approx(y - to_y, abs=0.2) and to_x - x > 10
        assert (x + to_x) / 2 < 50 * 3.2
    assert make_arrows(sheet(0, 0)).count("path") == 0


def test_axes_count_positions_from_where_they_are_counted() -> None:
    axes = Axis("up", upward=True), Axis("across"), "a picture"
    html = make_axes(np.zeros((30, 50), np.uint8), make_grid(sheet(0, 0)), (30, 50), (4, 4), axes)
    ticks = re.findall(r'<text x="([\d.-]+)" y="([\d.-]+)" class="(\w+)">(\d+)', html)
    left = {int(n): float(y) for _, y, side, n in ticks if side == "left"}
    below = {int(n): float(x) for x, _, side, n in ticks if side == "below"}
    assert left == {0: 118, 5: 98, 10: 78, 15: 58, 20: 38, 25: 18}
    assert below == {0: 2, 10: 42, 20: 82, 30: 122, 40: 162}
    assert 'aria-label="a picture"' in html and ">up<" in html and ">across<" in html


def test_a_field_turns_with_the_plane_it_is_drawn_on() -> None:
    """An arrow on the page points where what is drawn goes."""
    volume = np.zeros((6, 8, 10))
    volume[3, 2, 5] = 1
    for axis in range(3):
        for upright in (False, True):
            view = View(axis=axis, index=(3, 2, 5)[axis], upright=upright)
            for along in {0, 1, 2} - {axis}:
                field = np.zeros((3, 6, 8, 10))
                field[along] = 1
                before, after = (np.argwhere(view.plane(v))[0] for v in (
                    volume, np.roll(volume, 1, along)))  # fmt: skip
                assert plane_field(view, field)[:, 0, 0].tolist() == (after - before).tolist()


@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_a_plane_of_an_image_or_a_volume_has_three_panels(task: str) -> None:
    classes = ("rest", "cell") if task == "segmentation" else ("height",)
    values = (0, 1) if task == "segmentation" else ()
    for space in ((40, 60), (12, 20, 30)):
        spec = DataSpec(task, classes, values, None, len(space), 1, "none", ".npy")  # type: ignore[arg-type]
        raster = Raster(np.zeros((1, *space), np.float32), affine=np.eye(4))
        html, note = draw_bend(Painter(spec), bend(spec, space, raster), "a picture")
        assert html.count("<image") == 3 and html.count('class="arrow"') > 20
        assert html.count('class="lattice"') == 1 and "NaN" not in html and "nan" not in html
        assert ("of 30 along the third axis" in note) == (len(space) == 3)
        assert html.count('class="ignored"') == 1  # what came from outside
    down, across, alt = axes_of(View(axis=2, upright=True), "label after", "a picture")
    assert (down.name, across.name) == ("positions, second axis", "positions, first axis")
    assert down.upward and alt == "a picture: label after"


@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_a_signal_has_a_curve_with_its_range(task: str) -> None:
    classes = ("rest", "a") if task == "segmentation" else ("height",)
    values = (0, 1) if task == "segmentation" else ()
    spec = DataSpec(task, classes, values, None, 1, 1, "none", ".npy")  # type: ignore[arg-type]
    html, _ = draw_bend(Painter(spec), bend(spec, (500,)), "a picture")
    assert "bent by −3.0 to +3.0 positions to the right" in html
    assert re.findall(r"left: ([\d.]+)%\">(\d+)", html)[1] == ("20.10", "100")
    assert "label before" in html and "label after" in html


def test_only_a_bend_is_drawn() -> None:
    spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 2, 1, "none", ".npy")
    one = bend(spec, (20, 20))
    still = Bend(one.opened, one.prediction, one.place.whole())
    with pytest.raises(AssertionError, match="only a label that is bent"):
        draw_bend(Painter(spec), still, "a picture")
