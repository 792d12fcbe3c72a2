"""Every outcome has a status, and says no more than it should."""

import json

import pytest

from messaging.relay.errors import (
    STATUS,
    DevicesMismatched,
    DevicesStale,
    InvalidRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    RateLimited,
    RelayError,
)
from messaging.relay.http import answer_of


def every_kind(kind: type[RelayError] = RelayError) -> list[type[RelayError]]:
    return [each for child in kind.__subclasses__() for each in (child, *every_kind(child))]


@pytest.mark.parametrize("kind", every_kind())
def test_every_outcome_has_a_status_and_a_code(kind: type[RelayError]) -> None:
    assert 400 <= STATUS[kind] <= 599
    assert kind.code


def test_outcomes_that_signals_clients_know_have_signals_shape() -> None:
    assert answer_of(NotFound()).body == answer_of(NotAuthenticated()).body == b""
    mismatched = answer_of(DevicesMismatched(missing={3, 2}, extra={5}))
    assert json.loads(mismatched.body) == {"missingDevices": [2, 3], "extraDevices": [5]}
    assert json.loads(answer_of(DevicesStale({1})).body) == {"staleDevices": [1]}


def test_the_others_say_their_code() -> None:
    assert json.loads(answer_of(InvalidRequest("number")).body) == {"code": "invalid", "fields": ["number"]}


def test_headers_belong_to_the_outcome() -> None:
    assert answer_of(RateLimited(0)).headers["Retry-After"] == "1"
    assert answer_of(MethodNotAllowed({"PUT", "GET"})).headers["Allow"] == "GET, PUT"
    assert "Content-Type" not in answer_of(NotFound()).headers
