"""The very same request is repeated until the relay answers it, and no longer than the deadline."""

import asyncio
import time
from collections.abc import Mapping

import pytest

from messaging.client.connection import ChatConnection, ConnectionLost, Relay
from messaging.client.errors import RelayRefused, RelayUnreachable
from messaging.client.requests import Requests
from messaging.wire.frames import Request, Response

OK = Response(0, 200)


async def ignore(_request: Request) -> int | None:
    return None


class Scripted(Relay):
    """Answers as written down, and then with 200."""

    def __init__(self, *script: Response | Exception) -> None:
        super().__init__("http://127.0.0.1:9")
        self.script = list(script)
        self.asked: list[tuple[str, str, bytes | None]] = []

    async def request(
        self, verb: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        self.asked.append((verb, path, body))
        answer = self.script.pop(0) if self.script else OK
        if isinstance(answer, Exception):
            raise answer
        return answer


def requests(relay: Relay, deadline: float = 1.0) -> Requests:
    return Requests(relay, ChatConnection(relay, "", ignore), deadline)


def busy(status: int, seconds: str) -> Response:
    return Response(0, status, headers={"retry-after": seconds})


@pytest.mark.parametrize("fault", [RelayUnreachable(), ConnectionLost(), busy(429, "0"), busy(503, "0")])
async def test_what_may_pass_is_waited_for(fault: Response | Exception) -> None:
    relay = Scripted(fault, fault)
    assert await requests(relay).unidentified("PUT", "/path", b"body", {}) == OK
    assert relay.asked == [("PUT", "/path", b"body")] * 3


@pytest.mark.parametrize("status", [200, 401, 404, 409, 410, 413, 500])
async def test_any_other_answer_is_the_answer(status: int) -> None:
    relay = Scripted(Response(0, status))
    assert (await requests(relay).unidentified("PUT", "/path", b"", {})).status == status
    assert len(relay.asked) == 1


async def test_who_is_told_to_wait_for_longer_than_the_deadline_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(RelayRefused):
        await requests(Scripted(busy(429, "3600"))).unidentified("PUT", "/path", b"", {})
    with pytest.raises(RelayUnreachable):  # that passes, so that what is sent may stay in an outbox
        await requests(Scripted(busy(503, "3600"))).unidentified("PUT", "/path", b"", {})
    with pytest.raises(RelayRefused):
        await requests(Scripted(*[busy(429, "soon")] * 9)).unidentified("PUT", "/path", b"", {})
    assert time.monotonic() - began < 1


async def test_a_relay_that_stays_away_is_given_up_at_the_deadline() -> None:
    relay = Scripted(*[RelayUnreachable()] * 100)
    with pytest.raises(RelayUnreachable):
        await requests(relay, 0.3).unidentified("PUT", "/path", b"", {})
    assert 1 < len(relay.asked) < 10


async def test_a_relay_that_never_answers_is_given_up_at_the_deadline() -> None:
    class Silent(Scripted):
        async def request(self, *_: object, **__: object) -> Response:
            await asyncio.Event().wait()
            return OK

    with pytest.raises(RelayUnreachable):
        await requests(Silent(), 0.1).unidentified("PUT", "/path", b"", {})


async def test_without_a_socket_an_authenticated_request_is_given_up_at_the_deadline() -> None:
    with pytest.raises(RelayUnreachable):
        await requests(Scripted(), 0.1).authenticated("GET", "/path")
