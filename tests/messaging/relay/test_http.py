"""Routes, credentials, and that every call gets an answer that tells nothing it should not."""

import base64

import pytest
from hypothesis import given
from hypothesis.strategies import text
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from messaging.relay.buckets import LocalBuckets
from messaging.relay.errors import MethodNotAllowed, NoSuchPath, NotAuthenticated, RelayError
from messaging.relay.http import Answer, Call, Credentials, Dispatcher, Doc, Route, Router, outcome_of
from messaging.relay.limits import Bucket, Limit, RateLimits
from messaging.wire.json import MalformedJson
from messaging.wire.limits import MAX_QUERY_FIELDS
from tests.relays import unlimited

DOC = Doc("a test")


async def ok(_call: Call) -> Answer:
    return Answer(200)


def router() -> Router:
    return Router(
        [Route("GET", "/a/{one}", ok, DOC), Route("PUT", "/a/{one}", ok, DOC), Route("GET", "/a/b/{two}", ok, DOC)]
    )


def test_a_path_gives_its_parameters() -> None:
    route, parameters = router().find("PUT", "/a/PNI%3Ax")
    assert (route.template, parameters) == ("/a/{one}", {"one": "PNI:x"})
    assert router().find("GET", "/a/b/c/")[1] == {"two": "c"}


def test_another_path_or_verb_is_told_apart() -> None:
    with pytest.raises(NoSuchPath):
        router().find("GET", "/nothing")
    with pytest.raises(MethodNotAllowed) as caught:
        router().find("DELETE", "/a/x")
    assert caught.value.allowed == "GET, PUT"


def with_basic(text: str, scheme: str = "Basic") -> Call:
    return Call("GET", "/", {"authorization": f"{scheme} {base64.b64encode(text.encode()).decode()}"})


@given(password=text(min_size=1, max_size=20))
def test_credentials_come_out_of_the_header(password: str) -> None:
    assert with_basic(f"user:{password}").credentials() == Credentials("user", password)


def test_no_header_means_no_credentials() -> None:
    assert Call("GET", "/").credentials() is None


@pytest.mark.parametrize(
    "call",
    [
        with_basic("no colon"),
        with_basic("user:"),
        with_basic("user:" + "p" * 257),
        with_basic("user:password", "Bearer"),
        Call("GET", "/", {"authorization": "Basic ###"}),
        Call("GET", "/", {"authorization": "Basic /w=="}),
    ],
    ids=["colon", "empty", "long", "scheme", "base64", "utf-8"],
)
def test_another_header_is_refused(call: Call) -> None:
    with pytest.raises(NotAuthenticated):
        call.credentials()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("CANARY"), 500),
        (OSError("CANARY"), 503),
        (OperationalError("CANARY", None, Exception("CANARY")), 503),
        (MalformedJson(), 400),
    ],
    ids=["fault", "connection", "database", "json"],
)
async def test_whatever_is_raised_becomes_an_answer(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(_call: Call) -> Answer:
        raise error

    answer = await Dispatcher([Route("GET", "/", fail, Doc("fails"))], lambda: 7, unlimited()).answer(
        Call("GET", "/?CANARY")
    )
    assert (answer.status, answer.headers["X-Signal-Timestamp"]) == (status, "7")
    assert b"CANARY" not in answer.body
    captured = capsys.readouterr()
    assert "CANARY" not in captured.out + captured.err


def test_an_outcome_stays_what_it_is() -> None:
    error = RelayError()
    assert outcome_of(error) is error


@pytest.mark.parametrize(
    "path", ["//[", "/a/1?" + "&".join(f"q{n}=" for n in range(MAX_QUERY_FIELDS + 1)), "/%00", "/a/%ff#?"]
)
async def test_no_path_is_a_fault(path: str) -> None:
    routes = [Route("GET", "/a/{one}", ok, DOC)]
    answer = await Dispatcher(routes, lambda: 7, unlimited()).answer(Call("GET", path))
    assert answer.status < 500


async def test_as_many_query_fields_as_allowed_are_read() -> None:
    query = "&".join(f"q{n}=" for n in range(MAX_QUERY_FIELDS))
    answer = await Dispatcher([Route("GET", "/a", ok, DOC)], lambda: 7, unlimited()).answer(Call("GET", f"/a?{query}"))
    assert answer.status == 200


async def test_a_level_that_cannot_be_told_costs_nobody_the_answer() -> None:
    buckets = {limit: Bucket(1e200, 1e200) for limit in Limit}
    limits = RateLimits(buckets, LocalBuckets(lambda: 0.0))
    dispatcher = Dispatcher([Route("GET", "/a", ok, DOC)], lambda: 7, limits)
    with capture_logs() as logs:
        answer = await dispatcher.answer(Call("GET", "/a"))
    assert (answer.status, dict(answer.headers)) == (200, {"X-Signal-Timestamp": "7"})
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["levels_not_told"]
