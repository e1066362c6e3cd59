"""S4, H2, P4: the review answers its owner's page, keeps what it says it kept, and never breaks."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelmend.errors import ChangedDataError, StorageError
from labelmend.review.app import make_app
from labelmend.review.cases import Cases
from labelmend.web.guard import BODY_LIMIT

from ...made_data import KINDS
from .made_cases import HEADERS, HOST, TOKEN, event, first, make_cases, make_desk

DRAWN = {"kind": "box", "class": 1, "centre": [5, 5], "sides": [4, 4]}
ACCEPT = {"kind": "verdict", "value": "accepted"}


class Page:
    """What the page of a review asks."""

    def __init__(self, folder: Path, kind: str = "gray", **known: Any) -> None:
        self.folder = folder
        self.cases = make_cases(folder, kind, **known)
        self.exports = 0
        self.open()

    def open(self) -> None:
        """Begin anew, as after the server was started again."""
        self.desk = make_desk(self.cases, self.folder)
        self.app = make_app(self.cases, self.desk, TOKEN, export=self.export)
        self.client = TestClient(self.app, base_url=HOST, headers=HEADERS)

    def export(self) -> dict[str, Any]:
        self.exports += 1
        return {"written": self.exports}

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = self.client.get(f"/api/{path}", params=query)
        assert answer.status_code == status, answer.text
        return answer

    def do(self, number: int, name: str, op: Any, version: int = 0, **headers: str) -> Any:
        given = {"If-Match": f'"{version}"', **headers}
        return self.client.post(
            f"/api/cases/{number}/events", content=event(name, op), headers=given
        )

    def label(self, number: int, **query: Any) -> np.ndarray:
        answer = self.get(f"cases/{number}/label", **query)
        shape = [int(n) for n in answer.headers["X-Shape"].split(",")]
        return np.frombuffer(answer.content, np.uint8).reshape(shape)

    def picture(self, number: int, what: str, **query: Any) -> np.ndarray:
        answer = self.get(f"cases/{number}/{what}", **query)
        assert answer.headers["content-type"] == "image/png"
        return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


@pytest.fixture(scope="module")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Page]:
    """A page of a kind of data, shared by tests that only look."""
    made: dict[str, Page] = {}

    def give(kind: str) -> Page:
        if kind not in made:
            made[kind] = Page(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return give


# --- S4: a page serves only its owner -------------------------------------------------------------

HOSTS = {
    "127.0.0.1:8765": True,
    "localhost:8765": True,
    "[::1]:8765": True,
    "127.0.0.1:8766": False,
    "127.0.0.1": False,
    "evil.example:8765": False,
    "localhost.evil.example:8765": False,
    "192.168.0.7:8765": False,
}
ORIGINS = (None, "own", "null", "http://evil.example", "http://127.0.0.1:3000", "https://own")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
TOKENS = {
    f"Bearer {TOKEN}": True,
    None: False,
    "Bearer wrong-wrong-wrong-wrong": False,
    f"Basic {TOKEN}": False,
    f"Bearer {TOKEN}\x00": False,
}
ROUTES = {
    "/": ("GET", 200),
    "/static/index.html": ("GET", 200),
    "/static/../app.py": ("GET", 404),
    "/elsewhere": (None, 404),
    "/api": (None, 404),
    "/api/session": ("GET", 200),
    "/api/cases": ("GET", 200),
    "/api/events": ("GET", 200),
    "/api/cases/0": ("GET", 200),
    "/api/cases/0/image": ("GET", 200),
    "/api/cases/0/label": ("GET", 200),
    "/api/cases/0/thumbnail": ("GET", 200),
    "/api/cases/0/wave": ("GET", 422),
    "/api/cases/0/spectrogram": ("GET", 422),
    "/api/cases/99": ("GET", 404),
    "/api/cases/0/events": ("POST", 428),
    "/api/export": ("POST", 200),
    "/api/elsewhere": (None, 404),
}


def expected(host: str, origin: str | None, method: str, route: str, token: str | None) -> int:
    """What a request must be answered with; the rules of S4 in words."""
    if not HOSTS[host] or origin not in (None, "own"):
        return 403
    api = route == "/api" or route.startswith("/api/")
    if api and not TOKENS[token]:
        return 401
    allowed, status = ROUTES[route]
    return status if allowed in (None, method) else 405


def test_every_cell_of_host_origin_method_route_and_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = {"index.html": _Content()}
    monkeypatch.setattr("labelmend.review.app._listed", lambda *_: static)
    page = Page(tmp_path)
    cells = [*itertools.product(HOSTS, ORIGINS, METHODS, ROUTES, TOKENS)]

    async def ask_all() -> list[tuple[Any, ...]]:
        found = [(cell, await _ask(page.app, *cell)) for cell in cells]
        return [
            (*cell, answer[0])
            for cell, answer in found
            if answer[0] != expected(*cell) or not _is_strict(*answer)
        ]

    assert asyncio.run(ask_all()) == []
    assert len(cells) == 38_880


class _Content:
    def read_bytes(self) -> bytes:
        return b"<!doctype html>"


async def _ask(
    app: Any, host: str, origin: str | None, method: str, route: str, token: str | None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; what a server would make of the request, without one."""
    headers = {"host": host, "content-length": "0"}
    if origin is not None:
        own = {"own": f"http://{host}", "https://own": f"https://{host}"}
        headers["origin"] = own.get(origin, origin)
    if token is not None:
        headers["authorization"] = token
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}
    scope |= {"method": method, "path": route, "raw_path": route.encode(), "query_string": b""}
    scope |= {"server": ("127.0.0.1", 8765), "client": ("127.0.0.1", 5), "root_path": ""}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], found, body


def _is_strict(status: int, headers: dict[str, str], body: bytes) -> bool:
    """No answer lets another page in, and every refusal is one line."""
    if any(name.startswith("access-control") for name in headers):
        return False
    if "default-src 'self'" not in headers["content-security-policy"]:
        return False
    if status == 200:
        return True
    found = json.loads(body)
    detail = found["detail"]
    return list(found) == ["detail"] and isinstance(detail, str) and "\n" not in detail


def test_a_failure_of_ours_is_one_line_and_is_raised_for_the_server(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret of the house")

    monkeypatch.setattr(page.cases, "about", broken)
    with pytest.raises(ZeroDivisionError):
        page.get("cases/0")
    quiet = TestClient(page.app, base_url=HOST, headers=HEADERS, raise_server_exceptions=False)
    answer = quiet.get("/api/cases/0")
    assert answer.status_code == 500
    assert answer.json()["detail"].endswith("ZeroDivisionError")
    assert answer.headers["x-frame-options"] == "DENY"


def test_there_are_no_pages_about_the_application(page: Page) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/static", "/static/", "/static/no.js"):
        assert page.client.get(path).status_code == 404


def test_files_of_the_page_have_their_types(page: Page) -> None:
    folder = Path(__file__).parents[3] / "src/labelmend/review/static"
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    types |= {".svg": "image/svg+xml"}
    for path in folder.rglob("*.*"):
        answer = page.client.get(f"/static/{path.relative_to(folder)}")
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"].startswith(types[path.suffix])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "a\\b", "index.html%00"]
)
def test_nothing_else_is_served(name: str, page: Page) -> None:
    assert page.client.get(f"/static/{name}").status_code == 404


# --- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_session_says_what_the_page_is_about(
    kind: str, open_page: Callable[[str], Page]
) -> None:
    page = open_page(kind)
    spec = page.cases.spec
    said = page.get("session").json()
    assert (said["task"], said["dims"], said["total"]) == (spec.task, spec.dims, len(page.cases))
    assert [one["name"] for one in said["classes"]] == [*spec.classes]
    assert all(len(one["colour"]) == 7 for one in said["classes"])
    assert said["ignore"] == (kind in ("signal", "recording"))
    assert (said["step"], said["model"]) == (3, "main")


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_is_listed_in_order_and_told_in_full(
    kind: str, open_page: Callable[[str], Page]
) -> None:
    page = open_page(kind)
    listed = page.get("cases").json()
    assert listed["event"] == 0
    assert [one["number"] for one in listed["cases"]] == [*range(len(page.cases))]
    assert [one["label"] for one in listed["cases"]] == [one.label for one in page.cases.order]
    one = page.get("cases/0")
    assert one.headers["ETag"] == '"0"'
    entry = one.json()
    assert {name: entry[name] for name in listed["cases"][0]} == listed["cases"][0]
    about = page.cases.about(0)
    assert (entry["size"], entry["channels"]) == ([*about.size], about.channels)
    assert entry["display"] == [*about.display]
    assert (entry["can_undo"], entry["can_redo"], entry["history"]) == (False, False, [])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "continuous"])
@pytest.mark.parametrize("which", ["current", "original", "prediction", "moved"])
def test_labels_come_byte_by_byte(kind: str, which: str, open_page: Callable[[str], Page]) -> None:
    page = open_page(kind)
    number = first(page.cases, "weak")
    wanted = page.cases.label(number, "original" if which == "current" else which)  # type: ignore
    wanted = page.cases.plane(wanted, None, None)
    found = page.label(number, which=which)
    assert np.array_equal(found, np.where(wanted < 0, 255, wanted))


def test_continuous_labels_come_as_grey_levels(open_page: Callable[[str], Page]) -> None:
    page = open_page("continuous")
    number = first(page.cases, "weak")
    answer = page.get(f"cases/{number}/label", which="current")
    assert answer.headers["ETag"] == '"0"'
    low, high = (float(v) for v in answer.headers["X-Values"].split(","))
    assert (low, high) == (-1.0, 1.5)
    shown = page.label(number)
    assert set(np.unique(shown)) == {0, 254}
    assert page.label(number, which="prediction").max() == 254
    assert np.array_equal(shown == 254, page.cases.label(number)[0] > 0)


def test_slices_of_volumes(open_page: Callable[[str], Page]) -> None:
    page = open_page("volume")
    whole = page.cases.label(0)
    for axis in range(3):
        index = whole.shape[axis] - 2
        found = page.label(0, axis=axis, index=index)
        assert np.array_equal(found, whole.take(index, axis))
        assert page.picture(0, "image", axis=axis, index=index).shape == found.shape
    assert page.label(0, axis="", index="").shape == whole.shape[1:]
    for query in ({"axis": 3}, {"index": 99}, {"axis": 0, "index": -1}, {"axis": "x"}):
        page.get("cases/0/label", 422, **query)


def test_images_between_the_limits_that_are_asked_for(open_page: Callable[[str], Page]) -> None:
    page = open_page("gray")
    array = page.cases.image(0).array[0].astype(float)
    shown = page.picture(0, "image", low=80, high=120)
    assert np.array_equal(shown, np.rint(np.clip((array - 80) / 40 * 255, 0, 255)))
    for low, high in ((5, 5), (9, 1), ("nan", 5), (0, "inf"), (-1e308, 1e308), ("x", 2)):
        page.get("cases/0/image", 422, low=low, high=high)
    assert page.picture(0, "image", low=-1e300, high=1e300).max() == 128


def test_channels_are_colours_or_one_by_one(open_page: Callable[[str], Page]) -> None:
    page = open_page("colour")
    array = page.cases.image(0).array
    assert np.array_equal(page.picture(0, "image"), np.moveaxis(array, 0, -1))
    assert np.array_equal(page.picture(0, "image", channel=2, low=0, high=255), array[2])
    for channel in (3, -1, 10**30, "red"):
        page.get("cases/0/image", 422, channel=channel)


def test_waves_hold_every_extreme(open_page: Callable[[str], Page]) -> None:
    page = open_page("signal")
    array = page.cases.image(0).array
    wave = page.get("cases/0/wave", columns=7).json()
    assert (wave["start"], wave["stop"]) == (0, 60)
    assert np.shape(wave["low"]) == np.shape(wave["high"]) == (3, 7)
    assert np.allclose(np.min(wave["low"], 1), array.min(1))
    assert np.allclose(np.max(wave["high"], 1), array.max(1))
    part = page.get("cases/0/wave", start=10, stop=14, columns=2000).json()
    assert np.allclose(part["low"], array[:, 10:14])
    for query in ({"start": 5, "stop": 5}, {"stop": 61}, {"start": -1}, {"columns": 0}):
        page.get("cases/0/wave", 422, **query)
    page.get("cases/0/image", 422)


def test_spectrograms_show_where_the_tone_is(open_page: Callable[[str], Page]) -> None:
    page = open_page("recording")
    shown = page.picture(0, "spectrogram").astype(float)
    rows, columns = shown.shape
    tone = round((rows - 1) * (1 - 90 / 200))
    label = page.cases.label(first(page.cases, "strong"))
    sounding = np.linspace(0, len(label) - 1, columns).astype(int)
    on = shown[tone, label[sounding] == 1].mean()
    assert on > shown[tone, label[sounding] == 0].mean() + 50
    assert on > shown[2, :].mean() + 50
    page.get("cases/0/spectrogram", 422, start=9, stop=3)
    assert page.picture(0, "spectrogram", start=100, stop=200).shape[1] <= columns


@pytest.mark.parametrize("kind", KINDS)
def test_small_pictures(kind: str, open_page: Callable[[str], Page]) -> None:
    assert max(open_page(kind).picture(0, "thumbnail").shape) <= 160


def test_small_pictures_follow_what_is_drawn(page: Page) -> None:
    before = page.get("cases/0/thumbnail").content
    page.do(0, "a", DRAWN)
    after = page.get("cases/0/thumbnail").content
    page.do(0, "b", {"kind": "undo"}, 1)
    assert before != after
    assert page.get("cases/0/thumbnail").content == before


def test_a_file_that_changed_is_said_in_one_line(page: Page) -> None:
    path = page.cases.root / page.cases.samples[0].image
    path.write_bytes(b"other")
    for what in ("", "/image", "/label", "/label?which=moved", "/thumbnail"):
        answer = page.get(f"cases/0{what}", 409)
        assert path.name in answer.json()["detail"]
    assert page.do(0, "a", DRAWN).status_code == 409


# --- what is done ---------------------------------------------------------------------------------


def test_what_is_done_is_kept_and_told(page: Page) -> None:
    answer = page.do(0, "a", DRAWN, **{"X-Person": "Ada%20Lovelace%0a"})
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"1"'
    said = answer.json()
    assert (said["version"], said["case"]["version"]) == (1, 1)
    assert (said["case"]["edited"], said["case"]["can_undo"]) == (True, True)
    told = said["case"]["history"]
    assert [(one["kind"], one["person"]) for one in told] == [("box", "Ada Lovelace")]
    assert (page.label(0)[3:7, 3:7] == 1).all()
    assert page.get("cases/0/label").headers["ETag"] == '"1"'
    page.do(0, "b", ACCEPT, 1)
    page.do(0, "c", {"kind": "quality", "value": "strong"}, 2)
    page.do(0, "d", {"kind": "comment", "text": "gut gemacht, 好"}, 3)
    row = page.get("cases").json()["cases"][0]
    assert (row["verdict"], row["quality"], row["version"]) == ("accepted", "strong", 4)
    assert row["comment"] == "gut gemacht, 好"
    assert page.get("cases").json()["event"] == 4


def test_long_strokes_are_told_without_their_points(page: Page) -> None:
    stroke = {"kind": "brush", "class": 1, "radius": 1, "points": [[i / 9, 3] for i in range(99)]}
    told = page.do(0, "a", stroke).json()["case"]["history"][0]["op"]
    assert told == {"kind": "brush", "class": 1, "radius": 1}


@pytest.mark.parametrize("which", ["prediction", "moved", "original"])
def test_taking_a_label_makes_it_the_current_one(which: str, page: Page) -> None:
    number = first(page.cases, "weak")
    page.do(number, "a", DRAWN)
    assert page.do(number, "b", {"kind": "take", "what": which}, 1).status_code == 200
    assert np.array_equal(page.label(number), page.label(number, which=which))


def test_a_version_is_wanted_and_an_old_one_is_refused_with_the_new(page: Page) -> None:
    url, body = "/api/cases/0/events", event("a", DRAWN)
    answer = page.client.post(url, content=body)
    assert answer.status_code == 428
    assert page.do(0, "a", DRAWN).status_code == 200
    stale = page.do(0, "b", ACCEPT, 0)
    assert stale.status_code == 412
    assert stale.headers["ETag"] == '"1"'
    assert list(stale.json()) == ["detail", "case"]
    assert stale.json()["case"] == page.get("cases/0").json()
    assert page.get("cases/0").json()["verdict"] == "open"
    for tag in ("1", 'W/"1"', "*", '"1", "0"', '"x"', '""', '"-1"', f'"{"9" * 5000}"'):
        for number, same in ((0, tag), (1, tag.replace("1", "0"))):
            again = page.client.post(
                f"/api/cases/{number}/events",
                content=event("b", ACCEPT),
                headers={"If-Match": same},
            )
            assert again.status_code == 412, same
    two = [("If-Match", '"1"'), ("If-Match", '"0"')]
    assert page.client.post(url, content=event("b", ACCEPT), headers=two).status_code == 412
    again = page.client.post(url, content=event("b", ACCEPT), headers={"If-Match": ' "1" '})
    assert again.status_code == 200


@pytest.mark.parametrize("tag", ['"0"', '"1"', '"7"', "*", "nonsense"])
def test_the_same_event_again_is_answered_again_and_kept_once(tag: str, page: Page) -> None:
    once = page.do(0, "a", DRAWN)
    for _ in range(3):
        again = page.client.post(
            "/api/cases/0/events", content=event("a", DRAWN), headers={"If-Match": tag}
        )
        assert (again.status_code, again.json()) == (200, once.json())
        assert again.headers["ETag"] == once.headers["ETag"]
    assert page.get("cases").json()["event"] == 1


def test_an_answer_that_was_lost_is_given_again_after_others_went_on(page: Page) -> None:
    page.do(0, "a", DRAWN)
    page.do(0, "b", ACCEPT, 1)
    again = page.do(0, "a", DRAWN, 0)
    assert again.status_code == 200
    assert (again.json()["version"], again.json()["case"]["version"]) == (1, 2)
    assert again.headers["ETag"] == '"2"'
    assert page.get("cases").json()["event"] == 2


def test_after_a_restart_everything_is_as_it_was(page: Page) -> None:
    page.do(0, "a", DRAWN)
    page.do(1, "b", {"kind": "take", "what": "prediction"})
    page.do(0, "c", {"kind": "undo"}, 1)
    before = [page.get(f"cases/{n}").json() for n in range(3)]
    labels = [page.label(n) for n in range(3)]
    page.desk.store.close()
    page.open()
    assert [page.get(f"cases/{n}").json() for n in range(3)] == before
    assert all(np.array_equal(page.label(n), labels[n]) for n in range(3))
    assert page.do(0, "a", DRAWN).status_code == 200
    assert page.do(0, "d", {"kind": "redo"}, 2).json()["case"]["edited"]


def test_a_number_of_another_order_is_refused_and_nothing_is_done(tmp_path: Path) -> None:
    page = Page(tmp_path)
    before = page.get("cases").json()
    page.cases = Cases(page.cases.predictor, page.cases.order[::-1])
    page.open()
    after = page.get("cases").json()
    assert before["cases"][0]["label"] == after["cases"][-1]["label"]
    old, new = before["order"], after["order"]
    assert old != new
    for path in ("", "/image", "/label", "/thumbnail"):
        url = f"/api/cases/0{path}"
        refused = page.client.get(url, headers={"X-Order": old})
        assert (refused.status_code, refused.headers["X-Order"]) == (409, new)
        assert "in another order now" in refused.json()["detail"]
        assert page.client.get(url, headers={"X-Order": new}).status_code == 200
    refused = page.do(0, "a", ACCEPT, **{"X-Order": old})
    assert (refused.status_code, refused.headers["X-Order"]) == (409, new)
    assert page.get("events").json()["event"] == 0
    assert page.do(0, "a", ACCEPT, **{"X-Order": new}).status_code == 200


def test_the_same_labels_in_another_run_are_another_order(tmp_path: Path) -> None:
    pages = [Page(tmp_path / name) for name in ("one", "two")]
    orders = [page.get("cases").json()["order"] for page in pages]
    assert orders[0] != orders[1]
    pages[0].open()
    assert pages[0].get("cases").json()["order"] == orders[0]


def test_the_page_asks_what_others_did(page: Page) -> None:
    def said(**query: int) -> tuple[int, list[int]]:
        found = page.get("events", **query).json()
        assert found.pop("order") == page.get("cases").json()["order"]
        return tuple(found.values())

    assert said() == (0, [])
    page.do(3, "a", ACCEPT)
    page.do(1, "b", ACCEPT)
    page.do(3, "c", DRAWN, 1)
    assert said(after=0) == (3, [1, 3])
    assert said(after=2) == (3, [3])
    assert said(after=3) == (3, [])
    assert page.get("events", after=2**62).json()["cases"] == []
    for after in (-1, 2**63, 10**30, "x"):
        page.get("events", 422, after=after)


BAD = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"3",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"id": "id-00000001"}',
    b'{"op": {"kind": "undo"}}',
    b'{"id": 3, "op": {"kind": "undo"}}',
    b'{"id": "x", "op": {"kind": "undo"}}',
    b'{"id": "id-00000001", "op": {"kind": "undo"}, "more": 1}',
    b'{"id": "id-00000001", "op": {"kind": "undo"}}',
    b'{"id": "id-00000001", "op": null}',
    b'{"id": "id-00000001", "op": {"kind": ["undo"]}}',
    b'{"id": "id-00000001", "op": {"kind": "take", "what": ["moved"]}}',
    b'{"id": "id-00000001", "op": {"kind": "verdict", "value": NaN}}',
    b'{"id": "id-00000001", "op": {"kind": "comment", "text": "\\ud800"}}',
    b'{"id": "id-00000001", "op": {"kind": "move", "displacement": [1e999, 0]}}',
    b'{"id": "id-00000001", "op": {"kind": "move", "displacement": [' + b"9" * 5000 + b", 0]}}",
    b'{"id": "id-00000001", "op": {"kind": "interval", "class": 1, "start": 0, "stop": 2}}',
    b'{"id": "id-00000001", "op": {"kind": "brush", "class": 7, "radius": 1, "points": [[1, 1]]}}',
    b'{"id": "id-00000001", "op": {"kind": "brush", "class": -1, "radius": 1, "points": [[1, 1]]}}',
)


@pytest.mark.parametrize("body", BAD)
def test_what_is_no_event_is_refused_and_changes_nothing(body: bytes, page: Page) -> None:
    answer = page.client.post("/api/cases/0/events", content=body, headers={"If-Match": '"0"'})
    assert answer.status_code == 422
    assert list(answer.json()) == ["detail"]
    assert "\n" not in answer.json()["detail"]
    assert page.get("cases").json()["event"] == 0


def test_an_id_is_for_one_event(page: Page) -> None:
    assert page.do(0, "a", DRAWN).status_code == 200
    assert page.do(0, "a", ACCEPT, 1).status_code == 422
    assert page.do(1, "a", DRAWN).status_code == 422


def test_there_are_no_cases_beyond_the_last(page: Page) -> None:
    for number in (len(page.cases), -1, 10**12):
        assert page.do(number, "a", DRAWN).status_code == 404
        page.get(f"cases/{number}", 404)
    page.get("cases/x", 422)
    page.get(f"cases/{'9' * 5000}", 422)


def test_continuous_labels_are_decided_on_and_not_drawn(tmp_path: Path) -> None:
    page = Page(tmp_path, "continuous")
    for op in (DRAWN, {"kind": "take", "what": "moved"}, {"kind": "undo"}, {"kind": "move"}):
        answer = page.do(0, "a", op)
        assert answer.status_code == 422
        assert "labelmend fix" in answer.json()["detail"]
    assert page.do(0, "a", ACCEPT).status_code == 200
    assert page.do(0, "b", {"kind": "comment", "text": "well"}, 1).status_code == 200
    assert page.do(0, "c", {"kind": "quality", "value": "strong"}, 2).status_code == 200
    entry = page.get("cases/0").json()
    assert (entry["verdict"], entry["edited"]) == ("accepted", False)


@pytest.mark.parametrize(
    ("error", "status"), [(StorageError("disk full"), 507), (ChangedDataError("disk full"), 409)]
)
def test_what_the_disk_refuses_is_said_and_is_not_acknowledged(
    error: Exception, status: int, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(type(page.desk.store), "append", refuse)
        answer = page.do(0, "a", DRAWN)
    assert (answer.status_code, answer.json()) == (status, {"detail": "disk full"})
    assert page.do(0, "a", DRAWN).json()["version"] == 1


def test_export_calls_what_it_was_given(page: Page) -> None:
    assert page.client.post("/api/export").json() == {"written": 1}
    assert page.client.post("/api/export", content=b"{}").json() == {"written": 2}


@pytest.mark.parametrize("what", ["thumbnail", "label?which=prediction", "label?which=moved"])
def test_saving_waits_for_no_prediction(
    what: str, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, network = threading.Event(), page.cases.predictor.network
    forward, many = network.forward, 45  # more than there are threads for quick answers

    def slow(image: Any) -> Any:
        assert may_go_on.wait(20)
        return forward(image)

    monkeypatch.setattr(network, "forward", slow)
    found: list[int] = []
    weak = first(page.cases, "weak")

    def look() -> None:
        found.append(page.client.get(f"/api/cases/{weak}/{what}").status_code)

    with page.client:  # one loop for all of them
        threads = [threading.Thread(target=look) for _ in range(many)]
        for thread in threads:
            thread.start()
        for number in range(5):
            assert page.do(number, f"{number}", DRAWN).status_code == 200
        assert page.get("cases").json()["event"] == 5
        assert found == []
        may_go_on.set()
        for thread in threads:
            thread.join()
    assert found == [200] * many


# --- limits ---------------------------------------------------------------------------------------


def _padded(size: int) -> bytes:
    body = event("a", DRAWN)
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_at_the_limit(more: int, chunked: bool, page: Page) -> None:
    body = _padded(BODY_LIMIT + more)

    def parts() -> Iterator[bytes]:
        yield from (body[start : start + 65_536] for start in range(0, len(body), 65_536))

    answer = page.client.post(
        "/api/cases/0/events",
        content=parts() if chunked else body,
        headers={"If-Match": '"0"'},
    )
    assert answer.status_code == (413 if more > 0 else 200)
    assert page.get("cases").json()["event"] == (0 if more > 0 else 1)


# --- anything at all ------------------------------------------------------------------------------

WORDS = st.sampled_from(
    "api cases 0 1 -1 99 label image wave events export session thumbnail spectrogram static .. "
    f"%2e é index.html {'9' * 30}".split()
)
VALUES = st.one_of(
    st.sampled_from(
        ["", "0", "1", "-1", "nan", "inf", "1e308", "x", "9" * 400, "current", "moved"]
    ),
    st.text(max_size=8),
)
QUERY = st.dictionaries(
    st.sampled_from(
        ["which", "axis", "index", "low", "high", "channel", "start", "stop", "columns", "after"]
    ),
    VALUES,
    max_size=4,
)
NAMES = st.sampled_from(
    ("If-Match", "X-Person", "Origin", "Host", "Range", "Content-Type", "Content-Length", "Expect")
) | st.sampled_from(
    ("Transfer-Encoding", "Sec-Fetch-Site", "If-None-Match", "Accept", "Cookie", "Upgrade")
)
TEXTS = st.one_of(
    st.sampled_from(['"0"', '"1"', "*", "", "0", "-1", "null", HOST, "127.0.0.1:8765", "chunked"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "class", "radius", "points", "centre", "radii", "what", "value"]
            )
            | st.text(max_size=4),
            inner | st.sampled_from(["brush", "polygon", "take", "verdict", "undo", "moved"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda op: json.dumps({"id": "id-00000009", "op": op}).encode()),
    JSON.map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=300)
@given(
    st.sampled_from(["gray", "signal", "volume"]),
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "PATCH"]),
    st.lists(WORDS, max_size=5),
    QUERY,
    st.dictionaries(NAMES, TEXTS, max_size=3),
    BODIES,
)
def test_whatever_is_asked_nothing_breaks(
    open_page: Callable[[str], Page],
    kind: str,
    method: str,
    words: list[str],
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes,
) -> None:
    page = open_page(kind)
    bare = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = page.client.request(
        method, "/" + "/".join(words), params=query, headers=bare, content=body
    )
    assert answer.status_code < 500
    if answer.status_code >= 400 and method != "HEAD":
        assert "\n" not in answer.json()["detail"]


@settings(max_examples=200)
@given(JSON, st.sampled_from(["gray", "signal", "volume", "continuous"]))
def test_whatever_an_op_is_nothing_breaks(
    open_page: Callable[[str], Page], op: Any, kind: str
) -> None:
    page = open_page(kind)
    version = page.get("cases/1").json()["version"]
    assert page.do(1, f"{version}", op, version).status_code in (200, 422)
