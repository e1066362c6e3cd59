"""The review page while something waits to be saved: it is not lost, and meets nothing else."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from .conftest import Process, Review, Watched, hold_until_tried, wait_shown
from .test_review_page import EVENTS, Fresh, draw, shown, state, wait_state


def kinds(review: Review, number: int) -> list[str]:
    """What was done to a case, in order."""
    return [event["kind"] for event in review.case(number)["history"]]


def refuse(page: object, status: int = 422) -> None:
    """Have the server refuse whatever is done."""
    body = json.dumps({"detail": "too large for this picture"})
    page.route(EVENTS, lambda route: route.fulfill(status=status, body=body))


# ------------------------------------------------------------------------------ undo


def test_an_undo_too_many_takes_back_nothing_that_is_drawn_later(
    fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    hold_until_tried(page)
    draw(page, 20)
    for _ in range(3):
        page.keyboard.press("Control+z")
    draw(page, 60)
    draw(page, 100)
    page.wait_for_selector("text=Not saved: 4 changes")
    page.click("text=Try now")
    wait_state(page, "saved")
    page.wait_for_timeout(300)
    assert kinds(review, number) == ["brush", "undo", "brush", "brush"]
    after = review.label(number)
    assert all((after[22:48, column] == 1).all() for column in (60, 100))


def test_an_undo_of_a_discarded_change_goes_with_it(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    draw(page, 20)
    wait_state(page, "saved")
    label = review.label(number)
    refuse(page)
    draw(page, 60)
    page.wait_for_selector(".notice.choose")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+y")
    page.keyboard.press("Control+z")
    page.keyboard.press("a")
    page.wait_for_selector("text=Not saved: 5 changes")
    page.unroute(EVENTS)
    page.click("text=Discard this change")
    wait_state(page, "saved")
    page.wait_for_selector('.case[data-version="2"]')
    assert kinds(review, number) == ["brush", "verdict"]
    assert np.array_equal(review.label(number), label)


def test_an_undo_too_many_of_a_discarded_change_takes_back_nothing_later(
    fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    refuse(page)
    draw(page, 60)
    page.wait_for_selector(".notice.choose")
    for _ in range(2):
        page.keyboard.press("Control+z")
    page.unroute(EVENTS)
    page.click("text=Discard this change")
    wait_state(page, "saved")
    page.keyboard.press("r")
    page.wait_for_selector('.case[data-version="1"]')
    wait_state(page, "saved")
    page.wait_for_timeout(300)
    assert kinds(review, number) == ["verdict"]


def test_an_undo_put_on_top_never_takes_back_what_somebody_else_did(
    fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    one = person.open(review, number)
    draw(one, 20)
    wait_state(one, "saved")
    two = person.open(review, number)
    one.route("**/api/events?*", lambda route: route.abort())  # it does not hear of the other
    draw(two, 60)
    wait_state(two, "saved")
    theirs = review.label(number)
    one.bring_to_front()
    one.keyboard.press("Control+z")
    one.wait_for_selector("text=your undo or redo of older changes is left out")
    draw(one, 100)
    one.wait_for_selector("text=Not saved: 2 changes")
    one.click("text=Put mine on top")
    wait_state(one, "saved")
    one.wait_for_selector('.case[data-version="3"]')
    assert kinds(review, number) == ["brush"] * 3
    after = review.label(number)
    assert np.array_equal(after[:, :80], theirs[:, :80])
    assert (after[22:48, 100] == 1).all()


def test_with_nothing_but_an_undo_putting_it_on_top_leaves_theirs(
    fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    one = person.open(review, number)
    draw(one, 20)
    wait_state(one, "saved")
    two = person.open(review, number)
    one.route("**/api/events?*", lambda route: route.abort())
    draw(two, 60)
    wait_state(two, "saved")
    picture = shown(two)
    one.bring_to_front()
    one.keyboard.press("Control+z")
    one.click("text=Put mine on top")
    wait_state(one, "saved")
    one.wait_for_selector(".notice.choose", state="detached")
    assert kinds(review, number) == ["brush", "brush"]
    assert shown(one) == picture


# ------------------------------------------------------------------------------ another order


def numbers(review: Review) -> dict[str, dict]:
    """All cases by their labels."""
    return {case["label"]: case for case in json.loads(review.ask("/api/cases")[0])["cases"]}


@pytest.mark.parametrize("waiting", [True, False])
def test_after_the_order_changed_everything_lands_on_its_own_label(
    waiting: bool, own_process: Process, person: Watched
) -> None:
    review = own_process.find("cells")
    label = review.case(0)["label"]
    page = person.open(review, 0)
    page.evaluate("window.before = true")
    own_process.kill()
    (own_process.folder / "cells" / "reversed").touch()
    if waiting:
        draw(page, 20)
        page.keyboard.press("a")
        page.wait_for_selector("text=Not saved: 2 changes")
    own_process.start()
    own_process.find("cells")
    after = numbers(review)[label]["number"]
    assert after != 0
    if not waiting:
        draw(page, 20)
        page.keyboard.press("a")
    page.wait_for_selector(f'.case[data-number="{after}"]')
    wait_shown(page)
    wait_state(page, "saved")
    page.wait_for_selector(f'.case[data-number="{after}"][data-version="2"]')
    draw(page, 60)
    page.wait_for_selector('.case[data-version="3"]')
    cases = numbers(review)
    assert {name: case["version"] for name, case in cases.items() if case["version"]} == {label: 3}
    assert cases[label]["verdict"] == "accepted"
    assert all((review.label(after)[22:48, column] == 1).all() for column in (20, 60))
    assert page.inner_text(".panel .path >> nth=0") == label
    assert page.url.endswith(f"#case={after}")
    assert page.evaluate("window.before")  # nothing that was in hand went with a reload
    page.keyboard.press("g")
    page.wait_for_selector("a.card .badge.accepted")
    shown_first = page.locator(".card b").all_inner_texts()
    assert shown_first == [name.split("/")[-1] for name in cases]


def test_another_run_at_the_same_address_is_said_and_gets_nothing(
    fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    told = {"event": 0, "order": "another", "cases": []}
    session = {**json.loads(review.ask("/api/session")[0]), "run": "/data/elsewhere"}
    page.route("**/api/events?*", lambda route: route.fulfill(body=json.dumps(told)))
    page.route("**/api/session", lambda route: route.fulfill(body=json.dumps(session)))
    page.wait_for_selector("text=This address serves another run now, /data/elsewhere")
    headers = {"X-Order": "another"}
    page.route(EVENTS, lambda route: route.fulfill(status=409, headers=headers, body="{}"))
    draw(page)
    wait_state(page, "unsaved")
    page.unroute("**/api/session")
    page.unroute("**/api/events?*")
    page.unroute(EVENTS)
    wait_state(page, "saved")
    assert kinds(review, number) == ["brush"]


# ------------------------------------------------------------------------------ comments, shapes


def test_a_comment_is_saved_while_it_is_written(fresh: Fresh, person: Watched) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    page.click(".panel textarea")
    page.keyboard.type("border is wrong")
    assert state(page) == "saving"
    wait_state(page, "saved")
    assert review.case(number)["comment"] == "border is wrong"
    page.keyboard.type(" at the left")
    assert state(page) == "saving"
    page.keyboard.press("Escape")
    wait_state(page, "saved")
    assert review.case(number)["comment"] == "border is wrong at the left"
    assert kinds(review, number) == ["comment", "comment"]


@pytest.mark.parametrize("leaving", ["reload", "close", "next"])
def test_a_comment_that_is_being_written_outlives_the_page(
    leaving: str, fresh: Fresh, person: Watched
) -> None:
    review, number = fresh("cells")
    page = person.open(review, number)
    page.click(".panel textarea")
    page.keyboard.type("late ")
    if leaving == "reload":
        page.reload()
    elif leaving == "close":
        page.close()
        page = person.open(review)
    else:
        page.evaluate("location.hash = ''")
    end = time.monotonic() + 20
    while review.case(number)["version"] == 0 and time.monotonic() < end:
        page.wait_for_timeout(100)  # the new page looks every few seconds for what others left
    assert review.case(number)["comment"] == "late"


def test_a_polygon_in_hand_is_kept_when_the_case_is_judged_and_left(
    fresh: Fresh, person: Watched
) -> None:
    from .test_review_page import screen

    review, number = fresh("cells")
    page = person.open(review, number)
    page.keyboard.press("p")
    for place in ((20, 20), (20, 60), (50, 60)):
        page.mouse.click(*screen(page, place))
        page.wait_for_timeout(20)
    page.keyboard.press("a")
    page.keyboard.press("j")
    page.wait_for_selector(f'.case[data-number="{number + 1}"]')
    wait_state(page, "saved")
    assert kinds(review, number) == ["polygon", "verdict"]
    assert (review.label(number)[22:28, 58] == 1).all()


def test_the_brush_is_no_larger_than_the_picture(fresh: Fresh, person: Watched) -> None:
    """A large brush from a large picture: the server would refuse it on a small one."""
    review, number = fresh("cells")
    page = person.open(review, number)
    page.keyboard.press("b")
    for _ in range(30):
        page.keyboard.press("]")
    assert page.inner_text(".size output") == "200 px"
    entry = json.dumps({**review.case(number), "size": [24, 20]})
    page.route(f"**/api/cases/{number}", lambda route: route.fulfill(body=entry))
    page.keyboard.press("g")
    page.wait_for_selector("a.card")
    page.evaluate(f"location.hash = 'case={number}'")
    page.wait_for_selector('.case .size output:text-is("48 px")')
