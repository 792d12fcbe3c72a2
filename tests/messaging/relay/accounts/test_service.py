"""What happens to a verification session while a code is on its way."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.providers import CodeMessage, DeliveryFailed
from messaging.relay.accounts.service import VerificationService
from messaging.relay.accounts.verification import CODE_PAUSE, SESSION_LIFETIME
from messaging.relay.database import Database
from messaging.relay.errors import CodeNotDelivered, NotFound
from messaging.relay.server_secret import ServerSecret
from messaging.wire.accounts import RequestVerificationCode, number_without_telephone
from tests.devices import a_number
from tests.relays import unlimited

SMS = RequestVerificationCode(transport="sms", client="test")


async def nothing(_code: str) -> None:
    """Nothing happens on the way."""


@dataclass
class Unreliable:
    """A sender that fails the first time, after something has happened; and a clock."""

    meanwhile: Callable[[str], Awaitable[None]] = nothing
    failures: list[DeliveryFailed] = field(default_factory=lambda: [DeliveryFailed(permanent=False)])
    codes: list[str] = field(default_factory=list)
    now: int = 1

    async def deliver(self, message: CodeMessage) -> None:
        self.codes.append(message.code)
        if self.failures:
            failure = self.failures.pop()
            await self.meanwhile(message.code)
            raise failure


def service_with(sender: Unreliable, database: Database) -> VerificationService:
    secret, limits = ServerSecret.derive(bytes(32)), unlimited()
    invites = InviteService(database, secret, lambda: sender.now)
    return VerificationService(database, sender, invites, secret, limits, lambda: sender.now)


async def test_a_failure_forgets_the_code_that_failed_and_no_other(database: Database) -> None:
    async def another(_code: str) -> None:
        sender.now += CODE_PAUSE
        await service.request_code(session_id, SMS)

    sender = Unreliable(another)
    service = service_with(sender, database)
    session_id = (await service.create(a_number(), remote="")).id
    with pytest.raises(CodeNotDelivered):
        await service.request_code(session_id, SMS)
    assert (await service.submit_code(session_id, sender.codes[1])).verified


async def test_a_failure_undoes_no_verification(database: Database) -> None:
    async def submit(code: str) -> None:
        assert (await service.submit_code(session_id, code)).verified

    sender = Unreliable(submit)
    service = service_with(sender, database)
    session_id = (await service.create(a_number(), remote="")).id
    with pytest.raises(CodeNotDelivered):
        await service.request_code(session_id, SMS)
    assert (await service.get(session_id)).verified


async def test_a_session_that_ended_meanwhile_is_not_there(database: Database) -> None:
    async def wait(_code: str) -> None:
        sender.now += SESSION_LIFETIME

    sender = Unreliable(wait)
    service = service_with(sender, database)
    session_id = (await service.create(a_number(), remote="")).id
    with pytest.raises(NotFound):
        await service.request_code(session_id, SMS)


async def test_no_code_is_sent_to_a_number_that_no_telephone_has_and_none_is_right(database: Database) -> None:
    sender = Unreliable(failures=[])
    service = service_with(sender, database)
    session_id = (await service.create(number_without_telephone(), remote="")).id
    waiting = await service.request_code(session_id, SMS)
    assert (waiting.verified, waiting.next_verification_attempt, sender.codes) == (False, 0, [])
    async with database.read() as db:
        assert (await service.find(db, session_id)).state.code_mac is None
    assert not (await service.submit_code(session_id, "123456")).verified
