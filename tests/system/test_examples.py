"""Every example runs as it stands."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("[0-9]*.py"))


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
