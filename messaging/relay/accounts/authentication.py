"""Who calls: HTTP Basic with ``uuid.deviceId:password``, or the socket that a call came through.

For sends a login that was right a moment ago is right from memory: the transaction that stores the send checks that the sender's
registration is still there. Nothing else rests on that memory.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from uuid import UUID

from messaging.relay.accounts.passwords import PasswordHash, hash_password, password_matches
from messaging.relay.accounts.tables import StoredCredentials, find_all_credentials, mark_seen
from messaging.relay.batching import Bounds, GroupCommit
from messaging.relay.database import Database
from messaging.relay.errors import AccountSuspended, NotAuthenticated
from messaging.relay.http import Call, Caller, Credentials
from messaging.relay.lanes import Lane
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import DeviceAddress, IdentityKind

DAY = 24 * 60 * 60 * 1000
MAX_LOGINS = 50_000
BOUNDS = Bounds(batch_items=200, batch_bytes=1, waiting_items=10_000, waiting_bytes=1)
LOGIN_SECONDS = 5
_NOBODY = hash_password("nobody")  # compared with for a device that does not exist, so that both take as long


class Authentication:
    """Tells the calling device from the credentials. ``now`` gives milliseconds since 1970.

    Who logs in at a time is looked up together; ``run`` does that.
    """

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
        self._lane = Lane(database, relaxed=False)
        self._lookups: GroupCommit[tuple[UUID, int], StoredCredentials | None] = GroupCommit(self._look_up, BOUNDS)
        self._logins = Logins()

    async def run(self) -> None:
        """Look up until cancelled."""
        try:
            await self._lookups.run()
        finally:
            await self._lane.close()

    async def _look_up(self, wanted: Sequence[tuple[UUID, int]]) -> Sequence[StoredCredentials | None]:
        return await self._lane.twice(lambda db: find_all_credentials(db, wanted))

    async def find_sender(self, call: Call) -> Caller | None:
        """Like :meth:`find`, perhaps from memory: for what checks in its own transaction that the device is still there.

        Raises:
            NotAuthenticated: wrong credentials.
        """
        header = call.headers.get("authorization")
        if call.caller is not None or header is None:
            return call.caller
        caller = self._logins.find(header)
        if caller is None:
            caller = await self.find(call)
            if caller is not None:
                self._logins.keep(header, caller)
        return caller

    async def require(self, call: Call) -> Caller:
        """The calling device.

        Raises:
            NotAuthenticated: no credentials, or wrong ones.
            AccountSuspended: see :meth:`check`; here and below.
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
            AccountSuspended: an operator has suspended its account.
        """
        try:
            address = DeviceAddress.parse(credentials.username)
        except MalformedField:
            raise NotAuthenticated from None
        if address.service_id.kind is not IdentityKind.ACI:
            raise NotAuthenticated
        stored = await self._lookups.submit((address.service_id.uuid, address.device_id))
        expected = _NOBODY if stored is None else PasswordHash(stored.salt, stored.digest)
        if not password_matches(credentials.password, expected) or stored is None:
            raise NotAuthenticated
        if stored.suspended:  # said only to who has the password
            raise AccountSuspended
        today = day_of(self._now())
        if stored.seen_on < today:  # once a day: what is kept is the day, not the time
            async with self._database.begin() as db:
                await mark_seen(db, stored.caller, today)
        return stored.caller


class Logins:
    """Logins that were right a moment ago, by a keyed hash of what was sent. ``clock`` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = MAX_LOGINS) -> None:
        self._clock = clock
        self._capacity = capacity
        self._key = secrets.token_bytes(32)
        self._callers: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def find(self, header: str) -> Caller | None:
        """The device with exactly these credentials, if it logged in a moment ago."""
        found = self._callers.get(self._name(header))
        return None if found is None or found[1] < self._clock() else found[0]

    def keep(self, header: str, caller: Caller) -> None:
        """Remember a login."""
        name = self._name(header)
        self._callers[name] = (caller, self._clock() + LOGIN_SECONDS)
        self._callers.move_to_end(name)
        if len(self._callers) > self._capacity:
            self._callers.popitem(last=False)

    def _name(self, header: str) -> bytes:
        return blake2b(header.encode(errors="surrogateescape"), key=self._key, digest_size=16).digest()


def day_of(now: int) -> int:
    """The first millisecond of the day (UTC)."""
    return now - now % DAY
