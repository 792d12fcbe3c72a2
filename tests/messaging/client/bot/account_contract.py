"""What every ``Account`` does, at a relay and in memory: subclass it, and say how accounts are made.

Accounts of this suite are bots, which in a conversation of more than two get what is addressed to them.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from messaging.client.bot.account import Account
from messaging.client.chats import NotAllowed, UnknownConversation, UnknownMessage
from messaging.client.errors import AttachmentTooLarge, ClientError
from messaging.client.events import (
    ConversationChanged,
    Event,
    MessageDeleted,
    MessageEdited,
    MessageReceived,
    MessagesRead,
    Reacted,
    TypingChanged,
)
from messaging.wire.data import Mention
from messaging.wire.identifiers import MessageId
from messaging.wire.limits import MASTER_KEY

SECONDS = 20.0  # until a test gives up waiting
NOWHERE = bytes(MASTER_KEY)

Accounts = Callable[[int], Awaitable[list[Account]]]
E = TypeVar("E", bound=Event)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that others have done."""
    async with asyncio.timeout(SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def hears(account: Account, kind: type[E]) -> E:
    """Handle events until there is one of this kind."""
    async with asyncio.timeout(SECONDS):
        while True:
            [leased] = await account.inbox.take(1, lease=60, wait=math.inf)
            await account.inbox.handled(leased)
            if isinstance(leased.event, kind):
                return leased.event


async def hears_texts(account: Account, count: int) -> list[str]:
    """The texts of the next messages."""
    return [(await hears(account, MessageReceived)).text for _ in range(count)]


async def is_in(account: Account, key: bytes) -> None:
    """Wait until an account has heard of a conversation."""
    await until(lambda: any(each.key == key for each in account.conversations))


class AccountContract:
    """The suite."""

    @pytest.fixture
    async def accounts(self) -> Accounts:
        """Makes so many new accounts, connected until the end of the test."""
        raise NotImplementedError

    @pytest.fixture
    async def pair(self, accounts: Accounts) -> tuple[Account, Account, bytes]:
        """Two accounts, and the key of a conversation that the first has begun."""
        ann, bob = await accounts(2)
        key = (await ann.create("Tea", [bob.me])).key
        await is_in(bob, key)
        return ann, bob, key

    # --- conversations ---

    async def test_who_is_let_in_hears_of_it(self, accounts: Accounts) -> None:
        ann, bob = await accounts(2)
        begun = await ann.create("Tea", [bob.me])
        heard = await hears(bob, ConversationChanged)
        assert (heard.conversation, heard.sender, set(heard.joined)) == (begun.key, ann.me, {ann.me, bob.me})
        known = bob.conversation(begun.key)
        assert (known.title, set(known.members), known.admins) == ("Tea", {ann.me, bob.me}, (ann.me,))
        assert [each.key for each in bob.conversations] == [begun.key]

    async def test_what_is_begun_once_is_not_begun_again(self, accounts: Accounts) -> None:
        ann, bob = await accounts(2)
        first = await ann.create("Tea", [bob.me], once="tea")
        assert (await ann.create("Tea", [bob.me], once="tea")).key == first.key
        others = [await ann.create("Tea", [bob.me], once="more"), await bob.create("Tea", [ann.me], once="tea")]
        assert len({first.key, *(each.key for each in others), (await ann.create("Tea", [bob.me])).key}) == 4

    async def test_who_does_something_does_not_hear_of_it(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        await ann.write(key, "hello")
        await ann.set_title(key, "Coffee")
        await hears(bob, MessageReceived)
        assert await ann.inbox.take(1, lease=60) == []

    async def test_an_admin_changes_it_and_all_hear_of_it(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        await hears(bob, ConversationChanged)
        await ann.set_title(key, "Coffee")
        heard = await hears(bob, ConversationChanged)
        assert (heard.joined, heard.left, heard.settings) == ((), (), True)
        assert bob.conversation(key).title == "Coffee"
        await ann.set_admins(key, [ann.me, bob.me])
        assert (await hears(bob, ConversationChanged)).settings
        await bob.set_title(key, "Water")
        assert (await hears(ann, ConversationChanged)).sender == bob.me

    async def test_others_may_not(self, pair: tuple[Account, Account, bytes]) -> None:
        _, bob, key = pair
        for change in (bob.set_title(key, "x"), bob.set_members(key, []), bob.set_admins(key, [bob.me])):
            with pytest.raises(NotAllowed):
                await change
        with pytest.raises(NotAllowed):
            await bob.set_expiry(key, 1)

    async def test_members_come_and_go(self, accounts: Accounts) -> None:
        ann, bob, eve = await accounts(3)
        key = (await ann.create("Tea", [bob.me])).key
        await hears(bob, ConversationChanged)
        await ann.set_members(key, [bob.me, eve.me])
        assert (await hears(bob, ConversationChanged)).joined == (eve.me,)
        assert eve.me in (await hears(eve, ConversationChanged)).joined
        await ann.set_members(key, [eve.me])
        for account in (bob, eve):
            assert (await hears(account, ConversationChanged)).left == (bob.me,)
        with pytest.raises(UnknownConversation):
            await bob.write(key, "/hello")
        await ann.write(key, "/hello")
        assert await hears_texts(eve, 1) == ["/hello"]

    async def test_anybody_may_leave(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        await bob.leave(key)
        assert (await hears(ann, ConversationChanged)).left == (bob.me,)
        with pytest.raises(UnknownConversation):
            await bob.write(key, "hello")
        assert ann.conversation(key).members == (ann.me,)

    async def test_messages_that_follow_expire(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        await ann.set_expiry(key, 3600)
        await until(lambda: bob.conversation(key).expires_in == 3600)
        await ann.write(key, "hello")
        assert (await hears(bob, MessageReceived)).expires_in == 3600

    async def test_nothing_can_be_done_in_a_conversation_that_there_is_not(
        self, pair: tuple[Account, Account, bytes]
    ) -> None:
        ann, _, _ = pair
        message = MessageId(ann.me, 1)
        for doing in (
            ann.write(NOWHERE, "x"),
            ann.edit(NOWHERE, message, "x"),
            ann.delete(NOWHERE, message),
            ann.react(NOWHERE, message, "x"),
            ann.typing(NOWHERE),
            ann.mark_read(NOWHERE, [message]),
            ann.set_title(NOWHERE, "x"),
            ann.set_members(NOWHERE, []),
            ann.leave(NOWHERE),
            ann.opt_in(NOWHERE),
        ):
            with pytest.raises(UnknownConversation):
                await doing
        with pytest.raises(UnknownConversation):
            ann.conversation(NOWHERE)
        with pytest.raises(UnknownConversation):
            ann.messages(NOWHERE)

    # --- messages ---

    async def test_what_is_written_arrives_in_order(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        written = [await ann.write(key, f"message {number}") for number in range(20)]
        heard = [await hears(bob, MessageReceived) for _ in written]
        assert [(each.text, each.message) for each in heard] == [(f"message {n}", w) for n, w in enumerate(written)]
        assert {each.conversation for each in heard} == {key}
        assert len(set(written)) == len(written)

    async def test_what_is_said_once_is_not_said_again(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        first = await ann.write(key, "hello", once="a.1")
        assert await ann.write(key, "hello", once="a.1") == first
        assert await ann.write(key, "hello", once="x" * 64) != first
        await ann.write(key, "bye")
        assert await hears_texts(bob, 3) == ["hello", "hello", "bye"]

    async def test_names_of_two_accounts_are_their_own(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        await ann.write(key, "from ann", once="a.1")
        await hears(bob, MessageReceived)
        await bob.write(key, "from bob", once="a.1")
        assert await hears_texts(ann, 1) == ["from bob"]

    async def test_a_message_is_quoted(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        asked = await ann.write(key, "tea?")
        await hears(bob, MessageReceived)
        await bob.write(key, "yes", quote=asked)
        quote = (await hears(ann, MessageReceived)).quote
        assert quote is not None
        assert (quote.message, quote.text) == (asked, "tea?")
        with pytest.raises(UnknownMessage):
            await bob.write(key, "what?", quote=MessageId(ann.me, 1))

    async def test_people_are_mentioned(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        mention = Mention(0, 4, bob.me)
        await ann.write(key, "@bob", mentions=[mention])
        assert (await hears(bob, MessageReceived)).mentions == (mention,)

    async def test_a_message_is_edited_by_its_author(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        message = await ann.write(key, "tee")
        await hears(bob, MessageReceived)
        await ann.edit(key, message, "tea")
        heard = await hears(bob, MessageEdited)
        assert (heard.message, heard.text) == (message, "tea")
        for account in (ann, bob):
            assert [each.text for each in account.messages(key)] == ["tea"]
        with pytest.raises(NotAllowed):
            await bob.edit(key, message, "x")

    async def test_a_message_is_deleted_by_its_author(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        message = await ann.write(key, "tea")
        await hears(bob, MessageReceived)
        with pytest.raises(NotAllowed):
            await bob.delete(key, message)
        await ann.delete(key, message)
        assert (await hears(bob, MessageDeleted)).message == message
        assert [(each.text, each.deleted) for each in bob.messages(key)] == [("", True)]
        for doing in (ann.edit(key, message, "x"), bob.react(key, message, "👍"), ann.delete(key, message)):
            with pytest.raises(UnknownMessage):
                await doing

    async def test_a_reaction_comes_and_goes(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        message = await ann.write(key, "tea")
        await hears(bob, MessageReceived)
        await bob.react(key, message, "👍")
        heard = await hears(ann, Reacted)
        assert (heard.sender, heard.message, heard.emoji, heard.removed) == (bob.me, message, "👍", False)
        await bob.react(key, message, "👍", remove=True)
        assert (await hears(ann, Reacted)).removed
        with pytest.raises(UnknownMessage):
            await bob.react(key, MessageId(ann.me, 1), "👍")
        with pytest.raises(ValueError, match="emoji"):
            await bob.react(key, message, "")

    async def test_authors_hear_that_they_were_read(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        written = [await ann.write(key, text) for text in ("one", "two")]
        await hears_texts(bob, 2)
        await bob.mark_read(key, written)
        heard = await hears(ann, MessagesRead)
        assert (heard.sender, set(heard.messages)) == (bob.me, set(written))

    async def test_writing_is_shown_while_it_happens_and_not_kept(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, key = pair
        heard: list[Event] = []
        bob.on_passing(heard.append)
        await ann.write(key, "hello")
        await hears(bob, MessageReceived)  # sessions are there from now on
        await ann.typing(key)
        await ann.typing(key, started=False)
        await until(lambda: len(heard) == 2)
        assert [isinstance(each, TypingChanged) and each.started for each in heard] == [True, False]
        assert {each.conversation for each in heard} == {key}
        assert await bob.inbox.take(1, lease=60) == []

    async def test_a_bot_gets_what_is_addressed_to_it(self, accounts: Accounts) -> None:
        ann, bob, eve = await accounts(3)
        key = (await ann.create("Tea", [bob.me, eve.me])).key
        await is_in(bob, key)
        await ann.write(key, "not for bots")
        await ann.write(key, "/help")
        await ann.write(key, "@bob", mentions=[Mention(0, 4, bob.me)])
        assert await hears_texts(bob, 2) == ["/help", "@bob"]

    # --- files ---

    async def test_a_file_arrives_whole(self, pair: tuple[Account, Account, bytes], tmp_path: Path) -> None:
        ann, bob, key = pair
        data, path = bytes(range(256)) * 1000, tmp_path / "file"
        await asyncio.to_thread(path.write_bytes, data)
        sent = [
            await ann.upload(path, content_type="image/png", file_name="tea.png"),
            await ann.upload(b"small", content_type="text/plain"),
        ]
        await ann.write(key, "files", attachments=sent)
        large, small = (await hears(bob, MessageReceived)).attachments
        assert (large.size, large.content_type, large.file_name) == (len(data), "image/png", "tea.png")
        await bob.download(large, tmp_path / "copy")
        assert await asyncio.to_thread((tmp_path / "copy").read_bytes) == data
        assert await bob.read(small, most=5) == b"small"
        with pytest.raises(AttachmentTooLarge):
            await bob.read(small, most=4)

    # --- profiles, and asking ---

    async def test_others_learn_what_somebody_wants_to_be_called(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, bob, _ = pair
        assert bob.name_of(ann.me) == ""
        await ann.set_profile("Ann", "drinks tea")
        await until(lambda: bob.name_of(ann.me) == "Ann")
        with pytest.raises(ValueError, match="too long"):
            await ann.set_profile("x" * 1000)

    async def test_who_has_not_opted_in_cannot_ask(self, pair: tuple[Account, Account, bytes]) -> None:
        ann, _, key = pair
        message = await ann.write(key, "tea")
        with pytest.raises(ClientError):
            await ann.summarize(key, [message])
