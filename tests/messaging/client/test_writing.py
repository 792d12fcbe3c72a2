"""What we say is handed over, whatever crashes and whatever the relay says for now: to members, to bots what is addressed to them, and
to the assistant what its author's consent covers.
"""

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from messaging.client import Received, holders
from messaging.client.events import Event
from messaging.wire.content import Content, ListedBot, ReadReceipt, Said
from messaging.wire.data import AttachmentPointer, DataMessage, Deletion, Edit, Mention, Reaction
from messaging.wire.frames import Response
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.watched import Ask, Sent, WatchedRelay
from tests.messaging.client.world import Person, ScriptedEnclave, World, a_relay, milliseconds, soon
from tests.relays import TlsFiles
from tests.servers import Postgres


@pytest.fixture
async def world(
    tmp_path: Path, sqlite_template: Path, postgres: Postgres, tls_files: TlsFiles, crypto: SignalCrypto
) -> AsyncIterator[World]:
    async with (
        a_relay(tmp_path, sqlite_template, postgres, tls_files) as started,
        WatchedRelay(started.url) as watched,
    ):
        made = World(started, watched, crypto)
        yield made
        await made.close()


@pytest.mark.parametrize("status", [429, 500])
async def test_what_was_only_written_down_before_a_crash_waits_until_the_relay_takes_it(
    world: World, status: int
) -> None:
    ann, bob, _ = await world.people(3)
    relay, records, writing = world.relay, ann.chats._records, ann.chats._writing
    assert isinstance(relay, WatchedRelay)
    refused = 0

    async def busy(sent: Sent, ask: Ask) -> Response:
        nonlocal refused
        if not sent.path.startswith("/v1/messages/"):
            return await ask()
        refused += 1
        return Response(0, status, headers={"retry-after": "60"})

    relay.fault = busy
    unsent = await writing.note(records.chats[ann.key], DataMessage("precious", milliseconds(), ann.key))
    records.unsent.append(unsent)  # as they are read after a crash
    await writing.send_unsent()
    assert refused > 0
    assert records.unsent == [unsent]
    relay.fault = None
    await writing.send_unsent()
    assert records.unsent == []
    await soon(lambda: "precious" in bob.texts())


# --- bots ---


def listen(person: Person) -> list[Content]:
    """All that a device receives from now on, as it was decrypted."""
    got, take = list[Content](), person.chats.take

    async def noting(received: Received) -> bool:
        got.append(received.content)
        return await take(received)

    person.chats.take = noting  # type: ignore[method-assign]
    return got


def said_in(contents: list[Content]) -> list[Said]:
    return [each for each in contents if isinstance(each, DataMessage | Edit | Reaction | Deletion)]


async def with_a_bot(world: World, *, reads_all: bool = False) -> list[Person]:
    """Ann, Bob and a bot, who all know each other."""
    ann, bob, bot = people = [await world.person() for _ in range(3)]
    bots = [ListedBot(bot.service_id, reads_all)]
    await ann.chats.create("trip", [bob.service_id, bot.service_id], admins=[ann.service_id], bots=bots)
    await world.all_know(people)
    await bot.write("at your service")
    for person in (ann, bob):
        await soon(lambda person=person: person.texts() == ["at your service"])  # type: ignore[misc]
    return people


async def test_a_bot_gets_what_is_addressed_to_it_and_nothing_else(world: World) -> None:
    ann, bob, bot = await with_a_bot(world)
    [served] = ann.named()
    got, passing = listen(bot), list[Event]()
    bot.chats.on_passing = passing.append
    write, key = partial(ann.chats.write, ann.key), ann.key
    await write("a secret")
    mine = (await write("/help")).id
    await write("@bot", mentions=[Mention(0, 4, bot.service_id)])
    await write("@bob", mentions=[Mention(0, 4, bob.service_id)])
    await write("thanks", quote=served)
    await write("indeed", quote=mine)
    await ann.chats.react(key, served, "+")
    await ann.chats.react(key, mine, "-")
    await ann.chats.edit(key, mine, "/help me")
    await ann.chats.edit(key, mine, "a second secret")
    await ann.chats.typing(key)
    gone = (await write("a third secret")).id
    await ann.chats.delete(key, gone)
    await ann.chats.send_read(key, [served])
    last = await write("/bye")
    assert last.failed == {}
    await soon(lambda: "/bye" in bot.texts() and "/bye" in bob.texts())
    assert [_told(each) for each in said_in(got)] == [
        "/help",
        "@bot",
        "thanks",
        ("+", served),
        ("edit", "/help me"),
        ("deletion", gone.timestamp),
        "/bye",
    ]
    assert [type(each) for each in got if each not in said_in(got)] == [ReadReceipt]
    assert passing == []
    assert bot.chats.problems() == []  # not even what it could not decrypt
    assert bob.texts() == ann.texts()


def _told(said: Said) -> object:
    match said:
        case DataMessage():
            return said.body
        case Edit():
            return "edit", said.message.body
        case Reaction():
            return said.emoji, said.target
        case Deletion():
            return "deletion", said.target


async def test_a_bot_that_reads_all_gets_all(world: World) -> None:
    ann, _, bot = await with_a_bot(world, reads_all=True)
    await ann.write("for everybody")
    await soon(lambda: "for everybody" in bot.texts())


async def test_what_bots_do_not_get_costs_no_new_sender_key(world: World) -> None:
    """Left out of one ciphertext and not of the next, they would have to be kept from what they may have a key for."""
    ann, bob, bot = await with_a_bot(world)
    relay = world.relay
    assert isinstance(relay, WatchedRelay)
    await ann.write("the first gives the key to bob")
    key = await generation(ann)
    relay.sent.clear()
    for text in ("not for the bot", "/for the bot", "not for the bot, too"):
        await ann.write(text)
    await soon(lambda: len(bob.texts()) == 5)
    assert [sent.to_many for sent in relay.sends].count(True) == 3
    assert [sent.path for sent in relay.sends if not sent.to_many] == [f"/v1/messages/{bot.service_id}"]
    assert await generation(ann) == key
    await ann.chats.set_bots(ann.key, [ListedBot(bot.service_id, reads_all=True)])
    await ann.write("for all")
    await soon(lambda: "for all" in bot.texts())
    await ann.chats.set_bots(ann.key, [ListedBot(bot.service_id)])
    await ann.write("not for the bot any more")
    assert await generation(ann) != key  # it has the one from when it read all
    await soon(lambda: len(bob.texts()) == 7)
    assert bot.texts()[-1] == "for all"


async def generation(person: Person) -> int:
    """Which of the sender keys of the only conversation is in use."""
    named = person.chats.conversation(person.key).distribution_id(person.device.address)
    async with person.device._store.transaction() as transaction:
        return holders.load_distribution(transaction, named).generation


# --- what was deleted before it was sent ---


async def test_what_was_deleted_before_it_could_be_sent_is_not_sent(world: World) -> None:
    ann, bob, _ = await world.people(3)
    got = listen(bob)
    writing, records = ann.chats._writing, ann.chats._records
    chat = records.chats[ann.key]
    message = DataMessage("secret", milliseconds(), ann.key)
    records.unsent.append(await writing.note(chat, message))
    records.unsent.append(
        await writing.note(chat, Edit(message.timestamp, replace(message, timestamp=message.timestamp + 1)))
    )
    records.unsent.append(await writing.note(chat, Deletion(message.timestamp, message.timestamp + 2, ann.key)))
    await writing.send_unsent()
    await ann.write("next")
    await soon(lambda: "next" in bob.texts())
    assert [_told(each) for each in said_in(got)] == [("deletion", message.timestamp), "next"]


# --- the assistant ---


def pointer() -> AttachmentPointer:
    return AttachmentPointer(3, "k", secrets.token_bytes(64), secrets.token_bytes(32), 5, "text/plain", "note.txt")


async def test_of_files_of_what_is_quoted_and_of_who_is_named_the_assistant_gets_nothing(world: World) -> None:
    enclave = await world.enclave()
    ann, bob = await world.people(2)
    private = await bob.write("bob's own words")
    await soon(lambda: ann.texts())
    await ann.chats.opt_in(ann.key)
    write = partial(ann.chats.write, ann.key)
    await write("plain")
    await write("with a file", attachments=[pointer()])
    answered = await write("an answer", quote=private)
    await write("@bob", mentions=[Mention(0, 4, bob.service_id)])
    await write("plain again")
    await soon(lambda: sorted(enclave.texts()) == ["@bob", "an answer", "plain", "plain again", "with a file"])
    await ann.chats.edit(ann.key, answered.id, "another answer")
    await soon(lambda: [edit.message.body for edit in edits(enclave)] == ["another answer"])
    for got in (*enclave.messages(), *(edit.message for edit in edits(enclave))):
        assert (got.attachments, got.quote, got.mentions) == ((), None, ())
        assert got.roster is not None
    assert sorted(bob.texts()) == sorted(ann.texts())


def edits(enclave: ScriptedEnclave) -> list[Edit]:
    return [content for _, content in enclave.got if isinstance(content, Edit)]


def deletions(enclave: ScriptedEnclave) -> list[int]:
    return [content.target for _, content in enclave.got if isinstance(content, Deletion)]


async def test_edits_and_deletions_of_shared_messages_reach_the_assistant_and_of_others_do_not(world: World) -> None:
    enclave = await world.enclave()
    ann, bob = await world.people(2)
    before, before_too = await ann.write("before"), await ann.write("before, too")
    await ann.chats.opt_in(ann.key)
    shared, gone = await ann.write("shared"), await ann.write("gone")
    await soon(lambda: enclave.texts() == ["shared", "gone"])
    await ann.chats.edit(ann.key, before, "never shared")
    await ann.chats.delete(ann.key, before_too)
    await ann.chats.edit(ann.key, shared, "edited")
    await ann.chats.react(ann.key, shared, "+")
    await ann.chats.delete(ann.key, gone)
    await bob.chats.react(bob.key, shared, "-")
    await ann.write("last")
    await soon(lambda: enclave.texts() == ["shared", "gone", "last"])
    assert [(edit.target, edit.message.body) for edit in edits(enclave)] == [(shared.timestamp, "edited")]
    assert deletions(enclave) == [gone.timestamp]
    assert not [content for _, content in enclave.got if isinstance(content, Reaction)]


async def test_what_the_assistant_missed_of_an_edit_or_a_deletion_it_hears_later(world: World) -> None:
    """Who has just started has not verified it yet, and it still holds what was deleted."""
    enclave = await world.enclave()
    ann, _ = await world.people(2)
    await ann.chats.opt_in(ann.key)
    shared, gone = await ann.write("shared"), await ann.write("gone")
    await soon(lambda: enclave.texts() == ["shared", "gone"])
    await ann.close()
    enclave.silent = True  # so that it is not verified
    await ann.open()
    await ann.chats.edit(ann.key, shared, "edited")
    await ann.chats.delete(ann.key, gone)
    unsent = await ann.chats.write(ann.key, "unsent")
    await ann.chats.delete(ann.key, unsent.id)
    assert (edits(enclave), deletions(enclave)) == ([], [])
    await ann.close()
    enclave.silent = False
    await ann.open()
    await soon(lambda: [(edit.target, edit.message.body) for edit in edits(enclave)] == [(shared.timestamp, "edited")])
    await soon(lambda: gone.timestamp in deletions(enclave))
    assert "unsent" not in enclave.texts()
    await ann.write("last")
    await soon(lambda: enclave.texts()[-1] == "last")


async def test_after_opting_out_edits_and_deletions_are_for_people_alone(world: World) -> None:
    enclave = await world.enclave()
    ann, bob = await world.people(2)
    await ann.chats.opt_in(ann.key)
    shared = await ann.write("shared")
    await soon(lambda: enclave.texts() == ["shared"])
    await ann.chats.opt_out(ann.key)
    await ann.chats.edit(ann.key, shared, "edited")
    await ann.chats.delete(ann.key, shared)
    await soon(lambda: bob.texts() == [""])
    assert (edits(enclave), deletions(enclave)) == ([], [])
