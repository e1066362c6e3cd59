"""The client gets what the server says, waits when it is told to, and says what went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

import labelmend
from labelmend.client import Client, Wish, predict_files
from labelmend.errors import DataError, RunError, SettingsError
from labelmend.inference.beside import Beside
from labelmend.inference.files import Way, predict_all

from .serve.running import Running, running

Trained = Callable[[str], Any]
TOKEN = "a-token-that-is-long"
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "serve.md"


@pytest.fixture(scope="module")
def places(trained: Trained) -> Iterator[Callable[[str], tuple[Any, Running]]]:
    """A run of a kind, and a server of it."""
    made: dict[str, tuple[Any, Running]] = {}
    open_ones = []

    def find(kind: str) -> tuple[Any, Running]:
        if kind not in made:
            run = trained(kind)
            context = running(labelmend.load(run.run, device="cpu"), real=True)
            open_ones.append(context)
            made[kind] = run, context.__enter__()
        return made[kind]

    yield find
    for context in open_ones:
        context.__exit__(None, None, None)


Places = Callable[[str], tuple[Any, Running]]


def image_of(run: Any, number: int = 1) -> Path:
    return sorted((run.data / "images").iterdir())[number]


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gray", "volume", "recording", "colour", "continuous"])
def test_a_label_is_what_predict_gives(kind: str, places: Places, tmp_path: Path) -> None:
    run, one = places(kind)
    source = image_of(run)
    predictor = labelmend.load(run.run, device="cpu")
    raster = labelmend.files.readers.read_as(source, predictor.spec)
    expected = predictor.predict(raster.array, spacing=raster.spacing)
    if predictor.spec.task == "segmentation":
        expected = np.asarray(predictor.spec.values)[expected]
    client = Client(one.url)
    found = client.predict(source)
    assert np.array_equal(np.squeeze(found.label), np.squeeze(expected))
    assert found.spacing == raster.spacing and found.conclusions is None
    if predictor.spec.task == "segmentation":
        told = client.predict(str(source), conclusions=True, smallest=2)
        assert np.array_equal(told.label, found.label)
        assert (told.label.dtype, told.spacing) == (found.label.dtype, found.spacing)
        assert told.conclusions is not None
        assert min(row[_measure(predictor.spec.dims)] for row in told.conclusions["objects"]) >= 2


def _measure(dims: int) -> str:
    return {1: "length", 2: "area", 3: "volume"}[dims]


@pytest.mark.parametrize("kind", ["gray", "colour"])
def test_arrays_are_sent_with_their_values(kind: str, places: Places) -> None:
    run, one = places(kind)
    source = image_of(run)
    image = np.asarray(Image.open(source))
    client = Client(one.url)
    expected = client.predict(source).label
    first = image if image.ndim == 2 else np.moveaxis(image, -1, 0)
    assert np.array_equal(client.predict(first).label, expected)
    if kind == "gray":
        assert np.array_equal(client.predict(image[None]).label, expected)
        assert not np.array_equal(client.predict(image, flips=True).label, expected)


def test_many_threads_share_a_client(places: Places) -> None:
    run, one = places("gray")
    client = Client(one.url)
    sources = sorted((run.data / "images").iterdir())
    expected = [client.predict(source).label for source in sources]
    found: list[Any] = [None] * 40
    threads = [
        threading.Thread(
            target=lambda n=n: found.__setitem__(n, client.predict(sources[n % len(sources)]).label)
        )
        for n in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[n], expected[n % len(sources)]) for n in range(40))


def test_the_description_of_the_data_comes_through(places: Places) -> None:
    for kind in ("gray", "signal", "continuous"):
        run, one = places(kind)
        assert Client(one.url).spec == labelmend.load(run.run, device="cpu").spec


# --- files and folders ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gray", "volume", "recording", "signal", "continuous"])
def test_folders_become_the_files_of_predict(kind: str, places: Places, tmp_path: Path) -> None:
    run, one = places(kind)
    inputs, wants = [run.data / "images"], kind != "continuous"
    rules = None
    if wants:
        rules = tmp_path / "rules.csv"
        name = labelmend.load(run.run, device="cpu").spec.classes[1]
        rules.write_text(f'name,where,verdict\nany,"""{name}"".count > 0",look\n')
    here = tmp_path / "here"
    beside = Beside(
        here / "conclusions" if wants else None, smallest=2 if wants else 1, rules=rules
    )
    outcome = predict_all(
        labelmend.load(run.run, device="cpu"), inputs, here, Way(beside=beside, batch=1)
    )
    there = tmp_path / "there"
    wish = Wish(False, there / "conclusions" if wants else None, 2 if wants else 1, rules)
    got = predict_files(Client(one.url), inputs, there, wish)
    assert not got.failed and not outcome.failed and len(got.written) == 8
    for path in outcome.written:
        assert (there / path.relative_to(here)).read_bytes() == path.read_bytes()
    for name in ("objects.csv", "files.csv") if wants else ():
        texts = [(folder / "conclusions" / name).read_text() for folder in (here, there)]
        assert texts[0] == texts[1]
    assert [each.flags for each in got.conclusions] == [e.flags for e in outcome.conclusions]


@pytest.mark.parametrize("conclusions", [False, True])
def test_what_lies_unlike_all_training_images_is_said_as_by_predict(
    conclusions: bool, places: Places, tmp_path: Path
) -> None:
    run, one = places("volume")
    inputs = tmp_path / "in"
    inputs.mkdir()
    shapes = {
        "as usual": (1, 1),
        "turned": (-1, 1),
        "both": (-1, 9),
        "large": (1, 9),
        "too": (1, 9),
    }
    for number, (name, (side, times)) in enumerate(shapes.items()):
        image = nibabel.load(image_of(run, number))
        affine = np.diag([side * times, times, times, 1.0]) @ image.affine
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), inputs / f"{name}.nii")
    outcome = predict_all(labelmend.load(run.run, device="cpu"), [inputs], tmp_path / "here", Way())
    wish = Wish(conclusions=tmp_path / "conclusions" if conclusions else None)
    got = predict_files(Client(one.url), [inputs], tmp_path / "there", wish)
    assert not got.failed and sorted(got.warnings) == sorted(outcome.warnings)
    turned, apart = sorted(got.warnings)
    assert turned.startswith("2 files (first: ") and apart.startswith("3 files (first: ")


def test_a_file_that_cannot_be_read_stops_no_other(places: Places, tmp_path: Path) -> None:
    run, one = places("gray")
    folder = tmp_path / "in" / "below"
    folder.mkdir(parents=True)
    (folder / "good.png").write_bytes(image_of(run).read_bytes())
    (folder / "bad.png").write_bytes(image_of(run).read_bytes()[:60])
    (folder / "empty.png").write_bytes(b"")
    got = predict_files(Client(one.url), [tmp_path / "in"], tmp_path / "out")
    assert got.written == [tmp_path / "out/below/good.png"]
    assert [text.split(":")[0] for text in got.failed] == [
        str(folder / "bad.png"),
        str(folder / "empty.png"),
    ]
    assert "is damaged or cut short" in got.failed[0] and "is empty" in got.failed[1]
    with pytest.raises(DataError, match="would replace"):
        predict_files(Client(one.url), [folder / "good.png"], folder)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8766", "ftp://a", "http://", "http://a/b", "http://a?x=1", "http://a:x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="no address"):
        Client(url)


def test_an_address_may_hold_the_token() -> None:
    client = Client(f"http://localhost:8766/#token={TOKEN}")
    assert (client.url, client.token) == ("http://localhost:8766", TOKEN)
    assert Client("https://a.example/", "t").token == "t"


def test_the_token_is_brought(trained: Trained) -> None:
    run = trained("gray")
    with running(labelmend.load(run.run, device="cpu"), token=TOKEN, real=True) as one:
        assert Client(f"{one.url}/#token={TOKEN}").predict(image_of(run)).label.ndim == 2
        for wrong in (None, "x" * 20):
            with pytest.raises(SettingsError, match="token"):
                Client(one.url, wrong).predict(image_of(run))


def test_nobody_there() -> None:
    with pytest.raises(RunError, match="no answer .*start labelmend serve"):
        Client("http://127.0.0.1:9").predict(np.zeros((3, 3)))


def test_one_sentence_names_the_file(places: Places, tmp_path: Path) -> None:
    _, one = places("gray")
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"^x\.png: is cut short"):
        Client(one.url).predict(path)
    with pytest.raises(DataError, match=r"none\.png.* does not exist"):
        Client(one.url).predict(tmp_path / "none.png")


# --- a server that says what it is told to --------------------------------------------------------


@contextmanager
def saying(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """An address that gives these answers, one after the other, and the paths it was asked."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the library's names

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


BUSY = (429, {"Retry-After": "7"}, b'{"detail": "5 requests are waiting already"}')


def test_a_busy_server_is_asked_again_when_it_says_so() -> None:
    waited: list[float] = []
    nonsense = (429, {"Retry-After": "soon"}, b"{}")
    with saying(BUSY, nonsense, (200, {}, b"label")) as (url, asked):
        client = Client(url, _pause=waited.append)
        assert client.send(b"abc", "a.png")[0] == b"label"
    assert waited == [7.0, 1.0]
    assert asked == ["/v1/predict?name=a.png"] * 3


def test_patience_ends() -> None:
    with saying(BUSY, BUSY) as (url, _), pytest.raises(RunError, match="5 requests are waiting"):
        Client(url, patience=5, _pause=lambda _: None).send(b"abc", "a.png")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((500, {}, b'{"detail": "the prediction failed"}'), DataError, "a.png: the prediction"),
        ((503, {}, b'{"detail": "ending"}'), RunError, "ending"),
        ((404, {}, b"<html>"), DataError, "status 404; is that labelmend serve"),
        ((302, {"Location": "http://127.0.0.1:9/"}, b""), RunError, "status 302"),
        ((200, {"Content-Length": "99"}, b"short"), RunError, "no answer"),
    ],
)
def test_every_other_answer_is_an_error(answer: Any, kind: type, words: str) -> None:
    with saying(answer) as (url, _), pytest.raises(kind, match=words):
        Client(url).send(b"abc", "a.png")


def test_another_server_is_not_believed() -> None:
    for body in (b"<html>", b"[]", b"{}"):
        with saying((200, {}, body)) as (url, _), pytest.raises(RunError, match="no answer of"):
            _ = Client(url).model


# --- around ---------------------------------------------------------------------------------------


def test_the_client_needs_no_torch() -> None:
    code = "import sys, labelmend.client; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_ten_lines_of_the_page_run(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, one = places("gray")
    text = HOW_TO.read_text(encoding="utf-8")
    code = text.split("## Ten lines of Python")[1].split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.png").write_bytes(image_of(run).read_bytes())
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:8766", one.url), names)
    written = json.loads(json.dumps(names["answer"].conclusions))
    assert written["objects"] and names["answer"].label.shape == (20, 24)
