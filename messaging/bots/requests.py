"""What a request carries: parameters as JSON, forms or a query, and files, which go to a folder until the request is answered.

Everything is bounded in size and time, and nothing that cannot be read is repeated to anybody.
"""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from messaging.bots.errors import BadRequest, TooLarge, TooSlow
from messaging.bots.limits import BODY_SECONDS, FILE_SECONDS, MAX_BODY, MAX_DEPTH, MAX_FIELDS, MAX_FILE, MAX_FILES
from messaging.bots.sending import Upload

_CHUNK = 64 * 1024
_FOR_FIELDS = 8 * 1024  # what a multipart body has around its fields
_MALFORMED = "Bad Request: can't parse the request"


@dataclass(frozen=True, slots=True)
class Intake:
    """Where files of requests go, and how large one may be; ``seconds`` bound a body without files, and one with."""

    folder: Path
    max_file: int = MAX_FILE
    body_seconds: float = BODY_SECONDS
    file_seconds: float = FILE_SECONDS


@dataclass(frozen=True, slots=True)
class Given:
    """The parameters and the files of one request."""

    parameters: dict[str, Any] = field(default_factory=dict, repr=False)
    files: dict[str, Upload] = field(default_factory=dict, repr=False)


@asynccontextmanager
async def read_request(request: web.BaseRequest, intake: Intake) -> AsyncIterator[Given]:
    """Read a request; its files are there until the end of the block.

    Raises:
        BadRequest: it cannot be read.
        TooLarge, TooSlow: it is beyond a limit.
    """
    given = Given(_fields(request.query_string))
    kind = request.content_type if request.can_read_body else ""
    try:
        await _read(request, kind, intake, given)
        yield given
    finally:
        for upload in given.files.values():
            upload.path.unlink(missing_ok=True)


async def _read(request: web.BaseRequest, kind: str, intake: Intake, given: Given) -> None:
    try:
        if kind == "multipart/form-data":
            async with asyncio.timeout(intake.file_seconds):
                await _read_parts(request, intake, given)
        else:
            async with asyncio.timeout(intake.body_seconds):
                given.parameters.update(_read_body(kind, await _body(request)))
    except TimeoutError:
        raise TooSlow from None


async def _body(request: web.BaseRequest) -> bytes:
    if (request.content_length or 0) > MAX_BODY:
        raise TooLarge
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge from None


def _read_body(kind: str, body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    match kind:
        case "application/json":
            return read_json(body)
        case "application/x-www-form-urlencoded":
            return _fields(_text(body))
        case _:
            raise BadRequest("Bad Request: a body is JSON or a form")


def read_json(body: bytes | str) -> dict[str, Any]:
    """A JSON object that is not too deep.

    Raises:
        BadRequest: something else.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(_MALFORMED) from None
    if not isinstance(found, dict) or len(found) > MAX_FIELDS or _depth(found) > MAX_DEPTH:
        raise BadRequest(_MALFORMED)
    return found


def _depth(value: Any) -> int:  # noqa: ANN401 - JSON
    deep, level = [value], 0
    while deep and level <= MAX_DEPTH:
        level += 1
        deep = [
            inner
            for each in deep
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return level


def _fields(text: str) -> dict[str, Any]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS))
    except ValueError:
        raise BadRequest(_MALFORMED) from None


def _text(data: bytes | bytearray) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise BadRequest(_MALFORMED) from None


# --- forms with files ---


async def _read_parts(request: web.BaseRequest, intake: Intake, given: Given) -> None:
    size = 0
    try:
        reader: MultipartReader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or not part.name:
                raise BadRequest(_MALFORMED)
            if len(given.files) + len(given.parameters) >= MAX_FIELDS:
                raise TooLarge
            if part.filename is None:
                value = await _read_field(part, MAX_BODY - size)
                size += len(value)
                given.parameters[part.name] = _text(value)
            else:
                await _read_file(part, intake, given)
    except (ValueError, HttpProcessingError, AssertionError, RuntimeError):  # the last: a _charset_ that is too long
        raise BadRequest(_MALFORMED) from None


async def _read_field(part: BodyPartReader, most: int) -> bytes:
    read = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        read += chunk
        if len(read) > most:
            raise TooLarge
    return bytes(read)


async def _read_file(part: BodyPartReader, intake: Intake, given: Given) -> None:
    if len(given.files) >= MAX_FILES or part.name in given.files:
        raise TooLarge
    path = intake.folder / secrets.token_hex(16)
    given.files[part.name or ""] = Upload(path, part.filename or "", part.headers.get("Content-Type", ""))
    size = 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := await part.read_chunk(_CHUNK):
            size += len(chunk)
            if size > intake.max_file:
                raise TooLarge
            await asyncio.to_thread(file.write, chunk)
