"""Events as Telegram's updates: what each becomes, and that a library for Telegram reads it."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram import Update as TelegramUpdate

from messaging.bots.updates import ASKED, NAMELESS, UNASKED, is_wanted, updates_of, wanted_updates
from messaging.client.conversation import Conversation
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
from messaging.wire.content import ListedBot
from messaging.wire.data import AttachmentPointer, Mention, Quote
from messaging.wire.identifiers import MessageId, ServiceId

ME, ALICE, BOB, OTHER_BOT = (ServiceId.parse(f"00000000-0000-4000-8000-00000000000{digit}") for digit in (1, 2, 3, 4))
PRIVATE = Conversation(b"p" * 32, "", (ME, ALICE))
GROUP = Conversation(
    b"g" * 32, "Gardeners", (ALICE, BOB, ME, OTHER_BOT), admins=(ALICE,), bots=(ListedBot(OTHER_BOT), ListedBot(ME))
)
LEFT = b"l" * 32
GONE = ServiceId.parse("00000000-0000-4000-8000-000000000009")
AT = 1_700_000_000_123  # milliseconds
NOW = 1_800_000_000  # seconds


@dataclass
class Names:
    """Numbers in memory."""

    me: ServiceId = ME
    username: str = "echo_bot"
    people: dict[object, int] = field(default_factory=dict)
    messages: dict[object, int] = field(default_factory=dict)
    files: list[AttachmentPointer] = field(default_factory=list)

    def name_of(self, who: ServiceId) -> str:
        return {ME: "Echo", ALICE: "Alice", OTHER_BOT: "Other"}.get(who, "")

    def conversation(self, key: bytes) -> Conversation | None:
        return {PRIVATE.key: PRIVATE, GROUP.key: GROUP}.get(key)

    def user(self, who: ServiceId) -> int:
        return 1 if who == ME else self.people.setdefault(who, 100 + len(self.people))

    def chat(self, key: bytes, peer: ServiceId | None) -> int:
        if key not in self.people:
            self.people[key] = self.user(peer) if peer is not None else -(100 + len(self.people))
        return self.people[key]

    def message(self, chat: int, message: MessageId, part: int = 0) -> int:
        return self.messages.setdefault((chat, message, part), len(self.messages) + 1)

    def notice(self, chat: int, name: str) -> int:
        return self.messages.setdefault((chat, name), len(self.messages) + 1)

    def file(self, pointer: AttachmentPointer) -> str:
        self.files.append(pointer)
        return f"f{len(self.files)}"


def told(event: Event, names: Names | None = None) -> list[dict[str, Any]]:
    """The updates of an event, with numbers."""
    return [update.numbered(7) for update in updates_of(event, names or Names(), now=NOW)]


def a_file(content_type: str = "text/plain", name: str = "a.txt") -> AttachmentPointer:
    return AttachmentPointer(3, "key", bytes(64), bytes(32), 5, content_type, name)


# --- messages ---


def test_a_message_in_a_private_chat() -> None:
    assert told(MessageReceived(PRIVATE.key, ALICE, AT, "hello /help")) == [
        {
            "update_id": 7,
            "message": {
                "message_id": 1,
                "from": {"id": 100, "is_bot": False, "first_name": "Alice"},
                "chat": {"id": 100, "type": "private", "first_name": "Alice"},
                "date": 1_700_000_000,
                "text": "hello /help",
                "entities": [{"type": "bot_command", "offset": 6, "length": 5}],
            },
        }
    ]


def test_who_has_no_name_is_called_something_and_a_bot_is_one() -> None:
    (nameless,) = told(MessageReceived(GROUP.key, BOB, AT, "x"))
    assert nameless["message"]["from"]["first_name"] == NAMELESS
    (bot,) = told(MessageReceived(GROUP.key, OTHER_BOT, AT, "x"))
    assert bot["message"]["from"]["is_bot"] is True


def test_who_is_mentioned_is_told_in_place() -> None:
    event = MessageReceived(GROUP.key, ALICE, AT, "😃 Echo /x", mentions=(Mention(3, 4, ME),))
    (update,) = told(event)
    command, mention = reversed(update["message"]["entities"])
    assert command == {"type": "bot_command", "offset": 8, "length": 2}
    assert (mention["type"], mention["offset"], mention["length"]) == ("text_mention", 3, 4)
    assert mention["user"] == {"id": 1, "is_bot": True, "first_name": "Echo", "username": "echo_bot"}


def test_what_is_answered_is_told_with_its_words() -> None:
    names = Names()
    said = MessageId(ME, AT - 1000)
    number = names.message(names.chat(PRIVATE.key, ALICE), said)
    (update,) = told(MessageReceived(PRIVATE.key, ALICE, AT, "yes", Quote(said, "really?")), names)
    answered = update["message"]["reply_to_message"]
    assert (answered["message_id"], answered["text"], answered["from"]["id"]) == (number, "really?", 1)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [("image/png", "photo"), ("audio/ogg", "audio"), ("video/mp4", "video"), ("application/pdf", "document"), ("", "document")],
)  # fmt: skip
def test_a_file_is_what_its_sender_calls_it(content_type: str, kind: str) -> None:
    (update,) = told(MessageReceived(PRIVATE.key, ALICE, AT, "look", attachments=(a_file(content_type),)))
    message = update["message"]
    assert message["caption"] == "look"
    assert "text" not in message
    file = message[kind][-1] if kind == "photo" else message[kind]
    assert (file["file_id"], file["file_unique_id"], file["file_size"]) == ("f1", "f1", 5)


def test_a_message_with_several_files_is_several_of_one_group() -> None:
    first, second = told(MessageReceived(PRIVATE.key, ALICE, AT, "two", attachments=(a_file(), a_file())))
    assert first["message"]["caption"] == "two"
    assert "caption" not in second["message"]
    assert first["message"]["media_group_id"] == second["message"]["media_group_id"]
    assert first["message"]["message_id"] != second["message"]["message_id"]


# --- what is done with them ---


def test_an_edit_has_both_times_and_the_number_of_the_message() -> None:
    names = Names()
    (before,) = told(MessageReceived(PRIVATE.key, ALICE, AT, "helo"), names)
    (update,) = told(MessageEdited(PRIVATE.key, ALICE, AT + 5000, MessageId(ALICE, AT), "hello"), names)
    edited = update["edited_message"]
    assert edited["message_id"] == before["message"]["message_id"]
    assert (edited["date"], edited["edit_date"], edited["text"]) == (AT // 1000, AT // 1000 + 5, "hello")


@pytest.mark.parametrize("removed", [False, True])
def test_a_reaction_comes_or_goes(*, removed: bool) -> None:
    (update,) = told(Reacted(PRIVATE.key, ALICE, AT, MessageId(ME, AT), "🎉", removed))
    emoji = [{"type": "emoji", "emoji": "🎉"}]
    reaction = update["message_reaction"]
    assert (reaction["old_reaction"], reaction["new_reaction"]) == ((emoji, []) if removed else ([], emoji))


def test_what_telegram_does_not_have_is_there_for_who_asks() -> None:
    (deleted,) = told(MessageDeleted(PRIVATE.key, ALICE, AT, MessageId(ALICE, AT - 1)))
    assert deleted["deleted_message"]["message_id"] == 1
    (read,) = told(MessagesRead(PRIVATE.key, ALICE, AT, (MessageId(ME, 1), MessageId(ME, 2))))
    assert read["messages_read"]["message_ids"] == [1, 2]


def test_what_the_account_says_itself_is_no_update_nor_is_typing() -> None:
    assert told(MessageReceived(PRIVATE.key, ME, AT, "from my other device")) == []
    assert told(TypingChanged(PRIVATE.key, ALICE, AT)) == []


# --- who comes and goes ---


def test_the_bot_comes_into_a_group() -> None:
    mine, notice = told(ConversationChanged(GROUP.key, ALICE, 3, joined=GROUP.members))
    change = mine["my_chat_member"]
    assert (change["old_chat_member"]["status"], change["new_chat_member"]["status"]) == ("left", "member")
    assert change["date"] == NOW
    assert [user["id"] for user in notice["message"]["new_chat_members"]] == [1]


def test_the_bot_is_taken_out() -> None:
    names = Names()
    chat = names.chat(LEFT, None)
    (mine,) = told(ConversationChanged(LEFT, ALICE, 3, left=(ME,)), names)
    change = mine["my_chat_member"]
    assert (change["old_chat_member"]["status"], change["new_chat_member"]["status"]) == ("member", "left")
    assert change["chat"]["id"] == chat


def test_others_come_and_go() -> None:
    updates = told(ConversationChanged(GROUP.key, ALICE, 3, joined=(BOB,), left=(GONE,)))
    kinds = [next(key for key in update if key != "update_id") for update in updates]
    assert kinds == ["chat_member", "chat_member", "message", "message"]
    assert updates[2]["message"]["new_chat_members"][0]["first_name"] == NAMELESS
    assert updates[3]["message"]["left_chat_member"]["is_bot"] is False


def test_a_change_of_settings_is_no_update() -> None:
    assert told(ConversationChanged(GROUP.key, ALICE, 4, settings=True)) == []


def test_an_admin_who_comes_is_told_with_their_rights() -> None:
    update, _ = told(ConversationChanged(GROUP.key, BOB, 3, joined=(ALICE,)))
    assert update["chat_member"]["new_chat_member"]["status"] == "administrator"


# --- all of them ---

keys = st.sampled_from([PRIVATE.key, GROUP.key, LEFT])
people = st.sampled_from([ALICE, BOB, OTHER_BOT, ME])
times = st.integers(1_000_000_000_000, 2_000_000_000_000)
texts = st.text(max_size=40)
ids = st.builds(MessageId, people, times)
pointers = st.builds(
    a_file, st.sampled_from(["image/png", "audio/ogg", "video/mp4", "text/plain"]), st.text(max_size=5)
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        MessageReceived,
        keys,
        people,
        times,
        texts,
        st.one_of(st.none(), st.builds(Quote, ids, texts)),
        st.lists(pointers, max_size=3).map(tuple),
    ),
    st.builds(MessageEdited, keys, people, times, ids, texts),
    st.builds(MessageDeleted, keys, people, times, ids),
    st.builds(Reacted, keys, people, times, ids, st.sampled_from("🎉👍"), st.booleans()),
    st.builds(MessagesRead, keys, people, times, st.lists(ids, max_size=3).map(tuple)),
    st.builds(
        ConversationChanged, keys, people, st.integers(0, 99), st.lists(people, unique=True).map(tuple), st.lists(people, unique=True).map(tuple)
    ),
)  # fmt: skip


@given(st.lists(events, max_size=10))
def test_a_library_for_telegram_reads_every_update(made: list[Event]) -> None:
    names = Names()
    for event in made:
        for update in updates_of(event, names, now=NOW):
            assert update.kind in UNASKED | ASKED
            read = TelegramUpdate.de_json(update.numbered(5), None)
            assert read.update_id == 5
            if update.kind not in ("deleted_message", "messages_read"):
                assert getattr(read, update.kind) is not None
                assert read.effective_chat is not None


@given(st.lists(events, max_size=10))
def test_an_event_that_is_told_again_is_told_in_the_same_words(made: list[Event]) -> None:
    names = Names()
    first = [updates_of(event, names, now=NOW) for event in made]
    names.files.clear()
    assert [updates_of(event, names, now=NOW) for event in made] == first
    told_once = {update.name for updates in first for update in updates}
    assert len(told_once) == len(
        {(event.id, place) for event, ups in zip(made, first, strict=True) for place in range(len(ups))}
    )


@pytest.mark.parametrize("allowed", [None, [], ()])
def test_by_default_a_bot_gets_what_telegram_sends_unasked(allowed: list[str] | None) -> None:
    assert all(is_wanted(kind, allowed) for kind in UNASKED)
    assert not any(is_wanted(kind, allowed) for kind in ASKED)


def test_who_asks_gets_what_was_asked_for() -> None:
    assert is_wanted("chat_member", ["chat_member"])
    assert not is_wanted("message", ["chat_member"])


def test_of_an_event_of_no_wanted_kind_nothing_is_looked_at() -> None:
    names = Names()
    assert wanted_updates(MessageReceived(PRIVATE.key, ALICE, AT, "/a " * 1000), names, ["chat_member"], now=NOW) == []
    assert (names.people, names.messages) == ({}, {})


@given(st.lists(events, max_size=10), st.none() | st.lists(st.sampled_from(sorted(UNASKED | ASKED))))
def test_what_is_wanted_is_what_was_asked_for_of_everything(made: list[Event], allowed: list[str] | None) -> None:
    names = Names()
    every = [[each for each in updates_of(event, names, now=NOW) if is_wanted(each.kind, allowed)] for event in made]
    names.files.clear()
    found = [wanted_updates(event, names, allowed, now=NOW) for event in made]
    kinds = [[(each.name, each.kind) for each in updates] for updates in found]
    assert kinds == [[(each.name, each.kind) for each in updates] for updates in every]


def test_a_date_is_one_that_libraries_can_read_whatever_the_sender_says() -> None:
    (update,) = told(MessageReceived(PRIVATE.key, ALICE, 8_640_000_000_000_000, "x"))
    read = TelegramUpdate.de_json(update, None)
    assert read.message is not None
    assert read.message.date.year == 9999
