"""The API reference agrees with the standard, with the table of methods, and with what the gateway answers."""

import json
import re
from typing import Any

import pytest
import telegram
from openapi_spec_validator import validate

from messaging.bots.app import api_reference
from messaging.bots.methods import METHODS, NOT_SUPPORTED
from messaging.bots.parameters import Parameters
from tests.messaging.bots.gateways import Api


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return api_reference()


def test_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_every_method_is_there_and_nothing_else(document: dict[str, Any]) -> None:
    described = {path.removeprefix("/bot{token}/") for path in document["paths"] if path.startswith("/bot{token}/")}
    assert described == {method.name for method in METHODS.values()} | {"updates"}


def test_every_parameter_of_every_method_is_there(document: dict[str, Any]) -> None:
    for method in METHODS.values():
        schema = document["components"]["schemas"][method.takes.__name__]
        assert schema.get("properties", {}).keys() == method.takes.model_fields.keys()
        required = {name for name, each in method.takes.model_fields.items() if each.is_required()}
        assert set(schema.get("required", [])) == required


def test_every_kind_of_parameters_is_used() -> None:
    def below(kind: type[Parameters]) -> set[type[Parameters]]:
        return {kind, *(each for sub in kind.__subclasses__() for each in below(sub))}

    used = {method.takes for method in METHODS.values()}
    bases = {base for kind in used for base in kind.__mro__}
    assert below(Parameters) <= used | bases


async def test_is_served_to_anybody(api: Api, document: dict[str, Any]) -> None:
    async with api.http.get(f"{api.url}/openapi.json") as response:
        assert await response.json() == json.loads(json.dumps(document))


async def test_what_is_described_is_answered_as_described(api: Api, document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        if not path.startswith("/bot{token}/") or path.endswith("/updates"):
            continue
        name = path.rpartition("/")[2]
        answered = await api.call(name, chat_id=1, text="x")
        assert str(answered.status) in operations["post"]["responses"]


def test_the_names_are_telegrams_or_said_to_be_ours() -> None:
    """Against what python-telegram-bot knows of Telegram."""
    known = {re.sub(r"_(\w)", lambda match: match[1].upper(), name).lower() for name in dir(telegram.Bot)}
    theirs = {name for name, method in METHODS.items() if not method.ours}
    ours = {name for name, method in METHODS.items() if method.ours}
    assert theirs <= known
    assert not ours & known
    assert known >= NOT_SUPPORTED
