"""Attachments over HTTP: a form, an upload that may be interrupted, downloads by range, limits and their end."""

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import DataObject, binary, data, integers, lists

from messaging.relay.attachments import service as module
from messaging.relay.attachments.service import AttachmentService, Permitted
from messaging.relay.attachments.storage import name_piece, open_storage
from messaging.relay.attachments.tables import hash_key
from messaging.relay.database import Database
from messaging.relay.errors import StartupError
from messaging.relay.limits import Bucket, Limit
from tests.devices import Device, MakePeer, Reply
from tests.relays import UNLIMITED, Relays, unlimited

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}


@dataclass
class Upload:
    """An upload by the form that the relay gave."""

    device: Device
    form: dict[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        return str(self.form["key"])

    @property
    def path(self) -> str:
        return f"/upload/attachments/{self.key}"

    async def call(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.device.peer.call(verb, path, body, {**self.form["headers"], **TUS, **named})

    async def create(self, length: int, body: bytes | None = None, **headers: str) -> Reply:
        assert self.form["signedUploadLocation"] == self.device.peer.relay.url + "/upload/attachments"
        more = BYTES if body is not None else {}
        return await self.call("POST", "/upload/attachments", body, Upload_Length=str(length), **more, **headers)

    async def patch(self, offset: int, body: bytes) -> Reply:
        return await self.call("PATCH", self.path, body, Upload_Offset=str(offset), **BYTES)

    async def offset(self) -> int:
        head = await self.call("HEAD", self.path)
        assert head.status == 200
        return int(head.headers["upload-offset"])

    async def download(self, headers: Mapping[str, str] | None = None) -> Reply:
        return await self.device.peer.call("GET", f"/attachments/{self.key}", headers=headers)


async def form(device: Device, length: int | None = None) -> Upload:
    query = "" if length is None else f"?uploadLength={length}"
    reply = await device.call("GET", f"/v4/attachments/form/upload{query}")
    assert reply.status == 200
    assert reply.json()["cdn"] == 3
    return Upload(device, reply.json())


@pytest.fixture
async def uploader(relays: Relays, peer_of: MakePeer, attachments_url: str) -> Device:
    """Somebody at a relay that keeps attachments in a folder, or in S3."""
    return await peer_of(await relays.start("sqlite", attachments_url=attachments_url)).register()


async def test_an_upload_in_one_request_is_downloaded_by_anybody_with_the_key(uploader: Device) -> None:
    content = secrets.token_bytes(100_000)
    upload = await form(uploader, len(content))
    created = await upload.create(len(content), content)
    assert (created.status, created.headers["location"]) == (201, upload.path)
    assert created.headers["upload-offset"] == str(len(content))
    got = await upload.download()
    assert (got.status, got.body) == (200, content)
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["x-content-type-options"] == "nosniff"
    again = await upload.download({"If-None-Match": got.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


async def test_an_interrupted_upload_goes_on_where_it_was(uploader: Device) -> None:
    content = secrets.token_bytes(3000)
    upload = await form(uploader)
    assert (await upload.create(3000)).headers["upload-offset"] == "0"
    assert (await upload.patch(0, content[:1000])).headers["upload-offset"] == "1000"
    assert (await upload.download()).status == 404  # not whole
    for wrong in (0, 999, 1001, 3000):
        assert (await upload.patch(wrong, b"x")).status == 409
    assert await upload.offset() == 1000
    done = await upload.patch(1000, content[1000:])
    assert (done.status, done.headers["upload-offset"]) == (204, "3000")
    assert (await upload.download()).body == content


async def test_a_broken_line_keeps_what_has_arrived(uploader: Device) -> None:
    upload = await form(uploader)
    await upload.create(1_000_000)

    async def half() -> AsyncIterator[bytes]:
        yield b"h" * 300_000
        await asyncio.sleep(0.3)
        raise ConnectionResetError

    headers = {**upload.form["headers"], **TUS, **BYTES, "Upload-Offset": "0", "Content-Length": "1000000"}
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await uploader.peer.http.patch(uploader.peer.relay.url + upload.path, data=half(), headers=headers)
    offset = 0
    for _ in range(100):
        if (offset := await upload.offset()) > 0:
            break
        await asyncio.sleep(0.05)
    assert 0 < offset <= 300_000
    assert (await upload.patch(offset, b"h" * (1_000_000 - offset))).status == 204
    assert (await upload.download()).body == b"h" * 1_000_000


async def test_of_two_that_write_at_once_one_wins_and_nothing_is_mixed(uploader: Device) -> None:
    upload = await form(uploader)
    await upload.create(2000)
    bodies = [bytes([letter]) * 1000 for letter in b"abcdef"]
    replies = await asyncio.gather(*(upload.patch(0, body) for body in bodies))
    assert sorted(reply.status for reply in replies) == [204, *[409] * 5]
    winner = bodies[[reply.status for reply in replies].index(204)]
    await upload.patch(1000, b"z" * 1000)
    assert (await upload.download()).body == winner + b"z" * 1000


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=lists(binary(min_size=1, max_size=300), min_size=1, max_size=6), draw=data())
async def test_any_pieces_come_back_as_one_and_any_range_as_a_slice(
    uploader: Device, monkeypatch: pytest.MonkeyPatch, parts: list[bytes], draw: DataObject
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 128)
    content = b"".join(parts)
    upload = await form(uploader)
    await upload.create(len(content))
    for part in parts:
        assert (await upload.patch(await upload.offset(), part)).status == 204
    assert (await upload.download()).body == content
    first = draw.draw(integers(0, len(content) - 1))
    last = draw.draw(integers(first, len(content) + 5))
    got = await upload.download({"Range": f"bytes={first}-{last}"})
    assert (got.status, got.body) == (206, content[first : last + 1])
    shown = min(last, len(content) - 1)
    assert got.headers["content-range"] == f"bytes {first}-{shown}/{len(content)}"
    tail = draw.draw(integers(1, len(content)))
    assert (await upload.download({"Range": f"bytes=-{tail}"})).body == content[-tail:]


async def test_ranges_follow_the_rules(uploader: Device) -> None:
    upload = await form(uploader)
    await upload.create(10, b"0123456789")
    behind = await upload.download({"Range": "bytes=10-"})
    assert (behind.status, behind.headers["content-range"]) == (416, "bytes */10")
    changed = await upload.download({"Range": "bytes=0-1", "If-Range": '"another"'})
    assert (changed.status, changed.body) == (200, b"0123456789")
    head = await uploader.peer.call("HEAD", f"/attachments/{upload.key}")
    assert (head.status, head.headers["content-length"], head.body) == (200, "10", b"")
    assert (await uploader.peer.call("DELETE", f"/attachments/{upload.key}")).status == 405


async def test_an_empty_attachment_is_an_attachment(uploader: Device) -> None:
    upload = await form(uploader)
    assert (await upload.create(0)).status == 201
    assert (await upload.download()).body == b""


async def test_only_the_form_permits_and_only_once(uploader: Device) -> None:
    upload, other = await form(uploader, 100), await form(uploader, 100)
    assert (await upload.create(101)).status == 413
    assert (await upload.create(100, Authorization=other.form["headers"]["Authorization"])).status == 401
    assert (await upload.create(100, Authorization="Basic eDp5")).status == 401
    assert (await upload.create(100, Authorization="Bearer 999.9999999999999.x")).status == 401
    assert (await upload.create(100)).status == 201
    assert (await upload.create(100)).status == 409
    assert (
        await upload.call("PATCH", upload.path, b"x", Authorization="Bearer x", Upload_Offset="0", **BYTES)
    ).status == 401
    assert (await upload.call("PATCH", upload.path, b"x", Upload_Offset="0")).status == 415
    assert (await upload.patch(0, b"x" * 101)).status == 413
    assert await upload.offset() == 0
    for bad in (
        {"Upload_Length": "-1"},
        {"Upload_Length": "x"},
        {"Upload_Metadata": "nothing"},
        {"Upload_Metadata": "filename !"},
    ):
        headers: dict[str, Any] = {"Upload_Length": "1", **bad}
        assert (await (await form(uploader)).call("POST", "/upload/attachments", **headers)).status == 400


async def test_another_version_of_the_protocol_is_refused(uploader: Device) -> None:
    upload = await form(uploader)
    refused = await upload.create(1, None, Tus_Resumable="0.2.2")
    assert (refused.status, refused.headers["tus-version"]) == (412, "1.0.0")
    options = await uploader.peer.call("OPTIONS", "/upload/attachments")
    assert options.status == 204
    assert options.headers["tus-extension"] == "creation,creation-with-upload,expiration"
    assert int(options.headers["tus-max-size"]) == 100 * 1024 * 1024


async def test_the_largest_attachment_is_bounded(relays: Relays, peer_of: MakePeer) -> None:
    alice = await peer_of(await relays.start("sqlite", max_attachment=1000)).register()
    for length, status in ((1000, 200), (1001, 413), (0, 400)):
        assert await alice.set("GET", f"/v4/attachments/form/upload?uploadLength={length}") == status
    upload = await form(alice)
    assert (await upload.create(1001)).status == 413


async def test_forms_and_bytes_are_rationed(relays: Relays, peer_of: MakePeer) -> None:
    limits = {**UNLIMITED, Limit.ATTACHMENT: Bucket(3, 60), Limit.ATTACHMENT_BYTES: Bucket(1000, 60)}
    alice = await peer_of(await relays.start("sqlite", limits=limits)).register()
    statuses = [await alice.set("GET", f"/v4/attachments/form/upload?uploadLength={n}") for n in (600, 500, 400, 1)]
    assert statuses == [200, 429, 200, 429]


async def test_what_has_expired_is_forgotten_bytes_and_all(database: Database, tmp_path: Path) -> None:
    url = (tmp_path / "store").as_uri()
    now = [1_000_000_000_000]
    service = AttachmentService(
        database, open_storage(url), unlimited(), b"k", lambda: now[0], 1000, timedelta(days=45)
    )

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 10

    for key, length in (("whole", 10), ("half", 20)):
        await service.begin(key, length, Permitted(100))
        await service.append(key, 0, body())
    lost = name_piece(b"l" * 20, 0)  # of a crash
    await service.storage.put(lost, b"lost")
    await service.storage.put("not/of-ours", b"kept")

    def files() -> set[str]:
        return {path.parent.name for path in (tmp_path / "store").rglob("*") if path.is_file()}

    whole, half, orphan = hash_key("whole").hex(), hash_key("half").hex(), lost.partition("/")[0]
    now[0] = int(time.time() * 1000)
    assert files() == {whole, half, orphan, "not"}
    now[0] = 1_000_000_000_000 + 2 * 24 * 60 * 60 * 1000
    await service.sweep()
    assert files() == {whole, orphan, "not"}
    now[0] = int(time.time() * 1000) + 2 * 24 * 60 * 60 * 1000
    await service.sweep()
    assert files() == {"not"}


@pytest.mark.parametrize("url", ["ftp://x/y", "file://", "s3://", "s3:///x", "nonsense", "file:///proc/1/no"])
def test_a_place_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(StartupError, match="attachments"):
        open_storage(url)


async def test_no_key_and_no_content_reaches_a_log(uploader: Device, capfd: pytest.CaptureFixture[str]) -> None:
    upload = await form(uploader)
    await upload.create(5, b"CANAR")
    await upload.download()
    logged = capfd.readouterr()
    for secret in (
        upload.key,
        "CANAR",
        upload.form["headers"]["Authorization"],
        base64.b64encode(upload.key.encode()).decode(),
    ):
        assert secret not in logged.out + logged.err
