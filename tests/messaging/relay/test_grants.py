"""What an operator has granted, as a relay reads it."""

from uuid import uuid4

from sqlalchemy import insert, update

from messaging.relay.accounts.tables import insert_account
from messaging.relay.database import Database
from messaging.relay.grants import GrantBook, GrantRow, set_grant
from messaging.relay.limits import DEFAULTS, MAX_SIZE, Bucket, Limit


async def an_account(database: Database, **more: object) -> tuple[int, GrantBook]:
    """The row id of a new account, with a grant of every limit, and a book that has read them."""
    aci = uuid4()
    async with database.begin() as db:
        values = {"aci": aci, "aci_identity_key": b"", "unrestricted_access": False, **more}
        account = await insert_account(db, values)
        for limit in Limit:
            await set_grant(db, aci, limit, Bucket(3, 60))
    book = GrantBook(database)
    await book.read()
    return account, book


async def test_a_grant_changes_the_size_and_not_what_happens_while_levels_are_away(database: Database) -> None:
    account, book = await an_account(database)
    for limit in Limit:
        assert book.find(account, limit) == Bucket(3, 60, DEFAULTS[limit].fail_open)
        assert book.find(account + 1, limit) is None


async def test_bots_have_grants_as_others_do(database: Database) -> None:
    account, book = await an_account(database, role="bot")
    assert book.find(account, Limit.MESSAGES) == Bucket(3, 60, fail_open=True)


async def test_a_grant_of_a_bucket_that_this_version_does_not_have_is_none(database: Database) -> None:
    account, book = await an_account(database)
    async with database.begin() as db:
        row = {"account_id": account, "limit_name": "ofAnotherVersion", "size": 1.0, "refill": 1.0}
        await db.execute(insert(GrantRow).values(row))
    await book.read()
    assert book.find(account, Limit.MESSAGES) is not None


async def test_a_grant_from_before_there_were_bounds_is_the_nearest_within_them(database: Database) -> None:
    account, book = await an_account(database)
    async with database.begin() as db:
        await db.execute(update(GrantRow).values(size=1e200, refill=1e200))
    await book.read()
    assert book.find(account, Limit.PIN) == Bucket(MAX_SIZE, 1)
