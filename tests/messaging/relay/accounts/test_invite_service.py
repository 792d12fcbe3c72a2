"""Registration by invite: what a use is spent on, who may register what, and that nobody learns which codes exist."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import integers, lists, permutations
from sqlalchemy import text

from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.invites import Role, Terms
from messaging.relay.accounts.service import VerificationService
from messaging.relay.app import now_milliseconds
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.errors import RelayError
from messaging.relay.limits import Bucket, Limit
from messaging.relay.server_secret import ServerSecret
from messaging.relay.settings import Settings
from messaging.wire.accounts import AccountCreationResponse, RequestVerificationCode, number_without_telephone
from messaging.wire.json import encode_base64
from tests.bots import an_invite, invited_session, invites_of, register_bot
from tests.devices import Device, MakePeer, NewDevice, Peer, Reply, a_number, basic
from tests.relays import UNLIMITED, Relays, StartedRelay, unlimited

SESSIONS = "/v1/verification/session"
SMS = {"transport": "sms", "client": "test"}
DAY = 24 * 60 * 60 * 1000
UNKNOWN = "0000-0000-0000-0000"


@pytest.fixture
async def inviting(relays: Relays, backend: str) -> StartedRelay:
    """A relay that takes invites."""
    return await relays.start(backend, verification="invite")


@pytest.fixture
async def invites(inviting: StartedRelay) -> AsyncIterator[InviteService]:
    """Its invites."""
    async with invites_of(inviting.settings) as service:
        yield service


@pytest.fixture
def guest(inviting: StartedRelay, peer_of: MakePeer) -> Peer:
    """Somebody who speaks to it."""
    return peer_of(inviting)


async def a_session(peer: Peer, number: str) -> str:
    """A session in which an invite may be submitted; its path."""
    path = f"{SESSIONS}/{(await peer.call('POST', SESSIONS, {'number': number})).json()['id']}"
    asked = await peer.call("POST", f"{path}/code", SMS)
    assert (asked.status, asked.json()["nextVerificationAttempt"]) == (200, 0)
    return path


async def submit(peer: Peer, path: str, code: str) -> bool:
    answer = await peer.call("PUT", f"{path}/code", {"code": code})
    assert answer.status == 200, answer
    return bool(answer.json()["verified"])


async def register(peer: Peer, path: str, known: NewDevice) -> Reply:
    request = known.registration(path.removeprefix(f"{SESSIONS}/"))
    headers = {"Authorization": basic(known.number, known.password)}
    return await peer.call("POST", "/v1/registration", request.to_json(), headers)


async def join(peer: Peer, known: NewDevice, code: str) -> Reply:
    path = await a_session(peer, known.number)
    assert await submit(peer, path, code)
    return await register(peer, path, known)


async def roles(database: Database) -> list[str]:
    async with database.read() as db:
        return list((await db.execute(text("SELECT role FROM accounts ORDER BY id"))).scalars())


async def uses_left(invites: InviteService) -> list[int]:
    return [invite.uses_left for invite in await invites.all()]


@pytest.mark.parametrize("role", list(Role))
async def test_an_invite_makes_an_account_with_its_role(guest: Peer, invites: InviteService, role: Role) -> None:
    known = NewDevice(number=number_without_telephone() if role is Role.BOT else a_number())
    code = await an_invite(invites, role=role)
    joined = await join(guest, known, code.lower().replace("-", ""))
    assert (joined.status, joined.json()["reregistration"]) == (200, False)
    assert joined.json().get("bot") is (True if role is Role.BOT else None)
    assert await roles(invites.database) == [role]
    assert await uses_left(invites) == [0]


async def test_who_was_not_invited_is_a_member(relays: Relays, backend: str, peer_of: MakePeer) -> None:
    relay = await relays.start(backend)
    await peer_of(relay).register()
    async with invites_of(relay.settings) as invites:
        assert await roles(invites.database) == ["member"]


async def test_an_assistant_is_a_member_too_and_needs_no_invite(guest: Peer, invites: InviteService) -> None:
    await guest.register_assistant("assistant", NewDevice())
    assert await roles(invites.database) == ["member"]


async def test_a_code_must_be_asked_for_as_elsewhere_and_none_is_sent(
    guest: Peer, invites: InviteService, capfd: pytest.CaptureFixture[str]
) -> None:
    number, code = a_number(), await an_invite(invites)
    path = f"{SESSIONS}/{(await guest.call('POST', SESSIONS, {'number': number})).json()['id']}"
    assert (await guest.call("PUT", f"{path}/code", {"code": code})).status == 409
    assert await uses_left(invites) == [1]
    await guest.call("POST", f"{path}/code", SMS)
    assert number not in capfd.readouterr().out
    assert await submit(guest, path, code)
    assert (await guest.call("PUT", f"{path}/code", {"code": code})).status == 409


async def test_nobody_learns_why_a_code_is_not_good(
    inviting: StartedRelay, guest: Peer, invites: InviteService, peer_of: MakePeer
) -> None:
    known = NewDevice()
    await join(guest, known, await an_invite(invites))
    used_up = await an_invite(invites)
    await join(guest, NewDevice(), used_up)
    revoked = await invites.create(Terms(Role.MEMBER, 1, DAY))
    assert await invites.revoke(revoked.invite.id)
    in_the_past = replace(invites, now=lambda: now_milliseconds() - 2 * DAY)
    expired = await an_invite(in_the_past)
    anothers = await an_invite(invites, number=a_number())
    before = await uses_left(invites)

    answers = []
    for number, code in [
        (a_number(), UNKNOWN),
        (a_number(), "not a code at all: ÄÖÜ"),
        (a_number(), used_up),
        (a_number(), revoked.code),
        (a_number(), expired),
        (a_number(), anothers),
        (known.number, await an_invite(invites)),  # an account that exists
        (a_number(), await an_invite(invites, role=Role.BOT)),  # a number that may be somebody's
    ]:
        path = await a_session(guest, number)
        answer = await guest.call("PUT", f"{path}/code", {"code": code})
        headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-signal-timestamp")}
        said = {name: value for name, value in answer.json().items() if name not in ("id", "nextSms", "nextCall")}
        answers.append((answer.status, headers | {"content-length": ""}, said))
    assert answers == [answers[0]] * 8
    assert answers[0][2]["verified"] is False
    assert await uses_left(invites) == [*before, 1, 1]


async def test_guessing_ends_after_five_attempts_even_if_the_sixth_is_right(
    guest: Peer, invites: InviteService
) -> None:
    path, code = await a_session(guest, a_number()), await an_invite(invites)
    for _ in range(5):
        assert not await submit(guest, path, UNKNOWN)
    assert (await guest.call("PUT", f"{path}/code", {"code": code})).status == 429
    assert await uses_left(invites) == [1]


async def test_attempts_are_limited_for_each_number_over_all_sessions(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    limits = {**UNLIMITED, Limit.VERIFICATION_CODE: Bucket(2, 100)}
    relay, number = await relays.start(backend, verification="invite", limits=limits), a_number()
    peer = peer_of(relay)
    async with invites_of(relay.settings) as invites:
        code = await an_invite(invites)
        for _ in range(2):
            assert not await submit(peer, await a_session(peer, number), UNKNOWN)
        limited = await peer.call("PUT", f"{await a_session(peer, number)}/code", {"code": code})
        assert limited.status == 429
        assert await uses_left(invites) == [1]


async def test_an_account_can_be_registered_again_with_an_invite_for_its_number_only(
    guest: Peer, invites: InviteService
) -> None:
    known = NewDevice()
    first = (await join(guest, known, await an_invite(invites))).json()
    path = await a_session(guest, known.number)
    assert not await submit(guest, path, await an_invite(invites, uses=10))
    assert not await submit(guest, path, await an_invite(invites, number=a_number()))
    assert await submit(guest, path, await an_invite(invites, number=known.number, role=Role.OPERATOR))
    again = (await register(guest, path, NewDevice(number=known.number))).json()
    assert (again["uuid"], again["reregistration"]) == (first["uuid"], True)
    assert await roles(invites.database) == ["operator"]


async def test_a_deleted_account_is_not_left_to_whoever_has_an_invite(guest: Peer, invites: InviteService) -> None:
    known = NewDevice()
    first = AccountCreationResponse.from_json((await join(guest, known, await an_invite(invites))).body)
    authorization = {"Authorization": basic(f"{first.uuid}.1", known.password)}
    assert (await guest.call("DELETE", "/v1/accounts/me", headers=authorization)).status == 204
    stranger = NewDevice(number=known.number)
    second = AccountCreationResponse.from_json((await join(guest, stranger, await an_invite(invites))).body)
    assert (second.uuid, second.pni) != (first.uuid, first.pni)
    assert not {second.uuid, second.pni} & {first.uuid, first.pni}


async def test_a_deleted_account_has_its_ids_again_by_an_invite_for_its_number(
    guest: Peer, invites: InviteService
) -> None:
    known = NewDevice()
    first = AccountCreationResponse.from_json((await join(guest, known, await an_invite(invites))).body)
    authorization = {"Authorization": basic(f"{first.uuid}.1", known.password)}
    assert (await guest.call("DELETE", "/v1/accounts/me", headers=authorization)).status == 204
    code = await an_invite(invites, number=known.number)
    again = AccountCreationResponse.from_json((await join(guest, known, code)).body)
    assert (again.uuid, again.pni) == (first.uuid, first.pni)


async def test_of_two_strangers_with_one_number_the_second_gets_no_account(guest: Peer, invites: InviteService) -> None:
    """Both sessions are verified while there is no account: the registration decides."""
    number, code = a_number(), await an_invite(invites, uses=2)
    paths = [await a_session(guest, number) for _ in range(2)]
    assert [await submit(guest, path, code) for path in paths] == [True, True]
    replies = await asyncio.gather(*(register(guest, path, NewDevice(number=number)) for path in paths))
    assert sorted(reply.status for reply in replies) == [200, 401]
    assert len(await roles(invites.database)) == 1


async def test_a_registration_whose_answer_was_lost_can_be_repeated(guest: Peer, invites: InviteService) -> None:
    known, path = NewDevice(), ""
    path = await a_session(guest, known.number)
    assert await submit(guest, path, await an_invite(invites))
    first, again = [(await register(guest, path, known)).json() for _ in range(2)]
    assert (first["uuid"], first["reregistration"], again["reregistration"]) == (again["uuid"], False, True)


async def test_a_session_is_good_for_its_number_alone(guest: Peer, invites: InviteService) -> None:
    path = await a_session(guest, a_number())
    assert await submit(guest, path, await an_invite(invites))
    assert (await register(guest, path, NewDevice())).status == 400
    assert await roles(invites.database) == []


async def test_of_many_at_once_on_two_relays_as_many_are_verified_as_there_are_uses(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    first = await relays.start(backend, verification="invite")
    peers = [peer_of(first), peer_of(await relays.serve(first.settings))]
    async with invites_of(first.settings) as invites:
        code, last = await an_invite(invites, uses=3), await an_invite(invites)
        paths = [(peers[index % 2], await a_session(peers[index % 2], a_number())) for index in range(8)]
        verified = await asyncio.gather(*(submit(peer, path, code) for peer, path in paths))
        assert sum(verified) == 3
        losers = [found for found, good in zip(paths, verified, strict=True) if not good]
        assert sum(await asyncio.gather(*(submit(peer, path, last) for peer, path in losers))) == 1
        assert await uses_left(invites) == [0, 0]


async def test_one_session_takes_one_use_however_often_it_submits(guest: Peer, invites: InviteService) -> None:
    path, code = await a_session(guest, a_number()), await an_invite(invites, uses=5)
    answers = await asyncio.gather(*(guest.call("PUT", f"{path}/code", {"code": code}) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    assert await uses_left(invites) == [4]


async def test_an_invite_may_be_revoked_more_than_once_and_only_if_it_exists(invites: InviteService) -> None:
    made = await invites.create(Terms(Role.MEMBER, 1, DAY))
    assert [await invites.revoke(made.invite.id) for _ in range(2)] == [True, True]
    assert not await invites.revoke(made.invite.id + 1)


async def test_the_database_holds_neither_code_nor_number(invites: InviteService) -> None:
    number = a_number()
    code = await an_invite(invites, number=number)
    async with invites.database.read() as db:
        [row] = (await db.execute(text("SELECT * FROM invites"))).all()
    for secret in (code, code.replace("-", ""), number):
        assert secret not in str(row)
        assert secret.encode() not in b"".join(value for value in row if isinstance(value, bytes))


# Bots: invites for them are good at every relay, for new accounts of numbers that no telephone has, and a bot stays one.


async def role_of(settings: Settings) -> list[str]:
    async with invites_of(settings) as invites:
        return await roles(invites.database)


async def made_a_bot(relay: StartedRelay) -> None:
    """Give the only account the role of a bot, as a relay of an earlier version may have."""
    async with invites_of(relay.settings) as invites, invites.database.begin() as db:
        await db.execute(text("UPDATE accounts SET role = 'bot'"))


@pytest.mark.parametrize("verification", ["console", "file", "invite"])
async def test_a_bot_registers_by_invite_whatever_proves_numbers(
    relays: Relays,
    backend: str,
    peer_of: MakePeer,
    verification: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    codes = tmp_path / "codes"
    how = f"file:{codes}" if verification == "file" else verification
    relay = await relays.start(backend, verification=how)
    bot = await register_bot(peer_of(relay))
    assert await role_of(relay.settings) == ["bot"]
    assert (await bot.call("GET", "/v1/accounts/whoami")).json()["bot"] is True
    assert not codes.exists()  # nothing is sent to a number that no telephone has
    assert bot.known.number not in capfd.readouterr().out


async def test_a_person_is_not_marked(alice: Device) -> None:
    assert "bot" not in (await alice.call("GET", "/v1/accounts/whoami")).json()


async def test_where_numbers_are_verified_an_invite_lets_no_person_in_and_no_bot_have_a_telephone(
    relay: StartedRelay, peer: Peer
) -> None:
    async with invites_of(relay.settings) as invites:
        without = number_without_telephone()
        for number, terms in (
            (without, {"role": Role.MEMBER}),
            (without, {"role": Role.OPERATOR}),
            (without, {"role": Role.MEMBER, "number": without}),
            (a_number(), {"role": Role.BOT}),
            (a_number(), {"role": Role.MEMBER}),
        ):
            _, verified = await invited_session(peer, number, await an_invite(invites, **terms))
            assert not verified
        assert await uses_left(invites) == [1] * 5
        assert await roles(invites.database) == []


async def test_a_bot_is_taken_over_by_no_invite(relay: StartedRelay, peer: Peer) -> None:
    bot = await register_bot(peer)
    async with invites_of(relay.settings) as invites:
        _, verified = await invited_session(peer, bot.known.number, await an_invite(invites, role=Role.BOT))
        assert not verified
        assert await uses_left(invites) == [0, 1]
    assert await bot.set("GET", "/v1/accounts/whoami") == 200


async def test_of_two_bots_with_one_number_the_second_gets_no_account(relay: StartedRelay, peer: Peer) -> None:
    """Both sessions are verified while there is no account: the registration decides."""
    number = number_without_telephone()
    async with invites_of(relay.settings) as invites:
        code = await an_invite(invites, role=Role.BOT, uses=2)
    sessions = [await invited_session(peer, number, code) for _ in range(2)]
    assert [verified for _, verified in sessions] == [True, True]
    replies = [await register(peer, f"{SESSIONS}/{session}", NewDevice(number=number)) for session, _ in sessions]
    assert [reply.status for reply in replies] == [200, 401]


async def test_a_bot_stays_one_when_its_number_is_verified_again(relay: StartedRelay, peer: Peer) -> None:
    before = await peer.register()
    await made_a_bot(relay)
    again = await peer.register(NewDevice(number=before.known.number))
    assert again.aci == before.aci
    assert await role_of(relay.settings) == ["bot"]
    assert (await again.call("GET", f"/v1/profile/{again.aci}")).json()["bot"] is True


async def test_a_bot_stays_one_by_its_recovery_password(relay: StartedRelay, peer: Peer) -> None:
    bot = await register_bot(peer)
    attributes = json.loads(bot.known.registration("").to_json())["accountAttributes"]
    recovery = encode_base64(b"r" * 32)
    assert await bot.set("PUT", "/v1/accounts/attributes", {**attributes, "recoveryPassword": recovery}) == 204
    known = NewDevice(number=bot.known.number)
    body = {**json.loads(known.registration("").to_json()), "recoveryPassword": recovery}
    del body["sessionId"]
    again = await peer.call("POST", "/v1/registration", body, {"Authorization": basic(known.number, known.password)})
    assert (again.status, again.json()["uuid"], again.json()["bot"]) == (200, str(bot.aci), True)
    assert await role_of(relay.settings) == ["bot"]


async def test_a_bot_stays_one_by_a_persons_invite_that_is_bound_to_its_number(
    guest: Peer, invites: InviteService
) -> None:
    bot = await register_bot(guest)
    code = await an_invite(invites, role=Role.MEMBER, number=bot.known.number)
    again = await join(guest, NewDevice(number=bot.known.number), code)
    assert (again.json()["uuid"], again.json()["bot"]) == (str(bot.aci), True)
    assert await roles(invites.database) == ["bot"]


async def test_after_a_bot_was_deleted_its_number_makes_another_account(relay: StartedRelay, peer: Peer) -> None:
    before = await peer.register()
    await made_a_bot(relay)
    assert await before.set("DELETE", "/v1/accounts/me") == 204
    person = await peer.register(NewDevice(number=before.known.number))
    assert not {person.aci, person.pni} & {before.aci, before.pni}
    assert await role_of(relay.settings) == ["member"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    uses=lists(integers(1, 3), min_size=1, max_size=2),
    sessions=integers(1, 6),
    order=permutations(range(12)),
    at_once=integers(1, 6),
)
async def test_whatever_the_order_of_submits_no_invite_verifies_more_sessions_than_it_has_uses(
    sqlite_template: Path, tmp_path: Path, uses: list[int], sessions: int, order: list[int], at_once: int
) -> None:
    path = tmp_path / "property.db"
    shutil.copy(sqlite_template, path)
    database = open_database(normalise_url(f"sqlite:///{path}"))
    secret = ServerSecret.derive(bytes(32))
    invites = InviteService(database, secret, now_milliseconds)
    limits = unlimited()
    service = VerificationService(database, None, invites, secret, limits, now_milliseconds)
    codes = [await an_invite(invites, uses=count) for count in uses]
    ids = [(await service.create(a_number(), remote="")).id for _ in range(sessions)]
    for session_id in ids:
        await service.request_code(session_id, RequestVerificationCode(transport="sms", client=""))

    async def attempt(index: int) -> int | None:
        """The invite by which this attempt verified a session."""
        which = index // sessions % len(codes)
        try:
            verified = (await service.submit_code(ids[index % sessions], codes[which])).verified
        except RelayError:
            return None
        return which if verified else None

    won: list[int | None] = []
    for start in range(0, len(order), at_once):
        won += await asyncio.gather(*map(attempt, order[start : start + at_once]))
    left = await uses_left(invites)
    await database.close()
    for which, count in enumerate(uses):
        assert won.count(which) == count - left[which] <= count
    assert sum(found is not None for found in won) <= sessions
