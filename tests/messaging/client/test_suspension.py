"""A device of a suspended account stays alive, asks seldom, and goes on by itself when its account may."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from messaging.client import AccountSuspended, Device, Relay, Store
from messaging.client import connection as connecting
from messaging.client.problems import Failed, Problem
from messaging.relay.accounts.account import set_suspended
from messaging.relay.accounts.tables import find_account
from messaging.relay.database import Database, normalise_url, open_database
from messaging.wire.content import DataMessage
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.conftest import KEY, Register
from tests.relays import StartedRelay


@pytest.fixture
async def operators_database(sqlite_relay: StartedRelay) -> AsyncIterator[Database]:
    opened = open_database(normalise_url(sqlite_relay.settings.database_url))
    yield opened
    await opened.close()


async def set_state(database: Database, device: Device, *, suspended: bool) -> None:
    async with database.begin() as db:
        account = await find_account(db, device.service_id)
        assert account is not None
        await set_suspended(db, account.id, 1 if suspended else None)


async def next_problem(device: Device) -> Problem:
    async with asyncio.timeout(10):
        while not (problems := device.problems()):
            await asyncio.sleep(0.02)
    return problems[0]


async def test_a_device_waits_for_its_account_to_go_on_and_gets_its_mail(
    register: Register, operators_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "FIRST_SUSPENDED_DELAY", 0.5)
    monkeypatch.setattr(connecting, "LAST_SUSPENDED_DELAY", 0.5)
    ann, bob = await register("+4915550000261"), await register("+4915550000262")
    await set_state(operators_database, bob, suspended=True)
    assert await next_problem(bob) == Failed("AccountSuspended")  # its socket was closed
    assert await next_problem(bob) == Failed("AccountSuspended")  # no other was opened
    with pytest.raises(AccountSuspended):
        await bob._connection.request("GET", "/v1/accounts/whoami", deadline=0.3)
    await ann.send(bob.service_id, DataMessage("kept", 1))
    await set_state(operators_database, bob, suspended=False)
    async with asyncio.timeout(10):
        async for received in bob.received():
            assert received.content == DataMessage("kept", 1)
            break
    assert (await bob._connection.request("GET", "/v1/accounts/whoami")).status == 200


async def test_what_is_sent_in_the_moment_of_the_suspension_waits_for_its_end(
    register: Register, operators_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay refuses it before it closes the socket: that is no refusal of the message."""
    monkeypatch.setattr(connecting, "FIRST_SUSPENDED_DELAY", 0.5)
    monkeypatch.setattr(connecting, "LAST_SUSPENDED_DELAY", 0.5)
    ann, bob = await register("+4915550000263"), await register("+4915550000264")
    await ann.send(bob.service_id, DataMessage("before", 1))
    await set_state(operators_database, ann, suspended=True)
    with pytest.raises(AccountSuspended):
        await ann.send(bob.service_id, DataMessage("meanwhile", 2))
    await set_state(operators_database, ann, suspended=False)
    await ann.send(bob.service_id, DataMessage("after", 3))
    async with asyncio.timeout(10):
        received = bob.received()
        said = [(await anext(received)).content for _ in range(3)]
    assert said == [DataMessage("before", 1), DataMessage("meanwhile", 2), DataMessage("after", 3)]


async def test_over_https_a_suspended_account_is_told_so_and_not_that_its_request_was_wrong(
    register: Register,
    operators_database: Database,
    sqlite_relay: StartedRelay,
    client_relay: Relay,
    crypto: SignalCrypto,
    tmp_path: Path,
) -> None:
    ann = await register("+4915550000265")
    await set_state(operators_database, ann, suspended=True)
    with pytest.raises(AccountSuspended):
        await ann.devices()

    async def anew() -> Device:
        async def code() -> str:
            return sqlite_relay.last_code("+4915550000265")

        async with Store.open(tmp_path / "anew.db", KEY) as store:
            return await Device.register(store, client_relay, crypto, number="+4915550000265", code=code)

    with pytest.raises(AccountSuspended):
        await anew()

    async def assistant() -> Device:
        async with Store.open(tmp_path / "assistant.db", KEY) as store:
            token = sqlite_relay.assistant_token
            return await Device.register_assistant(store, client_relay, crypto, name="helper", token=token)

    await set_state(operators_database, await assistant(), suspended=True)
    with pytest.raises(AccountSuspended, match="ask the operators of its relay"):
        await assistant()


def test_who_is_suspended_asks_once_in_minutes() -> None:
    assert (connecting.FIRST_SUSPENDED_DELAY, connecting.LAST_SUSPENDED_DELAY) == (60, 600)
