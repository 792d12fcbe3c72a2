"""What a fetcher asks of the network, and how an answer is judged before anybody reads it.

The network itself is an argument: whoever has an HTTP client writes a :class:`Transport` of one method around it, and a
test writes one in memory. Answers are trusted for nothing. Their signatures are checked where evidence is appraised;
here they only have to be small, in time, and of the right form.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, TypeVar

from attestation.fetching.errors import (
    AnswerTooLarge,
    FetchError,
    MalformedAnswer,
    NotKnown,
    RateLimited,
    Redirected,
    Refused,
    Unreachable,
)
from attestation.fetching.forms import NotInForm

DEADLINE = 30.0  # seconds for one answer, caches and all
MAX_ANSWER = 1024 * 1024  # bytes of a body, where the request names no smaller limit
MAX_RETRY_AFTER = 24 * 60 * 60  # seconds: who asks for more patience is taken to mean a day

Headers = tuple[tuple[str, str], ...]
T = TypeVar("T")


class Kind(StrEnum):
    """What is asked for; it decides how long an answer may be kept."""

    CERTIFICATE = "certificate"
    CRL = "crl"
    OCSP = "ocsp"
    TCB = "tcb"  # Intel's TCB information and the identity of its quoting enclave
    RIM = "rim"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. ``headers`` keep order and repetitions; ``body`` is without any transfer or content coding."""

    status: int
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """The value of a header, whatever the case of its name; ``None`` unless it is there exactly once."""
        values = [value for other, value in self.headers if other.lower() == name.lower()]
        return values[0] if len(values) == 1 else None


def accepts_any(_response: Response) -> bool:
    """Every answer is of the right form."""
    return True


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. The address may name a chip, so that it has no place in a log: there is no repr of it.

    ``limit`` is the largest body of use, in bytes. ``kind`` and ``accepts`` are for caches and not sent: ``accepts``
    says whether a response is of the right form, so that nobody keeps the login page of a hotel.
    """

    method: str
    url: str = field(repr=False)
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    limit: int = MAX_ANSWER
    kind: Kind = Kind.OTHER
    accepts: Callable[[Response], bool] = field(default=accepts_any, repr=False, compare=False)


class TransportFailed(Exception):
    """No answer was received: no name, no connection, no TLS, or a broken body."""


class Transport(Protocol):
    """An HTTP client. It checks TLS certificates, follows no redirect, sends no cookie and adds no coding."""

    async def fetch(self, request: Request) -> Response:
        """The answer, whatever its status; of its body at most ``request.limit + 1`` bytes are read.

        Raises:
            TransportFailed: none was received.
        """
        ...


async def ask(
    transport: Transport, request: Request, *, service: str, read: Callable[[Response], T], deadline: float = DEADLINE
) -> T:
    """Send ``request`` and read the answer.

    Args:
        transport: how to reach the service.
        request: what to send.
        service: what to call it in an error.
        read: makes a document of a response with status 200, or raises ``NotInForm``; pure.
        deadline: seconds.

    Raises:
        FetchError: there is no document, for the reason that the class says.
    """

    def accepts(response: Response) -> bool:
        try:
            examine(response, service=service, limit=request.limit, read=read)
        except FetchError:
            return False
        return True

    try:
        async with asyncio.timeout(deadline):
            response = await transport.fetch(replace(request, accepts=accepts))
    except (TransportFailed, TimeoutError):
        # Without the cause: the texts of HTTP clients hold addresses.
        raise Unreachable(service) from None
    return examine(response, service=service, limit=request.limit, read=read)


def examine(response: Response, *, service: str, limit: int, read: Callable[[Response], T]) -> T:
    """Read a response, if it is one to read: status 200, of at most ``limit`` bytes, no web page.

    The content type does not decide otherwise: mirrors of these services state many. The form does, and later the
    signature.

    Raises:
        FetchError: it is not, or ``read`` refused it.
    """
    if response.status != 200:
        raise _refusal(response, service)
    if len(response.body) > limit:
        raise AnswerTooLarge(service, limit)
    if (response.header("Content-Type") or "").strip().lower().startswith("text/html"):
        raise MalformedAnswer(service, "answered with a web page")
    try:
        return read(response)
    except NotInForm as error:
        raise MalformedAnswer(service, f"answered, but {error}") from None


def _refusal(response: Response, service: str) -> FetchError:
    match response.status:
        case 404 | 410:
            return NotKnown(service)
        case 429:
            return RateLimited(service, _seconds(response.header("Retry-After")))
        case status if 300 <= status < 400:
            return Redirected(service, status)
        case status:
            return Refused(service, status)


def _seconds(value: str | None) -> int | None:
    """The wait of RFC 9110, section 10.2.3, in its form of seconds; a date would need a clock that both sides share."""
    if value is None or not (value.isascii() and value.isdecimal()):
        return None
    return min(int(value[:10]), MAX_RETRY_AFTER)
