"""What an operator types, as parameters."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import pytest
from pydantic import Field

from messaging.console.forms import UNKNOWN, Kind, checked, clean_text, fields_of, read_parameters, required_names
from messaging.relay.admin.errors import InvalidInput
from messaging.wire.json import Entity

ACI = "51b48244-357e-4e29-a27e-0d7973494b43"


class Colour(StrEnum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Asked(Entity):
    """One of each kind."""

    aci: UUID
    how_many: Annotated[int, Field(ge=1, le=9, description="How many\n    of them")] = 3
    share: float | None = None
    sure: bool = False
    colour: Colour | None = None
    colours: tuple[Colour, ...] = ()
    names: tuple[str, ...] = ()
    document: dict[str, int] | None = None
    reason: Annotated[str, Field(max_length=500)] = ""


def kinds() -> dict[str, Kind]:
    return {field.name: field.kind for field in fields_of(Asked)}


def test_fields_come_from_the_parameters() -> None:
    assert kinds() == {
        "aci": Kind.TEXT,
        "howMany": Kind.INTEGER,
        "share": Kind.NUMBER,
        "sure": Kind.YES_NO,
        "colour": Kind.CHOICE,
        "colours": Kind.CHOICES,
        "names": Kind.LINES,
        "document": Kind.JSON,
        "reason": Kind.LONG_TEXT,
    }
    how_many = next(field for field in fields_of(Asked) if field.name == "howMany")
    assert (how_many.hint, how_many.default, how_many.minimum, how_many.maximum) == ("How many of them", "3", 1, 9)
    assert required_names(Asked) == {"aci"}


def test_reads_a_form() -> None:
    typed = {
        "aci": [f" {ACI} "],
        "howMany": ["7"],
        "share": ["0.5"],
        "sure": ["false", "true"],  # a box that is ticked comes after the hidden field that says no
        "colour": ["blue"],
        "colours": ["red", "blue"],
        "names": ["one\r\n two \n\n"],
        "document": ['{"a": 1}'],
        "unknown": ["x"],
    }
    found = read_parameters(Asked, typed)
    assert found == Asked(
        aci=UUID(ACI),
        how_many=7,
        share=0.5,
        sure=True,
        colour=Colour.BLUE,
        colours=(Colour.RED, Colour.BLUE),
        names=("one", "two"),
        document={"a": 1},
    )


def test_what_is_left_empty_is_what_stands_by_default() -> None:
    assert read_parameters(Asked, {"aci": [ACI], "howMany": [""], "colour": [""], "document": [""]}) == Asked(
        aci=UUID(ACI)
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("aci", "not-one"),
        ("howMany", "10"),
        ("howMany", "0x7"),
        ("howMany", "9" * 5000),
        ("share", "nan"),
        ("share", "1e999"),
        ("sure", "perhaps"),
        ("colour", "green"),
        ("document", "{"),
        ("document", "[" * 100_000),
        ("names", "a\x00b"),
        ("reason", "x" * 501),
    ],
)
def test_a_field_that_breaks_its_rule_is_named_and_its_value_is_not(name: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_parameters(Asked, {"aci": [ACI], name: [text]})
    assert refused.value.fields == (name,)
    assert text not in str(refused.value)


def test_a_needed_field_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_parameters(Asked, {})
    assert refused.value.fields == ("aci",)


@pytest.mark.parametrize(
    "values", [{"aci": ACI, "names": ["a\x1b[2J"]}, {"aci": ACI, "document": {"a\x00": 1}}, [], "x", None]
)
def test_json_with_control_characters_or_of_another_shape_is_refused(values: object) -> None:
    with pytest.raises(InvalidInput):
        checked(Asked, values)


@pytest.mark.parametrize("name", ["canary", "how_many"])
def test_json_with_a_member_that_is_not_known_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked(Asked, {"aci": ACI, name: 7})
    assert (refused.value.fields, str(refused.value)) == ((), UNKNOWN)


def test_a_reason_may_have_lines_and_no_control_characters() -> None:
    assert clean_text("one\ntwo\tthree", "reason") == "one\ntwo\tthree"
    with pytest.raises(InvalidInput) as refused:
        clean_text("\x00", "reason")
    assert refused.value.fields == ("reason",)
