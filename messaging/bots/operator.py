"""What the gateway's operator does with bots: makes them, lists them, changes their tokens, looks after what was set aside.

Each action takes and gives JSON. ``subrosa bot`` does it itself where no gateway runs in the home, and asks the gateway where one does
(``bots.control``).
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from messaging.bots.app import Gateway
from messaging.bots.errors import ApiError
from messaging.bots.limits import MAX_LISTED, MAX_NAME, MAX_OVERLAP, ROTATION_OVERLAP
from messaging.bots.records import Bot, new_number
from messaging.bots.running import RunningBot
from messaging.bots.tokens import Token
from messaging.client.bot.account import Account
from messaging.client.bot.settings import SettingsError
from messaging.client.errors import ClientError, RegistrationRefused

Json = dict[str, Any]
_ALONE = frozenset({"create", "parked", "replay", "drop"})  # open accounts, perhaps at a relay that does not answer


class NoSuchBot(ClientError):
    """No bot of this gateway has that number or username."""

    def __init__(self) -> None:
        super().__init__("this gateway has no such bot: `subrosa bot list` shows them")


class NotPossible(ClientError):
    """The action cannot be done; the sentence says why."""


class OpenAccount(Protocol):
    """Opens the account of a bot; with an invite, it is registered first."""

    def __call__(self, bot: Bot, invite: str | None = None) -> AbstractAsyncContextManager[Account]:
        """As ``Accounts.open``."""
        ...


@dataclass(frozen=True, slots=True)
class Operator:
    """Does actions on a gateway. ``is_serving`` says that new bots are to run at once; ``folder_of`` is where an account lives."""

    gateway: Gateway
    open_account: OpenAccount
    folder_of: Callable[[Bot], Path]
    is_serving: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def do(self, action: str, given: Mapping[str, Any]) -> Json:
        """Do one action.

        Raises:
            ClientError: it cannot be done; the sentence says why.
        """
        actions: Mapping[str, Callable[..., Awaitable[Json]]] = {
            "create": self.create,
            "list": self.bots,
            "token-add": self.add_token,
            "token-rotate": self.rotate,
            "token-revoke": self.revoke,
            "parked": self.parked,
            "replay": self.replay,
            "drop": self.drop,
        }
        if action not in actions:
            raise NotPossible("there is no such action")
        try:
            async with self._lock if action in _ALONE else nullcontext():
                return await actions[action](**given)
        except ApiError as error:
            raise NotPossible(error.description.removeprefix("Bad Request: ")) from None
        except (TypeError, ValueError) as error:
            raise NotPossible(f"{action} cannot be done so ({type(error).__name__})") from None

    # --- bots ---

    async def create(self, name: str, relay: str, invite: str, ca: str = "") -> Json:
        """Register an account for a new bot, and make its first token, which is shown once.

        One that was begun and is not finished goes on: what it has got of the relay is used, its account or nothing.
        """
        name = name.strip()
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise NotPossible(f"a bot's name has 1 to {MAX_NAME} characters")
        begun = self._unfinished(name, relay)
        taken = {running.bot.username for running in self.gateway.bots.values()}
        number = self._free_number() if begun is None else begun.number
        bot = Bot(number=number, name=name, username=username_of(name, taken), relay=relay, ca=ca)
        await self.gateway.begin(bot)  # before the invite is used up
        try:
            async with self.open_account(bot, invite) as account:
                token = await self.gateway.add(bot)  # before anything else can fail
                await account.set_profile(name)
                me = account.me
        except RegistrationRefused:
            await self._abandon(bot)
            raise
        except SettingsError:
            if begun is None:  # otherwise it may have an account
                await self._abandon(bot)
            raise
        if self.is_serving:
            self.gateway.start(bot.number)
        return {**_bot(self.gateway.bots[bot.number]), "account": str(me), "token": token}

    async def bots(self) -> Json:
        """All bots, without their tokens."""
        return {"bots": [_bot(running) for running in self.gateway.bots.values()]}

    # --- tokens ---

    async def add_token(self, bot: str, scopes: Sequence[str], seconds: int | None = None) -> Json:
        """A further token."""
        text, token = await self._find(bot).add_token(scopes, seconds=seconds)
        return {**_token(token), "token": text}

    async def rotate(self, bot: str, token: str = "", overlap: int = ROTATION_OVERLAP) -> Json:
        """A new token in place of the one with an id, or of the only one; that is valid for ``overlap`` seconds more."""
        running = self._find(bot)
        if not 0 <= overlap <= MAX_OVERLAP:
            raise NotPossible("an old token stays valid for at most 7 days")
        found = [each for each in running.tokens if token in ("", each.id)]
        if len(found) != 1:
            raise NotPossible("name the token by its id: `subrosa bot list` shows them")
        text, old = await running.rotate(found[0], overlap=overlap)
        return {"token": text, "old": _token(old)}

    async def revoke(self, bot: str, token: str) -> Json:
        """Make a token worthless at once."""
        if not await self._find(bot).revoke(token):
            raise NotPossible("the bot has no such token: `subrosa bot list` shows them")
        return {"revoked": token}

    # --- what was set aside ---

    async def parked(self, bot: str, after: int = 0) -> Json:
        """Events that failed so often that they were set aside: of each what kind it is and why, and nothing of its content."""
        async with self._account(bot) as account:
            found = await account.inbox.parked(after=after, most=MAX_LISTED)
        return {
            "parked": [
                {
                    "id": each.number,
                    "kind": each.event.kind,
                    "reason": each.reason,
                    "attempts": each.attempts,
                    "parkedAt": each.parked_at,
                }
                for each in found
            ]
        }

    async def replay(self, bot: str, ids: Sequence[int]) -> Json:
        """Have parked events handled again."""
        async with self._account(bot) as account:
            return {"replayed": await account.inbox.replay(*ids)}

    async def drop(self, bot: str, ids: Sequence[int]) -> Json:
        """Forget parked events."""
        async with self._account(bot) as account:
            return {"dropped": await account.inbox.drop(*ids)}

    # --- inside ---

    def _free_number(self) -> int:
        while (number := new_number()) in self.gateway.bots or number in self.gateway.unfinished:
            pass
        return number

    def _unfinished(self, name: str, relay: str) -> Bot | None:
        """A bot of that name whose making was not finished."""
        found = self.gateway.unfinished.values()
        return next((bot for bot in found if (bot.name, bot.relay) == (name, relay)), None)

    async def _abandon(self, bot: Bot) -> None:
        await asyncio.to_thread(shutil.rmtree, self.folder_of(bot), ignore_errors=True)
        await self.gateway.abandon(bot.number)

    def _find(self, named: str) -> RunningBot:
        for running in self.gateway.bots.values():
            if named in (str(running.bot.number), running.bot.username):
                return running
        raise NoSuchBot

    @asynccontextmanager
    async def _account(self, named: str) -> AsyncIterator[Account]:
        running = self._find(named)
        if running.is_connected:
            yield running.session.account
        elif self.is_serving:
            raise NotPossible("the bot's account is not connected now; the gateway tries again")
        else:
            async with self.open_account(running.bot) as account:
                yield account


def username_of(name: str, taken: Collection[str]) -> str:
    """A username in Telegram's form that is not ``taken``: it ends in "bot"."""
    letters = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:24]
    stem = letters if letters[:1].isalpha() else f"a_{letters}".rstrip("_")
    base = stem if stem.endswith("bot") else f"{stem}_bot"
    numbered = (f"{base.removesuffix('bot')}{number}_bot" for number in range(2, len(taken) + 3))
    return next(each for each in (base, *numbered) if each not in taken)


def _bot(running: RunningBot) -> Json:
    bot = running.bot
    return {
        "bot": bot.number,
        "name": bot.name,
        "username": bot.username,
        "relay": bot.relay,
        "webhook": bot.webhook is not None,
        "connected": running.is_connected,
        "tokens": [_token(token) for token in running.tokens],
    }


def _token(token: Token) -> Json:
    return {
        "id": token.id,
        "scopes": sorted(token.scopes),
        "createdAt": token.created_at,
        "expiresAt": token.expires_at,
    }
