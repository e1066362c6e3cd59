"""Every example runs as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("[0-9]*.py"))
NOTEBOOK = Path(__file__).parents[2] / "examples" / "05_in_a_notebook.ipynb"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_what_a_loop_must_be_given_is_ten_lines_at_most(example: Path) -> None:
    added = [line for line in example.read_text().splitlines() if line.endswith("  # +")]
    assert 1 <= len(added) <= 10


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4


def test_the_notebook_runs_from_top_to_bottom_and_shows_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=250, kernel_name="python3").execute()
    shown = {
        cell.id: [output.data for output in cell.outputs if "data" in output]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert re.search(r"max='(\d+)'></progress> \1 of \1, \d+:\d\d", shown["train"][0]["text/html"])
    assert shown["look"][0]["text/plain"].startswith("test: 40 strong labels, step ")
    assert shown["audit"][0]["text/plain"].startswith("167 labels: 120 weak, 47 strong; step ")
    assert all("image/png" in shown[name][0] for name in ("predict", "weights", "first"))


def test_the_notebook_is_kept_without_what_it_showed() -> None:
    code = [c for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)
