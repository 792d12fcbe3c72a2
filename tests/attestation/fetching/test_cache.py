"""A cache gives what it was given, whole, for as long as it should; else it is as if it were not there."""

import asyncio
import hashlib
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence
from attestation.fetching import CachedTransport, Kind, Request, Response, UnsafeFolder, fetch_rim
from attestation.fetching.cache import LIFETIMES, MAX_FILE, Kept, evict, key, load, publish, save, write_beside
from attestation.fetching.transport import TransportFailed
from tests.attestation.fetching.replay import NOW, WEB_PAGE, Always

DAY = timedelta(days=1)
REQUEST = Request("GET", "https://vendor.example/d2421d976f95ce0b", kind=Kind.CRL)
OLD = Response(200, (("Content-Type", "application/pkix-crl"),), b"old")
NEW = Response(200, (), b"new")


@dataclass
class Clock:
    """A clock that moves when it is told to."""

    time: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return NOW + self.time


@dataclass
class Cache:
    """A cache before a vendor, of which both the answer and the clock can be set."""

    folder: Path
    vendor: Always = field(default_factory=lambda: Always(OLD))
    clock: Clock = field(default_factory=Clock)
    request: Request = REQUEST

    async def fetch(self) -> Response:
        lifetimes = {Kind.CRL: DAY, Kind.RIM: 7 * DAY}
        return await CachedTransport(self.vendor, self.folder, self.clock, lifetimes).fetch(self.request)

    @property
    def file(self) -> Path:
        return self.folder / f"{key(self.request)}.json"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


async def test_asks_once_while_the_answer_is_fresh(cache: Cache) -> None:
    assert await cache.fetch() == OLD
    cache.vendor.answer, cache.clock.time = NEW, DAY - timedelta(seconds=1)
    assert await cache.fetch() == OLD
    assert len(cache.vendor.asked) == 1


async def test_asks_again_when_the_lifetime_of_its_kind_is_over(cache: Cache) -> None:
    await cache.fetch()
    cache.vendor.answer, cache.clock.time = NEW, DAY
    assert await cache.fetch() == NEW
    assert await cache.fetch() == NEW
    assert len(cache.vendor.asked) == 2


async def test_asks_again_when_the_answer_is_from_the_future(cache: Cache) -> None:
    await cache.fetch()
    cache.vendor.answer, cache.clock.time = NEW, -DAY
    assert await cache.fetch() == NEW


async def test_a_kind_without_a_lifetime_is_never_kept(cache: Cache) -> None:
    cache.request = replace(REQUEST, kind=Kind.OTHER)
    await cache.fetch()
    assert not cache.folder.exists()


async def test_a_lifetime_of_zero_asks_each_time_and_still_offers_the_old_answer(cache: Cache) -> None:
    transport = CachedTransport(cache.vendor, cache.folder, cache.clock, {Kind.CRL: timedelta(0)})
    await transport.fetch(REQUEST)
    await transport.fetch(REQUEST)
    assert len(cache.vendor.asked) == 2
    cache.vendor.answer = None
    assert await transport.fetch(REQUEST) == OLD


def test_every_kind_that_is_asked_for_has_a_lifetime() -> None:
    assert LIFETIMES.keys() == set(Kind) - {Kind.OTHER}
    assert LIFETIMES[Kind.OCSP] < LIFETIMES[Kind.CRL] <= LIFETIMES[Kind.TCB] < LIFETIMES[Kind.RIM]


@pytest.mark.parametrize(
    "answer", [None, Response(429), Response(500), Response(503), Response(302), Response(403), Response(407)]
)
async def test_offers_the_old_answer_when_the_vendor_is_not_to_be_had(cache: Cache, answer: Response | None) -> None:
    await cache.fetch()
    cache.vendor.answer, cache.clock.time = answer, 400 * DAY
    assert await cache.fetch() == OLD
    cache.vendor.answer = NEW
    assert await cache.fetch() == NEW


@pytest.mark.parametrize("answer", [Response(404), Response(410)])
async def test_believes_a_vendor_who_says_that_there_is_no_such_document(cache: Cache, answer: Response) -> None:
    await cache.fetch()
    cache.vendor.answer, cache.clock.time = answer, DAY
    assert await cache.fetch() == answer


@pytest.mark.parametrize(
    "answer", [Response(404), Response(429), Response(500), Response(302), Response(206, (), b"ol")]
)
async def test_keeps_nothing_but_whole_answers(cache: Cache, answer: Response) -> None:
    cache.vendor.answer = answer
    assert await cache.fetch() == answer
    assert not cache.folder.exists()
    cache.vendor.answer = NEW
    assert await cache.fetch() == NEW


async def test_without_an_old_answer_no_network_stays_no_network(cache: Cache) -> None:
    cache.vendor.answer = None
    with pytest.raises(TransportFailed) as caught:
        await cache.fetch()
    assert "d2421d976f95ce0b" not in str(caught.value)


async def test_a_vendor_that_never_answers_is_waited_for_no_longer_than_the_deadline(cache: Cache) -> None:
    class Silent:
        async def fetch(self, request: Request) -> Response:
            await asyncio.Event().wait()
            raise AssertionError

    silent = CachedTransport(Silent(), cache.folder, cache.clock, {Kind.CRL: DAY}, deadline=0.01)
    async with asyncio.timeout(5):
        with pytest.raises(TransportFailed):
            await silent.fetch(REQUEST)
        await cache.fetch()
        cache.clock.time = DAY
        assert await silent.fetch(REQUEST) == OLD


async def test_does_not_keep_what_stands_in_for_the_vendor(cache: Cache) -> None:
    cache.request = replace(REQUEST, accepts=lambda response: response.body in (b"old", b"new"))
    cache.vendor.answer = WEB_PAGE
    assert await cache.fetch() == WEB_PAGE
    assert not cache.folder.exists()
    cache.vendor.answer = OLD
    await cache.fetch()
    cache.vendor.answer, cache.clock.time = WEB_PAGE, DAY
    assert await cache.fetch() == OLD


async def test_a_fetcher_behind_a_cache_keeps_only_documents(cache: Cache) -> None:
    transport = CachedTransport(cache.vendor, cache.folder, cache.clock, LIFETIMES)
    manifest = Response(200, (), b'{"id":"NV_GPU_1","rim":"PGE+"}')
    for answer in (WEB_PAGE, replace(manifest, body=manifest.body[:-1])):
        cache.vendor.answer = answer
        with pytest.raises(Exception, match="manifest service"):
            await fetch_rim(transport, "NV_GPU_1")
    cache.vendor.answer = manifest
    assert await fetch_rim(transport, "NV_GPU_1") == b"<a>"
    cache.vendor.answer = None
    assert await fetch_rim(transport, "NV_GPU_1") == b"<a>"


# --- what lies in the folder -----------------------------------------------------------------------------------------


async def test_files_are_for_their_owner_alone_and_their_names_say_nothing(cache: Cache) -> None:
    await cache.fetch()
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    (file,) = cache.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file == cache.file
    assert b"d2421d976f95ce0b" not in file.read_bytes()


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o740, 0o755, 0o777])
async def test_a_folder_that_others_may_look_into_is_refused(cache: Cache, mode: int) -> None:
    cache.folder.mkdir()
    cache.folder.chmod(mode)
    with pytest.raises(UnsafeFolder):
        await cache.fetch()


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, method="POST"),
        replace(REQUEST, url=REQUEST.url + "0"),
        replace(REQUEST, body=b"0"),
        replace(REQUEST, method="GE", url="T" + REQUEST.url),
        replace(REQUEST, url=REQUEST.url[:-1], body=REQUEST.url[-1:].encode()),
    ],
)
def test_each_request_has_a_name_of_its_own(other: Request) -> None:
    assert key(other) != key(REQUEST)


def test_what_is_not_sent_does_not_change_the_name() -> None:
    assert key(replace(REQUEST, kind=Kind.RIM, limit=1, accepts=lambda _: False)) == key(REQUEST)


def spoil(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return act


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.unlink()
        make(path)

    return act


@pytest.mark.parametrize(
    "damage",
    [
        spoil(lambda data: b""),
        spoil(lambda data: data[:-1]),
        spoil(lambda data: data[: len(data) // 2]),
        spoil(lambda data: data + b"\n"),
        spoil(lambda data: data + bytes(MAX_FILE)),
        spoil(lambda data: bytes(len(data))),
        spoil(lambda data: data.replace(b'"b2xk"', b'"b2xl"')),
        spoil(lambda data: data.replace(b"pkix-crl", b"pkix-crm")),
        spoil(lambda data: data.replace(b'"status":200', b'"status":204')),
        spoil(lambda data: data.replace(b"{", b"{ ", 1)),
        spoil(lambda data: b"[]"),
        spoil(lambda data: b"[" * 100_000),
        spoil(lambda data: Kept(key(replace(REQUEST, method="POST")), NOW, OLD).encode()),
        spoil(lambda data: Kept(key(REQUEST), NOW, Response(404)).encode()),
        replace_by(lambda path: path.mkdir()),
        replace_by(os.mkfifo),
        replace_by(lambda path: path.symlink_to("/dev/zero")),
        replace_by(lambda path: path.symlink_to(path)),
        lambda path: path.unlink(),
    ],
)
async def test_a_damaged_file_is_as_good_as_none(cache: Cache, damage: Callable[[Path], None]) -> None:
    await cache.fetch()
    damage(cache.file)
    cache.vendor.answer = NEW
    async with asyncio.timeout(5):
        assert await cache.fetch() == NEW


async def test_a_link_is_not_followed_even_to_an_answer(cache: Cache) -> None:
    await cache.fetch()
    cache.file.symlink_to(cache.file.rename(cache.folder.parent / "elsewhere"))
    assert load(cache.folder, REQUEST) is None


async def test_a_file_is_given_only_to_who_would_accept_it(cache: Cache) -> None:
    await cache.fetch()
    assert load(cache.folder, REQUEST) is not None
    assert load(cache.folder, replace(REQUEST, accepts=lambda response: response.body == b"new")) is None


responses = st.builds(
    Response,
    st.integers(100, 599),
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4).map(tuple),
    st.binary(max_size=64),
)
times = st.datetimes(min_value=NOW.replace(tzinfo=None) - 9000 * DAY, max_value=NOW.replace(tzinfo=None) + 9000 * DAY)


@given(response=responses, time=times)
def test_reading_undoes_writing(response: Response, time: datetime) -> None:
    kept = Kept("0" * 64, time.replace(tzinfo=NOW.tzinfo, microsecond=0), response)
    assert Kept.parse(kept.encode()) == kept


@given(at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_one_bit_is_enough_to_be_damaged(at: int, bit: int) -> None:
    data = bytearray(Kept("0" * 64, NOW, OLD).encode())
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(MalformedEvidence):
        Kept.parse(bytes(data))


@given(st.binary(max_size=64) | st.text(alphabet='{}[]":,kept0 ', max_size=40).map(str.encode))
def test_any_bytes_are_damaged(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        Kept.parse(data)


@pytest.mark.parametrize("time", ["1e999", "99999999999999999", "-99999999999999999", "null", '"0"', "1.0", "true"])
def test_a_time_beyond_the_calendar_is_damaged(time: str) -> None:
    kept = f'{{"body":"","headers":[],"key":"","status":200,"time":{time}}}'
    digest = hashlib.sha256(kept.encode()).hexdigest()
    with pytest.raises(MalformedEvidence):
        Kept.parse(f'{{"kept":{kept},"sha256":"{digest}"}}'.encode())


async def test_an_answer_that_is_too_large_is_given_and_not_kept(cache: Cache) -> None:
    cache.vendor.answer = Response(200, (), bytes(MAX_FILE))
    assert await cache.fetch() == cache.vendor.answer
    cache.vendor.answer = Response(200, (("X", "1"),) * 65, b"")
    assert await cache.fetch() == cache.vendor.answer
    cache.vendor.answer = Response(200, (("X", "\udcff"),), b"")  # how clients hand on a byte that is no text
    assert await cache.fetch() == cache.vendor.answer
    assert not cache.folder.exists()


async def test_a_folder_that_cannot_be_written_costs_the_cache_and_not_the_answer(cache: Cache) -> None:
    cache.folder.mkdir(mode=0o700)
    cache.file.mkdir()
    (cache.file / "in the way").touch()
    assert await cache.fetch() == OLD
    assert await cache.fetch() == OLD
    assert [path.name for path in cache.folder.iterdir()] == [cache.file.name]
    cache.folder = cache.file / "in the way" / "deeper"
    assert await cache.fetch() == OLD


# --- how much lies in it ---------------------------------------------------------------------------------------------


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def numbered(folder: Path, numbers: range, size: int = 1) -> list[str]:
    """Answers of one day after another, the oldest first."""
    made = []
    for number in numbers:
        kept = Kept(f"{number:064x}", NOW + number * DAY, Response(200, (), bytes(size)))
        save(folder, kept)
        made.append(f"{kept.key}.json")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_the_oldest_go_when_there_are_too_many(folder: Path) -> None:
    made = numbered(folder, range(6))
    evict(folder, max_files=4, max_bytes=10**6)
    assert names(folder) == set(made[2:])


def test_the_oldest_go_when_they_are_too_large(folder: Path) -> None:
    made = numbered(folder, range(6), size=3000)
    size = (folder / made[0]).stat().st_size
    evict(folder, max_files=100, max_bytes=3 * size)
    assert names(folder) == set(made[3:])


async def test_every_answer_that_is_kept_makes_room(folder: Path) -> None:
    clock = Clock()
    transport = CachedTransport(Always(OLD), folder, clock, {Kind.CRL: DAY}, max_files=3)
    for number in range(8):
        clock.time = number * timedelta(seconds=1)
        await transport.fetch(replace(REQUEST, body=bytes([number])))
    assert names(folder) == {f"{key(replace(REQUEST, body=bytes([number])))}.json" for number in (5, 6, 7)}


def test_files_of_others_are_left_alone_and_not_counted(folder: Path) -> None:
    (made,) = numbered(folder, range(1))
    foreign = ["notes.txt", "0" * 64, "0" * 63 + ".json", "F" * 64 + ".json", f"{made}.bak"]
    for name in foreign:
        (folder / name).write_bytes(bytes(1000))
    evict(folder, max_files=1, max_bytes=1000)
    assert names(folder) == {made, *foreign}
    evict(folder, max_files=0, max_bytes=0)
    assert names(folder) == set(foreign)


def test_what_a_killed_process_left_is_counted_and_goes_in_its_turn(folder: Path) -> None:
    made = numbered(folder, range(1, 3))
    left = write_beside(folder, "a" * 64, b"half of an answer", NOW)
    evict(folder, max_files=3, max_bytes=10**6)
    assert left.exists()
    evict(folder, max_files=2, max_bytes=10**6)
    assert names(folder) == set(made)


def test_who_finds_his_unfinished_file_gone_keeps_nothing_and_leaves_nothing(folder: Path) -> None:
    (made,) = numbered(folder, range(1))
    written = write_beside(folder, "a" * 64, b"an answer", NOW)
    written.unlink()
    with pytest.raises(FileNotFoundError):
        publish(written, folder / f"{'a' * 64}.json")
    assert names(folder) == {made}


# --- processes that are killed, and several at once ------------------------------------------------------------------


def test_until_the_last_step_the_old_answer_is_there(folder: Path) -> None:
    save(folder, Kept(key(REQUEST), NOW, OLD))
    written = write_beside(folder, key(REQUEST), Kept(key(REQUEST), NOW, NEW).encode(), NOW)
    assert load(folder, REQUEST) == Kept(key(REQUEST), NOW, OLD)
    publish(written, folder / f"{key(REQUEST)}.json")
    assert load(folder, REQUEST) == Kept(key(REQUEST), NOW, NEW)
    assert len(names(folder)) == 1


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from attestation.fetching import Request, Response
from attestation.fetching.cache import Kept, evict, key, save

folder, numbers = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
turn = 0
while True:
    turn += 1
    number = turn % numbers
    request = Request("GET", f"https://vendor.example/{number}")
    body = bytes([turn % 256]) * 200_000
    try:
        save(folder, Kept(key(request), datetime.fromtimestamp(turn, UTC), Response(200, (), body)))
        evict(folder, max_files=50, max_bytes=10**9)  # killed writers leave files behind, which count
    except FileNotFoundError:
        pass  # the other process made room
"""


def started(folder: Path, numbers: int) -> "subprocess.Popen[bytes]":
    root = Path(sys.modules["attestation"].__path__[0]).parent
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(numbers)], stdout=subprocess.PIPE, cwd=root
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


def killed(writer: "subprocess.Popen[bytes]") -> None:
    writer.send_signal(signal.SIGKILL)
    writer.communicate()


def whole(folder: Path, number: int) -> bool:
    """Whether an answer is there; if it is, it is whole."""
    kept = load(folder, Request("GET", f"https://vendor.example/{number}"))
    if kept is not None:
        assert kept.response.body == kept.response.body[:1] * 200_000
    return kept is not None


def test_a_process_that_is_killed_leaves_the_old_answer_or_the_new_one(folder: Path) -> None:
    chance = random.Random(1)  # noqa: S311
    save(folder, Kept(key(Request("GET", "https://vendor.example/0")), NOW, Response(200, (), b"\1" * 200_000)))
    for _ in range(8):
        writer = started(folder, 1)
        time.sleep(chance.uniform(0, 0.02))
        killed(writer)
        assert whole(folder, 0)
    evict(folder, max_files=1, max_bytes=10**9)
    assert len(names(folder)) == 1


def test_processes_that_share_a_folder_see_whole_answers_only(folder: Path) -> None:
    writers = [started(folder, 5), started(folder, 5)]
    try:
        found = 0
        end = time.monotonic() + 1
        while time.monotonic() < end or not found:
            found += sum(whole(folder, number) for number in range(5))
            assert all(writer.poll() is None for writer in writers)
    finally:
        for writer in writers:
            killed(writer)
    evict(folder, max_files=3, max_bytes=10**9)
    assert len(names(folder)) <= 3
