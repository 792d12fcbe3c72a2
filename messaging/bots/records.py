"""The gateway's own database: bots, tokens, webhooks, and the numbers that the API has for what is named otherwise.

It is a sealed store like a device's. Whoever asks for a change is answered after its commit; changes that come at the same time
share one.
"""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from messaging.bots.limits import FILES_KEPT, MESSAGES_KEPT, ONCE_KEPT, UPDATES_KEPT
from messaging.bots.numbers import Series
from messaging.bots.together import Together
from messaging.bots.tokens import Token
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.identifiers import MessageId, ServiceId

FIRST_PERSON = 10_000_000_001  # beyond every bot's number, and beyond 32 bits as Telegram's are
FIRST_BOT, LAST_BOT = 1_000_000_000, 9_999_999_999
_BOT, _TOKEN, _CHAT, _CHAT_KEY, _SAID = "bot", "token", "chat", "chat key", "said"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where updates are posted. ``signing_secret`` is ``whsec_`` and base64; ``max_connections`` are requests at the same time."""

    url: str = field(repr=False)
    signing_secret: str = field(repr=False)
    secret_token: str = field(default="", repr=False)
    max_connections: int = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """One bot. ``number`` begins its tokens; ``ca`` is the file with the relay's certificate, if it is not a public one.

    ``allowed_updates`` are the kinds that it wants, ``None`` for those that Telegram sends unasked. ``commands`` are lists by scope and
    language. One that is ``unfinished`` may have no account yet.
    """

    number: int
    name: str
    username: str
    relay: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)
    description: str = field(default="", repr=False)
    about: str = field(default="", repr=False)
    allowed_updates: tuple[str, ...] | None = None
    commands: Mapping[str, list[dict[str, str]]] = field(default_factory=dict, repr=False)
    webhook: Webhook | None = None
    unfinished: bool = False

    def with_(self, **changes: Any) -> Self:
        """The same bot, changed."""
        return replace(self, **changes)

    def encode(self) -> bytes:
        """For the store."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Bot":
        """Undo :meth:`encode`."""
        members = json.loads(data)
        webhook, allowed = members.pop("webhook"), members.pop("allowed_updates")
        return cls(
            **members,
            allowed_updates=None if allowed is None else tuple(allowed),
            webhook=None if webhook is None else Webhook(**webhook),
        )


def new_number() -> int:
    """A number for a new bot."""
    return FIRST_BOT + secrets.randbelow(LAST_BOT - FIRST_BOT + 1)


# --- numbers of one bot ---


@dataclass(frozen=True, slots=True)
class Numbering:
    """The numbers of one bot, in one transaction. The bot's own account has the bot's number."""

    transaction: StoreTransaction
    bot: int
    me: ServiceId

    # --- people and chats share one series: a private chat has the number of its other member, as at Telegram ---

    def user(self, who: ServiceId) -> int:
        """The number of an account."""
        return self.bot if who == self.me else self._people.number(self.transaction, f"user {who}")

    def knows(self, who: ServiceId) -> bool:
        """Whether an account has a number."""
        return who == self.me or self._people.find(self.transaction, f"user {who}") is not None

    def service_id(self, user: int) -> ServiceId | None:
        """The account with a number."""
        if user == self.bot:
            return self.me
        kind, _, name = (self._people.name(self.transaction, user) or "").partition(" ")
        return ServiceId.parse(name) if kind == "user" else None

    def chat(self, key: bytes, peer: ServiceId | None) -> int:
        """The number of a conversation, which it keeps whatever becomes of it; ``peer`` is the other member, if there is one only.

        A group's is negative. The first conversation with somebody alone has their number.
        """
        name = key.hex()
        record = self.transaction.get(_CHAT, str(self.bot), name)
        if record is not None:
            return int(record)
        number = self._new_chat(name, peer)
        self.transaction.put(_CHAT, str(self.bot), name, record=str(number).encode())
        self.transaction.put(_CHAT_KEY, str(self.bot), str(number), record=key)
        return number

    def conversation(self, chat: int) -> bytes | None:
        """The key of the conversation with a number."""
        return self.transaction.get(_CHAT_KEY, str(self.bot), str(chat))

    def _new_chat(self, name: str, peer: ServiceId | None) -> int:
        if peer is None:
            return -self._people.number(self.transaction, f"chat {name}")
        number = self.user(peer)
        return number if self.conversation(number) is None else self._people.number(self.transaction, f"chat {name}")

    # --- messages ---

    def message(self, chat: int, message: MessageId, part: int = 0) -> int:
        """The number of a message in a chat; each of its files after the first counts as a message at Telegram: a ``part``."""
        return self._messages(chat).number(self.transaction, f"{message.author} {message.timestamp} {part}")

    def notice(self, chat: int, name: str) -> int:
        """The number of what Telegram has as a message, and here is none: that somebody came, for instance."""
        return self._messages(chat).number(self.transaction, f"notice {name}")

    def message_id(self, chat: int, number: int) -> MessageId | None:
        """The message with a number in a chat; ``None`` if it was forgotten, or is no message."""
        author, _, rest = (self._messages(chat).name(self.transaction, number) or "notice").partition(" ")
        if author == "notice":
            return None
        return MessageId(ServiceId.parse(author), int(rest.partition(" ")[0]))

    # --- updates and files ---

    def update(self, name: str, *, above: int = 0) -> int:
        """The number of an update, which stays the same however often it is told, unless it is not ``above``: then a new one."""
        number = self._updates.number(self.transaction, name)
        return number if number >= above else self._updates.renew(self.transaction, name, above=above)

    @property
    def last_update(self) -> int:
        """The greatest number of an update."""
        return self._updates.last(self.transaction)

    def file(self, pointer: str) -> int:
        """The number of a file."""
        return self._files.number(self.transaction, pointer)

    def pointer(self, file: int) -> str | None:
        """The file with a number."""
        return self._files.name(self.transaction, file)

    # --- what is done once ---

    def may_say(self, name: str, digest: bytes) -> bool:
        """Whether nothing but what has this digest was said under a name."""
        number = self._once.find(self.transaction, name)
        return number is None or self.transaction.get(_SAID, *self._said(number)) == digest

    def says_once(self, name: str, digest: bytes) -> bool:
        """Note that what has this digest is said under a name; false if something else was before."""
        if self._once.find(self.transaction, name) is None:
            number = self._once.number(self.transaction, name)
            self.transaction.put(_SAID, *self._said(number), record=digest)
        return self.may_say(name, digest)

    def _said(self, number: int) -> tuple[str, str]:
        return str(self.bot), str(number % ONCE_KEPT)  # of one that is forgotten, another takes the place

    @property
    def _once(self) -> Series:
        return Series((str(self.bot), "once"), kept=ONCE_KEPT)

    @property
    def _people(self) -> Series:
        return Series((str(self.bot), "people"), first=FIRST_PERSON)

    @property
    def _updates(self) -> Series:
        return Series((str(self.bot), "updates"), kept=UPDATES_KEPT)

    @property
    def _files(self) -> Series:
        return Series((str(self.bot), "files"), kept=FILES_KEPT)

    def _messages(self, chat: int) -> Series:
        return Series((str(self.bot), "messages", str(chat)), kept=MESSAGES_KEPT)


# --- the database ---

Work = Callable[[StoreTransaction], Any]


class Records:
    """The database. Make it with :meth:`open`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._together: Together[Work, Any] = Together(self._commit)

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path | str, key: bytes) -> AsyncIterator["Records"]:
        """Open or make it; raises as ``Store.open``."""
        async with Store.open(path, key) as store:
            records = cls(store)
            try:
                yield records
            finally:
                await records._together.close()

    async def run(self, work: Callable[[StoreTransaction], T]) -> T:
        """Run ``work`` in a transaction, which may be shared; returns what it returns once that is written.

        ``work`` may be run twice: when another one of the same transaction fails.
        """
        return cast("T", await self._together(work))

    async def bots(self) -> list[Bot]:
        """All bots, by number."""
        found = await self.run(lambda transaction: transaction.family(_BOT, "all"))
        return sorted(map(Bot.decode, found), key=lambda bot: bot.number)

    async def save_bot(self, bot: Bot) -> None:
        """Write a bot."""
        await self.run(lambda db: db.put(_BOT, str(bot.number), record=bot.encode(), family=("all",)))

    async def delete_bot(self, bot: int) -> None:
        """Forget a bot of which there is nothing else."""
        await self.run(lambda db: db.delete(_BOT, str(bot)))

    async def tokens(self, bot: int) -> list[Token]:
        """The tokens of a bot, the newest last."""
        found = await self.run(lambda transaction: transaction.family(_TOKEN, str(bot)))
        return sorted(map(Token.decode, found), key=lambda token: token.created_at)

    async def save_tokens(self, *tokens: Token) -> None:
        """Write tokens: all, or none."""

        def save(db: StoreTransaction) -> None:
            for token in tokens:
                db.put(_TOKEN, str(token.bot), token.id, record=token.encode(), family=(str(token.bot),))

        await self.run(save)

    async def delete_token(self, bot: int, token: str) -> bool:
        """Delete a token; say whether it was there."""
        return await self.run(lambda db: db.delete(_TOKEN, str(bot), token))

    async def _commit(self, works: Sequence[Work]) -> list[Any]:
        try:
            async with self._store.transaction() as transaction:
                return [work(transaction) for work in works]
        except Exception as error:  # noqa: BLE001 - it is raised to who asked
            if len(works) == 1:
                return [error]
        return [outcome for work in works for outcome in await self._commit([work])]
