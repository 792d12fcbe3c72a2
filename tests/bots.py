"""Bots on a relay in this process, made as an operator makes them: by an invite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.invites import Role, Terms
from messaging.relay.app import now_milliseconds
from messaging.relay.database import normalise_url, open_database
from messaging.relay.server_secret import read_secret
from messaging.relay.settings import Settings
from messaging.wire.accounts import AccountCreationResponse, number_without_telephone
from messaging.wire.identifiers import IdentityKind, ServiceId
from tests.devices import Device, NewDevice, Peer, basic

SESSIONS = "/v1/verification/session"
DAY = 24 * 60 * 60 * 1000


@asynccontextmanager
async def invites_of(settings: Settings) -> AsyncIterator[InviteService]:
    """The invites of a relay, as its operator reaches them: from outside of its process."""
    database = open_database(normalise_url(settings.database_url))
    assert settings.secret_file is not None
    yield InviteService(database, read_secret(settings.secret_file, create=False), now_milliseconds)
    await database.close()


async def an_invite(invites: InviteService, **terms: Any) -> str:
    """The code of a new invite, by default for one member."""
    values: dict[str, Any] = {"role": Role.MEMBER, "uses": 1, "lifetime": DAY, **terms}
    return (await invites.create(Terms(**values))).code


async def invited_session(peer: Peer, number: str, code: str) -> tuple[str, bool]:
    """A verification session in which ``code`` was submitted: its id, and whether it is verified."""
    created = (await peer.call("POST", SESSIONS, {"number": number})).json()
    path = f"{SESSIONS}/{created['id']}/code"
    assert (await peer.call("POST", path, {"transport": "sms", "client": "test"})).status == 200
    submitted = await peer.call("PUT", path, {"code": code})
    return created["id"], submitted.json()["verified"]


async def register_bot(peer: Peer, known: NewDevice | None = None) -> Device:
    """Register a bot, with all that belongs to it."""
    known = known or NewDevice(number=number_without_telephone())
    async with invites_of(peer.relay.settings) as invites:
        code = await an_invite(invites, role=Role.BOT)
    session, verified = await invited_session(peer, known.number, code)
    assert verified
    authorization = {"Authorization": basic(known.number, known.password)}
    reply = await peer.call("POST", "/v1/registration", known.registration(session).to_json(), authorization)
    assert reply.status == 200, reply
    created = AccountCreationResponse.from_json(reply.body)
    assert created.pni is not None
    return Device(peer, known, ServiceId(created.uuid), ServiceId(created.pni, IdentityKind.PNI))
