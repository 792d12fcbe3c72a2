"""``Bot``: handlers by decorators, run at a relay.

An event is handled when its handler has returned; else it is handled again later, and set aside in the end (``bot.inbox``). In a
conversation events are handled in order, one at a time.
"""

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from messaging.client.bot import router
from messaging.client.bot.account import Account
from messaging.client.bot.context import (
    ChangeContext,
    DeletionContext,
    EditContext,
    EventContext,
    MessageContext,
    ReactionContext,
    ReadContext,
    TimerContext,
    TypingContext,
    context_of,
)
from messaging.client.bot.conversations import RUN, BotConversation, Run, Who, id_of, next_name
from messaging.client.bot.handlers import check_async
from messaging.client.bot.inbox import Leased, ParkedEvent
from messaging.client.bot.logs import log, say
from messaging.client.bot.router import Facts, Found, OfCommands, OfMessages, Router, Wanted, help_text
from messaging.client.bot.settings import Settings
from messaging.client.bot.timers import TimerDue
from messaging.client.bot.worker import Worker
from messaging.client.chats import UnknownConversation
from messaging.client.events import Event, MessageReceived
from messaging.wire.identifiers import ServiceId

WORKERS = 16  # conversations whose events are handled at the same time
GRACE = 20.0  # seconds that handlers have to end when the bot is stopped
HANDLER_SECONDS = 300.0  # after which a handler is interrupted, which is a failure
MAX_PASSING = 100  # of what is told while it happens is handled at the same time; what is more is passed over
HELP = "help"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
OnMessage = TypeVar("OnMessage", bound=Callable[[MessageContext], Awaitable[Any]])
OnReaction = TypeVar("OnReaction", bound=Callable[[ReactionContext], Awaitable[Any]])
OnEdit = TypeVar("OnEdit", bound=Callable[[EditContext], Awaitable[Any]])
OnDeletion = TypeVar("OnDeletion", bound=Callable[[DeletionContext], Awaitable[Any]])
OnChange = TypeVar("OnChange", bound=Callable[[ChangeContext], Awaitable[Any]])
OnRead = TypeVar("OnRead", bound=Callable[[ReadContext], Awaitable[Any]])
OnTyping = TypeVar("OnTyping", bound=Callable[[TypingContext], Awaitable[Any]])
OnTimer = TypeVar("OnTimer", bound=Callable[[TimerContext], Awaitable[Any]])
OnError = TypeVar("OnError", bound=Callable[[EventContext[Any], Exception], Awaitable[Any]])
OnStart = TypeVar("OnStart", bound=Callable[[], Awaitable[Any]])
CallNext = Callable[[], Awaitable[None]]
Middleware = TypeVar("Middleware", bound=Callable[[EventContext[Any], CallNext], Awaitable[Any]])


class NotRunning(RuntimeError):
    """The bot is not connected: what needs its account works in handlers, and from ``@bot.started()`` on."""

    def __init__(self) -> None:
        super().__init__("the bot is not running: do this in a handler, or in one that is marked @bot.started()")


class Bot:
    """A bot. Define its handlers, then :meth:`run` it; of several that match an event, the first one defined gets it."""

    def __init__(
        self,
        name: str,
        *,
        relay: str | None = None,
        ca: Path | str | None = None,
        invite: str | None = None,
        home: Path | str | None = None,
        passphrase: str | None = None,
        handler_seconds: float = HANDLER_SECONDS,
        unsafe_log_tracebacks: bool = False,
    ) -> None:
        """
        Args:
            name: what follows ``@`` in a command that is for this bot alone; also names its folder.
            relay, ca, invite, home, passphrase: see ``Settings``; without them the environment says it.
            handler_seconds: after which a handler is interrupted, which is a failure.
            unsafe_log_tracebacks: log errors with their texts, which may hold what people wrote. For development only.
        """
        if _NAME.fullmatch(name) is None:
            raise ValueError(
                "the name of a bot has 1 to 32 letters, digits, _ and -, and does not begin with one of the last two"
            )
        self.name = name
        self.settings = partial(
            Settings.read, name, relay=relay, ca=ca, invite=invite, home=home, passphrase=passphrase
        )
        self._handler_seconds = handler_seconds
        self._show_errors = unsafe_log_tracebacks
        self._router = Router()
        self._middlewares: list[Callable[[EventContext[Any], CallNext], Awaitable[Any]]] = []
        self._on_error: list[Callable[[EventContext[Any], Exception], Awaitable[Any]]] = []
        self._on_start: list[Callable[[], Awaitable[Any]]] = []
        self._account: Account | None = None
        self._worker: Worker | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._stop_asked = asyncio.Event()
        self._ready = False
        self._failed: Callable[[Exception], None] = lambda _: None

    def __repr__(self) -> str:
        return f"Bot({self.name!r})"

    # --- handlers ---

    def command(self, name: str, *aliases: str, help: str = "") -> Callable[[OnMessage], OnMessage]:  # noqa: A002
        """Of messages that begin with ``/name`` or ``/name@bot``. With a ``help`` text, ``/help`` lists it."""
        return self._adder(
            OfCommands(tuple(each.lower() for each in (name, *aliases)), help), "the handler of a command"
        )

    def message(
        self,
        pattern: str | re.Pattern[str] | None = None,
        *,
        private: bool | None = None,
        attachments: bool | None = None,
        mentioned: bool | None = None,
        from_bots: bool = False,
    ) -> Callable[[OnMessage], OnMessage]:
        """Of messages in which ``pattern`` is found (``message.match``), and that have these properties, where they are asked for.

        Args:
            private: from a conversation with nobody else.
            attachments: with files.
            mentioned: that name the bot.
            from_bots: also of other bots. Two that answer each other never end.
        """
        searched = re.compile(pattern) if isinstance(pattern, str) else pattern
        wanted = OfMessages(searched, private, attachments, mentioned, from_bots)
        return self._adder(wanted, "the handler of a message")

    def reaction(self) -> Callable[[OnReaction], OnReaction]:
        """Of reactions, and of their end."""
        return self._adder(router.REACTIONS, "the handler of a reaction")

    def edited(self) -> Callable[[OnEdit], OnEdit]:
        """Of edits of messages."""
        return self._adder(router.EDITS, "the handler of an edit")

    def deleted(self) -> Callable[[OnDeletion], OnDeletion]:
        """Of messages that are to be forgotten."""
        return self._adder(router.DELETIONS, "the handler of a deletion")

    def members(self) -> Callable[[OnChange], OnChange]:
        """Of others that have come or gone."""
        return self._adder(router.MEMBERS, "the handler of members")

    def joined(self) -> Callable[[OnChange], OnChange]:
        """Of conversations that the bot is in from now on."""
        return self._adder(router.JOINED, "the handler of joining")

    def left(self) -> Callable[[OnChange], OnChange]:
        """Of conversations that the bot is out of from now on."""
        return self._adder(router.LEFT, "the handler of leaving")

    def conversation(self) -> Callable[[OnChange], OnChange]:
        """Of all that changes a conversation."""
        return self._adder(router.CONVERSATIONS, "the handler of a conversation")

    def read(self) -> Callable[[OnRead], OnRead]:
        """Of messages of the bot that were read."""
        return self._adder(router.READS, "the handler of reading")

    def typing(self) -> Callable[[OnTyping], OnTyping]:
        """Of people who begin or cease to write: told while it happens, once, or never."""
        return self._adder(router.TYPING, "the handler of typing")

    def timer(self, name: str) -> Callable[[OnTimer], OnTimer]:
        """Of timers that were set with ``conversation.later(when, name)``."""
        return self._adder(router.timers_named(name), "the handler of a timer")

    def started(self) -> Callable[[OnStart], OnStart]:
        """Called without an event whenever the bot is connected, before it handles anything."""

        def add(function: OnStart) -> OnStart:
            check_async(function, takes=0, what="what is called at the start")
            self._on_start.append(function)
            return function

        return add

    def error(self) -> Callable[[OnError], OnError]:
        """Told whenever a handler fails: the event, and what was raised. The event is handled again, whatever this does."""

        def add(function: OnError) -> OnError:
            check_async(function, takes=2, what="the handler of errors")
            self._on_error.append(function)
            return function

        return add

    def middleware(self, function: Middleware) -> Middleware:
        """Called around the handler, the first one outermost: ``async def …(context, call_next)``, which awaits ``call_next()``.

        An event is over when it returns; if it does not call the next one, the event is over without its handler.
        """
        check_async(function, takes=2, what="a middleware")
        self._middlewares.append(function)
        return function

    def _adder(self, wanted: Wanted, what: str) -> Callable[[F], F]:
        def add(function: F) -> F:
            check_async(function, takes=1, what=what)
            self._router.add(wanted, function)
            return function

        return add

    # --- what it can do besides handling ---

    @property
    def account(self) -> Account:
        """The account, while the bot runs."""
        if self._account is None:
            raise NotRunning
        return self._account

    @property
    def id(self) -> ServiceId:
        """Its service id, by which people write to it."""
        return self.account.me

    @property
    def conversations(self) -> list[BotConversation]:
        """Those that it is in."""
        account = self.account
        return [BotConversation(account, each.key) for each in account.conversations if account.me in each.members]

    def find(self, key: bytes) -> BotConversation:
        """The conversation that this key names.

        Raises:
            UnknownConversation: it is in no such conversation.
        """
        return BotConversation(self.account, self.account.conversation(key).key)

    async def create(self, title: str, members: Iterable[Who]) -> BotConversation:
        """Begin a conversation, of which the bot is the only admin. Another call begins another one; a handler that is run again does not."""
        begun = await self.account.create(title, [id_of(who) for who in members], once=next_name())
        return BotConversation(self.account, begun.key)

    async def set_profile(self, name: str, about: str = "") -> None:
        """What it wants to be called; everybody whom it talks to is told."""
        await self.account.set_profile(name, about)

    @property
    def timers(self) -> list[TimerDue]:
        """The timers that have not come yet."""
        return self.account.inbox.timers

    async def cancel(self, key: str) -> bool:
        """Forget a timer; says whether there was one that had not come yet."""
        return await self.account.inbox.cancel(key)

    async def parked(self) -> list[ParkedEvent]:
        """Events that failed so often that they were set aside, the first hundred."""
        return await self.account.inbox.parked()

    async def replay(self, *numbers: int) -> int:
        """Handle parked events again; returns how many there were."""
        return await self.account.inbox.replay(*numbers)

    async def drop(self, *numbers: int) -> int:
        """Forget parked events; returns how many there were."""
        return await self.account.inbox.drop(*numbers)

    # --- running ---

    def run(self, argv: Sequence[str] | None = None, *, workers: int = WORKERS, grace: float = GRACE) -> None:
        """Connect and handle events until SIGINT or SIGTERM; ``--help`` names the options of the command line.

        Args:
            argv: options; without it those of this process.
            workers: conversations whose events are handled at the same time.
            grace: seconds that handlers have to end when it is stopped.

        Raises:
            SystemExit: it cannot run; standard error says why and what to do.
        """
        from messaging.client.bot.command_line import run  # stands on this module

        if code := run(self, argv, workers=workers, grace=grace):
            raise SystemExit(code)

    async def serve(
        self,
        account: Account,
        *,
        workers: int = WORKERS,
        grace: float = math.inf,
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """Handle the events of ``account`` until :meth:`stop`. ``failed`` hears what handlers raise."""
        if self._account is not None:
            raise RuntimeError("this bot is running already")
        if workers < 1:
            raise ValueError("a bot needs at least one worker")
        self._account, self._failed = account, failed
        self._worker = Worker(
            account.inbox,
            self._handle,
            at_once=workers,
            limit=self._handler_seconds,
            show_errors=self._show_errors,
        )
        try:
            if not self._stopped:
                await self._serve(account, self._worker, grace)
        finally:
            self._account = self._worker = None
            self._stopped = self._ready = False
            self._stop_asked.clear()

    def stop(self) -> None:
        """Take no more events; :meth:`serve` returns when those in hand are over."""
        self._stopped = True
        self._stop_asked.set()
        if self._worker is not None:
            self._worker.stop()

    async def stopping(self, seconds: float) -> bool:
        """Wait until it is told to stop, at most so long; says whether it was."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_asked.wait()
        return self._stopped

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop, and has not done so yet."""
        return self._stopped

    @property
    def ready(self) -> bool:
        """Whether it is connected, and what is called at the start has returned."""
        return self._ready

    @property
    def busy(self) -> bool:
        """Whether any event is being handled."""
        return bool(self._passing) or (self._worker is not None and self._worker.busy)

    async def _serve(self, account: Account, worker: Worker, grace: float) -> None:
        account.on_passing(self._hear)
        try:
            for function in self._on_start:
                await function()
            self._ready = True
            say(logging.INFO, "started", count=account.inbox.waiting)
            await worker.run(grace=grace)
            say(logging.INFO, "stopped", count=account.inbox.waiting)
        finally:
            account.on_passing(lambda _: None)
            for task in self._passing:
                task.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)

    # --- inside: one event ---

    async def _handle(self, leased: Leased) -> None:
        found = self._find(leased.event)
        if found is None:
            return
        context = context_of(self.account, leased.event, leased.attempt, found.call, found.match)
        token = RUN.set(Run(context.id))
        try:
            await self._through_middlewares(context, found)
        except Exception as error:
            if isinstance(error, UnknownConversation) and self._is_out(leased.event):
                say(logging.INFO, "out of the conversation", kind=leased.event.kind)
                return
            await self._tell(context, error)
            raise
        finally:
            RUN.reset(token)

    async def _through_middlewares(self, context: EventContext[Any], found: Found) -> None:
        call: Callable[[], Awaitable[Any]] = partial(found.handler, context)
        for middleware in reversed(self._middlewares):
            call = partial(middleware, context, call)
        await call()

    async def _tell(self, context: EventContext[Any], error: Exception) -> None:
        """Whoever wants to hear of errors; what they say is named apart, since the handler may have said more or less this time."""
        self._failed(error)
        for function in self._on_error:
            token = RUN.set(Run(context.id, "!"))
            try:
                await function(context, error)
            except Exception as another:  # noqa: BLE001  # it must not hide the first one
                self._failed(another)
                say(logging.WARNING, "handler of errors failed", error=type(another).__name__)
            finally:
                RUN.reset(token)

    def _find(self, event: Event) -> Found | None:
        found = self._router.find(event, self._facts(event))
        if isinstance(event, MessageReceived) and self._asks_for_help(event):
            return Found(self._help)
        return found

    def _facts(self, event: Event) -> Facts:
        me = self.account.me
        try:
            known = self.account.conversation(event.conversation)
        except UnknownConversation:
            return Facts(me, self.name)
        return Facts(me, self.name, known.members, [each.service_id for each in known.bots])

    def _asks_for_help(self, event: MessageReceived) -> bool:
        call = router.read_call(event.text)
        asks = call is not None and call.command == HELP and call.addressee in ("", self.name.lower())
        mine = event.sender == self.account.me
        return asks and not mine and not self._router.handles(HELP) and bool(help_text(self._router.commands))

    async def _help(self, message: MessageContext) -> None:
        await message.reply(help_text(self._router.commands))

    def _is_out(self, event: Event) -> bool:
        return self.account.me not in self._facts(event).members

    # --- inside: what is not kept ---

    def _hear(self, event: Event) -> None:
        found = self._find(event)
        if found is None or len(self._passing) >= MAX_PASSING:
            return
        task = asyncio.create_task(self._handle_passing(event, found))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _handle_passing(self, event: Event, found: Found) -> None:
        try:
            async with asyncio.timeout(self._handler_seconds):
                await self._through_middlewares(context_of(self.account, event, 1), found)
        except Exception as error:  # noqa: BLE001  # nobody is told twice
            self._failed(error)
            say(logging.WARNING, "failed", kind=event.kind, error=type(error).__name__)
            if self._show_errors:
                log.warning("what was raised", exc_info=error)
