"""The way back in for an operator without a passkey: a recovery code, and a time-based code if that was set up (RFC 6238).

Both are good once. Wrong time-based codes of who has a good recovery code are counted by the day: there are only a million.
"""

import base64
import hmac
import secrets

import pyotp
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.admin.keeping import Kind, as_meant, hash_of, new_code, seal, unseal
from messaging.relay.admin.limits import RECOVERY_CODES
from messaging.relay.admin.operator_tables import OperatorRow, RecoveryCodeRow
from messaging.relay.admin.operators import OperatorRecord
from messaging.relay.server_secret import ServerSecret

STEP = 30_000  # milliseconds that a time-based code is good for
_SECRET_BYTES = 20
_NEAR = (-1, 0, 1)  # steps by which a telephone's clock may differ
_PENDING = b"pending:"


# --- recovery codes ---


async def replace_codes(db: AsyncConnection, secret: ServerSecret, operator_id: int) -> list[str]:
    """Ten new codes; the old ones are worth nothing any more."""
    row, codes = RecoveryCodeRow, [new_code() for _ in range(RECOVERY_CODES)]
    await db.execute(delete(row).where(row.operator_id == operator_id))
    kept = [{"code_hash": _hash(secret, code), "operator_id": operator_id} for code in codes]
    await db.execute(insert(row), kept)
    return codes


async def codes_left(db: AsyncConnection, operator_id: int) -> int:
    """How many are unused."""
    row = RecoveryCodeRow
    query = select(func.count()).select_from(row).where(row.operator_id == operator_id, row.used_at.is_(None))
    return int((await db.execute(query)).scalar_one())


async def whose_code(db: AsyncConnection, secret: ServerSecret, code: str) -> int | None:
    """The operator of an unused code; it stays unused."""
    row = RecoveryCodeRow
    query = select(row.operator_id).where(row.code_hash == _hash(secret, code), row.used_at.is_(None))
    return (await db.execute(query)).scalar_one_or_none()


async def use_code(db: AsyncConnection, secret: ServerSecret, code: str, *, now: int) -> bool:
    """Mark a code as used; ``False`` if it was."""
    row = RecoveryCodeRow
    unused = update(row).where(row.code_hash == _hash(secret, code), row.used_at.is_(None))
    return bool((await db.execute(unused.values(used_at=now))).rowcount)


def _hash(secret: ServerSecret, code: str) -> bytes:
    return hash_of(secret, Kind.RECOVERY_CODE, as_meant(code))


# --- time-based codes ---


def new_totp_secret() -> bytes:
    """20 random bytes."""
    return secrets.token_bytes(_SECRET_BYTES)


def totp_address(totp_secret: bytes, name: str, issuer: str) -> str:
    """What a QR code says to an authenticator app."""
    return _totp(totp_secret).provisioning_uri(name=name, issuer_name=issuer)


def totp_letters(totp_secret: bytes) -> str:
    """The secret in base32, for who types it."""
    return base64.b32encode(totp_secret).decode()


def matching_step(totp_secret: bytes, code: str, *, now: int, after: int) -> int | None:
    """The step of which ``code`` is the code: near ``now``, and later than ``after``; ``None`` if it is none's."""
    totp, typed = _totp(totp_secret), code.replace(" ", "").encode()
    near = [now // STEP + offset for offset in _NEAR]
    good = [step for step in near if hmac.compare_digest(totp.generate_otp(step).encode(), typed)]
    return next((step for step in good if step > after), None)


def seal_pending(secret: ServerSecret, totp_secret: bytes, whose: bytes) -> bytes:
    """A secret that is shown and not confirmed yet, for the form that confirms it. ``whose`` is the operator's handle."""
    return seal(secret, Kind.TOTP, totp_secret, whose=_PENDING + whose)


def unseal_pending(secret: ServerSecret, sealed: bytes, whose: bytes) -> bytes:
    """Undo :func:`seal_pending`.

    Raises:
        SealBroken: it was changed, or is somebody else's.
    """
    return unseal(secret, Kind.TOTP, sealed, whose=_PENDING + whose)


async def set_totp(
    db: AsyncConnection, secret: ServerSecret, record: OperatorRecord, totp_secret: bytes | None, step: int = 0
) -> None:
    """Ask for time-based codes from now on, later than that of ``step``; ``None`` asks for none."""
    sealed = None if totp_secret is None else seal(secret, Kind.TOTP, totp_secret, whose=record.handle)
    values = {"totp_sealed": sealed, "totp_step": step}
    await db.execute(update(OperatorRow).where(OperatorRow.id == record.id).values(values))


async def use_totp(db: AsyncConnection, secret: ServerSecret, record: OperatorRecord, code: str, *, now: int) -> bool:
    """Whether ``code`` is good for this operator, who has set one up; it is good no more.

    Raises:
        SealBroken: the database has somebody else's secret there.
    """
    if record.totp_sealed is None:
        return False
    totp_secret = unseal(secret, Kind.TOTP, record.totp_sealed, whose=record.handle)
    step = matching_step(totp_secret, code, now=now, after=record.totp_step)
    if step is None:
        return False
    row = OperatorRow
    used = await db.execute(update(row).where(row.id == record.id, row.totp_step < step).values(totp_step=step))
    return bool(used.rowcount)


def _totp(totp_secret: bytes) -> pyotp.TOTP:
    return pyotp.TOTP(totp_letters(totp_secret))
