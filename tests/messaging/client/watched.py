"""A relay as a client reaches it, watched: what goes there without credentials, and faults on the way."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from messaging.client import Relay
from messaging.client.errors import RelayUnreachable
from messaging.wire.frames import Response

MANY = "/v1/messages/multi_recipient"


class Crash(BaseException):
    """As if the process had ended here: nothing in the SDK handles it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request."""

    verb: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def to_many(self) -> bool:
        """Whether it is a send to many."""
        return self.path.startswith(MANY)


Ask = Callable[[], Awaitable[Response]]
Fault = Callable[[Sent, Ask], Awaitable[Response]]


class WatchedRelay(Relay):
    """Keeps what is asked over HTTP, and lets ``fault`` decide what becomes of it."""

    def __init__(self, url: str, *, ca_file: Path | None = None) -> None:
        super().__init__(url, ca_file=ca_file)
        self.sent: list[Sent] = []
        self.fault: Fault | None = None

    async def request(
        self, verb: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        """As the relay, perhaps with a fault."""
        sent = Sent(verb, path, headers or {}, body or b"")
        self.sent.append(sent)

        async def ask() -> Response:
            return await super(WatchedRelay, self).request(verb, path, body, headers=headers)

        return await ask() if self.fault is None else await self.fault(sent, ask)

    @property
    def sends(self) -> list[Sent]:
        """The messages that were sent without credentials."""
        return [sent for sent in self.sent if sent.verb == "PUT" and sent.path.startswith("/v1/messages/")]


def away(concerns: Callable[[Sent], bool] = lambda _: True) -> Fault:
    """The relay does not get these requests."""

    async def fault(sent: Sent, ask: Ask) -> Response:
        if concerns(sent):
            raise RelayUnreachable
        return await ask()

    return fault


def answer_lost_and_crash(concerns: Callable[[Sent], bool]) -> Fault:
    """The relay does what is asked, and the client ends before it hears of it."""

    async def fault(sent: Sent, ask: Ask) -> Response:
        answer = await ask()
        if concerns(sent):
            raise Crash
        return answer

    return fault


def crash_before(concerns: Callable[[Sent], bool]) -> Fault:
    """The client ends before it asks."""

    async def fault(sent: Sent, ask: Ask) -> Response:
        if concerns(sent):
            raise Crash
        return await ask()

    return fault
