"""A relay that answers wrongly is refused, and what it says of one member stops nobody else; what it cannot take yet is not lost."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from messaging.client import Device, Failed, RelayRefused, RelayUnreachable, Store
from messaging.client.groups import OUTBOX as GROUP_OUTBOX
from messaging.client.prekeys import top_up_prekeys
from messaging.client.requests import PAUSE
from messaging.client.sending import OUTBOX
from messaging.wire.content import DataMessage, SentTranscript
from messaging.wire.frames import Response
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import MAX_DEVICE_ID, MAX_REGISTRATION_ID
from signal_protocol.operations import SignalCrypto
from signal_protocol.types import MAX_REGISTRATION_ID as MAX_IN_LIBSIGNAL
from tests.messaging.client.conftest import KEY
from tests.messaging.client.test_groups import GROUP, OTHER_GROUP, ids, introduce, read, text
from tests.messaging.client.watched import Ask, Fault, Sent, WatchedRelay, away
from tests.messaging.client.world import a_relay, soon
from tests.relays import StartedRelay, TlsFiles
from tests.servers import Postgres

Change = Callable[[Response], object]
_numbers = itertools.count(26_000)


@pytest.fixture(scope="module")
async def started(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, postgres: Postgres, tls_files: TlsFiles
) -> AsyncIterator[StartedRelay]:
    """A relay for all tests here."""
    folder = tmp_path_factory.mktemp("relay")
    async with a_relay(folder, sqlite_template, postgres, tls_files) as relay:
        yield relay


@pytest.fixture
async def client_relay(started: StartedRelay) -> AsyncIterator[WatchedRelay]:
    """What devices ask it over HTTP is watched."""
    async with WatchedRelay(started.url) as relay:
        yield relay


@pytest.fixture
async def three(
    started: StartedRelay, client_relay: WatchedRelay, crypto: SignalCrypto
) -> AsyncIterator[tuple[Device, Device, Device]]:
    """Three people who know each other's profile keys."""
    async with AsyncExitStack() as stack:

        async def person() -> Device:
            number = f"+49155500{next(_numbers)}"

            async def code() -> str:
                return started.last_code(number)

            store = await stack.enter_async_context(Store.open(":memory:", KEY))
            device = await Device.register(store, client_relay, crypto, number=number, code=code, deadline=5)
            await stack.enter_async_context(device)
            await device.ready()
            return device

        people = await person(), await person(), await person()
        await introduce(people)
        yield people


@pytest.fixture
def falsify(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device, str, Change | None], None]:
    """Changes what a device's relay answers through the socket where the path begins so; ``None`` ends it."""

    def falsified(device: Device, path: str, change: Change | None) -> None:
        monkeypatch.undo()
        if change is None:
            return
        request = device._connection.request

        async def changed(verb: str, asked: str, body: bytes | None = None, *, deadline: float = 15.0) -> Response:
            answer = await request(verb, asked, body, deadline=deadline)
            return change(answer) if asked.startswith(path) else answer  # type: ignore[return-value]

        monkeypatch.setattr(device._connection, "request", changed)

    return falsified


Falsify = Callable[[Device, str, Change | None], None]


def instead(status: int, body: bytes = b"") -> Change:
    return lambda _: Response(0, status, body=body)


def to_members(answer: Response) -> Fault:
    """Every message that is sent without credentials is answered so."""

    async def fault(sent: Sent, ask: Ask) -> Response:
        return answer if sent.path.startswith("/v1/messages/") else await ask()

    return fault


def with_wrong_signatures(answer: Response) -> Response:
    """The bundles of an answer, each with a signature that is another key's."""
    members = json.loads(answer.body or b"")
    for device in members["devices"]:
        device["signedPreKey"]["signature"] = device["pqPreKey"]["signature"]
    return replace(answer, body=json.dumps(members).encode())


def with_registration_id(number: int) -> Change:
    def changed(answer: Response) -> Response:
        members = json.loads(answer.body or b"")
        for device in members["devices"]:
            device["registrationId"] = number
        return replace(answer, body=json.dumps(members).encode())

    return changed


def keys_of(service_id: ServiceId) -> str:
    return f"/v2/keys/{service_id}"


@contextmanager
def impatient(device: Device) -> Iterator[None]:
    """It gives up waiting for its relay almost at once."""
    requests = device._sender._requests  # the same that groups are sent with
    object.__setattr__(requests, "deadline", 2 * PAUSE)
    yield
    object.__setattr__(requests, "deadline", 5)


async def waiting(device: Device) -> int:
    """How much waits in both outboxes."""
    async with device._store.transaction() as transaction:
        return len(transaction.entries(OUTBOX)) + len(transaction.entries(GROUP_OUTBOX))


# --- answers that no relay gives ---


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, b"{"),
        (409, b'{"missingDevices":[0],"extraDevices":[]}'),
        (409, b'{"missingDevices":[],"extraDevices":[%d]}' % (MAX_DEVICE_ID + 1)),
        (410, b""),
        (410, b'{"staleDevices":[-1]}'),
    ],
)
async def test_devices_that_cannot_be_are_a_refusal(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay, status: int, body: bytes
) -> None:
    ann, bob, cid = three
    client_relay.fault = to_members(Response(0, status, body=body))
    with pytest.raises(RelayRefused) as refused:
        await ann.send(bob.service_id, text("hello"))
    assert refused.value.status == status
    client_relay.fault = None
    await ann._sender.installations(bob.service_id)
    to_many = b'[{"uuid":"%s","devices":%s}]' % (str(bob.service_id).encode(), body)

    async def fault(sent: Sent, ask: Ask) -> Response:
        return Response(0, status, body=to_many) if sent.to_many else await ask()

    client_relay.fault = fault
    with pytest.raises(RelayRefused):
        await ann.send_to_group(GROUP, ids(bob, cid), text("hello"))
    assert await waiting(ann) == 0


@pytest.mark.parametrize("body", [b"{", b'{"devices":[{"id":0,"lastSeen":0,"created":0,"registrationId":1}]}'])
async def test_a_wrong_list_of_own_devices_is_a_refusal(
    three: tuple[Device, Device, Device], falsify: Falsify, body: bytes
) -> None:
    ann, _, _ = three
    falsify(ann, "/v1/devices", instead(200, body))
    with pytest.raises(RelayRefused):
        await ann.send_to_own_devices(SentTranscript(text("hello")))


async def test_a_wrong_count_of_prekeys_is_a_refusal(three: tuple[Device, Device, Device], falsify: Falsify) -> None:
    ann, _, _ = three
    falsify(ann, "/v2/keys?identity", instead(200, b"{"))
    with pytest.raises(RelayRefused):
        await top_up_prekeys(ann._store, ann._crypto, ann._account, ann._connection, ann._now())


@pytest.mark.parametrize(
    "change",
    [
        instead(200, b"{"),
        with_wrong_signatures,
        with_registration_id(0),
        with_registration_id(MAX_IN_LIBSIGNAL + 1),
    ],
)
async def test_a_wrong_bundle_is_a_refusal_and_keeps_no_other_member_from_getting_it(
    three: tuple[Device, Device, Device], falsify: Falsify, change: Change
) -> None:
    ann, bob, cid = three
    falsify(ann, keys_of(cid.service_id), change)
    with pytest.raises(RelayRefused):
        await ann.send(cid.service_id, text("hello"))
    failed = await ann.send_to_group(GROUP, ids(bob, cid), text("to whom it reaches"))
    assert {member: type(error) for member, error in failed.items()} == {cid.service_id: RelayRefused}
    falsify(ann, "", None)
    assert await ann.send_to_group(GROUP, ids(bob, cid), text("to both")) == {}
    assert await read(bob, 2) == ["to whom it reaches", "to both"]
    assert await read(cid) == ["to both"]


async def test_the_bundle_of_another_device_is_a_refusal(
    three: tuple[Device, Device, Device], falsify: Falsify, client_relay: WatchedRelay
) -> None:
    ann, bob, _ = three
    await ann.send(bob.service_id, text("one"))
    client_relay.fault = to_members(Response(0, 409, body=b'{"missingDevices":[2],"extraDevices":[]}'))
    bundle = await ann._connection.request("GET", f"{keys_of(bob.service_id)}/1")
    falsify(ann, keys_of(bob.service_id), lambda _: bundle)
    with pytest.raises(RelayRefused):
        await ann.send(bob.service_id, text("two"))


async def test_no_wrong_answer_ends_what_is_done_in_the_background(
    three: tuple[Device, Device, Device], falsify: Falsify, client_relay: WatchedRelay
) -> None:
    ann, bob, _ = three
    ann.problems()
    falsify(ann, "/v2/keys?identity", instead(200, b"{"))
    ann._upkeep.wake()
    assert await soon(ann.problems) == [Failed("RelayRefused")]
    falsify(ann, "/v2/keys?identity", lambda _: 1 // 0)  # whatever it is
    ann._upkeep.wake()
    assert await soon(ann.problems) == [Failed("ZeroDivisionError")]
    falsify(ann, "", None)
    client_relay.fault = away(lambda sent: sent.verb == "PUT")
    with impatient(ann), pytest.raises(RelayUnreachable):
        await ann.send(bob.service_id, text("late"))
    client_relay.fault = None
    ann._upkeep.wake()
    assert await read(bob) == ["late"]


# --- registration ids, which libsignal takes from what a peer writes ---


@pytest.mark.parametrize("number", [MAX_IN_LIBSIGNAL + 1, MAX_REGISTRATION_ID + 1, 0x7FFFFFF])
async def test_who_claims_a_registration_id_that_no_device_has_stops_nobody(
    three: tuple[Device, Device, Device], number: int
) -> None:
    ann, bob, liar = three
    object.__setattr__(liar._sessions.local, "registration_id", number)
    await liar.send(ann.service_id, text("I am another"))
    assert await read(ann) == ["I am another"]
    for turn in ("one", "two"):
        assert await ann.send_to_group(GROUP, ids(bob, liar), text(turn)) == {}
    await ann.send(liar.service_id, text("three"))
    assert await read(bob, 2) == ["one", "two"]
    assert await read(liar, 3) == ["one", "two", "three"]


async def test_a_session_that_changes_to_such_an_id_while_a_message_waits_is_begun_anew(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay
) -> None:
    ann, _, liar = three
    client_relay.fault = away(lambda sent: sent.verb == "PUT")
    with impatient(ann), pytest.raises(RelayUnreachable):
        await ann.send(liar.service_id, text("late"))
    client_relay.fault = None
    object.__setattr__(liar._sessions.local, "registration_id", 0x7FFFFFF)
    await liar.learn_profile_key(ann.service_id, bytes(32))  # not sealed, so that nothing else is asked for
    await liar.send(ann.service_id, text("I am another"))
    assert await read(ann) == ["I am another"]
    ann._sender._now = lambda: liar._now() + 30 * 60 * 60 * 1000  # its certificate is too old: it is sealed anew
    await ann._sender.resend()
    assert await waiting(ann) == 0
    assert await read(liar) == ["late"]


# --- what was promised for later ---


@pytest.mark.parametrize(("status", "passes"), [(428, False), (429, True), (430, False), (499, False), (500, True)])
def test_rate_limits_and_faults_of_the_relay_pass(status: int, passes: bool) -> None:
    assert RelayRefused(status).passes == passes


async def promised(ann: Device, to: Device, body: str) -> None:
    with impatient(ann), pytest.raises(RelayUnreachable):
        await ann.send(to.service_id, DataMessage(body, 1))


@pytest.mark.parametrize("status", [429, 500])
async def test_what_was_promised_for_later_waits_until_the_relay_takes_it(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay, status: int
) -> None:
    ann, bob, cid = three
    client_relay.fault = away(lambda sent: sent.verb == "PUT")
    await promised(ann, bob, "for bob")
    await promised(ann, cid, "for cid")

    async def busy(sent: Sent, ask: Ask) -> Response:
        concerned = str(bob.service_id) in sent.path
        return Response(0, status, headers={"retry-after": "60"}) if concerned else await ask()

    client_relay.fault = busy
    await ann._sender.resend()
    assert await waiting(ann) == 1
    assert await read(cid) == ["for cid"]
    await promised(ann, bob, "after it")
    client_relay.fault = None
    await ann._sender.resend()
    assert await read(bob, 2) == ["for bob", "after it"]


@pytest.mark.parametrize("status", [413, 422])
async def test_what_the_relay_will_never_take_is_dropped(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay, status: int
) -> None:
    ann, bob, _ = three
    client_relay.fault = away(lambda sent: sent.verb == "PUT")
    await promised(ann, bob, "for bob")
    client_relay.fault = to_members(Response(0, status))
    await ann._sender.resend()
    assert await waiting(ann) == 0


@pytest.mark.parametrize("status", [429, 500])
async def test_what_was_promised_to_a_group_waits_until_the_relay_takes_it(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay, status: int
) -> None:
    ann, bob, cid = three
    for group in (GROUP, OTHER_GROUP):
        assert await ann.send_to_group(group, ids(bob, cid), text("first")) == {}
    client_relay.fault = away(lambda sent: sent.to_many)
    for group in (GROUP, OTHER_GROUP):
        with impatient(ann), pytest.raises(RelayUnreachable):
            await ann.send_to_group(group, ids(bob, cid), text("late"))
    refused: list[bytes] = []

    async def busy(sent: Sent, ask: Ask) -> Response:
        refused.append(sent.body)
        return Response(0, status, headers={"retry-after": "60"}) if len(refused) == 1 else await ask()

    client_relay.fault = busy
    await ann._groups.resend()
    assert await waiting(ann) == 1  # one was refused, and the other one has gone out
    await ann._groups.resend()
    assert await waiting(ann) == 0
    assert await read(bob, 4) == await read(cid, 4) == ["first", "first", "late", "late"]


async def test_who_cannot_be_reached_when_a_promise_is_kept_gets_it_later(
    three: tuple[Device, Device, Device], client_relay: WatchedRelay, falsify: Falsify
) -> None:
    ann, bob, cid = three
    client_relay.fault = away(lambda sent: sent.verb == "PUT")
    with impatient(ann), pytest.raises(RelayUnreachable):
        await ann.send_to_group(GROUP, ids(bob, cid), text("late"))
    client_relay.fault = None
    await ann._sessions.archive(cid._account.local.address)  # a bundle is needed, and rationed
    falsify(ann, keys_of(cid.service_id), instead(500))
    await ann._sender.resend()
    await ann._groups.resend()
    assert await read(bob) == ["late"]
    falsify(ann, "", None)
    await ann._sender.resend()
    assert await read(cid) == ["late"]
    assert await waiting(ann) == 0
