"""What ``subrosa doctor`` has found: for people, for programs, and for Prometheus. A finding never holds a secret, nor a URL."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Check(StrEnum):
    """What is looked at."""

    OPTIONS = "options"
    VERSIONS = "versions"
    MIGRATIONS = "migrations"
    CERTIFICATE = "certificate"
    CLOCK = "clock"
    PUBLIC_URL = "public_url"
    OPEN_FILES = "open_files"
    DISK = "disk"
    DATABASE = "database"
    CONNECTIONS = "connections"
    REDIS = "redis"
    NODES = "nodes"
    SETTINGS = "settings"
    ASSISTANTS = "assistants"
    BACKUPS = "backups"
    SECRET_FILES = "secret_files"  # noqa: S105 - no secret
    GENERATION_FILE = "generation_file"
    AUDIT_LOG = "audit_log"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is so, and, unless it is ``OK``, how to mend it: a sentence each."""

    check: Check
    level: Level
    said: str
    mend: str = ""


def ok(check: Check, said: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, said)


def warning(check: Check, said: str, mend: str) -> Finding:
    """It works, and should be better."""
    return Finding(check, Level.WARNING, said, mend)


def problem(check: Check, said: str, mend: str) -> Finding:
    """It does not work, or a promise does not hold."""
    return Finding(check, Level.PROBLEM, said, mend)


_PROBLEM_METRIC: Final = "subrosa_doctor_problem"
_WARNING_METRIC: Final = "subrosa_doctor_warning"
_TIME_METRIC: Final = "subrosa_doctor_ran_at_seconds"
DOCTOR_METRICS: Final = frozenset({_PROBLEM_METRIC, _WARNING_METRIC, _TIME_METRIC})


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if there is a problem."""
    return int(any(finding.level is Level.PROBLEM for finding in findings))


def as_text(findings: Sequence[Finding]) -> str:
    """Lines for people, what is worst first."""
    order = [Level.PROBLEM, Level.WARNING, Level.OK]
    lines = []
    for finding in sorted(findings, key=lambda finding: order.index(finding.level)):
        lines.append(f"{finding.level.upper():<8} {finding.check}: {finding.said}")
        if finding.mend:
            lines.append(f"{'':<8} -> {finding.mend}")
    counts = {level: sum(finding.level is level for finding in findings) for level in order}
    lines.append(f"{counts[Level.PROBLEM]} problems, {counts[Level.WARNING]} warnings, {counts[Level.OK]} in order")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """One object: ``healthy``, and the findings."""
    found = [
        {
            "check": each.check.value,
            "level": each.level.value,
            "said": each.said,
            **({"mend": each.mend} if each.mend else {}),
        }
        for each in findings
    ]
    return json.dumps({"healthy": exit_code(findings) == 0, "findings": found})


def as_metrics(findings: Sequence[Finding], now: float) -> bytes:
    """Lines for node_exporter's textfile collector: of each check whether there is a problem, or a warning."""
    registry = CollectorRegistry(auto_describe=False)
    problems = Gauge(_PROBLEM_METRIC, "Whether subrosa doctor has found a problem", ["check"], registry=registry)
    warnings = Gauge(_WARNING_METRIC, "Whether it has found something to improve", ["check"], registry=registry)
    for check in Check:
        levels = {finding.level for finding in findings if finding.check is check}
        problems.labels(check.value).set(Level.PROBLEM in levels)
        warnings.labels(check.value).set(Level.WARNING in levels)
    Gauge(_TIME_METRIC, "When subrosa doctor looked, in seconds since 1970", registry=registry).set(now)
    return generate_latest(registry)
