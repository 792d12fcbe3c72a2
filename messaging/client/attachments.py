"""Uploads and downloads of encrypted files, of any size in little memory, each of which goes on where it was interrupted.

Before the first byte of an upload leaves, the store holds what it was begun with, under the name of the file's content; so the same
call after a crash finds it and sends what is missing, and a file with other content gets a secret of its own. While a file is sent,
each chunk is proved to be the one that the file had when its upload began, before it is encrypted (``client.attachment_cipher``).

A download is kept as ciphertext beside its destination until it is whole and proved. The relay, which can answer whatever it likes,
gets no credentials here but for the upload form; it is asked where the SDK reaches it, wherever it says that its uploads go.
"""

import asyncio
import json
import os
import random
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO, Self, TypeVar
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from messaging.client.account import Account
from messaging.client.attachment_cipher import IV, Survey, chunks_of, seal, sealed_length, unseal
from messaging.client.connection import FIRST_DELAY, LAST_DELAY, REQUEST_DEADLINE, Relay
from messaging.client.errors import (
    AttachmentChanged,
    AttachmentCorrupt,
    AttachmentMissing,
    AttachmentTooLarge,
    ClientError,
    CredentialsRevoked,
    RelayRefused,
    RelayUnreachable,
    UploadRefused,
)
from messaging.client.stores import Store, StoreTransaction
from messaging.wire.attachments import TUS_CDN, UploadForm
from messaging.wire.data import AttachmentPointer
from messaging.wire.errors import WireError
from messaging.wire.frames import Response
from messaging.wire.json import decode_base64, encode_base64
from messaging.wire.limits import ATTACHMENT_SECRET, MAX_CONTENT_TYPE, MAX_FILE_NAME

PATIENCE = 120.0  # seconds without a new byte until an upload or a download gives up
STALLED = 30.0  # seconds without a new byte until a connection counts as broken
MAX_SIZE = 2**32 - 1  # bytes of a file: what a pointer can say
MAX_STARTS = 3  # of one upload whose file changes, or which the relay forgets
UPLOAD_LIFETIME = 24 * 60 * 60 * 1000  # milliseconds until the relay forgets an upload
UPLOADS = "upload"

_TUS = {"Tus-Resumable": "1.0.0"}
_BYTES = "application/offset+octet-stream"
_SENT_AT_ONCE = 64 * 1024  # between two of these it shows whether the connection takes any more
_READ_AT_ONCE = 256 * 1024
_UNFINISHED = (408, 409, 423)  # answers to a part of an upload after which to ask how much has arrived
_GONE = (401, 403, 404, 410)  # an upload whose permission or whose beginning the relay does not know any more
_KEY = re.compile(r"[A-Za-z0-9_=-]{1,128}")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_HEADERS = ("authorization", "upload-metadata")  # those of a form that an upload needs
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_NO_TOTAL = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_DEADLINE)
# Not every OSError: what the disk says is not the relay's doing.
_BROKEN = (aiohttp.ClientError, ConnectionError, TimeoutError)
_ALL = ("all",)  # the family of all uploads

Source = Path | bytes
Progress = Callable[[int, int], None]
T = TypeVar("T")


class _StartAgain(Exception):
    """An upload does not go on, and another one may; ``why`` is for who has had too many of them."""

    def __init__(self, why: ClientError) -> None:
        self.why = why


@dataclass(frozen=True, slots=True)
class _Upload:
    """What an upload was begun with. ``name`` is that of the file's content, ``until`` milliseconds since 1970."""

    name: str
    secret: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    key: str = field(repr=False)
    location: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    until: int

    def save(self, transaction: StoreTransaction) -> None:
        """Write it down."""
        members = {
            "name": self.name,
            "secret": encode_base64(self.secret),
            "iv": encode_base64(self.iv),
            "key": self.key,
            "location": self.location,
            "headers": dict(self.headers),
            "until": self.until,
        }
        transaction.put(UPLOADS, self.name, record=json.dumps(members).encode(), family=_ALL)

    @classmethod
    def load(cls, record: bytes) -> Self:
        """Read it."""
        members = json.loads(record)
        secret, iv = decode_base64(members.pop("secret")), decode_base64(members.pop("iv"))
        return cls(secret=secret, iv=iv, **members)


class _Patience:
    """Waits longer each time, until nothing has moved for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.moved()

    def moved(self) -> None:
        """Something has moved."""
        self._delay = FIRST_DELAY
        self._ends = time.monotonic() + self._seconds

    async def pause(self, otherwise: ClientError, at_least: float = 0.0) -> None:
        """Wait, or raise ``otherwise`` if that would be for too long."""
        wait = max(at_least, self._delay * random.uniform(0.5, 1.5))  # noqa: S311  # jitter, not a secret
        if time.monotonic() + wait >= self._ends:
            raise otherwise
        await asyncio.sleep(wait)
        self._delay = min(self._delay * 2, LAST_DELAY)


def _unheard(_done: int, _total: int) -> None:
    """Progress that nobody asked for."""


class Attachments:
    """The uploads and downloads of one device. ``progress`` hears of bytes that have passed, and of how many there are.

    ``patience`` is seconds without a new byte after which a call gives up, and ``now`` gives milliseconds since 1970.
    """

    def __init__(
        self, relay: Relay, account: Account, store: Store, *, now: Callable[[], int], patience: float = PATIENCE
    ) -> None:
        self._relay = relay
        self._account = account
        self._store = store
        self._now = now
        self._patience = patience
        self._downloads: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    # --- uploads ---

    async def upload(
        self, source: Source, *, content_type: str, file_name: str = "", progress: Progress = _unheard
    ) -> AttachmentPointer:
        """Encrypt and upload a regular file, or bytes; returns what to send to those who may have it.

        After an error that may pass, and after a crash, the same call with the same content goes on where it was, for a day.
        ``content_type`` and ``file_name`` are told to the receivers alone.

        Raises:
            AttachmentTooLarge: the relay takes no file of this size; nothing was sent.
            AttachmentChanged: the file did not hold still.
            UploadRefused: the relay did not take it.
            RelayUnreachable: nothing has moved for ``patience`` seconds.
            CredentialsRevoked: this device is not registered any more.
            OSError: the file cannot be read.
            ValueError: ``content_type`` or ``file_name`` is longer than 255 characters.
        """
        if len(content_type) > MAX_CONTENT_TYPE or len(file_name) > MAX_FILE_NAME:
            raise ValueError("content type and file name have at most 255 characters")
        why: ClientError = AttachmentChanged()
        for _ in range(MAX_STARTS):
            try:
                pointer = await self._upload(source, progress)
            except _StartAgain as again:
                why = again.why
            else:
                return replace(pointer, content_type=content_type, file_name=file_name)
        raise why

    async def _upload(self, source: Source, progress: Progress) -> AttachmentPointer:
        survey = await _in_thread(lambda: _survey(source))
        upload = await self._find(survey) or await self._begin(survey)
        try:
            digest = await self._send(source, survey, upload, progress)
        except (_StartAgain, UploadRefused) as error:
            if not (isinstance(error, UploadRefused) and error.passes):
                await self._forget(upload)
            raise
        await self._forget(upload)
        return AttachmentPointer(TUS_CDN, upload.key, upload.secret, digest, survey.size, content_type="")

    async def _find(self, survey: Survey) -> _Upload | None:
        """The upload of this content that was begun before; forgets all those that the relay will not know any more."""
        now, found = self._now(), None
        async with self._store.transaction() as transaction:
            for upload in map(_Upload.load, transaction.family(UPLOADS, *_ALL)):
                if upload.until <= now:
                    transaction.delete(UPLOADS, upload.name)
                elif upload.name == survey.name:
                    found = upload
        return found

    async def _begin(self, survey: Survey) -> _Upload:
        """Have the relay expect an upload, and write down how it is to be sent."""
        length = sealed_length(survey.size)
        until = self._now() + UPLOAD_LIFETIME  # the relay counts from later on
        form = await self._ask_for_form(length)
        asked = self._here(form.signed_upload_location)
        headers = {name: value for name, value in form.headers.items() if name.lower() in _HEADERS}
        if form.cdn != TUS_CDN or not _KEY.fullmatch(form.key) or not all(map(_PRINTABLE.fullmatch, headers.values())):
            raise UploadRefused(200)
        upload = _Upload(
            survey.name,
            secrets.token_bytes(ATTACHMENT_SECRET),
            secrets.token_bytes(IV),
            form.key,
            str(asked),
            headers,
            until,
        )
        answer = await self._until_answered(lambda: self._tus("POST", upload, {"Upload-Length": str(length)}))
        if answer.status == 409:  # an earlier request has arrived, and its answer, with the location, has not
            raise _StartAgain(UploadRefused(409))
        if answer.status != 201 or "location" not in answer.headers:
            raise UploadRefused(answer.status)
        upload = replace(upload, location=str(self._here(answer.headers["location"], asked)))
        async with self._store.transaction() as transaction:
            upload.save(transaction)
        return upload

    async def _ask_for_form(self, length: int) -> UploadForm:
        path = f"/v4/attachments/form/upload?uploadLength={length}"
        headers = {"Authorization": self._account.authorization}
        answer = await self._until_answered(lambda: self._relay.request("GET", path, headers=headers))
        match answer.status:
            case 200:
                try:
                    return UploadForm.from_json(answer.body or b"")
                except WireError:
                    raise UploadRefused(200) from None
            case 401:
                raise CredentialsRevoked
            case 413:
                raise AttachmentTooLarge
            case status:
                raise UploadRefused(status)

    def _here(self, location: str, base: URL | None = None) -> URL:
        """A location at the relay, wherever that says it is: no relay makes this device ask another server for anything."""
        try:
            url = URL(location) if base is None else base.join(URL(location))
            return URL(self._relay.url).with_path(url.raw_path, encoded=True)
        except ValueError:
            raise UploadRefused(200) from None

    async def _send(self, source: Source, survey: Survey, upload: _Upload, progress: Progress) -> bytes:
        """Send what the relay does not have; returns the digest of everything."""
        total, at, digest = sealed_length(survey.size), 0, sha256()
        waits = _Patience(self._patience)
        have = await self._received(upload, total)
        progress(have, total)
        with closing(_sealed(source, survey, upload)) as pieces:
            while piece := await _in_thread(lambda: next(pieces, b"")):
                digest.update(piece)
                at += len(piece)
                while have < at:
                    have = await self._move(upload, piece, at, have, total, waits)
                    progress(have, total)
        return digest.digest()

    async def _move(self, upload: _Upload, piece: bytes, end: int, have: int, total: int, waits: _Patience) -> int:
        """Try to send the rest of a piece, which ends at ``end``; returns how much the relay has then."""
        missing = end - have
        if missing > len(piece):
            raise _StartAgain(UploadRefused(409))  # it has lost what it had
        now_has = await self._patch(upload, have, piece[-missing:])
        if now_has is None:
            now_has = await self._received(upload, total)
        if now_has > have:
            waits.moved()
        else:
            await waits.pause(RelayUnreachable())
        return now_has

    async def _patch(self, upload: _Upload, offset: int, data: bytes) -> int | None:
        """Send bytes; returns how much the relay has then, or ``None`` if that has to be asked for."""
        headers = {"Content-Type": _BYTES, "Upload-Offset": str(offset), "Content-Length": str(len(data))}
        try:
            answer = await self._tus("PATCH", upload, headers, data)
        except RelayUnreachable:
            return None
        if answer.status in _UNFINISHED or _passes(answer.status):
            return None
        if answer.status == 204:
            return _offset(answer, offset + len(data))
        raise _StartAgain(UploadRefused(answer.status)) if answer.status in _GONE else UploadRefused(answer.status)

    async def _received(self, upload: _Upload, total: int) -> int:
        """How much the relay has."""
        answer = await self._until_answered(lambda: self._tus("HEAD", upload, {}))
        if answer.status == 200:
            return _offset(answer, total)
        raise _StartAgain(UploadRefused(answer.status)) if answer.status in _GONE else UploadRefused(answer.status)

    async def _tus(self, verb: str, upload: _Upload, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """One request. Its answer has a status and headers, which is all that the protocol needs.

        Raises:
            RelayUnreachable: no answer, or for too long nothing was taken.
        """
        sent = {**upload.headers, **_TUS, **headers}
        async with self._asked(verb, URL(upload.location, encoded=True), sent, body) as (answer, _):
            received = {name.lower(): value for name, value in answer.headers.items()}
            return Response(0, answer.status, "", received, None)

    async def _until_answered(self, ask: Callable[[], Awaitable[Response]]) -> Response:
        """Ask until there is an answer that does not say to come back later."""
        waits = _Patience(self._patience)
        while True:
            try:
                answer = await ask()
            except RelayUnreachable as error:
                await waits.pause(error)
                continue
            if not _passes(answer.status):
                return answer
            await waits.pause(UploadRefused(answer.status), _seconds(answer.headers.get("retry-after")))

    async def _forget(self, upload: _Upload) -> None:
        async with self._store.transaction() as transaction:
            transaction.delete(UPLOADS, upload.name)

    # --- downloads ---

    async def download(self, pointer: AttachmentPointer, to: Path, *, progress: Progress = _unheard) -> None:
        """Download a file to ``to``, which appears, or is replaced, once it is whole and proved to be what the sender meant.

        Until then the folder holds ciphertext in a hidden file, with which the same call goes on after an error or a crash. All
        of it takes as much room as the pointer says, and for a moment twice as much: look at ``size`` first. Where the file goes
        is for the application to say; ``file_name`` is what a peer calls it, and no path.

        Raises:
            AttachmentMissing: the relay has no such attachment.
            AttachmentCorrupt: it is not what the pointer describes; nothing is left of it.
            RelayRefused: the relay does not give it out.
            RelayUnreachable: nothing has come for ``patience`` seconds.
            OSError: it cannot be written.
        """
        hidden = sha256(pointer.digest + os.fsencode(to.name)).hexdigest()[:32]
        part, fresh = to.with_name(f".{hidden}.part"), to.with_name(f".{hidden}.new")
        lock = self._downloads.setdefault(part.absolute(), asyncio.Lock())  # two would write one file
        async with lock:
            with await _in_thread(lambda: _open_part(part)) as sealed:
                goes_on = False
                try:
                    await self._fetch(pointer, sealed, progress)
                    await _in_thread(lambda: _unseal_to(sealed, pointer, fresh, to))
                except (AttachmentCorrupt, AttachmentMissing):
                    raise
                except BaseException:
                    goes_on = sealed.tell() > 0
                    raise
                finally:
                    if not goes_on:
                        part.unlink(missing_ok=True)

    async def read(self, pointer: AttachmentPointer, *, most: int) -> bytes:
        """Download a file into memory.

        Raises:
            AttachmentTooLarge: it has more than ``most`` bytes; nothing was asked for.
            AttachmentMissing, AttachmentCorrupt, RelayRefused, RelayUnreachable: as :meth:`download`.
        """
        if pointer.size > most:
            raise AttachmentTooLarge
        sealed = BytesIO()
        await self._fetch(pointer, sealed, _unheard)
        return await _in_thread(lambda: b"".join(_unsealed(sealed, pointer)))

    async def _fetch(self, pointer: AttachmentPointer, sealed: BinaryIO, progress: Progress) -> None:
        """Fill ``sealed``, which holds the beginning, with as many bytes as there have to be."""
        if pointer.cdn != TUS_CDN or not _KEY.fullmatch(pointer.key):
            raise AttachmentMissing
        url, total = URL(f"{self._relay.url}/attachments/{pointer.key}"), sealed_length(pointer.size)
        have = sealed.seek(0, SEEK_END)
        waits = _Patience(self._patience)
        while have < total:
            refused: ClientError = RelayUnreachable()
            wait = 0.0
            try:
                await self._fetch_some(url, sealed, have, total, progress)
            except RelayUnreachable:
                pass
            except _Busy as busy:
                refused, wait = RelayRefused(busy.status), busy.seconds
            before, have = have, sealed.tell()
            if have > before:
                waits.moved()
            else:
                await waits.pause(refused, wait)

    async def _fetch_some(self, url: URL, sealed: BinaryIO, have: int, total: int, progress: Progress) -> None:
        """One request for everything from ``have`` on; writes what comes of it.

        Raises:
            RelayUnreachable: the connection broke, or there was none.
            AttachmentCorrupt: there is more, or less, than there has to be.
        """
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        async with self._asked("GET", url, headers) as (answer, watch):
            have = _first_byte(answer.status, answer.headers, have, total)
            if have != sealed.tell():
                sealed.seek(have)
                sealed.truncate()
            progress(have, total)
            while some := await answer.content.read(_READ_AT_ONCE):
                watch.moved()
                have += len(some)
                if have > total:
                    raise AttachmentCorrupt
                await _in_thread(partial(sealed.write, some))
                progress(have, total)

    # --- both ---

    @asynccontextmanager
    async def _asked(
        self, verb: str, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, "_Watch"]]:
        """The answer to one request, whose connection counts as broken if for too long nothing moves on it."""
        seconds = min(STALLED, self._patience)
        try:
            async with asyncio.timeout(seconds) as timeout:
                watch = _Watch(timeout, seconds)
                async with self._relay.session.request(
                    verb,
                    url,
                    data=None if body is None else _trickle(body, watch),
                    headers=headers,
                    allow_redirects=False,
                    auto_decompress=False,
                    timeout=_NO_TOTAL,
                ) as answer:
                    watch.moved()
                    yield answer, watch
        except _BROKEN:
            raise RelayUnreachable from None


@dataclass(frozen=True, slots=True)
class _Watch:
    """Ends a request on whose connection nothing has moved for ``seconds``."""

    timeout: asyncio.Timeout
    seconds: float

    def moved(self) -> None:
        """Something has moved."""
        with suppress(RuntimeError):  # the request is over
            self.timeout.reschedule(asyncio.get_running_loop().time() + self.seconds)


class _Busy(Exception):
    """The relay says to come back after so many seconds."""

    def __init__(self, status: int, seconds: float) -> None:
        self.status = status
        self.seconds = seconds


async def _trickle(body: bytes, watch: _Watch) -> AsyncIterator[bytes]:
    """``body`` in small parts, each of which shows that the one before it was taken."""
    for start in range(0, len(body), _SENT_AT_ONCE):
        watch.moved()
        yield body[start : start + _SENT_AT_ONCE]


def _survey(source: Source) -> Survey:
    """What is to be uploaded, read once.

    Raises:
        AttachmentTooLarge: no pointer can name a file of this size.
    """

    def bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > MAX_SIZE:
                raise AttachmentTooLarge
            yield chunk

    with _opened(source) as file:
        return Survey.of(bounded(chunks_of(file)))


def _sealed(source: Source, survey: Survey, upload: _Upload) -> Generator[bytes, None, None]:
    """Everything that is to be uploaded, in pieces."""
    with _opened(source) as file:
        chunks = survey.check(chunks_of(file))
        try:
            yield from seal(chunks, size=survey.size, secret=upload.secret, iv=upload.iv)
        except AttachmentChanged as error:
            raise _StartAgain(error) from None


def _opened(source: Source) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _first_byte(status: int, headers: Mapping[str, str], have: int, total: int) -> int:
    """Where the body of an answer begins, if it can be what is missing from ``have`` on of ``total`` bytes.

    Raises:
        AttachmentMissing, AttachmentCorrupt: there is no such attachment, or not one of this size.
        RelayRefused: no relay answers so, or this one does not give it out.
        _Busy: not now.
    """
    match status:
        case 200:
            _check_length(headers, total)
            return 0
        case 206 if have:
            found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if found is None or (int(found[1]), int(found[2]) + 1) != (have, int(found[3])):
                raise RelayRefused(206)
            if int(found[3]) != total:
                raise AttachmentCorrupt
            _check_length(headers, total - have)
            return have
        case 416 if have:
            raise AttachmentCorrupt  # it ends before
        case 404 | 410:
            raise AttachmentMissing
        case _ if _passes(status):
            raise _Busy(status, _seconds(headers.get("Retry-After")))
        case _:
            raise RelayRefused(status)


def _check_length(headers: Mapping[str, str], expected: int) -> None:
    if headers.get("Content-Length", str(expected)) != str(expected):
        raise AttachmentCorrupt


def _offset(answer: Response, most: int) -> int:
    """How much the relay says it has, which is no more than ``most``."""
    text = answer.headers.get("upload-offset", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) <= most):
        raise UploadRefused(answer.status)
    return int(text)


def _passes(status: int) -> bool:
    return status == 429 or status >= 500


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isascii() and text.isdigit() else 0.0


def _open_part(part: Path) -> BinaryIO:
    return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b")


def _unsealed(sealed: BinaryIO, pointer: AttachmentPointer) -> Iterator[bytes]:
    return unseal(sealed, size=pointer.size, secret=pointer.secret, digest=pointer.digest)


def _unseal_to(sealed: BinaryIO, pointer: AttachmentPointer, fresh: Path, to: Path) -> None:
    """Prove and decrypt what was downloaded; ``fresh`` is the file until it is whole."""
    fresh.unlink(missing_ok=True)  # of a process that was killed here
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
            for some in _unsealed(sealed, pointer):
                file.write(some)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(to)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


async def _in_thread(work: Callable[[], T]) -> T:
    """Do ``work`` in a thread, and wait for it also when cancelled: its file is nobody else's until it is done."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        running.exception()  # cancelled is what this is, whatever became of it
        raise
