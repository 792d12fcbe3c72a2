"""The table of profiles. All of a profile is ciphertext."""

from dataclasses import asdict, dataclass, field

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.attachments.tables import AttachmentRow, hash_key
from messaging.relay.database import Base, RowId
from messaging.wire.limits import MAX_PROFILE_VERSIONS


class ProfileRow(Base):
    """One version of an account's profile; a version stands for the profile key that it is encrypted under."""

    __tablename__ = "profiles"
    account_id: Mapped[int] = mapped_column(RowId, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[str] = mapped_column(String(64), primary_key=True)
    changed_at: Mapped[int] = mapped_column(BigInteger)
    commitment: Mapped[bytes] = mapped_column(LargeBinary)
    name: Mapped[bytes | None] = mapped_column(LargeBinary)
    about: Mapped[bytes | None] = mapped_column(LargeBinary)
    about_emoji: Mapped[bytes | None] = mapped_column(LargeBinary)
    payment_address: Mapped[bytes | None] = mapped_column(LargeBinary)
    phone_number_sharing: Mapped[bytes | None] = mapped_column(LargeBinary)
    avatar: Mapped[str | None] = mapped_column(String(64))
    avatar_hash: Mapped[bytes | None] = mapped_column(LargeBinary, index=True)


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """What is stored of one version; ``avatar`` is the key to download it by."""

    commitment: bytes = field(repr=False)
    name: bytes | None = field(repr=False)
    about: bytes | None = field(repr=False)
    about_emoji: bytes | None = field(repr=False)
    payment_address: bytes | None = field(repr=False)
    phone_number_sharing: bytes | None = field(repr=False)
    avatar: str | None = field(repr=False)


async def find_profile(db: AsyncConnection, account_id: int, version: str) -> StoredProfile | None:
    """One version of a profile."""
    row = ProfileRow
    query = select(
        row.commitment,
        row.name,
        row.about,
        row.about_emoji,
        row.payment_address,
        row.phone_number_sharing,
        row.avatar,
    ).where(row.account_id == account_id, row.version == version)
    found = (await db.execute(query)).one_or_none()
    return None if found is None else StoredProfile(*found)


async def replace_profile(
    db: AsyncConnection, account_id: int, version: str, profile: StoredProfile, *, now: int
) -> None:
    """Set one version. The account is locked by the caller."""
    row = ProfileRow
    await db.execute(delete(row).where(row.account_id == account_id, row.version == version))
    values = {"account_id": account_id, "version": version, "changed_at": now, **asdict(profile)}
    values["avatar_hash"] = None if profile.avatar is None else hash_key(profile.avatar)
    await db.execute(insert(row).values(values))


async def drop_oldest(db: AsyncConnection, account_id: int) -> None:
    """Forget all but the versions changed last."""
    row = ProfileRow
    query = select(row.version).where(row.account_id == account_id).order_by(row.changed_at.desc(), row.version)
    surplus = list(await db.scalars(query.offset(MAX_PROFILE_VERSIONS)))
    if surplus:
        await db.execute(delete(row).where(row.account_id == account_id, row.version.in_(surplus)))


async def delete_profiles(db: AsyncConnection, account_id: int) -> None:
    """Forget all versions."""
    await db.execute(delete(ProfileRow).where(ProfileRow.account_id == account_id))


async def expire_unshown_avatars(db: AsyncConnection, *, now: int) -> int:
    """Let avatars expire that no profile shows, as of ``now``; returns how many.

    A profile names its avatar before that can be uploaded, so none is between the two.
    """
    shown = select(ProfileRow.avatar_hash).where(ProfileRow.avatar_hash.is_not(None))
    row = AttachmentRow
    unshown = update(row).where(row.lasting, row.expires_at > now, row.key_hash.not_in(shown))
    return (await db.execute(unshown.values(expires_at=now))).rowcount
