"""Who calls: HTTP Basic with ``uuid.deviceId:password``, or the socket that a call came through."""

from collections.abc import Callable
from dataclasses import dataclass

from messaging.relay.accounts.passwords import PasswordHash, hash_password, password_matches
from messaging.relay.accounts.tables import find_credentials, mark_seen
from messaging.relay.database import Database
from messaging.relay.errors import NotAuthenticated
from messaging.relay.http import Call, Caller, Credentials
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import DeviceAddress, IdentityKind

DAY = 24 * 60 * 60 * 1000
_NOBODY = hash_password("nobody")  # compared with for a device that does not exist, so that both take as long


@dataclass(frozen=True, slots=True)
class Authentication:
    """Tells the calling device from the credentials. ``now`` gives milliseconds since 1970."""

    database: Database
    now: Callable[[], int]

    async def require(self, call: Call) -> Caller:
        """The calling device.

        Raises:
            NotAuthenticated: no credentials, or wrong ones.
        """
        caller = await self.find(call)
        if caller is None:
            raise NotAuthenticated
        return caller

    async def find(self, call: Call) -> Caller | None:
        """The calling device, or ``None`` without credentials.

        Raises:
            NotAuthenticated: wrong credentials.
        """
        if call.caller is not None:
            return call.caller
        credentials = call.credentials()
        return None if credentials is None else await self.check(credentials)

    async def check(self, credentials: Credentials) -> Caller:
        """The device that ``credentials`` belong to.

        Raises:
            NotAuthenticated: there is none, or the password is wrong.
        """
        try:
            address = DeviceAddress.parse(credentials.username)
        except MalformedField:
            raise NotAuthenticated from None
        if address.service_id.kind is not IdentityKind.ACI:
            raise NotAuthenticated
        async with self.database.read() as db:
            stored = await find_credentials(db, address.service_id.uuid, address.device_id)
        expected = _NOBODY if stored is None else PasswordHash(stored.salt, stored.digest)
        if not password_matches(credentials.password, expected) or stored is None:
            raise NotAuthenticated
        today = day_of(self.now())
        if stored.seen_on < today:  # once a day: what is kept is the day, not the time
            async with self.database.begin() as db:
                await mark_seen(db, stored.caller, today)
        return stored.caller


def day_of(now: int) -> int:
    """The first millisecond of the day (UTC)."""
    return now - now % DAY
