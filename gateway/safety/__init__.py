"""Claude Code's auto mode on targets that have no safety check of their own (README.md here)."""

from gateway.safety.check import Judge, SafetyCheck, asks_for_check, check_for
from gateway.safety.judge import judge_for
from gateway.safety.verdicts import VerdictCache

__all__ = ["Judge", "SafetyCheck", "VerdictCache", "asks_for_check", "check_for", "judge_for"]
