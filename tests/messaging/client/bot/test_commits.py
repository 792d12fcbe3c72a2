"""Changes that come while a commit waits for its disk are committed together; each is known when it is committed, and not before."""

import asyncio
from collections.abc import Callable

import pytest

from messaging.client.bot.commits import Commits
from messaging.client.stores import Store, StoreTransaction
from tests.messaging.client.bot.events import a_store


def appending(entry: bytes, done: list[bytes]) -> Callable[[StoreTransaction], Callable[[], bytes]]:
    def change(transaction: StoreTransaction) -> Callable[[], bytes]:
        transaction.append("queue", entry)

        def follow() -> bytes:
            done.append(entry)
            return entry

        return follow

    return change


async def written(store: Store) -> list[bytes]:
    async with store.transaction() as transaction:
        return [entry for _, entry in transaction.entries("queue")]


async def test_what_comes_together_is_written_together_in_order() -> None:
    async with a_store() as store:
        commits, done = Commits(store), list[bytes]()
        entries = [bytes([number]) for number in range(10)]
        before = store._db.total_changes
        assert await asyncio.gather(*(commits.make(appending(entry, done)) for entry in entries)) == entries
        assert store._db.total_changes > before
        assert done == await written(store) == entries


async def test_a_change_that_cannot_be_made_writes_nothing_of_what_goes_with_it_and_all_are_told() -> None:
    def broken(_: StoreTransaction) -> Callable[[], None]:
        raise LookupError

    async with a_store() as store:
        commits, done = Commits(store), list[bytes]()
        outcomes = await asyncio.gather(
            commits.make(appending(b"x", done)), commits.make(broken), return_exceptions=True
        )
        assert [type(each) for each in outcomes] == [LookupError, LookupError]
        assert await written(store) == done == []
        assert await commits.make(appending(b"y", done)) == b"y"


async def test_who_stops_waiting_does_not_undo_it() -> None:
    async with a_store() as store:
        commits, done = Commits(store), list[bytes]()
        waiting = asyncio.create_task(commits.make(appending(b"x", done)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        commits.post(appending(b"y", done))
        await commits.settle()
        assert await written(store) == done == [b"x", b"y"]


async def test_what_may_wait_is_written_with_what_may_not_or_when_its_time_is_over() -> None:
    async with a_store() as store:
        commits, done = Commits(store), list[bytes]()
        patient = asyncio.create_task(commits.make(appending(b"x", done), linger=60))
        await asyncio.sleep(0)
        assert done == []
        assert await commits.make(appending(b"y", done)) == b"y"
        assert await patient == b"x"
        assert await commits.make(appending(b"z", done), linger=0.01) == b"z"
        assert await written(store) == [b"x", b"y", b"z"]


async def test_nobody_lingers_at_the_end() -> None:
    async with a_store() as store:
        commits, done = Commits(store), list[bytes]()
        patient = asyncio.create_task(commits.make(appending(b"x", done), linger=60))
        await asyncio.sleep(0)
        await commits.settle()
        assert await patient == b"x"
