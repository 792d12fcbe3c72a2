"""An answer is judged before it is read; an error says who was asked and what to do, never about which chip."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.fetching.errors import (
    AnswerTooLarge,
    CannotAsk,
    FetchError,
    MalformedAnswer,
    NotKnown,
    RateLimited,
    Redirected,
    Refused,
    Unreachable,
    UnsafeFolder,
)
from attestation.fetching.forms import NotInForm
from attestation.fetching.transport import Request, Response, Transport, TransportFailed, ask, examine
from tests.attestation.fetching.replay import WEB_PAGE, Always

CHIP = "d2421d976f95ce0b"
REQUEST = Request("GET", f"https://vendor.example/{CHIP}", limit=8)


def text_of(response: Response) -> str:
    if not response.body.isascii():
        raise NotInForm("it is not ASCII")
    return response.body.decode()


async def asked(transport: Transport, *, deadline: float = 5.0, read: Callable[[Response], str] = text_of) -> str:
    return await ask(transport, REQUEST, service="The vendor", read=read, deadline=deadline)


async def test_reads_an_answer_of_the_right_form() -> None:
    assert await asked(Always(Response(200, (), b"document"))) == "document"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (204, Refused),
        (206, Refused),
        (301, Redirected),
        (302, Redirected),
        (307, Redirected),
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, NotKnown),
        (410, NotKnown),
        (429, RateLimited),
        (500, Refused),
        (503, Refused),
    ],
)
async def test_every_other_status_is_an_error_and_no_redirect_is_followed(status: int, error: type[FetchError]) -> None:
    transport = Always(Response(status, (("Location", "https://elsewhere.example"),), b"document"))
    with pytest.raises(error) as caught:
        await asked(transport)
    assert type(caught.value) is error
    assert len(transport.asked) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("99999999999999999999", 24 * 60 * 60),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("", None),
    ],
)
async def test_says_how_long_to_wait_if_the_service_said_it_in_seconds(value: str, seconds: int | None) -> None:
    with pytest.raises(RateLimited) as caught:
        await asked(Always(Response(429, (("retry-after", value),))))
    assert caught.value.retry_after == seconds


async def test_no_network_is_unreachable_and_the_clients_own_text_goes_no_further() -> None:
    with pytest.raises(Unreachable) as caught:
        await asked(Always(None))
    assert CHIP not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_a_service_that_never_answers_is_unreachable_at_the_deadline() -> None:
    class Silent:
        async def fetch(self, request: Request) -> Response:
            await asyncio.Event().wait()
            raise AssertionError

    async with asyncio.timeout(5):
        with pytest.raises(Unreachable):
            await asked(Silent(), deadline=0.01)


async def test_being_cancelled_is_no_answer_of_the_service() -> None:
    class Cancelled:
        async def fetch(self, request: Request) -> Response:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await asked(Cancelled())


async def test_refuses_one_byte_more_than_the_limit() -> None:
    assert await asked(Always(Response(200, (), bytes(8)))) == "\0" * 8
    with pytest.raises(AnswerTooLarge):
        await asked(Always(Response(200, (), bytes(9))))


@pytest.mark.parametrize("stated", ["text/html", "TEXT/HTML; charset=utf-8", " text/html"])
async def test_a_web_page_is_no_document_even_if_its_body_would_be(stated: str) -> None:
    with pytest.raises(MalformedAnswer, match="web page"):
        await asked(Always(Response(200, (("content-type", stated),), b"document")))


async def test_another_content_type_does_not_decide() -> None:
    assert await asked(Always(Response(200, (("Content-Type", "text/plain"),), b"document"))) == "document"


async def test_says_what_is_wrong_with_the_form() -> None:
    with pytest.raises(MalformedAnswer, match="The vendor answered, but it is not ASCII"):
        await asked(Always(Response(200, (), b"\xff")))


async def test_tells_a_cache_which_answers_are_worth_keeping() -> None:
    transport = Always(Response(200, (), b"document"))
    await asked(transport)
    (request,) = transport.asked
    assert request.accepts(Response(200, (), b"document"))
    for other in (Response(200, (), b"\xff"), Response(200, (), bytes(9)), Response(404), WEB_PAGE):
        assert not request.accepts(other)


def test_a_header_counts_if_it_is_there_exactly_once() -> None:
    response = Response(200, (("One", "1"), ("Two", "2"), ("TWO", "2")))
    assert response.header("one") == "1"
    assert response.header("Two") is None
    assert response.header("Three") is None


def test_neither_a_request_nor_a_response_shows_what_it_carries() -> None:
    request = Request("POST", f"https://vendor.example/{CHIP}", (("Authorization", CHIP),), CHIP.encode())
    assert CHIP not in repr(request)
    assert CHIP not in repr(Response(200, (("X", CHIP),), CHIP.encode()))


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("The vendor"),
        Refused("The vendor", 500),
        Redirected("The vendor", 302),
        NotKnown("The vendor"),
        RateLimited("The vendor", 60),
        AnswerTooLarge("The vendor", 8),
        MalformedAnswer("The vendor", "answered with a web page"),
        CannotAsk("The vendor", "cannot be asked"),
        UnsafeFolder(),
    ],
)
def test_every_error_says_what_to_do(error: FetchError) -> None:
    assert str(error).startswith(error.service)
    assert str(error).endswith(error.advice)
    assert len(error.advice) > 20


def test_every_class_of_error_has_its_own_advice() -> None:
    found = [FetchError]
    for error in found:
        found.extend(error.__subclasses__())
    advice = [error.advice for error in found if error is not FetchError]
    assert len(set(advice)) == len(advice) == 9


@given(
    status=st.integers(100, 599),
    headers=st.lists(st.tuples(st.sampled_from(["Content-Type", "Retry-After", "X"]), st.text(max_size=8)), max_size=4),
    body=st.binary(max_size=12),
)
def test_any_answer_is_read_or_is_one_of_the_errors(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    response = Response(status, tuple(headers), body)
    try:
        text = examine(response, service="The vendor", limit=8, read=text_of)
    except FetchError:
        return
    assert (status, text.encode()) == (200, body)


def test_what_a_transport_raises_is_no_fetch_error_by_itself() -> None:
    assert not issubclass(TransportFailed, FetchError)
