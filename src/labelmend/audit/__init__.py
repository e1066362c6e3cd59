"""Which labels to look at first, and why: every label of a run ranked by expected gain."""

from labelmend.audit.result import Audit, Part, Ranked
from labelmend.audit.run import run_audit
from labelmend.audit.store import is_current, read_audit

__all__ = ["Audit", "Part", "Ranked", "is_current", "read_audit", "run_audit"]
