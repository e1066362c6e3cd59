"""S4 and P4: who may ask what, in every combination, and how each answer looks."""

from __future__ import annotations

import io
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

import labelmend
from labelmend.inference.predictor import Predictor
from labelmend.serve.service import Limits
from labelmend.web.guard import STRICT

from .hostile import requests_of
from .running import Running, bright_in, png, running
from .test_counts import parse

Trained = Callable[[str], Any]
TOKEN = "a-token-that-is-long"


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    return labelmend.load(trained("gray").run, device="cpu")


@pytest.fixture(scope="module")
def served(predictor: Predictor) -> Iterator[Running]:
    with running(predictor, Limits(largest=1)) as one:
        yield one


@pytest.fixture(scope="module")
def closed(predictor: Predictor) -> Iterator[Running]:
    with running(predictor, token=TOKEN) as one:
        yield one


# --- who may ask ----------------------------------------------------------------------------------

OPEN = ("/", "/static/main.js", "/health", "/ready", "/openapi.json")
SECRET = ("/v1/model", "/metrics")
HOSTS = (None, "localhost:PORT", "evil.example:PORT", "127.0.0.1:1")
ORIGINS = (None, "http://127.0.0.1:PORT", "http://evil.example", "null")
SITES = (None, "same-origin", "cross-site")
TOKENS = (None, TOKEN, TOKEN + "x")


@pytest.mark.parametrize("wanted", [False, True])
def test_every_cell_of_the_table(wanted: bool, served: Running, closed: Running) -> None:
    """S4: Host, Origin, Sec-Fetch-Site, route, token: 0 wrong cells."""
    one = closed if wanted else served
    port = str(one.places[1])
    wrong = []
    for host, origin, site, token, path in itertools.product(
        HOSTS, ORIGINS, SITES, TOKENS, (*OPEN, *SECRET, "/v1/predict")
    ):
        given = {"Host": host, "Origin": origin, "Sec-Fetch-Site": site}
        given["Authorization"] = None if token is None else f"Bearer {token}"
        headers = {k: v.replace("PORT", port) for k, v in given.items() if v is not None}
        secret = path not in OPEN
        own = f"http://{(host or '127.0.0.1:PORT')}"
        refused = host in HOSTS[2:] or origin not in (None, own) or (secret and site == SITES[2])
        expected = 403 if refused else 401 if wanted and secret and token != TOKEN else 200
        if path == "/v1/predict":
            got = one.client.post(f"{path}?name=a.png", headers=headers, content=png())
        else:
            got = one.client.get(path, headers=headers)
        if got.status_code != expected:
            wrong.append((headers, path, got.status_code, expected))
    assert not wrong, wrong[:5]


def test_every_answer_is_strict(served: Running) -> None:
    for path in (*OPEN, *SECRET, "/nothing"):
        headers = served.client.get(path).headers
        assert all(headers[name.decode()] == value.decode() for name, value in STRICT), path
        assert not [name for name in headers if name.startswith("access-control")]


# --- answers --------------------------------------------------------------------------------------


def test_the_page_and_what_it_needs(served: Running) -> None:
    page = served.client.get("/").text
    found = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert found and all(name.startswith("/static/") for name in found)
    scripts = set(found)
    for name in found:
        content = served.client.get(name).text
        scripts |= {f"/static/{one}" for one in re.findall(r'from "\./([^"]+)"', content)}
        assert "http://" not in content.replace("http://www.w3.org", "")
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    for name in scripts:
        got = served.client.get(name)
        assert got.status_code == 200
        assert got.headers["content-type"].startswith(kinds[name[name.rindex(".") :]])


@pytest.mark.parametrize(
    "name", ["none.js", "..%2fapp.py", "%2e%2e/app.py", "../app.py", "main.js%00", "MAIN.JS", "a/b"]
)
def test_nothing_else_is_served(name: str, served: Running) -> None:
    assert served.client.get(f"/static/{name}").status_code == 404


def test_the_model_says_what_it_takes(served: Running, predictor: Predictor) -> None:
    found = served.client.get("/v1/model").json()
    assert [one["name"] for one in found["classes"]] == list(predictor.spec.classes)
    assert [one["value"] for one in found["classes"]] == [0, 255]
    assert (found["dims"], found["channels"], found["step"]) == (2, 1, 3)
    assert found["image_suffixes"] == [".png"]
    assert found["limits"]["largest_body"] == 2**20
    assert str(predictor.run.path) not in json.dumps(found)


def test_metrics_are_metrics(served: Running) -> None:
    before = parse(served.client.get("/metrics").text)
    assert served.ask(png(4)).status_code == 200
    assert served.ask(b"").status_code == 422
    got = served.client.get("/metrics")
    assert got.headers["content-type"].startswith("text/plain; version=0.0.4")
    after = parse(got.text)
    for status in ("200", "422"):
        key = f"labelmend_requests_total/{status}"
        assert after[key] == before.get(key, 0) + 1
    assert after["labelmend_places"] == 65
    assert after["labelmend_images_total"] == before["labelmend_images_total"] + 1


def test_health_and_readiness(served: Running) -> None:
    assert served.client.get("/health").json() == {"status": "alive"}
    assert served.client.get("/ready").json() == {"status": "ready"}


def test_the_file_itself_is_the_body(served: Running) -> None:
    content = png(4)
    for answer in (
        served.client.post("/v1/predict", content=content, headers={"Content-Type": "image/png"}),
        served.ask(content, answer="png"),
        served.client.post(
            "/v1/predict",
            content=content,
            headers={"Content-Disposition": "attachment; filename=x.png"},
        ),
    ):
        assert answer.status_code == 200
        assert bright_in(answer.content) == 4
        assert answer.headers["x-size"] == "9,12"
        assert "attachment; filename*=UTF-8''" in answer.headers["content-disposition"]
    form = served.client.post("/v1/predict", files={"file": ("a.png", content)})
    assert (form.status_code, form.json()["detail"][:25]) == (415, "send the file itself as t")


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"answer": "jpeg"}, 422, "answer:"),
        ({"conclusions": "maybe"}, 422, "conclusions:"),
        ({"smallest": "0"}, 422, "smallest:"),
        ({"smallest": "9" * 30}, 422, "smallest:"),
        ({"anwser": "png"}, 422, "anwser: is not known"),
        ({"conclusions": "true"}, 422, "conclusions: go with"),
        ({"channels": "middle"}, 422, "channels:"),
        ({"name": "a.txt"}, 415, ".txt files are not read"),
        ({"name": ""}, 422, "name:"),
        ({"name": "a.tif"}, 422, "a.tif: is named as TIFF but holds a PNG file"),
        ({"answer": "csv"}, 422, "a.csv: a .csv holds the events"),
    ],
)
def test_what_cannot_be_is_one_line(
    query: dict[str, str], status: int, words: str, served: Running
) -> None:
    answer = served.ask(png(), **query)
    assert answer.status_code == status
    detail = answer.json()["detail"]
    assert detail.startswith(words), detail
    assert "\n" not in detail and answer.json().keys() == {"detail"}


def test_other_methods_and_addresses(served: Running) -> None:
    assert served.client.get("/v1/predict").status_code == 405
    assert served.client.get("/v1/predict").headers["allow"] == "POST"
    assert served.client.post("/v1/model").status_code == 405
    assert served.client.get("/v1/").status_code == 404
    assert served.client.get("/docs").status_code == 404


def test_what_is_looked_at(served: Running) -> None:
    found = served.ask(png(5), answer="json", look="true", conclusions="true").json()
    base = f"/v1/looks/{found['look']}"
    label = served.client.get(f"{base}/label")
    assert (label.headers["content-type"], bright_in(label.content)) == ("image/png", 5)
    assert served.client.get(f"{base}/image?axis=0").status_code == 200
    assert served.client.get(f"{base}/image/wave").status_code == 422
    assert served.client.get(f"{base}/other").status_code == 422
    assert served.client.get(f"/v1/looks/{'x' * 24}/label").status_code == 404
    assert served.ask(png(5), answer="json").json()["look"] is None


def test_the_description_says_what_happens(served: Running, closed: Running) -> None:
    told = served.client.get("/openapi.json").json()
    post = told["paths"]["/v1/predict"]["post"]
    wanted = {"200", "400", "401", "403", "408", "413", "415", "422", "429", "500", "503"}
    assert wanted <= set(post["responses"])
    assert "Retry-After" in post["responses"]["429"]["headers"]
    assert set(post["responses"]["200"]["content"]) >= {"image/png", "application/json"}
    assert "image/png" in post["requestBody"]["content"]
    assert "security" not in post
    told = closed.client.get("/openapi.json").json()
    assert told["paths"]["/v1/predict"]["post"]["security"] == [{"token": []}]
    assert "security" not in told["paths"]["/health"]["get"]


def test_what_the_network_cannot_see_is_a_422(predictor: Predictor) -> None:
    huge = np.zeros((9, 9))
    huge[0, 0] = 1e300
    stream = io.BytesIO()
    np.save(stream, huge)
    with running(predictor, real=True) as one:
        answer = one.ask(stream.getvalue(), name="a.npy")
        assert answer.status_code == 422, answer.text
        assert str(predictor.run.path.parent) not in answer.text
        assert one.ask(png()).status_code == 200


# --- fuzz -----------------------------------------------------------------------------------------


def fuzz(one: Running, many: int, seed: int) -> dict[int, int]:
    """Hostile requests; how often every status came."""
    seen: dict[int, int] = {}
    for request in requests_of(random.Random(seed), many):
        try:
            answer = one.client.request(**request)
        except (httpx.RemoteProtocolError, httpx.LocalProtocolError):
            continue  # what is no HTTP is not answered as HTTP
        assert answer.status_code < 500, (request, answer.text)
        if answer.status_code >= 400 and request["method"] != "HEAD":
            assert isinstance(answer.json()["detail"], str)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
    assert one.client.get("/ready").status_code == 200
    assert one.service.places.taken == 0
    return seen


def test_nothing_that_is_sent_breaks_it(served: Running) -> None:
    seen = fuzz(served, 300, 0)
    assert {200, 404, 405, 413, 415, 422} <= set(seen), seen
    assert bright_in(served.ask(png(7)).content) == 7
    assert served.service.counts.failures == 0


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["gray", "volume", "recording", "colour"])
def test_p4_ten_thousand_hostile_requests(kind: str, trained: Trained) -> None:
    predictor = labelmend.load(trained(kind).run, device="cpu")
    with running(predictor, Limits(largest=1), real=True) as one:
        seen = fuzz(one, 10_000, 7)
    assert seen.get(200, 0) > 0
    assert one.service.counts.failures == 0 == one.service.counts.deaths
