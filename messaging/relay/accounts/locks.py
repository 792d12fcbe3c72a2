"""The registration lock and the recovery password: what re-registration of a number needs beside its verification, or instead.

Both are secrets that a client derived from its owner's PIN or account entropy; the relay keeps a salted hash of each. A lock
that nobody has used the account under for a week is open: the number may belong to somebody else by then (Signal-Server,
``StoredRegistrationLock``).
"""

from typing import Any

from messaging.relay.accounts.authentication import DAY
from messaging.relay.accounts.passwords import hash_password, password_matches
from messaging.relay.accounts.tables import AccountDetails
from messaging.relay.errors import Forbidden, RegistrationLocked

LOCK_LIFETIME = 7 * DAY  # since the account was last seen


def check_lock(details: AccountDetails, given: str | None, now: int) -> None:
    """Whether ``given`` opens the account's registration lock, if it has one that still holds.

    Raises:
        RegistrationLocked: it does not.
    """
    remaining = details.seen_on + LOCK_LIFETIME - now
    if details.lock is None or remaining <= 0:
        return
    if not given or not password_matches(given.lower(), details.lock):
        raise RegistrationLocked(remaining)


def check_recovery_password(details: AccountDetails, given: bytes) -> None:
    """Whether ``given`` is the account's recovery password.

    Raises:
        Forbidden: it is another, or the account has none.
    """
    if details.recovery is None or not password_matches(given.hex(), details.recovery):
        raise Forbidden


def lock_columns(lock: str | None) -> dict[str, Any]:
    """What is stored of a registration lock; empty or absent removes it."""
    hashed = hash_password(lock.lower()) if lock else None
    return {"lock_salt": hashed and hashed.salt, "lock_hash": hashed and hashed.digest}


def recovery_columns(password: bytes | None) -> dict[str, Any]:
    """What is stored of a recovery password; empty or absent removes it."""
    hashed = hash_password(password.hex()) if password else None
    return {"recovery_salt": hashed and hashed.salt, "recovery_hash": hashed and hashed.digest}
