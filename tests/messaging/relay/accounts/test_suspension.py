"""A suspended account can neither connect nor send, on any relay; it keeps what it has, and goes on when it is let."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from messaging.relay.accounts.account import set_suspended, shut_out
from messaging.relay.accounts.tables import find_account, mailboxes_of_suspended
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.delivery.redis import Channels, RedisWakeups
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.server_secret import read_secret
from messaging.relay.tasks import running
from messaging.wire.json import encode_base64
from tests.bots import register_bot
from tests.devices import Device, MakePeer, NewDevice, basic, message_for
from tests.relays import Relays, StartedRelay

REFUSED = {"code": "account_suspended"}


@pytest.fixture
async def operators_database(relay: StartedRelay) -> AsyncIterator[Database]:
    """The relay's database, as a console reaches it: from outside of its process."""
    opened = open_database(normalise_url(relay.settings.database_url))
    yield opened
    await opened.close()


async def suspend(database: Database, device: Device, *, at: int | None = 1) -> list[int]:
    """Suspend the device's account, or with ``at=None`` let it go on; nobody is told. Returns its mailboxes."""
    async with database.begin() as db:
        account = await find_account(db, device.aci)
        assert account is not None
        return await set_suspended(db, account.id, at)


async def test_it_is_refused_and_told_why(alice: Device, bob: Device, operators_database: Database) -> None:
    await suspend(operators_database, alice)
    for verb, path in (
        ("GET", "/v1/accounts/whoami"),
        ("GET", "/v1/certificate/delivery"),
        ("GET", "/v1/devices/provisioning/code"),
        ("GET", f"/v2/keys/{bob.aci}/1"),
        ("DELETE", "/v1/accounts/me"),
    ):
        reply = await alice.call(verb, path)
        assert (reply.status, reply.json()) == (403, REFUSED), path
    reply = await alice.send(bob, b"x")
    assert (reply.status, reply.json()) == (403, REFUSED)
    assert await bob.set("GET", "/v1/accounts/whoami") == 200


async def test_nobody_else_is_told(alice: Device, operators_database: Database) -> None:
    await suspend(operators_database, alice)
    stranger = {"Authorization": basic(f"{alice.aci}.1", "another password")}
    assert (await alice.peer.call("GET", "/v1/accounts/whoami", None, stranger)).status == 401


async def test_no_socket_opens(alice: Device, operators_database: Database) -> None:
    await suspend(operators_database, alice)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with alice.socket():
            pass
    assert caught.value.status == 403
    assert caught.value.headers is not None
    assert caught.value.headers["X-Refused"] == "account_suspended"  # a WebSocket's client sees no body


async def test_open_sockets_close_on_all_relays_although_nobody_told_them(
    relays: Relays, peer_of: MakePeer, backend: str
) -> None:
    settings = await relays.settings(backend)
    peers = [peer_of(await relays.serve(settings)) for _ in range(2)]
    alice = await peers[0].register()
    laptop = await alice.link()
    elsewhere = Device(peers[1], laptop.known, laptop.aci, laptop.pni, laptop.device_id)
    database = open_database(normalise_url(settings.database_url))
    async with alice.socket() as one, elsewhere.socket() as other:
        await one.queue_empty()
        await other.queue_empty()
        await suspend(database, alice)
        assert await one.close_code() == 4403
        assert await other.close_code() == 4403
    await database.close()


async def test_a_notice_closes_them_at_once(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    alice = await peer_of(await relays.serve(settings)).register()
    assert settings.secret_file is not None
    assert settings.redis_url is not None
    secret = read_secret(settings.secret_file, create=False)
    database = open_database(normalise_url(settings.database_url))
    wakeups = RedisWakeups(settings.redis_url, Channels.under(secret.limit_name_key), LocalWakeups())
    async with running(wakeups.run()), alice.socket() as socket:
        await socket.queue_empty()
        shut_out(wakeups, await suspend(database, alice))
        assert await socket.close_code() == 4403
    await database.close()


async def test_a_login_that_was_right_a_moment_ago_sends_nothing(
    alice: Device, bob: Device, operators_database: Database
) -> None:
    assert (await alice.send(bob, b"before")).status == 200  # from now on the relay knows the login by heart
    await suspend(operators_database, alice)
    reply = await alice.send(bob, b"after")
    assert (reply.status, reply.json()) == (403, REFUSED)
    async with bob.socket() as socket:
        assert await socket.caught_up() == [b"before"]


async def test_what_is_sent_to_it_waits_and_comes_when_it_goes_on(
    alice: Device, bob: Device, operators_database: Database
) -> None:
    assert (await bob.send(alice, b"one")).status == 200
    await suspend(operators_database, alice)
    assert (await bob.send(alice, b"two")).status == 200
    await suspend(operators_database, alice, at=None)
    async with alice.socket() as socket:
        assert await socket.caught_up() == [b"one", b"two"]
    assert (await alice.send(bob, b"here again")).status == 200


async def test_registering_its_number_again_lifts_nothing_and_loses_nothing(
    alice: Device, bob: Device, operators_database: Database
) -> None:
    assert (await bob.send(alice, b"kept")).status == 200
    await suspend(operators_database, alice)
    again = NewDevice(number=alice.known.number)
    request = again.registration(await alice.peer.verified_session(again.number))
    authorization = {"Authorization": basic(again.number, again.password)}
    reply = await alice.peer.call("POST", "/v1/registration", request.to_json(), authorization)
    assert (reply.status, reply.json()) == (403, REFUSED)
    await suspend(operators_database, alice, at=None)
    async with alice.socket() as socket:  # with the password from before
        assert await socket.caught_up() == [b"kept"]


async def test_a_token_from_before_links_no_device(alice: Device, operators_database: Database) -> None:
    token = (await alice.call("GET", "/v1/devices/provisioning/code")).json()["verificationCode"]
    await suspend(operators_database, alice)
    reply, _ = await alice.try_link(token)
    assert (reply.status, reply.json()) == (403, REFUSED)
    await suspend(operators_database, alice, at=None)
    reply, _ = await alice.try_link(token)
    assert reply.status == 200


async def test_an_assistant_that_registers_again_stays_suspended(alice: Device, operators_database: Database) -> None:
    rose = await alice.peer.register_assistant("rose", NewDevice())
    await suspend(operators_database, rose)
    known = NewDevice()
    headers = {"Authorization": basic("rose", known.password), "X-Assistant-Token": alice.peer.relay.assistant_token}
    body = known.assistant_registration().to_json()
    assert (await alice.peer.call("PUT", "/v1/assistants/rose", body, headers)).status == 403


async def test_a_bot_is_suspended_as_anybody(alice: Device, operators_database: Database) -> None:
    bot = await register_bot(alice.peer)
    await suspend(operators_database, bot)
    assert (await bot.send(alice, b"x")).status == 403


async def test_of_a_sealed_message_nobody_knows_the_sender(
    alice: Device, bob: Device, operators_database: Database
) -> None:
    """What suspension does not stop at once: it ends with the sender's certificate, within a day."""
    await suspend(operators_database, alice)
    headers = {"Unidentified-Access-Key": encode_base64(bob.known.access_key)}
    assert (await alice.peer.call("PUT", f"/v1/messages/{bob.aci}", message_for(bob, b"sealed"), headers)).status == 200


async def test_those_who_log_in_together_are_told_apart(
    alice: Device, bob: Device, operators_database: Database
) -> None:
    await suspend(operators_database, alice)
    calls = [each.set("GET", "/v1/accounts/whoami") for each in (alice, bob) * 10]
    assert await asyncio.gather(*calls) == [403, 200] * 10


async def test_it_is_found_among_more_mailboxes_than_a_statement_takes_parameters(
    alice: Device, bob: Device, operators_database: Database
) -> None:
    mailboxes = await suspend(operators_database, alice)
    async with operators_database.read() as db:
        assert await mailboxes_of_suspended(db, range(1, 300_000)) == set(mailboxes)
        assert await mailboxes_of_suspended(db, []) == set()
    await suspend(operators_database, alice, at=None)
    async with operators_database.read() as db:
        assert await mailboxes_of_suspended(db, mailboxes) == set()
