"""Tables of operators and of what they sign in with. What a database thief must not use is kept as a hash, or sealed."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Integer, LargeBinary, SmallInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base, RowId


class OperatorRow(Base):
    """Somebody who may sign in. Who has left is disabled and stays, because the audit log names them."""

    __tablename__ = "operators"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    handle: Mapped[bytes] = mapped_column(LargeBinary, unique=True)  # WebAuthn's user handle: 32 random bytes
    name: Mapped[str] = mapped_column(String(64), unique=True)
    folded_name: Mapped[str] = mapped_column(Text, unique=True)  # operators.folded: no two look the same
    role: Mapped[str] = mapped_column(String(16))  # permissions.Role
    created_at: Mapped[int] = mapped_column(BigInteger)
    disabled_at: Mapped[int | None] = mapped_column(BigInteger)
    totp_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)  # AES-GCM under a key of the secret file
    totp_step: Mapped[int] = mapped_column(BigInteger, server_default="0")  # the last one that was used (RFC 6238)
    oidc_subject: Mapped[str | None] = mapped_column(String(255), unique=True)


class PasskeyRow(Base):
    """A WebAuthn credential."""

    __tablename__ = "passkeys"
    credential_id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    operator_id: Mapped[int] = mapped_column(RowId, ForeignKey("operators.id", ondelete="CASCADE"), index=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)  # COSE
    sign_count: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int | None] = mapped_column(BigInteger)


class RecoveryCodeRow(Base):
    """A code that opens the console once, together with TOTP; kept as a hash."""

    __tablename__ = "recovery_codes"
    code_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    operator_id: Mapped[int] = mapped_column(RowId, ForeignKey("operators.id", ondelete="CASCADE"), index=True)
    used_at: Mapped[int | None] = mapped_column(BigInteger)


class SignInRow(Base):
    """An operator who is signed in; the cookie's value is kept as a hash. Times are milliseconds since 1970."""

    __tablename__ = "sign_ins"
    id_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    operator_id: Mapped[int] = mapped_column(RowId, ForeignKey("operators.id", ondelete="CASCADE"), index=True)
    method: Mapped[str] = mapped_column(String(16))
    began_at: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[int] = mapped_column(BigInteger)
    browser: Mapped[str] = mapped_column(String(64))  # a family and a system, such as "Firefox on Linux"; no address


class EnrolmentRow(Base):
    """A link with which somebody becomes an operator, or adds a passkey; good once, kept as a hash."""

    __tablename__ = "enrolments"
    code_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    role: Mapped[str | None] = mapped_column(String(16))
    operator_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("operators.id", ondelete="CASCADE"))
    made_by: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[int] = mapped_column(BigInteger)


class ChallengeRow(Base):
    """A challenge of a ceremony that has begun; gone when it is answered, whatever the answer."""

    __tablename__ = "challenges"
    challenge_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    purpose: Mapped[str] = mapped_column(String(32))
    operator_id: Mapped[int | None] = mapped_column(RowId, ForeignKey("operators.id", ondelete="CASCADE"))
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)


class TokenRow(Base):
    """A token of the admin API: a part of its operator's permissions, for a time; kept as a hash."""

    __tablename__ = "admin_tokens"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    operator_id: Mapped[int] = mapped_column(RowId, ForeignKey("operators.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    permissions: Mapped[str] = mapped_column(String(2048))  # separated by spaces
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int | None] = mapped_column(BigInteger)
    revoked: Mapped[bool] = mapped_column(Boolean)


class TryRow(Base):
    """Failed tries to sign in, counted in a minute: of an operator or an address, under a keyed hash of it."""

    __tablename__ = "sign_in_tries"
    who_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    minute: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(SmallInteger)
