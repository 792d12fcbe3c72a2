"""How values are shown: what kind of thing each is, by its name and its type, and with which tone.

Results are JSON by here. A name tells more than a type: ``at`` and what ends with it are times in milliseconds since 1970.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_TIME = re.compile(r"^at$|At$|_at$|^(since|until|expires|seen|time)$")
_SIZE = re.compile(r"(^|[a-z_])[bB]ytes$")
_DURATION = re.compile(r"[sS]econds$|^age$|[a-z]Age$|^uptime$")
_MILLISECONDS = re.compile(r"Ms$|_ms$|[mM]illiseconds$")
_NUMBERED = re.compile(r"^id$|Id$|^sequence$|^version$|Version$|^registrationId$")
_STATES: Final = frozenset(
    {
        "state",
        "status",
        "outcome",
        "verdict",
        "role",
        "kind",
        "level",
        "health",
        "severity",
        "platform",
        "result",
        "phase",
    }
)
_NAMED: Final = frozenset({"what"})  # members whose values are called as members are
_PLAIN_NAME = re.compile(r"^[a-z][A-Za-z_]*$")
_UUID_LETTERS = 36
_ESTIMATE: Final = frozenset({"count", "estimated"})
_CODE = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$|^[0-9a-f]{32,}$")
_CHIP = 40  # characters from which an item is a sentence
_PROSE = 90  # characters from which a text is a paragraph
_CURSORS: Final = frozenset({"before", "after", "afterReporters", "next"})
_FIRST_TIME = 946_684_800_000  # 2000: what is less is no time in milliseconds

_GOOD = frozenset(
    [
        "ok",
        "good",
        "ready",
        "active",
        "done",
        "approved",
        "current",
        "healthy",
        "accepted",
        "up",
        "connected",
        "valid",
        "in_use",
        "proved",
        "online",
    ]
)
_WARN = frozenset(
    [
        "warning",
        "draining",
        "suspended",
        "pending",
        "waiting",
        "proposed",
        "stale",
        "simulated",
        "drained",
        "parked",
        "dry_run",
        "staged",
        "unknown",
        "paused",
        "tried",
        "late",
        "unread",
        "not_appraised",
        "weakened",
    ]
)
_BAD = frozenset(
    [
        "bad",
        "broken",
        "failed",
        "refused",
        "rejected",
        "expired",
        "revoked",
        "error",
        "down",
        "disabled",
        "gone",
        "invalid",
        "used_up",
        "critical",
    ]
)


def kind_of(name: str, value: object) -> str:
    """The kind of a value; the templates have a way to show each."""
    match value:
        case None | "":
            return "nothing"
        case bool():
            return "yes_no"
        case int() | float():
            return _kind_of_number(name, value)
        case str():
            return _kind_of_text(name, value)
        case []:
            return "empty"
        case [*items] if all(isinstance(item, dict) for item in items):
            return "table"
        case list():
            return "sentences" if any(len(str(item)) > _CHIP for item in value) else "chips"
        case dict():
            if value.keys() == _ESTIMATE:
                return "estimate"
            return "facts" if value else "nothing"
    return "text"


def _kind_of_number(name: str, value: float) -> str:
    if _NUMBERED.search(name):
        return "code"
    if _TIME.search(name) and value >= _FIRST_TIME:
        return "time"
    if _SIZE.search(name):
        return "size"
    if _MILLISECONDS.search(name):
        return "milliseconds"
    return "seconds" if _DURATION.search(name) else "number"


def _kind_of_text(name: str, value: str) -> str:
    if name in _STATES:
        return "pill"
    if name in _NAMED and _PLAIN_NAME.match(value):
        return "named"
    if _CODE.match(value):
        return "code"
    return "prose" if len(value) > _PROSE or "\n" in value else "text"


def tone_of(value: str) -> str:
    """The tone of a state, which its words say too."""
    word = value.lower().replace(" ", "_").replace("-", "_")
    for tone, words in (("good", _GOOD), ("warn", _WARN), ("bad", _BAD)):
        if word in words:
            return tone
    return "plain"


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of a table: all members that any row has, in the order in which they come; those that are empty everywhere left out."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if names[:1] == ["id"] and len(str(rows[0].get("id", ""))) == _UUID_LETTERS:
        names = [*names[1:], "id"]  # long, and no name to people
    return [name for name in names if any(kind_of(name, row.get(name)) not in {"nothing", "empty"} for row in rows)]


def plain_members(result: Mapping[str, Any]) -> dict[str, Any]:
    """The members that are shown as a list of facts: no tables, and nothing that says where a list goes on."""
    untold = _CURSORS | ({"at"} if tables_of(result) else set())  # of a list, when it was made: now
    return {name: value for name, value in result.items() if not _is_table(value) and name not in untold}


def tables_of(result: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The members that are tables, empty ones included."""
    return {name: value for name, value in result.items() if _is_table(value)}


def _is_table(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
