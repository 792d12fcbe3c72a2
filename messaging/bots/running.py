"""One bot while the gateway runs: its account, who gets its updates, and its tokens.

An account that cannot be opened is tried again; meanwhile its methods answer that it is not there, and other bots go on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from messaging.bots.errors import BadRequest, Conflict, TooMany, Unauthorized, Unavailable
from messaging.bots.feed import Feed
from messaging.bots.limits import MAX_REQUESTS, MAX_TOKENS
from messaging.bots.polling import Polling
from messaging.bots.records import Bot, Records, Webhook
from messaging.bots.tokens import Token, find_token
from messaging.bots.webhooks import Delivery, Execute, Surroundings
from messaging.client.bot.account import Account
from messaging.serving.logs import get_logger

OpenAccount = Callable[[Bot], AbstractAsyncContextManager[Account]]
"""Opens the account of a bot, connected."""

_DELIVERING = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook first"
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0  # seconds before an account is opened again


@dataclass(frozen=True, slots=True)
class Session:
    """The bot's account, and its updates."""

    account: Account
    feed: Feed
    polling: Polling


@dataclass(frozen=True, slots=True)
class Services:
    """What all bots of a gateway use. ``execute`` runs a method for a bot, of whom the answer of a target asked it."""

    records: Records
    around: Surroundings
    open_account: OpenAccount
    execute: Callable[["RunningBot"], Execute] = field(repr=False)

    @property
    def now(self) -> Callable[[], int]:
        """Milliseconds since 1970."""
        return self.around.now


class RunningBot:
    """One bot. ``bot`` is what is stored of it, at any time."""

    def __init__(self, bot: Bot, tokens: Sequence[Token], services: Services) -> None:
        self.bot = bot
        self.delivery: Delivery | None = None
        self._tokens = list(tokens)
        self._services = services
        self._session: Session | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._requests = 0
        self._changing = asyncio.Lock()
        self._switching = asyncio.Lock()  # while it is decided who gets the updates
        self._replacing = asyncio.Lock()  # while tokens change
        self._bound: set[tuple[str, asyncio.Timeout]] = set()  # what goes on for as long as a token is valid
        self._log = get_logger()

    # --- who may call ---

    def authenticate(self, text: str) -> Token:
        """The token that ``text`` is.

        Raises:
            Unauthorized: none of this bot.
        """
        return find_token(self._tokens, text, now=self._services.now())

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Those that are valid, the newest last."""
        return tuple(token for token in self._tokens if token.is_valid(self._services.now()))

    async def rotate(self, old: Token, *, overlap: int) -> tuple[str, Token]:
        """A new token in place of ``old``, which is valid for ``overlap`` seconds more; returns it, and what is left of the old one.

        It has the scopes of ``old``, and its end, if that has one.

        Raises:
            BadRequest: the bot has too many tokens, or ``old`` has been rotated before.
            Unauthorized: ``old`` is not valid any more.
        """
        async with self._replacing:
            old = self._still(old)
            if old.replaced:
                raise BadRequest("Bad Request: the token has been rotated: use the one in its place")
            now = self._services.now()
            text, new = Token.make(self.bot.number, old.scopes, now=now, expires_at=old.expires_at)
            ending = old.until(now + overlap * 1000)
            await self._replace_tokens(old.id, [ending, new])
        self._bind_again()
        return text, ending

    async def add_token(self, scopes: Sequence[str], *, seconds: int | None = None) -> tuple[str, Token]:
        """A further token, valid for ``seconds``.

        Raises:
            BadRequest: the bot has too many tokens.
            ValueError: there is no such scope.
        """
        now = self._services.now()
        expires_at = None if seconds is None else now + seconds * 1000
        text, new = Token.make(self.bot.number, scopes, now=now, expires_at=expires_at)
        async with self._replacing:
            await self._replace_tokens("", [new])
        return text, new

    async def revoke(self, token_id: str) -> bool:
        """Make a token worthless at once, and end what goes on under it; says whether there was one."""
        async with self._replacing:
            self._tokens = [token for token in self._tokens if token.id != token_id]
            self._bind_again()
            return await self._services.records.delete_token(self.bot.number, token_id)

    def _still(self, token: Token) -> Token:
        """A token as it is now."""
        found = next((each for each in self.tokens if each.id == token.id), None)
        if found is None:
            raise Unauthorized
        return found

    async def _replace_tokens(self, old: str, new: list[Token]) -> None:
        kept = [token for token in self.tokens if token.id != old]
        if len(kept) + len(new) > MAX_TOKENS:
            raise BadRequest("Bad Request: the bot has too many tokens: revoke some")
        await self._services.records.save_tokens(*new)
        ended = [token for token in self._tokens if token not in kept and token.id != old]
        self._tokens = [*kept, *new]
        for token in ended:
            await self._services.records.delete_token(self.bot.number, token.id)

    @asynccontextmanager
    async def while_valid(self, token: Token) -> AsyncIterator[None]:
        """End the block when ``token`` is worth nothing any more.

        Raises:
            Unauthorized: it was revoked, or rotated, or its time is over.
        """
        timeout = asyncio.timeout(None)
        bound = (token.id, timeout)
        try:
            async with timeout:
                self._bound.add(bound)
                self._bind_again()
                try:
                    yield
                finally:
                    self._bound.discard(bound)
        except TimeoutError:
            if timeout.expired():
                raise Unauthorized from None
            raise

    def _bind_again(self) -> None:
        """Let each block end with its token, as those are now."""
        now, clock = self._services.now(), asyncio.get_running_loop().time()
        ends = {token.id: token.expires_at for token in self.tokens}
        for name, timeout in self._bound:
            if not timeout.expired():
                end = ends.get(name, now)
                timeout.reschedule(None if end is None else clock + (end - now) / 1000)

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        """Count a request while it is answered.

        Raises:
            TooMany: at the same time.
        """
        if self._requests >= MAX_REQUESTS:
            raise TooMany
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    # --- its account ---

    @property
    def session(self) -> Session:
        """The account.

        Raises:
            Unavailable: it is not open now.
        """
        if self._session is None:
            raise Unavailable
        return self._session

    @property
    def is_connected(self) -> bool:
        """Whether its account is open."""
        return self._session is not None

    def end_waiting(self) -> None:
        """Answer all who wait for updates that there will be none now."""
        if self._session is not None:
            self._session.polling.end_waiting()

    async def run(self) -> None:
        """Keep the account open, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._services.open_account(self.bot) as account:
                    pause = FIRST_PAUSE
                    await self._serve(account)
            except Exception as error:  # noqa: BLE001 - other bots go on, and this one is tried again
                self._log.warning("account_not_open", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)

    async def _serve(self, account: Account) -> None:
        feed = Feed(lambda: self.bot, account, self._services.records, now=self._services.now)
        try:
            async with self._switching:
                self._session = Session(account, feed, Polling(feed))
                self._start_delivery()
            await asyncio.Event().wait()
        finally:
            async with self._switching:
                session, self._session = self._session, None
                await self._stop_delivery()
            if session is not None:
                await session.polling.close()

    # --- what is stored of it ---

    async def change(self, **changes: Any) -> None:
        """Change what is stored."""
        async with self._changing:
            changed = self.bot.with_(**changes)
            if changed != self.bot:
                await self._services.records.save_bot(changed)
                self.bot = changed

    async def allow(self, kinds: Sequence[str] | None) -> None:
        """Note which kinds of updates it wants; ``None`` changes nothing, none stands for the default."""
        if kinds is not None:
            await self.change(allowed_updates=tuple(kinds) or None)

    # --- webhooks ---

    def check_not_delivering(self) -> None:
        """See that the updates are not posted to a webhook.

        Raises:
            Conflict: they are.
        """
        if self.bot.webhook is not None:
            raise Conflict(_DELIVERING)

    async def set_webhook(self, webhook: Webhook | None) -> None:
        """Deliver to another target, or to none, from now on."""
        async with self._switching:
            await self.change(webhook=webhook)
            await self._stop_delivery()
            if self._session is not None:
                ended = self._session.polling
                self._session = replace(self._session, polling=Polling(self._session.feed))
                await ended.close(Conflict(_DELIVERING))  # what pollers have is delivered, too
                self._start_delivery()

    def _start_delivery(self) -> None:
        if self.bot.webhook is not None and self._session is not None:
            execute = self._services.execute(self)
            self.delivery = Delivery(self.bot.webhook, self._session.feed, execute, self._services.around)
            self._delivering = asyncio.create_task(self.delivery.run())

    async def _stop_delivery(self) -> None:
        task, self._delivering, self.delivery = self._delivering, None, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
