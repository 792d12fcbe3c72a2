"""Files go up and down whole whatever happens on the way, in little memory, and no relay makes anybody take another one for them."""

import asyncio
import itertools
import json
import os
import random
import resource
import secrets
import stat
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from messaging.client import CredentialsRevoked, Relay, RelayRefused, RelayUnreachable, Store
from messaging.client.account import Account, register_with_number
from messaging.client.attachment_cipher import CHUNK, IV, PIECE, chunks_of, padded_size, seal, sealed_length
from messaging.client.attachments import MAX_STARTS, UPLOAD_LIFETIME, UPLOADS, Attachments, Progress
from messaging.client.device import Device, milliseconds_now
from messaging.client.errors import (
    AttachmentChanged,
    AttachmentCorrupt,
    AttachmentMissing,
    AttachmentTooLarge,
    UploadRefused,
)
from messaging.wire.data import AttachmentPointer
from messaging.wire.json import decode_base64
from messaging.wire.limits import MAX_CONTENT_TYPE, MAX_FILE_NAME
from signal_protocol.operations import SignalCrypto
from tests.messaging.client.conftest import KEY
from tests.messaging.client.lines import Line, a_line
from tests.messaging.client.world import SECONDS, Clock, a_relay
from tests.relays import Relays, StartedRelay, TlsFiles
from tests.servers import Postgres

PNG = "image/png"
MIB = 1024 * 1024
IMPATIENT = 1.0  # seconds: where nothing is to move any more
_numbers = itertools.count(71_000)


@pytest.fixture(scope="module")
async def started(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, postgres: Postgres, tls_files: TlsFiles
) -> AsyncIterator[StartedRelay]:
    """A relay for all tests here."""
    folder = tmp_path_factory.mktemp("relay")
    async with a_relay(folder, sqlite_template, postgres, tls_files) as relay:
        yield relay


async def registered(started: StartedRelay, crypto: SignalCrypto) -> Account:
    """Somebody new."""
    number = f"+49155500{next(_numbers)}"

    async def code() -> str:
        return started.last_code(number)

    async with Relay(started.url) as relay, Store.open(":memory:", KEY) as store:
        return await register_with_number(store, relay, crypto, number=number, code=code, now=milliseconds_now())


@pytest.fixture(scope="module")
async def account(started: StartedRelay, crypto: SignalCrypto) -> Account:
    """Who uploads."""
    return await registered(started, crypto)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store.open(":memory:", KEY) as opened:
        yield opened


@asynccontextmanager
async def at(
    url: str,
    account: Account,
    store: Store,
    *,
    now: Callable[[], int] = milliseconds_now,
    patience: float = 10.0,
) -> AsyncIterator[Attachments]:
    """The attachments of a device whose relay is at ``url``."""
    async with Relay(url) as relay:
        yield Attachments(relay, account, store, now=now, patience=patience)


@pytest.fixture
async def attachments(started: StartedRelay, account: Account, store: Store) -> AsyncIterator[Attachments]:
    async with at(started.url, account, store) as made:
        yield made


@pytest.fixture
async def line(started: StartedRelay) -> AsyncIterator[Line]:
    async with a_line(started.port) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where files are downloaded to."""
    made = tmp_path / "downloads"
    made.mkdir()
    return made


async def begun(store: Store) -> list[bytes]:
    """What the store holds of uploads."""
    async with store.transaction() as transaction:
        return transaction.family(UPLOADS, "all")


async def change(store: Store, **members: object) -> None:
    """Change what the store holds of the only upload."""
    [record] = await begun(store)
    changed = {**json.loads(record), **members}
    async with store.transaction() as transaction:
        transaction.put(UPLOADS, changed["name"], record=json.dumps(changed).encode(), family=("all",))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def the_part(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


def a_file(path: Path, size: int) -> Path:
    """A file that nobody has seen before."""
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))
    return path


def hash_of(path: Path) -> bytes:
    digest = sha256()
    with path.open("rb") as file:
        while some := file.read(MIB):
            digest.update(some)
    return digest.digest()


async def ciphertext_of(started: StartedRelay, pointer: AttachmentPointer) -> bytes:
    """What the relay gives to anybody with the key."""
    async with aiohttp.ClientSession() as http, http.get(f"{started.url}/attachments/{pointer.key}") as answer:
        assert answer.status == 200
        return await answer.read()


# --- there and back ---


@pytest.mark.parametrize("size", [0, 1, 541, 542, 568, 100_000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * PIECE])
async def test_a_file_of_any_size_comes_back_as_it_was(attachments: Attachments, folder: Path, size: int) -> None:
    content = secrets.token_bytes(size)
    pointer = await attachments.upload(content, content_type=PNG, file_name="rose.png")
    assert (pointer.size, pointer.content_type, pointer.file_name) == (size, PNG, "rose.png")
    assert await attachments.read(pointer, most=size) == content
    await attachments.download(pointer, folder / "it")
    assert (folder / "it").read_bytes() == content
    assert names(folder) == ["it"]
    assert stat.S_IMODE((folder / "it").stat().st_mode) == 0o600


async def test_the_relay_has_the_ciphertext_of_a_bucket_and_the_pointer_its_digest(
    attachments: Attachments, started: StartedRelay
) -> None:
    content = b"a rose is a rose" * 100
    pointer = await attachments.upload(content, content_type=PNG)
    held = await ciphertext_of(started, pointer)
    assert len(held) == sealed_length(len(content)) == sealed_length(padded_size(len(content)))
    assert b"rose" not in held
    assert sha256(held).digest() == pointer.digest
    [expected] = seal(chunks_of(BytesIO(content)), size=len(content), secret=pointer.secret, iv=held[:IV])
    assert held == expected


async def test_a_large_file_takes_little_memory_in_both_directions(
    attachments: Attachments, tmp_path: Path, folder: Path
) -> None:
    size = 40 * MIB
    source = a_file(tmp_path / "large", size)
    tracemalloc.start()  # the relay's memory counts too: it is in this process
    try:
        pointer = await attachments.upload(source, content_type=PNG)
        await attachments.download(pointer, folder / "large")
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()
    assert hash_of(folder / "large") == hash_of(source)


async def test_the_same_file_again_has_other_secrets_and_nothing_is_kept_of_an_upload_that_is_done(
    attachments: Attachments, store: Store
) -> None:
    one, other = [await attachments.upload(b"file", content_type=PNG) for _ in range(2)]
    assert await begun(store) == []
    assert one.secret != other.secret
    assert one.key != other.key


async def test_two_uploads_of_one_file_at_once_both_arrive(attachments: Attachments) -> None:
    content = secrets.token_bytes(PIECE)
    for pointer in await asyncio.gather(*(attachments.upload(content, content_type=PNG) for _ in range(2))):
        assert await attachments.read(pointer, most=PIECE) == content


async def test_two_downloads_to_one_place_at_once_leave_the_file(attachments: Attachments, folder: Path) -> None:
    content = secrets.token_bytes(3 * MIB)
    pointer = await attachments.upload(content, content_type=PNG)
    await asyncio.gather(*(attachments.download(pointer, folder / "it") for _ in range(3)))
    assert (folder / "it").read_bytes() == content
    assert names(folder) == ["it"]


async def test_a_download_replaces_what_has_its_name(attachments: Attachments, folder: Path) -> None:
    pointer = await attachments.upload(b"new", content_type=PNG)
    (folder / "it").write_bytes(b"what was there before")
    await attachments.download(pointer, folder / "it")
    assert (folder / "it").read_bytes() == b"new"


async def test_progress_is_of_bytes_and_ends_with_all_of_them(attachments: Attachments, folder: Path) -> None:
    total = sealed_length(3 * PIECE)
    seen: list[tuple[int, int]] = []
    pointer = await attachments.upload(
        secrets.token_bytes(3 * PIECE), content_type=PNG, progress=lambda *passed: seen.append(passed)
    )
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
    assert len(seen) > 3
    seen.clear()
    await attachments.download(pointer, folder / "it", progress=lambda *passed: seen.append(passed))
    assert (seen[0], seen[-1]) == ((0, total), (total, total))
    assert seen == sorted(seen)


async def test_a_device_has_attachments(started: StartedRelay, crypto: SignalCrypto, account: Account) -> None:
    async with Relay(started.url) as relay, Store.open(":memory:", KEY) as store:
        device = Device(store, relay, crypto, account)
        pointer = await device.attachments.upload(b"from a device", content_type=PNG)
        assert await device.attachments.read(pointer, most=13) == b"from a device"


# --- what is too much ---


async def test_the_relay_decides_what_is_too_large_before_anything_is_sent(
    relays: Relays, crypto: SignalCrypto, store: Store
) -> None:
    largest = padded_size(5000)
    relay = await relays.start("sqlite", max_attachment=sealed_length(largest))
    account = await registered(relay, crypto)
    async with a_line(relay.port) as line, at(line.url, account, store) as attachments:
        pointer = await attachments.upload(bytes(largest), content_type=PNG)
        assert await attachments.read(pointer, most=largest) == bytes(largest)
        before = line.up
        with pytest.raises(AttachmentTooLarge):
            await attachments.upload(bytes(largest + 1), content_type=PNG)
        assert line.up - before < 1000  # headers
        assert await begun(store) == []


async def test_a_file_that_no_pointer_can_name_is_not_even_asked_for(
    attachments: Attachments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.client.attachments.MAX_SIZE", 1000)
    await attachments.upload(bytes(1000), content_type=PNG)
    with pytest.raises(AttachmentTooLarge):
        await attachments.upload(bytes(1001), content_type=PNG)


async def test_names_that_a_receiver_would_refuse_are_refused_here(attachments: Attachments) -> None:
    await attachments.upload(b"", content_type="x" * MAX_CONTENT_TYPE, file_name="y" * MAX_FILE_NAME)
    for content_type, file_name in (("x" * (MAX_CONTENT_TYPE + 1), ""), ("", "y" * (MAX_FILE_NAME + 1))):
        with pytest.raises(ValueError, match="255"):
            await attachments.upload(b"", content_type=content_type, file_name=file_name)


async def test_into_memory_comes_no_more_than_was_allowed(attachments: Attachments) -> None:
    pointer = await attachments.upload(bytes(10), content_type=PNG)
    assert await attachments.read(pointer, most=10) == bytes(10)
    with pytest.raises(AttachmentTooLarge):
        await attachments.read(pointer, most=9)


# --- lines that break ---


@pytest.mark.parametrize("seed", range(4))
async def test_an_upload_goes_on_from_where_the_relay_has_it(
    line: Line, account: Account, store: Store, attachments: Attachments, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311  # the same each time
    content = secrets.token_bytes(6 * MIB)
    line.cuts = [dice.randrange(1, 2 * MIB) for _ in range(8)]
    async with at(line.url, account, store) as uploading:
        pointer = await uploading.upload(content, content_type=PNG)
    assert line.breaks >= 3
    assert line.up < 2 * sealed_length(len(content))  # at a break, at most what was on its way is lost
    assert await attachments.read(pointer, most=len(content)) == content


@pytest.mark.parametrize("seed", range(4))
async def test_a_download_asks_for_nothing_twice(
    line: Line, account: Account, store: Store, attachments: Attachments, folder: Path, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311  # the same each time
    content = secrets.token_bytes(6 * MIB)
    pointer = await attachments.upload(content, content_type=PNG)
    line.cuts = [dice.randrange(1, 2 * MIB) for _ in range(8)]
    async with at(line.url, account, store) as downloading:
        await downloading.download(pointer, folder / "it")
    assert line.breaks >= 3
    assert line.down < sealed_length(len(content)) + line.breaks * MIB
    assert (folder / "it").read_bytes() == content
    assert names(folder) == ["it"]


async def test_reading_into_memory_survives_a_break_too(
    line: Line, account: Account, store: Store, attachments: Attachments
) -> None:
    content = secrets.token_bytes(MIB)
    pointer = await attachments.upload(content, content_type=PNG)
    line.cuts = [300_000, 300_000]
    async with at(line.url, account, store) as reading:
        assert await reading.read(pointer, most=MIB) == content
    assert line.breaks == 2


async def test_who_waits_in_vain_gives_up_and_the_next_call_goes_on(
    line: Line, account: Account, store: Store, attachments: Attachments
) -> None:
    content = secrets.token_bytes(5 * PIECE)
    line.silent_at = 2 * PIECE + PIECE // 2
    async with at(line.url, account, store, patience=IMPATIENT) as uploading:
        with pytest.raises(RelayUnreachable):
            await uploading.upload(content, content_type=PNG)
    [record] = await begun(store)
    line.heal()
    before = line.up
    async with at(line.url, account, store) as uploading:
        pointer = await uploading.upload(content, content_type=PNG)
    assert line.up - before < 4 * PIECE
    assert pointer.key == json.loads(record)["key"]
    assert await begun(store) == []
    assert await attachments.read(pointer, most=len(content)) == content


async def test_a_download_that_gives_up_leaves_ciphertext_with_which_the_next_call_goes_on(
    line: Line, account: Account, store: Store, attachments: Attachments, folder: Path
) -> None:
    content = b"sub rosa" * (MIB // 2)
    pointer = await attachments.upload(content, content_type=PNG)
    line.silent_at = 2 * MIB
    async with at(line.url, account, store, patience=IMPATIENT) as downloading:
        with pytest.raises(RelayUnreachable):
            await downloading.download(pointer, folder / "it")
    part = the_part(folder)
    assert part.name.startswith(".")
    assert part.suffix == ".part"
    assert part.stat().st_size > MIB
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert b"rosa" not in part.read_bytes()
    line.heal()
    before = line.down
    async with at(line.url, account, store) as downloading:
        await downloading.download(pointer, folder / "it")
    assert line.down - before < sealed_length(len(content)) - MIB
    assert (folder / "it").read_bytes() == content
    assert names(folder) == ["it"]


async def test_a_relay_that_is_away_leaves_nothing_in_the_folder(
    line: Line, account: Account, store: Store, attachments: Attachments, folder: Path
) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    line.dead = True
    async with at(line.url, account, store, patience=IMPATIENT) as away:
        with pytest.raises(RelayUnreachable):
            await away.download(pointer, folder / "it")
        with pytest.raises(RelayUnreachable):
            await away.read(pointer, most=4)
        with pytest.raises(RelayUnreachable):
            await away.upload(b"file", content_type=PNG)
    assert names(folder) == []
    assert await begun(store) == []


# --- processes that end ---


async def test_an_upload_goes_on_after_kill_9(
    line: Line, started: StartedRelay, account: Account, tmp_path: Path, attachments: Attachments
) -> None:
    source = a_file(tmp_path / "film", 20 * MIB)
    async with Store.open(tmp_path / "store.db", KEY) as store, store.transaction() as transaction:
        account.save(transaction)
    line.silent_at = 12 * MIB
    command = (sys.executable, "-m", "tests.messaging.client.uploading", line.url, tmp_path / "store.db", source)
    process = await asyncio.create_subprocess_exec(*map(str, command))
    try:
        async with asyncio.timeout(SECONDS):
            await line.silent.wait()
    finally:
        process.kill()
        await process.wait()
    line.break_all()
    line.heal()
    before = line.up
    async with Store.open(tmp_path / "store.db", KEY) as store, at(line.url, account, store) as again:
        [record] = await begun(store)
        pointer = await again.upload(source, content_type=PNG)
        assert await begun(store) == []
    assert pointer.key == json.loads(record)["key"]
    assert line.up - before < sealed_length(20 * MIB) - 9 * MIB
    await attachments.download(pointer, tmp_path / "back")
    assert hash_of(tmp_path / "back") == hash_of(source)


async def stopped(begin: Callable[[Progress], Coroutine[Any, Any, object]], offset: int) -> None:
    """Let so many bytes pass, and end there as a process that dies."""
    reached = asyncio.Event()

    def progress(done: int, _total: int) -> None:
        if done >= offset:
            reached.set()

    task = asyncio.create_task(begin(progress))
    async with asyncio.timeout(SECONDS):
        await reached.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def stopped_at(attachments: Attachments, source: Path | bytes, offset: int) -> None:
    """The same of an upload."""
    await stopped(lambda progress: attachments.upload(source, content_type=PNG, progress=progress), offset)


async def test_what_an_upload_was_begun_with_is_sealed_and_the_same_when_it_goes_on(
    attachments: Attachments, started: StartedRelay, account: Account, tmp_path: Path
) -> None:
    content = secrets.token_bytes(4 * PIECE)
    path = tmp_path / "store.db"
    async with Store.open(path, KEY) as store, at(started.url, account, store) as uploading:
        await stopped_at(uploading, content, PIECE)
        [record] = await begun(store)
    written = b"".join((tmp_path / name).read_bytes() for name in names(tmp_path))
    kept = json.loads(record)
    for secret in (kept["secret"], kept["iv"], kept["key"], kept["location"], *kept["headers"].values()):
        assert secret.encode() not in written
    async with Store.open(path, KEY) as store, at(started.url, account, store) as uploading:
        seen: list[int] = []
        pointer = await uploading.upload(content, content_type=PNG, progress=lambda done, _: seen.append(done))
    assert seen[0] >= PIECE - 16  # what the relay had is not sent again
    assert pointer.key == kept["key"]
    assert await attachments.read(pointer, most=len(content)) == content


async def test_an_upload_whose_end_nobody_heard_of_is_not_sent_again(attachments: Attachments, store: Store) -> None:
    content = secrets.token_bytes(2 * PIECE)
    await stopped_at(attachments, content, sealed_length(len(content)))
    [record] = await begun(store)
    seen: list[int] = []
    pointer = await attachments.upload(content, content_type=PNG, progress=lambda done, _: seen.append(done))
    assert set(seen) == {sealed_length(len(content))}
    assert pointer.key == json.loads(record)["key"]
    assert await attachments.read(pointer, most=len(content)) == content


async def test_it_goes_on_until_the_relay_forgets_and_not_after(
    started: StartedRelay, account: Account, store: Store
) -> None:
    content, clock = secrets.token_bytes(2 * PIECE), Clock()
    async with at(started.url, account, store, now=clock) as attachments:
        await stopped_at(attachments, content, PIECE - 16)
        [record] = await begun(store)
        begun_at = json.loads(record)["until"] - UPLOAD_LIFETIME
        frozen = begun_at + UPLOAD_LIFETIME - 1
    async with at(started.url, account, store, now=lambda: frozen) as attachments:
        await stopped_at(attachments, content, PIECE)
        assert await begun(store) == [record]
    async with at(started.url, account, store, now=lambda: frozen + 1) as attachments:
        pointer = await attachments.upload(content, content_type=PNG)
        assert pointer.key != json.loads(record)["key"]
        assert await begun(store) == []


async def test_every_upload_forgets_others_that_have_expired(
    started: StartedRelay, account: Account, store: Store
) -> None:
    async with at(started.url, account, store) as attachments:
        await stopped_at(attachments, secrets.token_bytes(2 * PIECE), PIECE - 16)
    assert len(await begun(store)) == 1
    async with at(started.url, account, store, now=lambda: milliseconds_now() + UPLOAD_LIFETIME) as attachments:
        await attachments.upload(b"another", content_type=PNG)
    assert await begun(store) == []


@pytest.mark.parametrize("how", ["unknown", "refused"])
async def test_what_the_relay_has_forgotten_is_begun_again_with_other_secrets(
    attachments: Attachments, started: StartedRelay, store: Store, how: str
) -> None:
    content = secrets.token_bytes(2 * PIECE)
    await stopped_at(attachments, content, PIECE - 16)
    [record] = await begun(store)
    kept = json.loads(record)
    if how == "unknown":
        async with aiohttp.ClientSession() as http:  # another upload's permission, and nothing was begun with it
            headers = {"Authorization": attachments._account.authorization}
            async with http.get(f"{started.url}/v4/attachments/form/upload", headers=headers) as answer:
                form = await answer.json()
        location = f"{form['signedUploadLocation']}/{form['key']}"
        await change(store, location=location, headers=form["headers"])
    else:
        await change(store, headers={"Authorization": "Bearer 1.2.3.x"})
    pointer = await attachments.upload(content, content_type=PNG)
    assert pointer.key != kept["key"]
    assert await begun(store) == []
    assert await attachments.read(pointer, most=len(content)) == content


async def test_a_plaintext_that_a_killed_process_left_is_replaced(attachments: Attachments, folder: Path) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    hidden = sha256(pointer.digest + b"it").hexdigest()[:32]
    (folder / f".{hidden}.new").write_bytes(b"half of a fi")
    await attachments.download(pointer, folder / "it")
    assert (folder / "it").read_bytes() == b"file"
    assert names(folder) == ["it"]


# --- files that change ---


async def test_a_file_with_other_content_never_goes_on_with_the_secrets_of_the_one_before(
    attachments: Attachments, store: Store, tmp_path: Path
) -> None:
    source = a_file(tmp_path / "it", 3 * PIECE)
    times = source.stat()
    await stopped_at(attachments, source, PIECE - 16)
    [record] = await begun(store)
    with source.open("r+b") as file:  # of the same size, at the same time as far as the folder says
        file.seek(2 * PIECE)
        file.write(b"changed")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    pointer = await attachments.upload(source, content_type=PNG)
    assert pointer.key != json.loads(record)["key"]
    assert pointer.secret != decode_base64(json.loads(record)["secret"])
    assert await attachments.read(pointer, most=3 * PIECE) == source.read_bytes()


async def test_a_file_elsewhere_with_the_same_content_goes_on(
    attachments: Attachments, store: Store, tmp_path: Path
) -> None:
    source = a_file(tmp_path / "it", 3 * PIECE)
    await stopped_at(attachments, source, PIECE - 16)
    [record] = await begun(store)
    pointer = await attachments.upload(source.rename(tmp_path / "moved"), content_type=PNG)
    assert pointer.key == json.loads(record)["key"]


@pytest.mark.parametrize("change", ["in place", "longer", "shorter", "empty"])
async def test_a_file_that_changes_while_it_is_sent_is_sent_again_with_other_secrets(
    attachments: Attachments, store: Store, tmp_path: Path, change: str
) -> None:
    source = a_file(tmp_path / "it", 3 * PIECE)
    keys: list[str] = []

    def progress(done: int, _total: int) -> None:
        [row] = store._db.execute("SELECT name, version, sealed FROM records WHERE kind = ?", (UPLOADS,)).fetchall()
        record = store._sealer.open(row[2], UPLOADS, row[0], row[1])
        keys.append(json.loads(record)["secret"])
        if len(keys) == 2:  # the first piece has been taken
            assert done > 0
            with source.open("r+b") as file:
                match change:
                    case "in place":
                        file.seek(3 * PIECE - 1)
                        file.write(b"x")
                    case "longer":
                        file.seek(0, os.SEEK_END)
                        file.write(b"x")
                    case "shorter":
                        file.truncate(3 * PIECE - 1)
                    case "empty":
                        file.truncate()

    pointer = await attachments.upload(source, content_type=PNG, progress=progress)
    assert len(set(keys)) == 2
    assert await attachments.read(pointer, most=4 * PIECE) == source.read_bytes()
    assert await begun(store) == []


async def test_a_file_that_never_holds_still_is_not_uploaded(
    attachments: Attachments, store: Store, tmp_path: Path
) -> None:
    source = a_file(tmp_path / "log", 2 * PIECE)
    starts = 0

    def progress(done: int, _total: int) -> None:
        nonlocal starts
        starts += done == 0
        with source.open("ab") as file:
            file.write(b"one more line\n")

    with pytest.raises(AttachmentChanged):
        await attachments.upload(source, content_type=PNG, progress=progress)
    assert starts == MAX_STARTS
    assert await begun(store) == []


async def test_a_file_that_cannot_be_read_is_an_error_of_the_disk(attachments: Attachments, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await attachments.upload(tmp_path / "nothing", content_type=PNG)
    with pytest.raises(IsADirectoryError):
        await attachments.upload(tmp_path, content_type=PNG)


# --- disks ---


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size``, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("full_at", [2 * MIB, sealed_length(3 * MIB) - 100 * 1024])
async def test_a_full_disk_is_no_fault_of_the_relay_and_what_has_come_is_kept(
    attachments: Attachments, folder: Path, full_at: int
) -> None:
    content = secrets.token_bytes(3 * MIB)
    pointer = await attachments.upload(content, content_type=PNG)
    with small_files(full_at), pytest.raises(OSError, match="large"):
        await attachments.download(pointer, folder / "it")
    [part] = names(folder)
    assert part.endswith(".part")
    await attachments.download(pointer, folder / "it")
    assert (folder / "it").read_bytes() == content
    assert names(folder) == ["it"]


async def test_a_folder_that_is_not_there_is_an_error_before_anything_is_asked(
    line: Line, account: Account, store: Store, attachments: Attachments, tmp_path: Path
) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    async with at(line.url, account, store) as downloading:
        with pytest.raises(FileNotFoundError):
            await downloading.download(pointer, tmp_path / "nowhere" / "it")
    assert line.up == 0


async def test_a_link_where_the_part_would_be_is_not_followed(attachments: Attachments, folder: Path) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    elsewhere = folder.parent / "elsewhere"
    elsewhere.write_bytes(b"mine")
    hidden = sha256(pointer.digest + b"it").hexdigest()[:32]
    (folder / f".{hidden}.part").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        await attachments.download(pointer, folder / "it")
    assert elsewhere.read_bytes() == b"mine"


# --- relays against their users ---

Rule = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]


@dataclass
class Between:
    """Somebody between a client and its relay, who answers what ``rule`` does not leave to the relay."""

    relay: str
    url: str = ""
    rule: Rule | None = None
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.method, request.path, dict(request.headers)))
        body = await request.content.read()
        if self.rule is not None and (forged := await self.rule(request)) is not None:
            return forged
        async with (
            aiohttp.ClientSession(auto_decompress=False) as http,
            http.request(
                request.method, self.relay + request.path_qs, data=BytesIO(body), headers=request.headers
            ) as answer,
        ):
            kept = {name: value for name, value in answer.headers.items() if name.lower() != "transfer-encoding"}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    def verbs(self) -> list[str]:
        return [verb for verb, _, _ in self.asked]


@pytest.fixture
async def between(started: StartedRelay) -> AsyncIterator[Between]:
    made = Between(started.url)
    async with AsyncExitStack() as stack:
        server = web.ServerRunner(web.Server(made.answer))
        await server.setup()
        stack.push_async_callback(server.cleanup)
        site = web.TCPSite(server, "127.0.0.1", 0)
        await site.start()
        made.url = site.name if not site.name.endswith(":0") else f"http://127.0.0.1:{server.addresses[0][1]}"
        yield made


@pytest.fixture
async def hostile(between: Between, account: Account, store: Store) -> AsyncIterator[Attachments]:
    """The attachments of somebody whose relay is :class:`Between`."""
    async with at(between.url, account, store, patience=IMPATIENT) as made:
        yield made


def answers(
    status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None, *, to: str = "GET", path: str = "/a"
) -> Rule:
    """Answer every such request so."""

    async def rule(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.method != to or not request.path.startswith(path):
            return None
        return web.Response(status=status, body=body, headers=headers)

    return rule


def streams(body: bytes, status: int = 200, headers: dict[str, str] | None = None, *, endless: bool = False) -> Rule:
    """Answer downloads with a body that does not say how long it is."""

    async def rule(request: web.BaseRequest) -> web.StreamResponse | None:
        response = web.StreamResponse(status=status, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        while endless:
            await response.write(body)
        await response.write_eof()
        return response

    return rule


async def refuses(attachments: Attachments, pointer: AttachmentPointer, folder: Path, error: type[Exception]) -> None:
    """Neither a file nor bytes come of it, and nothing is left."""
    with pytest.raises(error) as told:
        await attachments.download(pointer, folder / "it")
    assert names(folder) == []
    assert not pointer.key or pointer.key not in repr(told.value)
    with pytest.raises(error):
        await attachments.read(pointer, most=pointer.size)


async def test_a_relay_changes_cuts_or_lengthens_nothing(
    attachments: Attachments, hostile: Attachments, between: Between, started: StartedRelay, folder: Path
) -> None:
    pointer = await attachments.upload(secrets.token_bytes(10_000), content_type=PNG)
    held = await ciphertext_of(started, pointer)
    middle = len(held) // 2
    flipped = held[:middle] + bytes([held[middle] ^ 1]) + held[middle + 1 :]
    for forged in (flipped, held[:-1], held + b"x", b"", held[::-1], bytes(len(held))):
        between.rule = answers(body=forged)
        await refuses(hostile, pointer, folder, AttachmentCorrupt)
    for forged in (flipped, held + b"x"):
        between.rule = streams(forged)
        await refuses(hostile, pointer, folder, AttachmentCorrupt)
    between.rule = streams(held)
    assert len(await hostile.read(pointer, most=10_000)) == 10_000


async def test_who_sends_without_end_is_stopped_at_the_size_that_the_pointer_says(
    attachments: Attachments, hostile: Attachments, between: Between, folder: Path
) -> None:
    pointer = await attachments.upload(bytes(10_000), content_type=PNG)
    between.rule = streams(bytes(100_000), endless=True)
    await refuses(hostile, pointer, folder, AttachmentCorrupt)


async def test_what_is_compressed_on_the_way_is_not_unpacked(
    attachments: Attachments, hostile: Attachments, between: Between, folder: Path
) -> None:
    pointer = await attachments.upload(bytes(10_000), content_type=PNG)
    between.rule = answers(body=bytes(sealed_length(10_000)), headers={"Content-Encoding": "gzip"})
    await refuses(hostile, pointer, folder, AttachmentCorrupt)
    assert between.asked[-1][2]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, AttachmentMissing),
        (410, AttachmentMissing),
        (401, RelayRefused),
        (403, RelayRefused),
        (204, RelayRefused),
        (206, RelayRefused),  # of a request for all of it
        (304, RelayRefused),
        (416, RelayRefused),
        (429, RelayRefused),
        (500, RelayRefused),
        (503, RelayRefused),
    ],
)
async def test_other_answers_are_told_and_leave_nothing(
    attachments: Attachments,
    hostile: Attachments,
    between: Between,
    folder: Path,
    status: int,
    error: type[Exception],
) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    between.rule = answers(status)
    await refuses(hostile, pointer, folder, error)
    passes = status in (429, 500, 503)
    assert (len(between.asked) > 2) == passes  # what may pass is asked for again


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(
    attachments: Attachments, hostile: Attachments, between: Between, folder: Path, status: int
) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    between.rule = answers(status, headers={"Location": f"{between.url}/elsewhere"})
    await refuses(hostile, pointer, folder, RelayRefused)
    assert {path for _, path, _ in between.asked} == {f"/attachments/{pointer.key}"}


async def test_a_relay_that_says_to_wait_is_waited_for(
    attachments: Attachments, hostile: Attachments, between: Between
) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    left = 1

    async def busy_once(_: web.BaseRequest) -> web.StreamResponse | None:
        nonlocal left
        left -= 1
        return web.Response(status=503) if left >= 0 else None

    between.rule = busy_once
    assert await hostile.read(pointer, most=4) == b"file"
    between.rule = answers(429, headers={"Retry-After": "3600"})
    with pytest.raises(RelayRefused) as refused:
        await hostile.read(pointer, most=4)
    assert refused.value.passes


@pytest.fixture
async def half(attachments: Attachments, folder: Path) -> AttachmentPointer:
    """A file of which the first part is in the folder."""
    pointer = await attachments.upload(secrets.token_bytes(2 * MIB), content_type=PNG)
    await stopped(lambda progress: attachments.download(pointer, folder / "it", progress=progress), MIB)
    return pointer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("416", AttachmentCorrupt),  # it ends before
        ("another size", AttachmentCorrupt),
        ("a smaller size", AttachmentCorrupt),
        ("404", AttachmentMissing),
        ("flipped", AttachmentCorrupt),
        ("short body", AttachmentCorrupt),
    ],
)
async def test_the_rest_of_another_file_leaves_nothing_of_the_first_part(
    hostile: Attachments,
    between: Between,
    started: StartedRelay,
    half: AttachmentPointer,
    folder: Path,
    answer: str,
    error: type[Exception],
) -> None:
    have, held = the_part(folder).stat().st_size, await ciphertext_of(started, half)
    rest, total = held[have:], len(held)
    between.rule = {
        "416": answers(416, headers={"Content-Range": "bytes */5"}),
        "another size": answers(206, rest + b"x", {"Content-Range": f"bytes {have}-{total}/{total + 1}"}),
        "a smaller size": streams(rest[:-1], 206, {"Content-Range": f"bytes {have}-{total - 2}/{total - 1}"}),
        "404": answers(404),
        "flipped": answers(206, rest[:-1] + b"!", {"Content-Range": f"bytes {have}-{total - 1}/{total}"}),
        "short body": answers(206, rest[:-1], {"Content-Range": f"bytes {have}-{total - 1}/{total}"}),
    }[answer]
    with pytest.raises(error):
        await hostile.download(half, folder / "it")
    assert names(folder) == []


@pytest.mark.parametrize("shift", [-1, 1])
async def test_another_part_than_was_asked_for_is_refused_and_what_is_there_stays(
    hostile: Attachments, between: Between, half: AttachmentPointer, folder: Path, shift: int
) -> None:
    before = the_part(folder).read_bytes()
    first, total = len(before) + shift, sealed_length(half.size)
    for wrong in (f"bytes {first}-{total - 1}/{total}", f"bytes {first - shift}-{total - 2}/{total}", "bytes", ""):
        between.rule = answers(206, bytes(total - first), {"Content-Range": wrong})
        with pytest.raises(RelayRefused):
            await hostile.download(half, folder / "it")
        assert the_part(folder).read_bytes() == before


async def test_a_relay_that_gives_no_ranges_gives_all_of_it_again(
    hostile: Attachments, between: Between, started: StartedRelay, half: AttachmentPointer, folder: Path
) -> None:
    between.rule = answers(body=await ciphertext_of(started, half))
    await hostile.download(half, folder / "it")
    assert (folder / "it").stat().st_size == half.size
    assert names(folder) == ["it"]


@pytest.mark.parametrize("damage", ["flipped", "too long"])
async def test_a_first_part_that_is_damaged_leaves_nothing_and_the_next_call_begins_anew(
    attachments: Attachments, half: AttachmentPointer, folder: Path, damage: str
) -> None:
    with the_part(folder).open("r+b") as file:
        if damage == "flipped":
            file.write(b"damaged")
        else:
            file.truncate(sealed_length(half.size) + 1)
    with pytest.raises(AttachmentCorrupt):
        await attachments.download(half, folder / "it")
    assert names(folder) == []
    await attachments.download(half, folder / "it")
    assert (folder / "it").stat().st_size == half.size


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": bytes(32)},
        {"secret": bytes(64)},
        {"size": 3},
        {"size": 0},
        {"size": 10_000},
        {"size": 2**32 - 1},
    ],
    ids=str,
)
async def test_a_pointer_that_lies_gives_nothing(
    attachments: Attachments, folder: Path, wrong: dict[str, int | bytes]
) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    lying = replace(pointer, **wrong)  # type: ignore[arg-type]
    await refuses(attachments, lying, folder, AttachmentCorrupt)


@pytest.mark.parametrize("key", ["", ".", "..", "../v1/accounts/whoami", "a/b", "a?b", "a#b", "a%2fb", "ä", "x" * 129])
async def test_a_key_of_a_peer_names_an_attachment_and_nothing_else(
    hostile: Attachments, between: Between, folder: Path, key: str
) -> None:
    pointer = AttachmentPointer(3, key, bytes(64), bytes(32), 4, PNG)
    await refuses(hostile, pointer, folder, AttachmentMissing)
    assert between.asked == []


async def test_a_place_that_is_not_the_relay_s_is_not_looked_at(
    attachments: Attachments, hostile: Attachments, between: Between
) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    with pytest.raises(AttachmentMissing):
        await hostile.read(replace(pointer, cdn=2), most=4)
    assert between.asked == []


async def test_what_a_peer_calls_a_file_is_no_path(attachments: Attachments, folder: Path) -> None:
    outside = folder.parent / "outside"
    pointer = await attachments.upload(b"file", content_type=PNG, file_name=str(outside))
    await attachments.download(replace(pointer, file_name="../outside"), folder / "it")
    await attachments.download(pointer, folder / "it")
    assert not outside.exists()
    assert names(folder) == ["it"]


async def test_downloads_show_no_credentials(attachments: Attachments, hostile: Attachments, between: Between) -> None:
    pointer = await attachments.upload(b"file", content_type=PNG)
    await hostile.read(pointer, most=4)
    [(_, _, headers)] = between.asked
    assert "Authorization" not in headers


# --- relays against uploads ---


def form(**changes: object) -> Rule:
    """Give this form to whoever asks."""
    members: dict[str, object] = {
        "cdn": 3,
        "key": "key",
        "headers": {"Authorization": "Bearer x", "Upload-Metadata": "filename a2V5"},
        "signedUploadLocation": "/upload/attachments",
    }
    return answers(body=json.dumps({**members, **changes}).encode(), path="/v4/")


def both(*rules: Rule) -> Rule:
    """The first that has an answer."""

    async def rule(request: web.BaseRequest) -> web.StreamResponse | None:
        for each in rules:
            if (response := await each(request)) is not None:
                return response
        return None

    return rule


def taking(offset: str = "0", *, status: int = 204, more: Rule | None = None) -> Rule:
    """Take everything as it seems, and say that this is how much there is."""
    here = "/upload/attachments"
    known = {"Upload-Offset": offset}
    return both(
        more or form(),
        answers(201, headers={"Location": f"{here}/key"}, to="POST", path=here),
        answers(200, headers={"Upload-Offset": "0"}, to="HEAD", path=here),
        answers(status, headers=known, to="PATCH", path=here),
    )


async def test_uploads_go_to_the_relay_wherever_it_says_that_they_go(
    between: Between, hostile: Attachments, folder: Path
) -> None:
    elsewhere = "http://169.254.169.254:80/upload/attachments"
    total = sealed_length(4)
    between.rule = taking(
        str(total),
        more=both(
            form(signedUploadLocation=elsewhere, headers={"Authorization": "Bearer x", "X-Other": "y", "Host": "z"}),
            answers(201, headers={"Location": "//169.254.169.254/upload/attachments/k"}, to="POST", path="/up"),
        ),
    )
    pointer = await hostile.upload(b"file", content_type=PNG)
    assert pointer.key == "key"
    assert [(verb, path) for verb, path, _ in between.asked] == [
        ("GET", "/v4/attachments/form/upload"),
        ("POST", "/upload/attachments"),
        ("HEAD", "/upload/attachments/k"),
        ("PATCH", "/upload/attachments/k"),
    ]
    for _, _, headers in between.asked[1:]:
        assert headers["Authorization"] == "Bearer x"  # the form's, not this device's
        assert "X-Other" not in headers
        assert headers["Host"] != "z"


@pytest.mark.parametrize(
    "rule",
    [
        form(cdn=2),
        form(key=""),
        form(key="a/b"),
        form(key="x" * 129),
        form(headers={"Authorization": "Bearer x\r\nX-Other: y"}),
        form(headers=[]),
        form(signedUploadLocation="http://["),
        form(signedUploadLocation=None),
        answers(body=b"no form", path="/v4/"),
        answers(body=b"\xff", path="/v4/"),
        answers(204, path="/v4/"),
        answers(302, headers={"Location": "/v4/elsewhere"}, path="/v4/"),
        answers(400, path="/v4/"),
        answers(500, path="/v4/"),
    ],
)
async def test_a_form_that_no_relay_gives_is_refused(
    between: Between, hostile: Attachments, store: Store, rule: Rule
) -> None:
    between.rule = rule
    with pytest.raises(UploadRefused):
        await hostile.upload(b"file", content_type=PNG)
    assert set(between.verbs()) == {"GET"}
    assert await begun(store) == []


async def test_a_device_that_is_not_registered_any_more_is_told_so(between: Between, hostile: Attachments) -> None:
    between.rule = answers(401, path="/v4/")
    with pytest.raises(CredentialsRevoked):
        await hostile.upload(b"file", content_type=PNG)


@pytest.mark.parametrize("status", [200, 204, 302, 307, 400, 413, 500])
async def test_an_upload_that_the_relay_does_not_begin_is_refused(
    between: Between, hostile: Attachments, store: Store, status: int
) -> None:
    between.rule = both(form(), answers(status, headers={"Location": "/upload/x"}, to="POST", path="/upload"))
    with pytest.raises(UploadRefused) as refused:
        await hostile.upload(b"file", content_type=PNG)
    assert refused.value.status == status
    assert await begun(store) == []


@pytest.mark.parametrize(
    "rule",
    [
        taking(str(sealed_length(4) + 1)),
        taking("-1"),
        taking(""),
        taking("1e3"),
        taking("²"),
        taking("9" * 19),
        taking(status=200),
        taking(status=302),
        taking(status=413),
        taking(status=460),
    ],
)
async def test_an_upload_that_is_answered_as_no_relay_does_is_refused_and_forgotten(
    between: Between, hostile: Attachments, store: Store, rule: Rule
) -> None:
    between.rule = rule
    with pytest.raises(UploadRefused):
        await hostile.upload(b"file", content_type=PNG)
    assert await begun(store) == []


async def test_a_relay_that_takes_without_having_is_given_up(
    between: Between, hostile: Attachments, store: Store
) -> None:
    between.rule = taking("0")
    with pytest.raises(RelayUnreachable):
        await hostile.upload(b"file", content_type=PNG)
    assert len(await begun(store)) == 1  # it may go on


@pytest.mark.parametrize("status", [408, 409, 423, 429, 500, 503])
async def test_a_relay_that_has_no_time_now_gets_the_rest_later(
    between: Between, hostile: Attachments, attachments: Attachments, store: Store, status: int
) -> None:
    between.rule = answers(status, to="PATCH", path="/upload")
    with pytest.raises(RelayUnreachable):
        await hostile.upload(b"file", content_type=PNG)
    [record] = await begun(store)
    between.rule = answers(429, headers={"Retry-After": "60"}, to="HEAD", path="/upload")
    with pytest.raises(UploadRefused) as refused:
        await hostile.upload(b"file", content_type=PNG)
    assert refused.value.passes
    between.rule = None
    pointer = await hostile.upload(b"file", content_type=PNG)
    assert pointer.key == json.loads(record)["key"]
    assert await attachments.read(pointer, most=4) == b"file"


async def test_a_relay_that_loses_what_it_had_gets_a_new_upload(
    between: Between, hostile: Attachments, attachments: Attachments
) -> None:
    content = secrets.token_bytes(2 * PIECE)
    lost = False

    async def loses(request: web.BaseRequest) -> web.StreamResponse | None:
        nonlocal lost
        if request.method == "PATCH" and request.headers["Upload-Offset"] != "0" and not lost:
            return web.Response(status=409)
        if request.method == "HEAD" and not lost and "PATCH" in between.verbs():
            lost = True
            return web.Response(headers={"Upload-Offset": "0"})
        return None

    between.rule = loses
    pointer = await hostile.upload(content, content_type=PNG)
    assert lost
    assert between.verbs().count("POST") == 2
    assert await attachments.read(pointer, most=len(content)) == content


async def test_a_relay_that_forgets_every_upload_is_given_up(
    between: Between, hostile: Attachments, store: Store
) -> None:
    between.rule = answers(404, to="HEAD", path="/upload")
    with pytest.raises(UploadRefused) as refused:
        await hostile.upload(b"file", content_type=PNG)
    assert refused.value.status == 404
    assert between.verbs().count("POST") == MAX_STARTS
    assert await begun(store) == []


async def test_a_beginning_whose_answer_was_lost_is_made_again(
    between: Between, hostile: Attachments, attachments: Attachments, started: StartedRelay
) -> None:
    lost = False

    async def loses(request: web.BaseRequest) -> web.StreamResponse | None:
        nonlocal lost
        if request.method != "POST" or lost:
            return None
        lost = True
        async with (
            aiohttp.ClientSession() as http,
            http.post(started.url + request.path, headers=request.headers) as answer,
        ):
            assert answer.status == 201
        return web.Response(status=503)

    between.rule = loses
    pointer = await hostile.upload(b"file", content_type=PNG)
    assert between.verbs().count("POST") == 3  # the second one is refused, the third one has another form
    assert await attachments.read(pointer, most=4) == b"file"
