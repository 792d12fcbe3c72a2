"""Tables of prekeys, with the queries on them. All of it is public; each row belongs to a device and one identity."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.sql.dml import Delete

from messaging.relay.database import Base, RowId
from messaging.wire.identifiers import IdentityKind
from messaging.wire.keys import KyberPreKey, PreKey, SignedPreKey


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose prekeys: one device, under one of its two identities."""

    account_id: int
    device_id: int
    identity: IdentityKind

    def columns(self) -> dict[str, Any]:
        """The owner's columns of a row."""
        return {"account_id": self.account_id, "device_id": self.device_id, "identity": self.identity.value}


def _of_device() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["account_id", "device_id"], ["devices.account_id", "devices.device_id"], ondelete="CASCADE"
    )


class _RepeatedUseKey:
    """One key for each owner, handed out again and again."""

    account_id: Mapped[int] = mapped_column(RowId, primary_key=True)
    device_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    identity: Mapped[str] = mapped_column(String(3), primary_key=True)
    key_id: Mapped[int] = mapped_column(BigInteger)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:  # noqa: N805 - SQLAlchemy calls it with the class
        return (_of_device(),)


class SignedPreKeyRow(_RepeatedUseKey, Base):
    """The signed EC prekey (PQXDH, section 3.2)."""

    __tablename__ = "signed_prekeys"


class LastResortKyberPreKeyRow(_RepeatedUseKey, Base):
    """The Kyber prekey that serves when no one-time Kyber prekey is left (PQXDH, section 3.2)."""

    __tablename__ = "last_resort_kyber_prekeys"


class _OneTimeKey:
    """Keys that are handed out once, the oldest first. An id is never used again."""

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    account_id: Mapped[int] = mapped_column(RowId)
    device_id: Mapped[int] = mapped_column(SmallInteger)
    identity: Mapped[str] = mapped_column(String(3))
    key_id: Mapped[int] = mapped_column(BigInteger)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:  # noqa: N805 - SQLAlchemy calls it with the class
        return (
            _of_device(),
            Index(None, "account_id", "device_id", "identity", "id"),
            {"sqlite_autoincrement": True},
        )


class OneTimePreKeyRow(_OneTimeKey, Base):
    """A public EC prekey that is handed out once and then gone (PQXDH, section 3.3)."""

    __tablename__ = "one_time_prekeys"


class OneTimeKyberPreKeyRow(_OneTimeKey, Base):
    """A public Kyber prekey that is handed out once and then gone (PQXDH, section 3.3)."""

    __tablename__ = "one_time_kyber_prekeys"
    signature: Mapped[bytes] = mapped_column(LargeBinary)


RepeatedUseTable = type[SignedPreKeyRow] | type[LastResortKyberPreKeyRow]
OneTimeTable = type[OneTimePreKeyRow] | type[OneTimeKyberPreKeyRow]


def _owned(row: RepeatedUseTable | OneTimeTable, owner: KeyOwner) -> tuple[Any, ...]:
    return (
        row.account_id == owner.account_id,
        row.device_id == owner.device_id,
        row.identity == owner.identity.value,
    )


async def replace_key(
    db: AsyncConnection, row: RepeatedUseTable, owner: KeyOwner, key: SignedPreKey | KyberPreKey
) -> None:
    """Let ``key`` take the place of the owner's key of this kind."""
    await db.execute(delete(row).where(*_owned(row, owner)))
    await db.execute(insert(row).values(**owner.columns(), **key.model_dump()))


async def replace_one_time_keys(
    db: AsyncConnection, row: OneTimeTable, owner: KeyOwner, keys: Iterable[PreKey | KyberPreKey]
) -> None:
    """Let ``keys`` take the place of the owner's one-time keys of this kind. The device is locked by the caller."""
    await db.execute(delete(row).where(*_owned(row, owner)))
    await db.execute(insert(row), [{**owner.columns(), **key.model_dump()} for key in keys])


async def count_one_time_keys(db: AsyncConnection, row: OneTimeTable, owner: KeyOwner) -> int:
    """How many are left."""
    return (await db.execute(select(func.count()).select_from(row).where(*_owned(row, owner)))).scalar_one()


async def read_signed_prekey(db: AsyncConnection, owner: KeyOwner) -> SignedPreKey | None:
    """The owner's signed EC prekey."""
    row = SignedPreKeyRow
    found = (
        await db.execute(select(row.key_id, row.public_key, row.signature).where(*_owned(row, owner)))
    ).one_or_none()
    return None if found is None else SignedPreKey(key_id=found[0], public_key=found[1], signature=found[2])


async def read_last_resort_prekey(db: AsyncConnection, owner: KeyOwner) -> KyberPreKey | None:
    """The owner's last-resort Kyber prekey."""
    row = LastResortKyberPreKeyRow
    found = (
        await db.execute(select(row.key_id, row.public_key, row.signature).where(*_owned(row, owner)))
    ).one_or_none()
    return None if found is None else KyberPreKey(key_id=found[0], public_key=found[1], signature=found[2])


async def take_one_time_prekey(db: AsyncConnection, owner: KeyOwner) -> PreKey | None:
    """Remove the oldest one-time EC prekey and return it; ``None`` if none is left."""
    row = OneTimePreKeyRow
    taken = _take_oldest(row, owner).returning(row.key_id, row.public_key)
    found = (await db.execute(taken)).one_or_none()
    return None if found is None else PreKey(key_id=found[0], public_key=found[1])


async def take_one_time_kyber_prekey(db: AsyncConnection, owner: KeyOwner) -> KyberPreKey | None:
    """Remove the oldest one-time Kyber prekey and return it; ``None`` if none is left."""
    row = OneTimeKyberPreKeyRow
    taken = _take_oldest(row, owner).returning(row.key_id, row.public_key, row.signature)
    found = (await db.execute(taken)).one_or_none()
    return None if found is None else KyberPreKey(key_id=found[0], public_key=found[1], signature=found[2])


def _take_oldest(row: OneTimeTable, owner: KeyOwner) -> Delete:
    oldest = (
        select(row.id)
        .where(*_owned(row, owner))
        .order_by(row.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # two callers never get the same key
    )
    return delete(row).where(row.id == oldest.scalar_subquery())
