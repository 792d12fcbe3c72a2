"""The updates of one bot: events from its inbox, with numbers, as the API tells them.

An event that makes no update that the bot wants is over at once. What was given out is over when the bot has confirmed it; otherwise it
comes again, under the same number.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from messaging.bots.errors import BadRequest
from messaging.bots.formatting import units
from messaging.bots.limits import MAX_AHEAD
from messaging.bots.records import Bot, Numbering, Records
from messaging.bots.updates import Json, Update, wanted_updates
from messaging.client.bot.account import Account
from messaging.client.bot.inbox import Leased, LeaseLost
from messaging.client.chats import UnknownConversation
from messaging.client.conversation import Conversation
from messaging.client.events import Event, MessageReceived, read_pointer, write_pointer
from messaging.client.stores import StoreTransaction
from messaging.wire.data import AttachmentPointer
from messaging.wire.identifiers import MessageId, ServiceId

FILE_ID = "f"


@dataclass(frozen=True, slots=True)
class Names:
    """What the API calls things of one account (``updates.Naming``), in one transaction."""

    account: Account
    bot: Bot
    numbers: Numbering

    @property
    def me(self) -> ServiceId:
        """The bot's account."""
        return self.account.me

    @property
    def username(self) -> str:
        """The bot's."""
        return self.bot.username

    def name_of(self, who: ServiceId) -> str:
        """What somebody calls themselves."""
        return self.bot.name if who == self.me else self.account.name_of(who)

    def conversation(self, key: bytes) -> Conversation | None:
        """As this account knows it."""
        try:
            return self.account.conversation(key)
        except UnknownConversation:
            return None

    def user(self, who: ServiceId) -> int:
        """The number of an account."""
        return self.numbers.user(who)

    def chat(self, key: bytes, peer: ServiceId | None) -> int:
        """The number of a conversation."""
        return self.numbers.chat(key, peer)

    def message(self, chat: int, message: MessageId, part: int = 0) -> int:
        """The number of a message."""
        return self.numbers.message(chat, message, part)

    def notice(self, chat: int, name: str) -> int:
        """The number of a notice."""
        return self.numbers.notice(chat, name)

    def file(self, pointer: AttachmentPointer) -> str:
        """The id of a file."""
        return f"{FILE_ID}{self.numbers.file(json.dumps(write_pointer(pointer)))}"

    def pointer(self, file_id: str) -> AttachmentPointer | None:
        """Undo :meth:`file`; ``None`` if there is no such file, or not any more."""
        digits = file_id.removeprefix(FILE_ID)
        if not (file_id.startswith(FILE_ID) and digits.isascii() and digits.isdigit() and len(digits) <= 18):
            return None
        found = self.numbers.pointer(int(digits))
        return None if found is None else read_pointer(json.loads(found))


@dataclass(frozen=True, slots=True)
class Given:
    """An event that somebody is handling, and its updates as they travel. ``until`` is on the monotonic clock."""

    leased: Leased
    updates: tuple[Json, ...] = field(repr=False)
    names: tuple[str, ...]
    until: float

    @property
    def last(self) -> int:
        """The greatest number of its updates."""
        return int(self.updates[-1]["update_id"])


class Feed:
    """The updates of one bot, as it is when it is asked for. ``now`` gives milliseconds since 1970, ``monotonic`` seconds."""

    def __init__(
        self,
        bot: Callable[[], Bot],
        account: Account,
        records: Records,
        *,
        now: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bot = bot
        self.account = account
        self.records = records
        self._now = now
        self._monotonic = monotonic

    def names(self, transaction: StoreTransaction) -> Names:
        """What things are called, in a transaction."""
        bot = self._bot()
        return Names(self.account, bot, Numbering(transaction, bot.number, self.account.me))

    @property
    def waiting(self) -> int:
        """Events that were not handled yet."""
        return self.account.inbox.waiting

    async def take(
        self, most: int, *, lease: float, consumer: str, wait: float, of_one_chat: int, above: int = 0
    ) -> list[Given]:
        """The next events that make updates which the bot wants.

        Args:
            most: how many events.
            lease: seconds for which they are the caller's.
            consumer: who takes them.
            wait: seconds to wait for the first.
            of_one_chat: how many of one conversation; nobody else gets any of it meanwhile.
            above: the least number that an update may have. One that had a smaller one gets another.

        Raises:
            BadRequest: ``above`` is beyond all numbers that an update could have soon.
        """
        deadline = self._monotonic() + wait
        while True:
            left = max(0.0, deadline - self._monotonic())
            leased = await self.account.inbox.take(
                most, lease=lease, consumer=consumer, wait=left or None, per_conversation=of_one_chat
            )
            given = await self._number(leased, self._monotonic() + lease, above)
            wanted = [each for each in given if each.updates]
            try:
                await self.handled(each for each in given if not each.updates)
            except BaseException:
                await self.release(wanted)
                raise
            if wanted or not (leased or self._monotonic() < deadline):
                return wanted

    async def handled(self, given: Iterable[Given]) -> None:
        """These are over. What is somebody else's meanwhile stays."""
        leased = [each.leased for each in given]
        if leased:
            try:
                await self.account.inbox.handled(*leased)
            except LeaseLost:
                return  # those come again; the others are over

    async def failed(self, given: Given, reason: str) -> bool:
        """It is to be tried again, or was tried often enough and is parked: then the answer is true."""
        try:
            return await self.account.inbox.failed(given.leased, reason)
        except LeaseLost:
            return False

    async def release(self, given: Iterable[Given]) -> None:
        """Give back at once what was not tried."""
        leased = [each.leased for each in given]
        if leased:
            await self.account.inbox.release(*leased)

    async def _number(self, leased: Sequence[Leased], until: float, above: int) -> list[Given]:
        if not leased:
            return []
        seconds = self._now() // 1000

        def number(transaction: StoreTransaction) -> list[Given]:
            names = self.names(transaction)
            if above > names.numbers.last_update + MAX_AHEAD:
                raise BadRequest("Bad Request: the offset is beyond every update")
            return [_given(each, names, seconds, until, above) for each in leased]

        try:
            return await self.records.run(number)
        except BaseException:
            await self.account.inbox.release(*leased)
            raise


def sound(event: Event, names: Names) -> Event:
    """The event without mentions outside of its text, and of who is nobody here: each stranger would get a number for good."""
    if not isinstance(event, MessageReceived) or not event.mentions:
        return event
    conversation, size = names.conversation(event.conversation), units(event.text)
    members = () if conversation is None else conversation.members
    kept = [
        each
        for each in event.mentions
        if 0 <= each.start < each.start + each.length <= size and (each.who in members or names.numbers.knows(each.who))
    ]
    return replace(event, mentions=tuple(kept))


def _given(leased: Leased, names: Names, seconds: int, until: float, above: int) -> Given:
    made = wanted_updates(sound(leased.event, names), names, names.bot.allowed_updates, now=seconds)
    return Given(leased, tuple(_numbered(made, names, above)), tuple(update.name for update in made), until)


def _numbered(made: Sequence[Update], names: Names, above: int) -> Iterable[dict[str, Any]]:
    for update in made:
        yield update.numbered(names.numbers.update(update.name, above=above))
