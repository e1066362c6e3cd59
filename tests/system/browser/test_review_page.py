"""The review page in a real browser: what is drawn is saved, and nothing is said too early.

Every test draws on a case of its own, so that the servers can be shared.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labelmend.labels import shapes

from .conftest import Process, Review, Watched, find_browser, hold_until_tried, wait_shown

BROWSER = Path(__file__).with_name("own_browser.py")

Reviews = Callable[[str], Review]
Fresh = Callable[[str], tuple[Review, int]]


def state(page: object) -> str:
    """What the status shows: saved, saving or unsaved."""
    return page.get_attribute("#status", "data-state")


def wait_state(page: object, wanted: str) -> None:
    page.wait_for_selector(f'#status[data-state="{wanted}"]')


def screen(page: object, place: tuple[float, float]) -> tuple[float, float]:
    """Where on the screen a row and a column of the picture lie, when it fits the window."""
    box = page.locator("#stage").bounding_box()
    size = json.loads(page.get_attribute("#stage", "data-view"))
    row, column = place
    x = size["left"] + (column + 0.5) * size["right"]
    y = size["top"] + (row + 0.5) * size["down"]
    return box["x"] + x, box["y"] + y


def drag(page: object, *places: tuple[float, float], steps: int = 4) -> None:
    """Press at the first place, go over the others, let go at the last."""
    page.mouse.move(*screen(page, places[0]))
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*screen(page, place), steps=steps)
    page.mouse.up()


def draw(page: object, column: float = 30.0) -> None:
    """A stroke of the brush down a column."""
    page.keyboard.press("b")
    drag(page, (20, column), (50, column))


def shown(page: object) -> str:
    """A sum of the colours of the stage: to see whether two pictures are the same."""
    script = """async () => {
      const stage = document.querySelector('#stage');
      const picture = stage.getContext('2d').getImageData(0, 0, stage.width, stage.height);
      const sum = await crypto.subtle.digest('SHA-256', picture.data);
      return [...new Uint8Array(sum)].join(' '); }"""
    page.mouse.move(1, 1)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 30)))")
    return page.evaluate(script)


EVENTS = re.compile(r"/events$")


# ------------------------------------------------------------------------------ coming in


def test_without_the_token_the_page_says_how_to_open_it(reviews: Reviews, person: Watched) -> None:
    page = person.context.new_page()
    page.goto(reviews("cells").address)
    page.wait_for_selector("text=This page needs its token")
    assert "labelmend review" in page.inner_text("main")


def test_a_wrong_token_is_refused_in_the_servers_words(reviews: Reviews, person: Watched) -> None:
    page = person.open(reviews("cells"), token="0123456789abcdef-of-another")
    page.wait_for_selector("text=The server does not let this page in")
    assert "a token is wanted" in page.inner_text("main")


def test_the_token_leaves_the_address_and_stays_in_the_tab(
    reviews: Reviews, person: Watched
) -> None:
    page = person.open(reviews("cells"))
    page.wait_for_selector("a.card")
    assert "token" not in page.url
    page.reload()
    page.wait_for_selector("a.card")


def test_the_gallery_shows_the_order_of_the_audit_and_filters_it(
    reviews: Reviews, person: Watched
) -> None:
    review = reviews("cells")
    page = person.open(review)
    page.wait_for_selector("a.card img[src]")
    cases = json.loads(review.ask("/api/cases")[0])["cases"]
    names = page.locator(".card b").all_inner_texts()
    assert names == [case["label"].split("/")[-1] for case in cases]
    done = sum(case["verdict"] != "open" for case in cases)
    assert page.inner_text("#progress").startswith(f"{done} of {len(cases)} looked at")
    page.click('.segments [data-state="strong"]')
    assert page.locator("a.card").count() == 2
    page.click('.segments [data-state="all"]')
    page.fill("input[type=search]", "lies 9 positions")
    found = [case for case in cases if "lies 9 positions" in case["reason"]]
    assert page.locator("a.card").count() == len(found)


def test_a_filter_of_another_run_in_this_tab_hides_nothing(
    reviews: Reviews, person: Watched
) -> None:
    """The address may serve another run now; a choice that is not even offered is none."""
    page = person.open(reviews("cells"))
    page.wait_for_selector("a.card")
    page.evaluate("""() => sessionStorage.setItem('labelmend/filters',
      JSON.stringify({ state: 'all', annotator: 'nobody here', text: '' }))""")
    page.reload()
    page.wait_for_selector("a.card")


# ------------------------------------------------------------------------------ saving


def test_saved_is_said_only_after_the_server_said_so(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    before = review.label(number)
    held: list[object] = []
    page.route(EVENTS, lambda route: held.append(route))  # noqa: PLW0108 (it marks its handlers)
    draw(page)
    wait_state(page, "saving")
    page.wait_for_timeout(700)
    assert state(page) == "saving"
    assert len(held) == 1
    assert np.array_equal(review.label(number), before)
    held[0].continue_()
    wait_state(page, "saved")
    after = review.label(number)
    expected = before.copy()
    expected[shapes.scribble(before.shape, [(20, 30), (50, 30)], 8)] = 1
    assert np.mean(after == expected) > 0.995  # the mouse meets whole pixels of the screen only
    picture = shown(page)
    page.reload()
    wait_shown(page)
    assert shown(page) == picture


@pytest.mark.parametrize("trouble", ["dropped", "500", "answer lost"])
def test_a_stroke_that_was_not_answered_is_sent_again_once(
    trouble: str, fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    before = review.label(number)
    tries: list[str] = []

    def meddle(route: object) -> None:
        tries.append(route.request.post_data)
        if len(tries) > 1:
            route.continue_()
        elif trouble == "dropped":
            route.abort()
        elif trouble == "500":
            route.fulfill(status=500, body="{}")
        else:
            route.fetch()
            route.abort()

    page.route(EVENTS, meddle)
    draw(page)
    wait_state(page, "unsaved")
    wait_state(page, "saved")
    assert len(tries) == 2
    assert tries[0] == tries[1]
    case = review.case(number)
    assert case["version"] == 1
    assert not np.array_equal(review.label(number), before)


@pytest.mark.parametrize(("status", "words"), [(413, "too large"), (422, "no such class")])
def test_a_refused_stroke_stays_in_view_until_it_is_discarded(
    status: int, words: str, fresh: Fresh, person: Watched
) -> None:
    page = person.open(*fresh("cells"))
    clean = shown(page)
    body = json.dumps({"detail": words})
    page.route(EVENTS, lambda route: route.fulfill(status=status, body=body))
    draw(page)
    page.wait_for_selector(".notice.choose")
    assert words in page.inner_text(".notice").lower()
    assert state(page) == "unsaved"
    page.reload()
    wait_shown(page)
    page.wait_for_selector(".notice.choose")
    assert shown(page) != clean
    page.click("text=Discard this change")
    wait_state(page, "saved")
    page.wait_for_selector(".notice", state="detached")
    assert shown(page) == clean


def test_after_a_refused_token_the_stroke_can_be_sent_again(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    before = review.label(number)
    answer = {"status": 401, "body": '{"detail": "a token is wanted"}'}
    page.route(EVENTS, lambda route: route.fulfill(**answer))
    draw(page)
    page.wait_for_selector("text=a token is wanted")
    page.unroute(EVENTS)
    page.click("text=Try again")
    wait_state(page, "saved")
    assert not np.array_equal(review.label(number), before)


def test_a_killed_server_loses_nothing(own_process: Process, person: Watched) -> None:
    review, number = own_process.find("cells"), 0
    page = person.open(review, number)
    draw(page, 20)
    wait_state(page, "saved")
    first = review.label(number)
    page.mouse.move(*screen(page, (20, 60)))
    page.mouse.down()
    page.mouse.move(*screen(page, (35, 60)), steps=3)
    own_process.kill()
    page.mouse.move(*screen(page, (50, 60)), steps=3)
    page.mouse.up()
    draw(page, 100)
    page.wait_for_selector("text=The server does not answer")
    page.wait_for_selector("text=Not saved: 2 changes")
    own_process.start()
    own_process.find("cells")
    wait_state(page, "saved")
    after = review.label(number)
    assert np.array_equal(after[:, :50], first[:, :50])
    assert (after[22:48, 60] == 1).all()
    assert (after[22:48, 100] == 1).all()
    assert review.case(number)["version"] == 3


def test_unsaved_strokes_outlive_the_page(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    page.route(EVENTS, lambda route: route.abort())
    draw(page, 20)
    draw(page, 60)
    page.wait_for_selector("text=Not saved: 2 changes")
    page.wait_for_timeout(200)
    page.close()
    again = person.open(review)
    wait_state(again, "saved")
    after = review.label(number)
    assert (after[22:48, 20] == 1).all()
    assert (after[22:48, 60] == 1).all()


def test_a_proxy_that_doubles_and_delays_changes_nothing(fresh: Fresh, person: Watched) -> None:
    """Every stroke arrives two or three times, some late: one event each, in their order."""
    review, number = fresh("cells")
    page = person.open(review, number)
    tries: list[str] = []

    def meddle(route: object) -> None:
        tries.append(route.request.post_data)
        for _ in range(len(tries) % 2 + 1):
            route.fetch()
        page.wait_for_timeout(150)
        route.continue_()

    page.route(EVENTS, meddle)
    for column in (20, 60, 100):
        draw(page, column)
    wait_state(page, "saved")
    assert len(set(tries)) == 3
    case = review.case(number)
    assert case["version"] == 3
    columns = [event["op"]["kind"] for event in case["history"]]
    assert columns == ["brush"] * 3
    after = review.label(number)
    assert all((after[22:48, column] == 1).all() for column in (20, 60, 100))


def test_a_killed_browser_loses_no_finished_stroke(own_process: Process, tmp_path: Path) -> None:
    """SIGKILL to all of a browser while strokes wait: the next one with its profile sends them."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    command = [sys.executable, str(BROWSER), str(tmp_path / "profile"), find_browser()]
    review = own_process.find("cells")
    drawing = subprocess.Popen(
        [*command, "draw", review.address],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert drawing.stdout is not None and drawing.stdout.readline() == "waiting\n"
    os.killpg(drawing.pid, signal.SIGKILL)
    drawing.wait()
    assert review.case(0)["version"] == 0
    said = subprocess.run(
        [*command, "look", review.address], capture_output=True, text=True, check=False
    )
    assert said.stdout == "saved\n", said.stderr
    after = review.label(0)
    assert (after[22:48, 20] == 1).all() and (after[22:48, 60] == 1).all()


# ------------------------------------------------------------------------------ undo


def test_undo_and_redo_outlive_a_reload(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    labels = [review.label(number)]
    for column in (20, 60, 100):
        draw(page, column)
        wait_state(page, "saved")
        labels.append(review.label(number))
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.wait_for_selector('.case[data-version="5"]')
    wait_state(page, "saved")
    assert np.array_equal(review.label(number), labels[1])
    page.reload()
    wait_shown(page)
    page.keyboard.press("Control+y")
    page.wait_for_selector('.case[data-version="6"]')
    assert np.array_equal(review.label(number), labels[2])
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")  # one more than there is
    page.wait_for_selector('.case[data-version="8"]')
    wait_state(page, "saved")
    assert np.array_equal(review.label(number), labels[0])
    assert page.is_disabled('[aria-label="Undo"]')
    assert not page.is_visible(".notice")


# ------------------------------------------------------------------------------ several at once


@pytest.mark.parametrize(
    ("choice", "hasty"),
    [("Put mine on top", False), ("Put mine on top", True), ("Discard mine", False)],
)
def test_a_stale_stroke_is_a_choice_and_loses_nothing(
    choice: str, hasty: bool, fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    one = person.open(review, number)
    two = person.open(review, number)
    two.route(re.compile(r"/api/events\?"), lambda route: route.abort())  # it does not hear of one
    one.bring_to_front()
    draw(one, 20)
    wait_state(one, "saved")
    theirs = review.label(number)
    two.bring_to_front()
    if hasty:  # the choice is made before the other version has come
        slowly = "() => { const ask = fetch; window.fetch = async (...all) => { "
        slowly += "if (`${all[0]}`.includes('which=current')) "
        slowly += "await new Promise((done) => setTimeout(done, 700)); return ask(...all); }; }"
        two.evaluate(slowly)
    draw(two, 90)
    two.wait_for_selector("text=Someone else changed this label")
    assert state(two) == "unsaved"
    assert np.array_equal(review.label(number), theirs)
    two.click(f"text={choice}")
    wait_state(two, "saved")
    after = review.label(number)
    assert (after[22:48, 20] == 1).all()
    assert (after[22:48, 90] == 1).all() == (choice == "Put mine on top")


def test_what_others_do_comes_into_view(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    one = person.open(review, number)
    two = person.open(review, number)
    draw(one, 20)
    wait_state(one, "saved")
    picture = shown(one)
    one.keyboard.press("a")
    wait_state(one, "saved")
    two.bring_to_front()
    two.wait_for_selector('.verdict.accept[aria-pressed="true"]')
    assert re.match("[1-9]", two.inner_text("#progress"))
    two.wait_for_timeout(300)
    assert shown(two) == picture


# ------------------------------------------------------------------------------ tools


def last_op(review: Review, number: int) -> dict:
    case = json.loads(review.ask(f"/api/cases/{number}")[0])
    return case["history"][-1]["op"]


@pytest.mark.parametrize("kind", ["ellipse", "box"])
def test_a_figure_is_drawn_turned_and_taken(kind: str, fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    expected = review.label(number).copy()
    page.keyboard.press({"ellipse": "o", "box": "x"}[kind])
    page.keyboard.press("2")
    drag(page, (20, 30), (60, 90))
    page.wait_for_timeout(100)
    assert state(page) == "saved"
    assert np.array_equal(review.label(number), expected)
    page.keyboard.press(".")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait_state(page, "saved")
    page.wait_for_selector('.case[data-version="1"]')
    op = last_op(review, number)
    assert op["class"] == 2
    assert op["angle"] == pytest.approx(np.pi / 36)
    assert op["centre"] == pytest.approx([41, 60], abs=0.2)
    sides = op["radii"] if kind == "ellipse" else [side / 2 for side in op["sides"]]
    assert sides == pytest.approx([20, 30], abs=0.2)
    draws = shapes.ellipse if kind == "ellipse" else shapes.box
    lengths = op["radii"] if kind == "ellipse" else op["sides"]
    expected[draws(expected.shape, op["centre"], lengths, op["angle"])] = 2
    assert np.array_equal(review.label(number), expected)


def test_a_polygon_closes_by_a_double_click(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    expected = review.label(number).copy()
    sent: list[dict] = []
    page.on("request", lambda request: _keep(sent, request))
    page.keyboard.press("p")
    page.keyboard.press("u")
    for place in ((10, 20), (10, 70), (60, 70)):
        page.mouse.click(*screen(page, place))
        page.wait_for_timeout(20)
    page.mouse.dblclick(*screen(page, (60, 30)))
    page.wait_for_selector('.case[data-version="1"]')
    rings = sent[0]["op"]["rings"]
    assert sent[0]["op"]["class"] == -1
    assert np.allclose(rings, [[(10, 20), (10, 70), (60, 70), (60, 30)]], atol=0.2)
    expected[shapes.polygon(expected.shape, rings)] = 255
    assert np.array_equal(review.label(number), expected)


def _keep(sent: list[dict], request: object) -> None:
    if request.method == "POST" and EVENTS.search(request.url):
        sent.append(json.loads(request.post_data))


def test_the_preview_is_what_the_server_makes_of_it(fresh: Fresh, person: Watched) -> None:
    """Every tool: the picture before the answer equals that after it, to the last pixel."""
    review, number = fresh("cells")
    page = person.open(review, number)
    hold_until_tried(page)
    draw(page, 25.3)
    page.keyboard.press("e")
    drag(page, (30, 15), (42, 50), (25, 80))
    page.keyboard.press("p")
    for place in ((70, 20), (50, 60), (85, 90), (60, 22)):
        page.mouse.click(*screen(page, place))
        page.wait_for_timeout(20)
    page.keyboard.press("Enter")
    page.keyboard.press("2")
    for key in ("o", "x"):
        page.keyboard.press(key)
        drag(page, (15, 70), (40, 110))
        for _ in range(3):
            page.keyboard.press("." if key == "o" else ",")
        page.keyboard.press("Enter")
    page.keyboard.press("m")
    drag(page, (50, 50), (57, 61))
    for _ in range(5):
        page.keyboard.press(".")
    page.keyboard.press("Enter")
    page.keyboard.press("b")
    page.wait_for_selector("text=Not saved: 6 changes")
    preview = shown(page)
    page.click("text=Try now")
    page.wait_for_selector('.case[data-version="6"]')
    wait_state(page, "saved")
    page.wait_for_timeout(300)
    assert shown(page) == preview


def test_the_moved_and_the_predicted_label_are_taken(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    original = review.label(number)
    page.keyboard.press("Shift+W")
    page.wait_for_selector('.case[data-version="1"]')
    predicted = review.label(number, "which=prediction")
    assert np.array_equal(review.label(number), predicted)
    page.keyboard.press("Shift+L")
    page.wait_for_selector('.case[data-version="2"]')
    assert np.array_equal(review.label(number), original)


# ------------------------------------------------------------------------------ keys alone


def test_keys_alone_are_enough(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review)
    page.wait_for_selector("a.card")
    page.keyboard.press("/")
    page.keyboard.type(f"ann/cell{number:02}")
    for key in ("Escape", "j", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(f'.case[data-number="{number}"]')
    wait_shown(page)
    page.keyboard.press("a")
    page.wait_for_selector('.verdict.accept[aria-pressed="true"]')
    page.keyboard.press("s")
    page.keyboard.press("c")
    page.keyboard.type("as the others")
    page.keyboard.press("Control+Enter")
    wait_state(page, "saved")
    case = review.case(number)
    told = (case["verdict"], case["quality"], case["comment"])
    assert told == ("accepted", "strong", "as the others")
    assert re.match("[1-9]", page.inner_text("#progress"))
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open] kbd")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.wait_for_selector("a.card .badge.accepted")
    for key in ("/", "Control+a", "Delete", "Escape", "j", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector('.case[data-number="0"]')
    page.keyboard.press("j")
    page.wait_for_selector('.case[data-number="1"]')
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector('.case[data-number="0"]')


def test_whoever_trusts_an_open_label_accepts_it(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)

    def pressed() -> list[str]:
        buttons = page.locator('.verdict[aria-pressed="true"]').all()
        return [button.get_attribute("class").split()[-1] for button in buttons]

    page.keyboard.press("s")
    assert pressed() == ["accept", "strong"]
    page.wait_for_selector('.case[data-version="2"]')
    wait_state(page, "saved")
    case = review.case(number)
    assert (case["verdict"], case["quality"]) == ("accepted", "strong")
    page.keyboard.press("s")
    assert pressed() == ["accept"]
    page.keyboard.press("r")
    page.keyboard.press("s")
    assert pressed() == ["reject", "strong"]  # who rejected it has said so


def test_lines_are_drawn_with_keys(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    before = review.label(number)
    page.focus("#stage")
    page.keyboard.press("b")
    for key in ("ArrowRight", "Enter", "ArrowRight", "ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector('.case[data-version="1"]')
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.wait_for_selector('.case[data-version="2"]')
    rows, columns = before.shape
    middle = (round(rows / 2 - 0.5), round(columns / 2 - 0.5))
    row = middle[0] + (1 if rows % 2 == 0 and middle[0] < rows / 2 - 0.5 else 0)
    after = review.label(number)
    assert (after[row : row + 10, middle[1] + 2] == 1).all()


def test_every_control_has_a_name(reviews: Reviews, person: Watched) -> None:
    script = """() => [...document.querySelectorAll('button, input, select, textarea, a, canvas')]
      .filter((e) => e.offsetParent !== null || e.getClientRects().length)
      .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim()
        || (e.labels && [...e.labels].some((l) => l.textContent.trim()))))
      .map((e) => e.outerHTML)"""
    for kind in ("cells", "volume", "recording"):
        page = person.open(reviews(kind), 0)
        assert page.evaluate(script) == []


# ------------------------------------------------------------------------------ other data


def test_a_slice_of_a_volume_is_drawn_on(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("volume")
    page = person.open(review, number)
    assert "slice 6 of 12" in page.inner_text(".slices")
    before = [review.label(number, f"which=current&axis=0&index={k}") for k in range(12)]
    page.keyboard.press("PageUp")
    page.wait_for_selector("text=slice 7 of 12")
    wait_shown(page)
    page.keyboard.press("b")
    drag(page, (10, 8), (30, 8))
    page.wait_for_selector('.case[data-version="1"]')
    after = [review.label(number, f"which=current&axis=0&index={k}") for k in range(12)]
    changed = [k for k in range(12) if not np.array_equal(before[k], after[k])]
    assert changed == [7]
    assert (after[7][12:28, 8] == 1).all()
    page.click("text=Axis 2")
    page.wait_for_selector("text=slice 24 of 48")
    wait_shown(page)
    picture = shown(page)
    page.keyboard.press("PageDown")
    page.wait_for_selector("text=slice 23 of 48")
    wait_shown(page)
    assert shown(page) != picture


def test_a_turn_of_a_volume_is_kept_as_its_slice_showed_it(fresh: Fresh, person: Watched) -> None:
    """Bodies lean, so that a slice has another centre than the volume."""
    review, number = fresh("volume")
    page = person.open(review, number)
    for index in (7, 8, 9):
        page.keyboard.press("PageUp")
        page.wait_for_selector(f"text=slice {index} of 12")
    wait_shown(page)
    clean = shown(page)
    hold_until_tried(page)
    page.keyboard.press("m")
    page.focus("#stage")
    for key in (*[","] * 8, "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.keyboard.press("b")
    page.wait_for_selector("text=Not saved: 1 change")
    preview = shown(page)
    assert preview != clean
    page.click("text=Try now")
    page.wait_for_selector('.case[data-version="1"]')
    wait_state(page, "saved")
    page.wait_for_timeout(300)
    assert shown(page) == preview


def test_intervals_are_drawn_and_their_ends_dragged(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("recording")
    page = person.open(review, number)
    before = review.label(number)
    box = page.locator("#stage").bounding_box()
    lane = box["y"] + box["height"] - 60

    def at(position: float) -> float:
        return box["x"] + position / len(before) * box["width"]

    page.keyboard.press("2")
    page.mouse.move(at(100), lane)
    page.mouse.down()
    page.mouse.move(at(400), lane, steps=3)
    page.mouse.up()
    page.wait_for_selector('.case[data-version="1"]')
    op = last_op(review, number)
    assert op["class"] == 2
    assert abs(op["start"] - 100) <= 4 and abs(op["stop"] - 400) <= 4
    expected = before.copy()
    expected[shapes.interval(len(before), op["start"], op["stop"])] = 2
    assert np.array_equal(review.label(number), expected)

    page.wait_for_timeout(200)
    page.mouse.move(at(op["stop"]), lane)
    page.mouse.down()
    page.mouse.move(at(300), lane, steps=3)
    page.mouse.up()
    page.wait_for_selector('.case[data-version="2"]')
    shrunk = last_op(review, number)
    assert shrunk["class"] == 0
    assert shrunk["stop"] == op["stop"] and abs(shrunk["start"] - 300) <= 4
    expected[shrunk["start"] : shrunk["stop"]] = 0
    assert np.array_equal(review.label(number), expected)


def test_the_end_of_an_interval_moves_by_keys(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("recording")
    page = person.open(review, number)
    before = review.label(number)
    start = int(np.flatnonzero(before)[0])
    page.focus("#stage")
    for key in (
        ".",
        "Enter",
        "Control+ArrowLeft",
        "Control+ArrowLeft",
        "Control+ArrowLeft",
        "Enter",
    ):
        page.keyboard.press(key)
    page.wait_for_selector('.case[data-version="1"]')
    expected = before.copy()
    expected[start - 3 : start] = before[start]
    assert np.array_equal(review.label(number), expected)


def test_export_says_what_was_written(reviews: Reviews, person: Watched) -> None:
    page = person.open(reviews("cells"))
    page.wait_for_selector("a.card")
    page.click("#export")
    page.click("dialog >> text=Write >> nth=-1")
    page.wait_for_selector("text=repairs/table.csv")
    figures = [t.strip() for t in page.locator("dialog .figures > *").all_inner_texts()]
    assert figures[:4] == ["accepted", "7", "written anew, of these", "0"]


def test_the_page_fits_a_narrow_screen(reviews: Reviews, person: Watched) -> None:
    page = person.open(reviews("cells"), 0)
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    tools = page.locator(".tools").bounding_box()
    assert tools["y"] + tools["height"] == pytest.approx(800, abs=1)
    assert page.locator("#stage").bounding_box()["height"] > 300


# ------------------------------------------------------------------------------ continuous labels


def test_colours_chosen_by_the_system_hide_neither_classes_nor_choices(
    fresh: Fresh, person: Watched
) -> None:
    page = person.open(*fresh("cells"))
    page.emulate_media(forced_colors="active")
    page.keyboard.press("b")
    script = "(one) => getComputedStyle(document.querySelector(one)).backgroundColor"
    tools = [page.evaluate(script, f'.tools [data-tool="{name}"]') for name in ("brush", "erase")]
    assert tools[0] != tools[1]
    swatches = [page.evaluate(script, f'[data-class="{index}"] .swatch') for index in (1, 2)]
    assert swatches == ["rgb(230, 159, 0)", "rgb(86, 180, 233)"]


def test_continuous_labels_are_seen_and_decided_on_not_drawn(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("heights")
    page = person.open(review, number)
    label = shown(page)
    page.keyboard.press("w")
    assert shown(page) != label  # the prediction lies over it
    page.keyboard.press("w")
    assert shown(page) == label
    assert page.locator(".toolbar .tool, .tools button").count() == 0
    draw(page)
    page.keyboard.press("a")
    page.wait_for_function("() => document.querySelector('#status').dataset.state === 'saved'")
    page.wait_for_timeout(200)
    case = review.case(number)
    assert (case["version"], case["verdict"], case["edited"]) == (1, "accepted", False)
