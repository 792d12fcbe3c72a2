"""Uploads and downloads over HTTP: streamed, so that no attachment is ever in memory as a whole.

Uploads follow tus 1.0.0 (https://tus.io/protocols/resumable-upload) with its extensions creation, creation-with-upload and
expiration. Downloads need the key and nothing else; an upload that is not whole cannot be downloaded.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web

from messaging.relay.attachments.handlers import UPLOADS_PATH
from messaging.relay.attachments.ranges import Unsatisfiable, range_of
from messaging.relay.attachments.service import AttachmentService
from messaging.relay.attachments.tables import Attachment, hash_key
from messaging.relay.errors import (
    MalformedRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PreconditionFailed,
    RequestTimeout,
    UnsupportedMediaType,
)
from messaging.relay.http import Answer, answer_of, outcome_of
from messaging.relay.limits import Limit, RateLimits, headers_of, usage_noted
from messaging.serving.logs import get_logger, milliseconds_since

DOWNLOADS_PATH = "/attachments"
TUS = "1.0.0"
OFFSET_TYPE = "application/offset+octet-stream"
PAUSE_SECONDS = 60  # without a byte of a body
_READ_AT_ONCE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Transfers:
    """Answers requests for ``/upload/attachments`` and ``/attachments``."""

    attachments: AttachmentService
    limits: RateLimits

    def serves(self, path: str) -> bool:
        """Whether a path belongs here."""
        return f"{path}/".startswith((f"{UPLOADS_PATH}/", f"{DOWNLOADS_PATH}/"))

    async def serve(self, request: web.BaseRequest, path: str, remote: str) -> web.StreamResponse:
        """Answer one request."""
        started = time.perf_counter()
        route = UPLOADS_PATH if f"{path}/".startswith(f"{UPLOADS_PATH}/") else DOWNLOADS_PATH
        with usage_noted() as usage:
            try:
                await self.limits.take(Limit.REQUESTS, remote)
                key = path.removeprefix(route).strip("/")
                response = await (self._upload if route == UPLOADS_PATH else self._download)(request, key)
            except ConnectionError:
                raise  # the peer is gone: there is nobody to answer
            except Exception as error:  # noqa: BLE001 - the boundary, as in relay.http
                response = _plain(answer_of(outcome_of(error)))
                if route == UPLOADS_PATH:
                    response.headers["Tus-Resumable"] = TUS
                response.force_close()  # the rest of the body is not read
        if not response.prepared:
            response.headers.update(headers_of(usage))
        duration = milliseconds_since(started)
        get_logger().info("call", route=route, verb=request.method, status=response.status, duration_ms=duration)
        return response

    async def _upload(self, request: web.BaseRequest, key: str) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return _tus(
                204, {"Tus-Version": TUS, "Tus-Extension": "creation,creation-with-upload,expiration"} | self._size
            )
        if request.headers.get("Tus-Resumable") != TUS:
            raise PreconditionFailed
        match request.method:
            case "POST" if key == "":
                return await self._create(request)
            case "HEAD":
                self.attachments.check(key, _token(request.headers))
                upload = await self.attachments.find(key)
                more = {"Upload-Length": str(upload.length), "Cache-Control": "no-store"}
                return _tus(200, more | _progress(upload))
            case "PATCH":
                self.attachments.check(key, _token(request.headers))
                if request.headers.get("Content-Type") != OFFSET_TYPE:
                    raise UnsupportedMediaType
                offset = _whole_number(request.headers.get("Upload-Offset"))
                upload = await self.attachments.append(key, offset, _body(request))
                return _tus(204, _progress(upload))
            case _:
                raise MethodNotAllowed({"POST"} if key == "" else {"HEAD", "PATCH"})

    async def _create(self, request: web.BaseRequest) -> web.StreamResponse:
        key = _key_in(request.headers.get("Upload-Metadata", ""))
        permitted = self.attachments.check(key, _token(request.headers))
        length = _whole_number(request.headers.get("Upload-Length"))
        upload = await self.attachments.begin(key, length, permitted)
        if request.headers.get("Content-Type") == OFFSET_TYPE:
            upload = await self.attachments.append(key, 0, _body(request))
        return _tus(201, {"Location": f"{UPLOADS_PATH}/{key}"} | _progress(upload))

    @property
    def _size(self) -> dict[str, str]:
        return {"Tus-Max-Size": str(self.attachments.max_length)}

    async def _download(self, request: web.BaseRequest, key: str) -> web.StreamResponse:
        if request.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed({"GET", "HEAD"})
        attachment = await self.attachments.find(key)
        if not attachment.whole:
            raise NotFound
        tag = f'"{hash_key(key).hex()}"'  # what is under a key never changes
        headers = {
            "ETag": tag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Type": "application/octet-stream",
            "X-Content-Type-Options": "nosniff",
            "Server": "subrosa",
        }
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        wanted = request.headers.get("Range") if request.headers.get("If-Range", tag) == tag else None
        try:
            part = range_of(wanted, attachment.length)
        except Unsatisfiable:
            headers["Content-Range"] = f"bytes */{attachment.length}"
            return web.Response(status=416, headers=headers)
        first, last = (0, attachment.length - 1) if part is None else (part.first, part.last)
        if part is not None:
            headers["Content-Range"] = f"bytes {first}-{last}/{attachment.length}"
        response = web.StreamResponse(
            status=HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT, headers=headers
        )
        response.content_length = last - first + 1
        await response.prepare(request)
        if request.method == "GET" and last >= first:
            async for some in self.attachments.read(key, first, last):
                await response.write(some)
        await response.write_eof()
        return response


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(PAUSE_SECONDS):
                some = await request.content.read(_READ_AT_ONCE)
        except TimeoutError:
            raise RequestTimeout from None
        if not some:
            return
        yield some


def _token(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated
    return token.strip()


def _key_in(metadata: str) -> str:
    for entry in metadata.split(","):
        name, _, value = entry.strip().partition(" ")
        if name == "filename":
            try:
                return base64.b64decode(value, validate=True).decode("ascii")
            except (binascii.Error, UnicodeDecodeError):
                break
    raise MalformedRequest


def _whole_number(text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise MalformedRequest
    return int(text)


def _progress(upload: Attachment) -> dict[str, str]:
    ends = formatdate(upload.expires_at / 1000, usegmt=True)
    return {"Upload-Offset": str(upload.received)} | ({} if upload.whole else {"Upload-Expires": ends})


def _tus(status: int, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, headers={"Tus-Resumable": TUS, "Server": "subrosa", **headers})


def _plain(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body or None, headers={"Server": "subrosa", **answer.headers})
