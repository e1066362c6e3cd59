"""The report: one self-contained HTML page of a run, with pictures."""

from labelmend.report.page import write_report

__all__ = ["write_report"]
