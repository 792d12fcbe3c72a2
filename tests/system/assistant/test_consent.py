"""Consent is a key: who has not given it cannot be read, who takes it back cannot be followed, and everybody sees who gave it."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from messaging.client.assistant import AssistantRefused
from messaging.client.chat_records import Chat
from messaging.client.chats import UnknownConversation
from messaging.client.consent import verify_consent
from messaging.client.conversation import Conversation
from messaging.wire.assistant import Coverage, Replies, Scope, SuggestReplies, Summarize, Summary
from messaging.wire.consent import ALL_SCOPES, ConsentScope
from messaging.wire.content import ConsentUpdate, DataMessage
from messaging.wire.identifiers import MessageId
from signal_protocol.types import MessageKind
from tests.system.assistant.break_in import Letter, Loot, letters
from tests.system.assistant.world import Client, Person, World

HOUR = 3_600_000  # milliseconds


def by(some: Sequence[Letter], person: Person) -> list[Letter]:
    """The letters that a person's devices wrote."""
    return [letter for letter in some if letter.sender.service_id == str(person.service_id)]


async def everybody_writes(world: World, what: str) -> dict[Client, MessageId]:
    """One message of each device, on every device when this returns."""
    written = {client: await client.write(f"{what}, writes {client.name}") for client in world.clients}
    await world.nothing_is_lost()
    return written


async def test_the_enclave_gets_exactly_what_those_write_who_have_opted_in_and_from_then_on(world: World) -> None:
    ann, bob, _ = world.everybody
    await everybody_writes(world, "before anybody opted in")
    await world.opt_in(ann.phone)
    first = await everybody_writes(world, "when one had opted in")
    await world.opt_in(bob.laptop)
    second = await everybody_writes(world, "when two had opted in")
    shared = [*(first[client] for client in ann.clients), *(second[client] for client in (*ann.clients, *bob.clients))]
    serving = world.serving()
    await serving.has(world.key, *shared)
    await ann.phone.write("the end")
    await serving.heard(lambda: "the end" in serving.messages(world.key).values())
    assert serving.messages(world.key).keys() == {*shared, next(reversed(world.written))}
    assert world.other().messages(world.key) == {}


async def test_the_whole_state_of_an_enclave_reads_no_letter_of_an_author_who_has_not_opted_in(world: World) -> None:
    ann, bob, cem = world.everybody
    await world.opt_in(ann.phone)
    serving = world.serving()
    await serving.has(
        world.key, *[(await everybody_writes(world, "so that there are keys"))[client] for client in ann.clients]
    )
    before = await Loot.of(serving, world.crypto)
    seen = len(world.hostile.seen)
    written = await everybody_writes(world, "under the rose")
    await serving.has(world.key, *(written[client] for client in ann.clients))
    after, elsewhere = await Loot.of(serving, world.crypto), await Loot.of(world.other(), world.crypto)
    caught = await letters(world, world.hostile.seen[seen:])

    for author in (bob, cem):
        assert len([letter for letter in by(caught, author) if letter.kind is MessageKind.SENDER_KEY]) == 2 * 4
        for loot in (before, after, elsewhere):
            assert await loot.read_all(by(caught, author)) == []
            assert not any(loot.holds(world.written[written[client]][0]) for client in author.clients)
    assert not any([await loot.opens(letter) for letter in caught for loot in (before, after, elsewhere)])

    # The control: the same attack reads what an author let the enclave have, and finds it there.
    read = {content.body for content in await before.read_all(by(caught, ann)) if isinstance(content, DataMessage)}
    assert read == {world.written[written[client]][0] for client in ann.clients}
    assert all(after.holds(text) for text in read)
    assert await elsewhere.read_all(caught) == []


async def test_after_opting_out_the_next_message_is_under_a_key_that_the_enclave_cannot_follow(world: World) -> None:
    ann, bob, _ = world.everybody
    await world.opt_in(ann.phone, bob.phone)
    serving = world.serving()
    shared = await everybody_writes(world, "while both had opted in")
    await serving.has(world.key, *(shared[client] for client in (*ann.clients, *bob.clients)))
    before = await Loot.of(serving, world.crypto)
    assert before.holds(world.written[shared[ann.laptop]][0])
    await world.opt_out(ann.phone)
    seen = len(world.hostile.seen)
    written = await everybody_writes(world, "when one had opted out")
    await serving.has(world.key, *(written[client] for client in bob.clients))
    after = await Loot.of(serving, world.crypto)
    caught = await letters(world, world.hostile.seen[seen:])
    for loot in (before, after):
        assert await loot.read_all(by(caught, ann)) == []
    assert {type(content) for content in await before.read_all(by(caught, bob))} == {DataMessage}
    assert not any(after.holds(world.written[shared[client]][0]) for client in ann.clients)  # it was dropped
    assert after.holds(world.written[shared[bob.phone]][0])


async def test_when_consent_runs_out_the_next_message_is_under_a_key_that_the_enclave_cannot_follow(
    world: World,
) -> None:
    ann, bob, _ = world.everybody
    await world.opt_in(bob.phone)
    await world.opt_in(ann.phone, expires_at=world.clock() + HOUR)
    serving = world.serving()
    shared = await everybody_writes(world, "while both had opted in")
    await serving.has(world.key, *(shared[client] for client in (*ann.clients, *bob.clients)))
    before = await Loot.of(serving, world.crypto)
    world.clock.passed += HOUR
    assert all(client.opted_in() == {bob.service_id} for client in world.clients)
    seen = len(world.hostile.seen)
    written = await everybody_writes(world, "when the consent of one had run out")
    await serving.has(world.key, *(written[client] for client in bob.clients))
    caught = await letters(world, world.hostile.seen[seen:])
    assert await before.read_all(by(caught, ann)) == []
    assert {type(content) for content in await before.read_all(by(caught, bob))} == {DataMessage}

    answered = await bob.laptop.chats.summarize(world.key, bob.laptop.message_ids, world.names)
    assert isinstance(answered.result.kind, Summary)
    assert answered.result.kind.coverage == Coverage(used=4, not_opted_in=8, not_held=0)
    serving.assistant.forget_old()  # as it does every half a minute
    after = await Loot.of(serving, world.crypto)
    assert not any(after.holds(world.written[shared[client]][0]) for client in ann.clients)
    assert after.holds(world.written[shared[bob.phone]][0])


async def test_every_member_sees_on_both_devices_who_has_opted_in_under_their_signature(world: World) -> None:
    ann, bob, cem = world.everybody
    await world.opt_in(ann.laptop, scopes=[ConsentScope.SUMMARIES])
    await world.opt_in(bob.phone)
    await world.opt_in(cem.phone)
    await world.opt_out(cem.laptop)
    for client in world.clients:
        assert client.opted_in() == {ann.service_id, bob.service_id}
        for author in world.everybody:
            statement = client.conversation.statement_of(author.service_id)
            assert statement is not None
            update = ConsentUpdate(world.key, statement.signed)
            consent = verify_consent(update, author.service_id, author.phone.device.identity_key)
            assert consent.opted_in == (author is not cem)
            assert consent.author == author.service_id
        allowed = client.conversation.statement_of(ann.service_id)
        assert allowed is not None
        assert allowed.consent.scopes == {ConsentScope.SUMMARIES}


async def test_a_device_that_joins_later_follows_the_choice_of_its_account(world: World) -> None:
    ann, _, cem = world.everybody
    await world.opt_in(ann.phone)
    tablets = await asyncio.gather(world.link(ann.phone), world.link(cem.phone))
    for tablet in tablets:
        await tablet.until(lambda tablet=tablet: world.key in {each.key for each in tablet.chats.conversations})  # type: ignore[misc]
        await tablet.until(lambda tablet=tablet: tablet.opted_in() == {ann.service_id})  # type: ignore[misc]
    shared, kept = await tablets[0].write("from the tablet"), await tablets[1].write("from the other tablet")
    last = await ann.phone.write("the end")
    await world.serving().has(world.key, shared, last)
    assert kept not in world.serving().messages(world.key)
    for tablet in tablets:
        await tablet.has(shared, kept, last)
        await tablet.device.remove_device(tablet.device.address.device_id)


async def test_who_is_no_member_gets_nothing_with_the_key_of_the_conversation_and_a_consent_of_their_own(
    world: World,
) -> None:
    ann, bob, _ = world.everybody
    await world.opt_in(ann.phone, bob.phone)
    written = await everybody_writes(world, "among members")
    await world.serving().has(world.key, *(written[client] for client in (*ann.clients, *bob.clients)))
    eve = await world.register()
    members = (*ann.phone.conversation.members, eve.me)
    await eve.chats._records.save(Chat(Conversation(world.key, "overheard", members, revision=9)))
    await eve.chats.opt_in(world.key)
    await world.serving().knows(eve.conversation, eve)
    assistant = await eve.assistants.choose(eve.conversation.id)
    for kind in (
        Summarize(Scope(world.key, tuple(written.values()))),
        SuggestReplies(Scope(world.key, tuple(written.values()))),
    ):
        with pytest.raises(AssistantRefused) as refused:
            await assistant.ask(kind)
        assert refused.value.code == "not_a_member"
    with pytest.raises(AssistantRefused, match="nobody whose messages it has counts you"):
        await eve.chats.status(world.key)

    # Who says that nobody else is a member is alone there, and is told about their own messages only.
    mallory = await world.register()
    await mallory.chats._records.save(Chat(Conversation(world.key, "overheard", (mallory.me,))))
    await mallory.chats.opt_in(world.key)
    alone = await mallory.assistants.choose(mallory.conversation.id)
    summary = await alone.summarize(Scope(world.key, tuple(written.values())))
    assert (summary.lines, summary.coverage.used, summary.coverage.left_out) == ((), 0, len(written))
    assert all(eve.me not in client.opted_in() for client in world.clients)


async def test_who_was_removed_gets_nothing_from_the_enclave_and_reads_nothing_more(world: World) -> None:
    ann, bob, cem = world.everybody
    await world.opt_in(ann.phone, bob.phone, cem.phone)
    written = await everybody_writes(world, "while all were members")
    serving = world.serving()
    await serving.has(world.key, *written.values())
    await ann.phone.chats.set_members(world.key, [bob.service_id])
    for client in (*ann.clients, *bob.clients, *cem.clients):
        await client.until(lambda client=client: cem.service_id not in client.conversation.members)  # type: ignore[misc]
    after = await ann.phone.write("among the two who are left"), await bob.laptop.write("yes")
    await serving.has(world.key, *after)
    await serving.knows(ann.phone.conversation, ann.phone, bob.laptop)
    for client in cem.clients:
        with pytest.raises(UnknownConversation):
            await client.chats.summarize(world.key, (*written.values(), *after), world.names)
        assistant = await client.assistants.choose(client.conversation.id)  # a client that asks all the same
        with pytest.raises(AssistantRefused) as refused:
            await assistant.summarize(Scope(world.key, (*written.values(), *after)))
        assert refused.value.code == "not_a_member"
        assert not client.texts.keys() & set(after)
    answered = await bob.phone.chats.summarize(world.key, (*written.values(), *after), world.names)
    assert isinstance(answered.result.kind, Summary)
    assert answered.result.kind.coverage == Coverage(used=8, not_opted_in=0, not_held=0)


async def test_an_author_who_allows_summaries_only_is_not_used_for_replies(world: World) -> None:
    ann, bob, _ = world.everybody
    await world.opt_in(ann.phone)
    await world.opt_in(bob.phone, scopes=[ConsentScope.SUMMARIES])
    written = await everybody_writes(world, "Can you bring the tent on Friday?")
    await world.serving().has(world.key, *(written[client] for client in (*ann.clients, *bob.clients)))
    summary = await ann.phone.chats.summarize(world.key, tuple(written.values()), world.names)
    replies = await ann.phone.chats.suggest_replies(world.key, tuple(written.values()), world.names)
    assert isinstance(summary.result.kind, Summary)
    assert isinstance(replies.result.kind, Replies)
    assert summary.result.kind.coverage == Coverage(used=4, not_opted_in=2, not_held=0)
    assert replies.result.kind.coverage == Coverage(used=2, not_opted_in=4, not_held=0)
    assert {consent.author for consent in replies.result.consents} == {ann.service_id}

    # A client that names them all the same gets nothing of them.
    assistant = await ann.phone.assistants.choose(ann.phone.conversation.id)
    unasked = await assistant.suggest_replies(Scope(world.key, tuple(written.values())))
    assert (unasked.coverage.used, unasked.coverage.left_out) == (2, 4)

    # Bob's own device does not ask, and an enclave that is asked all the same refuses.
    with pytest.raises(AssistantRefused, match="your own consent does not cover this"):
        await bob.phone.chats.suggest_replies(world.key, tuple(written.values()), world.names)
    assistant = await bob.phone.assistants.choose(bob.phone.conversation.id)
    with pytest.raises(AssistantRefused) as refused:
        await assistant.ask(SuggestReplies(Scope(world.key, tuple(written.values()))))
    assert refused.value.code == "out_of_scope"


async def test_what_an_answer_says_was_left_out_is_what_a_naive_count_says(world: World) -> None:
    draw = random.Random(1)  # noqa: S311  # a script, no secret
    ann = world.everybody[0]
    allowed: dict[Person, frozenset[ConsentScope]] = dict.fromkeys(world.everybody, frozenset())
    written: list[tuple[MessageId, Person, frozenset[ConsentScope]]] = []
    usable: set[MessageId] = set()  # written under a consent, and not taken back since

    async def decide(person: Person, scopes: frozenset[ConsentScope]) -> None:
        if scopes:
            await world.opt_in(person.phone, scopes=scopes)
        else:
            await world.opt_out(person.phone)
            usable.difference_update(message for message, author, _ in written if author is person)
        allowed[person] = scopes
        for client in world.clients:
            await client.until(lambda client=client: _scopes_seen(client, person) == scopes)  # type: ignore[misc]

    await decide(ann, ALL_SCOPES)
    for _ in range(30):
        person = draw.choice(world.everybody)
        if draw.random() < 0.25 and person is not ann:
            await decide(person, draw.choice([frozenset(), frozenset([ConsentScope.SUMMARIES]), ALL_SCOPES]))
        else:
            message = await draw.choice(person.clients).write(
                f"message {len(written)}: the train leaves at {len(written)}:15"
            )
            written.append((message, person, allowed[person]))
            usable |= {message} if allowed[person] else set()
    await world.nothing_is_lost()
    await world.serving().has(world.key, *(message for message, _, scopes in written if scopes))
    asked = tuple(message for message, _, _ in written)
    for scope, answered in (
        (ConsentScope.SUMMARIES, await ann.phone.chats.summarize(world.key, asked, world.names)),
        (ConsentScope.REPLIES, await ann.laptop.chats.suggest_replies(world.key, asked, world.names)),
    ):
        used = [m for m, author, then in written if m in usable and scope in then and scope in allowed[author]]
        assert isinstance(answered.result.kind, Summary | Replies)
        coverage = answered.result.kind.coverage
        assert (coverage.used, coverage.left_out) == (len(used), len(written) - len(used))


def _scopes_seen(client: Client, author: Person) -> frozenset[ConsentScope]:
    statement = client.conversation.statement_of(author.service_id)
    return statement.consent.scopes if statement is not None and statement.consent.opted_in else frozenset()
