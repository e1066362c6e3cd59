"""The page of the prediction computer in a real browser: a file goes in, its label is seen."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

import nibabel
import numpy as np
import pytest
from PIL import Image

from labelmend.client import Client

from .conftest import PATIENCE, QUIET, Watched, free_port

SCRIPT = Path(__file__).with_name("made_serve.py")
KINDS = ("cells", "volume", "recording", "heights")


class Served:
    """The servers of every kind of data, in one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {kind: free_port() for kind in KINDS}
        wanted = [f"{kind}:{port}" for kind, port in self.ports.items()]
        self._said = (folder / "said.txt").open("wb")
        command = [sys.executable, str(SCRIPT), str(folder), *wanted]
        self.running = subprocess.Popen(command, stdout=self._said, stderr=self._said)

    def address(self, kind: str) -> str:
        """Where a kind is served, once it answers."""
        address, end = f"http://127.0.0.1:{self.ports[kind]}", time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{address}/ready", timeout=5).close()
            except (URLError, OSError):
                assert self.running.poll() is None, (self.folder / "said.txt").read_text()
                time.sleep(0.05)
            else:
                return address
        raise AssertionError(f"no answer: {(self.folder / 'said.txt').read_text()}")

    def images(self, kind: str) -> list[Path]:
        """The files of a kind."""
        return sorted((self.folder / kind / "data" / "images").iterdir())

    def kill(self) -> None:
        """End it."""
        self.running.kill()
        self.running.wait()
        self._said.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("served"))
    yield one
    one.kill()


@pytest.fixture
def visit(served: Served, person: Watched) -> Callable[[str], object]:
    """Opens the page of a kind of data; whatever the browser complains of is a failure."""

    def visited(kind: str) -> object:
        page = person.context.new_page()
        page.set_default_timeout(20_000)

        def hear(message: object) -> None:
            if message.type in ("error", "warning") and not message.text.startswith(QUIET):
                person.problems.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: person.problems.append(str(error)))
        address = served.address(kind)
        person.hosts.add(address.partition("://")[2])
        page.on("request", lambda request: person._see(request.url))
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        return page

    return visited


Visit = Callable[[str], object]


def choose(page: object, *files: Path) -> None:
    """Choose files and wait for the answers to all."""
    before = page.locator(".file").count()
    page.set_input_files("#files", [str(path) for path in files])
    page.wait_for_function(
        "(n) => { const all = [...document.querySelectorAll('.file')];"
        " return all.length === n && all.every((one) => /done|failed/.test(one.dataset.state)); }",
        arg=before + len(files),
    )


def classes_shown(page: object) -> np.ndarray:
    """The colours of the canvas with the label, ``(rows, columns, 4)``."""
    page.wait_for_selector(".stage[data-shown]")
    width, height, flat = page.evaluate(
        "() => { const c = document.querySelector('canvas.label');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " return [c.width, c.height, [...d]]; }"
    )
    return np.array(flat, np.uint8).reshape(height, width, 4)


def expected(page: object, address: str, label: np.ndarray) -> np.ndarray:
    """The colours that the server names for the classes of a label; nothing for the background."""
    told = json.loads(urllib.request.urlopen(f"{address}/v1/model", timeout=20).read())["classes"]
    colours = np.zeros((256, 4), np.uint8)
    for one in told[1:]:
        red, green, blue = bytes.fromhex(one["colour"][1:])
        colours[one["value"]] = red, green, blue, 255
    return colours[label]


def test_a_chosen_image_is_seen_with_its_label_and_figures(served: Served, visit: Visit) -> None:
    page, image = visit("cells"), served.images("cells")[1]
    choose(page, image)
    address = served.address("cells")
    answer = Client(address).predict(image, conclusions=True)
    assert np.array_equal(classes_shown(page), expected(page, address, answer.label))
    rows = page.locator("#objects tbody tr")
    assert rows.count() == len(answer.conclusions["objects"]) > 1
    counts = page.locator("#classes tbody tr td:nth-child(2)").all_inner_texts()
    assert [int(text) for text in counts] == [
        answer.conclusions["classes"][name]["count"] for name in ("nucleus", "membrane")
    ]
    assert page.inner_text("#legend").split() == ["nucleus", "membrane"]
    assert page.inner_text("#list .file small") == f"{rows.count()} objects"


def test_pointing_says_the_class_and_a_row_shows_its_object(served: Served, visit: Visit) -> None:
    page, image = visit("cells"), served.images("cells")[2]
    choose(page, image)
    label = Client(served.address("cells")).predict(image).label
    page.wait_for_selector(".stage[data-shown]")
    box = page.locator("canvas.label").bounding_box()
    for value, name in ((1, "nucleus"), (2, "membrane"), (0, "background")):
        row, column = np.argwhere(label == value)[0]
        x = box["x"] + (column + 0.5) * box["width"] / label.shape[1]
        y = box["y"] + (row + 0.5) * box["height"] / label.shape[0]
        page.mouse.move(x, y)
        assert page.inner_text(".readout") == f"row {row}, column {column}: {name}"
    marked = (
        "() => document.querySelector('canvas.marks').getContext('2d')"
        ".getImageData(0, 0, 999, 999).data.some((v) => v)"
    )
    assert not page.evaluate(marked)
    page.click("#objects tbody tr:nth-child(2)")
    assert page.evaluate(marked)
    assert page.locator("#objects tr.chosen").count() == 1


def test_a_file_may_be_dropped_anywhere(served: Served, visit: Visit) -> None:
    page, image = visit("cells"), served.images("cells")[0]
    page.evaluate(
        """([name, bytes]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(bytes)], name));
          for (const kind of ["dragover", "drop"]) {
            document.querySelector("header").dispatchEvent(
              new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
          } }""",
        [image.name, list(image.read_bytes())],
    )
    page.wait_for_selector('.file[data-state="done"]')
    assert classes_shown(page)[..., 3].any()
    assert not page.locator("body.over").count()


def test_a_bad_file_gets_a_sentence_and_the_others_their_labels(
    served: Served, visit: Visit, tmp_path: Path
) -> None:
    page = visit("cells")
    cut, large = tmp_path / "cut.png", tmp_path / "large.png"
    cut.write_bytes(served.images("cells")[0].read_bytes()[:200])
    large.write_bytes(b"x" * (2 * 2**20 + 1))
    words = tmp_path / "words.txt"
    words.write_text("<b>no image</b>")
    choose(page, cut, words, large, served.images("cells")[0])
    states = page.locator(".file").evaluate_all("(all) => all.map((one) => one.dataset.state)")
    assert states == ["failed", "failed", "failed", "done"]
    for number, said in ((0, "cut.png: is damaged or cut short"), (1, ".txt"), (2, "2 MiB")):
        page.locator(".file").nth(number).click()
        shown = page.inner_text("#shown [role=alert]")
        assert said in shown and "\n" not in shown, shown
    page.locator(".file").nth(3).click()
    page.wait_for_selector(".stage[data-shown]")
    assert not page.locator("[role=alert]").count()


def test_a_file_that_is_gone_is_not_blamed_on_the_server(
    served: Served, visit: Visit, tmp_path: Path
) -> None:
    """A folder that was dropped reads like it: its content cannot be had."""
    page = visit("cells")
    gone = tmp_path / "gone.png"
    gone.write_bytes(served.images("cells")[0].read_bytes())
    page.on("request", lambda request: gone.unlink(missing_ok=True))  # while the first is sent
    choose(page, served.images("cells")[0], gone)
    page.locator(".file").nth(1).click()
    assert page.locator(".file").nth(0).get_attribute("data-state") == "done"
    assert "cannot be read" in page.inner_text("#shown [role=alert]")


def test_slices_of_a_volume(served: Served, visit: Visit) -> None:
    page, image = visit("volume"), served.images("volume")[0]
    choose(page, image)
    address = served.address("volume")
    label = Client(address).predict(image).label
    assert np.array_equal(classes_shown(page), expected(page, address, label[6]))
    assert page.inner_text(".stage + .readout").strip() == ""
    page.focus("#slice")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector('.stage[data-shown="0 5"]')
    assert np.array_equal(classes_shown(page), expected(page, address, label[5]))
    assert page.inner_text("output") == "6 of 12"
    page.select_option("#axis", "2")
    page.wait_for_selector('.stage[data-shown="2 24"]')
    assert np.array_equal(classes_shown(page), expected(page, address, label[:, :, 24]))
    box = page.locator("canvas.label").bounding_box()
    assert abs(box["height"] / box["width"] - 12 * 3 / 40) < 0.02  # slices are 3 mm apart


def test_a_volume_that_lies_otherwise_than_all_before_is_shown_with_a_warning(
    served: Served, visit: Visit, tmp_path: Path
) -> None:
    known = nibabel.load(served.images("volume")[0])
    mirrored = nibabel.Nifti1Image(
        np.asarray(known.dataobj), np.diag([-1.0, 1, 1, 1]) @ known.affine
    )
    nibabel.save(mirrored, tmp_path / "mirrored.nii.gz")
    page = visit("volume")
    choose(page, tmp_path / "mirrored.nii.gz")
    told = page.locator(".warning")
    told.wait_for()
    assert "mirrored.nii.gz lies in orientation" in told.inner_text()
    choose(page, served.images("volume")[0])
    page.wait_for_function("!document.querySelector('.warning')")
    answer = Client(served.address("volume")).predict(tmp_path / "mirrored.nii.gz")
    assert len(answer.warnings) == 1
    assert not Client(served.address("volume")).predict(served.images("volume")[0]).warnings


def test_a_recording_is_a_wave_with_its_events(served: Served, visit: Visit) -> None:
    page, image = visit("recording"), served.images("recording")[0]
    choose(page, image)
    page.wait_for_selector('.stage[data-shown="wave"]')
    found = Client(served.address("recording")).predict(image, conclusions=True)
    rows = found.conclusions["objects"]
    assert page.locator("#objects tbody tr").count() == min(500, len(rows))
    box = page.locator("canvas.wave").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    said = page.inner_text(".readout")
    time_said, name = said.split(" s: ")
    assert abs(float(time_said) - 1) < 0.005  # the middle of two seconds
    positions = {"silence": 0, "low": 1, "high": 2}
    at = round(float(time_said) * 2000)
    assert positions[name] in found.label[at - 3 : at + 4]
    drawn = (
        "() => new Set(document.querySelector('canvas.wave').getContext('2d')"
        ".getImageData(0, 0, 400, 240).data).size"
    )
    assert page.evaluate(drawn) > 5


def test_numbers_are_shown_without_figures(served: Served, visit: Visit) -> None:
    page = visit("heights")
    choose(page, served.images("heights")[0])
    assert (classes_shown(page)[..., 3] == 255).all()
    assert page.inner_text(".file small") == "done"
    assert not page.locator("#objects").count()


def test_the_label_is_saved_as_the_server_gave_it(
    served: Served, visit: Visit, tmp_path: Path
) -> None:
    page, image = visit("cells"), served.images("cells")[0]
    choose(page, image)
    page.wait_for_selector(".stage[data-shown]")
    kept = {}
    for name in ("Label", "Picture", "Objects (CSV)", "Conclusions (JSON)"):
        with page.expect_download() as download:
            page.click(f'button:text-is("{name}")')
        kept[name] = Path(tmp_path / download.value.suggested_filename)
        download.value.save_as(kept[name])
    content = Client(served.address("cells")).send(image.read_bytes(), image.name)[0]
    assert kept["Label"].read_bytes() == content
    assert Image.open(kept["Picture"]).size == Image.open(image).size
    told = json.loads(kept["Conclusions (JSON)"].read_text())
    assert kept["Objects (CSV)"].read_text().count("\n") == len(told["objects"]) + 1
    assert kept["Objects (CSV)"].name == "cell00-objects.csv"


def test_a_busy_server_is_asked_again(served: Served, visit: Visit) -> None:
    page, asked = visit("cells"), []

    def answer(route: object) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            body = '{"detail": "64 requests are waiting already"}'
            route.fulfill(status=429, headers={"Retry-After": "1"}, body=body)
        else:
            route.continue_()

    page.route("**/v1/predict?*", answer)
    page.set_input_files("#files", str(served.images("cells")[0]))
    page.wait_for_selector("text=the server is busy")
    page.wait_for_selector('.file[data-state="done"]')
    assert len(asked) == 2


class Forgetful:
    """A server that keeps nothing to be shown until a file is sent for the second time."""

    def __init__(self, page: object) -> None:
        self.page, self.sent, self.held = page, 0, []
        page.on("request", self._count)
        page.route("**/v1/looks/**", self._meet)

    def _count(self, request: object) -> None:
        self.sent += "/v1/predict?" in request.url

    def _meet(self, route: object) -> None:
        if self.sent:
            route.continue_()
        else:
            self.held.append(route)

    def answer(self) -> None:
        """Say that what was asked for meanwhile is not kept any more."""
        self.page.wait_for_timeout(100)
        assert self.held
        for route in self.held:
            route.fulfill(status=404, body='{"detail": "it is not kept any more"}')


@pytest.mark.parametrize("kind", ["cells", "recording"])
def test_what_the_server_has_forgotten_is_sent_again(
    kind: str, served: Served, visit: Visit, tmp_path: Path
) -> None:
    page, image = visit(kind), served.images(kind)[0]
    choose(page, image)
    page.wait_for_selector(".stage[data-shown]")
    before = page.locator(".stage").screenshot()
    server = Forgetful(page)
    page.click(".file")
    page.wait_for_function("() => !document.querySelector('.stage[data-shown]')")
    assert page.is_disabled('button:text-is("Picture")')  # there is nothing to save
    server.answer()
    page.wait_for_selector(".stage[data-shown]")
    assert server.sent == 1
    page.mouse.move(1, 1)
    assert page.locator(".stage").screenshot() == before
    with page.expect_download() as download:
        page.click('button:text-is("Picture")')
    download.value.save_as(tmp_path / "picture.png")
    assert len(np.unique(np.asarray(Image.open(tmp_path / "picture.png")))) > 5


def test_a_slice_that_the_server_has_forgotten_comes_after_all(
    served: Served, visit: Visit
) -> None:
    page = visit("volume")
    choose(page, served.images("volume")[0])
    page.wait_for_selector(".stage[data-shown]")
    server = Forgetful(page)
    page.focus("#slice")
    page.keyboard.press("ArrowLeft")
    server.answer()
    page.wait_for_selector('.stage[data-shown="0 5"]')
    assert (server.sent, page.inner_text("output")) == (1, "6 of 12")


def test_it_stays_within_a_narrow_window(served: Served, visit: Visit) -> None:
    page = visit("cells")
    page.set_viewport_size({"width": 390, "height": 760})
    choose(page, served.images("cells")[0])
    page.wait_for_selector(".stage[data-shown]")
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= 390
