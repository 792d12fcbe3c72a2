"""A transport that keeps answers in a folder, because vendors limit how often one may ask, and are not always there.

Kept is what has status 200 and is of the right form. An answer that is too old is asked for again; if the vendor cannot
be reached, is busy, or something else answers in its place, the old one is offered. That is safe: everything kept is
dated and signed by its vendor, and the appraisal judges its age. Who must have the newest asks with lifetimes of zero.

One file holds one answer. It appears whole or not at all, whenever a process is killed; processes share a folder
without a lock; a file that was damaged, cut or exchanged is as good as none. Names are hashes and say nothing, but
contents name chips: the folder is for its owner alone. A disk that is full or read-only costs the cache, never the
answer.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from attestation.encoding import as_list, as_object, decode, encode, from_base64, to_base64
from attestation.errors import MalformedEvidence
from attestation.fetching.errors import UnsafeFolder
from attestation.fetching.transport import Kind, Request, Response, Transport, TransportFailed

UPSTREAM_DEADLINE = 20.0  # seconds: below the deadline of an answer, so that the old one is offered in time
MAX_FILES = 1024  # those that a killed process left half-written too
MAX_BYTES = 64 * 1024 * 1024  # of all files together
MAX_FILE = 2 * 1024 * 1024  # bytes: the largest answer in base64, and its headers
MAX_HEADERS = 64  # of one answer
LIFETIMES: Final[Mapping[Kind, timedelta]] = MappingProxyType(
    {
        Kind.CERTIFICATE: timedelta(days=30),
        Kind.CRL: timedelta(days=1),
        Kind.OCSP: timedelta(hours=1),
        Kind.TCB: timedelta(days=1),
        Kind.RIM: timedelta(days=7),
    }
)
_OURS = re.compile(r"[0-9a-f]{64}\.(json|[a-z0-9_]+\.tmp)")


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, when it came, and to which request: its :func:`key`."""

    key: str
    time: datetime
    response: Response

    def encode(self) -> bytes:
        """The canonical bytes: what is kept, and a digest of it."""
        kept = {
            "body": to_base64(self.response.body),
            "headers": [[name, value] for name, value in self.response.headers],
            "key": self.key,
            "status": self.response.status,
            "time": int(self.time.timestamp()),
        }
        return encode({"kept": kept, "sha256": hashlib.sha256(encode(kept)).hexdigest()})

    @classmethod
    def parse(cls, data: bytes) -> "Kept":
        """Undo :meth:`encode`, to the second.

        Raises:
            MalformedEvidence: anything but the canonical encoding with the right digest.
        """
        members = as_object(decode(data, limit=MAX_FILE).get("kept"))
        key, status, time = members.get("key"), members.get("status"), members.get("time")
        if not (isinstance(key, str) and isinstance(status, int) and isinstance(time, int)):
            raise MalformedEvidence("a kept answer lacks a member")
        headers = tuple(_header(pair) for pair in as_list(members.get("headers"), limit=MAX_HEADERS))
        try:
            kept = cls(
                key=key,
                time=datetime.fromtimestamp(time, UTC),
                response=Response(status, headers, from_base64(members.get("body"))),
            )
            if kept.encode() == data:
                return kept
        except (ValueError, OverflowError, OSError):
            pass  # a time beyond the calendar, or text that is none
        raise MalformedEvidence("a kept answer is damaged")


@dataclass(frozen=True, slots=True)
class CachedTransport:
    """A transport before ``transport`` that keeps its answers in ``folder``.

    ``now`` is the clock; ``lifetimes`` says how long an answer of each kind is given without asking again, and a kind
    that is not in it is never kept. The oldest answers go when there are more than ``max_files`` or ``max_bytes``.
    """

    transport: Transport
    folder: Path
    now: Callable[[], datetime]
    lifetimes: Mapping[Kind, timedelta] = field(default_factory=lambda: LIFETIMES)
    deadline: float = UPSTREAM_DEADLINE
    max_files: int = MAX_FILES
    max_bytes: int = MAX_BYTES

    async def fetch(self, request: Request) -> Response:
        """The kept answer while it is fresh, a new one otherwise, and the old one when no new one is to be had.

        Raises:
            TransportFailed: there is neither.
            UnsafeFolder: other users may read or write the folder.
        """
        lifetime = self.lifetimes.get(request.kind)
        if lifetime is None:
            return await self.transport.fetch(request)
        kept = await asyncio.to_thread(load, self.folder, request)
        if kept is not None and timedelta(0) <= self.now() - kept.time < lifetime:
            return kept.response
        response = await self._ask(request)
        if response is not None and response.status == 200 and request.accepts(response):
            await asyncio.to_thread(self._save, Kept(key(request), self.now(), response))
            return response
        if kept is not None and (response is None or not _is_final(response)):
            return kept.response
        if response is None:
            raise TransportFailed("no answer, and none is kept")
        return response

    async def _ask(self, request: Request) -> Response | None:
        try:
            async with asyncio.timeout(self.deadline):
                return await self.transport.fetch(request)
        except (TransportFailed, TimeoutError):
            return None

    def _save(self, kept: Kept) -> None:
        with contextlib.suppress(OSError, UnicodeEncodeError):
            save(self.folder, kept)
            evict(self.folder, max_files=self.max_files, max_bytes=self.max_bytes)


def key(request: Request) -> str:
    """The name under which the answer to a request is kept. Headers do not change what these services answer."""
    parts = (request.method.encode(), request.url.encode(), request.body)
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hashlib.sha256(framed).hexdigest()


def load(folder: Path, request: Request) -> Kept | None:
    """The answer that is kept for a request, however old; ``None`` if there is none, whole and of the right form.

    Raises:
        UnsafeFolder: other users may read or write the folder.
    """
    name = key(request)
    _check(folder)
    try:
        kept = Kept.parse(_read(folder / f"{name}.json"))
    except (OSError, MalformedEvidence):
        return None
    right = kept.key == name and kept.response.status == 200 and request.accepts(kept.response)
    return kept if right else None


def save(folder: Path, kept: Kept) -> None:
    """Keep an answer, in place of the one before; one that is too large is not kept.

    Raises:
        OSError: the folder cannot be written.
        UnicodeEncodeError: a header is no text.
        UnsafeFolder: other users may read or write it.
    """
    data = kept.encode()
    if len(data) > MAX_FILE or len(kept.response.headers) > MAX_HEADERS:
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(folder)
    publish(write_beside(folder, kept.key, data, kept.time), folder / f"{kept.key}.json")


def write_beside(folder: Path, name: str, data: bytes, time: datetime) -> Path:
    """Write a file under a name that nobody reads, down to the disk, and date it; only its owner may read it.

    Raises:
        OSError: the folder cannot be written; nothing is left behind.
    """
    descriptor, path = tempfile.mkstemp(prefix=f"{name}.", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.utime(file.fileno(), (time.timestamp(), time.timestamp()))
            os.fsync(file.fileno())
    except OSError:
        Path(path).unlink(missing_ok=True)
        raise
    return Path(path)


def publish(written: Path, final: Path) -> None:
    """Give a written file its name: whoever reads that sees the old file or the new one, whole.

    Raises:
        OSError: the name could not be given; nothing is left behind.
    """
    try:
        written.replace(final)
    except OSError:
        written.unlink(missing_ok=True)
        raise
    descriptor = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def evict(folder: Path, *, max_files: int, max_bytes: int) -> None:
    """Remove the oldest files of the cache until the rest is few and small enough; files of others are left alone.

    A file that another process is writing may be among them: it then finds nothing to name, and does not keep its
    answer.

    Raises:
        OSError: the folder cannot be read or written.
    """
    files: list[tuple[int, int, Path]] = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if _OURS.fullmatch(path.name):
                status = path.lstat()
                files.append((status.st_mtime_ns, status.st_size, path))
    files.sort(reverse=True)
    total = 0
    for place, (_, size, path) in enumerate(files):
        total += size
        if place >= max_files or total > max_bytes:
            path.unlink(missing_ok=True)


def _is_final(response: Response) -> bool:
    """Whether the vendor itself said that there is no such document; all else may be said by a proxy, or pass."""
    return response.status in (404, 410)


def _check(folder: Path) -> None:
    with contextlib.suppress(OSError):  # without a look into the folder nothing is read or kept
        if folder.stat().st_mode & 0o077:
            raise UnsafeFolder


def _read(path: Path) -> bytes:
    # Without waiting: the name may be a pipe. A link is not followed.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MalformedEvidence("a kept answer is no file")
        return file.read(MAX_FILE + 1)


def _header(pair: object) -> tuple[str, str]:
    match pair:
        case [str(name), str(value)]:
            return name, value
        case _:
            raise MalformedEvidence("a header is not a name and a value")
