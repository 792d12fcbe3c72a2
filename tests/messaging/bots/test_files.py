"""Files that are downloaded through the gateway: bounded in size and time, and nothing is left of them."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from messaging.client.errors import RelayUnreachable
from messaging.client.testing import MemoryAccount
from messaging.wire.data import AttachmentPointer
from tests.messaging.bots.gateways import Api, running_api, until


async def link_to_a_file(api: Api, data: bytes) -> str:
    """Where a file can be had that Alice sent."""
    conversation = await api.private()
    pointer = api.world.relay.upload(data, content_type="text/plain", file_name="a.txt")
    api.world.relay.say(api.alice, conversation.key, "", attachments=[pointer])
    (update,) = await api.updates()
    file: dict[str, Any] = await api.ok("getFile", file_id=update["message"]["document"]["file_id"])
    return f"{api.url}/file/bot{api.token}/{file['file_path']}"


def left(folder: Path) -> list[Path]:
    """What lies in the gateway's folder for files."""
    return list((folder / "gateway" / "incoming").iterdir())


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 400)])
async def test_a_download_has_the_limit_of_a_file(tmp_path: Path, size: int, status: int) -> None:
    async with running_api(tmp_path, max_file=1000) as api:
        async with api.http.get(await link_to_a_file(api, bytes(size))) as response:
            assert response.status == status
        await until(lambda: left(tmp_path) == [])


@pytest.mark.parametrize("breaks", [True, False])
async def test_a_download_that_breaks_or_does_not_end_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, breaks: bool
) -> None:
    begun: list[Path] = []

    async def begin(_: MemoryAccount, _pointer: AttachmentPointer, to: Path) -> None:
        begun.append(to.with_name(".half.part"))  # as a real one does
        await asyncio.to_thread(begun[0].write_bytes, b"ciphertext")
        if breaks:
            raise RelayUnreachable
        await asyncio.Event().wait()

    async with running_api(tmp_path, file_seconds=0.3) as api:
        link = await link_to_a_file(api, b"x")
        monkeypatch.setattr(MemoryAccount, "download", begin)
        async with api.http.get(link) as response:
            assert response.status == 503
        assert begun
        assert left(tmp_path) == []


async def test_who_does_not_take_a_file_is_hung_up_on(tmp_path: Path) -> None:
    async with running_api(tmp_path, file_seconds=0.5) as api:
        async with api.http.get(await link_to_a_file(api, bytes(32 * 1024 * 1024))) as response:
            assert response.status == 200
            await until(lambda: left(tmp_path) == [])  # although nothing was read
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        assert await api.ok("getMe")
