"""Invites: making, listing and revoking them, and taking a use in somebody else's transaction."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.invite_tables import all_invites, insert_invite, lock_invite, revoke_invite, take_use
from messaging.relay.accounts.invites import Grant, Invite, Terms, grant_of, hash_code, new_code
from messaging.relay.accounts.tables import number_has_account
from messaging.relay.database import Database
from messaging.relay.server_secret import ServerSecret
from messaging.wire.accounts import is_without_telephone


@dataclass(frozen=True, slots=True)
class NewInvite:
    """An invite just made, with the code that nobody can read again."""

    invite: Invite
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class InviteService:
    """Keeps invites. ``now`` gives milliseconds since 1970."""

    database: Database
    secret: ServerSecret
    now: Callable[[], int]

    async def create(self, terms: Terms) -> NewInvite:
        """Make an invite."""
        async with self.database.begin() as db:
            return await make_invite(db, self.secret, terms, now=self.now())

    async def redeem(self, db: AsyncConnection, code: str, number: str, *, bots_only: bool) -> Grant | None:
        """Take a use of the invite with this code, if it is good for the number; the use is gone when ``db`` commits.

        With ``bots_only`` invites for bots alone are good. Whatever the reason to refuse, the same is done and nothing is
        changed: no caller learns which codes exist.
        """
        invite = await lock_invite(db, hash_code(self.secret, code))
        number_hash = self.secret.number_hash(number)
        grant = grant_of(
            invite,
            number_hash=number_hash,
            has_telephone=not is_without_telephone(number),
            account_exists=await number_has_account(db, number_hash),
            bots_only=bots_only,
            now=self.now(),
        )
        if invite is not None and grant is not None:
            await take_use(db, invite)
        return grant

    async def all(self) -> list[Invite]:
        """Every invite, oldest first."""
        async with self.database.read() as db:
            return await all_invites(db)

    async def revoke(self, invite_id: int) -> bool:
        """Make an invite worthless; ``False`` if there is none with this id."""
        async with self.database.begin() as db:
            return await revoke_invite(db, invite_id)


async def make_invite(db: AsyncConnection, secret: ServerSecret, terms: Terms, *, now: int) -> NewInvite:
    """Make an invite, in the caller's transaction."""
    code = new_code()
    values = {
        "code_hash": hash_code(secret, code),
        "role": terms.role,
        "uses_left": terms.uses,
        "created_at": now,
        "expires_at": now + terms.lifetime,
        "number_hash": None if terms.number is None else secret.number_hash(terms.number),
        "revoked": False,
    }
    return NewInvite(await insert_invite(db, values), code)
