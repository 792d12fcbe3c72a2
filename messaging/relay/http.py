"""One dispatcher for all of REST: the same handlers answer HTTP and what is tunnelled through a WebSocket.

A handler takes a :class:`Call` and returns an :class:`Answer`. Here outcomes become statuses, and each call is counted
(``relay.traffic``) under its route, never its path. Sockets and HTTP itself belong to ``relay.server`` and ``delivery.socket``.
"""

import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar
from urllib.parse import parse_qsl, unquote
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from messaging.relay.errors import (
    STATUS,
    Internal,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NoSuchPath,
    NotAuthenticated,
    NotFound,
    RelayError,
    Unavailable,
)
from messaging.relay.limits import Limit, RateLimits, headers_of, usage_noted
from messaging.relay.traffic import Traffic
from messaging.serving.logs import get_logger, milliseconds_since
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import DeviceAddress, IdentityKind, ServiceId
from messaging.wire.json import Entity, InvalidEntity, MalformedJson
from messaging.wire.limits import MAX_PASSWORD, MAX_QUERY_FIELDS
from messaging.wire.messages import TIMESTAMP_HEADER

# Paths below: who asks whether a relay lives is told, whatever else comes from the same address.
UNCOUNTED = "/v1/health/"
JSON = {"Content-Type": "application/json"}  # exactly: libsignal compares the whole value

E = TypeVar("E", bound=Entity)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated device. Its mailbox names the registration: a device registered anew has another.

    ``is_bot`` comes with the credentials, so that limits of its own cost a bot no look at the database.
    """

    account_id: int
    aci: UUID
    pni: UUID | None
    device_id: int
    mailbox_id: int
    is_bot: bool = False

    @property
    def address(self) -> DeviceAddress:
        """How others see it as a sender."""
        return DeviceAddress(ServiceId(self.aci), self.device_id)

    def is_identified_by(self, service_id: ServiceId) -> bool:
        """Whether ``service_id`` is one of the caller's own identities."""
        return service_id.uuid == (self.aci if service_id.kind is IdentityKind.ACI else self.pni)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What HTTP Basic carries."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(slots=True)
class Call:
    """One request. Header names are lower case, or in any case found so; ``remote`` is a network address, for limits only.

    ``caller`` is the device whose socket it came through, if it came through an authenticated one. ``parameters`` and ``query``
    are the dispatcher's to fill in.
    """

    verb: str
    path: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    remote: str = field(default="", repr=False)
    caller: Caller | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    def entity(self, kind: type[E]) -> E:
        """The body, read as ``kind``."""
        return kind.from_json(self.body)

    def service_id(self) -> ServiceId:
        """The path's ``{service_id}``; one that cannot exist is one that does not."""
        try:
            return ServiceId.parse(self.parameters["service_id"])
        except MalformedField:
            raise NotFound from None

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A query parameter that is ``true`` or ``false``.

        Raises:
            MalformedRequest: it is something else.
        """
        match self.query.get(name, "").lower():
            case "":
                return default
            case "true":
                return True
            case "false":
                return False
            case _:
                raise MalformedRequest

    def number(self, name: str, default: int) -> int:
        """A query parameter that is a whole number of at most 18 digits, not negative.

        Raises:
            MalformedRequest: it is something else.
        """
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise MalformedRequest
        return int(text)

    def identity(self) -> IdentityKind:
        """The query's ``identity``, by default the account's."""
        try:
            return IdentityKind(self.query.get("identity", IdentityKind.ACI).lower())
        except ValueError:
            raise MalformedRequest from None

    def credentials(self) -> Credentials | None:
        """The HTTP Basic credentials, ``None`` without the header.

        Raises:
            NotAuthenticated: a header that is not HTTP Basic.
        """
        header = self.headers.get("authorization")
        if header is None:
            return None
        scheme, _, encoded = header.partition(" ")
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise NotAuthenticated from None
        username, colon, password = decoded.partition(":")
        if scheme.lower() != "basic" or not colon or not 1 <= len(password) <= MAX_PASSWORD:
            raise NotAuthenticated
        return Credentials(username, password)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


NO_CONTENT = Answer(204)


def answer_with(entity: Entity) -> Answer:
    """200 and ``entity`` as JSON."""
    return Answer(200, entity.to_json(), JSON)


def answer_of(error: RelayError) -> Answer:
    """What the caller is told of ``error``."""
    body = error.body()
    return Answer(STATUS[type(error)], body, {**(JSON if body else {}), **error.headers()})


Handler = Callable[[Call], Awaitable[Answer]]


class Access(Enum):
    """Who may call."""

    ANYONE = "anyone"
    DEVICE = "a registered device (Basic `uuid.deviceId:password`)"
    DEVICE_OR_KEY = "a registered device, or anybody with the target's access key (`Unidentified-Access-Key`)"
    KEY = "anybody with the access keys of all targets, combined by exclusive or"
    NOBODY_KNOWN = "anyone, without credentials: the relay is not to learn who asks"
    NUMBER = "whoever proves a number (Basic `number:password`)"
    NEW_DEVICE = "whoever has a linking token (Basic `anything:password`)"
    OPERATOR_TOKEN = "whoever has the operator's token (Basic `name:password`)"  # noqa: S105 - not a password


@dataclass(frozen=True, slots=True)
class Doc:
    """What an endpoint takes and gives: for the API reference (``relay.openapi``), and kept true by tests.

    ``takes`` is an entity, ``dict`` for an object of names and truth values, or a content type; ``also`` are further statuses
    without a body; ``empty_too``: the answer may have no body. ``query`` and ``headers`` say what each optional one means.
    """

    summary: str
    access: Access = Access.DEVICE
    takes: type[Entity] | type[dict[str, bool]] | str | None = None
    gives: type[Entity] | None = None
    status: int = 200
    also: tuple[int, ...] = ()
    empty_too: bool = False
    raises: tuple[type[RelayError], ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """Calls of ``verb`` on paths like ``template``, in which ``{name}`` stands for one segment."""

    verb: str
    template: str
    handler: Handler
    doc: Doc


@dataclass(slots=True)
class _Node:
    """A place in the tree of templates of one verb: what is below it, said literally or by a parameter."""

    literal: "dict[str, _Node]" = field(default_factory=dict)
    parameter: "_Node | None" = None
    route: Route | None = None
    names: tuple[tuple[int, str], ...] = ()  # of its parameters, with the places of their segments

    def add(self, route: Route) -> None:
        """Make the way to ``route``."""
        node, names = self, []
        for place, segment in enumerate(_segments(route.template)):
            if segment.startswith("{"):
                names.append((place, segment[1:-1]))
                node.parameter = node = node.parameter or _Node()
            else:
                node = node.literal.setdefault(segment, _Node())
        node.route, node.names = route, tuple(names)

    def find(self, segments: list[str], start: int = 0) -> "_Node | None":
        """Where ``segments`` lead from ``start``; what is said literally comes before what a parameter may stand for."""
        node = self
        for place in range(start, len(segments)):
            literal = node.literal.get(segments[place])
            if literal is not None and node.parameter is not None:
                return literal.find(segments, place + 1) or node.parameter.find(segments, place + 1)
            following = literal or node.parameter
            if following is None:
                return None
            node = following
        return None if node.route is None else node


class Router:
    """Which handler a path means. A trailing slash is not part of a path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_verb: dict[str, _Node] = {}
        for route in routes:
            self._by_verb.setdefault(route.verb, _Node()).add(route)

    def find(self, verb: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and the path's parameters.

        Raises:
            NoSuchPath: no template matches.
            MethodNotAllowed: a template matches, but not for this verb.
        """
        segments, root = _segments(path), self._by_verb.get(verb)
        found = None if root is None else root.find(segments)
        if found is None or found.route is None:
            allowed = {each for each, node in self._by_verb.items() if node.find(segments) is not None}
            raise MethodNotAllowed(allowed) if allowed else NoSuchPath
        return found.route, {name: unquote(segments[place]) for place, name in found.names}


def _segments(path: str) -> list[str]:
    return path.strip("/").split("/")


class Dispatcher:
    """Answers every call, whatever happens. ``limits`` counts all requests; ``now`` gives milliseconds since 1970."""

    def __init__(
        self, routes: Iterable[Route], now: Callable[[], int], limits: RateLimits, traffic: Traffic | None = None
    ) -> None:
        self._router = Router(routes)
        self._now = now
        self._limits = limits
        self._traffic = traffic or Traffic()
        self._log = get_logger()

    async def answer(self, call: Call, own: Handler | None = None) -> Answer:
        """Find the handler, run it, and turn what it raises into an answer. A socket has one request of its ``own``."""
        with usage_noted() as usage:
            answer = await self._answer(call, own)
        try:
            levels = headers_of(usage)
        except Exception as error:  # noqa: BLE001 - the boundary: what the call has done is done, and is told without them
            self._log.error("levels_not_told", error=type(error).__name__)
            levels = {}
        return Answer(answer.status, answer.body, {**answer.headers, **levels, TIMESTAMP_HEADER: str(self._now())})

    async def admit(self, call: Call) -> None:
        """Count a request, or a socket that is to be opened.

        Raises:
            RateLimited: too many of this device, or from this network address.
        """
        if call.caller is None:
            await self._limits.take(Limit.REQUESTS, call.remote)
        else:
            await self._limits.take(Limit.REQUESTS, call.caller.mailbox_id, bot=call.caller.is_bot)

    def stamped(self, answer: Answer) -> Answer:
        """``answer`` with the time, which libsignal wants on each."""
        return Answer(answer.status, answer.body, {**answer.headers, TIMESTAMP_HEADER: str(self._now())})

    async def _answer(self, call: Call, handler: Handler | None) -> Answer:
        started, template = time.perf_counter(), "unknown"
        try:
            if not call.path.startswith(UNCOUNTED):
                await self.admit(call)
            if handler is None:
                path, _, rest = call.path.partition("?")
                route, call.parameters = self._router.find(call.verb, path)
                template, handler = route.template, route.handler
                call.query = _query(rest.partition("#")[0]) if rest else {}
            answer = await handler(call)
        except Exception as error:  # noqa: BLE001 - the boundary: no fault may reach a peer or a log in its own words
            outcome = outcome_of(error)
            if isinstance(outcome, Internal | Unavailable):
                self._log.error("call_failed", route=template, error=type(error).__name__)
            answer = answer_of(outcome)
        self._traffic.count(template, call.verb, answer.status, milliseconds_since(started))
        return answer


def _query(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
    except ValueError:
        raise MalformedRequest from None


def outcome_of(error: Exception) -> RelayError:
    """What a caller may know of ``error``."""
    match error:
        case RelayError():
            return error
        case MalformedJson():
            return MalformedRequest()
        case InvalidEntity():
            return InvalidRequest(*error.fields)
        case MalformedField():
            return InvalidRequest(error.field)
        case DBAPIError() | PoolTimeout() | OSError():
            return Unavailable()
        case _:
            return Internal()
