"""A process with a browser of its own, to be killed: ``own_browser.py PROFILE PATH WHAT URL``.

``draw`` makes two strokes that cannot be sent and says so; ``look`` opens the page again and says
when everything is saved.
"""

from __future__ import annotations

import json
import sys
import time

from playwright.sync_api import Page, Route, sync_playwright

TOKEN = "0123456789abcdef-of-the-page"
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def stop(route: Route) -> None:
    """Let nothing through."""
    route.abort()


def stroke(page: Page, column: float) -> None:
    """Draw down a column of the picture."""
    box = page.locator("#stage").bounding_box()
    assert box is not None
    size = json.loads(page.get_attribute("#stage", "data-view") or "{}")
    x = box["x"] + size["left"] + (column + 0.5) * size["right"]
    first, last = (box["y"] + size["top"] + (row + 0.5) * size["down"] for row in (20, 50))
    page.mouse.move(x, first)
    page.mouse.down()
    page.mouse.move(x, last, steps=4)
    page.mouse.up()


def main(profile: str, path: str, what: str, address: str) -> None:
    """Draw, or look what became of it."""
    with sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            profile,
            executable_path=path,
            args=list(ARGUMENTS),
            viewport={"width": 1366, "height": 768},
        )
        page = context.new_page()
        page.set_default_timeout(30_000)
        if what == "draw":
            page.route("**/events", stop)
        page.goto(f"{address}/#token={TOKEN}")
        page.wait_for_selector("a.card")
        page.evaluate("location.hash = 'case=0'")
        page.wait_for_selector(".panel .layer-moved:not(.missing)")
        if what == "look":
            page.wait_for_selector('#status[data-state="saved"]')
            print("saved", flush=True)
            context.close()
            return
        page.keyboard.press("b")
        stroke(page, 20)
        stroke(page, 60)
        page.wait_for_selector("text=Not saved: 2 changes")
        page.wait_for_timeout(300)  # what the page shows is a moment ahead of its vault
        print("waiting", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
