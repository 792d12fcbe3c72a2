"""What the console's benchmark fills a database with is what a relay would have written."""

import secrets

from sqlalchemy import select

from benchmarks._seed import HEAVY, NUMBER, USERNAME_HASH, seed
from messaging.relay.accounts.tables import AccountRow, devices_of, find_account
from messaging.relay.accounts.usernames import find_owner
from messaging.relay.admin.audit import verify
from messaging.relay.admin.audit_tables import all_entries, append
from messaging.relay.database import normalise_url, open_database
from messaging.relay.messages.tables import NewEnvelope, append_envelopes
from messaging.relay.server_secret import ServerSecret
from messaging.wire.identifiers import ServiceId
from tests.servers import Postgres

NOW = 1_764_000_000_000
SECRET = ServerSecret.derive(secrets.token_bytes(32))


async def test_a_seeded_database_is_one_that_a_relay_can_go_on_with(postgres: Postgres, postgres_template: str) -> None:
    name = await postgres.create(postgres_template)
    url = postgres.url_of(name)
    seeded = await seed(url, SECRET, accounts=400, envelopes=HEAVY + 2000, audit_entries=300, now=NOW)
    assert (seeded.accounts, seeded.devices, seeded.envelopes, seeded.audit_entries) == (400, 500, HEAVY + 2000, 300)
    database = open_database(normalise_url(url))
    try:
        async with database.begin() as db:
            account = await find_account(db, ServiceId(seeded.aci))
            assert account is not None
            first, second = await devices_of(db, account.id)
            assert await append_envelopes(db, {second.mailbox_id: NewEnvelope(b"x")}, expires_at=NOW) == {
                second.mailbox_id: 5
            }
            assert await append_envelopes(db, {first.mailbox_id: NewEnvelope(b"x")}, expires_at=NOW) == {
                first.mailbox_id: HEAVY + 5
            }
            by_number = select(AccountRow.aci).where(AccountRow.number_hash == SECRET.number_hash(NUMBER))
            assert (await db.execute(by_number)).scalar_one() == seeded.aci
            assert await find_owner(db, USERNAME_HASH) == seeded.aci
            last = verify([entry async for entry in all_entries(database)], key=SECRET.audit_key)
            assert last is not None
            assert (await append(db, last.said, SECRET.audit_key)).sequence == 301
    finally:
        await database.close()
        await postgres.drop(name)
