"""Verification of numbers: sessions in the database, codes through a provider, or invites in their place.

No code can be sent to a number that no telephone has: there an invite proves, whatever proves elsewhere. What a session
may do is decided in ``accounts.verification``; what a verified session is good for in ``accounts.registration``.
"""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.providers import CodeMessage, CodeProvider, DeliveryFailed
from messaging.relay.accounts.tables import insert_verification, lock_verification, update_verification
from messaging.relay.accounts.verification import (
    CODE_DIGITS,
    Verification,
    begin,
    check_may_submit,
    code_mac,
    code_was_not_delivered,
    code_was_refused,
    request_code,
    submit_code,
    submit_invite,
)
from messaging.relay.database import Database
from messaging.relay.errors import CodeNotDelivered, InvalidRequest, NotFound
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.server_secret import ServerSecret
from messaging.serving.logs import get_logger
from messaging.wire.accounts import RequestVerificationCode, VerificationSession, is_without_telephone
from messaging.wire.json import decode_base64

_ID_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class FoundVerification:
    """A session and whose it is."""

    state: Verification
    number_hash: bytes
    sealed_number: bytes


@dataclass(frozen=True, slots=True)
class VerificationService:
    """Proves that a caller can read what is sent to a number, or was invited. ``now`` gives milliseconds since 1970.

    Without a ``provider`` invites prove for every number.
    """

    database: Database
    provider: CodeProvider | None
    invites: InviteService
    secret: ServerSecret
    limits: RateLimits
    now: Callable[[], int]

    async def create(self, number: str, *, remote: str) -> VerificationSession:
        """Begin a session for ``number``.

        Raises:
            RateLimited: too many sessions for this number or from this address.
        """
        number_hash = self.secret.number_hash(number)
        await self.limits.take(Limit.VERIFICATION_SESSION_PER_ADDRESS, remote)
        await self.limits.take(Limit.VERIFICATION_SESSION, number_hash)
        session_id = base64.urlsafe_b64encode(secrets.token_bytes(_ID_BYTES)).rstrip(b"=").decode()
        state = begin(session_id, self.now())
        async with self.database.begin() as db:
            await insert_verification(
                db,
                hash_session_id(session_id),
                {"number_hash": number_hash, "sealed_number": self._seal(session_id, number), **_columns(state)},
            )
        return state.describe(self.now())

    async def get(self, session_id: str) -> VerificationSession:
        """The state of a session.

        Raises:
            InvalidRequest: not a session id.
            NotFound: no such session, or not any more.
        """
        async with self.database.read() as db:
            return (await self.find(db, session_id)).state.describe(self.now())

    async def request_code(self, session_id: str, wanted: RequestVerificationCode) -> VerificationSession:
        """Send a code to the session's number; where invites prove, send nothing and await one.

        Raises:
            NotFound, VerificationConflict, VerificationRateLimited: see ``accounts.verification``.
            CodeNotDelivered: the provider failed.
        """
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
        mac = code_mac(self.secret.verification_key, session_id, code)
        state, number = await self._await_code(session_id, mac)
        provider = self._provider_for(number)
        if provider is None:
            return state.describe(self.now())
        # After the commit: a code that arrives must be one that counts.
        try:
            await provider.deliver(CodeMessage(number, code, wanted.transport, wanted.client))
        except DeliveryFailed as failure:
            get_logger().error("code_not_delivered", error=failure.error, status=failure.status)
            await self._forget(session_id, mac, permanent=failure.permanent)
            raise CodeNotDelivered(permanent=failure.permanent) from None
        return state.describe(self.now())

    def _provider_for(self, number: str) -> CodeProvider | None:
        """Who sends a code to ``number``; ``None`` where an invite takes its place."""
        return None if is_without_telephone(number) else self.provider

    async def _await_code(self, session_id: str, mac: bytes) -> tuple[Verification, str]:
        async with self.database.begin() as db:
            found = await self.find(db, session_id)
            number = self._unseal(session_id, found.sealed_number)
            is_sent = self._provider_for(number) is not None
            state = request_code(found.state, mac if is_sent else None, self.now())
            await self._store(db, state)
        return state, number

    async def _forget(self, session_id: str, mac: bytes, *, permanent: bool) -> None:
        async with self.database.begin() as db:
            state = (await self.find(db, session_id)).state
            # Meanwhile the code may have arrived all the same and have been submitted, or another been requested.
            if state.code_mac == mac:
                forget = code_was_refused if permanent else code_was_not_delivered
                await self._store(db, forget(state, self.now()))

    async def submit_code(self, session_id: str, code: str) -> VerificationSession:
        """Try a code; the answer says whether the session is verified now.

        Raises:
            NotFound, VerificationConflict, VerificationRateLimited: see ``accounts.verification``.
            RateLimited: too many attempts for this number, over all of its sessions.
        """
        async with self.database.begin() as db:
            found = await self.find(db, session_id)
            await self.limits.take(Limit.VERIFICATION_CODE, found.number_hash)
            state = await self._try(db, found, code)
            await self._store(db, state)
        return state.describe(self.now())

    async def _try(self, db: AsyncConnection, found: FoundVerification, code: str) -> Verification:
        now, number = self.now(), self._unseal(found.state.id, found.sealed_number)
        if self._provider_for(number) is not None:
            return submit_code(found.state, code_mac(self.secret.verification_key, found.state.id, code), now)
        check_may_submit(found.state, now)  # before a use is taken
        grant = await self.invites.redeem(db, code, number, bots_only=self.provider is not None)
        return submit_invite(found.state, grant, now)

    async def find(self, db: AsyncConnection, session_id: str) -> FoundVerification:
        """The session; in a writing transaction, locked.

        Raises:
            InvalidRequest: not a session id.
            NotFound: no such session, or not any more.
        """
        try:
            decode_base64(session_id.replace("-", "+").replace("_", "/"))
        except ValueError:
            raise InvalidRequest("sessionId") from None
        columns = await lock_verification(db, hash_session_id(session_id), now=self.now())
        if columns is None:
            raise NotFound
        number_hash, sealed_number = columns.pop("number_hash"), columns.pop("sealed_number")
        return FoundVerification(Verification(session_id, **columns), number_hash, sealed_number)

    async def note_account(self, db: AsyncConnection, state: Verification, account_id: int) -> None:
        """Remember which account a session has registered: it may register that one again."""
        await self._store(db, replace(state, account_id=account_id))

    async def _store(self, db: AsyncConnection, state: Verification) -> None:
        await update_verification(db, hash_session_id(state.id), _columns(state))

    def _seal(self, session_id: str, number: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = ChaCha20Poly1305(self.secret.number_seal_key).encrypt(nonce, number.encode(), session_id.encode())
        return nonce + sealed

    def _unseal(self, session_id: str, sealed: bytes) -> str:
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        return ChaCha20Poly1305(self.secret.number_seal_key).decrypt(nonce, rest, session_id.encode()).decode()


def hash_session_id(session_id: str) -> bytes:
    """What is stored of a session id: it is a bearer's secret."""
    return sha256(session_id.encode()).digest()


def _columns(state: Verification) -> dict[str, Any]:
    return {
        "expires_at": state.expires_at,
        "verified": state.verified,
        "codes_sent": state.codes_sent,
        "next_code_at": state.next_code_at,
        "code_mac": state.code_mac,
        "code_expires_at": state.code_expires_at,
        "attempts": state.attempts,
        "role": state.role,
        "new_account_only": state.new_account_only,
        "account_id": state.account_id,
    }
