"""The sweep forgets what has expired and nothing else."""

from messaging.relay.accounts.linking_tables import insert_address, use_token
from messaging.relay.accounts.tables import insert_verification
from messaging.relay.database import Database
from messaging.relay.delivery.sweep import Sweep
from messaging.relay.messages.append import Append, Payload, Place, Remembered, append
from messaging.relay.messages.idempotency import Once, recall
from messaging.relay.messages.tables import (
    NewEnvelope,
    append_envelopes,
    create_mailbox,
    delete_envelopes,
    read_envelopes,
)


async def test_every_table_is_swept(database: Database) -> None:
    async with database.begin() as db:
        boxes = [await create_mailbox(db) for _ in range(4)]
        for expires_at in (10, 20):
            await append_envelopes(db, dict.fromkeys(boxes, NewEnvelope(b"x")), expires_at=expires_at)
            await insert_verification(db, b"%d" % expires_at, a_verification(expires_at))
            await insert_address(db, b"%d" % expires_at, expires_at=expires_at)
            await use_token(db, b"%d" % expires_at, account_id=1, device_id=2, expires_at=expires_at)
            kept = Remembered(Once(b"%d" % expires_at, b""), b"{}", expires_at)
            await append(db, [Append([], expires_at, remembered=kept)])
    sweep = Sweep(database, lambda: 10)
    assert await sweep.sweep() == 4 + 4
    assert await sweep.sweep() == 0
    async with database.read() as db:
        assert [len(await read_envelopes(db, box, after=0, limit=9, now=0)) for box in boxes] == [1] * 4
        assert await recall(db, Once(b"20", b"")) == b"{}"
        assert await recall(db, Once(b"10", b"")) is None


async def test_a_payload_goes_when_no_envelope_points_at_it(database: Database) -> None:
    async with database.begin() as db:
        boxes = [await create_mailbox(db) for _ in range(2)]
        views = [(Place(box, None), NewEnvelope(b"", b"view ", 7)) for box in boxes]
        await append(db, [Append(views, expires_at=99, payload=Payload(7, b"shared"))])
    sweep = Sweep(database, lambda: 10)
    for box, left in zip(boxes, (0, 1), strict=True):
        async with database.begin() as db:
            assert [envelope.data for envelope in await read_envelopes(db, box, after=0, limit=9, now=0)] == [
                b"\x42\x0bview shared"
            ]
            await delete_envelopes(db, box, [1])
        assert await sweep.sweep() == left


async def test_other_stores_are_swept_too(database: Database) -> None:
    async def another() -> int:
        return 3

    assert await Sweep(database, lambda: 0, [another]).sweep() == 3


def a_verification(expires_at: int) -> dict[str, object]:
    return {
        "number_hash": b"",
        "sealed_number": b"",
        "expires_at": expires_at,
        "verified": False,
        "codes_sent": 0,
        "next_code_at": 0,
        "code_mac": None,
        "code_expires_at": 0,
        "attempts": 0,
    }
