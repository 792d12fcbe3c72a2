"""Attachments: permission to upload, uploads that can be resumed, downloads, and the end of what has expired.

A piece is in the storage before its row is in the database, so what a client was told to be received is there. A piece
without a row is an orphan of a crash, and is found and forgotten.
"""

import base64
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy.exc import IntegrityError

from messaging.relay.attachments.storage import Storage, is_piece, name_piece
from messaging.relay.attachments.tables import (
    Attachment,
    Piece,
    append_piece,
    count_pieces,
    delete_expired_attachments,
    delete_pieces,
    expired_pieces,
    find_attachment,
    hash_key,
    insert_attachment,
    known_names,
    pieces_of,
)
from messaging.relay.database import Database
from messaging.relay.errors import Conflict, NotAuthenticated, NotFound, RequestTimeout, TooLarge
from messaging.relay.http import Caller
from messaging.relay.limits import Limit, RateLimits

KEY_BYTES = 18
PIECE_BYTES = 4 * 1024 * 1024  # kept in memory while it is received or sent
MAX_PIECES = 2000  # of one attachment: who sends a byte at a time does not get far
UPLOAD_LIFETIME = timedelta(days=1)  # of a permission, and of an upload on which nothing happens
LASTING = timedelta(days=36_500)
ORPHAN_AGE = timedelta(days=1)
_SWEPT_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Permission:
    """What an upload form permits: one upload under ``key``, of at most ``length`` bytes."""

    key: str
    token: str


@dataclass(frozen=True, slots=True)
class Permitted:
    """An upload of at most ``length`` bytes; ``lasting`` ones do not expire."""

    length: int
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class AttachmentService:
    """Keeps attachments. ``now`` gives milliseconds since 1970; ``key`` signs permissions."""

    database: Database
    storage: Storage
    limits: RateLimits
    key: bytes
    now: Callable[[], int]
    max_length: int
    lifetime: timedelta

    async def permit_lasting(self, caller: Caller, *, max_length: int) -> Permission:
        """Permit one upload that does not expire while a profile shows it.

        Raises:
            RateLimited: too many bytes.
        """
        await self.limits.take(
            Limit.PROFILE_AVATAR_BYTES,
            caller.account_id,
            amount=max_length,
            account=caller.account_id,
            bot=caller.is_bot,
        )
        return self._permission(min(max_length, self.max_length), lasting=True)

    async def permit(self, caller: Caller, length: int | None) -> Permission:
        """Permit one upload of at most ``length`` bytes, by default of the largest.

        Raises:
            TooLarge: more than an attachment may have.
            RateLimited: too many uploads, or too many bytes.
        """
        if length is not None and length > self.max_length:
            raise TooLarge
        account, bot = caller.account_id, caller.is_bot
        await self.limits.take(Limit.ATTACHMENT, account, account=account, bot=bot)
        if length is not None:
            await self.limits.take(Limit.ATTACHMENT_BYTES, account, amount=length, account=account, bot=bot)
        return self._permission(length or self.max_length, lasting=False)

    def _permission(self, length: int, *, lasting: bool) -> Permission:
        key = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        claims = f"{length}.{self._upload_ends()}.{int(lasting)}"
        return Permission(key, f"{claims}.{self._mac(key, claims)}")

    def check(self, key: str, token: str) -> "Permitted":
        """What ``token`` permits for ``key``.

        Raises:
            NotAuthenticated: it permits nothing, or not any more.
        """
        claims, dot, mac = token.rpartition(".")
        if not dot or not hmac.compare_digest(mac.encode(), self._mac(key, claims).encode()):
            raise NotAuthenticated
        length, expires_at, lasting = map(int, claims.split("."))
        if self.now() >= expires_at:
            raise NotAuthenticated
        return Permitted(length, lasting=bool(lasting))

    async def begin(self, key: str, length: int, permitted: "Permitted") -> Attachment:
        """Begin an upload.

        Raises:
            TooLarge: more than was permitted.
            Conflict: it was begun before.
        """
        if length > permitted.length:
            raise TooLarge
        begun = Attachment(length, 0, self._upload_ends(), permitted.lasting)
        begun = begun if length else replace(begun, expires_at=self._attachment_ends(begun))
        try:
            async with self.database.begin() as db:
                await insert_attachment(db, hash_key(key), begun)
        except IntegrityError:
            raise Conflict from None
        return begun

    async def find(self, key: str) -> Attachment:
        """An attachment, whole or not.

        Raises:
            NotFound: there is none, or not any more.
        """
        async with self.database.read() as db:
            found = await find_attachment(db, hash_key(key), now=self.now())
        if found is None:
            raise NotFound
        return found

    async def append(self, key: str, offset: int, data: AsyncIterator[bytes]) -> Attachment:
        """Add ``data`` at ``offset``; what arrived before an error stays.

        Raises:
            NotFound: no such upload.
            Conflict: it does not end at ``offset``; somebody else may have added to it.
            TooLarge: more than the length that was announced, or in more than ``MAX_PIECES`` pieces.
            RequestTimeout: nothing came for too long.
        """
        upload = await self.find(key)
        if upload.received != offset:
            raise Conflict
        buffer = bytearray()
        try:
            async for some in data:
                if upload.received + len(buffer) + len(some) > upload.length:
                    raise TooLarge
                buffer += some
                while len(buffer) >= PIECE_BYTES:
                    upload = await self._keep(key, upload, bytes(buffer[:PIECE_BYTES]))
                    del buffer[:PIECE_BYTES]
        except (OSError, RequestTimeout):  # the line broke: what has arrived need not be sent again
            if buffer:
                await self._keep(key, upload, bytes(buffer))
            raise
        return await self._keep(key, upload, bytes(buffer)) if buffer else upload

    async def read(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from ``first`` to ``last`` of a whole attachment."""
        async with self.database.read() as db:
            pieces = await pieces_of(db, hash_key(key), first=first, last=last)
        for piece in pieces:
            start, end = max(first - piece.start, 0), min(last + 1 - piece.start, piece.size)
            yield await self.storage.read(piece.name, start, end)

    async def sweep(self) -> int:
        """Forget what has expired, its bytes first; returns how many rows."""
        count, now = 0, self.now()
        while True:
            async with self.database.read() as db:
                pieces = await expired_pieces(db, now=now, limit=_SWEPT_AT_ONCE)
            if not pieces:
                break
            for _, name in pieces:
                await self.storage.delete(name)
            async with self.database.begin() as db:
                await delete_pieces(db, [name for _, name in pieces])
            count += len(pieces)
        async with self.database.begin(seconds=None) as db:
            count += await delete_expired_attachments(db, now=now)
        return count + await self._sweep_orphans()

    async def _sweep_orphans(self) -> int:
        count = 0
        before = datetime.fromtimestamp(self.now() / 1000, UTC) - ORPHAN_AGE
        async for listed in self.storage.older_than(before):
            names = [name for name in listed if is_piece(name)]
            async with self.database.read() as db:
                known = await known_names(db, names)
            for name in set(names) - known:
                await self.storage.delete(name)
                count += 1
        return count

    async def _keep(self, key: str, upload: Attachment, data: bytes) -> Attachment:
        name = name_piece(hash_key(key), upload.received)
        received = upload.received + len(data)
        expires_at = self._attachment_ends(upload) if received == upload.length else self._upload_ends()
        await self.storage.put(name, data)
        piece = Piece(upload.received, len(data), name)
        async with self.database.begin() as db:
            if await count_pieces(db, hash_key(key)) >= MAX_PIECES:
                raise TooLarge
            kept = await append_piece(db, hash_key(key), piece, expires_at=expires_at)
        if not kept:
            await self.storage.delete(name)
            raise Conflict
        return replace(upload, received=received, expires_at=expires_at)

    def _upload_ends(self) -> int:
        return self.now() + UPLOAD_LIFETIME // timedelta(milliseconds=1)

    def _attachment_ends(self, attachment: Attachment) -> int:
        lifetime = LASTING if attachment.lasting else self.lifetime
        return self.now() + lifetime // timedelta(milliseconds=1)

    def _mac(self, key: str, claims: str) -> str:
        message = f"{key}\x00{claims}".encode()
        return base64.urlsafe_b64encode(hmac.digest(self.key, message, sha256)).rstrip(b"=").decode()
