"""What a device gets, in which order, when it reads slowly and when its socket ends in the middle."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import pytest

from messaging.relay.database import Database
from messaging.relay.delivery.acknowledgements import Acknowledgements
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.openings import Openings
from messaging.relay.delivery.outbound import Outbound, Unfinished, Wishes
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.http import Caller
from messaging.relay.messages.tables import NewEnvelope, append_envelopes, create_mailbox
from messaging.relay.tasks import end, running
from messaging.wire import frames
from messaging.wire.envelope import Envelope, EnvelopeType, decode_envelope, encode_envelope
from messaging.wire.identifiers import ServiceId

NOW = 1


def envelope(number: int) -> bytes:
    return encode_envelope(
        Envelope(
            type=EnvelopeType.UNIDENTIFIED_SENDER,
            destination=ServiceId(uuid4()),
            guid=uuid4(),
            client_timestamp=NOW,
            server_timestamp=NOW,
            content=b"%d" % number + bytes(6000),  # two of them are written together
        )
    )


@dataclass
class Line:
    """A connection that takes ``room`` frames, and no more until its device ``reads``."""

    room: int = 1000
    written: list[str] = field(default_factory=list)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    failed: bool = False

    def send_now(self, *some: bytes) -> bool:
        if self.room < len(some):
            return False
        for frame in some:
            self._write(frame)
        return True

    async def send(self, *some: bytes) -> None:
        for frame in some:
            self._write(frame)
        await self.reads.wait()

    def fail(self) -> None:
        self.failed = True

    def _write(self, frame: bytes) -> None:
        self.room = max(0, self.room - 1)
        request = frames.decode_frame(frame)
        assert isinstance(request, frames.Request)
        is_message = request.path == "/api/v1/message"
        self.written.append(
            decode_envelope(request.body or b"").content.rstrip(b"\0").decode() if is_message else request.path
        )


class Connection:
    """A device's outbound side on ``line``; its delivery runs in a task when it is woken."""

    def __init__(self, database: Database, openings: Openings, box: int, line: Line) -> None:
        self.delivery: asyncio.Task[None] | None = None
        wakeups = LocalWakeups()
        self.outbound = Outbound(
            Caller(1, uuid4(), None, 1, box),
            Wishes(),
            openings,
            Mailboxes(database, lambda: NOW),
            Acknowledgements(database, wakeups, lambda: NOW, timedelta(days=1)),
            line,
            lambda _number: None,
            self.wake,
            Unfinished(),
            lambda: NOW,
        )

    def wake(self) -> None:
        if self.delivery is None or self.delivery.done():
            self.delivery = asyncio.create_task(self.outbound.run())

    async def until(self, line: Line, written: list[str]) -> None:
        async with asyncio.timeout(10):
            while line.written != written:
                await asyncio.sleep(0.01)


@pytest.fixture
async def openings(database: Database) -> AsyncIterator[Openings]:
    made = Openings(database, lambda: NOW)
    async with running(made.run()):
        yield made


async def mailbox(database: Database, waiting: int) -> int:
    async with database.begin() as db:
        box = await create_mailbox(db)
        for number in range(1, waiting + 1):
            await append_envelopes(db, {box: NewEnvelope(envelope(number))}, expires_at=NOW + 99)
    return box


async def test_what_is_pushed_goes_out_at_once_and_in_order(database: Database, openings: Openings) -> None:
    line = Line()
    connection = Connection(database, openings, await mailbox(database, 0), line)
    connection.wake()
    await connection.until(line, ["/api/v1/queue/empty"])
    for number in (1, 2, 3):
        connection.outbound.queued(number, envelope(number))
        assert line.written[-1] == str(number)  # no task, no waiting


async def test_what_is_pushed_to_a_device_that_does_not_read_waits_its_turn(
    database: Database, openings: Openings
) -> None:
    line = Line(room=2)
    connection = Connection(database, openings, await mailbox(database, 0), line)
    connection.wake()
    await connection.until(line, ["/api/v1/queue/empty"])
    for number in (1, 2, 3):
        connection.outbound.queued(number, envelope(number))
    await connection.until(line, ["/api/v1/queue/empty", "1", "2", "3"])
    for number in (4, 5):
        connection.outbound.queued(number, envelope(number))
    line.room = 1000
    connection.outbound.queued(6, envelope(6))
    assert line.written[-1] == "3"  # others are before it
    line.reads.set()
    await connection.until(line, ["/api/v1/queue/empty", "1", "2", "3", "4", "5", "6"])


async def test_nothing_overtakes_what_was_left_when_a_socket_ended(database: Database, openings: Openings) -> None:
    """A later envelope must not go out alone: a device that resumes from it would lose those before it."""
    line = Line(room=3)
    connection = Connection(database, openings, await mailbox(database, 10), line)
    connection.wake()
    await connection.until(line, ["1", "2", "3", "4"])
    assert connection.delivery is not None
    await end([connection.delivery])
    line.room = 1000
    connection.outbound.queued(11, envelope(11))
    await end([connection.delivery])
    assert line.written == ["1", "2", "3", "4"]


async def test_a_mailbox_that_went_back_ends_the_connection(database: Database, openings: Openings) -> None:
    line = Line()
    connection = Connection(database, openings, await mailbox(database, 3), line)
    connection.wake()
    await connection.until(line, ["1", "2", "3", "/api/v1/queue/empty"])
    connection.outbound.seen(2)
    assert not line.failed
    connection.outbound.seen(2)
    assert line.failed
