"""Results show themselves in a notebook as on the command line."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from IPython.lib.pretty import pretty

from labelmend.audit import Audit
from labelmend.exchange.giving import Given
from labelmend.exchange.taking import Taken
from labelmend.inference.evaluate import Evaluation
from labelmend.inference.export.exporting import Exported
from labelmend.inference.fixed import Fixing
from labelmend.inference.propose import Proposed
from labelmend.inference.temperature import Calibration
from labelmend.telling import Telling
from labelmend.types import DataSet, DataSpec, Sample
from labelmend.verdict import Verdict

KINDS = [Audit, Calibration, Evaluation, Exported, Fixing, Given, Proposed, Taken, Verdict]


@dataclass(frozen=True, slots=True)
class _Count(Telling):
    number: int

    def to_text(self) -> str:
        return f"{self.number} labels\nand so on"


def test_a_cell_that_ends_with_a_result_shows_its_text() -> None:
    assert pretty(_Count(3)) == str(_Count(3)) == "3 labels\nand so on"
    assert "number=3" in repr(_Count(3)) and "\n" not in repr([_Count(3)])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_result_that_the_command_line_prints_is_such_a_one(kind: type) -> None:
    shown = vars(kind)["_repr_pretty_"]  # of its own: IPython does not look further up
    assert issubclass(kind, Telling) and shown is vars(Telling)["_repr_pretty_"]
    assert "to_text" in vars(kind)


def test_results_with_a_row_per_label_are_a_line_in_a_list() -> None:
    rows = tuple({"all": {"dice": 0.5}} for _ in range(100))
    samples = tuple(Sample(f"i{n}", f"l{n}", "strong", "test", "") for n in range(100))
    found = Evaluation("test", 390, samples, rows, {"dice": 0.5}, {"all": {"dice": 0.5}})
    assert repr(found) == "Evaluation('test', step=390, labels=100, dice=0.500)"
    assert repr(Audit("RUN", 390, "main", ())) == "Audit('RUN', step=390, labels=0)"
    spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 2, 1, "none", ".png")
    assert repr(DataSet("D", spec, samples)) == "DataSet('D', samples=100, 2-D segmentation)"
