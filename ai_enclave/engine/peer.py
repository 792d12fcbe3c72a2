"""A writer over a model server (vLLM, or another that speaks OpenAI's protocol) inside the same TEE.

It keeps tenants apart (each has a cache salt that nobody outside this process knows), bounds everything that the server may do to
it, and checks what the server was told to keep to. The server sees prompts: it belongs to what is attested, and its address is on
loopback or a Unix socket, or this engine is not made. The protocol is ``peer_wire``, the order of requests ``peer_turns``.

Start vLLM with ``--enable-prompt-tokens-details``: ``warm`` can then tell whether it heeds the salts, and does not use it if it
does not. Nothing of a prompt is logged here; that the server logs none is up to its options.
"""

import asyncio
import base64
import hashlib
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from aiohttp import (
    BaseConnector,
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
    UnixConnector,
)

from ai_enclave.engine.interface import Admitted, Done, Event, Failed, Failure, Lines, Request, Stats, WriterKind
from ai_enclave.engine.peer_turns import Turns
from ai_enclave.engine.peer_wire import (
    Address,
    AnswerStream,
    NoAnswer,
    Usage,
    encode_request,
    parse_address,
    refusal,
    serves,
)
from ai_enclave.engine.weights import EngineError

MAX_REFUSAL = 16 * 1024  # bytes of an error that are read
MAX_MODELS = 256 * 1024  # bytes of a list of models
FIRST_RETRY = 0.1  # seconds; doubled each time
LAST_RETRY = 1.6  # seconds: all of them take three, and then whoever asks has something else to do
WARM_PAUSE = 0.5  # seconds between two looks at a server that is starting
TRIAL_SECONDS = 120.0  # for one answer while warming: a server may compile first
TRIAL_TOKENS = 64

T = TypeVar("T")

_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_DIGEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """Where the server is, what it serves, and for how long it is waited for.

    ``url`` is as ``peer_wire.parse_address`` takes it. ``model`` is the name that the server gives its model. ``weights_digest`` (32
    bytes) names the weights that it was started with: whoever started it checked them. ``stop`` are texts that end an answer.
    """

    url: str
    model: str
    weights_digest: bytes
    api_key: str | None = field(default=None, repr=False)
    stop: tuple[str, ...] = ()
    slots: int = 32  # requests that the server has at a time
    connect_seconds: float = 2.0
    first_byte_seconds: float = 60.0  # from the request to the answer's head, and from there to its first byte
    between_seconds: float = 20.0  # from one byte to the next
    warm_seconds: float = 600.0  # for the server to be ready


_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 64  # characters of a model's name as it stands in receipts


class PeerEngine:
    """A model server as a writer. Make it, ``warm`` it and use it in one event loop."""

    def __init__(self, settings: PeerSettings) -> None:
        """Contacts nobody yet.

        Raises:
            EngineError: the address is not on this machine, or the digest is none.
        """
        if len(settings.weights_digest) != _DIGEST:
            raise EngineError(f"the weights digest of the model server is {_DIGEST} bytes")
        self._settings = settings
        self._address = parse_address(settings.url)
        self._salt_key = bytearray(secrets.token_bytes(32))
        self._turns = Turns(settings.slots)
        self._session: ClientSession | None = None
        self._jobs: set[_Job] = set()
        self._draining = False
        self._counts = Stats()

    @property
    def name(self) -> str:
        """What spoke."""
        return f"peer/{_NAME.sub('-', self._settings.model)[:_LONGEST_NAME]}"

    @property
    def kind(self) -> WriterKind:
        """As the measurement names it."""
        return WriterKind.SERVER

    @property
    def weights_digest(self) -> bytes:
        """Of the weights that the server was started with."""
        return self._settings.weights_digest

    async def warm(self) -> None:
        """Wait for the server, check what it serves, and have it answer: in the form, and with tenants apart.

        Raises:
            EngineError: it is not ready in time, serves another model, leaves the form, or shares between tenants.
        """
        try:
            async with asyncio.timeout(self._settings.warm_seconds):
                await self._be_healthy()
                await self._serve_the_model()
                await self._keep_tenants_apart()
        except TimeoutError:
            raise EngineError(
                f"the model server was not ready within {self._settings.warm_seconds:.0f} seconds: see whether it runs, and "
                "listens where this enclave looks for it"
            ) from None

    async def submit(self, request: Request) -> AsyncGenerator[Event]:
        """Admitted, tokens, and at the end one of Done or Failed; work begins with the first step. Closing it cancels."""
        if self._draining:
            self._count(Failed(Failure.DRAINING), None)
            yield Failed(Failure.DRAINING)
            return
        job = _Job(request)
        job.task = asyncio.create_task(self._work(job))
        self._jobs.add(job)
        job.task.add_done_callback(partial(self._settle, job))
        try:
            while True:
                event = await job.events.get()
                yield event
                if isinstance(event, Done | Failed):
                    return
        finally:
            job.task.cancel()

    def cancel(self, request_id: bytes) -> None:
        """Stop the work on a request, if there is any: it ends with Failed."""
        for job in self._jobs:
            if job.request.id == request_id and job.task is not None:
                job.task.cancel()

    async def drain(self) -> None:
        """Take nothing new, and wait until what was taken is done."""
        self._draining = True
        await self._finish()

    def stats(self) -> Stats:
        """How busy it is. Tokens are as the server counts them."""
        return replace(self._counts, running=self._turns.running, waiting=self._turns.waiting)

    async def close(self) -> None:
        """End; what still runs ends with Failed. The server keeps its cache until it ends, under salts that nobody knows then."""
        self._draining = True
        for job in self._jobs:
            if job.task is not None:
                job.task.cancel()
        await self._finish()
        self._salt_key[:] = bytes(len(self._salt_key))
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _finish(self) -> None:
        while tasks := [job.task for job in self._jobs if job.task is not None]:
            await asyncio.wait(tasks)

    def _settle(self, job: "_Job", task: "asyncio.Task[Done | Failed]") -> None:
        """However the work on a request ended, its reader is told; a task that was cancelled could not do so itself."""
        if task.cancelled():
            end: Done | Failed = Failed(Failure.CANCELLED)
        elif error := task.exception():  # ours: whoever watches this process learns its type and place
            task.get_loop().call_exception_handler({"message": "a request to a model server", "exception": error})
            end = Failed(Failure.BROKEN)
        else:
            end = task.result()
        self._jobs.discard(job)
        self._count(end, job.usage)
        job.events.put_nowait(end)

    def _count(self, end: Done | Failed, usage: Usage | None) -> None:
        counts, usage = self._counts, usage or Usage(0, 0)
        self._counts = replace(
            counts,
            finished=counts.finished + isinstance(end, Done),
            failed=counts.failed + isinstance(end, Failed),
            prompt_tokens=counts.prompt_tokens + usage.prompt_tokens,
            tokens=counts.tokens + usage.tokens,
            shared_prompt_tokens=counts.shared_prompt_tokens + usage.shared,
        )

    async def _work(self, job: "_Job") -> Done | Failed:
        request = job.request
        left = request.deadline - time.monotonic()
        if left <= 0:
            return Failed(Failure.LATE)
        try:
            async with asyncio.timeout(left), self._turns.turn(request.tenant, request.priority):
                return await self._persist(job)
        except TimeoutError:
            return Failed(Failure.LATE)
        except NoAnswer as no:
            return Failed(no.why)

    async def _persist(self, job: "_Job") -> Done:
        """Ask again while the server cannot be reached or is busy, as long as there is time to."""
        body = encode_request(
            job.request, model=self._settings.model, salt=self._salt(job.request.tenant), stop=self._settings.stop
        )
        pause = FIRST_RETRY
        while True:
            try:
                return await self._ask(job, body)
            except _TryAgain as again:
                if pause > LAST_RETRY or time.monotonic() + pause >= job.request.deadline:
                    raise NoAnswer(again.why) from None
            await asyncio.sleep(pause)
            pause *= 2

    async def _ask(self, job: "_Job", body: bytes) -> Done:
        settings = self._settings
        async with self._response("POST", "/v1/chat/completions", body) as response:
            if response.status in _BUSY:
                raise _TryAgain(Failure.BUSY)
            if response.status != HTTPStatus.OK:
                raise refusal(response.status, await self._limited(response, MAX_REFUSAL))
            if response.content_type != "text/event-stream" or "Content-Encoding" in response.headers:
                raise NoAnswer(Failure.BROKEN)
            job.events.put_nowait(Admitted())
            answer = AnswerStream(job.request.form)
            patience = settings.first_byte_seconds
            while data := await _within(patience, response.content.readany()):
                patience = settings.between_seconds
                for event in answer.feed(data):
                    if isinstance(event, Done):
                        job.usage = answer.usage
                        return event
                    job.events.put_nowait(event)
        raise NoAnswer(Failure.BROKEN)  # it ended before its end

    @asynccontextmanager
    async def _response(self, method: str, path: str, body: bytes | None = None) -> AsyncGenerator[ClientResponse]:
        """The head of an answer. The connection ends with the block, so that the server stops working for nobody."""
        request = self._http().request(method, self._address.base + path, data=body, allow_redirects=False)
        try:
            response = await _within(self._settings.first_byte_seconds, request)
        except (ClientConnectorError, ConnectionTimeoutError):
            raise _TryAgain(Failure.BROKEN) from None
        except ClientError:
            raise NoAnswer(Failure.BROKEN) from None
        try:
            yield response
        except ClientError:
            raise NoAnswer(Failure.BROKEN) from None
        finally:
            response.close()

    async def _limited(self, response: ClientResponse, limit: int) -> bytes:
        content = b""
        while data := await _within(self._settings.between_seconds, response.content.readany()):
            content += data
            if len(content) > limit:
                raise NoAnswer(Failure.BROKEN)
        return content

    def _http(self) -> ClientSession:
        if self._session is None:
            headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
            if self._settings.api_key is not None:
                headers["Authorization"] = f"Bearer {self._settings.api_key}"
            self._session = ClientSession(
                connector=_connector(self._address),
                cookie_jar=DummyCookieJar(),
                headers=headers,
                timeout=ClientTimeout(total=None, sock_connect=self._settings.connect_seconds),
                auto_decompress=False,
                trust_env=False,  # else a proxy from the environment would see prompts
            )
        return self._session

    def _salt(self, tenant: bytes) -> str:
        """What the server keeps of a tenant's prompts it finds again for nobody without this: 256 bits, in base64."""
        digest = hashlib.blake2b(tenant, digest_size=32, key=self._salt_key, person=b"cache salt").digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    async def _be_healthy(self) -> None:
        while True:
            with suppress(NoAnswer):
                async with self._response("GET", "/health") as response:
                    if response.status == HTTPStatus.OK:
                        return
            await asyncio.sleep(WARM_PAUSE)

    async def _serve_the_model(self) -> None:
        try:
            async with self._response("GET", "/v1/models") as response:
                right = serves(await self._limited(response, MAX_MODELS), self._settings.model)
        except NoAnswer:
            raise EngineError("the model server does not say what it serves: it has to answer GET /v1/models") from None
        if not right:
            raise EngineError(
                f"the model server does not serve {self._settings.model}: start it with this model, or with "
                "--served-model-name"
            )

    async def _keep_tenants_apart(self) -> None:
        """The same prompt for one tenant twice, then for another one, whom nothing of it may reach."""
        one, other = secrets.token_bytes(32), secrets.token_bytes(32)
        *_, usage = [await self._trial(tenant) for tenant in (one, one, other)]
        if usage.shared:
            raise EngineError(
                "the model server shares what it keeps of prompts between tenants: it does not heed cache_salt. Use a "
                "version that does, or turn its prefix cache off"
            )

    async def _trial(self, tenant: bytes) -> Usage:
        deadline = time.monotonic() + TRIAL_SECONDS
        job = _Job(replace(_TRIAL, tenant=tenant, deadline=deadline))
        end = await self._work(job)
        if isinstance(end, Failed) or job.usage is None:
            raise EngineError(
                "the model server did not give a right answer to a trial: it has to keep to a response_format with a JSON "
                "schema, to count tokens in its stream, and to take prompts of 2,000 tokens"
            )
        return job.usage


class _TryAgain(NoAnswer):
    """There is no answer yet, and nothing of one has come."""


@dataclass(slots=True, eq=False)
class _Job:
    """A request at work. Its events wait here for its reader: an answer is short, and a slow reader keeps no server waiting."""

    request: Request
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    task: "asyncio.Task[Done | Failed] | None" = None
    usage: Usage | None = None


_TRIAL = Request(
    id=b"trial",
    instructions="Repeat one line of what follows, and cite it.",
    text="\n".join(f"Line {number}: nobody wrote this line, and nobody will read it." for number in range(64)),
    tenant=b"",
    deadline=0.0,
    most_tokens=TRIAL_TOKENS,
    form=Lines(labels=("A", "B"), most=2, longest=40),
)


def _connector(address: Address) -> BaseConnector:
    """A new connection for each request: on one machine it costs nothing, and an old one may be dead."""
    if address.socket is not None:
        return UnixConnector(str(address.socket), limit=0, force_close=True)
    return TCPConnector(limit=0, force_close=True, use_dns_cache=False)


async def _within(seconds: float, work: Awaitable[T]) -> T:
    """``work``, if it is done in time: else the server hangs."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except ConnectionTimeoutError:
        raise
    except TimeoutError:
        raise NoAnswer(Failure.BROKEN) from None
