"""The report: one self-contained HTML page of a run, with pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelmend.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    """What is asked for, imported then: the page of conclusions needs no torch, a run's does."""
    if name != "write_report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from labelmend.report.page import write_report as found

    return found
