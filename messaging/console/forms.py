"""What an operator types, as parameters of a view or an action: which fields a form has, and how they are read.

Fields come from the JSON schema of the parameters, so that a page, the API and the terminal ask for the same things.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from messaging.console.translate import N_
from messaging.console.words import label_of
from messaging.relay.admin.errors import InvalidInput
from messaging.wire.json import Entity

T = TypeVar("T", bound=Entity)

SENSITIVE: Final = frozenset({"number"})  # never written into a page or an address
UNKNOWN: Final = N_("Something was sent that is not known here. Is it spelt as in the reference?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONG = 200  # characters from which a text gets more than a line
_TRUE, _FALSE = frozenset({"true", "on", "yes", "1"}), frozenset({"false", "off", "no", "0", ""})


class Kind(StrEnum):
    """How a field is asked for."""

    TEXT = "text"
    LONG_TEXT = "long text"
    INTEGER = "integer"
    NUMBER = "number"
    YES_NO = "yes or no"
    CHOICE = "choice"
    CHOICES = "choices"
    LINES = "lines"  # a list of texts, one a line
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``name`` is that of the JSON member; ``default`` is what stands when nothing is typed, as text."""

    name: str
    label: str
    hint: str
    kind: Kind
    required: bool
    choices: tuple[str, ...] = ()
    default: str = ""
    minimum: float | None = None
    maximum: float | None = None
    longest: int | None = None


def fields_of(takes: type[Entity]) -> tuple[Field, ...]:
    """The fields of some parameters, in their order."""
    found = _known.get(takes)
    if found is None:
        found = _known[takes] = _fields(takes)
    return found


_known: dict[type[Entity], tuple[Field, ...]] = {}  # making a schema takes longer than a page should


def _fields(takes: type[Entity]) -> tuple[Field, ...]:
    schema = takes.model_json_schema(by_alias=True)
    required, known = schema.get("required", ()), schema.get("$defs", {})
    return tuple(
        _field(name, _resolved(member, known), required=name in required, known=known)
        for name, member in schema.get("properties", {}).items()
    )


def parameter_schema(takes: type[Entity], name: str) -> dict[str, Any]:
    """The JSON schema of one field, without references."""
    schema = takes.model_json_schema(by_alias=True)
    found = _resolved(schema["properties"][name], schema.get("$defs", {}))
    if "items" in found:
        found["items"] = _resolved(found["items"], schema.get("$defs", {}))
    return {key: value for key, value in found.items() if key != "default" or value is not None}


def required_names(takes: type[Entity]) -> frozenset[str]:
    """The fields that cannot be left out."""
    return frozenset(field.name for field in fields_of(takes) if field.required)


def read_parameters(takes: type[T], typed: Mapping[str, list[str]]) -> T:
    """Parameters from the fields of a form or a query, each with what was given for it, in order.

    Raises:
        InvalidInput: a field is missing or breaks its rule. It names fields of the form only, and no value.
    """
    values: dict[str, Any] = {}
    bad: list[str] = []
    for field in fields_of(takes):
        given = typed.get(field.name)
        if given is None:
            continue
        try:
            value = _value(field, given)
        except (ValueError, RecursionError):
            bad.append(field.name)
            continue
        if value is not None:
            values[field.name] = value
    if bad:
        raise InvalidInput(tuple(bad))
    return checked(takes, values)


def checked(takes: type[T], values: object) -> T:
    """Parameters from JSON that was parsed.

    Raises:
        InvalidInput: a member is missing, breaks its rule or is not known, or a text holds a control character.
    """
    if not isinstance(values, dict):
        raise InvalidInput
    known = {field.name for field in fields_of(takes)}
    if values.keys() - known:
        raise InvalidInput((), UNKNOWN)
    try:
        unfit = _with_control(values.items())
        data = json.dumps(values)
    except RecursionError:
        raise InvalidInput from None
    if unfit:
        raise InvalidInput(tuple(sorted(unfit)))
    try:
        return takes.model_validate_json(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    raise InvalidInput(tuple(sorted({str(entry["loc"][0]) for entry in found if entry["loc"]})))


def clean_text(text: str, name: str) -> str:
    """A text that a database can hold.

    Raises:
        InvalidInput: it has control characters.
    """
    if _unfit(text):
        raise InvalidInput((name,))
    return text


def _unfit(text: str) -> bool:
    return _CONTROL.search(text) is not None or any("\ud800" <= character <= "\udfff" for character in text)


def _with_control(members: Iterable[tuple[str, object]]) -> tuple[str, ...]:
    return tuple(name for name, value in members if _holds_control(value))


def _holds_control(value: object) -> bool:
    if isinstance(value, str):
        return _unfit(value)
    if isinstance(value, dict):
        return any(_unfit(str(name)) or _holds_control(each) for name, each in value.items())
    return isinstance(value, list) and any(map(_holds_control, value))


def _value(field: Field, given: list[str]) -> Any:  # noqa: ANN401 - JSON
    """What was typed as JSON; ``None`` if that is nothing."""
    text = given[-1].strip() if given else ""
    match field.kind:
        case Kind.YES_NO:
            return _truth(text)
        case Kind.CHOICES:
            return [each for each in given if each]
        case Kind.LINES:
            return [line.strip() for each in given for line in each.splitlines() if line.strip()]
        case _ if not text:
            return None
        case Kind.INTEGER:
            return int(_matching(_INTEGER, text))
        case Kind.NUMBER:
            return float(_matching(_NUMBER, text))
        case Kind.JSON:
            return json.loads(text)
        case _:
            return text


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError
    return text


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError


def _resolved(member: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Without references, and without the choice of ``null``: what may be left out is simply not required."""
    found = dict(member)
    if "$ref" in found:
        found = {**known[found.pop("$ref").rpartition("/")[2]], **found}
    choices = [_resolved(each, known) for each in found.pop("anyOf", ()) if each.get("type") != "null"]
    return {**choices[0], **found} if choices else found


def _field(name: str, member: Mapping[str, Any], *, required: bool, known: Mapping[str, Any]) -> Field:
    items = _resolved(member.get("items", {}), known)
    kind = _kind(member, items)
    if kind is Kind.TEXT and (member.get("maxLength") or 0) > _LONG:
        kind = Kind.LONG_TEXT
    return Field(
        name=name,
        label=label_of(name),
        hint=" ".join(str(member.get("description", "") if "enum" not in member else "").split()),
        kind=kind,
        required=required,
        choices=tuple(map(str, member.get("enum", items.get("enum", ())))),
        default=_as_text(member.get("default")),
        minimum=member.get("minimum"),
        maximum=member.get("maximum"),
        longest=member.get("maxLength"),
    )


def _kind(member: Mapping[str, Any], items: Mapping[str, Any]) -> Kind:
    match member:
        case {"enum": _}:
            return Kind.CHOICE
        case {"type": "array"}:
            if "enum" in items:
                return Kind.CHOICES
            return Kind.LINES if items.get("type") == "string" else Kind.JSON
        case {"type": "object"}:
            return Kind.JSON
        case {"type": "integer"}:
            return Kind.INTEGER
        case {"type": "number"}:
            return Kind.NUMBER
        case {"type": "boolean"}:
            return Kind.YES_NO
        case {"type": "string"}:
            return Kind.TEXT
        case _:
            return Kind.JSON


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value)
