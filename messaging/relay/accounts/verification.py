"""A verification session as a state machine: when a code may be requested and submitted, and what a code proves.

No I/O: a function takes the state and the time and gives the next state, or raises what the caller is told. Guessing is
bounded: 5 attempts for each of 5 codes of 6 digits. Where invites prove (``accounts.invites``), nothing is sent, and the
same bounds hold for the invites that are tried. Times are milliseconds since 1970.
"""

import hmac
from dataclasses import dataclass, field, replace
from hashlib import sha256

from messaging.relay.accounts.invites import Grant
from messaging.relay.errors import VerificationConflict, VerificationRateLimited
from messaging.wire.accounts import VerificationSession

SESSION_LIFETIME = 60 * 60 * 1000
CODE_LIFETIME = 10 * 60 * 1000
CODE_PAUSE = 60 * 1000  # between two codes of one session
MAX_CODES = 5
MAX_ATTEMPTS = 5  # for one code
CODE_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Verification:
    """The state. ``id`` is known to the holder of the session only; the relay stores its hash.

    An invite gives ``role``. With ``new_account_only`` the session may register no account that exists, but for the one that
    it made itself. ``account_id`` is the account that it has registered.
    """

    id: str = field(repr=False)
    expires_at: int
    verified: bool = False
    codes_sent: int = 0
    next_code_at: int = 0
    code_mac: bytes | None = field(default=None, repr=False)
    code_expires_at: int = 0
    attempts: int = 0
    role: str | None = None
    new_account_only: bool = False
    account_id: int | None = None

    def describe(self, now: int) -> VerificationSession:
        """What the holder of the session is told of it."""
        may_request = not self.verified and self.codes_sent < MAX_CODES
        wait = max(0, -(-(self.next_code_at - now) // 1000)) if may_request else None
        return VerificationSession(
            id=self.id,
            next_sms=wait,
            next_call=wait,
            next_verification_attempt=0 if self._may_submit(now) else None,
            allowed_to_request_code=may_request,
            verified=self.verified,
        )

    def _may_submit(self, now: int) -> bool:
        return self.has_code(now) and self.attempts < MAX_ATTEMPTS

    def has_code(self, now: int) -> bool:
        """Whether a code is waiting to be submitted."""
        return not self.verified and now < self.code_expires_at

    def may_register(self, account_id: int | None) -> bool:
        """Whether the session proves enough for this account, or, with ``None``, for a new one."""
        return self.verified and (not self.new_account_only or account_id in (None, self.account_id))


def begin(session_id: str, now: int) -> Verification:
    """A new session: nothing sent, nothing proved."""
    return Verification(session_id, expires_at=now + SESSION_LIFETIME)


def code_mac(key: bytes, session_id: str, code: str) -> bytes:
    """What is stored of a code: a MAC under a key that is not in the database, bound to the session."""
    return hmac.digest(key, f"{session_id}:{code}".encode(), sha256)


def request_code(state: Verification, mac: bytes | None, now: int) -> Verification:
    """Replace the code by a new one, whose MAC is ``mac``.

    Raises:
        VerificationConflict: verified already.
        VerificationRateLimited: too soon, or too many codes.
    """
    if state.verified:
        raise VerificationConflict(state.describe(now))
    if state.codes_sent >= MAX_CODES:
        raise VerificationRateLimited(state.describe(now), None)
    if now < state.next_code_at:
        raise VerificationRateLimited(state.describe(now), -(-(state.next_code_at - now) // 1000))
    return replace(
        state,
        codes_sent=state.codes_sent + 1,
        next_code_at=now + CODE_PAUSE,
        code_mac=mac,
        code_expires_at=now + CODE_LIFETIME,
        attempts=0,
    )


def code_was_not_delivered(state: Verification, now: int) -> Verification:
    """Forget the code and allow to request another at once; it still counts."""
    return replace(state, code_mac=None, code_expires_at=0, next_code_at=now)


def code_was_refused(state: Verification, now: int) -> Verification:
    """Forget the code and allow no other: for this number there will be none."""
    return replace(code_was_not_delivered(state, now), codes_sent=MAX_CODES)


def submit_code(state: Verification, mac: bytes, now: int) -> Verification:
    """Count an attempt; the session is verified if ``mac`` is the code's.

    Raises:
        VerificationConflict: verified already, or no code is waiting.
        VerificationRateLimited: too many wrong codes; request a new one.
    """
    check_may_submit(state, now)
    right = state.code_mac is not None and hmac.compare_digest(state.code_mac, mac)
    return replace(state, attempts=state.attempts + 1, verified=right, code_mac=None if right else state.code_mac)


def submit_invite(state: Verification, grant: Grant | None, now: int) -> Verification:
    """Count an attempt; the session is verified if the invite was good, and then it keeps what the invite grants.

    Raises:
        VerificationConflict, VerificationRateLimited: as for a code.
    """
    check_may_submit(state, now)
    tried = replace(state, attempts=state.attempts + 1)
    if grant is None:
        return tried
    return replace(tried, verified=True, code_mac=None, role=grant.role, new_account_only=grant.new_account_only)


def check_may_submit(state: Verification, now: int) -> None:
    """Check that an attempt is due.

    Raises:
        VerificationConflict: verified already, or no code is waiting.
        VerificationRateLimited: too many wrong codes; request a new one.
    """
    if not state.has_code(now):
        raise VerificationConflict(state.describe(now))
    if state.attempts >= MAX_ATTEMPTS:
        raise VerificationRateLimited(state.describe(now), None)
