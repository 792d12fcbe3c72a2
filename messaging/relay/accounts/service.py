"""Verification of numbers: sessions in the database, codes through a provider.

What a session may do is decided in ``accounts.verification``; what a verified session is good for in
``accounts.registration``.
"""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.providers import CodeProvider
from messaging.relay.accounts.tables import insert_verification, lock_verification, update_verification
from messaging.relay.accounts.verification import (
    CODE_DIGITS,
    Verification,
    begin,
    code_mac,
    code_was_not_delivered,
    request_code,
    submit_code,
)
from messaging.relay.database import Database
from messaging.relay.errors import CodeNotDelivered, InvalidRequest, NotFound
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.logs import get_logger
from messaging.relay.server_secret import ServerSecret
from messaging.wire.accounts import VerificationSession
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
    """Proves that a caller can read what is sent to a number. ``now`` gives milliseconds since 1970."""

    database: Database
    provider: CodeProvider
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

    async def request_code(self, session_id: str) -> VerificationSession:
        """Send a code to the session's number.

        Raises:
            NotFound, VerificationConflict, VerificationRateLimited: see ``accounts.verification``.
            CodeNotDelivered: the provider failed.
        """
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
        mac = code_mac(self.secret.verification_key, session_id, code)
        async with self.database.begin() as db:
            found = await self.find(db, session_id)
            state = request_code(found.state, mac, self.now())
            await self._store(db, state)
        # After the commit: a code that arrives must be one that counts.
        try:
            await self.provider.deliver(self._unseal(session_id, found.sealed_number), code)
        except OSError as error:
            get_logger().error("code_not_delivered", error=type(error).__name__)
            async with self.database.begin() as db:
                await self._store(db, code_was_not_delivered(state, self.now()))
            raise CodeNotDelivered from None
        return state.describe(self.now())

    async def submit_code(self, session_id: str, code: str) -> VerificationSession:
        """Try a code; the answer says whether the session is verified now.

        Raises:
            NotFound, VerificationConflict, VerificationRateLimited: see ``accounts.verification``.
            RateLimited: too many attempts for this number, over all of its sessions.
        """
        mac = code_mac(self.secret.verification_key, session_id, code)
        async with self.database.begin() as db:
            found = await self.find(db, session_id)
            await self.limits.take(Limit.VERIFICATION_CODE, found.number_hash)
            state = submit_code(found.state, mac, self.now())
            await self._store(db, state)
        return state.describe(self.now())

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
    }
