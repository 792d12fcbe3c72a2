"""How values are shown."""

import pytest

from messaging.console.showing import columns_of, kind_of, plain_members, tables_of, tone_of
from messaging.console.words import label_of, short_name

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("createdAt", NOW, "time"),
        ("at", NOW, "time"),
        ("at", None, "nothing"),
        ("bytes", 5, "size"),
        ("walBytes", 5, "size"),
        ("refillSeconds", 0.5, "seconds"),
        ("id", 5, "code"),
        ("deviceId", 2, "code"),
        ("count", 5, "number"),
        ("suspended", False, "yes_no"),
        ("state", "ready", "pill"),
        ("aci", "51b48244-357e-4e29-a27e-0d7973494b43", "code"),
        ("name", "rose", "text"),
        ("notice", "x" * 100, "prose"),
        ("devices", [], "empty"),
        ("devices", [{"id": 1}], "table"),
        ("permissions", ["a", "b"], "chips"),
        ("load", {"waiting": 1}, "facts"),
        ("load", {}, "nothing"),
    ],
)
def test_the_kind_of_a_value_comes_from_its_name_and_type(name: str, value: object, kind: str) -> None:
    assert kind_of(name, value) == kind


def test_a_state_has_a_tone() -> None:
    assert [tone_of(state) for state in ("ready", "dry run", "refused", "member")] == ["good", "warn", "bad", "plain"]


def test_columns_that_are_empty_everywhere_are_left_out() -> None:
    assert columns_of([{"a": 1, "b": None}, {"a": 2, "b": None, "c": "x"}]) == ["a", "c"]


def test_a_result_is_facts_and_tables() -> None:
    result = {"before": 5, "notice": "x", "rows": [{"a": 1}], "none": []}
    assert plain_members(result) == {"notice": "x"}
    assert tables_of(result) == {"rows": [{"a": 1}], "none": []}


def test_names_are_said_as_people_say_them() -> None:
    said = {
        name: label_of(name) for name in ("usesLeft", "createdAt", "aci", "deviceId", "envelopes_stored", "walBytes")
    }
    assert said == {
        "usesLeft": "Uses left",
        "createdAt": "Created",
        "aci": "Account",
        "deviceId": "Device ID",
        "envelopes_stored": "Envelopes stored",
        "walBytes": "Wal",
    }
    assert short_name("accounts.suspend") == "Suspend"
