"""Checks of what must always hold in the ledger. They report and never repair (credits/README.md)."""

from credits.reconcile.findings import CHECKS, Finding, Outcome, Severity, check
from credits.reconcile.run import reconcile, run_checks

__all__ = ["CHECKS", "Finding", "Outcome", "Severity", "check", "reconcile", "run_checks"]
