"""What was found: for people what is worst first, for programs all of it, for alerts a line for each check."""

import json

from prometheus_client.parser import text_string_to_metric_families

from messaging.relay.doctor_report import (
    DOCTOR_METRICS,
    Check,
    as_json,
    as_metrics,
    as_text,
    exit_code,
    ok,
    problem,
    warning,
)

FINE = ok(Check.DISK, "there is room")
POOR = warning(Check.CLOCK, "it is late", "Set it.")
BAD = problem(Check.BACKUPS, "there is none", "Make one.")


def test_only_a_problem_is_a_failure() -> None:
    assert [exit_code(findings) for findings in ([], [FINE, POOR], [FINE, BAD])] == [0, 0, 1]


def test_people_read_what_is_worst_first_and_how_to_mend_it() -> None:
    assert as_text([FINE, POOR, BAD]).splitlines() == [
        "PROBLEM  backups: there is none",
        "         -> Make one.",
        "WARNING  clock: it is late",
        "         -> Set it.",
        "OK       disk: there is room",
        "1 problems, 1 warnings, 1 in order",
    ]


def test_programs_read_one_object() -> None:
    assert json.loads(as_json([FINE, BAD])) == {
        "healthy": False,
        "findings": [
            {"check": "disk", "level": "ok", "said": "there is room"},
            {"check": "backups", "level": "problem", "said": "there is none", "mend": "Make one."},
        ],
    }
    assert json.loads(as_json([FINE]))["healthy"] is True


def test_alerts_read_each_check_and_no_sentence() -> None:
    text = as_metrics([FINE, POOR, BAD], 5.0).decode()
    found = {
        (sample.name, sample.labels.get("check")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found.pop(("subrosa_doctor_ran_at_seconds", None)) == 5.0
    assert {name for name, _ in found} | {"subrosa_doctor_ran_at_seconds"} == DOCTOR_METRICS
    assert {key for key, value in found.items() if value} == {
        ("subrosa_doctor_problem", "backups"),
        ("subrosa_doctor_warning", "clock"),
    }
    assert len(found) == 2 * len(Check)
    assert "there is none" not in text
