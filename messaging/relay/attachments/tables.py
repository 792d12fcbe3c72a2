"""Tables of attachments and of their pieces. Whose an attachment is, is not stored; nor is its key, only a hash of it."""

from dataclasses import asdict, dataclass
from hashlib import blake2b

from sqlalchemy import BigInteger, LargeBinary, String, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base


def hash_key(key: str) -> bytes:
    """What is stored of a key, which whoever holds it may download by."""
    return blake2b(key.encode(), digest_size=20).digest()


class AttachmentRow(Base):
    """An attachment, whole when ``received`` is ``length``. Sizes are bytes, times milliseconds since 1970."""

    __tablename__ = "attachments"
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    length: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)
    lasting: Mapped[bool]  # an avatar: it stays until its owner replaces it


class PieceRow(Base):
    """A piece of an attachment: what stands at ``start``, and its name in the storage."""

    __tablename__ = "attachment_pieces"
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(128), unique=True)


@dataclass(frozen=True, slots=True)
class Attachment:
    """How far an attachment is."""

    length: int
    received: int
    expires_at: int
    lasting: bool = False

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return self.received == self.length


@dataclass(frozen=True, slots=True)
class Piece:
    """``size`` bytes at ``start`` of an attachment."""

    start: int
    size: int
    name: str


async def find_attachment(db: AsyncConnection, key_hash: bytes, *, now: int) -> Attachment | None:
    """An attachment that has not expired."""
    row = AttachmentRow
    query = select(row.length, row.received, row.expires_at, row.lasting).where(
        row.key_hash == key_hash, row.expires_at > now
    )
    found = (await db.execute(query)).one_or_none()
    return None if found is None else Attachment(*found)


async def insert_attachment(db: AsyncConnection, key_hash: bytes, attachment: Attachment) -> None:
    """Begin an attachment; raises ``IntegrityError`` if it was begun before."""
    await db.execute(insert(AttachmentRow).values(key_hash=key_hash, **asdict(attachment)))


async def append_piece(db: AsyncConnection, key_hash: bytes, piece: Piece, *, expires_at: int) -> bool:
    """Add a piece where the attachment ends; ``False`` if it does not end there any more."""
    row = AttachmentRow
    grown = update(row).where(row.key_hash == key_hash, row.received == piece.start)
    grown = grown.values(received=piece.start + piece.size, expires_at=expires_at)
    if (await db.execute(grown)).rowcount == 0:
        return False
    values = {"key_hash": key_hash, "start": piece.start, "size": piece.size, "name": piece.name}
    await db.execute(insert(PieceRow).values(values))
    return True


async def count_pieces(db: AsyncConnection, key_hash: bytes) -> int:
    """How many pieces an attachment has."""
    query = select(func.count()).select_from(PieceRow).where(PieceRow.key_hash == key_hash)
    return (await db.execute(query)).scalar_one()


async def pieces_of(db: AsyncConnection, key_hash: bytes, *, first: int, last: int) -> list[Piece]:
    """The pieces with bytes from ``first`` to ``last``, in order."""
    row = PieceRow
    query = select(row.start, row.size, row.name).where(row.key_hash == key_hash)
    query = query.where(row.start <= last, row.start + row.size > first).order_by(row.start)
    return [Piece(*columns) for columns in await db.execute(query)]


async def expired_pieces(db: AsyncConnection, *, now: int, limit: int) -> list[tuple[bytes, str]]:
    """Pieces of expired attachments: hash of the key, and name."""
    query = (
        select(PieceRow.key_hash, PieceRow.name)
        .join(AttachmentRow, AttachmentRow.key_hash == PieceRow.key_hash)
        .where(AttachmentRow.expires_at <= now)
        .limit(limit)
    )
    return [(key_hash, name) for key_hash, name in await db.execute(query)]


async def delete_pieces(db: AsyncConnection, names: list[str]) -> None:
    """Forget pieces that are no more in the storage."""
    await db.execute(delete(PieceRow).where(PieceRow.name.in_(names)))


async def delete_expired_attachments(db: AsyncConnection, *, now: int) -> int:
    """Forget expired attachments whose pieces are gone; returns how many."""
    held = select(PieceRow.key_hash)
    row = AttachmentRow
    return (await db.execute(delete(row).where(row.expires_at <= now, row.key_hash.not_in(held)))).rowcount


async def known_names(db: AsyncConnection, names: list[str]) -> set[str]:
    """Which of these names belong to an attachment."""
    return set(await db.scalars(select(PieceRow.name).where(PieceRow.name.in_(names))))
