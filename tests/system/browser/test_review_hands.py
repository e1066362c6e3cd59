"""Quick, coarse and trembling hands on the page: what they did is kept, where they did it."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from labelmend.labels import shapes

from .conftest import Watched, wait_shown
from .test_review_page import EVENTS, Fresh, screen, wait_state


def listen(page: object) -> list[dict]:
    """The ops that the page sends from now on."""
    sent: list[dict] = []

    def keep(request: object) -> None:
        if request.method == "POST" and EVENTS.search(request.url):
            sent.append(json.loads(request.post_data)["op"])

    page.on("request", keep)
    return sent


def press_and_pull(page: object, *places: tuple[float, float]) -> None:
    """A drag whose button is still down."""
    page.mouse.move(*screen(page, places[0]))
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*screen(page, place), steps=4)


# ------------------------------------------------------------------------------ in the midst


@pytest.mark.parametrize("key", ["e", "j", "a", "2", "ArrowDown"])
def test_a_key_in_the_midst_of_a_stroke_loses_and_changes_nothing_of_it(
    key: str, fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    page.keyboard.press("b")
    sent = listen(page)
    press_and_pull(page, (20, 30), (20, 60))
    page.keyboard.press(key)
    page.mouse.up()
    if key == "j":
        page.wait_for_selector(f'.case[data-number="{number + 1}"]')
    else:
        page.keyboard.press("b")
        page.mouse.move(*screen(page, (80, 100)), steps=4)  # no button is down: nothing is drawn
    page.wait_for_timeout(100)
    wait_state(page, "saved")
    (stroke,) = [op for op in sent if op["kind"] == "brush"]
    assert stroke["class"] == 1
    assert np.allclose(stroke["points"][0], (20, 30), atol=0.3)
    assert np.allclose(stroke["points"][-1], (20, 60), atol=0.3)
    drawn = shapes.scribble((96, 128), stroke["points"], 2 * stroke["radius"])
    assert (review.label(number)[drawn] == 1).all()


@pytest.mark.parametrize(
    ("key", "code", "tool"),
    [("у", "KeyE", "eraser"), ("ε", "KeyE", "eraser"), ("e", "KeyD", "eraser")],
)
def test_keys_work_on_keyboards_without_latin_letters_and_by_letter_on_others(
    key: str, code: str, tool: str, fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    page.keyboard.press("b")
    pressed = '[aria-pressed="true"], [aria-checked="true"]'
    before = page.locator(pressed).evaluate_all(
        "all => all.map(one => one.title || one.textContent)"
    )
    page.evaluate(
        "([key, code]) => document.body.dispatchEvent("
        "new KeyboardEvent('keydown', { key, code, bubbles: true }))",
        [key, code],
    )
    after = page.locator(pressed).evaluate_all(
        "all => all.map(one => one.title || one.textContent)"
    )
    assert before != after and any(tool in one.lower() for one in after)


def test_a_slice_changed_in_the_midst_of_a_stroke_gets_nothing_of_it(
    fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("volume")
    page = person.open(review, number)
    page.keyboard.press("b")
    before = review.label(number, "which=current&axis=0&index=7")
    sent = listen(page)
    press_and_pull(page, (5, 5), (5, 20))
    page.keyboard.press("PageUp")
    page.wait_for_selector("text=slice 7 of 12")
    page.mouse.move(*screen(page, (30, 20)), steps=4)
    page.mouse.up()
    wait_state(page, "saved")
    (stroke,) = sent
    assert stroke["slice"] == {"axis": 0, "index": 6}
    assert stroke["points"][-1] == pytest.approx([5, 20], abs=0.3)
    assert np.array_equal(review.label(number, "which=current&axis=0&index=7"), before)


def test_an_interval_in_hand_is_kept_when_the_case_is_left(fresh: Fresh, person: Watched) -> None:
    page = person.open(*fresh("recording"))
    sent = listen(page)
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 150, steps=4)
    page.keyboard.press("j")
    page.mouse.up()
    wait_state(page, "saved")
    page.wait_for_timeout(100)
    assert [op["kind"] for op in sent] == ["interval"]


# ------------------------------------------------------------------------------ too early


@pytest.mark.parametrize("what", ["image", "label", "wave"])
def test_nothing_is_drawn_on_what_is_not_there_yet(
    what: str, fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("recording" if what == "wave" else "cells")
    page = person.open(review)
    page.wait_for_selector("a.card")
    held: list[object] = []
    page.route(f"**/api/cases/*/{what}*", lambda route: held.append(route))  # noqa: PLW0108
    page.evaluate(f"location.hash = 'case={number}'")
    page.wait_for_selector("#stage")
    sent = listen(page)
    page.wait_for_timeout(300)
    box = page.locator("#stage").bounding_box()

    def pull() -> None:
        page.mouse.move(box["x"] + 300, box["y"] + 200)
        page.mouse.down()
        page.mouse.move(box["x"] + 420, box["y"] + 200, steps=4)
        page.mouse.up()

    pull()
    for key in ("ArrowRight", "Enter", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_timeout(200)
    assert sent == []
    assert f"case={number}" in page.url
    for route in held:
        route.continue_()
    held.clear()
    page.route(f"**/api/cases/*/{what}*", lambda route: route.continue_())
    wait_shown(page)
    page.wait_for_selector("#stage:not(.waits)")
    page.wait_for_timeout(200)
    pull()
    wait_state(page, "saved")
    assert len(sent) == 1


def test_a_stroke_lands_on_the_axis_that_is_seen(fresh: Fresh, person: Watched) -> None:
    """The other axis was asked for, and has not come: what is in view is no slice of it."""
    review, number = fresh("volume")
    page = person.open(review, number)
    sent = listen(page)
    page.route("**/api/cases/*/label?*", lambda route: None)
    page.route("**/api/cases/*/image?*", lambda route: None)
    page.click('.slices button[data-axis="1"]')
    press_and_pull(page, (5, 5), (30, 40))
    page.mouse.up()
    page.wait_for_timeout(200)
    assert sent == []
    assert page.locator("#stage.waits").count() == 1


# ------------------------------------------------------------------------------ small and shaking


def test_the_thinnest_brush_paints_the_position_that_is_pointed_at(
    fresh: Fresh, person: Watched
) -> None:
    """Between four centres, too: there no position is within half of one."""
    review, number = fresh("cells")
    page = person.open(review, number)
    expected = review.label(number).copy()
    page.keyboard.press("b")
    for _ in range(30):
        page.keyboard.press("[")
    assert page.inner_text(".size output") == "1 px"
    sent = listen(page)
    corners = [(8, 10, -0.4, -0.4), (8, 20, -0.4, 0.4), (8, 30, 0.4, -0.4), (8, 40, 0.4, 0.4)]
    for row, column, down, right in corners:
        page.mouse.click(*screen(page, (row + down, column + right)))
        expected[row, column] = 1
    press_and_pull(page, (80.4, 10.4), (90.4, 30.4))
    page.mouse.up()
    page.wait_for_timeout(100)
    wait_state(page, "saved")
    line = sent[-1]["points"]
    assert (line[0], line[-1]) == ([80, 10], [90, 30])
    for start, stop in pairwise(line):
        expected[shapes.scribble(expected.shape, [start, stop], 1)] = 1
    assert np.array_equal(review.label(number), expected)


@pytest.mark.parametrize("tool", ["m", "o"])
def test_two_fingers_zoom_and_leave_what_is_in_hand(
    tool: str, fresh: Fresh, person: Watched
) -> None:
    page = person.open(*fresh("cells"))
    sent = listen(page)
    page.keyboard.press(tool)
    press_and_pull(page, (30, 40), (50, 60))
    page.mouse.up()
    page.wait_for_selector(".confirm", state="visible")
    before = json.loads(page.get_attribute("#stage", "data-view"))
    x, y = screen(page, (80, 100))
    session = person.context.new_cdp_session(page)

    def touch(kind: str, *places: float) -> None:
        points = [{"x": at, "y": y, "id": i} for i, at in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", x)
    touch("touchMove", x - 3)
    touch("touchStart", x - 3, x + 60)
    touch("touchMove", x - 40, x + 90)
    touch("touchEnd")
    page.wait_for_timeout(100)
    assert json.loads(page.get_attribute("#stage", "data-view"))["down"] > before["down"]
    assert page.is_visible(".confirm")
    assert sent == []
    page.click(".confirm .main")
    wait_state(page, "saved")
    (op,) = sent
    if tool == "m":
        assert op["displacement"] == [20, 20]
    else:
        assert op["centre"] == pytest.approx([40, 50], abs=0.3)


# ------------------------------------------------------------------------------ large and noisy


def test_a_prediction_that_is_all_borders_does_not_stop_the_page(
    fresh: Fresh, person: Watched
) -> None:
    """What a network says that hardly learned: with one long path, minutes went by."""
    review, number = fresh("cells")
    page = person.open(review)
    page.wait_for_selector("a.card")
    rows, columns = 900, 1000
    noise = np.random.default_rng(0).integers(0, 3, (rows, columns), np.uint8).tobytes()
    about = {"X-Shape": f"{rows},{columns}", "Content-Type": "application/octet-stream"}
    page.route("**/label?which=prediction", lambda route: route.fulfill(body=noise, headers=about))
    page.evaluate(f"location.hash = 'case={number}'")
    page.wait_for_selector(".panel .layer-prediction:not(.missing)")
    wait_shown(page)
    took = page.evaluate(
        """async () => {
          const { Contours } = await import('/static/contours.js');
          const label = (n) => ({ rows: n, columns: n,
            values: new Uint8Array(n * n).map((_, i) => (i * i * 31 + i) % 7 < 2 ? 1 : 0) });
          const time = (n) => {
            const begin = performance.now();
            new Contours().of(label(n));
            return performance.now() - begin;
          };
          time(100);
          return [time(250), time(900)]; }"""
    )
    assert max(took) < 5000
