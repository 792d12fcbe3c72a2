"""What people call themselves is their own word, the latest one, and is there again after a restart."""

from collections.abc import AsyncIterator
from random import Random
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.client import Store, StoreFailed
from messaging.client.profiles import Profiles
from messaging.wire.content import ProfileUpdate
from messaging.wire.identifiers import ServiceId

ME, BOB = ServiceId(uuid4()), ServiceId(uuid4())


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store.open(":memory:", bytes(32)) as opened:
        yield opened


async def test_who_has_said_nothing_has_no_name(store: Store) -> None:
    profiles = await Profiles.load(store, ME)
    assert profiles.own is None
    assert profiles.name_of(BOB) == ""


async def test_what_is_known_is_known_after_a_restart(store: Store) -> None:
    profiles = await Profiles.load(store, ME)
    assert await profiles.take(ME, ProfileUpdate("Ann 🚲", "on the road", 1))
    assert await profiles.take(BOB, ProfileUpdate("Bob", "", 1))
    assert await profiles.take(BOB, ProfileUpdate("Robert", "", 2))
    for known in (profiles, await Profiles.load(store, ME)):
        assert known.own == ProfileUpdate("Ann 🚲", "on the road", 1)
        assert known.name_of(BOB) == "Robert"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=5), st.randoms())
async def test_the_latest_stands_in_whatever_order_they_arrive(
    store: Store, said: list[tuple[int, str]], random: Random
) -> None:
    async def known_after() -> str:
        who, profiles = ServiceId(uuid4()), await Profiles.load(store, ME)
        for at, name in said:
            await profiles.take(who, ProfileUpdate(name, "", at))
        return profiles.name_of(who)

    before = await known_after()
    random.shuffle(said)
    assert await known_after() == before


async def test_what_could_not_be_written_is_news_when_it_is_told_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = await Profiles.load(store, ME)
    [pages] = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    large = ProfileUpdate("Bob", "x" * 100_000, 1)
    with pytest.raises(StoreFailed):
        await profiles.take(BOB, large)
    assert profiles.name_of(BOB) == ""
    store._db.execute(f"PRAGMA max_page_count = {2**31 - 2}")
    assert await profiles.take(BOB, large)
    assert (await Profiles.load(store, ME)).name_of(BOB) == "Bob"
