"""`labelmend propose` from end to end: labels by brightness and by a run, said in words."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import cyclopts
import pytest

from labelmend.cli.failures import answer
from labelmend.cli.labels import propose

from .. import made_data
from ..command import Outcome, command

Trained = Callable[[str], Any]


def proposed(*arguments: object) -> Outcome:
    """``propose ARGUMENTS`` in this process."""
    app = cyclopts.App(name="labelmend", help_format="plaintext")
    app.command(propose)
    out, err = io.StringIO(), io.StringIO()
    words = ["propose", *(str(argument) for argument in arguments)]
    with redirect_stdout(out), redirect_stderr(err):
        status = answer(
            lambda: app(words, exit_on_error=False, print_error=False, result_action="return_value")
        )
    return Outcome(status, out.getvalue(), err.getvalue())


def without_labels(root: Path) -> Path:
    shutil.rmtree(root / "labels")
    (root / "manifest.csv").unlink(missing_ok=True)
    return root


@pytest.mark.parametrize("by", ["otsu", "li", "yen", "triangle", "watershed", "120"])
def test_from_images_alone_to_a_set_to_train_on(tmp_path: Path, by: str) -> None:
    root = without_labels(made_data.gray(tmp_path / "d"))
    done = proposed(root, "--by", by)
    assert (done.status, done.err) == (0, "")
    name = "threshold-120" if by == "120" else by
    assert f"8 weak labels written to {root / 'labels/weak' / name}" in done.out
    assert "the object is the brighter part:" in done.out
    assert command("check", root).status == 0


def test_a_run_proposes_for_the_images_that_nobody_labelled(
    tmp_path: Path, trained: Trained
) -> None:
    root = made_data.gray(tmp_path / "d")
    for path in (root / "labels").rglob("s6.png"):
        path.unlink()
    done = proposed(root, "--by", trained("gray").run, "--name", "first", "--device", "cpu")
    assert done.status == 0, done.err
    assert "1 weak label written" in done.out
    assert (root / "labels/weak/first/s6.png").is_file()
    assert command("check", root).status == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--by", "otzu"], 1, "unknown method 'otzu'; did you mean 'otsu'? A number"),
        (["--by", "nan"], 1, "a threshold is a finite number"),
        (["--by", "otsu", "--brighter", "--darker"], 1, "contradict each other"),
        (["--by", "otsu", "--class", "x"], 1, "unknown class 'x'; did you mean"),
        (["--by", "otsu", "--channel", "1"], 1, "there is no channel 1: the image has 1"),
        (["--by", "otsu"], 1, "every image of"),
        (["--by", "otsu", "--all", "--name", "ann"], 1, "nothing in it is ever replaced"),
        ([], 2, "--by"),
        (["--by", "{here}"], 1, "no run"),
        (["--by", "{here}", "--darker"], 1, "--darker goes with thresholds"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, words: list[str], status: int, said: str
) -> None:
    root = made_data.gray(tmp_path / "d")
    asked = [word.format(here=tmp_path) for word in words]
    if "--class" in asked or "--channel" in asked:
        asked.append("--all")
    done = proposed(root, *asked)
    assert done.status == status
    assert said in done.err
    assert done.err.count("\n") == 1
    assert sorted(p.name for p in (root / "labels/weak").iterdir()) == ["ann", "bob"]


def test_quiet_says_nothing(tmp_path: Path) -> None:
    root = without_labels(made_data.gray(tmp_path / "d"))
    assert proposed(root, "--by", "otsu", "--darker", "--quiet") == (0, "", "")


def test_the_prompt_needs_no_torch() -> None:
    code = "import sys, labelmend.cli.labels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
