"""A writer with weights of its own: loads a directory, and answers requests from one event loop.

What the loop does is little: it encodes prompts in threads, leaves orders with the worker, and hands out what comes back. Nothing of a
prompt or an answer is in an error, a log or a name.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from ai_enclave.engine.interface import Done, Event, Failed, Failure, Request, Stats, WriterKind
from ai_enclave.engine.local.batcher import Ask, Events
from ai_enclave.engine.local.files import Files
from ai_enclave.engine.local.loading import DEFAULT_CONTEXT, Loaded, Options, load
from ai_enclave.engine.local.prompt import TooLong
from ai_enclave.engine.local.scheduler import Limits
from ai_enclave.engine.local.worker import Cancel, End, Worker
from ai_enclave.engine.weights import EngineError

_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 64


@dataclass(slots=True, eq=False)
class _Ticket:
    """One request, as the event loop knows it."""

    number: int
    loop: asyncio.AbstractEventLoop
    request: Request = field(repr=False)
    events: asyncio.Queue[Event] = field(repr=False, default_factory=asyncio.Queue)
    ordered: bool = False
    ended: bool = False

    def hear(self, event: Event) -> None:
        """In the loop: nothing follows an end."""
        if not self.ended:
            self.ended = isinstance(event, Done | Failed)
            self.events.put_nowait(event)


class LocalEngine:
    """A ``Writer``. Make it with ``load``; use it from one event loop."""

    def __init__(self, loaded: Loaded, name: str = "") -> None:
        self._name = f"local/{_clean(name or loaded.title)}/{loaded.number_format}"
        self._kind = WriterKind.LOCAL_INT8 if loaded.number_format == "int8" else WriterKind.LOCAL
        self._digest = loaded.weights_digest
        self._batcher = loaded.batcher
        self._prompts = loaded.prompts
        self._context = loaded.context
        self._worker = Worker(self._batcher, self._deliver)
        self._tickets: dict[int, _Ticket] = {}
        self._numbers = itertools.count()
        self._idle: list[asyncio.Future[None]] = []
        self._refused = 0  # before the batcher heard of them
        self._open = True

    @classmethod
    def load(
        cls,
        files: Files,
        *,
        name: str = "",
        expected: bytes | None = None,
        int8: bool = False,
        number_format: str | None = None,
        threads: int | None = None,
        context: int = DEFAULT_CONTEXT,
        cache_bytes: int | None = None,
        limits: Limits | None = None,
    ) -> "LocalEngine":
        """Verify and load a directory of weights, on a GPU if there is one. Takes seconds to minutes: call it in a thread.

        Args:
            files: the directory.
            name: what to call the model; as its config does, if empty.
            expected: the digest that the directory must have.
            int8: round the layers' matrices to 8 bits.
            number_format: "fp32" or "bf16"; ``None`` is the former on a CPU and the latter on a GPU.
            threads: cores to use; all that this process has, if ``None``.
            context: the most tokens of a prompt and its answer.
            cache_bytes: for keys and values.
            limits: of the scheduler.

        Raises:
            EngineError: the directory is not what it should be, or does not fit into memory.
        """
        options = Options(
            expected=expected,
            int8=int8,
            number_format=number_format,
            threads=threads,
            context=context,
            cache_bytes=cache_bytes,
            limits=limits or Limits(),
        )
        return cls(load(files, options), name)

    @property
    def name(self) -> str:
        """What spoke: the model and its number format."""
        return self._name

    @property
    def weights_digest(self) -> bytes:
        """SHA-256 over the digests of all files that are used."""
        return self._digest

    @property
    def kind(self) -> WriterKind:
        """As the measurement names it."""
        return self._kind

    async def warm(self) -> None:
        """Start the thread; the weights are loaded and were tried already.

        Raises:
            EngineError: it was closed.
        """
        if not self._open:
            raise EngineError("the engine was closed")
        self._worker.start()

    async def submit(self, request: Request) -> AsyncGenerator[Event]:
        """Admitted, tokens, and at the end one of Done or Failed. Closing the generator cancels. It raises nothing."""
        if not self._open:
            self._refused += 1
            yield Failed(Failure.DRAINING)
            return
        ticket = _Ticket(next(self._numbers), asyncio.get_running_loop(), request)
        self._tickets[ticket.number] = ticket
        try:
            await self._order(ticket)
            event: Event | None = None
            while not isinstance(event, Done | Failed):
                event = await ticket.events.get()
                yield event
        finally:
            if not ticket.ended:
                self._stop(ticket)

    def cancel(self, request_id: bytes) -> None:
        """Stop the work on a request, if there is any: it ends with Failed."""
        for ticket in list(self._tickets.values()):
            if ticket.request.id == request_id:
                self._stop(ticket)

    async def drain(self) -> None:
        """Take nothing new, and wait until what was taken is done."""
        self._open = False
        if self._tickets:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    def stats(self) -> Stats:
        """How busy it is."""
        stats = self._batcher.stats()
        return replace(stats, failed=stats.failed + self._refused)

    async def close(self) -> None:
        """End; what still runs ends with Failed. All that was kept is overwritten."""
        self._open = False
        self._worker.start()
        self._worker.order(End())
        await asyncio.to_thread(self._worker.join)
        for ticket in list(self._tickets.values()):
            self._stop(ticket)

    async def _order(self, ticket: _Ticket) -> None:
        """Encode the prompt, and leave the order; or say at once why not."""
        request = ticket.request
        try:
            prompt = await asyncio.to_thread(self._prompts.build, request.instructions, request.text)
        except TooLong:
            self._refuse(ticket, Failure.TOO_LONG)
            return
        except Exception:  # noqa: BLE001  # the tokenizer raises nothing more exact, and nobody may see what it says
            self._refuse(ticket, Failure.BROKEN)
            return
        if ticket.ended:
            return
        most = min(request.most_tokens, self._context - len(prompt.tokens))
        ask = Ask(
            number=ticket.number,
            tenant=request.tenant,
            deadline=request.deadline,
            most=most,
            priority=request.priority,
            prompt=prompt,
            form=request.form,
        )
        self._worker.start()
        self._worker.order(ask)
        ticket.ordered = True

    def _stop(self, ticket: _Ticket) -> None:
        """Whoever listens hears it now; the worker, before its next step."""
        if ticket.ordered:
            self._worker.order(Cancel(ticket.number))
            self._hear(ticket, Failed(Failure.CANCELLED))
        else:
            self._refuse(ticket, Failure.CANCELLED)

    def _refuse(self, ticket: _Ticket, why: Failure) -> None:
        self._refused += 1
        self._hear(ticket, Failed(why))

    def _deliver(self, events: Events) -> None:
        """In the worker's thread: wake each loop once."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Ticket, Event]]] = {}
        for number, event in events:
            if (ticket := self._tickets.get(number)) is not None:
                by_loop.setdefault(ticket.loop, []).append((ticket, event))
        for loop, heard in by_loop.items():
            with contextlib.suppress(RuntimeError):  # a loop that was closed hears nothing more
                loop.call_soon_threadsafe(self._hear_all, heard)

    def _hear_all(self, heard: list[tuple[_Ticket, Event]]) -> None:
        for ticket, event in heard:
            self._hear(ticket, event)

    def _hear(self, ticket: _Ticket, event: Event) -> None:
        ticket.hear(event)
        if ticket.ended:
            self._forget(ticket)

    def _forget(self, ticket: _Ticket) -> None:
        self._tickets.pop(ticket.number, None)
        if not self._tickets:
            for idle in self._idle:
                if not idle.done():
                    idle.set_result(None)
            self._idle.clear()


def _clean(name: str) -> str:
    return _NAME.sub("-", name)[:_LONGEST_NAME]
