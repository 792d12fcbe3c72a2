"""A group message is encrypted once and read by exactly the devices that it is for, whoever had the key before, whatever crashes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from messaging.client import (
    ContentTooLarge,
    Device,
    IdentityChanged,
    Received,
    RelayUnreachable,
    Store,
    Undecryptable,
    UnknownRecipient,
)
from messaging.client.groups import OUTBOX, GroupOutgoing, _Outdated
from messaging.client.holders import Holder, confirm, load_distribution, promise
from messaging.wire.content import DataMessage, SenderKeyDistribution, decode_content
from messaging.wire.frames import Response
from messaging.wire.identifiers import ServiceId
from messaging.wire.json import encode_base64
from messaging.wire.limits import MAX_CONTENT
from messaging.wire.messages import ACCESS_KEY_HEADER, MULTI_RECIPIENT_TYPE, IncomingMessageList
from signal_protocol.errors import DuplicateMessage, NoSession, ProtocolError
from signal_protocol.operations import SignalCrypto
from signal_protocol.public.sealed_v2 import split_sealed_v2
from tests.messaging.client.conftest import KEY, Link, Register
from tests.messaging.client.watched import (
    MANY,
    Ask,
    Crash,
    Sent,
    WatchedRelay,
    answer_lost_and_crash,
    away,
    crash_before,
)
from tests.relays import Relays, StartedRelay

ANN, BOB, CID = "+4915550000231", "+4915550000232", "+4915550000233"
GROUP, OTHER_GROUP = UUID(int=1), UUID(int=2)
NOBODY = ServiceId.parse("00000000-0000-4000-8000-000000000001")


@pytest.fixture
async def client_relay(sqlite_relay: StartedRelay) -> AsyncIterator[WatchedRelay]:
    """Stands for the relay of the same name: what devices ask over HTTP is watched."""
    async with WatchedRelay(sqlite_relay.url) as relay:
        yield relay


@pytest.fixture
async def three(register: Register) -> tuple[Device, Device, Device]:
    """Three people who know each other's profile keys."""
    people = await register(ANN), await register(BOB), await register(CID)
    await introduce(people)
    return people


async def introduce(people: Collection[Device]) -> None:
    for one in people:
        for other in people:
            if one is not other:
                await one.learn_profile_key(other.service_id, other.profile_key)


def ids(*people: Device) -> list[ServiceId]:
    return [person.service_id for person in people]


async def next_from(device: Device) -> Received:
    """The next message, marked as done."""
    async with asyncio.timeout(20):
        received = await anext(aiter(device.received()))
    await device.done(received)
    return received


async def read(device: Device, count: int = 1) -> list[str]:
    """The texts of the next messages."""
    contents = [(await next_from(device)).content for _ in range(count)]
    return [content.body for content in contents if isinstance(content, DataMessage)]


async def problem_of(device: Device) -> object:
    for _ in range(500):
        if problems := device.problems():
            return problems[0]
        await asyncio.sleep(0.02)
    raise TimeoutError


def text(body: str) -> DataMessage:
    return DataMessage(body, 1)


def many(relay: WatchedRelay) -> list[Sent]:
    return [sent for sent in relay.sent if sent.to_many]


async def inner(sent: Sent, receiver: Device) -> bytes:
    """What a group message is for all who have its key: opened by somebody whom it was sealed for."""
    upload = split_sealed_v2(sent.body)
    [mine] = [each for each in upload.recipients if each.service_id == str(receiver.service_id)]
    account = receiver._account
    opened = await receiver._crypto.unseal(
        mine.prefix + upload.shared, local=account.local, trust_roots=[account.trust_root], now=receiver._now()
    )
    return opened.ciphertext


async def can_read(reader: Device, sent: Sent, receiver: Device, author: Device) -> bool:
    """Whether ``reader`` with all that its store holds can decrypt a message that ``receiver`` was sent by ``author``."""
    try:
        await reader._sessions.group_decrypt(author._account.local.address, await inner(sent, receiver))
    except DuplicateMessage:
        raise AssertionError("it was read, or it was written before the reader got the key") from None
    except ProtocolError:
        return False
    return True


@asynccontextmanager
async def reopened(path: Path, relay: WatchedRelay, crypto: SignalCrypto) -> AsyncIterator[Device]:
    """A device as after a crash."""
    async with Store.open(path, KEY) as store:
        device = await Device.open(store, relay, crypto, deadline=5)
        async with device:
            yield device


@asynccontextmanager
async def short_lived(
    number: str, path: Path, relay: WatchedRelay, crypto: SignalCrypto, started: StartedRelay
) -> AsyncIterator[Device]:
    """A device whose store is closed at the end, as by a crash."""

    async def code() -> str:
        return started.last_code(number)

    async with Store.open(path, KEY) as store:
        device = await Device.register(store, relay, crypto, number=number, code=code, deadline=1.5)
        async with device:
            await device.ready()
            yield device


async def crash(sending: Awaitable[object]) -> None:
    with pytest.raises(Crash):
        await sending


# --- what is sent ---


async def test_everybody_reads_what_was_sent_once_and_the_relay_sees_no_sender(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    assert await ann.send_to_group(GROUP, ids(bob, cid), text("hello")) == {}
    for member in (bob, cid):
        received = await next_from(member)
        assert (received.sender, received.sealed, received.content) == (ann.address, True, text("hello"))
    client_relay.sent.clear()
    assert await ann.send_to_group(GROUP, ids(ann, bob, cid), text("and again")) == {}
    assert [await read(bob), await read(cid)] == [["and again"], ["and again"]]
    [sent] = client_relay.sent  # nothing but one request
    assert sent.to_many
    assert "Authorization" not in sent.headers
    everything = repr(dict(sent.headers)).encode() + sent.path.encode() + sent.body
    assert str(ann.service_id).encode() not in everything
    assert ann.service_id.uuid.bytes not in everything
    assert ann.problems() == bob.problems() == cid.problems() == []


async def test_members_answer_in_the_same_group(three: tuple[Device, Device, Device]) -> None:
    ann, bob, cid = three
    for author, readers in ((ann, (bob, cid)), (bob, (ann, cid)), (cid, (ann, bob))):
        for number in range(3):
            assert await author.send_to_group(GROUP, ids(*readers), text(str(number))) == {}
        for reader in readers:
            assert await read(reader, 3) == ["0", "1", "2"]


async def test_the_same_with_postgresql_and_valkey(relays: Relays, crypto: SignalCrypto) -> None:
    started = await relays.start("postgresql")
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(WatchedRelay(started.url))
        people = []
        for number in (ANN, BOB, CID):

            async def code(number: str = number) -> str:
                return started.last_code(number)

            store = await stack.enter_async_context(Store.open(":memory:", KEY))
            person = await Device.register(store, relay, crypto, number=number, code=code)
            people.append(await stack.enter_async_context(person))
        await introduce(people)
        ann, bob, cid = people
        for turn in range(2):
            assert await ann.send_to_group(GROUP, ids(bob, cid), text(str(turn))) == {}
        assert [await read(bob, 2), await read(cid, 2)] == [["0", "1"], ["0", "1"]]
        assert len(many(relay)) == 2


async def test_a_group_of_nobody_else_needs_no_request(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, _, _ = three
    before = len(client_relay.sent)
    assert await ann.send_to_group(GROUP, [], text("hello")) == {}
    assert await ann.send_to_group(GROUP, ids(ann), text("hello")) == {}
    assert len(client_relay.sent) == before


async def test_every_device_of_a_member_reads_it(
    three: tuple[Device, Device, Device], link: Link, client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    await ann.send_to_group(GROUP, ids(bob, cid), text("to phones"))
    laptop = await link(bob)
    client_relay.sent.clear()
    assert await ann.send_to_group(GROUP, ids(bob, cid), text("to the laptop too")) == {}
    assert await read(laptop) == ["to the laptop too"]
    assert await read(bob, 2) == await read(cid, 2) == ["to phones", "to the laptop too"]
    assert len(many(client_relay)) == 2  # the first was refused, and nothing of it stored


async def test_ones_own_other_devices_get_nothing(three: tuple[Device, Device, Device], link: Link) -> None:
    ann, bob, _ = three
    laptop = await link(ann)
    assert await ann.send_to_group(GROUP, ids(ann, bob), text("to bob")) == {}
    await ann.send_to_own_devices(text("to my laptop"))
    assert await read(laptop) == ["to my laptop"]


async def test_what_does_not_fit_is_refused_before_anything_is_sent(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, _ = three
    with pytest.raises(ContentTooLarge):
        await ann.send_to_group(GROUP, ids(bob), text("x" * MAX_CONTENT))
    assert client_relay.sends == []


# --- who can read ---


async def test_who_left_cannot_read_what_follows_although_they_see_it(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    await ann.send_to_group(GROUP, ids(bob, cid), text("before"))
    assert await read(bob) == await read(cid) == ["before"]
    assert await ann.send_to_group(GROUP, ids(bob), text("after")) == {}
    assert await read(bob) == ["after"]
    before, after = many(client_relay)
    with pytest.raises(DuplicateMessage):  # it has the key of what it was sent
        await cid._sessions.group_decrypt(ann._account.local.address, await inner(before, bob))
    assert not await can_read(cid, after, bob, ann)


async def test_a_member_that_comes_back_reads_what_follows_and_nothing_between(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    for to, body in ((ids(bob, cid), "one"), (ids(bob), "two"), (ids(bob, cid), "three")):
        assert await ann.send_to_group(GROUP, to, text(body)) == {}
    assert await read(cid, 2) == ["one", "three"]
    assert await read(bob, 3) == ["one", "two", "three"]
    between = await inner(many(client_relay)[1], bob)
    with pytest.raises(DuplicateMessage):  # libsignal's word for a message from before the key that it has
        await cid._sessions.group_decrypt(ann._account.local.address, between)


async def test_who_is_added_reads_only_what_follows(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    await ann.send_to_group(GROUP, ids(bob), text("before"))
    await ann.send_to_group(GROUP, ids(bob, cid), text("after"))
    assert await read(cid) == ["after"]
    assert await read(bob, 2) == ["before", "after"]
    with pytest.raises(DuplicateMessage):  # libsignal's word for a message from before the key that it has
        await cid._sessions.group_decrypt(ann._account.local.address, await inner(many(client_relay)[0], bob))


async def test_keys_of_one_group_read_nothing_of_another(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    await ann.send_to_group(GROUP, ids(bob, cid), text("here"))
    await ann.send_to_group(OTHER_GROUP, ids(bob), text("there"))
    assert await read(cid) == ["here"]
    assert not await can_read(cid, many(client_relay)[1], bob, ann)


async def test_a_removed_device_cannot_read_what_follows(
    three: tuple[Device, Device, Device], link: Link, client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    laptop = await link(bob)
    await ann.send_to_group(GROUP, ids(bob, cid), text("before"))
    assert await read(laptop) == ["before"]
    await bob.remove_device(laptop.address.device_id)
    assert await ann.send_to_group(GROUP, ids(bob, cid), text("after")) == {}
    assert await read(bob, 2) == await read(cid, 2) == ["before", "after"]
    assert not await can_read(laptop, many(client_relay)[-1], bob, ann)


async def test_nothing_goes_to_a_changed_identity_and_the_others_get_it_under_a_new_key(
    three: tuple[Device, Device, Device],
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    ann, bob, cid = three
    await ann.send_to_group(GROUP, ids(bob, cid), text("before"))
    assert await read(bob) == await read(cid) == ["before"]
    async with short_lived(BOB, tmp_path / "new.db", client_relay, crypto, sqlite_relay) as renewed:
        await ann.learn_profile_key(bob.service_id, renewed.profile_key)
        failed = await ann.send_to_group(GROUP, ids(bob, cid), text("not for the new bob"))
        assert [*failed] == ids(bob)
        changed = failed[bob.service_id]
        assert isinstance(changed, IdentityChanged)
        assert changed.identity_key == renewed.identity_key
        assert await read(cid) == ["not for the new bob"]
        [accepted] = [sent for sent in many(client_relay) if str(bob.service_id) not in recipients_of(sent)]
        assert not await can_read(bob, accepted, cid, ann)  # the old phone, whoever has it now
        await ann.trust(bob.service_id, renewed.identity_key)
        assert await ann.send_to_group(GROUP, ids(bob, cid), text("for the new bob")) == {}
        assert await read(renewed) == await read(cid) == ["for the new bob"]
        assert not await can_read(bob, many(client_relay)[-1], cid, ann)


def recipients_of(sent: Sent) -> set[str]:
    return {recipient.service_id for recipient in split_sealed_v2(sent.body).recipients}


# --- who is reached another way, or not at all ---


async def test_who_has_no_known_profile_key_gets_it_pairwise(register: Register, client_relay: WatchedRelay) -> None:
    ann, bob, cid = await register(ANN), await register(BOB), await register(CID)
    await ann.learn_profile_key(bob.service_id, bob.profile_key)
    for number in range(2):
        assert await ann.send_to_group(GROUP, ids(bob, cid), text(str(number))) == {}
    received = [await next_from(cid), await next_from(cid)]
    assert [each.content for each in received] == [text("0"), text("1")]
    assert not any(each.sealed for each in received)
    assert await read(bob, 2) == ["0", "1"]
    assert all(recipients_of(sent) == {str(bob.service_id)} for sent in many(client_relay))


async def test_a_wrong_profile_key_keeps_nobody_from_getting_it(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    await ann.send_to_group(GROUP, ids(bob, cid), text("one"))
    await ann.learn_profile_key(cid.service_id, bytes(32))
    assert await ann.send_to_group(GROUP, ids(bob, cid), text("two")) == {}
    client_relay.sent.clear()
    assert await ann.send_to_group(GROUP, ids(bob, cid), text("three")) == {}
    assert await read(bob, 3) == await read(cid, 3) == ["one", "two", "three"]
    assert {*map(frozenset, map(recipients_of, many(client_relay)))} == {frozenset({str(bob.service_id)})}
    assert bob.problems() == cid.problems() == []


async def test_an_unknown_account_is_named_and_keeps_nobody_from_getting_it(
    three: tuple[Device, Device, Device],
) -> None:
    ann, bob, cid = three
    for known in (False, True):
        if known:
            await ann.learn_profile_key(NOBODY, bytes(32))
        failed = await ann.send_to_group(GROUP, [*ids(bob, cid), NOBODY], text("hello"))
        assert [*failed] == [NOBODY]
        assert isinstance(failed[NOBODY], UnknownRecipient)
        assert await read(bob) == await read(cid) == ["hello"]
    failed = await ann.send_to_group(OTHER_GROUP, [NOBODY], text("hello"))
    assert isinstance(failed[NOBODY], UnknownRecipient)


async def test_a_mark_as_unrestricted_counts_in_a_group(
    register: Register, client_relay: WatchedRelay, crypto: SignalCrypto, sqlite_relay: StartedRelay
) -> None:
    ann, bob, token = await register(ANN), await register(BOB), sqlite_relay.assistant_token
    async with Store.open(":memory:", KEY) as store:
        assistant = await Device.register_assistant(store, client_relay, crypto, name="assistant", token=token)
        async with assistant:
            await ann.learn_profile_key(bob.service_id, bob.profile_key)
            await ann.mark_unrestricted(assistant.service_id)
            assert await ann.send_to_group(GROUP, ids(bob, assistant), text("hello")) == {}
            assert await read(bob) == await read(assistant) == ["hello"]
            [sent] = many(client_relay)
            assert recipients_of(sent) == {*map(str, ids(bob, assistant))}
            await assistant.forget_sender_keys(ann.service_id)  # ann has opted out
            await ann.send_to_group(GROUP, ids(bob), text("between us"))
            assert not await can_read(assistant, many(client_relay)[-1], bob, ann)


async def test_without_a_relay_nothing_is_decided_and_nothing_lost(
    three: tuple[Device, Device, Device],
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    _, bob, cid = three
    async with short_lived("+4915550000234", tmp_path / "dan.db", client_relay, crypto, sqlite_relay) as dan:
        await introduce([dan, bob, cid])
        client_relay.fault = away()
        with pytest.raises(RelayUnreachable):
            await dan.send_to_group(GROUP, ids(bob, cid), text("late"))
        client_relay.fault = away(lambda sent: sent.to_many)
        await dan._access.forget(cid.service_id, cid._account.access_key)
        failed = await dan.send_to_group(OTHER_GROUP, ids(bob, cid), text("for cid now, for bob later"))
        assert [*failed] == ids(bob)
        assert isinstance(failed[bob.service_id], RelayUnreachable)
        client_relay.fault = None
        await dan.send_to_group(GROUP, ids(bob, cid), text("next"))
        await dan.send_to_group(OTHER_GROUP, ids(bob), text("next there"))
    everything = ["late", "next", "for cid now, for bob later", "next there"]
    assert sorted(await read(bob, 4)) == sorted(everything)
    assert sorted(await read(cid, 3)) == sorted(everything[:3])


# --- order ---


async def test_sends_at_once_to_one_group_keep_their_order(three: tuple[Device, Device, Device]) -> None:
    ann, bob, cid = three
    bodies = [str(number) for number in range(6)]
    await asyncio.gather(*(ann.send_to_group(GROUP, ids(bob, cid), text(body)) for body in bodies))
    assert await read(bob, 6) == await read(cid, 6) == bodies


async def test_one_group_does_not_wait_for_another(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, cid = three
    for group in (GROUP, OTHER_GROUP):
        await ann.send_to_group(group, ids(bob, cid), text("first"))
    held, released = many(client_relay)[-1], asyncio.Event()

    async def hold_first(sent: Sent, ask: Ask) -> Response:
        nonlocal held
        if sent.to_many and held is many(client_relay)[-2]:
            await released.wait()
        return await ask()

    client_relay.fault = hold_first
    slow = asyncio.create_task(ann.send_to_group(GROUP, ids(bob, cid), text("slow")))
    while len(many(client_relay)) < 3:
        await asyncio.sleep(0.01)
    await ann.send_to_group(OTHER_GROUP, ids(bob, cid), text("fast"))
    assert not slow.done()
    released.set()
    await slow
    assert await read(bob, 4) == ["first", "first", "fast", "slow"]


# --- crashes ---


async def test_a_send_whose_answer_was_lost_in_a_crash_arrives_once_and_before_the_next(
    three: tuple[Device, Device, Device],
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    _, bob, cid = three
    path = tmp_path / "dan.db"
    async with short_lived("+4915550000234", path, client_relay, crypto, sqlite_relay) as dan:
        await introduce([dan, bob, cid])
        await dan.send_to_group(GROUP, ids(bob, cid), text("one"))
        client_relay.fault = answer_lost_and_crash(lambda sent: sent.to_many)
        await crash(dan.send_to_group(GROUP, ids(bob, cid), text("two")))
    client_relay.fault = None
    async with reopened(path, client_relay, crypto) as dan:
        await dan.send_to_group(GROUP, ids(bob, cid), text("three"))
        assert await read(bob, 3) == await read(cid, 3) == ["one", "two", "three"]
    assert len({sent.body for sent in many(client_relay)}) == 3  # the second was repeated as it was
    assert bob.problems() == cid.problems() == []


async def test_what_waited_longer_than_its_certificate_is_sealed_anew(
    three: tuple[Device, Device, Device],
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    _, bob, cid = three
    async with short_lived("+4915550000234", tmp_path / "dan.db", client_relay, crypto, sqlite_relay) as dan:
        await introduce([dan, bob, cid])
        client_relay.fault = crash_before(lambda sent: sent.to_many)
        await crash(dan.send_to_group(GROUP, ids(bob, cid), text("late")))
        client_relay.fault, later = None, dan._now() + 30 * 60 * 60 * 1000
        await dan.__aexit__(None, None, None)
        async with await Device.open(dan._store, client_relay, crypto, now=lambda: later):
            assert await read(bob) == await read(cid) == ["late"]
    stale, fresh = many(client_relay)
    assert stale.body != fresh.body


async def test_a_repeated_send_is_known_to_the_relay_even_if_a_member_has_changed_since(
    three: tuple[Device, Device, Device],
    link: Link,
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    _, bob, cid = three
    path = tmp_path / "dan.db"
    async with short_lived("+4915550000234", path, client_relay, crypto, sqlite_relay) as dan:
        await introduce([dan, bob, cid])
        client_relay.fault = answer_lost_and_crash(lambda sent: sent.to_many)
        await crash(dan.send_to_group(GROUP, ids(bob, cid), text("once")))
    client_relay.fault = None
    await link(bob)
    async with reopened(path, client_relay, crypto) as dan:
        await dan.learn_profile_key(cid.service_id, bytes(32))
        await dan.send_to_group(GROUP, ids(bob), text("next"))
    assert await read(bob, 2) == ["once", "next"]
    assert await read(cid) == ["once"]


@pytest.mark.parametrize("where", ["before the key is sent", "after the key is sent", "before the message is sent"])
async def test_who_left_is_shut_out_whatever_crashes_in_a_rotation(
    three: tuple[Device, Device, Device],
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
    where: str,
) -> None:
    _, bob, cid = three
    path = tmp_path / "dan.db"
    async with short_lived("+4915550000234", path, client_relay, crypto, sqlite_relay) as dan:
        await introduce([dan, bob, cid])
        await dan.send_to_group(GROUP, ids(bob, cid), text("before"))
        client_relay.fault = {
            "before the key is sent": crash_before(lambda sent: not sent.to_many),
            "after the key is sent": answer_lost_and_crash(lambda sent: not sent.to_many),
            "before the message is sent": crash_before(lambda sent: sent.to_many),
        }[where]
        await crash(dan.send_to_group(GROUP, ids(bob), text("after")))
    client_relay.fault = None
    async with reopened(path, client_relay, crypto) as dan:
        assert await read(bob, 2) == ["before", "after"]
        await dan.send_to_group(GROUP, ids(bob), text("and more"))
        assert await read(bob) == ["and more"]
        assert await read(cid) == ["before"]
        for sent in many(client_relay)[1:]:
            assert not await can_read(cid, sent, bob, dan)


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_key_that_waits_in_the_outbox_for_somebody_who_left_opens_nothing(
    three: tuple[Device, Device, Device],
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
    *,
    encrypted: bool,
) -> None:
    _, bob, cid = three
    path = tmp_path / "dan.db"
    async with short_lived("+4915550000234", path, client_relay, crypto, sqlite_relay) as dan:
        await introduce([dan, bob, cid])
        client_relay.fault = away(lambda sent: str(cid.service_id) in sent.path)
        if not encrypted:  # the key waits behind something else
            with pytest.raises(RelayUnreachable):
                await dan.send(cid.service_id, text("first"))
        with pytest.raises(RelayUnreachable):  # bob has the key by now, and for cid it waits
            await dan.send_to_group(GROUP, ids(bob, cid), text("for both"))
        async with dan._store.transaction() as transaction:
            for number, _ in transaction.entries(OUTBOX):
                transaction.remove(OUTBOX, number)  # as if it had never been meant for cid
        assert await dan.send_to_group(GROUP, ids(bob), text("for bob")) == {}
        client_relay.fault = None
    async with reopened(path, client_relay, crypto) as dan:
        await dan.send(cid.service_id, text("the key goes out before this"))
        assert await read(cid, 1 if encrypted else 2) == ["first", "the key goes out before this"][int(encrypted) :]
        assert await read(bob) == ["for bob"]
        assert not await can_read(cid, many(client_relay)[-1], bob, dan)


async def test_a_key_that_the_relay_kept_for_a_removed_device_opens_nothing(
    three: tuple[Device, Device, Device],
    link: Link,
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    _, bob, cid = three
    path, laptop = tmp_path / "dan.db", await link(bob)
    async with short_lived("+4915550000234", path, client_relay, crypto, sqlite_relay) as dan:
        await introduce([dan, bob, cid])
        client_relay.fault = crash_before(lambda sent: str(bob.service_id) in sent.path)
        await crash(dan.send_to_group(GROUP, ids(bob, cid), text("hello")))
    [with_the_key] = [sent for sent in client_relay.sends if str(bob.service_id) in sent.path]
    client_relay.fault = None
    await bob.remove_device(laptop.address.device_id)
    async with reopened(path, client_relay, crypto) as dan:
        assert await read(bob) == await read(cid) == ["hello"]
        # A relay that is against them says that the device is gone, and passes on to it what it was given for it.
        messages = IncomingMessageList.from_json(with_the_key.body).messages
        [kept] = [each.content for each in messages if each.destination_device_id == laptop.address.device_id]
        content = decode_content((await laptop._sessions.decrypt_sealed(kept)).plaintext)
        assert isinstance(content, SenderKeyDistribution)
        await laptop._sessions.process_distribution(dan._account.local.address, content.message)
        assert not await can_read(laptop, many(client_relay)[-1], bob, dan)


@pytest.mark.parametrize("change", ["somebody is promised the key", "the device is another one"])
async def test_what_changes_while_a_message_is_encrypted_is_noticed(
    three: tuple[Device, Device, Device], change: str
) -> None:
    ann, bob, cid = three
    await ann.send_to_group(GROUP, ids(bob), text("before"))
    recipients = await ann._sender.installations(bob.service_id)
    outgoing = GroupOutgoing(GROUP, 1, frozenset(ids(bob)), b"plaintext")
    async with ann._store.transaction() as transaction:
        number, key = transaction.append(OUTBOX, outgoing.encode()), load_distribution(transaction, GROUP)
        if change == "somebody is promised the key":
            promise(transaction, key, cid.service_id)
        else:
            [(address, installation)] = recipients.items()
            recipients = {address: replace(installation, registration_id=installation.registration_id ^ 1)}
            transaction.delete_family("sender key holder", str(GROUP))
            confirm(transaction, key, bob.service_id, [Holder(address, recipients[address])])
    certificate = await ann._groups._certificates.current()
    with pytest.raises(_Outdated):
        await ann._groups._encrypt(number, outgoing, recipients, certificate)
    async with ann._store.transaction() as transaction:
        [(_, entry)] = transaction.entries(OUTBOX)
    assert GroupOutgoing.decode(entry) == outgoing


# --- receiving ---


async def test_forgotten_sender_keys_open_nothing_and_others_stay(three: tuple[Device, Device, Device]) -> None:
    ann, bob, cid = three
    await ann.send_to_group(GROUP, ids(bob, cid), text("from ann"))
    await cid.send_to_group(GROUP, ids(bob), text("from cid"))
    assert sorted(await read(bob, 2)) == ["from ann", "from cid"]
    await bob.forget_sender_keys(ann.service_id)
    await ann.send_to_group(GROUP, ids(bob, cid), text("lost on bob"))
    assert await problem_of(bob) == Undecryptable(None, NoSession.__name__)
    await cid.send_to_group(GROUP, ids(bob), text("from cid again"))
    assert await read(bob) == ["from cid again"]
    with pytest.raises(ValueError, match="own"):
        await bob.forget_sender_keys(bob.service_id)


async def test_a_sender_key_comes_only_inside_a_pairwise_session(three: tuple[Device, Device, Device]) -> None:
    ann, bob, _ = three
    message = await ann._sessions.distribute_sender_key(uuid4())
    await ann.send_to_group(GROUP, ids(bob), SenderKeyDistribution(message))
    assert await problem_of(bob) == Undecryptable(ann.address, "NotPairwise")


async def test_a_group_message_of_a_stranger_is_not_held_back(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, bob, _ = three
    await ann.fetch_identity(bob.service_id)
    await ann._sessions.distribute_sender_key(GROUP)  # and never sent to bob
    certificate, address = await ann._groups._certificates.current(), bob._account.local.address
    upload = await ann._sessions.group_encrypt_sealed(GROUP, [address], b"", certificate.data)
    headers = {
        "Content-Type": MULTI_RECIPIENT_TYPE,
        ACCESS_KEY_HEADER: encode_base64(bob._account.access_key),
    }
    assert (await client_relay.call("PUT", f"{MANY}?ts=1", upload, headers=headers))[0] == 200
    assert await problem_of(bob) == Undecryptable(ann.address, NoSession.__name__)
    await ann.send_to_group(OTHER_GROUP, ids(bob), text("hello"))
    assert await read(bob) == ["hello"]


async def test_a_malformed_sender_key_is_told_and_stops_nothing(three: tuple[Device, Device, Device]) -> None:
    ann, bob, _ = three
    await ann.send(bob.service_id, SenderKeyDistribution(b"no key"))
    assert await problem_of(bob) == Undecryptable(ann.address, "MalformedSenderKey")
    await ann.send_to_group(GROUP, ids(bob), text("hello"))
    assert await read(bob) == ["hello"]


async def test_a_sender_key_that_was_only_written_down_before_a_crash_is_taken_over(
    three: tuple[Device, Device, Device],
    client_relay: WatchedRelay,
    crypto: SignalCrypto,
    sqlite_relay: StartedRelay,
    tmp_path: Path,
) -> None:
    ann, path = three[0], tmp_path / "dan.db"
    async with short_lived("+4915550000234", path, client_relay, crypto, sqlite_relay) as dan:
        await introduce([ann, dan])
        await ann.send_to_group(GROUP, ids(dan), text("one"))
        assert await read(dan) == ["one"]
        message = await ann._sessions.distribute_sender_key(GROUP)
        async with dan._store.transaction() as transaction:
            transaction.delete_sender_keys(str(ann.service_id))
            dan._distributions.keep(transaction, ann.address, message)
            dan._distributions.keep(transaction, ann.address, message)  # and twice changes nothing
    await ann.send_to_group(GROUP, ids(dan), text("two"))
    async with reopened(path, client_relay, crypto) as dan:
        assert await read(dan) == ["two"]
        assert dan.problems() == []
