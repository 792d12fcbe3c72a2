"""Where the bytes of attachments are: a local folder, or a bucket that speaks S3, behind obstore.

An upload is kept as the pieces in which it arrived. A piece is never changed: its name is used once.
"""

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from messaging.relay.errors import StartupError

LISTED_AT_ONCE = 500
# A hash of the attachment's key, where the piece begins, and 8 random bytes: see ``name_piece``.
_PIECE = re.compile(r"[0-9a-f]{40}/[0-9]{12}-[0-9a-f]{16}")


def name_piece(key_hash: bytes, start: int) -> str:
    """A new name for the piece of an attachment that begins at the byte ``start``."""
    return f"{key_hash.hex()}/{start:012}-{secrets.token_hex(8)}"


def is_piece(name: str) -> bool:
    """Whether a name is one of a piece; whatever else is in the same place is not ours to copy or to delete."""
    return _PIECE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Storage:
    """Pieces by name. ``folder`` is where they are, if that is on this machine."""

    store: ObjectStore
    folder: Path | None

    async def put(self, name: str, data: bytes) -> None:
        """Keep a piece; it is on the disk, or in the bucket, when this returns."""
        await obstore.put_async(self.store, name, data)
        if self.folder is not None:
            await asyncio.to_thread(_sync, self.folder / name)

    async def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes of a piece, from ``start`` to before ``end``."""
        return bytes(await obstore.get_range_async(self.store, name, start=start, end=end))

    async def delete(self, name: str) -> None:
        """Forget a piece, if it is there."""
        try:
            await obstore.delete_async(self.store, name)
        except FileNotFoundError:
            return

    async def older_than(self, time: datetime) -> AsyncIterator[list[str]]:
        """The names of all pieces that were kept before ``time``, some at once."""
        async for some in obstore.list(self.store, chunk_size=LISTED_AT_ONCE):
            yield [str(piece["path"]) for piece in some if piece["last_modified"] < time]


def open_storage(url: str) -> Storage:
    """``file:///FOLDER`` or ``s3://BUCKET/PREFIX``; keys and endpoint of S3 come from the usual ``AWS_...`` variables.

    Raises:
        StartupError: another kind of URL, or a folder that cannot be made.
    """
    parts = urlsplit(url)
    try:
        if parts.scheme == "file" and parts.path:
            folder = Path(unquote(parts.path))
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return Storage(LocalStore(folder, automatic_cleanup=True), folder)
        if parts.scheme == "s3" and parts.netloc:
            return Storage(from_url(url, client_options={"allow_http": True}), None)
    except OSError as error:
        raise StartupError(f"cannot use the folder of attachments: {error.strerror}") from None
    except (BaseError, ValueError):
        raise StartupError("the attachments URL cannot be used") from None
    raise StartupError("the attachments URL must be file:///FOLDER or s3://BUCKET/PREFIX")


def _sync(path: Path) -> None:
    for each in (path, path.parent, path.parent.parent):
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
