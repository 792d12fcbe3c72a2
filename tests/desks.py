"""The desk of an operator over the database of a relay that a test has started."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from messaging.relay.admin.desk import Desk, Operator
from messaging.relay.admin.evidence import Appraiser
from messaging.relay.admin.operators import add_operator, is_without_operators
from messaging.relay.admin.permissions import GRANTED, Role
from messaging.relay.app import now_milliseconds
from messaging.relay.attachments.storage import open_storage
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.delivery.wakeups import LocalWakeups, Wakeups
from messaging.relay.server_secret import read_secret
from tests.relays import StartedRelay


def an_operator(role: Role = Role.OWNER, *, number: int = 1) -> Operator:
    """Somebody with this role, signed in; ``number`` is that of their row, for what needs one."""
    return Operator(number, "ann", GRANTED[role], "console", fresh=True)


@asynccontextmanager
async def a_desk(
    relay: StartedRelay,
    *,
    appraise: Appraiser | None = None,
    wakeups: Wakeups | None = None,
    now: Callable[[], int] = now_milliseconds,
) -> AsyncIterator[Desk]:
    """A desk as a console has it: a process of its own, which has the relay's database and its secret file."""
    assert relay.settings.secret_file is not None
    url = normalise_url(relay.settings.database_url)
    database, secret = open_database(url), read_secret(relay.settings.secret_file, create=False)
    await _keep_ann(database)
    try:
        yield Desk(
            database=database,
            url=url,
            wakeups=wakeups or LocalWakeups(),
            secret=secret,
            storage=open_storage(relay.settings.attachments_url) if relay.settings.attachments_url else None,
            now=now,
            redis_url=None if wakeups is None else relay.settings.redis_url,
            appraise=appraise,
        )
    finally:
        await database.close()


async def _keep_ann(database: Database) -> None:
    """Who acts has a row."""
    async with database.begin() as db:
        if await is_without_operators(db):
            await add_operator(db, handle=bytes(32), name="ann", role=Role.OWNER, now=0)
