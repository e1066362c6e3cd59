"""What people may import from labelmend: recorded, documented, few, and loaded only when used.

A name that is added or removed is a decision: change ``public_surface.txt`` and the changelog.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import labelmend

RECORD = Path(__file__).with_name("public_surface.txt")
RECORDED = RECORD.read_text(encoding="utf-8").split()
MOST = 25


def test_the_surface_is_the_recorded_one() -> None:
    assert list(labelmend.__all__) == RECORDED
    assert sorted(RECORDED) == RECORDED


def test_the_surface_is_small() -> None:
    assert 0 < len(labelmend.__all__) <= MOST
    assert len(set(labelmend.__all__)) == len(labelmend.__all__)


@pytest.mark.parametrize("name", RECORDED)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    thing = getattr(labelmend, name)
    assert name in dir(labelmend)
    if inspect.isclass(thing) or callable(thing):
        # An inherited text would describe the parent.
        assert vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
        assert thing.__module__.startswith("labelmend.")


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(labelmend, "no_such_name")  # noqa: B009 (mypy knows that it is missing)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, labelmend; dir(labelmend); "
        "sys.exit(','.join(sorted({'torch', 'monai', 'lightning_fabric', 'numpy', 'PIL'}"
        " & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert not done.stderr.strip(), f"importing labelmend loads {done.stderr.strip()}"
    assert done.returncode == 0


def test_a_star_import_gives_the_surface_and_no_more() -> None:
    names: dict[str, object] = {}
    exec("from labelmend import *", names)
    assert sorted(set(names) - {"__builtins__"}) == RECORDED
